//! The prober between real identities. Needs root.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use common::{Bench, IDLE, LONG, pod, prober, shell};
use serde_json::json;
use sidewall_netns::Launch;
use sidewall_sandbox::Identity;
use sidewall_sandbox::prober::{Connect, Outcome, Prober, Protocol};

fn container(name: &str) -> Identity {
    Identity::Container(name.to_owned())
}

fn listening(outcome: Outcome) -> (u64, SocketAddr) {
    match outcome {
        Outcome::Listening { handle, at } => (handle, at),
        other => panic!("{other:?}"),
    }
}

fn name(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Connected { name, .. } => name.as_deref(),
        _ => None,
    }
}

#[test]
fn parties_reach_each_other_by_every_way_and_know_whom_they_reached() {
    let bench = Bench::new();
    let running = bench.run(pod("prober", json!({"containers": [shell("web", IDLE), shell("shipper", IDLE)]})));
    let live = running.pod();
    let web = prober(live, &container("web"), "web");
    let shipper = prober(live, &container("shipper"), "shipper");
    let unknown = prober(live, &Identity::Unknown { uid: 31337 }, "unknown");
    let outside = {
        let launch = Launch::new(common::HELPER).args(["prober", "outside"]).identity(2000, 2000).die_with_parent();
        Prober::start(launch).unwrap()
    };
    let uids = common::processes_of(&live.info().uid);
    assert!([&web, &shipper, &unknown].iter().all(|p| uids.contains(&p.pid().to_string())));
    assert!(!uids.contains(&outside.pid().to_string()));

    let (pod_ips, node_ips) = (&live.info().addresses, &live.info().node_addresses);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for (any, lo, ip, node) in [
            (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv4Addr::LOCALHOST), pod_ips[0], node_ips[0]),
            (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into(), pod_ips[1], node_ips[1]),
        ] {
            let (_, at) = listening(web.listen(protocol, SocketAddr::new(any, 0)).unwrap());
            for (from, to) in [(&shipper, lo), (&shipper, ip), (&web, lo), (&unknown, lo), (&outside, ip)] {
                let outcome = from.connect(Connect::new(protocol, SocketAddr::new(to, at.port()), 5000)).unwrap();
                assert_eq!(name(&outcome), Some("web"), "{protocol:?} {to}: {outcome:?}");
            }
            let (_, far) = listening(outside.listen(protocol, SocketAddr::new(node, 0)).unwrap());
            let outcome = shipper.connect(Connect::new(protocol, far, 5000)).unwrap();
            assert_eq!(name(&outcome), Some("outside"), "{outcome:?}");
            // A port on which nobody listens.
            let closed = SocketAddr::new(lo, 1);
            assert_eq!(shipper.connect(Connect::new(protocol, closed, 5000)).unwrap(), Outcome::Refused);
        }
    }
}

#[test]
fn outcomes_tell_refused_unreachable_and_silent_apart() {
    let bench = Bench::new();
    let running = bench.run(pod("outcomes", json!({"containers": [shell("web", IDLE)]})));
    let web = prober(running.pod(), &container("web"), "web");
    let ip = running.pod().info().addresses[0];
    // Someone who accepts and says nothing.
    let mute = running.pod().netns().run(|| std::net::TcpListener::bind((ip, 0))).unwrap().unwrap();
    let to = mute.local_addr().unwrap();
    let start = Instant::now();
    assert_eq!(web.connect(Connect::new(Protocol::Tcp, to, 100)).unwrap(), Outcome::Timeout);
    assert!(start.elapsed().as_millis() >= 100 && start.elapsed() < LONG);
    let no_wait = Connect { await_name: false, ..Connect::new(Protocol::Tcp, to, 1000) };
    assert!(web.connect(no_wait).unwrap().connected());
    // 255.255.255.255 by TCP is refused by the kernel itself.
    let broadcast = web.connect(Connect::new(Protocol::Tcp, "255.255.255.255:1".parse().unwrap(), 1000)).unwrap();
    assert!(matches!(broadcast, Outcome::Prohibited { .. }), "{broadcast:?}");
    let taken = web.listen(Protocol::Tcp, to).unwrap();
    assert!(matches!(taken, Outcome::Failed { .. }), "{taken:?}");
    let sctp = web.listen(Protocol::Sctp, SocketAddr::new(ip, 0)).unwrap();
    assert!(matches!(sctp, Outcome::Unsupported | Outcome::Listening { .. }), "{sctp:?}");
}

#[test]
fn kept_connections_carry_text_until_either_end_closes() {
    let bench = Bench::new();
    let running = bench.run(pod("kept", json!({"containers": [shell("web", IDLE), shell("shipper", IDLE)]})));
    let web = prober(running.pod(), &container("web"), "web");
    let shipper = prober(running.pod(), &container("shipper"), "shipper");
    let (_, at) = listening(web.listen(Protocol::Tcp, "127.0.0.1:0".parse().unwrap()).unwrap());
    let from: SocketAddr = "127.0.0.1:45678".parse().unwrap();
    let connect = Connect { keep: true, from: Some(from), ..Connect::new(Protocol::Tcp, at, 5000) };
    let Outcome::Connected { handle: Some(handle), from: local, .. } = shipper.connect(connect).unwrap() else {
        panic!()
    };
    assert_eq!(local, from);
    assert_eq!(shipper.receive(handle, 50).unwrap(), Outcome::Timeout);
    assert_eq!(shipper.send(handle, "ping").unwrap(), Outcome::Sent);
    assert_eq!(shipper.receive(handle, 5000).unwrap(), Outcome::Received { text: "ping".into() });

    // The descriptor goes to web, and the connection lives on there.
    let passed = shipper.pass_fd(handle, &web).unwrap();
    assert_eq!(shipper.close(handle).unwrap(), Outcome::Closed);
    assert_eq!(web.send(passed, "again").unwrap(), Outcome::Sent);
    assert_eq!(web.receive(passed, 5000).unwrap(), Outcome::Received { text: "again".into() });
    assert!(matches!(shipper.send(handle, "x").unwrap(), Outcome::Failed { .. }));
}

#[test]
fn two_thousand_flows_at_once_take_one_process_and_little_time() {
    let bench = Bench::new();
    let running = bench.run(pod("many-flows", json!({"containers": [shell("web", IDLE), shell("shipper", IDLE)]})));
    let web = prober(running.pod(), &container("web"), "web");
    let shipper = prober(running.pod(), &container("shipper"), "shipper");
    let (_, tcp) = listening(web.listen(Protocol::Tcp, "127.0.0.1:0".parse().unwrap()).unwrap());
    let (_, udp) = listening(web.listen(Protocol::Udp, "[::1]:0".parse().unwrap()).unwrap());
    let start = Instant::now();
    let attempts =
        (0..1000).flat_map(|_| [Connect::new(Protocol::Tcp, tcp, 15_000), Connect::new(Protocol::Udp, udp, 15_000)]);
    let outcomes = shipper.connect_all(attempts).unwrap();
    assert_eq!(
        outcomes.iter().filter(|o| name(o) == Some("web")).count(),
        2000,
        "{:?}",
        outcomes.iter().find(|o| !o.connected())
    );
    eprintln!("2000 flows: {:?}", start.elapsed());
}

#[test]
fn a_prober_that_is_killed_is_an_error_not_a_wait() {
    let bench = Bench::new();
    let running = bench.run(pod("killed-prober", json!({"containers": [shell("web", IDLE)]})));
    let web = prober(running.pod(), &container("web"), "web");
    running.stop().unwrap();
    common::wait("the error", || web.listen(Protocol::Tcp, "127.0.0.1:0".parse().unwrap()).is_err());
}
