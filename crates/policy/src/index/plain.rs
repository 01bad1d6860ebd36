//! A [`World`] that answers by looking through its lists.

use super::lookup::{AttachedPod, Lookup, PodQuery, Selected, Within};
use crate::addresses::Addresses;
use crate::ports::Ports;
use crate::resolve::resolve_ports;
use crate::world::objects::namespace;
use crate::world::{Labels, Network, Pod, Service, Subject, Unreadable, World};
use sidewall_api::{
    Attachments, ContainerNetworkPolicy, LabelSelector, MultiNetworkPolicy, NetworkPolicy, SidecarProxy,
};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

impl Lookup for World {
    fn network(&self) -> &Network {
        &self.network
    }

    fn policies(&self, of: &str) -> Vec<&ContainerNetworkPolicy> {
        self.policies.iter().filter(|policy| namespace(policy.metadata.namespace.as_deref()) == of).collect()
    }

    fn network_policies(&self, of: &str) -> Vec<&NetworkPolicy> {
        self.network_policies.iter().filter(|policy| namespace(policy.metadata.namespace.as_deref()) == of).collect()
    }

    fn multi_network_policies(&self, of: &str) -> Vec<&MultiNetworkPolicy> {
        let policies = self.multi_network_policies.iter();
        policies.filter(|policy| namespace(policy.metadata.namespace.as_deref()) == of).collect()
    }

    fn proxies(&self, of: &str) -> Vec<&SidecarProxy> {
        self.proxies.iter().filter(|proxy| namespace(proxy.metadata.namespace.as_deref()) == of).collect()
    }

    fn unreadable(&self) -> Vec<&Unreadable> {
        self.unreadable.iter().collect()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        Self::service(self, namespace, name)
    }

    fn services(&self) -> Vec<&Service> {
        self.services.iter().collect()
    }

    fn other_names(&self) -> Vec<&Service> {
        self.services.iter().filter(|service| service.external_name.is_some()).collect()
    }

    fn services_before(&self, _: &[Selected]) -> Vec<&Service> {
        Lookup::services(self)
    }

    fn service_addresses(&self) -> Arc<Addresses> {
        Arc::new(Self::service_addresses(self))
    }

    fn stray_pods(&self) -> Arc<Addresses> {
        let Network { pods, nodes, .. } = &self.network;
        let all: Addresses = self.pods.iter().flat_map(|pod| pod.addresses.iter().copied()).collect();
        Arc::new(all.subtract(pods).subtract(nodes))
    }

    fn pods(&self, query: &PodQuery<'_>) -> Selected {
        let mut hosts: BTreeMap<Ports, BTreeSet<IpAddr>> = BTreeMap::new();
        let mut shared = false;
        for pod in self.named_by(query) {
            let is_own = query.own.is_some_and(|own| own.is(&pod.namespace, &pod.name));
            if is_own && query.own.is_some_and(|own| !own.counts) {
                continue;
            }
            if pod.host_network && !is_own {
                shared = true;
                continue;
            }
            let ports = query.ports.map_or_else(Ports::all, |ports| resolve_ports(ports, &pod.ports));
            hosts.entry(ports).or_default().extend(&pod.addresses);
        }
        hosts.retain(|ports, addresses| !ports.is_empty() && !addresses.is_empty());
        let hosts = hosts.into_iter().map(|(ports, addresses)| (ports, Arc::new(addresses))).collect();
        Selected { hosts, shared, group: None }
    }

    fn attached_pods(&self, query: Option<&PodQuery<'_>>) -> Vec<AttachedPod<'_>> {
        let pods = match query {
            None => self.pods.iter().filter(|pod| !pod.ended).collect(),
            Some(query) => {
                let is_own = |pod: &Pod| query.own.is_some_and(|own| own.is(&pod.namespace, &pod.name));
                let mut pods = self.named_by(query);
                pods.retain(|pod| !pod.host_network || is_own(pod));
                pods
            }
        };
        let attached = pods.into_iter().filter(|pod| pod.networks != Attachments::default());
        attached
            .map(|Pod { namespace, name, ports, networks, .. }| AttachedPod { namespace, name, ports, networks })
            .collect()
    }

    fn bearers(&self, address: IpAddr, query: Option<&PodQuery<'_>>) -> Vec<(&str, &str)> {
        let pods = match query {
            None => self.pods.iter().filter(|pod| !pod.ended).collect(),
            Some(query) => {
                let mut pods = self.named_by(query);
                pods.retain(|pod| match query.own.filter(|own| own.is(&pod.namespace, &pod.name)) {
                    Some(own) => own.counts,
                    None => !pod.host_network,
                });
                pods
            }
        };
        let bearers = pods.into_iter().filter(|pod| pod.addresses.contains(&address));
        bearers.map(|pod| (&*pod.namespace, &*pod.name)).collect()
    }

    fn anybody(&self, namespace: &str, pods: Option<&LabelSelector>) -> bool {
        let mut here = self.pods.iter().filter(|pod| pod.namespace == namespace);
        here.any(|pod| pods.is_none_or(|selector| selector.matches(&pod.labels)))
    }

    fn namespace_labels(&self, namespace: &str) -> Cow<'_, Labels> {
        Cow::Owned(Self::namespace_labels(self, namespace))
    }

    fn contested(&self, subject: &Subject) -> Addresses {
        Self::service_addresses(self).intersect(&self.own_addresses(subject))
    }
}

impl World {
    /// The pods that live and that selectors name.
    fn named_by(&self, query: &PodQuery<'_>) -> Vec<&Pod> {
        let mut found: BTreeMap<&str, bool> = BTreeMap::new();
        let here = |pod: &Pod| match query.within {
            Within::Namespace(name) => pod.namespace == name,
            Within::Labelled(selector) => selector.matches(&Self::namespace_labels(self, &pod.namespace)),
        };
        let mut named = Vec::new();
        for pod in &self.pods {
            let here = *found.entry(&pod.namespace).or_insert_with(|| here(pod));
            if here && !pod.ended && query.pods.is_none_or(|selector| selector.matches(&pod.labels)) {
                named.push(pod);
            }
        }
        named
    }
}
