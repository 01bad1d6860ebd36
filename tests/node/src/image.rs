//! Container images from programs of this machine. No registry is asked.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::error::{BedError, Result};
use crate::parts;

/// Applets of busybox that get a name of their own.
const APPLETS: [&str; 26] = [
    "sh", "awk", "cat", "chmod", "cp", "date", "echo", "env", "false", "grep", "head", "hostname", "httpd", "id", "ip",
    "ls", "mkdir", "mount", "nc", "ping", "ps", "sed", "sleep", "timeout", "true", "wget",
];

/// An image to be.
#[derive(Debug, Clone)]
pub struct Image {
    reference: String,
    files: BTreeMap<String, File>,
    entrypoint: Vec<String>,
    user: String,
}

#[derive(Debug, Clone)]
enum File {
    Folder(u32),
    Link(String),
    Copy(PathBuf, u32),
    Text(String),
}

impl Image {
    /// An image with the usual empty folders, users `a` (1001) to `d` (1004), and nothing to run. The reference needs a tag other than `latest`, or
    /// Kubernetes would ask a registry for it: `localhost/party:1`.
    pub fn new(reference: &str) -> Image {
        let mut files = BTreeMap::new();
        for folder in ["bin", "dev", "etc", "proc", "sys", "var"] {
            files.insert(folder.to_owned(), File::Folder(0o755));
        }
        files.insert("tmp".into(), File::Folder(0o1777));
        let users: String = [("root", 0), ("a", 1001), ("b", 1002), ("c", 1003), ("d", 1004)]
            .map(|(name, id)| format!("{name}:x:{id}:{id}::/:/bin/sh\n"))
            .concat();
        files.insert("etc/passwd".into(), File::Text(users));
        Image { reference: reference.into(), files, entrypoint: Vec::new(), user: String::new() }
    }

    /// `localhost/busybox:1`: a shell, and tools to listen and to connect with (`nc`, `wget`, `httpd`, `ping`).
    ///
    /// # Errors
    /// [`BedError::NoPart`].
    pub fn busybox() -> Result<Image> {
        let mut image = Image::new("localhost/busybox:1").program("bin/busybox", parts::node("busybox")?);
        for applet in APPLETS {
            image.files.insert(format!("bin/{applet}"), File::Link("busybox".into()));
        }
        Ok(image)
    }

    /// `localhost/pause:1`: what keeps a pod's namespaces.
    ///
    /// # Errors
    /// [`BedError::NoPart`].
    pub fn pause() -> Result<Image> {
        let mut image = Image::new("localhost/pause:1").program("bin/busybox", parts::node("busybox")?);
        image.files.insert("bin/sleep".into(), File::Link("busybox".into()));
        Ok(image.entrypoint(&["/bin/sleep", "2147483647"]))
    }

    /// Adds a program of this machine, which must be static.
    pub fn program(mut self, path: &str, from: impl Into<PathBuf>) -> Image {
        self.files.insert(path.trim_start_matches('/').into(), File::Copy(from.into(), 0o755));
        self
    }

    /// Adds a file with that text.
    pub fn text(mut self, path: &str, text: &str) -> Image {
        self.files.insert(path.trim_start_matches('/').into(), File::Text(text.into()));
        self
    }

    /// What runs unless a container says otherwise.
    pub fn entrypoint(mut self, command: &[&str]) -> Image {
        self.entrypoint = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Whose processes they are unless a container says otherwise: `USER` of the image.
    pub fn user(mut self, user: &str) -> Image {
        self.user = user.into();
        self
    }

    /// Its name, as a pod's `image:` says it.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// The tar file of an OCI image layout with this one image, as `ctr images import` takes it.
    ///
    /// # Errors
    /// [`BedError::File`] when a program cannot be read.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let mut image = sidewall_oci::Image {
            reference: self.reference.clone(),
            entrypoint: self.entrypoint.clone(),
            user: self.user.clone(),
            path: "/bin".into(),
            ..sidewall_oci::Image::default()
        };
        for (path, file) in &self.files {
            image.files.insert(path.clone(), file.read()?);
        }
        let mut archive = Vec::new();
        image.write(&mut archive).map_err(BedError::file("write", "an image"))?;
        Ok(archive)
    }
}

impl File {
    fn read(&self) -> Result<sidewall_oci::File> {
        Ok(match self {
            Self::Folder(mode) => sidewall_oci::File::Folder(*mode),
            Self::Link(to) => sidewall_oci::File::Link(to.clone()),
            Self::Copy(from, mode) => {
                sidewall_oci::File::Content(fs::read(from).map_err(BedError::file("read", from))?, *mode)
            }
            Self::Text(text) => sidewall_oci::File::Content(text.clone().into_bytes(), 0o644),
        })
    }
}
