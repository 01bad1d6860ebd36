//! No packet meets half a ruleset, or none.

use crate::support::*;
use sidewall_netfilter::{Kernel, LoadError, LoadOptions};
use sidewall_policy::ruleset::{Field, HookPoint, Kind, Ruleset, Statement, Verdict};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const PORT: u16 = 4000;

/// Two rulesets that drop the same packets by different means.
fn walls(by_set: bool) -> Ruleset {
    let drop = verdict(Verdict::Drop);
    let (sets, first) = if by_set {
        let ports = set("ports", &[Kind::Port], false, vec![element(&[PORT.into()])]);
        let lookup =
            Statement::Lookup { fields: vec![Field::DestinationPort], mask: None, set: "ports".into(), negate: false };
        (vec![ports], rule([lookup, drop]))
    } else {
        let jump = verdict(Verdict::Jump("leaf".into()));
        (Vec::new(), rule([equal(Field::DestinationPort, PORT.into()), jump]))
    };
    ruleset(vec![table(
        &[],
        sets,
        vec![base("in", HookPoint::Input, true, [first]), chain("leaf", [rule([verdict(Verdict::Drop)])])],
    )])
}

/// Loads 200 times while a thread sends; says how many packets were sent and how many came through.
fn replace_under_traffic(load: impl Fn(&mut Kernel, usize) -> Result<(), LoadError>) -> (u64, u64) {
    let (namespace, mut kernel) = namespace();
    let (receiver, sender) = namespace
        .run(|| (UdpSocket::bind(("127.0.0.1", PORT)).unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap()))
        .unwrap();
    receiver.set_nonblocking(true).unwrap();
    sender.connect(("127.0.0.1", PORT)).unwrap();
    sender.send(b"x").unwrap();
    assert!(receiver.recv(&mut [0; 8]).is_ok(), "nothing stands in the way yet");

    kernel.load(&walls(true), LoadOptions::default()).unwrap();
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                sender.send(b"x").unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut failed = None;
        for round in 0..200 {
            if let Err(error) = load(&mut kernel, round) {
                failed = Some(error);
                break;
            }
            // So that packets meet every one of the rulesets, on one processor too.
            let before = sent.load(Ordering::Relaxed);
            for _ in 0..1_000_000 {
                if sent.load(Ordering::Relaxed) > before + 2 {
                    break;
                }
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(failed.is_none(), "{failed:?}");
    });
    // Loopback delivers before `send` returns.
    let mut received = 0;
    while receiver.recv(&mut [0; 8]).is_ok() {
        received += 1;
    }
    (sent.into_inner(), received)
}

#[test]
fn nothing_passes_while_the_tables_are_replaced() {
    let (sent, received) =
        replace_under_traffic(|kernel, round| kernel.load(&walls(round % 2 == 0), LoadOptions::default()).map(|_| ()));
    println!("{sent} packets while 200 tables were loaded");
    assert!(sent > 400);
    assert_eq!(received, 0, "a packet got through");
}

#[test]
fn replacing_in_two_steps_would_be_noticed() {
    let (_, received) = replace_under_traffic(|kernel, round| {
        kernel.unload()?;
        std::thread::yield_now();
        kernel.load(&walls(round % 2 == 0), LoadOptions::default()).map(|_| ())
    });
    assert!(received > 0);
}

/// A ruleset that accepts one port by way of a verdict map, an interval and a chain, and drops all others. `number` makes
/// it another one.
fn gate(number: u128) -> Ruleset {
    let leaf = Verdict::Goto("leaf".into());
    let lookup =
        Statement::Lookup { fields: vec![Field::DestinationPort], mask: None, set: "ports".into(), negate: false };
    let mut gotos: Vec<_> = (0..300).map(|i| to(&[10_000 + i], leaf.clone())).collect();
    gotos.insert(0, to(&[PORT.into()], leaf));
    ruleset(vec![table(
        &[],
        vec![
            set("ports", &[Kind::Port], true, vec![range(number, number), range(PORT.into(), PORT.into())]),
            set("gotos", &[Kind::Port], false, gotos),
        ],
        vec![
            base(
                "in",
                HookPoint::Input,
                true,
                [
                    rule([Statement::Dispatch {
                        fields: vec![Field::DestinationPort],
                        mask: None,
                        map: "gotos".into(),
                    }]),
                    rule([verdict(Verdict::Drop)]),
                ],
            ),
            chain("leaf", [rule([lookup, verdict(Verdict::Accept)]), rule([verdict(Verdict::Drop)])]),
        ],
    )])
}

#[test]
fn nothing_is_lost_while_sets_and_chains_are_replaced() {
    let (namespace, mut kernel) = namespace();
    let (receiver, sender) = namespace
        .run(|| (UdpSocket::bind(("127.0.0.1", PORT)).unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap()))
        .unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    sender.connect(("127.0.0.1", PORT)).unwrap();
    kernel.load(&gate(1), LoadOptions::default()).unwrap();
    let (stop, carried, lost) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                sender.send(b"x").unwrap();
                let counter = if receiver.recv(&mut [0; 8]).is_ok() { &carried } else { &lost };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        let loaded: Result<Vec<_>, _> =
            (0..300).map(|round| kernel.load(&gate(1 + round % 2), LoadOptions::default())).collect();
        stop.store(true, Ordering::Relaxed);
        loaded.unwrap();
    });
    let (carried, lost) = (carried.into_inner(), lost.into_inner());
    println!("{carried} packets while 300 rulesets were loaded");
    assert!(carried > 600, "too little ran meanwhile");
    assert_eq!(lost, 0, "of {} packets", carried + lost);
}
