//! The commands, one file each.

mod check;
mod completions;
mod demo;
mod explain;
mod flows;
mod install;
mod internal;
mod matrix;
mod run;
mod status;
mod test;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};
use crate::error::Error;
use crate::program_name;
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
    let cli = parse();
    // The Kubernetes client logs the failures that it returns, which are told as errors then.
    let filter = EnvFilter::try_from_env("SIDEWALL_LOG").unwrap_or_else(|_| EnvFilter::new("warn,kube_client=off"));
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

/// Reads the command line, as itself or as a plugin of kubectl.
fn parse() -> Cli {
    if !std::env::args_os().next().is_some_and(|program| program_name::is_plugin(&program)) {
        return Cli::parse();
    }
    let mut command = program_name::plugin(Cli::command());
    let matches = command.get_matches_mut();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

fn dispatch(command: &Command, screen: &Screen) -> Result<Answer, Error> {
    match command {
        Command::Run(options) => run::run(options, screen),
        Command::Check(options) => check::run(options, screen),
        Command::Matrix(options) => matrix::run(options, screen),
        Command::Explain(options) => explain::run(options, screen),
        Command::Status(options) => status::run(options, screen),
        Command::Flows(options) => flows::run(options, screen),
        Command::Test(options) => test::run(options, screen),
        Command::Demo(options) => demo::run(options, screen),
        Command::Install(options) => install::run(options, screen),
        Command::Completions { shell } => Ok(completions::run(*shell)),
        Command::Internal { program } => internal::run(program),
    }
}
