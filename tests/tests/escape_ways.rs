//! Ways to the same place: destinations that mean the pod itself, devices and sources chosen for one packet, routes in
//! the packet, connections opened from both ends.

use rustix::net::sockopt;
use sidewall_flow::Protocol;
use sidewall_netns::sysctl;
use sidewall_tests::lab::attacker::Arms;
use sidewall_tests::lab::{self, By};
use sidewall_tests::raw;
use sidewall_tests::scene::{
    APP, COLLECTORS, End, Flow, LIMIT, LOOPBACK, MALLORY, POD, PROXY, assert_silent, bound, connect, heard, send_to,
};
use sidewall_tests::siege::{Siege, drained, hex};
use sidewall_tests::sockets;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

/// Everything that means the pod itself: unspecified addresses, all of 127/8, mapped addresses, link-local ones of both
/// devices, the pod's own, with and without a device.
#[test]
fn every_name_of_the_pod_itself_is_judged_as_loopback() {
    let mut siege = Siege::new(PROGRAM);
    let index = siege.device();
    let link_local = link_local(&siege);
    lab::ip(&siege.scene.lab.pod, "-6 addr add fe80::99/64 dev lo").unwrap();
    siege.rounds(|siege, round| {
        let v4 = [
            ("0.0.0.0", 0),
            ("127.0.0.1", 0),
            ("127.255.255.254", 0),
            ("127.1.2.3", 0),
            ("10.77.0.2", 0),
            ("::ffff:127.0.0.1", 0),
            ("::ffff:0.0.0.0", 0),
            ("::ffff:10.77.0.2", 0),
        ];
        let own = link_local.to_string();
        let v6 = [("::", 0), ("::1", 0), ("fd77::2", 0), (own.as_str(), index), ("fe80::99", 1)];
        for (to, scope) in if round.family == 0 { &v4[..] } else { &v6[..] } {
            // By the device that a process may choose without a capability, too.
            for device in [None, Some("lo"), Some(lab::DEVICE)] {
                // A SYN that is lost by the wrong device would be waited for.
                for protocol in if device.is_none() { &["SOCK_DGRAM", "SOCK_STREAM"][..] } else { &["SOCK_DGRAM"] } {
                    let udp = *protocol == "SOCK_DGRAM";
                    let transport = if udp { Protocol::Udp } else { Protocol::Tcp };
                    let any = SocketAddr::new(round.any(), 8080);
                    let ear = sockets::listen(siege.scene.app(APP), transport, any).unwrap();
                    let marker = siege.marker();
                    let bind = device.map_or(String::new(), |name| format!("option($s, 1, 25, \"{name}\\0\");"));
                    let code = format!(
                        "my $s = made(family('{to}'), {protocol}); {bind}
                         connect($s, address('{to}', 8080, {scope})) or fail('connect');
                         defined(send($s, '{marker}', MSG_NOSIGNAL)) or fail('send')"
                    );
                    // Answers to a SYN that was dropped would be waited for: mallory's are refused.
                    let sent = siege.mallory(round.arms).run(&code);
                    let accepted = || siege.scene.app(APP).accept(&ear);
                    if round.control() {
                        // Not every device has every address.
                        if device.is_none() {
                            sent.unwrap_or_else(|error| panic!("{protocol} to {to}: {error}"));
                            let got = if udp { heard(&ear) } else { heard(&accepted().unwrap()) };
                            assert_eq!(got.unwrap().as_deref(), Some(marker.as_bytes()), "{to}");
                        }
                        continue;
                    }
                    let reached = if udp { drained(&ear) } else { accepted().map_or(String::new(), |s| drained(&s)) };
                    assert!(!reached.contains(&marker), "{round:?}: {protocol} to {to} by {device:?}: {sent:?}");
                    if device.is_none() {
                        assert!(udp || sent.is_err(), "{round:?}: {protocol} to {to} is connected");
                        let marker = siege.marker();
                        let again = code.replace(&code[code.find("ATTACK-").unwrap()..][..marker.len()], &marker);
                        // Link-local destinations are loopback like any other for the one who may.
                        let sent = siege.process(PROXY, Arms::Plain).run(&again);
                        sent.unwrap_or_else(|error| panic!("{round:?}: the proxy, {protocol} to {to}: {error}"));
                        let got = if udp { heard(&ear) } else { heard(&siege.scene.app(APP).accept(&ear).unwrap()) };
                        assert_eq!(got.unwrap().as_deref(), Some(marker.as_bytes()), "{round:?}: the proxy to {to}");
                    }
                }
            }
        }
    });
    siege.settle();
}

/// The pod's link-local address on its device.
fn link_local(siege: &Siege) -> Ipv6Addr {
    let until = std::time::Instant::now() + LIMIT;
    loop {
        let read = || std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        let table = siege.scene.lab.pod.run(read).unwrap();
        // The address, and flags: 0x40 is a tentative one, which is nobody's yet.
        let own = table.lines().find(|line| line.starts_with("fe80") && line.ends_with("eth0"));
        let settled = own.filter(|line| line.split_whitespace().nth(4).is_some_and(|flags| flags == "80"));
        if let Some(line) = settled {
            return Ipv6Addr::from(u128::from_str_radix(&line[..32], 16).unwrap());
        }
        assert!(std::time::Instant::now() < until, "no link-local address: {table}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// `IP_PKTINFO`, `IPV6_PKTINFO`: the device and the source of one packet.
#[test]
fn a_device_or_a_source_for_one_packet_changes_nothing() {
    let mut siege = Siege::new(PROGRAM);
    let link = siege.device();
    siege.rounds(|siege, round| {
        for ear in siege.ears(round) {
            for index in [0, 1, link] {
                for source in [round.any(), LOOPBACK[round.family], POD[round.family]] {
                    let marker = siege.marker();
                    let control = match source {
                        IpAddr::V4(source) => {
                            format!("control(0, 8, pack('i', {index}) . inet_aton('{source}') . pack('N', 0))")
                        }
                        IpAddr::V6(source) => {
                            format!("control(41, 50, inet_pton(AF_INET6, '{source}') . pack('i', {index}))")
                        }
                    };
                    let code = format!(
                        "message(made(family('{}'), SOCK_DGRAM), '{marker}', address('{}', {}), {control})",
                        ear.at.ip(),
                        ear.at.ip(),
                        ear.at.port()
                    );
                    let sent = siege.mallory(round.arms).run(&code);
                    if round.control() {
                        if index == 0 && source == round.any() {
                            sent.unwrap_or_else(|error| panic!("{error}"));
                            assert_eq!(heard(&ear.socket).unwrap().as_deref(), Some(marker.as_bytes()));
                        }
                        let _ = drained(&ear.socket);
                        continue;
                    }
                    siege.settle();
                    assert_silent(&ear.socket, &format!("{round:?}: by {index} from {source} to {}: {sent:?}", ear.at));
                    assert!(!siege.left(&marker), "{round:?}: by {index} from {source} to {} has left", ear.at);
                }
            }
        }
    });
}

/// `IPV6_RTHDR` with a segment routing header, which needs no capability: the packet goes to another place first.
#[test]
fn a_route_in_an_ipv6_packet_is_refused_without_capabilities_too() {
    let mut siege = Siege::new(PROGRAM);
    siege.rounds(|siege, round| {
        if round.family == 0 {
            return;
        }
        // As the application, which may reach the collector: the packet is its own, and only the way is wrong.
        let to = SocketAddr::new(COLLECTORS[1], 7000);
        let marker = siege.marker();
        let code = format!(
            "my $s = made(AF_INET6, SOCK_DGRAM);
             my $via = inet_pton(AF_INET6, '2001:db8:9::9');
             option($s, 41, 57, pack('C8', 0, 4, 4, 1, 1, 0, 0, 0) . \"\\0\" x 16 . $via);
             throw($s, '{marker}', '{}', 7000)",
            to.ip()
        );
        let ear = sockets::listen(siege.scene.outside(), Protocol::Udp, to).unwrap();
        for number in [APP, MALLORY] {
            let sent = siege.process(number, round.arms).run(&code);
            if round.control() {
                sent.unwrap_or_else(|error| panic!("{error}"));
                siege.outside.waits_for(marker.as_bytes()).unwrap();
            } else {
                siege.settle();
                assert!(!siege.left(&marker), "{round:?}: container {number}'s routed packet has left: {sent:?}");
                assert_silent(&ear, "a routed packet");
            }
        }
    });
}

/// Both ends call, and neither listens: whoever's SYN comes first, nobody else's is the connection's other end.
#[test]
fn a_connection_opened_from_both_ends_has_two_ends_that_may() {
    let mut siege = Siege::new(PROGRAM);
    let mut administrator = siege.scene.lab.administrator();
    siege.rounds(|siege, round| {
        if round.arms != Arms::Plain {
            return;
        }
        let address = LOOPBACK[round.family];
        let (own, theirs) = (SocketAddr::new(address, 8080), siege.scene.fresh(address));
        // A SYN that finds nobody is answered by a reset, so both are held until both have called; they are sent again.
        administrator.must(
            "system('/usr/sbin/nft', 'table inet hold { chain out { type filter hook output priority -400; ' .
             'tcp flags syn / syn,ack tcp dport 8080 drop; tcp flags syn / syn,ack tcp sport 8080 drop; }; }') == 0 or die 'nft'",
        );
        siege.mallory(round.arms).must(&format!(
            "$keep{{s}} = bound(SOCK_STREAM, '{address}', 8080, options => [[SOL_SOCKET, SO_REUSEADDR, pack('i', 1)]]);
             fcntl($keep{{s}}, 4, 2048 | fcntl($keep{{s}}, 3, 0));
             connect($keep{{s}}, address('{address}', {})) or $!{{EINPROGRESS}} or fail('connect'); 1",
            theirs.port()
        ));
        let client = bound(siege.scene.app(PROXY), Protocol::Tcp, theirs).unwrap();
        connect(&client, own).unwrap();
        administrator.must("system('/usr/sbin/nft', 'delete table inet hold') == 0 or die 'nft'");
        // What is dropped without an answer is not decided; it is sent again after a second.
        let limit = if round.control() { LIMIT } else { std::time::Duration::from_millis(1500) };
        let connected = sockets::decided(&client, limit).unwrap() && sockets::pending_error(&client).unwrap().is_none();
        assert_eq!(connected, round.control(), "{round:?}");
        let _ = sockets::send(&client, b"a password");
        siege.settle();
        let got = siege.mallory(round.arms).run("waiting($keep{s})").unwrap_or_default();
        let wanted = if round.control() { "got a password" } else { "none" };
        assert!(got == wanted || (got == "got " && !round.control()), "{round:?}: {got}");
        siege.mallory(round.arms).must("delete $keep{s}; 1");
    });
}

/// From a port to the same port of the same address: a flow that is its own reply. The first packet is denied, and the
/// second finds it among the known ones.
#[test]
fn a_flow_that_is_its_own_reply_reaches_nobody() {
    let mut siege = Siege::new(PROGRAM);
    siege.rounds(|siege, round| {
        for address in [LOOPBACK[round.family], POD[round.family]] {
            let at = SocketAddr::new(address, 8080);
            // By a socket that shares the port, without any capability, and by a raw socket.
            for raw_socket in [false, true] {
                if raw_socket && !round.arms.raw() {
                    continue;
                }
                let share = format!(
                    "$keep{{twin}} = bound(SOCK_DGRAM, '{address}', 8080, options => [[SOL_SOCKET, SO_REUSEADDR, pack('i', 1)]]); 1"
                );
                let marker = siege.marker();
                let code = if raw_socket {
                    let packet = raw::udp(at, at, marker.as_bytes());
                    format!("whole('{address}', '{}')", hex(&[packet]))
                } else {
                    siege.mallory(round.arms).must(&share);
                    format!("throw($keep{{twin}}, '{marker}', '{address}', 8080)")
                };
                // The application comes last, so the packets are for it.
                siege.process(APP, Arms::Plain).must(&share);
                for _ in 0..3 {
                    let sent = siege.mallory(round.arms).run(&code);
                    assert!(!round.control() || sent.is_ok(), "{sent:?}");
                }
                siege.settle();
                let got = siege.process(APP, Arms::Plain).must("waiting($keep{twin})");
                let wanted = if round.control() { format!("got {marker}") } else { "none".to_owned() };
                assert_eq!(got, wanted, "{round:?}: {at}, raw {raw_socket}");
                siege.process(APP, Arms::Plain).must("delete $keep{twin}; 1");
                siege.mallory(round.arms).must("delete $keep{twin}; 1");
            }
        }
    });
}

/// A server answers from another port: that is a flow of its own, and its policy says whether it may open it.
#[test]
fn an_answer_from_another_port_is_no_answer() {
    let mut siege = Siege::new(PROGRAM);
    siege.rounds(|siege, round| {
        for (number, to, from) in [
            (PROXY, SocketAddr::new(POD[round.family], 8443), sidewall_tests::scene::CLIENTS[round.family]),
            (APP, SocketAddr::new(LOOPBACK[round.family], 8080), LOOPBACK[round.family]),
        ] {
            let outside = number == PROXY;
            let server = sockets::listen(siege.scene.app(number), Protocol::Udp, to).unwrap();
            let asker = if outside { siege.scene.outside() } else { siege.scene.app(PROXY) };
            let client = bound(asker, Protocol::Udp, siege.scene.fresh(from)).unwrap();
            send_to(&client, b"a question", to).unwrap();
            assert_eq!(heard(&server).unwrap().as_deref(), Some(&b"a question"[..]), "{round:?}");
            let at = SocketAddr::try_from(rustix::net::getsockname(&client).unwrap()).unwrap();
            for container in [number, MALLORY] {
                let marker = siege.marker();
                let code =
                    format!("throw(bound(SOCK_DGRAM, '{}', 0), '{marker}', '{}', {})", to.ip(), at.ip(), at.port());
                let sent = siege.process(container, round.arms).run(&code);
                if round.control() {
                    sent.unwrap_or_else(|error| panic!("{error}"));
                    assert_eq!(heard(&client).unwrap().as_deref(), Some(marker.as_bytes()));
                } else {
                    siege.settle();
                    assert_silent(&client, &format!("{round:?}: container {container} from another port"));
                }
            }
        }
    });
}

/// A SYN with data onto a connection in TIME_WAIT, where servers take data without a cookie: the packet has no full socket
/// yet, so nobody knows who will have the data.
///
/// A limit of identity by user: the receiver is known when it answers, and what is in the first segment to a port that
/// another has taken is delivered, as a datagram would be.
#[test]
fn data_in_a_syn_onto_time_wait_is_not_handed_over_unjudged() {
    let mut siege = Siege::new(PROGRAM);
    sysctl::set(&siege.scene.lab.pod, "net.ipv4.tcp_fastopen", "1543").unwrap();
    for by in [None, Some(By::Cgroup), Some(By::Uid)] {
        if let Some(by) = by {
            siege.scene.stand(by);
        }
        for family in [0, 1] {
            // Mallory has taken the application's port, and the proxy calls; mallory has the proxy's, and calls.
            for (server, client) in [(MALLORY, PROXY), (APP, MALLORY)] {
                let (from, to) = leave_in_time_wait(&mut siege, family);
                let listener = sockets::listen(siege.scene.app(server), Protocol::Tcp, to).unwrap();
                let marker = siege.marker();
                let code = format!(
                    "$keep{{s}} = bound(SOCK_STREAM, '{}', {}, options => [[SOL_SOCKET, SO_REUSEADDR, pack('i', 1)]]);
                     defined(send($keep{{s}}, '{marker}', 0x20000000 | MSG_NOSIGNAL, address('{}', 8080))) or fail('send')",
                    from.ip(),
                    from.port(),
                    to.ip()
                );
                let sent = siege.process(client, Arms::Plain).run(&code);
                siege.settle();
                let got = siege.scene.app(server).accept(&listener).map(|socket| drained(&socket));
                let handed_over = matches!(&got, Ok(text) if text.contains(&marker));
                let limit = by.is_none() || (by, server) == (Some(By::Uid), MALLORY);
                assert_eq!(handed_over, limit, "{by:?}: from {client} to {server}: {got:?} {sent:?}");
                siege.process(client, Arms::Plain).must("delete $keep{s}; 1");
            }
        }
    }
}

/// Opens a connection from the proxy to the application and closes it, the application first.
fn leave_in_time_wait(siege: &mut Siege, family: usize) -> (SocketAddr, SocketAddr) {
    let to = SocketAddr::new(LOOPBACK[family], 8080);
    let from = siege.scene.fresh(LOOPBACK[family]);
    let flow = siege.scene.flow_from(End::Container(PROXY), End::Container(APP), Protocol::Tcp, from, to);
    for end in [&flow.client, &flow.server] {
        sockopt::set_socket_linger(end, None).unwrap();
    }
    let Flow { client, server, .. } = flow;
    drop(server);
    assert_eq!(heard(&client).unwrap().as_deref(), Some(&b""[..]));
    drop(client);
    let until = std::time::Instant::now() + LIMIT;
    loop {
        let read = || {
            ["tcp", "tcp6"]
                .map(|name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap())
                .concat()
        };
        let table = siege.scene.lab.pod.run(read).unwrap();
        // TIME_WAIT is 06; the ports are written in hexadecimal.
        let ports = (format!(":{:04X}", to.port()), format!(":{:04X}", from.port()));
        let ours = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut ours = ours.filter(|part| part.len() > 3 && part[1].ends_with(&ports.0) && part[2].ends_with(&ports.1));
        if ours.any(|part| part[3] == "06") {
            return (from, to);
        }
        assert!(std::time::Instant::now() < until, "{from} to {to} is not in TIME_WAIT: {table}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// A pod that forwards answers to its subnets' anycast address (RFC 4291 §2.6.1), which is no address of its own in the
/// routing tables.
#[test]
fn an_anycast_address_is_no_way_in() {
    let mut siege = Siege::new(PROGRAM);
    sysctl::set(&siege.scene.lab.pod, "net.ipv6.conf.all.forwarding", "1").unwrap();
    let mut neighbour = siege.scene.lab.neighbour();
    let ear = sockets::listen(siege.scene.app(APP), Protocol::Udp, "[::]:8080".parse().unwrap()).unwrap();
    let says = |text: &str| format!("throw(made(AF_INET6, SOCK_DGRAM), '{text}', 'fd77::', 8080)");
    for (by, arms) in [
        (None, Arms::Plain),
        (Some(By::Cgroup), Arms::Plain),
        (Some(By::Cgroup), Arms::Root),
        (Some(By::Uid), Arms::Raw),
    ] {
        if let Some(by) = by {
            siege.scene.stand(by);
        }
        for from_network in [false, true] {
            let marker = siege.marker();
            let code = says(&marker);
            if by.is_none() {
                if from_network {
                    neighbour.must(&code)
                } else {
                    siege.mallory(arms).must(&code)
                };
                assert_eq!(heard(&ear).unwrap().as_deref(), Some(marker.as_bytes()), "from the network {from_network}");
                continue;
            }
            let mut mallory = siege.scene.lab.attacker(sidewall_tests::scene::id(MALLORY), arms);
            siege
                .scene
                .denied(
                    "to the anycast address",
                    |_| {
                        if from_network { neighbour.run(&code) } else { mallory.run(&code) }
                    },
                )
                .ok();
            assert_silent(&ear, &format!("{by:?}, {arms:?}: from the network {from_network}"));
        }
    }
}
