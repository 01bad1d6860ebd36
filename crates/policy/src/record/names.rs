//! Who has an address, as the cluster knew it when the names were made.

use crate::addresses::Addresses;
use crate::index::Index;
use crate::resolve::{API_SERVER, DNS};
use crate::world::{Network, Pod, Service, World};
use sidewall_flow::{Protocol, RecordPeer, RecordPeerKind};
use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The most addresses that have names: dual-stack pods of the largest clusters with their Services. An entry takes
/// about 100 bytes and its name.
pub const NAMES_MAX: usize = 400_000;

/// The names of addresses on the pod network. Made once for each change of the cluster, and shared by all who record.
#[derive(Clone, Debug, Default)]
pub struct Names {
    known: BTreeMap<IpAddr, Named>,
    services: Addresses,
    nodes: Addresses,
    this_node: BTreeSet<IpAddr>,
    dns: BTreeSet<(IpAddr, Protocol, u16)>,
    left_out: usize,
}

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    Pod(Arc<(String, String)>),
    Service(Arc<(String, String)>),
    /// Several claim it: who it was is not known.
    Several(RecordPeerKind),
}

impl Names {
    /// The names that a cluster has. Pods that have ended or share their node's address have none.
    pub fn of(world: &World) -> Self {
        Self::made_of(&world.network, world.service_addresses(), &world.services, world.pods.iter().map(Cow::Borrowed))
    }

    /// The names that a cluster has which is kept ready for resolving.
    pub fn of_index(index: &Index) -> Self {
        Self::made_of(index.network(), index.service_addresses(), index.services(), index.pods().map(Cow::Owned))
    }

    fn made_of<'a>(
        network: &Network,
        service_addresses: Addresses,
        services: impl IntoIterator<Item = &'a Service>,
        pods: impl Iterator<Item = Cow<'a, Pod>>,
    ) -> Self {
        let mut names = Self {
            known: BTreeMap::new(),
            services: service_addresses,
            nodes: network.nodes.clone(),
            this_node: network.this_node.clone(),
            dns: network.dns.clone(),
            left_out: 0,
        };
        // A Service's address is judged as its own and nobody else's; so it is named.
        for service in services {
            let name = Arc::new((service.namespace.clone(), service.name.clone()));
            service.addresses.iter().for_each(|address| names.add(*address, Named::Service(Arc::clone(&name))));
        }
        for pod in pods.filter(|pod| !pod.ended && !pod.host_network) {
            let name = Arc::new((pod.namespace.clone(), pod.name.clone()));
            let own = pod.addresses.iter().filter(|address| !names.services.contains(**address)).copied();
            own.collect::<Vec<_>>().into_iter().for_each(|address| names.add(address, Named::Pod(Arc::clone(&name))));
        }
        names
    }

    /// How many addresses have no name because there are too many.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    fn add(&mut self, address: IpAddr, named: Named) {
        let full = self.known.len() >= NAMES_MAX;
        match self.known.entry(address) {
            Entry::Vacant(_) if full => self.left_out += 1,
            Entry::Vacant(vacant) => drop(vacant.insert(named)),
            Entry::Occupied(mut occupied) if *occupied.get() != named => {
                let kind = match named {
                    Named::Service(_) => RecordPeerKind::Service,
                    Named::Pod(_) | Named::Several(_) => RecordPeerKind::Address,
                };
                occupied.insert(Named::Several(kind));
            }
            Entry::Occupied(_) => {}
        }
    }

    /// The peer at an address, without the address itself.
    pub(super) fn peer(&self, address: Option<IpAddr>, protocol: Option<u8>, port: Option<u16>) -> RecordPeer {
        let Some(address) = address else { return RecordPeer::of(RecordPeerKind::Address) };
        let named = |kind, name: &(String, String)| RecordPeer {
            namespace: Some(name.0.clone()),
            name: Some(name.1.clone()),
            ..RecordPeer::of(kind)
        };
        let mut entity = None;
        let mut peer = match self.known.get(&address) {
            Some(Named::Pod(name)) => named(RecordPeerKind::Pod, name),
            Some(Named::Service(name)) => {
                let is = |service: (&str, &str)| (name.0.as_str(), name.1.as_str()) == service;
                entity = match () {
                    () if is(DNS) => Some("ClusterDNS"),
                    () if is(API_SERVER) => Some("KubeAPIServer"),
                    () => None,
                };
                named(RecordPeerKind::Service, name)
            }
            Some(Named::Several(kind)) => RecordPeer::of(*kind),
            None if self.services.contains(address) => RecordPeer::of(RecordPeerKind::Service),
            None if self.this_node.contains(&address) => {
                entity = Some("Node");
                RecordPeer::of(RecordPeerKind::Node)
            }
            None if self.nodes.contains(address) => RecordPeer::of(RecordPeerKind::Node),
            None => RecordPeer::of(RecordPeerKind::Address),
        };
        let socket = protocol.and_then(Protocol::from_number).zip(port);
        if socket.is_some_and(|(protocol, port)| self.dns.contains(&(address, protocol, port))) {
            entity = Some("ClusterDNS");
        }
        peer.entity = entity.map(str::to_owned);
        peer
    }
}
