//! Containers that are about to run their first instruction.

use super::Brain;
use crate::found::{Found, FoundContainer};
use crate::node;
use crate::pod::Container;
use crate::waiter::Waits;
use sidewall_nri::Veto;
use sidewall_runtime_ids::{ContainerId, SandboxId};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long a start waits for what is not known: the container itself, in the API server's words, or every kind of policy. A
/// tenth of the two seconds that runtimes wait; the guard stands meanwhile.
const IMPATIENT: Duration = Duration::from_millis(200);
/// How long a start waits at most, where its rules are being loaded or the guard is missing.
const UNTIL: Duration = Duration::from_millis(1200);

impl Brain {
    /// A container is about to start. The answer comes when rules that know it are in force.
    pub(super) fn start(
        &mut self,
        found: Option<Found>,
        container: FoundContainer,
        reply: oneshot::Sender<Result<(), Veto>>,
    ) {
        if let Some(found) = found {
            self.sandbox(found, false);
        }
        let Some(name) = self.by_sandbox.get(&container.sandbox).cloned() else {
            // It was known a moment ago: it is ending.
            let _ = reply.send(Err(Veto::new("the pod's sandbox is ending")));
            return;
        };
        let what = container.name.clone();
        self.container(container);
        if self.is_exempt(&name.namespace) {
            let _ = reply.send(Ok(()));
            return;
        }
        self.wait(&name, UNTIL, IMPATIENT, Waits::Start(what, reply));
    }

    /// A container is there.
    pub(super) fn container(&mut self, found: FoundContainer) {
        let FoundContainer { id, sandbox, name: container, running } = found;
        let Some(name) = self.by_sandbox.get(&sandbox).cloned() else { return };
        if self.node.pods.is_none() {
            // The first container of a node may be why there is a cgroup of all pods.
            self.node.pods = self.cgroups.as_ref().and_then(|cgroups| node::pods(&self.config, cgroups));
        }
        let Some(sandbox) = self.pods.get_mut(&name).and_then(|pod| pod.sandbox.as_mut()) else { return };
        // Runs that have ended are forgotten when another begins: their cgroups are gone, and their ids never come again.
        sandbox.containers.retain(|_, other| other.name != container || other.running.is_there());
        self.known.container(&id);
        sandbox.containers.insert(id, Container { name: container, running, seen: Instant::now() });
        self.refresh(&name);
    }

    /// A container is no more.
    pub(super) fn forget_container(&mut self, sandbox: &SandboxId, container: &ContainerId) {
        self.known.container_gone(container);
        let Some(name) = self.by_sandbox.get(sandbox).cloned() else { return };
        let sandbox = self.pods.get_mut(&name).and_then(|pod| pod.sandbox.as_mut());
        if sandbox.is_some_and(|sandbox| sandbox.containers.remove(container).is_some()) {
            self.refresh(&name);
        }
    }
}
