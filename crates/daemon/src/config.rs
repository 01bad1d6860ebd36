//! A program's configuration file: YAML, strict. Whatever is wrong with it is said with its place.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

/// The longest file, in octets.
pub const LARGEST: u64 = 1 << 20;

/// What a program is told by a file. Unknown fields have to be errors: `#[serde(deny_unknown_fields)]`.
pub trait Config: DeserializeOwned {
    /// Everything that is wrong and that its shape alone does not say; each begins with its field.
    fn faults(&self) -> Vec<String>;
}

/// Why a configuration can't be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is too long.
    #[error("the configuration {} is longer than {LARGEST} octets", .0.display())]
    Long(PathBuf),
    /// It says what can't be.
    #[error("the configuration {} can't be used: {problem}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong: with its line, or its field.
        problem: String,
    },
}

/// Reads a file.
///
/// # Errors
/// [`ConfigError`], which names the file, and line or field.
pub fn read<C: Config>(path: &Path) -> Result<C, ConfigError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text))
        .map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
    if text.len() as u64 > LARGEST {
        return Err(ConfigError::Long(path.to_owned()));
    }
    parse(&text).map_err(|problem| ConfigError::Content { path: path.to_owned(), problem })
}

/// Reads a text. One that says nothing leaves everything as it is without it.
///
/// # Errors
/// What is wrong, with its line or its field.
pub fn parse<C: Config>(text: &str) -> Result<C, String> {
    let silent = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let text = if silent { "{}" } else { text };
    let config: C = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let faults = config.faults();
    if faults.is_empty() { Ok(config) } else { Err(faults.join("; ")) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Told {
        port: u16,
        name: String,
    }

    impl Config for Told {
        fn faults(&self) -> Vec<String> {
            let low = (self.port == 1).then(|| "port is 1; use another".to_owned());
            let long = (self.name.len() > 3).then(|| "name is too long".to_owned());
            low.into_iter().chain(long).collect()
        }
    }

    #[test]
    fn what_says_nothing_leaves_everything_as_it_is() {
        for text in ["", "\n", "# nothing\n\n  # at all\n", "{}"] {
            assert_eq!(parse::<Told>(text), Ok(Told::default()));
        }
        assert_eq!(parse("port: 7\n"), Ok(Told { port: 7, ..Told::default() }));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let problem = |text: &str| parse::<Told>(text).unwrap_err();
        for (text, word) in [("port: 1\nnam: x\n", "nam"), ("name: x\nport: many\n", "many"), ("a\n- b\n", "line")] {
            let said = problem(text);
            assert!(said.contains("line 2") && said.contains(word) || word == "line" && said.contains(word), "{said}");
        }
        assert_eq!(problem("{port: 1, name: long}"), "port is 1; use another; name is too long");
    }

    #[test]
    fn a_file_is_named_whatever_is_wrong_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let said = |path: &Path| read::<Told>(path).unwrap_err().to_string();
        let name = path.display().to_string();
        assert!(said(&path).starts_with(&format!("can't read the configuration {name}: ")), "{}", said(&path));
        fs::write(&path, "port: 1\n").unwrap();
        assert_eq!(said(&path), format!("the configuration {name} can't be used: port is 1; use another"));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(said(&path).starts_with(&format!("can't read the configuration {name}: ")), "{}", said(&path));
        let long = |octets: u64| "#".repeat(usize::try_from(octets).unwrap());
        fs::write(&path, long(LARGEST)).unwrap();
        assert_eq!(read::<Told>(&path).unwrap(), Told::default());
        fs::write(&path, long(LARGEST + 1)).unwrap();
        assert_eq!(said(&path), format!("the configuration {name} is longer than 1048576 octets"));
    }
}
