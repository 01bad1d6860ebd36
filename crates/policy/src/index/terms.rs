//! The labels that a selector asks for, so that not everybody need be asked whether it selects them.

use sidewall_api::{LabelSelector, Operator};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};

/// A label, by its hash. What is found by one may have another label of the same hash: it only narrows a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Term(u64);

impl Term {
    pub fn of(key: &str, value: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (key, value).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The ways to find what a selector selects: everything that it does has a label of each way. None where it may select
/// what has no label.
pub(super) fn ways(selector: &LabelSelector) -> Vec<Box<[Term]>> {
    let labels = selector.match_labels.iter().map(|(key, value)| Box::from([Term::of(key, value)]));
    let one_of = selector.match_expressions.iter().filter(|requirement| requirement.operator == Operator::In);
    let one_of = one_of.map(|requirement| requirement.values.iter().map(|value| Term::of(&requirement.key, value)));
    labels.chain(one_of.map(Iterator::collect)).collect()
}

/// Things by the terms that they have or ask for.
#[derive(Debug)]
pub(super) struct ByTerm<T>(HashMap<Term, BTreeSet<T>>);

impl<T> Default for ByTerm<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Copy + Ord> ByTerm<T> {
    pub fn insert(&mut self, term: Term, thing: T) {
        self.0.entry(term).or_default().insert(thing);
    }

    pub fn remove(&mut self, term: Term, thing: T) {
        if let Some(things) = self.0.get_mut(&term) {
            things.remove(&thing);
            if things.is_empty() {
                self.0.remove(&term);
            }
        }
    }

    /// The things of a term.
    pub fn of(&self, term: Term) -> impl Iterator<Item = T> + '_ {
        self.0.get(&term).into_iter().flatten().copied()
    }

    /// The one of several ways that has the fewest things.
    pub fn narrowest(&self, ways: Vec<Box<[Term]>>) -> Option<Box<[Term]>> {
        let count = |way: &[Term]| way.iter().map(|term| self.0.get(term).map_or(0, BTreeSet::len)).sum::<usize>();
        ways.into_iter().min_by_key(|way| count(way))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, Draw, Ground};

    #[test]
    fn what_a_selector_selects_has_a_label_of_each_way() {
        let mut draw = Draw::new(3);
        let (mut selected, mut narrowed) = (0, 0);
        for _ in 0..200 {
            let case = Case::draw(&mut draw, &Ground::whole());
            let policies = case.world.network_policies.iter().map(|policy| &policy.spec.pod_selector);
            for selector in policies.chain(case.world.policies.iter().map(|policy| &policy.spec.pod_selector)) {
                for pod in &case.world.pods {
                    let has: Vec<Term> = pod.labels.iter().map(|(key, value)| Term::of(key, value)).collect();
                    let found = ways(selector).iter().all(|way| way.iter().any(|term| has.contains(term)));
                    assert!(found || !selector.matches(&pod.labels), "{selector:?} {:?}", pod.labels);
                    selected += usize::from(selector.matches(&pod.labels));
                    narrowed += usize::from(!found);
                }
            }
        }
        assert!(selected > 100 && narrowed > 100, "{selected} {narrowed}");
    }

    #[test]
    fn the_narrowest_way_has_the_fewest_things() {
        let [common, rare, absent] = ["common", "rare", "absent"].map(|value| Term::of("app", value));
        let mut things = ByTerm::default();
        (0..9).for_each(|thing| things.insert(common, thing));
        things.insert(rare, 1);
        assert_eq!(things.narrowest(vec![[common].into(), [rare].into()]).as_deref(), Some(&[rare][..]));
        assert_eq!(
            things.narrowest(vec![[common].into(), [rare, absent].into()]).as_deref(),
            Some(&[rare, absent][..])
        );
        assert_eq!(things.narrowest(vec![]), None);
        things.remove(rare, 1);
        assert!(things.of(rare).next().is_none() && things.of(common).count() == 9 && !things.is_empty());
    }
}
