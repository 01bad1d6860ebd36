//! Invariant 3: a pod's rules are replaced in one transaction, and no packet meets half of them.

use sidewall_flow::{Place, Protocol};
use sidewall_netfilter::nflog::{LogEvent, LogReader};
use sidewall_policy::ruleset::Statement;
use sidewall_tests::lab::{self, By};
use sidewall_tests::scene::{
    APP, COLLECTORS, End, LOOPBACK, MALLORY, POD, PROXY, Scene, assert_silent, bound, carries, policy, send_to, walls,
};
use sidewall_tests::sockets;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

/// Whether a decision is about what a container opened.
fn is_about(place: Place, number: u8) -> bool {
    let party = lab::container(number);
    match place {
        Place::Egress(sender) | Place::LoopbackFrom(sender) | Place::Loopback { sender, .. } => sender == party,
        _ => false,
    }
}

/// How often the rules are replaced for each way to tell containers apart: 300 times in all.
const REPLACEMENTS: u32 = 100;

#[test]
fn nothing_denied_passes_while_rules_are_replaced() {
    replace(false);
}

#[test]
fn nothing_allowed_is_lost_while_rules_are_replaced() {
    replace(true);
}

/// Replaces rules again and again under traffic; `with_flows`: also under flows that both rulesets allow.
fn replace(with_flows: bool) {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        scene.stand(by);
        let one = walls();
        // Another ruleset with the same answers to what runs here.
        let mut other = walls();
        other.push(policy(
            "more",
            serde_json::json!({
                "containers": ["shipper"], "policyTypes": ["Ingress", "Egress"],
                "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 1234}]}],
            }),
        ));
        let allowed = [
            (End::Container(PROXY), End::Container(APP), Protocol::Tcp, SocketAddr::new(LOOPBACK[0], 8080)),
            (End::Container(PROXY), End::Container(APP), Protocol::Udp, SocketAddr::new(LOOPBACK[1], 8080)),
            (End::Container(APP), End::Outside, Protocol::Tcp, SocketAddr::new(COLLECTORS[1], 7000)),
            (End::Container(APP), End::Outside, Protocol::Udp, SocketAddr::new(COLLECTORS[0], 7000)),
        ]
        .map(|(client, server, protocol, to)| scene.flow(client, server, protocol, to));
        // Mallory sends to listeners that hear everything that comes.
        let denied: Vec<_> = [
            SocketAddr::new(LOOPBACK[0], 8081),
            SocketAddr::new(POD[1], 8081),
            SocketAddr::new(COLLECTORS[0], 7001),
            SocketAddr::new(COLLECTORS[1], 7001),
        ]
        .into_iter()
        .map(|to| {
            let server = if COLLECTORS.contains(&to.ip()) { scene.outside() } else { scene.app(APP) };
            let listener = sockets::listen(server, Protocol::Udp, to).unwrap();
            let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
            let client = bound(scene.app(MALLORY), Protocol::Udp, scene.fresh(any.parse().unwrap())).unwrap();
            (client, listener, to)
        })
        .collect();
        let stop = AtomicBool::new(false);
        let (sent, carried) = (AtomicU64::new(0), AtomicU64::new(0));
        // What the rules said of packets that are not mallory's: each of them was lost.
        let mut log = LogReader::open(&scene.lab.pod, Statement::LOG_GROUP).unwrap();
        let mut lost = Vec::new();
        let mut failure = None;
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for (client, _, to) in &denied {
                        let _ = send_to(client, b"denied", *to);
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    std::thread::yield_now();
                }
            });
            let (stop, carried, allowed, failure) = (&stop, &carried, &allowed, &mut failure);
            threads.spawn(move || {
                let stopped = || !with_flows || stop.load(Ordering::Relaxed);
                while !stopped() {
                    for flow in allowed {
                        for (from, to) in [(&flow.client, &flow.server), (&flow.server, &flow.client)] {
                            if let Err(error) = carries(from, to, b"allowed") {
                                stop.store(true, Ordering::Relaxed);
                                *failure = Some(format!("{} {} to {}: {error}", flow.protocol, flow.from, flow.to));
                                return;
                            }
                            carried.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
            for round in 0..REPLACEMENTS {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                scene.enforce(if round % 2 == 0 { &other } else { &one });
                while let Some(event) = log.next(Duration::ZERO).unwrap() {
                    // The first ones will do.
                    if let LogEvent::Record(record) = event
                        && !is_about(record.decision.place, MALLORY)
                        && lost.len() < 3
                    {
                        lost.push((round, record.decision.to_string(), record.packet));
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let (sent, carried) = (sent.into_inner(), carried.into_inner());
        println!("{by:?}: {REPLACEMENTS} replacements, {sent} denied packets sent, {carried} allowed ones carried");
        for (_, listener, to) in &denied {
            assert_silent(listener, &format!("{by:?}: denied to {to}"));
        }
        if with_flows {
            assert_eq!(failure, None, "{by:?}: an allowed packet was lost; the log: {lost:?}");
            assert!(lost.is_empty(), "{by:?}: {lost:?}");
        }
        assert!(
            sent > u64::from(REPLACEMENTS) && (!with_flows || carried > u64::from(REPLACEMENTS)),
            "too little ran meanwhile"
        );
    }
}
