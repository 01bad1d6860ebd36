//! A pod with further networks: what one of them allows must not be had on another, nor by another's name.
//!
//! The edge of each network is judged apart: on `eth0` a NetworkPolicy holds, on `net1` a MultiNetworkPolicy, on `net2`
//! none, and `stray0` is a device that nobody told Sidewall of. The attacker's own container may the same everywhere, so
//! that the edges alone tell one network from another.

use rustix::fd::OwnedFd;
use serde_json::{Value, json};
use sidewall_api::network::{Attachment, NetworkName};
use sidewall_api::read::{read_multi_network_policy, read_network_policy};
use sidewall_flow::Protocol;
use sidewall_netns::{Links, sysctl};
use sidewall_policy::{World, compile, resolve};
use sidewall_tests::lab::attacker::Arms;
use sidewall_tests::lab::{self, By, LINKS};
use sidewall_tests::party::Maker;
use sidewall_tests::raw::{self, Device, Injector, Sniffer};
use sidewall_tests::scene::{
    CLIENTS, COLLECTORS, End, LOOPBACK, MALLORY, POD, Scene, TRANSPORTS, assert_silent, bound, heard, policy, ports,
    send_to, take_over,
};
use sidewall_tests::siege::{Round, Siege, hex};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
/// What must not arrive.
const SECRET: &[u8] = b"SECRET-SECRET";
/// The pod's devices. The places in this list are what the tests call networks by.
const DEVICES: [&str; 4] = [lab::DEVICE, LINKS[0].device, LINKS[1].device, LINKS[2].device];
const ETH0: usize = 0;
const NET1: usize = 1;
const NET2: usize = 2;
const STRAY0: usize = 3;
/// The ports of the collectors that the attacker may reach on each network; on `stray0` there is none.
const MAY: [Option<u16>; 4] = [Some(7000), Some(7100), Some(7200), None];
const PORTS: [u16; 3] = [7000, 7100, 7200];

/// The pod's address on a network.
fn own(network: usize, family: usize) -> IpAddr {
    if network == ETH0 { POD[family] } else { LINKS[network - 1].pod[family] }
}

/// The policies. Whom the attacker hears differs too: on `eth0` the clients, on `net1` the collectors.
fn world() -> World {
    let blocks = |v4: &str, v6: &str| json!([{"ipBlock": {"cidr": v4}}, {"ipBlock": {"cidr": v6}}]);
    let all = blocks("0.0.0.0/0", "::/0");
    let collectors = blocks("198.51.100.0/24", "2001:db8:1::/64");
    let clients = blocks("203.0.113.0/24", "2001:db8:2::/64");
    let edge = |hears: &Value, port: u16| {
        json!({
            "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": hears, "ports": ports(&[9100])}],
            "egress": [{"to": collectors, "ports": ports(&[port])}],
        })
    };
    let pod_network = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "edge", "namespace": "shop"}, "spec": edge(&clients, 7000),
    });
    let further = json!({
        "apiVersion": "k8s.cni.cncf.io/v1beta1", "kind": "MultiNetworkPolicy",
        "metadata": {
            "name": "edge", "namespace": "shop", "annotations": {"k8s.v1.cni.cncf.io/policy-for": "shop/one"},
        },
        "spec": edge(&collectors, 7100),
    });
    let mallory = policy(
        "mallory",
        json!({
            "containers": ["mallory"], "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": all, "ports": ports(&[9100])}],
            "egress": [{"to": all, "ports": ports(&PORTS)}],
        }),
    );
    World {
        policies: vec![mallory],
        network_policies: vec![read_network_policy(pod_network).expect("a valid policy").object],
        multi_network_policies: vec![read_multi_network_policy(further).expect("a valid policy").object],
        ..World::default()
    }
}

/// A pod with further networks, and what is seen on each.
struct Pod {
    siege: Siege,
    /// Who hears every frame of each network.
    spies: Vec<Sniffer>,
    /// What puts frames on `net1` from its other end.
    neighbour: Injector,
}

impl Pod {
    fn new() -> Self {
        let mut scene = Scene::bare(PROGRAM);
        scene.lab = scene.lab.with_links(Path::new(PROGRAM));
        for device in ["all"].into_iter().chain(DEVICES) {
            // A pod that takes whatever comes, and routes on every network: what a container has to be told by walls.
            let set = |key: &str, value| {
                sysctl::set(&scene.lab.pod, &format!("net.ipv4.conf.{device}.{key}"), value).expect("a sysctl");
            };
            set("rp_filter", "0");
            set("route_localnet", "1");
            set("accept_local", "1");
            // Nobody answers who asks for a neighbour under an address of another network.
            set("arp_announce", "2");
        }
        // Not by default routes: among several, IPv4 chooses by what it knows of the routers.
        let routers = [(lab::DEVICE, [lab::NODE4, lab::NODE6])];
        let routers = routers.into_iter().chain(LINKS.iter().map(|link| (link.device, link.gateway)));
        for ((device, routers), metric) in routers.zip(9000..) {
            for ((family, to), router) in
                [("-4", "198.51.100.0/24"), ("-6", "2001:db8:1::/64")].into_iter().zip(routers)
            {
                let route = format!("{family} route add {to} via {router} dev {device} metric {metric}");
                lab::ip(&scene.lab.pod, &route).expect("a route");
            }
        }
        let neighbour = Injector::new(&scene.lab.linked[0], || {
            for address in LOOPBACK.into_iter().chain(LINKS[0].pod) {
                let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
                let any = SocketAddr::new(any.parse().expect("an address"), 0);
                let socket = bound(&scene.lab.linked[0], Protocol::Udp, any).expect("a socket");
                let _ = send_to(&socket, b"hello", SocketAddr::new(address, 9));
            }
        });
        let neighbour = neighbour.expect("frames come by");
        let spy = |maker: &Maker| Sniffer::new(maker).expect("a network can be watched");
        let spies = [&scene.lab.outside].into_iter().chain(&scene.lab.linked).map(spy).collect();
        let outside = Sniffer::new(scene.outside()).expect("the network can be watched");
        Self { siege: Siege::over(scene, outside), spies, neighbour }
    }

    /// Lets rules stand; the pod is known to be attached to the first so many links.
    fn enforce(&mut self, by: By, world: &World, attached: usize) {
        let scene = &mut self.siege.scene;
        scene.by = by;
        let mut subject = scene.subject();
        let names = ["shop/one", "shop/two", "shop/three"];
        subject.networks.known = names
            .iter()
            .zip(&LINKS)
            .take(attached)
            .map(|(name, link)| Attachment {
                network: NetworkName::parse(name, "shop").expect("a network's name"),
                device: link.device.to_owned(),
                addresses: link.pod.to_vec(),
            })
            .collect();
        let compiled = compile(&resolve(world, &subject), scene.lab.next_generation());
        scene.lab.load(&compiled.ruleset);
        scene.loaded = Some(compiled.ruleset);
    }

    fn rounds(&mut self, mut attack: impl FnMut(&mut Self, Round)) {
        let mut stage = None;
        for round in Round::all() {
            if round.by != stage {
                stage = round.by;
                self.enforce(round.by.expect("rules are never taken away"), &world(), 2);
            }
            attack(self, round);
        }
    }

    /// The same for what comes from outside: whatever the attacker's arms, a neighbour has its own.
    fn stages(&mut self, mut attack: impl FnMut(&mut Self, Option<By>)) {
        attack(self, None);
        for by in [By::Cgroup, By::Uid] {
            self.enforce(by, &world(), 2);
            attack(self, Some(by));
        }
    }

    fn network(&self, network: usize) -> &Maker {
        let lab = &self.siege.scene.lab;
        if network == ETH0 { &lab.outside } else { &lab.linked[network - 1] }
    }

    fn index(&self, network: usize) -> u32 {
        let links = Links::of(&self.siege.scene.lab.pod);
        links.and_then(|mut links| links.index(DEVICES[network])).expect("the device is there")
    }

    /// Lets what is allowed leave by every device where anything is: what was sent before has been decided.
    fn settle(&mut self, family: usize) {
        for network in [ETH0, NET1, NET2] {
            let scene = &self.siege.scene;
            let from = scene.fresh(own(network, family));
            let text = format!("FENCE-{}-", from.port());
            let socket = bound(scene.app(MALLORY), Protocol::Udp, from).expect("the fence has a socket");
            let to = SocketAddr::new(COLLECTORS[family], MAY[network].expect("a network where something is allowed"));
            send_to(&socket, text.as_bytes(), to).expect("what is allowed passes");
            self.spies[network].waits_for(text.as_bytes()).expect("what is allowed arrives");
        }
    }

    /// The network on which a text has been seen.
    fn left(&mut self, text: &str) -> Option<usize> {
        self.spies.iter_mut().position(|spy| spy.saw(text.as_bytes()).expect("a network can be watched"))
    }

    /// An attack's text has been seen on a network without walls, and nowhere with them.
    fn judge(&mut self, round: Round, network: usize, text: &str, what: &str) {
        if round.control() {
            let seen = self.spies[network].waits_for(text.as_bytes());
            seen.unwrap_or_else(|error| panic!("{round:?}: {what}: {error}"));
        } else {
            self.settle(round.family);
            let left = self.left(text).map(|network| DEVICES[network]);
            let moved = self.siege.scene.moved();
            assert_eq!(left, None, "{round:?}: {what}: it has left; {moved}");
        }
    }

    /// The attacker opens a flow that is allowed, `$keep{f}`, which goes there and back.
    fn open(&mut self, round: Round, protocol: Protocol, network: usize, port: u16) -> (SocketAddr, OwnedFd) {
        let (from, to) = (own(network, round.family), SocketAddr::new(COLLECTORS[round.family], port));
        let source = self.siege.scene.port();
        let server = take_over(self.network(network), protocol, to).expect("a server listens");
        let kind = if protocol == Protocol::Tcp { "SOCK_STREAM" } else { "SOCK_DGRAM" };
        self.siege.mallory(round.arms).must(&format!(
            "delete $keep{{f}};
             $keep{{f}} = bound({kind}, '{from}', {source}); dial($keep{{f}}, 'hello', '{}', {})",
            to.ip(),
            to.port()
        ));
        let server = if protocol == Protocol::Tcp {
            sidewall_tests::sockets::readable(&server, sidewall_tests::scene::LIMIT).expect("a connection");
            self.network(network).accept(&server).expect("a connection")
        } else {
            rustix::net::connect(&server, &SocketAddr::new(from, source)).expect("the server knows its client");
            server
        };
        assert_eq!(heard(&server).expect("the server hears").as_deref(), Some(&b"hello"[..]));
        sidewall_tests::sockets::send(&server, b"welcome").expect("the server answers");
        let answer = "my $set = ''; vec($set, fileno($keep{f}), 1) = 1; select($set, undef, undef, 5);
             my $data = waiting($keep{f}); my $flags = fcntl($keep{f}, 3, 0); fcntl($keep{f}, 4, $flags & ~2048); $data";
        assert_eq!(self.siege.mallory(round.arms).must(answer), "got welcome");
        (to, server)
    }
}

/// The ways to send on `$keep{f}` by a device of one's choice: whether it is one over TCP too, and the code.
fn ways(device: &str, index: u32, (from, to): (IpAddr, SocketAddr), text: &str) -> [(&'static str, bool, String); 3] {
    let (ip, port) = (to.ip(), to.port());
    let (unicast, information) = if to.is_ipv4() {
        ("0, 50", format!("control(0, 8, pack('i a4 x4', {index}, inet_aton('{from}')))"))
    } else {
        ("41, 76", format!("control(41, 50, pack('x16 i', {index}))"))
    };
    [
        (
            "SO_BINDTODEVICE",
            true,
            format!(
                "option($keep{{f}}, 1, 25, '{device}'); defined(send($keep{{f}}, '{text}', MSG_NOSIGNAL)) or fail('send')"
            ),
        ),
        (
            "UNICAST_IF",
            false,
            format!("option($keep{{f}}, {unicast}, pack('N', {index})); throw($keep{{f}}, '{text}', '{ip}', {port})"),
        ),
        ("PKTINFO", false, format!("message($keep{{f}}, '{text}', address('{ip}', {port}), {information})")),
    ]
}

#[test]
fn a_flow_of_one_network_cannot_be_moved_to_another() {
    let mut pod = Pod::new();
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
    let mut pod = Pod::new();
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
    let mut pod = Pod::new();
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
    let mut pod = Pod::new();
    pod.stages(|pod, by| {
        for family in [0, 1] {
            // Whom the pod hears on eth0, and whom it hears on net1.
            for peer in [CLIENTS[family], COLLECTORS[family]] {
                let to = SocketAddr::new(POD[family], 9100);
                let ear = take_over(pod.siege.scene.app(MALLORY), Protocol::Udp, to).unwrap();
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
        pod.neighbour.put(Device::Link, packet).unwrap();
        assert_eq!(heard(ear).unwrap().as_deref(), Some(SECRET), "without rules: {what}");
    } else {
        let neighbour = &pod.neighbour;
        pod.siege.scene.denied(what, |_| neighbour.put(Device::Link, packet).unwrap());
        assert_silent(ear, &format!("{by:?}: {what}"));
    }
}

#[test]
fn whom_one_network_lets_in_another_does_not() {
    let mut pod = Pod::new();
    pod.stages(|pod, by| {
        for family in [0, 1] {
            let to = SocketAddr::new(own(NET1, family), 9100);
            let ear = take_over(pod.siege.scene.app(MALLORY), Protocol::Udp, to).unwrap();
            let packet = raw::udp(pod.siege.scene.fresh(CLIENTS[family]), to, SECRET);
            arrives_only_without_rules(pod, by, &packet, &ear, "a peer of eth0 on net1");
            let packet = raw::udp(pod.siege.scene.fresh(COLLECTORS[family]), to, b"welcome");
            pod.neighbour.put(Device::Link, &packet).unwrap();
            assert_eq!(heard(&ear).unwrap().as_deref(), Some(&b"welcome"[..]), "{by:?}: whom net1 lets in");
        }
    });
}

#[test]
fn our_own_addresses_do_not_come_from_a_further_network() {
    let mut pod = Pod::new();
    let addresses = |list: [&str; 3]| list.map(|address| address.parse::<IpAddr>().unwrap());
    let [v4, v6] =
        [addresses(["127.0.0.1", "127.9.9.9", "198.51.100.10"]), addresses(["::1", "::1", "2001:db8:1::10"])];
    pod.stages(|pod, by| {
        for (family, [loopback, other, peer]) in [v4, v6].into_iter().enumerate() {
            let own1 = own(NET1, family);
            let forged = [(loopback, own1), (other, own1), (peer, loopback), (own(ETH0, family), own1), (own1, own1)];
            for (from, to) in forged {
                let (from, to) = (pod.siege.scene.fresh(from), SocketAddr::new(to, 9100));
                let ear = take_over(pod.siege.scene.app(MALLORY), Protocol::Udp, to).unwrap();
                let packet = raw::udp(from, to, SECRET);
                if family == 0 || !from.ip().is_loopback() && !to.ip().is_loopback() {
                    arrives_only_without_rules(pod, by, &packet, &ear, &format!("{from} by net1 to {to}"));
                } else {
                    // The kernel takes no loopback address from a network in IPv6. What comes behind is allowed.
                    pod.neighbour.put(Device::Link, &packet).unwrap();
                    let at = SocketAddr::new(own1, 9100);
                    let fence =
                        if to == at { None } else { take_over(pod.siege.scene.app(MALLORY), Protocol::Udp, at).ok() };
                    let welcome = raw::udp(pod.siege.scene.fresh(peer), at, b"welcome");
                    pod.neighbour.put(Device::Link, &welcome).unwrap();
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
    let mut pod = Pod::new();
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
    let mut pod = Pod::new();
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
    let mut pod = Pod::new();
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
    let mut pod = Pod::new();
    pod.stages(|pod, by| {
        let index = pod.index(NET1);
        for family in [0, 1] {
            let any: IpAddr = if family == 0 { "0.0.0.0" } else { "::" }.parse().unwrap();
            let ear = take_over(pod.siege.scene.app(MALLORY), Protocol::Udp, SocketAddr::new(any, 9100)).unwrap();
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
    let mut pod = Pod::new();
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
    let mut pod = Pod::new();
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
