//! From what policies mean to what stands in the kernel.

use super::{AT_ONCE, Brain};
use crate::pod::{Fault, Pod, Slot};
use crate::waiter::Outcome as Answer;
use crate::wall::Entry;
use crate::work::{Done, Inspected, Job, Outcome, Work};
use sidewall_cni::wire::Free;
use sidewall_policy::Generation;
use sidewall_policy::index::{Named, Step};
use sidewall_runtime_ids::SandboxId;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The wait after a first failure. It doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest wait after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Brain {
    /// The pod that is to be planned next: one for which somebody waits, else any.
    pub(super) fn next(&self) -> Option<Named> {
        if !self.may_replace() {
            return None;
        }
        let now = Instant::now();
        let awaited = self.awaited.iter().find(|name| self.is_due(name, now));
        if awaited.is_some() {
            return awaited.cloned();
        }
        if self.under_way >= AT_ONCE {
            return None;
        }
        let mut pending = self.walls.pending().filter_map(|id| self.by_subject.get(&id));
        pending.find(|name| self.is_due(name, now)).cloned()
    }

    /// Whether enough is known to replace what stands.
    pub(super) fn may_replace(&self) -> bool {
        let now = Instant::now();
        let listed = self.listed || now >= self.listed_until;
        self.synced && listed && (self.node.nri || now >= self.nri_until)
    }

    fn is_due(&self, name: &Named, now: Instant) -> bool {
        let Some(pod) = self.pods.get(name) else { return false };
        let Some(id) = pod.subject else { return false };
        let waits = !pod.waiters.is_empty() || self.walls.is_pending(id);
        let again = pod.fault.as_ref().is_none_or(|fault| now >= fault.again);
        waits && again && (pod.is_nowhere() || pod.is_idle())
    }

    /// Plans one pod, and has done what comes of it.
    pub(super) fn plan(&mut self, name: &Named) {
        let Some(pod) = self.pods.get_mut(name) else { return };
        let Some(id) = pod.subject else { return };
        let planned = if self.walls.is_pending(id) { self.walls.plan(id) } else { None };
        let Some(mut planned) = planned else { return self.settled(name) };
        if pod.is_nowhere() {
            // Nothing is loaded. The planner shall know what would be, to tell what is not enforced.
            if let Step::Load(fresh) = &mut planned.step {
                fresh.number(Generation::FIRST);
            }
            self.walls.done(planned);
            return self.settled(name);
        }
        let Some(sandbox) = pod.sandbox.as_ref().map(|sandbox| sandbox.id.clone()) else { return };
        let Some(wall) = pod.take_wall() else { return };
        let remember = pod.remember(name, None);
        let job = Job::Step(Box::new(planned), pod.remembered);
        self.under_way += 1;
        self.workers.start(Work { pod: name.clone(), sandbox, wall, remember, job });
    }

    /// Has everything of a pod denied of which too little is known.
    pub(super) fn guard(&mut self, name: &Named) {
        let Some(pod) = self.pods.get_mut(name) else { return };
        let Some(sandbox) = pod.sandbox.as_ref().map(|sandbox| sandbox.id.clone()) else { return };
        let Some(wall) = pod.take_wall() else { return };
        let remember = pod.remember(name, None);
        let subject = Box::new(crate::guarded::subject(name));
        self.under_way += 1;
        self.workers.start(Work { pod: name.clone(), sandbox, wall, remember, job: Job::Guard(subject) });
    }

    /// Has a pod's namespace looked at: its rules, if they stand, and where asked its devices.
    pub(super) fn inspect(&mut self, sandbox: &SandboxId, devices: bool) {
        let Some(name) = self.by_sandbox.get(sandbox).cloned() else { return };
        let Some(pod) = self.pods.get_mut(&name).filter(|pod| !pod.is_nowhere()) else { return };
        let standing =
            pod.subject.and_then(|id| Some((self.walls.generation(id)?, Arc::clone(self.walls.resolved(id)?))));
        let Some(wall) = pod.take_wall() else {
            // Whoever is at it may have looked before this.
            pod.again = Some(pod.again.unwrap_or(false) || devices);
            return;
        };
        self.under_way += 1;
        let containers = pod.sandbox.iter().flat_map(|sandbox| sandbox.containers.values());
        let own = containers.filter_map(|container| container.running.cgroup).collect();
        let job = Job::Inspect { standing, devices, own };
        self.workers.start(Work { pod: name, sandbox: sandbox.clone(), wall, remember: None, job });
    }

    /// Something was done.
    pub(super) fn done(&mut self, done: Done) {
        self.under_way = self.under_way.saturating_sub(1);
        let Done { pod: name, sandbox, wall, outcome, took, forgotten } = done;
        if let Some(error) = forgotten {
            tracing::warn!(namespace = %name.namespace, pod = %name.name, "a pod is not remembered: {error}");
        }
        let is_its = |pod: &&mut Pod| pod.sandbox.as_ref().is_some_and(|now| now.id == sandbox);
        let Some(pod) = self.pods.get_mut(&name).filter(is_its) else {
            // It has ended meanwhile, or has another sandbox by now: what was done in the old one says nothing.
            wall.into_iter().for_each(|wall| self.workers.end(wall));
            return;
        };
        match wall {
            Some(wall) => pod.wall = Slot::Idle(wall),
            None => pod.wall = Slot::Empty,
        }
        let again = pod.again.take();
        self.changed.status |= !matches!(outcome, Outcome::Inspected(Ok(_)));
        match outcome {
            Outcome::Stepped(planned, Ok(entry)) => {
                self.metrics.stepped(&entry, took);
                pod.fault = None;
                // From now on it is this run that has loaded what stands. A step that failed has changed nothing.
                pod.remembered = None;
                pod.walled = !matches!(planned.step, Step::Unload);
                match &entry {
                    Entry::Replaced(differences) => self.tell_replaced(&name, differences),
                    _ => {
                        tracing::debug!(namespace = %name.namespace, pod = %name.name, ?entry, ?took, "rules are in force");
                    }
                }
                self.walls.done(*planned);
                self.settled(&name);
            }
            Outcome::Guarded(Ok(entry)) => {
                self.metrics.stepped(&entry, took);
                pod.fault = None;
                pod.remembered = None;
                pod.walled = true;
                self.answer(&name, &Answer::Walled);
                // Whatever came meanwhile is planned over it.
                if let Some(id) = self.pods.get(&name).and_then(|pod| pod.subject) {
                    self.walls.lost(id);
                }
            }
            Outcome::Inspected(Ok(Inspected { repaired, seen })) => {
                if !repaired.is_empty() {
                    self.metrics.repairs.inc();
                    self.tell_repaired(&name, &repaired);
                }
                let sandbox = self.pods.get_mut(&name).and_then(|pod| pod.sandbox.as_mut());
                if let Some(((devices, foreign), sandbox)) = seen.zip(sandbox)
                    && (sandbox.devices != devices || sandbox.foreign != foreign)
                {
                    (sandbox.devices, sandbox.foreign) = (devices, foreign);
                    self.refresh(&name);
                }
            }
            Outcome::Stepped(_, Err(error)) | Outcome::Guarded(Err(error)) | Outcome::Inspected(Err(error)) => {
                self.failed(&name, &error.to_string());
            }
            Outcome::Lost => {
                // Its descriptors went with the thread; the runtime's list brings others.
                self.forget_sandbox(&sandbox);
                tracing::error!(namespace = %name.namespace, pod = %name.name, "a worker has ended before its work was done");
            }
        }
        if let Some(devices) = again {
            self.inspect(&sandbox, devices);
        }
    }

    fn failed(&mut self, name: &Named, message: &str) {
        self.metrics.failures.inc();
        let Some(pod) = self.pods.get_mut(name) else { return };
        let times = pod.fault.as_ref().map_or(0, |fault| fault.times).saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << times.min(16).saturating_sub(1)).min(LONGEST_PAUSE);
        if pod.fault.as_ref().is_none_or(|fault| fault.message != message) {
            tracing::error!(namespace = %name.namespace, pod = %name.name, "rules can't be put in force: {message}");
        }
        pod.fault = Some(Fault { message: message.to_owned(), again: Instant::now() + pause, times });
        self.changed.status = true;
        let message = format!("Sidewall can't put the rules of this pod in force: {message}");
        self.answer(name, &Answer::Failed(message));
    }

    /// What policies ask for a pod stands.
    fn settled(&mut self, name: &Named) {
        self.changed.status = true;
        if !self.awaited.contains(name) {
            return;
        }
        let exempt = self.is_exempt(&name.namespace);
        let Some(pod) = self.pods.get_mut(name) else { return };
        if pod.subject.is_some_and(|id| self.walls.is_pending(id)) {
            // Something has become otherwise while this was done: what whoever waits asked for may not be in it yet.
            return;
        }
        let selected = pod.subject.is_some_and(|id| self.walls.generation(id).is_some());
        let outcome = match selected {
            _ if exempt => Answer::Free(Free::Exempt),
            true => Answer::Walled,
            false => Answer::Free(Free::NothingSelects),
        };
        // Who waits for a container that the pod does not have yet goes on waiting, but not long.
        let known: Vec<String> =
            pod.api.iter().flat_map(|api| &api.containers).map(|container| container.name.clone()).collect();
        let waiters = pod.take_waiters();
        let (served, stay): (Vec<_>, Vec<_>) =
            waiters.into_iter().partition(|waiter| !selected || waiter.is_served_by(&known));
        pod.waiters = stay;
        if pod.waiters.is_empty() {
            self.awaited.remove(name);
        }
        served.into_iter().for_each(|waiter| waiter.tell(outcome.clone()));
    }
}
