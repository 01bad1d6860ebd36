//! Container images from files, without a container engine: an OCI image layout (OCI image specification 1.1) in a tar file, as
//! `ctr images import`, `podman load`, `skopeo` and `crane` take it.
//!
//! The same files give the same bytes, whenever and wherever: no time, no user and no order of a file system gets in.
#![forbid(unsafe_code)]

mod layer;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use tar::{Builder, EntryType, Header};

/// The media type of an image's manifest.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image with one layer.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Its name, `HOST/PATH:TAG`.
    pub reference: String,
    /// What is in it, by path, without a leading `/`. Folders that lead there come by themselves.
    pub files: BTreeMap<String, File>,
    /// What runs unless a container says otherwise.
    pub entrypoint: Vec<String>,
    /// Whose processes they are unless a container says otherwise: `UID`, `UID:GID` or a name of the image's `etc/passwd`.
    pub user: String,
    /// Where programs are looked for.
    pub path: String,
    /// What is said of it: keys are those of the image specification (`org.opencontainers.image.*`) or one's own.
    pub annotations: BTreeMap<String, String>,
    /// The processors that it is for.
    pub architecture: Architecture,
}

/// Something in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum File {
    /// A folder with these permissions, also an empty one.
    Folder(u32),
    /// A symbolic link.
    Link(String),
    /// A file with this content and these permissions. All belongs to root.
    Content(Vec<u8>, u32),
}

/// The processors that an image's programs are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

/// What names content: its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let hash = Sha256::digest(bytes);
        Self(hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}")))
    }
}

impl fmt::Display for Digest {
    /// `sha256:` and 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for Architecture {
    /// That of this program.
    fn default() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 }
    }
}

impl fmt::Display for Architecture {
    /// As Go and so the image specification calls it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

impl Image {
    /// Writes the tar file. Gives the digest of the image's manifest, by which `NAME@sha256:…` names it.
    ///
    /// # Errors
    /// What `to` says, and a path that a tar file can't hold.
    pub fn write(&self, to: impl io::Write) -> io::Result<Digest> {
        let layer = layer::of(&self.files)?;
        let configuration = self.configuration(&layer).to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &configuration),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
            "annotations": self.annotations,
        });
        let manifest = manifest.to_string().into_bytes();
        let mut described = descriptor(MANIFEST, &manifest);
        described["platform"] = json!({"architecture": self.architecture.to_string(), "os": "linux"});
        // By the one containerd names what it imports, by the other the specification does.
        described["annotations"] = json!({
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": self.tag(),
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [described],
        });
        let mut tar = Builder::new(to);
        put(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        put(&mut tar, "index.json", 0o644, index.to_string().as_bytes())?;
        for blob in [&layer, &configuration, &manifest] {
            let path = Digest::of(blob).to_string().replacen("sha256:", "blobs/sha256/", 1);
            put(&mut tar, &path, 0o644, blob)?;
        }
        tar.into_inner()?.flush()?;
        Ok(Digest::of(&manifest))
    }

    fn configuration(&self, layer: &[u8]) -> Value {
        let mut run = json!({"Entrypoint": self.entrypoint, "User": self.user, "Labels": self.annotations});
        if !self.path.is_empty() {
            run["Env"] = json!([format!("PATH={}", self.path)]);
        }
        json!({
            "architecture": self.architecture.to_string(),
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer).to_string()]},
            "history": [{"created_by": "sidewall"}],
        })
    }

    /// What follows the name's last `:`, where that is no port.
    fn tag(&self) -> &str {
        let last = self.reference.rsplit('/').next().unwrap_or_default();
        last.split_once(':').map_or("latest", |(_, tag)| tag)
    }
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(blob).to_string(), "size": blob.len()})
}

/// The header of something that is root's and was made in 1970.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn put(tar: &mut Builder<impl io::Write>, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    tar.append_data(&mut header(EntryType::Regular, mode, content.len() as u64), path, content)
}

#[cfg(test)]
mod tests;
