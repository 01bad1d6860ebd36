//! From a pod's policies to its rules.
//!
//! The shape was tried against live flows across generations and against attacks; each chain says what it is for. Two
//! ideas run through all of it. A flow is judged once in a generation and then passes by its conntrack mark, so cost
//! does not grow with policies or peers. And identity is looked at before the mark is believed, so that a verdict
//! belongs to those whom it was given to.

mod audit;
mod builder;
mod capture;
mod ends;
mod hooks;
mod judging;
mod link;
mod networks;
mod question;
mod statements;
#[cfg(test)]
mod tests;

use crate::model::{ResolvedPod, RuleName};
use crate::ruleset::{Change, Generation, Ruleset};
use builder::Builder;
use sidewall_flow::Decision;
use std::collections::BTreeMap;

pub use builder::counter_name;

/// The counter of packets of flows that were denied before.
pub const ENDED: &str = "ended";

/// A ruleset and what its counters count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The rules.
    pub ruleset: Ruleset,
    /// What each counter counts, by its name.
    pub meanings: BTreeMap<String, Meaning>,
}

/// What a counter counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Judgements that a policy's rule allowed: once a flow and generation, and for each packet of a flow that nobody
    /// has answered yet.
    Rule(RuleName),
    /// Packets that came out so.
    Decision(Decision),
    /// Packets of flows that were denied before.
    Ended,
}

/// Compiles a pod's rules as the given generation. The same pod gives the same rules, always.
pub fn compile(pod: &ResolvedPod, generation: Generation) -> Compiled {
    let mut builder = Builder::new(pod, generation);
    builder.hooks();
    builder.common_ends();
    builder.judging();
    let links = builder.links();
    builder.finish(links)
}

/// Compiles a pod's rules to follow older ones of the same pod, and says what leads from those to these.
///
/// They keep the generation where [nothing is taken away](Change::takes_away); where anything is, or the whole must be loaded
/// anew, they have the [next one](Generation::next), so that live flows are judged again: that no flow bears it yet is the
/// caller's to see to.
pub fn compile_next(pod: &ResolvedPod, old: &Compiled) -> (Compiled, Change) {
    let mut compiled = compile(pod, old.ruleset.generation);
    let change = compiled.ruleset.change_from(&old.ruleset);
    if change.takes_away().is_none() {
        return (compiled, change);
    }
    // Of rules with ten thousand peers, only those that bear the generation are another's.
    compiled.ruleset.renumber(old.ruleset.generation.next());
    let change = change.renumbered(&compiled.ruleset, &old.ruleset);
    (compiled, change)
}
