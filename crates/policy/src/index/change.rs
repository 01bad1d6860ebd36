//! What can change in a cluster.

use crate::model::PolicyKind;
use crate::world::{Labels, Network, Pod, Service, Subject, Unreadable};
use sidewall_api::{ContainerNetworkPolicy, MultiNetworkPolicy, NetworkPolicy, SidecarProxy};
use std::fmt;

/// An object's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Something that became otherwise.
///
/// An object that is given takes the place of the one of its name, so the same change twice is as good as once.
#[derive(Clone, Debug)]
pub enum Change {
    /// A pod came, or is otherwise: its addresses, labels, ports, phase.
    Pod(Pod),
    /// A pod is no more.
    PodGone(Named),
    /// A namespace has these labels.
    Namespace(String, Labels),
    /// A namespace is no more.
    NamespaceGone(String),
    /// A Service came, or what stands behind it is otherwise.
    Service(Service),
    /// A Service is no more.
    ServiceGone(Named),
    /// A ContainerNetworkPolicy came, or is otherwise.
    Policy(Box<ContainerNetworkPolicy>),
    /// A NetworkPolicy came, or is otherwise.
    NetworkPolicy(Box<NetworkPolicy>),
    /// A MultiNetworkPolicy came, or is otherwise.
    MultiNetworkPolicy(Box<MultiNetworkPolicy>),
    /// A SidecarProxy came, or is otherwise.
    Proxy(Box<SidecarProxy>),
    /// A policy is no more.
    PolicyGone(PolicyKind, Named),
    /// These, and no others, are the policies that can't be understood.
    Unreadable(Vec<Unreadable>),
    /// Where things are.
    Network(Network),
    /// A pod is to have rules, or is otherwise: a container has started in a new cgroup, for example.
    Subject(Subject),
    /// A pod is to have no rules any more.
    SubjectGone(Named),
}

impl Named {
    /// The name of an object.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
