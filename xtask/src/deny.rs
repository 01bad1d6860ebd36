//! cargo-deny: built once by version into the cache, then asked about the dependency tree.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use thiserror::Error;

use crate::cache::{self, NoCache};
use crate::command::{self, CommandError};
use crate::report;
use crate::workspace::Workspace;

#[cfg(test)]
mod tests;

/// The version that `deny.toml` is written for. A new one changes this line and, where needed, that file.
const VERSION: &str = "0.20.2";

/// Why the dependencies were not found to be good.
#[derive(Debug, Error)]
pub enum DenyError {
    /// There is no place to keep cargo-deny.
    #[error(transparent)]
    Cache(#[from] NoCache),
    /// cargo-deny could not be built or did not start, or it found something.
    #[error(transparent)]
    Run(#[from] CommandError),
    /// The advisory database could not be fetched, and not because the network is closed.
    #[error("cannot fetch the advisory database:\n{0}")]
    Fetch(String),
}

/// Checks bans, licences and sources, and the advisories wherever their database can be fetched.
///
/// # Errors
/// When a check fails or cannot be made. A closed network alone leaves the advisories unchecked, and says so loudly.
pub fn check(workspace: &Workspace) -> Result<(), DenyError> {
    let program = ensure(workspace)?;
    let deny = || {
        let mut deny = command::program(&program);
        deny.current_dir(&workspace.root);
        deny
    };
    command::run(deny().args(["check", "bans", "licenses", "sources"]))?;
    match fetch(&mut deny())? {
        Fetched::Yes => Ok(command::run(deny().args(["check", "advisories"]))?),
        Fetched::NoNetwork => {
            report::warning("advisories were NOT checked: their database cannot be reached from this network");
            Ok(())
        }
    }
}

/// The path of cargo-deny, after building it where the cache has none.
fn ensure(workspace: &Workspace) -> Result<PathBuf, DenyError> {
    let root = cache::tool(&format!("cargo-deny-{VERSION}"))?;
    let program = root.join("bin/cargo-deny");
    if !program.is_file() {
        report::step(&format!("build cargo-deny {VERSION} into {} (once)", root.display()));
        command::run(
            workspace
                .cargo()
                .args(["install", "cargo-deny", "--locked", "--version", VERSION, "--root"])
                .arg(&root)
                // Its build belongs in a temporary folder, not among ours.
                .env_remove("CARGO_TARGET_DIR"),
        )?;
    }
    Ok(program)
}

/// What became of fetching the advisory database.
#[derive(Debug, PartialEq, Eq)]
enum Fetched {
    Yes,
    NoNetwork,
}

fn fetch(deny: &mut Command) -> Result<Fetched, DenyError> {
    deny.args(["fetch", "db"])
        // The words that tell a closed network must not be translated, nobody is there to be asked for a password, and
        // a connection that carries nothing must end.
        .envs([("LC_ALL", "C"), ("GIT_TERMINAL_PROMPT", "0")])
        .envs([("GIT_HTTP_LOW_SPEED_LIMIT", "1000"), ("GIT_HTTP_LOW_SPEED_TIME", "30")]);
    let output = deny
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .map_err(|source| CommandError::NotStarted { line: command::line(deny), source })?;
    judge(&output)
}

fn judge(output: &Output) -> Result<Fetched, DenyError> {
    if output.status.success() {
        return Ok(Fetched::Yes);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if is_closed_network(&said) { Ok(Fetched::NoNetwork) } else { Err(DenyError::Fetch(said.trim().to_owned())) }
}

/// Whether an error of git (or of the git that cargo-deny carries) says that the server cannot be reached at all. A
/// server that answers, even with a refusal of its own, and a bad certificate are no closed network.
fn is_closed_network(error: &str) -> bool {
    const SIGNS: [&str; 11] = [
        "could not resolve host",
        "could not resolve proxy",
        "couldn't resolve host",
        "failed to lookup address",
        "dns error",
        "failed to connect",
        "couldn't connect to server",
        "connection refused",
        "network is unreachable",
        "no route to host",
        "timed out",
    ];
    let error = error.to_lowercase();
    SIGNS.iter().any(|sign| error.contains(sign))
}
