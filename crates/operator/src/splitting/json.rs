//! What is read of pods as they are: parts are made of fields that this version need not know.

use std::collections::BTreeMap;

use serde_json::Value;

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits or runs.
    Other,
    /// All its containers have ended well.
    Succeeded,
    /// It has failed.
    Failed,
}

/// A text; none where there is none, or nothing in it.
pub fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// An object's uid; empty where it has none.
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid").unwrap_or_default()
}

/// How far a pod has come.
pub fn phase(pod: &Value) -> Phase {
    match text(pod, "/status/phase") {
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        _ => Phase::Other,
    }
}

/// Whether somebody has deleted it.
pub fn ending(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null())
}

/// Status, reason and message of a condition.
pub fn condition<'a>(pod: &'a Value, type_: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array)?;
    let found = conditions.iter().find(|condition| text(condition, "/type") == Some(type_))?;
    Some((
        text(found, "/status")?,
        text(found, "/reason").unwrap_or_default(),
        text(found, "/message").unwrap_or_default(),
    ))
}

/// An object's annotations.
pub fn annotations(object: &Value) -> BTreeMap<String, String> {
    let all = object.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Whether a condition of readiness gates is wanted of a pod.
pub fn has_gate(pod: &Value, gate: &str) -> bool {
    let gates = pod.pointer("/spec/readinessGates").and_then(Value::as_array).into_iter().flatten();
    gates.filter_map(|gate| text(gate, "/conditionType")).any(|type_| type_ == gate)
}
