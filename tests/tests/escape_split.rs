//! A split pod's link carries what the policies let containers do over loopback, and nothing else: neither for a neighbour on its
//! segment, nor for a container that uses it otherwise.

use rustix::fd::OwnedFd;
use serde_json::json;
use sidewall_flow::{ContainerId, Protocol};
use sidewall_netfilter::{LoopbackError, LoopbackLink};
use sidewall_netns::{Links, sysctl};
use sidewall_policy::World;
use sidewall_sandbox::{LINK_DEVICE, SegmentKind};
use sidewall_tests::lab::attacker::{Arms, Attacker};
use sidewall_tests::lab::{self, By, Outcome};
use sidewall_tests::raw::{self, Sniffer};
use sidewall_tests::scene::{
    APP, MALLORY, PROXY, SHIPPER, TRANSPORTS, assert_silent, heard, id, policy, subject, walls,
};
use sidewall_tests::siege::{drained, hex};
use sidewall_tests::sockets;
use sidewall_tests::split::{LOCALHOST, SplitLab};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
const KINDS: [SegmentKind; 2] = [SegmentKind::Bridge, SegmentKind::Macvlan];
/// The part that the application is in, and the one of those who ask it.
const THERE: usize = 1;
const HERE: usize = 0;
/// Everywhere.
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// What must not arrive.
const SECRET: &[u8] = b"SECRET-SECRET";

fn world() -> World {
    World { policies: walls(), ..World::default() }
}

fn stand(lab: &mut SplitLab, by: By) {
    stand_in(lab, by, &world());
}

fn stand_in(lab: &mut SplitLab, by: By, world: &World) {
    let whole = subject(lab.parts[0].identities(by, lab::CONTAINERS));
    lab.enforce(by, &whole, world);
}

/// The application in one part, everybody else in the other.
fn split(kind: SegmentKind, by: By) -> SplitLab {
    let mut lab = SplitLab::new(PROGRAM, kind, &[APP]);
    stand(&mut lab, by);
    lab
}

/// A datagram socket of a container.
fn ear(lab: &SplitLab, container: u8, at: IpAddr, port: u16) -> OwnedFd {
    sockets::listen(lab.app(container), Protocol::Udp, SocketAddr::new(at, port)).unwrap()
}

fn attacker(lab: &SplitLab, container: u8, arms: Arms) -> Attacker {
    lab.parts[usize::from(lab.elsewhere.contains(&id(container)))].attacker(id(container), arms)
}

fn hardware(lab: &SplitLab, part: usize) -> [u8; 6] {
    Links::of(&lab.parts[part].pod).unwrap().hardware_address(LINK_DEVICE).unwrap()
}

#[test]
fn a_neighbour_on_the_segment_reaches_nothing() {
    for kind in KINDS {
        let mut lab = SplitLab::new(PROGRAM, kind, &[APP]);
        let mut neighbour = lab.neighbour();
        let (to, own) = (hardware(&lab, THERE), neighbour.hardware);
        let from = |lab: &SplitLab, address: Ipv4Addr| lab.fresh(address.into());
        // Without rules the application hears the neighbour.
        let open = ear(&lab, APP, ANY, 8080);
        let packet =
            raw::udp(from(&lab, neighbour.address), SocketAddr::new(lab.addresses[THERE].into(), 8080), b"hello");
        neighbour.put(to, own, &packet);
        assert_eq!(heard(&open).unwrap().as_deref(), Some(&b"hello"[..]), "{kind:?}: without rules");
        drop(open);
        for by in By::ALL {
            stand(&mut lab, by);
            let listeners: Vec<OwnedFd> = [8080, 8081].into_iter().map(|port| ear(&lab, APP, ANY, port)).collect();
            let tcp = sockets::listen(lab.app(APP), Protocol::Tcp, SocketAddr::new(ANY, 8080)).unwrap();
            for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 9, 9, 9), lab.addresses[THERE]] {
                for port in [8080, 8081, 53] {
                    let place = SocketAddr::new(address.into(), port);
                    let source = from(&lab, neighbour.address);
                    let datagram = raw::udp(source, place, SECRET);
                    let what = format!("{kind:?} {by:?}: a datagram to {place}");
                    lab.denied(&what, |_| neighbour.put(to, own, &datagram));
                    let syn = raw::tcp(source, place, raw::flags::SYN, (7, 0), b"");
                    let what = format!("{kind:?} {by:?}: a SYN to {place}");
                    lab.denied(&what, |_| neighbour.put(to, own, &syn));
                }
            }
            // Out of our own addresses, and to nobody in particular.
            for (source, target) in [
                (Ipv4Addr::LOCALHOST, lab.addresses[THERE]),
                (lab.addresses[THERE], lab.addresses[THERE]),
                (neighbour.address, Ipv4Addr::BROADCAST),
                (neighbour.address, Ipv4Addr::new(10, 213, 0, 255)),
                (neighbour.address, Ipv4Addr::new(224, 0, 0, 1)),
            ] {
                let packet = raw::udp(from(&lab, source), SocketAddr::new(target.into(), 8080), SECRET);
                let frame = if target.is_broadcast() || target.octets()[3] == 255 { [0xff; 6] } else { to };
                lab.denied(&format!("{kind:?} {by:?}: {source} to {target}"), |_| neighbour.put(frame, own, &packet));
            }
            // An echo, and a protocol without ports.
            for protocol in [1, 47] {
                let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
                let packet = raw::packet(neighbour.address.into(), lab.addresses[THERE].into(), protocol, &echo, &[]);
                lab.denied(&format!("{kind:?} {by:?}: protocol {protocol}"), |_| neighbour.put(to, own, &packet));
            }
            for socket in &listeners {
                assert_silent(socket, &format!("{kind:?} {by:?}"));
            }
            assert!(lab.app(APP).accept(&tcp).is_err(), "{kind:?} {by:?}: a connection came");
        }
    }
}

/// The link's devices have addresses of IPv6 too, by themselves: nothing is carried there.
#[test]
fn a_neighbour_reaches_nothing_over_ipv6() {
    for kind in KINDS {
        let mut lab = SplitLab::new(PROGRAM, kind, &[APP]);
        let mut neighbour = lab.neighbour();
        let local = |hardware: [u8; 6]| {
            let [a, b, c, d, e, f] = hardware;
            let octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
            IpAddr::V6(octets.into())
        };
        let (to, own) = (hardware(&lab, THERE), neighbour.hardware);
        // Until the kernel has seen that nobody else has it, the address receives nothing.
        let until = Instant::now() + Duration::from_secs(10);
        let mut links = Links::of(&lab.parts[THERE].pod).unwrap();
        let ready = |links: &mut Links| {
            let all = links.addresses_in_full().unwrap();
            all.iter().any(|address| address.net.addr() == local(to) && !address.tentative)
        };
        while !ready(&mut links) {
            assert!(Instant::now() < until, "{kind:?}: the link's device has no address of IPv6");
            std::thread::sleep(Duration::from_millis(20));
        }
        let any: IpAddr = "::".parse().unwrap();
        for by in By::ALL {
            stand(&mut lab, by);
            let socket = ear(&lab, APP, any, 8080);
            for target in [local(to), "ff02::1".parse().unwrap()] {
                let packet = raw::udp(lab.fresh(local(own)), SocketAddr::new(target, 8080), SECRET);
                let frame = if target.is_multicast() { [0x33, 0x33, 0, 0, 0, 1] } else { to };
                lab.denied(&format!("{kind:?} {by:?}: {target}"), |_| neighbour.put(frame, own, &packet));
            }
            assert_silent(&socket, &format!("{kind:?} {by:?}"));
        }
    }
}

/// Parts know each other's hardware addresses for good: no ARP answer changes where they send.
#[test]
fn a_neighbour_cannot_take_a_parts_place() {
    for kind in KINDS {
        let mut lab = split(kind, By::Cgroup);
        let mut neighbour = lab.neighbour();
        let parts = [hardware(&lab, HERE), hardware(&lab, THERE)];
        let own = neighbour.hardware;
        for (victim, claimed) in [(HERE, THERE), (THERE, HERE)] {
            for operation in [1u8, 2] {
                let mut frame = [&parts[victim][..], &own, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]].concat();
                frame.extend(own);
                frame.extend(lab.addresses[claimed].octets());
                frame.extend(parts[victim]);
                frame.extend(lab.addresses[victim].octets());
                neighbour.frame(0x0806, &frame);
            }
        }
        for protocol in TRANSPORTS {
            drop(
                lab.flow(PROXY, APP, protocol, 8080)
                    .unwrap_or_else(|e| panic!("{kind:?} {protocol}: {e}; {}", lab.moved())),
            );
        }
        // In a part's name it begins a connection; the answer goes to the part, which knows nothing of it.
        let tcp = sockets::listen(lab.app(APP), Protocol::Tcp, SocketAddr::new(LOCALHOST, 8080)).unwrap();
        let (from, to) = (lab.fresh(lab.addresses[HERE].into()), SocketAddr::new(lab.addresses[THERE].into(), 8080));
        let syn = raw::tcp(from, to, raw::flags::SYN, (7, 0), b"");
        lab.denied("the answer to a connection in a part's name", |_| neighbour.put(parts[THERE], own, &syn));
        let guess = raw::tcp(from, to, raw::flags::ACK, (8, 1), SECRET);
        neighbour.put(parts[THERE], own, &guess);
        assert!(lab.app(APP).accept(&tcp).is_err(), "{kind:?}: a connection came");
        // What may be said to the application, the neighbour can't say to another part of its own.
        let shipper = ear(&lab, SHIPPER, LOCALHOST, 9000);
        let packet =
            raw::udp(lab.fresh(lab.addresses[THERE].into()), SocketAddr::new(lab.addresses[HERE].into(), 9000), SECRET);
        lab.denied("the shipper's port in the application's name", |_| neighbour.put(parts[HERE], own, &packet));
        assert_silent(&shipper, "the shipper");
    }
}

/// A limit: one datagram under another part's address can be made by who has CAP_NET_RAW on the segment. Nobody else is on that
/// of `sidewall run`; on a shared one, a NetworkAttachmentDefinition of its own or an authenticated protocol closes it.
#[test]
fn a_neighbour_forges_a_parts_datagram_a_documented_limit() {
    let mut lab = split(SegmentKind::Bridge, By::Cgroup);
    let mut neighbour = lab.neighbour();
    let app = ear(&lab, APP, LOCALHOST, 8080);
    let (from, to) = (lab.fresh(lab.addresses[HERE].into()), SocketAddr::new(lab.addresses[THERE].into(), 8080));
    let packet = raw::udp(from, to, b"forged");
    let there = hardware(&lab, THERE);
    neighbour.put(there, neighbour.hardware, &packet);
    assert_eq!(heard(&app).unwrap().as_deref(), Some(&b"forged"[..]));
}

#[test]
fn a_container_reaches_no_part_by_its_address() {
    for kind in KINDS {
        let mut lab = SplitLab::new(PROGRAM, kind, &[APP]);
        for by in By::ALL {
            stand(&mut lab, by);
            for at in [LOCALHOST, ANY] {
                let app = ear(&lab, APP, at, 8080);
                // Who may reach the application by its name, and who may not.
                for container in [PROXY, MALLORY] {
                    for address in lab.addresses {
                        let place = SocketAddr::new(address.into(), 8080);
                        let who = lab::container(container);
                        for protocol in TRANSPORTS {
                            let listener =
                                sockets::listen(lab.app(APP), Protocol::Tcp, SocketAddr::new(ANY, 8080)).unwrap();
                            let source = lab.fresh(ANY);
                            let maker = lab.parts[HERE].party(who);
                            let opened = sockets::open(maker, protocol, source, place);
                            let refused = opened.and_then(|client| {
                                sockets::readable(&client, Duration::from_secs(5))?;
                                sockets::decided(&client, Duration::from_secs(5))?;
                                sockets::pending_error(&client)
                            });
                            assert!(
                                !matches!(refused, Ok(None)),
                                "{kind:?} {by:?}: {container} to {place} over {protocol}: {}",
                                lab.moved()
                            );
                            drop(listener);
                        }
                    }
                    // By whole packets, from the link's address and from loopback.
                    let mut raw_attacker = attacker(&lab, container, Arms::Raw);
                    for source in [lab.addresses[HERE], Ipv4Addr::LOCALHOST] {
                        let place = SocketAddr::new(lab.addresses[THERE].into(), 8080);
                        let packet = raw::udp(lab.fresh(source.into()), place, SECRET);
                        let code = format!("whole('{}', '{}')", lab.addresses[THERE], hex(&[packet]));
                        let what = format!("{kind:?} {by:?}: a raw packet of {container} from {source}");
                        lab.denied(&what, |_| drop(raw_attacker.run(&code)));
                    }
                    let code = format!(
                        "my $s = made(AF_INET, SOCK_RAW, 1); throw($s, pack('H*', '0800f7ff00000000'), '{}', 0)",
                        lab.addresses[THERE]
                    );
                    lab.denied("an echo", |_| drop(raw_attacker.run(&code)));
                }
                assert_silent(&app, &format!("{kind:?} {by:?}"));
            }
        }
    }
}

#[test]
fn who_may_not_is_refused_at_once() {
    let mut lab = SplitLab::new(PROGRAM, SegmentKind::Bridge, &[APP]);
    for by in By::ALL {
        stand(&mut lab, by);
        for (container, port) in [(MALLORY, 8080), (PROXY, 8081), (SHIPPER, 8080), (PROXY, 9999), (MALLORY, 8443)] {
            let listener = (port == 8080 || port == 8081)
                .then(|| sockets::listen(lab.app(APP), Protocol::Tcp, SocketAddr::new(LOCALHOST, port)).unwrap());
            let begun = Instant::now();
            let source = lab.fresh(LOCALHOST);
            let client =
                sockets::open(lab.app(container), Protocol::Tcp, source, SocketAddr::new(LOCALHOST, port)).unwrap();
            assert!(sockets::decided(&client, Duration::from_secs(3)).unwrap(), "{by:?}: {container} to {port} hangs");
            let error = sockets::pending_error(&client).unwrap();
            assert_eq!(error, Some(rustix::io::Errno::CONNREFUSED), "{by:?}: {container} to {port}");
            assert!(begun.elapsed() < Duration::from_secs(1), "{by:?}: {container} to {port} waits");
            drop(listener);
        }
    }
}

/// A process may choose its packets' device, and needs no capability for it.
#[test]
fn a_container_cannot_choose_the_links_device() {
    for kind in KINDS {
        let mut lab = SplitLab::new(PROGRAM, kind, &[APP]);
        for by in By::ALL {
            stand(&mut lab, by);
            let app: Vec<OwnedFd> = [8080, 8081, 53].map(|port| ear(&lab, APP, ANY, port)).into();
            for container in [PROXY, MALLORY] {
                for arms in [Arms::Plain, Arms::Raw] {
                    let mut process = attacker(&lab, container, arms);
                    let targets = [
                        ("127.0.0.1".to_owned(), 53),
                        ("127.0.0.1".to_owned(), 8081),
                        (lab.addresses[THERE].to_string(), 8080),
                        ("224.0.0.1".to_owned(), 8080),
                    ];
                    for (target, port) in targets {
                        for source in ["0.0.0.0", "127.0.0.1"] {
                            let number = lab.port();
                            let code = format!(
                                "my $s = bound(SOCK_DGRAM, '{source}', {number}, options => [[1, 25, '{LINK_DEVICE}']]);
                                 throw($s, 'SECRET-SECRET', '{target}', {port})"
                            );
                            // Where the system itself refuses, there is nothing to deny.
                            let before = lab.denials();
                            let sent = process.run(&code);
                            let done = sent.is_err() || lab.denials() > before;
                            assert!(done, "{kind:?} {by:?}: {container} from {source} to {target}:{port}: {sent:?}");
                        }
                    }
                }
            }
            for socket in &app {
                assert_silent(socket, &format!("{kind:?} {by:?}"));
            }
        }
    }
}

/// What the link carries leaves by nothing else, whatever device the socket chooses afterwards.
#[test]
fn a_flow_of_the_link_leaves_by_no_other_device() {
    let mut lab = SplitLab::new(PROGRAM, SegmentKind::Bridge, &[APP]);
    for by in By::ALL {
        stand(&mut lab, by);
        let app = ear(&lab, APP, LOCALHOST, 8080);
        let mut spy = Sniffer::new(&lab.parts[HERE].outside).unwrap();
        let mut proxy = attacker(&lab, PROXY, Arms::Plain);
        let number = lab.port();
        proxy.must(&format!(
            "$keep{{s}} = bound(SOCK_DGRAM, '0.0.0.0', {number}); throw($keep{{s}}, 'hello', '127.0.0.1', 8080)"
        ));
        assert_eq!(heard(&app).unwrap().as_deref(), Some(&b"hello"[..]), "{by:?}: {}", lab.moved());
        for device in [lab::DEVICE, "lo"] {
            let before = lab.denials();
            let sent = proxy.run(&format!(
                "option($keep{{s}}, 1, 25, '{device}'); throw($keep{{s}}, 'SECRET-SECRET', '127.0.0.1', 8080)"
            ));
            // On loopback it is led to the part again, or nowhere.
            let left = lab.denials() > before || sent.is_err() || device == "lo";
            assert!(left, "{by:?}: by {device}: {sent:?}; {}", lab.moved());
            assert!(!spy.saw(SECRET).unwrap(), "{by:?}: it left by {device}");
        }
        drop(proxy);
        drop(drained(&app));
    }
}

#[test]
fn a_flow_of_the_link_is_its_senders_alone() {
    for kind in KINDS {
        let mut lab = SplitLab::new(PROGRAM, kind, &[APP]);
        for by in By::ALL {
            stand(&mut lab, by);
            for protocol in TRANSPORTS {
                let flow = lab
                    .flow(PROXY, APP, protocol, 8080)
                    .unwrap_or_else(|e| panic!("{kind:?} {by:?} {protocol}: {e}; {}", lab.moved()));
                let packet = match protocol {
                    Protocol::Udp => raw::udp(flow.from, flow.to, SECRET),
                    _ => raw::tcp(flow.from, flow.to, raw::flags::ACK, (1, 1), SECRET),
                };
                let mut mallory = attacker(&lab, MALLORY, Arms::Raw);
                let code = format!("whole('127.0.0.1', '{}')", hex(&[packet]));
                lab.denied(&format!("{kind:?} {by:?}: a forged {protocol} packet"), |_| drop(mallory.run(&code)));
                assert_silent(&flow.server, &format!("{kind:?} {by:?} {protocol}"));
                flow.works().unwrap_or_else(|e| panic!("{kind:?} {by:?}: {protocol} goes on: {e}; {}", lab.moved()));
                // Its port, when it is free again, is no way in.
                let (from, to) = (flow.from, flow.to);
                drop(flow);
                if protocol == Protocol::Udp {
                    let app = ear(&lab, APP, LOCALHOST, 8080);
                    let mut mallory = attacker(&lab, MALLORY, Arms::Plain);
                    let code = format!(
                        "throw(bound(SOCK_DGRAM, '{}', {}), 'SECRET-SECRET', '{}', {})",
                        from.ip(),
                        from.port(),
                        to.ip(),
                        to.port()
                    );
                    lab.denied("a port that was another's", |_| drop(mallory.run(&code)));
                    assert_silent(&app, &format!("{kind:?} {by:?}"));
                }
            }
        }
    }
}

/// Whoever listens in the application's place, in its own part, is not the application.
#[test]
fn another_container_does_not_answer_for_the_one_that_was_meant() {
    let mut lab = SplitLab::new(PROGRAM, SegmentKind::Bridge, &[APP, MALLORY]);
    for by in By::ALL {
        stand(&mut lab, by);
        for at in [LOCALHOST, ANY] {
            let place = SocketAddr::new(at, 8080);
            let listener = sockets::listen(lab.app(MALLORY), Protocol::Tcp, place).unwrap();
            let source = lab.fresh(LOCALHOST);
            let client = lab.denied(&format!("{by:?}: mallory listens"), |lab| {
                sockets::open(lab.app(PROXY), Protocol::Tcp, source, SocketAddr::new(LOCALHOST, 8080)).unwrap()
            });
            assert!(lab.app(MALLORY).accept(&listener).is_err(), "{by:?}: mallory got the connection");
            assert_ne!(
                sockets::pending_error(&client).unwrap(),
                None::<rustix::io::Errno>.or(Some(rustix::io::Errno::PERM))
            );
            drop(listener);
            // By user, a datagram reaches whoever has the port, and the answer shows whose it is: as on loopback.
            if by == By::Cgroup {
                let ear = sockets::listen(lab.app(MALLORY), Protocol::Udp, place).unwrap();
                let source = lab.fresh(LOCALHOST);
                lab.denied("mallory's datagram socket", |lab| {
                    drop(sockets::open(lab.app(PROXY), Protocol::Udp, source, SocketAddr::new(LOCALHOST, 8080)));
                });
                assert_silent(&ear, "mallory");
            }
        }
        // Nor does it answer in a flow that the application has.
        let flow = lab.flow(PROXY, APP, Protocol::Udp, 8080).unwrap_or_else(|e| panic!("{by:?}: {e}; {}", lab.moved()));
        let peer = SocketAddr::try_from(rustix::net::getpeername(&flow.server).unwrap().unwrap()).unwrap();
        let packet = raw::udp(SocketAddr::new(LOCALHOST, 8080), peer, SECRET);
        let mut mallory = attacker(&lab, MALLORY, Arms::Raw);
        lab.denied("mallory's answer", |_| drop(mallory.run(&format!("whole('127.0.0.1', '{}')", hex(&[packet])))));
        assert_silent(&flow.client, &format!("{by:?}"));
        flow.works().unwrap();
    }
}

/// A live flow ends at its next packet, whichever part hears of the change, and whichever end speaks first.
#[test]
fn what_is_denied_later_ends_at_its_next_packet() {
    let mut lab = SplitLab::new(PROGRAM, SegmentKind::Bridge, &[APP]);
    for by in By::ALL {
        let whole = subject(lab.parts[0].identities(by, lab::CONTAINERS));
        let mut closed = walls();
        closed[0] = policy("app", json!({"containers": ["app"], "policyTypes": ["Ingress", "Egress"]}));
        let closed = World { policies: closed, ..World::default() };
        for part in [HERE, THERE] {
            for protocol in TRANSPORTS {
                for client_speaks in [true, false] {
                    stand(&mut lab, by);
                    let flow = lab
                        .flow(PROXY, APP, protocol, 8080)
                        .unwrap_or_else(|e| panic!("{by:?} {protocol}: {e}; {}", lab.moved()));
                    let resolved = sidewall_policy::resolve(&closed, &lab.subject(part, by, &whole));
                    lab.enforce_part(part, &resolved);
                    let (speaker, listener) =
                        if client_speaks { (&flow.client, &flow.server) } else { (&flow.server, &flow.client) };
                    let what = format!("{by:?}: part {part}, {protocol}, the client speaks: {client_speaks}");
                    lab.denied(&what, |_| drop(sockets::send(speaker, SECRET)));
                    assert_silent(listener, &what);
                }
            }
        }
    }
}

#[test]
fn loopback_is_opened_behind_its_guard_alone() {
    let mut lab = SplitLab::new(PROGRAM, SegmentKind::Bridge, &[APP]);
    let key = format!("net.ipv4.conf.{LINK_DEVICE}.route_localnet");
    let pod = lab.parts[THERE].pod.clone();
    assert_eq!(sysctl::get(&pod, &key).unwrap(), "0");
    let whole = subject(lab.parts[0].identities(By::Cgroup, lab::CONTAINERS));
    let resolved = sidewall_policy::resolve(&world(), &lab.subject(THERE, By::Cgroup, &whole));
    let rules = sidewall_policy::compile(&resolved, sidewall_policy::Generation::FIRST).ruleset;
    // Nothing stands.
    let refused = LoopbackLink::open(&mut lab.parts[THERE].kernel, &pod, LINK_DEVICE, &rules);
    assert!(matches!(refused, Err(LoopbackError::NotStanding { .. })), "{refused:?}");
    // What stands lets everything in.
    let mut open = rules.clone();
    for chain in &mut open.tables[0].chains {
        if chain.name == "prerouting" {
            chain.rules.clear();
        }
    }
    lab.parts[THERE].load(&open);
    for claimed in [&open, &rules] {
        let refused = LoopbackLink::open(&mut lab.parts[THERE].kernel, &pod, LINK_DEVICE, claimed);
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(sysctl::get(&pod, &key).unwrap(), "0");
    }
    lab.parts[THERE].load(&rules);
    let opened = LoopbackLink::open(&mut lab.parts[THERE].kernel, &pod, LINK_DEVICE, &rules).unwrap();
    assert_eq!(sysctl::get(&pod, &key).unwrap(), "1");
    // Somebody closes it, and it is opened again; it is closed before the rules go.
    assert!(!opened.repair(&mut lab.parts[THERE].kernel, &rules).unwrap());
    sysctl::set(&pod, &key, "0").unwrap();
    assert!(opened.repair(&mut lab.parts[THERE].kernel, &rules).unwrap());
    assert_eq!(sysctl::get(&pod, &key).unwrap(), "1");
    opened.close().unwrap();
    assert_eq!(sysctl::get(&pod, &key).unwrap(), "0");
}

/// What no container may is not led to the link at all, and a part that is not ready refuses.
#[test]
fn what_nobody_may_or_nobody_is_ready_for_stays_here() {
    let mut lab = SplitLab::new(PROGRAM, SegmentKind::Bridge, &[APP]);
    for by in By::ALL {
        let whole = subject(lab.parts[0].identities(by, lab::CONTAINERS));
        let open = World {
            policies: vec![policy("x", json!({"containers": ["mallory"], "egress": [], "policyTypes": ["Egress"]}))],
            ..World::default()
        };
        lab.enforce(by, &whole, &open);
        let place = (HERE, lab::container(PROXY));
        let app = (THERE, lab::container(APP));
        let at = SocketAddr::new(LOCALHOST, 8080);
        assert_eq!(lab.attempt(place, app, Protocol::Tcp, at), Ok(Outcome::Passed), "{by:?}: {}", lab.moved());
        let mut subject = lab.subject(HERE, by, &whole);
        subject.link.as_mut().unwrap().parts.values_mut().for_each(|part| part.ready = false);
        lab.enforce_part(HERE, &sidewall_policy::resolve(&open, &subject));
        for protocol in TRANSPORTS {
            // A process here that has the port is not the one that is meant.
            let ear = sockets::listen(lab.app(MALLORY), protocol, at).unwrap();
            assert_eq!(lab.attempt(place, app, protocol, at), Ok(Outcome::Denied), "{by:?} {protocol}");
            assert_silent(&ear, "mallory");
        }
    }
}

/// An expectation of the whole: in every way that a container has, nothing of mallory's arrives at the application.
#[test]
fn who_may_nothing_reaches_no_part() {
    let mut lab = SplitLab::new(PROGRAM, SegmentKind::Macvlan, &[APP]);
    let numbers: Vec<ContainerId> = lab.elsewhere.iter().copied().collect();
    assert_eq!(numbers, [id(APP)]);
    for by in By::ALL {
        stand(&mut lab, by);
        let app: Vec<OwnedFd> = [8080, 8081].map(|port| ear(&lab, APP, ANY, port)).into();
        for arms in [Arms::Plain, Arms::Raw, Arms::Root] {
            let mut mallory = attacker(&lab, MALLORY, arms);
            for target in ["127.0.0.1", "127.1.2.3", "0.0.0.0", "127.255.255.255"] {
                for port in [8080, 8081] {
                    for options in ["", "[1, 6, pack('i', 1)]", "[0, 1, pack('C', 255)]", "[1, 36, pack('i', 7)]"] {
                        let code = format!(
                            "throw(bound(SOCK_DGRAM, '0.0.0.0', {}, options => [{options}]), 'SECRET-SECRET', '{target}', {port})",
                            lab.port()
                        );
                        let before = lab.denials();
                        let sent = mallory.run(&code);
                        let done = sent.is_err() || lab.denials() > before;
                        assert!(done, "{by:?} {arms:?}: {target}:{port} {options}: {sent:?}; {}", lab.moved());
                    }
                }
            }
        }
        for socket in &app {
            assert_silent(socket, &format!("{by:?}"));
        }
    }
}
