//! The commands, one file each.

mod check;
mod completions;
mod demo;
mod explain;
mod flows;
mod internal;
mod matrix;
mod run;
mod test;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};
use crate::error::Error;
use crate::screen::Screen;

/// What a command's answer is to a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Exit code 0.
    Yes,
    /// Exit code 1.
    No,
    /// Exit code 2, for `check`, whose answer is about input.
    BadInput,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    // Bad usage ends here, with clap's own exit code 2.
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("SIDEWALL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    let screen = Screen::new(cli.output);
    match dispatch(&cli.command, &screen) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Ok(Answer::BadInput) => ExitCode::from(2),
        Err(error) => {
            screen.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch(command: &Command, screen: &Screen) -> Result<Answer, Error> {
    match command {
        Command::Run(options) => run::run(options, screen),
        Command::Check(options) => check::run(options, screen),
        Command::Matrix(options) => matrix::run(options, screen),
        Command::Explain(options) => explain::run(options, screen),
        Command::Flows(options) => flows::run(options, screen),
        Command::Test(options) => test::run(options, screen),
        Command::Demo(options) => demo::run(options, screen),
        Command::Completions { shell } => Ok(completions::run(*shell)),
        Command::Internal { program } => internal::run(program),
    }
}
