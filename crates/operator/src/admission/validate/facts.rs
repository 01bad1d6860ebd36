//! What the caller found out before an answer.

use std::collections::BTreeMap;
use std::fmt;

use sidewall_api::{ContainerNetworkPolicy, PortProtocol, SidecarProxy};
use sidewall_policy::lint::SeenPod;

use super::Access;
use crate::admission::inject::Surroundings;
use crate::known::slim::SlimContainer;
use crate::proxies::secrets::SecretContent;

/// What was found out. What is left empty is taken for unknown; where it decides, that refuses.
#[derive(Default)]
pub struct Facts<'a> {
    /// What the requester may do, of what [`super::Question::wants`] asks about.
    pub access: BTreeMap<Access, Permission>,
    /// What is in the Secrets. Only those that he may read are looked at.
    pub contents: BTreeMap<String, Content>,
    /// The time, in seconds since 1970; none where certificates are not to be held against it.
    pub now: Option<i64>,
    /// The namespace; none where it is not known.
    pub namespace: Option<&'a Surroundings>,
    /// The pods of the namespace that have not ended; none where they are not known.
    pub pods: Option<&'a [KnownPod<'a>]>,
    /// The SidecarProxies of the namespace that can be read.
    pub proxies: &'a [&'a SidecarProxy],
    /// The ContainerNetworkPolicies of the namespace that can be read.
    pub policies: &'a [&'a ContainerNetworkPolicy],
}

// By hand: what is in Secrets is not printed, and neither is what is in others' objects.
impl fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { access, contents, now, namespace: _, pods, proxies, policies } = self;
        let mut shown = f.debug_struct("Facts");
        shown.field("access", access).field("contents", contents).field("now", now);
        shown.field("pods", &pods.map(<[_]>::len)).field("proxies", &proxies.len());
        shown.field("policies", &policies.len()).finish_non_exhaustive()
    }
}

/// Whether somebody may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// He may.
    Allowed,
    /// He may not.
    Denied,
    /// The API server could not be asked, for this reason. Then he may not.
    Unanswered(String),
}

/// What there is of a Secret.
#[derive(Debug)]
pub enum Content {
    /// It is there.
    Found(SecretContent),
    /// There is none.
    Missing,
    /// It could not be read, for this reason.
    Unread(String),
}

/// A pod that is there.
#[derive(Clone, Copy, Debug)]
pub struct KnownPod<'a> {
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Whether it shares its node's network.
    pub host_network: bool,
    /// Its containers, of every sort, with the ports that they declare; none where they are not known.
    pub containers: Option<&'a [SlimContainer]>,
}

impl SeenPod for KnownPod<'_> {
    fn labels(&self) -> &BTreeMap<String, String> {
        self.labels
    }

    fn host_network(&self) -> bool {
        self.host_network
    }

    fn declares(&self, name: &str, protocol: PortProtocol) -> bool {
        // Of a pod whose containers are not known nothing can be said to be missing.
        self.containers.is_none_or(|containers| {
            let mut ports = containers.iter().flat_map(|container| &container.ports);
            ports.any(|port| port.name == name && port.protocol() == protocol.as_str())
        })
    }
}
