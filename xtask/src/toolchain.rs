//! Parts of the Rust toolchain that a minimal installation leaves out.

use std::process::Stdio;

use thiserror::Error;

use crate::command;
use crate::report;
use crate::workspace::Workspace;

/// The target of programs that are linked statically: with the system's own C library, which needs no other toolchain. It is
/// named even though it is this machine's, so that flags are for the programs and not for what builds them.
pub fn static_target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// A component is missing and could not be added.
#[derive(Debug, Error)]
#[error("`cargo {subcommand}` is missing and rustup could not add it: install the toolchain's component `{component}`")]
pub struct NoComponent {
    subcommand: &'static str,
    component: &'static str,
}

/// Adds rustfmt and clippy where they are missing.
///
/// # Errors
/// When one is missing and rustup cannot add it.
pub fn ensure(workspace: &Workspace) -> Result<(), NoComponent> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let works = || {
            workspace
                .cargo()
                .args([subcommand, "--version"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        if works() {
            continue;
        }
        report::step(&format!("add the toolchain's component {component}"));
        let added = command::run(command::program("rustup").args(["component", "add", component]));
        if added.is_err() || !works() {
            return Err(NoComponent { subcommand, component });
        }
    }
    Ok(())
}
