//! What there is in the cluster, as far as policies can speak of it.
//!
//! These are pruned forms of Kubernetes objects: the few fields that a verdict can depend on. [`objects`] makes them
//! from the objects themselves.

pub mod objects;

use crate::addresses::Addresses;
use crate::model::{DeclaredPort, Identities, Link};
use sidewall_api::{
    Attachments, ContainerNetworkPolicy, LabelSelector, MultiNetworkPolicy, NetworkPolicy, SidecarProxy,
};
use sidewall_flow::{ContainerId, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// An object's labels.
pub type Labels = BTreeMap<String, String>;

/// Everything that policies can speak of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// Namespaces and their labels. One that is not here has the label that Kubernetes gives every namespace.
    pub namespaces: BTreeMap<String, Labels>,
    /// The pods.
    pub pods: Vec<Pod>,
    /// The Services.
    pub services: Vec<Service>,
    /// The policies of containers.
    pub policies: Vec<ContainerNetworkPolicy>,
    /// The policies of pods on the pod network.
    pub network_policies: Vec<NetworkPolicy>,
    /// The policies of pods on further networks.
    pub multi_network_policies: Vec<MultiNetworkPolicy>,
    /// The proxies, which are policies too.
    pub proxies: Vec<SidecarProxy>,
    /// Policies that could not be understood: they isolate what they select.
    pub unreadable: Vec<Unreadable>,
    /// Where things are.
    pub network: Network,
}

/// A policy that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its kind.
    pub kind: crate::model::PolicyKind,
    /// Its namespace; none where that is unknown, and it may be about any.
    pub namespace: Option<String>,
    /// Its name, where it is known.
    pub name: Option<String>,
    /// What it selects, where that is certain; otherwise it may be about every pod of its namespace.
    pub pod_selector: Option<LabelSelector>,
    /// Why it could not be understood.
    pub reason: String,
}

/// A pod, as the peer of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its addresses; none while it has none.
    pub addresses: Vec<IpAddr>,
    /// The ports that its containers declare.
    pub ports: Vec<DeclaredPort>,
    /// It shares the node's network: its addresses are the node's and name nobody.
    pub host_network: bool,
    /// It has ended: its addresses may be another's by now.
    pub ended: bool,
    /// Its further networks and its addresses there. What of it can't be true is found out when policies are resolved.
    pub networks: Attachments,
}

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its cluster addresses; none where it is headless or only another name.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Its labels.
    pub labels: Labels,
    /// The name that it is another name for, where it is only that.
    pub external_name: Option<String>,
    /// Addresses that it only claims: its externalIPs and those of its load balancer. Whoever may write a Service may
    /// write anybody's address there, so that they mean nothing here.
    pub claimed: BTreeSet<IpAddr>,
}

/// A port of a Service with everything behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePort {
    /// Its number and protocol.
    pub port: Option<(Protocol, u16)>,
    /// The addresses and ports behind it: ready, serving or terminating, of every EndpointSlice. A port is absent where
    /// the slice does not tell it.
    pub endpoints: BTreeSet<(IpAddr, Option<u16>)>,
}

/// Where things are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The ranges that Services take their addresses from.
    pub services: Addresses,
    /// The ranges that pods take their addresses from.
    pub pods: Addresses,
    /// The addresses of all nodes.
    pub nodes: Addresses,
    /// This node's own source addresses toward the pod.
    pub this_node: BTreeSet<IpAddr>,
    /// Where the cluster's DNS answers, where that is configured; otherwise it is what stands behind the DNS Service.
    pub dns: BTreeSet<(IpAddr, Protocol, u16)>,
}

/// The pod that policies are resolved for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The device that leads out of it.
    pub interface: Option<String>,
    /// Its containers.
    pub containers: BTreeMap<ContainerId, SubjectContainer>,
    /// How the kernel tells their sockets apart.
    pub identities: Identities,
    /// The pod's further networks. The pod's own words (`Attachments::read`) are only a hint, which its author can
    /// write: where the node can be asked, what it says belongs here.
    pub networks: Attachments,
    /// What joins it to those of its containers that are in other namespaces, where some are. It must be the node's own
    /// knowledge: rules lead loopback there.
    pub link: Option<Link>,
}

/// A container of the pod that policies are resolved for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectContainer {
    /// Its name.
    pub name: String,
    /// The ports that it declares.
    pub ports: Vec<DeclaredPort>,
    /// The TCP ports that the kubelet probes over the network.
    pub probes: BTreeSet<u16>,
}

/// The label that Kubernetes gives every namespace: its name.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl World {
    /// A namespace's labels.
    pub fn namespace_labels(&self, namespace: &str) -> Labels {
        let mut labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        // Kubernetes sets it and lets nobody change it.
        labels.insert(NAMESPACE_NAME_LABEL.to_owned(), namespace.to_owned());
        labels
    }

    /// The Service of a name.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.namespace == namespace && service.name == name)
    }

    /// Every address that somebody has who is no Service: live pods, nodes, and a pod that policies are resolved for.
    pub fn own_addresses(&self, subject: &Subject) -> Addresses {
        let pods = self.pods.iter().filter(|pod| !pod.ended).flat_map(|pod| &pod.addresses);
        let single: Addresses = pods.chain(&subject.addresses).chain(&self.network.this_node).copied().collect();
        single.union(&self.network.nodes)
    }

    /// Every address that is a Service's: the ranges, and the known addresses.
    pub fn service_addresses(&self) -> Addresses {
        let known: Addresses = self.services.iter().flat_map(|service| service.addresses.iter().copied()).collect();
        self.network.services.union(&known)
    }
}
