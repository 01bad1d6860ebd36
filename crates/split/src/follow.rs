//! What has to be done so that the parts follow their primary's life.
//!
//! Every look comes to the same steps from what is there now, whatever was done before and whoever did it: a step that was lost is
//! found missing, and one that was done twice is done once, because the names are always the same.

use std::collections::BTreeMap;

use serde_json::Value;
use sidewall_api::names::LABEL_PRIMARY;

use crate::mac::Key;
use crate::parts::{PartPod, PartsError, parts};
use crate::place::list;
use crate::record::{Member, annotations, namespace};

/// What has to be done about a primary and its parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Following {
    /// The label `sidewall.dev/primary` has to be given to the primary, with its uid: the policies of its parts go by it, so it comes
    /// before any part does.
    pub label: bool,
    /// Pods to be deleted.
    pub delete: Vec<Removal>,
    /// Pods to be created.
    pub create: Vec<PartPod>,
    /// How the parts are.
    pub state: State,
}

/// A pod to be deleted, if it is still the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Its name.
    pub name: String,
    /// Its uid: one that was made anew meanwhile is another.
    pub uid: String,
    /// Why.
    pub why: Why,
}

/// Why a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its primary has ended, or is on the way.
    Ended,
    /// It has failed and is made anew.
    Failed,
    /// No part of its primary is called so.
    Stray,
}

/// How the parts of a primary are, which its readiness gate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The primary has ended: nobody asks.
    #[default]
    Over,
    /// Parts that are not ready, with the reason as the scheduler or the kubelet has it.
    Waiting(BTreeMap<String, String>),
    /// All parts are ready.
    Ready,
}

/// What has to be done about a primary, by what there is of its parts: pods that have it as their owner.
///
/// # Errors
///
/// Why nothing can be made of the primary: then nothing is.
pub fn follow(primary: &Value, there: &[Value], key: &Key) -> Result<Following, PartsError> {
    let uid = text(primary, "/metadata/uid").unwrap_or_default();
    // A word of ours, not only a reference that anybody may write into his own pod.
    let member = |pod: &Value| {
        let member = Member::verify(&annotations(pod), namespace(primary), key).ok()?;
        (member.uid == uid && namespace(pod) == namespace(primary)).then_some(member.part)
    };
    let ours: Vec<(String, &Value)> = there.iter().filter_map(|pod| Some((member(pod)?, pod))).collect();
    if is_over(primary) {
        let delete = ours.iter().filter_map(|(_, pod)| removal(pod, Why::Ended)).collect();
        return Ok(Following { delete, ..Following::default() });
    }
    let wanted = parts(primary, key)?;
    let mut following = Following {
        label: primary.pointer("/metadata/labels").and_then(|labels| labels.get(LABEL_PRIMARY)?.as_str()) != Some(uid),
        ..Following::default()
    };
    let mut waiting = BTreeMap::new();
    for part in &wanted {
        let pod = ours.iter().find(|(name, pod)| *name == part.part && text(pod, "/metadata/name") == Some(&part.name));
        let Some((_, pod)) = pod else {
            waiting.insert(part.part.clone(), "it is being created".to_owned());
            following.create.push(part.clone());
            continue;
        };
        if has_failed(pod) {
            following.delete.extend(removal(pod, Why::Failed));
        }
        if let Some(reason) = not_ready(pod) {
            waiting.insert(part.part.clone(), reason);
        }
    }
    let stray =
        ours.iter().filter(|(_, pod)| !wanted.iter().any(|part| text(pod, "/metadata/name") == Some(&part.name)));
    following.delete.extend(stray.filter_map(|(_, pod)| removal(pod, Why::Stray)));
    following.state = if waiting.is_empty() { State::Ready } else { State::Waiting(waiting) };
    Ok(following)
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn is_leaving(pod: &Value) -> bool {
    text(pod, "/metadata/deletionTimestamp").is_some()
}

/// Whether a pod has ended, or is on the way.
fn is_over(pod: &Value) -> bool {
    is_leaving(pod) || matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed"))
}

/// Whether a part has to be made anew: it has ended, though its containers were to be restarted, or the node has put it out. One that
/// runs to an end of its own has come to it.
fn has_failed(pod: &Value) -> bool {
    let ended = matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed"));
    let restarts = text(pod, "/spec/restartPolicy").is_none_or(|policy| policy == "Always");
    let put_out = text(pod, "/status/reason").is_some_and(|reason| !reason.is_empty());
    ended && (restarts || put_out)
}

fn removal(pod: &Value, why: Why) -> Option<Removal> {
    if is_leaving(pod) {
        // It goes already.
        return None;
    }
    let of = |pointer| text(pod, pointer).map(str::to_owned);
    Some(Removal { name: of("/metadata/name")?, uid: of("/metadata/uid")?, why })
}

/// Why a part is not ready; none where it is.
fn not_ready(pod: &Value) -> Option<String> {
    if is_leaving(pod) {
        return Some("it is being deleted".to_owned());
    }
    let condition = |kind: &str| {
        list(pod, "/status/conditions")
            .iter()
            .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
    };
    let said = |condition: &Value| {
        let word = |field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default();
        // The kubelet and the scheduler are not brief.
        let message: String = word("message").chars().take(300).collect();
        format!("{}: {message}", word("reason"))
    };
    let is = |condition: &Value, status: &str| condition.get("status").and_then(Value::as_str) == Some(status);
    match (condition("PodScheduled"), condition("Ready")) {
        (Some(scheduled), _) if is(scheduled, "False") => Some(said(scheduled)),
        (_, Some(ready)) if is(ready, "True") => None,
        (_, Some(ready)) => Some(said(ready)),
        _ => Some("it has not been started yet".to_owned()),
    }
}

#[cfg(test)]
mod tests;
