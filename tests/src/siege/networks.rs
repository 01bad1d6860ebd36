//! A pod with further networks, under attack.
//!
//! The edge of each network is judged apart: on `eth0` a NetworkPolicy holds, on `net1` a MultiNetworkPolicy, on `net2`
//! none, and `stray0` is a device that nobody told Sidewall of. The attacker's own container may the same everywhere, so
//! that the edges alone tell one network from another.

use super::{Round, Siege};
use crate::lab::{self, By, LINKS};
use crate::party::Maker;
use crate::raw::{Injector, Sniffer};
use crate::scene::{COLLECTORS, LOOPBACK, MALLORY, POD, Scene, bound, heard, policy, ports, send_to};
use crate::sockets;
use rustix::fd::OwnedFd;
use serde_json::{Value, json};
use sidewall_api::network::{Attachment, NetworkName};
use sidewall_api::read::{read_multi_network_policy, read_network_policy};
use sidewall_flow::Protocol;
use sidewall_netns::{Links, sysctl};
use sidewall_policy::{World, compile, resolve};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The pod's devices. The places in this list are what the tests call networks by.
pub const DEVICES: [&str; 4] = [lab::DEVICE, LINKS[0].device, LINKS[1].device, LINKS[2].device];
/// The pod network.
pub const ETH0: usize = 0;
/// A network with a MultiNetworkPolicy.
pub const NET1: usize = 1;
/// A network without a policy.
pub const NET2: usize = 2;
/// A network that nobody told Sidewall of.
pub const STRAY0: usize = 3;
/// The ports of the collectors that the attacker may reach on each network; on `stray0` there is none.
pub const MAY: [Option<u16>; 4] = [Some(7000), Some(7100), Some(7200), None];
/// The ports that are tried.
pub const PORTS: [u16; 3] = [7000, 7100, 7200];

/// The pod's address on a network.
pub fn own(network: usize, family: usize) -> IpAddr {
    if network == ETH0 { POD[family] } else { LINKS[network - 1].pod[family] }
}

/// The policies. Whom the attacker hears differs too: on `eth0` the clients, on `net1` the collectors.
///
/// # Panics
/// Where they are not valid.
pub fn world() -> World {
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
pub struct Pod {
    /// The pod under attack.
    pub siege: Siege,
    /// Who hears every frame of each network.
    pub spies: Vec<Sniffer>,
    /// What puts frames on each network from its other end.
    pub neighbours: Vec<Injector>,
}

impl Pod {
    /// A pod in which no rule has ever been loaded.
    ///
    /// # Panics
    /// Where anything is missing.
    pub fn new(program: &str) -> Self {
        let mut scene = Scene::bare(program);
        scene.lab = scene.lab.with_links(Path::new(program));
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
        let outsides = || [&scene.lab.outside].into_iter().chain(&scene.lab.linked);
        let neighbours = outsides().enumerate().map(|(network, maker)| neighbour(maker, network)).collect();
        let spy = |maker: &Maker| Sniffer::new(maker).expect("a network can be watched");
        let spies = outsides().map(spy).collect();
        let outside = Sniffer::new(scene.outside()).expect("the network can be watched");
        Self { siege: Siege::over(scene, outside), spies, neighbours }
    }

    /// Lets rules stand; the pod is known to be attached to the first so many links.
    ///
    /// # Panics
    /// Where the kernel refuses them.
    pub fn enforce(&mut self, by: By, world: &World, attached: usize) {
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

    /// Tries an attack in every round, with the policies of [`world`].
    pub fn rounds(&mut self, mut attack: impl FnMut(&mut Self, Round)) {
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
    pub fn stages(&mut self, mut attack: impl FnMut(&mut Self, Option<By>)) {
        attack(self, None);
        for by in [By::Cgroup, By::Uid] {
            self.enforce(by, &world(), 2);
            attack(self, Some(by));
        }
    }

    /// Somebody on a network.
    pub fn network(&self, network: usize) -> &Maker {
        let lab = &self.siege.scene.lab;
        if network == ETH0 { &lab.outside } else { &lab.linked[network - 1] }
    }

    /// A device's index.
    ///
    /// # Panics
    /// Where it is missing.
    pub fn index(&self, network: usize) -> u32 {
        let links = Links::of(&self.siege.scene.lab.pod);
        links.and_then(|mut links| links.index(DEVICES[network])).expect("the device is there")
    }

    /// Lets what is allowed leave by every device where anything is: what was sent before has been decided.
    ///
    /// # Panics
    /// Where it does not arrive.
    pub fn settle(&mut self, family: usize) {
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
    ///
    /// # Panics
    /// Where a network can't be watched.
    pub fn left(&mut self, text: &str) -> Option<usize> {
        self.spies.iter_mut().position(|spy| spy.saw(text.as_bytes()).expect("a network can be watched"))
    }

    /// An attack's text has been seen on a network without walls, and nowhere with them.
    ///
    /// # Panics
    /// Where it is not so.
    pub fn judge(&mut self, round: Round, network: usize, text: &str, what: &str) {
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
    ///
    /// # Panics
    /// Where it does not pass.
    pub fn open(&mut self, round: Round, protocol: Protocol, network: usize, port: u16) -> (SocketAddr, OwnedFd) {
        let (from, to) = (own(network, round.family), SocketAddr::new(COLLECTORS[round.family], port));
        let source = self.siege.scene.port();
        let server = sockets::listen(self.network(network), protocol, to).expect("a server listens");
        let kind = if protocol == Protocol::Tcp { "SOCK_STREAM" } else { "SOCK_DGRAM" };
        self.siege.mallory(round.arms).must(&format!(
            "delete $keep{{f}};
             $keep{{f}} = bound({kind}, '{from}', {source}); dial($keep{{f}}, 'hello', '{}', {})",
            to.ip(),
            to.port()
        ));
        let server = if protocol == Protocol::Tcp {
            sockets::readable(&server, crate::scene::LIMIT).expect("a connection");
            self.network(network).accept(&server).expect("a connection")
        } else {
            rustix::net::connect(&server, &SocketAddr::new(from, source)).expect("the server knows its client");
            server
        };
        assert_eq!(heard(&server).expect("the server hears").as_deref(), Some(&b"hello"[..]));
        sockets::send(&server, b"welcome").expect("the server answers");
        let answer = "my $set = ''; vec($set, fileno($keep{f}), 1) = 1; select($set, undef, undef, 5);
             my $data = waiting($keep{f}); my $flags = fcntl($keep{f}, 3, 0); fcntl($keep{f}, 4, $flags & ~2048); $data";
        assert_eq!(self.siege.mallory(round.arms).must(answer), "got welcome");
        (to, server)
    }
}

/// A packet socket at the other end of a network.
fn neighbour(maker: &Maker, network: usize) -> Injector {
    let traffic = || {
        for address in LOOPBACK.into_iter().chain([0, 1].map(|family| own(network, family))) {
            let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
            let any = SocketAddr::new(any.parse().expect("an address"), 0);
            let socket = bound(maker, Protocol::Udp, any).expect("a socket");
            let _ = send_to(&socket, b"hello", SocketAddr::new(address, 9));
        }
    };
    Injector::new(maker, traffic).expect("frames come by")
}

/// The ways to send on `$keep{f}` by a device of one's choice: whether it is one over TCP too, and the code.
pub fn ways(
    device: &str,
    index: u32,
    (from, to): (IpAddr, SocketAddr),
    text: &str,
) -> [(&'static str, bool, String); 3] {
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
