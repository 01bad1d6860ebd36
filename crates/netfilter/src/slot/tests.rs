use super::*;
use crate::compose::compose;
use sidewall_policy::ruleset::{
    Chain, Counter, Element, Family, Field, Generation, Hook, HookPoint, Kind, Rule, Ruleset, Set, Statement, Table,
    Verdict,
};

fn ruleset(first: Vec<Statement>) -> Ruleset {
    let rule = |statements| Rule { statements, comment: None };
    Ruleset {
        generation: Generation::FIRST,
        tables: vec![Table {
            family: Family::Inet,
            counters: vec![Counter { name: "seen".into() }],
            sets: vec![Set {
                name: "map".into(),
                key: vec![Kind::Port],
                interval: false,
                map: true,
                counts: false,
                grows: false,
                elements: vec![Element {
                    key: 1.into(),
                    last: None,
                    verdict: Some(Verdict::Goto("leaf".into())),
                    counter: None,
                }],
            }],
            chains: vec![
                Chain {
                    name: "out".into(),
                    hook: Some(Hook { point: HookPoint::Output, priority: 0, accept: true }),
                    rules: vec![rule(first)],
                },
                Chain { name: "leaf".into(), hook: None, rules: vec![rule(vec![Statement::Count("seen".into())])] },
            ],
        }],
    }
}

fn image(first: Vec<Statement>, slot: Slot) -> Image {
    compose(&ruleset(first), 0).expect("it can be held").in_slot(slot)
}

fn dispatch() -> Statement {
    Statement::Dispatch { fields: vec![Field::DestinationPort], mask: None, map: "map".into() }
}

fn jump() -> Statement {
    Statement::Verdict(Verdict::Jump("leaf".into()))
}

#[test]
fn all_but_chains_with_hooks_stand_in_the_slot() {
    let image = image(vec![dispatch()], Slot::B);
    let table = &image.tables[&abi::NFPROTO_INET];
    assert_eq!(table.counters, ["b.seen"]);
    assert_eq!(table.sets[0].name, "b.map");
    assert_eq!(table.chains.iter().map(|chain| chain.name.as_str()).collect::<Vec<_>>(), ["out", "b.leaf"]);
    let text = format!("{table:?}");
    assert!(text.contains(r#"chain: Some("b.leaf")"#), "the map's element leads to it: {text}");
    // Nothing is left of the ruleset's own names: each reference has the prefix too.
    for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
        assert_eq!(references(rule).collect::<Vec<_>>(), [Slot::B]);
    }
}

#[test]
fn the_rules_of_hooks_tell_which_slot_is_in_force() {
    for slot in [Slot::A, Slot::B] {
        for first in [dispatch(), jump(), Statement::Count("seen".into())] {
            let mut image = image(vec![first], slot);
            assert_eq!(image.live(), Some(slot));
            // What is left of the other slot changes nothing.
            let left = slot.other().prefix().to_owned() + "leaf";
            let table = image.tables.get_mut(&abi::NFPROTO_INET).unwrap();
            table.counters.push(left);
            assert_eq!(image.slots().len(), 2);
            assert_eq!(image.live(), Some(slot));
        }
        // Rules that refer to nothing: the names tell, where they are of one slot.
        let mut image = image(vec![], slot);
        assert_eq!(image.live(), Some(slot));
        image.tables.get_mut(&abi::NFPROTO_INET).unwrap().counters.push(slot.other().prefix().to_owned() + "leaf");
        assert_eq!(image.live(), None);
    }
    let mut both = image(vec![jump()], Slot::A);
    let rules = image(vec![jump()], Slot::B).tables[&abi::NFPROTO_INET].chains[0].rules.clone();
    both.tables.get_mut(&abi::NFPROTO_INET).unwrap().chains[0].rules.extend(rules);
    assert_eq!(both.live(), None);
    assert_eq!(Image::default().live(), Some(Slot::A));
}

#[test]
fn only_what_an_exchange_would_repair_may_differ() {
    let new = compose(&ruleset(vec![jump()]), 0).unwrap();
    let found = || image(vec![dispatch()], Slot::A);
    assert!(found().is_exchangeable_for(&new));
    let refused = |change: fn(&mut TableImage)| {
        let mut found = found();
        change(found.tables.get_mut(&abi::NFPROTO_INET).unwrap());
        !found.is_exchangeable_for(&new)
    };
    assert!(!refused(|table| table.chains[0].rules.clear()));
    assert!(!refused(|table| table.sets[0].elements.clear()));
    assert!(refused(|table| table.flags = 1));
    assert!(refused(|table| table.counters.push("theirs".into())));
    assert!(refused(|table| table.other_objects.push("2 a.q".into())));
    assert!(refused(|table| table.sets[0].name = "theirs".into()));
    assert!(refused(|table| table.chains[1].name = "theirs".into()));
    assert!(refused(|table| table.chains[1].flags = 1));
    assert!(refused(|table| table.chains[0].name = "theirs".into()));
    assert!(refused(|table| drop(table.chains.remove(0))));
    assert!(refused(|table| table.chains[0].hook.as_mut().unwrap().policy = abi::NF_DROP));
    assert!(refused(|table| table.chains[0].hook.as_mut().unwrap().priority = 1));
    let mut other = found();
    other.unreadable = 1;
    assert!(!other.is_exchangeable_for(&new));
    let mut other = found();
    other.tables.insert(abi::NFPROTO_NETDEV, TableImage::default());
    assert!(!other.is_exchangeable_for(&new) && !new.clone().in_slot(Slot::B).is_exchangeable_for(&other));
}
