//! What the runtime tells, in types that do not mix.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::wire::nri as wire;
use sidewall_runtime_ids::{BadId, ContainerId, SandboxId};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// The runtime's name.
    pub runtime: String,
    /// The runtime's version.
    pub version: String,
    /// The version of NRI in it, where it tells (newer ones).
    pub nri_version: Option<String>,
    /// How long it waits for an answer. 2 s where it does not tell.
    pub request_timeout: Duration,
    /// How long a callback has of that, by now: [`crate::Options::answer_within`], or less.
    pub answer_within: Duration,
}

/// A pod's sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// The runtime's name of it: one attempt to run the pod.
    pub id: SandboxId,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// The pod's labels, and the kubelet's own.
    pub labels: BTreeMap<String, String>,
    /// The pod's annotations, and the kubelet's own.
    pub annotations: BTreeMap<String, String>,
    /// The runtime handler that the pod asked for; empty for the default.
    pub handler: String,
    /// The sandbox's process, in the runtime's own PID namespace.
    pub pid: Option<u32>,
    /// Whose network it uses. [`Network::Unknown`] once it has been stopped.
    pub network: Network,
    /// Its addresses, where the runtime tells (newer ones).
    pub addresses: Vec<IpAddr>,
    /// The cgroup that its own is made in, as the kubelet said it.
    pub cgroup_parent: Option<String>,
}

/// Whose network a pod or a container uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The namespace that is found here, in the runtime's mount and PID namespaces.
    At(PathBuf),
    /// A namespace that is made with the process.
    New,
    /// The node's.
    Node,
    /// The runtime does not tell.
    Unknown,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerState {
    /// Made; its first instruction has not run.
    Created,
    /// It runs, but is held.
    Paused,
    /// It runs.
    Running,
    /// It has ended.
    Stopped,
    /// The runtime does not know, or gave a state that we do not.
    Unknown,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The runtime's name of it: one attempt to run it.
    pub id: ContainerId,
    /// The sandbox that it is in.
    pub pod: SandboxId,
    /// Its name in the pod.
    pub name: String,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Its labels, which the kubelet makes.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, which the kubelet makes.
    pub annotations: BTreeMap<String, String>,
    /// Its first process, in the runtime's own PID namespace. Before the start that is the OCI runtime's own, waiting in
    /// the container's cgroup, namespaces and user.
    pub pid: Option<u32>,
    /// Where its cgroup is, as the OCI specification writes it: a path below the cgroup root, or `slice:prefix:name` with
    /// systemd. What the process is in is said by `/proc/PID/cgroup`.
    pub cgroups_path: Option<String>,
    /// The user that its first process begins with, where the runtime tells (newer ones). A runtime that does not know
    /// this field and user 0 with group 0 are told apart.
    pub user: Option<User>,
    /// Whose network it uses.
    pub network: Network,
}

/// A user and its groups, as numbers inside the container's user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups.
    pub further_gids: BTreeSet<u32>,
}

fn told(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl From<Vec<wire::LinuxNamespace>> for Network {
    fn from(namespaces: Vec<wire::LinuxNamespace>) -> Self {
        if namespaces.is_empty() {
            return Self::Unknown;
        }
        match namespaces.into_iter().find(|namespace| namespace.r#type == "network") {
            Some(network) if network.path.is_empty() => Self::New,
            Some(network) => Self::At(network.path.into()),
            None => Self::Node,
        }
    }
}

impl TryFrom<wire::PodSandbox> for Pod {
    type Error = BadId;

    fn try_from(from: wire::PodSandbox) -> Result<Self, BadId> {
        let linux = from.linux.unwrap_or_default();
        Ok(Self {
            id: from.id.try_into()?,
            namespace: from.namespace,
            name: from.name,
            uid: from.uid,
            labels: from.labels,
            annotations: from.annotations,
            handler: from.runtime_handler,
            pid: Some(from.pid).filter(|pid| *pid != 0),
            network: linux.namespaces.into(),
            // A hint only, so what is no address is left out.
            addresses: from.ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
            cgroup_parent: told(linux.cgroup_parent),
        })
    }
}

impl TryFrom<wire::Container> for Container {
    type Error = BadId;

    fn try_from(from: wire::Container) -> Result<Self, BadId> {
        use wire::ContainerState as State;
        let state = match State::try_from(from.state) {
            Ok(State::ContainerCreated) => ContainerState::Created,
            Ok(State::ContainerPaused) => ContainerState::Paused,
            Ok(State::ContainerRunning) => ContainerState::Running,
            Ok(State::ContainerStopped) => ContainerState::Stopped,
            Ok(State::ContainerUnknown) | Err(_) => ContainerState::Unknown,
        };
        let linux = from.linux.unwrap_or_default();
        let user = |user: wire::User| User {
            uid: user.uid,
            gid: user.gid,
            further_gids: user.additional_gids.into_iter().collect(),
        };
        Ok(Self {
            id: from.id.try_into()?,
            pod: from.pod_sandbox_id.try_into()?,
            name: from.name,
            state,
            labels: from.labels,
            annotations: from.annotations,
            pid: Some(from.pid).filter(|pid| *pid != 0),
            cgroups_path: told(linux.cgroups_path),
            user: from.user.map(user),
            network: linux.namespaces.into(),
        })
    }
}
