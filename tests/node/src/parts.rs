//! Where the third parties' programs are.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{BedError, Result};

/// A list of folders as `PATH` is, set by `cargo xtask`: containerd and what belongs to it, etcd, Kubernetes, Multus.
pub const VARIABLE: &str = "SIDEWALL_PARTS";

/// A program of the control plane or the kubelet: in `KUBEBUILDER_ASSETS`, on `PATH`, or where `cargo xtask` built it.
///
/// # Errors
/// [`BedError::NoPart`].
pub fn kubernetes(program: &str) -> Result<PathBuf> {
    find(program, env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from).into_iter().chain(list("PATH")).chain(parts()))
}

/// A program or plugin of a node. What happens to be on `PATH` is not taken: its version matters (NRI came with containerd
/// 1.7), and nothing of it may belong to the host's own containers.
///
/// # Errors
/// [`BedError::NoPart`].
pub fn node(program: &str) -> Result<PathBuf> {
    find(program, parts())
}

/// A file that comes with third parties' programs: the definition of one of their kinds.
///
/// # Errors
/// [`BedError::NoPart`]; [`BedError::File`] where it can't be read.
pub fn document(name: &str) -> Result<String> {
    let path = find_where(name, parts(), Path::is_file)?;
    std::fs::read_to_string(&path).map_err(BedError::file("read", path))
}

/// A program of the system (`nsenter`, `ip`, `nft`).
///
/// # Errors
/// [`BedError::NoPart`].
pub fn system(program: &str) -> Result<PathBuf> {
    find(program, list("PATH").chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from)))
}

/// The folders of [`VARIABLE`].
pub fn parts() -> impl Iterator<Item = PathBuf> {
    list(VARIABLE)
}

/// The bed's own program. Cargo puts it beside the folder of the test that is running.
///
/// # Errors
/// [`BedError::NoBedProgram`].
pub fn bed() -> Result<PathBuf> {
    built("sidewall-bed")
}

/// A program of this workspace that is built beside the running test.
///
/// # Errors
/// [`BedError::NoBedProgram`] with the path where it should be.
pub fn built(program: &str) -> Result<PathBuf> {
    let here = env::current_exe().map_err(BedError::file("find", "/proc/self/exe"))?;
    let folder = here.parent().unwrap_or(Path::new("/"));
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let path = folder.join(program);
    if is_program(&path) { Ok(path) } else { Err(BedError::NoBedProgram(path)) }
}

fn list(variable: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let value = env::var_os(variable).unwrap_or_default();
    env::split_paths(&value).filter(|path| path.is_absolute()).collect::<Vec<_>>().into_iter()
}

fn find(program: &str, folders: impl Iterator<Item = PathBuf>) -> Result<PathBuf> {
    find_where(program, folders, is_program)
}

fn find_where(program: &str, folders: impl Iterator<Item = PathBuf>, is_it: impl Fn(&Path) -> bool) -> Result<PathBuf> {
    let mut looked = Vec::new();
    for folder in folders {
        let path = folder.join(program);
        if is_it(&path) {
            return Ok(path);
        }
        looked.push(folder.display().to_string());
    }
    let looked = if looked.is_empty() { format!("{VARIABLE}, which is not set") } else { looked.join(":") };
    Err(BedError::NoPart { program: program.into(), looked })
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_with_the_program_decides() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        for place in [&a, &b] {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("tool"), "#!/bin/sh\n").unwrap();
        }
        std::fs::set_permissions(b.join("tool"), PermissionsExt::from_mode(0o755)).unwrap();
        // In the first folder the file is no program.
        assert_eq!(find("tool", [a.clone(), b.clone()].into_iter()).unwrap(), b.join("tool"));
        let error = find("other", [a].into_iter()).unwrap_err().to_string();
        assert!(error.contains("no `other` in ") && error.contains("cargo xtask test --only node"), "{error}");
    }
}
