//! `cargo xtask demo`: builds the programs and becomes `sidewall demo`.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;

use thiserror::Error;

use crate::command::{self, CommandError};
use crate::packages::{self, PackageError};
use crate::report;
use crate::workspace::Workspace;

/// What follows `demo`.
#[derive(clap::Args)]
pub struct Options {
    /// Passed on to `sidewall demo`, for example `-- --keep`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

/// Why the demo did not start.
#[derive(Debug, Error)]
pub enum DemoError {
    /// A package is missing.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// The programs do not build.
    #[error(transparent)]
    Build(#[from] CommandError),
    /// What was built could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program's path.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Builds, then replaces this process by the demo, so that its exit code and its signals are its own.
///
/// # Errors
/// When something before the demo fails; never returns otherwise.
pub fn run(workspace: &Workspace, options: &Options) -> Result<(), DemoError> {
    packages::ensure(packages::DEMO)?;
    report::step("build sidewall and sidewall-proxy (release)");
    command::run(workspace.cargo().args(["build", "--release", "-p", "sidewall-cli", "-p", "sidewall-proxy"]))?;
    let program = workspace.target.join("release/sidewall");
    report::step("sidewall demo");
    let source = command::program(&program).arg("demo").args(&options.arguments).stdin(Stdio::inherit()).exec();
    Err(DemoError::Start { program, source })
}
