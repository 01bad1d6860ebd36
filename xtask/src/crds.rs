//! `deploy/crds/*.yaml`: one file for each custom resource, written from the types of `sidewall-api`.
//!
//! An example of that crate prints them, so that this program compiles no Kubernetes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::command::{self, CommandError};
use crate::report;
use crate::workspace::Workspace;

#[cfg(test)]
mod tests;

const FOLDER: &str = "deploy/crds";

/// Why the files could not be generated, or are not current.
#[derive(Debug, Error)]
pub enum CrdError {
    /// The generator does not build or failed.
    #[error(transparent)]
    Generator(#[from] CommandError),
    /// The generator printed something that is no list of CustomResourceDefinitions.
    #[error("the crds example of sidewall-api printed {0}")]
    Printed(&'static str),
    /// A file could not be read, written or removed.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is there differs from what the types say.
    #[error("{FOLDER} is not current ({0}): run `cargo xtask crds` and commit the result")]
    Stale(String),
}

/// The content of each generated file by its name.
type Files = BTreeMap<String, String>;

/// Writes the files, and removes those of resources that are no more.
///
/// # Errors
/// When the generator fails or a file cannot be written.
pub fn write(workspace: &Workspace) -> Result<(), CrdError> {
    let folder = workspace.root.join(FOLDER);
    let wanted = generate(workspace)?;
    std::fs::create_dir_all(&folder).map_err(at(&folder))?;
    let present = read(&folder)?;
    for (name, content) in wanted.iter().filter(|(name, content)| present.get(*name) != Some(content)) {
        let path = folder.join(name);
        std::fs::write(&path, content).map_err(at(&path))?;
        report::step(&format!("wrote {FOLDER}/{name}"));
    }
    for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
        let path = folder.join(name);
        std::fs::remove_file(&path).map_err(at(&path))?;
        report::step(&format!("removed {FOLDER}/{name}"));
    }
    report::step(&format!("{FOLDER} is current: {} files", wanted.len()));
    Ok(())
}

/// Checks that the files are what [`write()`] would leave.
///
/// # Errors
/// [`CrdError::Stale`] naming the files, or why that could not be found out.
pub fn check(workspace: &Workspace) -> Result<(), CrdError> {
    let difference = difference(&generate(workspace)?, &read(&workspace.root.join(FOLDER))?);
    if difference.is_empty() { Ok(()) } else { Err(CrdError::Stale(difference.join(", "))) }
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

/// The YAML files of a folder; a folder that is not there has none.
fn read(folder: &Path) -> Result<Files, CrdError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Files::new()),
        Err(error) => return Err(at(folder)(error)),
    };
    let mut files = Files::new();
    for entry in entries {
        let path = entry.map_err(at(folder))?.path();
        if let (Some(name), Some("yaml")) =
            (path.file_name().and_then(|name| name.to_str()), path.extension().and_then(|end| end.to_str()))
        {
            files.insert(name.to_owned(), std::fs::read_to_string(&path).map_err(at(&path))?);
        }
    }
    Ok(files)
}

/// What would have to change in `present`, in words.
fn difference(wanted: &Files, present: &Files) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for (name, content) in wanted {
        match present.get(name) {
            None => words.push(format!("{name} is missing")),
            Some(other) if other != content => words.push(format!("{name} differs")),
            Some(_) => {}
        }
    }
    words.extend(present.keys().filter(|name| !wanted.contains_key(*name)).map(|name| format!("{name} is surplus")));
    words
}

fn at(path: &Path) -> impl Fn(io::Error) -> CrdError + '_ {
    move |source| CrdError::File { path: path.to_owned(), source }
}
