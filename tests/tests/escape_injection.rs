//! Packets that no socket of their alleged sender has sent: from packet sockets and raw sockets, by containers that
//! hold NET_RAW.

use sidewall_flow::Protocol;
use sidewall_netns::Capability;
use sidewall_tests::lab::{self, By};
use sidewall_tests::party::Maker;
use sidewall_tests::raw::{self, Device, Injector, Sniffer, flags};
use sidewall_tests::scene::{
    APP, CLIENTS, COLLECTORS, End, Flow, LOOPBACK, MALLORY, POD, PROXY, Scene, TRANSPORTS, assert_silent, bound,
    policy, send_to,
};
use sidewall_tests::sockets;
use std::net::{IpAddr, SocketAddr};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

/// What the attacker would like to see arrive.
const FORGED: &[u8] = b"FORGED-FORGED";

fn attacker(scene: &mut Scene) -> Maker {
    scene.armed(MALLORY, &[Capability::NET_RAW])
}

/// A packet socket of the attacker's, made before any rule stands.
fn injector(scene: &Scene, attacker: &Maker) -> Injector {
    let any = |address: IpAddr| if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let traffic = || {
        lab::ip(&scene.lab.pod, "neigh flush dev eth0").expect("the neighbours can be forgotten");
        for address in LOOPBACK.into_iter().chain(COLLECTORS) {
            let socket = bound(scene.node(), Protocol::Udp, any(address).parse().unwrap()).unwrap();
            let _ = send_to(&socket, b"hello", SocketAddr::new(address, 9));
        }
    };
    Injector::new(attacker, traffic).expect("frames come by")
}

/// The live flows of others that the attacker tries to get into: on loopback, from the network, and to it.
fn live_flows(scene: &mut Scene) -> Vec<(&'static str, Flow)> {
    let mut flows = Vec::new();
    for protocol in TRANSPORTS {
        for address in LOOPBACK.into_iter().chain(POD) {
            let to = SocketAddr::new(address, 8080);
            flows.push(("loopback", scene.flow(End::Container(PROXY), End::Container(APP), protocol, to)));
        }
        for (client, pod) in CLIENTS.into_iter().zip(POD) {
            let (from, to) = (scene.fresh(client), SocketAddr::new(pod, 8443));
            flows.push(("from", scene.flow_from(End::Outside, End::Container(PROXY), protocol, from, to)));
        }
        for collector in COLLECTORS {
            let to = SocketAddr::new(collector, 7000);
            flows.push(("to", scene.flow(End::Container(APP), End::Outside, protocol, to)));
        }
    }
    flows
}

/// Packets that would be part of a flow, in both directions: data, and for TCP also a reset.
fn parts_of(flow: &Flow, sniffer: &mut Sniffer) -> Vec<(&'static str, Vec<u8>)> {
    let (from, to) = (flow.from, flow.to);
    if flow.protocol == Protocol::Udp {
        return vec![
            ("data as the client", raw::udp(from, to, FORGED)),
            ("data as the server", raw::udp(to, from, FORGED)),
        ];
    }
    let mut parts = Vec::new();
    for (from, to, data, reset) in [
        (from, to, "data as the client", "a reset as the client"),
        (to, from, "data as the server", "a reset as the server"),
    ] {
        let numbers = sniffer.numbers(from, to).expect("the flow was seen");
        parts.push((data, raw::tcp(from, to, flags::PSH | flags::ACK, numbers, FORGED)));
        parts.push((reset, raw::tcp(from, to, flags::RST | flags::ACK, numbers, b"")));
    }
    parts
}

/// Fails the test where a flow's ends have heard anything, or don't hear each other any more.
fn assert_untouched(flow: &Flow, what: &str) {
    for (end, name) in [(&flow.client, "client"), (&flow.server, "server")] {
        assert_silent(end, &format!("{what}: {name}"));
        assert_eq!(sockets::pending_error(end).unwrap(), None, "{what}: {name}");
    }
    flow.works().unwrap_or_else(|error| panic!("{what}: the flow does not work any more: {error}"));
}

#[test]
fn frames_put_on_lo_reach_nobody() {
    let mut scene = Scene::bare(PROGRAM);
    let attacker = attacker(&mut scene);
    let injector = injector(&scene, &attacker);
    let mut sniffer = Sniffer::new(&attacker).unwrap();
    for by in By::ALL {
        scene.stand(by);
        for address in LOOPBACK.into_iter().chain(POD) {
            // A new flow, as if the proxy had sent it; and as if somebody on the network had.
            let other = CLIENTS[usize::from(address.is_ipv6())];
            for source in [address, other] {
                let (from, to) = (scene.fresh(source), SocketAddr::new(address, 8080));
                let victim = sockets::listen(scene.app(APP), Protocol::Udp, to).unwrap();
                scene.found_forged("a new flow", |_| {
                    injector.put(Device::Loopback, &raw::udp(from, to, FORGED)).unwrap();
                });
                assert_silent(&victim, &format!("{by:?}: a frame on lo from {from} to {to}"));
                let victim = sockets::listen(scene.app(APP), Protocol::Tcp, to).unwrap();
                scene.found_forged("a new connection", |_| {
                    injector.put(Device::Loopback, &raw::tcp(from, to, flags::SYN, (7, 0), b"")).unwrap();
                });
                assert!(scene.app(APP).accept(&victim).is_err());
            }
        }
        for (kind, flow) in live_flows(&mut scene) {
            for (part, packet) in parts_of(&flow, &mut sniffer) {
                let what = format!("{by:?}: {part} on lo, {} {kind} {} to {}", flow.protocol, flow.from, flow.to);
                scene.found_forged(&what, |_| injector.put(Device::Loopback, &packet).unwrap());
                assert_untouched(&flow, &what);
            }
        }
    }
}

#[test]
fn frames_put_on_the_link_do_not_leave() {
    let mut scene = Scene::bare(PROGRAM);
    let attacker = attacker(&mut scene);
    let injector = injector(&scene, &attacker);
    let outside = Sniffer::new(scene.outside()).unwrap();
    let mut outside = outside;
    // The frames are good ones: without rules they pass.
    let packet = |marker: &[u8], to: IpAddr, source: IpAddr| {
        raw::udp(SocketAddr::new(source, 5000), SocketAddr::new(to, 7001), marker)
    };
    injector.put(Device::Link, &packet(b"BEFORE-4", COLLECTORS[0], POD[0])).unwrap();
    injector.put(Device::Link, &packet(b"BEFORE-6", COLLECTORS[1], POD[1])).unwrap();
    injector.put_as_arp(Device::Link, &packet(b"BEFORE-A", COLLECTORS[0], POD[0])).unwrap();
    for marker in [b"BEFORE-4", b"BEFORE-6", b"BEFORE-A"] {
        outside.waits_for(marker).expect("without rules everything leaves");
    }
    // 10.77.0.66 is at the attacker, says the attacker; the bytes as they stand in the message.
    const CLAIM: &[u8] = &[10, 77, 0, 66];
    for (round, by) in By::ALL.into_iter().enumerate() {
        scene.stand(by);
        for bypass in [false, true] {
            if bypass {
                injector.bypass_queues().unwrap();
            }
            for (to, source) in COLLECTORS.into_iter().zip(POD).chain(COLLECTORS.into_iter().zip(CLIENTS)) {
                // The kernel may tell the attacker that the frame was dropped.
                let _ = injector.put(Device::Link, &packet(FORGED, to, source));
                let _ = injector.put_as_arp(Device::Link, &packet(FORGED, to, source));
            }
            let _ = injector.put_arp([10, 77, 0, 66].into(), [10, 77, 0, 1].into());
        }
        // What comes behind them and is allowed arrives; they don't.
        let marker = format!("BEHIND-{round}");
        for collector in COLLECTORS {
            let to = SocketAddr::new(collector, 7000);
            let source = if collector.is_ipv4() { "0.0.0.0" } else { "::" };
            let socket = bound(scene.app(APP), Protocol::Udp, scene.fresh(source.parse().unwrap())).unwrap();
            send_to(&socket, format!("{marker}-{}", collector.is_ipv4()).as_bytes(), to).unwrap();
        }
        for v4 in [true, false] {
            outside.waits_for(format!("{marker}-{v4}").as_bytes()).expect("what is allowed passes");
        }
        assert!(!outside.saw(FORGED).unwrap(), "{by:?}: a frame has left");
        assert!(!outside.saw(CLAIM).unwrap(), "{by:?}: a forged ARP answer has left");
    }
}

#[test]
fn raw_sockets_cannot_speak_in_others_flows() {
    let mut scene = Scene::bare(PROGRAM);
    let attacker = attacker(&mut scene);
    let mut sniffer = Sniffer::new(&attacker).unwrap();
    for by in By::ALL {
        scene.stand(by);
        for (kind, flow) in live_flows(&mut scene) {
            for (part, packet) in parts_of(&flow, &mut sniffer) {
                let what = format!("{by:?}: {part}, raw, {} {kind} {} to {}", flow.protocol, flow.from, flow.to);
                scene.denied(&what, |_| raw::send(&attacker, &packet).unwrap_or_default());
                assert_untouched(&flow, &what);
            }
        }
    }
}

#[test]
fn raw_sockets_cannot_break_others_flows_with_icmp_errors() {
    let mut scene = Scene::bare(PROGRAM);
    let attacker = attacker(&mut scene);
    for by in By::ALL {
        scene.stand(by);
        for (kind, flow) in live_flows(&mut scene) {
            let make = |from, to| match flow.protocol {
                Protocol::Udp => raw::udp(from, to, b"there"),
                _ => raw::tcp(from, to, flags::ACK, (1, 1), b""),
            };
            for (from, to) in [(flow.from, flow.to), (flow.to, flow.from)] {
                let what = format!("{by:?}: an error about {} {kind} {from} to {to}", flow.protocol);
                let error = raw::unreachable(to.ip(), from.ip(), &make(from, to));
                scene.found_forged(&what, |_| raw::send(&attacker, &error).unwrap_or_default());
                assert_untouched(&flow, &what);
            }
        }
    }
}

#[test]
fn raw_sockets_cannot_pretend_another_source() {
    let mut scene = Scene::bare(PROGRAM);
    let attacker = attacker(&mut scene);
    // Even a container that may go everywhere and is reached by everybody sends under its own addresses alone.
    for (by, open) in By::ALL.into_iter().flat_map(|by| [(by, false), (by, true)]) {
        scene.by = by;
        if open {
            let spec = serde_json::json!({"containers": ["shipper"], "policyTypes": ["Ingress", "Egress"]});
            scene.enforce(&[policy("other", spec)]);
        } else {
            scene.stand(by);
        }
        for (index, pod) in POD.into_iter().enumerate() {
            let to = SocketAddr::new(COLLECTORS[index], 7000);
            let listener = sockets::listen(scene.outside(), Protocol::Udp, to).unwrap();
            let from = scene.fresh(CLIENTS[index]);
            scene.found_forged("a foreign source", |_| {
                let _ = raw::send(&attacker, &raw::udp(from, to, FORGED));
            });
            assert_silent(&listener, "from a foreign source");
            // From the network, it seems, to another container.
            let to = SocketAddr::new(pod, 8443);
            let listener = sockets::listen(scene.app(PROXY), Protocol::Udp, to).unwrap();
            scene.found_forged("a foreign source to the pod", |_| {
                let _ = raw::send(&attacker, &raw::udp(from, to, FORGED));
            });
            assert_silent(&listener, "from a foreign source");
        }
    }
}

/// Only what the application may receive is said, so nothing but the flow's ends tells a forged answer from a true one.
#[test]
fn an_open_container_cannot_answer_in_the_name_of_the_network() {
    let mut scene = Scene::bare(PROGRAM);
    let attacker = attacker(&mut scene);
    let mut sniffer = Sniffer::new(&attacker).unwrap();
    let world = serde_json::json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]);
    for by in By::ALL {
        scene.by = by;
        scene.enforce(&[policy(
            "arrivals",
            serde_json::json!({
                "containers": ["app", "proxy"], "policyTypes": ["Ingress"],
                "ingress": [
                    {"from": world, "ports": sidewall_tests::scene::ports(&[8443])},
                    {"from": [{"container": "proxy"}], "ports": sidewall_tests::scene::ports(&[8080])},
                ],
            }),
        )]);
        for (kind, flow) in live_flows(&mut scene) {
            for (part, packet) in parts_of(&flow, &mut sniffer) {
                // Mallory may send to the collector, and nobody hides its own address from it.
                if kind == "to" && part.ends_with("the client") {
                    continue;
                }
                let what = format!("{by:?}: {part}, raw, {} {kind} {} to {}", flow.protocol, flow.from, flow.to);
                scene.denied(&what, |_| raw::send(&attacker, &packet).unwrap_or_default());
                assert_untouched(&flow, &what);
            }
        }
    }
}
