//! A Go toolchain that is new enough: the machine's, or Debian's, unpacked into the cache.

use std::path::PathBuf;
use std::process::Stdio;

use super::{PartsError, debian};
use crate::command;

/// A version as far as it decides: the language's, `1.24`.
pub type Version = (u32, u32);

/// The path of `go`, at least of that version.
///
/// # Errors
/// When there is none and none can be unpacked.
pub fn ensure(at_least: Version) -> Result<PathBuf, PartsError> {
    if on_path().is_some_and(|version| version >= at_least) {
        return Ok("go".into());
    }
    let folders = debian::ensure(&[], debian::GO)?;
    Ok(folders.into_iter().next().unwrap_or_default().join("go"))
}

fn on_path() -> Option<Version> {
    let mut go = command::program("go");
    let output = go.args(["env", "GOVERSION"]).current_dir("/").stderr(Stdio::null()).output().ok()?;
    parse(String::from_utf8_lossy(&output.stdout).trim())
}

/// Reads `go1.26.8`, `go1.24`, or the `1.24.0` of a go.mod.
pub fn parse(version: &str) -> Option<Version> {
    let mut numbers = version.trim_start_matches("go").split('.');
    let mut next = || numbers.next()?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(parse("go1.26.8"), Some((1, 26)));
        assert_eq!(parse("1.24.0"), Some((1, 24)));
        assert_eq!(parse("go1.25rc1"), Some((1, 25)));
        assert_eq!(parse("devel"), None);
        assert!(parse("go1.9") < parse("go1.24"));
    }
}
