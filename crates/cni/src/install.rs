//! Reads a directory of network configurations and carries a [`Plan`] out in it.
//!
//! Each file is replaced in one step, so that a runtime that looks at any moment sees it whole, in one form or the
//! other. Where somebody else has changed a file since it was read, nothing more is done: the caller reads again and
//! makes a new plan.

use crate::choose::is_configuration;
use crate::plan::{Files, Plan, Step, Unreadable};
use crate::temporary;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The directory that the runtimes read where nothing else is configured.
pub const DIRECTORY: &str = "/etc/cni/net.d";
/// The longest file, in octets; containerd has the same limit.
pub const FILE_MAX: u64 = 2 << 20;
/// The longest program, in octets.
pub const PROGRAM_MAX: u64 = 64 << 20;
/// The most configurations in a directory.
pub const FILES_MAX: usize = 1024;

/// The directory can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The system.
    #[error("can't {what} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Its word.
        source: io::Error,
    },
    /// Too many files.
    #[error("{} has more than {FILES_MAX} network configurations", .0.display())]
    Many(PathBuf),
    /// A name that is no text.
    #[error("{} has a network configuration whose name is not UTF-8: rename it", .0.display())]
    Name(PathBuf),
    /// The program is none.
    #[error("{} is no program that could be put in place: it is empty or longer than {PROGRAM_MAX} octets", .0.display())]
    NoProgram(PathBuf),
    /// Somebody else was faster.
    #[error("{} was changed by somebody else in the meantime: read the directory again", .0.display())]
    Changed(PathBuf),
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Io { what, path, source }
}

/// Reads what the runtimes would look at. A directory that is not there has no files.
///
/// # Errors
/// [`InstallError`].
pub fn read(directory: &Path) -> Result<Files, InstallError> {
    let mut files = Files::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(failed("read", directory)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed("read", directory))?;
        let name = entry.file_name();
        if !is_configuration(&name.to_string_lossy()) || entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let Ok(name) = name.into_string() else { return Err(InstallError::Name(directory.to_owned())) };
        if files.len() == FILES_MAX {
            return Err(InstallError::Many(directory.to_owned()));
        }
        let text = read_file(&entry.path());
        files.insert(name, text);
    }
    Ok(files)
}

/// Puts the plugin's program where the runtimes look for plugins, in one step, so that one that is running goes on and
/// no runtime ever starts half of it. Whether there was anything to do.
///
/// # Errors
/// [`InstallError`].
pub fn place_program(from: &Path, directory: &Path) -> Result<bool, InstallError> {
    let mut octets = Vec::new();
    let source = File::open(from).map_err(failed("open", from))?;
    source.take(PROGRAM_MAX + 1).read_to_end(&mut octets).map_err(failed("read", from))?;
    if octets.is_empty() || octets.len() as u64 > PROGRAM_MAX {
        return Err(InstallError::NoProgram(from.to_owned()));
    }
    let target = directory.join(crate::entry::TYPE);
    let there = fs::symlink_metadata(&target);
    if there.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o7777 == 0o755)
        && fs::read(&target).is_ok_and(|there| there == octets)
    {
        return Ok(false);
    }
    let made = temporary::beside(&target);
    let placed = write_new(&made, &octets, 0o755).and_then(|()| fs::rename(&made, &target));
    if let Err(error) = placed {
        let _ = fs::remove_file(&made);
        return Err(failed("write", &target)(error));
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("write", directory))?;
    Ok(true)
}

/// Writes a file that is not there yet, down to the disk.
fn write_new(path: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(octets)?;
    // Not through `mode`, which the process's mask would narrow.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

fn read_file(path: &Path) -> Result<String, Unreadable> {
    // NONBLOCK: a FIFO in its place would keep us waiting.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|_| Unreadable::NoFile)?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(Unreadable::NoFile);
    }
    let mut octets = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut octets).map_err(|_| Unreadable::NoFile)?;
    if octets.len() as u64 > FILE_MAX {
        return Err(Unreadable::Long);
    }
    String::from_utf8(octets).map_err(|_| Unreadable::NotText)
}

/// Makes a plan's changes, in their order.
///
/// # Errors
/// [`InstallError`]; what was changed before stays changed, and a new plan takes it from there.
pub fn apply(directory: &Path, plan: &Plan) -> Result<(), InstallError> {
    for step in &plan.steps {
        make(directory, step)?;
    }
    if plan.steps.is_empty() {
        return Ok(());
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("write", directory))
}

fn make(directory: &Path, step: &Step) -> Result<(), InstallError> {
    let path = directory.join(&step.name);
    let Some(text) = &step.to else {
        unchanged(&path, step)?;
        return fs::remove_file(&path).map_err(failed("remove", &path));
    };
    // A link stays a link: who made it changes the file that it leads to.
    let target = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    let mode = fs::metadata(&target).map_or(0o600, |meta| meta.permissions().mode() & 0o777);
    let made = temporary::beside(&target);
    let written = write_new(&made, text.as_bytes(), mode).map_err(failed("write", &made));
    let placed = written
        .and_then(|()| unchanged(&path, step))
        .and_then(|()| fs::rename(&made, &target).map_err(failed("write", &target)));
    if placed.is_err() {
        let _ = fs::remove_file(&made);
    }
    placed
}

/// Whether the file says what it said when the plan was made.
fn unchanged(path: &Path, step: &Step) -> Result<(), InstallError> {
    let now = match read_file(path) {
        Ok(text) => Some(text),
        Err(Unreadable::NoFile) => None,
        Err(_) => return Err(InstallError::Changed(path.to_owned())),
    };
    if now == step.from { Ok(()) } else { Err(InstallError::Changed(path.to_owned())) }
}

#[cfg(test)]
mod tests;
