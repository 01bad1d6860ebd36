//! What has become of a SidecarProxy: whether it can be used, and which pods it stands before.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What has become of a SidecarProxy. Written by the operator.
// Unknown fields are passed over: a newer operator may have written them, and an agent reads the object too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SidecarProxyStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Accepted: the spec is understood and can be used. Conflicted: an older SidecarProxy selects some of the same pods,
    /// and has them. CertificatesReady: the certificates that it asks for are there; absent where it asks for none. Ready:
    /// every pod that it selects stands behind its proxy, with the present configuration and everything it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,

    /// How many pods it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<ProxyPodCounts>,
}

/// Numbers of pods that a SidecarProxy selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyPodCounts {
    /// Pods that it selects.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub selected: i32,
    /// Pods among them that stand behind its proxy.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub fronted: i32,
    /// Pods among the fronted whose proxy works with an older configuration until they are restarted, because they were
    /// made before the SidecarProxy named a Secret.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub outdated: i32,
    /// Pods that it selects and that have no proxy: made before it was, or while the webhook was away. Where walls stand,
    /// nothing of them is reachable until they are restarted.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub unfronted: i32,
}
