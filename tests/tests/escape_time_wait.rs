//! A SYN onto what is left of a connection that the server closed first: it comes from an address and port that are in
//! TIME_WAIT at the server, and the kernel itself looks for the listener only behind the rules.
//!
//! Who is denied has no connection there, not even one that carries nothing.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use sidewall_api::ContainerNetworkPolicy;
use sidewall_flow::Protocol;
use sidewall_netfilter::{Features, LoadOptions, Missing, degrade};
use sidewall_tests::lab::By;
use sidewall_tests::lab::attacker::Arms;
use sidewall_tests::scene::{
    APP, CLIENTS, End, Flow, LIMIT, LOOPBACK, MALLORY, POD, PROXY, Scene, assert_silent, connect, id, walls,
};
use sidewall_tests::sockets;
use sidewall_tests::time_wait::{close, leave_in_time_wait, reused, states};
use std::net::SocketAddr;
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
/// How long a connection that must not come may take.
const SHORT: Duration = Duration::from_millis(30);

/// The scene's policies without what the proxy may: nobody may reach it, and it may reach nobody.
fn revoked() -> Vec<ContainerNetworkPolicy> {
    let mut policies = walls();
    let proxy = policies.iter_mut().find(|policy| policy.metadata.name.as_deref() == Some("proxy"));
    let spec = &mut proxy.expect("the proxy has a policy").spec;
    (spec.ingress, spec.egress) = (None, None);
    policies
}

/// What became of a connection that was begun: `None` where it has not been decided in time.
fn outcome(socket: &OwnedFd, limit: Duration) -> Option<Result<(), Errno>> {
    sockets::decided(socket, limit).unwrap().then(|| match sockets::pending_error(socket).unwrap() {
        None => Ok(()),
        Some(error) => Err(error),
    })
}

/// A connection from a container of the pod is refused, and its listener does not hear of it.
fn assert_refused(scene: &mut Scene, client: u8, from: SocketAddr, server: u8, to: SocketAddr) {
    let what = format!("{:?}: {from} of {client} to {to} of {server}", scene.by);
    let listener = sockets::listen(scene.app(server), Protocol::Tcp, to).unwrap();
    let socket = reused(scene.app(client), from);
    scene.denied(&what, |_| connect(&socket, to).unwrap());
    assert_eq!(outcome(&socket, LIMIT), Some(Err(Errno::CONNREFUSED)), "{what}");
    assert!(scene.app(server).accept(&listener).is_err(), "{what}: a connection was accepted");
}

/// A connection from a container of the pod comes about at once, and carries data.
fn assert_works(scene: &mut Scene, client: u8, from: SocketAddr, server: u8, to: SocketAddr) {
    let listener = sockets::listen(scene.app(server), Protocol::Tcp, to).unwrap();
    let socket = reused(scene.app(client), from);
    let (flow, denied) =
        scene.denials_during(|scene| Flow::between(scene.app(server), Protocol::Tcp, socket, listener, to));
    let by = scene.by;
    let flow = flow.unwrap_or_else(|error| panic!("{by:?}: {from} to {to}: {error}; {}", scene.moved()));
    flow.works().unwrap();
    assert_eq!(denied, 0, "{by:?}: {from} to {to}");
}

#[test]
fn after_a_revocation_nobody_connects_onto_time_wait() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        for address in LOOPBACK.into_iter().chain(POD) {
            let to = SocketAddr::new(address, 8080);
            let from = scene.fresh(address);
            leave_in_time_wait(&mut scene, End::Container(PROXY), End::Container(APP), from, to);
            scene.enforce(&revoked());
            assert_eq!(states(&scene, to, from), ["06"], "the tuple waits still");
            assert_refused(&mut scene, PROXY, from, APP, to);
            // Again, and when it is allowed again.
            assert_refused(&mut scene, PROXY, from, APP, to);
            scene.stand(by);
            assert_works(&mut scene, PROXY, from, APP, to);
        }
        for (client, pod) in CLIENTS.into_iter().zip(POD) {
            let to = SocketAddr::new(pod, 8443);
            let from = scene.fresh(client);
            leave_in_time_wait(&mut scene, End::Outside, End::Container(PROXY), from, to);
            scene.enforce(&revoked());
            let listener = sockets::listen(scene.app(PROXY), Protocol::Tcp, to).unwrap();
            let socket = reused(scene.outside(), from);
            scene.denied("a client's port after a revocation", |_| connect(&socket, to).unwrap());
            assert_eq!(outcome(&socket, SHORT), None, "{by:?}: the network gets no answer");
            assert!(scene.app(PROXY).accept(&listener).is_err(), "{by:?}: {from} to {to} was accepted");
            drop((socket, listener));
            scene.stand(by);
            let listener = sockets::listen(scene.app(PROXY), Protocol::Tcp, to).unwrap();
            let socket = reused(scene.outside(), from);
            let flow = Flow::between(scene.app(PROXY), Protocol::Tcp, socket, listener, to);
            flow.unwrap_or_else(|error| panic!("{by:?} {from} to {to}: {error}; {}", scene.moved())).works().unwrap();
        }
    }
}

/// Under cgroup identity, who listens there now is who is asked about, whoever listened before.
#[test]
fn the_listener_of_the_moment_is_who_is_asked_about() {
    let mut scene = Scene::new(PROGRAM);
    for address in LOOPBACK.into_iter().chain(POD) {
        let to = SocketAddr::new(address, 8080);
        // The proxy may reach the application there, and nobody else.
        let left = |scene: &mut Scene, client, server| {
            let from = scene.fresh(address);
            leave_in_time_wait(scene, End::Container(client), End::Container(server), from, to);
            from
        };
        let from = left(&mut scene, PROXY, APP);
        assert_refused(&mut scene, PROXY, from, MALLORY, to);
        assert_works(&mut scene, PROXY, from, APP, to);
        // A container may always reach itself.
        let from = left(&mut scene, MALLORY, MALLORY);
        assert_refused(&mut scene, MALLORY, from, APP, to);
        assert_works(&mut scene, MALLORY, from, MALLORY, to);
        // Another takes the client's port.
        let from = left(&mut scene, PROXY, APP);
        assert_refused(&mut scene, MALLORY, from, APP, to);
        assert_works(&mut scene, MALLORY, from, MALLORY, to);
    }
}

/// While nobody listens the kernel answers for what is left of the connection, and the client ends that. Whoever tries then
/// is refused as he would be without walls, and may connect as soon as somebody listens.
#[test]
fn where_nobody_listens_a_connection_is_refused_and_nothing_is_left_of_it() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        for address in LOOPBACK.into_iter().chain(POD) {
            let to = SocketAddr::new(address, 8080);
            let from = scene.fresh(address);
            leave_in_time_wait(&mut scene, End::Container(PROXY), End::Container(APP), from, to);
            let socket = reused(scene.app(PROXY), from);
            connect(&socket, to).unwrap();
            // The kernel sends its SYN again after a second.
            let made = outcome(&socket, LIMIT);
            let moved = scene.moved();
            assert_eq!(made, Some(Err(Errno::CONNREFUSED)), "{by:?}: {from} to {to}: {moved}");
            assert!(!moved.contains("improper"), "{by:?}: {from} to {to}: {moved}");
            drop(socket);
            assert_works(&mut scene, PROXY, from, APP, to);
        }
    }
}

/// A listener that may take others' connections (IP_TRANSPARENT, by CAP_NET_RAW) is given the SYN by the rule that finds
/// it. It is judged all the same.
#[test]
fn a_transparent_listener_is_judged_as_any() {
    let mut scene = Scene::new(PROGRAM);
    for address in LOOPBACK.into_iter().chain(POD) {
        let to = SocketAddr::new(address, 8080);
        for (server, allowed) in [(MALLORY, false), (APP, true)] {
            let from = scene.fresh(address);
            leave_in_time_wait(&mut scene, End::Container(PROXY), End::Container(APP), from, to);
            let mut armed = scene.lab.attacker(id(server), Arms::Raw);
            // IP_TRANSPARENT and IPV6_TRANSPARENT.
            let (level, option) = if address.is_ipv4() { (0, 19) } else { (41, 75) };
            armed.must(&format!(
                "$keep{{l}} = bound(SOCK_STREAM, '{address}', {}, options => [[SOL_SOCKET, SO_REUSEADDR, pack('i', 1)],
                     [{level}, {option}, pack('i', 1)]]);
                 listen($keep{{l}}, 4) or fail('listen'); 1",
                to.port(),
            ));
            let socket = reused(scene.app(PROXY), from);
            let (made, denied) = scene.denials_during(|_| {
                connect(&socket, to).unwrap();
                outcome(&socket, LIMIT)
            });
            let expected = if allowed { Ok(()) } else { Err(Errno::CONNREFUSED) };
            assert_eq!((made, denied > 0), (Some(expected), !allowed), "{to} of {server}: {}", scene.moved());
            let accepted = armed.run(
                "my $set = ''; vec($set, fileno($keep{l}), 1) = 1;
                 select($set, undef, undef, 0.03) ? 'somebody' : 'nobody'",
            );
            assert_eq!(accepted.as_deref(), Ok(if allowed { "somebody" } else { "nobody" }), "{to} of {server}");
        }
    }
}

/// Where the kernel can't look for the listener before the rules do, such a connection comes about and carries nothing.
#[test]
fn without_tproxy_a_connection_onto_time_wait_carries_nothing_a_documented_limit() {
    let mut scene = Scene::new(PROGRAM);
    for address in LOOPBACK {
        let to = SocketAddr::new(address, 8080);
        scene.stand(By::Cgroup);
        let from = scene.fresh(address);
        leave_in_time_wait(&mut scene, End::Container(PROXY), End::Container(APP), from, to);
        let generation = scene.lab.next_generation();
        let compiled = scene.compiled(&revoked(), generation);
        let lesser = Features { find_listener: false, ..Features::ALL };
        let (ruleset, missing) = degrade(&compiled.ruleset, lesser).unwrap();
        assert_eq!(missing, [Missing::FindListener]);
        scene.lab.kernel.load(&ruleset, LoadOptions::default()).unwrap();
        let listener = sockets::listen(scene.app(APP), Protocol::Tcp, to).unwrap();
        let socket = reused(scene.app(PROXY), from);
        connect(&socket, to).unwrap();
        let what = "this limit is gone: tell SECURITY.md";
        assert_eq!(outcome(&socket, LIMIT), Some(Ok(())), "{what}; {from} to {to}: {}", scene.moved());
        assert!(sockets::readable(&listener, LIMIT).unwrap());
        let accepted = scene.app(APP).accept(&listener).unwrap();
        scene.denied("the first data", |_| {
            let _ = sockets::send(&socket, b"take this");
        });
        assert_silent(&accepted, "the limit is a connection that carries nothing");
    }
}

/// The listener is looked for where packets come in, before their addresses are rewritten there.
#[test]
fn a_port_that_the_pod_redirects_is_connected_to_onto_time_wait_a_documented_limit() {
    let mut scene = Scene::bare(PROGRAM);
    scene.lab.administrator().must(
        "system('/usr/sbin/nft', 'table inet redirects { chain p { type nat hook prerouting priority -100; ' .
         'iif != lo tcp dport 8443 redirect to :8453; }; }') == 0 or die 'nft'",
    );
    for (client, pod) in CLIENTS.into_iter().zip(POD) {
        scene.stand(By::Cgroup);
        let (from, to, real) = (scene.fresh(client), SocketAddr::new(pod, 8443), SocketAddr::new(pod, 8453));
        let listener = sockets::listen(scene.app(PROXY), Protocol::Tcp, real).unwrap();
        let socket = reused(scene.outside(), from);
        let flow = Flow::between(scene.app(PROXY), Protocol::Tcp, socket, listener, to).unwrap();
        flow.works().unwrap();
        close(&scene, flow, real);
        scene.enforce(&revoked());
        let listener = sockets::listen(scene.app(PROXY), Protocol::Tcp, real).unwrap();
        let socket = reused(scene.outside(), from);
        connect(&socket, to).unwrap();
        assert_eq!(outcome(&socket, LIMIT), Some(Ok(())), "this limit is gone: tell SECURITY.md; {}", scene.moved());
        assert!(sockets::readable(&listener, LIMIT).unwrap());
        let accepted = scene.app(PROXY).accept(&listener).unwrap();
        scene.denied("the first data", |_| {
            let _ = sockets::send(&socket, b"take this");
        });
        assert_silent(&accepted, "the limit is a connection that carries nothing");
    }
}
