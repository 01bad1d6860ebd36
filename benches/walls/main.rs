//! What the walls cost: to put up, and every flow that passes them. Needs root; touches nothing but network namespaces
//! and cgroups of its own.
#![forbid(unsafe_code)]

mod curve;
mod flows;
mod input;
mod iptables;
mod load;
mod memory;
mod multi;
mod pod;
mod rounds;
mod scene;
mod walls;
mod worker;

use clap::Parser;
use curve::Axis;
use rounds::Together;
use sidewall_benches::Options;
use sidewall_benches::report::{self, Row};
use std::process::ExitCode;

/// What goes wrong here ends the benchmark; it is told as it is.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = match (arguments.next().as_deref(), arguments.next()) {
        (Some(worker::ARGUMENT), _) => worker::serve(),
        (Some(memory::ARGUMENT), Some(walls)) => memory::serve(&walls),
        _ => run(),
    };
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
    let mut together = Together::default();
    let outcome = measure(&options, &mut together, &mut |row: Row| {
        println!("{row}");
        rows.push(row);
    });
    together.tell();
    // What was measured before something went wrong is worth keeping.
    if let Some(out) = &options.out {
        report::write(&rows, out)?;
    }
    outcome
}

fn measure(options: &Options, together: &mut Together, tell: &mut dyn FnMut(Row)) -> Result<()> {
    load::run(options, tell)?;
    memory::run(options, tell)?;
    flows::run(options, together, tell)?;
    for axis in [Axis::Policies, Axis::Peers] {
        let Some(figure) = curve::run(axis, options, together, tell)? else { continue };
        if let Some(folder) = &options.plots {
            let svg = figure.svg().ok_or("a cost that is not above zero can't be drawn")?;
            std::fs::write(folder.join(axis.file()), svg)?;
        }
    }
    Ok(())
}
