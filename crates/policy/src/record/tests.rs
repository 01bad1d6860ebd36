use super::*;
use crate::fixture::Fixture;
use crate::model::{Attached, Isolation, PolicyKind, PolicyName, Scope, Side, Sides};
use crate::world::Pod;
use serde_json::json;
use sidewall_flow::{Action, ContainerId, RecordCause, RecordLevel, RecordVerdict};

fn fixture() -> Fixture {
    let mut fixture = Fixture::new(&[("app", &["http=TCP/8080"]), ("shipper", &[])])
        .policy(
            "app",
            json!({"containers": ["app"], "policyTypes": ["Ingress", "Egress"], "ingress": [
                {"from": [{"container": "shipper"}], "ports": [{"port": 9999}]},
            ]}),
        )
        .policy(
            "trial",
            json!({"containers": ["app", "shipper"], "mode": "Audit", "policyTypes": ["Egress"], "egress": [
                {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"port": 443}]},
            ]}),
        )
        .service("kube-system/kube-dns", &["10.96.0.10"], "UDP/53", &[]);
    fixture.world.pods.push(Pod {
        namespace: "shop".into(),
        name: "db".into(),
        addresses: vec!["10.1.0.7".parse().unwrap()],
        ..Pod::default()
    });
    fixture
}

fn recorder(fixture: &Fixture) -> Recorder {
    Recorder::new(fixture.resolved(), Arc::new(Names::of(&fixture.world)))
}

fn end(text: &str) -> RecordEnd {
    let at: std::net::SocketAddr = text.parse().unwrap();
    RecordEnd { address: Some(at.ip()), port: Some(at.port()) }
}

fn container(number: u8) -> Party {
    Party::Container(ContainerId::try_from(number).unwrap())
}

/// A TCP packet from one socket to another.
fn logged(decision: Decision, way: RecordWay, device: &str, from: &str, to: &str) -> Logged {
    Logged {
        decision,
        time: Timestamp::now(),
        way,
        device: Some(device.into()),
        uid: Some(1001),
        gid: Some(1002),
        packet: Some(LoggedPacket { source: end(from), destination: end(to), protocol: 6, icmp: None }),
        connection: None,
    }
}

fn policies(record: &FlowRecord) -> Vec<String> {
    let level = |level| if level == RecordLevel::Pod { "pod" } else { "container" };
    let all = record.policies.iter();
    all.map(|p| format!("{} {}/{} {} {}", p.kind, p.namespace, p.name, p.direction, level(p.level))).collect()
}

const OUT: RecordWay = RecordWay::Leaving;
const IN: RecordWay = RecordWay::Arriving;

#[test]
fn denied_egress_names_the_peer_and_who_isolates() {
    let recorder = recorder(&fixture());
    let denied = Decision::denied(Place::Egress(container(1)));
    let record = recorder.record(&logged(denied, OUT, "eth0", "10.1.0.9:40000", "10.1.0.7:5432"));
    assert_eq!((record.namespace.as_str(), record.pod.as_str()), ("shop", "web"));
    assert_eq!((record.party, record.container.as_deref()), (RecordParty::Container, Some("app")));
    assert_eq!((record.direction, record.wire, record.reply), (Direction::Egress, RecordWire::Network, false));
    assert_eq!((record.port, record.local), (Some(5432), end("10.1.0.9:40000")));
    assert_eq!(record.peer.label(), "pod shop/db (10.1.0.7)");
    assert_eq!((record.verdict, record.cause), (RecordVerdict::Deny, RecordCause::Isolated));
    assert_eq!(policies(&record), ["ContainerNetworkPolicy shop/app egress container"]);
    assert_eq!((record.rule, record.uid, record.gid), (None, Some(1001), Some(1002)));
    assert_eq!(record.decision, "sw:deny/egress/c1");

    // An answer that is refused after a change tells of the same flow.
    let answer = recorder.record(&logged(denied, IN, "eth0", "10.1.0.7:5432", "10.1.0.9:40000"));
    assert_eq!((answer.port, answer.local, answer.reply), (record.port, record.local, true));
    assert_eq!((answer.peer, answer.policies), (record.peer, record.policies));

    // A redirected packet is told by what the container meant.
    let mut redirected = logged(denied, OUT, "lo", "10.1.0.9:40000", "127.0.0.1:15001");
    redirected.device = Some("eth0".into());
    redirected.connection = Some(LoggedConnection {
        source: end("10.1.0.9:40000"),
        destination: end("10.96.0.10:53"),
        protocol: 6,
        reply: false,
    });
    let record = recorder.record(&redirected);
    assert_eq!(record.peer.label(), "Service kube-system/kube-dns (10.96.0.10)");
    assert_eq!((record.peer.entity.as_deref(), record.port), (Some("ClusterDNS"), Some(53)));
}

/// What was led to the proxy's port is told by the port that it was meant for.
#[test]
fn what_a_proxy_captures_is_told_by_the_port_that_was_meant() {
    let captured = || {
        Fixture::new(&[("front-proxy", &["TCP/80"]), ("app", &["TCP/8080"])])
            .proxy("web", "2026-01-01T00:00:00Z", &[(80, 8080)])
            .captures(&[8080])
    };
    let closed = json!({"containers": ["front-proxy"], "policyTypes": ["Ingress"]});
    for (fixture, receiver, by) in [
        // Somebody else has taken the proxy's port.
        (captured(), 2, "SidecarProxy shop/web ingress container"),
        (captured().policy("closed", closed), 1, "ContainerNetworkPolicy shop/closed ingress container"),
    ] {
        let denied = Decision::denied(Place::Ingress(container(receiver)));
        let mut led = logged(denied, IN, "eth0", "192.0.2.1:50000", "10.1.0.9:15412");
        led.connection = Some(LoggedConnection {
            source: end("192.0.2.1:50000"),
            destination: end("10.1.0.9:8080"),
            protocol: 6,
            reply: false,
        });
        let record = recorder(&fixture).record(&led);
        assert_eq!((record.port, record.local), (Some(8080), end("10.1.0.9:8080")));
        assert_eq!((record.cause, policies(&record)), (RecordCause::Isolated, vec![by.to_owned()]));
    }
}

#[test]
fn denied_ingress_and_its_answer_have_the_same_ends() {
    let recorder = recorder(&fixture());
    let denied = Decision::denied(Place::Ingress(container(1)));
    let record = recorder.record(&logged(denied, IN, "eth0", "10.0.0.1:50000", "10.1.0.9:8080"));
    assert_eq!((record.direction, record.port, record.reply), (Direction::Ingress, Some(8080), false));
    assert_eq!((record.peer.label().as_str(), record.peer.port), ("node (10.0.0.1)", Some(50000)));
    assert_eq!(record.peer.entity.as_deref(), Some("Node"));
    assert_eq!(policies(&record), ["ContainerNetworkPolicy shop/app ingress container"]);
    let answer = recorder.record(&logged(denied, OUT, "eth0", "10.1.0.9:8080", "10.0.0.1:50000"));
    assert_eq!((answer.peer, answer.port, answer.reply), (record.peer, Some(8080), true));
}

#[test]
fn a_pair_on_loopback_names_both_and_the_side_that_denies() {
    let recorder = recorder(&fixture());
    let place = Place::Loopback { sender: container(2), receiver: container(1) };
    let record = recorder.record(&logged(Decision::denied(place), IN, "lo", "127.0.0.1:40000", "127.0.0.1:8080"));
    assert_eq!((record.container.as_deref(), record.peer.container.as_deref()), (Some("shipper"), Some("app")));
    assert_eq!((record.wire, record.reply, record.port), (RecordWire::Loopback, false, Some(8080)));
    assert_eq!(policies(&record), ["ContainerNetworkPolicy shop/app ingress container"]);
    // Under cgroup identity a pair that is judged at OUTPUT is judged by an answer.
    let answer = recorder.record(&logged(Decision::denied(place), OUT, "lo", "127.0.0.1:8080", "127.0.0.1:40000"));
    assert_eq!((answer.reply, answer.port, answer.local), (true, Some(8080), record.local));
    let place = Place::Loopback { sender: Party::Node, receiver: Party::Unknown };
    let record = recorder.record(&logged(Decision::denied(place), IN, "lo", "127.0.0.1:40000", "127.0.0.1:8080"));
    assert_eq!((record.party, record.peer.kind), (RecordParty::Node, RecordPeerKind::Unknown));
    assert_eq!(policies(&record), ["ContainerNetworkPolicy shop/app ingress container"]);
}

#[test]
fn audit_records_name_what_would_deny_and_what_would_allow() {
    let recorder = recorder(&fixture());
    let place = Place::Egress(container(2));
    let deny = Decision::audit(place, Action::Deny);
    let record = recorder.record(&logged(deny, OUT, "eth0", "10.1.0.9:40000", "203.0.113.1:80"));
    assert_eq!((record.verdict, record.cause), (RecordVerdict::AuditWouldDeny, RecordCause::Isolated));
    assert_eq!(policies(&record), ["ContainerNetworkPolicy shop/trial egress container"]);
    // Nothing isolates it now, so no rule allows it.
    assert_eq!((record.rule, record.peer.kind), (None, RecordPeerKind::Address));

    let allow = Decision::audit(Place::Egress(container(1)), Action::Allow);
    let record = recorder.record(&logged(allow, OUT, "eth0", "10.1.0.9:40000", "198.51.100.9:443"));
    assert_eq!(record.verdict, RecordVerdict::AuditWouldAllow);
    assert_eq!(policies(&record), ["ContainerNetworkPolicy shop/app egress container"]);
    let rule = record.rule.unwrap();
    assert_eq!((rule.name.as_str(), rule.direction, rule.index), ("trial", Direction::Egress, 0));
}

#[test]
fn a_verdict_of_other_policies_is_said_to_be_one() {
    let recorder = recorder(&fixture());
    let of = |decision| {
        let record = recorder.record(&logged(decision, OUT, "eth0", "10.1.0.9:40000", "198.51.100.9:443"));
        (record.cause, record.policies.len(), record.rule)
    };
    let superseded = (RecordCause::Superseded, 0, None);
    assert_eq!(of(Decision::denied(Place::Egress(container(2)))), superseded);
    assert_eq!(of(Decision::audit(Place::Egress(container(2)), Action::Deny)), superseded);
    // A container that is no more still has its number.
    let gone = recorder.record(&logged(
        Decision::denied(Place::Egress(container(9))),
        OUT,
        "eth0",
        "10.1.0.9:40000",
        "198.51.100.9:443",
    ));
    assert_eq!(gone.container.as_deref(), Some("(removed container)"));
}

#[test]
fn protocols_without_ports_are_isolated_whole() {
    let recorder = recorder(&fixture());
    let mut echo = logged(Decision::denied(Place::Egress(container(1))), OUT, "eth0", "10.1.0.9:1", "10.1.0.7:1");
    let address = |text: &str| RecordEnd { address: text.parse().ok(), port: None };
    echo.packet = Some(LoggedPacket {
        source: address("10.1.0.9"),
        destination: address("10.1.0.7"),
        protocol: 1,
        icmp: Some(RecordIcmp { kind: 8, code: 0 }),
    });
    let record = recorder.record(&echo);
    assert_eq!((record.protocol, record.icmp), (Some(IpProtocol(1)), Some(RecordIcmp { kind: 8, code: 0 })));
    assert_eq!((record.port, record.cause), (None, RecordCause::Isolated));
    assert_eq!(policies(&record), ["ContainerNetworkPolicy shop/app egress container"]);
    // A packet whose headers nobody could read.
    echo.packet = None;
    let record = recorder.record(&echo);
    assert_eq!((record.cause, record.protocol, record.peer.address), (RecordCause::Unreadable, None, None));
}

#[test]
fn forged_and_improper_packets_have_no_policy() {
    let fixture = fixture().by_uid();
    let recorder = recorder(&fixture);
    let forged = Decision::denied(Place::Forged);
    let record = recorder.record(&logged(forged, OUT, "eth0", "192.0.2.1:1", "10.1.0.7:5432"));
    assert_eq!((record.verdict, record.cause), (RecordVerdict::Forged, RecordCause::NoPolicy));
    // By user, the forger is known.
    assert_eq!((record.container.as_deref(), record.direction), (Some("app"), Direction::Egress));
    let record = recorder.record(&logged(forged, IN, "eth0", "127.0.0.1:1", "10.1.0.9:5432"));
    assert_eq!((record.party, record.direction), (RecordParty::Undetermined, Direction::Ingress));
    let improper = Decision::denied(Place::Improper);
    let mut odd = logged(improper, OUT, "lo", "127.0.0.1:1", "127.0.0.1:2");
    odd.uid = Some(7);
    let record = recorder.record(&odd);
    assert_eq!((record.verdict, record.party), (RecordVerdict::Improper, RecordParty::Unknown));
    assert_eq!((record.wire, record.peer.kind), (RecordWire::Loopback, RecordPeerKind::SamePod));
}

#[test]
fn a_port_that_is_not_declared_is_the_reason() {
    let recorder = recorder(&fixture().by_uid());
    let place = Place::LoopbackFrom(container(2));
    let record = recorder.record(&logged(Decision::denied(place), OUT, "lo", "127.0.0.1:40000", "127.0.0.1:7777"));
    assert_eq!((record.verdict, record.peer.kind), (RecordVerdict::Deny, RecordPeerKind::SamePod));
    assert_eq!((record.cause, record.reply), (RecordCause::NotDeclared, false));
    assert_eq!(policies(&record), ["ContainerNetworkPolicy shop/app ingress container"]);
    // Its own ports are known, and then it is isolation that denies.
    let place = Place::Loopback { sender: container(2), receiver: container(1) };
    let record = recorder.record(&logged(Decision::denied(place), OUT, "lo", "127.0.0.1:40000", "127.0.0.1:8080"));
    assert_eq!((record.cause, record.reply), (RecordCause::Isolated, false));
    // From the network, the port's owner is asked; nobody's port is an unknown receiver's.
    let denied = Decision::denied(Place::Ingress(Party::Unknown));
    let record = recorder.record(&logged(denied, IN, "eth0", "10.1.0.7:40000", "10.1.0.9:7777"));
    assert_eq!((record.cause, record.policies.len()), (RecordCause::NotDeclared, 1));
}

#[test]
fn the_edge_is_told_from_the_container() {
    let fixture = fixture();
    let mut pod = fixture.resolved();
    let by = |kind, name: &str| PolicyName { kind, namespace: "shop".into(), name: name.into() };
    let sides = |kind, name| Sides {
        egress: Side {
            isolations: vec![Isolation { by: by(kind, name), loopback: Scope::none(), network: Scope::all() }],
            rules: Vec::new(),
        },
        ..Sides::default()
    };
    pod.edge = sides(PolicyKind::NetworkPolicy, "fence");
    let edge = sides(PolicyKind::MultiNetworkPolicy, "far");
    pod.attached.insert(
        AttachmentId(0),
        Attached { network: "shop/storage".into(), device: "net1".into(), addresses: Default::default(), edge },
    );
    let recorder = Recorder::new(pod, Arc::new(Names::of(&fixture.world)));
    let denied = Decision::denied(Place::Egress(container(2)));
    let at = |device| recorder.record(&logged(denied, OUT, device, "10.1.0.9:40000", "10.1.0.7:5432"));
    let record = at("eth0");
    assert_eq!(policies(&record), ["NetworkPolicy shop/fence egress pod"]);
    assert_eq!((record.network, record.peer.kind), (None, RecordPeerKind::Pod));
    let record = at("net1");
    assert_eq!(policies(&record), ["MultiNetworkPolicy shop/far egress pod"]);
    // The same address is somebody else's there.
    assert_eq!((record.network.as_deref(), record.peer.kind), (Some("shop/storage"), RecordPeerKind::Address));
    assert_eq!(at("net9").cause, RecordCause::Superseded);
}

#[test]
fn an_address_of_several_is_nobodys() {
    let mut world = fixture().world;
    let pod = |name: &str, address: &str, ended, host_network| Pod {
        namespace: "shop".into(),
        name: name.into(),
        addresses: vec![address.parse().unwrap()],
        ended,
        host_network,
        ..Pod::default()
    };
    world.pods.extend([
        pod("one", "10.1.0.20", false, false),
        pod("two", "10.1.0.20", false, false),
        pod("old", "10.1.0.21", true, false),
        pod("new", "10.1.0.21", false, false),
        pod("agent", "10.0.0.2", false, true),
        pod("liar", "10.96.0.10", false, false),
    ]);
    world.network.dns.insert(("192.0.2.53".parse().unwrap(), sidewall_flow::Protocol::Udp, 53));
    let names = Names::of(&world);
    let of = |address: &str| names.peer(address.parse().ok(), Some(17), Some(53));
    assert_eq!(of("10.1.0.20").kind, RecordPeerKind::Address);
    assert_eq!(of("10.1.0.21").name.as_deref(), Some("new"));
    assert_eq!((of("10.0.0.2").kind, of("10.0.0.2").name), (RecordPeerKind::Node, None));
    assert_eq!((of("10.96.0.10").kind, of("10.96.0.10").name.as_deref()), (RecordPeerKind::Service, Some("kube-dns")));
    assert_eq!((of("10.96.9.9").kind, of("10.96.9.9").name), (RecordPeerKind::Service, None));
    assert_eq!(of("192.0.2.53").entity.as_deref(), Some("ClusterDNS"));
    assert_eq!(names.left_out(), 0);
}
