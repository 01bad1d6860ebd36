//! The rules of one pod in the kernel, through all their generations.
//!
//! A node's agent has many pods, and a cluster that tells it what changes one thing at a time: for that there is
//! [`sidewall_policy::index::Walls`]. Here the files are read anew as a whole, for one pod, which has a guard before its
//! rules and may have none between two rulesets, so that numbers must not begin anew. Both follow older rules in the same
//! way: what stays is not written again, and where anything is taken away the generation is another.

use std::collections::{BTreeMap, BTreeSet};

use sidewall_netfilter::{Because, Features, Kernel, LoadOptions, LoopbackLink, Missing, Repaired, Way, degrade};
use sidewall_netns::NetNs;
use sidewall_policy::compile::compile_next;
use sidewall_policy::{Compiled, Generation, ResolvedPod, Ruleset, Subject, compile, guard};
use sidewall_sandbox::LivePod;

use crate::error::Error;

/// The walls of a pod.
pub struct Walls {
    kernel: Kernel,
    features: Features,
    options: LoadOptions,
    /// The number that was given last.
    last: Option<Generation>,
    /// What is in force.
    stands: Option<Stands>,
    /// What this kernel could not do of all that was asked of it so far.
    missing: BTreeSet<Missing>,
    /// What decisions were counted under rules that have been replaced.
    counted: u64,
    /// The split pod's link by which loopback is open.
    link: Option<LoopbackLink>,
}

/// Rules in force.
struct Stands {
    /// As the policies ask for them.
    compiled: Compiled,
    /// As this kernel has them.
    rules: Ruleset,
}

/// What stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// Rules of this generation.
    Rules(Generation),
    /// No policy selects the pod, so there are none.
    None,
}

/// How what stands now came into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// As a whole: nothing stood before, or for this reason.
    Loaded(Option<Because>),
    /// By what differs.
    Amended {
        /// How many elements were added.
        added: usize,
        /// How many elements were deleted.
        deleted: usize,
        /// How many chains were written anew.
        chains: usize,
    },
    /// It stood there already.
    Nothing,
    /// The rules were taken away.
    Unloaded,
}

impl Walls {
    /// Opens the kernel's side of a pod. Nothing is loaded.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn open(pod: &LivePod, features: Features) -> Result<Self, Error> {
        Ok(Self {
            kernel: Kernel::open(pod.netns())?,
            features,
            options: features.options(),
            last: None,
            stands: None,
            missing: BTreeSet::new(),
            counted: 0,
            link: None,
        })
    }

    /// Opens loopback to a split pod's link, behind the rules that stand.
    ///
    /// # Errors
    /// [`Error::Loopback`] where none stand, or others than were loaded.
    pub fn open_loopback(&mut self, namespace: &NetNs, device: &str) -> Result<(), Error> {
        let Some(stands) = &self.stands else {
            return Err(sidewall_netfilter::LoopbackError::NotStanding { device: device.to_owned() }.into());
        };
        self.link = Some(LoopbackLink::open(&mut self.kernel, namespace, device, &stands.rules)?);
        Ok(())
    }

    /// Loads what stands while the pod's policies are being read: default deny.
    ///
    /// # Errors
    /// As [`Walls::raise`].
    pub fn guard(&mut self, subject: &Subject) -> Result<(), Error> {
        self.put(&guard(subject)).map(drop)
    }

    /// Puts a pod's rules in the place of what stands, by what differs where that can be done. A pod that no policy selects
    /// has none.
    ///
    /// # Errors
    /// [`Error::Lacking`] where this kernel can't enforce them, [`Error::Load`]; what stood before still does.
    pub fn raise(&mut self, pod: &ResolvedPod) -> Result<(Raised, Entry), Error> {
        if pod.is_selected() {
            return self.put(pod).map(|(generation, entry)| (Raised::Rules(generation), entry));
        }
        let entry = if self.stands.is_some() { Entry::Unloaded } else { Entry::Nothing };
        let counters = self.decisions();
        if let Some(link) = self.link.take() {
            link.close()?;
        }
        self.kernel.unload()?;
        self.counted += counters.values().sum::<u64>();
        self.stands = None;
        Ok((Raised::None, entry))
    }

    fn put(&mut self, pod: &ResolvedPod) -> Result<(Generation, Entry), Error> {
        let before = self.stands.take();
        let done = match &before {
            None => self.load(pod),
            Some(before) => self.follow(pod, before),
        };
        let (compiled, rules, entry) = match done {
            Ok(done) => done,
            Err(error) => {
                // What was in force before still is; the next look finds out whether anything of it is not.
                self.stands = before;
                return Err(error);
            }
        };
        let generation = compiled.ruleset.generation;
        self.last = Some(generation);
        self.stands = Some(Stands { compiled, rules });
        Ok((generation, entry))
    }

    /// Where nothing stands.
    fn load(&mut self, pod: &ResolvedPod) -> Result<(Compiled, Ruleset, Entry), Error> {
        // Flows may bear numbers from before the rules were taken away.
        let generation = match self.last {
            None => Generation::FIRST,
            Some(last) => self.kernel.next_generation(last)?,
        };
        let compiled = compile(pod, generation);
        let rules = self.lesser(&compiled.ruleset)?;
        // Whether it fails half-way or not, the number is not fresh any more.
        self.last = Some(generation);
        self.kernel.load(&rules, self.options)?;
        Ok((compiled, rules, Entry::Loaded(None)))
    }

    fn follow(&mut self, pod: &ResolvedPod, before: &Stands) -> Result<(Compiled, Ruleset, Entry), Error> {
        let (compiled, _) = compile_next(pod, &before.compiled);
        let current = before.rules.generation;
        let rules = self.lesser(&compiled.ruleset)?;
        if rules.generation != current {
            // The number is the one that the compiler took; from now on no flow bears it.
            let next = self.kernel.next_generation(current)?;
            debug_assert_eq!(next, rules.generation);
        }
        let counters = self.decisions();
        let changed = self.kernel.change(&before.rules, &rules, self.options)?;
        self.counted += changed.forgets(&counters, &rules);
        let entry = match changed.way {
            Way::Nothing => Entry::Nothing,
            Way::Amended { added, deleted, chains } => Entry::Amended { added, deleted, chains },
            Way::Loaded(because) => Entry::Loaded(Some(because)),
        };
        Ok((compiled, rules, entry))
    }

    /// The rules as this kernel can enforce them.
    fn lesser(&mut self, rules: &Ruleset) -> Result<Ruleset, Error> {
        let (lesser, missing) = degrade(rules, self.features)?;
        self.missing.extend(missing);
        Ok(lesser)
    }

    /// What this kernel could not do of all that was asked of it so far.
    pub const fn missing(&self) -> &BTreeSet<Missing> {
        &self.missing
    }

    /// How many packets the rules have judged by a decision that is logged, since the first were loaded. It is a little
    /// less where rules were replaced or taken away meanwhile: what is counted in that very moment is not seen.
    pub fn counted(&mut self) -> u64 {
        let now = if self.stands.is_some() { self.decisions() } else { BTreeMap::new() };
        self.counted + now.values().sum::<u64>()
    }

    /// The packets that each logged decision was made of, by the rules in force.
    fn decisions(&mut self) -> BTreeMap<String, u64> {
        // They are not worth an error: they only tell how much the log leaves out.
        self.kernel.decisions().unwrap_or_default()
    }

    /// Looks whether the kernel still holds what was loaded, and loads it again where it does not.
    ///
    /// Gives what was wrong; nothing where all was well.
    ///
    /// # Errors
    /// [`Error::Netlink`], [`Error::Load`] where it can't be read or repaired.
    pub fn repair(&mut self) -> Result<Option<Repaired>, Error> {
        let Some(stands) = &self.stands else { return Ok(None) };
        if self.kernel.is_untouched()? {
            if let Some(link) = &self.link
                && link.repair(&mut self.kernel, &stands.rules)?
            {
                tracing::warn!("somebody had closed loopback to the split pod's link: it is open again");
            }
            return Ok(None);
        }
        let rules = stands.rules.clone();
        let counters = self.decisions();
        let repaired = self.kernel.repair(&rules, self.options)?;
        if repaired.differences.is_empty() {
            return Ok(None);
        }
        // They have begun anew, and the next look takes it from the beginning.
        self.counted += counters.values().sum::<u64>();
        Ok(Some(repaired))
    }
}

#[cfg(test)]
mod tests;
