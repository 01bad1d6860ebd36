//! One network's connections from another: segments that fit, and addresses that two devices have.

use rustix::fd::OwnedFd;
use sidewall_flow::Protocol;
use sidewall_tests::lab::attacker::Arms;
use sidewall_tests::lab::{self, By};
use sidewall_tests::raw::{self, Device, flags};
use sidewall_tests::scene::{CLIENTS, COLLECTORS, Flow, MALLORY, assert_silent, heard, id, send_to};
use sidewall_tests::siege::networks::{DEVICES, ETH0, MAY, NET1, NET2, Pod, STRAY0, own, ways};
use sidewall_tests::sockets;
use std::net::{IpAddr, SocketAddr};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
/// What must not arrive.
const SECRET: &[u8] = b"SECRET-SECRET";

/// A live connection of the attacker's own on a network, opened by the pod or from outside.
fn connection(pod: &Pod, network: usize, family: usize, outbound: bool) -> Flow {
    let scene = &pod.siege.scene;
    let (inside, outside) = (scene.app(MALLORY), pod.network(network));
    let opened = if outbound {
        let to = SocketAddr::new(COLLECTORS[family], MAY[network].unwrap_or(7000));
        Flow::open(inside, outside, Protocol::Tcp, scene.fresh(own(network, family)), to)
    } else {
        let peer = if network == ETH0 { CLIENTS[family] } else { COLLECTORS[family] };
        let to = SocketAddr::new(own(network, family), 9100);
        Flow::open(outside, inside, Protocol::Tcp, scene.fresh(peer), to)
    };
    opened.unwrap_or_else(|error| panic!("a connection on {}: {error}", DEVICES[network]))
}

/// A neighbour on one network knows the ports and the sequence numbers of a connection on another.
#[test]
fn segments_from_another_network_reach_no_connection() {
    let mut pod = Pod::new(PROGRAM);
    pod.stages(|pod, by| {
        for family in [0, 1] {
            for (home, away) in [(ETH0, NET1), (ETH0, STRAY0), (NET1, ETH0), (NET1, NET2), (NET2, NET1), (NET2, ETH0)] {
                for outbound in [true, false] {
                    for reset in [false, true] {
                        let flow = connection(pod, home, family, outbound);
                        let (peer, own, end) = if outbound {
                            (flow.to, flow.from, &flow.client)
                        } else {
                            (flow.from, flow.to, &flow.server)
                        };
                        let numbers = pod.spies[home].numbers(peer, own).unwrap();
                        let (kind, data) = if reset { (flags::RST, &b""[..]) } else { (flags::PSH, SECRET) };
                        let segment = raw::tcp(peer, own, kind | flags::ACK, numbers, data);
                        let what =
                            format!("{by:?}: a segment of {} by {}, reset {reset}", DEVICES[home], DEVICES[away]);
                        if by.is_none() {
                            pod.neighbours[away].put(Device::Link, &segment).unwrap();
                            let got = heard(end);
                            let taken = if reset { got.is_err() } else { got.unwrap().as_deref() == Some(SECRET) };
                            assert!(taken, "{what}: it is no attack");
                            continue;
                        }
                        let neighbour = &pod.neighbours[away];
                        pod.siege.scene.denied(&what, |_| neighbour.put(Device::Link, &segment).unwrap());
                        assert_silent(end, &what);
                        flow.works().unwrap_or_else(|error| panic!("{what}: {error}"));
                    }
                }
            }
        }
    });
}

/// Networks whose ranges overlap, or an administrator's mistake: two devices have one address, so that an address does not
/// tell a packet's network.
fn share_addresses(pod: &Pod) {
    for (address, devices) in [(ETH0, [NET1, STRAY0]), (NET1, [ETH0, NET2])] {
        for device in devices {
            for (family, option) in [("-4", ""), ("-6", " nodad")] {
                let own = own(address, usize::from(family == "-6"));
                let length = if own.is_ipv4() { 32 } else { 128 };
                let added = format!("{family} addr add {own}/{length} dev {}{option}", DEVICES[device]);
                lab::ip(&pod.siege.scene.lab.pod, &added).unwrap();
            }
        }
    }
}

#[test]
fn an_address_that_two_devices_have_moves_no_flow_between_them() {
    let mut pod = Pod::new(PROGRAM);
    share_addresses(&pod);
    pod.rounds(|pod, round| {
        for (from, to) in [(ETH0, NET1), (ETH0, STRAY0), (NET1, ETH0), (NET1, NET2)] {
            for protocol in sidewall_tests::scene::TRANSPORTS {
                for way in 0..3 {
                    let marker = pod.siege.marker();
                    let place = SocketAddr::new(COLLECTORS[round.family], MAY[from].unwrap());
                    let (name, any, code) =
                        ways(DEVICES[to], pod.index(to), (own(from, round.family), place), &marker)[way].clone();
                    // To IPv6 the others are a wish.
                    if !any && (protocol == Protocol::Tcp || round.family == 1) {
                        continue;
                    }
                    let _flow = pod.open(round, protocol, from, place.port());
                    let sent = pod.siege.mallory(round.arms).run(&code);
                    let what = format!("{protocol} of {} by {name} on {}: {sent:?}", DEVICES[from], DEVICES[to]);
                    pod.judge(round, to, &marker, &what);
                }
            }
        }
    });
}

/// What the neighbour of one network sends to that address is the other network's too.
#[test]
fn an_address_that_two_devices_have_lets_in_nobody_by_the_other() {
    let mut pod = Pod::new(PROGRAM);
    share_addresses(&pod);
    pod.stages(|pod, by| {
        for family in [0, 1] {
            for (home, away) in [(ETH0, NET1), (ETH0, STRAY0), (NET1, ETH0), (NET1, NET2)] {
                for outbound in [true, false] {
                    let flow = connection(pod, home, family, outbound);
                    let (peer, own, end) =
                        if outbound { (flow.to, flow.from, &flow.client) } else { (flow.from, flow.to, &flow.server) };
                    let numbers = pod.spies[home].numbers(peer, own).unwrap();
                    let segment = raw::tcp(peer, own, flags::PSH | flags::ACK, numbers, SECRET);
                    let what = format!("{by:?}: in a connection of {} by {}", DEVICES[home], DEVICES[away]);
                    arrives_only_without_rules(pod, by, away, &segment, end, &what);
                }
            }
        }
    });
}

fn arrives_only_without_rules(pod: &mut Pod, by: Option<By>, away: usize, packet: &[u8], ear: &OwnedFd, what: &str) {
    if by.is_none() {
        pod.neighbours[away].put(Device::Link, packet).unwrap();
        assert_eq!(heard(ear).unwrap().as_deref(), Some(SECRET), "without rules: {what}");
    } else {
        let neighbour = &pod.neighbours[away];
        pod.siege.scene.denied(what, |_| neighbour.put(Device::Link, packet).unwrap());
        assert_silent(ear, what);
    }
}

/// A limit, in IPv6 (IPv4 counts an address for the device that had it first): an address that two devices have and that
/// nobody tells of. What a flow may is asked when it begins, and by its address alone the next packet's device is as good
/// as the first one's.
#[test]
fn an_address_that_nobody_tells_of_moves_a_flow_a_documented_limit() {
    let mut pod = Pod::new(PROGRAM);
    let own: IpAddr = "fd77::99".parse().unwrap();
    for device in [ETH0, NET1] {
        let added = format!("-6 addr add {own}/128 dev {} nodad", DEVICES[device]);
        lab::ip(&pod.siege.scene.lab.pod, &added).unwrap();
    }
    for by in [By::Cgroup, By::Uid] {
        pod.enforce(by, &sidewall_tests::siege::networks::world(), 2);
        let to = SocketAddr::new(COLLECTORS[1], 7000);
        let ear = sockets::listen(pod.network(ETH0), Protocol::Udp, to).unwrap();
        let (marker, port) = (pod.siege.marker(), pod.siege.scene.port());
        let mut mallory = pod.siege.scene.lab.attacker(id(MALLORY), Arms::Plain);
        let throws = |text: &str| format!("throw($keep{{f}}, '{text}', '{}', 7000)", to.ip());
        mallory.must(&format!("$keep{{f}} = bound(SOCK_DGRAM, '{own}', {port}); {}", throws("hello")));
        assert_eq!(heard(&ear).unwrap().as_deref(), Some(&b"hello"[..]), "{by:?}");
        // It is a live flow when it has an answer.
        send_to(&ear, b"welcome", SocketAddr::new(own, port)).unwrap();
        let hears =
            "my $set = ''; vec($set, fileno($keep{f}), 1) = 1; select($set, undef, undef, 5); waiting($keep{f})";
        assert_eq!(mallory.must(hears), "got welcome", "{by:?}");
        mallory.must(&format!("option($keep{{f}}, 1, 25, 'net1'); {}", throws(&marker)));
        pod.spies[NET1].waits_for(marker.as_bytes()).expect("this limit is gone: tell SECURITY.md");
        // A flow of its own has no such luck.
        let marker = pod.siege.marker();
        let begins =
            format!("$keep{{f}} = bound(SOCK_DGRAM, '{own}', 0, options => [[1, 25, 'net1']]); {}", throws(&marker));
        let sent = pod.siege.scene.denied("a flow of net1", |_| mallory.run(&begins));
        assert_eq!(pod.left(&marker), None, "{by:?}: {sent:?}");
    }
}
