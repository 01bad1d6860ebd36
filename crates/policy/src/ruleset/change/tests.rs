//! Changes lead from one ruleset to the other, and say what they take away.

use super::*;
use crate::ruleset::{Hook, HookPoint, Kind, Rule, Statement, Verdict};

fn element(key: u128, counter: &str) -> Element {
    Element { key: key.into(), last: None, verdict: None, counter: Some(counter.into()) }
}

fn range(first: u128, last: u128, counter: &str) -> Element {
    Element { last: Some(last), ..element(first, counter) }
}

/// A ruleset with one set that grows and one that does not.
fn ruleset(interval: bool, elements: Vec<Element>, verdict: Verdict) -> Ruleset {
    let set = |name: &str, grows, elements| Set {
        name: name.into(),
        key: vec![Kind::Ipv4],
        interval,
        map: false,
        counts: true,
        grows,
        elements,
    };
    let counters: BTreeSet<Counter> =
        elements.iter().filter_map(|element| Some(Counter { name: element.counter.as_deref()?.to_owned() })).collect();
    let first = elements.first().cloned().into_iter().collect();
    Ruleset {
        generation: Generation::FIRST,
        tables: vec![Table {
            family: Family::Inet,
            counters: counters.into_iter().collect(),
            sets: vec![set("peers", true, elements), set("fixed", false, first)],
            chains: vec![Chain {
                name: "out".into(),
                hook: Some(Hook { point: HookPoint::Output, priority: 0, accept: false }),
                rules: vec![Rule { statements: vec![Statement::Verdict(verdict)], comment: None }],
            }],
        }],
    }
}

fn parts(old: &Ruleset, new: &Ruleset) -> Changes {
    match new.change_from(old) {
        Change::Parts(changes) => {
            assert_eq!(changes.apply(old).as_ref(), Ok(new));
            changes
        }
        Change::Shape => panic!("the shape is the same"),
    }
}

#[test]
fn equal_rulesets_differ_in_nothing() {
    let rules = ruleset(false, vec![element(1, "a")], Verdict::Drop);
    assert!(rules.change_from(&rules).is_empty());
}

#[test]
fn elements_come_and_go() {
    let old = ruleset(false, vec![element(1, "a"), element(2, "a"), element(4, "a")], Verdict::Drop);
    let new = ruleset(false, vec![element(1, "a"), element(3, "b"), element(4, "a")], Verdict::Drop);
    let changes = parts(&old, &new);
    let [table] = changes.tables.as_slice() else { panic!("{changes:?}") };
    assert_eq!(table.counters_added, [Counter { name: "b".into() }]);
    let [set] = table.sets.as_slice() else { panic!("{changes:?}") };
    assert_eq!((set.delete.as_slice(), set.add.as_slice()), (&[element(2, "a")][..], &[element(3, "b")][..]));
    assert!(changes.takes_away() && !parts(&parts(&old, &new).apply(&old).unwrap(), &new).takes_away());
    assert_eq!(changes.apply(&new), Err(ChangeError), "what is to go is not there");
}

#[test]
fn a_key_that_is_only_counted_elsewhere_is_not_taken_away() {
    let old = ruleset(false, vec![element(1, "a"), element(2, "a")], Verdict::Drop);
    let new = ruleset(false, vec![element(1, "a"), element(2, "b"), element(3, "b")], Verdict::Drop);
    assert!(!parts(&old, &new).takes_away());
    assert!(parts(&new, &old).takes_away());
}

#[test]
fn a_range_that_is_parted_otherwise_is_not_taken_away() {
    let old = ruleset(true, vec![range(0, 0, "a"), range(1, 9, "a")], Verdict::Drop);
    let new = ruleset(true, vec![range(0, 0, "a"), range(1, 4, "b"), range(5, 9, "a")], Verdict::Drop);
    assert!(!parts(&old, &new).takes_away());
    let hole = ruleset(true, vec![range(0, 0, "a"), range(1, 4, "b"), range(6, 9, "a")], Verdict::Drop);
    assert!(parts(&new, &hole).takes_away() && !parts(&hole, &new).takes_away());
}

#[test]
fn other_rules_take_away() {
    let old = ruleset(false, vec![element(1, "a")], Verdict::Drop);
    let new = ruleset(false, vec![element(1, "a")], Verdict::Accept);
    assert!(parts(&old, &new).takes_away());
}

#[test]
fn sets_that_do_not_grow_are_shape() {
    let old = ruleset(false, vec![element(1, "a")], Verdict::Drop);
    let new = ruleset(false, vec![element(2, "a")], Verdict::Drop);
    assert_eq!(new.change_from(&old), Change::Shape);
}
