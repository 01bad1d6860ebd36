//! A ruleset that becomes another by what differs.

use crate::pod::{PORT, Pod, amended, key, listener, number, passes, peer, sender};
use crate::support::*;
use sidewall_netfilter::{Because, Change, Kernel, LoadError, LoadOptions, Part, Standing, Way};
use sidewall_policy::ruleset::{Counter, Element, Field, Kind, Ruleset, Set, Statement, Verdict};
use std::net::UdpSocket;
use std::time::Instant;

const PLAIN: LoadOptions = LoadOptions { owner: false };

/// Changes, and holds the kernel to it.
fn change(kernel: &mut Kernel, from: &Ruleset, to: &Ruleset) -> Way {
    let changed = kernel.change(from, to, PLAIN).unwrap();
    assert_eq!(changed.generation, to.generation);
    assert_eq!(kernel.verify(to).unwrap(), Standing::AsLoaded);
    changed.way
}

#[test]
fn peers_come_and_go_and_counters_go_on() {
    let (namespace, mut kernel) = namespace();
    let listener = listener(&namespace);
    let [one, two] = [1, 2].map(|number| sender(&namespace, peer(number)));
    let first = Pod::of([1]).ruleset(1);
    kernel.load(&first, PLAIN).unwrap();
    assert!(passes(&one) && !passes(&two));
    let before = counted(&mut kernel);
    assert_eq!((before["pass"], before["deny"]), (1, 1));

    let both = Pod::of([1, 2]).ruleset(1);
    assert_eq!(change(&mut kernel, &first, &both), amended(1, 0, 0));
    assert!(passes(&one) && passes(&two));
    listener.recv(&mut [0; 8]).unwrap();
    assert_eq!(counted(&mut kernel)["deny"], 1, "counters begin anew");

    let error = kernel.change(&both, &first, PLAIN).unwrap_err();
    assert!(
        matches!(&error, LoadError::SameGeneration { place, generation }
        if place.part == Part::Elements("peers".into()) && *generation == number(1)),
        "{error:?}"
    );
    assert_eq!(kernel.verify(&both).unwrap(), Standing::AsLoaded, "an error changes nothing");
    assert!(passes(&two));

    let second = Pod::of([2]).ruleset(2);
    assert_eq!(change(&mut kernel, &both, &second), amended(0, 1, 1));
    assert!(!passes(&one) && passes(&two), "a flow outlives its peer");
    assert_eq!(counted(&mut kernel)["deny"], 2);
    assert_eq!(change(&mut kernel, &second, &second), Way::Nothing);
}

#[test]
fn an_element_moves_between_verdicts() {
    let (namespace, mut kernel) = namespace();
    let (_listener, one) = (listener(&namespace), sender(&namespace, peer(1)));
    let mut pod = Pod::of([1, 2]);
    let mut standing = pod.ruleset(1);
    kernel.load(&standing, PLAIN).unwrap();
    let expectations = [("pass", [1, 0, 0]), ("other", [1, 1, 0]), ("deny", [1, 1, 1]), ("pass", [2, 1, 1])];
    for (round, (chain, expected)) in (1..).zip(expectations) {
        pod.peers.insert(key(1), chain);
        let next = pod.ruleset(round);
        if round > 1 {
            assert_eq!(change(&mut kernel, &standing, &next), amended(1, 1, 1));
        }
        assert_eq!(passes(&one), chain != "deny");
        let counted = counted(&mut kernel);
        assert_eq!(["pass", "other", "deny"].map(|name| counted[name]), expected, "leading to {chain}");
        standing = next;
    }
}

#[test]
fn one_of_twenty_thousand() {
    const MANY: u32 = 20_000;
    let (namespace, mut kernel) = namespace();
    let _listener = listener(&namespace);
    let host = sender(&namespace, peer(3 * MANY + 50));
    let net = sender(&namespace, peer(3 * MANY));
    let mut pod = Pod::of(0..MANY);
    pod.hosts = (0..MANY).map(key).collect();
    pod.nets = (0..MANY).map(|number| (key(number * 3), key(number * 3 + 1))).collect();
    let mut standing = pod.ruleset(1);
    kernel.load(&standing, PLAIN).unwrap();
    assert!(!passes(&host) && !passes(&net));
    pod.hosts.insert(key(3 * MANY + 50));
    pod.nets.insert(key(3 * MANY), key(3 * MANY));
    let next = pod.ruleset(1);
    let start = Instant::now();
    assert_eq!(kernel.change(&standing, &next, PLAIN).unwrap().way, amended(2, 0, 0));
    println!("two added in {:?}", start.elapsed());
    assert_eq!(kernel.verify(&next).unwrap(), Standing::AsLoaded);
    assert!(passes(&host) && passes(&net));
    standing = next;
    pod.hosts.remove(&key(3 * MANY + 50));
    pod.nets.remove(&key(3 * MANY));
    pod.peers.remove(&key(5));
    let next = pod.ruleset(2);
    let start = Instant::now();
    assert_eq!(kernel.change(&standing, &next, PLAIN).unwrap().way, amended(0, 3, 1));
    println!("three deleted in {:?}", start.elapsed());
    assert_eq!(kernel.verify(&next).unwrap(), Standing::AsLoaded);
    assert!(!passes(&host) && !passes(&net));
    // All at once, and back: more than one message can hold.
    let few = Pod::of([1]).ruleset(3);
    assert_eq!(change(&mut kernel, &next, &few), amended(0, 3 * MANY as usize - 2, 1));
    assert_eq!(change(&mut kernel, &few, &pod.ruleset(3)), amended(3 * MANY as usize - 2, 0, 0));
}

#[test]
fn ranges_are_cut_and_joined() {
    let (namespace, mut kernel) = namespace();
    let _listener = listener(&namespace);
    let senders: Vec<UdpSocket> = (0..40).map(|number| sender(&namespace, peer(number))).collect();
    let mut pod = Pod::default();
    let mut standing = pod.ruleset(1);
    kernel.load(&standing, PLAIN).unwrap();
    let mut state = 1_u32;
    let mut draw = |below: u32| {
        // Any numbers do; always the same ones.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    for round in 2..=200 {
        pod.nets.clear();
        let mut at = draw(6);
        while at < 40 {
            let last = at + draw(8);
            // Now and then up to the last address that there is.
            let end = if draw(20) == 0 && last > 20 { u32::MAX.into() } else { key(last) };
            pod.nets.insert(key(at), end);
            if end == u32::MAX.into() {
                break;
            }
            at = last + 1 + draw(3);
        }
        // The same for ports, in a set: now and then with the one that is sent to.
        let port = u128::from(PORT);
        pod.refused = [(port - 9, port - 5), (port - 1 - u128::from(draw(4)), port - 1), (port + 1, 65535)].into();
        let refused = draw(10) == 0;
        if refused {
            pod.refused.insert(port, port);
        }
        let next = pod.ruleset(round);
        let way = change(&mut kernel, &standing, &next);
        assert!(matches!(way, Way::Amended { .. } | Way::Nothing), "round {round}: {way:?}");
        for (number, socket) in (0..).zip(&senders) {
            let inside = pod.nets.iter().any(|(first, last)| (*first..=*last).contains(&key(number)));
            assert_eq!(passes(socket), inside && !refused, "round {round}, address {number} of {:?}", pod.nets);
        }
        standing = next;
    }
}

#[test]
fn what_was_denied_is_judged_again_by_the_next_generation() {
    let (namespace, mut kernel) = namespace();
    let listener = namespace.run(|| UdpSocket::bind((peer(1), PORT)).unwrap()).unwrap();
    let one = sender(&namespace, peer(1));
    let [open, closed] = [Pod::of([1]).ruleset(1), Pod::of([]).ruleset(2)];
    kernel.load(&open, PLAIN).unwrap();
    assert!(passes(&one));
    let (_, from) = listener.recv_from(&mut [0; 8]).unwrap();
    // An answer makes it an established flow, so that it is marked as denied.
    listener.send_to(b"x", from).unwrap();
    kernel.change(&open, &closed, PLAIN).unwrap();
    assert!(!passes(&one) && !passes(&one));
    // The same generation: nothing is taken away. New flows pass, and those that were denied stay so.
    let again = Pod::of([1]).ruleset(2);
    assert_eq!(change(&mut kernel, &closed, &again), amended(1, 0, 0));
    assert!(!passes(&one) && passes(&sender(&namespace, peer(1))));
    assert_eq!(change(&mut kernel, &again, &Pod::of([1]).ruleset(3)), amended(0, 0, 1));
    assert!(passes(&one));
}

#[test]
fn what_cannot_be_changed_is_loaded() {
    let (namespace, mut kernel) = namespace();
    let [one, two, three] = [1, 2, 3].map(|round| Pod::of([1]).with(round).ruleset(round));
    // Nothing was loaded by this one.
    assert_eq!(change(&mut kernel, &one, &two), Way::Loaded(Because::Unknown));
    // What it loaded has another generation than what it is told.
    assert_eq!(change(&mut kernel, &one, &three), Way::Loaded(Because::Unknown));
    assert_eq!(kernel.change(&three, &two, LoadOptions { owner: true }).unwrap().way, Way::Loaded(Because::Unknown));
    kernel.load(&one, PLAIN).unwrap();
    // Somebody changed a table: another's, or ours.
    nft(&namespace, &["add table inet other"]);
    assert_eq!(change(&mut kernel, &one, &two), Way::Loaded(Because::Moved));
    nft(&namespace, &["delete table inet other"]);
    assert_eq!(change(&mut kernel, &two, &two), Way::Loaded(Because::Moved));
    // It stands in either slot.
    assert_eq!(change(&mut kernel, &two, &three), amended(1, 1, 1));
    // A wrong word about what stands.
    let wrong = Pod::of([1]).with(7).ruleset(3);
    let elements =
        |way| matches!(way, Way::Loaded(Because::Refused(place)) if place.part == Part::Elements("peers".into()));
    assert!(elements(change(&mut kernel, &wrong, &Pod::of([1]).ruleset(4))));
    let wrong = Pod::of([]).ruleset(4);
    assert!(elements(change(&mut kernel, &wrong, &one)));
    // Another shape.
    let mut other = two.clone();
    other.tables[0].chains[0].hook.as_mut().unwrap().priority = -7;
    assert_eq!(change(&mut kernel, &one, &other), Way::Loaded(Because::Shape));
    let error = kernel.change(&other, &two, PLAIN).unwrap_err();
    assert!(matches!(error, LoadError::SameGeneration { .. }), "{error:?}");
    assert_eq!(kernel.verify(&other).unwrap(), Standing::AsLoaded);
    kernel.load(&two, PLAIN).unwrap();
    // Rules that mean something else, without and with elements.
    let mut other = Pod::of([1]).with(2).ruleset(3);
    other.tables[0].chains[4].rules.insert(0, rule([equal(Field::Protocol, 17), verdict(Verdict::Drop)]));
    assert_eq!(change(&mut kernel, &two, &other), amended(0, 0, 2));
    assert_eq!(change(&mut kernel, &other, &Pod::of([1]).ruleset(4)), Way::Loaded(Because::RulesAndElements));
}

#[test]
fn a_set_that_others_are_kept_out_by_is_not_only_added_to() {
    let (_namespace, mut kernel) = namespace();
    let walls = |ports: u128, generation| {
        let ports = (0..ports).map(|port| element(&[port])).collect();
        let kept =
            Statement::Lookup { fields: vec![Field::DestinationPort], mask: None, set: "kept".into(), negate: true };
        let mut ruleset = ruleset(vec![table(
            &[],
            vec![growing(set("kept", &[Kind::Port], false, ports))],
            vec![base(
                "out",
                sidewall_policy::ruleset::HookPoint::Output,
                false,
                [rule([kept, verdict(Verdict::Accept)])],
            )],
        )]);
        ruleset.generation = number(generation);
        ruleset
    };
    kernel.load(&walls(1, 1), PLAIN).unwrap();
    let error = kernel.change(&walls(1, 1), &walls(2, 1), PLAIN).unwrap_err();
    assert!(matches!(error, LoadError::SameGeneration { .. }), "{error:?}");
    assert_eq!(change(&mut kernel, &walls(1, 1), &walls(2, 2)), amended(1, 0, 0));
}

#[test]
fn a_drifted_table_is_repaired_and_its_flows_judged_again() {
    let (namespace, mut kernel) = namespace();
    let _listener = listener(&namespace);
    let [one, two] = [1, 2].map(|number| sender(&namespace, peer(number)));
    let standing = Pod::of([1]).ruleset(1);
    kernel.load(&standing, PLAIN).unwrap();
    assert!(passes(&one) && !passes(&two));
    nft(&namespace, &["add element inet sidewall a.peers { 127.1.0.2 : goto a.pass }"]);
    assert!(passes(&two) && passes(&two));
    // The generation is the same: the flow that slipped in bears it, and must not rest on it.
    let next = Pod::of([1, 3]).ruleset(1);
    assert_eq!(change(&mut kernel, &standing, &next), Way::Loaded(Because::Moved));
    assert!(!passes(&two) && passes(&one));
}

#[test]
fn an_error_leaves_the_rules_before() {
    let (namespace, mut kernel) = namespace();
    let (_listener, one) = (listener(&namespace), sender(&namespace, peer(1)));
    let standing = Pod::of([1]).ruleset(1);
    kernel.load(&standing, PLAIN).unwrap();
    // A chain that leads to itself.
    let mut circle = Pod::of([1]).ruleset(2);
    circle.tables[0].chains[4].rules.push(rule([verdict(Verdict::Jump("deny".into()))]));
    circle.tables[0].chains[3].rules.push(rule([verdict(Verdict::Jump("refuse".into()))]));
    let error = kernel.change(&standing, &circle, PLAIN).unwrap_err();
    assert!(matches!(error, LoadError::Refused { .. }), "{error:?}");
    assert!(passes(&one));
    assert_eq!(kernel.verify(&standing).unwrap(), Standing::AsLoaded);
    assert_eq!(change(&mut kernel, &standing, &Pod::of([1, 2]).ruleset(1)), amended(1, 0, 0));
}

#[test]
fn maps_to_counters_change_with_their_counters() {
    let (namespace, mut kernel) = namespace();
    let listener = listener(&namespace);
    let walls = |numbers: &[u32], generation| {
        let names: Vec<String> = numbers.iter().map(|number| format!("peer-{number}")).collect();
        let elements = numbers
            .iter()
            .zip(&names)
            .map(|(number, name)| Element { counter: Some(name.as_str().into()), ..element(&[key(*number)]) })
            .collect();
        let counts = Set { counts: true, ..growing(set("counts", &[Kind::Ipv4], false, elements)) };
        let counting = rule([
            equal(Field::NfProtocol, 2),
            Statement::CountBy { fields: vec![Field::Ipv4Destination], map: "counts".into() },
        ]);
        let mut table =
            table(&[], vec![counts], vec![base("out", sidewall_policy::ruleset::HookPoint::Output, true, [counting])]);
        table.counters = names.into_iter().map(|name| Counter { name }).collect();
        let mut ruleset = ruleset(vec![table]);
        ruleset.generation = number(generation);
        ruleset
    };
    let [a, b, c] = [walls(&[1, 2], 1), walls(&[1, 2, 3], 1), walls(&[2, 3, 4], 2)];
    kernel.load(&a, PLAIN).unwrap();
    let send = |number| assert!(passes(&sender(&namespace, peer(number))));
    [1, 2, 3].into_iter().for_each(send);
    assert_eq!(change(&mut kernel, &a, &b), amended(1, 0, 0));
    [1, 2, 3].into_iter().for_each(send);
    let of = |numbers: [u64; 3], names: [u32; 3]| -> std::collections::BTreeMap<String, u64> {
        names.into_iter().zip(numbers).map(|(name, number)| (format!("peer-{name}"), number)).collect()
    };
    assert_eq!(counted(&mut kernel), of([2, 2, 1], [1, 2, 3]));
    assert_eq!(change(&mut kernel, &b, &c), amended(1, 1, 0));
    [1, 2, 3, 4].into_iter().for_each(send);
    assert_eq!(counted(&mut kernel), of([3, 2, 1], [2, 3, 4]));
    drop(listener);
}

#[test]
fn a_full_identity_map_is_made_anew() {
    let (_namespace, mut kernel) = namespace();
    let walls = |cgroups: u128, generation| {
        let elements = (1..=cgroups).map(|id| to(&[id], Verdict::Accept)).collect();
        let field = Field::SocketCgroup { level: 1 };
        let dispatch = Statement::Dispatch { fields: vec![field], mask: None, map: "who".into() };
        let mut ruleset = ruleset(vec![table(
            &[],
            vec![growing(set("who", &[Kind::Cgroup], false, elements))],
            vec![base("out", sidewall_policy::ruleset::HookPoint::Output, true, [rule([dispatch])])],
        )]);
        ruleset.generation = number(generation);
        ruleset
    };
    kernel.load(&walls(1, 1), PLAIN).unwrap();
    assert_eq!(change(&mut kernel, &walls(1, 1), &walls(64, 1)), amended(63, 0, 0));
    let full = change(&mut kernel, &walls(64, 1), &walls(65, 1));
    assert!(matches!(full, Way::Loaded(Because::Refused(_))), "{full:?}");
    assert_eq!(change(&mut kernel, &walls(65, 1), &walls(66, 1)), amended(1, 0, 0));
}

#[test]
fn verify_tells_of_a_change_that_somebody_undid() {
    let (namespace, mut kernel) = namespace();
    let [one, two] = [Pod::of([1]).ruleset(1), Pod::of([1, 2]).ruleset(1)];
    kernel.load(&one, PLAIN).unwrap();
    kernel.change(&one, &two, PLAIN).unwrap();
    nft(&namespace, &["delete element inet sidewall a.peers { 127.1.0.2 }"]);
    let Standing::Drifted(found) = kernel.verify(&two).unwrap() else {
        panic!("the element went unnoticed");
    };
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].change, Change::Elements { missing: 1, foreign: 0 });
    // What verify has seen to stand is what a change begins with.
    assert_eq!(kernel.verify(&one).unwrap(), Standing::AsLoaded);
    assert_eq!(change(&mut kernel, &one, &two), amended(1, 0, 0));
}
