//! What the plugin does.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use crate::end::End;
use crate::model::{Container, Pod, RuntimeInfo};

/// What the runtime tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// What there is.
    Synchronize,
    /// A pod's sandbox is there, with its network.
    RunPod,
    /// A container is about to be made.
    CreateContainer,
    /// A container is about to run its first instruction.
    StartContainer,
    /// A container has ended, or is about to be ended.
    StopContainer,
    /// A container is taken away.
    RemoveContainer,
    /// A pod's sandbox is about to be ended.
    StopPod,
    /// A pod's sandbox is taken away.
    RemovePod,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A refusal, in words that a person finds in the pod's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veto(String);

impl Veto {
    /// The longest reason, in bytes; what is beyond is cut.
    pub const REASON_MAX: usize = 1024;

    /// A refusal: what is wrong, and what to do about it.
    pub fn new(reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        if reason.len() > Self::REASON_MAX {
            let end = (0..=Self::REASON_MAX).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
            reason.truncate(end);
        }
        Self(reason)
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Veto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A callback has not come to its end in time, and the runtime must be answered now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateCallback {
    /// Which callback.
    pub event: Event,
    /// Of what: a container's or a pod's id. `None` for [`Event::Synchronize`].
    pub id: Option<String>,
    /// How long it had.
    pub limit: Duration,
}

/// What to do about a late callback that could have refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// Refuse in its stead. The callback is dropped where it waits. The start fails, and the kubelet tries again.
    Veto,
    /// Answer that all is well, and let the callback go on beside; what it returns then is not looked at. Only for who knows
    /// that what it would have done is harmless when it is late.
    Accept,
}

/// What the plugin does. Callbacks may run at the same time, but those of one pod or container come one after the other, as
/// long as none is late.
///
/// Callbacks that return a `Result` can refuse; the runtime waits for them, and so does every other pod of the node: do what
/// must be done before, and no more. The others are told after the fact: when their time is over, the runtime is answered,
/// and they go on to their end.
pub trait Handler: Send + Sync + 'static {
    /// The runtime has registered the plugin. What there is comes next.
    fn connected(&self, _runtime: &RuntimeInfo) {}

    /// What there is: every pod, and every container, as the session begins. What happened while there was no session is to
    /// be found by comparing. What happens meanwhile comes after. A refusal ends the session.
    fn synchronize(&self, pods: Vec<Pod>, containers: Vec<Container>) -> impl Future<Output = Result<(), Veto>> + Send;

    /// A pod's sandbox is there: CNI has made its network, and its own process runs. A refusal takes it away again.
    fn run_pod(&self, pod: Pod) -> impl Future<Output = Result<(), Veto>> + Send;

    /// A container is about to be made; it has no process yet. Asked only with [`crate::Options::ask_at_create`].
    fn create_container(&self, _pod: Pod, _container: Container) -> impl Future<Output = Result<(), Veto>> + Send {
        async { Ok(()) }
    }

    /// A container is about to run its first instruction: its process, cgroup, user and namespaces are there.
    fn start_container(&self, pod: Pod, container: Container) -> impl Future<Output = Result<(), Veto>> + Send;

    /// A container has ended, or is about to be ended, or was refused. Its state is still the one before. May come more than
    /// once, or not at all.
    fn container_stopped(&self, pod: Pod, container: Container) -> impl Future<Output = ()> + Send;

    /// A container is taken away; its id does not come back.
    fn container_removed(&self, pod: Pod, container: Container) -> impl Future<Output = ()> + Send;

    /// A pod's sandbox is about to be ended.
    fn pod_stopped(&self, _pod: Pod) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// A pod's sandbox is taken away; its id does not come back.
    fn pod_removed(&self, pod: Pod) -> impl Future<Output = ()> + Send;

    /// A callback that could have refused is late: what now? Unless said otherwise a late synchronisation is accepted, since
    /// to refuse it would only begin it anew, and everything else refused.
    fn late(&self, late: &LateCallback) -> Late {
        match late.event {
            Event::Synchronize => Late::Accept,
            _ => Late::Veto,
        }
    }

    /// A session has ended, or none could be had, and the next one is tried after so long. Told by [`crate::run`] only, and
    /// often: while nobody listens, after every attempt.
    fn ended(&self, _end: &End, _again_in: Duration) {}
}
