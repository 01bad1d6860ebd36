//! The files of examples/hello: built in, so that the program is enough.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

const FILES: [(&str, &str); 5] = [
    ("pod.yaml", include_str!("../../../../../examples/hello/pod.yaml")),
    ("policy.yaml", include_str!("../../../../../examples/hello/policy.yaml")),
    ("sidecarproxy.yaml", include_str!("../../../../../examples/hello/sidecarproxy.yaml")),
    ("proxy.yaml", include_str!("../../../../../examples/hello/proxy.yaml")),
    (USERS, include_str!("../../../../../examples/hello/users.htpasswd")),
];

/// The file with the users, and who reads it: the front proxy's user in pod.yaml.
const USERS: &str = "users.htpasswd";
const PROXY_USER: u32 = 20001;

/// A directory with the files.
pub struct Example {
    directory: PathBuf,
    _written: Option<tempfile::TempDir>,
}

impl Example {
    /// The files of a directory, or those that are built in.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Read`].
    pub fn at(directory: Option<&Path>) -> Result<Self, Error> {
        if let Some(directory) = directory {
            for (name, _) in FILES {
                let file = directory.join(name);
                fs::metadata(&file).map_err(|source| Error::Read { path: file, source })?;
            }
            return Ok(Self { directory: directory.to_owned(), _written: None });
        }
        let fault = |path: PathBuf| move |source| Error::File { action: "write", path, source };
        let written = tempfile::Builder::new()
            .prefix("sidewall-demo-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .map_err(fault(std::env::temp_dir()))?;
        for (name, text) in FILES {
            let file = written.path().join(name);
            fs::write(&file, text).map_err(fault(file.clone()))?;
            let mode = if name == USERS { 0o400 } else { 0o644 };
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).map_err(fault(file.clone()))?;
            if name == USERS {
                // Passwords are for the one who checks them.
                std::os::unix::fs::chown(&file, Some(PROXY_USER), Some(PROXY_USER)).map_err(fault(file))?;
            }
        }
        Ok(Self { directory: written.path().to_owned(), _written: Some(written) })
    }

    /// A file.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxys_user_is_the_manifests() {
        assert!(FILES[0].1.contains(&format!("runAsUser: {PROXY_USER}")));
    }
}
