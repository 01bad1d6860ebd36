//! What may change while the proxy runs: the configuration, users, certificates.
//!
//! Once a second the files are looked at, by name. What has changed is read and checked as a whole; a bad version is refused
//! with an error in the log, and the old one stays.

mod configuration;
mod counts;
mod files;
mod watch;

pub use configuration::Reloader;
pub use counts::{CONFIGURATION, FileCounts, ReloadCounts};
pub use files::{Contents, Files, MAX_FILE_BYTES, ReadError, Snapshot, read};
pub use watch::{Apply, Found, Watch};

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// The thread that looks at files. Ends when it is dropped.
pub struct Watcher {
    now: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts to look once a second.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(mut reloader: Reloader) -> io::Result<Self> {
        let (now, asked) = mpsc::channel();
        let thread = thread::Builder::new().name("reload".to_owned()).spawn(move || {
            loop {
                match asked.recv_timeout(EVERY) {
                    Ok(()) => reloader.look(true),
                    Err(RecvTimeoutError::Timeout) => reloader.look(false),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { now: Some(now), thread: Some(thread) })
    }

    /// Has it look at once. Returns before it has.
    pub fn look_now(&self) {
        if let Some(now) = &self.now {
            // A thread that panicked has been reported.
            let _ = now.send(());
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.now.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
