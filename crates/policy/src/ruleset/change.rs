//! What differs between two rulesets of one pod, so that only that is sent to the kernel.
//!
//! Peers come and go all the time; policies change now and then; the shape of a pod's rules hardly ever does. A change
//! that leaves the shape alone is elements of sets that grow, counters, and chains whose rules are written anew.

#[cfg(test)]
mod tests;

use super::{Chain, Counter, Element, Family, Generation, Ruleset, Set, Statement, Table};
use std::collections::{BTreeMap, BTreeSet};

/// What leads from one ruleset to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Parts of what stands are changed; nothing where the rulesets are equal.
    Parts(Changes),
    /// More differs than that: the ruleset is loaded as a whole.
    Shape,
}

/// The parts that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The generation of the ruleset that the changes lead to.
    pub generation: Generation,
    /// What changes in each table, in the order of the tables; none of a table in which nothing does.
    pub tables: Vec<TableChange>,
}

/// The parts of a table that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChange {
    /// The table.
    pub family: Family,
    /// Counters that are new, in the order of their names.
    pub counters_added: Vec<Counter>,
    /// Counters that are gone, in the order of their names. Once the elements and rules below are in force, nothing
    /// refers to them.
    pub counters_deleted: Vec<Counter>,
    /// Sets whose elements differ, in the order of their names. Every one of them [grows](Set::grows).
    pub sets: Vec<SetChange>,
    /// Chains whose rules differ, as they are to be, in the table's order: their rules are flushed and written anew.
    pub chains: Vec<Chain>,
}

/// The elements of a set that differ. An element that leads elsewhere than before is deleted and added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetChange {
    /// The set's name.
    pub name: String,
    /// The elements that go, as they were, ascending.
    pub delete: Vec<Element>,
    /// The elements that come, ascending; none overlaps one that stays.
    pub add: Vec<Element>,
    /// Whether a rule asks for what is *not* in the set, so that an element that comes takes something away; no
    /// where none comes.
    pub shuts_out: bool,
}

/// Something that a change takes away, or may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken<'a> {
    /// Nobody looks for what it is: the whole is loaded anew.
    Shape,
    /// Elements of a set.
    Elements {
        /// The table.
        family: Family,
        /// The set.
        set: &'a str,
    },
    /// What rules of a chain let pass.
    Rules {
        /// The table.
        family: Family,
        /// The chain.
        chain: &'a str,
    },
}

/// Changes that are not for the ruleset that they were applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the changes are for another ruleset than this; load the new one as a whole")]
pub struct ChangeError;

impl Change {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Parts(changes) if changes.tables.is_empty())
    }

    /// What it takes away, or may: where there is anything, live flows must be judged again, and the new ruleset needs another
    /// generation than the old one. Where there is nothing, it may have the same.
    ///
    /// This is the one rule of that. It is strict: an element that is only counted elsewhere is taken away too, because it is
    /// deleted and added again, and a flow that comes at that moment and finds neither is denied for as long as the generation
    /// lasts. Rulesets of two generations differ in rules, but for those that decide nothing by it.
    pub fn takes_away(&self) -> Option<Taken<'_>> {
        let changes = match self {
            Self::Shape => return Some(Taken::Shape),
            Self::Parts(changes) => changes,
        };
        changes.tables.iter().find_map(|table| {
            let family = table.family;
            let set = table.sets.iter().find(|set| !set.delete.is_empty() || set.shuts_out);
            let elements = set.map(|set| Taken::Elements { family, set: &set.name });
            elements.or_else(|| table.chains.first().map(|chain| Taken::Rules { family, chain: &chain.name }))
        })
    }

    /// The same change to the same ruleset as another generation.
    pub(crate) fn renumbered(self, new: &Ruleset, old: &Ruleset) -> Self {
        let Self::Parts(changes) = self else { return self };
        let mut before = changes.tables.into_iter().peekable();
        let both = new.tables.iter().zip(&old.tables);
        let tables = both.map(|(new, old)| {
            let change = before.next_if(|change| change.family == new.family);
            let change = change.unwrap_or_else(|| TableChange::none(new.family));
            TableChange { chains: other_chains(new, old), ..change }
        });
        let tables = tables.filter(|change| !change.is_empty()).collect();
        Self::Parts(Changes { generation: new.generation, tables })
    }
}

impl Ruleset {
    /// What leads from an older ruleset of the same pod to this one.
    pub fn change_from(&self, old: &Self) -> Change {
        if self.tables.len() != old.tables.len() {
            return Change::Shape;
        }
        let mut tables = Vec::new();
        for (new, old) in self.tables.iter().zip(&old.tables) {
            match table_change(new, old) {
                Some(change) if change.is_empty() => {}
                Some(change) => tables.push(change),
                None => return Change::Shape,
            }
        }
        Change::Parts(Changes { generation: self.generation, tables })
    }
}

impl Changes {
    /// The ruleset that the changes make of an older one.
    ///
    /// # Errors
    /// [`ChangeError`] where they are not for it.
    pub fn apply(&self, old: &Ruleset) -> Result<Ruleset, ChangeError> {
        let mut new = old.clone();
        new.generation = self.generation;
        for change in &self.tables {
            let table = new.tables.iter_mut().find(|table| table.family == change.family).ok_or(ChangeError)?;
            change.apply(table)?;
        }
        Ok(new)
    }
}

impl TableChange {
    const fn none(family: Family) -> Self {
        Self { family, counters_added: Vec::new(), counters_deleted: Vec::new(), sets: Vec::new(), chains: Vec::new() }
    }

    /// Whether nothing is to be done.
    pub const fn is_empty(&self) -> bool {
        self.counters_added.is_empty()
            && self.counters_deleted.is_empty()
            && self.sets.is_empty()
            && self.chains.is_empty()
    }

    fn apply(&self, table: &mut Table) -> Result<(), ChangeError> {
        let mut counters: BTreeSet<Counter> = table.counters.drain(..).collect();
        if self.counters_deleted.iter().any(|counter| !counters.remove(counter)) {
            return Err(ChangeError);
        }
        counters.extend(self.counters_added.iter().cloned());
        table.counters = counters.into_iter().collect();
        for change in &self.sets {
            let set = table.sets.iter_mut().find(|set| set.name == change.name).ok_or(ChangeError)?;
            let mut elements: BTreeSet<Element> = set.elements.drain(..).collect();
            if change.delete.iter().any(|element| !elements.remove(element)) {
                return Err(ChangeError);
            }
            elements.extend(change.add.iter().cloned());
            set.elements = elements.into_iter().collect();
        }
        for changed in &self.chains {
            let chain = table.chains.iter_mut().find(|chain| chain.name == changed.name).ok_or(ChangeError)?;
            *chain = changed.clone();
        }
        Ok(())
    }
}

/// `None` where the shapes differ.
fn table_change(new: &Table, old: &Table) -> Option<TableChange> {
    let same_shape = new.family == old.family
        && new.chains.len() == old.chains.len()
        && new.sets.len() == old.sets.len()
        && new.chains.iter().zip(&old.chains).all(|(new, old)| new.name == old.name && new.hook == old.hook);
    if !same_shape {
        return None;
    }
    let by_name: BTreeMap<&str, &Set> = old.sets.iter().map(|set| (set.name.as_str(), set)).collect();
    let mut sets = Vec::new();
    for set in &new.sets {
        let old = by_name.get(set.name.as_str())?;
        if !is_same_kind(set, old) {
            return None;
        }
        let change = set_change(set, old, new);
        if change.delete.is_empty() && change.add.is_empty() {
            continue;
        }
        if !set.grows {
            return None;
        }
        sets.push(change);
    }
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    let [counters, old_counters] =
        [new, old].map(|table| table.counters.iter().cloned().collect::<BTreeSet<Counter>>());
    Some(TableChange {
        family: new.family,
        counters_added: counters.difference(&old_counters).cloned().collect(),
        counters_deleted: old_counters.difference(&counters).cloned().collect(),
        sets,
        chains: other_chains(new, old),
    })
}

fn other_chains(new: &Table, old: &Table) -> Vec<Chain> {
    let both = new.chains.iter().zip(&old.chains);
    both.filter(|(new, old)| new.rules != old.rules).map(|(new, _)| new.clone()).collect()
}

fn is_same_kind(new: &Set, old: &Set) -> bool {
    (&new.key, new.interval, new.map, new.counts, new.grows) == (&old.key, old.interval, old.map, old.counts, old.grows)
}

fn set_change(new: &Set, old: &Set, table: &Table) -> SetChange {
    let (mut delete, mut add) = (Vec::new(), Vec::new());
    // Of ten thousand, most often one has come or gone.
    let same = |pair: &(&Element, &Element)| pair.0 == pair.1;
    let first = old.elements.iter().zip(&new.elements).take_while(same).count();
    let (left, coming) = (&old.elements[first..], &new.elements[first..]);
    let last = left.iter().rev().zip(coming.iter().rev()).take_while(same).count();
    let (left, coming) = (&left[..left.len() - last], &coming[..coming.len() - last]);
    let (mut left, mut coming) = (left.iter().peekable(), coming.iter().peekable());
    loop {
        match (left.peek(), coming.peek()) {
            (None, None) => break,
            (Some(own), Some(other)) if own == other => {
                left.next();
                coming.next();
            }
            (Some(own), other) if other.is_none_or(|other| own < other) => delete.extend(left.next().cloned()),
            _ => add.extend(coming.next().cloned()),
        }
    }
    if add.is_empty() {
        return SetChange { name: new.name.clone(), delete, add, shuts_out: false };
    }
    let mut statements = table.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.statements);
    let shuts_out = statements
        .any(|statement| matches!(statement, Statement::Lookup { set, negate: true, .. } if *set == new.name));
    SetChange { name: new.name.clone(), delete, add, shuts_out }
}
