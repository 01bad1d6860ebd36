//! Third parties' programs that tests of nodes and clusters run: containerd, runc, CNI plugins, etcd, Kubernetes, Multus,
//! whereabouts, Helm, cert-manager.
//!
//! They are never installed: packages are unpacked, and what is published as a Go module is built, into the cache, once for each
//! version. With a filled cache nothing is asked of any network. The tests find them by `SIDEWALL_PARTS`.

mod certmanager;
mod debian;
mod go;
mod helm;
mod kubernetes;
mod links;
mod module;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cache::NoCache;
use crate::command::CommandError;
use crate::packages::{self, PackageError};
use crate::workspace::Workspace;

/// The variable that tells tests where the programs are: folders, as in `PATH`.
pub const VARIABLE: &str = "SIDEWALL_PARTS";

/// Why a part is not there.
#[derive(Debug, Error)]
pub enum PartsError {
    /// There is no place to keep parts.
    #[error(transparent)]
    Cache(#[from] NoCache),
    /// A program that sets parts up failed, or is missing.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A package of the system is missing.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// No Debian archive to take packages from.
    #[error(
        "containerd, runc, CNI plugins and etcd come from Debian's packages, and this machine's apt names no Debian archive \
         (looked in /etc/apt/sources.list.d/*.sources and /etc/apt/sources.list): let {VARIABLE} name folders that have them"
    )]
    NoArchive,
    /// Unpacked, and still something is not where it should be.
    #[error("the packages {packages} are unpacked, and have no {program}")]
    Missing {
        /// The packages.
        packages: String,
        /// The program.
        program: String,
    },
    /// A Go module of ours could not be understood.
    #[error("{path} has no {what}")]
    Module {
        /// Its go.mod.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A file could not be read, written or moved.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl PartsError {
    fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

/// What a tier's tests need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Nothing.
    None,
    /// A node's: containerd, runc, CNI plugins, busybox.
    Node,
    /// Those and a cluster's: etcd, Kubernetes, Multus, whereabouts, Helm, cert-manager.
    Cluster,
}

/// Sets up what is missing, and returns the value of [`VARIABLE`]. Folders that it already names come first, and what they
/// have is not set up.
///
/// # Errors
/// When something is missing and cannot be had.
pub fn ensure(workspace: &Workspace, parts: Parts) -> Result<OsString, PartsError> {
    let given = std::env::var_os(VARIABLE).unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&given).filter(|path| path.is_absolute()).collect();
    if parts != Parts::None {
        folders.extend(debian::ensure(&folders, debian::NODE)?);
    }
    if parts == Parts::Cluster {
        let mut elsewhere: Vec<PathBuf> =
            std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from).into_iter().collect();
        elsewhere.extend(crate::command::search_path());
        elsewhere.extend(folders.iter().cloned());
        folders.extend(debian::ensure(&elsewhere, debian::ETCD)?);
        folders.extend(module::ensure(workspace, &kubernetes::KUBERNETES, &elsewhere)?);
        folders.extend(module::ensure(workspace, &kubernetes::OLDEST, &[])?);
        for source in [&links::MULTUS, &links::WHEREABOUTS, &helm::HELM] {
            folders.extend(module::ensure(workspace, source, &folders)?);
        }
        folders.extend(certmanager::ensure(workspace)?);
    }
    // A folder of ours has no colon in its name unless the cache's has, and then nothing could name it.
    Ok(std::env::join_paths(folders).unwrap_or_default())
}

/// The path of Helm, built where [`VARIABLE`] names no folder that has it. Any other that is on this machine is not taken: its
/// version matters for what it writes.
///
/// # Errors
/// When it cannot be built.
pub fn helm(workspace: &Workspace) -> Result<PathBuf, PartsError> {
    let given = std::env::var_os(VARIABLE).unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&given).filter(|path| path.is_absolute()).collect();
    folders.extend(module::ensure(workspace, &helm::HELM, &folders)?);
    let programs = folders.iter().map(|folder| folder.join("helm"));
    programs
        .into_iter()
        .find(|path| packages::is_program(path))
        .ok_or_else(|| PartsError::Missing { packages: "of Helm".to_owned(), program: "helm".to_owned() })
}

/// `cargo xtask parts`: sets all up and prints the line for a shell with which the tests run by hand.
///
/// # Errors
/// As [`ensure`]; and when standard output is gone.
pub fn print(workspace: &Workspace) -> Result<(), PartsError> {
    let value = ensure(workspace, Parts::Cluster)?;
    let line = format!("export {VARIABLE}='{}'\n", value.to_string_lossy());
    io::stdout().write_all(line.as_bytes()).map_err(PartsError::file("write to", "standard output"))
}

/// Whether a program of that name is in one of the folders.
fn in_one_of(folders: &[PathBuf], program: &str) -> bool {
    folders.iter().any(|folder| packages::is_program(&folder.join(program)))
}

/// Makes `folder` complete or not at all: `fill` works in a folder beside it, which then takes its name.
fn at_once(folder: &Path, fill: impl FnOnce(&Path) -> Result<(), PartsError>) -> Result<(), PartsError> {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let beside = folder.with_file_name(name);
    sweep(folder)?;
    std::fs::create_dir_all(&beside).map_err(PartsError::file("make", &beside))?;
    let filled = fill(&beside).and_then(|()| match std::fs::rename(&beside, folder) {
        // Somebody else was faster, with the same result.
        Err(_) if folder.is_dir() => Ok(()),
        moved => moved.map_err(PartsError::file("move into place", folder)),
    });
    if beside.exists() {
        std::fs::remove_dir_all(&beside).map_err(PartsError::file("remove", &beside))?;
    }
    filled
}

/// Removes what runs that were killed have left beside the folder: `NAME.PID.part` of a process that is no more.
fn sweep(folder: &Path) -> Result<(), PartsError> {
    let (Some(above), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(()) };
    let start = format!("{}.", name.to_string_lossy());
    let Ok(entries) = std::fs::read_dir(above) else { return Ok(()) };
    for entry in entries.flatten() {
        let other = entry.file_name().to_string_lossy().into_owned();
        let pid = other.strip_prefix(&start).and_then(|rest| rest.strip_suffix(".part")?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            std::fs::remove_dir_all(entry.path()).map_err(PartsError::file("remove", entry.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
