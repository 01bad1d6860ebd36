//! Files that may change while the proxy runs: users and certificates.
//!
//! Once a second the files are looked at, by name: so it does not matter whether they are rewritten, renamed over, or
//! reached through a symbolic link that is swapped, as in a mounted Secret. What has changed is read and checked as a
//! whole; a bad version is refused with an error in the log, and the old one stays.

mod counts;

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use zeroize::Zeroizing;

pub use counts::{FileCounts, ReloadCounts};

/// The largest file that is read: what a Secret can hold.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Timestamps are coarse: a file that changed less than this before it was read may have changed again unseen.
const UNSETTLED: Duration = Duration::from_secs(2);

/// The contents of some files that were read together.
pub type Contents = Vec<Zeroizing<Vec<u8>>>;

/// Takes over new contents, or says why not.
pub type Apply = Box<dyn FnMut(&[Zeroizing<Vec<u8>>]) -> Result<(), Box<dyn Error + Send + Sync>> + Send>;

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

/// Some files that are watched together.
pub struct Watch {
    what: String,
    files: Vec<PathBuf>,
    looks: Vec<Look>,
    digest: [u8; 32],
    settled: bool,
    /// What was last said about them, so that it is said once.
    complaint: Option<String>,
    apply: Apply,
}

/// What a look at watched files found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing new.
    Same,
    /// A new version, which is in force now.
    Applied,
    /// A new version that is refused (or no version): the old one stays. Says why.
    Refused(String),
}

impl Watch {
    /// Watches files from the version that is in force on. `what` names them in the log.
    pub fn new(what: String, files: Vec<PathBuf>, from: &Snapshot, apply: Apply) -> Self {
        Self {
            what,
            files,
            looks: from.looks.clone(),
            digest: from.digest,
            settled: from.looks.iter().all(Look::settled),
            complaint: None,
            apply,
        }
    }

    /// Looks at the files once.
    pub fn look(&mut self) -> Found {
        match looks(&self.files) {
            Ok(looks) if looks == self.looks && self.settled => return Found::Same,
            Ok(_) => {}
            Err(error) => return Found::Refused(error.to_string()),
        }
        let snapshot = match read(&self.files) {
            Ok(snapshot) => snapshot,
            Err(error) => return Found::Refused(error.to_string()),
        };
        self.settled = snapshot.looks.iter().all(Look::settled);
        self.looks.clone_from(&snapshot.looks);
        if snapshot.digest == self.digest {
            return Found::Same;
        }
        self.digest = snapshot.digest;
        match (self.apply)(&snapshot.contents) {
            Ok(()) => Found::Applied,
            Err(error) => Found::Refused(error.to_string()),
        }
    }

    fn look_and_tell(&mut self, counts: Option<&FileCounts>) {
        let files = || self.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
        let names = files();
        match self.look() {
            Found::Same => {}
            Found::Applied => {
                self.complaint = None;
                counts.inspect(|counts| counts.was_applied());
                tracing::info!(what = self.what, files = names, "the new version is in force");
            }
            Found::Refused(why) => {
                if self.complaint.as_ref() != Some(&why) {
                    counts.inspect(|counts| counts.was_refused());
                    tracing::error!(
                        what = self.what,
                        files = names,
                        why,
                        "the new version is refused; the old one stays"
                    );
                    self.complaint = Some(why);
                }
            }
        }
    }
}

/// The thread that looks at files. Ends when it is dropped.
pub struct Watcher {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<ReloadCounts>,
}

impl Watcher {
    /// What has become of new versions.
    pub fn counts(&self) -> Arc<ReloadCounts> {
        Arc::clone(&self.counts)
    }

    /// Starts to look once a second.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(mut watches: Vec<Watch>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let counts = Arc::new(ReloadCounts::new(watches.iter().map(|watch| watch.what.clone())));
        let counted = Arc::clone(&counts);
        let thread = thread::Builder::new().name("reload".to_owned()).spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                for (index, watch) in watches.iter_mut().enumerate() {
                    watch.look_and_tell(counts.at(index));
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread), counts: counted })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
