//! Containers' output: to a file each, in the format of Kubernetes' container logs, and to a sink.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::error::{Error, Result};

/// The longest line, in bytes; a longer one is cut into parts (tag `P` in the file).
pub const LINE_LIMIT: usize = 16 * 1024;

/// The size at which a log file is renamed to `NAME.log.1` (replacing that) and begun afresh: 10 MiB, as the kubelet
/// has it.
pub const FILE_LIMIT: u64 = 10 << 20;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The container.
    pub container: String,
    /// From which stream.
    pub stream: Stream,
    /// The text without the line end; what is not UTF-8 is replaced.
    pub text: String,
    /// Whether the line ends here; `false` for all but the last part of a line that was cut.
    pub complete: bool,
}

/// Receives lines as they come, from several threads. It should return soon: the container waits meanwhile.
pub type LogSink = Arc<dyn Fn(&LogLine) + Send + Sync>;

/// The log of one container, across its restarts.
#[derive(Clone)]
pub(crate) struct Log {
    container: String,
    file: Arc<Mutex<LogFile>>,
    sink: Option<LogSink>,
}

struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Log {
    pub fn open(dir: &Path, container: &str, sink: Option<LogSink>) -> Result<Log> {
        let path = dir.join(format!("{container}.log"));
        let file = open(&path).map_err(|e| Error::file("create", &path, e))?;
        let size = file.metadata().map_or(0, |m| m.len());
        Ok(Log { container: container.to_owned(), file: Arc::new(Mutex::new(LogFile { path, file, size })), sink })
    }

    /// Reads a stream to its end, on a thread of its own.
    pub fn follow(&self, stream: Stream, from: impl Read + Send + 'static) -> Result<thread::JoinHandle<()>> {
        let log = self.clone();
        thread::Builder::new()
            .name("log".into())
            .spawn(move || {
                let mut from = BufReader::with_capacity(LINE_LIMIT, from);
                while let Some((text, complete)) = next_line(&mut from) {
                    log.write(&LogLine { container: log.container.clone(), stream, text, complete });
                }
            })
            .map_err(Error::Thread)
    }

    fn write(&self, line: &LogLine) {
        let stream = match line.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let tag = if line.complete { 'F' } else { 'P' };
        let text = format!("{} {stream} {tag} {}\n", jiff::Timestamp::now(), line.text);
        // A full disk must not stop the container; the sink still has the line.
        if let Err(error) = self.file.lock().unwrap_or_else(PoisonError::into_inner).append(text.as_bytes()) {
            tracing::warn!(container = self.container, %error, "can't write the log");
        }
        if let Some(sink) = &self.sink {
            sink(line);
        }
    }
}

impl LogFile {
    fn append(&mut self, text: &[u8]) -> std::io::Result<()> {
        if self.size + text.len() as u64 > FILE_LIMIT {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = open(&self.path)?;
            self.size = 0;
        }
        self.file.write_all(text)?;
        self.size += text.len() as u64;
        Ok(())
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // Output may hold secrets: for root alone.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// The next line or part of one; `None` at the end.
fn next_line(from: &mut impl BufRead) -> Option<(String, bool)> {
    let mut bytes = Vec::new();
    // A read error is the end, like a closed pipe.
    from.take(LINE_LIMIT as u64).read_until(b'\n', &mut bytes).ok().filter(|n| *n > 0)?;
    let ended = bytes.last() == Some(&b'\n');
    if ended {
        bytes.pop();
    }
    let cut = !ended && bytes.len() == LINE_LIMIT;
    Some((String::from_utf8_lossy(&bytes).into_owned(), !cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_the_last_needs_no_end() {
        let long = "x".repeat(LINE_LIMIT + 5);
        let text = format!("a\n\n{long}\nb\u{ff}");
        let mut from = text.as_bytes();
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut from) {
            lines.push(line);
        }
        let x = |n: usize| "x".repeat(n);
        let expected =
            [("a".into(), true), (String::new(), true), (x(LINE_LIMIT), false), (x(5), true), ("bÿ".into(), true)];
        assert_eq!(lines, expected);
    }

    #[test]
    fn files_turn_over_and_keep_the_previous_one() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), "web", None).unwrap();
        let mut file = log.file.lock().unwrap();
        file.append(&vec![b'a'; FILE_LIMIT as usize]).unwrap();
        file.append(b"b\n").unwrap();
        assert_eq!(fs::read(dir.path().join("web.log")).unwrap(), b"b\n");
        assert_eq!(fs::metadata(dir.path().join("web.log.1")).unwrap().len(), FILE_LIMIT);
    }
}
