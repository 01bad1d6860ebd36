//! PodSplit: containers of a pod in pods of their own, joined by a network of their own, so that `localhost` still works.
//!
//! What is written here says only which containers go where. Who may talk to whom stays with the ContainerNetworkPolicies, which
//! mean the same for a pod that is split.

mod status;
mod validate;

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{DEFAULT_NAMESPACE, PART_NAME_MAX};
use crate::network::NetworkName;
use crate::policy::CIDR_MAX;
use crate::selector::LabelSelector;

pub use status::{PodSplitStatus, SplitPodCounts};

/// The most parts of one pod, beside the primary.
pub const PARTS_MAX: usize = 16;

/// The most containers of one part, and the most init containers.
///
/// These limits keep the cost of the CEL rules, which compare every name with every other, inside the API server's budget.
pub const PART_CONTAINERS_MAX: usize = 16;

/// The most subnets of a link: one of each family.
pub const SUBNETS_MAX: usize = 2;

/// The subnet of a link that names none.
///
/// It is a private one (RFC 1918) in which nobody but the parts of one PodSplit on one node has an address, and it is reached by no
/// route but that of the link's own device. A cluster that has it for pods, Services or nodes needs another one. There is none of
/// IPv6 by default: on a node without IPv6 the device could not be made. `::1` works all the same, because it is relayed.
pub const DEFAULT_SUBNET: &str = "10.213.0.0/16";

/// The longest prefix of a subnet of IPv4: it leaves room for a few pods' parts.
pub const PREFIX_V4_MAX: u8 = 28;

/// The longest prefix of a subnet of IPv6.
pub const PREFIX_V6_MAX: u8 = 120;

/// What a PodSplit says.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[expect(clippy::duplicated_attributes, reason = "each column is an attribute of its own")]
#[kube(
    group = "sidewall.dev",
    version = "v1alpha1",
    kind = "PodSplit",
    plural = "podsplits",
    shortname = "psplit",
    category = "sidewall",
    namespaced,
    status = "PodSplitStatus",
    derive = "PartialEq",
    doc = "Lets containers of the selected pods run in pods of their own on the same node, joined by a network of their own: localhost still works, and the same ContainerNetworkPolicies hold.",
    printcolumn(name = "Parts", type_ = "string", json_path = ".spec.parts[*].name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.pods.selected"),
    printcolumn(name = "Split", type_ = "integer", json_path = ".status.pods.split"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Link", type_ = "string", json_path = ".spec.link.type", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.parts.all(p, p.containers.all(c, size(self.parts.filter(q, c in q.containers || (has(q.initContainers) && c in q.initContainers))) == 1))")
        .message("a container is named by two parts: it can be in one only")
        .field_path(".parts"),
    validation = Rule::new("self.parts.all(p, !has(p.initContainers) || p.initContainers.all(c, size(self.parts.filter(q, c in q.containers || (has(q.initContainers) && c in q.initContainers))) == 1))")
        .message("an init container is named by two parts: it can be in one only")
        .field_path(".parts")
)]
pub struct PodSplitSpec {
    /// The pods of the same namespace that are split. `{}` selects all of them.
    pub pod_selector: LabelSelector,

    /// The pods that the selected pod's containers go to. A container that none of them names stays in the pod itself, which
    /// needs one at least.
    #[schemars(
        length(min = 1, max = PARTS_MAX),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub parts: Vec<Part>,

    /// The network that joins the parts. Omitted: a bridge on each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
}

/// A pod that some of the selected pod's containers go to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.initContainers) || self.initContainers.all(c, !(c in self.containers))")
    .message("a name stands under containers and under initContainers: a native sidecar goes under containers, any other init container under initContainers")
    .field_path(".initContainers"))]
pub struct Part {
    /// Its name, which becomes a part of its pod's name. `primary` is the selected pod itself.
    #[schemars(length(min = 1, max = PART_NAME_MAX), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self != 'primary'").message("primary is the selected pod itself: choose another name"))]
    pub name: String,

    /// Its containers: those of the application, and native sidecars (init containers with restartPolicy Always).
    #[schemars(
        length(min = 1, max = PART_CONTAINERS_MAX),
        inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub containers: Vec<String>,

    /// The init containers that it needs. They run in it before its containers, in the order of the pod, and do not wait for those
    /// of other parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = PART_CONTAINERS_MAX),
        inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub init_containers: Vec<String>,
}

/// The network that joins the parts of a pod: one that is made for this PodSplit, or one that is there already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.network) || (!has(self.type) && !has(self.parent) && !has(self.subnets) && !has(self.ipam))")
        .message("network is a link that is there already: type, parent, subnets and ipam are said by it; remove them, or network")
        .field_path(".network"),
    validation = Rule::new("!has(self.parent) || (has(self.type) && self.type == 'Macvlan')")
        .message("parent needs type Macvlan: add it, or remove parent")
        .field_path(".parent"),
    validation = Rule::new("!has(self.subnets) || (size(self.subnets.filter(s, s.contains(':'))) <= 1 && size(self.subnets.filter(s, !s.contains(':'))) <= 1)")
        .message("two subnets of one family: give one of IPv4, one of IPv6, or one of each")
        .field_path(".subnets")
)]
pub struct Link {
    /// Bridge joins the parts by a bridge on their node; Macvlan by children of one of the node's devices, which clouds often
    /// filter. Omitted: Bridge.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<LinkType>,

    /// The node's device whose children a Macvlan link makes. Omitted: that of the node's default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15), regex(pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.@-]*$"))]
    pub parent: Option<String>,

    /// The networks that the parts take their addresses from, at most one of each family: at most /28 of IPv4, /120 of IPv6, and
    /// none that pods, Services or nodes have addresses in. Omitted: 10.213.0.0/16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = SUBNETS_MAX),
        extend(
            "items" = {"type": "string", "format": "cidr", "minLength": 1, "maxLength": CIDR_MAX},
            "x-kubernetes-list-type" = "atomic"
        )
    )]
    pub subnets: Vec<String>,

    /// Who gives the addresses out: HostLocal each node for itself; Whereabouts, where that is installed, all nodes together.
    /// Omitted: HostLocal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam: Option<Ipam>,

    /// A NetworkAttachmentDefinition that is there already, in place of all that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkReference>,
}

/// How a link is made.
// No doc comments on the variants: the schema would turn them into a oneOf, which is not structural.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum LinkType {
    #[default]
    Bridge,
    Macvlan,
}

/// Who gives a link's addresses out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum Ipam {
    #[default]
    HostLocal,
    Whereabouts,
}

/// A NetworkAttachmentDefinition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,

    /// Its namespace. Omitted: that of the PodSplit. Multus may be set up to refuse another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
}

impl Link {
    /// How it is made.
    pub fn kind(&self) -> LinkType {
        self.kind.unwrap_or_default()
    }

    /// Who gives its addresses out.
    pub fn ipam(&self) -> Ipam {
        self.ipam.unwrap_or_default()
    }

    /// The networks that its addresses are from, as they are written.
    pub fn subnets(&self) -> Vec<&str> {
        match self.subnets.as_slice() {
            [] => vec![DEFAULT_SUBNET],
            some => some.iter().map(String::as_str).collect(),
        }
    }
}

impl PodSplit {
    /// The NetworkAttachmentDefinition that the user has given it, where he has.
    pub fn network(&self) -> Option<NetworkName> {
        let network = self.spec.link.as_ref()?.network.as_ref()?;
        let own = namespace(&self.metadata);
        Some(NetworkName {
            namespace: network.namespace.clone().unwrap_or_else(|| own.to_owned()),
            name: network.name.clone(),
        })
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "Bridge",
            Self::Macvlan => "Macvlan",
        })
    }
}

fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
}

#[cfg(test)]
mod tests;
