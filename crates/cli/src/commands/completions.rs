//! `sidewall completions`: completion scripts for shells.

use clap::CommandFactory;

use super::Answer;
use crate::args::Cli;

/// Writes the script.
pub fn run(shell: clap_complete::Shell) -> Answer {
    clap_complete::generate(shell, &mut Cli::command(), "sidewall", &mut std::io::stdout());
    Answer::Yes
}
