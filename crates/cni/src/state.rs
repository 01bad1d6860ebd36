//! What the agent leaves on the node for the time when it is not there: which namespaces need no walls.
//!
//! The plugin may let a pod start on the word of this file alone, so the file is believed only when nobody but root can
//! have written it, and only as far as it goes: a namespace that it does not name is selected, for all that is known.

use crate::names::Namespace;
use crate::temporary;
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open, openat};
use rustix::io::Errno;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the file is.
pub const PATH: &str = "/var/lib/sidewall/cni.json";
/// The version of its format.
pub const VERSION: u32 = 1;
/// The longest file, in octets: enough for every namespace of the largest clusters.
pub const STATE_MAX: u64 = 4 << 20;

/// How a namespace stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// A policy selects pods of it, or may: the same as not being named.
    Selected,
    /// No policy selects any pod of it.
    NothingSelects,
    /// It is exempt by the agent's configuration.
    Exempt,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    version: u32,
    /// When it was written, in seconds since 1970.
    written: u64,
    #[serde(deserialize_with = "each_once")]
    namespaces: BTreeMap<Namespace, Standing>,
}

/// The file can't be believed, or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system.
    #[error("can't {what} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Its word.
        source: io::Error,
    },
    /// No absolute path.
    #[error("{} is no absolute path of a file", .0.display())]
    Path(PathBuf),
    /// Others may have written it.
    #[error("{} is not believed: {what}", path.display())]
    Untrusted {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        what: &'static str,
    },
    /// It is too long.
    #[error("{} is not believed: it is longer than {STATE_MAX} octets", .0.display())]
    Long(PathBuf),
    /// It says something else.
    #[error("{} is not believed: {source}", path.display())]
    NotUnderstood {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error("{} is not believed: it is of version {found}, and here version {VERSION} is known", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

impl State {
    /// What is known now.
    pub fn new(namespaces: BTreeMap<Namespace, Standing>) -> Self {
        let written = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { version: VERSION, written, namespaces }
    }

    /// How a namespace stands, as far as is known here.
    pub fn standing(&self, namespace: &Namespace) -> Standing {
        self.namespaces.get(namespace).copied().unwrap_or(Standing::Selected)
    }

    /// Whether the file names a namespace.
    pub fn names(&self, namespace: &Namespace) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// Whether any namespace is selected, as far as is known here.
    pub fn any_selected(&self) -> bool {
        self.namespaces.values().any(|standing| *standing == Standing::Selected)
    }

    /// How old the file is. A clock that was set back makes it new.
    pub fn age(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(Duration::from_secs(self.written))
    }

    /// Reads the file. It and its directory must be root's, and nobody else may write to them; neither may be a
    /// symbolic link.
    ///
    /// # Errors
    /// [`StateError`]; then every namespace counts as selected.
    pub fn read(path: &Path) -> Result<Self, StateError> {
        let (directory, name) = parts(path)?;
        let opened =
            |path: &Path, source: Errno| StateError::Io { what: "open", path: path.into(), source: source.into() };
        let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let parent = open(directory, flags | OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())
            .map_err(|error| opened(directory, error))?;
        let looked =
            |path: &Path, source: Errno| StateError::Io { what: "examine", path: path.into(), source: source.into() };
        check(&fstat(&parent).map_err(|error| looked(directory, error))?, directory)?;
        // NONBLOCK: a FIFO in its place would keep us waiting.
        let file = openat(&parent, name, flags | OFlags::NONBLOCK | OFlags::RDONLY, Mode::empty())
            .map_err(|error| opened(path, error))?;
        let stat = fstat(&file).map_err(|error| looked(path, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(StateError::Untrusted { path: path.into(), what: "it is no ordinary file" });
        }
        check(&stat, path)?;
        let mut octets = Vec::new();
        let read = File::from(file).take(STATE_MAX + 1).read_to_end(&mut octets);
        let read = read.map_err(|source| StateError::Io { what: "read", path: path.into(), source })?;
        if read as u64 > STATE_MAX {
            return Err(StateError::Long(path.into()));
        }
        Self::parse(&octets, path)
    }

    fn parse(octets: &[u8], path: &Path) -> Result<Self, StateError> {
        #[derive(Deserialize)]
        struct AnyVersion {
            version: u64,
        }
        let wrong = |source| StateError::NotUnderstood { path: path.into(), source };
        match serde_json::from_slice::<AnyVersion>(octets).map_err(wrong)?.version {
            found if found == u64::from(VERSION) => serde_json::from_slice(octets).map_err(wrong),
            found => Err(StateError::Version { path: path.into(), found }),
        }
    }

    /// Writes the file, whole or not at all, also when the machine stops in the midst of it; for root alone. Its
    /// directory is made if it is not there.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn write(&self, path: &Path) -> Result<(), StateError> {
        let (directory, _) = parts(path)?;
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { what, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed("make", directory))?;
        let octets =
            serde_json::to_vec(self).map_err(|source| StateError::NotUnderstood { path: path.into(), source })?;
        if octets.len() as u64 > STATE_MAX {
            return Err(StateError::Long(path.into()));
        }
        let made = temporary::beside(path);
        let placed = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&made)
            .and_then(|mut file| {
                file.write_all(&octets)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&made, path));
        if let Err(error) = placed {
            let _ = fs::remove_file(&made);
            return Err(failed("write", path)(error));
        }
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("write", directory))
    }
}

/// The directory and the name of a file.
fn parts(path: &Path) -> Result<(&Path, &OsStr), StateError> {
    let both = path.parent().zip(path.file_name()).filter(|_| path.is_absolute());
    both.ok_or_else(|| StateError::Path(path.to_owned()))
}

fn check(stat: &Stat, path: &Path) -> Result<(), StateError> {
    let what = if stat.st_uid != 0 {
        "it is not root's"
    } else if stat.st_mode & 0o022 != 0 {
        "others than root may write to it"
    } else {
        return Ok(());
    };
    Err(StateError::Untrusted { path: path.into(), what })
}

/// A map in which no key stands twice: of two entries, either could be meant.
fn each_once<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Namespace, Standing>, D::Error> {
    struct EachOnce;
    impl<'de> Visitor<'de> for EachOnce {
        type Value = BTreeMap<Namespace, Standing>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("namespaces with their standing")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = BTreeMap::new();
            while let Some((namespace, standing)) = map.next_entry::<Namespace, _>()? {
                if found.insert(namespace.clone(), standing).is_some() {
                    return Err(A::Error::custom(format_args!("namespace {namespace} stands there twice")));
                }
            }
            Ok(found)
        }
    }
    from.deserialize_map(EachOnce)
}

#[cfg(test)]
mod tests;
