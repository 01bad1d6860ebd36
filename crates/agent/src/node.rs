//! The node that the agent is on: its cgroup tree, and what the kernel lets the agent do.

use crate::config::Config;
use crate::enforceability::CgroupPlace;
use crate::running;
use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sidewall_netns::{Cgroups, join_cgroup_namespace_of};

/// The host's first process, by which its namespaces are found.
const HOST: u32 = 1;

/// Goes to the host's cgroup namespace, where this process is in another one: rules name cgroups by their depth below the
/// root that their loader sees, and the kernel's paths begin there. To be called before there is a second thread.
///
/// # Errors
/// The kernel's word, with what to do.
pub fn join_host_cgroups() -> anyhow::Result<()> {
    join_cgroup_namespace_of(HOST).map(drop).context(
        "the host's cgroup namespace is needed; the agent's pod needs hostPID and the capabilities SYS_ADMIN and SYS_PTRACE",
    )
}

/// Allows this process as many descriptors as it may have: each pod takes some.
pub fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(limit = soft, "the limit of open files can't be raised: {error}");
    }
}

/// The cgroup of all pods: the first of the configured ones that is there.
pub fn pods(config: &Config, cgroups: &Cgroups) -> Option<CgroupPlace> {
    let mut paths = config.paths.pod_cgroups.iter();
    paths.find_map(|path| {
        let below = path.strip_prefix("/").unwrap_or(path);
        running::of(&cgroups.open(cgroups.mount().join(below)).ok()?)
    })
}
