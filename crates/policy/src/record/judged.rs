//! Which policies stand behind a decision.

use super::{Ends, Recorder};
use crate::evaluate::{End, Flow, Half, Level, Reason, evaluate};
use crate::model::{AttachmentId, Isolation, PolicyName, ResolvedPod, RuleName, Side, Wire};
use sidewall_flow::{
    Action, Decision, Direction, Party, Place, Protocol, RecordCause, RecordLevel, RecordPolicy, RecordRule,
    RecordVerdict,
};
use std::net::IpAddr;

/// Why a flow came out so.
pub(super) struct Judged {
    pub cause: RecordCause,
    pub policies: Vec<RecordPolicy>,
    pub rule: Option<RecordRule>,
}

impl Judged {
    const fn only(cause: RecordCause) -> Self {
        Self { cause, policies: Vec::new(), rule: None }
    }
}

/// What a decision comes to.
pub(super) const fn verdict(decision: Decision) -> RecordVerdict {
    match (decision.place, decision.action, decision.audit) {
        (Place::Improper, ..) => RecordVerdict::Improper,
        (Place::Forged, ..) => RecordVerdict::Forged,
        (_, Action::Deny, false) => RecordVerdict::Deny,
        (_, Action::Allow, false) => RecordVerdict::Allow,
        (_, Action::Deny, true) => RecordVerdict::AuditWouldDeny,
        (_, Action::Allow, true) => RecordVerdict::AuditWouldAllow,
    }
}

impl Recorder {
    /// Asks the policies in force for what stands behind a decision; `on_link` where the packet's device is a split pod's link.
    #[expect(clippy::too_many_arguments, reason = "each is a part of one message")]
    pub(super) fn judged(
        &self,
        decision: Decision,
        ends: &Ends,
        protocol: Option<u8>,
        other: Option<IpAddr>,
        port: Option<u16>,
        attachment: Option<AttachmentId>,
        on_link: bool,
    ) -> Judged {
        let verdict = verdict(decision);
        let Some(party) = ends.party.filter(|_| !matches!(decision.place, Place::Improper | Place::Forged)) else {
            return Judged::only(RecordCause::NoPolicy);
        };
        // What comes by a split pod's link is denied because no part may send it, or none declares the port.
        if on_link && matches!(decision.place, Place::Ingress(_)) {
            return Judged::only(RecordCause::NotDeclared);
        }
        let loopback = matches!(decision.place, Place::Loopback { .. } | Place::LoopbackFrom(_));
        let far = match (loopback, other) {
            // A receiver that no rule knows is judged as an unknown one.
            (true, _) => Some(End::Local(ends.peer.unwrap_or(Party::Unknown))),
            (false, Some(address)) => Some(Self::far(address, attachment)),
            (false, None) => None,
        };
        let (Some(far), Some(protocol)) = (far, protocol) else { return Judged::only(RecordCause::Unreadable) };
        let ask: Box<dyn Fn(&ResolvedPod) -> Asked> = match (Protocol::from_number(protocol), port) {
            (Some(protocol), Some(port)) => {
                let (sender, receiver) = match ends.direction {
                    Direction::Egress => (End::Local(party), far),
                    Direction::Ingress => (far, End::Local(party)),
                };
                let flow = Flow { sender, receiver, protocol, port };
                Box::new(move |pod| sides(pod, &flow))
            }
            // A later fragment, and conntrack knows nothing of it.
            (Some(_), None) => return Judged::only(RecordCause::Unreadable),
            (None, _) => {
                let direction = ends.direction;
                Box::new(move |pod| Asked { halves: without_ports(pod, party, direction, far), unknown: Vec::new() })
            }
        };
        let enforced = ask(&self.pod);
        let audited = self.audited().filter(|_| verdict.is_audit()).map(ask);
        told(verdict, &enforced, audited.as_ref())
    }
}

/// What policies say of a flow.
struct Asked {
    halves: Vec<Half>,
    /// The policies that isolate an unknown receiver of it, where it has come to one.
    unknown: Vec<PolicyName>,
}

fn told(verdict: RecordVerdict, enforced: &Asked, audited: Option<&Asked>) -> Judged {
    let superseded = || Judged::only(RecordCause::Superseded);
    if enforced.action() != verdict.enforced() {
        return superseded();
    }
    let (denying, allowing) = match (verdict, audited) {
        (RecordVerdict::AuditWouldDeny, Some(audited)) if audited.action() == Action::Deny => (audited, enforced),
        (RecordVerdict::AuditWouldAllow, Some(audited)) if audited.action() == Action::Allow => (enforced, audited),
        (RecordVerdict::AuditWouldDeny | RecordVerdict::AuditWouldAllow, _) => return superseded(),
        // What is allowed is denied by nobody, and the other way round.
        _ => (enforced, enforced),
    };
    let isolated =
        denying.halves.iter().any(|half| matches!(half.reason, Reason::Isolated { .. } | Reason::Captured { .. }));
    let undeclared = denying.halves.iter().any(|half| matches!(half.reason, Reason::NotDeclared { .. }));
    let cause = if undeclared && !isolated { RecordCause::NotDeclared } else { RecordCause::Isolated };
    let unknown = policies(&denying.unknown, Direction::Ingress, Level::Container);
    let mut policies: Vec<RecordPolicy> = denying
        .halves
        .iter()
        .flat_map(|half| match &half.reason {
            Reason::Isolated { by } => policies(by, half.direction, half.level),
            Reason::Captured { by, .. } => policies(std::slice::from_ref(by), half.direction, half.level),
            _ => Vec::new(),
        })
        .chain(unknown)
        .collect();
    policies.sort();
    policies.dedup();
    let rule = (verdict != RecordVerdict::Deny).then(|| rule(&denying.halves, &allowing.halves)).flatten();
    Judged { cause, policies, rule }
}

impl Asked {
    fn action(&self) -> Action {
        Action::from_allowed(self.halves.iter().all(|half| half.reason.action() == Action::Allow))
    }
}

/// The rule that makes the difference: of a side that the others deny, if there is one.
fn rule(denying: &[Half], allowing: &[Half]) -> Option<RecordRule> {
    let denied = |half: &&Half| {
        let same = |other: &&Half| (other.direction, other.level) == (half.direction, half.level);
        denying.iter().filter(same).any(|other| other.reason.action() == Action::Deny)
    };
    let of = |half: &Half| match &half.reason {
        Reason::Allowed { rule } => Some(rule_ref(rule)),
        _ => None,
    };
    allowing.iter().filter(denied).find_map(of).or_else(|| allowing.iter().find_map(of))
}

/// The sides of a flow. Where a port is not its container's, what isolates from it is what isolates an unknown receiver.
fn sides(pod: &ResolvedPod, flow: &Flow) -> Asked {
    let halves = evaluate(pod, flow).halves;
    let undeclared = halves.iter().any(|half| matches!(half.reason, Reason::NotDeclared { .. }));
    let wire = if matches!(flow.sender, End::Local(_)) { Wire::Loopback } else { Wire::Network };
    let side = pod.enforced.side(Party::Unknown, Direction::Ingress);
    let isolates = |isolation: &&Isolation| isolation.scope(wire).ports.contains(flow.protocol, flow.port);
    let unknown = side.isolations.iter().filter(|_| undeclared).filter(isolates).map(|i| i.by.clone()).collect();
    Asked { halves, unknown }
}

/// The sides of a flow of a protocol without ports: no rule can allow it, and what isolates from it denies it.
fn without_ports(pod: &ResolvedPod, party: Party, direction: Direction, far: End) -> Vec<Half> {
    let half = |party, direction, level, side: &Side, wire| {
        let isolates = |isolation: &&Isolation| isolation.scope(wire).others;
        let by: Vec<PolicyName> = side.isolations.iter().filter(isolates).map(|i| i.by.clone()).collect();
        let reason = if by.is_empty() { Reason::NotIsolated } else { Reason::Isolated { by } };
        Half { party, direction, level, reason }
    };
    let opposite = match direction {
        Direction::Egress => Direction::Ingress,
        Direction::Ingress => Direction::Egress,
    };
    match far {
        End::Local(other) if other == party && party != Party::Unknown => Vec::new(),
        End::Local(other) => [(party, direction), (other, opposite)]
            .map(|(party, direction)| {
                half(party, direction, Level::Container, pod.enforced.side(party, direction), Wire::Loopback)
            })
            .into(),
        End::Remote(_) | End::Attached(..) => {
            let attachment = far.on_network().and_then(|(attachment, _)| attachment);
            vec![
                half(party, direction, Level::Pod, pod.edge_toward(attachment).side(direction), Wire::Network),
                half(party, direction, Level::Container, pod.enforced.side(party, direction), Wire::Network),
            ]
        }
    }
}

fn policies(by: &[PolicyName], direction: Direction, level: Level) -> Vec<RecordPolicy> {
    let level = match level {
        Level::Pod => RecordLevel::Pod,
        Level::Container => RecordLevel::Container,
    };
    let policy = |policy: &PolicyName| RecordPolicy {
        kind: format!("{:?}", policy.kind),
        namespace: policy.namespace.clone(),
        name: policy.name.clone(),
        direction,
        level,
    };
    by.iter().map(policy).collect()
}

fn rule_ref(rule: &RuleName) -> RecordRule {
    RecordRule {
        kind: format!("{:?}", rule.policy.kind),
        namespace: rule.policy.namespace.clone(),
        name: rule.policy.name.clone(),
        direction: rule.direction,
        index: rule.index,
    }
}
