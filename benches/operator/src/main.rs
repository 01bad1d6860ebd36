//! What the operator costs: what a review takes, how long it needs to come to rest, and what it holds of a large cluster.
//!
//! Beside a real etcd and API server with the deployed rights and webhooks. There are no nodes: pods are objects, and what the
//! nodes' agents would report is written once. Needs root, and leaves nothing: the control plane is a cell of its own, which ends
//! with the process.
#![forbid(unsafe_code)]

mod answers;
mod args;
mod bench;
mod floor;
mod life;
mod load;
mod objects;
mod reviews;
mod unrest;
mod world;

use args::{Arguments, Program};
use bench::Bench;
use clap::Parser;
use std::process::ExitCode;

/// What goes wrong here ends the benchmark; it is told as it is.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.program {
        Some(Program::Floor(options)) => floor::serve(options),
        None => tokio::runtime::Runtime::new()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(Bench::run(&arguments))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
