//! A socket in a directory, whatever the length of the directory's path: a socket's address has 108 octets, and a pod's
//! name alone may have 253 (unix(7)).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An open directory, and short names for what is in it.
pub struct Directory(File);

impl Directory {
    /// Opens it.
    ///
    /// # Errors
    /// The system's word.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY;
        File::options().read(true).custom_flags(flags.bits()).open(path).map(Self)
    }

    /// A file's name, valid in this process while the directory is open.
    pub fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }
}
