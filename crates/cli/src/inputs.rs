//! From files to objects.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

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
    let fault = |source| Error::Read { path: file.to_owned(), source };
    if file.as_os_str() == "-" {
        return standard_input().map_err(fault);
    }
    fs::File::open(file).and_then(upto_limit).map_err(fault)
}

/// Standard input can be read once, and is asked for again when other files change: what it said must still hold then.
fn standard_input() -> io::Result<Vec<u8>> {
    static CONTENT: Mutex<Option<Vec<u8>>> = Mutex::new(None);
    let mut content = CONTENT.lock().unwrap_or_else(PoisonError::into_inner);
    match &*content {
        Some(bytes) => Ok(bytes.clone()),
        None => Ok(content.insert(upto_limit(io::stdin().lock())?).clone()),
    }
}

fn upto_limit(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
}

/// What findings call a file.
pub fn name(file: &Path) -> String {
    if file.as_os_str() == "-" { "(stdin)".to_owned() } else { file.display().to_string() }
}

/// Nothing but what has no errors; warnings are left in.
///
/// # Errors
/// [`Error::Input`] with every finding.
pub fn sound(loaded: Loaded) -> Result<Loaded, Error> {
    if loaded.has_errors() { Err(Error::Input(loaded.diagnostics)) } else { Ok(loaded) }
}
