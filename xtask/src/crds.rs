//! `deploy/crds/*.yaml`: one file for each custom resource, written from the types of `sidewall-api`; the chart has copies,
//! because Helm reads nothing outside a chart's own folder.
//!
//! An example of that crate prints them, so that this program compiles no Kubernetes.

use thiserror::Error;

use crate::command::{self, CommandError};
use crate::generated::{self, Files, GeneratedError};
use crate::workspace::Workspace;

#[cfg(test)]
mod tests;

const FOLDERS: [&str; 2] = ["deploy/crds", "deploy/charts/sidewall/files/crds"];
const CHORE: &str = "cargo xtask crds";

/// Why the files could not be generated, or are not current.
#[derive(Debug, Error)]
pub enum CrdError {
    /// The generator does not build or failed.
    #[error(transparent)]
    Generator(#[from] CommandError),
    /// The generator printed something that is no list of CustomResourceDefinitions.
    #[error("the crds example of sidewall-api printed {0}")]
    Printed(&'static str),
    /// The files.
    #[error(transparent)]
    Files(#[from] GeneratedError),
}

/// Writes the files, and removes those of resources that are no more.
///
/// # Errors
/// When the generator fails or a file cannot be written.
pub fn write(workspace: &Workspace) -> Result<(), CrdError> {
    let wanted = generate(workspace)?;
    Ok(FOLDERS.iter().try_for_each(|folder| generated::write(workspace, folder, &wanted))?)
}

/// Checks that the files are what [`write()`] would leave.
///
/// # Errors
/// [`GeneratedError::Stale`] naming the files, or why that could not be found out.
pub fn check(workspace: &Workspace) -> Result<(), CrdError> {
    let wanted = generate(workspace)?;
    Ok(FOLDERS.iter().try_for_each(|folder| generated::check(workspace, folder, &wanted, CHORE))?)
}

fn generate(workspace: &Workspace) -> Result<Files, CrdError> {
    // Built with the whole workspace selected, so that its dependencies have the features that the tests build with.
    command::run(workspace.cargo().args(["build", "--quiet", "--workspace", "--example", "crds"]))?;
    let printed = command::output(&mut command::program(workspace.target.join("debug/examples/crds")))?;
    split(&String::from_utf8(printed).map_err(|_| CrdError::Printed("text that is not UTF-8"))?)
}

/// Parts a stream of YAML documents into files, each named for its resource.
fn split(stream: &str) -> Result<Files, CrdError> {
    let mut files = Files::new();
    let mut document = String::new();
    for line in stream.lines().chain(["---"]) {
        if line != "---" {
            document.push_str(line);
            document.push('\n');
            continue;
        }
        if !document.trim().is_empty() {
            let name = file_name(&document).ok_or(CrdError::Printed("a document without metadata.name"))?;
            if files.insert(name, std::mem::take(&mut document)).is_some() {
                return Err(CrdError::Printed("two documents of the same name"));
            }
        }
    }
    if files.is_empty() { Err(CrdError::Printed("no document")) } else { Ok(files) }
}

/// The file for a document in block style, as serde writes it: `GROUP_PLURAL.yaml` for a `metadata.name` of
/// `PLURAL.GROUP`. A name that could leave the folder is none.
fn file_name(document: &str) -> Option<String> {
    let metadata = document.lines().skip_while(|line| *line != "metadata:").skip(1);
    let (plural, group) = metadata
        .take_while(|line| line.starts_with(' '))
        .find_map(|line| line.strip_prefix("  name: "))?
        .split_once('.')?;
    let plain = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-')
    };
    (plain(plural) && plain(group)).then(|| format!("{group}_{plural}.yaml"))
}
