//! The two slots that a ruleset's parts can stand in, so that a new ruleset is made ready beside the one in force.
//!
//! A batch is atomic for the rules of chains, but not for the elements of sets: the kernel gives those to look-ups one
//! after the other, after the new rules have begun to run. So a new ruleset's sets must be complete before the first rule
//! that looks into them runs. They, and what else no hook enters by itself, get names with the prefix of a slot; the next
//! ruleset takes the other one. Chains with a hook have one name, in whichever slot what they refer to stands.

#[cfg(test)]
mod tests;

use crate::abi;
use crate::compose::Amendment;
use crate::image::{ChainImage, Data, ElementImage, Expression, Image, RuleImage, TableImage, Value};
use crate::place::Part;
use std::collections::BTreeSet;

/// The length of [`Slot::prefix`] in bytes.
pub(crate) const PREFIX: usize = 2;

/// One of the two places for a ruleset in our tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    /// Where a ruleset stands that replaces the tables as a whole.
    A,
    B,
}

impl Slot {
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::A => "a.",
            Self::B => "b.",
        }
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The slot that a name in the kernel belongs to, and the name in the ruleset.
    pub(crate) fn of(name: &str) -> Option<(Self, &str)> {
        [Self::A, Self::B].into_iter().find_map(|slot| Some((slot, name.strip_prefix(slot.prefix())?)))
    }

    pub(crate) fn holds(self, name: &str) -> bool {
        name.starts_with(self.prefix())
    }

    fn rename(self, name: &mut String) {
        name.insert_str(0, self.prefix());
    }
}

/// The ruleset's name of what has this name in the kernel.
pub(crate) fn plain(name: &str) -> &str {
    Slot::of(name).map_or(name, |(_, name)| name)
}

impl Image {
    /// The image of a ruleset, as it stands in a slot.
    pub(crate) fn in_slot(mut self, slot: Slot) -> Self {
        for table in self.tables.values_mut() {
            table.counters.iter_mut().for_each(|name| slot.rename(name));
            for set in &mut table.sets {
                slot.rename(&mut set.name);
                rename_targets(&mut set.elements, slot);
            }
            table.chains.iter_mut().for_each(|chain| rename_chain(chain, slot));
        }
        self
    }

    /// The slots that anything stands in.
    pub(crate) fn slots(&self) -> BTreeSet<Slot> {
        self.tables.values().flat_map(slotted_names).filter_map(|name| Some(Slot::of(name)?.0)).collect()
    }

    /// The slot whose parts the hooks' rules refer to, which is the one in force; `None` where that cannot be told.
    pub(crate) fn live(&self) -> Option<Slot> {
        let rules = self.tables.values().flat_map(|table| &table.chains).filter(|chain| chain.hook.is_some());
        let referred = rules.flat_map(|chain| &chain.rules).flat_map(references).collect();
        // Rules that refer to nothing leave the question to the names; where there are none, every answer is right.
        match (only(&referred), referred.len()) {
            (Some(slot), _) => Some(slot),
            (None, 0) => match self.slots() {
                names if names.is_empty() => Some(Slot::A),
                names => only(&names),
            },
            (None, _) => None,
        }
    }

    /// Whether a ruleset can take this one's place by other rules in the same chains: the tables, their flags and the
    /// chains with hooks are the same, and all else stands in a slot. Whatever somebody else added, and whatever he changed
    /// that a change of slots would leave, makes it `false`.
    pub(crate) fn is_exchangeable_for(&self, other: &Self) -> bool {
        self.unreadable == 0
            && self.tables.len() == other.tables.len()
            && self.tables.iter().zip(&other.tables).all(|((number, own), (others_number, other))| {
                number == others_number
                    && own.flags == other.flags
                    && own.other_objects.is_empty()
                    && own.chains.iter().all(|chain| chain.flags == 0)
                    && slotted_names(own).all(|name| Slot::of(name).is_some())
                    && has_hooks_of(own, other)
                    && has_hooks_of(other, own)
            })
    }
}

impl Amendment {
    /// The same in a slot.
    pub(crate) fn in_slot(mut self, slot: Slot) -> Self {
        self.counters_added.iter_mut().chain(&mut self.counters_deleted).for_each(|name| slot.rename(name));
        for (set, elements) in self.deleted.iter_mut().chain(&mut self.added) {
            slot.rename(set);
            rename_targets(elements, slot);
        }
        self.chains.iter_mut().for_each(|chain| rename_chain(chain, slot));
        self
    }
}

fn rename_chain(chain: &mut ChainImage, slot: Slot) {
    if chain.hook.is_none() {
        slot.rename(&mut chain.name);
    }
    chain.rules.iter_mut().for_each(|rule| rename_references(rule, slot));
}

fn rename_targets(elements: &mut [ElementImage], slot: Slot) {
    for data in elements.iter_mut().filter_map(|element| element.data.as_mut()) {
        rename_target(data, slot);
    }
}

fn only(slots: &BTreeSet<Slot>) -> Option<Slot> {
    slots.first().copied().filter(|_| slots.len() == 1)
}

/// The names of all that stands in a slot.
fn slotted_names(table: &TableImage) -> impl Iterator<Item = &str> {
    let chains = table.chains.iter().filter(|chain| chain.hook.is_none()).map(|chain| &chain.name);
    let sets = table.sets.iter().map(|set| &set.name);
    table.counters.iter().chain(sets).chain(chains).map(String::as_str)
}

fn has_hooks_of(table: &TableImage, other: &TableImage) -> bool {
    let mut hooked = other.chains.iter().filter(|chain| chain.hook.is_some());
    hooked.all(|chain| table.chains.iter().any(|own| own.name == chain.name && own.hook == chain.hook))
}

fn rename_target(data: &mut Data, slot: Slot) {
    if let Data::Verdict { chain: Some(name), .. } | Data::Counter(name) = data {
        slot.rename(name);
    }
}

fn rename_references(rule: &mut RuleImage, slot: Slot) {
    for expression in &mut rule.expressions {
        let name = name_attributes(expression);
        for (kind, value) in &mut expression.attributes {
            match value {
                Value::Data(data) => rename_target(data, slot),
                Value::Bytes(bytes) if name.contains(kind) => {
                    bytes.splice(..0, slot.prefix().bytes());
                }
                Value::Bytes(_) => {}
            }
        }
    }
}

/// The attributes in which an expression names a set or counter.
fn name_attributes(expression: &Expression) -> &'static [u16] {
    match &*expression.name {
        "lookup" => &[abi::NFTA_LOOKUP_SET],
        "objref" => &[abi::NFTA_OBJREF_IMM_NAME, abi::NFTA_OBJREF_SET_NAME],
        _ => &[],
    }
}

/// The slots that a rule refers to.
fn references(rule: &RuleImage) -> impl Iterator<Item = Slot> {
    rule.expressions.iter().flat_map(|expression| {
        let name = name_attributes(expression);
        expression.attributes.iter().filter_map(move |(kind, value)| {
            let text = match value {
                Value::Data(Data::Verdict { chain: Some(chain), .. }) => chain,
                Value::Bytes(bytes) if name.contains(kind) => std::str::from_utf8(bytes).ok()?,
                _ => return None,
            };
            Some(Slot::of(text)?.0)
        })
    })
}

impl Part {
    /// The same part with the ruleset's names.
    pub(crate) fn plain(self) -> Self {
        let plain = |name: String| plain(&name).to_owned();
        match self {
            Self::Table => Self::Table,
            Self::Counter(name) => Self::Counter(plain(name)),
            Self::Set(name) => Self::Set(plain(name)),
            Self::Elements(name) => Self::Elements(plain(name)),
            Self::Chain(name) => Self::Chain(plain(name)),
            Self::Rule { chain, number } => Self::Rule { chain: plain(chain), number },
        }
    }

    /// The slot that the part stands in.
    pub(crate) fn slot(&self) -> Option<Slot> {
        match self {
            Self::Table => None,
            Self::Counter(name)
            | Self::Set(name)
            | Self::Elements(name)
            | Self::Chain(name)
            | Self::Rule { chain: name, .. } => Some(Slot::of(name)?.0),
        }
    }
}
