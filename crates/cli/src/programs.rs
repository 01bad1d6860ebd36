//! The programs that pods run: this one, and the proxy that lies beside it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{EnvVar, Pod};
use sidewall_netns::Launch;
use sidewall_sandbox::DEFAULT_PATH;

use crate::error::Error;

/// The proxy's name.
pub const PROXY: &str = "sidewall-proxy";
const OWN: &str = "sidewall";

/// A directory in which containers find `sidewall` and `sidewall-proxy`.
pub struct Programs {
    directory: PathBuf,
    /// Copies, where the containers' users can't get to the originals.
    _copies: Option<tempfile::TempDir>,
}

fn own() -> Result<PathBuf, Error> {
    std::env::current_exe().map_err(|source| Error::System { action: "find this program's own file", source })
}

impl Programs {
    /// Finds the programs, and copies them where a container's user could not get to them.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn find() -> Result<Self, Error> {
        let own = own()?;
        let beside = own.parent().unwrap_or(Path::new("/")).to_owned();
        // `sidewall` may be installed under another name; containers call it by its own.
        if own.file_name().is_some_and(|name| name == OWN) && open_to_all(&beside) {
            return Ok(Self { directory: beside, _copies: None });
        }
        let fault = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { action, path, source }
        };
        let copies = tempfile::Builder::new()
            .prefix("sidewall-programs-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .map_err(fault("make a directory in", &std::env::temp_dir()))?;
        for (name, from) in [(OWN, own.clone()), (PROXY, beside.join(PROXY))] {
            if from.exists() {
                let to = copies.path().join(name);
                fs::copy(&from, &to).map_err(fault("copy", &from))?;
                fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).map_err(fault("open", &to))?;
            }
        }
        Ok(Self { directory: copies.path().to_owned(), _copies: Some(copies) })
    }

    /// Says so if the proxy is not there.
    ///
    /// # Errors
    /// [`Error::NoProgram`].
    pub fn need_proxy(&self) -> Result<(), Error> {
        let proxy = self.directory.join(PROXY);
        if proxy.is_file() {
            return Ok(());
        }
        let beside = own()?.with_file_name(PROXY);
        Err(Error::NoProgram(beside))
    }

    /// A manifest whose containers find the programs first in their PATH, and start in `home`, unless they say otherwise.
    pub fn at_home(&self, manifest: &Pod, home: &Path) -> Pod {
        let mut manifest = manifest.clone();
        let path = format!("{}:{DEFAULT_PATH}", self.directory.display());
        if let Some(spec) = &mut manifest.spec {
            for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
                let env = container.env.get_or_insert_default();
                if !env.iter().any(|variable| variable.name == "PATH") {
                    env.insert(0, EnvVar { name: "PATH".to_owned(), value: Some(path.clone()), value_from: None });
                }
                container.working_dir.get_or_insert_with(|| home.display().to_string());
            }
        }
        manifest
    }
}

/// A process of this very program, whoever may read its directory.
///
/// # Errors
/// [`Error::File`].
pub fn launch_own<const N: usize>(args: [&str; N]) -> Result<Launch, Error> {
    let path = PathBuf::from("/proc/self/exe");
    let file = File::open(&path).map_err(|source| Error::File { action: "open", path, source })?;
    Ok(Launch::from_file(file, OWN).args(args))
}

/// Whether every user may get into a directory.
fn open_to_all(directory: &Path) -> bool {
    let searchable = |path: &Path| path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
    directory.canonicalize().is_ok_and(|directory| directory.ancestors().all(searchable))
}
