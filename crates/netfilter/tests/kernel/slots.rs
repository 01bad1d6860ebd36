//! A ruleset takes another's place by other rules in the same chains, and leaves nothing of it.

use crate::support::*;
use sidewall_netfilter::{Change, Kernel, LoadError, LoadOptions, Part, Standing};
use sidewall_netns::NetNs;
use sidewall_policy::ruleset::{Family, Field, HookPoint, Kind, Ruleset, Statement, Verdict};
use std::net::UdpSocket;

const PLAIN: LoadOptions = LoadOptions { owner: false };
const OWNED: LoadOptions = LoadOptions { owner: true };

/// Counts what goes to a port, by every sort of reference: to a set, a map, chains and a counter; in both tables.
fn walls(port: u128) -> Ruleset {
    let lookup = |name: &str| Statement::Lookup {
        fields: vec![Field::DestinationPort],
        mask: None,
        set: name.into(),
        negate: false,
    };
    let mut inet = table(
        &["seen", "more"],
        vec![
            set("ports", &[Kind::Port], true, vec![range(port, port)]),
            set("gotos", &[Kind::Port], false, vec![to(&[port], Verdict::Jump("leaf".into()))]),
        ],
        vec![
            base(
                "out",
                HookPoint::Output,
                true,
                [
                    rule([lookup("ports"), Statement::Count("more".into())]),
                    rule([Statement::Dispatch {
                        fields: vec![Field::DestinationPort],
                        mask: None,
                        map: "gotos".into(),
                    }]),
                ],
            ),
            chain("leaf", [rule([lookup("ports"), verdict(Verdict::Jump("last".into()))])]),
            chain("last", [rule([Statement::Count("seen".into())])]),
        ],
    );
    let mut netdev = inet.clone();
    netdev.family = Family::Netdev;
    netdev.chains[0].name = "egress".into();
    if let Some(hook) = &mut netdev.chains[0].hook {
        hook.point = HookPoint::DeviceEgress("lo".into());
    }
    for counter in &mut inet.counters {
        counter.name.push_str("-inet");
    }
    for statement in inet.chains.iter_mut().flat_map(|c| &mut c.rules).flat_map(|rule| &mut rule.statements) {
        if let Statement::Count(name) = statement {
            name.push_str("-inet");
        }
    }
    ruleset(vec![inet, netdev])
}

/// The slots that names in a listing begin with.
fn slots(namespace: &NetNs) -> Vec<char> {
    let text = nft(namespace, &["list", "ruleset"]);
    let has = |slot: char| text.split([' ', '\t', '\n', '"', '@']).any(|word| word.starts_with(&format!("{slot}.")));
    ['a', 'b'].into_iter().filter(|slot| has(*slot)).collect()
}

/// How many packets to a port are counted, of one sent.
fn counts(namespace: &NetNs, kernel: &mut Kernel, port: u16) -> u64 {
    let before = counted(kernel)["seen-inet"];
    let sender = namespace.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    sender.send_to(b"x", ("127.0.0.1", port)).unwrap();
    counted(kernel)["seen-inet"] - before
}

#[test]
fn rulesets_take_turns_and_leave_nothing() {
    for options in [PLAIN, OWNED] {
        let (namespace, mut kernel) = namespace();
        for round in 0..7_u16 {
            let ruleset = walls((4000 + round).into());
            kernel.load(&ruleset, options).unwrap();
            assert_eq!(slots(&namespace), [if round % 2 == 0 { 'a' } else { 'b' }], "round {round}");
            assert_eq!(kernel.verify(&ruleset).unwrap(), Standing::AsLoaded);
            assert_eq!(counted(&mut kernel).keys().collect::<Vec<_>>(), ["more", "more-inet", "seen", "seen-inet"]);
            assert_eq!(counts(&namespace, &mut kernel, 4000 + round), 1);
            assert_eq!(counts(&namespace, &mut kernel, 3999 + round), 0, "the rules before are in force");
            let seen = kernel.counter(Family::Inet, "seen-inet").unwrap().expect("a counter by the ruleset's name");
            assert_eq!(seen.packets, 1);
            assert!(kernel.counter(Family::Inet, "seen").unwrap().is_none());
            assert!(kernel.counter(Family::Inet, "a.seen-inet").unwrap().is_none());
        }
    }
}

#[test]
fn another_shape_replaces_the_tables() {
    let (namespace, mut kernel) = namespace();
    kernel.load(&walls(4000), PLAIN).unwrap();
    kernel.load(&walls(4001), PLAIN).unwrap();
    let mut other = walls(4002);
    other.tables[0].chains[0].hook.as_mut().unwrap().priority = -5;
    for ruleset in [other, ruleset(vec![walls(1).tables[1].clone()]), ruleset(Vec::new()), walls(4003)] {
        kernel.load(&ruleset, PLAIN).unwrap();
        assert_eq!(kernel.verify(&ruleset).unwrap(), Standing::AsLoaded);
        assert_ne!(slots(&namespace), ['b']);
    }
    kernel.load(&walls(4000), OWNED).unwrap();
    assert_eq!(slots(&namespace), ['a']);
    assert_eq!(kernel.verify(&walls(4000)).unwrap(), Standing::AsLoaded);
}

/// A ruleset of the same hooks that the kernel refuses once its rules can be reached, and not before: it jumps deeper than
/// the kernel goes.
fn too_deep() -> Ruleset {
    let mut deep = walls(4000);
    let table = &mut deep.tables[0];
    for depth in 0..20 {
        let next = match depth {
            19 => verdict(Verdict::Drop),
            _ => verdict(Verdict::Jump(format!("deep{}", depth + 1))),
        };
        table.chains.push(chain(&format!("deep{depth}"), [rule([next])]));
    }
    table.chains[0].rules.push(rule([verdict(Verdict::Jump("deep0".into()))]));
    deep
}

#[test]
fn what_is_refused_leaves_the_old_rules_and_nothing_else() {
    let (namespace, mut kernel) = namespace();
    for port in [4000, 4001] {
        kernel.load(&walls(port.into()), OWNED).unwrap();
        let slot = slots(&namespace);
        let error = kernel.load(&too_deep(), OWNED).unwrap_err();
        assert!(matches!(error, LoadError::Refused { .. } | LoadError::RefusedWhole { .. }), "{error:?}");
        assert!(!error.to_string().contains("a.") && !error.to_string().contains("b."), "{error}");
        assert_eq!(slots(&namespace), slot);
        assert_eq!(kernel.verify(&walls(port.into())).unwrap(), Standing::AsLoaded);
        assert_eq!(counts(&namespace, &mut kernel, port), 1);
    }
}

#[test]
fn the_next_program_finds_the_slot_in_force() {
    let (namespace, mut first) = namespace();
    first.load(&walls(4000), OWNED).unwrap();
    first.load(&walls(4001), OWNED).unwrap();
    assert_eq!(slots(&namespace), ['b']);
    drop(first);
    let mut second = Kernel::open(&namespace).unwrap();
    assert_eq!(second.verify(&walls(4001)).unwrap(), Standing::AsLoaded);
    second.adopt().unwrap();
    assert_eq!(second.verify(&walls(4001)).unwrap(), Standing::AsLoaded);
    assert_ne!(second.verify(&walls(4000)).unwrap(), Standing::AsLoaded);
    assert_eq!(counts(&namespace, &mut second, 4001), 1);
    // An adopted ruleset is exchanged, one without an owner that lives is replaced.
    second.load(&walls(4002), OWNED).unwrap();
    second.load(&walls(4003), OWNED).unwrap();
    assert_eq!(slots(&namespace), ['b']);
    drop(second);
    let mut third = Kernel::open(&namespace).unwrap();
    third.load(&walls(4004), OWNED).unwrap();
    assert_eq!(slots(&namespace), ['a']);
    assert_eq!(third.verify(&walls(4004)).unwrap(), Standing::AsLoaded);
}

#[test]
fn leftovers_are_told_and_cleared_before_the_next_load() {
    let (namespace, mut kernel) = namespace();
    kernel.load(&walls(4000), PLAIN).unwrap();
    // As an exchange leaves them that was broken off.
    nft(
        &namespace,
        &["add counter inet sidewall b.seen-inet; add chain inet sidewall b.leaf; add chain inet sidewall b.last; \
         add rule inet sidewall b.last counter name b.seen-inet; \
         add map inet sidewall b.gotos { type inet_service : verdict; elements = { 1 : jump b.last }; }; \
         add rule inet sidewall b.leaf th dport vmap @b.gotos"],
    );
    let Standing::Drifted(found) = kernel.verify(&walls(4000)).unwrap() else {
        panic!("leftovers went unnoticed");
    };
    let found: Vec<_> = found.into_iter().map(|difference| (difference.place.part, difference.change)).collect();
    let foreign = [
        Part::Counter("b.seen-inet".into()),
        Part::Set("b.gotos".into()),
        Part::Chain("b.last".into()),
        Part::Chain("b.leaf".into()),
    ];
    assert_eq!(found, foreign.map(|part| (part, Change::Foreign)));
    // They count for nothing.
    assert_eq!(counts(&namespace, &mut kernel, 4000), 1);
    kernel.load(&walls(4001), PLAIN).unwrap();
    assert_eq!(slots(&namespace), ['b'], "they were cleared, and the ruleset took their place");
    assert_eq!(kernel.verify(&walls(4001)).unwrap(), Standing::AsLoaded);
    // Where something of theirs cannot be cleared, because the rules in force refer to it, the tables are replaced.
    nft(&namespace, &["add chain inet sidewall a.x; add rule inet sidewall out jump a.x"]);
    kernel.load(&walls(4002), PLAIN).unwrap();
    assert_eq!(slots(&namespace), ['a']);
    assert_eq!(kernel.verify(&walls(4002)).unwrap(), Standing::AsLoaded);
}
