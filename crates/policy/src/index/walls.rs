//! The rules of every pod on a node, and what is to be done about them when something changes.
//!
//! Planning and doing are apart: a [`Walls`] says what is to be loaded where, somebody with a kernel does it and says that
//! it is done. Until then what stood before counts as standing, so a step that failed is planned again. What changes
//! meanwhile is not forgotten: a pod that was changed after it was planned stays pending when that plan is done, and a plan
//! for a pod that is no more, or whose rules were lost, says nothing any more.

use super::{Change, Index, Named, SubjectId};
use crate::compile::{Compiled, compile, compile_next};
use crate::model::ResolvedPod;
use crate::ruleset::{self, Generation};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The rules of every subject.
#[derive(Debug, Default)]
pub struct Walls {
    index: Index,
    stands: BTreeMap<SubjectId, Stands>,
    /// With the turn of the last change that may concern it.
    pending: BTreeMap<SubjectId, u64>,
    /// Where something may stand that is not known.
    lost: BTreeSet<SubjectId>,
    /// What was planned before this turn says nothing of what stands: the subject was another one, or its rules were lost.
    void: BTreeMap<SubjectId, u64>,
    /// How many changes there were.
    turn: u64,
}

/// What stands in a pod's network namespace. The rules follow from it, and are compiled again when somebody asks: of all that
/// is known of a pod they are the most by far.
#[derive(Debug)]
struct Stands {
    resolved: Arc<ResolvedPod>,
    /// None where no policy says anything of the pod.
    generation: Option<Generation>,
}

impl Stands {
    fn compiled(&self) -> Option<Compiled> {
        Some(compile(&self.resolved, self.generation?))
    }
}

/// What is to be done for a pod.
#[derive(Debug)]
pub struct Planned {
    /// The pod.
    pub id: SubjectId,
    /// Its name.
    pub name: Named,
    /// What is to be done.
    pub step: Step,
    resolved: Arc<ResolvedPod>,
    turn: u64,
}

/// What is to be done in a pod's network namespace.
#[derive(Clone, Debug)]
pub enum Step {
    /// Nothing stands there, or nobody knows what: these rules are loaded.
    Load(Fresh),
    /// The rules that stand there become others.
    Change {
        /// What stands there.
        from: Arc<Compiled>,
        /// What is to stand there.
        to: Arc<Compiled>,
        /// The difference.
        change: ruleset::Change,
    },
    /// No policy says anything of the pod any more: its rules are taken away.
    Unload,
}

/// Rules that follow none that are known to stand.
///
/// They have no number as yet. Live flows may bear one: of rules that were taken away, or that stand and that nobody knows,
/// perhaps a former agent's. Whoever loads them gives them a number that no flow bears (`Kernel::fresh_generation` of
/// `sidewall-netfilter`), and gets the rules for it.
#[derive(Clone, Debug)]
pub struct Fresh {
    compiled: Arc<Compiled>,
    has_number: bool,
}

impl Fresh {
    /// Gives the rules a number, which no live flow bears.
    pub fn number(&mut self, generation: Generation) -> &Arc<Compiled> {
        if self.compiled.ruleset.generation != generation {
            Arc::make_mut(&mut self.compiled).ruleset.renumber(generation);
        }
        self.has_number = true;
        &self.compiled
    }

    /// The number that they were given; none while they have none.
    pub fn generation(&self) -> Option<Generation> {
        self.has_number.then_some(self.compiled.ruleset.generation)
    }
}

impl Planned {
    /// What the policies mean for the pod by what is to be done.
    pub const fn resolved(&self) -> &Arc<ResolvedPod> {
        &self.resolved
    }
}

impl Walls {
    /// The walls of a world, without subjects.
    pub fn new(world: World) -> Self {
        Self { index: Index::new(world), ..Self::default() }
    }

    /// The cluster.
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// Applies a change. What it may concern is [pending](Self::pending) from now on.
    pub fn apply(&mut self, change: Change) {
        self.turn += 1;
        for id in self.index.apply(change) {
            if self.index.subject(id).is_some() {
                self.pending.insert(id, self.turn);
            } else {
                // Its network namespace goes with it; the number may be another's soon.
                self.pending.remove(&id);
                self.stands.remove(&id);
                self.lost.remove(&id);
                self.void.insert(id, self.turn);
            }
        }
    }

    /// The subjects whose rules may have to become others.
    pub fn pending(&self) -> impl Iterator<Item = SubjectId> + '_ {
        self.pending.keys().copied()
    }

    /// Finds out what is to be done for a pod; none where nothing is, and then it is not pending any more. A pod is to be
    /// planned again only when what was planned before is [done](Self::done) or has failed.
    pub fn plan(&mut self, id: SubjectId) -> Option<Planned> {
        let resolved = self.index.resolve(id);
        let Some(resolved) = resolved.map(Arc::new) else {
            self.pending.remove(&id);
            return None;
        };
        let stands = self.stands.get(&id);
        if stands.is_some_and(|stands| stands.resolved == resolved) {
            self.pending.remove(&id);
            return None;
        }
        let before = stands.and_then(Stands::compiled);
        let step = match (before, resolved.is_selected()) {
            (None, true) => {
                let compiled = Arc::new(compile(&resolved, Generation::FIRST));
                Some(Step::Load(Fresh { compiled, has_number: false }))
            }
            (Some(from), true) => {
                let (to, change) = compile_next(&resolved, &from);
                // Counters may count something else without a rule being another.
                if change.is_empty() && to.meanings == from.meanings {
                    let generation = Some(from.ruleset.generation);
                    self.stands.insert(id, Stands { resolved: Arc::clone(&resolved), generation });
                    None
                } else {
                    Some(Step::Change { from: Arc::new(from), to: Arc::new(to), change })
                }
            }
            (Some(_), false) => Some(Step::Unload),
            (None, false) if self.lost.contains(&id) => Some(Step::Unload),
            (None, false) => {
                self.stands.insert(id, Stands { resolved: Arc::clone(&resolved), generation: None });
                None
            }
        };
        let Some(step) = step else {
            self.pending.remove(&id);
            return None;
        };
        let name = Named::new(&resolved.namespace, &resolved.name);
        Some(Planned { id, name, step, resolved, turn: self.turn })
    }

    /// What was planned is done: it stands. Rules that were given no number can't be, and are still to be loaded.
    pub fn done(&mut self, planned: Planned) {
        let Planned { id, step, resolved, turn, .. } = planned;
        if self.void.get(&id).is_some_and(|since| turn < *since) {
            return;
        }
        let generation = match step {
            Step::Load(Fresh { has_number: false, .. }) => return,
            Step::Load(Fresh { compiled: to, .. }) | Step::Change { to, .. } => Some(to.ruleset.generation),
            Step::Unload => None,
        };
        if self.pending.get(&id).is_some_and(|changed| *changed <= turn) {
            self.pending.remove(&id);
        }
        self.lost.remove(&id);
        self.stands.insert(id, Stands { resolved, generation });
    }

    /// It is not known any more what stands in a pod's namespace: its rules are loaded as a whole, or, where it is to have
    /// none, taken away.
    pub fn lost(&mut self, id: SubjectId) {
        self.turn += 1;
        self.stands.remove(&id);
        self.void.insert(id, self.turn);
        if self.index.subject(id).is_some() {
            self.pending.insert(id, self.turn);
            self.lost.insert(id);
        }
    }

    /// The rules that stand for a pod, compiled again; none where none do.
    pub fn standing(&self, id: SubjectId) -> Option<Compiled> {
        self.stands.get(&id)?.compiled()
    }

    /// The generation of the rules that stand for a pod; none where none do.
    pub fn generation(&self, id: SubjectId) -> Option<Generation> {
        self.stands.get(&id)?.generation
    }

    /// Whether a subject's rules may have to become others.
    pub fn is_pending(&self, id: SubjectId) -> bool {
        self.pending.contains_key(&id)
    }

    /// What the policies mean for a pod by the rules that stand.
    pub fn resolved(&self, id: SubjectId) -> Option<&Arc<ResolvedPod>> {
        self.stands.get(&id).map(|stands| &stands.resolved)
    }
}

#[cfg(test)]
mod tests;
