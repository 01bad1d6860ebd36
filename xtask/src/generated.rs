//! Folders of generated files: written, or checked to be what would be written.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::report;
use crate::workspace::Workspace;

#[cfg(test)]
mod tests;

/// The content of each generated file by its name.
pub type Files = BTreeMap<String, String>;

/// Why a folder could not be written, or is not current.
#[derive(Debug, Error)]
pub enum GeneratedError {
    /// A file could not be read, written or removed.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is there differs from what would be written.
    #[error("{folder} is not current ({difference}): run `{chore}` and commit the result")]
    Stale {
        /// The folder.
        folder: &'static str,
        /// What would have to change, in words.
        difference: String,
        /// What writes it.
        chore: &'static str,
    },
}

/// Writes the files, and removes YAML files that are no longer generated. `folder` is below the workspace's root.
///
/// # Errors
/// When a file cannot be written.
pub fn write(workspace: &Workspace, folder: &'static str, wanted: &Files) -> Result<(), GeneratedError> {
    let path = workspace.root.join(folder);
    std::fs::create_dir_all(&path).map_err(at(&path))?;
    let present = read(&path)?;
    for (name, content) in wanted.iter().filter(|(name, content)| present.get(*name) != Some(content)) {
        let path = path.join(name);
        std::fs::write(&path, content).map_err(at(&path))?;
        report::step(&format!("wrote {folder}/{name}"));
    }
    for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
        let path = path.join(name);
        std::fs::remove_file(&path).map_err(at(&path))?;
        report::step(&format!("removed {folder}/{name}"));
    }
    report::step(&format!("{folder} is current: {} files", wanted.len()));
    Ok(())
}

/// Checks that the files are what [`write()`] would leave.
///
/// # Errors
/// [`GeneratedError::Stale`] naming the files, or why that could not be found out.
pub fn check(
    workspace: &Workspace,
    folder: &'static str,
    wanted: &Files,
    chore: &'static str,
) -> Result<(), GeneratedError> {
    let difference = difference(wanted, &read(&workspace.root.join(folder))?).join(", ");
    if difference.is_empty() { Ok(()) } else { Err(GeneratedError::Stale { folder, difference, chore }) }
}

/// The YAML files of a folder; a folder that is not there has none.
fn read(folder: &Path) -> Result<Files, GeneratedError> {
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

fn at(path: &Path) -> impl Fn(io::Error) -> GeneratedError + '_ {
    move |source| GeneratedError::File { path: path.to_owned(), source }
}
