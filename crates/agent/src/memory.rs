//! What the agent remembers of the node's pods from one run to the next.
//!
//! The kernel keeps the rules; what it can't tell is whose they are, which device leads to which network, and whether they
//! are those that the agent loaded last. One file a pod, replaced whole, for root alone, in a directory that a restart of
//! the node empties: what it speaks of does not outlive that either.

use serde::{Deserialize, Serialize};
use sidewall_netns::NsId;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The form in which a pod is written down.
const VERSION: u32 = 1;

/// The most that is read of a file, in bytes. A pod with a hundred devices takes a tenth of it.
const LARGEST: u64 = 256 * 1024;

/// The most files that are looked at. A kubelet has at most some hundred pods.
const MOST: usize = 10_000;

/// What is remembered of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Remembered {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The identity that the container runtime knows it by.
    pub uid: PodUid,
    /// The runtime's sandbox.
    pub sandbox: String,
    /// Its network namespace.
    #[serde(with = "ns_id")]
    pub netns: NsId,
    /// The devices that CNI made in it.
    pub devices: BTreeMap<String, Device>,
    /// The rules that were loaded last; none where it has none.
    pub rules: Option<Rules>,
}

/// A device that CNI made in a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Device {
    /// The network that it leads to, `NAMESPACE/NAME` of its NetworkAttachmentDefinition or the name in the CNI
    /// configuration; none for the pod network.
    pub network: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Rules that were loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rules {
    /// Their generation: whether it is these rules that stand is found out by comparing them.
    pub generation: u8,
}

/// The identity of a pod: what the API server, or the kubelet for a pod of a file, has given it. It is a file's name here,
/// so it is hexadecimal digits and dashes and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodUid(String);

/// A text that is no pod's identity.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a pod's uid is 1 to 64 hexadecimal digits and dashes, which {0:?} is not")]
pub struct PodUidError(String);

/// Why something can't be remembered, or read again.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The directory or a file can't be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Somebody else than root could have written it.
    #[error("{} belongs to user {owner} and has mode {mode:o}: it must be root's, and writable by root alone", path.display())]
    NotRoots {
        /// The directory or file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// A file is not what was written.
    #[error("{} cannot be understood: {reason}; the pod's rules are loaded anew", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The files of all pods.
#[derive(Debug)]
pub struct Memory {
    directory: PathBuf,
    /// Who must own everything: root, but for tests.
    owner: u32,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    pod: Remembered,
}

impl Memory {
    /// Opens the directory, and makes it where it is missing.
    ///
    /// # Errors
    /// [`MemoryError::File`]; [`MemoryError::NotRoots`] where others could write there.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, MemoryError> {
        Self::owned_by(directory.into(), 0)
    }

    fn owned_by(directory: PathBuf, owner: u32) -> Result<Self, MemoryError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(file("make", &directory))?;
        let found = fs::symlink_metadata(&directory).map_err(file("look at", &directory))?;
        if !found.is_dir() {
            return Err(file("use", &directory)(io::ErrorKind::NotADirectory.into()));
        }
        check(&directory, &found, owner)?;
        Ok(Self { directory, owner })
    }

    /// Every pod that is remembered, and what could not be read again.
    ///
    /// # Errors
    /// [`MemoryError::File`] where the directory can't be listed.
    pub fn recall(&self) -> Result<(Vec<Remembered>, Vec<MemoryError>), MemoryError> {
        let (mut pods, mut troubles) = (Vec::new(), Vec::new());
        let entries = fs::read_dir(&self.directory).map_err(file("list", &self.directory))?;
        for entry in entries.take(MOST) {
            let path = entry.map_err(file("list", &self.directory))?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => match self.read(&path) {
                    Ok(pod) => pods.push(pod),
                    Err(trouble) => troubles.push(trouble),
                },
                // Half a file that was being written when the agent was killed.
                Some("new") => drop(fs::remove_file(&path)),
                _ => {}
            }
        }
        pods.sort_by(|a: &Remembered, b| a.uid.cmp(&b.uid));
        Ok((pods, troubles))
    }

    fn read(&self, path: &Path) -> Result<Remembered, MemoryError> {
        let unreadable = |reason: String| MemoryError::Unreadable { path: path.to_owned(), reason };
        let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path);
        let opened = opened.map_err(file("open", path))?;
        check(path, &opened.metadata().map_err(file("look at", path))?, self.owner)?;
        let mut text = Vec::new();
        opened.take(LARGEST + 1).read_to_end(&mut text).map_err(file("read", path))?;
        if text.len() as u64 > LARGEST {
            return Err(unreadable(format!("it has more than {LARGEST} bytes")));
        }
        let written: Written = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        if written.version != VERSION {
            return Err(unreadable(format!("it has version {}, and this program knows {VERSION}", written.version)));
        }
        if path.file_stem().and_then(|stem| stem.to_str()) != Some(&written.pod.uid.0) {
            return Err(unreadable(format!("it speaks of pod {}", written.pod.uid.0)));
        }
        Ok(written.pod)
    }

    /// Remembers a pod, in the place of what was remembered of it. A reader finds the one or the other, never half of it.
    ///
    /// # Errors
    /// [`MemoryError::File`]; what was remembered still is.
    pub fn keep(&self, pod: &Remembered) -> Result<(), MemoryError> {
        let path = self.path(&pod.uid);
        let new = path.with_extension("new");
        let text = serde_json::to_vec(&Written { version: VERSION, pod: pod.clone() })
            .map_err(|error| file("write", &path)(error.into()))?;
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&text)?;
            // No fsync: the directory is in memory, and a pod that is not remembered is walled anew.
            fs::rename(&new, &path)
        };
        write().map_err(file("write", &path))
    }

    /// Forgets a pod. It is no error where nothing was remembered.
    ///
    /// # Errors
    /// [`MemoryError::File`].
    pub fn forget(&self, uid: &PodUid) -> Result<(), MemoryError> {
        let path = self.path(uid);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn path(&self, uid: &PodUid) -> PathBuf {
        self.directory.join(format!("{}.json", uid.0))
    }
}

impl PodUid {
    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PodUid {
    type Error = PodUidError;

    fn try_from(text: String) -> Result<Self, PodUidError> {
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if fits { Ok(Self(text)) } else { Err(PodUidError(text.chars().take(80).collect())) }
    }
}

impl From<PodUid> for String {
    fn from(uid: PodUid) -> Self {
        uid.0
    }
}

fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> MemoryError + 'a {
    move |source| MemoryError::File { action, path: path.to_owned(), source }
}

fn check(path: &Path, found: &fs::Metadata, owner: u32) -> Result<(), MemoryError> {
    let mode = found.mode() & 0o7777;
    if found.uid() != owner || mode & 0o022 != 0 {
        return Err(MemoryError::NotRoots { path: path.to_owned(), owner: found.uid(), mode });
    }
    Ok(())
}

/// A namespace's id as two numbers.
mod ns_id {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use sidewall_netns::NsId;

    pub fn serialize<S: Serializer>(id: &NsId, serializer: S) -> Result<S::Ok, S::Error> {
        (id.device, id.inode).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NsId, D::Error> {
        let (device, inode) = Deserialize::deserialize(deserializer)?;
        Ok(NsId { device, inode })
    }
}

#[cfg(test)]
mod tests;
