//! An index that answers for one subject, and remembers what was asked.

use super::groups::{Asking, GroupId};
use super::lookup::{AttachedPod, Lookup, PodQuery, Selected, Within};
use super::workloads::{PodId, Traits};
use super::{Index, Named};
use crate::addresses::Addresses;
use crate::world::{Labels, Network, Service, Subject, Unreadable};
use sidewall_api::{ContainerNetworkPolicy, LabelSelector, MultiNetworkPolicy, NetworkPolicy, SidecarProxy};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// What a subject's rules depend on, beyond itself and the policies of its namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    /// The groups of pods.
    pub groups: BTreeSet<GroupId>,
    /// Those before which it looked for Services.
    pub before: BTreeSet<GroupId>,
    /// Services by their names.
    pub named: BTreeSet<Named>,
    /// Every Service.
    pub services: bool,
    /// Which addresses are Services'.
    pub service_addresses: bool,
    /// Pods outside the known ranges.
    pub stray_pods: bool,
    /// Pods with further networks.
    pub attached: bool,
    /// Who bears these addresses on the pod network.
    pub borne: BTreeSet<IpAddr>,
    /// Services that are only other names.
    pub other_names: bool,
    /// Whether there are pods of some sort in these namespaces.
    pub peopled: BTreeSet<String>,
}

/// An index that answers for one subject.
pub(super) struct Reader<'a> {
    pub index: &'a Index,
    pub reads: RefCell<Reads>,
}

impl Lookup for Reader<'_> {
    fn network(&self) -> &Network {
        &self.index.network
    }

    fn policies(&self, namespace: &str) -> Vec<&ContainerNetworkPolicy> {
        self.index.policies.of(namespace).collect()
    }

    fn network_policies(&self, namespace: &str) -> Vec<&NetworkPolicy> {
        self.index.network_policies.of(namespace).collect()
    }

    fn multi_network_policies(&self, namespace: &str) -> Vec<&MultiNetworkPolicy> {
        self.index.multi_network_policies.of(namespace).collect()
    }

    fn proxies(&self, namespace: &str) -> Vec<&SidecarProxy> {
        self.index.proxies.of(namespace).collect()
    }

    fn unreadable(&self) -> Vec<&Unreadable> {
        self.index.unreadable.iter().collect()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        let name = Named::new(namespace, name);
        let service = self.index.services.get(&name);
        self.reads.borrow_mut().named.insert(name);
        service
    }

    fn services(&self) -> Vec<&Service> {
        self.reads.borrow_mut().services = true;
        self.index.services.all().collect()
    }

    fn other_names(&self) -> Vec<&Service> {
        self.reads.borrow_mut().other_names = true;
        self.index.services.other_names().collect()
    }

    fn services_before(&self, pods: &[Selected]) -> Vec<&Service> {
        self.reads.borrow_mut().before.extend(pods.iter().filter_map(|selected| selected.group));
        let hosts = pods.iter().flat_map(|selected| selected.hosts.values());
        // Where there are more addresses than Services, it is sooner done to look at every Service than at every address.
        if hosts.clone().map(|hosts| hosts.len()).sum::<usize>() >= self.index.services.count() {
            return self.index.services.all().collect();
        }
        self.index.services.before(hosts.flat_map(|hosts| hosts.iter()))
    }

    fn service_addresses(&self) -> Arc<Addresses> {
        self.reads.borrow_mut().service_addresses = true;
        self.index.services.addresses().clone()
    }

    fn stray_pods(&self) -> Arc<Addresses> {
        self.reads.borrow_mut().stray_pods = true;
        self.index.strays().clone()
    }

    fn pods(&self, query: &PodQuery<'_>) -> Selected {
        let Index { workloads, namespaces, groups, .. } = self.index;
        let mut groups = groups.borrow_mut();
        let group = groups.of(query, workloads, namespaces);
        self.reads.borrow_mut().groups.insert(group);
        let asking = query.own.and_then(|own| {
            let pod = workloads.find(own.namespace, own.name)?;
            Some(Asking { pod, counts: own.counts })
        });
        groups.tell(group, asking, query.ports, workloads)
    }

    fn attached_pods(&self, query: Option<&PodQuery<'_>>) -> Vec<AttachedPod<'_>> {
        self.reads.borrow_mut().attached = true;
        let workloads = &self.index.workloads;
        let pod = |id: PodId| {
            let replica = workloads.replica(id);
            let traits = &*workloads.workload(replica.workload).traits;
            let pod = AttachedPod {
                namespace: &traits.namespace,
                name: &replica.name,
                ports: &traits.ports,
                networks: replica.networks.as_deref()?,
            };
            let own = query.and_then(|query| query.own).is_some_and(|own| own.is(pod.namespace, pod.name));
            let named = query.is_none_or(|query| self.names(query, traits) && (own || !traits.host_network));
            (!traits.ended && named).then_some(pod)
        };
        workloads.attached().filter_map(pod).collect()
    }

    fn bearers(&self, address: IpAddr, query: Option<&PodQuery<'_>>) -> Vec<(&str, &str)> {
        self.reads.borrow_mut().borne.insert(address);
        let workloads = &self.index.workloads;
        let bearers = workloads.bearers(address).iter().map(|pod| workloads.replica(*pod));
        bearers
            .filter_map(|replica| {
                let traits = &*workloads.workload(replica.workload).traits;
                let named = query.is_none_or(|query| {
                    let own = query.own.filter(|own| own.is(&traits.namespace, &replica.name));
                    self.names(query, traits) && own.map_or(!traits.host_network, |own| own.counts)
                });
                (!traits.ended && named).then_some((&*traits.namespace, &*replica.name))
            })
            .collect()
    }

    fn anybody(&self, namespace: &str, pods: Option<&LabelSelector>) -> bool {
        self.reads.borrow_mut().peopled.insert(namespace.to_owned());
        let workloads = &self.index.workloads;
        let mut here = workloads.of_namespace(namespace).map(|id| workloads.workload(id));
        here.any(|workload| pods.is_none_or(|selector| selector.matches(&workload.traits.labels)))
    }

    fn namespace_labels(&self, namespace: &str) -> Cow<'_, Labels> {
        self.index.namespaces.labels(namespace)
    }

    fn contested(&self, subject: &Subject) -> Addresses {
        let Network { nodes, this_node, .. } = &self.index.network;
        let single: Addresses = subject.addresses.iter().chain(this_node).copied().collect();
        self.index.services.addresses().intersect(&single.union(nodes)).union(self.index.contested())
    }
}

impl Reader<'_> {
    /// Whether selectors name pods of these traits.
    fn names(&self, query: &PodQuery<'_>, traits: &Traits) -> bool {
        let here = match query.within {
            Within::Namespace(name) => *traits.namespace == *name,
            Within::Labelled(selector) => selector.matches(&self.index.namespaces.labels(&traits.namespace)),
        };
        here && query.pods.is_none_or(|selector| selector.matches(&traits.labels))
    }
}
