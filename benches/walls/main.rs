//! What the walls cost: to put up, and every connection that passes them. Needs root; touches nothing but network
//! namespaces and cgroups of its own.
#![forbid(unsafe_code)]

mod connects;
mod input;
mod iptables;
mod load;
mod pod;
mod worker;

use clap::Parser;
use sidewall_benches::Options;
use sidewall_benches::report::{self, Row};
use std::process::ExitCode;

/// What goes wrong here ends the benchmark; it is told as it is.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let worker = std::env::args().nth(1).is_some_and(|argument| argument == worker::ARGUMENT);
    let outcome = if worker { worker::serve() } else { run() };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let options = Options::parse();
    if !rustix::process::geteuid().is_root() {
        return Err("this benchmark makes network namespaces and loads rules: run it as root".into());
    }
    pod::sweep()?;
    let mut rows: Vec<Row> = Vec::new();
    let mut tell = |row: Row| {
        println!("{row}");
        rows.push(row);
    };
    load::run(&options, &mut tell)?;
    connects::run(&options, &mut tell)?;
    if let Some(out) = &options.out {
        report::write(&rows, out)?;
    }
    Ok(())
}
