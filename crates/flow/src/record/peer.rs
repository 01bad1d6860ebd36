//! The ends of a flow, as records name them.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// An end's address and port, as the packet had them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordEnd {
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<IpAddr>,
    /// The port, of protocols that have ports.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
}

/// The other end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordPeer {
    /// What it is.
    pub kind: RecordPeerKind,
    /// The container of the same pod, for [`RecordPeerKind::Container`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<String>,
    /// The namespace of the pod or Service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespace: Option<String>,
    /// The name of the pod or Service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// What policies call it, where it is one of `ClusterDNS`, `KubeAPIServer`, `Node` and `PortForward`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entity: Option<String>,
    /// Its address, as the packet had it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<IpAddr>,
    /// Its port, of protocols that have ports.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
}

/// What an end of a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordPeerKind {
    /// A container of the same pod.
    Container,
    /// A socket of the same pod that belongs to no known container.
    Unknown,
    /// A process of the node itself inside the pod's namespace: the runtime's port-forward, for example.
    Process,
    /// A socket of the same pod; the rules could not see whose.
    SamePod,
    /// Another pod.
    Pod,
    /// A Service. An address of the Service range that no Service is known to have has no name.
    Service,
    /// A node's address.
    Node,
    /// An address, and nothing more is known; also one that several pods claim.
    Address,
}

impl RecordPeer {
    /// A peer of a kind, of which nothing else is known yet.
    pub const fn of(kind: RecordPeerKind) -> Self {
        Self { kind, container: None, namespace: None, name: None, entity: None, address: None, port: None }
    }
}
