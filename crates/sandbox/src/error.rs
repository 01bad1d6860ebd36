//! One error variant for each cause.

use std::io;
use std::path::PathBuf;

use crate::check::Finding;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a pod could not be made, run, found or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The manifest asks for what can't be honoured here, or contradicts itself.
    #[error("this pod can't be run here:{}", .0.iter().map(|f| format!("\n  {f}")).collect::<String>())]
    Manifest(Vec<Finding>),
    /// A pod of this namespace and name is running.
    #[error(
        "the pod {name} is running already (supervised by process {supervisor}); end it first, or choose another name"
    )]
    Running {
        /// Namespace and name.
        name: String,
        /// The process that supervises it.
        supervisor: u32,
    },
    /// The manifest's own UID is in use by a pod of another name or state directory.
    #[error("a pod with UID {uid} is there already ({}); remove metadata.uid, or end that pod", cgroup.display())]
    UidTaken {
        /// The UID.
        uid: String,
        /// Its cgroup.
        cgroup: PathBuf,
    },
    /// No free subnet is left.
    #[error("no free subnet in {v4}{v6}: other pods, addresses or routes cover the range; choose another range")]
    NoAddress {
        /// The IPv4 range.
        v4: String,
        /// ` and ` with the IPv6 range, or empty.
        v6: String,
    },
    /// The kernel has no IPv6, and the pod is to have it.
    #[error("this machine has no IPv6; run the pod without an IPv6 range")]
    NoIpv6,
    /// A segment joins as many namespaces as it can.
    #[error("a split pod can have at most {0} parts on one segment: put several containers into one part")]
    SegmentFull(u8),
    /// Namespaces, cgroups, links or processes.
    #[error(transparent)]
    Kernel(#[from] sidewall_netns::Error),
    /// A file of the pod's state can't be read or written.
    #[error("can't {action} {}: {source}", path.display())]
    File {
        /// `read`, `write`, `create` or `remove`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A pod's state file is not what this version writes.
    #[error("{} is not a pod's state: {source}; if no such pod is running, remove its directory", path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// There is no such running pod.
    #[error("no running pod {name}; `list` shows those that run")]
    NoPod {
        /// Namespace and name.
        name: String,
    },
    /// The namespace that the state names can't be reached any more.
    #[error("the network namespace of {name} can't be reached: its supervisor is gone or has changed")]
    LostNamespace {
        /// Namespace and name of the pod.
        name: String,
    },
    /// The pod has no such container.
    #[error("the pod has no container {name:?}; it has {known}")]
    NoContainer {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The program is in no directory of `PATH`.
    #[error("no executable {program:?} in PATH ({path})")]
    NoProgram {
        /// The name looked for.
        program: String,
        /// Where.
        path: String,
    },
    /// An empty command.
    #[error("there is no command to run")]
    NoCommand,
    /// A command took longer than allowed and was killed.
    #[error("{program} was killed: it took longer than {limit_ms} ms")]
    Timeout {
        /// The program.
        program: String,
        /// The limit.
        limit_ms: u128,
    },
    /// A thread could not be started.
    #[error("can't start a thread: {0}; is the process limit reached?")]
    Thread(#[source] io::Error),
    /// The process that tries connections broke off.
    #[error("the prober is gone: {0}")]
    Prober(String),
    /// A port can't be published.
    #[error("can't publish on {at}: {source}")]
    Publish {
        /// The address asked for.
        at: std::net::SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Teardown could not remove everything; the rest was removed.
    #[error("could not remove everything of the pod: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Teardown(Vec<Error>),
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::File { action, path: path.into(), source }
    }
}
