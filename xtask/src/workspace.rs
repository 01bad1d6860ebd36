//! What cargo says of this workspace: where it is, where it builds, which test targets each package has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use thiserror::Error;

use crate::command::{self, CommandError};

/// The workspace as `cargo metadata` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Where cargo builds; `CARGO_TARGET_DIR` is already taken into account.
    pub target: PathBuf,
    /// The names of the integration test targets of each member that has any.
    pub tests: BTreeMap<String, BTreeSet<String>>,
}

/// Why the workspace could not be read.
#[derive(Debug, Error)]
pub enum WorkspaceError {
    /// `cargo metadata` failed.
    #[error(transparent)]
    Cargo(#[from] CommandError),
    /// The answer was no JSON.
    #[error("`cargo metadata` answered with something else than JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The answer had another shape than its format version 1 has.
    #[error("`cargo metadata` gave no `{0}`: this cargo speaks another format than version 1")]
    Missing(&'static str),
}

impl Workspace {
    /// Asks cargo about the workspace that this program belongs to, whatever the current folder is.
    ///
    /// # Errors
    /// When cargo fails (a broken manifest) or answers in a format that is not understood.
    pub fn find() -> Result<Self, WorkspaceError> {
        // At run time the variable names the clone that cargo was called in, which may have moved since the build.
        let here = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let answer = command::output(cargo_in(&here).args(["metadata", "--no-deps", "--format-version", "1"]))?;
        Self::from_metadata(&answer)
    }

    /// Reads the answer of `cargo metadata --no-deps --format-version 1`.
    fn from_metadata(answer: &[u8]) -> Result<Self, WorkspaceError> {
        let answer: Value = serde_json::from_slice(answer)?;
        let text = |value: &Value, name: &'static str| {
            value[name].as_str().map(str::to_owned).ok_or(WorkspaceError::Missing(name))
        };
        let list =
            |value: &Value, name: &'static str| value[name].as_array().cloned().ok_or(WorkspaceError::Missing(name));
        let mut tests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for package in list(&answer, "packages")? {
            for target in list(&package, "targets")? {
                if list(&target, "kind")?.iter().any(|kind| kind == "test") {
                    tests.entry(text(&package, "name")?).or_default().insert(text(&target, "name")?);
                }
            }
        }
        Ok(Self {
            root: text(&answer, "workspace_root")?.into(),
            target: text(&answer, "target_directory")?.into(),
            tests,
        })
    }

    /// Cargo, to be run at the workspace's root.
    pub fn cargo(&self) -> Command {
        cargo_in(&self.root)
    }
}

/// The cargo that runs us, or the one on the path.
fn cargo_in(folder: &Path) -> Command {
    let mut cargo = command::program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder);
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_targets_are_found_by_package() {
        let answer = br#"{"workspace_root": "/w", "target_directory": "/t", "packages": [
            {"name": "a", "targets": [{"name": "a", "kind": ["lib"]}, {"name": "wall", "kind": ["test"]}]},
            {"name": "b", "targets": [{"name": "b", "kind": ["bin"]}]}]}"#;
        let workspace = Workspace::from_metadata(answer).unwrap();
        assert_eq!(workspace.root, Path::new("/w"));
        assert_eq!(workspace.target, Path::new("/t"));
        assert_eq!(workspace.tests, BTreeMap::from([("a".into(), BTreeSet::from(["wall".into()]))]));
    }

    #[test]
    fn another_format_is_an_error_that_names_the_field() {
        let error = Workspace::from_metadata(br#"{"packages": [{"name": "a"}]}"#).unwrap_err();
        assert!(error.to_string().contains("`targets`"), "{error}");
        assert!(matches!(Workspace::from_metadata(b"no"), Err(WorkspaceError::Json(_))));
    }

    #[test]
    fn this_workspace_is_found() {
        let workspace = Workspace::find().unwrap();
        assert!(workspace.root.join("xtask/Cargo.toml").is_file(), "{workspace:?}");
    }
}
