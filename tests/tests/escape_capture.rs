//! Traffic that aims at the application and that the front proxy captures: it reaches the proxy and nobody else, by nobody's
//! doing, and the ports that the proxy has for it are no way in.

use rustix::fd::OwnedFd;
use rustix::net::sockopt;
use serde_json::json;
use sidewall_api::SidecarProxy;
use sidewall_flow::Protocol;
use sidewall_netfilter::{Features, LoadOptions, Missing, Standing, degrade};
use sidewall_policy::world::World;
use sidewall_tests::lab::attacker::Arms;
use sidewall_tests::lab::{self, By};
use sidewall_tests::party::Maker;
use sidewall_tests::scene::{
    APP, CLIENTS, End, Flow, LOOPBACK, MALLORY, POD, PROXY, Scene, bound, connect, id, policy, send_to,
};
use sidewall_tests::siege::networks::{ETH0, NET1, NET2, Pod, own};
use sidewall_tests::sockets;
use sidewall_tests::spoken::{ACCEPTS, dials, listens, original};
use sidewall_tests::time_wait::{close, reused, states};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
/// The application's port, which is captured.
const MEANT: u16 = 8080;
/// The proxy's own ports: the admin address, the probes, what is captured.
const ADMIN: u16 = 15410;
const PROBES: u16 = 15411;
const CAPTURE: u16 = 15412;
/// The node's addresses toward the pod.
const NODE: [IpAddr; 2] = [lab::NODE4, lab::NODE6];
/// How long a connection that must not come may take.
const SHORT: Duration = Duration::from_millis(30);
/// Every address of a family.
const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// A proxy in a container: from 8443 to 8080, with probes, and with what aims at 8080.
fn proxy(container: &str) -> SidecarProxy {
    serde_json::from_value(json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy",
        "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "podSelector": {}, "containerName": container,
            "listeners": [{"port": 8443, "forward": {"port": MEANT}, "anonymous": true}],
            "probes": {"port": PROBES},
            "capture": {"inbound": [MEANT]},
        },
    }))
    .expect("a SidecarProxy")
}

/// Nothing but a proxy, and where the node is.
fn world(container: &str) -> World {
    let mut world = World { proxies: vec![proxy(container)], ..World::default() };
    world.network.this_node = NODE.into();
    world
}

/// The same, where the proxy captures nothing.
fn without_capture() -> World {
    let mut world = world("proxy");
    world.proxies[0].spec.capture = None;
    world
}

fn stand(scene: &mut Scene, by: By, world: &World) {
    scene.by = by;
    scene.enforce_in(world);
    let ruleset = scene.loaded.clone().expect("they were loaded");
    assert_eq!(scene.lab.kernel.verify(&ruleset).unwrap(), Standing::AsLoaded, "{by:?}");
}

/// Somebody on the network connects from an address to the pod, where a container's process listens at another port.
fn comes(scene: &Scene, server: &Maker, from: SocketAddr, to: SocketAddr, listener: &OwnedFd) -> Result<Flow, String> {
    let client = bound(scene.outside(), Protocol::Tcp, from).map_err(|error| format!("bind: {error}"))?;
    let again = rustix::io::dup(listener).map_err(|error| error.to_string())?;
    let flow = Flow::between(server, Protocol::Tcp, client, again, to)?;
    flow.works()?;
    Ok(flow)
}

/// Somebody on the network connects to the pod and is not let in: a rule denies it, and nobody hears of it.
fn is_kept_out(scene: &mut Scene, from: SocketAddr, to: SocketAddr, server: u8, listener: &OwnedFd) {
    let what = format!("{from} to {to}, with {server} listening");
    let client = bound(scene.outside(), Protocol::Tcp, from).unwrap();
    scene.denied(&what, |_| connect(&client, to).unwrap());
    assert!(scene.app(server).accept(listener).is_err(), "{:?}: {what}: a connection was accepted", scene.by);
}

fn listener(scene: &Scene, container: u8, at: IpAddr, port: u16) -> OwnedFd {
    sockets::listen(scene.app(container), Protocol::Tcp, SocketAddr::new(at, port)).unwrap()
}

#[test]
fn what_aims_at_the_application_reaches_the_proxy() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        stand(&mut scene, by, &world("proxy"));
        for family in [0, 1] {
            let to = SocketAddr::new(POD[family], MEANT);
            // The application listens everywhere too, and hears nothing.
            let app = listener(&scene, APP, ANY[family], MEANT);
            for at in [POD[family], ANY[family]] {
                let proxy = listener(&scene, PROXY, at, CAPTURE);
                let flow = comes(&scene, scene.app(PROXY), scene.fresh(CLIENTS[family]), to, &proxy);
                let flow = flow.unwrap_or_else(|error| panic!("{by:?}: {to}: {error}; {}", scene.moved()));
                assert!(scene.app(APP).accept(&app).is_err(), "{by:?}");
                drop((flow, proxy));
            }
            // The listener takes what comes to its own port, as without capture.
            let own = listener(&scene, PROXY, POD[family], 8443);
            let flow =
                comes(&scene, scene.app(PROXY), scene.fresh(CLIENTS[family]), SocketAddr::new(POD[family], 8443), &own);
            drop(flow.unwrap());
            // Over UDP, and to another port of the application's, nothing is captured or let in.
            let udp = sockets::listen(scene.app(APP), Protocol::Udp, to).unwrap();
            let led = sockets::listen(scene.app(PROXY), Protocol::Udp, SocketAddr::new(POD[family], CAPTURE)).unwrap();
            let client = bound(scene.outside(), Protocol::Udp, scene.fresh(CLIENTS[family])).unwrap();
            scene.denied("UDP to a captured port", |_| send_to(&client, b"hello", to).unwrap());
            for socket in [&udp, &led] {
                assert!(sockets::arrived(socket).unwrap().is_none(), "{by:?}: a datagram came");
            }
            let other = listener(&scene, APP, POD[family], 8081);
            let from = scene.fresh(CLIENTS[family]);
            is_kept_out(&mut scene, from, SocketAddr::new(POD[family], 8081), APP, &other);
        }
    }
}

/// Whom it was meant for is told to the proxy, by the option that it asks.
#[test]
fn the_proxy_is_told_whom_it_was_meant_for() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        stand(&mut scene, by, &world("proxy"));
        let mut client = scene.lab.neighbour();
        let mut proxy = scene.lab.attacker(id(PROXY), Arms::Plain);
        for family in [0, 1] {
            proxy.must(&listens(ANY[family], CAPTURE));
            client.must(&dials(POD[family], MEANT));
            assert_eq!(proxy.must(ACCEPTS), "got hello", "{by:?}");
            assert_eq!(proxy.must(&original("$keep{a}", family)), MEANT.to_string(), "{by:?}");
        }
    }
}

/// An application that takes the capture port or the probe port before the proxy does, or beside it.
#[test]
fn who_takes_the_proxys_ports_gets_nothing() {
    // Even where a policy opens everything to everybody: what is captured is the proxy's.
    let mut open = world("proxy");
    open.policies = vec![policy("open", json!({"policyTypes": ["Ingress"], "ingress": [{}]}))];
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        for world in [world("proxy"), open.clone()] {
            stand(&mut scene, by, &world);
            for family in [0, 1] {
                for (thief, at) in [(APP, POD[family]), (MALLORY, ANY[family])] {
                    let taken = listener(&scene, thief, at, CAPTURE);
                    let from = scene.fresh(CLIENTS[family]);
                    is_kept_out(&mut scene, from, SocketAddr::new(POD[family], MEANT), thief, &taken);
                }
            }
        }
        stand(&mut scene, by, &world("proxy"));
        for family in [0, 1] {
            for thief in [APP, MALLORY] {
                let taken = listener(&scene, thief, POD[family], PROBES);
                let from = scene.fresh(NODE[family]);
                is_kept_out(&mut scene, from, SocketAddr::new(POD[family], PROBES), thief, &taken);
            }
            // Beside the proxy's sockets, another user's find no room: neither sharing the port nor at a narrower address.
            let mut proxy = scene.lab.attacker(id(PROXY), Arms::Plain);
            let mut mallory = scene.lab.attacker(id(MALLORY), Arms::Plain);
            for port in [CAPTURE, PROBES] {
                proxy.must(&listens(ANY[family], port));
                for at in [ANY[family], POD[family]] {
                    let refused = mallory.run(&listens(at, port));
                    let errno = refused.as_ref().err().and_then(|error| error.errno());
                    assert_eq!(errno, Some(98), "{by:?}: {at} {port}: {refused:?}");
                }
            }
        }
    }
}

/// A neighbour who aims at the proxy's own ports instead of the application's.
#[test]
fn the_proxys_own_ports_are_no_way_in() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        stand(&mut scene, by, &world("proxy"));
        for family in [0, 1] {
            let at = |port| SocketAddr::new(POD[family], port);
            for port in [CAPTURE, PROBES, ADMIN] {
                let proxy = listener(&scene, PROXY, ANY[family], port);
                let from = scene.fresh(CLIENTS[family]);
                is_kept_out(&mut scene, from, at(port), PROXY, &proxy);
            }
            // From the very port from which a captured connection stands: its answers look alike.
            let proxy = listener(&scene, PROXY, ANY[family], CAPTURE);
            let from = scene.fresh(CLIENTS[family]);
            let client = reused(scene.outside(), from);
            let again = rustix::io::dup(&proxy).unwrap();
            let flow = Flow::between(scene.app(PROXY), Protocol::Tcp, client, again, at(MEANT)).unwrap();
            flow.works().unwrap();
            let second = reused(scene.outside(), from);
            scene.denied("from a captured connection's port", |_| connect(&second, at(CAPTURE)).unwrap());
            assert!(scene.app(PROXY).accept(&proxy).is_err(), "{by:?}: a connection was accepted");
            flow.works().unwrap();
        }
    }
}

/// The kubelet reaches the probe port, and the node's address opens nothing else.
#[test]
fn the_node_reaches_the_probe_port_alone() {
    let closed = || {
        let mut world = world("proxy");
        world.policies = vec![policy("closed", json!({"policyTypes": ["Ingress", "Egress"]}))];
        world
    };
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        for world in [world("proxy"), closed()] {
            stand(&mut scene, by, &world);
            for family in [0, 1] {
                let to = SocketAddr::new(POD[family], PROBES);
                let probes = listener(&scene, PROXY, ANY[family], PROBES);
                let flow = comes(&scene, scene.app(PROXY), scene.fresh(NODE[family]), to, &probes);
                drop(flow.unwrap_or_else(|error| panic!("{by:?}: {to}: {error}; {}", scene.moved())));
                for port in [CAPTURE, ADMIN] {
                    let proxy = listener(&scene, PROXY, ANY[family], port);
                    let from = scene.fresh(NODE[family]);
                    is_kept_out(&mut scene, from, SocketAddr::new(POD[family], port), PROXY, &proxy);
                }
            }
        }
    }
}

/// Over loopback nobody is led anywhere: the proxy reaches the application, and the others don't.
#[test]
fn on_loopback_nothing_is_captured() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        stand(&mut scene, by, &world("proxy"));
        for address in LOOPBACK.into_iter().chain(POD) {
            let any = ANY[usize::from(address.is_ipv6())];
            let proxy = listener(&scene, PROXY, any, CAPTURE);
            let to = SocketAddr::new(address, MEANT);
            let flow = scene.flow(End::Container(PROXY), End::Container(APP), Protocol::Tcp, to);
            drop(flow);
            let app = listener(&scene, APP, address, MEANT);
            let client = bound(scene.app(MALLORY), Protocol::Tcp, scene.fresh(address)).unwrap();
            scene.denied("another container, to the application", |_| connect(&client, to).unwrap());
            assert!(scene.app(APP).accept(&app).is_err(), "{by:?}: {to}");
            assert!(scene.app(PROXY).accept(&proxy).is_err(), "{by:?}: {to} was led to the proxy");
        }
    }
}

/// A pod that came while nobody injected a proxy: nothing is led anywhere, and the application is reached by nobody.
#[test]
fn without_the_proxys_container_the_application_is_closed() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        stand(&mut scene, by, &world("front-proxy"));
        for family in [0, 1] {
            let to = |port| SocketAddr::new(POD[family], port);
            for from in [CLIENTS[family], NODE[family]] {
                let app = listener(&scene, APP, ANY[family], MEANT);
                let from_there = scene.fresh(from);
                is_kept_out(&mut scene, from_there, to(MEANT), APP, &app);
                // Nor is anybody taken for the proxy who listens where it would.
                for port in [CAPTURE, PROBES, 8443] {
                    let other = listener(&scene, PROXY, ANY[family], port);
                    for aimed in [MEANT, port] {
                        let from = scene.fresh(from);
                        is_kept_out(&mut scene, from, to(aimed), PROXY, &other);
                    }
                }
            }
        }
    }
}

/// On a kernel that can't redirect, what is captured is closed.
#[test]
fn where_the_kernel_cannot_redirect_the_application_is_closed() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        stand(&mut scene, by, &world("proxy"));
        let ruleset = scene.loaded.clone().unwrap();
        let (lesser, missing) = degrade(&ruleset, Features { redirect: false, ..Features::ALL }).unwrap();
        assert_eq!(missing, [Missing::Redirect]);
        scene.lab.kernel.load(&lesser, LoadOptions::default()).unwrap();
        for family in [0, 1] {
            let app = listener(&scene, APP, ANY[family], MEANT);
            let from = scene.fresh(CLIENTS[family]);
            is_kept_out(&mut scene, from, SocketAddr::new(POD[family], MEANT), APP, &app);
        }
    }
}

/// A flow that stands when its port comes to be captured, or is captured no more, ends.
#[test]
fn live_flows_follow_a_change_of_what_is_captured() {
    let open = || {
        let mut world = without_capture();
        world.policies = vec![policy("open", json!({"policyTypes": ["Ingress"], "ingress": [{}]}))];
        world
    };
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        for family in [0, 1] {
            let to = SocketAddr::new(POD[family], MEANT);
            // To the application itself, by a policy that opens it.
            stand(&mut scene, by, &open());
            let app = listener(&scene, APP, POD[family], MEANT);
            let before = comes(&scene, scene.app(APP), scene.fresh(CLIENTS[family]), to, &app).unwrap();
            stand(&mut scene, by, &world("proxy"));
            scene.denied("a flow past the proxy goes on", |_| sockets::send(&before.client, b"more").unwrap());
            assert!(sockets::arrived(&before.server).unwrap().is_none(), "{by:?}: it was heard");
            // To the proxy, which captures it no more.
            let proxy = listener(&scene, PROXY, POD[family], CAPTURE);
            let led = comes(&scene, scene.app(PROXY), scene.fresh(CLIENTS[family]), to, &proxy).unwrap();
            stand(&mut scene, by, &world("proxy"));
            led.works().unwrap_or_else(|error| panic!("{by:?}: the same again: {error}"));
            stand(&mut scene, by, &without_capture());
            scene.denied("a flow that is captured no more goes on", |_| sockets::send(&led.client, b"more").unwrap());
            assert!(sockets::arrived(&led.server).unwrap().is_none(), "{by:?}: it was heard");
        }
    }
}

/// A SYN onto what is left of a captured connection is judged at the proxy's listener: who may not come any more has no
/// connection, not even one that carries nothing.
#[test]
fn after_a_revocation_nobody_is_led_onto_time_wait() {
    let mut closed = world("proxy");
    closed.policies = vec![policy("closed", json!({"containers": ["proxy"], "policyTypes": ["Ingress"]}))];
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        for family in [0, 1] {
            let to = SocketAddr::new(POD[family], MEANT);
            let from = scene.fresh(CLIENTS[family]);
            stand(&mut scene, by, &world("proxy"));
            let before = listener(&scene, PROXY, POD[family], CAPTURE);
            let flow =
                Flow::between(scene.app(PROXY), Protocol::Tcp, reused(scene.outside(), from), before, to).unwrap();
            close(&scene, flow, SocketAddr::new(POD[family], CAPTURE));
            stand(&mut scene, by, &closed);
            let proxy = listener(&scene, PROXY, POD[family], CAPTURE);
            let client = reused(scene.outside(), from);
            scene.denied("onto TIME_WAIT, after a revocation", |_| connect(&client, to).unwrap());
            assert!(!sockets::decided(&client, SHORT).unwrap(), "{by:?}: the network gets no answer");
            assert!(scene.app(PROXY).accept(&proxy).is_err(), "{by:?}: a connection was accepted");
        }
    }
}

/// A SYN onto what is left of a captured connection finds the proxy's listener, and one onto what is left of a connection
/// to the application itself is led to the proxy like any other.
#[test]
fn onto_time_wait_it_is_the_proxys_too() {
    let mut open = without_capture();
    open.policies = vec![policy("open", json!({"policyTypes": ["Ingress"], "ingress": [{}]}))];
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        for family in [0, 1] {
            let to = SocketAddr::new(POD[family], MEANT);
            let at = SocketAddr::new(POD[family], CAPTURE);
            for captured_before in [true, false] {
                let from = scene.fresh(CLIENTS[family]);
                let (world_before, server, port) =
                    if captured_before { (world("proxy"), PROXY, CAPTURE) } else { (open.clone(), APP, MEANT) };
                stand(&mut scene, by, &world_before);
                let before = listener(&scene, server, POD[family], port);
                let client = reused(scene.outside(), from);
                let flow = Flow::between(scene.app(server), Protocol::Tcp, client, before, to).unwrap();
                close(&scene, flow, SocketAddr::new(POD[family], port));
                assert_eq!(states(&scene, SocketAddr::new(POD[family], port), from), ["06"], "{by:?}");
                stand(&mut scene, by, &world("proxy"));
                let app = listener(&scene, APP, ANY[family], MEANT);
                let proxy = listener(&scene, PROXY, ANY[family], CAPTURE);
                let client = reused(scene.outside(), from);
                let again = rustix::io::dup(&proxy).unwrap();
                let (flow, denied) =
                    scene.denials_during(|scene| Flow::between(scene.app(PROXY), Protocol::Tcp, client, again, to));
                let flow = flow.unwrap_or_else(|error| panic!("{by:?}: {from} to {to}: {error}; {}", scene.moved()));
                flow.works().unwrap();
                assert_eq!(denied, 0, "{by:?}: {from} to {to} at {at}");
                assert!(scene.app(APP).accept(&app).is_err(), "{by:?}: the application heard of it");
                sockopt::set_socket_linger(&flow.server, Some(Duration::ZERO)).unwrap();
            }
        }
    }
}

/// What comes by one network to an address of another's is led nowhere: it would arrive at an address that may be reached
/// there.
#[test]
fn another_networks_address_leads_nowhere() {
    let mut pod = Pod::new(PROGRAM);
    for (family, length) in [("-4", 32), ("-6", 128)] {
        let at = usize::from(length == 128);
        let route = format!("{family} route add {}/{length} via {} dev pod0 table local", own(NET1, at), POD[at]);
        lab::ip(&pod.siege.scene.lab.network, &route).unwrap();
    }
    for by in By::ALL {
        pod.enforce(by, &world("proxy"), 2);
        let scene = &mut pod.siege.scene;
        for family in [0, 1] {
            for network in [ETH0, NET1, NET2] {
                let client = if network == ETH0 { scene.outside() } else { &scene.lab.linked[network - 1] };
                let to = SocketAddr::new(own(network, family), MEANT);
                let proxy = listener(scene, PROXY, ANY[family], CAPTURE);
                let client = bound(client, Protocol::Tcp, scene.fresh(ANY[family])).unwrap();
                let flow = Flow::between(scene.app(PROXY), Protocol::Tcp, client, proxy, to);
                flow.unwrap_or_else(|error| panic!("{by:?}: {to}: {error}; {}", scene.moved())).works().unwrap();
            }
            let to = SocketAddr::new(own(NET1, family), MEANT);
            for (server, port) in [(PROXY, CAPTURE), (APP, MEANT)] {
                let ear = listener(scene, server, ANY[family], port);
                let from = scene.fresh(CLIENTS[family]);
                is_kept_out(scene, from, to, server, &ear);
            }
        }
    }
}
