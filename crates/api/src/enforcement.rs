//! NodeEnforcement: what of the policies is in force on one node.
//!
//! Each node's agent writes one object, named as its node, and no other; the operator and the command line add them up. The
//! object is cluster-scoped, because a node is, and its owner is the Node, with which it goes.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::read::PolicyKind;

/// The most pods that one object names. A node runs at most 250 in clusters of the size that Kubernetes supports.
pub const PODS_MAX: usize = 512;

/// The most policies that one object names.
pub const POLICIES_MAX: usize = 1024;

/// The most reasons of one pod.
pub const REASONS_MAX: usize = 8;

/// The longest reason, in characters.
pub const REASON_MAX: usize = 256;

/// The most octets of one object as JSON: a third of what the API server's store takes.
pub const OCTETS_MAX: usize = 480 << 10;

/// Which node it is about.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "sidewall.dev",
    version = "v1alpha1",
    kind = "NodeEnforcement",
    plural = "nodeenforcements",
    shortname = "nenf",
    category = "sidewall",
    status = "NodeEnforcementStatus",
    derive = "PartialEq",
    doc = "Says which pods of a node are walled as the policies ask, and why others are not. Written by the node's agent alone.",
    validation = Rule::new("self.metadata.name == self.spec.nodeName")
        .message("the object must be named as its node"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.pods.total"),
    printcolumn(name = "Enforced", type_ = "integer", json_path = ".status.pods.enforced"),
    printcolumn(name = "NotEnforced", type_ = "integer", json_path = ".status.pods.notEnforced"),
    printcolumn(name = "Agent", type_ = "string", json_path = ".status.agentVersion"),
    printcolumn(name = "Updated", type_ = "date", json_path = ".status.updated")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeEnforcementSpec {
    /// The node's name, which is the object's too.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("an object stays its node's"))]
    pub node_name: String,
}

/// What is in force on a node. Other versions of Sidewall may add to it, and every one reads what it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeEnforcementStatus {
    /// The version of the agent that wrote it.
    #[serde(default)]
    pub agent_version: String,

    /// When it was written (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("format" = "date-time"))]
    pub updated: String,

    /// Since when the agent works on old news of some kind, because the API server can't be reached or refuses it (RFC
    /// 3339, UTC). Absent while all news come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub stale_since: Option<String>,

    /// How many pods there are.
    #[serde(default)]
    pub pods: NodePodCounts,

    /// The pods that something selects, those that are not enforced first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PODS_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub pod_list: Vec<PodEnforcement>,

    /// The policies that select pods of this node, or may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = POLICIES_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub policy_list: Vec<PolicyEnforcement>,

    /// What was left out because there was no room.
    #[serde(default, skip_serializing_if = "Omitted::is_nothing")]
    pub omitted: Omitted,
}

/// Numbers of pods of a node. They count what was left out of the list, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePodCounts {
    /// Pods of the node that have a network of their own.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub total: i32,
    /// Pods that some policy selects.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub selected: i32,
    /// Pods among them whose rules are in force, all of them.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub enforced: i32,
    /// Pods among them of which that can't be said.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub not_enforced: i32,
}

/// How far the policies are in force in a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodEnforcement {
    /// The pod's namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The pod's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The pod's identity.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// How far its walls hold.
    pub state: EnforcementState,
    /// How its containers are told apart. Absent where no rules are in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityKind>,
    /// Since when the state is what it is (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// Why it is not enforced, or what else its owner should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = REASONS_MAX), inner(length(max = REASON_MAX)), extend("x-kubernetes-list-type" = "atomic"))]
    pub reasons: Vec<String>,
}

/// How far a pod's walls hold.
// Variants have no doc comments: the schema would turn them into a oneOf, which is not structural.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum EnforcementState {
    // Something in the pod can pass its walls, or they can't be built.
    NotEnforced,
    // The walls are being built; the guard stands meanwhile.
    #[default]
    Pending,
    Enforced,
}

/// How containers are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum IdentityKind {
    Cgroup,
    Uid,
    Gid,
}

/// How far a policy is in force on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyEnforcement {
    /// The policy's kind.
    pub kind: EnforcedKind,
    /// The policy's namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The policy's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The generation that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pods of the node that it selects.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub selected: i32,
    /// Pods among them in which this generation is in force.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub enforced: i32,
    /// Why it can't be understood. Then it isolates what it selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = REASON_MAX))]
    pub unreadable: Option<String>,
}

/// The kinds of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum EnforcedKind {
    ContainerNetworkPolicy,
    SidecarProxy,
    NetworkPolicy,
    MultiNetworkPolicy,
}

impl From<PolicyKind> for EnforcedKind {
    fn from(kind: PolicyKind) -> Self {
        match kind {
            PolicyKind::ContainerNetworkPolicy => Self::ContainerNetworkPolicy,
            PolicyKind::SidecarProxy => Self::SidecarProxy,
            PolicyKind::NetworkPolicy => Self::NetworkPolicy,
            PolicyKind::MultiNetworkPolicy => Self::MultiNetworkPolicy,
        }
    }
}

/// What was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Omitted {
    /// Pods.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub pods: i32,
    /// Policies.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub policies: i32,
}

impl Omitted {
    /// Whether everything is there.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl NodeEnforcementStatus {
    /// Brings it within its bounds and into its order: pods that are not enforced first, then by name. What does not fit is
    /// counted in [`NodeEnforcementStatus::omitted`]: pods that are enforced go before those that are not.
    pub fn bound(&mut self) {
        self.pod_list
            .sort_by(|a, b| (a.state, &a.namespace, &a.name, &a.uid).cmp(&(b.state, &b.namespace, &b.name, &b.uid)));
        self.policy_list.sort_by(|a, b| {
            (a.unreadable.is_none(), a.kind, &a.namespace, &a.name).cmp(&(
                b.unreadable.is_none(),
                b.kind,
                &b.namespace,
                &b.name,
            ))
        });
        for pod in &mut self.pod_list {
            if pod.reasons.len() > REASONS_MAX {
                let more = pod.reasons.len() - (REASONS_MAX - 1);
                pod.reasons.truncate(REASONS_MAX - 1);
                pod.reasons.push(format!("and {more} more"));
            }
            pod.reasons.iter_mut().for_each(shorten);
        }
        self.policy_list.iter_mut().filter_map(|policy| policy.unreadable.as_mut()).for_each(shorten);
        self.drop_pods(PODS_MAX);
        self.drop_policies(POLICIES_MAX);
        // Halving ends soon, and what is left is never less than half of what would have fitted.
        while self.octets() > OCTETS_MAX && !(self.pod_list.is_empty() && self.policy_list.is_empty()) {
            if octets(&self.pod_list) >= octets(&self.policy_list) {
                self.drop_pods(self.pod_list.len() / 2);
            } else {
                self.drop_policies(self.policy_list.len() / 2);
            }
        }
    }

    /// Its size as JSON.
    fn octets(&self) -> usize {
        octets(self)
    }

    fn drop_pods(&mut self, most: usize) {
        let surplus = self.pod_list.len().saturating_sub(most);
        self.pod_list.truncate(most);
        self.omitted.pods = self.omitted.pods.saturating_add(i32::try_from(surplus).unwrap_or(i32::MAX));
    }

    fn drop_policies(&mut self, most: usize) {
        let surplus = self.policy_list.len().saturating_sub(most);
        self.policy_list.truncate(most);
        self.omitted.policies = self.omitted.policies.saturating_add(i32::try_from(surplus).unwrap_or(i32::MAX));
    }
}

fn octets(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |text| text.len())
}

fn shorten(text: &mut String) {
    if text.chars().count() > REASON_MAX {
        *text = text.chars().take(REASON_MAX - 1).chain(['…']).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(number: usize, state: EnforcementState, reasons: usize) -> PodEnforcement {
        PodEnforcement {
            namespace: "shop".to_owned(),
            name: format!("web-{number:05}"),
            uid: format!("00000000-0000-0000-0000-{number:012}"),
            state,
            identity: Some(IdentityKind::Cgroup),
            since: "2026-01-01T00:00:00Z".to_owned(),
            reasons: (0..reasons).map(|n| format!("{n} {}", "ä".repeat(400))).collect(),
        }
    }

    fn policy(number: usize) -> PolicyEnforcement {
        PolicyEnforcement {
            kind: EnforcedKind::ContainerNetworkPolicy,
            namespace: "n".repeat(63),
            name: format!("{number:0253}"),
            observed_generation: Some(1),
            selected: 1,
            enforced: 1,
            unreadable: number.is_multiple_of(7).then(|| "x".repeat(1000)),
        }
    }

    #[test]
    fn a_usual_node_is_told_whole() {
        let pods = (0..250).map(|n| pod(n, EnforcementState::Enforced, 0)).collect();
        let mut status = NodeEnforcementStatus { pod_list: pods, ..NodeEnforcementStatus::default() };
        status.bound();
        assert_eq!(status.pod_list.len(), 250);
        assert!(status.omitted.is_nothing());
        assert!(status.octets() < 64 << 10, "{}", status.octets());
    }

    #[test]
    fn what_is_wrong_is_kept_longest() {
        let states = [EnforcementState::Enforced, EnforcementState::Pending, EnforcementState::NotEnforced];
        let pods = (0..3000).map(|n| pod(n, states[n % 3], n % 12)).collect();
        let policies = (0..3000).map(policy).collect();
        let mut status =
            NodeEnforcementStatus { pod_list: pods, policy_list: policies, ..NodeEnforcementStatus::default() };
        status.bound();
        assert!(status.octets() <= OCTETS_MAX, "{}", status.octets());
        assert!(status.pod_list.len() >= 16 && status.policy_list.len() >= 16);
        assert_eq!(status.pod_list.len() + usize::try_from(status.omitted.pods).unwrap(), 3000);
        assert_eq!(status.policy_list.len() + usize::try_from(status.omitted.policies).unwrap(), 3000);
        assert!(status.pod_list.iter().all(|pod| pod.state == EnforcementState::NotEnforced));
        assert!(status.policy_list.iter().all(|policy| policy.unreadable.is_some()));
        for reason in status.pod_list.iter().flat_map(|pod| &pod.reasons) {
            assert!(reason.chars().count() <= REASON_MAX);
        }
        assert!(status.pod_list.iter().all(|pod| pod.reasons.len() <= REASONS_MAX));
        assert!(status.pod_list.iter().any(|pod| pod.reasons.last().is_some_and(|r| r.ends_with("more"))));
    }

    #[test]
    fn the_order_does_not_depend_on_the_order() {
        let pods: Vec<_> = (0..20).map(|n| pod(n, EnforcementState::Enforced, 1)).collect();
        let mut one = NodeEnforcementStatus { pod_list: pods.clone(), ..NodeEnforcementStatus::default() };
        let mut other =
            NodeEnforcementStatus { pod_list: pods.into_iter().rev().collect(), ..NodeEnforcementStatus::default() };
        one.bound();
        other.bound();
        assert_eq!(one, other);
    }

    #[test]
    fn it_reads_as_it_was_written() {
        let mut object = NodeEnforcement::new("n1", NodeEnforcementSpec { node_name: "n1".to_owned() });
        object.status = Some(NodeEnforcementStatus {
            pod_list: vec![pod(1, EnforcementState::NotEnforced, 2)],
            policy_list: vec![policy(7)],
            ..NodeEnforcementStatus::default()
        });
        let text = serde_json::to_string(&object).unwrap();
        assert_eq!(serde_json::from_str::<NodeEnforcement>(&text).unwrap(), object);
        // An agent of a newer version may have written it.
        assert!(serde_json::from_str::<NodeEnforcementStatus>(r#"{"news": 1}"#).is_ok());
        assert!(serde_json::from_str::<NodeEnforcementSpec>(r#"{"nodeName": "n1", "news": 1}"#).is_err());
    }
}
