//! Changes lead from one ruleset to the other, and say what they take away.

use super::*;
use crate::ruleset::{Field, Hook, HookPoint, Kind, Rule, Statement, Verdict};

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
    let taken = Taken::Elements { family: Family::Inet, set: "peers" };
    assert_eq!(new.change_from(&old).takes_away(), Some(taken));
    assert_eq!(new.change_from(&changes.apply(&old).unwrap()).takes_away(), None);
    let more = ruleset(false, vec![element(1, "a"), element(2, "a"), element(3, "a"), element(4, "a")], Verdict::Drop);
    assert!(more.change_from(&old).takes_away().is_none() && !more.change_from(&old).is_empty());
    assert_eq!(changes.apply(&new), Err(ChangeError), "what is to go is not there");
}

proptest::proptest! {
    /// Whatever differs, and wherever in the set.
    #[test]
    fn a_change_of_elements_leads_from_one_set_to_the_other(
        old in proptest::collection::btree_map(0u128..12, 0u8..2, 0..9),
        new in proptest::collection::btree_map(0u128..12, 0u8..2, 0..9),
    ) {
        let rules = |elements: &BTreeMap<u128, u8>| {
            let elements = elements.iter().map(|(key, counter)| element(*key, ["a", "b"][usize::from(*counter)]));
            let mut rules = ruleset(false, elements.collect(), Verdict::Drop);
            rules.tables[0].sets[1].elements.clear();
            rules
        };
        let changes = parts(&rules(&old), &rules(&new));
        let sets = changes.tables.iter().flat_map(|table| &table.sets);
        let both = |change: &SetChange| change.delete.len() + change.add.len();
        let gone = old.iter().filter(|(key, counter)| new.get(key) != Some(counter)).count();
        let came = new.iter().filter(|(key, counter)| old.get(key) != Some(counter)).count();
        assert_eq!(sets.map(both).sum::<usize>(), gone + came);
    }
}

#[test]
fn an_element_that_is_counted_elsewhere_is_taken_away() {
    let old = ruleset(false, vec![element(1, "a"), element(2, "a")], Verdict::Drop);
    let new = ruleset(false, vec![element(1, "a"), element(2, "b"), element(3, "b")], Verdict::Drop);
    parts(&old, &new);
    assert_eq!(new.change_from(&old).takes_away(), Some(Taken::Elements { family: Family::Inet, set: "peers" }));
    let parted = ruleset(true, vec![range(0, 0, "a"), range(1, 4, "b"), range(5, 9, "a")], Verdict::Drop);
    let whole = ruleset(true, vec![range(0, 0, "a"), range(1, 9, "a")], Verdict::Drop);
    assert!(parted.change_from(&whole).takes_away().is_some());
}

#[test]
fn a_set_that_shuts_out_takes_away_by_what_comes() {
    let shuts_out = |elements| {
        let mut rules = ruleset(false, elements, Verdict::Accept);
        let set = Statement::Lookup { fields: vec![Field::Ipv4Source], mask: None, set: "peers".into(), negate: true };
        rules.tables[0].chains[0].rules[0].statements.insert(0, set);
        rules
    };
    let (old, new) = (shuts_out(vec![element(1, "a")]), shuts_out(vec![element(1, "a"), element(2, "a")]));
    assert_eq!(new.change_from(&old).takes_away(), Some(Taken::Elements { family: Family::Inet, set: "peers" }));
}

#[test]
fn other_rules_take_away() {
    let old = ruleset(false, vec![element(1, "a")], Verdict::Drop);
    let new = ruleset(false, vec![element(1, "a")], Verdict::Accept);
    parts(&old, &new);
    assert_eq!(new.change_from(&old).takes_away(), Some(Taken::Rules { family: Family::Inet, chain: "out" }));
}

#[test]
fn sets_that_do_not_grow_are_shape() {
    let old = ruleset(false, vec![element(1, "a")], Verdict::Drop);
    let new = ruleset(false, vec![element(2, "a")], Verdict::Drop);
    assert_eq!(new.change_from(&old), Change::Shape);
    assert_eq!(Change::Shape.takes_away(), Some(Taken::Shape));
}
