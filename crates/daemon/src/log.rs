//! What a program tells of what it does, on standard error.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line
    #[default]
    Json,
    /// For people
    Text,
}

/// Why there can't be a log.
#[derive(Debug, Error)]
pub enum LogError {
    /// What is to be logged can't be understood.
    #[error(
        "the log's filter {filter:?} can't be used: {source}; say a level, or levels by module, as in `info,kube=debug`"
    )]
    Filter {
        /// What was said.
        filter: String,
        /// Why not.
        source: ParseError,
    },
}

/// Begins to log what a filter lets through: a level, or levels by module. Once in a program's life.
///
/// # Errors
/// The filter is none.
pub fn start(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let logs = tracing_subscriber::fmt().with_env_filter(parse(filter)?).with_writer(io::stderr);
    match format {
        LogFormat::Json => logs.json().flatten_event(true).init(),
        LogFormat::Text => {
            // https://no-color.org
            let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            logs.with_ansi(colours && io::stderr().is_terminal()).init();
        }
    }
    Ok(())
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter).map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_told() {
        assert!(parse("info,sidewall_cluster=debug").is_ok());
        let said = parse("info,kube=loud").unwrap_err().to_string();
        assert!(said.contains("\"info,kube=loud\"") && said.contains("kube=debug"), "{said}");
    }
}
