//! Writes this node's `NodeEnforcement`, and no other's.
//!
//! Whoever knows what is enforced says it as often as he likes: [`EnforcementWriter::put`] never waits. What is newest when
//! the last write has ended and a second has passed since it began is written, by server-side apply. Through an outage the
//! newest is kept and tried again.

mod write;

use crate::trouble::Trouble;
use kube::Client;
use sidewall_api::NodeEnforcementStatus;
use sidewall_api::enforcement::EnforcedKind;
use sidewall_policy::model::PolicyKind;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub(crate) use write::PATH;

/// The kind of policy under which it is told of; none of what nobody writes.
pub const fn enforced_kind(kind: PolicyKind) -> Option<EnforcedKind> {
    match kind {
        PolicyKind::ContainerNetworkPolicy => Some(EnforcedKind::ContainerNetworkPolicy),
        PolicyKind::SidecarProxy => Some(EnforcedKind::SidecarProxy),
        PolicyKind::NetworkPolicy => Some(EnforcedKind::NetworkPolicy),
        PolicyKind::MultiNetworkPolicy => Some(EnforcedKind::MultiNetworkPolicy),
        PolicyKind::Probes | PolicyKind::Guard => None,
    }
}

/// How often is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteTiming {
    /// The shortest time between two writes.
    pub interval: Duration,
    /// The longest, also where nothing is new, so that a node that is silent can be told from one that has nothing to say.
    pub heartbeat: Duration,
    /// The longest wait after a failure.
    pub longest_pause: Duration,
}

impl Default for WriteTiming {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            heartbeat: Duration::from_secs(300),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// How well writing goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteHealth {
    /// When the last write succeeded.
    pub written: Option<SystemTime>,
    /// How many writes have succeeded.
    pub writes: u64,
    /// Why what is newest is not written; none where it is, or soon will be.
    pub trouble: Option<Trouble>,
}

/// Writes one node's object until it is dropped. The object stays.
#[derive(Debug)]
pub struct EnforcementWriter {
    newest: watch::Sender<Option<NodeEnforcementStatus>>,
    health: watch::Receiver<WriteHealth>,
    task: AbortHandle,
}

impl EnforcementWriter {
    /// Begins to write for a node. Must be called inside a Tokio runtime.
    pub fn start(client: &Client, node: impl Into<String>, timing: WriteTiming) -> Self {
        let (newest, of_newest) = watch::channel(None);
        let (tell, health) = watch::channel(WriteHealth::default());
        let task = tokio::spawn(write::run(client.clone(), node.into(), timing, of_newest, tell)).abort_handle();
        Self { newest, health, task }
    }

    /// Says what is in force now. It is brought within the object's bounds; its version and time are filled in.
    pub fn put(&self, mut status: NodeEnforcementStatus) {
        status.agent_version = env!("CARGO_PKG_VERSION").to_owned();
        status.updated = String::new();
        status.bound();
        self.newest.send_if_modified(|newest| {
            let other = newest.as_ref() != Some(&status);
            *newest = Some(status);
            other
        });
    }

    /// How well writing goes, now and from now on.
    pub fn health(&self) -> watch::Receiver<WriteHealth> {
        self.health.clone()
    }
}

impl Drop for EnforcementWriter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
