//! What can be in force in a pod: nothing, ours, or what there is already; as much of it as is asked for.

use crate::Result;
use crate::input::{self, Kind, Transport, Version};
use crate::iptables::{self, Flavour};
use crate::multi;
use crate::pod::{Groups, USER, Way};
use serde::{Deserialize, Serialize};
use sidewall_netfilter::{Kernel, LoadOptions};
use sidewall_netns::NetNs;
use sidewall_policy::index::{Change, Index, SubjectId};
use sidewall_policy::ruleset::Ruleset;
use sidewall_policy::{Generation, ResolvedPod, Subject, World, compile};

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Walls {
    /// Nothing; nor is there connection tracking.
    None,
    /// Ours.
    Ours {
        /// How containers are told apart.
        by: By,
        /// Which kind the policies are of.
        kind: Kind,
        /// How much there is.
        load: Load,
    },
    /// What is written through `iptables-restore`.
    Iptables {
        /// By which program.
        flavour: Flavour,
        /// In which shape.
        style: Style,
        /// How much there is.
        load: Load,
    },
}

/// How containers are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    /// By cgroup.
    Cgroup,
    /// By user.
    Uid,
}

/// The shape of rules that others write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Style {
    /// By hand: one chain, a rule for each peer, `owner` where the pod sends.
    Owner,
    /// As multi-networkpolicy-iptables writes them: a chain for each policy, and two for each of its rules.
    Multi,
}

impl Style {
    /// Its name in rows and plots.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner chain",
            Self::Multi => "multi-networkpolicy style",
        }
    }
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Load {
    /// One policy that allows so many pods.
    Pods(usize),
    /// Policies that allow so many address blocks.
    Blocks(usize),
    /// So many policies, each with a few pods and a port.
    Policies(usize),
}

impl Load {
    /// The last of the peers: the one that is spoken with.
    pub const fn last(self) -> usize {
        match self {
            Self::Pods(count) | Self::Blocks(count) => count - 1,
            Self::Policies(count) => count * input::policies::PEERS_EACH - 1,
        }
    }
}

impl Walls {
    /// The last peer that they allow.
    pub const fn last(self) -> usize {
        match self {
            Self::None => 0,
            Self::Ours { load, .. } | Self::Iptables { load, .. } => load.last(),
        }
    }

    /// How containers are told apart.
    pub const fn by(self) -> By {
        match self {
            Self::Ours { by, .. } => by,
            Self::None | Self::Iptables { .. } => By::Cgroup,
        }
    }

    /// The program that this needs and that is not here.
    pub fn missing(self) -> Option<&'static str> {
        match self {
            Self::Iptables { flavour, .. } if !flavour.exists() => Some(flavour.name()),
            _ => None,
        }
    }

    /// The policies and the pod of ours.
    ///
    /// # Errors
    /// When the cgroups can't be read.
    pub fn world(self, groups: &Groups, way: Way, version: Version, transport: Transport) -> Result<(World, Subject)> {
        let Self::Ours { by, kind, load } = self else { return Err("these are not ours".into()) };
        let identities = groups.identities(by)?;
        Ok(match load {
            Load::Pods(count) => input::walled(identities, version, input::Peers::Pods, count),
            Load::Blocks(count) => input::walled(identities, version, input::Peers::Blocks, count),
            Load::Policies(count) => {
                input::policies::walled(identities, kind, way == Way::Loopback, version, transport, count)
            }
        })
    }

    /// Makes the rules, to be put up in as many places as are wanted.
    ///
    /// # Errors
    /// When the cgroups can't be read.
    pub fn prepare(self, groups: &Groups, way: Way, version: Version, transport: Transport) -> Result<Rules> {
        let peers = |count| (0..count).map(move |index| input::peer(version, index));
        Ok(match self {
            Self::None => Rules::None,
            Self::Ours { .. } => {
                let (world, subject) = self.world(groups, way, version, transport)?;
                let pod = Cluster::new(world, subject)?.resolve()?;
                Rules::Ours(Box::new(compile(&pod, Generation::FIRST).ruleset))
            }
            Self::Iptables { flavour, style, load } => {
                let script = match (style, load) {
                    (Style::Owner, Load::Policies(count)) => {
                        let policies = input::policies::plain(way, version, count);
                        iptables::policies(way, USER, transport, policies)
                    }
                    (Style::Owner, Load::Pods(count) | Load::Blocks(count)) => {
                        iptables::script(way, USER, peers(count))
                    }
                    (Style::Multi, Load::Policies(count)) => {
                        multi::script(transport, input::policies::plain(way, version, count))
                    }
                    (Style::Multi, Load::Pods(count) | Load::Blocks(count)) => multi::script(
                        transport,
                        [input::policies::Plain { peers: peers(count).collect(), ports: vec![] }],
                    ),
                };
                Rules::Script { flavour, script }
            }
        })
    }
}

/// A cluster with one pod that is to have rules, kept as an agent keeps it.
pub struct Cluster {
    index: Index,
    subject: SubjectId,
}

impl Cluster {
    /// Takes it in.
    ///
    /// # Errors
    /// None that can be thought of.
    pub fn new(world: World, subject: Subject) -> Result<Self> {
        let mut index = Index::new(world);
        let concerned = index.apply(Change::Subject(subject));
        Ok(Self { index, subject: concerned.into_iter().next().ok_or("a new subject concerns nobody")? })
    }

    /// What all policies mean for the pod.
    ///
    /// # Errors
    /// None that can be thought of.
    pub fn resolve(&mut self) -> Result<ResolvedPod> {
        self.index.resolve(self.subject).ok_or_else(|| "the subject has gone".into())
    }
}

/// Rules, ready to be put up.
pub enum Rules {
    /// None.
    None,
    /// Ours.
    Ours(Box<Ruleset>),
    /// What `iptables-restore` reads.
    Script {
        /// Which.
        flavour: Flavour,
        /// What it reads.
        script: String,
    },
}

impl Rules {
    /// Puts them up in a namespace that has none.
    ///
    /// # Errors
    /// What the kernel or the program says.
    pub fn put_up(&self, ns: &NetNs) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Ours(ruleset) => Ok(Kernel::open(ns)?.load(ruleset, LoadOptions::default()).map(drop)?),
            Self::Script { flavour, script } => iptables::restore(ns, *flavour, script),
        }
    }

    /// How many chains and rules there are, in words.
    pub fn size(&self) -> String {
        match self {
            Self::None => "no rules".to_owned(),
            Self::Ours(ruleset) => size(ruleset),
            Self::Script { script, .. } => {
                let count = |start| script.lines().filter(|line| line.starts_with(start)).count();
                format!("{} chains, {} rules", count(":"), count("-A"))
            }
        }
    }
}

/// How large a ruleset is, in words.
pub fn size(ruleset: &Ruleset) -> String {
    let tables = &ruleset.tables;
    let chains: usize = tables.iter().map(|table| table.chains.len()).sum();
    let rules: usize = tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
    let sets: usize = tables.iter().map(|table| table.sets.len()).sum();
    let elements: usize = tables.iter().flat_map(|table| &table.sets).map(|set| set.elements.len()).sum();
    format!("{chains} chains, {rules} rules, {sets} sets and maps with {elements} elements")
}
