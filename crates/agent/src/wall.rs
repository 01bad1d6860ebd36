//! The rules of one pod in the kernel: everything that is done there, and nothing decided.
//!
//! All of it blocks, for milliseconds as a rule, and so runs on threads that may.

use crate::devices::{Device, devices};
use crate::enforceability::CgroupPlace;
use crate::flows::Flows;
use crate::foreign::Owners;
use sidewall_flowlog::{Counts, Followed};
use sidewall_netfilter::{Because, Features, Kernel, LoadError, NetlinkError, Unenforceable, Way, degrade};
use sidewall_netns::sockets::Sockets;
use sidewall_netns::{Links, NetNs, NsId};
use sidewall_policy::index::{Fresh, Planned, Step};
use sidewall_policy::{Compiled, Generation, ResolvedPod, Ruleset, Subject, compile, guard};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thiserror::Error;

/// The rules of one pod in the kernel.
#[derive(Debug)]
pub struct Wall {
    netns: NetNs,
    kernel: Kernel,
    features: Features,
    /// Who reads what its rules log.
    followed: Option<Followed>,
    /// What decisions were counted by rules that have been replaced, since somebody reads.
    counted: u64,
    /// What the rules had counted before.
    before: u64,
}

/// Why rules can't be put in force. What stood before still stands.
#[derive(Debug, Error)]
pub enum WallError {
    /// The kernel lacks what they need.
    #[error(transparent)]
    Unenforceable(#[from] Unenforceable),
    /// The kernel refused them.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The namespace can't be looked at.
    #[error(transparent)]
    Namespace(#[from] sidewall_netns::Error),
}

/// How rules came into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// They stood already, and were taken over.
    Adopted,
    /// As a whole.
    Loaded(Option<Because>),
    /// As a whole, in the place of an earlier run's rules, which could not be taken over: why, in words.
    Replaced(Vec<String>),
    /// By what differs.
    Amended,
    /// Nothing differed.
    Nothing,
    /// They were taken away.
    Unloaded,
}

impl Wall {
    /// Opens the kernel's side of a pod. Nothing is changed.
    ///
    /// # Errors
    /// [`WallError::Netlink`].
    pub fn open(netns: NetNs, features: Features) -> Result<Self, WallError> {
        let kernel = Kernel::open(&netns)?;
        Ok(Self { netns, kernel, features, followed: None, counted: 0, before: 0 })
    }

    /// The pod's network namespace.
    pub const fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Which namespace it is.
    pub fn id(&self) -> NsId {
        self.netns.id()
    }

    /// The pod's devices but loopback, as they are.
    ///
    /// # Errors
    /// [`WallError::Namespace`].
    pub fn devices(&self) -> Result<Vec<Device>, WallError> {
        Ok(devices(&mut Links::of(&self.netns)?)?)
    }

    /// The pod's devices, and whose sockets there are not its own. `own` are the cgroups of its containers.
    ///
    /// # Errors
    /// [`WallError::Namespace`].
    pub fn look_around(
        &self,
        owners: &Owners,
        own: &BTreeSet<CgroupPlace>,
    ) -> Result<(Vec<Device>, BTreeSet<String>), WallError> {
        // To enter a namespace takes a thread of its own: once is enough.
        let (links, sockets) = self.netns.run(|| (Links::current(), Sockets::current()))?;
        Ok((devices(&mut links?)?, owners.foreign(&mut sockets?, own)?))
    }

    /// Whether rules of ours stand, whoever loaded them.
    ///
    /// # Errors
    /// [`WallError::Netlink`].
    pub fn has_rules(&mut self) -> Result<bool, WallError> {
        Ok(self.kernel.has_tables()?)
    }

    /// Puts rules in force where it is not known what stands. Where it is these very rules, in the generation that is
    /// remembered, they are taken over as they stand, and no flow notices anything.
    ///
    /// # Errors
    /// [`WallError`].
    pub fn load(&mut self, fresh: &mut Fresh, remembered: Option<Generation>) -> Result<Entry, WallError> {
        let mut entry = Entry::Loaded(None);
        if let Some(generation) = remembered
            && self.has_rules()?
        {
            let rules = self.lesser(&fresh.number(generation).ruleset)?;
            match self.take_over(&rules)? {
                differences if differences.is_empty() => return Ok(Entry::Adopted),
                differences => entry = Entry::Replaced(differences),
            }
        }
        let generation = self.kernel.fresh_generation()?;
        let rules = self.lesser(&fresh.number(generation).ruleset)?;
        self.counted += self.decisions().values().sum::<u64>();
        self.kernel.load(&rules, self.features.options())?;
        Ok(entry)
    }

    /// Takes over the rules that stand, if it is these; says how they differ, and nothing where they are ours from now on.
    fn take_over(&mut self, rules: &Ruleset) -> Result<Vec<String>, WallError> {
        use sidewall_netfilter::Standing;
        if self.features.owner_persist {
            match self.kernel.adopt() {
                Ok(_) => {}
                // Loaded without ownership: loading anew gives it.
                Err(error @ LoadError::Unsupported { .. }) => return Ok(vec![error.to_string()]),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(match self.kernel.verify(rules)? {
            Standing::AsLoaded => Vec::new(),
            Standing::Drifted(differences) => differences.iter().map(ToString::to_string).collect(),
        })
    }

    /// Makes of rules that stand others.
    ///
    /// # Errors
    /// [`WallError`].
    pub fn change(&mut self, from: &Compiled, to: &Compiled) -> Result<Entry, WallError> {
        let current = from.ruleset.generation;
        let (from, to) = (self.lesser(&from.ruleset)?, self.lesser(&to.ruleset)?);
        if to.generation != current {
            // The number is the one that the compiler took; from now on no flow bears it.
            let next = self.kernel.next_generation(current)?;
            debug_assert_eq!(next, to.generation);
        }
        let decisions = self.decisions();
        let changed = self.kernel.change(&from, &to, self.features.options())?;
        self.counted += changed.forgets(&decisions, &to);
        Ok(match changed.way {
            Way::Nothing => Entry::Nothing,
            Way::Amended { .. } => Entry::Amended,
            Way::Loaded(because) => Entry::Loaded(Some(because)),
        })
    }

    /// Takes the rules away.
    ///
    /// # Errors
    /// [`WallError`].
    pub fn unload(&mut self) -> Result<Entry, WallError> {
        self.counted += self.decisions().values().sum::<u64>();
        self.kernel.unload()?;
        Ok(Entry::Unloaded)
    }

    /// Has what the rules log read, by what they mean. The log tells; nothing rests on it.
    ///
    /// # Errors
    /// In words.
    pub fn follow(&mut self, flows: &Flows, planned: &Planned, entry: &Entry) -> Result<(), String> {
        match planned.step {
            Step::Unload => {
                self.followed = None;
                Ok(())
            }
            Step::Load(_) | Step::Change { .. } => self.read(flows, planned.resolved(), *entry == Entry::Adopted),
        }
    }

    /// Has the log read again where nobody reads it: somebody else had it, or its socket failed.
    ///
    /// # Errors
    /// In words.
    pub fn follow_on(&mut self, flows: &Flows, resolved: &Arc<ResolvedPod>) -> Result<(), String> {
        match self.is_read() {
            true => Ok(()),
            false => self.read(flows, resolved, true),
        }
    }

    fn is_read(&self) -> bool {
        self.followed.as_ref().is_some_and(|followed| !followed.is_broken())
    }

    /// `counts`: the rules may have counted before.
    fn read(&mut self, flows: &Flows, resolved: &Arc<ResolvedPod>, counts: bool) -> Result<(), String> {
        let is_new = !self.is_read();
        self.followed = Some(flows.follow(&self.netns, self.followed.take(), Arc::clone(resolved))?);
        if is_new {
            self.counted = 0;
            self.before = if counts { self.counted_now() } else { 0 };
        }
        Ok(())
    }

    fn counted_now(&mut self) -> u64 {
        self.kernel.decisions().unwrap_or_default().values().sum()
    }

    /// How many judgements the rules have counted since somebody reads.
    fn counted(&mut self) -> u64 {
        let now: u64 = self.decisions().values().sum();
        (self.counted + now).saturating_sub(self.before)
    }

    /// The pod has ended: tells what is left, and that.
    pub fn end(mut self) {
        let counted = self.counted();
        if let Some(followed) = self.followed.take() {
            followed.end(Some(counted));
        }
    }

    /// Tells how many judgements were not logged because the rules limit that.
    pub fn account(&mut self) {
        if !self.followed.as_mut().is_some_and(|followed| !followed.is_broken() && followed.is_due()) {
            return;
        }
        let counted = self.counted();
        if let Some(followed) = &mut self.followed {
            followed.account(counted);
        }
    }

    /// The packets that were judged by decisions that are logged. They are not worth an error: they only tell how much the log
    /// leaves out. Where nothing was logged, nothing was counted.
    fn decisions(&mut self) -> BTreeMap<String, u64> {
        let logged = self.followed.as_ref().is_some_and(|followed| followed.counts() != Counts::default());
        if logged { self.kernel.decisions().unwrap_or_default() } else { BTreeMap::new() }
    }

    /// Denies everything, for a pod of which nothing is known.
    ///
    /// # Errors
    /// [`WallError`].
    pub fn guard(&mut self, subject: &Subject) -> Result<Entry, WallError> {
        let generation = self.kernel.fresh_generation()?;
        let rules = self.lesser(&compile(&guard(subject), generation).ruleset)?;
        self.kernel.load(&rules, self.features.options())?;
        Ok(Entry::Loaded(None))
    }

    /// Puts right what somebody else has changed; says what it was, in words. Costs next to nothing where nobody has changed
    /// any table of the namespace.
    ///
    /// # Errors
    /// [`WallError`].
    pub fn repair(&mut self, standing: &ResolvedPod, generation: Generation) -> Result<Vec<String>, WallError> {
        if self.kernel.is_untouched()? {
            return Ok(Vec::new());
        }
        let rules = self.lesser(&compile(standing, generation).ruleset)?;
        let repaired = self.kernel.repair(&rules, self.features.options())?;
        Ok(repaired.differences.iter().map(ToString::to_string).collect())
    }

    /// The rules as this kernel can enforce them.
    fn lesser(&self, rules: &Ruleset) -> Result<Ruleset, WallError> {
        Ok(degrade(rules, self.features)?.0)
    }
}
