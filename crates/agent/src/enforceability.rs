//! How the kernel is to tell a pod's containers apart, and what of their walls would not hold.
//!
//! Both are found from what runs: users, capabilities and cgroups as the runtime has set them, not as a pod's author wrote
//! them down. What is not enforced is never called enforced, so everything that stands against it has a name here.

use sidewall_flow::ContainerId;
use sidewall_netfilter::Features;
use sidewall_netns::{Capability, CapabilitySet, CgroupId};
use sidewall_policy::model::{Identities, UserIdentities};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What runs of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PodFacts {
    /// It has no network namespace of its own.
    pub host_network: bool,
    /// The runtime's handler that runs it; empty for the runtime's default one.
    pub handler: String,
    /// The cgroup below which all pods of the node are; none where the node has no cgroup v2.
    pub pods: Option<CgroupPlace>,
    /// Its containers.
    pub containers: BTreeMap<ContainerId, ContainerFacts>,
    /// Sockets in its network namespace of processes that are neither the pod's nor the node's, by what they are.
    pub foreign: BTreeSet<String>,
    /// Containers that run in another network namespace than the pod's.
    pub elsewhere: BTreeSet<String>,
}

/// A cgroup, as rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CgroupPlace {
    /// Its id.
    pub id: CgroupId,
    /// Its depth below the root.
    pub level: u8,
}

/// What runs of a container. What is not known yet, because it has not started, is absent.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ContainerFacts {
    /// Its name.
    pub name: String,
    /// Its cgroups; several while an older run of it is being torn down.
    pub cgroups: Vec<CgroupPlace>,
    /// The user that it runs as, as the node numbers users.
    pub user: Option<u32>,
    /// The group that it runs as.
    pub group: Option<u32>,
    /// What it, and what it executes, can come to have.
    pub capabilities: Option<CapabilitySet>,
}

/// How containers are to be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Preference {
    /// By cgroup where that can be, else by user, else by group.
    #[default]
    Auto,
    /// By cgroup or not at all.
    Cgroup,
    /// By user or not at all.
    Uid,
    /// By group or not at all.
    Gid,
}

/// What was decided for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// How rules tell its containers apart; none where the pod can have no rules.
    pub identities: Option<Identities>,
    /// What stands against its walls.
    pub obstacles: BTreeSet<Obstacle>,
}

/// What stands against a pod's walls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// It shares the node's network, and there is no namespace to put rules in.
    HostNetwork,
    /// Its namespace is exempt by the agent's configuration.
    Exempt,
    /// The runtime's handler does not send the pod's packets through its network namespace.
    Handler(String),
    /// A container has capabilities by which it gets round its rules.
    Capabilities {
        /// The container.
        container: String,
        /// Those of its capabilities that do.
        capabilities: CapabilitySet,
    },
    /// Containers that the kernel can't tell apart: what they do is nobody's, and denied wherever anybody is isolated.
    Alike(BTreeSet<String>),
    /// A container whose user or group is not known, or is the node's: what it does is nobody's.
    Nameless(String),
    /// Sockets of others in the pod's network namespace, which no container's rules are about.
    Foreign(String),
    /// A container that is not in the pod's network namespace, where its rules are.
    Elsewhere(String),
    /// The kernel can't match sockets by cgroup, and that is what was asked for.
    NoCgroups,
}

/// Whether walls stand all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// They stand, and somebody can get round them.
    Weakened,
    /// They deny more than the policies do.
    TooStrict,
    /// There are none.
    None,
}

/// The runtime handlers that send packets through the pod's network namespace.
pub const HANDLERS: [&str; 3] = ["", "runc", "crun"];

/// By which a container gets round any rule: packets that no hook sees, rules taken away, other namespaces entered.
const BYPASSES: [Capability; 3] = [Capability::NET_RAW, Capability::NET_ADMIN, Capability::SYS_ADMIN];

/// By which a container can be another one, where a user or a group is who it is.
const BECOMES_ANOTHER: [Capability; 2] = [Capability::SETUID, Capability::SETGID];

/// Decides how a pod's containers are told apart, and finds what stands against its walls.
///
/// `handlers` are further runtime handlers that the node's operator knows to use the pod's network namespace.
pub fn decide(facts: &PodFacts, features: Features, preference: Preference, handlers: &BTreeSet<String>) -> Decided {
    let mut obstacles = BTreeSet::new();
    if facts.host_network {
        return Decided { identities: None, obstacles: BTreeSet::from([Obstacle::HostNetwork]) };
    }
    if !HANDLERS.contains(&facts.handler.as_str()) && !handlers.contains(&facts.handler) {
        obstacles.insert(Obstacle::Handler(facts.handler.clone()));
    }
    obstacles.extend(facts.foreign.iter().cloned().map(Obstacle::Foreign));
    obstacles.extend(facts.elsewhere.iter().cloned().map(Obstacle::Elsewhere));
    let identities = identities(facts, features, preference, &mut obstacles);
    let mut dangerous: CapabilitySet = BYPASSES.into_iter().collect();
    if !matches!(identities, Identities::Cgroup { .. }) {
        dangerous = dangerous | BECOMES_ANOTHER.into_iter().collect();
    }
    for container in facts.containers.values() {
        let capabilities = container.capabilities.unwrap_or_default() & dangerous;
        if !capabilities.is_empty() {
            obstacles.insert(Obstacle::Capabilities { container: container.name.clone(), capabilities });
        }
    }
    Decided { identities: Some(identities), obstacles }
}

fn identities(
    facts: &PodFacts,
    features: Features,
    preference: Preference,
    obstacles: &mut BTreeSet<Obstacle>,
) -> Identities {
    let by_cgroup = by_cgroup(facts, features);
    let user = |found: &mut BTreeSet<Obstacle>| Identities::Uid(by_number(facts, |c| c.user, found));
    let group = |found: &mut BTreeSet<Obstacle>| Identities::Gid(by_number(facts, |c| c.group, found));
    match preference {
        Preference::Auto => {
            if let Some(identities) = by_cgroup {
                return identities;
            }
            let (mut of_users, mut of_groups) = (BTreeSet::new(), BTreeSet::new());
            let users = user(&mut of_users);
            let groups = group(&mut of_groups);
            let (identities, found) = match of_users.is_empty() || !of_groups.is_empty() {
                true => (users, of_users),
                false => (groups, of_groups),
            };
            obstacles.extend(found);
            identities
        }
        Preference::Cgroup => by_cgroup.unwrap_or_else(|| {
            obstacles.insert(Obstacle::NoCgroups);
            Identities::Uid(UserIdentities::default())
        }),
        Preference::Uid => user(obstacles),
        Preference::Gid => group(obstacles),
    }
}

/// None where the kernel or the node can't, or the containers are not all at one depth below the pods' cgroup.
fn by_cgroup(facts: &PodFacts, features: Features) -> Option<Identities> {
    let pods = facts.pods.filter(|_| features.socket_cgroup)?;
    let places = || facts.containers.values().flat_map(|container| &container.cgroups);
    // Before the first container has started any depth will do: nothing is compared at it.
    let level = places().next().map_or(pods.level.saturating_add(1), |place| place.level);
    if level <= pods.level || places().any(|place| place.level != level) {
        return None;
    }
    let containers = facts.containers.iter().map(|(id, container)| {
        let ids: BTreeSet<u64> = container.cgroups.iter().map(|place| place.id.0).collect();
        (*id, ids)
    });
    let containers = containers.filter(|(_, ids)| !ids.is_empty()).collect();
    Some(Identities::Cgroup { level, containers, pods_level: pods.level, pods: pods.id.0 })
}

/// By user or group. Who shares a number with another container or with the node has none, so that what it does is an
/// unknown process's: it is denied where anybody is isolated, and never taken for somebody else.
fn by_number(
    facts: &PodFacts,
    number: impl Fn(&ContainerFacts) -> Option<u32>,
    obstacles: &mut BTreeSet<Obstacle>,
) -> UserIdentities {
    let mut bearers: BTreeMap<u32, Vec<ContainerId>> = BTreeMap::new();
    for (id, container) in &facts.containers {
        match number(container) {
            // The node's own processes are 0; nobody of the pod may be taken for one.
            None | Some(0) => drop(obstacles.insert(Obstacle::Nameless(container.name.clone()))),
            Some(number) => bearers.entry(number).or_default().push(*id),
        }
    }
    let mut identities = UserIdentities { containers: BTreeMap::new(), node: BTreeSet::new() };
    for (number, ids) in bearers {
        if let [only] = ids[..] {
            identities.containers.insert(only, number);
        } else {
            let names = ids.iter().map(|id| facts.containers[id].name.clone()).collect();
            obstacles.insert(Obstacle::Alike(names));
        }
    }
    // Where no container could be 0, that is the node.
    if facts.containers.values().all(|container| number(container).is_some_and(|number| number != 0)) {
        identities.node.insert(0);
    }
    identities
}

impl Obstacle {
    /// Whether walls stand all the same.
    pub const fn weight(&self) -> Weight {
        match self {
            Self::HostNetwork | Self::Exempt => Weight::None,
            Self::Handler(_) | Self::Capabilities { .. } | Self::Foreign(_) | Self::Elsewhere(_) => Weight::Weakened,
            Self::Alike(_) | Self::Nameless(_) | Self::NoCgroups => Weight::TooStrict,
        }
    }

    /// A word for it that stays the same, for conditions and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::HostNetwork => "HostNetwork",
            Self::Exempt => "ExemptNamespace",
            Self::Handler(_) => "RuntimeHandler",
            Self::Capabilities { .. } => "Capabilities",
            Self::Alike(_) => "ContainersAlike",
            Self::Nameless(_) => "NoIdentity",
            Self::Foreign(_) => "ForeignSockets",
            Self::Elsewhere(_) => "OtherNamespace",
            Self::NoCgroups => "NoCgroupMatch",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostNetwork => f.write_str("it shares the node's network (hostNetwork), where no rules can be put"),
            Self::Exempt => f.write_str("its namespace is exempt by the agent's configuration (exemptNamespaces)"),
            Self::Handler(handler) => write!(
                f,
                "the runtime handler {handler:?} is not known to use the pod's network namespace; where it does, name it in \
                 the agent's runtimeHandlers"
            ),
            Self::Capabilities { container, capabilities } => write!(
                f,
                "container {container} can get {capabilities}, by which it gets round its rules; drop them in its \
                 securityContext"
            ),
            Self::Alike(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                write!(
                    f,
                    "the kernel can't tell {} apart; give each a runAsUser of its own, or use cgroup v2 and NRI",
                    names.join(" and ")
                )
            }
            Self::Nameless(container) => {
                write!(f, "container {container} has no user of its own other than 0; give it a runAsUser")
            }
            Self::Foreign(what) => write!(f, "{what} has sockets in the pod's network namespace"),
            Self::Elsewhere(container) => {
                write!(f, "container {container} does not run in the pod's network namespace: what it sends meets no rule")
            }
            Self::NoCgroups => f.write_str(
                "the kernel can't match sockets by cgroup (CONFIG_NFT_SOCKET, 5.13), or the pod's cgroups are not all at one \
                 depth; allow identity by user",
            ),
        }
    }
}

#[cfg(test)]
mod tests;
