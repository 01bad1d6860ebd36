//! Where tools that are built once are kept: outside the work tree, so that a clean clone finds them again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// No place for the cache could be named.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no folder to keep tools in: set SIDEWALL_CACHE (or XDG_CACHE_HOME, or HOME) to an absolute path")]
pub struct NoCache;

/// The folder for the tool called `name`; a version is part of the name, so that versions do not meet.
///
/// # Errors
/// When the environment names no folder.
pub fn tool(name: &str) -> Result<PathBuf, NoCache> {
    Ok(folder(|variable| std::env::var_os(variable))?.join("tools").join(name))
}

/// `$SIDEWALL_CACHE`, else `$XDG_CACHE_HOME/sidewall`, else `~/.cache/sidewall`. Relative and empty values are passed
/// over, as the XDG base directory specification asks.
fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, NoCache> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let under = |base: PathBuf, rest: &str| base.join(Path::new(rest));
    absolute("SIDEWALL_CACHE")
        .or_else(|| absolute("XDG_CACHE_HOME").map(|base| under(base, "sidewall")))
        .or_else(|| absolute("HOME").map(|base| under(base, ".cache/sidewall")))
        .ok_or(NoCache)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(&str, &str)]) -> Result<PathBuf, NoCache> {
        folder(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_first_usable_variable_decides() {
        let home = ("HOME", "/home/me");
        let xdg = ("XDG_CACHE_HOME", "/var/cache/me");
        assert_eq!(with(&[home, xdg, ("SIDEWALL_CACHE", "/cache")]), Ok("/cache".into()));
        assert_eq!(with(&[home, xdg]), Ok("/var/cache/me/sidewall".into()));
        assert_eq!(with(&[home]), Ok("/home/me/.cache/sidewall".into()));
        assert_eq!(with(&[]), Err(NoCache));
    }

    #[test]
    fn relative_and_empty_values_are_passed_over() {
        assert_eq!(
            with(&[("SIDEWALL_CACHE", ""), ("XDG_CACHE_HOME", "here"), ("HOME", "/root")]),
            Ok("/root/.cache/sidewall".into())
        );
    }
}
