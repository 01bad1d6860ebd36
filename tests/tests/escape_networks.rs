//! A pod with further networks: what one of them allows must not be had on another, nor by another's name.

use rustix::fd::OwnedFd;
use serde_json::json;
use sidewall_flow::Protocol;
use sidewall_policy::World;
use sidewall_tests::lab::By;
use sidewall_tests::lab::attacker::Arms;
use sidewall_tests::raw::{self, Device};
use sidewall_tests::scene::{CLIENTS, COLLECTORS, End, MALLORY, POD, TRANSPORTS, assert_silent, heard, policy, ports};
use sidewall_tests::siege::networks::{DEVICES, ETH0, MAY, NET1, NET2, PORTS, Pod, STRAY0, own, ways, world};
use sidewall_tests::siege::{Round, hex};
use sidewall_tests::sockets;
use std::net::{IpAddr, SocketAddr};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
/// What must not arrive.
const SECRET: &[u8] = b"SECRET-SECRET";

#[test]
fn a_flow_of_one_network_cannot_be_moved_to_another() {
    let mut pod = Pod::new(PROGRAM);
    pod.rounds(|pod, round| {
        let moves =
            [(ETH0, NET1), (ETH0, NET2), (ETH0, STRAY0), (NET1, ETH0), (NET1, STRAY0), (NET2, ETH0), (NET2, NET1)];
        for (from, to) in moves {
            for protocol in TRANSPORTS {
                for way in 0..3 {
                    let marker = pod.siege.marker();
                    let place = SocketAddr::new(COLLECTORS[round.family], MAY[from].unwrap());
                    let (name, any, code) =
                        ways(DEVICES[to], pod.index(to), (own(from, round.family), place), &marker)[way].clone();
                    if protocol == Protocol::Tcp && !any {
                        continue;
                    }
                    let _flow = pod.open(round, protocol, from, place.port());
                    let sent = pod.siege.mallory(round.arms).run(&code);
                    let what = format!("{protocol} of {} by {name} on {}: {sent:?}", DEVICES[from], DEVICES[to]);
                    if round.family == 1 && !any {
                        // To IPv6 these are a wish, where the source address is given: the packet stays where it may be.
                        pod.spies[from].waits_for(marker.as_bytes()).unwrap_or_else(|_| panic!("{round:?}: {what}"));
                        assert_eq!(pod.left(&marker), Some(from), "{round:?}: {what}");
                        continue;
                    }
                    pod.judge(round, to, &marker, &what);
                }
            }
        }
    });
}

#[test]
fn one_networks_address_does_not_leave_by_another() {
    let mut pod = Pod::new(PROGRAM);
    pod.rounds(|pod, round| {
        let pairs = [(ETH0, NET1), (ETH0, NET2), (NET1, ETH0), (NET1, NET2), (NET2, NET1), (NET2, ETH0)];
        for (source, by) in pairs {
            for port in PORTS {
                let (from, to) = (own(source, round.family), COLLECTORS[round.family]);
                let device = DEVICES[by];
                let (marker, number) = (pod.siege.marker(), pod.siege.scene.port());
                let code = format!(
                    "my $s = bound(SOCK_DGRAM, '{from}', {number}, options => [[1, 25, '{device}']]);
                     throw($s, '{marker}', '{to}', {port})"
                );
                let sent = pod.siege.mallory(round.arms).run(&code);
                pod.judge(round, by, &marker, &format!("{from} by {device} to port {port}: {sent:?}"));
                if !round.arms.raw() {
                    continue;
                }
                let (marker, number) = (pod.siege.marker(), pod.siege.scene.port());
                let packet = raw::udp(SocketAddr::new(from, number), SocketAddr::new(to, port), marker.as_bytes());
                let code = format!("whole('{to}', '{}', options => [[1, 25, '{device}']])", hex(&[packet]));
                let sent = pod.siege.mallory(round.arms).run(&code);
                pod.judge(round, by, &marker, &format!("a raw packet from {from} by {device}: {sent:?}"));
            }
        }
    });
}

#[test]
fn what_one_network_allows_is_not_had_on_another() {
    let mut pod = Pod::new(PROGRAM);
    pod.rounds(|pod, round| {
        for network in [ETH0, NET1, NET2, STRAY0] {
            for port in PORTS {
                let (from, to) = (own(network, round.family), COLLECTORS[round.family]);
                let (marker, number) = (pod.siege.marker(), pod.siege.scene.port());
                let code = format!("throw(bound(SOCK_DGRAM, '{from}', {number}), '{marker}', '{to}', {port})");
                let sent = pod.siege.mallory(round.arms).run(&code);
                let what = format!("port {port} over {}: {sent:?}", DEVICES[network]);
                // Nothing holds at the edge of net2.
                if MAY[network] == Some(port) || network == NET2 {
                    let arrived = pod.spies[network].waits_for(marker.as_bytes());
                    arrived.unwrap_or_else(|error| panic!("{round:?}: {what}: what is allowed: {error}"));
                } else {
                    pod.judge(round, network, &marker, &what);
                }
            }
        }
    });
}

/// The weak host model: Linux takes what is addressed to any of its addresses, whatever device it comes by.
#[test]
fn a_neighbour_on_one_network_does_not_reach_the_pods_address_on_another() {
    let mut pod = Pod::new(PROGRAM);
    pod.stages(|pod, by| {
        for family in [0, 1] {
            // Whom the pod hears on eth0, and whom it hears on net1.
            for peer in [CLIENTS[family], COLLECTORS[family]] {
                let to = SocketAddr::new(POD[family], 9100);
                let ear = sockets::listen(pod.siege.scene.app(MALLORY), Protocol::Udp, to).unwrap();
                let packet = raw::udp(pod.siege.scene.fresh(peer), to, SECRET);
                arrives_only_without_rules(pod, by, &packet, &ear, &format!("{peer} by net1 to {to}"));
            }
            // In a live flow of eth0, both ways that there are.
            let collector = SocketAddr::new(COLLECTORS[family], 7000);
            let flow = pod.siege.scene.flow(End::Container(MALLORY), End::Outside, Protocol::Udp, collector);
            let packet = raw::udp(flow.to, flow.from, SECRET);
            arrives_only_without_rules(pod, by, &packet, &flow.client, "an answer by net1 in a flow of eth0");
            flow.works().unwrap();
            let (from, to) = (pod.siege.scene.fresh(CLIENTS[family]), SocketAddr::new(POD[family], 9100));
            let (client, server) = (End::Outside, End::Container(MALLORY));
            let flow = pod.siege.scene.flow_from(client, server, Protocol::Udp, from, to);
            let packet = raw::udp(flow.from, flow.to, SECRET);
            arrives_only_without_rules(pod, by, &packet, &flow.server, "a datagram by net1 in a flow of eth0");
            flow.works().unwrap();
        }
    });
}

fn arrives_only_without_rules(pod: &mut Pod, by: Option<By>, packet: &[u8], ear: &OwnedFd, what: &str) {
    if by.is_none() {
        pod.neighbours[NET1].put(Device::Link, packet).unwrap();
        assert_eq!(heard(ear).unwrap().as_deref(), Some(SECRET), "without rules: {what}");
    } else {
        let neighbour = &pod.neighbours[NET1];
        pod.siege.scene.denied(what, |_| neighbour.put(Device::Link, packet).unwrap());
        assert_silent(ear, &format!("{by:?}: {what}"));
    }
}

#[test]
fn whom_one_network_lets_in_another_does_not() {
    let mut pod = Pod::new(PROGRAM);
    pod.stages(|pod, by| {
        for family in [0, 1] {
            let to = SocketAddr::new(own(NET1, family), 9100);
            let ear = sockets::listen(pod.siege.scene.app(MALLORY), Protocol::Udp, to).unwrap();
            let packet = raw::udp(pod.siege.scene.fresh(CLIENTS[family]), to, SECRET);
            arrives_only_without_rules(pod, by, &packet, &ear, "a peer of eth0 on net1");
            let packet = raw::udp(pod.siege.scene.fresh(COLLECTORS[family]), to, b"welcome");
            pod.neighbours[NET1].put(Device::Link, &packet).unwrap();
            assert_eq!(heard(&ear).unwrap().as_deref(), Some(&b"welcome"[..]), "{by:?}: whom net1 lets in");
        }
    });
}

#[test]
fn our_own_addresses_do_not_come_from_a_further_network() {
    let mut pod = Pod::new(PROGRAM);
    let addresses = |list: [&str; 3]| list.map(|address| address.parse::<IpAddr>().unwrap());
    let [v4, v6] =
        [addresses(["127.0.0.1", "127.9.9.9", "198.51.100.10"]), addresses(["::1", "::1", "2001:db8:1::10"])];
    pod.stages(|pod, by| {
        for (family, [loopback, other, peer]) in [v4, v6].into_iter().enumerate() {
            let own1 = own(NET1, family);
            let forged = [(loopback, own1), (other, own1), (peer, loopback), (own(ETH0, family), own1), (own1, own1)];
            for (from, to) in forged {
                let (from, to) = (pod.siege.scene.fresh(from), SocketAddr::new(to, 9100));
                let ear = sockets::listen(pod.siege.scene.app(MALLORY), Protocol::Udp, to).unwrap();
                let packet = raw::udp(from, to, SECRET);
                if family == 0 || !from.ip().is_loopback() && !to.ip().is_loopback() {
                    arrives_only_without_rules(pod, by, &packet, &ear, &format!("{from} by net1 to {to}"));
                } else {
                    // The kernel takes no loopback address from a network in IPv6. What comes behind is allowed.
                    pod.neighbours[NET1].put(Device::Link, &packet).unwrap();
                    let at = SocketAddr::new(own1, 9100);
                    let fence = if to == at {
                        None
                    } else {
                        sockets::listen(pod.siege.scene.app(MALLORY), Protocol::Udp, at).ok()
                    };
                    let welcome = raw::udp(pod.siege.scene.fresh(peer), at, b"welcome");
                    pod.neighbours[NET1].put(Device::Link, &welcome).unwrap();
                    let first = heard(fence.as_ref().unwrap_or(&ear)).unwrap();
                    assert_eq!(first.as_deref(), Some(&b"welcome"[..]), "{by:?}: {from} by net1 to {to}");
                    assert_silent(&ear, &format!("{by:?}: {from} by net1 to {to}"));
                }
            }
        }
    });
}

/// Puts a frame with a datagram to the collector on a device, by a packet socket.
fn frame(pod: &Pod, network: usize, family: usize, text: &str) -> String {
    let (from, to) = (own(network, family), COLLECTORS[family]);
    // To nobody in particular: who listens to the link hears it.
    let packet =
        raw::udp(SocketAddr::new(from, 5000), SocketAddr::new(to, MAY[network].unwrap_or(7000)), text.as_bytes());
    let kind: u16 = if family == 0 { 0x0800 } else { 0x86dd };
    let frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind.to_be_bytes(), &packet].concat();
    format!(
        "my $s = made(17, SOCK_RAW, 0);
         defined(send($s, pack('H*', '{}'), 0, pack('S n i S C C a8', 17, {kind}, {}, 0, 0, 6, ''))) or fail('send')",
        hex(&[frame]),
        pod.index(network)
    )
}

#[test]
fn packet_sockets_send_nothing_on_a_further_network() {
    let mut pod = Pod::new(PROGRAM);
    pod.rounds(|pod, round| {
        for network in [NET1, NET2] {
            let marker = pod.siege.marker();
            let code = frame(pod, network, round.family, &marker);
            let sent = pod.siege.mallory(round.arms).run(&code);
            if round.arms.raw() {
                pod.judge(round, network, &marker, &format!("a frame on {}: {sent:?}", DEVICES[network]));
            } else {
                assert_eq!(sent.unwrap_err().errno(), Some(1));
            }
        }
    });
}

/// A limit: a device that nobody told Sidewall of has no hook of its own.
#[test]
fn packet_sockets_send_on_a_device_nobody_knows_a_documented_limit() {
    let mut pod = Pod::new(PROGRAM);
    for by in [By::Cgroup, By::Uid] {
        pod.enforce(by, &world(), 2);
        for family in [0, 1] {
            let marker = pod.siege.marker();
            let code = frame(&pod, STRAY0, family, &marker);
            pod.siege.mallory(Arms::Raw).must(&code);
            pod.spies[STRAY0].waits_for(marker.as_bytes()).expect("this limit is gone: tell SECURITY.md");
        }
    }
}

const GROUPS: [&str; 2] = ["239.9.9.9", "ff02::9:9"];

#[test]
fn groups_carry_nothing_out_on_a_further_network() {
    let mut pod = Pod::new(PROGRAM);
    pod.rounds(|pod, round| {
        let index = pod.index(NET1);
        let choose =
            if round.family == 0 { format!("0, 32, pack('x8 i', {index})") } else { format!("41, 17, pack('i', {index})") };
        let mut targets = vec![GROUPS[round.family]];
        if round.family == 0 {
            targets.extend(["255.255.255.255", "10.78.1.255"]);
        }
        for target in targets {
            for source in [NET1, ETH0] {
                for port in PORTS {
                    let (marker, number) = (pod.siege.marker(), pod.siege.scene.port());
                    let code = format!(
                        "my $s = bound(SOCK_DGRAM, '{}', {number}, options => [[1, 25, 'net1']]);
                         option($s, 1, 6, pack('i', 1)); option($s, {choose}); throw($s, '{marker}', '{target}', {port})",
                        own(source, round.family)
                    );
                    let sent = pod.siege.mallory(round.arms).run(&code);
                    pod.judge(round, NET1, &marker, &format!("{target} from {}: {sent:?}", DEVICES[source]));
                }
            }
        }
    });
}

#[test]
fn groups_carry_nothing_in_from_a_further_network() {
    let mut pod = Pod::new(PROGRAM);
    pod.stages(|pod, by| {
        let index = pod.index(NET1);
        for family in [0, 1] {
            let any: IpAddr = if family == 0 { "0.0.0.0" } else { "::" }.parse().unwrap();
            let ear = sockets::listen(pod.siege.scene.app(MALLORY), Protocol::Udp, SocketAddr::new(any, 9100)).unwrap();
            let group: IpAddr = GROUPS[family].parse().unwrap();
            let (level, name, request) = match group {
                IpAddr::V4(group) => (0, 35, [&group.octets()[..], &[0; 4], &index.to_ne_bytes()].concat()),
                IpAddr::V6(group) => (41, 20, [&group.octets()[..], &index.to_ne_bytes()].concat()),
            };
            raw::set_option(&ear, level, name, &request).expect("the group can be joined");
            let mut targets = vec![group];
            if family == 0 {
                targets.extend(["255.255.255.255", "10.78.1.255"].map(|target| target.parse::<IpAddr>().unwrap()));
            }
            for target in targets {
                let from = pod.siege.scene.fresh(COLLECTORS[family]);
                let packet = raw::udp(from, SocketAddr::new(target, 9100), SECRET);
                arrives_only_without_rules(pod, by, &packet, &ear, &format!("{target} from net1"));
            }
        }
    });
}

/// Nobody told Sidewall of any further device, and no policy speaks of one: on `stray0` the pod network's policies do not
/// hold. A flow that began there does not go on by `eth0`, where they do.
#[test]
fn a_flow_of_a_device_nobody_knows_cannot_be_moved_to_the_pod_network() {
    let mut pod = Pod::new(PROGRAM);
    let world = World { multi_network_policies: Vec::new(), ..world() };
    let mut stage = None;
    for round in Round::all() {
        if round.by != stage {
            stage = round.by;
            pod.enforce(round.by.unwrap(), &world, 0);
        }
        for protocol in TRANSPORTS {
            // Neither end's address tells: the pod's may be either device's.
            for (from, to, port) in [(STRAY0, ETH0, 7200), (NET1, ETH0, 7200)] {
                let place = SocketAddr::new(COLLECTORS[round.family], port);
                let marker = pod.siege.marker();
                let (_, _, code) =
                    ways(DEVICES[to], pod.index(to), (own(from, round.family), place), &marker)[0].clone();
                let _flow = pod.open(round, protocol, from, port);
                let sent = pod.siege.mallory(round.arms).run(&code);
                let what = format!("{protocol} of {} on {}: {sent:?}", DEVICES[from], DEVICES[to]);
                if round.control() {
                    pod.judge(round, to, &marker, &what);
                } else {
                    let left = pod.left(&marker).map(|network| DEVICES[network]);
                    assert_eq!(left, None, "{round:?}: {what}; {}", pod.siege.scene.moved());
                }
            }
        }
    }
}

/// The other way round, where no policy of the pod's edges is: the attacker's own grant is of a pod, and holds on the pod
/// network alone.
#[test]
fn a_flow_to_a_pod_cannot_be_moved_to_a_device_nobody_knows() {
    let mut pod = Pod::new(PROGRAM);
    let spec = json!({
        "containers": ["mallory"], "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "collector"}}}], "ports": ports(&[7000])}],
    });
    let collector = sidewall_policy::world::Pod {
        namespace: "shop".to_owned(),
        name: "collector".to_owned(),
        labels: [("app".to_owned(), "collector".to_owned())].into(),
        addresses: COLLECTORS.to_vec(),
        ..Default::default()
    };
    let world = World { policies: vec![policy("mallory", spec)], pods: vec![collector], ..World::default() };
    let mut stage = None;
    for round in Round::all() {
        if round.by != stage {
            stage = round.by;
            pod.enforce(round.by.unwrap(), &world, 0);
        }
        for protocol in TRANSPORTS {
            let place = SocketAddr::new(COLLECTORS[round.family], 7000);
            let marker = pod.siege.marker();
            let ends = (own(ETH0, round.family), place);
            let (_, _, code) = ways(DEVICES[STRAY0], pod.index(STRAY0), ends, &marker)[0].clone();
            let _flow = pod.open(round, protocol, ETH0, 7000);
            let sent = pod.siege.mallory(round.arms).run(&code);
            let what = format!("{protocol} of eth0 on stray0: {sent:?}");
            if round.control() {
                pod.judge(round, STRAY0, &marker, &what);
            } else {
                let left = pod.left(&marker).map(|network| DEVICES[network]);
                assert_eq!(left, None, "{round:?}: {what}; {}", pod.siege.scene.moved());
            }
        }
    }
}
