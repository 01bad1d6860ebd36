//! How one ruleset becomes another in the kernel without a packet that meets a mixture of the two. Pure.

use crate::place::{Part, Place};
use sidewall_policy::mark;
use sidewall_policy::ruleset::{Change, Changes, Compare, Field, Generation, Rule, Ruleset, Statement, TableChange};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The rulesets are equal.
    Nothing,
    /// Elements first, then rules, each in a transaction of its own.
    Amend {
        changes: Changes,
        /// Something that flows of before may owe their verdict to; `None` where there are only additions.
        taken: Option<Place>,
    },
    /// The ruleset is loaded as a whole, because their shapes differ.
    Shape,
    /// The ruleset is loaded as a whole, because elements and the rules that look for them mean something else: in
    /// transactions of their own, the old rules would meet the new elements.
    RulesAndElements,
}

/// What leads from a ruleset to another.
pub(crate) fn plan(from: &Ruleset, to: &Ruleset) -> Plan {
    let changes = match to.change_from(from) {
        Change::Shape => return Plan::Shape,
        Change::Parts(changes) => changes,
    };
    if changes.tables.is_empty() {
        return Plan::Nothing;
    }
    let has_elements = changes.tables.iter().any(|table| !table.sets.is_empty());
    if has_elements && !changes.tables.iter().all(|table| is_only_numbered_anew(table, from, to)) {
        return Plan::RulesAndElements;
    }
    let taken = changes.tables.iter().find_map(|table| taken(table, to));
    Plan::Amend { changes, taken }
}

/// Something that a change takes away, or may: an element, rules, or what a new element of a set keeps from passing because
/// a rule asks for what is *not* in the set.
fn taken(change: &TableChange, to: &Ruleset) -> Option<Place> {
    let negated = |name: &str| {
        to.tables
            .iter()
            .filter(|table| table.family == change.family)
            .flat_map(|table| &table.chains)
            .flat_map(|chain| &chain.rules)
            .flat_map(|rule| &rule.statements)
            .any(|statement| matches!(statement, Statement::Lookup { set, negate: true, .. } if set == name))
    };
    let set = change.sets.iter().find(|set| !set.delete.is_empty() || negated(&set.name));
    let part = match (set, change.chains.first()) {
        (Some(set), _) => Part::Elements(set.name.clone()),
        (None, Some(chain)) => Part::Chain(chain.name.clone()),
        (None, None) => return None,
    };
    Some(Place::new(change.family, part))
}

/// Whether the chains that differ differ by their generation alone.
fn is_only_numbered_anew(change: &TableChange, from: &Ruleset, to: &Ruleset) -> bool {
    let Some(old) = from.tables.iter().find(|table| table.family == change.family) else {
        return false;
    };
    change.chains.iter().all(|chain| {
        let old = old.chains.iter().find(|old| old.name == chain.name);
        old.is_some_and(|old| {
            old.rules.len() == chain.rules.len()
                && old
                    .rules
                    .iter()
                    .zip(&chain.rules)
                    .all(|(old, new)| is_same(old, new, from.generation, to.generation))
        })
    })
}

fn is_same(old: &Rule, new: &Rule, from: Generation, to: Generation) -> bool {
    old.comment == new.comment
        && old.statements.len() == new.statements.len()
        && old.statements.iter().zip(&new.statements).all(|(old, new)| old == new || renumber(old, from, to) == *new)
}

/// A statement that speaks of a generation, with another in its place.
fn renumber(statement: &Statement, from: Generation, to: Generation) -> Statement {
    let other = |bits: u32| match bits & mark::GENERATION == mark::generation(from) {
        true => bits & !mark::GENERATION | mark::generation(to),
        false => bits,
    };
    match statement {
        Statement::Match {
            field: Field::CtMark,
            mask: Some(mask),
            compare: compare @ (Compare::Equal | Compare::NotEqual),
            value,
        } if mask & mark::GENERATION == mark::GENERATION => Statement::Match {
            field: Field::CtMark,
            mask: Some(*mask),
            compare: *compare,
            value: u32::try_from(*value).map_or(*value, |value| other(value).into()),
        },
        Statement::SetMark { keep, set } if keep & mark::GENERATION == 0 => {
            Statement::SetMark { keep: *keep, set: other(*set) }
        }
        other => other.clone(),
    }
}
