//! Which sandboxes and containers the brain knows, for who lists what the runtime has: only the rest is looked at closely.

use sidewall_runtime_ids::{ContainerId, SandboxId};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// What is known, shared.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<Ids>>);

/// What is known at one moment.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    /// Sandboxes.
    pub sandboxes: BTreeSet<SandboxId>,
    /// Containers.
    pub containers: BTreeSet<ContainerId>,
}

impl Known {
    /// What is known now.
    pub fn now(&self) -> Ids {
        self.with(|ids| ids.clone())
    }

    /// Whether a sandbox is known.
    pub fn has_sandbox(&self, id: &SandboxId) -> bool {
        self.with(|ids| ids.sandboxes.contains(id))
    }

    /// A sandbox is known.
    pub fn sandbox(&self, id: &SandboxId) {
        self.with(|ids| ids.sandboxes.insert(id.clone()));
    }

    /// A sandbox is not known any more.
    pub fn sandbox_gone(&self, id: &SandboxId) {
        self.with(|ids| ids.sandboxes.remove(id));
    }

    /// A container is known.
    pub fn container(&self, id: &ContainerId) {
        self.with(|ids| ids.containers.insert(id.clone()));
    }

    /// A container is not known any more.
    pub fn container_gone(&self, id: &ContainerId) {
        self.with(|ids| ids.containers.remove(id));
    }

    fn with<T>(&self, what: impl FnOnce(&mut Ids) -> T) -> T {
        // A set of names is whole after each of these, whoever panicked.
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
