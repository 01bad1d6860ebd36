//! The `sidewall` command.
#![forbid(unsafe_code)]

mod args;
mod cluster;
mod commands;
mod ends;
mod error;
mod flow_line;
mod flow_log;
mod identity;
mod inputs;
mod live_pod;
mod parting;
mod probing;
mod program_name;
mod programs;
mod scene;
mod screen;
mod signals;
mod split_pod;
mod table;
mod walled_pod;
mod walls;
mod watch;
mod what_if;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
