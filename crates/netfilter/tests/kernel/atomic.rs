//! No packet meets half a ruleset, or none.

use crate::support::*;
use sidewall_netfilter::LoadOptions;
use sidewall_policy::ruleset::{Field, HookPoint, Kind, Ruleset, Statement, Verdict};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

#[test]
fn nothing_passes_while_the_tables_are_replaced() {
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
            if let Err(error) = kernel.load(&walls(round % 2 == 0), LoadOptions::default()) {
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
    let sent = sent.into_inner();
    println!("{sent} packets while 200 tables were loaded");
    assert!(sent > 400);
    assert!(receiver.recv(&mut [0; 8]).is_err(), "a packet got through");
}
