//! The rules of one pod in the kernel, through all their generations.

use std::collections::BTreeSet;

use sidewall_flow::Decision;
use sidewall_netfilter::{Difference, Features, Kernel, LoadOptions, Standing};
use sidewall_policy::{Generation, ResolvedPod, Ruleset, Subject, compile, guard};
use sidewall_sandbox::LivePod;

use crate::error::Error;

/// The walls of a pod.
pub struct Walls {
    kernel: Kernel,
    options: LoadOptions,
    /// The last generation that was loaded, and its rules while they are in force.
    last: Option<Generation>,
    rules: Option<(ResolvedPod, Ruleset)>,
    /// What conntrack entries may still bear.
    used: BTreeSet<Generation>,
    /// What decisions were counted under rules that have been replaced.
    counted: u64,
    /// Netfilter's change counter when the rules were last seen whole.
    seen: Option<u32>,
}

/// What stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// Rules of this generation.
    Rules(Generation),
    /// No policy selects the pod, so there are none.
    None,
}

impl Walls {
    /// Opens the kernel's side of a pod. Nothing is loaded.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn open(pod: &LivePod, features: Features) -> Result<Self, Error> {
        Ok(Self {
            kernel: Kernel::open(pod.netns())?,
            options: LoadOptions { owner: features.owner_persist },
            last: None,
            rules: None,
            used: BTreeSet::new(),
            counted: 0,
            seen: None,
        })
    }

    /// Loads what stands while the pod's policies are being read: default deny.
    ///
    /// # Errors
    /// [`Error::Load`].
    pub fn guard(&mut self, subject: &Subject) -> Result<(), Error> {
        self.load(&guard(subject)).map(drop)
    }

    /// Loads a pod's rules in the place of what stands. A pod that no policy selects has none.
    ///
    /// # Errors
    /// [`Error::Load`]; what stood before still does.
    pub fn raise(&mut self, pod: &ResolvedPod) -> Result<Raised, Error> {
        if pod.is_selected() {
            return self.load(pod).map(Raised::Rules);
        }
        self.counted = self.counted();
        self.kernel.unload()?;
        self.rules = None;
        Ok(Raised::None)
    }

    fn load(&mut self, pod: &ResolvedPod) -> Result<Generation, Error> {
        let generation = self.last.map_or(Generation::FIRST, Generation::next);
        let rules = compile(pod, generation).ruleset;
        // The number comes round again: no flow may bear it from last time, or it would pass unjudged.
        if self.used.contains(&generation) {
            self.kernel.retire(generation)?;
        }
        // Before the load: whether it fails half-way or not, the number is not fresh any more.
        self.used.insert(generation);
        let counted = self.counted();
        self.kernel.load(&rules, self.options)?;
        self.counted = counted;
        self.last = Some(generation);
        self.seen = None;
        self.rules = Some((pod.clone(), rules));
        Ok(generation)
    }

    /// How many packets the rules have judged by a decision that is logged, since the first were loaded. It is a little
    /// less where rules were replaced or taken away meanwhile: what is counted in that very moment is not seen.
    pub fn counted(&mut self) -> u64 {
        let is_decision = |name: &str| format!("sw:{name}").parse::<Decision>().is_ok();
        let now = match self.rules.is_some().then(|| self.kernel.counters()) {
            Some(Ok(counters)) => counters.iter().filter(|(name, _)| is_decision(name)).map(|(_, c)| c.packets).sum(),
            // They are not worth an error: they only tell how much the log leaves out.
            Some(Err(_)) | None => 0,
        };
        self.counted + now
    }

    /// Looks whether the kernel still holds what was loaded, and loads it again where it does not.
    ///
    /// Gives what was wrong; nothing where all was well.
    ///
    /// # Errors
    /// [`Error::Netlink`], [`Error::Load`] where it can't be read or repaired.
    pub fn repair(&mut self) -> Result<Option<Vec<Difference>>, Error> {
        let Some((pod, rules)) = &self.rules else { return Ok(None) };
        let now = self.kernel.nft_generation()?;
        if self.seen == Some(now) {
            return Ok(None);
        }
        match self.kernel.verify(rules)? {
            Standing::AsLoaded => {
                self.seen = Some(now);
                Ok(None)
            }
            Standing::Drifted(differences) => {
                let pod = pod.clone();
                // As a new generation: what passed while the rules were not whole is judged again.
                self.load(&pod)?;
                Ok(Some(differences))
            }
        }
    }
}

#[cfg(test)]
mod tests;
