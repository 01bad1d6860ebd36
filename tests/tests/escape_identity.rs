//! Taking another container's identity, its descriptors or its ports.

use rustix::net::sockopt;
use sidewall_flow::Protocol;
use sidewall_netns::Capability;
use sidewall_tests::lab::By;
use sidewall_tests::scene::{
    APP, COLLECTORS, End, Flow, LOOPBACK, MALLORY, POD, PROXY, SHIPPER, Scene, TRANSPORTS, assert_silent, bound,
    connect, heard, send_to, take_left,
};
use sidewall_tests::sockets;
use std::net::SocketAddr;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

/// The number that the lab gives a container's user.
fn uid(number: u8) -> u32 {
    20_000 + u32::from(number)
}

/// The number that the lab gives a container's group.
fn gid(number: u8) -> u32 {
    30_000 + u32::from(number)
}

/// Tries everything that the proxy may do and mallory may not, as `attacker`, and says how much of it succeeds.
fn rights_of_the_proxy(scene: &mut Scene, attacker: End<'_>) -> usize {
    let mut passed = 0;
    for protocol in TRANSPORTS {
        for address in LOOPBACK.into_iter().chain(POD) {
            let to = SocketAddr::new(address, 8080);
            let server = scene.app(APP);
            let listener = sockets::listen(server, protocol, to).expect("the application listens");
            let source = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let source = SocketAddr::new(source.parse::<SocketAddr>().expect("an address").ip(), scene.port());
            let maker = match attacker {
                End::Maker(maker) => maker,
                _ => unreachable!("the attackers are processes of the test"),
            };
            let client = bound(maker, protocol, source).expect("the attacker has a socket");
            let arrived = scene.denials_during(|scene| {
                connect(&client, to).expect("connecting begins");
                if protocol == Protocol::Udp {
                    let sent = sockets::send(&client, b"take this");
                    sent.is_ok() && sockets::readable(&listener, std::time::Duration::from_millis(20)).unwrap_or(false)
                } else {
                    sockets::decided(&client, sidewall_tests::scene::LIMIT).expect("poll");
                    sockets::pending_error(&client).expect("SO_ERROR").is_none()
                        && scene.app(APP).accept(&listener).is_ok()
                }
            });
            match arrived {
                (true, _) => passed += 1,
                (false, 0) => panic!("{protocol} to {to}: neither did it arrive nor did a rule deny it"),
                (false, _) => assert_silent(&listener, "what was denied"),
            }
        }
    }
    passed
}

/// Everything that [`rights_of_the_proxy`] tries.
const EVERYTHING: usize = 8;

#[test]
fn a_container_that_takes_anothers_user_keeps_its_own_rights_under_cgroups() {
    let mut scene = Scene::new(PROGRAM);
    let thief = scene.armed(MALLORY, &[Capability::SETUID]);
    assert_eq!(rights_of_the_proxy(&mut scene, End::Maker(&thief)), 0, "before it takes the user");
    thief.set_uid(uid(PROXY)).expect("the capability lets it");
    assert_eq!(rights_of_the_proxy(&mut scene, End::Maker(&thief)), 0, "after it took the user");
    // The same attempts succeed for the one who has the right to them: they are good attempts.
    let proxy = scene.armed(PROXY, &[]);
    assert_eq!(rights_of_the_proxy(&mut scene, End::Maker(&proxy)), EVERYTHING);
    // And without the capability nobody takes anything.
    assert!(scene.armed(MALLORY, &[]).set_uid(uid(PROXY)).is_err());
}

/// A limit that the design declares: identity by user holds only where no container may change its user.
#[test]
fn under_uids_a_container_that_takes_anothers_user_has_its_rights_a_documented_limit() {
    let mut scene = Scene::bare(PROGRAM);
    let thief = scene.armed(MALLORY, &[Capability::SETUID]);
    scene.stand(By::Uid);
    assert_eq!(rights_of_the_proxy(&mut scene, End::Maker(&thief)), 0, "before it takes the user");
    thief.set_uid(uid(PROXY)).expect("the capability lets it");
    assert_eq!(rights_of_the_proxy(&mut scene, End::Maker(&thief)), EVERYTHING);
    // By group the user does not matter.
    scene.stand(By::Gid);
    assert_eq!(rights_of_the_proxy(&mut scene, End::Maker(&thief)), 0, "by group");
}

#[test]
fn a_sockets_rights_are_its_makers_not_its_users() {
    // The test itself holds every socket and made none of them: that already is fd passing from the makers to a process
    // of no container. Here they go on, through the processes of other containers.
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        for protocol in TRANSPORTS {
            // The proxy's socket has the proxy's rights, whoever uses it (a limit that the design declares).
            let flow =
                scene.flow(End::Container(PROXY), End::Container(APP), protocol, SocketAddr::new(LOOPBACK[0], 8080));
            drop(flow);
            // Mallory's socket has mallory's, though the proxy uses it: a connection that mallory listens for and
            // the proxy accepts would be the acceptor's socket, so what counts there is who accepts.
            let socket = bound(scene.app(MALLORY), protocol, SocketAddr::new(POD[0], scene.port())).unwrap();
            let listener = sockets::listen(scene.app(APP), protocol, SocketAddr::new(LOOPBACK[0], 8080)).unwrap();
            scene.denied("mallory's socket in the proxy's hands", |_| {
                let _ = connect(&socket, SocketAddr::new(LOOPBACK[0], 8080));
                let _ = sockets::send(&socket, b"take this");
            });
            assert_silent(&listener, "what mallory's socket sent");
        }
    }
}

/// A limit that the design declares: an accepted socket is a copy of the listener, whoever accepts, so that a listener
/// that is passed on takes its maker's rights along.
#[test]
fn a_connection_that_another_accepts_has_the_listeners_rights_a_documented_limit() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        for address in LOOPBACK {
            let to = SocketAddr::new(address, 8080);
            let listener = sockets::listen(scene.app(APP), Protocol::Tcp, to).unwrap();
            let client = bound(scene.app(PROXY), Protocol::Tcp, scene.fresh(address)).unwrap();
            connect(&client, to).unwrap();
            sockets::readable(&listener, sidewall_tests::scene::LIMIT).unwrap();
            let accepted = scene.app(MALLORY).accept(&listener).unwrap();
            sockets::send(&client, b"a password").unwrap();
            assert_eq!(heard(&accepted).unwrap().as_deref(), Some(&b"a password"[..]), "{by:?} {to}");
        }
    }
}

#[test]
fn a_process_of_no_container_reaches_nothing_and_receives_nothing() {
    let mut scene = Scene::bare(PROGRAM);
    let stranger = scene.stranger(27_777);
    let peer = scene.armed(APP, &[]);
    for by in By::ALL {
        for (isolated, spec) in [
            ("Egress", serde_json::json!({"containers": ["shipper"], "policyTypes": ["Egress"]})),
            ("Ingress", serde_json::json!({"containers": ["shipper"], "policyTypes": ["Ingress"]})),
        ] {
            scene.by = by;
            scene.enforce(&[sidewall_tests::scene::policy("one", spec)]);
            for protocol in TRANSPORTS {
                for address in LOOPBACK.into_iter().chain(POD) {
                    // To the application, which nobody isolates, and from it to a port that nobody declares.
                    for (client, server, port, denied) in [
                        (&stranger, &peer, 8080, isolated == "Egress"),
                        (&peer, &stranger, 9999, isolated == "Ingress"),
                    ] {
                        let (from, to) = (scene.fresh(address), SocketAddr::new(address, port));
                        if !denied {
                            let flow = Flow::open(client, server, protocol, from, to);
                            assert!(flow.is_ok(), "{by:?} {isolated} {protocol} {to}: {:?}", flow.err());
                            continue;
                        }
                        let listener = sockets::listen(server, protocol, to).unwrap();
                        let socket = bound(client, protocol, from).unwrap();
                        scene.denied(isolated, |_| {
                            let _ = connect(&socket, to);
                            let _ = sockets::send(&socket, b"take this");
                        });
                        assert_silent(&listener, "what the stranger sent, or was sent");
                        assert!(client.accept(&listener).is_err(), "{by:?} {isolated} {to}: a connection");
                    }
                }
                for collector in COLLECTORS {
                    let (from, to) = (scene.fresh(unspecified(collector)), SocketAddr::new(collector, 7000));
                    if isolated == "Egress" {
                        let listener = sockets::listen(scene.outside(), protocol, to).unwrap();
                        let client = bound(&stranger, protocol, from).unwrap();
                        scene.denied("the stranger to the network", |_| {
                            let _ = connect(&client, to);
                            let _ = sockets::send(&client, b"take this");
                        });
                        assert_silent(&listener, "what the stranger sent to the network");
                    } else {
                        let to = SocketAddr::new(POD[usize::from(collector.is_ipv6())], 9998);
                        let from = SocketAddr::new(collector, from.port());
                        let listener = sockets::listen(&stranger, protocol, to).unwrap();
                        let client = bound(scene.outside(), protocol, from).unwrap();
                        scene.denied("the network to the stranger", |_| {
                            let _ = connect(&client, to);
                            let _ = sockets::send(&client, b"take this");
                        });
                        assert_silent(&listener, "what the network sent to the stranger");
                    }
                }
            }
        }
    }
}

fn unspecified(like: std::net::IpAddr) -> std::net::IpAddr {
    if like.is_ipv4() { std::net::Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() }
}

#[test]
fn who_takes_anothers_old_udp_port_cannot_answer_its_client() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        // On loopback: the application leaves its port, mallory takes it.
        for address in LOOPBACK.into_iter().chain(POD) {
            let flow =
                scene.flow(End::Container(PROXY), End::Container(APP), Protocol::Udp, SocketAddr::new(address, 8080));
            let Flow { client, server, from, to, .. } = flow;
            drop(server);
            let taken = take_left(scene.app(MALLORY), to).unwrap();
            scene.found_forged("an answer from the taken port", |_| {
                let _ = send_to(&taken, b"forged", from);
            });
            assert_silent(&client, "from the taken port");
            // And it does not hear what was meant for the application.
            scene.denied("what is still sent to the taken port", |_| {
                let _ = sockets::send(&client, b"a secret");
                if by != By::Cgroup {
                    // The user is not known where it arrives: it is when mallory answers.
                    let _ = send_to(&taken, b"forged", from);
                }
            });
            if by == By::Cgroup {
                assert_silent(&taken, "what was meant for the application");
            }
            assert_silent(&client, "from the taken port");
        }
        // On the network: the proxy's port.
        for (client_at, pod) in sidewall_tests::scene::CLIENTS.into_iter().zip(POD) {
            let from = SocketAddr::new(client_at, scene.port());
            let to = SocketAddr::new(pod, 8443);
            let flow = scene.flow_from(End::Outside, End::Container(PROXY), Protocol::Udp, from, to);
            drop(flow.server);
            let taken = take_left(scene.app(MALLORY), to).unwrap();
            scene.found_forged("an answer to the network from the taken port", |_| {
                let _ = send_to(&taken, b"forged", from);
            });
            assert_silent(&flow.client, "from the taken port");
        }
        // The client's port: mallory takes what the application used toward the collector.
        for collector in COLLECTORS {
            let to = SocketAddr::new(collector, 7000);
            let flow = scene.flow(End::Container(APP), End::Outside, Protocol::Udp, to);
            let Flow { client, server, from, .. } = flow;
            drop(client);
            let taken = bound(scene.app(MALLORY), Protocol::Udp, from).unwrap();
            connect(&taken, to).unwrap();
            scene.denied("to the collector from the taken port", |_| {
                let _ = sockets::send(&taken, b"exfiltrated");
            });
            assert_silent(&server, "from the taken client's port");
            if by == By::Cgroup {
                scene.denied("from the collector to the taken port", |_| {
                    let _ = sockets::send(&server, b"a command");
                });
                assert_silent(&taken, "from the collector");
            }
        }
    }
}

#[test]
fn who_takes_anothers_tcp_port_hears_nobody() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        for address in LOOPBACK.into_iter().chain(POD) {
            let to = SocketAddr::new(address, 8080);
            // While the application listens, the kernel refuses another; afterwards it does not.
            let listener = sockets::listen(scene.app(APP), Protocol::Tcp, to).unwrap();
            assert!(sockets::listen(scene.app(MALLORY), Protocol::Tcp, to).is_err());
            drop(listener);
            let taken = sockets::listen(scene.app(MALLORY), Protocol::Tcp, to).unwrap();
            let source = scene.fresh(unspecified(address));
            let client = bound(scene.app(PROXY), Protocol::Tcp, source).unwrap();
            scene.denied("a connection to the taken port", |_| {
                let _ = connect(&client, to);
            });
            assert!(scene.app(MALLORY).accept(&taken).is_err(), "{by:?} {to}: the thief has a connection");
        }
        for (from, pod) in sidewall_tests::scene::CLIENTS.into_iter().zip(POD) {
            let to = SocketAddr::new(pod, 8443);
            let taken = sockets::listen(scene.app(MALLORY), Protocol::Tcp, to).unwrap();
            let client = bound(scene.outside(), Protocol::Tcp, SocketAddr::new(from, scene.port())).unwrap();
            scene.denied("a connection from the network to the taken port", |_| {
                let _ = connect(&client, to);
            });
            assert!(scene.app(MALLORY).accept(&taken).is_err(), "{by:?} {to}: the thief has a connection");
        }
    }
}

#[test]
fn only_the_same_user_can_join_a_reuseport_group_and_under_cgroups_hears_nothing_there() {
    let mut scene = Scene::bare(PROGRAM);
    // A process of mallory's container with the application's user and group: under Kubernetes, two containers of one
    // user.
    let twin = scene.disguised(Some(MALLORY), (uid(APP), gid(APP)), &[]);
    let to = SocketAddr::new(LOOPBACK[0], 8080);
    let join = |maker: &sidewall_tests::party::Maker| {
        let socket = maker.socket(sockets::family(to.ip()), rustix::net::SocketType::DGRAM, 0)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        rustix::net::bind(&socket, &to)?;
        std::io::Result::Ok(socket)
    };
    for by in By::ALL {
        scene.stand(by);
        let _own = join(scene.app(APP)).unwrap();
        assert!(join(scene.app(MALLORY)).is_err(), "{by:?}: another user joins the group");
        let theirs = join(&twin).unwrap();
        // Enough clients for both members of the group.
        let mut heard = 0;
        for _ in 0..32 {
            let source = scene.fresh(LOOPBACK[0]);
            let client = bound(scene.app(PROXY), Protocol::Udp, source).unwrap();
            let _ = send_to(&client, b"a password", to);
            heard += usize::from(matches!(sockets::arrived(&theirs), Ok(Some(_))));
        }
        if by == By::Cgroup {
            assert_eq!(heard, 0, "the twin hears what is meant for the application");
            assert!(scene.lab.denials() > 0, "no client was led to the twin: the test tried nothing");
        } else {
            // A limit that the design declares: by user or group, twins are one.
            assert!(heard > 0, "{by:?}: the kernel led nobody to the twin");
        }
    }
}

#[test]
fn a_sender_bound_to_any_local_address_is_still_itself() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        for protocol in TRANSPORTS {
            for (from, to) in [
                ("127.0.0.1", "127.0.0.9"),
                ("127.3.2.1", "127.0.0.1"),
                ("10.77.0.2", "127.0.0.1"),
                ("127.0.0.1", "10.77.0.2"),
                ("10.77.0.2", "127.200.0.1"),
                ("fd77::2", "::1"),
                ("::1", "fd77::2"),
            ] {
                let from = SocketAddr::new(from.parse().unwrap(), scene.port());
                let to = SocketAddr::new(to.parse().unwrap(), 8080);
                drop(scene.flow_from(End::Container(PROXY), End::Container(APP), protocol, from, to));
                let from = SocketAddr::new(from.ip(), scene.port());
                let listener = sockets::listen(scene.app(APP), protocol, to).unwrap();
                let client = bound(scene.app(SHIPPER), protocol, from).unwrap();
                scene.denied("the shipper to the proxy's port of the application", |_| {
                    let _ = connect(&client, to);
                    let _ = sockets::send(&client, b"take this");
                });
                assert_silent(&listener, "from the shipper");
            }
        }
    }
}

#[test]
fn ipv4_in_an_ipv6_socket_is_judged_as_ipv4() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        for protocol in TRANSPORTS {
            let mapped: SocketAddr = "[::ffff:127.0.0.1]:8080".parse().unwrap();
            let plain: SocketAddr = "127.0.0.1:8080".parse().unwrap();
            let source = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), scene.port());
            let listener = sockets::listen(scene.app(APP), protocol, plain).unwrap();
            let client = bound_mapped(scene.app(PROXY), protocol, source);
            let flow = Flow::between(scene.app(APP), protocol, client, listener, mapped);
            // The way back to a mapped client is plain IPv4, which a UDP server connects to as such.
            match (protocol, flow) {
                (Protocol::Tcp, Ok(flow)) => flow.works().unwrap(),
                (Protocol::Tcp, Err(error)) => panic!("{by:?}: {error}"),
                _ => {}
            }
            for (number, allowed) in [(PROXY, true), (SHIPPER, false), (MALLORY, false)] {
                let listener = sockets::listen(scene.app(APP), Protocol::Udp, plain).unwrap();
                let source = SocketAddr::new(source.ip(), scene.port());
                let client = bound_mapped(scene.app(number), Protocol::Udp, source);
                let send = |_: &mut Scene| {
                    let _ = connect(&client, mapped);
                    let _ = sockets::send(&client, b"take this");
                };
                if allowed {
                    send(&mut scene);
                    assert_eq!(heard(&listener).unwrap().as_deref(), Some(&b"take this"[..]), "{by:?}");
                } else {
                    scene.denied("over a mapped address", send);
                    assert_silent(&listener, "over a mapped address");
                }
            }
        }
    }
}

fn bound_mapped(maker: &sidewall_tests::party::Maker, protocol: Protocol, at: SocketAddr) -> rustix::fd::OwnedFd {
    let kind = if protocol == Protocol::Udp { rustix::net::SocketType::DGRAM } else { rustix::net::SocketType::STREAM };
    let socket = maker.socket(rustix::net::AddressFamily::INET6, kind, 0).unwrap();
    sockopt::set_ipv6_v6only(&socket, false).unwrap();
    rustix::net::bind(&socket, &at).unwrap();
    socket
}
