//! Why a flow passes or not, and what would let it pass.
//!
//! An [`Explanation`] is for people ([`std::fmt::Display`]) and for programs ([`Serialize`]). Its changes are meant to
//! be applied: a test writes every one of them down as a policy, resolves the pod again and asks the evaluator.

mod advice;
mod edge;
mod names;
mod services;
mod text;
mod yaml;

#[cfg(test)]
mod tests;

use crate::evaluate::{End, Flow, Half, Level, Reason, evaluate};
use crate::model::{Note, PolicyName, ResolvedPod};
use crate::world::World;
use advice::Adviser;
pub use edge::EdgeRule;
use serde::Serialize;
use sidewall_api::{ContainerNetworkPolicySpec, EgressRule, IngressRule, LabelSelector, Peer, PolicyPort, PolicyType};
use sidewall_flow::{Action, Direction, Protocol};
use std::net::IpAddr;

/// Why a flow comes out as it does.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// Who opens the flow.
    pub sender: EndName,
    /// Who is to answer it.
    pub receiver: EndName,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The receiver's port.
    pub port: u16,
    /// What is enforced.
    pub verdict: Action,
    /// Why, for each side in the pod: the sender's first.
    pub sides: Vec<Side>,
    /// What would allow a denied flow: something for every side that denies it.
    pub advice: Vec<Advice>,
    /// Whether the changes in `advice`, made together, let the flow pass. Always where it passes already.
    pub allowable: bool,
    /// What Enforce and Audit policies together would have given, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditExplanation>,
    /// What is known about the policies that have a part in this.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// What Enforce and Audit policies together would have made of a flow.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditExplanation {
    /// The verdict.
    pub verdict: Action,
    /// Why, for each side in the pod.
    pub sides: Vec<Side>,
    /// What would allow it, where it is denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Advice>,
}

/// An end of a flow, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndName {
    /// The container, or `(unknown)` or `(node)`, of an end in the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The address of an end on the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Who has that address, as far as the cluster is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known_as: Vec<String>,
}

/// The judgement of one side of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// Whose side: a container, `(unknown)` or `(node)`.
    pub container: String,
    /// Which policies were asked: those of the pod as a whole, or those of the container.
    pub level: Level,
    /// The network, where it is not the pod network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// In which direction.
    pub direction: Direction,
    /// What it comes to.
    pub verdict: Action,
    /// Why.
    pub reason: Reason,
    /// The same in words.
    pub message: String,
}

/// What can be done about one side of a denied flow.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// What to know, or to do.
    pub message: String,
    /// A change that makes this side pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// A change to policies or to the pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Change {
    /// A rule of a ContainerNetworkPolicy.
    AllowRule(AllowRule),
    /// A rule of a NetworkPolicy or a MultiNetworkPolicy.
    AllowAtEdge(EdgeRule),
    /// A `containerPort` of the pod's manifest.
    #[serde(rename_all = "camelCase")]
    DeclarePort {
        /// The container that listens.
        container: String,
        /// The protocol.
        protocol: Protocol,
        /// The port.
        port: u16,
    },
}

/// A rule to add to a policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AllowRule {
    /// The policy's namespace.
    pub namespace: String,
    /// The containers that the policy is about.
    pub containers: Vec<String>,
    /// The direction.
    pub direction: Direction,
    /// The policy to add it to, where one is about just these containers; otherwise any that selects them, or a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_to: Option<PolicyName>,
    /// The peers.
    pub peers: Vec<Peer>,
    /// The ports.
    pub ports: Vec<PolicyPort>,
    /// The rule as YAML, to stand in the list of its direction.
    pub yaml: String,
}

impl AllowRule {
    /// A policy of its own with this rule, for the pods that a selector selects.
    pub fn policy(&self, pod_selector: LabelSelector) -> ContainerNetworkPolicySpec {
        let mut spec = ContainerNetworkPolicySpec {
            pod_selector,
            containers: Some(self.containers.clone()),
            policy_types: vec![match self.direction {
                Direction::Ingress => PolicyType::Ingress,
                Direction::Egress => PolicyType::Egress,
            }],
            ..ContainerNetworkPolicySpec::default()
        };
        self.add(&mut spec);
        spec
    }

    /// Adds this rule to a policy.
    pub fn add(&self, spec: &mut ContainerNetworkPolicySpec) {
        let (peers, ports) = (self.peers.clone(), self.ports.clone());
        match self.direction {
            Direction::Ingress => spec.ingress.get_or_insert_default().push(IngressRule { from: peers, ports }),
            Direction::Egress => spec.egress.get_or_insert_default().push(EgressRule { to: peers, ports }),
        }
    }
}

impl Explanation {
    /// The changes that are advised.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.advice.iter().filter_map(|advice| advice.change.as_ref())
    }
}

/// Explains the verdict of a flow. With the world that the pod was resolved from, addresses get names and advice
/// speaks of pods, Services and the policy to change; without it, of addresses only.
pub fn explain(pod: &ResolvedPod, flow: &Flow, world: Option<&World>) -> Explanation {
    let verdict = evaluate(pod, flow);
    let adviser = Adviser { pod, world, flow };
    let (advice, allowable) = adviser.advise(&verdict.halves);
    let audit = verdict.audit.zip(pod.audit.as_ref()).map(|(action, layer)| {
        // The same pod, as if Audit policies were enforced.
        let audited = ResolvedPod { enforced: layer.clone(), audit: None, ..pod.clone() };
        let halves = evaluate(&audited, flow).halves;
        let (advice, _) = Adviser { pod: &audited, ..adviser }.advise(&halves);
        AuditExplanation { verdict: action, sides: sides(&adviser, &halves), advice }
    });
    let halves = sides(&adviser, &verdict.halves);
    let mut involved: Vec<&PolicyName> = policies(&halves).collect();
    involved.extend(audit.iter().flat_map(|audit| policies(&audit.sides)));
    Explanation {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        sender: adviser.end(flow.sender),
        receiver: adviser.end(flow.receiver),
        protocol: flow.protocol,
        port: flow.port,
        verdict: verdict.action,
        advice,
        allowable,
        notes: pod
            .notes
            .iter()
            .filter(|note| note.policy.as_ref().is_none_or(|policy| involved.contains(&policy)))
            .cloned()
            .collect(),
        sides: halves,
        audit,
    }
}

fn sides(adviser: &Adviser<'_>, halves: &[Half]) -> Vec<Side> {
    halves
        .iter()
        .map(|half| Side {
            container: adviser.pod.party_name(half.party).to_owned(),
            level: half.level,
            network: adviser.network(half),
            direction: half.direction,
            verdict: half.reason.action(),
            reason: half.reason.clone(),
            message: text::reason(adviser, half),
        })
        .collect()
}

fn policies(sides: &[Side]) -> impl Iterator<Item = &PolicyName> {
    sides.iter().flat_map(|side| match &side.reason {
        Reason::Allowed { rule } => std::slice::from_ref(&rule.policy),
        Reason::Isolated { by } => by.as_slice(),
        Reason::Captured { by, .. } => std::slice::from_ref(by),
        Reason::Itself | Reason::NotIsolated | Reason::NotDeclared { .. } | Reason::NotReady { .. } => &[],
    })
}

/// The other end of a side.
fn other(flow: &Flow, direction: Direction) -> End {
    match direction {
        Direction::Ingress => flow.sender,
        Direction::Egress => flow.receiver,
    }
}
