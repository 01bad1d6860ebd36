//! What is said of split pods: the primary's readiness gate, and the statuses of PodSplits. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sidewall_api::PodSplit;
use sidewall_api::names::{API_VERSION, LABEL_PART};
use sidewall_api::split::PodSplitStatus;
use sidewall_cluster::events::Regarding;

use super::plan::Standing;
use crate::keeper::status::Change;
use crate::keeper::told::{SplitPod, SplitSeen, SplitState, split_events, split_status};
use crate::known::Known;
use crate::settings::Settings;

/// What a primary's readiness gate is to say.
#[derive(Debug, PartialEq, Eq)]
pub struct Gate {
    /// Whether it is open.
    pub open: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
    /// Whether it is to be told in an Event as well, because it does not pass by itself.
    pub tell: bool,
}

/// What the readiness gate of a primary is to say; nothing of one that ends.
pub fn gate(standing: &Standing) -> Option<Gate> {
    let closed = |reason, message, tell| Some(Gate { open: false, reason, message, tell });
    match standing {
        Standing::Ending => None,
        Standing::Ready => {
            Some(Gate { open: true, reason: "PartsReady", message: "all parts are ready".to_owned(), tell: false })
        }
        Standing::Unplaced => closed("NoNode", "the pod has no node yet: its parts go where it goes".to_owned(), false),
        Standing::Unready(parts) => closed("PartsNotReady", format!("not ready yet: {}", parts.join(", ")), false),
        _ => closed(reason(standing), sentence(standing), true),
    }
}

/// One word for what is wrong.
fn reason(standing: &Standing) -> &'static str {
    match standing {
        Standing::Untrusted(_) => "SplitNotBelieved",
        Standing::Blocked { .. } => "PartBlocked",
        Standing::Unschedulable { .. } => "PartUnschedulable",
        Standing::Failed { .. } => "PartFailed",
        Standing::Ending | Standing::Unplaced | Standing::Unready(_) | Standing::Ready => "PartsNotReady",
    }
}

/// What is wrong, and what to do.
fn sentence(standing: &Standing) -> String {
    match standing {
        Standing::Untrusted(why) => format!("nothing is made of this pod: {why}"),
        Standing::Blocked { part, pod } => {
            format!("part {part} can't be made: pod {pod} is there and is not Sidewall's: rename or delete it")
        }
        Standing::Unschedulable { part, why } => {
            format!("part {part} finds no room on the node of its pod: {why}: make room there, or ask for less")
        }
        Standing::Failed { part, why } => {
            format!("part {part} has failed, and this pod's containers are not to be restarted: {why}")
        }
        Standing::Ending | Standing::Unplaced | Standing::Unready(_) | Standing::Ready => String::new(),
    }
}

/// The statuses of a namespace's PodSplits that have to be written. `standings` are those of its split pods, by uid.
pub fn of_splits(
    known: &Known,
    namespace: &str,
    standings: &BTreeMap<String, Standing>,
    settings: &Settings,
    now: Timestamp,
) -> Vec<Change> {
    let said: BTreeMap<&str, String> =
        standings.iter().map(|(uid, standing)| (uid.as_str(), sentence(standing))).collect();
    let all: Vec<&PodSplit> = known.splits.of(namespace).filter_map(|(_, object)| object.read.as_ref().ok()).collect();
    let mut changes = Vec::new();
    for (name, object) in known.splits.of(namespace) {
        let selector = match &object.read {
            Ok(split) => Some(&split.spec.pod_selector),
            Err(unreadable) => unreadable.pod_selector.as_ref(),
        };
        let is_part = |labels: &crate::known::Labels| {
            labels.get(LABEL_PART).is_some_and(|part| part != sidewall_api::names::PRIMARY)
        };
        let selected = known.running(namespace).filter(|(_, pod)| {
            !pod.host_network && !is_part(&pod.labels) && selector.is_some_and(|selector| selector.matches(&pod.labels))
        });
        let pods: Vec<SplitPod<'_>> = selected
            .map(|(pod_name, pod)| SplitPod {
                name: pod_name,
                older: object.read.as_ref().ok().and_then(|split| older(split, &all, &pod.labels)),
                state: match standings.get(&pod.uid) {
                    None => SplitState::Whole,
                    Some(Standing::Ready) => SplitState::Ready,
                    Some(Standing::Unready(_) | Standing::Unplaced | Standing::Ending) => SplitState::Unready,
                    Some(_) => SplitState::Troubled(said.get(pod.uid.as_str()).map_or("", String::as_str)),
                },
            })
            .collect();
        let seen = SplitSeen {
            generation: object.generation,
            read: object.read.as_ref().map_err(Box::as_ref),
            opted_in: known.opted_in(namespace, settings),
            pods: &pods,
        };
        let before = serde_json::from_value::<PodSplitStatus>(object.status.clone()).ok();
        let after = split_status(&seen, before.as_ref(), now);
        if before.as_ref() == Some(&after) {
            continue;
        }
        let regarding = Regarding {
            api_version: API_VERSION.to_owned(),
            kind: "PodSplit".to_owned(),
            namespace: namespace.to_owned(),
            name: name.clone(),
            uid: object.uid.clone(),
        };
        let notices = split_events(&regarding, before.as_ref(), &after);
        let Ok(status) = serde_json::to_value(&after) else { continue };
        changes.push(Change {
            namespace: namespace.to_owned(),
            name: name.clone(),
            uid: object.uid.clone(),
            status,
            notices,
        });
    }
    changes
}

/// The oldest other PodSplit that selects a pod and counts before this one: with the same age, by name.
fn older<'a>(split: &PodSplit, all: &[&'a PodSplit], labels: &crate::known::Labels) -> Option<&'a str> {
    fn age(split: &PodSplit) -> (Option<Timestamp>, &str) {
        let created = split.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, split.metadata.name.as_deref().unwrap_or_default())
    }
    let before = all.iter().copied().filter(|other| age(other) < age(split) && other.spec.pod_selector.matches(labels));
    before.map(age).min().map(|(_, name)| name)
}
