//! What the test and the first process of a cell say to each other: one JSON document a line, each request answered once.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a cell is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The host name inside.
    pub hostname: String,
    /// The cell's cgroup as the host sees it.
    pub cgroup: PathBuf,
    /// Whether containers are to run in it.
    pub containers: bool,
}

/// What the first process is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Starts a service.
    Start(Service),
    /// Sends a signal to a service.
    Signal {
        /// The service.
        name: String,
        /// The signal's number.
        signal: i32,
    },
    /// Asks how a service fares.
    State {
        /// The service.
        name: String,
    },
}

/// A program to run for long.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Service {
    /// What it is called from now on.
    pub name: String,
    /// The program's path, and its arguments.
    pub command: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Where its output goes, inside the cell; appended to.
    pub log: PathBuf,
}

/// What the first process (or `enter`, before it) says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The process id of the first process in the host's counting. Said by `enter`.
    Init(u32),
    /// All mounts stand. Said once, unasked.
    Ready,
    /// Started, with the process id inside the cell.
    Started(i32),
    /// The signal is sent.
    Signalled,
    /// It runs.
    Running(i32),
    /// It has ended: the exit code or the signal, in words.
    Ended(String),
    /// No service of that name was ever started.
    Unknown,
    /// What was asked can't be done.
    Error(String),
}

/// Prints an answer in one write, so that lines of two processes never mix.
pub fn say(answer: &Answer) {
    if let Ok(mut line) = serde_json::to_vec(answer) {
        line.push(b'\n');
        // Nobody is left to hear it when this fails; the closed input ends the cell then.
        let _ = std::io::stdout().lock().write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_document() {
        let request = Request::Start(Service {
            name: "etcd".into(),
            command: vec!["/bin/etcd".into(), "line\nbreak".into()],
            ..Service::default()
        });
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'));
        let Ok(Request::Start(service)) = serde_json::from_str(&line) else { panic!("{line}") };
        assert_eq!(service.command[1], "line\nbreak");
    }
}
