//! What the kernel says of a process: who it is, what it may do, in which cgroup it is.

use std::fs;
use std::path::{Path, PathBuf};

use crate::capability::CapabilitySet;
use crate::error::{Error, Result};

/// A process as `/proc/PID/status` and `/proc/PID/cgroup` tell of it, at one moment.
///
/// The id of a process can be reused: compare [`ProcessStatus::cgroup`] with what was expected before believing the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessStatus {
    /// The real, effective, saved and file system user, as the reader's user namespace numbers them.
    pub users: [u32; 4],
    /// The same of its group.
    pub groups: [u32; 4],
    /// What it may use, and may have taken from its effective set for now.
    pub permitted: CapabilitySet,
    /// What a program that it executes can get at the most.
    pub bounding: CapabilitySet,
    /// Nothing that it executes gets more than it has (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
    /// The path of its cgroup v2 below the root of the reader's cgroup namespace; none where the kernel has no cgroup v2.
    pub cgroup: Option<PathBuf>,
}

impl ProcessStatus {
    /// Reads what the kernel says of a process of the reader's pid namespace.
    ///
    /// # Errors
    /// [`Error::File`] where there is no such process any more, or what it says cannot be read.
    pub fn read(pid: u32) -> Result<ProcessStatus> {
        ProcessStatus::read_below(Path::new("/proc"), pid)
    }

    /// The same with another `/proc`: that of the node, in a container that has it mounted elsewhere.
    ///
    /// # Errors
    /// As [`ProcessStatus::read`].
    pub fn read_below(proc: &Path, pid: u32) -> Result<ProcessStatus> {
        let text = |name: &str| {
            let path = proc.join(pid.to_string()).join(name);
            fs::read_to_string(&path).map_err(|source| Error::file("read", &path, source))
        };
        let (status, cgroup) = (text("status")?, text("cgroup")?);
        ProcessStatus::parse(&status, &cgroup).ok_or_else(|| {
            let path = proc.join(pid.to_string()).join("status");
            Error::file("understand", &path, std::io::ErrorKind::InvalidData.into())
        })
    }

    /// What it, and every program that it executes, can come to have (`capabilities(7)`).
    pub fn reachable(&self) -> CapabilitySet {
        if self.no_new_privileges { self.permitted } else { self.permitted | self.bounding }
    }

    fn parse(status: &str, cgroup: &str) -> Option<ProcessStatus> {
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.map(str::trim)
        };
        let four = |name: &str| -> Option<[u32; 4]> {
            let numbers: Option<Vec<u32>> = field(name)?.split_whitespace().map(|word| word.parse().ok()).collect();
            numbers?.try_into().ok()
        };
        let set = |name: &str| u64::from_str_radix(field(name)?, 16).ok().map(CapabilitySet::from_bits);
        Some(ProcessStatus {
            users: four("Uid")?,
            groups: four("Gid")?,
            permitted: set("CapPrm")?,
            bounding: set("CapBnd")?,
            no_new_privileges: field("NoNewPrivs")? == "1",
            // Hybrid hosts have a line for each v1 hierarchy too; that of v2 has number 0 and no controllers.
            cgroup: cgroup.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Capability;

    const STATUS: &str = "Name:\tsleep: Uid\nUid:\t1001\t1001\t1001\t1001\nGid:\t5\t6\t7\t8\nGroups:\t\n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000400\nCapEff:\t0000000000000000\n\
        CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\n";

    #[test]
    fn a_process_is_read() {
        let hybrid = "4:memory:/x\n1:name=systemd:/y\n0::/kubepods.slice/pod:1/app\n";
        let read = ProcessStatus::parse(STATUS, hybrid).unwrap();
        assert_eq!(read.users, [1001; 4]);
        assert_eq!(read.groups, [5, 6, 7, 8]);
        assert_eq!(read.cgroup.as_deref(), Some(Path::new("/kubepods.slice/pod:1/app")));
        assert!(read.reachable().contains(Capability::NET_RAW));
        let strict = ProcessStatus { no_new_privileges: true, ..read };
        assert_eq!(strict.reachable().iter().collect::<Vec<_>>(), [Capability::NET_BIND_SERVICE]);
    }

    #[test]
    fn half_a_status_is_none() {
        for line in STATUS.lines().filter(|line| !line.contains("Name") && !line.starts_with("Groups")) {
            let without: String = STATUS.lines().filter(|one| *one != line).map(|one| format!("{one}\n")).collect();
            let needed = ["Uid", "Gid", "CapPrm", "CapBnd", "NoNewPrivs"].iter().any(|name| line.starts_with(name));
            assert_eq!(ProcessStatus::parse(&without, "").is_none(), needed, "{line}");
        }
    }

    #[test]
    fn this_process_is_where_it_is() {
        let own = ProcessStatus::read(std::process::id()).unwrap();
        assert_eq!(own.users[1], nix::unistd::geteuid().as_raw());
        assert!(ProcessStatus::read(0).is_err());
    }
}
