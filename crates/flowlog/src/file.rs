//! A file of records that does not grow without end.

use crate::error::FileError;
use sidewall_flow::Record;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file of records, one JSON object a line, for its owner alone. When it would grow beyond its limit it is renamed to
/// `NAME.1`, in the place of an older one, and begun anew: on disk there is at most twice the limit.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    limit: u64,
    open: Option<(File, u64)>,
}

impl RotatingFile {
    /// Opens a file, at its end where there is one.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(path: &Path, limit: u64) -> Result<Self, FileError> {
        let mut file = Self { path: path.to_owned(), limit, open: None };
        file.opened()?;
        Ok(file)
    }

    /// Writes a record. One that is larger than the limit has a file of its own.
    ///
    /// # Errors
    /// [`FileError`]; the file is opened anew for the next record.
    pub fn write(&mut self, record: &Record) -> Result<(), FileError> {
        let mut line = record.to_line();
        line.push('\n');
        let length = line.len() as u64;
        let limit = self.limit;
        let (_, size) = self.opened()?;
        if *size > 0 && *size + length > limit {
            self.turn()?;
        }
        let (file, size) = self.opened()?;
        *size += length;
        match file.write_all(line.as_bytes()) {
            Ok(()) => Ok(()),
            Err(source) => {
                self.open = None;
                Err(self.fault("write", source))
            }
        }
    }

    fn turn(&mut self) -> Result<(), FileError> {
        self.open = None;
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        fs::rename(&self.path, &old).map_err(|source| self.fault("put away", source))
    }

    fn opened(&mut self) -> Result<&mut (File, u64), FileError> {
        if self.open.is_none() {
            let file = File::options().append(true).create(true).mode(0o600).open(&self.path);
            let opened = file.and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
            self.open = Some(opened.map_err(|source| self.fault("open", source))?);
        }
        match &mut self.open {
            Some(open) => Ok(open),
            None => unreachable!("it has just been opened"),
        }
    }

    fn fault(&self, action: &'static str, source: io::Error) -> FileError {
        FileError { action, path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests;
