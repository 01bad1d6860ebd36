//! `cargo xtask test`: sets up, runs the tiers one after another, and adds up what the runners report.

mod summary;
mod tier;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, BufReader, Write};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use thiserror::Error;

use crate::command::{self, CommandError};
use crate::packages::{self, PackageError};
use crate::parts::{self, PartsError};
use crate::privileges::{self, PrivilegeError};
use crate::report;
use crate::workspace::Workspace;

use summary::Summary;
use tier::{PlanError, Run, Tier};

/// What follows `test`.
#[derive(clap::Args)]
pub struct Options {
    /// Run this tier alone; may be given more than once [default: every tier that exists]
    #[arg(long, value_name = "TIER", value_delimiter = ',')]
    only: Vec<Tier>,
    /// Let random, soak and fuzz tests run long (sets SIDEWALL_LONG=1 for them)
    #[arg(long)]
    long: bool,
}

/// Why a tier did not pass.
#[derive(Debug, Error)]
enum TierError {
    #[error("{0}")]
    Plan(#[from] PlanError),
    #[error("{0}")]
    Packages(#[from] PackageError),
    #[error("{0}")]
    Parts(#[from] PartsError),
    #[error("{0}")]
    Privileges(#[from] PrivilegeError),
    #[error("failed: {0}")]
    Command(#[from] CommandError),
    #[error("ran no test at all")]
    Nothing,
}

/// The summary could not be printed.
#[derive(Debug, Error)]
#[error("cannot write to standard output: {0}")]
pub struct NoOutput(#[from] io::Error);

/// Runs the tiers, all of them also after one has failed. The last line on standard output is `N passed, N failed`;
/// a tier that could not run, and a runner that failed without reporting a failed test, count as one failed each.
///
/// # Errors
/// When standard output is gone. That tests failed is no error but an exit code.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode, NoOutput> {
    let tiers: BTreeSet<Tier> =
        if options.only.is_empty() { Tier::EXISTING.into() } else { options.only.iter().copied().collect() };
    let mut total = Summary::default();
    let mut lines = Vec::new();
    let mut bad = false;
    for tier in tiers {
        report::step(&format!("test tier {}", tier.name()));
        let start = Instant::now();
        let mut sum = Summary::default();
        let result = run_tier(workspace, tier, options.long, &mut sum);
        let seconds = start.elapsed().as_secs_f64();
        let line = match result {
            Ok(()) => format!("test tier {}: {sum} ({seconds:.1} s)", tier.name()),
            Err(error) => {
                bad = true;
                report::error(&format!("test tier {} {error}", tier.name()));
                sum.failed = sum.failed.max(1);
                format!("test tier {}: {sum}: NOT OK ({seconds:.1} s)", tier.name())
            }
        };
        lines.push(line);
        total += sum;
    }
    lines.iter().for_each(|line| report::step(line));
    writeln!(io::stdout(), "{total}")?;
    Ok(if bad || total.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs one tier to its end, also after a runner has failed.
fn run_tier(workspace: &Workspace, tier: Tier, long: bool, sum: &mut Summary) -> Result<(), TierError> {
    let runs = tier.plan(workspace)?;
    if tier.needs_root() {
        privileges::require_root()?;
    }
    packages::ensure(tier.needs())?;
    let parts = parts::ensure(workspace, tier.parts())?;
    let mut result = Ok(());
    for run in runs {
        match run {
            // Without the programs that they start, the tests of the tier mean nothing.
            Run::Build(arguments) => command::run(workspace.cargo().args(arguments))?,
            Run::Test(arguments) => {
                let (counted, outcome) = run_tests(workspace, &arguments, long, &parts)?;
                *sum += counted;
                if outcome.is_err() {
                    result = outcome;
                }
            }
        }
    }
    result?;
    if sum.passed == 0 { Err(TierError::Nothing) } else { Ok(()) }
}

/// Calls `cargo test`, passing its output through. The sum counts also when the runner fails.
fn run_tests(
    workspace: &Workspace,
    arguments: &[String],
    long: bool,
    parts: &OsStr,
) -> Result<(Summary, Result<(), CommandError>), CommandError> {
    let mut cargo = workspace.cargo();
    cargo.args(arguments).env(parts::VARIABLE, parts).stdout(Stdio::piped());
    if long {
        cargo.env("SIDEWALL_LONG", "1");
    }
    let line = command::line(&cargo);
    report::step(&line);
    let mut child = cargo.spawn().map_err(|source| CommandError::NotStarted { line: line.clone(), source })?;
    let copied = match child.stdout.take() {
        Some(out) => summary::pass_through(BufReader::new(out), io::stdout()),
        None => Ok(Summary::default()),
    };
    // The pipe's end is dropped by now, so a runner that still writes ends too, and is waited for in every case.
    let status = child.wait().map_err(|source| CommandError::Output { line: line.clone(), source })?;
    let sum = copied.map_err(|source| CommandError::Output { line: line.clone(), source })?;
    Ok((sum, if status.success() { Ok(()) } else { Err(CommandError::Failed { line, status }) }))
}
