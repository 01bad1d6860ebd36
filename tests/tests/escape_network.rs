//! Addresses, options, fragments and messages that go round the rules: from the network and to it.

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SocketType};
use sidewall_flow::Protocol;
use sidewall_netns::{Capability, sysctl};
use sidewall_tests::lab::{self, By};
use sidewall_tests::raw::{self, Device, Injector, Sniffer};
use sidewall_tests::scene::{
    APP, CLIENTS, COLLECTORS, End, LIMIT, LOOPBACK, MALLORY, POD, PROXY, Scene, TRANSPORTS, assert_silent, bound,
    connect, heard, send_to,
};
use sidewall_tests::sockets;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

/// What must not arrive.
const SECRET: &[u8] = b"SECRET-SECRET";

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// A packet socket on the network.
fn injector(scene: &Scene) -> Injector {
    let traffic = || {
        lab::ip(&scene.lab.network, "neigh flush dev pod0").expect("the neighbours can be forgotten");
        for address in LOOPBACK.into_iter().chain(POD) {
            let socket = bound(scene.outside(), Protocol::Udp, SocketAddr::new(unspecified(address), 0)).unwrap();
            let _ = send_to(&socket, b"hello", SocketAddr::new(address, 9));
        }
    };
    Injector::new(scene.outside(), traffic).expect("frames come by")
}

#[test]
fn a_neighbour_reaches_nothing_under_our_own_addresses() {
    let mut scene = Scene::bare(PROGRAM);
    // A node that redirects loopback ports sets this.
    for key in ["all", "eth0"] {
        sysctl::set(&scene.lab.pod, &format!("net.ipv4.conf.{key}.route_localnet"), "1").unwrap();
        sysctl::set(&scene.lab.pod, &format!("net.ipv4.conf.{key}.rp_filter"), "0").unwrap();
        sysctl::set(&scene.lab.pod, &format!("net.ipv4.conf.{key}.accept_local"), "1").unwrap();
    }
    let injector = injector(&scene);
    for by in [None, Some(By::Cgroup), Some(By::Uid), Some(By::Gid)] {
        if let Some(by) = by {
            scene.stand(by);
        }
        for (from, to, works_without) in [
            ("203.0.113.5", "127.0.0.1", true),
            ("127.0.0.1", "10.77.0.2", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.9.9.9", "127.0.0.1", true),
            ("10.77.0.2", "10.77.0.2", true),
            ("2001:db8:2::5", "::1", false),
            ("::1", "fd77::2", false),
            ("fd77::2", "fd77::2", false),
        ] {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            // The proxy's port is open to all the network, the application's to the proxy.
            for (number, port) in [(PROXY, 8443), (APP, 8080)] {
                let (from, to) = (scene.fresh(from), SocketAddr::new(to, port));
                let ear = sockets::listen(scene.app(number), Protocol::Udp, to).unwrap();
                let packet = raw::udp(from, to, SECRET);
                if by.is_none() {
                    injector.put(Device::Link, &packet).unwrap();
                    if works_without {
                        assert!(heard(&ear).unwrap().is_some(), "without rules {from} reaches {to}");
                    }
                    continue;
                }
                if works_without {
                    scene.found_forged(&format!("{from} to {to}"), |_| injector.put(Device::Link, &packet).unwrap());
                } else {
                    injector.put(Device::Link, &packet).unwrap();
                    // Something that is allowed comes behind it.
                    let from = SocketAddr::new(CLIENTS[1], scene.port());
                    drop(scene.flow_from(
                        End::Outside,
                        End::Container(PROXY),
                        Protocol::Tcp,
                        from,
                        SocketAddr::new(POD[1], 8443),
                    ));
                }
                assert_silent(&ear, &format!("{by:?}: {from} to {to}"));
            }
        }
    }
}

#[test]
fn neighbours_find_each_other_while_everything_is_denied() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.by = by;
        let generation = scene.lab.next_generation();
        let guard = sidewall_policy::compile(&sidewall_policy::guard(&scene.subject()), generation);
        scene.lab.load(&guard.ruleset);
        // The pod takes a further address and looks whether another has it (RFC 4862 §5.4).
        lab::ip(&scene.lab.pod, "-6 addr add fd77::99/64 dev eth0").unwrap();
        let until = std::time::Instant::now() + LIMIT;
        loop {
            let tentative = scene
                .lab
                .pod
                .run(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap())
                .unwrap()
                .lines()
                .filter(|line| line.starts_with("fd770000000000000000000000000099"))
                // The flags of addresses: 0x40 is a tentative one, 0x08 one that is taken.
                .any(|line| u8::from_str_radix(line.split_whitespace().nth(4).unwrap(), 16).unwrap() & 0x48 != 0);
            if !tentative {
                break;
            }
            assert!(std::time::Instant::now() < until, "{by:?}: the address stays tentative");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        lab::ip(&scene.lab.pod, "-6 addr del fd77::99/64 dev eth0").unwrap();
        // Reports of group membership leave.
        let mut outside = Sniffer::new(scene.outside()).unwrap();
        let group = scene.app(APP).socket(AddressFamily::INET6, SocketType::DGRAM, 0).unwrap();
        let index = sidewall_netns::Links::of(&scene.lab.pod).and_then(|mut l| l.index(lab::DEVICE)).unwrap();
        let address: Ipv6Addr = "ff02::7:7:7:7".parse().unwrap();
        raw::set_option(&group, 41, 20, &[&address.octets()[..], &index.to_ne_bytes()].concat()).unwrap();
        outside.waits_for(&address.octets()).expect("the report of the group leaves the pod");

        scene.stand(by);
        for _ in 0..2 {
            for ns in [scene.lab.pod.clone(), scene.lab.network.clone()] {
                let device = if ns.id() == scene.lab.pod.id() { lab::DEVICE } else { "pod0" };
                lab::ip(&ns, &format!("neigh flush dev {device}")).unwrap();
            }
            for (client, pod) in CLIENTS.into_iter().zip(POD) {
                let (from, to) = (scene.fresh(client), SocketAddr::new(pod, 8443));
                drop(scene.flow_from(End::Outside, End::Container(PROXY), Protocol::Tcp, from, to));
            }
            lab::ip(&scene.lab.pod, "neigh flush dev eth0").unwrap();
            for collector in COLLECTORS {
                let to = SocketAddr::new(collector, 7000);
                drop(scene.flow(End::Container(APP), End::Outside, Protocol::Tcp, to));
            }
        }
    }
}

#[test]
fn nobody_chooses_a_packets_way() {
    let mut scene = Scene::bare(PROGRAM);
    // The application itself, with raw sockets: these are its own flows, and only the way is wrong. (Without NET_RAW
    // the option IP_OPTIONS makes the same IPv4 packets; it is tried below.)
    let app = scene.armed(APP, &[Capability::NET_RAW]);
    for by in By::ALL {
        scene.stand(by);
        for collector in COLLECTORS {
            let to = SocketAddr::new(collector, 7000);
            let pod = POD[usize::from(collector.is_ipv6())];
            // A new flow.
            let ear = sockets::listen(scene.outside(), Protocol::Udp, to).unwrap();
            let from = SocketAddr::new(pod, scene.port());
            let _owner = bound(scene.app(APP), Protocol::Udp, from).unwrap();
            let routed = raw::source_routed(&raw::udp(from, to, SECRET));
            scene.found_improper("a new flow", |_| raw::send(&app, &routed).unwrap_or_default());
            assert_silent(&ear, &format!("{by:?}: source-routed to {to}"));
            // It is the way alone that is refused.
            raw::send(&app, &raw::udp(from, to, b"plain")).unwrap();
            assert_eq!(heard(&ear).unwrap().as_deref(), Some(&b"plain"[..]));
            drop(ear);
            // A live flow.
            let flow = scene.flow(End::Container(APP), End::Outside, Protocol::Udp, to);
            let routed = raw::source_routed(&raw::udp(flow.from, flow.to, SECRET));
            scene.found_improper("a live flow", |_| raw::send(&app, &routed).unwrap_or_default());
            assert_silent(&flow.server, &format!("{by:?}: source-routed in a live flow to {to}"));
            // The application is told of what it did; the flow goes on.
            let _ = sockets::pending_error(&flow.client);
            flow.works().unwrap();
        }
        // Without any capability.
        let to = SocketAddr::new(COLLECTORS[0], 7000);
        let flow = scene.flow(End::Container(APP), End::Outside, Protocol::Udp, to);
        let through: [u8; 8] = [131, 7, 4, 198, 51, 100, 99, 0];
        raw::set_option(&flow.client, 0, 4, &through).expect("IP_OPTIONS can be set");
        scene.found_improper("IP_OPTIONS", |_| {
            let _ = sockets::send(&flow.client, SECRET);
        });
        assert_silent(&flow.server, "with IP_OPTIONS");
    }
}

#[test]
fn fragments_of_what_is_allowed_pass_and_of_what_is_denied_do_not() {
    let mut scene = Scene::bare(PROGRAM);
    // Small enough for fragments on loopback in both families.
    lab::ip(&scene.lab.pod, "link set lo mtu 1500").unwrap();
    let large = vec![b'x'; 9000];
    for by in By::ALL {
        scene.stand(by);
        for family in [0, 1] {
            let flows = [
                scene.flow(
                    End::Container(PROXY),
                    End::Container(APP),
                    Protocol::Udp,
                    SocketAddr::new(LOOPBACK[family], 8080),
                ),
                scene.flow(End::Container(APP), End::Outside, Protocol::Udp, SocketAddr::new(COLLECTORS[family], 7000)),
                {
                    let from = scene.fresh(CLIENTS[family]);
                    let to = SocketAddr::new(POD[family], 8443);
                    scene.flow_from(End::Outside, End::Container(PROXY), Protocol::Udp, from, to)
                },
            ];
            for flow in &flows {
                for (from, to) in [(&flow.client, &flow.server), (&flow.server, &flow.client)] {
                    sockets::send(from, &large).unwrap();
                    assert_eq!(
                        all_of(to).map(|data| data.len()),
                        Some(large.len()),
                        "{by:?} {} {}",
                        flow.from,
                        flow.to
                    );
                }
            }
            drop(flows);
            for (server, to) in [
                (End::Container(APP), SocketAddr::new(LOOPBACK[family], 8080)),
                (End::Outside, SocketAddr::new(COLLECTORS[family], 7000)),
            ] {
                let maker = if matches!(server, End::Outside) { scene.outside() } else { scene.app(APP) };
                let ear = sockets::listen(maker, Protocol::Udp, to).unwrap();
                let from = scene.fresh(unspecified(to.ip()));
                let socket = bound(scene.app(MALLORY), Protocol::Udp, from).unwrap();
                scene.denied("fragments", |_| {
                    let _ = send_to(&socket, &large, to);
                });
                assert_silent(&ear, &format!("{by:?}: fragments to {to}"));
            }
            // From the network, to a port that is not open.
            let to = SocketAddr::new(POD[family], 8080);
            let ear = sockets::listen(scene.app(APP), Protocol::Udp, to).unwrap();
            let socket = bound(scene.outside(), Protocol::Udp, scene.fresh(CLIENTS[family])).unwrap();
            scene.denied("fragments from the network", |_| send_to(&socket, &large, to).unwrap());
            assert_silent(&ear, &format!("{by:?}: fragments to {to}"));
        }
    }
}

fn all_of(socket: &OwnedFd) -> Option<Vec<u8>> {
    sockets::readable(socket, LIMIT).ok()?;
    let mut buffer = vec![0; 70_000];
    let (length, _) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
    buffer.truncate(length);
    Some(buffer)
}

#[test]
fn echo_is_refused_under_isolation() {
    let mut scene = Scene::bare(PROGRAM);
    // Everybody may have ping sockets.
    sysctl::set(&scene.lab.pod, "net.ipv4.ping_group_range", "0 2147483647").unwrap();
    let ping = |scene: &Scene, to: IpAddr| {
        let protocol = if to.is_ipv4() { 1 } else { 58 };
        let socket = scene.app(MALLORY).socket(sockets::family(to), SocketType::DGRAM, protocol).unwrap();
        let kind = if to.is_ipv4() { 8 } else { 128 };
        let sent = send_to(&socket, &[&[kind, 0, 0, 0, 0, 1, 0, 1], SECRET].concat(), SocketAddr::new(to, 0));
        (socket, sent)
    };
    let targets: Vec<IpAddr> = COLLECTORS.into_iter().chain([lab::NODE4, lab::NODE6]).chain(LOOPBACK).collect();
    for to in &targets {
        let (socket, sent) = ping(&scene, *to);
        sent.unwrap();
        assert!(heard(&socket).unwrap().is_some(), "without rules {to} answers");
    }
    let mut outside = Sniffer::new(scene.outside()).unwrap();
    for by in By::ALL {
        scene.stand(by);
        for to in &targets {
            let socket = scene.denied(&format!("echo to {to}"), |scene| ping(scene, *to).0);
            assert_silent(&socket, &format!("{by:?}: {to} answers"));
        }
        assert!(!outside.saw(SECRET).unwrap(), "{by:?}: an echo has left");
    }
}

#[test]
fn errors_about_allowed_flows_arrive() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        // Nobody listens there: the network's own answer.
        for collector in COLLECTORS {
            let to = SocketAddr::new(collector, 7000);
            for protocol in TRANSPORTS {
                let socket = bound(scene.app(APP), protocol, scene.fresh(unspecified(collector))).unwrap();
                connect(&socket, to).unwrap();
                if protocol == Protocol::Udp {
                    sockets::send(&socket, b"anybody?").unwrap();
                }
                assert_eq!(refusal(&socket), Some(io::ErrorKind::ConnectionRefused), "{by:?} {protocol} {to}");
            }
        }
        // A server in the pod that does not listen, asked by one who may ask it.
        let to = SocketAddr::new(LOOPBACK[0], 8080);
        let socket = bound(scene.app(PROXY), Protocol::Tcp, scene.fresh(LOOPBACK[0])).unwrap();
        connect(&socket, to).unwrap();
        assert_eq!(refusal(&socket), Some(io::ErrorKind::ConnectionRefused), "{by:?} {to}");
    }
}

/// The error that a socket gets within [`LIMIT`].
fn refusal(socket: &OwnedFd) -> Option<io::ErrorKind> {
    sockets::readable(socket, LIMIT).unwrap();
    match sockets::pending_error(socket).unwrap() {
        Some(error) => Some(io::Error::from(error).kind()),
        None => sockets::arrived(socket).err().map(|error| error.kind()),
    }
}

#[test]
fn a_message_about_a_narrower_way_arrives() {
    let mut scene = Scene::bare(PROGRAM);
    let injector = injector(&scene);
    for by in By::ALL {
        scene.stand(by);
        let to = SocketAddr::new(COLLECTORS[0], 7000);
        let flow = scene.flow(End::Container(APP), End::Outside, Protocol::Udp, to);
        // "Fragmentation needed" (RFC 1191) from a router on the way, about a packet of this flow.
        let about = raw::udp(flow.from, flow.to, &[b'x'; 8]);
        let mut message = vec![3, 4, 0, 0, 0, 0, 0x03, 0x20];
        message.extend(&about[..28]);
        let sum = !message.chunks(2).fold(0u32, |sum, pair| {
            let sum = sum + u32::from(u16::from_be_bytes([pair[0], pair[1]]));
            (sum & 0xffff) + (sum >> 16)
        }) as u16;
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let packet = raw::packet(lab::NODE4, lab::POD4, 1, &message, &[]);
        let ((), denied) = scene.denials_during(|_| {
            injector.put(Device::Link, &packet).unwrap();
            sockets::readable(&flow.client, LIMIT).unwrap();
            let told = sockets::arrived(&flow.client).map_err(|error| error.raw_os_error());
            assert_eq!(told, Err(Some(rustix::io::Errno::MSGSIZE.raw_os_error())), "{by:?}");
        });
        assert_eq!(denied, 0, "{by:?}");
        // And the pod believes it.
        let cached = cached_route(&scene);
        assert!(cached.contains("mtu 800"), "{by:?}: {cached}");
        lab::ip(&scene.lab.pod, "route flush cache").unwrap();
    }
}

/// What the pod has learnt about the way to the collector.
fn cached_route(scene: &Scene) -> String {
    use std::io::Read;
    let launch = sidewall_netns::Launch::new("/usr/sbin/ip").args(["route", "get", "198.51.100.10"]);
    let mut process = launch.netns(&scene.lab.pod).privileged().stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    process.take_stdout().unwrap().read_to_string(&mut text).unwrap();
    assert!(process.wait().unwrap().success());
    text
}

#[test]
fn refusals_come_at_once() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        for to in [LOOPBACK[0], LOOPBACK[1], POD[0], POD[1], COLLECTORS[0], COLLECTORS[1]] {
            let to = SocketAddr::new(to, 8081);
            for protocol in TRANSPORTS {
                let server = if COLLECTORS.contains(&to.ip()) { scene.outside() } else { scene.app(APP) };
                let _ear = sockets::listen(server, protocol, to).unwrap();
                let socket = bound(scene.app(MALLORY), protocol, scene.fresh(unspecified(to.ip()))).unwrap();
                let start = std::time::Instant::now();
                connect(&socket, to).unwrap();
                let told = if protocol == Protocol::Udp {
                    sockets::send(&socket, SECRET).is_err() || refusal(&socket).is_some()
                } else {
                    refusal(&socket).is_some()
                };
                assert!(told, "{by:?} {protocol} {to}: the sender is not told");
                // A connection that nobody answers is tried again after a second.
                assert!(start.elapsed().as_millis() < 900, "{by:?} {protocol} {to}: {:?}", start.elapsed());
            }
        }
    }
}
