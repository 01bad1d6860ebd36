//! One JSON line for every request.
//!
//! A line never holds a query string, a header's value or the name that a failed login claimed (people type their
//! password into the wrong field). Workers collect lines and hand them over in batches, so that a slow reader of the log
//! never stops a request; when the reader is too slow for too long, lines are dropped, counted, and the count is logged.

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::{Duration, SystemTime};

use serde::Serialize;

/// A batch is handed over when it has so many bytes, or when its worker's clock says so.
const BATCH: usize = 16 * 1024;
/// How long the end of the process waits for the log's reader.
const FINISH: Duration = Duration::from_secs(2);
/// Batches that may wait for the writer.
const WAITING: usize = 256;

/// What is said about one request.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When it was done, RFC 3339 in UTC.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// The port that it came in by.
    pub listener: u16,
    /// The port that its connection aimed at, where the kernel redirected it from there. Absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captured: Option<u16>,
    /// The client's address, as the socket has it.
    pub peer: SocketAddr,
    /// Absent where the request could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'a str>,
    /// Without the query. Absent where the request could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
    /// What the client was answered; 499 if it went away before, 0 if the connection was closed without an answer.
    pub status: u16,
    /// From the head of the request to the end of the response.
    pub duration_us: u64,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// The authenticated user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// What the application answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    /// Why the request did not go as it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
}

fn rfc3339<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_micros(*time))
}

/// The log of the whole process. Its thread ends when this and all [`LogBuffer`]s are gone and everything is written.
pub struct AccessLog {
    sender: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    finished: mpsc::Receiver<()>,
}

impl AccessLog {
    /// Writes lines to `out` from a thread of its own.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(mut out: Box<dyn Write + Send>) -> io::Result<Self> {
        let (sender, batches) = mpsc::sync_channel::<Vec<u8>>(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let (done, finished) = mpsc::channel();
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            let mut broken = false;
            for mut batch in batches {
                let count = lost.swap(0, Ordering::Relaxed);
                if count > 0 {
                    // Said where the lines are missed, too.
                    let now = humantime::format_rfc3339_micros(SystemTime::now());
                    batch.extend_from_slice(format!("{{\"time\":\"{now}\",\"lines_dropped\":{count}}}\n").as_bytes());
                    tracing::error!(lines = count, "the access log is read too slowly; lines were dropped");
                }
                match out.write_all(&batch).and_then(|()| out.flush()) {
                    Ok(()) => broken = false,
                    Err(error) => {
                        // Said once, not for every batch.
                        if !broken {
                            tracing::error!(%error, "the access log cannot be written; lines are lost");
                        }
                        broken = true;
                    }
                }
            }
            // Nobody may be waiting any more.
            let _ = done.send(());
        })?;
        Ok(Self { sender, dropped, finished })
    }

    /// The part of the log that one worker fills.
    pub fn buffer(&self) -> LogBuffer {
        LogBuffer {
            pending: RefCell::new(Pending::default()),
            sender: self.sender.clone(),
            dropped: Arc::clone(&self.dropped),
        }
    }

    /// Waits until everything is written, but not for ever: whoever reads the log may have stopped. All buffers must be
    /// gone before. Says whether everything was written.
    pub fn finish(self) -> bool {
        drop(self.sender);
        self.finished.recv_timeout(FINISH).is_ok()
    }
}

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    lines: u64,
}

/// The part of the log that one worker fills.
pub struct LogBuffer {
    pending: RefCell<Pending>,
    sender: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl LogBuffer {
    /// Adds a line.
    pub fn add(&self, line: &Line<'_>) {
        let full = {
            let mut pending = self.pending.borrow_mut();
            // Writing to memory does not fail, and every field is plain data.
            if serde_json::to_writer(&mut pending.bytes, line).is_err() {
                return;
            }
            pending.bytes.push(b'\n');
            pending.lines += 1;
            pending.bytes.len() >= BATCH
        };
        if full {
            self.flush();
        }
    }

    /// Hands over what has been collected.
    pub fn flush(&self) {
        let Pending { bytes, lines } = std::mem::take(&mut *self.pending.borrow_mut());
        if !bytes.is_empty() && self.sender.try_send(bytes).is_err() {
            self.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
