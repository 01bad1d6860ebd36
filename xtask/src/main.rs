//! The project's own chores, one command each: `cargo xtask --help`.
//!
//! Every command sets up what it needs by itself, so that a fresh Debian machine with Rust and root is enough.
#![forbid(unsafe_code)]

mod bench;
mod cache;
mod command;
mod crds;
mod demo;
mod deny;
mod generated;
mod image;
mod lint;
mod manifests;
mod packages;
mod parts;
mod privileges;
mod report;
mod sbom;
mod test;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// The project's chores: each command sets up what is missing, then does its work.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build the programs and run `sidewall demo` (needs root)
    Demo(demo::Options),
    /// Run the tests, all tiers or chosen ones
    Test(test::Options),
    /// Check formatting, clippy, dependencies, rustdoc, and that generated files are current
    Lint,
    /// Write deploy/crds/*.yaml, and the chart's copies, from the types of sidewall-api
    Crds,
    /// Write deploy/manifests/*.yaml from the chart
    Manifests,
    /// Set up containerd, etcd, Kubernetes and Helm for tests that are run by hand; prints a line for the shell
    Parts,
    /// Build container images as OCI archives, each with its bill of materials; prints name, digest and file of each
    Image(image::Options),
    /// Run a side-by-side benchmark: prints a table, writes target/bench/NAME.json
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.chore) {
        Ok(code) => code,
        Err(error) => {
            report::error(&format!("{error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    match chore {
        Chore::Demo(options) => demo::run(&workspace, &options)?,
        Chore::Test(options) => return Ok(test::run(&workspace, &options)?),
        Chore::Lint => lint::run(&workspace)?,
        Chore::Crds => crds::write(&workspace)?,
        Chore::Manifests => manifests::write(&workspace)?,
        Chore::Parts => parts::print(&workspace)?,
        Chore::Image(options) => image::run(&workspace, &options)?,
        Chore::Bench(options) => bench::run(&workspace, &options)?,
    }
    Ok(ExitCode::SUCCESS)
}
