//! Verdicts in words.

use serde::Serialize;
use sidewall_flow::{Action, Direction, Party};
use sidewall_policy::model::PolicyName;
use sidewall_policy::{End, Flow, Half, Reason, ResolvedPod, Verdict};

/// A verdict for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerdictView {
    /// What is enforced.
    pub verdict: Action,
    /// What Audit policies would have made of it, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<Action>,
    /// Why, for each side in the pod.
    pub sides: Vec<SideView>,
}

/// One side of a verdict.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SideView {
    /// Whose.
    pub party: String,
    /// In which direction.
    pub direction: Direction,
    /// What it came to.
    pub verdict: Action,
    /// Why.
    pub reason: Reason,
    /// The same for people.
    pub text: String,
}

/// A verdict with its reasons.
pub fn view(pod: &ResolvedPod, verdict: &Verdict) -> VerdictView {
    VerdictView {
        verdict: verdict.action,
        audit: verdict.audit,
        sides: verdict
            .halves
            .iter()
            .map(|half| SideView {
                party: pod.party_name(half.party).to_owned(),
                direction: half.direction,
                verdict: half.reason.action(),
                reason: half.reason.clone(),
                text: text(pod, half),
            })
            .collect(),
    }
}

/// Why a side of a flow passes or does not.
pub fn text(pod: &ResolvedPod, half: &Half) -> String {
    let (who, direction) = (pod.party_name(half.party), half.direction);
    match &half.reason {
        Reason::Itself => format!("{who} reaches itself"),
        Reason::NotIsolated => format!("{who} {direction}: no policy isolates it for this"),
        Reason::Allowed { rule } => format!("{who} {direction}: allowed by {rule}"),
        Reason::Isolated { by } => format!("{who} {direction}: isolated by {}, and no rule allows it", policies(by)),
        Reason::NotDeclared { owner: Some(owner) } => {
            format!("{who} {direction}: by user, the port is {owner}'s, which declares it")
        }
        Reason::NotDeclared { owner: None } => {
            format!("{who} {direction}: by user, a port that no container declares has no known receiver")
        }
    }
}

/// The reasons of a verdict, in one line each.
pub fn lines(pod: &ResolvedPod, verdict: &Verdict) -> Vec<String> {
    let mut lines: Vec<String> = verdict.halves.iter().map(|half| text(pod, half)).collect();
    if let Some(audit) = verdict.audit {
        lines.push(format!("with the Audit policies enforced it would be: {audit}"));
    }
    lines
}

fn policies(names: &[PolicyName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// What would allow a flow that is denied: one text for each side that denies it; empty where nothing does.
pub fn would_allow(pod: &ResolvedPod, flow: &Flow, verdict: &Verdict) -> Vec<String> {
    let denied = verdict.halves.iter().filter(|half| half.reason.action() == Action::Deny);
    denied.map(|half| advice(pod, flow, half)).collect()
}

fn advice(pod: &ResolvedPod, flow: &Flow, half: &Half) -> String {
    let who = pod.party_name(half.party);
    let (word, list, other) = match half.direction {
        Direction::Ingress => ("ingress", "from", flow.sender),
        Direction::Egress => ("egress", "to", flow.receiver),
    };
    match &half.reason {
        Reason::NotDeclared { owner } => {
            let first = format!("declare the port {}/{} in the ports of {who}", flow.port, flow.protocol);
            match owner {
                Some(owner) => format!("{first} instead of {owner}'s, or use --identity cgroup"),
                None => format!("{first}, or use --identity cgroup"),
            }
        }
        _ => {
            let containers = match half.party {
                Party::Container(_) => format!("containers: [{who}], "),
                // Only a policy for every container is about sockets of none.
                Party::Unknown | Party::Node => String::new(),
            };
            let ports = format!("ports: [{{protocol: {}, port: {}}}]", flow.protocol, flow.port);
            let peer = match other {
                End::Local(Party::Container(_)) => format!("{{container: {}}}", label(pod, other)),
                End::Local(Party::Node) => "{entity: PortForward}".to_owned(),
                // Nothing names them, so only a rule for everybody allows them.
                End::Local(Party::Unknown) => {
                    return format!("a policy with {containers}{word}:\n- {ports}   # for everybody");
                }
                End::Remote(address) => {
                    let length = if address.is_ipv4() { 32 } else { 128 };
                    format!("{{ipBlock: {{cidr: {address}/{length}}}}}")
                }
            };
            format!("a policy with {containers}{word}:\n- {list}: [{peer}]\n  {ports}")
        }
    }
}

fn label(pod: &ResolvedPod, end: End) -> String {
    match end {
        End::Local(party) => pod.party_name(party).to_owned(),
        End::Remote(address) => address.to_string(),
    }
}
