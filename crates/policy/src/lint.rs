//! What a policy's author probably did not mean.
//!
//! Nothing here changes a verdict: a policy that all of this is said of is understood and enforced to the letter. A
//! finding is made only where it is certain from what was read; where the files hold no pods, for example, nothing is
//! said of what a selector selects.

mod covers;
mod dns;
mod matching;
mod privileges;
mod redundant;
#[cfg(test)]
mod tests;

use crate::model::{PolicyKind, PolicyName};
use crate::world::World;
use crate::world::objects::namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sidewall_api::{FieldPath, LabelSelector, NetworkPeer, NetworkPolicySpec, Peer, PolicyPort, PolicyType, Problem};
use sidewall_flow::Direction;
use std::collections::BTreeSet;

pub use privileges::{TellApart, privileges};

/// What is to be said of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The policy.
    pub policy: PolicyName,
    /// Which field, and what of it: always a warning.
    pub problem: Problem,
}

/// Everything that is to be said of the policies of a world, in their order.
pub fn lint(world: &World) -> Vec<Finding> {
    let policies = written(world);
    let mut findings = Vec::new();
    for policy in &policies {
        matching::check(world, policy, &mut findings);
        redundant::check(policy, &policies, &mut findings);
        dns::check(world, policy, &policies, &mut findings);
    }
    findings.sort();
    findings.dedup();
    findings
}

/// A policy of any kind, as it is written.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    name: PolicyName,
    pods: LabelSelector,
    /// The containers that it names; none where it is about all of them.
    containers: Option<BTreeSet<String>>,
    /// The networks that it is about; none where it is about the pod network.
    networks: Option<BTreeSet<String>>,
    directions: BTreeSet<Direction>,
    enforces: bool,
    ingress: Vec<WrittenRule>,
    egress: Vec<WrittenRule>,
}

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq)]
struct WrittenRule {
    peers: Vec<Peer>,
    ports: Vec<PolicyPort>,
}

impl Written {
    fn rules(&self, direction: Direction) -> &[WrittenRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Both directions with their rules.
    fn sides(&self) -> [(Direction, &[WrittenRule]); 2] {
        [Direction::Ingress, Direction::Egress].map(|direction| (direction, self.rules(direction)))
    }

    /// The field of a rule.
    fn rule_path(direction: Direction, index: usize) -> FieldPath {
        FieldPath::spec().key(direction.to_string()).index(index)
    }

    /// The field of a rule's peer.
    fn peer_path(direction: Direction, rule: usize, peer: usize) -> FieldPath {
        let list = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        Self::rule_path(direction, rule).key(list).index(peer)
    }

    fn warn(&self, findings: &mut Vec<Finding>, path: FieldPath, message: impl Into<String>) {
        findings.push(Finding { policy: self.name.clone(), problem: Problem::warning(path, message) });
    }
}

/// The policies that are understood, in the order of their names. Of the others, reading them has said more.
fn written(world: &World) -> Vec<Written> {
    let mut all: Vec<Written> = world
        .policies
        .iter()
        .filter(|policy| !policy.validate().iter().any(Problem::is_error))
        .map(|policy| {
            let spec = &policy.spec;
            let ingress = spec.ingress.iter().flatten();
            let egress = spec.egress.iter().flatten();
            Written {
                name: PolicyName {
                    kind: PolicyKind::ContainerNetworkPolicy,
                    namespace: namespace(policy.metadata.namespace.as_deref()),
                    name: policy.metadata.name.clone().unwrap_or_default(),
                },
                pods: spec.pod_selector.clone(),
                containers: spec.containers.as_ref().map(|names| names.iter().cloned().collect()),
                networks: None,
                directions: directions(spec.directions()),
                enforces: spec.enforces(),
                ingress: ingress
                    .map(|rule| WrittenRule { peers: rule.from.clone(), ports: rule.ports.clone() })
                    .collect(),
                egress: egress.map(|rule| WrittenRule { peers: rule.to.clone(), ports: rule.ports.clone() }).collect(),
            }
        })
        .collect();
    let sound = |problems: Vec<Problem>| !problems.iter().any(Problem::is_error);
    all.extend(
        world
            .network_policies
            .iter()
            .filter(|policy| sound(policy.validate()))
            .map(|policy| written_at_edge(PolicyKind::NetworkPolicy, &policy.metadata, &policy.spec, None)),
    );
    all.extend(world.multi_network_policies.iter().filter(|policy| sound(policy.validate())).filter_map(|policy| {
        let networks = policy.networks().ok()?.iter().map(ToString::to_string).collect();
        Some(written_at_edge(PolicyKind::MultiNetworkPolicy, &policy.metadata, &policy.spec, Some(networks)))
    }));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn written_at_edge(
    kind: PolicyKind,
    metadata: &ObjectMeta,
    spec: &NetworkPolicySpec,
    networks: Option<BTreeSet<String>>,
) -> Written {
    let rule = |(peers, ports): (&Vec<NetworkPeer>, &Vec<PolicyPort>)| WrittenRule {
        peers: peers
            .iter()
            .map(|peer| Peer {
                pod_selector: peer.pod_selector.clone(),
                namespace_selector: peer.namespace_selector.clone(),
                ip_block: peer.ip_block.clone(),
                ..Peer::default()
            })
            .collect(),
        ports: ports.clone(),
    };
    Written {
        name: PolicyName {
            kind,
            namespace: namespace(metadata.namespace.as_deref()),
            name: metadata.name.clone().unwrap_or_default(),
        },
        pods: spec.pod_selector.clone(),
        containers: None,
        networks,
        directions: directions(spec.directions()),
        enforces: true,
        ingress: spec.ingress.iter().map(|written| rule((&written.from, &written.ports))).collect(),
        egress: spec.egress.iter().map(|written| rule((&written.to, &written.ports))).collect(),
    }
}

fn directions(types: BTreeSet<PolicyType>) -> BTreeSet<Direction> {
    types
        .into_iter()
        .map(|kind| match kind {
            PolicyType::Ingress => Direction::Ingress,
            PolicyType::Egress => Direction::Egress,
        })
        .collect()
}
