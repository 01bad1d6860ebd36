//! Flow records: whatever the kernel logs becomes a line that reads back as it was written, and any line is a record of one
//! form or an error.

use bolero::TypeGenerator;
use sidewall_flow::{
    Action, ContainerId, Decision, Direction, Party, Place, Record, RecordEnd, RecordIcmp, RecordVerdict, RecordWay,
    Timestamp,
};
use sidewall_fuzz::{Input, Tally, effort};
use sidewall_policy::model::{
    Attached, AttachmentId, Captured, Container, DeclaredPort, Identities, Isolation, Layer, PolicyKind, PolicyName,
    ResolvedPod, Scope, Side, Sides, UserIdentities,
};
use sidewall_policy::record::{Logged, LoggedConnection, LoggedPacket, Names, POLICIES_MAX, Recorder};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

const LINES: &[&str] = &[
    concat!(
        r#"{"record":"flow","version":1,"time":"2026-11-22T02:29:48.123456Z","namespace":"shop","pod":"web","#,
        r#""party":"container","container":"app","direction":"egress","wire":"network","interface":"eth0","#,
        r#""protocol":"ICMPv6","icmp":{"type":128,"code":0},"local":{"address":"fd00::1"},"#,
        r#""peer":{"kind":"pod","namespace":"data","name":"db","address":"fd00::2"},"way":"leaving","reply":false,"#,
        r#""verdict":"audit-would-allow","cause":"isolated","policies":[{"kind":"NetworkPolicy","namespace":"shop","#,
        r#""name":"a","direction":"egress","level":"pod"}],"rule":{"kind":"ContainerNetworkPolicy","namespace":"shop","#,
        r#""name":"b","direction":"egress","index":3},"uid":1,"gid":2,"decision":"sw:audit-allow/egress/c1"}"#
    ),
    r#"{"record":"lost","version":1,"time":"2026-11-22T02:29:48.000000Z","count":7,"place":"rateLimit"}"#,
    r#"{"record":"end","version":1,"time":"1970-01-01T00:00:00.000000Z","namespace":"shop","pod":"web"}"#,
];

const WORDS: &[&[u8]] = &[
    b"\"",
    b"{}",
    b"null",
    b"\"version\":2",
    b"\"version\":1",
    b"\"record\":\"lost\"",
    b"\"uid\":4294967296",
    b"\"port\":65536",
    b"\"protocol\":\"255\"",
    b"\"protocol\":\"TCP\"",
    b"9999-12-31T23:59:60Z",
    b"\\u0000",
    b"\x1b",
    b",",
    b"[",
    b"-1",
];

/// What the kernel might log.
#[derive(Clone, Debug, TypeGenerator)]
struct Draw {
    place: (u8, u8, u8),
    verdict: (bool, bool),
    arriving: bool,
    device: u8,
    owner: (Option<u32>, Option<u32>),
    time: (u64, u32),
    packet: Option<Headers>,
    connection: Option<(Headers, bool)>,
    by_user: bool,
}

#[derive(Clone, Debug, TypeGenerator)]
struct Headers {
    source: End,
    destination: End,
    protocol: u8,
    icmp: Option<(u8, u8)>,
}

#[derive(Clone, Debug, TypeGenerator)]
struct End {
    address: u8,
    port: Option<u16>,
}

#[derive(Clone, Debug, TypeGenerator)]
enum Any {
    Line(Input),
    Logged(Draw),
}

/// A pod with policies on every side, by cgroup and by user.
static PODS: LazyLock<[Recorder; 2]> = LazyLock::new(|| [false, true].map(recorder));

fn recorder(by_user: bool) -> Recorder {
    let ids = [1_u8, 2].map(|number| ContainerId::try_from(number).unwrap());
    let declared = |port| DeclaredPort { name: None, protocol: sidewall_flow::Protocol::Tcp, port };
    let containers =
        ids.map(|id| (id, Container { name: format!("c{}", id.get()), ports: vec![declared(id.get().into())] }));
    let policy = |kind, name: &str| PolicyName { kind, namespace: "shop".into(), name: name.into() };
    let side = |kind, count: usize| {
        let by = |n| policy(kind, &format!("p{n}"));
        let isolations = (0..count).map(|n| Isolation { by: by(n), loopback: Scope::all(), network: Scope::all() });
        Side { isolations: isolations.collect(), rules: Vec::new() }
    };
    let sides = |kind, count| Sides { ingress: side(kind, count), egress: side(kind, count) };
    let own = PolicyKind::ContainerNetworkPolicy;
    let layer =
        |parties: &[Party], count| Layer { parties: parties.iter().map(|party| (*party, sides(own, count))).collect() };
    let [first, second] = ids.map(Party::Container);
    let identities = match by_user {
        true => Identities::Uid(UserIdentities {
            containers: ids.iter().map(|id| (*id, u32::from(id.get()))).collect(),
            node: BTreeSet::from([0]),
        }),
        false => Identities::Cgroup { level: 2, containers: BTreeMap::new(), pods_level: 1, pods: 1 },
    };
    let edge = sides(PolicyKind::MultiNetworkPolicy, 1);
    let attached = Attached { network: "shop/storage".into(), device: "net1".into(), addresses: BTreeSet::new(), edge };
    let pod = ResolvedPod {
        namespace: "shop".into(),
        name: "web".into(),
        interface: Some("eth0".into()),
        addresses: BTreeSet::new(),
        edge: sides(PolicyKind::NetworkPolicy, 0),
        attached: BTreeMap::from([(AttachmentId(0), attached)]),
        elsewhere: Sides::default(),
        containers: BTreeMap::from(containers),
        identities,
        captured: Some(Captured {
            by: policy(PolicyKind::SidecarProxy, "web"),
            proxy: ids[0],
            ports: BTreeSet::from([8080]),
            port: 15412,
        }),
        link: None,
        // More than a record names.
        enforced: layer(&[first, Party::Unknown], POLICIES_MAX + 3),
        audit: Some(layer(&[second, Party::Unknown], 1)),
        notes: Vec::new(),
    };
    Recorder::new(pod, Arc::new(Names::default()))
}

impl End {
    fn end(&self) -> RecordEnd {
        const ADDRESSES: [&str; 6] = ["127.0.0.1", "10.1.0.9", "224.0.0.1", "255.255.255.255", "::1", "fd00::7"];
        let address: IpAddr = ADDRESSES[usize::from(self.address) % ADDRESSES.len()].parse().unwrap();
        RecordEnd { address: Some(address), port: self.port }
    }
}

impl Draw {
    fn logged(&self) -> Logged {
        let party = |number: u8| match number % 5 {
            0 => Party::Unknown,
            1 => Party::Node,
            // One that is no more, too.
            number => Party::Container(ContainerId::try_from(number - 1).unwrap()),
        };
        let (which, first, second) = self.place;
        let place = match which % 6 {
            0 => Place::Egress(party(first)),
            1 => Place::Ingress(party(first)),
            2 => Place::Loopback { sender: party(first), receiver: party(second) },
            3 => Place::LoopbackFrom(party(first)),
            4 => Place::Improper,
            _ => Place::Forged,
        };
        let (allow, audit) = self.verdict;
        const DEVICES: [Option<&str>; 5] = [None, Some("lo"), Some("eth0"), Some("net1"), Some("\u{1b}[31m")];
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::new(self.time.0, self.time.1 % 1_000_000_000));
        Logged {
            decision: Decision { place, action: Action::from_allowed(allow), audit },
            time: Timestamp::from(time.unwrap_or(SystemTime::UNIX_EPOCH)),
            way: if self.arriving { RecordWay::Arriving } else { RecordWay::Leaving },
            device: DEVICES[usize::from(self.device) % DEVICES.len()].map(str::to_owned),
            uid: self.owner.0,
            gid: self.owner.1,
            packet: self.packet.as_ref().map(|packet| LoggedPacket {
                source: packet.source.end(),
                destination: packet.destination.end(),
                protocol: packet.protocol,
                icmp: packet.icmp.map(|(kind, code)| RecordIcmp { kind, code }),
            }),
            connection: self.connection.as_ref().map(|(opened, reply)| LoggedConnection {
                source: opened.source.end(),
                destination: opened.destination.end(),
                protocol: opened.protocol,
                reply: *reply,
            }),
        }
    }
}

static READ: Tally = Tally::new();
static EXPLAINED: Tally = Tally::new();

fn check_line(bytes: &[u8]) {
    READ.input();
    let Ok(record) = Record::from_line(&String::from_utf8_lossy(bytes)) else { return };
    READ.reached();
    // It need not have been written by us, but what we make of it has one form.
    let line = record.to_line();
    assert!(!line.contains('\n'));
    let again = Record::from_line(&line).unwrap();
    assert_eq!((&again, again.to_line()), (&record, line));
    let _ = record.columns();
}

fn check_logged(draw: &Draw) {
    EXPLAINED.input();
    let logged = draw.logged();
    let flow = PODS[usize::from(draw.by_user)].record(&logged);
    if !flow.policies.is_empty() {
        EXPLAINED.reached();
    }
    assert!(flow.policies.len() <= POLICIES_MAX);
    assert_eq!(flow.decision.parse(), Ok(logged.decision));
    if !matches!(flow.verdict, RecordVerdict::Forged | RecordVerdict::Improper) {
        assert_eq!(flow.verdict.is_audit(), logged.decision.audit);
        let ingress = matches!(logged.decision.place, Place::Ingress(_));
        assert_eq!(flow.direction == Direction::Ingress, ingress);
    }
    // The port is that of the end that was addressed.
    let addressed = if flow.direction == Direction::Egress { flow.peer.port } else { flow.local.port };
    assert_eq!(flow.port, addressed);
    let record = Record::Flow(Box::new(flow));
    let line = record.to_line();
    assert!(line.len() < 1 << 13, "{} octets", line.len());
    assert_eq!(Record::from_line(&line).unwrap(), record);
    let _ = record.columns();
}

#[test]
fn fuzz_log() {
    for line in LINES {
        assert_eq!(Record::from_line(line).unwrap().to_line(), *line);
    }
    bolero::check!().with_type::<Any>().with_test_time(effort::time()).for_each(|any| match any {
        Any::Line(input) => check_line(&input.bytes(LINES, WORDS)),
        Any::Logged(draw) => check_logged(draw),
    });
    READ.expect_per_mille(50);
    EXPLAINED.expect_per_mille(100);
}
