//! The generation in the mark of live flows.

use crate::support::*;
use sidewall_netfilter::LoadOptions;
use sidewall_policy::ruleset::{Field, Generation, HookPoint, Statement};
use std::net::UdpSocket;

#[test]
fn a_generation_is_retired_and_names_and_foreign_bits_stay() {
    let (namespace, mut kernel) = namespace();
    let mark = |port: u128, set: u32| rule([equal(Field::DestinationPort, port), Statement::SetMark { keep: 0, set }]);
    let ruleset = ruleset(vec![table(
        &[],
        Vec::new(),
        vec![base(
            "out",
            HookPoint::Output,
            true,
            [mark(4001, 0x0820_4abc), mark(4002, 0x0840_0001), mark(4003, 0x1020_4abc), mark(4004, 0x0000_0abc)],
        )],
    )]);
    kernel.load(&ruleset, LoadOptions::default()).unwrap();
    namespace
        .run(|| {
            let v4 = UdpSocket::bind("127.0.0.1:0").unwrap();
            let v6 = UdpSocket::bind("[::1]:0").unwrap();
            for port in 4001..=4004 {
                v4.send_to(b"x", ("127.0.0.1", port)).unwrap();
                // Nobody listens: the error of the packet before is told now, and no concern of ours.
                let _ = v6.send_to(b"x", ("::1", port));
                let _ = v6.send_to(b"x", ("::1", port));
            }
        })
        .unwrap_or_else(|error| panic!("{error}"));
    kernel.unload().unwrap();
    let [first, second] = [1, 2].map(|number| Generation::new(number).unwrap());
    let used = kernel.generations_in_use().unwrap();
    println!("{used:?}");
    let (ones, twos) = (used[&first], used[&second]);
    assert!(ones >= 2 && twos >= 1, "{used:?}");

    assert_eq!(kernel.retire(first).unwrap(), ones);
    let used = kernel.generations_in_use().unwrap();
    assert_eq!(used.get(&first), None);
    assert_eq!(used.get(&second), Some(&twos));
    assert_eq!(kernel.retire(first).unwrap(), 0);

    let flows = String::from_utf8(inside(&namespace, "conntrack", &["-L"]).stdout).unwrap();
    let mark_of = |port: u16| -> u32 {
        flows
            .lines()
            .find(|line| line.contains(&format!(" dport={port} ")))
            .and_then(|line| line.split("mark=").nth(1))
            .and_then(|rest| rest.split_whitespace().next())
            .unwrap_or_else(|| panic!("no flow to {port} in\n{flows}"))
            .parse()
            .unwrap()
    };
    // The number and the verdicts are gone, the names of the ends and the foreign bits are there.
    assert_eq!(mark_of(4001), 0x0020_0abc);
    assert_eq!(mark_of(4002), 0x0040_0001);
    assert_eq!(mark_of(4003), 0x1020_4abc);
    assert_eq!(mark_of(4004), 0xabc);
}
