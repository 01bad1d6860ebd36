//! SidecarProxy: the front door of an application that has none.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::selector::LabelSelector;

/// What a SidecarProxy says.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "sidewall.dev",
    version = "v1alpha1",
    kind = "SidecarProxy",
    plural = "sidecarproxies",
    shortname = "scp",
    category = "sidewall",
    namespaced,
    derive = "PartialEq",
    doc = "Puts an authenticating reverse proxy in front of the selected pods' application, and closes every other way to it."
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct SidecarProxySpec {
    /// The pods of the same namespace that get the proxy. `{}` selects all of them.
    pub pod_selector: LabelSelector,

    /// The container of those pods that is the proxy.
    #[serde(default = "default_container_name")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub container_name: String,

    /// Where the proxy listens, and where it forwards to.
    #[schemars(length(min = 1, max = 16))]
    pub listeners: Vec<Listener>,
}

fn default_container_name() -> String {
    crate::names::DEFAULT_PROXY_CONTAINER.to_owned()
}

/// A port of the pod that the proxy serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// The port on the pod's addresses.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The application.
    pub forward: Forward,
}

/// Where a listener forwards to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forward {
    /// The application's port on the pod's loopback.
    #[schemars(range(min = 1))]
    pub port: u16,
}
