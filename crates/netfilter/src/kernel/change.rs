//! A ruleset that becomes another by what differs, instead of being loaded anew.

use super::{Kernel, LoadOptions, Stands, next_number};
use crate::change::{Plan, plan};
use crate::compose::{self, Amendment};
use crate::conntrack::{self, Which};
use crate::encode::{self, Batch};
use crate::error::LoadError;
use crate::load::Outcome;
use crate::place::Place;
use sidewall_policy::ruleset::{Changes, Generation, Ruleset};
use std::collections::BTreeMap;

/// What a change did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The generation in force.
    pub generation: Generation,
    /// How the ruleset came into force.
    pub way: Way,
    /// How many netlink messages it took.
    pub messages: usize,
}

impl Changed {
    /// How much of what [`Kernel::decisions`] told before the change is not counted any more after it: by counters that the
    /// ruleset `to` does not have, or that began anew.
    pub fn forgets(&self, decisions: &BTreeMap<String, u64>, to: &Ruleset) -> u64 {
        let anew = matches!(self.way, Way::Loaded(_));
        let stays = |name: &str| to.tables.iter().flat_map(|table| &table.counters).any(|counter| counter.name == name);
        decisions.iter().filter(|(name, _)| anew || !stays(name)).map(|(_, packets)| packets).sum()
    }
}

/// How a changed ruleset came into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It stood there already.
    Nothing,
    /// By what differs. Counters went on counting.
    Amended {
        /// How many elements were added.
        added: usize,
        /// How many elements were deleted.
        deleted: usize,
        /// How many chains were written anew.
        chains: usize,
    },
    /// It was loaded as a whole, and counters began anew.
    Loaded(Because),
}

/// Why a changed ruleset was loaded as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Because {
    /// Its tables, chains or sets are others, or sets differ that may not change.
    Shape,
    /// Elements differ, and beside the generation also the rules that look for them: only a load changes both at one moment.
    RulesAndElements,
    /// What stands in the kernel is not known to be the ruleset that it was changed from: this [`Kernel`] loaded another
    /// one or none, or with other options, and [`Kernel::verify`] has not told since.
    Unknown,
    /// Somebody else has changed tables of the namespace since.
    Moved,
    /// The kernel refused the change at this place: what stands there is something else.
    Refused(Place),
}

impl Kernel {
    /// Brings the ruleset in force, which is `from`, to `to`, by adding and deleting the elements that differ and writing the
    /// chains anew whose rules differ. Counters go on counting.
    ///
    /// Elements are changed in one transaction, rules in a second one. So no packet meets new rules with an old set, and when
    /// this returns, a flow that only the old ruleset allowed ends at its next packet: the new rules bear another generation,
    /// and judge it again by the new sets. Where [nothing is taken away](sidewall_policy::ruleset::Change::takes_away), `to` may have
    /// the generation of `from`; live flows then keep their verdicts, those that were denied too, until there is another
    /// generation.
    ///
    /// Whatever such a change cannot do, or cannot do at one moment, is loaded as a whole, and so it is where the kernel's
    /// tables turn out to be something else than `from`; [`Changed::way`] says so.
    ///
    /// # Errors
    /// [`LoadError::SameGeneration`] where something is taken away and the generations are the same: nothing was done. Else as
    /// for [`Kernel::load`]. After an error the rules of `from` are in force, and sets may have the elements of either; the
    /// next change is a load.
    pub fn change(&mut self, from: &Ruleset, to: &Ruleset, options: LoadOptions) -> Result<Changed, LoadError> {
        let plan = plan(from, to).map_err(|place| LoadError::SameGeneration { place, generation: to.generation })?;
        let stands = match self.stands.take() {
            Some(stands) if stands.generation == from.generation && self.flags == Some(options.flags()) => stands,
            _ => return self.load_instead(to, options, Because::Unknown),
        };
        match plan {
            Plan::Shape => self.load_instead(to, options, Because::Shape),
            Plan::RulesAndElements => self.load_instead(to, options, Because::RulesAndElements),
            Plan::Nothing => {
                if self.nft_generation()? != stands.number {
                    return self.load_instead(to, options, Because::Moved);
                }
                // With nothing in them that bears it, rulesets may differ by the generation alone.
                self.stands = Some(Stands { generation: to.generation, ..stands });
                Ok(Changed { generation: to.generation, way: Way::Nothing, messages: 0 })
            }
            Plan::Amend(changes) => self.amend(&changes, to, stands, options),
        }
    }

    fn amend(
        &mut self,
        changes: &Changes,
        to: &Ruleset,
        mut stands: Stands,
        options: LoadOptions,
    ) -> Result<Changed, LoadError> {
        let amendments = compose::amend(changes, to, stands.slot)?;
        let has_elements = amendments.iter().any(|one| !one.added.is_empty() || !one.deleted.is_empty());
        let has_rules = amendments.iter().any(|one| !one.chains.is_empty());
        let mut messages = 0;
        if has_elements || !has_rules {
            let batch = encode::encode_elements(&amendments, stands.number, self.netlink.take_sequence(1));
            if let Err(because) = self.step(&batch, &mut stands)? {
                return self.load_instead(to, options, because);
            }
            messages += batch.len();
        }
        if has_rules {
            let batch = encode::encode_rules(&amendments, !has_elements, stands.number, self.netlink.take_sequence(1));
            if let Err(because) = self.step(&batch, &mut stands)? {
                return self.load_instead(to, options, because);
            }
            messages += batch.len();
        }
        self.stands = Some(Stands { generation: to.generation, ..stands });
        let way = Way::Amended {
            added: changes.tables.iter().flat_map(|table| &table.sets).map(|set| set.add.len()).sum(),
            deleted: changes.tables.iter().flat_map(|table| &table.sets).map(|set| set.delete.len()).sum(),
            chains: amendments.iter().map(|one: &Amendment| one.chains.len()).sum(),
        };
        Ok(Changed { generation: to.generation, way, messages })
    }

    /// One transaction, as the next one after the last of ours; or why the tables are not what they should be.
    fn step(&mut self, batch: &Batch, stands: &mut Stands) -> Result<Result<(), Because>, LoadError> {
        match self.commit_guarded(batch) {
            Ok(Outcome::Done) => {
                stands.number = next_number(stands.number);
                Ok(Ok(()))
            }
            Ok(Outcome::Moved) => Ok(Err(Because::Moved)),
            Err(LoadError::Refused { place, .. } | LoadError::Unsupported { place, .. }) => {
                Ok(Err(Because::Refused(place)))
            }
            Err(error) => Err(error),
        }
    }

    fn load_instead(&mut self, to: &Ruleset, options: LoadOptions, because: Because) -> Result<Changed, LoadError> {
        let loaded = self.put(to, options)?;
        if !matches!(because, Because::Shape | Because::RulesAndElements) {
            // By which rules the flows of this generation were judged is not known.
            conntrack::void(&mut self.netlink, Which::Of(to.generation))?;
        }
        Ok(Changed { generation: loaded.generation, way: Way::Loaded(because), messages: loaded.messages })
    }
}
