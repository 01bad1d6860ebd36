//! Whose root of the cgroup tree this process sees.

use std::fs::{self, File};
use std::io;
use std::os::linux::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use crate::error::{Error, Result};

/// Has the calling thread, and all that it starts from now on, see the cgroup tree as a process of the caller's pid namespace
/// does; 1 is the host's first, where the host's pid namespace is shared. To be called before there is a second thread: the
/// others would go on seeing another root, and rules that they load would mean other cgroups.
///
/// Says whether it was another namespace.
///
/// # Errors
/// [`Error::File`] without CAP_SYS_ADMIN, or without CAP_SYS_PTRACE toward the process.
pub fn join_cgroup_namespace_of(pid: u32) -> Result<bool> {
    let path = format!("/proc/{pid}/ns/cgroup");
    let path = Path::new(&path);
    let which = |path: &Path| {
        let meta = fs::metadata(path).map_err(|source| Error::file("look at", path, source))?;
        Ok((meta.st_dev(), meta.st_ino()))
    };
    if which(Path::new("/proc/self/ns/cgroup"))? == which(path)? {
        return Ok(false);
    }
    let namespace = File::open(path).map_err(|source| Error::file("open", path, source))?;
    setns(namespace, CloneFlags::CLONE_NEWCGROUP)
        .map_err(|errno| Error::file("enter", path, io::Error::from(errno)))?;
    Ok(true)
}
