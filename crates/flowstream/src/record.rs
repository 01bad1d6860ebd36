//! Records as messages, and back.

use crate::wire;
use sidewall_flow::{
    Direction, EndRecord, FlowRecord, IpProtocol, LossPlace, LostRecord, Record, RecordCause, RecordEnd, RecordIcmp,
    RecordLevel, RecordParty, RecordPeer, RecordPeerKind, RecordPolicy, RecordRule, RecordVerdict, RecordWay,
    RecordWire, Timestamp, Version,
};
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

#[cfg(test)]
pub mod tests;

/// Why a message is no record that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It has a value that is not known here: whoever sent it is newer.
    Newer(&'static str),
    /// It makes no sense.
    Malformed(&'static str),
}

/// Two functions that give the number of a value and the value of a number.
macro_rules! numbers {
    ($($(#[$doc:meta])* $number:ident, $value:ident: $ours:ident = $theirs:ident { $($name:ident = $wire:ident),* $(,)? })*) => {
        $(
            /// The number of a value.
            pub fn $number(value: $ours) -> i32 {
                match value { $($ours::$name => wire::$theirs::$wire as i32),* }
            }

            /// The value of a number, where it is known.
            pub fn $value(number: i32) -> Option<$ours> {
                match wire::$theirs::try_from(number).ok()? {
                    $(wire::$theirs::$wire => Some($ours::$name),)*
                    wire::$theirs::Unspecified => None,
                }
            }
        )*
    };
}

numbers! {
    party, party_of: RecordParty = Party {
        Container = Container, Unknown = Unknown, Node = Node, Undetermined = Undetermined,
    }
    direction, direction_of: Direction = Direction { Ingress = Ingress, Egress = Egress }
    wire_number, wire_of: RecordWire = Wire { Loopback = Loopback, Network = Network }
    way, way_of: RecordWay = Way { Leaving = Leaving, Arriving = Arriving }
    verdict, verdict_of: RecordVerdict = Verdict {
        Deny = Deny, Allow = Allow, AuditWouldDeny = AuditWouldDeny, AuditWouldAllow = AuditWouldAllow,
        Forged = Forged, Improper = Improper,
    }
    cause, cause_of: RecordCause = Cause {
        Isolated = Isolated, NotDeclared = NotDeclared, NoPolicy = NoPolicy, Superseded = Superseded,
        Unreadable = Unreadable,
    }
    level, level_of: RecordLevel = Level { Pod = Pod, Container = Container }
    peer_kind, peer_kind_of: RecordPeerKind = PeerKind {
        Container = Container, Unknown = Unknown, Process = Process, SamePod = SamePod, Pod = Pod, Service = Service,
        Node = Node, Address = Address,
    }
    place, place_of: LossPlace = LossPlace { Kernel = Kernel, Subscriber = Reader, RateLimit = RateLimit }
}

/// A record as an event.
pub fn event(record: &Record) -> wire::FlowEvent {
    use wire::flow_event::Event;
    let event = match record {
        Record::Flow(flow) => Event::Flow(flow_message(flow)),
        Record::Lost(lost) => Event::Lost(wire::Lost {
            time_micros: micros(lost.time),
            namespace: lost.namespace.clone(),
            pod: lost.pod.clone(),
            count: lost.count,
            place: place(lost.place),
        }),
        Record::End(end) => Event::End(wire::End {
            time_micros: micros(end.time),
            namespace: end.namespace.clone(),
            pod: end.pod.clone(),
        }),
    };
    wire::FlowEvent { event: Some(event) }
}

fn flow_message(flow: &FlowRecord) -> wire::Flow {
    let FlowRecord { version: Version, local, peer, .. } = flow;
    wire::Flow {
        time_micros: micros(flow.time),
        namespace: flow.namespace.clone(),
        pod: flow.pod.clone(),
        party: party(flow.party),
        container: flow.container.clone(),
        direction: direction(flow.direction),
        wire: wire_number(flow.wire),
        interface: flow.interface.clone(),
        network: flow.network.clone(),
        protocol: flow.protocol.map(|protocol| protocol.0.into()),
        icmp: flow.icmp.map(|icmp| wire::Icmp { r#type: icmp.kind.into(), code: icmp.code.into() }),
        port: flow.port.map(u32::from),
        local: Some(wire::Address {
            address: local.address.map(|address| address.to_string()),
            port: local.port.map(u32::from),
        }),
        peer: Some(wire::Peer {
            kind: peer_kind(peer.kind),
            container: peer.container.clone(),
            namespace: peer.namespace.clone(),
            name: peer.name.clone(),
            entity: peer.entity.clone(),
            address: peer.address.map(|address| address.to_string()),
            port: peer.port.map(u32::from),
        }),
        way: way(flow.way),
        reply: flow.reply,
        verdict: verdict(flow.verdict),
        cause: cause(flow.cause),
        policies: flow.policies.iter().map(policy).collect(),
        more_policies: flow.more_policies as u64,
        rule: flow.rule.as_ref().map(rule),
        uid: flow.uid,
        gid: flow.gid,
        decision: flow.decision.clone(),
    }
}

fn policy(policy: &RecordPolicy) -> wire::Policy {
    wire::Policy {
        kind: policy.kind.clone(),
        namespace: policy.namespace.clone(),
        name: policy.name.clone(),
        direction: direction(policy.direction),
        level: level(policy.level),
    }
}

fn rule(rule: &RecordRule) -> wire::Rule {
    wire::Rule {
        kind: rule.kind.clone(),
        namespace: rule.namespace.clone(),
        name: rule.name.clone(),
        direction: direction(rule.direction),
        index: rule.index as u64,
    }
}

/// The record that a flow's message tells.
///
/// # Errors
/// [`Problem`].
pub fn read_flow(flow: wire::Flow) -> Result<Record, Problem> {
    let local = flow.local.unwrap_or_default();
    Ok(Record::Flow(Box::new(FlowRecord {
        version: Version,
        time: time(flow.time_micros),
        namespace: flow.namespace,
        pod: flow.pod,
        party: known(party_of(flow.party), "party")?,
        container: flow.container,
        direction: known(direction_of(flow.direction), "direction")?,
        wire: known(wire_of(flow.wire), "wire")?,
        interface: flow.interface,
        network: flow.network,
        protocol: small(flow.protocol, "protocol")?.map(IpProtocol),
        icmp: flow.icmp.map(read_icmp).transpose()?,
        port: small(flow.port, "port")?,
        local: RecordEnd { address: address(local.address)?, port: small(local.port, "local.port")? },
        peer: read_peer(flow.peer.ok_or(Problem::Malformed("peer"))?)?,
        way: known(way_of(flow.way), "way")?,
        reply: flow.reply,
        verdict: known(verdict_of(flow.verdict), "verdict")?,
        cause: known(cause_of(flow.cause), "cause")?,
        policies: flow.policies.into_iter().map(read_policy).collect::<Result<_, _>>()?,
        more_policies: usize::try_from(flow.more_policies).unwrap_or(usize::MAX),
        rule: flow.rule.map(read_rule).transpose()?,
        uid: flow.uid,
        gid: flow.gid,
        decision: flow.decision,
    })))
}

/// The record that a message about missing records tells.
///
/// # Errors
/// [`Problem`].
pub fn read_lost(lost: wire::Lost) -> Result<Record, Problem> {
    Ok(Record::Lost(LostRecord {
        version: Version,
        time: time(lost.time_micros),
        namespace: lost.namespace,
        pod: lost.pod,
        count: lost.count,
        place: known(place_of(lost.place), "place")?,
    }))
}

/// The record that a pod's end tells.
pub fn read_end(end: wire::End) -> Record {
    Record::End(EndRecord { version: Version, time: time(end.time_micros), namespace: end.namespace, pod: end.pod })
}

fn read_icmp(icmp: wire::Icmp) -> Result<RecordIcmp, Problem> {
    let of = |number: u32| u8::try_from(number).map_err(|_| Problem::Malformed("icmp"));
    Ok(RecordIcmp { kind: of(icmp.r#type)?, code: of(icmp.code)? })
}

fn read_peer(peer: wire::Peer) -> Result<RecordPeer, Problem> {
    Ok(RecordPeer {
        kind: known(peer_kind_of(peer.kind), "peer.kind")?,
        container: peer.container,
        namespace: peer.namespace,
        name: peer.name,
        entity: peer.entity,
        address: address(peer.address)?,
        port: small(peer.port, "peer.port")?,
    })
}

fn read_policy(policy: wire::Policy) -> Result<RecordPolicy, Problem> {
    Ok(RecordPolicy {
        kind: policy.kind,
        namespace: policy.namespace,
        name: policy.name,
        direction: known(direction_of(policy.direction), "policies.direction")?,
        level: known(level_of(policy.level), "policies.level")?,
    })
}

fn read_rule(rule: wire::Rule) -> Result<RecordRule, Problem> {
    Ok(RecordRule {
        kind: rule.kind,
        namespace: rule.namespace,
        name: rule.name,
        direction: known(direction_of(rule.direction), "rule.direction")?,
        index: usize::try_from(rule.index).unwrap_or(usize::MAX),
    })
}

fn known<T>(value: Option<T>, field: &'static str) -> Result<T, Problem> {
    value.ok_or(Problem::Newer(field))
}

/// A number that has less room here than on the wire.
fn small<T: TryFrom<u32>>(number: Option<u32>, field: &'static str) -> Result<Option<T>, Problem> {
    number.map(|number| T::try_from(number).map_err(|_| Problem::Malformed(field))).transpose()
}

fn address(text: Option<String>) -> Result<Option<IpAddr>, Problem> {
    text.map(|text| text.parse().map_err(|_| Problem::Malformed("address"))).transpose()
}

/// Since 1970.
pub fn micros(time: Timestamp) -> u64 {
    let since = time.time().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// So many microseconds after 1970 began.
pub fn time(micros: u64) -> Timestamp {
    // All of them are times that the system has.
    UNIX_EPOCH.checked_add(Duration::from_micros(micros)).unwrap_or(UNIX_EPOCH).into()
}
