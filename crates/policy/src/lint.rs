//! What a policy's author probably did not mean.
//!
//! Nothing here changes a verdict: a policy that all of this is said of is understood and enforced to the letter. A
//! finding is made only where it is certain from what was read; where the files hold no pods, for example, nothing is
//! said of what a selector selects.

mod covers;
mod dns;
mod effort;
mod matching;
mod privileges;
mod redundant;
mod seen;
#[cfg(test)]
mod tests;

use crate::model::{PolicyKind, PolicyName};
use crate::world::objects::namespace;
use crate::world::{Labels, World};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use seen::Seen;
use sidewall_api::{
    ContainerNetworkPolicy, FieldPath, LabelSelector, NetworkPeer, NetworkPolicySpec, Peer, PolicyPort, PolicyType,
    Problem,
};
use sidewall_flow::Direction;
use std::borrow::Cow;
use std::collections::BTreeSet;

pub use covers::selector as covers;
pub use effort::Effort;
pub use matching::cost as matching_cost;
pub use privileges::{TellApart, privileges};
pub use seen::SeenPod;

/// What [`lint_policy`] may cost: some milliseconds, whatever the policy is.
const POLICY_EFFORT: u64 = 10_000;

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
    let seen = Seen::of(world);
    let effort = Effort::unlimited();
    let mut findings = Vec::new();
    for policy in &policies {
        check(&seen, policy, &policies, &effort, &mut findings);
    }
    findings.sort();
    findings.dedup();
    findings
}

/// What there is beside a policy in its namespace.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// The policies that are understood. One of the same name is what the policy was before, and passed over.
    pub policies: &'a [&'a ContainerNetworkPolicy],
    /// The labels of the namespace, where they are known.
    pub labels: Option<&'a Labels>,
    /// The pods; none where none is known.
    pub pods: &'a [&'a dyn SeenPod],
}

/// What is to be said of one policy of containers, which is understood, beside what there is in its namespace.
///
/// What it costs is bounded, for somebody waits for the answer: where the policy is so large, or stands beside so many, that
/// comparing would take more than some milliseconds, what would be found later is not said.
pub fn lint_policy(policy: &ContainerNetworkPolicy, beside: &Beside<'_>) -> Vec<Problem> {
    lint_policy_within(policy, beside, &Effort::of(POLICY_EFFORT))
}

fn lint_policy_within(policy: &ContainerNetworkPolicy, beside: &Beside<'_>, effort: &Effort) -> Vec<Problem> {
    let policy = Written::of(policy);
    let terms = covers::Terms::of(policy.pods);
    // Only those that are about all of its pods can make anything of it superfluous, or help it.
    let about = |other: &&&ContainerNetworkPolicy| {
        effort.spend(1 + covers::size(&other.spec.pod_selector) / 4) && terms.within(&other.spec.pod_selector)
    };
    let mut all: Vec<Written<'_>> = beside.policies.iter().filter(about).map(|other| Written::of(other)).collect();
    all.retain(|other| other.name != policy.name);
    all.push(policy.clone());
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let seen = Seen::of_namespace(&policy.name.namespace, beside.labels, beside.pods);
    let mut findings = Vec::new();
    check(&seen, &policy, &all, effort, &mut findings);
    findings.sort();
    findings.dedup();
    findings.into_iter().map(|finding| finding.problem).collect()
}

fn check(seen: &Seen<'_>, policy: &Written<'_>, all: &[Written<'_>], effort: &Effort, findings: &mut Vec<Finding>) {
    let wider = wider(policy, all, effort);
    // It says that nobody helps, which is certain only if all who could were looked at.
    if !effort.is_used_up() {
        dns::check(seen, policy, &wider, effort, findings);
    }
    matching::check(seen, policy, effort, findings);
    redundant::check(policy, &wider, effort, findings);
}

/// Another policy that is about everything that a policy is about.
struct Wider<'p, 'a> {
    policy: &'p Written<'a>,
    /// Whether it is about nothing else.
    same: bool,
}

/// The other policies that are about everything that a policy is about.
fn wider<'p, 'a>(policy: &Written<'_>, all: &'p [Written<'a>], effort: &Effort) -> Vec<Wider<'p, 'a>> {
    let others = all.iter().filter(|other| other.name != policy.name);
    let looked = others.take_while(|other| effort.spend(covers::selection_cost(other, policy)));
    looked
        .filter(|other| covers::selection(other, policy))
        .map(|other| Wider { policy: other, same: covers::selection(policy, other) })
        .collect()
}

/// A policy of any kind, as it is written.
#[derive(Clone, Debug, PartialEq)]
struct Written<'a> {
    name: PolicyName,
    pods: &'a LabelSelector,
    /// The containers that it names; none where it is about all of them.
    containers: Option<&'a [String]>,
    /// The networks that it is about; none where it is about the pod network.
    networks: Option<BTreeSet<String>>,
    directions: BTreeSet<Direction>,
    enforces: bool,
    ingress: Vec<WrittenRule<'a>>,
    egress: Vec<WrittenRule<'a>>,
}

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq)]
struct WrittenRule<'a> {
    peers: Cow<'a, [Peer]>,
    ports: &'a [PolicyPort],
}

impl<'a> Written<'a> {
    /// A policy of containers.
    fn of(policy: &'a ContainerNetworkPolicy) -> Self {
        let spec = &policy.spec;
        let rule =
            |peers: &'a Vec<Peer>, ports: &'a Vec<PolicyPort>| WrittenRule { peers: Cow::Borrowed(peers), ports };
        Self {
            name: PolicyName {
                kind: PolicyKind::ContainerNetworkPolicy,
                namespace: namespace(policy.metadata.namespace.as_deref()),
                name: policy.metadata.name.clone().unwrap_or_default(),
            },
            pods: &spec.pod_selector,
            containers: spec.containers.as_deref(),
            networks: None,
            directions: directions(spec.directions()),
            enforces: spec.enforces(),
            ingress: spec.ingress.iter().flatten().map(|written| rule(&written.from, &written.ports)).collect(),
            egress: spec.egress.iter().flatten().map(|written| rule(&written.to, &written.ports)).collect(),
        }
    }

    fn rules(&self, direction: Direction) -> &[WrittenRule<'a>] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Both directions with their rules.
    fn sides(&self) -> [(Direction, &[WrittenRule<'a>]); 2] {
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
fn written(world: &World) -> Vec<Written<'_>> {
    let sound = |problems: Vec<Problem>| !problems.iter().any(Problem::is_error);
    let mut all: Vec<Written<'_>> =
        world.policies.iter().filter(|policy| sound(policy.validate())).map(Written::of).collect();
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

fn written_at_edge<'a>(
    kind: PolicyKind,
    metadata: &ObjectMeta,
    spec: &'a NetworkPolicySpec,
    networks: Option<BTreeSet<String>>,
) -> Written<'a> {
    let rule = |peers: &[NetworkPeer], ports: &'a Vec<PolicyPort>| WrittenRule {
        peers: peers
            .iter()
            .map(|peer| Peer {
                pod_selector: peer.pod_selector.clone(),
                namespace_selector: peer.namespace_selector.clone(),
                ip_block: peer.ip_block.clone(),
                ..Peer::default()
            })
            .collect(),
        ports,
    };
    Written {
        name: PolicyName {
            kind,
            namespace: namespace(metadata.namespace.as_deref()),
            name: metadata.name.clone().unwrap_or_default(),
        },
        pods: &spec.pod_selector,
        containers: None,
        networks,
        directions: directions(spec.directions()),
        enforces: true,
        ingress: spec.ingress.iter().map(|written| rule(&written.from, &written.ports)).collect(),
        egress: spec.egress.iter().map(|written| rule(&written.to, &written.ports)).collect(),
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
