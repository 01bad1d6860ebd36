//! The link of a split pod: containers of the same pod that run in other namespaces and are reached by `localhost` all the
//! same.
//!
//! Policies know one pod, whose containers are wherever they are: in each namespace, `ResolvedPod` has them all. Of a flow
//! between two containers that a link carries, the sender's namespace judges both sides, as loopback would; the receiver's
//! sees the other part's address and no container behind it, and judges what anybody there may.

use crate::evaluate::{End, Flow, edge_allows, pair_allows};
use crate::model::{AttachmentId, ResolvedPod};
use sidewall_flow::{ContainerId, Direction, Party, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// What joins this namespace to those of the pod's other containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The device that leads there.
    pub device: String,
    /// Our own addresses there. The first IPv4 one is what is spoken under; IPv6 carries nothing.
    pub addresses: BTreeSet<IpAddr>,
    /// The other parts, by name.
    pub parts: BTreeMap<String, LinkedPart>,
}

/// Containers of the pod in another namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkedPart {
    /// Their addresses on the link.
    pub addresses: BTreeSet<IpAddr>,
    /// Which they are. They are among the pod's containers, without an identity.
    pub containers: BTreeSet<ContainerId>,
    /// Whether anything can be asked of them: until then, connections are refused.
    pub ready: bool,
}

impl Link {
    /// The address that we speak under.
    pub fn own(&self) -> Option<Ipv4Addr> {
        first_v4(&self.addresses)
    }

    /// The part that a container is in, and its name; none where it is here.
    pub fn part_of(&self, container: ContainerId) -> Option<(&str, &LinkedPart)> {
        let mut parts = self.parts.iter();
        parts.find(|(_, part)| part.containers.contains(&container)).map(|(name, part)| (name.as_str(), part))
    }
}

impl LinkedPart {
    /// The address to which connections are led; none while there is none, or the part is not ready.
    pub fn target(&self) -> Option<Ipv4Addr> {
        self.ready.then(|| first_v4(&self.addresses)).flatten()
    }

    /// Every IPv4 address of it, from which it may speak.
    pub fn sources(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.addresses.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
    }
}

fn first_v4(addresses: &BTreeSet<IpAddr>) -> Option<Ipv4Addr> {
    addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    })
}

impl ResolvedPod {
    /// The part that a party is in; none where it is here.
    pub fn part_of(&self, party: Party) -> Option<(&str, &LinkedPart)> {
        match party {
            Party::Container(id) => self.link.as_ref()?.part_of(id),
            Party::Unknown | Party::Node => None,
        }
    }

    /// Whether a party is in another namespace.
    pub fn is_elsewhere(&self, party: Party) -> bool {
        self.part_of(party).is_some()
    }

    /// Every party whose sockets are in this namespace, in the order of their numbers.
    pub fn local_parties(&self) -> impl Iterator<Item = Party> + '_ {
        self.parties().filter(|party| !self.is_elsewhere(*party))
    }

    /// The declared ports and whose they are: the first container that declares one has it, wherever it is.
    pub fn owners(&self) -> BTreeMap<(Protocol, u16), ContainerId> {
        let mut owners = BTreeMap::new();
        for (id, container) in &self.containers {
            for port in &container.ports {
                owners.entry((port.protocol, port.port)).or_insert(*id);
            }
        }
        owners
    }

    /// The declared ports whose containers are in another namespace: what is sent to them over loopback leaves by the link.
    pub fn ports_elsewhere(&self) -> impl Iterator<Item = (Protocol, u16, ContainerId)> {
        let owners = self.link.as_ref().map(|_| self.owners()).unwrap_or_default();
        let elsewhere: Vec<_> = owners
            .into_iter()
            .filter(|(_, id)| self.is_elsewhere(Party::Container(*id)))
            .map(|((protocol, port), id)| (protocol, port, id))
            .collect();
        elsewhere.into_iter()
    }

    /// The declared ports of this namespace's own containers.
    pub fn ports_here(&self) -> impl Iterator<Item = (Protocol, u16, ContainerId)> {
        let here: Vec<_> = self
            .owners()
            .into_iter()
            .filter(|(_, id)| !self.is_elsewhere(Party::Container(*id)))
            .map(|((protocol, port), id)| (protocol, port, id))
            .collect();
        here.into_iter()
    }

    /// Whether somebody in a part may reach a port of a container here, as far as this namespace can tell: by the policies
    /// of any of them, and by what holds for the pod as a whole on the link's device.
    pub fn is_served_to(&self, part: &LinkedPart, source: Ipv4Addr, port: (Protocol, u16, ContainerId)) -> bool {
        let (protocol, number, owner) = port;
        let receiver = Party::Container(owner);
        let mut senders = part.containers.iter().map(|id| Party::Container(*id)).chain([Party::Unknown, Party::Node]);
        self.link_edge_allows(Direction::Ingress, source.into(), protocol, number)
            && senders.any(|sender| may_reach(self, sender, receiver, protocol, number))
    }

    /// Whether what holds for the pod as a whole on the link's device lets a flow pass to, or from, an address of a part. The
    /// device is a further network like any other to a MultiNetworkPolicy.
    pub fn link_edge_allows(&self, direction: Direction, other: IpAddr, protocol: Protocol, port: u16) -> bool {
        let Some(attachment) = self.link_attachment() else { return true };
        edge_allows(self.edge_toward(Some(attachment)).side(direction), attachment, other, protocol, port)
    }

    /// The link among the pod's further networks, where it is one of them.
    fn link_attachment(&self) -> Option<AttachmentId> {
        let link = self.link.as_ref()?;
        self.attached.iter().find(|(_, attached)| attached.device == link.device).map(|(id, _)| *id)
    }
}

/// Whether the policies of both let a party's flow to a port of another pass, whatever carries it.
pub(crate) fn may_reach(pod: &ResolvedPod, sender: Party, receiver: Party, protocol: Protocol, port: u16) -> bool {
    let flow = Flow { sender: End::Local(sender), receiver: End::Local(receiver), protocol, port };
    pair_allows(&pod.enforced, &flow, sender, receiver)
}
