//! The status of a PodSplit.

use jiff::Timestamp;
use sidewall_api::split::{PodSplitStatus, SplitPodCounts};
use sidewall_api::{PodSplit, UnreadableSplit};

use super::condition::{Conditions, Says, listed, sentence};
use super::{ACCEPTED, CONFLICTED, READY};

/// What was seen of a PodSplit and its pods.
#[derive(Clone, Copy)]
pub struct SplitSeen<'a> {
    /// Its generation.
    pub generation: i64,
    /// It, or why it can't be read.
    pub read: Result<&'a PodSplit, &'a UnreadableSplit>,
    /// Whether pods of its namespace are looked at.
    pub opted_in: bool,
    /// The pods that it selects, and that run or will. A part is no pod of its own here.
    pub pods: &'a [SplitPod<'a>],
}

/// A pod that a PodSplit selects.
#[derive(Clone, Copy)]
pub struct SplitPod<'a> {
    /// Its name.
    pub name: &'a str,
    /// An older PodSplit that selects it, which has it.
    pub older: Option<&'a str>,
    /// What has become of it.
    pub state: SplitState<'a>,
}

/// What has become of a pod that a PodSplit selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitState<'a> {
    /// It is not split by this PodSplit.
    Whole,
    /// It is, and something is wrong with it.
    Troubled(&'a str),
    /// It is, and its parts are not ready yet.
    Unready,
    /// It is, and all of its parts are ready.
    Ready,
}

/// The status of a PodSplit. `before` is the one that it has.
pub fn split_status(seen: &SplitSeen<'_>, before: Option<&PodSplitStatus>, now: Timestamp) -> PodSplitStatus {
    let mut conditions = Conditions::new(before.map_or(&[], |before| &before.conditions), seen.generation, now);
    let accepted = match seen.read {
        Ok(_) => Says::yes("Accepted", "the PodSplit is understood"),
        Err(unreadable) => {
            let problems: Vec<String> = unreadable.problems.iter().map(ToString::to_string).collect();
            Says::no("Invalid", sentence(problems.iter().map(String::as_str)))
        }
    };
    let usable = accepted.holds();
    conditions.add(ACCEPTED, accepted);
    let taken: Vec<&SplitPod<'_>> = seen.pods.iter().filter(|pod| pod.older.is_some()).collect();
    let own: Vec<&SplitPod<'_>> = seen.pods.iter().filter(|pod| pod.older.is_none()).collect();
    conditions.add(CONFLICTED, conflicted(&taken));
    conditions.add(READY, ready(seen, usable, &own));
    let count = |of: fn(&SplitState<'_>) -> bool| number(own.iter().filter(|pod| of(&pod.state)).count());
    let pods = SplitPodCounts {
        selected: number(seen.pods.len()),
        split: count(|state| *state != SplitState::Whole),
        ready: count(|state| *state == SplitState::Ready),
    };
    PodSplitStatus { observed_generation: Some(seen.generation), conditions: conditions.done(), pods: Some(pods) }
}

fn conflicted(taken: &[&SplitPod<'_>]) -> Says {
    let Some(older) = taken.iter().find_map(|pod| pod.older) else {
        return Says::no("NoConflict", "no older PodSplit selects one of the same pods");
    };
    let pods = listed(taken.iter().map(|pod| pod.name));
    Says::yes("OlderSplit", format!("PodSplit {older} is older and has {pods}: let their selectors differ"))
}

fn ready(seen: &SplitSeen<'_>, usable: bool, own: &[&SplitPod<'_>]) -> Says {
    let of = |wanted: fn(&SplitState<'_>) -> bool| -> Vec<&SplitPod<'_>> {
        own.iter().copied().filter(|pod| wanted(&pod.state)).collect()
    };
    let names = |pods: &[&SplitPod<'_>]| listed(pods.iter().map(|pod| pod.name).collect::<Vec<_>>().into_iter());
    let troubled = of(|state| matches!(state, SplitState::Troubled(_)));
    let whole = of(|state| *state == SplitState::Whole);
    let unready = of(|state| *state == SplitState::Unready);
    if !usable {
        Says::no("NotAccepted", "see the condition Accepted")
    } else if !seen.opted_in {
        Says::no("NamespaceNotSelected", "pods of this namespace are not looked at: label the namespace")
    } else if !troubled.is_empty() {
        let said: Vec<String> = troubled
            .iter()
            .map(|pod| match pod.state {
                SplitState::Troubled(why) => format!("{}: {why}", pod.name),
                _ => pod.name.to_owned(),
            })
            .collect();
        Says::no("PodsTroubled", sentence(said.iter().map(String::as_str)))
    } else if !whole.is_empty() {
        let names = names(&whole);
        Says::no(
            "PodsNotSplit",
            format!("{names}: made before the PodSplit, or while the webhook was away: make them anew"),
        )
    } else if !unready.is_empty() {
        Says::no("PartsNotReady", format!("not all parts are ready of {}", names(&unready)))
    } else if own.is_empty() {
        Says::yes("NoPods", "it selects no pod")
    } else {
        Says::yes("PartsReady", "every pod that it selects is split, and all parts are ready")
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
