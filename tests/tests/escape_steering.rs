//! Being told another way: redirects, routers and neighbours that announce themselves. What a packet may is asked of its
//! addresses and its device, so a way that somebody else has chosen is judged like any other.

use sidewall_flow::Protocol;
use sidewall_netns::{Launch, Links, NetNs, sysctl};
use sidewall_tests::lab::attacker::Arms;
use sidewall_tests::lab::{self, By};
use sidewall_tests::raw::{self, Device};
use sidewall_tests::scene::{APP, COLLECTORS, End, LIMIT, POD};
use sidewall_tests::siege::networks::{DEVICES, ETH0, NET1, Pod};
use sidewall_tests::siege::{Round, Siege, hex};
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
const STAGES: [Option<By>; 3] = [None, Some(By::Cgroup), Some(By::Uid)];
/// Who wants to be the way, on the link: its addresses, and that of its device.
const FALSE_ROUTER: [&str; 2] = ["10.77.0.66", "fe80::66"];
const FALSE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x66];
/// The network's own router in IPv6: redirects are believed of link-local addresses alone.
const ROUTER: &str = "fe80::1";

/// What the program `ip` says in a namespace.
fn says(ns: &NetNs, arguments: &str) -> String {
    let launch = Launch::new("/usr/sbin/ip").args(arguments.split(' ')).netns(ns).privileged();
    let mut process = launch.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    process.take_stdout().unwrap().read_to_string(&mut text).unwrap();
    assert!(process.wait().unwrap().success(), "ip {arguments}");
    text
}

/// Waits until `ip` says something; tells whether it did.
fn comes_to_say(ns: &NetNs, arguments: &str, what: &str, mut act: impl FnMut()) -> bool {
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        act();
        std::thread::sleep(Duration::from_millis(50));
        if says(ns, arguments).contains(what) {
            return true;
        }
    }
    false
}

/// An ICMPv6 message with a hop limit of 255: no router has forwarded it.
fn icmpv6(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let all = [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, 58], &message].concat();
    let sum = all.chunks(2).fold(0u32, |sum, pair| {
        let sum = sum + u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        (sum & 0xffff) + (sum >> 16)
    });
    message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let mut packet = raw::packet(from.into(), to.into(), 58, &message, &[]);
    packet[7] = 255;
    packet
}

/// A redirect by the network's router of what the pod sends to somebody (RFC 792; RFC 4861 §4.5).
fn redirect(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let router: Ipv6Addr = ROUTER.parse().unwrap();
    match (from.ip(), to.ip()) {
        (IpAddr::V6(own), IpAddr::V6(to)) => {
            let target: Ipv6Addr = FALSE_ROUTER[1].parse().unwrap();
            let message = [&[137, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &to.octets(), &[2, 1], &FALSE_MAC];
            icmpv6(router, own, &message.concat())
        }
        _ => {
            let mut message = vec![5, 1, 0, 0, 10, 77, 0, 66];
            message.extend(&raw::udp(from, to, &[b'x'; 8])[..28]);
            let sum = message.chunks(2).fold(0u32, |sum, pair| {
                let sum = sum + u32::from(u16::from_be_bytes([pair[0], pair[1]]));
                (sum & 0xffff) + (sum >> 16)
            });
            message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
            raw::packet(lab::NODE4, from.ip(), 1, &message, &[])
        }
    }
}

/// From the router, or from a neighbour who sends in its name.
#[test]
fn redirects_from_the_network_are_not_followed() {
    let mut siege = Siege::new(PROGRAM);
    let pod = siege.scene.lab.pod.clone();
    for key in ["all", "eth0"] {
        for (name, value) in [("accept_redirects", "1"), ("secure_redirects", "0"), ("rp_filter", "0")] {
            sysctl::set(&pod, &format!("net.ipv4.conf.{key}.{name}"), value).unwrap();
        }
    }
    lab::ip(&siege.scene.lab.network, &format!("-6 addr add {ROUTER}/64 dev pod0 nodad")).unwrap();
    lab::ip(&pod, &format!("-6 route add 2001:db8:1::/64 via {ROUTER} dev eth0")).unwrap();
    lab::ip(&pod, "neigh replace 10.77.0.66 lladdr 02:00:00:00:00:66 dev eth0 nud permanent").unwrap();
    for by in STAGES {
        if let Some(by) = by {
            siege.scene.stand(by);
        }
        for family in [0, 1] {
            let to = SocketAddr::new(COLLECTORS[family], 7000);
            let source = siege.scene.fresh(POD[family]);
            let flow = siege.scene.flow_from(End::Container(APP), End::Outside, Protocol::Udp, source, to);
            let packet = redirect(flow.from, flow.to);
            let (option, route) = [("-4", "route"), ("-6", "route")][family];
            let ask = format!("{option} {route} get {}", to.ip());
            let way = format!("via {}", FALSE_ROUTER[family]);
            let outside = siege.scene.outside();
            if by.is_none() {
                let steered = comes_to_say(&pod, &ask, &way, || raw::send(outside, &packet).unwrap());
                assert!(steered, "it is no attack: {}", says(&pod, &ask));
                lab::ip(&pod, &format!("{option} route flush cache")).unwrap();
                continue;
            }
            siege.scene.denied("a redirect", |scene| raw::send(scene.outside(), &packet).unwrap());
            assert!(!says(&pod, &ask).contains(&way), "{by:?}: {}", says(&pod, &ask));
            flow.works().unwrap();
        }
    }
}

/// Routers' announcements pass, as the kernel needs them. One that draws a network's traffic to another device gets none
/// of what that device's policies deny: what is meant for the first device does not arrive any more, no more than that.
#[test]
fn a_router_that_announces_itself_on_one_network_gets_nothing_of_anothers() {
    for by in STAGES {
        let mut pod = Pod::new(PROGRAM);
        let inside = pod.siege.scene.lab.pod.clone();
        if let Some(by) = by {
            pod.enforce(by, &sidewall_tests::siege::networks::world(), 2);
        }
        let round = Round { by, arms: Arms::Plain, family: 1 };
        let (to, _server) = pod.open(round, Protocol::Udp, ETH0, 7000);
        lab::ip(&inside, &format!("-6 neigh add {} lladdr 02:00:00:00:00:66 dev net1", to.ip())).unwrap();
        // A lifetime of half an hour, and a prefix that is on this link (RFC 4861 §4.2, §4.6.2).
        let mut message = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        message.extend([3, 4, 64, 0x80, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0]);
        message.extend("2001:db8:1::".parse::<Ipv6Addr>().unwrap().octets());
        let announcement = icmpv6("fe80::66".parse().unwrap(), "ff02::1".parse().unwrap(), &message);
        let ask = format!("-6 route get {}", to.ip());
        let heard = comes_to_say(&inside, &ask, "dev net1", || {
            pod.neighbours[NET1].put(Device::Link, &announcement).unwrap();
        });
        assert!(heard, "{by:?}: the announcement is not heard: {}", says(&inside, &ask));
        for (what, sends) in [
            ("a live flow of eth0's", format!("throw($keep{{f}}, 'MARKER', '{}', 7000)", to.ip())),
            ("a new flow", format!("throw(made(AF_INET6, SOCK_DGRAM), 'MARKER', '{}', 7000)", to.ip())),
        ] {
            let marker = pod.siege.marker();
            let sends = sends.replace("MARKER", &marker);
            if by.is_none() {
                pod.siege.mallory(Arms::Plain).must(&sends);
                pod.spies[NET1].waits_for(marker.as_bytes()).unwrap_or_else(|_| panic!("{what} is not steered"));
                continue;
            }
            let before = pod.siege.scene.lab.denials();
            let sent = pod.siege.mallory(Arms::Plain).run(&sends);
            let until = Instant::now() + LIMIT;
            while pod.siege.scene.lab.denials() == before {
                assert!(Instant::now() < until, "{by:?}: {what}: no rule denied it: {sent:?}");
            }
            let left = pod.left(&marker).map(|network| DEVICES[network]);
            assert_eq!(left, None, "{by:?}: {what} has left: {sent:?}");
        }
    }
}

/// A limit: on a common link anybody may say that an address is at his device (ARP, neighbour discovery), and is believed
/// by who knows nothing better. Whom a container may reach is a matter of addresses.
#[test]
fn a_neighbour_on_the_link_takes_anothers_place_a_documented_limit() {
    let mut siege = Siege::new(PROGRAM);
    let pod = siege.scene.lab.pod.clone();
    let mut neighbour = siege.scene.lab.neighbour();
    let index = Links::of(&siege.scene.lab.network).and_then(|mut links| links.index("pod0")).unwrap();
    for by in [By::Cgroup, By::Uid] {
        siege.scene.stand(by);
        for (family, router) in [lab::NODE4, lab::NODE6].into_iter().enumerate() {
            let to = SocketAddr::new(COLLECTORS[family], 7000);
            let flow = siege.scene.flow(End::Container(APP), End::Outside, Protocol::Udp, to);
            let claim = match router {
                IpAddr::V4(router) => {
                    let hardware = [&FALSE_MAC[..], &router.octets()].concat();
                    let message = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &hardware, &hardware].concat();
                    [&[255; 6][..], &FALSE_MAC, &[8, 6], &message].concat()
                }
                IpAddr::V6(router) => {
                    // Unasked for, and to be believed (RFC 4861 §4.4).
                    let message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &router.octets(), &[2, 1], &FALSE_MAC].concat();
                    let packet = icmpv6(router, "ff02::1".parse().unwrap(), &message);
                    [&[0x33, 0x33, 0, 0, 0, 1][..], &FALSE_MAC, &[0x86, 0xdd], &packet].concat()
                }
            };
            let kind = u16::from_be_bytes([claim[12], claim[13]]);
            let puts = format!(
                "my $s = made(17, SOCK_RAW, 0);
                 defined(send($s, pack('H*', '{}'), 0, pack('S n i S C C a8', 17, {kind}, {index}, 0, 0, 6, ''))) or fail('send')",
                hex(&[claim])
            );
            let ask = format!("neigh show {router} dev eth0");
            let taken = comes_to_say(&pod, &ask, "02:00:00:00:00:66", || {
                neighbour.must(&puts);
            });
            assert!(taken, "this limit is gone: tell SECURITY.md: {}", says(&pod, &ask));
            // What is allowed goes to him, whoever he is; what is denied still does not leave.
            let marker = siege.marker();
            sidewall_tests::sockets::send(&flow.client, marker.as_bytes()).unwrap();
            siege.outside.waits_for(marker.as_bytes()).unwrap();
            // The frame is for his device (its first six bytes), from ours.
            let own = says(&pod, "-o link show dev eth0");
            let own = own.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
            let own = own.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect::<Vec<_>>();
            assert!(
                siege.outside.saw(&[&FALSE_MAC[..], &own].concat()).unwrap(),
                "{by:?}: {marker} was for somebody else"
            );
            let denied = siege.marker();
            let refused = siege
                .mallory(Arms::Plain)
                .run(&format!("throw(made(family('{0}'), SOCK_DGRAM), '{denied}', '{0}', 7000)", to.ip()));
            assert!(refused.is_err(), "{by:?}");
            lab::ip(&pod, "neigh flush dev eth0").unwrap();
            siege.settle();
            assert!(!siege.left(&denied), "{by:?}: {refused:?}");
        }
    }
}
