//! The kinds that are watched, and where the API server has them.

use std::collections::BTreeSet;
use std::fmt;

/// A kind of object that verdicts depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Namespaces.
    Namespace,
    /// Nodes.
    Node,
    /// The ranges that Services take their addresses from.
    ServiceCidr,
    /// Services.
    Service,
    /// What stands behind Services.
    EndpointSlice,
    /// Pods, of the whole cluster.
    Pod,
    /// Our policies of containers.
    ContainerNetworkPolicy,
    /// Our proxies, which are policies too.
    SidecarProxy,
    /// Kubernetes' own policies.
    NetworkPolicy,
    /// The policies of further networks.
    MultiNetworkPolicy,
}

/// What is done about a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Reading {
    /// It is not read at all.
    #[default]
    Off,
    /// It is read where the API server serves it. Where it does not, there is nothing of the kind, until it appears.
    /// Where it was served before and no longer is, the last known state stands.
    IfServed,
    /// It must be served: nothing is synced before it is.
    Required,
}

/// Which kinds are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// Whether NetworkPolicies are read too.
    pub network_policies: bool,
    /// Whether MultiNetworkPolicies are read too.
    pub multi_network_policies: Reading,
}

impl Default for Kinds {
    /// No NetworkPolicies: the cluster's own network plugin enforces them. MultiNetworkPolicies where there are any.
    fn default() -> Self {
        Self { network_policies: false, multi_network_policies: Reading::IfServed }
    }
}

impl Kinds {
    /// What is done about a kind.
    pub fn reading(&self, kind: Kind) -> Reading {
        match kind {
            Kind::NetworkPolicy if !self.network_policies => Reading::Off,
            Kind::MultiNetworkPolicy => self.multi_network_policies,
            // Kubernetes has had it since 1.31 (beta) and 1.33.
            Kind::ServiceCidr => Reading::IfServed,
            _ => Reading::Required,
        }
    }

    /// The kinds that are read.
    pub fn all(&self) -> BTreeSet<Kind> {
        Kind::ALL.into_iter().filter(|kind| self.reading(*kind) != Reading::Off).collect()
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Namespace,
        Self::Node,
        Self::ServiceCidr,
        Self::Service,
        Self::EndpointSlice,
        Self::Pod,
        Self::ContainerNetworkPolicy,
        Self::SidecarProxy,
        Self::NetworkPolicy,
        Self::MultiNetworkPolicy,
    ];

    /// Its name, as objects bear it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
            Self::ContainerNetworkPolicy => "ContainerNetworkPolicy",
            Self::SidecarProxy => "SidecarProxy",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::MultiNetworkPolicy => "MultiNetworkPolicy",
        }
    }

    /// The paths of all objects of the kind, the best first: one for each version that can be read.
    pub(crate) const fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Namespace => &["/api/v1/namespaces"],
            Self::Node => &["/api/v1/nodes"],
            Self::ServiceCidr => {
                &["/apis/networking.k8s.io/v1/servicecidrs", "/apis/networking.k8s.io/v1beta1/servicecidrs"]
            }
            Self::Service => &["/api/v1/services"],
            Self::EndpointSlice => &["/apis/discovery.k8s.io/v1/endpointslices"],
            Self::Pod => &["/api/v1/pods"],
            Self::ContainerNetworkPolicy => &["/apis/sidewall.dev/v1alpha1/containernetworkpolicies"],
            Self::SidecarProxy => &["/apis/sidewall.dev/v1alpha1/sidecarproxies"],
            Self::NetworkPolicy => &["/apis/networking.k8s.io/v1/networkpolicies"],
            // The second version knows endPort, which the first would lose.
            Self::MultiNetworkPolicy => &[
                "/apis/k8s.cni.cncf.io/v1beta2/multi-networkpolicies",
                "/apis/k8s.cni.cncf.io/v1beta1/multi-networkpolicies",
            ],
        }
    }

    /// The CustomResourceDefinition that the kind stands and falls with.
    pub const fn definition(self) -> Option<&'static str> {
        match self {
            Self::ContainerNetworkPolicy => Some("containernetworkpolicies.sidewall.dev"),
            Self::SidecarProxy => Some("sidecarproxies.sidewall.dev"),
            Self::MultiNetworkPolicy => Some("multi-networkpolicies.k8s.cni.cncf.io"),
            _ => None,
        }
    }

    /// What a person has to do where the kind is not served.
    pub(crate) const fn advice(self) -> &'static str {
        match self {
            Self::ContainerNetworkPolicy | Self::SidecarProxy => "install the CustomResourceDefinitions of Sidewall",
            Self::MultiNetworkPolicy => {
                "install the CustomResourceDefinition of MultiNetworkPolicy, or don't require it"
            }
            _ => "is this address a Kubernetes API server, of version 1.25 or later?",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
