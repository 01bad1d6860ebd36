//! A pod with everything that its policies mean for it: what [`crate::compile()`] and [`crate::evaluate()`] both read.
//!
//! Selectors, names and Services are gone here; what is left are parties, addresses and ports. Because rules and
//! verdicts both come from this one value, they can differ only where the compiler or the evaluator is wrong, and the
//! differential test looks for just that.

use crate::addresses::Addresses;
pub use crate::captured::Captured;
pub use crate::link::{Link, LinkedPart};
use crate::ports::Ports;
use serde::Serialize;
use sidewall_flow::{ContainerId, Direction, Party, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A pod as its policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPod {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The device that leads to the pod network; none where it is not known.
    pub interface: Option<String>,
    /// Its addresses on the pod network, as far as they are known.
    pub addresses: BTreeSet<IpAddr>,
    /// What holds on the pod network for the pod as a whole, whichever container it is: its NetworkPolicies. A flow must
    /// pass here *and* with its container, so that neither kind of policy opens what the other closes.
    pub edge: Sides,
    /// The pod's further networks.
    pub attached: BTreeMap<AttachmentId, Attached>,
    /// What holds for the pod as a whole on a device that is none of these. Without an `interface`, it is the pod
    /// network's and this is not looked at.
    pub elsewhere: Sides,
    /// The containers by their number.
    pub containers: BTreeMap<ContainerId, Container>,
    /// How the kernel tells the containers' sockets apart.
    pub identities: Identities,
    /// What its front proxy takes of the traffic that aims at the application.
    pub captured: Option<Captured>,
    /// What joins it to those of its containers that run in other namespaces, where some do. They are among `containers`,
    /// and policies speak of them as of the others; no socket of theirs is here.
    pub link: Option<Link>,
    /// What is enforced.
    pub enforced: Layer,
    /// What Enforce and Audit policies together would enforce, where there are Audit policies.
    pub audit: Option<Layer>,
    /// What the author of a policy should know: what does not mean what it seems to, for example.
    pub notes: Vec<Note>,
}

/// The number of an attachment within its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct AttachmentId(pub u8);

/// A further network that the pod is attached to, by a device of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The network: namespace and name of its NetworkAttachmentDefinition, `namespace/name`.
    pub network: String,
    /// The device that leads there.
    pub device: String,
    /// The pod's addresses there, as its author tells of them.
    pub addresses: BTreeSet<IpAddr>,
    /// What holds there for the pod as a whole: its MultiNetworkPolicies.
    pub edge: Sides,
}

/// A container of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The ports that it declares, in the manifest's order.
    pub ports: Vec<DeclaredPort>,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeclaredPort {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// How the kernel tells the containers' sockets apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identities {
    /// By the cgroup v2 in which a socket was made.
    Cgroup {
        /// The depth of the containers' cgroups below the root of the hierarchy.
        level: u8,
        /// Each container's cgroups, by their ids. One that has not started has none.
        containers: BTreeMap<ContainerId, BTreeSet<u64>>,
        /// The depth of the cgroup that holds all pods.
        pods_level: u8,
        /// The id of the cgroup that holds all pods: what is outside it is the node's.
        pods: u64,
    },
    /// By the user who made a socket.
    Uid(UserIdentities),
    /// By the group of the process that made a socket.
    Gid(UserIdentities),
}

/// Identities by user or group number.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UserIdentities {
    /// Each container's number.
    pub containers: BTreeMap<ContainerId, u32>,
    /// The numbers under which the node's own processes appear. Never one of a container.
    pub node: BTreeSet<u32>,
}

/// What one set of policies means for every party.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Layer {
    /// What holds for each party; a party that is not named is not isolated.
    pub parties: BTreeMap<Party, Sides>,
}

/// What holds for a party in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sides {
    /// What it may receive.
    pub ingress: Side,
    /// What it may open.
    pub egress: Side,
}

/// What holds for a party in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Side {
    /// The policies that isolate it, and for what.
    pub isolations: Vec<Isolation>,
    /// What is allowed all the same.
    pub rules: Vec<Rule>,
}

/// That a policy isolates a party in a direction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Isolation {
    /// The policy.
    pub by: PolicyName,
    /// What it isolates over loopback.
    pub loopback: Scope,
    /// What it isolates on the pod interface.
    pub network: Scope,
}

/// The traffic that an isolation is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Scope {
    /// Transport ports.
    pub ports: Ports,
    /// Everything that has no ports.
    pub others: bool,
}

impl Scope {
    /// Everything.
    pub fn all() -> Self {
        Self { ports: Ports::all(), others: true }
    }

    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether it is about nothing.
    pub fn is_none(&self) -> bool {
        !self.others && self.ports.is_empty()
    }

    /// What either is about.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { ports: self.ports.union(&other.ports), others: self.others || other.others }
    }
}

/// The way that a flow takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wire {
    /// The pod's loopback device, which also carries what is sent to the pod's own address.
    Loopback,
    /// The device that leads out of the pod.
    Network,
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands.
    pub name: RuleName,
    /// What it allows: all of it, in any order.
    pub grants: Vec<Grant>,
    /// Whether it may come to single addresses with ports of their own that it does not come to yet: the first pod that
    /// declares a port of the name that it gives, a Service that is not there.
    pub awaits: bool,
}

/// Peers and ports that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The peers.
    pub peers: Peers,
    /// The ports: of the container for ingress, of the peer for egress.
    pub ports: Ports,
    /// On which networks it holds, where a container's policy has it. At an edge it holds on that edge's network.
    pub reach: Reach,
}

/// The networks on which a grant of a container's policy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// The pod network: pods, Services and entities have their addresses there, and the same address may be somebody
    /// else's on another network.
    PodNetwork,
    /// Whichever network leads there: the policy gives addresses themselves, or says everywhere.
    EveryNetwork,
}

/// The other ends that a grant is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Everybody, in the pod and outside it.
    Anyone,
    /// Parties of the same pod, over loopback.
    Parties(BTreeSet<Party>),
    /// Addresses on the network, in blocks.
    Addresses(Arc<Addresses>),
    /// Single addresses on the network: pods. Apart from blocks, because these come and go while the pod lives.
    Hosts(Arc<BTreeSet<IpAddr>>),
    /// Single addresses with a port each, whatever the grant's ports: Services.
    Sockets(BTreeSet<(IpAddr, Protocol, u16)>),
}

/// A policy's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyName {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Where a rule or an isolation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum PolicyKind {
    /// A ContainerNetworkPolicy.
    ContainerNetworkPolicy,
    /// A NetworkPolicy.
    NetworkPolicy,
    /// A MultiNetworkPolicy.
    MultiNetworkPolicy,
    /// What a SidecarProxy implies.
    SidecarProxy,
    /// The probes that the pod itself declares.
    Probes,
    /// The default deny that stands before a pod's policies are known.
    Guard,
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleName {
    /// The policy.
    pub policy: PolicyName,
    /// The direction.
    pub direction: Direction,
    /// Its place in the policy's list for that direction, from 0.
    pub index: usize,
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.index)
    }
}

/// What the author of a policy, or of the pod, should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// The policy that it is about; none where it is about the pod.
    pub policy: Option<PolicyName>,
    /// What to know.
    pub message: String,
}

impl ResolvedPod {
    /// Every party of the pod, in the order of their numbers.
    pub fn parties(&self) -> impl Iterator<Item = Party> + '_ {
        self.containers.keys().copied().map(Party::Container).chain([Party::Unknown, Party::Node])
    }

    /// A party's name for people.
    pub fn party_name(&self, party: Party) -> &str {
        match party {
            Party::Container(id) => self.containers.get(&id).map_or("(removed container)", |c| &c.name),
            Party::Unknown => "(unknown)",
            Party::Node => "(node)",
        }
    }

    /// The container of a name.
    pub fn container(&self, name: &str) -> Option<ContainerId> {
        self.containers.iter().find(|(_, container)| container.name == name).map(|(id, _)| *id)
    }

    /// The container that declares a port; the one with the lowest number where several do.
    pub fn owner(&self, protocol: Protocol, port: u16) -> Option<ContainerId> {
        self.containers
            .iter()
            .find(|(_, c)| c.ports.iter().any(|d| d.protocol == protocol && d.port == port))
            .map(|(id, _)| *id)
    }

    /// Whether it needs rules: because a policy says something of it, or because they carry its link.
    pub fn is_selected(&self) -> bool {
        if self.link.is_some() {
            return true;
        }
        let isolates = |layer: &Layer| layer.parties.values().any(Sides::isolate);
        let edges = || self.attached.values().map(|attached| &attached.edge).chain([&self.edge, &self.elsewhere]);
        isolates(&self.enforced) || self.audit.as_ref().is_some_and(isolates) || edges().any(Sides::isolate)
    }

    /// The policies that isolate the pod, or one of its parties, in either direction: those that are about it.
    pub fn isolated_by(&self) -> BTreeSet<&PolicyName> {
        let layers = std::iter::once(&self.enforced).chain(&self.audit);
        let edges = self.attached.values().map(|attached| &attached.edge).chain([&self.edge, &self.elsewhere]);
        let sides = layers.flat_map(|layer| layer.parties.values()).chain(edges);
        let isolations = sides.flat_map(|sides| sides.ingress.isolations.iter().chain(&sides.egress.isolations));
        isolations.map(|isolation| &isolation.by).collect()
    }

    /// What holds for the pod as a whole where an end on the network is reached.
    pub fn edge_toward(&self, attachment: Option<AttachmentId>) -> &Sides {
        match attachment {
            None => &self.edge,
            Some(id) => self.attached.get(&id).map_or(&self.elsewhere, |attached| &attached.edge),
        }
    }
}

impl Identities {
    /// Whether the receiver of a loopback packet is known only by the port that its container declares.
    pub const fn by_port(&self) -> bool {
        matches!(self, Self::Uid(_) | Self::Gid(_))
    }
}

impl Layer {
    /// What holds for a party in a direction.
    pub fn side(&self, party: Party, direction: Direction) -> &Side {
        static OPEN: Side = Side { isolations: Vec::new(), rules: Vec::new() };
        self.parties.get(&party).map_or(&OPEN, |sides| sides.side(direction))
    }
}

impl Sides {
    /// What holds in a direction.
    pub const fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// The same, to be changed.
    pub const fn side_mut(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    /// Whether any policy isolates here, in either direction.
    pub const fn isolate(&self) -> bool {
        !self.ingress.isolations.is_empty() || !self.egress.isolations.is_empty()
    }
}

impl Side {
    /// What is isolated on a wire, by all policies together.
    pub fn scope(&self, wire: Wire) -> Scope {
        self.isolations.iter().fold(Scope::none(), |all, isolation| all.union(isolation.scope(wire)))
    }
}

impl Isolation {
    /// What it isolates on a wire.
    pub const fn scope(&self, wire: Wire) -> &Scope {
        match wire {
            Wire::Loopback => &self.loopback,
            Wire::Network => &self.network,
        }
    }
}

impl Peers {
    /// Whether a party of the same pod is among them.
    pub fn covers_party(&self, party: Party) -> bool {
        match self {
            Self::Anyone => true,
            Self::Parties(parties) => parties.contains(&party),
            Self::Addresses(_) | Self::Hosts(_) | Self::Sockets(_) => false,
        }
    }
}
