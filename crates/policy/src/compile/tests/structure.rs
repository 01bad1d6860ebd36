//! What the kernel asks of a ruleset, and what packets do.

use crate::ruleset::{Chain, Set, Statement, Table, Verdict};
use crate::testing::{Case, Draw, Ground};
use crate::{Generation, Meaning, ResolvedPod, Ruleset, compile, guard, resolve};
use proptest::prelude::*;
use sidewall_flow::ContainerId;
use std::collections::{BTreeMap, BTreeSet};

/// `NFT_JUMP_STACK_SIZE`: chains deeper than that do not load, and a goto counts like a jump there.
const DEEPEST: usize = 16;

fn drawn(seed: u64) -> [ResolvedPod; 2] {
    let mut draw = Draw::new(seed);
    let case = Case::draw(&mut draw, &if seed.is_multiple_of(3) { Ground::default() } else { Ground::whole() });
    [resolve(&case.world, &case.subject), guard(&case.subject)]
}

fn statements(table: &Table) -> impl Iterator<Item = &Statement> {
    table.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.statements)
}

fn set<'a>(table: &'a Table, name: &str) -> &'a Set {
    table.sets.iter().find(|set| set.name == name).unwrap_or_else(|| panic!("no set {name}"))
}

/// The chains that a chain leads to, by its rules and its maps.
fn next<'a>(table: &'a Table, chain: &'a Chain) -> BTreeSet<&'a str> {
    let mut verdicts: Vec<&Verdict> = Vec::new();
    for statement in chain.rules.iter().flat_map(|rule| &rule.statements) {
        match statement {
            Statement::Verdict(verdict) => verdicts.push(verdict),
            Statement::Dispatch { map, .. } => {
                verdicts.extend(set(table, map).elements.iter().filter_map(|element| element.verdict.as_ref()));
            }
            _ => {}
        }
    }
    let names = verdicts.into_iter().filter_map(|verdict| match verdict {
        Verdict::Jump(name) | Verdict::Goto(name) => Some(name.as_str()),
        Verdict::Accept | Verdict::Drop | Verdict::Return => None,
    });
    names.collect()
}

/// The longest way from a chain, counted in chains.
///
/// # Panics
///
/// A chain is missing, or leads back to itself.
fn depth<'a>(table: &'a Table, name: &'a str, way: &mut Vec<&'a str>, known: &mut BTreeMap<&'a str, usize>) -> usize {
    if let Some(depth) = known.get(name) {
        return *depth;
    }
    assert!(!way.contains(&name), "{name} leads back to itself: {way:?}");
    let chain = table.chains.iter().find(|chain| chain.name == name).unwrap_or_else(|| panic!("no chain {name}"));
    way.push(name);
    let below = next(table, chain).into_iter().map(|next| depth(table, next, way, known)).max().unwrap_or(0);
    way.pop();
    known.insert(name, below + 1);
    below + 1
}

/// Whether every packet that enters a chain is decided there, or sent back in so many words.
fn decides(chain: &Chain) -> bool {
    let only_tells =
        |statement: &Statement| matches!(statement, Statement::Count(_) | Statement::Limit { .. } | Statement::Log(_));
    if chain.name.starts_with("seen-") {
        // What these do not accept goes back by their end: they are what most packets meet.
        return true;
    }
    if chain.rules.iter().flat_map(|rule| &rule.statements).all(only_tells) {
        return true;
    }
    matches!(
        chain.rules.last().map(|rule| rule.statements.as_slice()),
        Some(
            [.., Statement::Verdict(Verdict::Accept | Verdict::Drop | Verdict::Goto(_) | Verdict::Return)]
                | [.., Statement::RejectProhibited | Statement::RejectTcpReset]
        )
    ) && chain.rules.last().is_some_and(|rule| {
        // Nothing before the verdict may end the rule.
        let before = &rule.statements[..rule.statements.len() - 1];
        before.iter().all(|statement| matches!(statement, Statement::Count(_) | Statement::SetMark { .. }))
    })
}

pub(super) fn check(ruleset: &Ruleset, meanings: &BTreeMap<String, Meaning>) {
    for table in &ruleset.tables {
        let mut known = BTreeMap::new();
        for chain in &table.chains {
            let depth = depth(table, &chain.name, &mut Vec::new(), &mut known);
            assert!(depth <= DEEPEST, "{} is {depth} chains deep", chain.name);
            assert!(chain.hook.is_some() || decides(chain), "chain {} can end undecided:\n{chain}", chain.name);
            for rule in &chain.rules {
                assert!(rule.comment.as_ref().is_none_or(|comment| comment.len() <= 127));
            }
        }
        let counters: BTreeSet<&str> = table.counters.iter().map(|counter| counter.name.as_str()).collect();
        let (mut counted, mut used) = (BTreeSet::new(), BTreeSet::new());
        for statement in statements(table) {
            match statement {
                Statement::Count(name) => {
                    counted.insert(name.as_str());
                }
                Statement::CountBy { fields, map: name } => {
                    let set = set(table, name);
                    let kinds: Vec<_> = fields.iter().map(|field| field.kind()).collect();
                    assert_eq!((&kinds, set.counts), (&set.key, true), "{statement} and its map {name}");
                    counted.extend(set.elements.iter().filter_map(|element| element.counter.as_deref()));
                    used.insert(name.as_str());
                }
                Statement::Lookup { fields, set: name, mask, .. } | Statement::Dispatch { fields, map: name, mask } => {
                    let set = set(table, name);
                    let kinds: Vec<_> = fields.iter().map(|field| field.kind()).collect();
                    assert_eq!(kinds, set.key, "{statement} and its set {name}");
                    assert_eq!(set.map, matches!(statement, Statement::Dispatch { .. }), "{name}");
                    assert!(mask.is_none() || fields.len() == 1, "{statement}");
                    used.insert(name.as_str());
                }
                Statement::SetMark { keep, set } => assert_eq!(keep & set, 0, "{statement}"),
                _ => {}
            }
        }
        assert_eq!(counted, counters);
        assert_eq!(used, table.sets.iter().map(|set| set.name.as_str()).collect());
        for set in &table.sets {
            assert!(!set.interval || set.key.len() == 1, "{}", set.name);
            for element in &set.elements {
                assert_eq!((element.key.len(), element.verdict.is_some()), (set.key.len(), set.map), "{}", set.name);
                assert_eq!(element.last.is_some(), set.interval, "{}", set.name);
            }
            let ends = set
                .elements
                .iter()
                .map(|element| (element.key.clone(), element.last.map_or(element.key.clone(), Into::into)));
            let ends: Vec<_> = ends.collect();
            assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0), "the elements of {} overlap", set.name);
        }
        let names: BTreeSet<&str> = table.chains.iter().map(|chain| chain.name.as_str()).collect();
        assert_eq!(names.len(), table.chains.len(), "two chains of one name");
    }
    let counters: BTreeSet<&String> =
        ruleset.tables.iter().flat_map(|table| &table.counters).map(|counter| &counter.name).collect();
    assert_eq!(counters, meanings.keys().collect());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_ruleset_is_whole(seed: u64) {
        for pod in drawn(seed) {
            let compiled = compile(&pod, Generation::FIRST);
            check(&compiled.ruleset, &compiled.meanings);
        }
    }

    #[test]
    fn the_same_pod_gives_the_same_rules(seed: u64) {
        for pod in drawn(seed) {
            let (one, other) = (compile(&pod, Generation::FIRST), compile(&pod, Generation::FIRST));
            prop_assert_eq!(one.ruleset.to_string(), other.ruleset.to_string());
            prop_assert_eq!(one, other);
        }
    }

    /// A generation is in the mark and nowhere else: names and counters outlive it.
    #[test]
    fn generations_differ_in_the_mark_only(seed: u64) {
        let generations = [Generation::FIRST, Generation::new(31).unwrap()];
        for pod in drawn(seed) {
            let [one, other] = generations.map(|generation| {
                let compiled = compile(&pod, generation);
                let chains: Vec<String> = compiled.ruleset.tables[0].chains.iter().map(|chain| chain.name.clone()).collect();
                (compiled.meanings, compiled.ruleset.tables[0].sets.clone(), chains)
            });
            prop_assert_eq!(one, other);
        }
    }
}

#[test]
fn the_greatest_pod_compiles() {
    let containers: Vec<String> = (1..=ContainerId::MAX).map(|number| format!("c{number}")).collect();
    let containers: Vec<(&str, &[&str])> =
        containers.iter().map(|name| (name.as_str(), &["TCP/80"] as &[&str])).collect();
    for by_uid in [false, true] {
        let mut pod = crate::fixture::Fixture::new(&containers)
            .policy("p", serde_json::json!({"egress": [{"to": [{"container": "c1"}]}]}))
            .policy("q", serde_json::json!({"mode": "Audit", "containers": ["c2"]}));
        if by_uid {
            pod = pod.by_uid();
        }
        let compiled = compile(&pod.resolved(), Generation::FIRST);
        check(&compiled.ruleset, &compiled.meanings);
    }
}
