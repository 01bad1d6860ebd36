//! Conditions, as Kubernetes' API conventions have them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The longest message, in characters.
pub(super) const MESSAGE_MAX: usize = 1024;

/// The most names in a message.
const NAMES_MAX: usize = 3;

/// What a condition says.
pub(super) struct Says {
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Says {
    pub(super) fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: "True", reason, message: message.into() }
    }

    pub(super) fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: "False", reason, message: message.into() }
    }

    pub(super) fn unknown(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: "Unknown", reason, message: message.into() }
    }

    pub(super) fn holds(&self) -> bool {
        self.status == "True"
    }
}

/// Conditions that are being written.
pub(super) struct Conditions<'a> {
    before: &'a [Condition],
    generation: i64,
    now: Timestamp,
    conditions: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    pub(super) fn new(before: &'a [Condition], generation: i64, now: Timestamp) -> Self {
        // As precise as the API server keeps it: what is read back is what was written.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Self { before, generation, now, conditions: Vec::new() }
    }

    pub(super) fn add(&mut self, type_: &str, says: Says) {
        let before = self.before.iter().find(|before| before.type_ == type_ && before.status == says.status);
        self.conditions.push(Condition {
            type_: type_.to_owned(),
            status: says.status.to_owned(),
            reason: says.reason.to_owned(),
            message: shortened(says.message),
            observed_generation: Some(self.generation),
            last_transition_time: before.map_or_else(|| Time(self.now), |before| before.last_transition_time.clone()),
        });
    }

    pub(super) fn done(self) -> Vec<Condition> {
        self.conditions
    }
}

/// The first names of many, and how many more there are.
pub(super) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    let mut text = names.take(NAMES_MAX).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Several things to say, one after the other. What comes first must not push out how many there are.
pub(super) fn sentence<'a>(parts: impl ExactSizeIterator<Item = &'a str>) -> String {
    const PARTS_MAX: usize = 4;
    let more = parts.len().saturating_sub(PARTS_MAX);
    let each = MESSAGE_MAX / PARTS_MAX.min(parts.len()).max(1) - 16;
    let mut text = parts.take(PARTS_MAX).map(|part| shorten(part.to_owned(), each)).collect::<Vec<_>>().join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

fn shortened(text: String) -> String {
    shorten(text, MESSAGE_MAX)
}

fn shorten(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text,
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
    }
}
