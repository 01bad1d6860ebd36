//! The connection tracker: its numbers that come round, its helpers, its limits, and packets that it does not see.

use sidewall_flow::Protocol;
use sidewall_policy::Generation;
use sidewall_tests::lab::By;
use sidewall_tests::lab::attacker::{Arms, Attacker};
use sidewall_tests::scene::{
    APP, COLLECTORS, End, Flow, LOOPBACK, MALLORY, POD, PROXY, Scene, TRANSPORTS, assert_silent, bound, heard, policy,
    ports, send_to, walls,
};
use sidewall_tests::siege::{Round, Siege};
use sidewall_tests::sockets;
use std::net::{IpAddr, SocketAddr};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

/// Rules of an administrator of the pod, by the program nft.
fn nft(administrator: &mut Attacker, rules: &str) {
    administrator.must(&format!("system('/usr/sbin/nft', '{rules}') == 0 or die \"nft is missing or refuses\\n\"; 1"));
}

/// [`walls`] in which mallory may also call the application and the collector.
fn opened() -> Vec<sidewall_api::ContainerNetworkPolicy> {
    let mut walls = walls();
    let world = serde_json::json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]);
    walls.push(policy(
        "for-now",
        serde_json::json!({
            "containers": ["mallory"], "policyTypes": ["Egress"],
            "egress": [{"to": world, "ports": ports(&[7000])}, {"to": [{"container": "app"}], "ports": ports(&[8080])}],
        }),
    ));
    walls.push(policy(
        "for-now-in",
        serde_json::json!({
            "containers": ["app"], "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"container": "mallory"}], "ports": ports(&[8080])}],
        }),
    ));
    walls
}

/// Flows of mallory's that a generation allowed.
fn flows_of_mallory(scene: &mut Scene) -> Vec<Flow> {
    let mut flows = Vec::new();
    for protocol in TRANSPORTS {
        for family in [0, 1] {
            for to in [SocketAddr::new(LOOPBACK[family], 8080), SocketAddr::new(POD[family], 8080)] {
                flows.push(scene.flow(End::Container(MALLORY), End::Container(APP), protocol, to));
            }
            let to = SocketAddr::new(COLLECTORS[family], 7000);
            flows.push(scene.flow(End::Container(MALLORY), End::Outside, protocol, to));
        }
    }
    flows
}

/// Both ends speak, and neither hears.
fn assert_dead(scene: &mut Scene, flow: &Flow, what: &str) {
    for (from, to) in [(&flow.client, &flow.server), (&flow.server, &flow.client)] {
        let before = scene.lab.denials();
        let sent = sockets::send(from, b"risen");
        let until = std::time::Instant::now() + sidewall_tests::scene::LIMIT;
        while sent.is_ok() && scene.lab.denials() == before {
            assert!(std::time::Instant::now() < until, "{what}: no rule denied it");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_silent(to, what);
    }
}

#[test]
fn no_flow_comes_back_to_life_when_the_generations_come_round() {
    for by in [By::Cgroup, By::Uid] {
        let mut scene = Scene::bare(PROGRAM);
        scene.by = by;
        scene.enforce(&opened());
        let idle = flows_of_mallory(&mut scene);
        let denied = flows_of_mallory(&mut scene);
        let to = SocketAddr::new(LOOPBACK[0], 8080);
        let live: Vec<Flow> = TRANSPORTS
            .into_iter()
            .flat_map(|protocol| {
                let own = scene.flow(End::Container(PROXY), End::Container(APP), protocol, to);
                let out = SocketAddr::new(COLLECTORS[1], 7000);
                [own, scene.flow(End::Container(APP), End::Outside, protocol, out)]
            })
            .collect();
        let first = scene.loaded.as_ref().unwrap().generation;
        // Once round, and on to where the idle flows' generation stands again.
        for step in 0..=u32::from(Generation::COUNT) {
            scene.enforce(&walls());
            if step == 0 {
                denied.iter().for_each(|flow| assert_dead(&mut scene, flow, &format!("{by:?}: a denied flow")));
            }
            for flow in &live {
                flow.works().unwrap_or_else(|error| panic!("{by:?}, after {step} generations: {error}"));
            }
            let now = scene.loaded.as_ref().unwrap().generation;
            if now == first {
                for flow in idle.iter().chain(&denied) {
                    assert_dead(
                        &mut scene,
                        flow,
                        &format!("{by:?}: {} from {} to {}", flow.protocol, flow.from, flow.to),
                    );
                }
                assert_eq!(step + 1, u32::from(Generation::COUNT), "a whole round");
            }
        }
    }
}

/// Why the numbers are cleared before they come round: without that, an idle flow is a current one again.
#[test]
fn without_clearing_an_idle_flow_would_come_back() {
    let mut scene = Scene::bare(PROGRAM);
    scene.by = By::Cgroup;
    scene.enforce(&opened());
    let first = scene.loaded.as_ref().unwrap().generation;
    let to = SocketAddr::new(LOOPBACK[0], 8080);
    let idle = scene.flow(End::Container(MALLORY), End::Container(APP), Protocol::Udp, to);
    let mut generation = first.next();
    loop {
        let ruleset = scene.compiled(&walls(), generation).ruleset;
        scene.lab.load(&ruleset);
        if generation == first {
            break;
        }
        generation = generation.next();
    }
    assert!(idle.works().is_ok(), "the test above tries nothing: what does the loader clear by itself?");
    // Cleared now, it is judged by the rules that stand.
    scene.lab.kernel.retire(first).unwrap();
    assert_dead(&mut scene, &idle, "after clearing");
}

/// Only an administrator can take packets from the tracker's eyes; then nothing passes, allowed or not.
#[test]
fn what_is_not_tracked_does_not_pass() {
    let mut siege = Siege::new(PROGRAM);
    let mut administrator = siege.scene.lab.administrator();
    for by in [None, Some(By::Cgroup), Some(By::Uid)] {
        if let Some(by) = by {
            siege.scene.stand(by);
        }
        nft(
            &mut administrator,
            "table inet blind { chain o { type filter hook output priority -300; udp dport { 8080, 7000 } notrack; }; \
             chain p { type filter hook prerouting priority -300; udp dport { 8080, 7000 } notrack; }; }",
        );
        for family in [0, 1] {
            let round = Round { by, arms: Arms::Plain, family };
            for ear in siege.ears(round) {
                let marker = siege.marker();
                let code = format!(
                    "throw(made(family('{0}'), SOCK_DGRAM), '{marker}', '{0}', {1})",
                    ear.at.ip(),
                    ear.at.port()
                );
                let _ = siege.mallory(Arms::Plain).run(&code);
                let _ = siege.rightful(ear.at).run(&code);
                siege.settle();
                let got = sidewall_tests::siege::drained(&ear.socket);
                assert_eq!(got.contains(&marker), by.is_none(), "{round:?}: untracked to {}", ear.at);
                assert!(by.is_none() || !siege.left(&marker), "{round:?}: untracked to {} has left", ear.at);
            }
        }
        nft(&mut administrator, "delete table inet blind");
    }
}

/// A helper expects a connection that an allowed one has announced. Whoever opens it, it is judged like any other, or not
/// let in at all.
#[test]
fn a_helpers_expectation_lets_nobody_through() {
    let mut siege = Siege::new(PROGRAM);
    let mut administrator = siege.scene.lab.administrator();
    nft(
        &mut administrator,
        "table inet helping { ct helper ftp { type \"ftp\" protocol tcp; }; \
         chain o { type filter hook output priority -100; tcp dport 7000 ct helper set \"ftp\"; }; }",
    );
    for by in [None, Some(By::Cgroup), Some(By::Uid)] {
        if let Some(by) = by {
            siege.scene.stand(by);
        }
        for (family, collector) in COLLECTORS.into_iter().enumerate() {
            let flow =
                siege.scene.flow(End::Container(APP), End::Outside, Protocol::Tcp, SocketAddr::new(collector, 7000));
            let port = siege.scene.port();
            let [high, low] = port.to_be_bytes();
            let announcement = match collector {
                IpAddr::V4(v4) => format!(
                    "227 Entering Passive Mode ({},{high},{low})\r\n",
                    v4.octets().map(|octet| octet.to_string()).join(",")
                ),
                IpAddr::V6(_) => format!("229 Entering Extended Passive Mode (|||{port}|)\r\n"),
            };
            // The tracker believes a helper's stream from the start of a line on.
            for (from, to, text) in [
                (&flow.server, &flow.client, "220 welcome\r\n"),
                (&flow.client, &flow.server, if family == 0 { "PASV\r\n" } else { "EPSV\r\n" }),
                (&flow.server, &flow.client, announcement.as_str()),
            ] {
                sidewall_tests::scene::carries(from, to, text.as_bytes()).unwrap();
            }
            let expected =
                siege.scene.lab.pod.run(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack_expect"));
            let expected = expected.unwrap().unwrap_or_default();
            assert!(expected.contains(&format!("dport={port}")), "{by:?}: the helper expects nothing: {expected:?}");
            let listener =
                sockets::listen(siege.scene.outside(), Protocol::Tcp, SocketAddr::new(collector, port)).unwrap();
            let code = format!("dial(made(family('{collector}'), SOCK_STREAM), 'expected', '{collector}', {port})");
            let sent = siege.mallory(Arms::Plain).run(&code);
            if by.is_none() {
                sent.unwrap_or_else(|error| panic!("{error}"));
                let accepted = siege.scene.outside().accept(&listener).unwrap();
                assert_eq!(heard(&accepted).unwrap().as_deref(), Some(&b"expected"[..]));
            } else {
                assert!(sent.is_err(), "{by:?}: mallory is connected as expected");
                siege.settle();
                assert!(siege.scene.outside().accept(&listener).is_err(), "{by:?}: mallory is connected as expected");
            }
        }
    }
}

/// How many entries the pod's tracker has.
fn tracked(scene: &Scene) -> usize {
    let read = || std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
    scene.lab.pod.run(read).unwrap().trim().parse().unwrap()
}

/// Code that sends a datagram to each of many ports.
fn to_many_ports(address: IpAddr, count: u16) -> String {
    format!(
        "my $s = made(family('{address}'), SOCK_DGRAM); my $sent = 0;
         for my $port (20000 .. 19999 + {count}) {{ $sent += defined(send($s, 'x', MSG_NOSIGNAL, address('{address}', $port))) }}
         $sent"
    )
}

/// What is denied to the network is not remembered. On loopback a container may fill the pod's table (a limit: denial of
/// service to its own pod, whose table it is; others have their own).
#[test]
fn only_what_is_let_on_its_way_fills_the_tracker_a_documented_limit() {
    let mut siege = Siege::new(PROGRAM);
    for by in [By::Cgroup, By::Uid] {
        siege.scene.stand(by);
        let other = Scene::bare(PROGRAM);
        for family in [0, 1] {
            let (before, elsewhere) = (tracked(&siege.scene), tracked(&other));
            siege.mallory(Arms::Plain).must(&to_many_ports(COLLECTORS[family], 2000));
            let grown = tracked(&siege.scene).saturating_sub(before);
            assert!(grown < 50, "{by:?}: what is denied to the network has {grown} entries");
            // Its own port that it declares: it may send there.
            let own = format!(
                "my $n = 0; for (1 .. 500) {{ my $s = made(family('{0}'), SOCK_DGRAM);
                 $n += defined(send($s, 'x', MSG_NOSIGNAL, address('{0}', 9100))) }} $n",
                LOOPBACK[family]
            );
            siege.mallory(Arms::Plain).must(&own);
            let grown = tracked(&siege.scene).saturating_sub(before);
            assert!(grown >= 400, "{by:?}: {grown} entries: the table can't be filled any more; tell SECURITY.md");
            assert!(tracked(&other) <= elsewhere + 50, "another pod's table is filled");
        }
    }
}

/// Segments of a connection that the tracker has not seen begin, or that it finds out of its window: not one of the
/// states in which a packet passes. This is what packets are when a full table refuses them an entry.
#[test]
fn what_belongs_to_no_flow_does_not_pass() {
    let mut siege = Siege::new(PROGRAM);
    let owner = siege.scene.armed(APP, &[sidewall_netns::Capability::NET_RAW]);
    for by in [None, Some(By::Cgroup), Some(By::Uid)] {
        if let Some(by) = by {
            siege.scene.stand(by);
        }
        for family in [0, 1] {
            let to = SocketAddr::new(COLLECTORS[family], 7000);
            let marker = siege.marker();
            let from = siege.scene.fresh(POD[family]);
            // A SYN and a RST at once are in no connection (the tracker calls them invalid). They are the application's own,
            // and to where it may go.
            let flags = sidewall_tests::raw::flags::SYN | sidewall_tests::raw::flags::RST;
            let packet = sidewall_tests::raw::tcp(from, to, flags, (1, 0), marker.as_bytes());
            let _ = sidewall_tests::raw::send(&owner, &packet);
            siege.settle();
            assert_eq!(siege.left(&marker), by.is_none(), "{by:?}, family {family}");
            let ear = sockets::listen(siege.scene.outside(), Protocol::Udp, to).unwrap();
            let socket = bound(siege.scene.app(APP), Protocol::Udp, from).unwrap();
            send_to(&socket, b"of a flow", to).unwrap();
            assert_eq!(heard(&ear).unwrap().as_deref(), Some(&b"of a flow"[..]));
        }
    }
}

/// Sends from the attacker to itself under many source addresses, there and back: entries that the tracker does not give up
/// for others (it calls them assured when they are used again after two seconds).
const FILLS: &str = "
    sub fill {
        my ($first, $count, $answered) = @_;
        my $to = address('127.0.0.1', 9101);
        my $sent = 0;
        for my $number ($first .. $first + $count - 1) {
            my $from = pack('C4', 127, 100 + ($number >> 16), $number >> 8 & 255, $number & 255);
            my $source = control(0, 8, pack('i a4 x4', 0, $from));
            # Whoever finds no place is told so, or not.
            eval { message($keep{from}, 'x', $to, $source); $sent++ };
            next unless $answered;
            recv($keep{to}, my $data, 16, MSG_DONTWAIT) // next;
            send($keep{to}, 'y', MSG_NOSIGNAL, pack_sockaddr_in(9100, $from));
            recv($keep{from}, $data, 16, MSG_DONTWAIT);
        }
        1 while defined(recv($keep{to}, my $data, 16, MSG_DONTWAIT));
        return $sent;
    }
    $keep{from} = bound(SOCK_DGRAM, '0.0.0.0', 9100); $keep{to} = bound(SOCK_DGRAM, '127.0.0.1', 9101); 1";

/// A limit: a container without any capability fills its pod's table by talking to itself. Then nothing new passes, allowed
/// or not; what has its entry goes on, and other pods have tables of their own. How large a table is can be said by the
/// machine's own namespace alone: all of it is filled here.
#[test]
fn a_full_tracker_lets_nothing_new_pass_a_documented_limit() {
    const MOST: usize = 300_000;
    let mut siege = Siege::new(PROGRAM);
    let file = "/proc/sys/net/netfilter/nf_conntrack_max";
    let (most, fixed) = siege
        .scene
        .lab
        .pod
        .run(|| {
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions());
            (std::fs::read_to_string(file).unwrap().trim().parse::<usize>().unwrap(), mode & 0o222 == 0)
        })
        .unwrap();
    assert!(fixed, "a pod's namespace can set the limit of its own table: lower it here");
    if most > MOST {
        eprintln!("a table of this machine has {most} entries, more than are filled here: nothing is tried");
        return;
    }
    for key in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
        sidewall_netns::sysctl::set(&siege.scene.lab.pod, &format!("net.netfilter.{key}"), "900").unwrap();
    }
    siege.scene.stand(By::Cgroup);
    let other = Scene::new(PROGRAM);
    let to = SocketAddr::new(LOOPBACK[0], 8080);
    let live = siege.scene.flow(End::Container(PROXY), End::Container(APP), Protocol::Udp, to);
    let out = SocketAddr::new(COLLECTORS[0], 7000);
    let live_out = siege.scene.flow(End::Container(APP), End::Outside, Protocol::Tcp, out);
    // A flow of datagrams that is not used again after two seconds may be pushed out like the attacker's own.
    std::thread::sleep(std::time::Duration::from_millis(2200));
    live.works().unwrap();
    siege.mallory(Arms::Plain).must(FILLS);
    // Batches, each within the time that an attacker's request may take; the second time makes them assured.
    let batches = || (0..most + 5000).step_by(5000);
    for answered in [true, false] {
        for first in batches() {
            siege.mallory(Arms::Plain).must(&format!("fill({first}, 5000, {})", u8::from(answered)));
        }
    }
    // What has taken the last places by pushing others out, and the places that are left.
    let mut first = most;
    let mut take_what_is_left = |siege: &mut Siege| {
        first += 5000;
        for answered in [true, false] {
            std::thread::sleep(std::time::Duration::from_millis(2200));
            siege.mallory(Arms::Plain).must(&format!("fill({first}, 5000, {})", u8::from(answered)));
        }
    };
    take_what_is_left(&mut siege);
    let full = tracked(&siege.scene);
    assert!(full >= most - 100 && full <= most + 100, "{full} of {most} entries are taken");
    // Mallory gains nothing by it.
    let round = Round { by: Some(By::Cgroup), arms: Arms::Plain, family: 0 };
    for ear in siege.ears(round) {
        let (marker, at) = (siege.marker(), ear.at);
        let code = format!("throw(made(AF_INET, SOCK_DGRAM), '{marker}', '{}', {})", at.ip(), at.port());
        for _ in 0..20 {
            let _ = siege.mallory(Arms::Plain).run(&code);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        let got = sidewall_tests::siege::drained(&ear.socket);
        assert!(!got.contains(&marker) && !siege.left(&marker), "a full table lets {at} be reached");
    }
    // Nor does anybody else get much through that is new. Once a table is nearly full the kernel's collector, which comes by
    // when it likes, throws out what is not assured yet: where it came between the two fillings there is room again, and
    // what it left must be taken anew.
    let ear = sockets::listen(siege.scene.app(APP), Protocol::Udp, SocketAddr::new(LOOPBACK[1], 8080)).unwrap();
    let mut passed = Vec::new();
    while passed.len() < 6 && passed.last().is_none_or(|passed| *passed >= 40) {
        if !passed.is_empty() {
            take_what_is_left(&mut siege);
        }
        for _ in 0..60 {
            let client = bound(siege.scene.app(PROXY), Protocol::Udp, siege.scene.fresh(LOOPBACK[1])).unwrap();
            let _ = send_to(&client, b"new", SocketAddr::new(LOOPBACK[1], 8080));
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        passed.push(sidewall_tests::siege::drained(&ear).matches("new").count());
    }
    assert!(
        passed.last().is_some_and(|passed| *passed < 40),
        "{passed:?} of 60 new flows each find a place in a full table: this limit is gone, tell SECURITY.md"
    );
    live.works().unwrap();
    live_out.works().unwrap();
    // Another pod does not notice.
    let mut other = other;
    drop(other.flow(End::Container(PROXY), End::Container(APP), Protocol::Udp, to));
    drop(other.flow(End::Container(APP), End::Outside, Protocol::Tcp, out));
}
