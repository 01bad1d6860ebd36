//! The verdict of a flow, computed from the same [`ResolvedPod`] that the rules are compiled from.

use crate::model::{AttachmentId, Grant, Layer, Peers, PolicyName, Reach, ResolvedPod, RuleName, Side, Wire};
use serde::Serialize;
use sidewall_flow::{Action, ContainerId, Direction, Party, Protocol};
use std::net::IpAddr;

/// A flow that somebody opens or tries to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who opens it.
    pub sender: End,
    /// Who is to answer it.
    pub receiver: End,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The receiver's port.
    pub port: u16,
}

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// In the pod.
    Local(Party),
    /// On the pod network.
    Remote(IpAddr),
    /// On a further network of the pod. A number that is no attachment of the pod stands for a device that nobody knows.
    Attached(AttachmentId, IpAddr),
}

/// What happens to a flow, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is enforced.
    pub action: Action,
    /// What Enforce and Audit policies together would have given, where that differs.
    pub audit: Option<Action>,
    /// Why, for each side in the pod: the sender's first, and what holds for the pod as a whole before what holds for the
    /// container.
    pub halves: Vec<Half>,
}

/// The judgement of one side of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// Whose side.
    pub party: Party,
    /// In which direction.
    pub direction: Direction,
    /// Which policies were asked.
    pub level: Level,
    /// Why it came out so.
    pub reason: Reason,
}

/// The grain at which a side of a flow is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// The pod as a whole, at its edge.
    Pod,
    /// The container.
    Container,
}

/// Why a side of a flow passes or does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Reason {
    /// A container always reaches itself.
    Itself,
    /// No policy isolates the party for this traffic.
    NotIsolated,
    /// A rule allows it.
    #[serde(rename_all = "camelCase")]
    Allowed {
        /// The rule.
        rule: RuleName,
    },
    /// Policies isolate the party and none of their rules allows it.
    #[serde(rename_all = "camelCase")]
    Isolated {
        /// Those policies.
        by: Vec<PolicyName>,
    },
    /// Under identity by user, a receiver is known by the port that its container declares, and this one does not
    /// declare the port.
    #[serde(rename_all = "camelCase")]
    NotDeclared {
        /// The container that declares it, where one does.
        owner: Option<String>,
    },
    /// The other container is in another part of the split pod, to which nothing can be carried now: it is not ready, or has
    /// no address on the link.
    #[serde(rename_all = "camelCase")]
    NotReady {
        /// The part.
        part: String,
    },
    /// Traffic from the network that aims at this port is the front proxy's, and reaches nobody else.
    #[serde(rename_all = "camelCase")]
    Captured {
        /// The SidecarProxy that captures it.
        by: PolicyName,
        /// The container that is the proxy.
        proxy: String,
    },
}

impl End {
    /// The address of an end on a network, and which network it is where it is not the pod network.
    pub const fn on_network(self) -> Option<(Option<AttachmentId>, IpAddr)> {
        match self {
            Self::Local(_) => None,
            Self::Remote(address) => Some((None, address)),
            Self::Attached(attachment, address) => Some((Some(attachment), address)),
        }
    }
}

impl Reason {
    /// What the side comes to.
    pub const fn action(&self) -> Action {
        match self {
            Self::Itself | Self::NotIsolated | Self::Allowed { .. } => Action::Allow,
            Self::Isolated { .. } | Self::NotDeclared { .. } | Self::NotReady { .. } | Self::Captured { .. } => {
                Action::Deny
            }
        }
    }
}

/// Judges a flow.
///
/// A flow with no end in the pod passes, as nothing here sees it.
pub fn evaluate(pod: &ResolvedPod, flow: &Flow) -> Verdict {
    let halves = judge(pod, &pod.enforced, flow);
    let action = action(&halves);
    let audit = pod.audit.as_ref().map(|layer| self::action(&judge(pod, layer, flow))).filter(|audit| *audit != action);
    Verdict { action, audit, halves }
}

fn action(halves: &[Half]) -> Action {
    Action::from_allowed(halves.iter().all(|half| half.reason.action() == Action::Allow))
}

fn judge(pod: &ResolvedPod, layer: &Layer, flow: &Flow) -> Vec<Half> {
    match (flow.sender, flow.receiver) {
        (End::Local(sender), End::Local(receiver)) => loopback(pod, layer, flow, sender, receiver),
        (End::Local(sender), _) => edge(pod, sender, Direction::Egress, flow.receiver, flow)
            .into_iter()
            .chain([half(layer, sender, Direction::Egress, flow.receiver, flow)])
            .collect(),
        (_, End::Local(receiver)) => edge(pod, receiver, Direction::Ingress, flow.sender, flow)
            .into_iter()
            .chain([arrival(pod, layer, flow, receiver)])
            .collect(),
        (End::Remote(_) | End::Attached(..), End::Remote(_) | End::Attached(..)) => Vec::new(),
    }
}

/// What holds for the pod as a whole; none where nothing does.
fn edge(pod: &ResolvedPod, party: Party, direction: Direction, other: End, flow: &Flow) -> Option<Half> {
    let (attachment, _) = other.on_network()?;
    let side = pod.edge_toward(attachment).side(direction);
    let reason = judged(side, other, flow, true);
    (reason != Reason::NotIsolated).then_some(Half { party, direction, level: Level::Pod, reason })
}

/// Both sides of a flow within the pod.
fn loopback(pod: &ResolvedPod, layer: &Layer, flow: &Flow, sender: Party, receiver: Party) -> Vec<Half> {
    if let Some(halves) = linked(pod, layer, flow, sender, receiver) {
        return halves;
    }
    if !pod.identities.by_port() {
        return pair(layer, flow, sender, receiver);
    }
    // The rules see the sender and the port. Where even an unknown receiver may be reached, so may anybody.
    let open = pair(layer, flow, sender, Party::Unknown);
    if action(&open) == Action::Allow {
        return pair(layer, flow, sender, receiver);
    }
    let owner = pod.owner(flow.protocol, flow.port);
    match (owner, receiver) {
        (Some(owner), Party::Container(id)) if owner == id => pair(layer, flow, sender, receiver),
        // Nobody's port: over TCP, the container's own answer can be told from another's before any data flows.
        (None, Party::Container(_) | Party::Node) if sender == receiver && flow.protocol == Protocol::Tcp => {
            pair(layer, flow, sender, receiver)
        }
        _ => vec![half_loopback(layer, sender, Direction::Egress, receiver, flow), not_declared(pod, receiver, owner)],
    }
}

/// Both sides of a flow that a split pod's link is to carry, or that it keeps from being carried on loopback; none where the
/// link has nothing to do with it.
fn linked(pod: &ResolvedPod, layer: &Layer, flow: &Flow, sender: Party, receiver: Party) -> Option<Vec<Half>> {
    let link = pod.link.as_ref()?;
    let owner = pod.owner(flow.protocol, flow.port);
    let owner_elsewhere = owner.is_some_and(|owner| link.part_of(owner).is_some());
    let apart = match (pod.part_of(sender), pod.part_of(receiver)) {
        (None, None) if !owner_elsewhere => return None,
        (from, to) => from.map(|(name, _)| name) != to.map(|(name, _)| name),
    };
    let egress = || half_loopback(layer, sender, Direction::Egress, receiver, flow);
    // Within another part, nothing of this is seen here.
    if !apart && pod.is_elsewhere(sender) {
        return Some(Vec::new());
    }
    if owner.map(Party::Container) != Some(receiver) {
        return Some(vec![egress(), not_declared(pod, receiver, owner)]);
    }
    let mut halves = pair(layer, flow, sender, receiver);
    let not_ready = |party, direction, part: &str| Half {
        party,
        direction,
        level: Level::Pod,
        reason: Reason::NotReady { part: part.to_owned() },
    };
    match (pod.part_of(sender), pod.part_of(receiver)) {
        (None, Some((name, part))) => match (part.target(), link.own()) {
            (Some(target), Some(_)) => {
                let closed = !pod.link_edge_allows(Direction::Egress, target.into(), flow.protocol, flow.port);
                halves.extend(closed.then(|| link_edge(pod, sender, Direction::Egress, target.into(), flow)).flatten());
            }
            _ => halves.push(not_ready(sender, Direction::Egress, name)),
        },
        (Some((name, part)), None) => {
            let Some(source) = part.sources().next() else {
                halves.push(not_ready(receiver, Direction::Ingress, name));
                return Some(halves);
            };
            let closed = !pod.link_edge_allows(Direction::Ingress, source.into(), flow.protocol, flow.port);
            halves.extend(closed.then(|| link_edge(pod, receiver, Direction::Ingress, source.into(), flow)).flatten());
        }
        _ => {}
    }
    Some(halves)
}

/// What holds for the pod as a whole on its link, where that denies.
fn link_edge(pod: &ResolvedPod, party: Party, direction: Direction, other: IpAddr, flow: &Flow) -> Option<Half> {
    let device = &pod.link.as_ref()?.device;
    let (id, _) = pod.attached.iter().find(|(_, attached)| attached.device == *device)?;
    edge(pod, party, direction, End::Attached(*id, other), flow)
}

/// Whether both sides of a flow between two parties pass, whatever carries it.
pub(crate) fn pair_allows(layer: &Layer, flow: &Flow, sender: Party, receiver: Party) -> bool {
    action(&pair(layer, flow, sender, receiver)) == Action::Allow
}

/// Whether a side of a further network's edge lets a flow to or from an address pass.
pub(crate) fn edge_allows(side: &Side, attachment: AttachmentId, other: IpAddr, protocol: Protocol, port: u16) -> bool {
    let other = End::Attached(attachment, other);
    let flow = Flow { sender: other, receiver: other, protocol, port };
    judged(side, other, &flow, true).action() == Action::Allow
}

fn pair(layer: &Layer, flow: &Flow, sender: Party, receiver: Party) -> Vec<Half> {
    vec![
        half_loopback(layer, sender, Direction::Egress, receiver, flow),
        half_loopback(layer, receiver, Direction::Ingress, sender, flow),
    ]
}

fn half_loopback(layer: &Layer, party: Party, direction: Direction, other: Party, flow: &Flow) -> Half {
    // Two unknown processes may be two containers.
    if party == other && party != Party::Unknown {
        return Half { party, direction, level: Level::Container, reason: Reason::Itself };
    }
    half(layer, party, direction, End::Local(other), flow)
}

/// The receiver's side of a flow from the network.
fn arrival(pod: &ResolvedPod, layer: &Layer, flow: &Flow, receiver: Party) -> Half {
    let judged = |party| half(layer, party, Direction::Ingress, flow.sender, flow);
    if let Some(captured) = pod.captures(flow) {
        if receiver == Party::Container(captured.proxy) {
            return judged(receiver);
        }
        let proxy = pod.party_name(Party::Container(captured.proxy)).to_owned();
        let reason = Reason::Captured { by: captured.by.clone(), proxy };
        return Half { party: receiver, direction: Direction::Ingress, level: Level::Container, reason };
    }
    if !pod.identities.by_port() || judged(Party::Unknown).reason.action() == Action::Allow {
        return judged(receiver);
    }
    match (pod.owner(flow.protocol, flow.port), receiver) {
        (Some(owner), Party::Container(id)) if owner == id => judged(receiver),
        (owner, _) => not_declared(pod, receiver, owner),
    }
}

fn not_declared(pod: &ResolvedPod, receiver: Party, owner: Option<ContainerId>) -> Half {
    let owner = owner.map(|id| pod.party_name(Party::Container(id)).to_owned());
    let reason = Reason::NotDeclared { owner };
    Half { party: receiver, direction: Direction::Ingress, level: Level::Container, reason }
}

fn half(layer: &Layer, party: Party, direction: Direction, other: End, flow: &Flow) -> Half {
    let reason = judged(layer.side(party, direction), other, flow, false);
    Half { party, direction, level: Level::Container, reason }
}

/// What a side comes to; `edge` where it is a network's own.
fn judged(side: &Side, other: End, flow: &Flow, edge: bool) -> Reason {
    let wire = if other.on_network().is_some() { Wire::Network } else { Wire::Loopback };
    let by: Vec<PolicyName> = side
        .isolations
        .iter()
        .filter(|isolation| isolation.scope(wire).ports.contains(flow.protocol, flow.port))
        .map(|isolation| isolation.by.clone())
        .collect();
    if by.is_empty() {
        return Reason::NotIsolated;
    }
    match allowing(side, other, flow, edge) {
        Some(rule) => Reason::Allowed { rule: rule.clone() },
        None => Reason::Isolated { by },
    }
}

fn allowing<'a>(side: &'a Side, other: End, flow: &Flow, edge: bool) -> Option<&'a RuleName> {
    let grants = |grant: &Grant| match (other, other.on_network()) {
        (End::Local(party), _) => grant.peers.covers_party(party),
        // No rule speaks of groups of receivers.
        (_, Some((_, address))) if is_group(address) => false,
        (_, Some((attachment, address))) => {
            (edge || attachment.is_none() || grant.reach == Reach::EveryNetwork)
                && match &grant.peers {
                    Peers::Anyone => true,
                    Peers::Addresses(addresses) => addresses.contains(address),
                    Peers::Hosts(hosts) => hosts.contains(&address),
                    Peers::Sockets(sockets) => sockets.contains(&(address, flow.protocol, flow.port)),
                    Peers::Parties(_) => false,
                }
        }
        (_, None) => false,
    };
    let allows = |grant: &Grant| grant.ports.contains(flow.protocol, flow.port) && grants(grant);
    Some(&side.rules.iter().find(|rule| rule.grants.iter().any(allows))?.name)
}

fn is_group(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::from([255; 4])
}

#[cfg(test)]
mod tests;
