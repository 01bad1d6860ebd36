use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender};

use super::*;

fn line(path: &str) -> Line<'_> {
    Line {
        time: SystemTime::UNIX_EPOCH,
        listener: 80,
        captured: None,
        peer: ([192, 0, 2, 1], 1234).into(),
        method: Some("GET"),
        path: Some(path),
        status: 200,
        duration_us: 5,
        bytes_in: 0,
        bytes_out: 7,
        user: Some("ada \"the first\""),
        upstream_status: Some(200),
        error: None,
    }
}

/// Hands over what is written, after it was allowed to.
struct Gate {
    open: Receiver<()>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Open for ever once the other end is gone.
        let _ = self.open.recv();
        self.written.lock().expect("unpoisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gated() -> (AccessLog, Sender<()>, Arc<Mutex<Vec<u8>>>) {
    let (opener, open) = mpsc::channel();
    let written = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate { open, written: Arc::clone(&written) };
    (AccessLog::start(Box::new(gate)).expect("a thread"), opener, written)
}

#[test]
fn lines_are_json_and_all_are_written_at_the_end() {
    let (log, opener, written) = gated();
    drop(opener);
    let buffer = log.buffer();
    buffer.add(&line("/a\"b\n"));
    buffer.add(&line("/c"));
    drop(buffer);
    assert!(log.finish());
    let text = String::from_utf8(written.lock().expect("unpoisoned").clone()).expect("text");
    assert_eq!(
        text.lines().next(),
        Some(
            r#"{"time":"1970-01-01T00:00:00.000000Z","listener":80,"peer":"192.0.2.1:1234","method":"GET","path":"/a\"b\n","status":200,"duration_us":5,"bytes_in":0,"bytes_out":7,"user":"ada \"the first\"","upstream_status":200}"#
        )
    );
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn a_reader_that_stops_stops_no_request_and_lost_lines_are_counted() {
    let (log, opener, written) = gated();
    let buffer = log.buffer();
    let total = 4 * WAITING as u64;
    for _ in 0..total {
        buffer.add(&line("/"));
        buffer.flush();
    }
    drop(opener);
    // The writer takes what waits, and the next batch tells what is missing.
    buffer.add(&line("/last"));
    while !written.lock().expect("unpoisoned").windows(5).any(|bytes| bytes == b"/last") {
        buffer.flush();
        buffer.add(&line("/last"));
    }
    drop(buffer);
    assert!(log.finish());
    let text = String::from_utf8(written.lock().expect("unpoisoned").clone()).expect("text");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let kept = lines.iter().filter(|line| line["path"] == "/").count() as u64;
    let dropped: u64 = lines.iter().filter_map(|line| line["lines_dropped"].as_u64()).sum();
    assert!(kept < total, "the writer stood still");
    assert!(kept + dropped >= total, "{kept} kept, {dropped} said to be dropped, of {total}");
}

#[test]
fn the_end_does_not_wait_for_a_reader_that_never_comes() {
    let (log, opener, _written) = gated();
    let buffer = log.buffer();
    buffer.add(&line("/"));
    drop(buffer);
    assert!(!log.finish());
    drop(opener);
}
