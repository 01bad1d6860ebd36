//! What is older than the rules, and what is left of connections that have ended.

use rustix::fd::OwnedFd;
use rustix::net::sockopt;
use sidewall_flow::Protocol;
use sidewall_tests::lab::{self, By};
use sidewall_tests::scene::{
    APP, CLIENTS, COLLECTORS, End, Flow, LIMIT, LOOPBACK, MALLORY, POD, PROXY, Scene, TRANSPORTS, assert_silent, bound,
    carries, connect, heard, policy, walls,
};
use sidewall_tests::sockets;
use sidewall_tests::time_wait::{leave_in_time_wait, reused};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

#[test]
fn sockets_older_than_the_first_rules_have_their_makers_rights() {
    for by in By::ALL {
        let mut scene = Scene::bare(PROGRAM);
        let mut old = Vec::new();
        for protocol in TRANSPORTS {
            for to in [LOOPBACK[0], LOOPBACK[1], COLLECTORS[0], COLLECTORS[1]] {
                let outside = COLLECTORS.contains(&to);
                let to = SocketAddr::new(to, if outside { 7000 } else { 8080 });
                let server = if outside { scene.outside() } else { scene.app(APP) };
                let listener = sockets::listen(server, protocol, to).unwrap();
                let allowed = if outside { APP } else { PROXY };
                let clients = [MALLORY, allowed]
                    .map(|n| bound(scene.app(n), protocol, scene.fresh(unspecified(to.ip()))).unwrap());
                old.push((protocol, to, listener, clients));
            }
        }
        scene.stand(by);
        for (protocol, to, listener, [mallory, allowed]) in old {
            scene.denied("an old socket", |_| {
                let _ = connect(&mallory, to);
                let _ = sockets::send(&mallory, b"take this");
            });
            assert_silent(&listener, &format!("{by:?}: mallory's old socket to {to}"));
            let server = if COLLECTORS.contains(&to.ip()) { scene.outside() } else { scene.app(APP) };
            let flow = Flow::between(server, protocol, allowed, listener, to).unwrap();
            flow.works().unwrap_or_else(|error| panic!("{by:?} {protocol} {to}: {error}"));
        }
    }
}

#[test]
fn connections_older_than_the_first_rules_end_where_denied_and_go_on_where_the_client_speaks_first() {
    for by in By::ALL {
        let mut scene = Scene::bare(PROGRAM);
        let mut flows = Vec::new();
        for protocol in TRANSPORTS {
            for family in [0, 1] {
                let app = SocketAddr::new(LOOPBACK[family], 8080);
                let own = SocketAddr::new(POD[family], 8080);
                let out = SocketAddr::new(COLLECTORS[family], 7000);
                for (client, server, to) in [
                    (PROXY, End::Container(APP), app),
                    (PROXY, End::Container(APP), own),
                    (APP, End::Outside, out),
                    (MALLORY, End::Container(APP), app),
                    (MALLORY, End::Container(APP), own),
                    (MALLORY, End::Outside, out),
                ] {
                    let flow = scene.flow(End::Container(client), server, protocol, to);
                    flows.push((client != MALLORY, flow));
                }
                for (port, allowed) in [(8443, true), (8444, false)] {
                    let (from, to) = (scene.fresh(CLIENTS[family]), SocketAddr::new(POD[family], port));
                    let flow = scene.flow_from(End::Outside, End::Container(PROXY), protocol, from, to);
                    flows.push((allowed, flow));
                }
            }
        }
        scene.stand(by);
        for (allowed, flow) in &flows {
            let what = format!("{by:?} {} {} to {}", flow.protocol, flow.from, flow.to);
            if *allowed {
                flow.works().unwrap_or_else(|error| panic!("{what}: {error}"));
            } else {
                for (from, to) in [(&flow.client, &flow.server), (&flow.server, &flow.client)] {
                    let before = scene.lab.denials();
                    let sent = sockets::send(from, b"after");
                    let until = Instant::now() + LIMIT;
                    // A connection that has ended already sends no more.
                    while sent.is_ok() && scene.lab.denials() == before {
                        assert!(Instant::now() < until, "{what}: no rule denied it");
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    assert_silent(to, &what);
                }
            }
        }
    }
}

/// How many sockets of the pod are in a state between established and closed, TIME_WAIT aside.
fn half_closed(scene: &Scene) -> Vec<String> {
    let tables = scene.lab.pod.run(|| {
        ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap()).concat()
    });
    // FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING.
    let states = ["04", "05", "08", "09", "0B"];
    let tables = tables.unwrap();
    let lines = tables.lines().filter(|line| line.split_whitespace().nth(3).is_some_and(|s| states.contains(&s)));
    lines.map(str::to_owned).collect()
}

fn closes_gently(socket: &OwnedFd) {
    sockopt::set_socket_linger(socket, None).unwrap();
}

/// The end of a stream arrives.
fn assert_ended(socket: &OwnedFd, what: &str) {
    assert_eq!(heard(socket).unwrap().as_deref(), Some(&b""[..]), "{what}");
}

#[test]
fn allowed_connections_close_cleanly() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        for new_rules in [false, true] {
            for client_first in [true, false] {
                let mut flows = Vec::new();
                for family in [0, 1] {
                    for to in [SocketAddr::new(LOOPBACK[family], 8080), SocketAddr::new(POD[family], 8080)] {
                        flows.push(scene.flow(End::Container(PROXY), End::Container(APP), Protocol::Tcp, to));
                    }
                    let to = SocketAddr::new(COLLECTORS[family], 7000);
                    flows.push(scene.flow(End::Container(APP), End::Outside, Protocol::Tcp, to));
                    let (from, to) = (scene.fresh(CLIENTS[family]), SocketAddr::new(POD[family], 8443));
                    flows.push(scene.flow_from(End::Outside, End::Container(PROXY), Protocol::Tcp, from, to));
                }
                if new_rules {
                    scene.enforce(&walls());
                }
                let ((), denied) = scene.denials_during(|scene| {
                    for flow in flows {
                        let what = format!("{by:?} {} to {}", flow.from, flow.to);
                        closes_gently(&flow.client);
                        closes_gently(&flow.server);
                        let (first, other) =
                            if client_first { (flow.client, flow.server) } else { (flow.server, flow.client) };
                        drop(first);
                        assert_ended(&other, &what);
                        drop(other);
                    }
                    let until = Instant::now() + LIMIT;
                    loop {
                        let half = half_closed(scene);
                        if half.is_empty() {
                            break;
                        }
                        assert!(Instant::now() < until, "{by:?}, client first {client_first}: {half:#?}");
                        std::thread::sleep(Duration::from_millis(2));
                    }
                });
                assert_eq!(denied, 0, "{by:?}, client first {client_first}, new rules {new_rules}: {}", scene.moved());
            }
        }
        // And by a reset: the other end learns of it.
        for to in [LOOPBACK[0], LOOPBACK[1], COLLECTORS[0], COLLECTORS[1]] {
            for client_first in [true, false] {
                let outside = COLLECTORS.contains(&to);
                let (client, server, port) = if outside {
                    (End::Container(APP), End::Outside, 7000)
                } else {
                    (End::Container(PROXY), End::Container(APP), 8080)
                };
                let flow = scene.flow(client, server, Protocol::Tcp, SocketAddr::new(to, port));
                let ((), denied) = scene.denials_during(|_| {
                    let (first, other) =
                        if client_first { (flow.client, flow.server) } else { (flow.server, flow.client) };
                    drop(first);
                    sockets::readable(&other, LIMIT).unwrap();
                    assert!(sockets::arrived(&other).is_err(), "{by:?} {to}: the reset did not arrive");
                });
                assert_eq!(denied, 0, "{by:?} {to}: {}", scene.moved());
            }
        }
    }
}

/// The server closed first, so its end of the tuple is in TIME_WAIT; the same tuple is used again.
#[test]
fn a_tuple_in_time_wait_is_judged_for_its_new_owners() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        for address in LOOPBACK.into_iter().chain(POD) {
            let to = SocketAddr::new(address, 8080);
            let from = scene.fresh(address);
            leave_in_time_wait(&mut scene, End::Container(PROXY), End::Container(APP), from, to);
            // The same two again.
            let again = again_as(&scene, PROXY, from);
            let listener = sockets::listen(scene.app(APP), Protocol::Tcp, to).unwrap();
            let flow = Flow::between(scene.app(APP), Protocol::Tcp, again, listener, to)
                .unwrap_or_else(|error| panic!("{by:?} {from} to {to}, the same two: {error}; {}", scene.moved()));
            flow.works().unwrap();
            drop(flow);

            // Another client.
            let from = scene.fresh(address);
            leave_in_time_wait(&mut scene, End::Container(PROXY), End::Container(APP), from, to);
            let thief = again_as(&scene, MALLORY, from);
            let listener = sockets::listen(scene.app(APP), Protocol::Tcp, to).unwrap();
            scene.denied("a thief of the client's port", |_| {
                let _ = connect(&thief, to);
                let _ = sockets::decided(&thief, Duration::from_millis(20));
                let _ = sockets::send(&thief, b"take this");
            });
            if let Ok(accepted) = scene.app(APP).accept(&listener) {
                assert_silent(&accepted, &format!("{by:?}: the thief at {to}"));
            }
            drop((thief, listener));

            // Another server.
            let from = scene.fresh(address);
            leave_in_time_wait(&mut scene, End::Container(PROXY), End::Container(APP), from, to);
            let listener = sockets::listen(scene.app(MALLORY), Protocol::Tcp, to).unwrap();
            let client = again_as(&scene, PROXY, from);
            scene.denied("a thief of the server's port", |_| {
                let _ = connect(&client, to);
                let _ = sockets::decided(&client, Duration::from_millis(20));
                let _ = sockets::send(&client, b"a password");
            });
            if let Ok(accepted) = scene.app(MALLORY).accept(&listener) {
                std::thread::sleep(Duration::from_millis(5));
                assert_silent(&accepted, &format!("{by:?}: the thief at {to}"));
            }
        }
        for (client, pod) in CLIENTS.into_iter().zip(POD) {
            let to = SocketAddr::new(pod, 8443);
            let from = scene.fresh(client);
            leave_in_time_wait(&mut scene, End::Outside, End::Container(PROXY), from, to);
            let listener = sockets::listen(scene.app(PROXY), Protocol::Tcp, to).unwrap();
            let socket = reused(scene.outside(), from);
            let flow = Flow::between(scene.app(PROXY), Protocol::Tcp, socket, listener, to)
                .unwrap_or_else(|error| panic!("{by:?} {from} to {to}: {error}; {}", scene.moved()));
            flow.works().unwrap();
            drop(flow);
            let from = scene.fresh(client);
            leave_in_time_wait(&mut scene, End::Outside, End::Container(PROXY), from, to);
            let listener = sockets::listen(scene.app(MALLORY), Protocol::Tcp, to).unwrap();
            let socket = reused(scene.outside(), from);
            scene.denied("a thief of the server's port, from the network", |_| {
                let _ = connect(&socket, to);
                let _ = sockets::decided(&socket, Duration::from_millis(20));
                let _ = sockets::send(&socket, b"a password");
            });
            if let Ok(accepted) = scene.app(MALLORY).accept(&listener) {
                std::thread::sleep(Duration::from_millis(5));
                assert_silent(&accepted, &format!("{by:?}: the thief at {to}"));
            }
        }
    }
}

/// A container's socket at an address that was another's.
fn again_as(scene: &Scene, number: u8, at: SocketAddr) -> OwnedFd {
    reused(scene.app(number), at)
}

/// A helper's connection and an expectation for it copy the mark of the flow that announced them; what is copied says
/// nothing about the new flow. Here only the kernel's side is tried: a new flow bears no verdict, whatever came before
/// on its tuple.
#[test]
fn a_new_flow_inherits_nothing_from_the_last_one_on_its_tuple() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        for collector in COLLECTORS {
            let to = SocketAddr::new(collector, 7000);
            let pod = if collector.is_ipv4() { lab::POD4 } else { lab::POD6 };
            let from = scene.fresh(pod);
            // The application's connection ends by a reset, and mallory takes its tuple at once.
            let flow = scene.flow_from(End::Container(APP), End::Outside, Protocol::Tcp, from, to);
            carries(&flow.client, &flow.server, b"mine").unwrap();
            drop(flow);
            let listener = sockets::listen(scene.outside(), Protocol::Tcp, to).unwrap();
            let thief = again_as(&scene, MALLORY, from);
            scene.denied("the application's tuple", |_| {
                let _ = connect(&thief, to);
            });
            std::thread::sleep(Duration::from_millis(2));
            assert!(scene.outside().accept(&listener).is_err(), "{by:?}: mallory at {to}");
        }
    }
}

/// What was held back (`MSG_MORE`) while it was allowed, and let go when it is not any more.
#[test]
fn what_was_corked_before_a_revocation_stays() {
    use sidewall_tests::lab::attacker::Arms;
    for by in By::ALL {
        let mut scene = Scene::bare(PROGRAM);
        let mut mallory = scene.lab.attacker(sidewall_tests::scene::id(MALLORY), Arms::Plain);
        let app = policy("app", serde_json::json!({"containers": ["app"], "policyTypes": ["Egress"]}));
        for revoked in [false, true] {
            for to in [LOOPBACK[0], LOOPBACK[1], COLLECTORS[0], COLLECTORS[1]] {
                scene.by = by;
                scene.enforce(std::slice::from_ref(&app));
                let outside = COLLECTORS.contains(&to);
                let at = SocketAddr::new(to, if outside { 7000 } else { 8080 });
                let ear =
                    sockets::listen(if outside { scene.outside() } else { scene.app(APP) }, Protocol::Udp, at).unwrap();
                mallory.must(&format!(
                    "$keep{{s}} = made(family('{to}'), SOCK_DGRAM);
                     connect($keep{{s}}, address('{to}', {})) or fail('connect');
                     defined(send($keep{{s}}, 'held back', 0x8000 | MSG_NOSIGNAL)) or fail('send')",
                    at.port()
                ));
                let let_go = "defined(send($keep{s}, '', MSG_NOSIGNAL)) or fail('send')";
                if revoked {
                    scene.stand(by);
                    let sent = scene.denied("what was held back", |_| mallory.run(let_go));
                    assert_silent(&ear, &format!("{by:?}: held back, to {at}: {sent:?}"));
                } else {
                    mallory.must(let_go);
                    assert_eq!(heard(&ear).unwrap().as_deref(), Some(&b"held back"[..]), "{by:?} {at}");
                }
            }
        }
    }
}
