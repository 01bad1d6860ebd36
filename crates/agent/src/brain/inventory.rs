//! What the runtime has, compared with what was heard of.

use super::Brain;
use crate::found::Inventory;
use sidewall_policy::index::Named;
use sidewall_runtime_ids::SandboxId;
use std::time::Duration;

/// How long a sandbox may be known of that the runtime does not list: it lists one when the whole pod network is made, for which
/// a kubelet gives it four minutes. Where that fails it tells CNI, and so us.
const UNLISTED: Duration = Duration::from_secs(300);

impl Brain {
    /// Takes in what the runtime has, and forgets what it does not have any more.
    pub(super) fn take_stock(&mut self, inventory: Inventory) {
        let Inventory { began, sandboxes, containers, found, found_containers } = inventory;
        for found in found {
            self.sandbox(found, false);
        }
        for container in found_containers {
            self.container(container);
        }
        let mut gone: Vec<SandboxId> = Vec::new();
        for (id, name) in &self.by_sandbox {
            let sandbox = self.pods.get_mut(name).and_then(|pod| pod.sandbox.as_mut());
            match sandbox {
                Some(sandbox) if sandboxes.contains(id) => sandbox.listed = true,
                Some(sandbox) => {
                    if sandbox.seen < began && (sandbox.listed || sandbox.seen.elapsed() > UNLISTED) {
                        gone.push(id.clone());
                    }
                }
                None => gone.push(id.clone()),
            }
        }
        for id in gone {
            self.forget_sandbox(&id);
        }
        let names: Vec<Named> = self.by_sandbox.values().cloned().collect();
        for name in names {
            let sandbox = self.pods.get_mut(&name).and_then(|pod| pod.sandbox.as_mut());
            let forgotten = sandbox.map(|sandbox| sandbox.forget_containers(&containers, began)).unwrap_or_default();
            if !forgotten.is_empty() {
                forgotten.iter().for_each(|id| self.known.container_gone(id));
                self.refresh(&name);
            }
        }
        if !std::mem::replace(&mut self.listed, true) {
            // What an earlier run remembered and the runtime does not have has ended meanwhile.
            for (_, pod) in std::mem::take(&mut self.remembered) {
                if let Err(error) = self.memory.forget(&pod.uid) {
                    tracing::warn!(
                        namespace = pod.namespace,
                        pod = pod.name,
                        "what is remembered of a pod stays: {error}"
                    );
                }
            }
            self.changed.status = true;
            tracing::info!(sandboxes = self.by_sandbox.len(), "the runtime has said what it has");
        }
    }
}
