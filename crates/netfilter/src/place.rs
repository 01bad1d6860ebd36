//! What a netlink message, an error or a difference is about.

use sidewall_policy::ruleset::{Family, Ruleset};
use std::fmt;

/// A part of a ruleset, named so that a person finds it in the ruleset's text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The table's family.
    pub family: Family,
    /// What of the table.
    pub part: Part,
}

/// A part of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The table itself.
    Table,
    /// A named counter.
    Counter(String),
    /// A set or verdict map, as it is declared.
    Set(String),
    /// Elements of a set or verdict map.
    Elements(String),
    /// A chain: its name, hook and policy.
    Chain(String),
    /// A rule.
    Rule {
        /// The chain it stands in.
        chain: String,
        /// Its place in the chain, from 1.
        number: usize,
    },
}

impl Place {
    pub(crate) fn new(family: Family, part: Part) -> Self {
        Self { family, part }
    }
}

/// The family's name as `nft` writes it.
pub(crate) const fn family_name(family: Family) -> &'static str {
    match family {
        Family::Inet => "inet",
        Family::Netdev => "netdev",
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Part::Table => {}
            Part::Counter(name) => write!(f, "counter {name} in ")?,
            Part::Set(name) => write!(f, "set {name} in ")?,
            Part::Elements(name) => write!(f, "an element of set {name} in ")?,
            Part::Chain(name) => write!(f, "chain {name} in ")?,
            Part::Rule { chain, number } => write!(f, "rule {number} of chain {chain} in ")?,
        }
        write!(f, "table {} {}", family_name(self.family), Ruleset::TABLE)
    }
}
