//! Files that are looked at again and again, by name: so it does not matter whether they are rewritten, renamed over, or
//! reached through a symbolic link that is swapped, as in a mounted Secret.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use zeroize::Zeroizing;

/// The largest file that is read: what a Secret can hold.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// Timestamps are coarse: a file that changed less than this before it was read may have changed again unseen.
const UNSETTLED: Duration = Duration::from_secs(2);

/// The contents of some files that were read together.
pub type Contents = Vec<Zeroizing<Vec<u8>>>;

/// Why files were not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file cannot be opened or read.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A pipe or device: reading it could take for ever.
    #[error("{}: not a regular file", file.display())]
    NotAFile {
        /// The file.
        file: PathBuf,
    },
    /// A file is too large.
    #[error("{}: larger than {MAX_FILE_BYTES} bytes", file.display())]
    TooBig {
        /// The file.
        file: PathBuf,
    },
    /// The files changed while they were read, again and again.
    #[error("{}: changes while it is read; try again", file.display())]
    Changing {
        /// The first of the files.
        file: PathBuf,
    },
}

/// What a file looks like without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    fn at(file: &Path) -> Result<Self, ReadError> {
        let found = fs::metadata(file).map_err(|source| ReadError::Io { file: file.to_owned(), source })?;
        if !found.is_file() {
            return Err(ReadError::NotAFile { file: file.to_owned() });
        }
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    fn settled(&self) -> bool {
        let newest = u64::try_from(self.modified.0.max(self.changed.0)).unwrap_or(0);
        let newest = UNIX_EPOCH + Duration::from_secs(newest);
        SystemTime::now().duration_since(newest).is_ok_and(|age| age > UNSETTLED)
    }
}

/// One version of some files.
pub struct Snapshot {
    /// What is in them, in the order of their names.
    pub contents: Contents,
    looks: Vec<Look>,
    digest: [u8; 32],
}

impl Snapshot {
    /// Which version this is: the same for the same contents.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// Reads files that belong together, all of one version.
///
/// # Errors
///
/// Names the file that cannot be read.
pub fn read(files: &[PathBuf]) -> Result<Snapshot, ReadError> {
    // A mounted Secret may be swapped between two of its files.
    for _ in 0..3 {
        let looks = looks(files)?;
        let contents = files.iter().map(|file| read_one(file)).collect::<Result<Contents, _>>()?;
        if self::looks(files)? == looks {
            let mut hash = digest::Context::new(&digest::SHA256);
            for content in &contents {
                hash.update(&(content.len() as u64).to_le_bytes());
                hash.update(content);
            }
            let mut digest = [0; 32];
            digest.copy_from_slice(hash.finish().as_ref());
            return Ok(Snapshot { contents, looks, digest });
        }
    }
    Err(ReadError::Changing { file: files.first().cloned().unwrap_or_default() })
}

fn looks(files: &[PathBuf]) -> Result<Vec<Look>, ReadError> {
    files.iter().map(|file| Look::at(file)).collect()
}

fn read_one(file: &Path) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let io = |source| ReadError::Io { file: file.to_owned(), source };
    let open = File::open(file).map_err(io)?;
    // With room for all of it from the start, growing leaves no copies behind.
    let size = open.metadata().map_err(io)?.len().min(MAX_FILE_BYTES);
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
    open.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(io)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(ReadError::TooBig { file: file.to_owned() });
    }
    Ok(content)
}

/// Some files that belong together, and how they looked when they were read last.
pub struct Files {
    names: Vec<PathBuf>,
    looks: Vec<Look>,
    digest: [u8; 32],
    settled: bool,
}

impl Files {
    /// From this version of them on.
    pub fn new(names: Vec<PathBuf>, from: &Snapshot) -> Self {
        let settled = from.looks.iter().all(Look::settled);
        Self { names, looks: from.looks.clone(), digest: from.digest, settled }
    }

    /// Their names, for a log.
    pub fn names(&self) -> String {
        self.names.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Which version was read last.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Reads them if they have changed. `None` if they are what they were.
    ///
    /// # Errors
    ///
    /// As [`read`].
    pub fn look(&mut self) -> Result<Option<Snapshot>, ReadError> {
        if looks(&self.names)? == self.looks && self.settled {
            return Ok(None);
        }
        let snapshot = read(&self.names)?;
        self.settled = snapshot.looks.iter().all(Look::settled);
        self.looks.clone_from(&snapshot.looks);
        if snapshot.digest == self.digest {
            return Ok(None);
        }
        self.digest = snapshot.digest;
        Ok(Some(snapshot))
    }

    /// Whether somebody seems to be writing them just now: they have changed, and change within this time again. Waits so
    /// long if they have changed.
    pub fn are_being_written(&self, within: Duration) -> bool {
        let Ok(now) = looks(&self.names) else { return false };
        if now == self.looks {
            return false;
        }
        thread::sleep(within);
        looks(&self.names).is_ok_and(|later| later != now)
    }
}
