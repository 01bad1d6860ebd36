//! Starting other programs, all in the same way: no standard input, the system's `sbin` folders on the path, and an
//! error that shows the command line.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use thiserror::Error;

/// Why a program did not do what it was started for.
#[derive(Debug, Error)]
pub enum CommandError {
    /// It could not be started at all.
    #[error("cannot start `{line}`: {source}; is it installed and on PATH?")]
    NotStarted {
        /// The command line.
        line: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ran and failed; what it printed says why.
    #[error("`{line}` failed ({status})")]
    Failed {
        /// The command line.
        line: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// Its output could not be read or passed on.
    #[error("cannot pass on the output of `{line}`: {source}")]
    Output {
        /// The command line.
        line: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The program `name`, ready for arguments.
pub fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(name);
    command.stdin(Stdio::null());
    if let Ok(path) = std::env::join_paths(search_path()) {
        command.env("PATH", path);
    }
    command
}

/// Runs a command whose output goes where ours goes.
///
/// # Errors
/// When it cannot be started or ends with a failure.
pub fn run(command: &mut Command) -> Result<(), CommandError> {
    let status = command.status().map_err(|source| CommandError::NotStarted { line: line(command), source })?;
    if status.success() { Ok(()) } else { Err(CommandError::Failed { line: line(command), status }) }
}

/// Runs a command and returns what it wrote to standard output. Its standard error goes where ours goes.
///
/// # Errors
/// When it cannot be started or ends with a failure.
pub fn output(command: &mut Command) -> Result<Vec<u8>, CommandError> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| CommandError::NotStarted { line: line(command), source })?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(CommandError::Failed { line: line(command), status: output.status })
    }
}

/// The command line as a person would type it, for messages.
pub fn line(command: &Command) -> String {
    let mut line = String::new();
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    for word in std::iter::once(name).chain(command.get_args()) {
        if !line.is_empty() {
            line.push(' ');
        }
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            line.push_str(&word);
        } else {
            line.push('\'');
            line.push_str(&word.replace('\'', r"'\''"));
            line.push('\'');
        }
    }
    line
}

/// Where programs are looked for: `PATH`, and the system's `sbin` folders, which `su` without `-` leaves out.
pub fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for sbin in ["/usr/local/sbin", "/usr/sbin", "/sbin"] {
        if !folders.iter().any(|folder| folder == Path::new(sbin)) {
            folders.push(PathBuf::from(sbin));
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_a_person_would_type() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "--test", "*", "it's", ""]);
        assert_eq!(line(&command), r"cargo test --test '*' 'it'\''s' ''");
    }

    #[test]
    fn the_system_folders_are_always_searched() {
        assert!(search_path().iter().any(|folder| folder == Path::new("/usr/sbin")));
    }

    #[test]
    fn a_failure_shows_the_command_and_its_status() {
        let error = run(Command::new("sh").args(["-c", "exit 7"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exit 7'` failed (exit status: 7)");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("/nowhere/no-such-program")).unwrap_err();
        assert!(error.to_string().starts_with("cannot start `no-such-program`: "), "{error}");
    }
}
