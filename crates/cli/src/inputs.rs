//! From files to objects.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sidewall_api::load::FILE_MAX;
use sidewall_api::{Loaded, Loader};

use crate::error::Error;

/// Reads files, `-` for standard input, and gives what is in them, faults and all.
///
/// # Errors
/// [`Error::Read`] for the first file that can't be read.
pub fn read<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Result<Loaded, Error> {
    let mut loader = Loader::new();
    let mut seen: Vec<&PathBuf> = Vec::new();
    for file in files {
        // The same file as the pod and as its policy is one file.
        if seen.contains(&file) {
            continue;
        }
        seen.push(file);
        loader.add(&name(file), &bytes(file)?);
    }
    Ok(loader.finish())
}

/// A file's content, one octet more than is read at most.
///
/// # Errors
/// [`Error::Read`].
pub fn bytes(file: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let limit = FILE_MAX as u64 + 1;
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        fs::File::open(file).and_then(|opened| opened.take(limit).read_to_end(&mut bytes))
    };
    read.map(|_| bytes).map_err(|source| Error::Read { path: file.to_owned(), source })
}

fn name(file: &Path) -> String {
    if file.as_os_str() == "-" { "(stdin)".to_owned() } else { file.display().to_string() }
}

/// Nothing but what has no errors; warnings are left in.
///
/// # Errors
/// [`Error::Input`] with every finding.
pub fn sound(loaded: Loaded) -> Result<Loaded, Error> {
    if loaded.has_errors() { Err(Error::Input(loaded.diagnostics)) } else { Ok(loaded) }
}
