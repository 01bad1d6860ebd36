//! TCP Fast Open with cookies: what a server gave a client while it was allowed, used when it is not any more. The cookie
//! belongs to the pair of addresses, so that all containers of a pod have it together.

use sidewall_api::ContainerNetworkPolicy;
use sidewall_flow::Protocol;
use sidewall_netns::sysctl;
use sidewall_tests::lab::attacker::{Arms, Attacker};
use sidewall_tests::lab::{By, Lab};
use sidewall_tests::raw;
use sidewall_tests::scene::{
    APP, CLIENTS, COLLECTORS, End, LIMIT, LOOPBACK, MALLORY, POD, heard, id, policy, ports, walls,
};
use sidewall_tests::siege::{Siege, drained};
use sidewall_tests::sockets;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

/// [`walls`] in which mallory may call the application and the collector, and the network the application.
fn opened() -> Vec<ContainerNetworkPolicy> {
    let world = serde_json::json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]);
    let mut peers = world.as_array().expect("a list").clone();
    peers.push(serde_json::json!({"container": "mallory"}));
    let mut walls = walls();
    walls.push(policy(
        "for-now",
        serde_json::json!({
            "containers": ["mallory"], "policyTypes": ["Egress"],
            "egress": [{"to": world, "ports": ports(&[7000])}, {"to": [{"container": "app"}], "ports": ports(&[8080])}],
        }),
    ));
    let spec = serde_json::json!({
        "containers": ["app"], "policyTypes": ["Ingress"], "ingress": [{"from": peers, "ports": ports(&[8080])}],
    });
    walls.push(policy("for-now-in", spec));
    walls
}

/// A pod whose clients and servers take Fast Open with cookies.
fn siege() -> Siege {
    let siege = Siege::new(PROGRAM);
    for ns in [&siege.scene.lab.pod, &siege.scene.lab.network] {
        sysctl::set(ns, "net.ipv4.tcp_fastopen", "3").expect("a sysctl");
    }
    siege
}

/// A listener that gives cookies (`TCP_FASTOPEN`).
fn listener(siege: &Siege, server: Option<u8>, at: SocketAddr) -> rustix::fd::OwnedFd {
    let maker = server.map_or(siege.scene.outside(), |number| siege.scene.app(number));
    let listener = sockets::listen(maker, Protocol::Tcp, at).expect("a server listens");
    raw::set_option(&listener, 6, 23, &16i32.to_ne_bytes()).expect("the server takes Fast Open");
    listener
}

/// Code that sends a text with the SYN where the kernel has a cookie, and behind it where it has none; says whether the
/// server has taken it with the SYN (`TCPI_OPT_SYN_DATA`).
fn opens(from: SocketAddr, to: SocketAddr, text: &str) -> String {
    format!(
        "delete $keep{{s}};
         $keep{{s}} = bound(SOCK_STREAM, '{}', {}, options => [[SOL_SOCKET, SO_REUSEADDR, pack('i', 1)], [{}, pack('i', 1)]]);
         option($keep{{s}}, 6, 18, pack('i', 1500));
         defined(send($keep{{s}}, '{text}', 0x20000000 | MSG_NOSIGNAL, address('{}', {}))) or fail('send');
         unpack('x5 C', getsockopt($keep{{s}}, 6, 11) // fail('TCP_INFO')) & 32 ? 'with the SYN' : 'behind it'",
        from.ip(),
        from.port(),
        // IP_FREEBIND, IPV6_FREEBIND.
        if from.is_ipv4() { "0, 15" } else { "41, 78" },
        to.ip(),
        to.port()
    )
}

/// A cookie, and then data with a SYN: what must be possible before it can be revoked.
fn gets_a_cookie(siege: &Siege, client: &mut Attacker, server: Option<u8>, from: IpAddr, to: SocketAddr) {
    let mut last = String::new();
    for _ in 0..2 {
        let listener = listener(siege, server, to);
        last = client.must(&opens(siege.scene.fresh(from), to, "welcome"));
        sockets::readable(&listener, LIMIT).expect("a connection comes");
        let maker = server.map_or(siege.scene.outside(), |number| siege.scene.app(number));
        let accepted = maker.accept(&listener).expect("a connection");
        assert_eq!(heard(&accepted).expect("data comes").as_deref(), Some(&b"welcome"[..]));
        client.must("delete $keep{s}; 1");
    }
    assert_eq!(last, "with the SYN", "from {from} to {to}: no cookie is used, so nothing is tried");
}

#[test]
fn a_cookie_from_before_a_revocation_opens_nothing() {
    let mut siege = siege();
    for (by, arms) in [(By::Cgroup, Arms::Plain), (By::Cgroup, Arms::Root), (By::Uid, Arms::Plain)] {
        for family in [0, 1] {
            for (server, from, to) in [
                (Some(APP), LOOPBACK[family], SocketAddr::new(LOOPBACK[family], 8080)),
                (Some(APP), POD[family], SocketAddr::new(POD[family], 8080)),
                (None, POD[family], SocketAddr::new(COLLECTORS[family], 7000)),
            ] {
                siege.scene.by = by;
                siege.scene.enforce(&opened());
                let mut client = siege.scene.lab.attacker(id(MALLORY), arms);
                gets_a_cookie(&siege, &mut client, server, from, to);
                siege.scene.enforce(&walls());
                let listener = listener(&siege, server, to);
                let marker = siege.marker();
                let source = siege.scene.fresh(from);
                let sent = siege.scene.denied("a cookie's SYN", |_| client.run(&opens(source, to, &marker)));
                siege.settle();
                let maker = server.map_or(siege.scene.outside(), |number| siege.scene.app(number));
                let got = maker.accept(&listener).map(|socket| drained(&socket));
                assert!(got.is_err(), "{by:?}, {arms:?}: from {from} to {to}: {got:?} {sent:?}");
                assert!(!siege.left(&marker), "{by:?}, {arms:?}: from {from} to {to} has left: {sent:?}");
            }
        }
    }
}

/// From the network: the client's cookie is its own, and the pod's server does not ask for another.
#[test]
fn a_clients_cookie_from_before_a_revocation_brings_nothing_in() {
    let mut siege = siege();
    let mut client = siege.scene.lab.neighbour();
    for by in [By::Cgroup, By::Uid] {
        for family in [0, 1] {
            let (from, to) = (CLIENTS[family], SocketAddr::new(POD[family], 8080));
            siege.scene.by = by;
            siege.scene.enforce(&opened());
            gets_a_cookie(&siege, &mut client, Some(APP), from, to);
            siege.scene.enforce(&walls());
            let listener = listener(&siege, Some(APP), to);
            let source = siege.scene.fresh(from);
            let sent = siege.scene.denied("a cookie's SYN", |_| client.run(&opens(source, to, "SECRET")));
            siege.settle();
            let got = siege.scene.app(APP).accept(&listener).map(|socket| drained(&socket));
            assert!(got.is_err(), "{by:?}: from {source} to {to}: {got:?} {sent:?}");
            client.must("delete $keep{s}; 1");
        }
    }
}

/// The cookie's SYN comes onto the tuple of a connection of the attacker's own that was allowed and is in TIME_WAIT.
#[test]
fn a_cookie_onto_time_wait_opens_nothing() {
    let mut siege = siege();
    for by in [None, Some(By::Cgroup), Some(By::Uid)] {
        for family in [0, 1] {
            let to = SocketAddr::new(LOOPBACK[family], 8080);
            if let Some(by) = by {
                siege.scene.by = by;
                siege.scene.enforce(&opened());
            }
            let mut client = siege.scene.lab.attacker(id(MALLORY), Arms::Plain);
            gets_a_cookie(&siege, &mut client, Some(APP), to.ip(), to);
            let from = siege.scene.fresh(to.ip());
            let (caller, server) = (End::Container(MALLORY), End::Container(APP));
            let flow = siege.scene.flow_from(caller, server, Protocol::Tcp, from, to);
            for end in [&flow.client, &flow.server] {
                rustix::net::sockopt::set_socket_linger(end, None).unwrap();
            }
            drop(flow.server);
            assert_eq!(heard(&flow.client).unwrap().as_deref(), Some(&b""[..]));
            drop(flow.client);
            waits(&siege.scene.lab, from);
            if by.is_some() {
                siege.scene.enforce(&walls());
            }
            let listener = listener(&siege, Some(APP), to);
            let marker = siege.marker();
            let sent = client.run(&opens(from, to, &marker));
            if by.is_none() {
                assert_eq!(sent.as_deref(), Ok("with the SYN"), "{from} can be used again");
                sockets::readable(&listener, LIMIT).unwrap();
            } else {
                siege.settle();
            }
            let got = siege.scene.app(APP).accept(&listener).map(|socket| drained(&socket));
            let handed_over = matches!(&got, Ok(text) if text.contains(&marker));
            assert_eq!(handed_over, by.is_none(), "{by:?}: from {from} to {to}: {got:?} {sent:?}");
        }
    }
}

/// Waits until nothing but a TIME_WAIT is left of a connection.
fn waits(lab: &Lab, from: SocketAddr) {
    let until = Instant::now() + LIMIT;
    let port = format!(":{:04X}", from.port());
    loop {
        let read = || {
            ["tcp", "tcp6"]
                .map(|name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap())
                .concat()
        };
        let table = lab.pod.run(read).unwrap();
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours: Vec<_> =
            rows.filter(|row| row.len() > 3 && (row[1].ends_with(&port) || row[2].ends_with(&port))).collect();
        // TIME_WAIT is 06.
        if !ours.is_empty() && ours.iter().all(|row| row[3] == "06") {
            return;
        }
        assert!(Instant::now() < until, "{from} is not in TIME_WAIT alone: {ours:?}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
