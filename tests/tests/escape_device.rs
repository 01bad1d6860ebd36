//! Choosing the device that a packet leaves by, which needs no capability: what was judged for loopback must not go to
//! the network, nor the other way round. And groups, which reach more sockets than one.

use rustix::fd::OwnedFd;
use rustix::net::sockopt;
use serde_json::json;
use sidewall_flow::Protocol;
use sidewall_tests::lab::{self, By};
use sidewall_tests::raw::{self, Sniffer};
use sidewall_tests::scene::{
    APP, CLIENTS, COLLECTORS, End, Flow, LOOPBACK, MALLORY, POD, PROXY, Scene, TRANSPORTS, assert_silent, bound,
    carries, policy, send_to,
};
use sidewall_tests::sockets;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

/// What must not arrive.
const SECRET: &[u8] = b"SECRET-SECRET";

/// `SO_BINDTODEVICE`: unprivileged where the socket has no device yet (Linux 5.7).
fn bind_to_device(socket: &OwnedFd, device: &str) {
    raw::set_option(socket, 1, 25, device.as_bytes()).expect("the option can be set");
}

/// `IP_UNICAST_IF`, `IPV6_UNICAST_IF`: the device of a UDP socket's packets, 0 for any. The number is in network order.
fn unicast_by(socket: &OwnedFd, index: u32, v6: bool) {
    let (level, name) = if v6 { (41, 76) } else { (0, 50) };
    raw::set_option(socket, level, name, &index.to_be_bytes()).expect("the option can be set");
}

/// Waits until the application's packet to the collector has been seen outside: what was sent before has too.
fn fence(scene: &mut Scene, outside: &mut Sniffer) {
    for collector in COLLECTORS {
        let source = if collector.is_ipv4() { "0.0.0.0" } else { "::" };
        let from = scene.fresh(source.parse().unwrap());
        let marker = format!("FENCE-{}-", from.port());
        let socket = bound(scene.app(APP), Protocol::Udp, from).unwrap();
        let _ = send_to(&socket, marker.as_bytes(), SocketAddr::new(collector, 7000));
        outside.waits_for(marker.as_bytes()).expect("what is allowed passes");
    }
}

/// An accomplice outside answers a packet that never went to the network: the flow is then a live one.
#[test]
fn a_packet_sent_to_the_network_by_way_of_lo_opens_no_flow() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        for (collector, pod) in COLLECTORS.into_iter().zip(POD) {
            let to = SocketAddr::new(collector, 7001);
            let accomplice = sockets::listen(scene.outside(), Protocol::Udp, to).unwrap();
            let from = scene.fresh(pod);
            let socket = bound(scene.app(MALLORY), Protocol::Udp, from).unwrap();
            unicast_by(&socket, 1, pod.is_ipv6());
            // IPv6 has no route there; IPv4 assumes one.
            let _ = send_to(&socket, b"by way of lo", to);
            // The accomplice calls.
            scene.denied("an answer to what was never sent", |_| send_to(&accomplice, b"a command", from).unwrap());
            assert_silent(&socket, &format!("{by:?}: the accomplice {to} at mallory's"));
            // And mallory answers.
            unicast_by(&socket, 0, pod.is_ipv6());
            scene.denied("to the accomplice", |_| {
                let _ = send_to(&socket, SECRET, to);
            });
            assert_silent(&accomplice, &format!("{by:?}: mallory at the accomplice {to}"));
        }
    }
}

/// Every container reaches itself; but not by way of the network.
#[test]
fn a_containers_own_loopback_flow_stays_on_loopback() {
    let mut scene = Scene::bare(PROGRAM);
    let mut outside = Sniffer::new(scene.outside()).unwrap();
    for by in By::ALL {
        // Mallory isolated, and (the second round) not: even then nothing under a loopback address leaves the pod, where
        // a node that routes such addresses would take it for its own.
        for open in [false, true] {
            scene.by = by;
            if open {
                let walls: Vec<_> = sidewall_tests::scene::walls();
                scene.enforce(&walls[..3]);
            } else {
                scene.stand(by);
            }
            for protocol in TRANSPORTS {
                for (from, to) in [
                    ("10.77.0.2", "127.0.0.1"),
                    ("127.0.0.1", "10.77.0.2"),
                    ("127.0.0.1", "127.0.0.1"),
                    ("fd77::2", "::1"),
                    ("::1", "fd77::2"),
                    ("::1", "::1"),
                ] {
                    let from = scene.fresh(from.parse().unwrap());
                    let to = SocketAddr::new(to.parse().unwrap(), 9100);
                    let own = End::Container(MALLORY);
                    let flow = scene.flow_from(own, own, protocol, from, to);
                    for end in [&flow.client, &flow.server] {
                        bind_to_device(end, lab::DEVICE);
                        for _ in 0..2 {
                            let _ = sockets::send(end, SECRET);
                        }
                    }
                }
            }
            fence(&mut scene, &mut outside);
            assert!(!outside.saw(SECRET).unwrap(), "{by:?}, open {open}: loopback traffic has left the pod");
        }
    }
}

#[test]
fn an_allowed_flow_of_the_network_leads_to_nobody_on_loopback() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        // The application's flow to the collector, by way of lo: mallory listens at the collector's port.
        let flow = scene.flow(End::Container(APP), End::Outside, Protocol::Udp, SocketAddr::new(COLLECTORS[0], 7000));
        let anywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 7000);
        let spy = sockets::listen(scene.app(MALLORY), Protocol::Udp, anywhere).unwrap();
        bind_to_device(&flow.client, "lo");
        scene.denied("the application to the collector by way of lo", |_| {
            let _ = sockets::send(&flow.client, SECRET);
        });
        assert_silent(&spy, &format!("{by:?}: the application at mallory's"));
        // The proxy's answers to a client: mallory listens at the client's port.
        let from = scene.fresh(CLIENTS[0]);
        let flow =
            scene.flow_from(End::Outside, End::Container(PROXY), Protocol::Udp, from, SocketAddr::new(POD[0], 8443));
        let anywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), from.port());
        let spy = sockets::listen(scene.app(MALLORY), Protocol::Udp, anywhere).unwrap();
        bind_to_device(&flow.server, "lo");
        scene.denied("the proxy to its client by way of lo", |_| {
            let _ = sockets::send(&flow.server, SECRET);
        });
        assert_silent(&spy, &format!("{by:?}: the proxy at mallory's"));
    }
}

/// `IP_ADD_MEMBERSHIP` on a device, `IPV6_ADD_MEMBERSHIP`.
fn join(socket: &OwnedFd, group: IpAddr, index: u32) {
    match group {
        IpAddr::V4(group) => {
            let request = [&group.octets()[..], &[0; 4], &index.to_ne_bytes()].concat();
            raw::set_option(socket, 0, 35, &request).expect("the group can be joined");
        }
        IpAddr::V6(group) => {
            let request = [&group.octets()[..], &index.to_ne_bytes()].concat();
            raw::set_option(socket, 41, 20, &request).expect("the group can be joined");
        }
    }
}

/// `IP_MULTICAST_IF`, `IPV6_MULTICAST_IF`.
fn multicast_by(socket: &OwnedFd, index: u32, v6: bool) {
    if v6 {
        raw::set_option(socket, 41, 17, &index.to_ne_bytes()).expect("the option can be set");
    } else {
        let request = [&[0; 8][..], &index.to_ne_bytes()].concat();
        raw::set_option(socket, 0, 32, &request).expect("the option can be set");
    }
}

const GROUPS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(239, 9, 9, 9)), IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0x9, 0x9))];

/// The index of the pod's device.
fn link(scene: &Scene) -> u32 {
    sidewall_netns::Links::of(&scene.lab.pod).and_then(|mut links| links.index(lab::DEVICE)).expect("eth0 is there")
}

/// A socket that hears a port of every address and of the groups.
fn ear(scene: &Scene, number: u8, v6: bool, port: u16) -> OwnedFd {
    let any: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = sockets::listen(scene.app(number), Protocol::Udp, SocketAddr::new(any, port)).unwrap();
    for index in [1, link(scene)] {
        join(&socket, GROUPS[usize::from(v6)], index);
    }
    socket
}

#[test]
fn groups_carry_nothing_out_of_an_isolated_container() {
    let mut scene = Scene::bare(PROGRAM);
    let mut outside = Sniffer::new(scene.outside()).unwrap();
    let link = link(&scene);
    // First without rules: the ways are ways.
    let mut ways = 0;
    for (round, by) in [None, Some(By::Cgroup), Some(By::Uid), Some(By::Gid)].into_iter().enumerate() {
        if let Some(by) = by {
            scene.by = by;
            // Only what mallory sends is isolated; nobody's ingress is.
            let spec = json!({"containers": ["mallory"], "policyTypes": ["Egress"]});
            scene.enforce(&[policy("mallory", spec)]);
        }
        for v6 in [false, true] {
            let port = scene.port();
            let ears = [ear(&scene, APP, v6, port)];
            // Mallory listens too: one of the sockets that a group's packet reaches is one that it may reach.
            let _own = ear(&scene, MALLORY, v6, port);
            let group = GROUPS[usize::from(v6)];
            let mut targets = vec![group];
            if !v6 {
                targets.extend(
                    ["127.255.255.255", "255.255.255.255", "10.77.0.255"].map(|a| a.parse::<IpAddr>().unwrap()),
                );
            }
            for (target, index) in targets.iter().flat_map(|target| [(*target, 1), (*target, link)]) {
                let any: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
                let socket = bound(scene.app(MALLORY), Protocol::Udp, scene.fresh(any)).unwrap();
                if target == group {
                    multicast_by(&socket, index, v6);
                } else {
                    sockopt::set_socket_broadcast(&socket, true).unwrap();
                    if target == Ipv4Addr::BROADCAST {
                        bind_to_device(&socket, if index == 1 { "lo" } else { lab::DEVICE });
                    }
                }
                let text = format!("GROUP-{round}-{target}-{index};");
                let sent = send_to(&socket, text.as_bytes(), SocketAddr::new(target, port));
                let heard = ears.iter().any(|ear| matches!(sockets::arrived(ear), Ok(Some(_))));
                let left = if round == 0 && index == link && target == group {
                    outside.waits_for(text.as_bytes()).is_ok()
                } else {
                    outside.saw(text.as_bytes()).unwrap()
                };
                if round == 0 {
                    ways += usize::from(heard || left);
                } else {
                    assert!(!heard, "{by:?}: {target} by device {index} was heard in the pod; {sent:?}");
                    assert!(!left, "{by:?}: {target} by device {index} has left; {sent:?}");
                }
            }
        }
        if round == 0 {
            assert!(ways >= 6, "only {ways} ways work without rules: the test tries nothing");
        } else {
            let open = policy("fence", json!({"containers": ["shipper"], "policyTypes": ["Ingress", "Egress"]}));
            scene.enforce(&[open]);
            fence(&mut scene, &mut outside);
            assert!(!outside.saw(format!("GROUP-{round}-").as_bytes()).unwrap(), "{by:?}: a group's packet has left");
        }
    }
}

#[test]
fn groups_carry_nothing_into_an_isolated_container() {
    let mut scene = Scene::bare(PROGRAM);
    let pod0 = sidewall_netns::Links::of(&scene.lab.network).and_then(|mut links| links.index("pod0")).unwrap();
    for by in [None, Some(By::Cgroup), Some(By::Uid), Some(By::Gid)] {
        if let Some(by) = by {
            scene.stand(by);
        }
        for v6 in [false, true] {
            // The proxy's port is open to the network, and the proxy and the application share it: a group's packet
            // would reach both.
            let ears = [ear(&scene, PROXY, v6, 8443), ear(&scene, APP, v6, 8443)];
            let mut targets = vec![GROUPS[usize::from(v6)]];
            if !v6 {
                targets.extend(["255.255.255.255", "10.77.0.255"].map(|a| a.parse::<IpAddr>().unwrap()));
            }
            for target in targets {
                let node = if v6 { lab::NODE6 } else { lab::NODE4 };
                let socket = bound(scene.outside(), Protocol::Udp, scene.fresh(node)).unwrap();
                sockopt::set_socket_broadcast(&socket, true).unwrap();
                if target.is_multicast() {
                    multicast_by(&socket, pod0, v6);
                } else {
                    bind_to_device(&socket, "pod0");
                }
                let send = |_: &mut Scene| send_to(&socket, SECRET, SocketAddr::new(target, 8443)).unwrap_or_default();
                if by.is_none() {
                    send(&mut scene);
                    for ear in &ears {
                        let heard = sidewall_tests::scene::heard(ear).unwrap();
                        // The network's routing takes every broadcast address for its own but the limited one.
                        assert!(heard.is_some() || target == ("10.77.0.255".parse::<IpAddr>().unwrap()), "{target}");
                    }
                } else if target != ("10.77.0.255".parse::<IpAddr>().unwrap()) {
                    scene.found_improper(&format!("{target} from the network"), send);
                    for ear in &ears {
                        assert_silent(ear, &format!("{by:?}: {target}"));
                    }
                }
            }
        }
    }
}

/// A group's packet in a frame that is addressed to the pod alone.
#[test]
fn a_groups_packet_in_a_frame_of_its_own_carries_nothing_either() {
    let mut scene = Scene::bare(PROGRAM);
    let traffic = || {
        lab::ip(&scene.lab.network, "neigh flush dev pod0").expect("the neighbours can be forgotten");
        for address in LOOPBACK.into_iter().chain(POD) {
            let any: IpAddr =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = bound(scene.outside(), Protocol::Udp, SocketAddr::new(any, 0)).unwrap();
            let _ = send_to(&socket, b"hello", SocketAddr::new(address, 9));
        }
    };
    let injector = raw::Injector::new(scene.outside(), traffic).unwrap();
    for by in [None, Some(By::Cgroup), Some(By::Uid), Some(By::Gid)] {
        if let Some(by) = by {
            scene.stand(by);
        }
        let ears = [ear(&scene, PROXY, false, 8443), ear(&scene, APP, false, 8443)];
        for target in [GROUPS[0], "255.255.255.255".parse().unwrap(), "10.77.0.255".parse().unwrap()] {
            let from = scene.fresh(lab::NODE4);
            let packet = raw::udp(from, SocketAddr::new(target, 8443), SECRET);
            if by.is_none() {
                injector.put(raw::Device::Link, &packet).unwrap();
                for ear in &ears {
                    assert!(sidewall_tests::scene::heard(ear).unwrap().is_some(), "{target}");
                }
            } else {
                scene.denied(&format!("{target} from the network"), |_| {
                    injector.put(raw::Device::Link, &packet).unwrap();
                });
                for ear in &ears {
                    assert_silent(ear, &format!("{by:?}: {target}"));
                }
            }
        }
    }
}

/// The way there and back over one device works as before.
#[test]
fn sockets_bound_to_their_own_device_work() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        for protocol in TRANSPORTS {
            for (client, server, to, device) in [
                (End::Container(PROXY), End::Container(APP), SocketAddr::new(LOOPBACK[0], 8080), "lo"),
                (End::Container(PROXY), End::Container(APP), SocketAddr::new(LOOPBACK[1], 8080), "lo"),
                (End::Container(APP), End::Outside, SocketAddr::new(COLLECTORS[0], 7000), lab::DEVICE),
                (End::Container(APP), End::Outside, SocketAddr::new(COLLECTORS[1], 7000), lab::DEVICE),
            ] {
                let flow: Flow = scene.flow(client, server, protocol, to);
                bind_to_device(&flow.client, device);
                carries(&flow.client, &flow.server, b"on").unwrap();
                flow.works().unwrap();
            }
        }
    }
}
