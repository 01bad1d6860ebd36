//! Pods that come, go and become otherwise, and whom that concerns.

use super::groups::{Brings, GroupId};
use super::workloads::{Before, Placed, Traits, WorkloadId};
use super::{Index, Named, SubjectId};
use crate::model::DeclaredPort;
use crate::world::{Network, Pod};
use sidewall_api::Attachments;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

impl Index {
    pub(super) fn put_pod(&mut self, pod: Pod) -> BTreeSet<SubjectId> {
        let name = Named::new(&pod.namespace, &pod.name);
        if self.workloads.is(&pod) {
            return BTreeSet::new();
        }
        let now = Portrait::of(&pod);
        let Placed { before, workload, is_new } = self.workloads.put(pod);
        let traits = self.workloads.workload(workload).traits.clone();
        if is_new {
            self.groups.get_mut().add(workload, &traits, &self.namespaces.labels(&name.namespace));
        }
        let now = State { workload, traits, portrait: now };
        let before = before.map(State::from);
        let affected = self.pod_changed(before.as_ref(), Some(&now));
        self.forget(before.map(|before| before.workload));
        affected
    }

    pub(super) fn remove_pod(&mut self, name: &Named) -> BTreeSet<SubjectId> {
        let Some(before) = self.workloads.remove(&name.namespace, &name.name) else { return BTreeSet::new() };
        let before = State::from(before);
        let affected = self.pod_changed(Some(&before), None);
        self.forget(Some(before.workload));
        affected
    }

    /// A workload whose last pod has gone is in no group any more.
    fn forget(&mut self, workload: Option<WorkloadId>) {
        if let Some(workload) = workload
            && self.workloads.forget(workload)
        {
            self.groups.get_mut().remove(workload);
        }
    }

    /// Whom it concerns that a pod is otherwise.
    fn pod_changed(&mut self, before: Option<&State>, now: Option<&State>) -> BTreeSet<SubjectId> {
        let mut affected = BTreeSet::new();
        let addresses =
            |state: Option<&State>| state.map_or_else(BTreeSet::new, |state| state.portrait.addresses.clone());
        let (had, has) = (addresses(before), addresses(now));
        let attached = [before, now].iter().flatten().any(|state| state.portrait.attached);
        if had.union(&has).any(|address| self.services.addresses().contains(*address)) {
            self.contested.take();
            affected.extend(self.everyone());
        }
        let others = before.map(|before| before.workload) != now.map(|now| now.workload);
        let namespace = before.or(now).map(|state| state.traits.namespace.clone()).unwrap_or_default();
        affected.extend(self.readers(|reads| {
            (attached && reads.attached)
                || (others && reads.peopled.contains(&*namespace))
                || had.union(&has).any(|address| reads.borne.contains(address))
        }));
        let Network { pods, nodes, .. } = &self.network;
        // One that another pod bears too neither came nor went.
        let strayed = had
            .symmetric_difference(&has)
            .filter(|address| !pods.contains(**address) && !nodes.contains(**address))
            .any(|address| self.workloads.bearers(*address).len() <= usize::from(has.contains(address)));
        if strayed {
            self.strays.take();
            affected.extend(self.readers(|reads| reads.stray_pods));
        }
        let groups = self.groups.get_mut();
        let groups_of =
            |state: Option<&State>| state.map_or_else(BTreeSet::new, |state| groups.of_workload(state.workload));
        let (left, joined) = (groups_of(before), groups_of(now));
        let changed: Vec<GroupId> = left
            .union(&joined)
            .filter(|id| {
                let brought = before.filter(|_| left.contains(id)).and_then(State::brings);
                let brings = now.filter(|_| joined.contains(id)).and_then(State::brings);
                brought != brings
            })
            .copied()
            .collect();
        for id in changed {
            let before = before.filter(|_| left.contains(&id)).map(State::to_group);
            groups.follow(id, before, now.filter(|_| joined.contains(&id)).map(State::to_group), &self.workloads);
            affected.extend(groups.readers(id));
        }
        affected
    }
}

/// What of a pod is its own and can concern others.
struct Portrait {
    addresses: BTreeSet<IpAddr>,
    attached: bool,
}

/// A pod at one moment.
struct State {
    workload: WorkloadId,
    traits: Arc<Traits>,
    portrait: Portrait,
}

impl Portrait {
    fn of(pod: &Pod) -> Self {
        Self { addresses: pod.addresses.iter().copied().collect(), attached: pod.networks != Attachments::default() }
    }
}

impl From<Before> for State {
    fn from(Before { traits, workload, addresses, networks }: Before) -> Self {
        let portrait = Portrait { addresses: addresses.iter().copied().collect(), attached: networks.is_some() };
        Self { workload, traits, portrait }
    }
}

impl State {
    fn to_group(&self) -> Brings<'_> {
        Brings { traits: &self.traits, addresses: &self.portrait.addresses }
    }

    /// What it brings into a group: its addresses at its ports, and whether they are its node's; nothing where it has none.
    fn brings(&self) -> Option<(bool, &[DeclaredPort], &BTreeSet<IpAddr>)> {
        let Self { traits, portrait, .. } = self;
        (traits.host_network || !portrait.addresses.is_empty()).then_some((
            traits.host_network,
            &traits.ports,
            &portrait.addresses,
        ))
    }
}
