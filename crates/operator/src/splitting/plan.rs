//! What is to be done for one split pod. Pure: what was seen in, what to do out.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use sidewall_api::names::{ANNOTATION_PART, LABEL_PRIMARY};
use sidewall_policy::World;
use sidewall_split::{Key, Member, PartPod, PartsError, Record, parts, policies, whole};

use super::json::{Phase, annotations, condition, ending, phase, text, uid};

/// Why the API server or a kubelet says of a pod that it has failed although none of its containers did: it can't stay where it is.
const DISPLACED: [&str; 8] = [
    "Evicted",
    "NodeAffinity",
    "NodeLost",
    "NodeShutdown",
    "Preempting",
    "Terminated",
    "UnexpectedAdmissionError",
    "Shutdown",
];

/// What was seen of a split pod.
pub struct Seen<'a> {
    /// The primary, as the API server has it.
    pub primary: &'a Value,
    /// The pods of its namespace that could be its parts, or stand in their way, by name.
    pub pods: &'a BTreeMap<String, &'a Value>,
    /// The MultiNetworkPolicies of its namespace that are ours, by name.
    pub policies: &'a BTreeMap<String, &'a Value>,
    /// What its policies are resolved with: those of its namespace.
    pub world: &'a World,
    /// The operator's key.
    pub key: &'a Key,
    /// Parts that failed a short while ago, and are not to be made yet.
    pub resting: &'a BTreeSet<String>,
}

/// Something to be done.
#[derive(Debug, PartialEq)]
pub enum Act {
    /// Write the primary's uid into its label.
    Name,
    /// Write a MultiNetworkPolicy.
    Policy(Box<Value>),
    /// Create a part.
    Create(Box<PartPod>),
    /// Delete a part's pod.
    Delete {
        /// Its name.
        name: String,
        /// Its uid: another pod of the same name is not meant.
        uid: String,
        /// Whether it has failed, and is made again.
        failed: Option<String>,
    },
}

/// How it stands with a split pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has ended, or is on the way.
    Ending,
    /// Its annotation is not believed, and why: nothing is made of it.
    Untrusted(String),
    /// It has no node yet.
    Unplaced,
    /// Something is in the way of a part: a pod of somebody else's has its name.
    Blocked {
        /// The part.
        part: String,
        /// The pod.
        pod: String,
    },
    /// A part does not get onto the primary's node, and why.
    Unschedulable {
        /// The part.
        part: String,
        /// What the scheduler says.
        why: String,
    },
    /// A part has failed, and is not made again, because its pod's containers are not to be restarted.
    Failed {
        /// The part.
        part: String,
        /// Why.
        why: String,
    },
    /// Parts are not ready yet.
    Unready(Vec<String>),
    /// All parts are ready.
    Ready,
}

/// What is to be done for a split pod, in this order, and how it stands.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// What is to be done.
    pub acts: Vec<Act>,
    /// How it stands.
    pub standing: Standing,
}

/// What is to be done for a split pod.
pub fn plan(seen: &Seen<'_>) -> Plan {
    let primary = seen.primary;
    let (record, wanted) = match believed(seen) {
        Ok(believed) => believed,
        Err(standing) => return Plan { acts: Vec::new(), standing },
    };
    let own = own_parts(seen);
    if ending(primary) || matches!(phase(primary), Phase::Succeeded | Phase::Failed) {
        return Plan { acts: farewell(&record, primary, &own), standing: Standing::Ending };
    }
    let mut acts = Vec::new();
    // Before anything of it can speak: a part is told apart by the primary's uid.
    if text(primary, &format!("/metadata/labels/{}", LABEL_PRIMARY.replace('/', "~1"))) != Some(uid(primary)) {
        acts.push(Act::Name);
    }
    match rules(seen, &record) {
        Ok(rules) => acts.extend(rules),
        Err(why) => return Plan { acts, standing: Standing::Untrusted(why) },
    }
    let Some(wanted) = wanted else { return Plan { acts, standing: Standing::Unplaced } };
    let mut standings = Vec::new();
    let mut unready = Vec::new();
    for part in wanted {
        match own.get(part.part.as_str()) {
            Some(there) => {
                let (name, uid) = (part.name.clone(), uid(there).to_owned());
                match of_part(there) {
                    PartStanding::Ready => {}
                    PartStanding::Unready => unready.push(part.part),
                    PartStanding::Ending => unready.push(part.part),
                    PartStanding::Unschedulable(why) => {
                        standings.push(Standing::Unschedulable { part: part.part, why });
                    }
                    PartStanding::Displaced(why) => {
                        acts.push(Act::Delete { name, uid, failed: Some(why) });
                        unready.push(part.part);
                    }
                    PartStanding::Failed(why) => standings.push(Standing::Failed { part: part.part, why }),
                }
            }
            None if seen.pods.contains_key(&part.name) => {
                standings.push(Standing::Blocked { part: part.part, pod: part.name });
            }
            None => {
                unready.push(part.part.clone());
                if !seen.resting.contains(&part.part) {
                    acts.push(Act::Create(Box::new(part)));
                }
            }
        }
    }
    let pending = (!unready.is_empty()).then_some(Standing::Unready(unready));
    let standing = standings.into_iter().next().or(pending).unwrap_or(Standing::Ready);
    Plan { acts, standing }
}

/// What the primary's annotation says, where it is ours; and its parts, once it has a node.
fn believed(seen: &Seen<'_>) -> Result<(Record, Option<Vec<PartPod>>), Standing> {
    let wanted = match parts(seen.primary, seen.key) {
        Ok(wanted) => Some(wanted),
        Err(PartsError::NoNode) => None,
        Err(error) => return Err(Standing::Untrusted(error.to_string())),
    };
    let account = text(seen.primary, "/spec/serviceAccountName");
    let namespace = text(seen.primary, "/metadata/namespace").unwrap_or_default();
    let record = Record::verify(&annotations(seen.primary), namespace, account, seen.key);
    record.map(|record| (record, wanted)).map_err(|error| Standing::Untrusted(error.to_string()))
}

/// The pods that are parts of this primary, by the part: its own, with our word for it.
fn own_parts<'a>(seen: &Seen<'a>) -> BTreeMap<String, &'a Value> {
    let namespace = text(seen.primary, "/metadata/namespace").unwrap_or_default();
    let own = uid(seen.primary);
    let is_own = |pod: &Value| {
        let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
        owners.filter_map(|owner| owner.get("uid")?.as_str()).any(|owner| owner == own)
    };
    let of_ours = seen.pods.values().filter(|pod| is_own(pod) && annotations(pod).contains_key(ANNOTATION_PART));
    of_ours
        .filter_map(|pod| {
            let member = Member::verify(&annotations(pod), namespace, seen.key).ok()?;
            (member.uid == own).then_some((member.part, *pod))
        })
        .collect()
}

/// How it stands with a part's pod.
enum PartStanding {
    Ready,
    Unready,
    Ending,
    Unschedulable(String),
    Displaced(String),
    Failed(String),
}

fn of_part(pod: &Value) -> PartStanding {
    if ending(pod) {
        return PartStanding::Ending;
    }
    let reason = text(pod, "/status/reason").unwrap_or_default();
    let message = text(pod, "/status/message").unwrap_or_default();
    match phase(pod) {
        // It has done what it was to do, as a container of a pod may.
        Phase::Succeeded => PartStanding::Ready,
        Phase::Failed => {
            let why = match (reason, message) {
                ("", "") => "its containers have failed".to_owned(),
                (reason, "") => reason.to_owned(),
                (reason, message) => format!("{reason}: {message}"),
            };
            let restarts = text(pod, "/spec/restartPolicy").unwrap_or("Always");
            if restarts != "Never" || DISPLACED.contains(&reason) || reason.starts_with("OutOf") {
                PartStanding::Displaced(why)
            } else {
                PartStanding::Failed(why)
            }
        }
        Phase::Other => {
            if let Some(("False", "Unschedulable", why)) = condition(pod, "PodScheduled") {
                return PartStanding::Unschedulable(why.to_owned());
            }
            match condition(pod, "Ready") {
                Some(("True", ..)) => PartStanding::Ready,
                _ => PartStanding::Unready,
            }
        }
    }
}

/// What is done for a primary that ends: its parts are told at the same time as its own containers, but for those that hold
/// sidecars alone, which outlive a pod's other containers and go with the primary itself.
fn farewell(record: &Record, primary: &Value, own: &BTreeMap<String, &Value>) -> Vec<Act> {
    let ended = matches!(phase(primary), Phase::Succeeded | Phase::Failed);
    let sidecars: BTreeSet<&str> =
        record.parts.iter().filter(|part| part.containers.is_empty()).map(|part| part.name.as_str()).collect();
    let leaves = own.iter().filter(|(part, pod)| !ending(pod) && (ended || !sidecars.contains(part.as_str())));
    // One that has come to its end by itself is kept as its primary is: its log can be read.
    let running = leaves.filter(|(_, pod)| matches!(phase(pod), Phase::Other));
    running
        .map(|(_, pod)| Act::Delete {
            name: text(pod, "/metadata/name").unwrap_or_default().to_owned(),
            uid: uid(pod).to_owned(),
            failed: None,
        })
        .collect()
}

/// The MultiNetworkPolicies that are missing or others than they should be.
fn rules(seen: &Seen<'_>, record: &Record) -> Result<Vec<Act>, String> {
    let whole = whole(seen.primary).map_err(|error| error.to_string())?;
    let pod = |value: Value| serde_json::from_value::<Pod>(value).map_err(|error| format!("the pod: {error}"));
    let whole = pod(whole)?;
    let allowed = policies::allowed(&whole, record, seen.world).map_err(|error| error.to_string())?;
    let wanted = policies::of_pod(&whole, record, &allowed);
    Ok(wanted
        .into_iter()
        .filter(|wanted| !is_there(wanted, seen.policies))
        .map(|wanted| Act::Policy(Box::new(wanted)))
        .collect())
}

/// Whether an object is there with everything that is wanted of it.
pub fn is_there(wanted: &Value, there: &BTreeMap<String, &Value>) -> bool {
    let Some(there) = text(wanted, "/metadata/name").and_then(|name| there.get(name)) else { return false };
    covers(there, wanted)
}

/// Whether everything of `wanted` is in `there`, which the API server may have filled in.
fn covers(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => wanted.iter().all(|(field, wanted)| {
            let there = there.get(field);
            // What a spec says is all that it says: a rule too many would be a hole.
            if field == "spec" { there == Some(wanted) } else { there.is_some_and(|there| covers(there, wanted)) }
        }),
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len() && there.iter().zip(wanted).all(|(there, wanted)| covers(there, wanted))
        }
        _ => there == wanted,
    }
}

#[cfg(test)]
mod tests;
