//! Intervals at the corners: adjacent, at the ends of their type, of one value, of all.

use crate::support::*;
use sidewall_netfilter::{LoadOptions, Standing};
use sidewall_policy::ruleset::{Element, Field, HookPoint, Kind, Set, Statement, Verdict};
use std::net::{SocketAddr, UdpSocket};

#[test]
fn corner_intervals_load_and_read_back() {
    let (v4, v6) = (u128::from(u32::MAX), u128::MAX);
    let sets = vec![
        set("all4", &[Kind::Ipv4], true, vec![range(0, v4)]),
        set("all6", &[Kind::Ipv6], true, vec![range(0, v6)]),
        set("last4", &[Kind::Ipv4], true, vec![range(v4, v4)]),
        set("last6", &[Kind::Ipv6], true, vec![range(v6, v6)]),
        set("first4", &[Kind::Ipv4], true, vec![range(0, 0)]),
        set("first6", &[Kind::Ipv6], true, vec![range(0, 0), range(1, 1)]),
        set("halves4", &[Kind::Ipv4], true, vec![range(0, 0x7fff_ffff), range(0x8000_0000, v4)]),
        set("halves6", &[Kind::Ipv6], true, vec![range(0, v6 >> 1), range((v6 >> 1) + 1, v6)]),
        set("ports", &[Kind::Port], true, vec![range(0, 1), range(2, 2), range(65535, 65535)]),
        set("uids", &[Kind::Uid], true, vec![range(0, 0), range(1, v4)]),
        set("bytes", &[Kind::Protocol], true, vec![range(6, 17), range(255, 255)]),
        set("none", &[Kind::Ipv6], true, Vec::new()),
        set("cgroups", &[Kind::Cgroup], true, vec![range(u64::MAX.into(), u64::MAX.into())]),
    ];
    let ruleset = ruleset(vec![table(&[], sets, vec![base("out", HookPoint::Output, true, [])])]);
    let (namespace, mut kernel) = namespace();
    kernel.load(&ruleset, LoadOptions::default()).unwrap();
    assert_eq!(kernel.verify(&ruleset).unwrap(), Standing::AsLoaded);
    let text = nft(&namespace, &["list", "ruleset"]);
    for elements in ["{ 0.0.0.0/0 }", "{ ::/0 }", "{ 255.255.255.255 }", "{ ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff }"]
    {
        assert!(text.contains(elements), "no {elements} in {text}");
    }
}

/// Which of the last bytes 0 to 12 of 127.0.0.x are in the set, by a packet to each.
fn found(set: Set) -> Vec<u8> {
    let name = set.name.clone();
    let lookup = Statement::Lookup { fields: vec![Field::Ipv4Destination], mask: None, set: name, negate: false };
    let ruleset = ruleset(vec![table(
        &["found"],
        vec![set],
        vec![base(
            "out",
            HookPoint::Output,
            true,
            [rule([
                equal(Field::DestinationPort, 4000),
                lookup,
                Statement::Count("found".into()),
                verdict(Verdict::Drop),
            ])],
        )],
    )]);
    let (namespace, mut kernel) = namespace();
    kernel.load(&ruleset, LoadOptions::default()).unwrap();
    assert_eq!(kernel.verify(&ruleset).unwrap(), Standing::AsLoaded);
    let sender = namespace.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let mut found = Vec::new();
    for last in 0..=12 {
        let before = kernel.counters().unwrap()["found"].packets;
        // A port unreachable of the packet before, or the drop itself: the counter decides.
        let to = SocketAddr::from(([127, 0, 0, last], 4000));
        let _ = sender.send_to(b"x", to);
        let _ = sender.send_to(b"x", to);
        if kernel.counters().unwrap()["found"].packets > before {
            found.push(last);
        }
    }
    found
}

fn at(last: u128) -> u128 {
    ip4("127.0.0.0") + last
}

#[test]
fn adjacent_ranges_hold_what_they_say() {
    let ranges =
        |ranges: &[(u128, u128)]| -> Vec<Element> { ranges.iter().map(|(a, b)| range(at(*a), at(*b))).collect() };
    let nets = |elements| set("nets", &[Kind::Ipv4], true, elements);
    assert_eq!(found(nets(ranges(&[(2, 3), (4, 4), (5, 5), (7, 8), (10, 11)]))), [2, 3, 4, 5, 7, 8, 10, 11]);
    assert_eq!(found(nets(vec![range(0, at(3)), range(at(11), u32::MAX.into())])), [0, 1, 2, 3, 11, 12]);
    assert_eq!(found(nets((0..6).map(|i| range(at(2 * i + 1), at(2 * i + 1))).collect())), [1, 3, 5, 7, 9, 11]);
    assert_eq!(found(nets((0..13).map(|i| range(at(i), at(i))).collect())), (0..13).collect::<Vec<u8>>());
}

#[test]
fn a_verdict_map_of_adjacent_ranges_gives_each_its_own() {
    let map = Set {
        name: "ports".into(),
        key: vec![Kind::Port],
        interval: true,
        map: true,
        counts: false,
        grows: false,
        elements: [(4000, 4009, "first"), (4010, 4019, "second"), (4030, 65535, "third")]
            .map(|(first, last, to): (u128, u128, &str)| Element {
                key: first.into(),
                last: Some(last),
                verdict: Some(Verdict::Goto(to.into())),
                counter: None,
            })
            .to_vec(),
    };
    let names = ["first", "second", "third", "none"];
    let mut chains: Vec<_> = names
        .iter()
        .map(|name| chain(name, [rule([Statement::Count((*name).to_owned()), verdict(Verdict::Drop)])]))
        .collect();
    chains.push(base(
        "out",
        HookPoint::Output,
        true,
        [
            rule([Statement::Dispatch { fields: vec![Field::DestinationPort], mask: None, map: "ports".into() }]),
            rule([equal(Field::Protocol, 17), verdict(Verdict::Goto("none".into()))]),
        ],
    ));
    let ruleset = ruleset(vec![table(&names, vec![map], chains)]);
    let (namespace, mut kernel) = namespace();
    kernel.load(&ruleset, LoadOptions::default()).unwrap();
    assert_eq!(kernel.verify(&ruleset).unwrap(), Standing::AsLoaded);
    let sender = namespace.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    for port in [3999, 4000, 4009, 4010, 4019, 4020, 4029, 4030, 65535] {
        // Dropped at OUTPUT: the sender is told.
        sender.send_to(b"x", ("127.0.0.1", port)).unwrap_err();
    }
    let counted: Vec<u64> = names.iter().map(|name| kernel.counters().unwrap()[*name].packets).collect();
    assert_eq!(counted, [2, 2, 2, 3]);
}

#[test]
fn a_map_to_counters_counts_by_key_and_goes_on() {
    let element =
        |first: u128, last, to: &str| Element { key: first.into(), last, verdict: None, counter: Some(to.into()) };
    let singles =
        set("singles", &[Kind::Port], false, vec![element(4000, None, "first"), element(4001, None, "second")]);
    let ranges = set(
        "ranges",
        &[Kind::Port],
        true,
        vec![
            element(4010, Some(4019), "first"),
            element(4020, Some(4029), "second"),
            element(4100, Some(65535), "third"),
        ],
    );
    let by = |map: &str| Statement::CountBy { fields: vec![Field::DestinationPort], map: map.to_owned() };
    let counters = ["first", "second", "third", "none"];
    let rules = [
        rule([equal(Field::Protocol, 17), by("singles"), verdict(Verdict::Drop)]),
        rule([equal(Field::Protocol, 17), by("ranges"), verdict(Verdict::Drop)]),
        rule([equal(Field::Protocol, 17), Statement::Count("none".into()), verdict(Verdict::Drop)]),
    ];
    let table = table(&counters, vec![singles, ranges], vec![base("out", HookPoint::Output, true, rules)]);
    let ruleset = ruleset(vec![table]);
    let (namespace, mut kernel) = namespace();
    // Twice, so that it stands in each slot once.
    for _ in 0..2 {
        kernel.load(&ruleset, LoadOptions::default()).unwrap();
        assert_eq!(kernel.verify(&ruleset).unwrap(), Standing::AsLoaded);
    }
    let sender = namespace.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    for port in [3999, 4000, 4001, 4002, 4009, 4010, 4019, 4020, 4029, 4030, 65535] {
        sender.send_to(b"x", ("127.0.0.1", port)).unwrap_err();
    }
    let counted: Vec<u64> = counters.iter().map(|name| kernel.counters().unwrap()[*name].packets).collect();
    assert_eq!(counted, [3, 3, 1, 4]);
}
