//! Why the test bed did not do what was asked.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Why the test bed did not do what was asked.
#[derive(Debug, Error)]
pub enum BedError {
    /// Namespaces, mounts and cgroups need root.
    #[error("the test bed makes namespaces, mounts and cgroups: run the tests as root")]
    NotRoot,
    /// A program of a third party is nowhere.
    #[error(
        "no `{program}` in {looked}: run the tests with `cargo xtask test --only node`, which sets up what is missing, or let \
         `eval \"$(cargo xtask parts)\"` set SIDEWALL_PARTS first"
    )]
    NoPart {
        /// The program.
        program: String,
        /// Where it was looked for.
        looked: String,
    },
    /// The bed's own program is not built.
    #[error("{0} is missing: `cargo build -p sidewall-node-tests --bins` builds it")]
    NoBedProgram(PathBuf),
    /// Namespaces, links or cgroups.
    #[error(transparent)]
    Net(#[from] sidewall_netns::Error),
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start `{line}`: {source}")]
    Spawn {
        /// The command line.
        line: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("`{line}` failed ({status}): {said}")]
    Failed {
        /// The command line.
        line: String,
        /// How it ended.
        status: String,
        /// What it wrote to its standard error, or else to its standard output.
        said: String,
    },
    /// The first process of a cell does not answer, or refuses.
    #[error("the cell {cell}: {said}")]
    Cell {
        /// The cell's name.
        cell: String,
        /// What is wrong.
        said: String,
    },
    /// A service ended although it was to stay.
    #[error("{service} in the cell {cell} ended ({status}); its last words:\n{log}")]
    Ended {
        /// The cell's name.
        cell: String,
        /// The service.
        service: String,
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// Something that was waited for did not come.
    #[error("{what} did not come within {limit:?}; last: {last}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What was seen last, with the end of the logs that may tell why.
        last: String,
    },
    /// A pod has no address, or not yet.
    #[error("pod {namespace}/{pod} has no address: {status}")]
    NoAddress {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
        /// Its status.
        status: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// What a program printed is no JSON of the expected form.
    #[error("{what} is not what was expected: {source}")]
    Json {
        /// What was read.
        what: String,
        /// Why not.
        source: serde_json::Error,
    },
}

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, BedError>;

impl BedError {
    /// For `map_err` on a file.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> BedError {
        let path = path.into();
        move |source| BedError::File { action, path, source }
    }
}
