//! What resolving asks of a cluster.
//!
//! There is one resolver and two that answer it: a [`World`](crate::World) by looking through its lists, an
//! [`Index`](super::Index) from what it keeps ready. The first is short enough to be seen to be right; the second is
//! tested against it.

use super::groups::GroupId;
use crate::addresses::Addresses;
use crate::model::DeclaredPort;
use crate::ports::Ports;
use crate::world::{Labels, Network, Service, Subject, Unreadable};
use sidewall_api::{
    Attachments, ContainerNetworkPolicy, LabelSelector, MultiNetworkPolicy, NetworkPolicy, PolicyPort, SidecarProxy,
};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// A cluster that a resolver can ask.
pub(crate) trait Lookup {
    /// Where things are.
    fn network(&self) -> &Network;

    /// The ContainerNetworkPolicies of a namespace.
    fn policies(&self, namespace: &str) -> Vec<&ContainerNetworkPolicy>;

    /// The NetworkPolicies of a namespace.
    fn network_policies(&self, namespace: &str) -> Vec<&NetworkPolicy>;

    /// The MultiNetworkPolicies of a namespace.
    fn multi_network_policies(&self, namespace: &str) -> Vec<&MultiNetworkPolicy>;

    /// The SidecarProxies of a namespace.
    fn proxies(&self, namespace: &str) -> Vec<&SidecarProxy>;

    /// Every policy that could not be understood.
    fn unreadable(&self) -> Vec<&Unreadable>;

    /// The Service of a name.
    fn service(&self, namespace: &str, name: &str) -> Option<&Service>;

    /// Every Service.
    fn services(&self) -> Vec<&Service>;

    /// The Services that are only other names.
    fn other_names(&self) -> Vec<&Service>;

    /// At least the Services that have an endpoint among the addresses of these pods, and those that share an address with
    /// one of them; each once.
    fn services_before(&self, pods: &[Selected]) -> Vec<&Service>;

    /// Every address that is a Service's: the ranges, and the known addresses.
    fn service_addresses(&self) -> Arc<Addresses>;

    /// The addresses of pods, whatever their state, but for those that [`Network::pods`] or [`Network::nodes`] hold.
    fn stray_pods(&self) -> Arc<Addresses>;

    /// The pods that selectors name.
    fn pods(&self, query: &PodQuery<'_>) -> Selected;

    /// The pods that live and say anything of further networks: all of them, or those that selectors name, but for those
    /// that share their node's network.
    fn attached_pods(&self, query: Option<&PodQuery<'_>>) -> Vec<AttachedPod<'_>>;

    /// The namespaces and names of the pods that live and have an address on the pod network: of all of them, or of those
    /// that [`Lookup::pods`] has the address from.
    fn bearers(&self, address: IpAddr, query: Option<&PodQuery<'_>>) -> Vec<(&str, &str)>;

    /// Whether there is a pod with such labels in a namespace, whatever its state.
    fn anybody(&self, namespace: &str, pods: Option<&LabelSelector>) -> bool;

    /// A namespace's labels.
    fn namespace_labels(&self, namespace: &str) -> Cow<'_, Labels>;

    /// The addresses of Services that somebody else has too: live pods, nodes, the subject.
    fn contested(&self, subject: &Subject) -> Addresses;
}

/// Which pods are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodQuery<'q> {
    /// The namespaces: those that a selector names, or one.
    pub within: Within<'q>,
    /// The pods in them; all where there is none.
    pub pods: Option<&'q LabelSelector>,
    /// The ports of a rule, where they are the selected pods' own: a named port can differ from pod to pod.
    pub ports: Option<&'q [PolicyPort]>,
    /// The pod for which they are asked for, where it is anything special.
    pub own: Option<Own<'q>>,
}

/// The pod for which others are asked for. It is no pod that shares its node's network, whatever is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own<'q> {
    /// Its namespace.
    pub namespace: &'q str,
    /// Its name.
    pub name: &'q str,
    /// Whether it is one of those that are asked for, where the selectors name it.
    pub counts: bool,
}

/// The namespaces that are asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Within<'q> {
    /// One, by its name.
    Namespace(&'q str),
    /// Those that a selector names.
    Labelled(&'q LabelSelector),
}

/// A pod with what it says of its further networks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttachedPod<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The ports that its containers declare.
    pub ports: &'a [DeclaredPort],
    /// Its networks.
    pub networks: &'a Attachments,
}

/// Addresses by the ports that are meant there.
pub(crate) type HostsByPorts = BTreeMap<Ports, Arc<BTreeSet<IpAddr>>>;

/// The pods that selectors name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selected {
    /// The addresses of those that live, by the numbers that the asked ports have there; under all ports where none were
    /// asked for. No entry is without ports or addresses.
    pub hosts: HostsByPorts,
    /// Whether there are pods among them that share their node's network: they have no address of their own.
    pub shared: bool,
    /// What an index keeps them as.
    pub group: Option<GroupId>,
}

impl Own<'_> {
    /// Whether it is the pod of this name.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }
}
