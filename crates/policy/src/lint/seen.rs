//! What policies are held against: pods and namespaces, as far as they are known.

use crate::addresses::Addresses;
use crate::world::{self, Labels, NAMESPACE_NAME_LABEL, World};
use sidewall_api::PortProtocol;
use std::collections::BTreeMap;

/// A pod, as far as policies are held against it.
pub trait SeenPod {
    /// Its labels.
    fn labels(&self) -> &Labels;

    /// Whether it shares its node's network.
    fn host_network(&self) -> bool;

    /// Whether one of its containers declares a port of this name.
    fn declares(&self, name: &str, protocol: PortProtocol) -> bool;
}

impl SeenPod for world::Pod {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn host_network(&self) -> bool {
        self.host_network
    }

    fn declares(&self, name: &str, protocol: PortProtocol) -> bool {
        self.ports
            .iter()
            .any(|port| port.name.as_deref() == Some(name) && port.protocol.to_string() == protocol.as_str())
    }
}

/// What policies are held against.
pub struct Seen<'a> {
    /// The pods by their namespaces; a namespace of which none was read is not among them.
    pods: BTreeMap<&'a str, Vec<&'a dyn SeenPod>>,
    /// Namespaces and their labels.
    namespaces: BTreeMap<&'a str, &'a Labels>,
    /// The addresses that are Services'.
    pub services: Addresses,
    /// The addresses that are no peers.
    pub never_peers: Addresses,
    /// Whether these are the pods of every namespace, as far as there are any.
    pub everywhere: bool,
}

impl<'a> Seen<'a> {
    /// Everything of a world.
    pub fn of(world: &'a World) -> Self {
        let mut pods: BTreeMap<&str, Vec<&dyn SeenPod>> = BTreeMap::new();
        for pod in &world.pods {
            pods.entry(&pod.namespace).or_default().push(pod);
        }
        let namespaces = world.namespaces.iter().map(|(name, labels)| (name.as_str(), labels)).collect();
        Self {
            pods,
            namespaces,
            services: world.service_addresses(),
            never_peers: Addresses::never_peers(),
            everywhere: true,
        }
    }

    /// A namespace alone. Of all others nothing is known.
    pub fn of_namespace(name: &'a str, labels: Option<&'a Labels>, pods: &[&'a dyn SeenPod]) -> Self {
        let known = (!pods.is_empty()).then(|| (name, pods.to_vec()));
        Self {
            pods: known.into_iter().collect(),
            namespaces: labels.map(|labels| (name, labels)).into_iter().collect(),
            services: Addresses::default(),
            never_peers: Addresses::never_peers(),
            everywhere: false,
        }
    }

    /// Whether no pod was read at all.
    pub fn has_no_pods(&self) -> bool {
        self.pods.is_empty()
    }

    /// The pods of some namespaces; `None` where none was read.
    pub fn pods_of(&self, namespaces: impl Fn(&str) -> bool) -> Option<Vec<&'a dyn SeenPod>> {
        let pods: Vec<&dyn SeenPod> =
            self.pods.iter().filter(|(name, _)| namespaces(name)).flat_map(|(_, pods)| pods).copied().collect();
        (!pods.is_empty()).then_some(pods)
    }

    /// A namespace's labels.
    pub fn namespace_labels(&self, name: &str) -> Labels {
        let mut labels = self.namespaces.get(name).map(|labels| (*labels).clone()).unwrap_or_default();
        // Kubernetes sets it and lets nobody change it.
        labels.insert(NAMESPACE_NAME_LABEL.to_owned(), name.to_owned());
        labels
    }

    /// Whether a namespace's labels are known.
    pub fn knows_namespace(&self, name: &str) -> bool {
        self.namespaces.contains_key(name)
    }
}
