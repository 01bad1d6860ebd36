//! The summary lines that test runners print, added up while their output passes through.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::ops::AddAssign;

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Marked `#[ignore]`.
    pub ignored: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// `N passed, N failed`, and `, N skipped` where there are any.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 { write!(f, ", {} skipped", self.ignored) } else { Ok(()) }
    }
}

/// Reads one line as the standard test harness ends with:
/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`.
pub fn parse(line: &str) -> Option<Summary> {
    let line = without_colours(line);
    let counts = line.trim_end().strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |name: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(name)?.strip_suffix(' ')?.parse::<u64>().ok())
    };
    Some(Summary { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
}

/// Copies a runner's output line by line, adding up its summary lines.
///
/// # Errors
/// When the output cannot be read, or not be written any more.
pub fn pass_through(mut from: impl BufRead, mut to: impl Write) -> io::Result<Summary> {
    let mut sum = Summary::default();
    let mut line = Vec::new();
    // Bytes, not text: a test may print anything.
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        if let Some(one) = parse(&String::from_utf8_lossy(&line)) {
            sum += one;
        }
        line.clear();
    }
    Ok(sum)
}

/// The text without its colour sequences (`ESC [ … letter`, and `ESC ( B` of the reset that terminfo gives).
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c != '\x1b' {
            plain.push(c);
        } else if rest.next() == Some('[') {
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else {
            rest.next();
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.01s";

    #[test]
    fn a_summary_line_is_read() {
        assert_eq!(parse(LINE), Some(Summary { passed: 3, failed: 2, ignored: 1 }));
    }

    #[test]
    fn colours_do_not_matter() {
        let line = LINE.replace("FAILED", "\x1b[31mFAILED\x1b(B\x1b[m");
        assert_eq!(parse(&line), parse(LINE));
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            "running 3 tests",
            "test result: ok",
            "test result: ok. lots passed; 0 failed; 0 ignored",
            "test summary::a ... ok",
            "the test result: ok. 3 passed; 0 failed; 0 ignored",
            "3 passed, 0 failed",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn output_passes_unchanged_and_is_added_up() {
        let text = format!("running\n{LINE}\n\u{1b}[1mx\n{LINE}\r\nlast without newline");
        let mut bytes = text.into_bytes();
        bytes.splice(0..0, *b"\xff\xfe\n");
        let mut copy = Vec::new();
        let sum = pass_through(bytes.as_slice(), &mut copy).unwrap();
        assert_eq!(copy, bytes);
        assert_eq!(sum, Summary { passed: 6, failed: 4, ignored: 2 });
    }

    #[test]
    fn the_closing_line_names_what_was_skipped() {
        let mut sum = Summary { passed: 12, failed: 0, ignored: 0 };
        assert_eq!(sum.to_string(), "12 passed, 0 failed");
        sum += Summary { passed: 0, failed: 1, ignored: 2 };
        assert_eq!(sum.to_string(), "12 passed, 1 failed, 2 skipped");
    }
}
