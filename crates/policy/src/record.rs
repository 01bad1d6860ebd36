//! From what the kernel logs of a flow to what is told of it.
//!
//! A log message has a [`Decision`], which names parties by number; a [`Recorder`] knows whose numbers they are, who has
//! which address, and what the policies mean, and makes a [`FlowRecord`] of the message. Numbers are not given to another
//! container while the pod lives, so that a message can be read whichever generation of the rules wrote it.

mod judged;
mod names;
#[cfg(test)]
mod tests;

pub use names::{NAMES_MAX, Names};

use crate::evaluate::End;
use crate::model::{AttachmentId, Identities, ResolvedPod, UserIdentities};
use sidewall_flow::{
    Decision, Direction, FlowRecord, IpProtocol, Party, Place, RecordEnd, RecordIcmp, RecordParty, RecordPeer,
    RecordPeerKind, RecordWay, RecordWire, Timestamp, Version,
};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// The most policies that a record names, so that no record is large.
pub const POLICIES_MAX: usize = 16;

/// The name of every namespace's loopback device.
const LOOPBACK_DEVICE: &str = "lo";
/// An attachment that no pod has: it stands for a device that nobody knows.
const NO_ATTACHMENT: AttachmentId = AttachmentId(u8::MAX);

/// What the kernel logged of a packet that met a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The place in the ruleset.
    pub decision: Decision,
    /// When.
    pub time: Timestamp,
    /// Whether the packet was leaving a socket of the pod or arriving.
    pub way: RecordWay,
    /// The device that it was to leave by or came by, where its name is known.
    pub device: Option<String>,
    /// The user of the socket that the kernel found with the packet.
    pub uid: Option<u32>,
    /// The group of that socket.
    pub gid: Option<u32>,
    /// The packet, where its headers could be read.
    pub packet: Option<LoggedPacket>,
    /// The connection that it belongs to, where conntrack knows one.
    pub connection: Option<LoggedConnection>,
}

/// What a packet's headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedPacket {
    /// Who sent it.
    pub source: RecordEnd,
    /// Whom it is for.
    pub destination: RecordEnd,
    /// The protocol's number.
    pub protocol: u8,
    /// Type and code, of ICMP and ICMPv6.
    pub icmp: Option<RecordIcmp>,
}

/// How a packet's connection was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedConnection {
    /// Who opened it.
    pub source: RecordEnd,
    /// Whom it was meant for.
    pub destination: RecordEnd,
    /// The protocol's number.
    pub protocol: u8,
    /// Whether the packet went back to the one who opened.
    pub reply: bool,
}

/// Makes records of one pod's log messages, under the policies of one moment. It shares the pod and the names with whoever
/// gave them.
#[derive(Clone, Debug)]
pub struct Recorder {
    pod: Arc<ResolvedPod>,
    /// The pod as Enforce and Audit policies together would have it, made when a message first asks for it.
    audited: OnceLock<Option<ResolvedPod>>,
    names: Arc<Names>,
}

/// Whom a decision is about.
struct Ends {
    /// The party that the record is of.
    party: Option<Party>,
    direction: Direction,
    /// The other party, of a flow within the pod where it is known.
    peer: Option<Party>,
    /// The packet was an answer.
    reply: bool,
}

impl Recorder {
    /// A recorder for a pod under the policies that it was resolved with.
    pub fn new(pod: impl Into<Arc<ResolvedPod>>, names: Arc<Names>) -> Self {
        Self { pod: pod.into(), audited: OnceLock::new(), names }
    }

    /// The same pod under the same policies, where addresses have come to have other names.
    #[must_use]
    pub fn with_names(&self, names: Arc<Names>) -> Self {
        Self { pod: Arc::clone(&self.pod), audited: OnceLock::new(), names }
    }

    fn audited(&self) -> Option<&ResolvedPod> {
        let layered = || {
            let layer = self.pod.audit.as_ref()?;
            Some(ResolvedPod { enforced: layer.clone(), audit: None, ..(*self.pod).clone() })
        };
        self.audited.get_or_init(layered).as_ref()
    }

    /// The pod's namespace and name.
    pub fn pod(&self) -> (&str, &str) {
        (&self.pod.namespace, &self.pod.name)
    }

    /// What a message tells.
    pub fn record(&self, logged: &Logged) -> FlowRecord {
        let ends = self.ends(logged);
        let wire = match (logged.decision.place, logged.device.as_deref()) {
            (Place::Loopback { .. } | Place::LoopbackFrom(_), _) | (_, Some(LOOPBACK_DEVICE)) => RecordWire::Loopback,
            _ => RecordWire::Network,
        };
        let attachment = self.attachment(wire, logged.device.as_deref());
        let (opener, opened) = tuple(logged, ends.reply);
        let (local, other) = match ends.direction {
            Direction::Egress => (opener, opened),
            Direction::Ingress => (opened, opener),
        };
        let protocol = logged.packet.map(|packet| packet.protocol).or(logged.connection.map(|c| c.protocol));
        let on_link = self.pod.link.as_ref().is_some_and(|link| logged.device.as_ref() == Some(&link.device));
        let mut judged = self.judged(logged.decision, &ends, protocol, other.address, opened.port, attachment, on_link);
        let more_policies = judged.policies.len().saturating_sub(POLICIES_MAX);
        judged.policies.truncate(POLICIES_MAX);
        let (party, container) = self.party(ends.party);
        let mut peer = match wire {
            RecordWire::Loopback => self.party_peer(ends.peer),
            // Another network's address says nothing of who has it on the pod network.
            RecordWire::Network if attachment.is_some() => RecordPeer::of(RecordPeerKind::Address),
            RecordWire::Network => self.names.peer(other.address, protocol, other.port),
        };
        (peer.address, peer.port) = (other.address, other.port);
        FlowRecord {
            version: Version,
            time: logged.time,
            namespace: self.pod.namespace.clone(),
            pod: self.pod.name.clone(),
            party,
            container,
            direction: ends.direction,
            wire,
            interface: logged.device.clone(),
            network: attachment.and_then(|id| self.pod.attached.get(&id)).map(|attached| attached.network.clone()),
            protocol: protocol.map(IpProtocol),
            icmp: logged.packet.and_then(|packet| packet.icmp),
            port: opened.port,
            local,
            peer,
            way: logged.way,
            reply: ends.reply,
            verdict: judged::verdict(logged.decision),
            cause: judged.cause,
            policies: judged.policies,
            more_policies,
            rule: judged.rule,
            uid: logged.uid,
            gid: logged.gid,
            decision: logged.decision.to_string(),
        }
    }

    fn ends(&self, logged: &Logged) -> Ends {
        let leaving = logged.way == RecordWay::Leaving;
        let told = logged.connection.map(|connection| connection.reply);
        let by_port = self.pod.identities.by_port();
        match logged.decision.place {
            // A client is judged where it sends and where it hears answers, a server the other way round.
            Place::Egress(party) => {
                Ends { party: Some(party), direction: Direction::Egress, peer: None, reply: told.unwrap_or(!leaving) }
            }
            Place::Ingress(party) => {
                Ends { party: Some(party), direction: Direction::Ingress, peer: None, reply: told.unwrap_or(leaving) }
            }
            // The pair is judged at the receiver under cgroup identity, and else at the sender.
            Place::Loopback { sender, receiver } => Ends {
                party: Some(sender),
                direction: Direction::Egress,
                peer: Some(receiver),
                // So it is where the receiver is in another namespace.
                reply: told.unwrap_or(leaving != (by_port || self.pod.is_elsewhere(receiver))),
            },
            Place::LoopbackFrom(sender) => {
                Ends { party: Some(sender), direction: Direction::Egress, peer: None, reply: told.unwrap_or(!leaving) }
            }
            // Nobody was asked: what is known is which way it went, and perhaps its user.
            Place::Improper | Place::Forged => {
                let reply = told.unwrap_or(false);
                let direction = if leaving == reply { Direction::Ingress } else { Direction::Egress };
                Ends { party: self.by_socket(logged, leaving), direction, peer: None, reply }
            }
        }
    }

    /// Whose socket a packet has, where identity is by what the log tells of it.
    fn by_socket(&self, logged: &Logged, leaving: bool) -> Option<Party> {
        let (number, users) = match &self.pod.identities {
            Identities::Uid(users) => (logged.uid, users),
            Identities::Gid(users) => (logged.gid, users),
            Identities::Cgroup { .. } => return None,
        };
        let number = number.filter(|_| leaving)?;
        let UserIdentities { containers, node } = users;
        let container = containers.iter().find(|(_, user)| **user == number).map(|(id, _)| Party::Container(*id));
        container.or(node.contains(&number).then_some(Party::Node)).or(Some(Party::Unknown))
    }

    fn attachment(&self, wire: RecordWire, device: Option<&str>) -> Option<AttachmentId> {
        let device = device.filter(|_| wire == RecordWire::Network)?;
        let attached = self.pod.attached.iter().find(|(_, attached)| attached.device == device);
        match (attached, &self.pod.interface) {
            (Some((id, _)), _) => Some(*id),
            (None, Some(own)) if own != device => Some(NO_ATTACHMENT),
            (None, _) => None,
        }
    }

    fn party(&self, party: Option<Party>) -> (RecordParty, Option<String>) {
        match party {
            Some(party @ Party::Container(_)) => (RecordParty::Container, Some(self.pod.party_name(party).to_owned())),
            Some(Party::Unknown) => (RecordParty::Unknown, None),
            Some(Party::Node) => (RecordParty::Node, None),
            None => (RecordParty::Undetermined, None),
        }
    }

    fn party_peer(&self, party: Option<Party>) -> RecordPeer {
        match party {
            Some(party @ Party::Container(_)) => RecordPeer {
                container: Some(self.pod.party_name(party).to_owned()),
                ..RecordPeer::of(RecordPeerKind::Container)
            },
            Some(Party::Unknown) => RecordPeer::of(RecordPeerKind::Unknown),
            Some(Party::Node) => {
                RecordPeer { entity: Some("PortForward".to_owned()), ..RecordPeer::of(RecordPeerKind::Process) }
            }
            None => RecordPeer::of(RecordPeerKind::SamePod),
        }
    }

    /// The far end of a flow, as the evaluator takes it.
    fn far(address: IpAddr, attachment: Option<AttachmentId>) -> End {
        attachment.map_or(End::Remote(address), |id| End::Attached(id, address))
    }
}

/// Who opened the flow and whom it was opened to: what conntrack recorded, else the packet's own way.
fn tuple(logged: &Logged, reply: bool) -> (RecordEnd, RecordEnd) {
    match (logged.connection, logged.packet) {
        (Some(connection), _) => (connection.source, connection.destination),
        (None, Some(packet)) if reply => (packet.destination, packet.source),
        (None, Some(packet)) => (packet.source, packet.destination),
        (None, None) => (RecordEnd::default(), RecordEnd::default()),
    }
}
