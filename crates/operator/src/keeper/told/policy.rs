//! The status of a ContainerNetworkPolicy, added up from the nodes.

use jiff::Timestamp;
use sidewall_api::policy::PodCounts;
use sidewall_api::{ContainerNetworkPolicy, ContainerNetworkPolicyStatus, Mode, UnreadablePolicy};
use sidewall_cluster::census::Tallied;

use super::condition::{Conditions, Says};
use super::{ACCEPTED, ENFORCED, accepted};

/// What was seen of a ContainerNetworkPolicy.
#[derive(Clone, Copy)]
pub struct PolicySeen<'a> {
    /// Its generation.
    pub generation: i64,
    /// It, or why it can't be read.
    pub read: Result<&'a ContainerNetworkPolicy, &'a UnreadablePolicy>,
    /// What the nodes say of it: `sidewall_cluster::census::Tally::policy`.
    pub tallied: &'a Tallied,
    /// The pods that have the labels that it selects, and that run on a node: of those that no node speaks of, nobody can say
    /// that they are walled. None where that is not known.
    pub pods: Option<usize>,
}

/// The status of a ContainerNetworkPolicy. `before` is the one that it has.
pub fn policy_status(
    seen: &PolicySeen<'_>,
    before: Option<&ContainerNetworkPolicyStatus>,
    now: Timestamp,
) -> ContainerNetworkPolicyStatus {
    let tallied = seen.tallied;
    let mut conditions = Conditions::new(before.map_or(&[], |before| &before.conditions), seen.generation, now);
    let accepted = match (seen.read, &tallied.unreadable) {
        // Ours to understand, and an agent of another version does not.
        (Ok(_), Some((node, why))) => Says::no(
            "NotUnderstood",
            format!("the agent of node {node:?} can't understand it, and isolates what it selects: {why}"),
        ),
        (read, _) => accepted(read.err()),
    };
    conditions.add(ACCEPTED, accepted);
    let selected = seen.pods.unwrap_or_default().max(tallied.selected);
    conditions.add(ENFORCED, enforced(seen, selected));
    let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    ContainerNetworkPolicyStatus {
        observed_generation: Some(seen.generation),
        conditions: conditions.done(),
        pods: Some(PodCounts { selected: number(selected), enforced: number(tallied.enforced) }),
    }
}

fn enforced(seen: &PolicySeen<'_>, selected: usize) -> Says {
    let tallied = seen.tallied;
    if seen.read.is_err() {
        return Says::no("NotAccepted", "it isolates what it selects, and allows nothing: see the condition Accepted");
    }
    if seen.read.is_ok_and(|policy| policy.spec.mode == Mode::Audit) {
        return Says::no("Audit", "its mode is Audit: it tells what it would deny, and denies nothing");
    }
    if let Some((node, why)) = tallied.missing.first() {
        let more = match tallied.missing_nodes.saturating_sub(1) {
            0 => String::new(),
            more => format!(", and {more} more nodes"),
        };
        let message = format!("node {node:?}: {why}{more}");
        return match tallied.unknown {
            true => Says::unknown("NodesUnheard", message),
            false => Says::no("PodsNotEnforced", message),
        };
    }
    match selected.saturating_sub(tallied.selected) {
        0 if selected == 0 => Says::yes("NoPods", "it selects no pod that runs"),
        0 => Says::yes("Enforced", "it is in force in every pod that it selects"),
        unheard => Says::unknown(
            "PodsUnheard",
            format!(
                "no node speaks of {unheard} pods with the labels that it selects: they are new, or their node has no agent"
            ),
        ),
    }
}
