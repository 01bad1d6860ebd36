//! What has become of a PodSplit: whether it can be used, and which pods are split by it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What has become of a PodSplit. Written by the operator.
// Unknown fields are passed over: a newer operator may have written them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSplitStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Accepted: the spec is understood and can be used. Conflicted: an older PodSplit selects some of the same pods, and has
    /// them. Ready: every pod that it selects is split, and all its parts are ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,

    /// How many pods it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<SplitPodCounts>,
}

/// Numbers of pods that a PodSplit selects. A pod and its parts count as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SplitPodCounts {
    /// Pods that it selects.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub selected: i32,
    /// Pods among them that are split by it. The others were made before it was, or while the webhook was away.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub split: i32,
    /// Pods among the split all of whose parts are ready.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub ready: i32,
}
