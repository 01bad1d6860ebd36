//! How one ruleset becomes another in the kernel without a packet that meets a mixture of the two. Pure.

use crate::place::{Part, Place};
use sidewall_policy::ruleset::{Change, Changes, Family, Ruleset, TableChange, Taken};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The rulesets are equal.
    Nothing,
    /// Elements first, then rules, each in a transaction of its own.
    Amend(Changes),
    /// The ruleset is loaded as a whole, because their shapes differ.
    Shape,
    /// The ruleset is loaded as a whole, because elements and the rules that look for them mean something else: in
    /// transactions of their own, the old rules would meet the new elements.
    RulesAndElements,
}

/// What leads from a ruleset to another.
///
/// # Errors
/// Something that is taken away, where both are of one generation.
pub(crate) fn plan(from: &Ruleset, to: &Ruleset) -> Result<Plan, Place> {
    let change = to.change_from(from);
    if let Some(taken) = change.takes_away()
        && from.generation == to.generation
    {
        return Err(place(taken));
    }
    let changes = match change {
        Change::Shape => return Ok(Plan::Shape),
        Change::Parts(changes) => changes,
    };
    if changes.tables.is_empty() {
        return Ok(Plan::Nothing);
    }
    let has_elements = changes.tables.iter().any(|table| !table.sets.is_empty());
    if has_elements && !changes.tables.iter().all(|table| is_only_numbered_anew(table, from, to)) {
        return Ok(Plan::RulesAndElements);
    }
    Ok(Plan::Amend(changes))
}

fn place(taken: Taken<'_>) -> Place {
    match taken {
        Taken::Shape => Place::new(Family::Inet, Part::Table),
        Taken::Elements { family, set } => Place::new(family, Part::Elements(set.to_owned())),
        Taken::Rules { family, chain } => Place::new(family, Part::Chain(chain.to_owned())),
    }
}

/// Whether the chains that differ differ by their generation alone.
fn is_only_numbered_anew(change: &TableChange, from: &Ruleset, to: &Ruleset) -> bool {
    let Some(old) = from.tables.iter().find(|table| table.family == change.family) else {
        return false;
    };
    change.chains.iter().all(|chain| {
        let old = old.chains.iter().find(|old| old.name == chain.name);
        old.is_some_and(|old| {
            let mut rules = chain.rules.iter().zip(&old.rules);
            old.rules.len() == chain.rules.len()
                && rules.all(|(new, old)| new.is_renumbered(old, from.generation, to.generation))
        })
    })
}
