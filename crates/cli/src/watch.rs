//! Notices when files change. By reading them: editors replace files, mounted ConfigMaps are links that turn, and the
//! files are few and small.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::error::Error;

/// How often the files are read.
const PAUSE: Duration = Duration::from_millis(200);

/// Watches files until it is dropped.
pub struct Watch {
    /// Dropping it wakes the thread.
    end: Option<Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    /// Calls `changed` when the content of any of the files has changed and has then stood still for a moment: a file that
    /// is just being written must not be taken for one with fewer policies. Where `changed` says `false` it is called again.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn start(files: Vec<PathBuf>, mut changed: impl FnMut() -> bool + Send + 'static) -> Result<Self, Error> {
        let (end, ended): (Sender<()>, Receiver<()>) = channel();
        let mut known = snapshot(&files);
        let run = move || {
            let mut last = known.clone();
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(PAUSE) {
                let now = snapshot(&files);
                let still = now == last;
                last = now;
                if still && last != known && changed() {
                    known.clone_from(&last);
                }
            }
        };
        let thread = thread::Builder::new()
            .name("watch".into())
            .spawn(run)
            .map_err(|source| Error::System { action: "start a thread", source })?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

/// What is in the files; `None` for one that can't be read.
fn snapshot(files: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
    // Standard input is read once and does not change.
    let content = |file: &PathBuf| if file.as_os_str() == "-" { None } else { crate::inputs::bytes(file).ok() };
    files.iter().map(content).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_it_stands_still() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        std::fs::write(&file, "one").unwrap();
        let (tell, told) = channel();
        let watch = Watch::start(vec![file.clone()], move || tell.send(()).is_ok()).unwrap();
        assert!(told.recv_timeout(PAUSE * 4).is_err(), "nothing has changed");
        std::fs::write(&file, "two").unwrap();
        told.recv_timeout(Duration::from_secs(20)).unwrap();
        std::fs::remove_file(&file).unwrap();
        told.recv_timeout(Duration::from_secs(20)).unwrap();
        drop(watch);
        assert!(told.recv().is_err(), "the thread has ended");
    }
}
