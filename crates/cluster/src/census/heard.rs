//! How far a node's report can be believed.

use std::time::Duration;

use crate::enforcement::WriteTiming;
use crate::live::ListedPolicy;
use jiff::Timestamp;
use sidewall_api::NodeEnforcement;
use sidewall_api::enforcement::{NodeEnforcementStatus, PolicyEnforcement};

use super::{NodeState, PodState, Present};

/// How old a report may be: three heartbeats of an agent.
pub(super) fn longest_silence() -> Duration {
    3 * WriteTiming::default().heartbeat
}

/// How far ahead a node's clock may be before what it says of the time is worth nothing.
const AHEAD: Duration = Duration::from_secs(300);

/// What a node's agent says, and how far it can be believed.
pub struct Heard<'a> {
    /// How well it can be heard.
    pub state: NodeState,
    /// Why not better.
    pub reason: Option<String>,
    /// What it says.
    pub status: Option<&'a NodeEnforcementStatus>,
}

impl<'a> Heard<'a> {
    /// A node's report, at a time.
    pub fn of(report: Option<&'a NodeEnforcement>, now: Timestamp) -> Self {
        let Some(status) = report.and_then(|report| report.status.as_ref()) else {
            let reason = "no agent has reported from this node".to_owned();
            return Self { state: NodeState::NoAgent, reason: Some(reason), status: None };
        };
        let silent = |reason| Self { state: NodeState::Silent, reason: Some(reason), status: Some(status) };
        let Ok(updated) = status.updated.parse::<Timestamp>() else {
            return silent("its agent's report bears no time".to_owned());
        };
        let since = now.duration_since(updated);
        if since.is_negative() && since.unsigned_abs() > AHEAD {
            let ahead = short(since.unsigned_abs());
            return silent(format!(
                "its agent's report is {ahead} ahead of this machine's clock: one of both is wrong"
            ));
        }
        if !since.is_negative() && since.unsigned_abs() > longest_silence() {
            let ago = short(since.unsigned_abs());
            return silent(format!("its agent was last heard of {ago} ago"));
        }
        match &status.stale_since {
            Some(since) => {
                let reason = format!("its agent works on old news of the cluster since {since}");
                Self { state: NodeState::Behind, reason: Some(reason), status: Some(status) }
            }
            None => Self { state: NodeState::Reporting, reason: None, status: Some(status) },
        }
    }

    /// What it says of a policy's present generation. What can't be understood has none: it isolates as far as anybody
    /// knows.
    pub fn policy(&self, policy: &ListedPolicy) -> Result<&'a PolicyEnforcement, (PodState, String)> {
        let Some(status) = self.status else { return Err((PodState::Unknown, self.why())) };
        let (kind, name) = (policy.kind, &policy.name);
        let mut known = status.policy_list.iter();
        let found =
            known.find(|known| known.kind == kind && known.namespace == name.namespace && known.name == name.name);
        let present = Present::of(policy);
        let found = found.ok_or_else(|| absent(status.omitted.policies > 0, &present))?;
        judge(found, &present).map(|()| found)
    }

    /// Why it can't be believed, or not wholly.
    pub fn why(&self) -> String {
        self.reason.clone().unwrap_or_default()
    }
}

/// Why a policy is not known to be in force on a node that does not speak of it. `omitting` says that the node's report has no
/// room for all its policies.
pub(super) fn absent(omitting: bool, policy: &Present<'_>) -> (PodState, String) {
    let kind = policy.kind;
    if omitting {
        (PodState::Unknown, format!("its node's report has no room for {kind:?} {policy}"))
    } else {
        (PodState::Pending, format!("its node's agent has not taken up {kind:?} {policy} yet"))
    }
}

/// Whether what a node says of a policy is about its present generation.
pub(super) fn judge(said: &PolicyEnforcement, policy: &Present<'_>) -> Result<(), (PodState, String)> {
    let kind = policy.kind;
    match &said.unreadable {
        Some(_) if policy.unreadable => Ok(()),
        Some(why) => Err((
            PodState::Pending,
            format!("its node's agent can't understand {kind:?} {policy}, and isolates what it selects: {why}"),
        )),
        None if said.observed_generation < policy.generation => Err((
            PodState::Pending,
            format!(
                "its node's agent works on generation {} of {kind:?} {policy}, which is at {}",
                said.observed_generation.unwrap_or_default(),
                policy.generation.unwrap_or_default()
            ),
        )),
        None => Ok(()),
    }
}

/// A span of time in its largest unit: `45s`, `12m`, `3h`, `9d`.
pub fn short(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
