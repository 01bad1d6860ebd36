//! What a policy means once the defaults are filled in.

use std::collections::BTreeSet;

use super::{ContainerNetworkPolicySpec, Entity, IpBlock, Mode, Peer, PolicyType, PortProtocol};
use crate::selector::LabelSelector;

/// A peer as the one thing that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind<'a> {
    /// A container of the same pod.
    Container(&'a str),
    /// Pods by labels. At least one of the two is there.
    Pods {
        /// Labels of the pods; `None` selects all.
        pods: Option<&'a LabelSelector>,
        /// Labels of their namespaces; `None` means the policy's own namespace.
        namespaces: Option<&'a LabelSelector>,
    },
    /// A range of addresses.
    IpBlock(&'a IpBlock),
    /// Somebody without labels.
    Entity(Entity),
}

/// Why a peer is not one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It names nobody.
    #[error(
        "the peer is empty: give it container, podSelector and/or namespaceSelector, ipBlock or entity; to allow everybody, remove the list"
    )]
    Empty,
    /// It names two kinds of peers.
    #[error("the peer has both {0} and {1}: make them two entries of the list")]
    Several(&'static str, &'static str),
}

impl Peer {
    /// The one thing that this peer is.
    pub fn kind(&self) -> Result<PeerKind<'_>, PeerError> {
        let pods = match (&self.pod_selector, &self.namespace_selector) {
            (None, None) => None,
            (pods, namespaces) => Some(PeerKind::Pods { pods: pods.as_ref(), namespaces: namespaces.as_ref() }),
        };
        let pods_name = if self.pod_selector.is_some() { "podSelector" } else { "namespaceSelector" };
        let mut found = [
            ("container", self.container.as_deref().map(PeerKind::Container)),
            (pods_name, pods),
            ("ipBlock", self.ip_block.as_ref().map(PeerKind::IpBlock)),
            ("entity", self.entity.map(PeerKind::Entity)),
        ]
        .into_iter()
        .filter_map(|(name, kind)| kind.map(|kind| (name, kind)));
        match (found.next(), found.next()) {
            (None, _) => Err(PeerError::Empty),
            (Some((_, kind)), None) => Ok(kind),
            (Some((first, _)), Some((second, _))) => Err(PeerError::Several(first, second)),
        }
    }
}

impl ContainerNetworkPolicySpec {
    /// The directions in which the policy isolates, with NetworkPolicy's defaults: Ingress always,
    /// Egress if there are egress rules.
    pub fn directions(&self) -> BTreeSet<PolicyType> {
        if !self.policy_types.is_empty() {
            return self.policy_types.iter().copied().collect();
        }
        let mut types = BTreeSet::from([PolicyType::Ingress]);
        if self.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
            types.insert(PolicyType::Egress);
        }
        types
    }

    /// Whether it is about the container of this name. Without `containers` it is about every one.
    pub fn selects_container(&self, name: &str) -> bool {
        self.containers.as_ref().is_none_or(|names| names.iter().any(|n| n == name))
    }

    /// Whether it is about every container, and with them sockets of no known container.
    pub fn selects_every_container(&self) -> bool {
        self.containers.is_none()
    }

    /// Whether it denies, rather than only tells.
    pub fn enforces(&self) -> bool {
        self.mode == Mode::Enforce
    }
}

impl PolicyType {
    /// The word as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }
}

impl PortProtocol {
    /// The word as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl Entity {
    /// The word as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterDNS => "ClusterDNS",
            Self::KubeAPIServer => "KubeAPIServer",
            Self::Node => "Node",
            Self::PortForward => "PortForward",
            Self::World => "World",
        }
    }
}

macro_rules! display {
    ($($word:ty),*) => {$(
        impl std::fmt::Display for $word {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}
display!(PolicyType, PortProtocol, Entity);
