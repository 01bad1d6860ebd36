//! A pod of this node: what the API server says of it, what runs of it, and how its rules stand.

use crate::devices::{self, Device, Situation};
use crate::enforceability::{CgroupPlace, ContainerFacts, Decided, Obstacle, PodFacts, Preference, decide};
use crate::memory::{self, PodUid, Remembered, Rules};
use crate::running::Running;
use crate::waiter::Waiter;
use crate::wall::Wall;
use crate::watching::Watching;
use jiff::Timestamp;
use sidewall_api::enforcement::{EnforcementState, IdentityKind};
use sidewall_cluster::LocalPod;
use sidewall_netfilter::Features;
use sidewall_netns::NsId;
use sidewall_policy::Generation;
use sidewall_policy::Subject;
use sidewall_policy::index::{Named, SubjectId};
use sidewall_policy::model::{Identities, UserIdentities};
use sidewall_runtime_ids::{ContainerId, SandboxId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

/// A pod of this node.
#[derive(Debug)]
pub struct Pod {
    /// What the API server says; none while it has said nothing.
    pub api: Option<LocalPod>,
    /// What runs; none before the sandbox is there and after it has gone.
    pub sandbox: Option<Sandbox>,
    /// Its place in the policy index.
    pub subject: Option<SubjectId>,
    /// The kernel's side.
    pub wall: Slot,
    /// Whether any rules of ours stand in its namespace: whoever is not known is denied.
    pub walled: bool,
    /// What stands against its walls.
    pub obstacles: BTreeSet<Obstacle>,
    /// What its claims about networks get wrong.
    pub remarks: Vec<String>,
    /// How its containers are told apart.
    pub identity: Option<IdentityKind>,
    /// What could not be done, and when it is tried again.
    pub fault: Option<Fault>,
    /// Who waits for its rules to be in force.
    pub waiters: Vec<Waiter>,
    /// The generation that an earlier run of the agent loaded.
    pub remembered: Option<Generation>,
    /// Something was changed in its namespace while somebody was at it: its devices, or its tables alone.
    pub again: Option<bool>,
    /// It ran already when it was found, without rules: whatever it did before, nobody judged.
    pub older: bool,
    /// The state that was told last, and since when it is so.
    pub told: (EnforcementState, Timestamp),
}

/// The kernel's side of a pod.
#[derive(Debug, Default)]
pub enum Slot {
    /// There is no namespace.
    #[default]
    Empty,
    /// Nothing is done there.
    Idle(Box<Wall>),
    /// Something is being done there.
    Busy,
}

/// What could not be done.
#[derive(Debug)]
pub struct Fault {
    /// Why, for people.
    pub message: String,
    /// When it is tried again.
    pub again: Instant,
    /// How often it failed.
    pub times: u32,
}

/// A pod's sandbox.
#[derive(Debug)]
pub struct Sandbox {
    /// The runtime's name of it.
    pub id: SandboxId,
    /// The pod's identity, as the runtime has it.
    pub uid: Option<PodUid>,
    /// Its network namespace.
    pub netns: NsId,
    /// The runtime handler.
    pub handler: String,
    /// What CNI made.
    pub made: BTreeMap<String, memory::Device>,
    /// What the runtime has of CNI.
    pub reported: Vec<IpAddr>,
    /// What is in the namespace.
    pub devices: Vec<Device>,
    /// Sockets of others in it.
    pub foreign: BTreeSet<String>,
    /// Its containers, by the runtime's names.
    pub containers: BTreeMap<ContainerId, Container>,
    /// When it was last heard of.
    pub seen: Instant,
    /// Whether the runtime has ever had it among what it has. It has not until the pod's whole network is made.
    pub listed: bool,
    /// Who notices what changes in it.
    pub watching: Option<Watching>,
}

/// A container that runs, or is about to.
#[derive(Debug)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// What it is.
    pub running: Running,
    /// When it was last heard of.
    pub seen: Instant,
}

/// What holds for every pod of the node.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// What the kernel can do.
    pub features: Features,
    /// The cgroup of all pods.
    pub pods: Option<CgroupPlace>,
    /// How containers are to be told apart.
    pub preference: Preference,
    /// Further runtime handlers that use the pod's namespace.
    pub handlers: BTreeSet<String>,
    /// Whether NRI tells of containers before they start.
    pub nri: bool,
}

impl Default for Pod {
    /// A pod of which nothing is known.
    fn default() -> Self {
        Self {
            api: None,
            sandbox: None,
            subject: None,
            wall: Slot::Empty,
            walled: false,
            obstacles: BTreeSet::new(),
            remarks: Vec::new(),
            identity: None,
            fault: None,
            waiters: Vec::new(),
            remembered: None,
            again: None,
            older: false,
            told: (EnforcementState::Pending, Timestamp::now()),
        }
    }
}

impl Pod {
    /// Whether its rules are put nowhere: there is no namespace of its own, or it shall have none.
    pub fn is_nowhere(&self) -> bool {
        self.obstacles.iter().any(|obstacle| matches!(obstacle, Obstacle::HostNetwork | Obstacle::Exempt))
    }

    /// Whether something could be done in its namespace now.
    pub const fn is_idle(&self) -> bool {
        matches!(self.wall, Slot::Idle(_))
    }

    /// The kernel's side, to do something there; none where somebody is at it, or there is no namespace.
    pub fn take_wall(&mut self) -> Option<Box<Wall>> {
        match std::mem::replace(&mut self.wall, Slot::Busy) {
            Slot::Idle(wall) => Some(wall),
            other => {
                self.wall = other;
                None
            }
        }
    }

    /// Whether nothing of it is left.
    pub fn is_nothing(&self) -> bool {
        self.api.is_none() && self.sandbox.is_none() && self.waiters.is_empty()
    }

    /// What its walls depend on; none while that is not known, or its containers can't be numbered, which it then remarks.
    pub fn subject(&mut self, node: &NodeFacts, exempt: bool) -> Option<Subject> {
        let api = self.api.as_ref()?;
        match &self.sandbox {
            // What runs may be another pod's of the same name, which is ending.
            Some(sandbox) if sandbox.uid.as_ref().is_some_and(|uid| uid.as_str() != api.runtime_uid) => return None,
            None if !api.host_network || api.ended() => return None,
            _ => {}
        }
        let situation = self.situation(api);
        let facts = self.facts(api, node);
        let Decided { identities, mut obstacles } = choose(&facts, node);
        if exempt {
            obstacles.insert(Obstacle::Exempt);
        }
        self.identity = identities.as_ref().filter(|_| !exempt).map(kind);
        let identities = identities.unwrap_or_else(|| Identities::Uid(UserIdentities::default()));
        let Situation { interface, addresses, networks } = situation;
        let mut remarks = networks.faults.clone();
        let subject = api.subject(addresses, interface, identities, networks);
        self.obstacles = obstacles;
        let subject = subject.map_err(|error| remarks.push(error)).ok();
        self.remarks = remarks;
        subject
    }

    fn situation(&self, api: &LocalPod) -> Situation {
        match &self.sandbox {
            None => Situation::default(),
            Some(sandbox) => {
                devices::situation(&sandbox.devices, &sandbox.made, &sandbox.reported, |own| api.claimed_networks(own))
            }
        }
    }

    /// What runs of it. Of what has not started, the user that the manifest asks for is who it will be: without that,
    /// nobody could be told by user before its first instruction.
    fn facts(&self, api: &LocalPod, node: &NodeFacts) -> PodFacts {
        let mut containers = BTreeMap::new();
        for (id, container) in api.numbered.iter().flatten() {
            let of_it = |running: &&Container| running.name == container.name;
            let running = || self.sandbox.iter().flat_map(|sandbox| sandbox.containers.values()).filter(of_it);
            let asked = api.containers.iter().find(|asked| asked.name == container.name && !api.own_users);
            let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
            let latest = running().max_by_key(|container| container.seen);
            let capabilities = running().map(|container| container.running.capabilities).reduce(|a, b| a | b);
            containers.insert(
                *id,
                ContainerFacts {
                    name: container.name.clone(),
                    cgroups: running().filter_map(|container| container.running.cgroup).collect(),
                    user: latest.map_or_else(|| number(asked?.user), |latest| Some(latest.running.user)),
                    group: latest.map_or_else(|| number(asked?.group), |latest| Some(latest.running.group)),
                    capabilities,
                },
            );
        }
        PodFacts {
            host_network: api.host_network,
            handler: self.sandbox.as_ref().map(|sandbox| sandbox.handler.clone()).unwrap_or_default(),
            pods: node.pods,
            containers,
            foreign: self.sandbox.as_ref().map(|sandbox| sandbox.foreign.clone()).unwrap_or_default(),
            elsewhere: self.sandbox.iter().flat_map(Sandbox::elsewhere).collect(),
        }
    }

    /// What is remembered of it, once its rules are these.
    pub fn remember(&self, name: &Named, generation: Option<Generation>) -> Option<Remembered> {
        let sandbox = self.sandbox.as_ref()?;
        Some(Remembered {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            uid: sandbox.uid.clone()?,
            sandbox: sandbox.id.as_str().to_owned(),
            netns: sandbox.netns,
            devices: sandbox.made.clone(),
            rules: generation.map(|generation| Rules { generation: generation.get() }),
        })
    }

    /// Who waits, taken out.
    pub fn take_waiters(&mut self) -> Vec<Waiter> {
        std::mem::take(&mut self.waiters)
    }
}

/// Without NRI nobody tells of a container's cgroup before its first instruction; where each has a user of its own, that
/// tells it from the first packet on.
fn choose(facts: &PodFacts, node: &NodeFacts) -> Decided {
    if node.preference == Preference::Auto && !node.nri && !facts.host_network {
        for preference in [Preference::Uid, Preference::Gid] {
            let decided = decide(facts, node.features, preference, &node.handlers);
            let apart = |obstacle: &Obstacle| !matches!(obstacle, Obstacle::Alike(_) | Obstacle::Nameless(_));
            if decided.obstacles.iter().all(apart) {
                return decided;
            }
        }
    }
    decide(facts, node.features, node.preference, &node.handlers)
}

const fn kind(identities: &Identities) -> IdentityKind {
    match identities {
        Identities::Cgroup { .. } => IdentityKind::Cgroup,
        Identities::Uid(_) => IdentityKind::Uid,
        Identities::Gid(_) => IdentityKind::Gid,
    }
}

impl Sandbox {
    /// The containers that are not in its network namespace.
    fn elsewhere(&self) -> impl Iterator<Item = String> + '_ {
        let containers = self.containers.values().filter(|container| container.running.netns != self.netns);
        containers.map(|container| container.name.clone())
    }

    /// Forgets the containers that are not there any more, but for those heard of since a moment, and says which they were.
    pub fn forget_containers(&mut self, there: &BTreeSet<ContainerId>, since: Instant) -> Vec<ContainerId> {
        let gone = |(id, container): (&ContainerId, &Container)| {
            (!there.contains(id) && container.seen < since).then(|| id.clone())
        };
        let gone: Vec<ContainerId> = self.containers.iter().filter_map(gone).collect();
        for id in &gone {
            self.containers.remove(id);
        }
        gone
    }
}
