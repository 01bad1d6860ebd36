//! Records there and back; and records for other tests.

use super::*;
use crate::wire::flow_event::Event;
use prost::Message;

/// A record in which every field has a value.
pub fn flow() -> FlowRecord {
    let local = RecordEnd { address: "10.0.0.7".parse().ok(), port: Some(40000) };
    let name = |kind: &str, name: &str| (kind.to_owned(), "shop".to_owned(), name.to_owned());
    let (kind, namespace, policy) = name("ContainerNetworkPolicy", "app");
    let policies = vec![RecordPolicy {
        kind,
        namespace,
        name: policy,
        direction: Direction::Egress,
        level: RecordLevel::Container,
    }];
    let (kind, namespace, policy) = name("NetworkPolicy", "fence");
    let rule = Some(RecordRule { kind, namespace, name: policy, direction: Direction::Ingress, index: 3 });
    FlowRecord {
        version: Version,
        time: "2026-11-22T02:29:48.000123Z".parse().unwrap(),
        namespace: "shop".into(),
        pod: "web".into(),
        party: RecordParty::Container,
        container: Some("app".into()),
        direction: Direction::Egress,
        wire: RecordWire::Network,
        interface: Some("net1".into()),
        network: Some("shop/storage".into()),
        protocol: Some(IpProtocol(6)),
        icmp: Some(RecordIcmp { kind: 8, code: 1 }),
        port: Some(5432),
        local,
        peer: RecordPeer {
            kind: RecordPeerKind::Pod,
            container: Some("db".into()),
            namespace: Some("data".into()),
            name: Some("postgres-0".into()),
            entity: Some("Node".into()),
            address: "fd00::1".parse().ok(),
            port: Some(5432),
        },
        way: RecordWay::Leaving,
        reply: true,
        verdict: RecordVerdict::Deny,
        cause: RecordCause::Isolated,
        policies,
        more_policies: 2,
        rule,
        uid: Some(1001),
        gid: Some(0),
        decision: "sw:deny/egress/c1".into(),
    }
}

/// The same with nothing that may be missing.
pub fn bare() -> FlowRecord {
    FlowRecord {
        container: None,
        interface: None,
        network: None,
        protocol: None,
        icmp: None,
        port: None,
        local: RecordEnd::default(),
        peer: RecordPeer::of(RecordPeerKind::Address),
        reply: false,
        policies: Vec::new(),
        more_policies: 0,
        rule: None,
        uid: None,
        gid: None,
        ..flow()
    }
}

/// Missing records of a pod.
pub fn lost_of(pod: Option<(&str, &str)>) -> Record {
    let (namespace, pod) = pod.map(|(namespace, pod)| (namespace.to_owned(), pod.to_owned())).unzip();
    let (time, place) = (time(1_795_314_588_000_123), LossPlace::Subscriber);
    Record::Lost(LostRecord { version: Version, time, namespace, pod, count: 41, place })
}

fn end() -> Record {
    let (time, namespace, pod) = (time(1), "shop".to_owned(), "web".to_owned());
    Record::End(EndRecord { version: Version, time, namespace, pod })
}

/// Over the wire.
fn again(record: &Record) -> Result<Record, Problem> {
    let bytes = event(record).encode_to_vec();
    match wire::FlowEvent::decode(&*bytes).unwrap().event.unwrap() {
        Event::Flow(flow) => read_flow(flow),
        Event::Lost(lost) => read_lost(lost),
        Event::End(end) => Ok(read_end(end)),
        Event::Begun(_) => panic!("no record begins a stream"),
    }
}

#[test]
fn records_arrive_as_they_were_sent() {
    let flows = [flow(), bare()].map(|flow| Record::Flow(Box::new(flow)));
    for record in flows.into_iter().chain([lost_of(None), lost_of(Some(("shop", "web"))), end()]) {
        assert_eq!(again(&record).as_ref(), Ok(&record));
    }
}

/// Each number of an enumeration, until one is not known.
fn round<T: Copy>(number: fn(T) -> i32, value: fn(i32) -> Option<T>) -> i32 {
    assert!(value(0).is_none(), "0 is what was left out");
    let known = (1..).take_while(|wire| value(*wire).is_some_and(|value| number(value) == *wire)).count();
    assert!([-1, i32::MIN, i32::MAX].into_iter().all(|wire| value(wire).is_none()));
    known as i32
}

#[test]
fn every_value_has_a_number_of_its_own() {
    assert_eq!(round(party, party_of), 4);
    assert_eq!(round(direction, direction_of), 2);
    assert_eq!(round(wire_number, wire_of), 2);
    assert_eq!(round(way, way_of), 2);
    assert_eq!(round(verdict, verdict_of), 6);
    assert_eq!(round(cause, cause_of), 5);
    assert_eq!(round(level, level_of), 2);
    assert_eq!(round(peer_kind, peer_kind_of), 8);
    assert_eq!(round(place, place_of), 3);
}

#[test]
fn what_is_not_known_is_told_and_what_is_wrong_too() {
    let changed = |change: fn(&mut wire::Flow)| {
        let mut message = flow_message(&flow());
        change(&mut message);
        read_flow(message).unwrap_err()
    };
    assert_eq!(changed(|flow| flow.verdict = 7), Problem::Newer("verdict"));
    assert_eq!(changed(|flow| flow.cause = 0), Problem::Newer("cause"));
    assert_eq!(changed(|flow| flow.policies[0].level = 9), Problem::Newer("policies.level"));
    assert_eq!(changed(|flow| flow.peer.as_mut().unwrap().kind = -4), Problem::Newer("peer.kind"));
    assert_eq!(changed(|flow| flow.peer = None), Problem::Malformed("peer"));
    assert_eq!(changed(|flow| flow.port = Some(65536)), Problem::Malformed("port"));
    assert_eq!(changed(|flow| flow.protocol = Some(256)), Problem::Malformed("protocol"));
    assert_eq!(changed(|flow| flow.icmp.as_mut().unwrap().code = 256), Problem::Malformed("icmp"));
    let no_address = |flow: &mut wire::Flow| flow.local.as_mut().unwrap().address = Some("here".into());
    assert_eq!(changed(no_address), Problem::Malformed("address"));
}

/// Numbers and types of fields are promised to other programs: these bytes must never come to mean something else.
#[test]
fn the_form_stays_what_it_is() {
    let bytes = event(&Record::Flow(Box::new(flow()))).encode_to_vec();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("flow.hex").trim());
}

#[test]
fn no_bytes_make_it_panic() {
    let whole = event(&Record::Flow(Box::new(flow()))).encode_to_vec();
    let read = |bytes: &[u8]| {
        if let Ok(wire::FlowEvent { event: Some(Event::Flow(flow)) }) = wire::FlowEvent::decode(bytes) {
            let _ = read_flow(flow);
        }
    };
    for place in 0..whole.len() {
        read(&whole[..place]);
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[place] = value;
            read(&changed);
        }
    }
}
