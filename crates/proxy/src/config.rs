//! Reading the configuration file. Errors name the file, the line and the field.

mod locate;

use std::path::{Path, PathBuf};

use sidewall_proxy_config::{Form, Problem, ProxyConfig};

use crate::reload::ReadError;

/// Reads a configuration from YAML and validates it.
///
/// # Errors
///
/// Says at which line and column the text is not YAML or not a configuration; or all problems of the configuration,
/// each with its line and field.
pub fn from_yaml(text: &str) -> Result<ProxyConfig, ConfigError> {
    let config: ProxyConfig =
        serde_saphyr::from_str_with_options(text, options()).map_err(|error| ConfigError::syntax(&error))?;
    config.validate(Form::File).map_err(|problems| ConfigError::Invalid {
        problems: problems
            .as_slice()
            .iter()
            .map(|problem| LocatedProblem { line: locate::line_of(text, &problem.path), problem: problem.clone() })
            .collect(),
    })?;
    Ok(config)
}

/// Reads a configuration file's contents and validates them.
///
/// # Errors
///
/// As [`from_yaml`], with the file's name.
pub fn from_file(file: &Path, contents: &[u8]) -> Result<ProxyConfig, LoadError> {
    let text = std::str::from_utf8(contents).map_err(|error| {
        let line = contents[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        LoadError::Text { file: file.to_owned(), line }
    })?;
    from_yaml(text).map_err(|source| LoadError::Config { file: file.to_owned(), source })
}

/// The line of a field such as `listeners[0].tls.certFile` in a configuration's text, or of the nearest block above it
/// that is there; from 1.
pub fn line_of(text: &str, field: &str) -> u64 {
    locate::line_of(text, field)
}

/// How YAML is read: no snippet of the text in errors, and `yes` is not `true`.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
    }
}

/// Why a text is not a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The text is not YAML, or has a field that is unknown, missing or of the wrong type.
    #[error("{line}:{column}: {message}")]
    Syntax {
        /// The line, from 1; 0 if it is not known.
        line: u64,
        /// The column, from 1; 0 if it is not known.
        column: u64,
        /// What the reader says.
        message: String,
    },
    /// The text reads, but says what cannot be.
    #[error("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid {
        /// All problems, in the order of the fields.
        problems: Vec<LocatedProblem>,
    },
}

impl ConfigError {
    fn syntax(error: &serde_saphyr::Error) -> Self {
        let location = error.location();
        Self::Syntax {
            line: location.map_or(0, |location| location.line()),
            column: location.map_or(0, |location| location.column()),
            message: error.to_string(),
        }
    }
}

/// A problem, and the line of its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct LocatedProblem {
    /// The line of the field, or of the nearest block above it that is there; from 1.
    pub line: u64,
    /// The problem.
    pub problem: Problem,
}

/// Why a configuration file was not read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is not text.
    #[error("{}:{line}: is not UTF-8", file.display())]
    Text {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// The file is not a configuration.
    #[error("{}", each_line(file, source))]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
}

/// Puts the file's name before every problem, so that each line can be read by itself.
fn each_line(file: &Path, error: &ConfigError) -> String {
    let file = file.display();
    match error {
        ConfigError::Syntax { .. } => format!("{file}:{error}"),
        ConfigError::Invalid { problems } => {
            let lines: Vec<_> =
                problems.iter().map(|located| format!("{file}:{}: {}", located.line, located.problem)).collect();
            lines.join("\n")
        }
    }
}

#[cfg(test)]
mod tests;
