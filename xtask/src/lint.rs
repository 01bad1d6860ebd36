//! `cargo xtask lint`: everything that is checked without running the code. All checks run, also after a failure, so
//! that one run shows all there is to do.

use std::time::Instant;

use thiserror::Error;

use crate::command::{self, CommandError};
use crate::crds::{self, CrdError};
use crate::deny::{self, DenyError};
use crate::manifests::{self, ManifestError};
use crate::packages::{self, PackageError};
use crate::report;
use crate::toolchain::{self, NoComponent};
use crate::workspace::Workspace;

/// Why the sources are not in order.
#[derive(Debug, Error)]
pub enum LintError {
    /// A package is missing.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// A part of the toolchain is missing.
    #[error(transparent)]
    Toolchain(#[from] NoComponent),
    /// At least one check failed; what they printed stands above.
    #[error("lint failed: {0}")]
    Failed(String),
}

/// Why one check failed.
#[derive(Debug, Error)]
enum CheckError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Deny(#[from] DenyError),
    #[error(transparent)]
    Crds(#[from] CrdError),
    #[error(transparent)]
    Manifests(#[from] ManifestError),
}

type Check = fn(&Workspace) -> Result<(), CheckError>;

/// The checks in the order of what they cost.
const CHECKS: [(&str, Check); 6] = [
    ("fmt", |workspace| Ok(command::run(workspace.cargo().args(["fmt", "--all", "--check"]))?)),
    ("deny", |workspace| Ok(deny::check(workspace)?)),
    ("clippy", |workspace| {
        let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        Ok(command::run(workspace.cargo().args(clippy))?)
    }),
    ("rustdoc", |workspace| {
        let doc = ["doc", "--workspace", "--no-deps"];
        Ok(command::run(workspace.cargo().args(doc).env("RUSTDOCFLAGS", "-D warnings"))?)
    }),
    ("generated CRDs", |workspace| Ok(crds::check(workspace)?)),
    ("generated manifests", |workspace| Ok(manifests::check(workspace)?)),
];

/// Runs every check.
///
/// # Errors
/// When one failed, naming all that did, or when the set-up failed.
pub fn run(workspace: &Workspace) -> Result<(), LintError> {
    packages::ensure(packages::LINT)?;
    toolchain::ensure(workspace)?;
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        report::step(&format!("lint: {name}"));
        let start = Instant::now();
        let result = check(workspace);
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => report::step(&format!("lint: {name}: ok ({seconds:.1} s)")),
            Err(error) => {
                report::error(&error.to_string());
                report::step(&format!("lint: {name}: FAILED ({seconds:.1} s)"));
                failed.push(name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(LintError::Failed(failed.join(", "))) }
}
