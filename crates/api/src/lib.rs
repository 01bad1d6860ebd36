//! The public words of Sidewall.
//!
//! What an author writes and what a program shows: the custom resources with their schemas and CEL
//! rules, the same rules in Rust, the names, and the reading of files. This crate knows Kubernetes'
//! types but no client, no kernel and no clock.
//!
//! - [`policy`] — [`ContainerNetworkPolicy`], its peers, ports and status.
//! - [`network`] — [`NetworkPolicy`], [`MultiNetworkPolicy`] and the networks that a pod is attached to.
//! - [`proxy`] — [`SidecarProxy`].
//! - [`split`] — [`PodSplit`].
//! - [`enforcement`] — [`NodeEnforcement`]: what of the policies is in force on a node.
//! - [`selector`] — label selectors that refuse what they do not know.
//! - [`names`] — the group, the annotations, what a name may look like.
//! - [`problem`] — one finding about one field.
//! - [`read`] — from JSON to typed objects, with every problem on the way.
//! - [`load`] — files into objects, with findings at their lines.
//! - [`crd`] — the CustomResourceDefinitions.

#![forbid(unsafe_code)]

pub mod crd;
pub mod enforcement;
pub mod load;
pub mod names;
pub mod network;
pub mod policy;
pub mod problem;
pub mod proxy;
pub mod read;
pub mod selector;
mod shape;
pub mod split;

pub use enforcement::{NodeEnforcement, NodeEnforcementSpec, NodeEnforcementStatus};
pub use load::{Colour, Diagnostic, Loaded, Loader, Located, Objects};
pub use network::{
    Attachment, Attachments, MultiNetworkPolicy, NetworkEgressRule, NetworkIngressRule, NetworkName, NetworkPeer,
    NetworkPolicy, NetworkPolicySpec,
};
pub use policy::{
    ContainerNetworkPolicy, ContainerNetworkPolicySpec, ContainerNetworkPolicyStatus, EgressRule, Entity, IngressRule,
    IpBlock, Mode, Peer, PeerKind, PolicyPort, PolicyType, PortProtocol,
};
pub use problem::{FieldPath, Problem, Segment, Severity};
pub use proxy::{ProxyPodCounts, SidecarProxy, SidecarProxySpec, SidecarProxyStatus};
pub use read::{PolicyKind, UnreadablePolicy, UnreadableSplit};
pub use selector::{LabelSelector, Operator, Requirement, SelectorLimits};
pub use shape::suggest;
pub use split::{PodSplit, PodSplitSpec, PodSplitStatus};
