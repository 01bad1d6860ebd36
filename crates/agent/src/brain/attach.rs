//! Pods that start and end, as the CNI plugin tells.

use super::Brain;
use crate::found::{Found, Place};
use crate::pod::{Sandbox, Slot};
use crate::waiter::{Outcome, Waiter, Waits};
use crate::watching::{Notices, Watcher, Watching};
use sidewall_cni::wire::{Answer, Detachment, Free, Reason, Valid};
use sidewall_policy::index::Named;
use sidewall_runtime_ids::SandboxId;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long a pod that starts waits for the API server to tell of it. The kubelet knows it from there, so that it comes
/// within milliseconds as a rule.
const IMPATIENT: Duration = Duration::from_millis(1500);
/// How much earlier than the plugin's own deadline it is answered.
const MARGIN: Duration = Duration::from_millis(1000);

/// What is said where the agent has just begun.
const NOT_SYNCED: &str = "Sidewall's agent has not yet learned every kind of policy from the API server";

impl Brain {
    /// A pod is attached to a network. The answer comes when its rules are in force.
    pub(super) fn attach(&mut self, found: Found, reply: oneshot::Sender<Answer>) {
        let name = found.pod.clone();
        self.sandbox(found, true);
        if self.is_exempt(&name.namespace) {
            let _ = reply.send(Answer::Free(Free::Exempt));
            return;
        }
        let timeout = Duration::from_millis(self.config.cni.timeout_milliseconds.into());
        self.wait(&name, timeout.saturating_sub(MARGIN).max(timeout / 2), IMPATIENT, Waits::Attach(reply));
    }

    pub(super) fn wait(&mut self, name: &Named, until: Duration, impatient: Duration, what: Waits) {
        let now = Instant::now();
        let pod = self.pods.entry(name.clone()).or_default();
        // Whoever waits is not to wait for the end of a pause.
        if let Some(fault) = &mut pod.fault {
            fault.again = now;
        }
        pod.waiters.push(Waiter { until: now + until, impatient: now + impatient.min(until), what });
        self.awaited.insert(name.clone());
    }

    /// An attachment has ended. With the one to the pod network everything ends; rules go with the namespace, and are not
    /// taken away from one that may live on.
    pub(super) fn detach(&mut self, detachment: &Detachment) {
        let Ok(id) = detachment.container.as_str().parse::<SandboxId>() else { return };
        let Some(pod) = self.by_sandbox.get(&id).and_then(|name| self.pods.get_mut(name)) else { return };
        let Some(sandbox) = &mut pod.sandbox else { return };
        let further = detachment
            .interface
            .as_ref()
            .is_some_and(|interface| sandbox.made.get(interface.as_str()).is_some_and(|made| made.network.is_some()));
        if !further {
            self.forget_sandbox(&id);
        }
    }

    /// What the runtime has on a network. Its own list of sandboxes tells more.
    pub(super) fn collect(&mut self, valid: &Valid) {
        tracing::debug!(network = valid.network.as_str(), attachments = valid.attachments.len(), "CNI's GC");
    }

    /// Whether a pod could start now.
    pub(super) fn status(&self, reply: oneshot::Sender<Answer>) {
        let answer =
            if self.may_replace() { Answer::Ready } else { Answer::refused(Reason::NotReady, NOT_SYNCED.to_owned()) };
        let _ = reply.send(answer);
    }

    /// A sandbox is there. `fresh`: its network has just been made.
    pub(super) fn sandbox(&mut self, found: Found, fresh: bool) {
        let Found { id, pod: name, uid, handler, made, reported, place } = found;
        let Place { wall, devices, walled, notices, sources } = place;
        self.sources.extend(sources);
        let netns = wall.id();
        let now = Instant::now();
        let remembered = self.remembered.remove(id.as_str()).filter(|remembered| remembered.netns == netns);
        let pod = self.pods.entry(name.clone()).or_default();
        match &mut pod.sandbox {
            Some(sandbox) if sandbox.id == id && sandbox.netns == netns => {
                sandbox.made.extend(made);
                sandbox.uid = uid.or(sandbox.uid.take());
                if let Some(handler) = handler {
                    sandbox.handler = handler;
                }
                if !reported.is_empty() {
                    sandbox.reported = reported;
                }
                sandbox.devices = devices;
                sandbox.seen = now;
                if matches!(pod.wall, Slot::Empty) {
                    pod.wall = Slot::Idle(wall);
                }
            }
            before => {
                let old = before.replace(Sandbox {
                    id: id.clone(),
                    uid,
                    netns,
                    handler: handler.unwrap_or_default(),
                    made,
                    reported,
                    devices,
                    foreign: std::collections::BTreeSet::new(),
                    containers: std::collections::BTreeMap::new(),
                    seen: now,
                    listed: false,
                    watching: notices.and_then(|notices| listen(&self.watcher, &id, notices)),
                });
                if let Slot::Idle(old) = std::mem::replace(&mut pod.wall, Slot::Idle(wall)) {
                    self.workers.end(old);
                }
                pod.walled = walled;
                pod.fault = None;
                pod.remembered = None;
                let older = !fresh && !walled && remembered.is_none();
                if let Some(remembered) = remembered {
                    pod.remembered =
                        remembered.rules.and_then(|rules| sidewall_policy::Generation::new(rules.generation));
                    if let Some(sandbox) = &mut pod.sandbox {
                        for (device, made) in remembered.devices {
                            sandbox.made.entry(device).or_insert(made);
                        }
                        sandbox.uid = sandbox.uid.take().or(Some(remembered.uid));
                    }
                }
                pod.older = older;
                if let Some(id) = pod.subject {
                    self.walls.lost(id);
                }
                if let Some(old) = old {
                    self.by_sandbox.remove(&old.id);
                    self.known.sandbox_gone(&old.id);
                }
                self.known.sandbox(&id);
                self.by_sandbox.insert(id, name.clone());
            }
        }
        self.refresh(&name);
    }

    /// A sandbox is no more. Its rules go with its namespace, once nobody holds that any longer: nor do we.
    pub(super) fn forget_sandbox(&mut self, id: &SandboxId) {
        let Some(name) = self.by_sandbox.remove(id) else { return };
        self.known.sandbox_gone(id);
        let Some(pod) = self.pods.get_mut(&name) else { return };
        let Some(sandbox) = pod.sandbox.take() else { return };
        if let Some(uid) = &sandbox.uid
            && let Err(error) = self.memory.forget(uid)
        {
            tracing::warn!(namespace = %name.namespace, pod = %name.name, "what is remembered of a pod stays: {error}");
        }
        if let Slot::Idle(wall) = std::mem::take(&mut pod.wall) {
            self.workers.end(wall);
        }
        pod.walled = false;
        pod.fault = None;
        if let Some(id) = pod.subject {
            self.walls.lost(id);
        }
        self.answer(&name, &Outcome::Failed("the pod's sandbox ended while its rules were loaded".to_owned()));
        self.refresh(&name);
    }

    /// Those who have waited long enough.
    pub(super) fn look_after_waiters(&mut self, now: Instant) {
        let due: Vec<Named> = self.awaited.iter().filter(|name| self.is_impatient(name, now)).cloned().collect();
        for name in due {
            self.make_do(&name, now);
        }
    }

    fn is_impatient(&self, name: &Named, now: Instant) -> bool {
        self.pods.get(name).is_none_or(|pod| pod.waiters.iter().any(|waiter| now >= waiter.impatient))
    }

    /// Makes do with what is known of a pod.
    fn make_do(&mut self, name: &Named, now: Instant) {
        let ready = self.may_replace();
        let selected = self.walls.index().may_select(&name.namespace);
        let Some(pod) = self.pods.get_mut(name) else {
            self.awaited.remove(name);
            return;
        };
        let late = pod.waiters.iter().any(|waiter| now >= waiter.until);
        let pending = pod.subject.is_some_and(|id| self.walls.is_pending(id));
        let starts = pod.waiters.iter().all(|waiter| matches!(waiter.what, Waits::Start(..)));
        match (ready, pod.subject.is_some()) {
            // Rules stand by which nobody who is not known passes: a container may start, and gets its own when they come.
            (false, _) if starts && pod.walled => self.answer(name, &Outcome::Walled),
            (false, _) if late => self.answer(name, &Outcome::NotReady(NOT_SYNCED.to_owned())),
            (false, _) => {}
            (true, false) if !selected => self.answer(name, &Outcome::Free(Free::NothingSelects)),
            (true, false) if pod.walled => self.answer(name, &Outcome::Walled),
            (true, false) if pod.is_idle() => self.guard(name),
            (true, true) if starts && pod.walled && !pending => self.answer(name, &Outcome::Walled),
            _ if late => {
                let outcome = match starts && pod.walled {
                    true => Outcome::Walled,
                    false => {
                        Outcome::Failed("Sidewall's agent could not put the pod's rules in force in time".to_owned())
                    }
                };
                self.answer(name, &outcome);
            }
            _ => {}
        }
    }
}

fn listen(watcher: &Watcher, id: &SandboxId, notices: Notices) -> Option<Watching> {
    let watching = watcher.watch(id.clone(), notices);
    watching.inspect_err(|error| tracing::warn!(sandbox = %id, "changes are noticed late: {error}")).ok()
}
