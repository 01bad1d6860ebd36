//! What a container's process is: found from what runs, not from what somebody asked for.

use crate::enforceability::CgroupPlace;
use sidewall_netns::{CapabilitySet, Cgroup, Cgroups, NetNs, NsId, ProcessStatus};
use std::path::Path;

/// What a container's process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// Its cgroup; none where the node has no cgroup v2, or it is in none that can be seen.
    pub cgroup: Option<CgroupPlace>,
    /// The user that it runs as, as the node numbers users.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// What it, and what it executes, can come to have.
    pub capabilities: CapabilitySet,
    /// Its network namespace.
    pub netns: NsId,
}

impl Running {
    /// Whether it may still run: its process is there, and not another's by now.
    pub fn is_there(&self) -> bool {
        NetNs::from_pid(self.pid).is_ok_and(|netns| netns.id() == self.netns)
    }
}

/// Looks at a container's process.
///
/// # Errors
/// [`sidewall_netns::Error`] where it has ended.
pub fn look(pid: u32, container: &str, cgroups: Option<&Cgroups>) -> Result<Running, sidewall_netns::Error> {
    let status = ProcessStatus::read(pid)?;
    let netns = NetNs::from_pid(pid)?.id();
    let cgroup = status.cgroup.as_deref().zip(cgroups).and_then(|(path, cgroups)| place(path, container, cgroups));
    Ok(Running { pid, cgroup, user: status.users[1], group: status.groups[1], capabilities: status.reachable(), netns })
}

/// The container's own cgroup: that of its process, or, where the process has gone into one below, the one that bears the
/// container's name (`ID`, `cri-containerd-ID.scope`, `crio-ID.scope`).
fn place(path: &Path, container: &str, cgroups: &Cgroups) -> Option<CgroupPlace> {
    let named = |path: &&Path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(container));
    let own = path.ancestors().filter(named).last().unwrap_or(path);
    let below = own.strip_prefix("/").unwrap_or(own);
    of(&cgroups.open(cgroups.mount().join(below)).ok()?)
}

/// Where a cgroup is, as rules name it.
pub fn of(cgroup: &Cgroup) -> Option<CgroupPlace> {
    Some(CgroupPlace { id: cgroup.id().ok()?, level: u8::try_from(cgroup.level()).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_looked_at() {
        let cgroups = Cgroups::find().ok();
        let own = look(std::process::id(), "no-such-container", cgroups.as_ref()).unwrap();
        assert_eq!(own.user, nix::unistd::geteuid().as_raw());
        assert_eq!(own.netns, NetNs::current().unwrap().id());
        assert!(look(u32::MAX, "x", cgroups.as_ref()).is_err());
    }
}
