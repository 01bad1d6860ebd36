//! Invariant 6: a change that denies a live connection ends it at its next packet, whichever end sends it; what stays
//! allowed notices nothing.

use sidewall_api::ContainerNetworkPolicy;
use sidewall_flow::Protocol;
use sidewall_policy::Generation;
use sidewall_tests::lab::By;
use sidewall_tests::scene::{
    APP, CLIENTS, COLLECTORS, End, Flow, LIMIT, LOOPBACK, POD, PROXY, SHIPPER, Scene, TRANSPORTS, assert_silent, walls,
};
use sidewall_tests::sockets;
use std::net::SocketAddr;
use std::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

/// The ways that a flow can take.
const KINDS: [&str; 4] = ["loopback", "the pod's own address", "from the network", "to the network"];

fn open(scene: &mut Scene, kind: &str, protocol: Protocol, family: usize) -> Flow {
    let own = if kind == KINDS[0] { LOOPBACK[family] } else { POD[family] };
    match kind {
        "from the network" => {
            let (from, to) = (scene.fresh(CLIENTS[family]), SocketAddr::new(POD[family], 8443));
            scene.flow_from(End::Outside, End::Container(PROXY), protocol, from, to)
        }
        "to the network" => {
            let to = SocketAddr::new(COLLECTORS[family], 7000);
            scene.flow(End::Container(APP), End::Outside, protocol, to)
        }
        _ => scene.flow(End::Container(PROXY), End::Container(APP), protocol, SocketAddr::new(own, 8080)),
    }
}

/// The walls without anything that lets the flows of [`KINDS`] pass.
fn revoked() -> Vec<ContainerNetworkPolicy> {
    let mut policies = walls();
    for policy in &mut policies {
        if policy.metadata.name.as_deref() != Some("shipper") {
            // The shipper's way to the application stays.
            let shipper = |peer: &sidewall_api::policy::Peer| peer.container.as_deref() == Some("shipper");
            let ingress = policy.spec.ingress.take().unwrap_or_default();
            policy.spec.ingress = Some(ingress.into_iter().filter(|rule| rule.from.iter().any(shipper)).collect());
            policy.spec.egress = None;
        }
    }
    policies
}

#[test]
fn the_next_packet_of_either_end_is_refused() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        for protocol in TRANSPORTS {
            for kind in KINDS {
                for client_first in [true, false] {
                    scene.stand(by);
                    let flows = [0, 1].map(|family| open(&mut scene, kind, protocol, family));
                    // A flow that stays allowed.
                    let to = SocketAddr::new(LOOPBACK[0], 8081);
                    let stays = scene.flow(End::Container(SHIPPER), End::Container(APP), protocol, to);
                    scene.enforce(&revoked());
                    for flow in &flows {
                        let what =
                            format!("{by:?} {protocol} {kind} {} to {}, client {client_first}", flow.from, flow.to);
                        let ends = [&flow.client, &flow.server];
                        let [first, other] = if client_first { ends } else { [ends[1], ends[0]] };
                        let ((), denied) = scene.denials_during(|scene| {
                            scene.denied(&what, |_| {
                                let _ = sockets::send(first, b"after");
                            });
                        });
                        assert_silent(other, &what);
                        assert!(denied > 0, "{what}");
                        // And the other end's.
                        let _ = sockets::send(other, b"after");
                        let _ = sockets::send(other, b"after that");
                        let outside = kind.ends_with("the network");
                        if protocol == Protocol::Tcp && !outside {
                            for end in ends {
                                assert!(is_over(end), "{what}: an end still believes in the connection");
                            }
                        }
                        assert_silent(first, &what);
                        assert_silent(other, &what);
                        if protocol == Protocol::Tcp && outside {
                            // The end in the pod learns of it when it sends.
                            let inside = if kind == "to the network" { &flow.client } else { &flow.server };
                            let _ = sockets::send(inside, b"and again");
                            assert!(is_over(inside), "{what}: the pod's end still believes in the connection");
                        }
                    }
                    stays.works().unwrap_or_else(|error| panic!("{by:?} {kind}: what stays allowed: {error}"));
                }
            }
        }
    }
}

/// Whether a connection ends within [`LIMIT`]: reset, or closed.
fn is_over(end: &rustix::fd::OwnedFd) -> bool {
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        match sockets::arrived(end) {
            Err(_) => return true,
            Ok(Some(data)) => return data.is_empty(),
            Ok(None) => {}
        }
        if sockets::send(end, b"?").is_err() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    false
}

#[test]
fn what_stays_allowed_notices_nothing_round_the_generations() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        let mut flows = Vec::new();
        for protocol in TRANSPORTS {
            for (index, kind) in KINDS.into_iter().enumerate() {
                flows.push((kind, open(&mut scene, kind, protocol, index % 2)));
                flows.push((kind, open(&mut scene, kind, protocol, (index + 1) % 2)));
            }
        }
        // One that speaks seldom: it misses whole rounds, and the number that it bears comes round again.
        let to = SocketAddr::new(LOOPBACK[1], 8081);
        let seldom = scene.flow(End::Container(SHIPPER), End::Container(APP), Protocol::Tcp, to);
        // And one that is denied while it is silent, and stays so when its number comes round.
        let to = SocketAddr::new(COLLECTORS[0], 7001);
        let ended = scene.flow(End::Container(SHIPPER), End::Outside, Protocol::Udp, to);
        let mut without = walls();
        for policy in &mut without {
            if let Some(egress) = &mut policy.spec.egress {
                let denied = policy.metadata.name.as_deref() == Some("shipper");
                egress.retain(|rule| !(denied && rule.to.iter().any(|peer| peer.ip_block.is_some())));
            }
        }
        for round in 0..2 * u32::from(Generation::COUNT) + 3 {
            scene.enforce(&without);
            let ((), denied) = scene.denials_during(|scene| {
                for (index, (kind, flow)) in flows.iter().enumerate() {
                    // Now the client speaks first, now the server.
                    let ends = [&flow.client, &flow.server];
                    let order = if (round as usize + index).is_multiple_of(2) { [0, 1] } else { [1, 0] };
                    for from in order {
                        sidewall_tests::scene::carries(ends[from], ends[1 - from], b"on").unwrap_or_else(|error| {
                            let Flow { protocol, from, to, .. } = flow;
                            panic!("{by:?} round {round} {kind} {protocol} {from} to {to}: {error}; {}", scene.moved())
                        });
                    }
                }
            });
            assert_eq!(denied, 0, "{by:?} round {round}");
        }
        seldom.works().unwrap_or_else(|error| panic!("{by:?}: the flow that spoke seldom: {error}"));
        scene.denied("what was denied before a round", |_| {
            let _ = sockets::send(&ended.client, b"after");
        });
        assert_silent(&ended.server, "what was denied before a round");
    }
}
