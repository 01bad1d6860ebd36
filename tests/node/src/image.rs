//! Container images made by hand: an OCI image layout in a tar file, from programs of this machine. No registry is asked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;
use tar::{Builder, EntryType, Header};

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

    /// The tar file of an OCI image layout (OCI image specification 1.0) with this one image, as `ctr images import` takes it.
    ///
    /// # Errors
    /// [`BedError::File`] when a program cannot be read.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let layer = self.layer()?;
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let configuration = json!({
            "architecture": architecture, "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Entrypoint": self.entrypoint, "User": self.user},
            "rootfs": {"type": "layers", "diff_ids": [name(&layer)]},
            "history": [{"created_by": "sidewall"}],
        })
        .to_string()
        .into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &configuration),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        })
        .to_string()
        .into_bytes();
        let mut described = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        described["annotations"] = json!({"io.containerd.image.name": self.reference});
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [described],
        });
        let mut tar = Builder::new(Vec::new());
        put(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        put(&mut tar, "index.json", 0o644, index.to_string().as_bytes())?;
        for blob in [&layer, &configuration, &manifest] {
            put(&mut tar, &name(blob).replacen("sha256:", "blobs/sha256/", 1), 0o644, blob)?;
        }
        tar.into_inner().map_err(BedError::file("write", "an image"))
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        // Folders first, each before what is in it.
        let mut folders: BTreeMap<&Path, u32> = BTreeMap::new();
        for (path, file) in &self.files {
            for above in Path::new(path).ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
                folders.entry(above).or_insert(0o755);
            }
            if let File::Folder(mode) = file {
                folders.insert(Path::new(path), *mode);
            }
        }
        for (folder, mode) in folders {
            let mut header = header(EntryType::Directory, mode, 0);
            tar.append_data(&mut header, folder, &[][..]).map_err(BedError::file("write", folder))?;
        }
        for (path, file) in &self.files {
            match file {
                File::Folder(_) => {}
                File::Link(to) => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, path, to).map_err(BedError::file("write", path))?;
                }
                File::Copy(from, mode) => {
                    put(&mut tar, path, *mode, &fs::read(from).map_err(BedError::file("read", from))?)?;
                }
                File::Text(text) => put(&mut tar, path, 0o644, text.as_bytes())?,
            }
        }
        tar.into_inner().map_err(BedError::file("write", "a layer"))
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header
}

fn put(tar: &mut Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, mode, content.len() as u64);
    tar.append_data(&mut header, path, content).map_err(BedError::file("write", path))
}

fn name(blob: &[u8]) -> String {
    let hash = digest(&SHA256, blob);
    hash.as_ref().iter().fold("sha256:".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

fn descriptor(media_type: &str, blob: &[u8]) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": name(blob), "size": blob.len()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn an_archive_is_the_same_each_time_and_names_its_blobs() {
        let image = Image::new("localhost/x:1").text("etc/deep/er/file", "words\n").entrypoint(&["/bin/x"]);
        let bytes = image.archive().unwrap();
        assert_eq!(bytes, image.archive().unwrap());
        let mut names = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if let Some(hash) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(name(&content), format!("sha256:{hash}"));
            }
            names.push(path);
        }
        assert_eq!(names.len(), 5, "{names:?}");
    }

    #[test]
    fn a_layer_has_each_folder_before_what_is_in_it() {
        let layer = Image::new("localhost/x:1").text("etc/deep/er/file", "").layer().unwrap();
        let mut archive = tar::Archive::new(layer.as_slice());
        let paths: Vec<String> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        let at = |path: &str| paths.iter().position(|p| p.trim_end_matches('/') == path);
        assert!(at("etc") < at("etc/deep") && at("etc/deep") < at("etc/deep/er"), "{paths:?}");
        assert!(at("etc/deep/er") < at("etc/deep/er/file") && at("etc/deep/er").is_some(), "{paths:?}");
    }
}
