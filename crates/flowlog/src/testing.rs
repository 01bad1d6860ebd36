//! Records for tests.

use sidewall_flow::{
    Direction, EndRecord, FlowRecord, Record, RecordCause, RecordEnd, RecordParty, RecordPeer, RecordPeerKind,
    RecordVerdict, RecordWay, RecordWire, Timestamp, Version,
};

/// A record that can be told from others by its number.
pub fn record(number: u32) -> Record {
    Record::Flow(Box::new(FlowRecord {
        version: Version,
        time: Timestamp::now(),
        namespace: "shop".into(),
        pod: "web".into(),
        party: RecordParty::Container,
        container: Some("app".into()),
        direction: Direction::Egress,
        wire: RecordWire::Network,
        interface: Some("eth0".into()),
        network: None,
        protocol: Some(sidewall_flow::Protocol::Tcp.into()),
        icmp: None,
        port: Some(443),
        local: RecordEnd::default(),
        peer: RecordPeer { address: "203.0.113.1".parse().ok(), ..RecordPeer::of(RecordPeerKind::Address) },
        way: RecordWay::Leaving,
        reply: false,
        verdict: RecordVerdict::Deny,
        cause: RecordCause::Isolated,
        policies: Vec::new(),
        more_policies: 0,
        rule: None,
        uid: Some(number),
        gid: None,
        decision: "sw:deny/egress/c1".into(),
    }))
}

/// The same of another pod.
pub fn of_pod(name: &str, mut record: Record) -> Record {
    match &mut record {
        Record::Flow(flow) => flow.pod = name.into(),
        Record::Lost(lost) => lost.pod = Some(name.into()),
        Record::End(end) => end.pod = name.into(),
    }
    record
}

/// The number of a record that [`record`] made.
pub fn number(record: &Record) -> Option<u32> {
    record.flow()?.uid
}

/// The end of that pod.
pub fn end() -> Record {
    let (version, time) = (Version, Timestamp::now());
    Record::End(EndRecord { version, time, namespace: "shop".into(), pod: "web".into() })
}
