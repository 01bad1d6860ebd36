//! Namespaces, Services, the network and the subjects themselves that become otherwise, and whom that concerns.

use super::reader::Reads;
use super::services::Touched;
use super::{Index, Local, Named, SubjectId};
use crate::world::{Labels, Network, Service, Subject, Unreadable};
use std::collections::BTreeSet;

impl Index {
    pub(super) fn put_namespace(&mut self, name: &str, labels: Option<Labels>) -> BTreeSet<SubjectId> {
        if !self.namespaces.put(name, labels) {
            return BTreeSet::new();
        }
        let other_names = self.services.other_names().any(|service| service.namespace == name);
        let mut affected = self.readers(|reads| reads.attached || (other_names && reads.other_names));
        let labels = self.namespaces.labels(name);
        let groups = self.groups.get_mut();
        for id in self.workloads.of_namespace(name) {
            let traits = &self.workloads.workload(id).traits;
            for group in groups.revise(id, traits, &labels) {
                groups.changed(group);
                affected.extend(groups.readers(group));
            }
        }
        affected
    }

    pub(super) fn put_service(&mut self, name: &Named, service: Option<Service>) -> BTreeSet<SubjectId> {
        let Some(Touched { endpoints, addresses, other_name }) = self.services.put(name, service) else {
            return BTreeSet::new();
        };
        let mut affected = BTreeSet::new();
        // Most have theirs from the ranges, which are all known.
        let beyond = addresses.iter().any(|address| !self.network.services.contains(*address));
        let summed_up = beyond && self.services.sum_up(&self.network);
        if summed_up {
            let Network { nodes, this_node, .. } = &self.network;
            let mut others = addresses.iter();
            if others.any(|a| nodes.contains(*a) || this_node.contains(a) || !self.workloads.bearers(*a).is_empty()) {
                self.contested.take();
                return self.everyone();
            }
            let own = |subject: &Subject| subject.addresses.iter().any(|address| addresses.contains(address));
            let contested = self.subjects.iter().filter(|(_, local)| own(&local.subject));
            affected.extend(contested.map(|(id, _)| SubjectId(id)));
        }
        let groups = self.groups.get_mut();
        let mut before = BTreeSet::new();
        for pod in endpoints.iter().flat_map(|address| self.workloads.bearers(*address)) {
            before.extend(groups.of_workload(self.workloads.replica(*pod).workload));
        }
        affected.extend(self.readers(|reads| {
            reads.services
                || reads.named.contains(name)
                || (summed_up && reads.service_addresses)
                || (other_name && reads.other_names)
        }));
        for id in before {
            let readers = self.groups.get_mut().readers(id).clone();
            affected.extend(readers.into_iter().filter(|subject| self.subjects[subject.0].reads.before.contains(&id)));
        }
        affected
    }

    pub(super) fn put_unreadable(&mut self, policies: Vec<Unreadable>) -> BTreeSet<SubjectId> {
        let before = std::mem::replace(&mut self.unreadable, policies);
        let only = |these: &[Unreadable], those: &[Unreadable]| -> Vec<Option<String>> {
            these.iter().filter(|policy| !those.contains(policy)).map(|policy| policy.namespace.clone()).collect()
        };
        let mut namespaces = only(&before, &self.unreadable);
        namespaces.extend(only(&self.unreadable, &before));
        if before.len() != self.unreadable.len() && namespaces.is_empty() {
            return self.everyone();
        }
        let mut affected = BTreeSet::new();
        for namespace in namespaces {
            match namespace {
                None => return self.everyone(),
                Some(namespace) => affected.extend(self.in_namespace(&namespace)),
            }
        }
        affected
    }

    pub(super) fn put_network(&mut self, network: Network) -> BTreeSet<SubjectId> {
        if self.network == network {
            return BTreeSet::new();
        }
        self.network = network;
        self.services.sum_up(&self.network);
        self.strays.take();
        self.contested.take();
        self.everyone()
    }

    pub(super) fn put_subject(&mut self, subject: Subject) -> BTreeSet<SubjectId> {
        let name = Named::new(&subject.namespace, &subject.name);
        let id = match self.by_name.get(&name) {
            Some(id) => {
                let local = &mut self.subjects[id.0];
                if local.subject == subject {
                    return BTreeSet::new();
                }
                local.subject = subject;
                *id
            }
            None => {
                let id = SubjectId(self.subjects.insert(Local { subject, reads: Reads::default() }));
                self.by_name.insert(name, id);
                id
            }
        };
        BTreeSet::from([id])
    }

    pub(super) fn remove_subject(&mut self, name: &Named) -> BTreeSet<SubjectId> {
        let Some(id) = self.by_name.remove(name) else { return BTreeSet::new() };
        let Local { reads, .. } = self.subjects.remove(id.0);
        self.groups.get_mut().read(id, &BTreeSet::new(), &reads.groups);
        BTreeSet::from([id])
    }
}
