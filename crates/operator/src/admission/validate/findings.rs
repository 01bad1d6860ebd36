//! What was found, on its way to one message.

use sidewall_api::Problem;

use crate::admission::review::wire::{Cause, MESSAGE_MAX, short};

/// The longest reason among several, in characters.
const REASON_MAX: usize = 700;

/// The most warnings that are kept; more are told by nobody.
const KEPT_MAX: usize = 64;

/// What was found of one object.
pub(super) struct Findings {
    kind: String,
    name: String,
    reasons: Vec<(Cause, String)>,
    warnings: Vec<String>,
}

impl Findings {
    pub(super) fn of_kind(kind: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned(), reasons: Vec::new(), warnings: Vec::new() }
    }

    /// The object cannot be.
    pub(super) fn invalid(&mut self, reason: impl Into<String>) {
        self.refuse(Cause::Invalid, reason);
    }

    pub(super) fn refuse(&mut self, cause: Cause, reason: impl Into<String>) {
        self.reasons.push((cause, reason.into()));
    }

    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        if !self.is_full() {
            self.warnings.push(warning.into());
        }
    }

    /// Whether more warnings would be told to nobody.
    pub(super) fn is_full(&self) -> bool {
        self.warnings.len() >= KEPT_MAX
    }

    pub(super) fn problems(&mut self, problems: &[Problem]) {
        for problem in problems {
            if problem.is_error() {
                self.invalid(text(problem));
            } else {
                self.warn(text(problem));
            }
        }
    }

    /// Problems of an object that stays as it was.
    pub(super) fn standing(&mut self, problems: &[Problem]) {
        let said: Vec<String> = problems.iter().filter(|problem| problem.is_error()).map(text).collect();
        if !said.is_empty() {
            let what = "is stored already, and closes what it selects until it is mended";
            self.warn(format!("{} {:?} {what}: {}", self.kind, self.name, said.join("; ")));
        }
    }

    /// The gravest cause and one message with all reasons; none where nothing refuses.
    pub(super) fn refusal(&self) -> Option<(Cause, String)> {
        let cause = self.reasons.iter().map(|(cause, _)| *cause).max()?;
        let mut message =
            if self.name.is_empty() { format!("{}: ", self.kind) } else { format!("{} {:?}: ", self.kind, self.name) };
        let (room, mut length) = (MESSAGE_MAX.saturating_sub(32), message.chars().count());
        for (index, (_, reason)) in self.reasons.iter().enumerate() {
            let reason = short(reason, REASON_MAX);
            length += reason.chars().count() + 2;
            if length > room {
                message.push_str(&format!("; and {} more", self.reasons.len() - index));
                break;
            }
            if index > 0 {
                message.push_str("; ");
            }
            message.push_str(&reason);
        }
        Some((cause, message))
    }

    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings
    }
}

fn text(problem: &Problem) -> String {
    if problem.path.is_root() { problem.message.clone() } else { format!("{}: {}", problem.path, problem.message) }
}
