//! What differs between the tables that were loaded and those that the kernel holds.

#[cfg(test)]
mod tests;

use crate::abi;
use crate::compose::{family_number, family_of};
use crate::image::{ChainImage, ElementImage, Image, RuleImage, SetImage, TableImage};
use crate::place::{Part, Place, family_name};
use crate::slot::Slot;
use sidewall_policy::ruleset::{Family, Ruleset};
use std::collections::BTreeMap;
use std::fmt;

/// Whether the kernel still holds what was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Standing {
    /// Every table is as it was loaded.
    AsLoaded,
    /// Somebody changed something: these parts, at most [`Standing::MOST`] of them.
    Drifted(Vec<Difference>),
}

impl Standing {
    /// The most differences that are told.
    pub const MOST: usize = 100;
}

/// A part of a table that is not as it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which part.
    pub place: Place,
    /// How it differs.
    pub change: Change,
}

/// How a part of a table differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It was loaded and is gone.
    Missing,
    /// It is there and was not loaded.
    Foreign,
    /// It is there with another content.
    Altered,
    /// A set has so many elements less, and so many more, than were loaded.
    Elements {
        /// How many are gone.
        missing: usize,
        /// How many were added.
        foreign: usize,
    },
    /// The kernel told something of the table that this program cannot read.
    Unreadable,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::Missing => write!(f, "{} is gone", self.place),
            Change::Foreign => write!(f, "{} is not ours", self.place),
            Change::Altered => write!(f, "{} was altered", self.place),
            Change::Elements { missing, foreign } => {
                write!(f, "{}: {missing} are gone, {foreign} are not ours", self.place)
            }
            Change::Unreadable => write!(f, "{} holds something unreadable", self.place),
        }
    }
}

/// A table of a namespace that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignTable {
    /// Its family's number (`NFPROTO_*`).
    pub family: u8,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ForeignTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (family_of(self.family), self.family) {
            (Some(family), _) => f.write_str(family_name(family))?,
            (None, abi::NFPROTO_IPV4) => f.write_str("ip")?,
            (None, abi::NFPROTO_IPV6) => f.write_str("ip6")?,
            (None, 3) => f.write_str("arp")?,
            (None, 7) => f.write_str("bridge")?,
            (None, other) => write!(f, "family {other}")?,
        }
        write!(f, " {}", self.name)
    }
}

/// Compares what was loaded with what was found.
pub(crate) fn compare(loaded: &Image, found: &Image) -> Standing {
    let mut all = Differences(Vec::new());
    if found.unreadable > 0 {
        all.add(Family::Inet, Part::Table, Change::Unreadable);
    }
    for family in [Family::Inet, Family::Netdev] {
        let number = family_number(family);
        match (loaded.tables.get(&number), found.tables.get(&number)) {
            (None, None) => {}
            (Some(_), None) => all.add(family, Part::Table, Change::Missing),
            (None, Some(_)) => all.add(family, Part::Table, Change::Foreign),
            (Some(loaded), Some(found)) => compare_table(&mut all, family, loaded, found),
        }
    }
    if all.0.is_empty() { Standing::AsLoaded } else { Standing::Drifted(all.0) }
}

impl Standing {
    /// With the ruleset's names for what belongs to the slot in force. What is left of the other slot keeps the names
    /// that it has in the kernel.
    pub(crate) fn named_as_in(self, live: Slot) -> Self {
        match self {
            Self::AsLoaded => Self::AsLoaded,
            Self::Drifted(mut differences) => {
                for difference in &mut differences {
                    if difference.place.part.slot() == Some(live) {
                        difference.place.part = difference.place.part.clone().plain();
                    }
                }
                Self::Drifted(differences)
            }
        }
    }
}

struct Differences(Vec<Difference>);

impl Differences {
    fn add(&mut self, family: Family, part: Part, change: Change) {
        if self.0.len() < Standing::MOST {
            self.0.push(Difference { place: Place::new(family, part), change });
        }
    }

    /// Pairs what was loaded with what was found by name.
    fn pair<'a, T>(
        &mut self,
        family: Family,
        part: fn(String) -> Part,
        loaded: impl Iterator<Item = (&'a str, &'a T)>,
        found: impl Iterator<Item = (&'a str, &'a T)>,
        mut both: impl FnMut(&mut Self, &'a T, &'a T),
    ) where
        T: 'a,
    {
        let mut found: BTreeMap<&str, &T> = found.collect();
        for (name, loaded) in loaded {
            match found.remove(name) {
                Some(found) => both(self, loaded, found),
                None => self.add(family, part(name.to_owned()), Change::Missing),
            }
        }
        for name in found.keys() {
            self.add(family, part((*name).to_owned()), Change::Foreign);
        }
    }
}

fn compare_table(all: &mut Differences, family: Family, loaded: &TableImage, found: &TableImage) {
    if loaded.flags != found.flags {
        all.add(family, Part::Table, Change::Altered);
    }
    let counters =
        |table: &'_ TableImage| -> Vec<(String, ())> { table.counters.iter().map(|name| (name.clone(), ())).collect() };
    let (ours, theirs) = (counters(loaded), counters(found));
    all.pair(
        family,
        Part::Counter,
        ours.iter().map(|(name, unit)| (name.as_str(), unit)),
        theirs.iter().map(|(name, unit)| (name.as_str(), unit)),
        |_, (), ()| {},
    );
    for name in &found.other_objects {
        all.add(family, Part::Counter(name.clone()), Change::Foreign);
    }
    all.pair(
        family,
        Part::Set,
        loaded.sets.iter().map(|set| (set.name.as_str(), set)),
        found.sets.iter().map(|set| (set.name.as_str(), set)),
        |all, loaded, found| compare_set(all, family, loaded, found),
    );
    all.pair(
        family,
        Part::Chain,
        loaded.chains.iter().map(|chain| (chain.name.as_str(), chain)),
        found.chains.iter().map(|chain| (chain.name.as_str(), chain)),
        |all, loaded, found| compare_chain(all, family, loaded, found),
    );
}

fn compare_set(all: &mut Differences, family: Family, loaded: &SetImage, found: &SetImage) {
    if (loaded.flags, loaded.key_type, loaded.key_length, loaded.data_type)
        != (found.flags, found.key_type, found.key_length, found.data_type)
    {
        all.add(family, Part::Set(loaded.name.clone()), Change::Altered);
    }
    let sorted = |set: &SetImage| -> Vec<ElementImage> {
        let mut elements = set.elements.clone();
        elements.sort_unstable();
        elements
    };
    let (ours, theirs) = (sorted(loaded), sorted(found));
    let (mut ours, mut theirs) = (ours.iter().peekable(), theirs.iter().peekable());
    let (mut missing, mut foreign) = (0, 0);
    loop {
        match (ours.peek(), theirs.peek()) {
            (None, None) => break,
            (Some(_), None) => {
                missing += 1;
                ours.next();
            }
            (None, Some(_)) => {
                foreign += 1;
                theirs.next();
            }
            (Some(own), Some(other)) => match own.cmp(other) {
                std::cmp::Ordering::Less => {
                    missing += 1;
                    ours.next();
                }
                std::cmp::Ordering::Greater => {
                    foreign += 1;
                    theirs.next();
                }
                std::cmp::Ordering::Equal => {
                    ours.next();
                    theirs.next();
                }
            },
        }
    }
    if missing + foreign > 0 {
        all.add(family, Part::Elements(loaded.name.clone()), Change::Elements { missing, foreign });
    }
}

fn compare_chain(all: &mut Differences, family: Family, loaded: &ChainImage, found: &ChainImage) {
    if loaded.hook != found.hook || loaded.flags != found.flags {
        all.add(family, Part::Chain(loaded.name.clone()), Change::Altered);
    }
    let rule = |number| Part::Rule { chain: loaded.name.clone(), number };
    for number in 1..=loaded.rules.len().max(found.rules.len()) {
        let change = match (loaded.rules.get(number - 1), found.rules.get(number - 1)) {
            (Some(own), Some(other)) if is_same_rule(own, other) => continue,
            (Some(_), Some(_)) => Change::Altered,
            (Some(_), None) => Change::Missing,
            (None, _) => Change::Foreign,
        };
        all.add(family, rule(number), change);
    }
}

fn is_same_rule(loaded: &RuleImage, found: &RuleImage) -> bool {
    loaded.user_data == found.user_data
        && loaded.expressions.len() == found.expressions.len()
        && loaded.expressions.iter().zip(&found.expressions).all(|(own, other)| own.is(other))
}

/// The tables that a dump of all tables tells of and that are none of ours.
pub(crate) fn is_ours(family: u8, name: &str) -> bool {
    name == Ruleset::TABLE && family_of(family).is_some()
}
