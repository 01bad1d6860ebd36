//! What probers wrote down.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use super::Outcome;
use crate::error::{BedError, Result};

/// What probers wrote down, by the order of time.
#[derive(Debug, Default)]
pub struct Report {
    /// What was tried.
    pub tried: Vec<Tried>,
    /// What was received.
    pub got: Vec<Got>,
    /// Every run of a prober, `NAME.BEGIN`, and whether it has done all it had to.
    pub runs: BTreeMap<String, bool>,
}

/// One attempt, or some of a burst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The run of the prober: `NAME.BEGIN`.
    pub run: String,
    /// When the last of them began.
    pub at: u64,
    /// The target's name.
    pub target: String,
    /// What came of the last.
    pub outcome: Outcome,
    /// How many attempts they were.
    pub times: u64,
}

/// Something that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// The run of the prober that received it.
    pub by: String,
    /// When.
    pub at: u64,
    /// On which port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// From where.
    pub peer: String,
    /// The run of the prober that sent it; `?` where it did not say.
    pub run: String,
    /// What the sender calls the target.
    pub target: String,
    /// When it was sent.
    pub sent: u64,
}

impl Report {
    /// Reads a folder of reports.
    ///
    /// # Errors
    /// [`BedError::File`] where it can't be read.
    pub fn read(folder: &Path) -> Result<Report> {
        let mut report = Report::default();
        for entry in fs::read_dir(folder).map_err(BedError::file("read", folder))? {
            let path = entry.map_err(BedError::file("read", folder))?.path();
            let run = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).map_err(BedError::file("read", &path))?;
            report.runs.entry(run.clone()).or_default();
            // What follows the last end of a line is being written.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            for line in whole.lines() {
                report.line(&run, line);
            }
        }
        report.tried.sort_by_key(|tried| tried.at);
        report.got.sort_by_key(|got| got.at);
        Ok(report)
    }

    /// Both reports as one.
    pub fn and(mut self, other: Report) -> Report {
        self.tried.extend(other.tried);
        self.got.extend(other.got);
        self.runs.extend(other.runs);
        self.tried.sort_by_key(|tried| tried.at);
        self.got.sort_by_key(|got| got.at);
        self
    }

    /// The runs of a prober.
    pub fn runs_of(&self, name: &str) -> impl Iterator<Item = &str> {
        self.runs.keys().map(String::as_str).filter(move |run| prober(run) == name)
    }

    fn line(&mut self, run: &str, line: &str) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["tried", at, target, outcome, times] => self.tried.push(Tried {
                run: run.into(),
                at: number(at),
                target: (*target).into(),
                outcome: Outcome::read(outcome),
                times: number(times),
            }),
            ["got", at, port, protocol, peer, from, target, sent] => self.got.push(Got {
                by: run.into(),
                at: number(at),
                port: number(port),
                protocol: (*protocol).into(),
                peer: (*peer).into(),
                run: (*from).into(),
                target: (*target).into(),
                sent: number(sent),
            }),
            ["done", _] => drop(self.runs.insert(run.into(), true)),
            _ => {}
        }
    }
}

/// The prober of a run: `NAME` of `NAME.BEGIN`.
pub fn prober(run: &str) -> &str {
    run.rsplit_once('.').map_or(run, |(name, _)| name)
}

/// When a run began: `BEGIN` of `NAME.BEGIN`.
pub fn begun(run: &str) -> u64 {
    run.rsplit_once('.').map_or(0, |(_, begun)| number(begun))
}

fn number<T: FromStr + Default>(text: &str) -> T {
    text.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_read_and_sorted_and_half_ones_wait() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = ("racer.17", "app.3");
        fs::write(
            folder.path().join(a),
            "begun 17\ntried 30 deny-tcp silence 4\ntried 20 allow reached 1\ndone 40\ntri",
        )
        .unwrap();
        fs::write(folder.path().join(b), "got 21 8080 udp [::1]:4242 racer.17 allow 20\ngot 22 80").unwrap();
        let report = Report::read(folder.path()).unwrap();
        assert_eq!(report.runs, BTreeMap::from([(a.into(), true), (b.into(), false)]));
        assert_eq!(
            report.tried.iter().map(|tried| (tried.at, tried.outcome, tried.times)).collect::<Vec<_>>(),
            [(20, Outcome::Reached, 1), (30, Outcome::Silence, 4)]
        );
        let [got] = &report.got[..] else { panic!("{:?}", report.got) };
        assert_eq!((got.by.as_str(), got.port, got.sent, got.run.as_str()), (b, 8080, 20, a));
        assert_eq!(report.runs_of("racer").collect::<Vec<_>>(), [a]);
        assert_eq!((begun(a), begun("?"), begun("racer.x")), (17, 0, 0));
    }
}
