//! What differs between two rulesets of one pod, so that only that is sent to the kernel.
//!
//! Peers come and go all the time; policies change now and then; the shape of a pod's rules hardly ever does. A change
//! that leaves the shape alone is elements of sets that grow, counters, and chains whose rules are written anew.

#[cfg(test)]
mod tests;

use super::{Chain, Counter, Element, Family, Generation, Ruleset, Set, Table};
use crate::ranges::Ranges;
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
    /// Whether anything that passed may not pass any more, so that live flows must be judged again: an element is gone
    /// or leads elsewhere, or rules differ. Between rulesets of one generation; those of two differ in rules always.
    pub fn takes_away(&self) -> bool {
        self.tables.iter().any(|table| !table.chains.is_empty() || table.sets.iter().any(SetChange::takes_away))
    }

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

impl SetChange {
    /// Whether a key is gone or leads elsewhere. In which counter it is counted does not matter.
    fn takes_away(&self) -> bool {
        if self.delete.iter().chain(&self.add).any(|element| element.last.is_some()) {
            let ranges = |elements: &[Element]| -> Ranges {
                elements.iter().filter_map(|element| Some((*element.key.first()?, element.last?))).collect()
            };
            let verdicts = self.delete.iter().chain(&self.add).any(|element| element.verdict.is_some());
            return verdicts || !ranges(&self.add).covers(&ranges(&self.delete));
        }
        let stays = |gone: &Element| {
            let place = self.add.binary_search_by(|element| element.key.cmp(&gone.key));
            place.is_ok_and(|place| self.add[place].verdict == gone.verdict)
        };
        !self.delete.iter().all(stays)
    }
}

impl TableChange {
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
        if set.elements == old.elements {
            continue;
        }
        if !set.grows {
            return None;
        }
        sets.push(set_change(set, old));
    }
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    let [counters, old_counters] =
        [new, old].map(|table| table.counters.iter().cloned().collect::<BTreeSet<Counter>>());
    Some(TableChange {
        family: new.family,
        counters_added: counters.difference(&old_counters).cloned().collect(),
        counters_deleted: old_counters.difference(&counters).cloned().collect(),
        sets,
        chains: new
            .chains
            .iter()
            .zip(&old.chains)
            .filter(|(new, old)| new.rules != old.rules)
            .map(|(new, _)| new.clone())
            .collect(),
    })
}

fn is_same_kind(new: &Set, old: &Set) -> bool {
    (&new.key, new.interval, new.map, new.counts, new.grows) == (&old.key, old.interval, old.map, old.counts, old.grows)
}

fn set_change(new: &Set, old: &Set) -> SetChange {
    let (mut delete, mut add) = (Vec::new(), Vec::new());
    let (mut old, mut coming) = (old.elements.iter().peekable(), new.elements.iter().peekable());
    loop {
        match (old.peek(), coming.peek()) {
            (None, None) => break,
            (Some(own), Some(other)) if own == other => {
                old.next();
                coming.next();
            }
            (Some(own), other) if other.is_none_or(|other| own < other) => delete.extend(old.next().cloned()),
            _ => add.extend(coming.next().cloned()),
        }
    }
    SetChange { name: new.name.clone(), delete, add }
}
