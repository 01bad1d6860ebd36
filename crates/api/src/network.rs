//! NetworkPolicy and MultiNetworkPolicy: what holds for a pod as a whole, at its edges.
//!
//! Both kinds are others': NetworkPolicy is Kubernetes' own (`networking.k8s.io/v1`), MultiNetworkPolicy is that of the
//! Network Plumbing Working Group (`k8s.cni.cncf.io`) and has the same spec, for the networks that its annotation
//! [`POLICY_FOR`] names. They are read here more strictly than by an API server, because a field that is not understood
//! may be one that narrows: such a policy isolates what it selects.

mod attachment;
mod validate;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{IpBlock, PolicyPort, PolicyType};
use crate::selector::{LabelSelector, SelectorLimits};

pub use attachment::{ATTACHMENTS_MAX, Attachment, Attachments, NETWORK_STATUS_MAX};
pub use validate::{NETWORKS_MAX, NetworkName};

/// The annotation of a MultiNetworkPolicy that names its networks: `name` or `namespace/name`, separated by commas.
pub const POLICY_FOR: &str = "k8s.v1.cni.cncf.io/policy-for";

/// The annotation in which Multus says which networks a pod is attached to, as a JSON list. Whoever may change the pod
/// may change it.
pub const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// The most rules of one direction.
///
/// The API server has no such limits; these and the next are far above what people write, and keep the cost of one
/// object bounded. A policy beyond them isolates what it selects.
pub const RULES_MAX: usize = 1024;

/// The most peers of one rule.
pub const PEERS_MAX: usize = 4096;

/// The most ports of one rule.
pub const PORTS_MAX: usize = 1024;

/// The most exceptions of one IP block.
pub const EXCEPT_MAX: usize = 1024;

/// How large the selectors of these kinds may be.
pub const SELECTOR_LIMITS: SelectorLimits = SelectorLimits { terms: 128, values: 1024 };

/// What a NetworkPolicy or a MultiNetworkPolicy says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkPolicySpec {
    /// The pods of the policy's namespace that it is about. Absent or `{}`: all of them.
    #[serde(default)]
    pub pod_selector: LabelSelector,

    /// The directions in which it isolates. Absent or empty: Ingress, and Egress if there are egress rules. Rules of a
    /// direction that is not named have no effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_types: Vec<PolicyType>,

    /// Who may reach the selected pods. Absent or empty: nobody, where Ingress is isolated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<NetworkIngressRule>,

    /// Whom the selected pods may reach. Absent or empty: nobody, where Egress is isolated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<NetworkEgressRule>,
}

/// Allows connections to the selected pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkIngressRule {
    /// Where they may come from. Absent or empty: from everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<NetworkPeer>,

    /// The ports of the selected pods. Absent or empty: all ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PolicyPort>,
}

/// Allows connections from the selected pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkEgressRule {
    /// Where they may go. Absent or empty: everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<NetworkPeer>,

    /// The ports of the destination. Absent or empty: all ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PolicyPort>,
}

/// The other end of a flow: `podSelector` and/or `namespaceSelector`, or `ipBlock`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkPeer {
    /// Pods with these labels, in the namespaces of `namespaceSelector`, or in the policy's own namespace if that is
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,

    /// The pods of namespaces with these labels; narrowed by `podSelector` if that is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,

    /// A range of addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
}

impl NetworkPolicySpec {
    /// The directions in which the policy isolates: Ingress always and Egress if there are egress rules, unless
    /// `policyTypes` says otherwise.
    pub fn directions(&self) -> BTreeSet<PolicyType> {
        if !self.policy_types.is_empty() {
            return self.policy_types.iter().copied().collect();
        }
        let egress = (!self.egress.is_empty()).then_some(PolicyType::Egress);
        [PolicyType::Ingress].into_iter().chain(egress).collect()
    }
}

macro_rules! kind {
    ($(#[$doc:meta])* $name:ident, $group:literal, $version:literal, $plural:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            /// The object's metadata.
            #[serde(default)]
            pub metadata: ObjectMeta,
            /// What it says.
            #[serde(default)]
            pub spec: NetworkPolicySpec,
        }

        impl k8s_openapi::Resource for $name {
            const API_VERSION: &'static str = concat!($group, "/", $version);
            const GROUP: &'static str = $group;
            const KIND: &'static str = stringify!($name);
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = NamespaceResourceScope;
        }

        impl k8s_openapi::Metadata for $name {
            type Ty = ObjectMeta;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

kind!(
    /// A NetworkPolicy of Kubernetes: who may talk to the pods that it selects, and whom they may talk to, on the pod
    /// network.
    NetworkPolicy, "networking.k8s.io", "v1", "networkpolicies"
);
kind!(
    /// A MultiNetworkPolicy: the same on the further networks that its annotation names.
    MultiNetworkPolicy, "k8s.cni.cncf.io", "v1beta1", "multi-networkpolicies"
);

impl MultiNetworkPolicy {
    /// The networks that it is about; none where the annotation is absent.
    ///
    /// # Errors
    ///
    /// The part of the annotation that names no network.
    pub fn networks(&self) -> Result<BTreeSet<NetworkName>, String> {
        let annotations: Option<&BTreeMap<String, String>> = self.metadata.annotations.as_ref();
        let Some(text) = annotations.and_then(|all| all.get(POLICY_FOR)) else { return Ok(BTreeSet::new()) };
        let own = self.metadata.namespace.as_deref().filter(|own| !own.is_empty());
        NetworkName::list(text, own.unwrap_or(crate::names::DEFAULT_NAMESPACE))
    }
}

#[cfg(test)]
mod tests;
