//! ContainerNetworkPolicy: who may talk to whom, container by container.
//!
//! NetworkPolicy v1 semantics at the grain of a container. Policies add up; a container is isolated
//! in a direction as soon as one `Enforce` policy selects it for that direction.

mod effective;
mod status;
mod validate;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::selector::LabelSelector;

pub use effective::{PeerError, PeerKind};
pub use status::{ContainerNetworkPolicyStatus, PodCounts};
pub(crate) use validate::{check_cidr, check_container_name, check_size};

/// The most containers that one policy may name: as many as a ruleset can number.
pub const CONTAINERS_MAX: usize = 60;

/// The most rules of one direction.
///
/// These limits keep the cost of the CEL rules, which the API server estimates from them, inside its budget. Policies
/// add up, so that what does not fit into one goes into two.
pub const RULES_MAX: usize = 32;

/// The most peers of one rule.
pub const PEERS_MAX: usize = 256;

/// The most ports of one rule.
pub const PORTS_MAX: usize = 64;

/// The most exceptions of one IP block.
pub const EXCEPT_MAX: usize = 20;

/// The longest textual form of an IPv6 network: 39 for the address, `/` and three digits.
pub const CIDR_MAX: usize = 43;

/// What a ContainerNetworkPolicy says.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[expect(clippy::duplicated_attributes, reason = "each column is an attribute of its own")]
#[kube(
    group = "sidewall.dev",
    version = "v1alpha1",
    kind = "ContainerNetworkPolicy",
    plural = "containernetworkpolicies",
    shortname = "ctnp",
    category = "sidewall",
    category = "network-policies",
    namespaced,
    status = "ContainerNetworkPolicyStatus",
    derive = "PartialEq",
    doc = "Says which containers of the selected pods may talk to whom. NetworkPolicy v1 semantics at the grain of a container.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Containers", type_ = "string", json_path = ".spec.containers"),
    printcolumn(name = "Selected", type_ = "integer", json_path = ".status.pods.selected"),
    printcolumn(name = "Enforced", type_ = "integer", json_path = ".status.pods.enforced"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.egress) || !has(self.policyTypes) || size(self.policyTypes) == 0 || 'Egress' in self.policyTypes")
        .message("an egress section needs Egress in policyTypes: add it, or remove the section")
        .field_path(".policyTypes"),
    validation = Rule::new("!has(self.ingress) || !has(self.policyTypes) || size(self.policyTypes) == 0 || 'Ingress' in self.policyTypes")
        .message("an ingress section needs Ingress in policyTypes: add it, or remove the section")
        .field_path(".policyTypes"),
    validation = Rule::new("!has(self.egress) || size(self.egress) > 0 || (has(self.policyTypes) && size(self.policyTypes) > 0)")
        .message("an empty egress section isolates nothing unless policyTypes names Egress: add policyTypes, or remove the section")
        .field_path(".egress")
)]
pub struct ContainerNetworkPolicySpec {
    /// The pods of the policy's namespace that it is about. `{}` selects all of them.
    pub pod_selector: LabelSelector,

    /// The containers of those pods that it is about, by name: init containers, sidecars and
    /// ephemeral ones too. Omitted: every container, and sockets of no known container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = CONTAINERS_MAX),
        inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub containers: Option<Vec<String>>,

    /// The directions in which it isolates. Omitted or empty: Ingress, and Egress if there are
    /// egress rules, as in NetworkPolicy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub policy_types: Vec<PolicyType>,

    /// Enforce denies what no policy allows. Audit only logs what it would deny: it neither isolates
    /// nor allows.
    #[serde(default)]
    pub mode: Mode,

    /// Who may reach the selected containers. Omitted or empty: nobody, where Ingress is isolated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = RULES_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub ingress: Option<Vec<IngressRule>>,

    /// Whom the selected containers may reach. Omitted or empty: nobody, where Egress is isolated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = RULES_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub egress: Option<Vec<EgressRule>>,
}

/// A direction that a policy isolates.
// Variants have no doc comments: the schema would turn them into a oneOf, which is not structural.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum PolicyType {
    Ingress,
    Egress,
}

/// Whether a policy denies or only tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum Mode {
    #[default]
    Enforce,
    Audit,
}

/// Allows connections to the selected containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.from) || self.from.all(p, !has(p.entity) || p.entity != 'ClusterDNS')")
    .message("ClusterDNS opens no connections: it can stand under egress only")
    .field_path(".from"))]
pub struct IngressRule {
    /// Where they may come from. Omitted or empty: from everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PEERS_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub from: Vec<Peer>,

    /// The ports of the selected containers. Omitted or empty: all ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PORTS_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<PolicyPort>,
}

/// Allows connections from the selected containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.to) || self.to.all(p, !has(p.entity) || p.entity != 'PortForward')")
    .message("PortForward accepts no connections: it can stand under ingress only")
    .field_path(".to"))]
pub struct EgressRule {
    /// Where they may go. Omitted or empty: everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PEERS_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub to: Vec<Peer>,

    /// The ports of the destination. Omitted or empty: all ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PORTS_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<PolicyPort>,
}

/// The other end of a flow: exactly one of `container`, `podSelector` and/or `namespaceSelector`,
/// `ipBlock` and `entity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "(has(self.container) ? 1 : 0) + (has(self.podSelector) || has(self.namespaceSelector) ? 1 : 0) + (has(self.ipBlock) ? 1 : 0) + (has(self.entity) ? 1 : 0) == 1"
).message("a peer is exactly one of: container; podSelector and/or namespaceSelector; ipBlock; entity"))]
pub struct Peer {
    /// A container of the same pod, reached by loopback or by the pod's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub container: Option<String>,

    /// Pods with these labels, in the namespaces of `namespaceSelector`, or in the policy's own
    /// namespace if that is omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,

    /// The pods of namespaces with these labels; narrowed by `podSelector` if that is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,

    /// A range of addresses. It never covers loopback, multicast or the Service range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,

    /// Somebody who has no labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<Entity>,
}

/// A range of addresses, less some parts of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
// That it lies inside, the webhook knows: API servers understand ranges in rules since 1.31 only, and refuse the kind before.
#[x_kube(validation = Rule::new("!has(self.except) || self.except.all(e, e != self.cidr)")
    .message("each exception must be a smaller range inside cidr").field_path(".except"))]
pub struct IpBlock {
    /// The range in CIDR form, IPv4 or IPv6: `10.0.0.0/8`, `2001:db8::/32`.
    #[schemars(length(min = 1, max = CIDR_MAX), extend("format" = "cidr"))]
    pub cidr: String,

    /// Parts of `cidr` that are not meant. Another rule or policy may still allow them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = EXCEPT_MAX),
        extend(
            "items" = {"type": "string", "format": "cidr", "minLength": 1, "maxLength": CIDR_MAX},
            "x-kubernetes-list-type" = "atomic"
        )
    )]
    pub except: Vec<String>,
}

/// Somebody who has no labels: ClusterDNS, the cluster's DNS service (egress only); KubeAPIServer;
/// Node, the pod's own node; PortForward, the runtime's port-forward (ingress only); World, every
/// address that is no pod, node, Service or link-local one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum Entity {
    ClusterDNS,
    KubeAPIServer,
    Node,
    PortForward,
    World,
}

/// A transport protocol as Kubernetes spells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
#[serde(rename_all = "UPPERCASE")]
pub enum PortProtocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// A port, a range of ports, or all ports of a protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
// Nothing here looks into `port`: API servers before 1.31 take its text for as long as an object may be, and refuse such rules as too
// dear. That it is a number where there is an `endPort`, and not above it, the webhook knows.
#[x_kube(
    validation = Rule::new("!has(self.endPort) || has(self.port)")
        .message("endPort needs a port that is a number not above it")
        .field_path(".endPort")
)]
pub struct PolicyPort {
    /// The protocol.
    #[serde(default)]
    pub protocol: PortProtocol,

    /// A number, or the name of a container port. Omitted: every port of the protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // A number, or segments of a-z and 0-9 with single hyphens between them, one of which has a letter.
    #[schemars(extend(
        "minimum" = 1, "maximum" = 65535,
        "maxLength" = 15, "pattern" = "^([0-9]+-)*[0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$"
    ))]
    pub port: Option<IntOrString>,

    /// The last port of a range that begins with `port`, which then is a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
}

#[cfg(test)]
mod tests;
