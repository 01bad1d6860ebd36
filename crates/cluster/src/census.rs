//! What nodes say of enforcement, held against what there is to enforce. Pure: it asks nobody, and is told the time.
//!
//! Nothing is called enforced on a word that is too old, or that is about another pod of the same name, or about an older
//! generation of a policy.
//!
//! [`Census`] is of everything that can be listed, and tells of each pod; it costs the pods times the policies of their
//! namespaces. [`Tally`] is for whoever watches and has to say of each policy how far it is in force: it adds up what the nodes
//! say in one pass over their reports.

mod heard;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::live::{ListedNode, ListedPolicy, PlacedPod, PolicySet};
use heard::Heard;
pub use heard::short;
use jiff::Timestamp;
use serde::Serialize;
use sidewall_api::NodeEnforcement;
use sidewall_api::enforcement::{EnforcedKind, EnforcementState, IdentityKind, PodEnforcement};
pub use tally::{Present, Tallied, Tally};

/// What was seen of a cluster.
pub struct Seen<'a> {
    /// The time.
    pub now: Timestamp,
    /// The pods.
    pub pods: &'a [PlacedPod],
    /// The policies.
    pub policies: &'a [ListedPolicy],
    /// The nodes; none where they may not be listed.
    pub nodes: Option<&'a [ListedNode]>,
    /// What the nodes say, by their names.
    pub reports: &'a BTreeMap<String, NodeEnforcement>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Census {
    /// The nodes, by name.
    pub nodes: Vec<NodeCensus>,
    /// The policies, by kind and name.
    pub policies: Vec<PolicyCensus>,
    /// The pods, by namespace and name.
    pub pods: Vec<PodCensus>,
}

/// How well a node can be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum NodeState {
    /// Its agent reports.
    Reporting,
    /// Its agent reports, and works on old news.
    Behind,
    /// Its agent was last heard of too long ago.
    Silent,
    /// There is no report of it.
    NoAgent,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeCensus {
    /// Its name.
    pub name: String,
    /// How well it can be heard.
    pub state: NodeState,
    /// Why not better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether its kubelet is ready, where nodes may be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// The agent's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// When the agent was last heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<String>,
    /// Its pods that something selects.
    pub pods: Counts,
}

/// Numbers of pods that something selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// All of them.
    pub selected: usize,
    /// Those whose walls hold.
    pub enforced: usize,
    /// Those whose walls are being built.
    pub pending: usize,
    /// Those whose walls do not hold.
    pub not_enforced: usize,
    /// Those of which nobody can say.
    pub unknown: usize,
}

/// How far a pod's walls hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum PodState {
    /// They do not.
    NotEnforced,
    /// Nobody can say.
    Unknown,
    /// They are being built.
    Pending,
    /// They do.
    Enforced,
    /// No policy is about it.
    NotSelected,
    /// Nothing of it runs.
    NotRunning,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCensus {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How far its walls hold.
    pub state: PodState,
    /// How its containers are told apart, where rules are in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityKind>,
    /// Since when its node says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Why its walls don't hold, or what else its owner should know.
    pub reasons: Vec<String>,
    /// The policies that select it.
    pub policies: Vec<PolicyRef>,
}

/// A policy's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// Its kind.
    pub kind: EnforcedKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyCensus {
    /// Its kind.
    pub kind: EnforcedKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its present generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Whether it only tells what it would deny.
    pub audit: bool,
    /// The pods that it selects.
    pub selected: usize,
    /// Those among them in which its present generation is in force.
    pub enforced: usize,
    /// Why it can't be understood; it isolates what it selects then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// Where it is not in force, and why.
    pub missing: Vec<Missing>,
}

/// Where a policy is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    /// The node.
    pub node: String,
    /// In how many pods.
    pub pods: usize,
    /// Why.
    pub reason: String,
}

impl Census {
    /// Takes it.
    pub fn take(seen: &Seen<'_>) -> Self {
        let heard: BTreeMap<&str, Heard<'_>> =
            node_names(seen).into_iter().map(|name| (name, Heard::of(seen.reports.get(name), seen.now))).collect();
        let by_name: BTreeMap<_, _> = seen.policies.iter().map(|of| ((of.kind, of.name.clone()), of)).collect();
        let mut by_namespace: BTreeMap<&str, PolicySet> = BTreeMap::new();
        for policy in seen.policies {
            by_namespace.entry(&policy.name.namespace).or_default().add(policy);
        }
        let mut pods: Vec<PodCensus> = Vec::new();
        for placed in seen.pods {
            let around = by_namespace.get(placed.pod.namespace.as_str());
            let selecting = around.map(|around| around.selecting(&placed.pod)).unwrap_or_default();
            let selecting: Vec<&ListedPolicy> =
                selecting.iter().filter_map(|name| by_name.get(name).copied()).collect();
            pods.push(pod(placed, &selecting, placed.node.as_deref().and_then(|node| heard.get(node))));
        }
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let policies = seen.policies.iter().map(|of| policy(of, &pods, &heard)).collect();
        let nodes = heard.iter().map(|(name, heard)| node(name, heard, seen.nodes, &pods)).collect();
        Self { nodes, policies, pods }
    }

    /// Whether everything that is selected is enforced, as far as this census goes.
    pub fn is_enforced(&self) -> bool {
        self.nodes.iter().all(|node| node.state == NodeState::Reporting)
            && self.policies.iter().all(PolicyCensus::is_enforced)
            && self.pods.iter().all(|pod| !pod.state.is_selected() || pod.state == PodState::Enforced)
    }

    /// The numbers of all its pods.
    pub fn counts(&self) -> Counts {
        Counts::of(self.pods.iter())
    }
}

impl PolicyCensus {
    /// Whether it can be understood and is in force wherever it should be.
    pub fn is_enforced(&self) -> bool {
        self.unreadable.is_none() && self.enforced == self.selected
    }

    /// Its name.
    pub fn named(&self) -> PolicyRef {
        PolicyRef { kind: self.kind, namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl PodState {
    /// Whether something of it runs that a policy is about.
    pub fn is_selected(self) -> bool {
        !matches!(self, Self::NotSelected | Self::NotRunning)
    }
}

impl Counts {
    fn of<'a>(pods: impl Iterator<Item = &'a PodCensus>) -> Self {
        let mut counts = Self::default();
        for pod in pods.filter(|pod| pod.state.is_selected()) {
            counts.selected += 1;
            *match pod.state {
                PodState::Enforced => &mut counts.enforced,
                PodState::Pending => &mut counts.pending,
                PodState::NotEnforced => &mut counts.not_enforced,
                PodState::Unknown | PodState::NotSelected | PodState::NotRunning => &mut counts.unknown,
            } += 1;
        }
        counts
    }
}

/// The nodes that there are: those of the list, and those that pods are on. Where there is no list, those that report, too;
/// where there is one, a report of another node is of a node that is gone.
fn node_names<'a>(seen: &Seen<'a>) -> BTreeSet<&'a str> {
    let of_pods = seen.pods.iter().filter(|placed| !placed.pod.ended()).filter_map(|placed| placed.node.as_deref());
    match seen.nodes {
        Some(nodes) => of_pods.chain(nodes.iter().map(|node| node.name.as_str())).collect(),
        None => of_pods.chain(seen.reports.keys().map(String::as_str)).collect(),
    }
}

fn pod(placed: &PlacedPod, selecting: &[&ListedPolicy], heard: Option<&Heard<'_>>) -> PodCensus {
    let of = &placed.pod;
    // The kubelet's own pods are known to the runtime by another identity.
    let reported = heard.and_then(|heard| heard.status).into_iter().flat_map(|status| &status.pod_list).find(|said| {
        said.namespace == of.namespace && said.name == of.name && [&of.uid, &of.runtime_uid].contains(&&said.uid)
    });
    let (state, reasons) = pod_state(placed, selecting, heard, reported);
    let believed = heard.is_some_and(|heard| heard.state == NodeState::Reporting || heard.state == NodeState::Behind);
    let reported = reported.filter(|_| believed && state.is_selected());
    PodCensus {
        namespace: of.namespace.clone(),
        name: of.name.clone(),
        node: placed.node.clone(),
        state,
        identity: reported.and_then(|said| said.identity),
        since: reported.map(|said| said.since.clone()).filter(|since| !since.is_empty()),
        reasons,
        policies: selecting
            .iter()
            .map(|policy| PolicyRef {
                kind: policy.kind,
                namespace: policy.name.namespace.clone(),
                name: policy.name.name.clone(),
            })
            .collect(),
    }
}

fn pod_state(
    placed: &PlacedPod,
    selecting: &[&ListedPolicy],
    heard: Option<&Heard<'_>>,
    reported: Option<&PodEnforcement>,
) -> (PodState, Vec<String>) {
    let of = &placed.pod;
    let one = |state, reason: String| (state, vec![reason]);
    if of.ended() {
        return one(PodState::NotRunning, format!("it has ended ({})", of.phase));
    }
    let Some(heard) = heard else { return one(PodState::NotRunning, "it is on no node yet".to_owned()) };
    if selecting.is_empty() && reported.is_none() {
        return (PodState::NotSelected, Vec::new());
    }
    match heard.state {
        NodeState::NoAgent => return one(PodState::NotEnforced, heard.why()),
        NodeState::Silent => return one(PodState::Unknown, heard.why()),
        NodeState::Behind | NodeState::Reporting => {}
    }
    let Some(reported) = reported else {
        let omitted = heard.status.is_some_and(|status| status.omitted.pods > 0);
        return match (of.deleting, of.host_network, omitted) {
            (true, _, _) => one(PodState::NotRunning, "it is being deleted, and its node has let go of it".to_owned()),
            (_, true, _) => one(PodState::NotEnforced, "it shares its node's network".to_owned()),
            (.., true) => one(PodState::Unknown, "its node's report has no room for it".to_owned()),
            _ => one(PodState::Pending, "its node's agent has not reported it yet".to_owned()),
        };
    };
    let mut reasons = reported.reasons.clone();
    let mut state = match reported.state {
        EnforcementState::NotEnforced => PodState::NotEnforced,
        EnforcementState::Pending => PodState::Pending,
        EnforcementState::Enforced => PodState::Enforced,
    };
    if state != PodState::NotEnforced && heard.state == NodeState::Behind {
        state = PodState::Unknown;
        reasons.push(heard.why());
    }
    for policy in selecting {
        if let Err((so, reason)) = heard.policy(policy) {
            state = state.min(so);
            reasons.push(reason);
        }
    }
    (state, reasons)
}

fn policy(of: &ListedPolicy, pods: &[PodCensus], heard: &BTreeMap<&str, Heard<'_>>) -> PolicyCensus {
    let name = PolicyRef { kind: of.kind, namespace: of.name.namespace.clone(), name: of.name.name.clone() };
    let mut by_node: BTreeMap<&str, Vec<&PodCensus>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod.state.is_selected() && pod.policies.contains(&name)) {
        by_node.entry(pod.node.as_deref().unwrap_or_default()).or_default().push(pod);
    }
    let mut counted = PolicyCensus {
        kind: of.kind,
        namespace: name.namespace,
        name: name.name,
        generation: of.generation,
        audit: of.is_audit(),
        selected: by_node.values().map(Vec::len).sum(),
        enforced: 0,
        unreadable: of.unreadable().map(str::to_owned),
        missing: Vec::new(),
    };
    for (node, here) in by_node {
        let Some(heard) = heard.get(node) else { continue };
        let said = match heard.state {
            NodeState::NoAgent | NodeState::Silent => Err(heard.why()),
            // Its pods are not called enforced, and so the policy is not.
            NodeState::Behind | NodeState::Reporting => heard.policy(of).map_err(|(_, why)| why),
        };
        // Neither what the node says of the policy nor what it says of the pods is enough alone.
        let unsound: Vec<&str> =
            here.iter().filter(|pod| pod.state != PodState::Enforced).map(|pod| pod.name.as_str()).collect();
        let (enforced, reason) = match said {
            Err(why) => (0, why),
            Ok(said) => {
                let enforced = usize::try_from(said.enforced).unwrap_or_default().min(here.len() - unsound.len());
                (
                    enforced,
                    match unsound.as_slice() {
                        [] => "its node says that it is not in force in all of them".to_owned(),
                        [one] => format!("the walls of {one} don't hold, or nobody can say"),
                        [first, more @ ..] => {
                            format!("the walls of {first} and {} more don't hold, or nobody can say", more.len())
                        }
                    },
                )
            }
        };
        counted.enforced += enforced;
        if enforced < here.len() {
            counted.missing.push(Missing { node: node.to_owned(), pods: here.len() - enforced, reason });
        }
    }
    counted
}

fn node(name: &str, heard: &Heard<'_>, nodes: Option<&[ListedNode]>, pods: &[PodCensus]) -> NodeCensus {
    let status = heard.status;
    NodeCensus {
        name: name.to_owned(),
        state: heard.state,
        reason: heard.reason.clone(),
        ready: nodes.and_then(|nodes| nodes.iter().find(|node| node.name == name)).map(|node| node.ready),
        agent_version: status.map(|status| status.agent_version.clone()).filter(|version| !version.is_empty()),
        updated: status.map(|status| status.updated.clone()).filter(|updated| !updated.is_empty()),
        pods: Counts::of(pods.iter().filter(|pod| pod.node.as_deref() == Some(name))),
    }
}
