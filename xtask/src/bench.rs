//! `cargo xtask bench NAME`: one side-by-side benchmark, in the package `sidewall-benches`; those of the agent,
//! the operator and split pods are packages of their own.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use thiserror::Error;

use crate::command::{self, CommandError};
use crate::packages::{self, PackageError};
use crate::parts::{self, Parts, PartsError};
use crate::privileges::{self, PrivilegeError};
use crate::report;
use crate::toolchain;
use crate::workspace::Workspace;

/// What follows `bench`.
#[derive(clap::Args)]
pub struct Options {
    /// Which benchmark
    name: Bench,
    /// Where the rows go as JSON [default: target/bench/NAME.json]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where plots go, as SVG [default: target/bench]
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Passed on to the benchmark itself
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

/// Every benchmark whose name is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Loading rulesets, and what they cost connections, packets and throughput, beside iptables
    Walls,
    /// A node of a large cluster: start, one pod's change, memory
    Scale,
    /// The node's agent: until a change is in force, what a pod's start takes longer, restarts, memory
    Agent,
    /// (does not exist yet)
    Proxy,
    /// The operator: reviews at a rate, restarts, memory, with a real API server and 10,000 pods
    Operator,
    /// `localhost` between containers in one namespace, and in namespaces that a bridge or macvlan joins
    Split,
}

/// Why a benchmark did not run to its end.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The name is reserved for a part that is not built.
    #[error("the benchmark `{0}` does not exist yet: what it would measure is not built")]
    NotYet(String),
    /// A package is missing.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// A part of a node or a cluster is missing.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// Rules and namespaces need root.
    #[error("the benchmark `{name}` {source}")]
    Privileges {
        /// The benchmark.
        name: String,
        /// What is lacking.
        source: PrivilegeError,
    },
    /// The folder for the results cannot be made.
    #[error("cannot make room for the results at {path}: {source}")]
    Out {
        /// The file that was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The benchmark failed.
    #[error(transparent)]
    Run(#[from] CommandError),
}

/// Runs the benchmark; its table goes to standard output.
///
/// # Errors
/// When it does not exist yet, cannot be set up, or fails.
pub fn run(workspace: &Workspace, options: &Options) -> Result<(), BenchError> {
    let name = options.name.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let needs = match options.name {
        Bench::Walls => packages::BENCH_WALLS,
        Bench::Scale => &[],
        Bench::Agent | Bench::Operator | Bench::Split => packages::NODE,
        Bench::Proxy => return Err(BenchError::NotYet(name)),
    };
    packages::ensure(needs)?;
    privileges::require_root().map_err(|source| BenchError::Privileges { name: name.clone(), source })?;
    let path = options.out.clone().unwrap_or_else(|| workspace.target.join(format!("bench/{name}.json")));
    let plots = options.plots.clone().unwrap_or_else(|| workspace.target.join("bench"));
    let out = make_room(&path, path.parent())?;
    let plots = make_room(&plots, Some(&plots))?;
    let mut bench = match options.name {
        Bench::Agent => agent(workspace)?,
        Bench::Operator => operator(workspace)?,
        Bench::Split => {
            let mut cargo = workspace.cargo();
            cargo.args(["run", "--release", "-p", "sidewall-bench-split", "--"]);
            cargo
        }
        _ => {
            let mut cargo = workspace.cargo();
            cargo.args(["bench", "-p", "sidewall-benches", "--bench", &name, "--"]);
            cargo
        }
    };
    report::step(&format!("bench {name}"));
    command::run(bench.arg("--out").arg(&out).arg("--plots").arg(&plots).args(&options.arguments))?;
    report::step(&format!("wrote {}, and plots to {}", out.display(), plots.display()));
    Ok(())
}

/// Builds the agent, its plugin and the nodes that they run on, as they are deployed; the benchmark is a program of its own, that
/// starts the others.
fn agent(workspace: &Workspace) -> Result<Command, BenchError> {
    let parts = parts::ensure(workspace, Parts::Cluster)?;
    report::step("build the agent, the plugin and the benchmark (release)");
    // Each by itself: built together they would have each other's features.
    for package in ["sidewall-agent", "sidewall-cni", "sidewall-node-tests", "sidewall-bench-agent"] {
        command::run(workspace.cargo().args(["build", "--release", "--bins", "-p", package]))?;
    }
    // As it is deployed: it runs on hosts that have another libc or none.
    let target = toolchain::static_target();
    command::run(
        workspace
            .cargo()
            .args(["build", "--release", "--bins", "-p", "sidewall-cni", "--target", &target])
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
    )?;
    let mut bench = command::program(workspace.target.join("release/sidewall-bench-agent"));
    bench.env(parts::VARIABLE, parts).arg("--plugin").arg(workspace.target.join(target).join("release/sidewall-cni"));
    Ok(bench)
}

/// Builds the operator as it is deployed; the benchmark is a program of its own, that starts it beside an API server.
fn operator(workspace: &Workspace) -> Result<Command, BenchError> {
    let parts = parts::ensure(workspace, Parts::Cluster)?;
    report::step("build the operator and the benchmark (release)");
    // Each by itself: built together they would have each other's features.
    for package in ["sidewall-operator", "sidewall-node-tests", "sidewall-bench-operator"] {
        command::run(workspace.cargo().args(["build", "--release", "--bins", "-p", package]))?;
    }
    let mut bench = command::program(workspace.target.join("release/sidewall-bench-operator"));
    bench.env(parts::VARIABLE, parts);
    Ok(bench)
}

/// Makes a folder, and the path absolute: Cargo runs a benchmark in its package's folder, where a relative one would mean
/// another file.
fn make_room(path: &Path, folder: Option<&Path>) -> Result<PathBuf, BenchError> {
    folder
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::path::absolute(path))
        .map_err(|source| BenchError::Out { path: path.to_owned(), source })
}
