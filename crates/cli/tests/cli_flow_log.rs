//! The flow log of a real pod: every verdict, field by field, as a file, as a stream and as a sum. These need root.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Background, PATIENCE, files, json, run};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket};
use serde_json::{Value, json};
use sidewall_flow::{
    Decision, Direction, FlowRecord, IpProtocol, LossPlace, Record, RecordCause, RecordIcmp, RecordLevel, RecordParty,
    RecordPeerKind, RecordVerdict, RecordWay, RecordWire, Timestamp,
};
use sidewall_sandbox::prober::{Connect, Prober, Protocol};
use sidewall_sandbox::{Identity, LivePod, attach};

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 3
  containers:
  - name: app
    command: [sidewall, internal, hello, '--listen=0.0.0.0:8080', '--metrics=127.0.0.1:8081']
    ports: [{name: http, containerPort: 8080}]
    securityContext: {runAsUser: 20001, runAsGroup: 30001}
  - name: shipper
    command: [sleep, '600']
    securityContext: {runAsUser: 20002, runAsGroup: 30002}
";

const WORLD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: data}
spec: {containers: [{name: db}]}
status: {podIP: 10.1.0.7, podIPs: [{ip: 10.1.0.7}]}
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.10, ports: [{protocol: UDP, port: 53}]}
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: closed, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  containers: [app]
  policyTypes: [Ingress, Egress]
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: trial, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  mode: Audit
  policyTypes: [Egress]
  egress:
  - to: [{ipBlock: {cidr: 192.0.2.0/24}}]
  - to: [{entity: Node}]
    ports: [{port: 4443}]
";

/// A pod under `sidewall run`, and a follower of its flow log.
struct Walled {
    // They end before their directories do.
    up: Background,
    follower: Background,
    pod: LivePod,
    state: tempfile::TempDir,
    _dir: tempfile::TempDir,
}

impl Walled {
    fn new(more: &[&str]) -> Self {
        Self::among(WORLD, more)
    }

    /// The same with other policies.
    fn among(world: &str, more: &[&str]) -> Self {
        let dir = files(&[("pod.yaml", POD), ("world.yaml", world)]);
        let state = files(&[]);
        let at = state.path().to_str().unwrap();
        let args = [&["run", "pod.yaml", "--policy", "world.yaml", "--output=json", "--state-dir", at], more].concat();
        let mut up = Background::start(dir.path(), &args);
        up.event("started", |_| true);
        up.event("log", |event| event["container"] == "app");
        let args = ["flows", "web", "--follow", "--output=json", "--state-dir", at];
        let follower = Background::start(dir.path(), &args);
        let pod = attach(state.path(), "shop", "web").unwrap();
        Self { up, follower, pod, state, _dir: dir }
    }

    fn at(&self) -> &str {
        self.state.path().to_str().unwrap()
    }

    fn flows(&self, args: &[&str]) -> (i32, String, String) {
        run(Path::new("/"), &[&["flows"], args, &["--state-dir", self.at()]].concat())
    }

    fn prober(&self, container: &str) -> Prober {
        let file = std::fs::File::open(env!("CARGO_BIN_EXE_sidewall")).unwrap();
        let launch = sidewall_netns::Launch::from_file(file, "sidewall").args(["internal", "prober", "test"]);
        Prober::start(self.pod.confine(&Identity::Container(container.into()), launch).unwrap()).unwrap()
    }

    fn own(&self) -> IpAddr {
        self.pod.info().addresses[0]
    }

    fn node(&self) -> IpAddr {
        self.pod.info().node_addresses[0]
    }

    /// The next flow with a verdict.
    #[track_caller]
    fn next(&mut self, verdict: RecordVerdict) -> FlowRecord {
        let of = |line: &str| Record::from_line(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let line = self
            .follower
            .until(&format!("{verdict} record"), |line| of(line).flow().is_some_and(|flow| flow.verdict == verdict));
        let Record::Flow(flow) = of(&line) else { unreachable!("it is a flow") };
        self.common(&flow);
        *flow
    }

    /// What every record of this pod has.
    #[track_caller]
    fn common(&self, flow: &FlowRecord) {
        assert_eq!((flow.namespace.as_str(), flow.pod.as_str(), flow.network.as_deref()), ("shop", "web", None));
        let age = Timestamp::now().time().duration_since(flow.time.time()).unwrap();
        assert!(age < PATIENCE, "{age:?}");
        assert_eq!(flow.decision.parse::<Decision>().unwrap().to_string(), flow.decision);
        assert!(!flow.reply && flow.more_policies == 0, "{flow:#?}");
    }
}

fn connect(prober: &Prober, protocol: Protocol, to: SocketAddr) {
    let connect = Connect { await_name: protocol == Protocol::Udp, ..Connect::new(protocol, to, 400) };
    prober.connect(connect).unwrap();
}

fn policies(flow: &FlowRecord) -> Vec<(&str, &str, Direction, RecordLevel)> {
    flow.policies
        .iter()
        .map(|policy| {
            assert_eq!(policy.kind, "ContainerNetworkPolicy");
            (policy.namespace.as_str(), policy.name.as_str(), policy.direction, policy.level)
        })
        .collect()
}

const CLOSED_OUT: (&str, &str, Direction, RecordLevel) = ("shop", "closed", Direction::Egress, RecordLevel::Container);
const CLOSED_IN: (&str, &str, Direction, RecordLevel) = ("shop", "closed", Direction::Ingress, RecordLevel::Container);

/// Sends an IPv4 UDP packet as it is, from a raw socket of root in the pod's namespace.
fn inject(pod: &LivePod, source: Ipv4Addr, to: Ipv4Addr, options: [u8; 4]) {
    let mut packet = vec![0x46, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0, 0];
    packet.extend(source.octets());
    packet.extend(to.octets());
    packet.extend(options);
    packet.extend([0x30, 0x39, 0x26, 0x94, 0, 9, 0, 0, b'x']);
    let sent = pod.netns().run(|| {
        let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap();
        let to = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
        sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty())
    });
    // A refused packet may say so.
    let _ = sent.unwrap();
}

#[test]
fn every_verdict_is_told_with_every_field() {
    let mut walled = Walled::new(&[]);
    let (app, shipper) = (walled.prober("app"), walled.prober("shipper"));
    let (own, node) = (walled.own(), walled.node());

    // Denied egress, to a pod.
    connect(&app, Protocol::Tcp, "10.1.0.7:5432".parse().unwrap());
    let flow = walled.next(RecordVerdict::Deny);
    assert_eq!((flow.party, flow.container.as_deref()), (RecordParty::Container, Some("app")));
    assert_eq!((flow.direction, flow.wire, flow.way), (Direction::Egress, RecordWire::Network, RecordWay::Leaving));
    assert_eq!((flow.interface.as_deref(), flow.protocol, flow.icmp), (Some("eth0"), Some(IpProtocol(6)), None));
    assert_eq!((flow.port, flow.local.address, flow.peer.port), (Some(5432), Some(own), Some(5432)));
    assert!(flow.local.port.is_some_and(|port| port > 1023));
    let peer = (flow.peer.kind, flow.peer.namespace.as_deref(), flow.peer.name.as_deref());
    assert_eq!(peer, (RecordPeerKind::Pod, Some("data"), Some("db")));
    assert_eq!((flow.peer.address, flow.peer.entity.as_deref()), ("10.1.0.7".parse().ok(), None));
    assert_eq!((flow.cause, policies(&flow), &flow.rule), (RecordCause::Isolated, vec![CLOSED_OUT], &None));
    assert_eq!((flow.uid, flow.gid, flow.decision.as_str()), (Some(20001), Some(30001), "sw:deny/egress/c1"));

    // To a Service.
    connect(&app, Protocol::Udp, "10.96.0.10:53".parse().unwrap());
    let flow = walled.next(RecordVerdict::Deny);
    let peer = (flow.peer.kind, flow.peer.namespace.as_deref(), flow.peer.name.as_deref());
    assert_eq!(peer, (RecordPeerKind::Service, Some("kube-system"), Some("kube-dns")));
    assert_eq!((flow.peer.entity.as_deref(), flow.protocol), (Some("ClusterDNS"), Some(IpProtocol(17))));
    assert_eq!((flow.port, flow.uid), (Some(53), Some(20001)));

    // Denied ingress, from the node.
    let refused = TcpStream::connect_timeout(&SocketAddr::new(own, 8080), Duration::from_millis(300));
    assert!(refused.is_err());
    let flow = walled.next(RecordVerdict::Deny);
    assert_eq!((flow.party, flow.container.as_deref()), (RecordParty::Container, Some("app")));
    assert_eq!((flow.direction, flow.wire, flow.way), (Direction::Ingress, RecordWire::Network, RecordWay::Arriving));
    assert_eq!((flow.interface.as_deref(), flow.protocol), (Some("eth0"), Some(IpProtocol(6))));
    assert_eq!((flow.port, flow.local.address, flow.local.port), (Some(8080), Some(own), Some(8080)));
    assert_eq!((flow.peer.kind, flow.peer.address), (RecordPeerKind::Node, Some(node)));
    assert_eq!((flow.peer.entity.as_deref(), &flow.peer.name), (Some("Node"), &None));
    assert_eq!((flow.cause, policies(&flow), &flow.rule), (RecordCause::Isolated, vec![CLOSED_IN], &None));
    assert_eq!(flow.decision, "sw:deny/ingress/c1");

    // A denied pair on loopback.
    connect(&shipper, Protocol::Tcp, "127.0.0.1:8080".parse().unwrap());
    let flow = walled.next(RecordVerdict::Deny);
    assert_eq!((flow.party, flow.container.as_deref()), (RecordParty::Container, Some("shipper")));
    assert_eq!((flow.direction, flow.wire), (Direction::Egress, RecordWire::Loopback));
    assert_eq!((flow.interface.as_deref(), flow.protocol), (Some("lo"), Some(IpProtocol(6))));
    assert_eq!(
        (flow.port, flow.local.address, flow.peer.port),
        (Some(8080), Some(Ipv4Addr::LOCALHOST.into()), Some(8080))
    );
    assert_eq!((flow.peer.kind, flow.peer.container.as_deref()), (RecordPeerKind::Container, Some("app")));
    assert_eq!((flow.cause, policies(&flow), &flow.rule), (RecordCause::Isolated, vec![CLOSED_IN], &None));
    assert_eq!(flow.decision, "sw:deny/loopback/c2/c1");

    // It passes, and an Audit policy would not have it. Nobody listens there.
    connect(&shipper, Protocol::Tcp, SocketAddr::new(node, 9));
    let flow = walled.next(RecordVerdict::AuditWouldDeny);
    assert_eq!((flow.party, flow.container.as_deref()), (RecordParty::Container, Some("shipper")));
    assert_eq!((flow.direction, flow.wire, flow.way), (Direction::Egress, RecordWire::Network, RecordWay::Leaving));
    assert_eq!((flow.peer.kind, flow.peer.address, flow.port), (RecordPeerKind::Node, Some(node), Some(9)));
    let trial = ("shop", "trial", Direction::Egress, RecordLevel::Container);
    assert_eq!((flow.cause, policies(&flow), &flow.rule), (RecordCause::Isolated, vec![trial], &None));
    assert_eq!((flow.uid, flow.gid, flow.decision.as_str()), (Some(20002), Some(30002), "sw:audit-deny/egress/c2"));

    // It is denied, and an Audit policy would let it pass.
    connect(&app, Protocol::Tcp, SocketAddr::new(node, 4443));
    let flow = walled.next(RecordVerdict::AuditWouldAllow);
    assert_eq!((flow.container.as_deref(), flow.port), (Some("app"), Some(4443)));
    assert_eq!((flow.cause, policies(&flow)), (RecordCause::Isolated, vec![CLOSED_OUT]));
    let rule = flow.rule.unwrap();
    assert_eq!((rule.kind.as_str(), rule.namespace.as_str()), ("ContainerNetworkPolicy", "shop"));
    assert_eq!((rule.name.as_str(), rule.direction, rule.index), ("trial", Direction::Egress, 1));
    assert_eq!((flow.uid, flow.decision.as_str()), (Some(20001), "sw:audit-allow/egress/c1"));

    let v4 = |address: IpAddr| if let IpAddr::V4(v4) = address { v4 } else { panic!("{address} is no IPv4 address") };
    // A foreign source address.
    inject(&walled.pod, Ipv4Addr::new(192, 0, 2, 1), v4(node), [0; 4]);
    let flow = walled.next(RecordVerdict::Forged);
    assert_eq!((flow.party, &flow.container, flow.cause), (RecordParty::Undetermined, &None, RecordCause::NoPolicy));
    assert_eq!((flow.direction, flow.wire, flow.way), (Direction::Egress, RecordWire::Network, RecordWay::Leaving));
    assert_eq!((flow.interface.as_deref(), flow.protocol), (Some("eth0"), Some(IpProtocol(17))));
    assert_eq!((flow.local.address, flow.local.port), ("192.0.2.1".parse().ok(), Some(12345)));
    assert_eq!((flow.peer.kind, flow.peer.address, flow.port), (RecordPeerKind::Node, Some(node), Some(9876)));
    assert_eq!((flow.policies.len(), &flow.rule, flow.uid), (0, &None, Some(0)));
    assert_eq!(flow.decision, "sw:deny/forged");

    // Options that may change a packet's way.
    inject(&walled.pod, v4(own), v4(node), [1, 1, 1, 0]);
    let flow = walled.next(RecordVerdict::Improper);
    assert_eq!((flow.party, flow.cause, flow.uid), (RecordParty::Undetermined, RecordCause::NoPolicy, Some(0)));
    assert_eq!((flow.local.address, flow.port, flow.decision.as_str()), (Some(own), Some(9876), "sw:deny/improper"));

    // A protocol without ports, which isolation denies whole.
    let ping = walled.pod.launch(&Identity::Container("app".into()), &["ping", "-c1", "-W1", &node.to_string()]);
    if let Ok(mut ping) = ping.and_then(|launch| Ok(launch.spawn()?)) {
        let _ = ping.wait();
        let flow = walled.next(RecordVerdict::Deny);
        assert_eq!((flow.protocol, flow.icmp), (Some(IpProtocol(1)), Some(RecordIcmp { kind: 8, code: 0 })));
        assert_eq!((flow.port, policies(&flow)), (None, vec![CLOSED_OUT]));
    }

    // The same, as others ask for it.
    let lines = |args: &[&str]| {
        let (code, out, err) = walled.flows(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        out
    };
    assert_eq!(lines(&["shop/web", "--audit", "--output=json"]).lines().count(), 2);
    let last = lines(&["web", "--last=1", "--audit"]);
    assert!(last.contains("audit-would-allow app -> node"), "{last}");
    assert!(last.contains("would be allowed by ContainerNetworkPolicy shop/trial egress[1]"), "{last}");
    let shipper_denied = lines(&["web", "--denied", "--container=shipper", "--output=json"]);
    assert!(shipper_denied.lines().count() >= 1);
    for line in shipper_denied.lines() {
        assert_eq!(Record::from_line(line).unwrap().flow().unwrap().decision, "sw:deny/loopback/c2/c1");
    }
    assert_eq!(lines(&["web", "--since=2999-01-01T00:00:00Z"]), "");
    let text = lines(&["web"]);
    assert!(
        text.contains("deny              app -> pod data/db (10.1.0.7) 5432/TCP on eth0, uid 20001: isolated by"),
        "{text}"
    );
    let (code, sum) = json(Path::new("/"), &["flows", "--output=json", "--state-dir", walled.at()]);
    assert_eq!(
        (code, sum["pods"][0]["pod"].as_str(), sum["pods"][0]["namespace"].as_str()),
        (0, Some("web"), Some("shop"))
    );
    let rows = sum["pods"][0]["flows"].as_array().unwrap();
    let forged = rows.iter().find(|row| row["verdict"] == "forged").unwrap();
    assert_eq!((&forged["count"], &forged["peer"]["kind"]), (&json!(1), &json!("node")));
    assert!(lines(&[]).starts_with("shop/web\n"));
    let (code, _, err) = walled.flows(&["other"]);
    assert_eq!(code, 3);
    assert!(err.contains("no pod other runs here (but shop/web)"), "{err}");
    for usage in [&["--follow"][..], &["web", "--denied", "--audit"], &["web", "--since=x"]] {
        assert_eq!(walled.flows(usage).0, 2, "{usage:?}");
    }

    // The pod's end ends who follows.
    drop((app, shipper));
    walled.up.signal(Signal::SIGTERM);
    assert_eq!(walled.up.code(), 0);
    walled
        .follower
        .until("end", |line| matches!(Record::from_line(line).unwrap(), Record::End(end) if end.pod == "web"));
    assert_eq!(walled.follower.code(), 0);
    assert_eq!(walled.flows(&[]).1, "no pod runs here\n");
}

#[test]
fn by_user_the_sender_is_known_on_loopback_too() {
    let mut walled = Walled::new(&["--identity=uid"]);
    let (app, shipper) = (walled.prober("app"), walled.prober("shipper"));
    connect(&shipper, Protocol::Tcp, "[::1]:8080".parse().unwrap());
    let flow = walled.next(RecordVerdict::Deny);
    assert_eq!((flow.container.as_deref(), flow.peer.container.as_deref()), (Some("shipper"), Some("app")));
    assert_eq!((flow.way, flow.wire, flow.port), (RecordWay::Leaving, RecordWire::Loopback, Some(8080)));
    assert_eq!((flow.uid, flow.cause, policies(&flow)), (Some(20002), RecordCause::Isolated, vec![CLOSED_IN]));
    // A port that nobody declares: whoever listens there is not known, and need not be the one that the policy is about.
    connect(&shipper, Protocol::Udp, "127.0.0.1:7777".parse().unwrap());
    let flow = walled.next(RecordVerdict::Deny);
    assert_eq!((flow.peer.kind, &flow.peer.container, flow.port), (RecordPeerKind::SamePod, &None, Some(7777)));
    assert_eq!((flow.cause, flow.uid, policies(&flow)), (RecordCause::NotDeclared, Some(20002), vec![CLOSED_IN]));
    let v6 = walled.pod.info().node_addresses.iter().copied().find(IpAddr::is_ipv6).unwrap();
    connect(&app, Protocol::Tcp, SocketAddr::new(v6, 9));
    let flow = walled.next(RecordVerdict::Deny);
    assert_eq!(
        (flow.container.as_deref(), flow.peer.kind, flow.peer.address),
        (Some("app"), RecordPeerKind::Node, Some(v6))
    );
    assert_eq!((flow.uid, flow.port, policies(&flow)), (Some(20001), Some(9), vec![CLOSED_OUT]));
}

#[test]
fn what_the_edge_denies_names_the_policy_of_the_pod() {
    const FENCE: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: fence, namespace: shop}
spec: {podSelector: {}, policyTypes: [Egress]}
";
    let mut walled = Walled::among(FENCE, &[]);
    let shipper = walled.prober("shipper");
    connect(&shipper, Protocol::Tcp, "10.1.0.7:5432".parse().unwrap());
    let flow = walled.next(RecordVerdict::Deny);
    assert_eq!((flow.party, flow.container.as_deref()), (RecordParty::Container, Some("shipper")));
    assert_eq!((flow.direction, flow.wire, flow.port), (Direction::Egress, RecordWire::Network, Some(5432)));
    assert_eq!((flow.uid, flow.cause, flow.policies.len()), (Some(20002), RecordCause::Isolated, 1));
    let by = &flow.policies[0];
    assert_eq!((by.kind.as_str(), by.name.as_str(), by.level), ("NetworkPolicy", "fence", RecordLevel::Pod));
}

#[test]
fn what_rate_limits_leave_out_is_counted_and_the_file_has_the_rest() {
    const ATTEMPTS: u64 = 400;
    let log = tempfile::tempdir().unwrap();
    let file = log.path().join("flows.json");
    let mut walled = Walled::new(&["--flow-log", file.to_str().unwrap()]);
    let app = walled.prober("app");
    for _ in 0..ATTEMPTS {
        connect(&app, Protocol::Tcp, "10.1.0.7:5432".parse().unwrap());
    }
    let mut kernel = sidewall_netfilter::Kernel::open(walled.pod.netns()).unwrap();
    let counters = kernel.counters().unwrap();
    assert_eq!(counters["deny/egress/c1"].packets, ATTEMPTS);
    let is_decision = |name: &str| format!("sw:{name}").parse::<Decision>().is_ok();
    let counted: u64 = counters.iter().filter(|(name, _)| is_decision(name)).map(|(_, c)| c.packets).sum();

    let (mut flows, mut lost) = (0, 0);
    let begun = Instant::now();
    while flows + lost < counted {
        assert!(begun.elapsed() < PATIENCE, "{flows} told and {lost} said to be missing, of {counted}");
        match Record::from_line(&walled.follower.until("record", |_| true)).unwrap() {
            Record::Flow(_) => flows += 1,
            Record::Lost(missing) => {
                assert_eq!((missing.place, missing.pod.as_deref()), (LossPlace::RateLimit, Some("web")));
                lost += missing.count;
            }
            Record::End(_) => panic!("it has ended"),
        }
    }
    assert!(lost > 0 && flows >= 40, "{flows} told, {lost} missing");
    drop(app);
    // The events of `run` itself have them too.
    walled.up.event("lost", |event| event["place"] == "rateLimit");
    walled.up.signal(Signal::SIGTERM);
    assert_eq!(walled.up.code(), 0);
    let records: Vec<Record> =
        std::fs::read_to_string(&file).unwrap().lines().map(|line| Record::from_line(line).unwrap()).collect();
    let told = records.iter().filter(|record| record.flow().is_some()).count() as u64;
    let missing: u64 = records.iter().map(|record| if let Record::Lost(lost) = record { lost.count } else { 0 }).sum();
    assert!(told >= flows && told + missing >= counted, "{told} and {missing} of {counted}");
    assert!(matches!(records.last(), Some(Record::End(_))));
}

#[test]
fn standard_output_can_be_the_logs_alone() {
    let dir = files(&[("pod.yaml", POD), ("world.yaml", WORLD)]);
    let state = files(&[]);
    let at = state.path().to_str().unwrap();
    let args = ["run", "pod.yaml", "--policy=world.yaml", "--flow-log=-", "--state-dir", at];
    let mut up = Background::start(dir.path(), &args);
    let begun = Instant::now();
    let pod = loop {
        match attach(state.path(), "shop", "web") {
            Ok(pod) if !pod.info().containers.is_empty() => break pod,
            _ => assert!(begun.elapsed() < PATIENCE, "it does not start"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let file = std::fs::File::open(env!("CARGO_BIN_EXE_sidewall")).unwrap();
    let launch = sidewall_netns::Launch::from_file(file, "sidewall").args(["internal", "prober", "test"]);
    let app = Prober::start(pod.confine(&Identity::Container("app".into()), launch).unwrap()).unwrap();
    // The rules stand and the log is read before the socket is there.
    while !sidewall_sandbox::directory(state.path(), "shop", "web").join("flows.sock").exists() {
        assert!(begun.elapsed() < PATIENCE, "it does not offer its log");
        std::thread::sleep(Duration::from_millis(50));
    }
    connect(&app, Protocol::Tcp, "10.1.0.7:5432".parse().unwrap());
    let line = up.until("record", |_| true);
    let record: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&record["record"], &record["container"]), (&json!("flow"), &json!("app")));
    drop(app);
    up.signal(Signal::SIGTERM);
    assert_eq!(up.code(), 0);
    up.until("end", |line| matches!(Record::from_line(line).unwrap(), Record::End(_)));
}

#[test]
fn a_killed_run_is_told_from_a_pod_that_ended() {
    let mut walled = Walled::new(&[]);
    // It has come to follow.
    connect(&walled.prober("app"), Protocol::Tcp, "10.1.0.7:5432".parse().unwrap());
    walled.next(RecordVerdict::Deny);
    walled.up.signal(Signal::SIGKILL);
    walled.up.code();
    assert_eq!(walled.follower.code(), 1);
    // What it left behind goes with the next start.
    sidewall_sandbox::cleanup_stale(walled.state.path()).unwrap();
}

#[test]
fn others_are_not_told() {
    let walled = Walled::new(&[]);
    let file = std::fs::File::open(env!("CARGO_BIN_EXE_sidewall")).unwrap();
    let mut process = sidewall_netns::Launch::from_file(file, "sidewall")
        .args(["flows", "web", "--state-dir", walled.at()])
        .identity(65534, 65534)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut process.take_stderr().unwrap(), &mut said).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(3));
    assert!(said.contains("Permission denied"), "{said}");
    let at = sidewall_sandbox::directory(walled.state.path(), "shop", "web");
    let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions());
    assert_eq!((mode(&at) & 0o777, mode(&at.join("flows.sock")) & 0o777), (0o700, 0o600));
}
