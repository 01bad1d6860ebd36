//! From what differs between two rulesets to what is written into the slot in force.

use super::{EncodeError, EncodeProblem, Names, compose_chain, compose_element};
use crate::image::{ChainImage, ElementImage};
use crate::place::{Part, Place};
use crate::slot::Slot;
use sidewall_policy::ruleset::{Changes, Element, Family, Ruleset, Set};

/// What changes in a table, by the names that its parts have in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Amendment {
    pub(crate) family: Family,
    pub(crate) counters_added: Vec<String>,
    pub(crate) counters_deleted: Vec<String>,
    /// A set's name, and the elements that go: their keys.
    pub(crate) deleted: Vec<(String, Vec<ElementImage>)>,
    /// A set's name, and the elements that come.
    pub(crate) added: Vec<(String, Vec<ElementImage>)>,
    /// Chains with all the rules that they are to have.
    pub(crate) chains: Vec<ChainImage>,
}

/// What leads to the ruleset `to`, as it stands in a slot.
pub(crate) fn amend(changes: &Changes, to: &Ruleset, slot: Slot) -> Result<Vec<Amendment>, EncodeError> {
    let mut amendments = Vec::with_capacity(changes.tables.len());
    for change in &changes.tables {
        // The changes were made from this ruleset.
        let Some(table) = to.tables.iter().find(|table| table.family == change.family) else {
            continue;
        };
        let names = Names::of(table)?;
        let mut amendment = Amendment {
            family: change.family,
            counters_added: change.counters_added.iter().map(|counter| counter.name.clone()).collect(),
            counters_deleted: change.counters_deleted.iter().map(|counter| counter.name.clone()).collect(),
            deleted: Vec::new(),
            added: Vec::new(),
            chains: Vec::new(),
        };
        for set_change in &change.sets {
            let at =
                |problem| EncodeError { place: Place::new(change.family, Part::Set(set_change.name.clone())), problem };
            let set = *names
                .sets
                .get(set_change.name.as_str())
                .ok_or_else(|| at(EncodeProblem::NoSet(set_change.name.clone())))?;
            let keys: Vec<Element> =
                set_change.delete.iter().map(|gone| Element { verdict: None, counter: None, ..gone.clone() }).collect();
            let deleted = compose_elements(set, &keys, &names).map_err(at)?;
            let added = compose_elements(set, &set_change.add, &names).map_err(at)?;
            for (list, elements) in [(&mut amendment.deleted, deleted), (&mut amendment.added, added)] {
                if !elements.is_empty() {
                    list.push((set.name.clone(), elements));
                }
            }
        }
        for chain in &change.chains {
            amendment.chains.push(compose_chain(chain, change.family, &names)?);
        }
        amendments.push(amendment.in_slot(slot));
    }
    Ok(amendments)
}

fn compose_elements(set: &Set, elements: &[Element], names: &Names<'_>) -> Result<Vec<ElementImage>, EncodeProblem> {
    let mut images = Vec::with_capacity(elements.len() * if set.interval { 2 } else { 1 });
    for (index, element) in elements.iter().enumerate() {
        compose_element(set, index, element, names, &mut images)?;
    }
    Ok(images)
}
