//! What is told of the pods: to this node's object, to their owners, to the CNI plugin of a time without an agent.

use super::{Brain, Ready};
use crate::enforceability::Weight;
use crate::pod::Pod;
use jiff::Timestamp;
use sidewall_api::NodeEnforcementStatus;
use sidewall_api::enforcement::{EnforcementState, NodePodCounts, PodEnforcement, PolicyEnforcement};
use sidewall_cluster::enforcement::enforced_kind;
use sidewall_cluster::events::{Notice, Regarding};
use sidewall_cni::state::Standing;
use sidewall_policy::index::Named;
use sidewall_policy::model::PolicyName;
use sidewall_policy::record::Names;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The shortest time between two looks at everything.
const BETWEEN: Duration = Duration::from_millis(250);
/// The shortest time between two looks at who has which address. Records bear the names that were known then.
const NAMES: Duration = Duration::from_secs(5);
/// The most differences between rules that are named.
const DIFFERENCES: usize = 3;

impl Brain {
    /// Tells what has become otherwise.
    pub(super) fn tell(&mut self, now: Instant) {
        if !self.synced {
            return;
        }
        if std::mem::take(&mut self.changed.standings) {
            self.leave_standings();
        }
        self.tell_ready();
        if self.changed.names && now >= self.next_names {
            self.changed.names = false;
            self.next_names = now + NAMES;
            self.flows.set_names(Arc::new(Names::of_index(self.walls.index())));
        }
        let stale = self.health.borrow().stale_since();
        if stale != self.told_stale {
            self.told_stale = stale;
            self.changed.status = true;
        }
        if self.changed.status && now >= self.next_status && self.listed {
            self.changed.status = false;
            self.next_status = now + BETWEEN;
            let status = self.enforcement();
            self.writer.put(status);
        }
    }

    fn tell_ready(&mut self) {
        let busy = self.pods.values().any(|pod| matches!(pod.wall, crate::pod::Slot::Busy));
        // A pod that can't have its rules is told of by its own status; it does not keep the node's others waiting.
        let failing =
            |name: &Named| self.pods.get(name).is_some_and(|pod| pod.fault.is_some() || pod.subject.is_none());
        let waits = |id| self.by_subject.get(&id).is_some_and(|name| !failing(name));
        let unsettled = self.walls.pending().filter(|id| waits(*id)).count();
        let (synced, listed) = (self.may_replace(), self.listed);
        self.ready.send_if_modified(|ready| {
            let settled = ready.settled || synced && listed && unsettled == 0 && !busy;
            let now = Ready { synced, listed, unsettled, settled };
            if settled && !ready.settled {
                tracing::info!(pods = self.by_sandbox.len(), "the rules of all pods are in force");
            }
            let other = *ready != now;
            *ready = now;
            other
        });
    }

    fn leave_standings(&self) {
        let mut all = BTreeMap::new();
        for (name, selected) in self.walls.index().namespaces() {
            let Ok(namespace) = sidewall_cni::names::Namespace::try_from(name) else { continue };
            let standing = if selected { Standing::Selected } else { Standing::NothingSelects };
            all.insert(namespace, standing);
        }
        for exempt in &self.config.exempt_namespaces.0 {
            all.insert(exempt.clone(), Standing::Exempt);
        }
        self.standings.put(all);
    }

    /// What is in force on the node. What has become otherwise of a pod its owner is told.
    fn enforcement(&mut self) -> NodeEnforcementStatus {
        let now = Timestamp::now();
        let mut status = NodeEnforcementStatus { stale_since: self.stale_since(), ..NodeEnforcementStatus::default() };
        let mut policies: BTreeMap<PolicyName, (i32, i32)> = BTreeMap::new();
        let mut notices = Vec::new();
        let mut counts: BTreeMap<EnforcementState, i64> = BTreeMap::new();
        for (name, pod) in &mut self.pods {
            let Some(id) = pod.subject else {
                if let Some(entry) = guarded(name, pod) {
                    *counts.entry(entry.state).or_default() += 1;
                    count(&mut status.pods, entry.state);
                    status.pods.total += 1;
                    status.pod_list.push(entry);
                }
                continue;
            };
            let own_network = pod.api.as_ref().is_some_and(|api| !api.host_network);
            status.pods.total += i32::from(own_network);
            let resolved = self.walls.resolved(id);
            let pending = self.walls.is_pending(id);
            if !(resolved.is_some_and(|resolved| resolved.is_selected()) || pending && pod.walled) {
                continue;
            }
            let state = state(pod, pending);
            *counts.entry(state).or_default() += 1;
            count(&mut status.pods, state);
            for policy in resolved.iter().flat_map(|resolved| resolved.isolated_by()) {
                let of_policy = policies.entry(policy.clone()).or_default();
                of_policy.0 += 1;
                of_policy.1 += i32::from(state == EnforcementState::Enforced);
            }
            if pod.told.0 != state {
                pod.told = (state, now);
            }
            let reasons = reasons(pod);
            if !reasons.is_empty() {
                notices.extend(notice(name, pod, state, &reasons));
            }
            if std::mem::take(&mut pod.older) && state == EnforcementState::Enforced {
                notices.extend(late(name, pod));
            }
            status.pod_list.push(PodEnforcement {
                namespace: name.namespace.clone(),
                name: name.name.clone(),
                uid: pod.api.as_ref().map(|api| api.uid.clone()).unwrap_or_default(),
                state,
                identity: pod.identity,
                since: whole_seconds(pod.told.1).to_string(),
                reasons,
            });
        }
        for (policy, (selected, enforced)) in policies {
            let named = Named::new(&policy.namespace, &policy.name);
            let Some(kind) = enforced_kind(policy.kind) else { continue };
            status.policy_list.push(PolicyEnforcement {
                kind,
                observed_generation: self.walls.index().generation(policy.kind, &named),
                namespace: policy.namespace,
                name: policy.name,
                selected,
                enforced,
                unreadable: None,
            });
        }
        self.tell_unreadable(&mut status);
        self.metrics.pods(&counts);
        notices.into_iter().for_each(|notice| self.events.tell(notice));
        status
    }

    fn tell_unreadable(&self, status: &mut NodeEnforcementStatus) {
        for unreadable in self.walls.index().unreadable() {
            let Some(kind) = enforced_kind(unreadable.kind) else { continue };
            let namespace = unreadable.namespace.clone().unwrap_or_default();
            let name = unreadable.name.clone().unwrap_or_default();
            let same = |policy: &&mut PolicyEnforcement| {
                policy.kind == kind && policy.namespace == namespace && policy.name == name
            };
            match status.policy_list.iter_mut().find(same) {
                Some(policy) => policy.unreadable = Some(unreadable.reason.clone()),
                None => status.policy_list.push(PolicyEnforcement {
                    kind,
                    namespace,
                    name,
                    observed_generation: None,
                    selected: 0,
                    enforced: 0,
                    unreadable: Some(unreadable.reason.clone()),
                }),
            }
        }
    }

    fn stale_since(&self) -> Option<String> {
        let since = self.told_stale?;
        Some(whole_seconds(Timestamp::try_from(since).ok()?).to_string())
    }

    /// An earlier run's rules were not what the policies ask for now, and have been replaced.
    pub(super) fn tell_replaced(&self, name: &Named, differences: &[String]) {
        let what = some_of(differences);
        tracing::info!(namespace = %name.namespace, pod = %name.name, "rules of an earlier run are replaced: {what}");
    }

    /// Somebody has changed a pod's rules, and they are right again.
    pub(super) fn tell_repaired(&self, name: &Named, differences: &[String]) {
        let what = some_of(differences);
        tracing::warn!(namespace = %name.namespace, pod = %name.name, "somebody had changed the pod's rules: {what}");
        let Some(api) = self.pods.get(name).and_then(|pod| pod.api.as_ref()) else { return };
        self.events.tell(Notice {
            regarding: Regarding::pod(&name.namespace, &name.name, &api.uid),
            reason: "WallRepaired".to_owned(),
            action: "Enforce".to_owned(),
            note: format!("somebody had changed the pod's rules, and they are in force again: {what}"),
            warning: true,
        });
    }
}

/// The first differences, and how many more there are.
fn some_of(differences: &[String]) -> String {
    let some = differences[..differences.len().min(DIFFERENCES)].join("; ");
    match differences.len().saturating_sub(DIFFERENCES) {
        0 => some,
        more => format!("{some}, and {more} more"),
    }
}

fn state(pod: &Pod, pending: bool) -> EnforcementState {
    let passable = pod.obstacles.iter().any(|obstacle| obstacle.weight() != Weight::TooStrict);
    if pod.fault.is_some() || passable {
        EnforcementState::NotEnforced
    } else if pending || !pod.walled {
        EnforcementState::Pending
    } else {
        EnforcementState::Enforced
    }
}

const fn count(counts: &mut NodePodCounts, state: EnforcementState) {
    counts.selected += 1;
    match state {
        EnforcementState::Enforced => counts.enforced += 1,
        EnforcementState::Pending | EnforcementState::NotEnforced => counts.not_enforced += 1,
    }
}

fn reasons(pod: &Pod) -> Vec<String> {
    let mut obstacles: Vec<_> = pod.obstacles.iter().collect();
    obstacles.sort_by_key(|obstacle| std::cmp::Reverse(obstacle.weight()));
    let fault = pod.fault.as_ref().map(|fault| fault.message.clone());
    fault.into_iter().chain(obstacles.into_iter().map(ToString::to_string)).chain(pod.remarks.iter().cloned()).collect()
}

/// A pod whose containers can't be told from each other because they can't even be numbered: everything is denied.
fn guarded(name: &Named, pod: &Pod) -> Option<PodEnforcement> {
    let api = pod.api.as_ref().filter(|_| pod.walled && !pod.remarks.is_empty())?;
    Some(PodEnforcement {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        uid: api.uid.clone(),
        state: EnforcementState::NotEnforced,
        identity: None,
        since: String::new(),
        reasons: pod.remarks.clone(),
    })
}

fn notice(name: &Named, pod: &Pod, state: EnforcementState, reasons: &[String]) -> Option<Notice> {
    let api = pod.api.as_ref()?;
    let gravest = pod.obstacles.iter().max_by_key(|obstacle| obstacle.weight());
    let (reason, said) = match state {
        EnforcementState::NotEnforced => ("NotEnforceable", "policies select this pod and are not enforced"),
        EnforcementState::Pending | EnforcementState::Enforced => {
            ("EnforcedOtherwise", "policies select this pod, and more may be denied than they say")
        }
    };
    Some(Notice {
        regarding: Regarding::pod(&name.namespace, &name.name, &api.uid),
        reason: reason.to_owned(),
        action: gravest.map_or("Enforce", |obstacle| obstacle.reason()).to_owned(),
        note: format!("{said}: {}", reasons.join("; ")),
        warning: true,
    })
}

fn late(name: &Named, pod: &Pod) -> Option<Notice> {
    let api = pod.api.as_ref()?;
    Some(Notice {
        regarding: Regarding::pod(&name.namespace, &name.name, &api.uid),
        reason: "WalledLate".to_owned(),
        action: "Enforce".to_owned(),
        note: "the pod ran before this node's agent did: its rules are in force from now on, and connections that were open \
               before go on only where they allow it; restart the pod if it may have done what it should not"
            .to_owned(),
        warning: false,
    })
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
