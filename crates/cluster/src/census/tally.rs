//! How far each policy is in force, added up from the nodes' reports.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use jiff::Timestamp;
use sidewall_api::NodeEnforcement;
use sidewall_api::enforcement::{EnforcedKind, PolicyEnforcement};

use super::heard::{Heard, absent, judge, longest_silence};
use super::{NodeState, PodState};
use crate::live::ListedPolicy;

/// The most nodes of which [`Tallied::missing`] tells.
const MISSING_MAX: usize = 3;

/// A policy as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present<'a> {
    /// Its kind.
    pub kind: EnforcedKind,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its generation.
    pub generation: Option<i64>,
    /// Whether it can't be understood; it isolates what it selects then.
    pub unreadable: bool,
}

impl<'a> Present<'a> {
    /// A policy of a list.
    pub fn of(policy: &'a ListedPolicy) -> Self {
        Self {
            kind: policy.kind,
            namespace: &policy.name.namespace,
            name: &policy.name.name,
            generation: policy.generation,
            unreadable: policy.unreadable().is_some(),
        }
    }
}

impl fmt::Display for Present<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What the nodes say, by policy.
///
/// Making it costs one pass over all their reports: 100,000 entries (1,000 nodes with 100 policies each) are some tens of
/// milliseconds, and it borrows what it is about. Asking it of a policy costs the nodes that speak of that policy, so that asking
/// it of every policy costs the entries once more.
#[derive(Default)]
pub struct Tally<'a> {
    nodes: Vec<(&'a str, Heard<'a>)>,
    said: HashMap<Which<'a>, Vec<Said<'a>>>,
    /// Nodes whose reports have no room for all their policies.
    omitting: BTreeSet<usize>,
}

/// A policy: its kind, its namespace and its name.
type Which<'a> = (EnforcedKind, &'a str, &'a str);

/// What a node says of a policy, with the node's place.
type Said<'a> = (usize, &'a PolicyEnforcement);

/// How far a policy is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tallied {
    /// The pods that it selects, as far as nodes speak of them.
    pub selected: usize,
    /// Those among them in which its present generation is in force, on nodes that can be believed.
    pub enforced: usize,
    /// A node whose agent can't understand it, and why.
    pub unreadable: Option<(String, String)>,
    /// Where it is not in force, or nobody can say, and why: the first nodes by name.
    pub missing: Vec<(String, String)>,
    /// On how many nodes it is not in force, or nobody can say.
    pub missing_nodes: usize,
    /// Whether of all of those nobody can say.
    pub unknown: bool,
}

impl<'a> Tally<'a> {
    /// Adds up what the nodes say at a time, each by its name.
    pub fn of(reports: impl IntoIterator<Item = (&'a str, &'a NodeEnforcement)>, now: Timestamp) -> Self {
        let mut nodes: Vec<(&'a str, Heard<'a>)> =
            reports.into_iter().map(|(name, report)| (name, Heard::of(Some(report), now))).collect();
        nodes.sort_by_key(|(name, _)| *name);
        let mut tally = Self { nodes, ..Self::default() };
        for (index, (_, heard)) in tally.nodes.iter().enumerate() {
            let Some(status) = heard.status else { continue };
            for said in &status.policy_list {
                let by = (said.kind, said.namespace.as_str(), said.name.as_str());
                tally.said.entry(by).or_default().push((index, said));
            }
            if status.omitted.policies > 0 {
                tally.omitting.insert(index);
            }
        }
        tally
    }

    /// When, at the latest, it is to be made anew though nothing has changed: the next node that falls silent.
    pub fn until(&self) -> Option<Timestamp> {
        let heard = self.nodes.iter().map(|(_, heard)| heard);
        let believed = heard.filter(|heard| matches!(heard.state, NodeState::Reporting | NodeState::Behind));
        believed
            .filter_map(|heard| heard.status?.updated.parse::<Timestamp>().ok()?.checked_add(longest_silence()).ok())
            .min()
    }

    /// How far a policy is in force.
    pub fn policy(&self, policy: &Present<'_>) -> Tallied {
        let mut tallied = Tallied { unknown: true, ..Tallied::default() };
        let said = self.said.get(&(policy.kind, policy.namespace, policy.name)).map_or(&[][..], Vec::as_slice);
        let mut silent_on = self.omitting.clone();
        for (index, said) in said {
            silent_on.remove(index);
            self.node(*index, said, policy, &mut tallied);
        }
        for index in silent_on {
            let (state, why) = absent(true, policy);
            tallied.miss(self.nodes[index].0, state, why);
        }
        tallied
    }

    fn node(&self, index: usize, said: &PolicyEnforcement, policy: &Present<'_>, tallied: &mut Tallied) {
        let (name, heard) = &self.nodes[index];
        let selected = usize::try_from(said.selected).unwrap_or_default();
        tallied.selected += selected;
        let believed = match heard.state {
            NodeState::Reporting => Ok(()),
            // What it says of its own policies is true, and may not be what it should enforce by now.
            NodeState::Behind | NodeState::Silent => Err((PodState::Unknown, heard.why())),
            NodeState::NoAgent => Err((PodState::NotEnforced, heard.why())),
        };
        let judged = judge(said, policy);
        if let (Some(why), Ok(()), None) = (&said.unreadable, &believed, &tallied.unreadable) {
            tallied.unreadable = Some(((*name).to_owned(), why.clone()));
        }
        match believed.and(judged) {
            Ok(()) => {
                let enforced = usize::try_from(said.enforced).unwrap_or_default().min(selected);
                tallied.enforced += enforced;
                if enforced < selected {
                    let why = format!("it is in force in {enforced} of {selected} pods");
                    tallied.miss(name, PodState::NotEnforced, why);
                }
            }
            // Where it selects nothing, nothing is missing.
            Err((state, why)) if selected > 0 || said.unreadable.is_some() => tallied.miss(name, state, why),
            Err(_) => {}
        }
    }
}

impl Tallied {
    fn miss(&mut self, node: &str, state: PodState, why: String) {
        self.missing_nodes += 1;
        self.unknown &= state == PodState::Unknown;
        if self.missing.len() < MISSING_MAX {
            self.missing.push((node.to_owned(), why));
        }
    }

    /// Whether it is in force wherever nodes speak of it.
    pub fn is_enforced(&self) -> bool {
        self.missing_nodes == 0 && self.enforced == self.selected
    }
}

#[cfg(test)]
mod tests;
