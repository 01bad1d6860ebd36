//! What the runtime tells, in types that do not mix.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::details::{Details, User};
use sidewall_runtime_ids::{ContainerId, SandboxId};

mod read;

pub(crate) use read::container_id;

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The runtime's name, such as `containerd` or `cri-o`.
    pub runtime: String,
    /// The runtime's version.
    pub runtime_version: String,
    /// The version of CRI, such as `v1`.
    pub api_version: String,
}

/// How the runtime is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// Its conditions by their type.
    pub conditions: BTreeMap<String, Condition>,
    /// The runtime handlers that a pod may ask for, where the runtime tells them (CRI of Kubernetes 1.30 and later). The
    /// default one has an empty name.
    pub handlers: Vec<RuntimeHandler>,
}

impl RuntimeStatus {
    /// Whether the runtime accepts pods at all.
    pub fn ready(&self) -> bool {
        self.holds("RuntimeReady")
    }

    /// Whether the runtime accepts pods that have a network of their own: whether it has found a CNI configuration.
    pub fn network_ready(&self) -> bool {
        self.holds("NetworkReady")
    }

    fn holds(&self, condition: &str) -> bool {
        self.conditions.get(condition).is_some_and(|condition| condition.holds)
    }
}

/// One condition of the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether it holds.
    pub holds: bool,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// A way to run pods that a RuntimeClass may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeHandler {
    /// Its name; empty for the default.
    pub name: String,
    /// Whether pods may have a user namespace.
    pub user_namespaces: bool,
}

/// Which pod a sandbox is for, as the kubelet said it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodIdentity {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// Which attempt to run the pod this is, from 0.
    pub attempt: u32,
}

/// Whether a sandbox runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SandboxState {
    /// It runs, and its network namespace is there.
    Ready,
    /// It was stopped, or its process is gone.
    NotReady,
    /// The runtime gave a state that CRI v1 does not have.
    Unknown,
}

/// A pod's sandbox, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// The pod.
    pub pod: PodIdentity,
    /// Whether it runs.
    pub state: SandboxState,
    /// When it was made, where the runtime tells.
    pub created: Option<SystemTime>,
    /// The pod's labels, and the kubelet's own.
    pub labels: BTreeMap<String, String>,
    /// The pod's annotations, and the kubelet's own.
    pub annotations: BTreeMap<String, String>,
    /// The runtime handler that the pod asked for; empty for the default.
    pub handler: String,
}

/// Whose network a pod uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    /// One of its own.
    Pod,
    /// The node's (`hostNetwork`).
    Node,
    /// The runtime does not say, or says what a sandbox can't have.
    Unknown,
}

/// A pod's sandbox, in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxStatus {
    /// What is told of it in short too.
    pub sandbox: Sandbox,
    /// The addresses that CNI gave it, the first being the pod's own. Empty on the node's network, and once it has stopped.
    pub addresses: Vec<IpAddr>,
    /// Whose network it uses.
    pub network: Network,
    /// The runtime's own knowledge. `None` where none was sent, as in events.
    pub details: Option<Details>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerState {
    /// Made; its first instruction has not run.
    Created,
    /// It runs.
    Running,
    /// It has ended.
    Exited,
    /// The runtime does not know, or gave a state that CRI v1 does not have.
    Unknown,
}

/// A container, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// The sandbox that it is in.
    pub sandbox: SandboxId,
    /// Its name in the pod.
    pub name: String,
    /// Which attempt to run it this is, from 0: how often it was restarted in this sandbox.
    pub attempt: u32,
    /// Where it is in its life.
    pub state: ContainerState,
    /// When it was made, where the runtime tells.
    pub created: Option<SystemTime>,
    /// Its labels, which the kubelet makes.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, which the kubelet makes.
    pub annotations: BTreeMap<String, String>,
}

/// A container, in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Its id.
    pub id: ContainerId,
    /// Its name in the pod.
    pub name: String,
    /// Which attempt to run it this is, from 0.
    pub attempt: u32,
    /// Where it is in its life.
    pub state: ContainerState,
    /// When it was made, where the runtime tells.
    pub created: Option<SystemTime>,
    /// When it was started, if it was.
    pub started: Option<SystemTime>,
    /// When it ended, if it has.
    pub finished: Option<SystemTime>,
    /// What it ended with; 0 before.
    pub exit_code: i32,
    /// Why it is in its state, in one word.
    pub reason: String,
    /// Why it is in its state, in a sentence.
    pub message: String,
    /// Its labels, which the kubelet makes.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, which the kubelet makes.
    pub annotations: BTreeMap<String, String>,
    /// The user that its first process began with, where the runtime tells (CRI of Kubernetes 1.31 and later). The
    /// details tell the same on older ones.
    pub user: Option<User>,
    /// The runtime's own knowledge. `None` where none was sent, as in events.
    pub details: Option<Details>,
}

/// CRI counts in nanoseconds since 1970, and says 0 for never.
pub(crate) fn time(nanoseconds: i64) -> Option<SystemTime> {
    let since = Duration::from_nanos(u64::try_from(nanoseconds).ok().filter(|since| *since > 0)?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}
