//! The measured node: a network namespace for each of its pods, the rules in it, and what an agent holds for them.

use crate::Result;
use sidewall_netfilter::{Changed, Kernel, LoadOptions, Standing, Way};
use sidewall_netns::{Links, NetNs};
use sidewall_policy::index::{Named, Planned, Step, SubjectId, Walls};
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc;
use std::thread;

/// The device of every pod.
pub const DEVICE: &str = "eth0";

/// Network namespaces with a device in each, as a CNI plugin leaves them. They go when the process does.
pub fn spaces(count: usize) -> Result<VecDeque<NetNs>> {
    let make = || -> Result<NetNs> {
        let ns = NetNs::new()?;
        let mut links = Links::of(&ns)?;
        // Both ends in the pod's namespace: no packet is sent, and there is nothing to clean up elsewhere.
        links.add_veth("node0", &ns, DEVICE)?;
        Ok(ns)
    };
    (0..count).map(|_| make()).collect()
}

/// What an agent holds for a node.
pub struct Node {
    pub walls: Walls,
    doors: BTreeMap<Named, Door>,
    threads: usize,
}

/// The way into a pod's namespace.
struct Door {
    kernel: Kernel,
}

/// What came of a plan: the pod's door again, and what was done or went wrong.
type Outcome = (Named, Door, Planned, std::result::Result<Option<Changed>, String>);

/// What was done at one time.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Pods that were looked at, because the change could concern them.
    pub looked_at: usize,
    /// What planning took, in milliseconds of its thread's processor time.
    pub planning: f64,
    /// Pods whose rules became others.
    pub pods: usize,
    /// Of these, loaded as a whole.
    pub loads: usize,
    /// Chains that were written anew in the others.
    pub chains: usize,
    /// Elements that were added or deleted in the others.
    pub elements: usize,
    /// Why they were loaded, and how often.
    pub why: BTreeMap<String, usize>,
}

impl Node {
    pub fn new(walls: Walls, threads: usize) -> Self {
        Self { walls, doors: BTreeMap::new(), threads }
    }

    /// Opens a pod's namespace.
    pub fn open(&mut self, name: Named, space: &NetNs) -> Result<()> {
        self.doors.insert(name, Door { kernel: Kernel::open(space)? });
        Ok(())
    }

    /// Brings every pod's rules to what they should be.
    pub fn settle(&mut self) -> Result<Done> {
        let mut done = Done::default();
        let pending: Vec<_> = self.walls.pending().collect();
        done.looked_at = pending.len();
        if pending.len() < 2 || self.threads == 0 {
            for id in pending {
                let Some(mut planned) = done.plan(&mut self.walls, id) else { continue };
                let door = self.doors.get_mut(&planned.name).ok_or("a pod without a namespace")?;
                let changed = door.pass(&mut planned.step)?;
                done.count(&planned.step, changed.as_ref());
                self.walls.done(planned);
            }
            return Ok(done);
        }
        // One plans while the others load.
        let (walls, doors, threads) = (&mut self.walls, &mut self.doors, self.threads);
        let mut outcomes: Vec<Outcome> = Vec::new();
        thread::scope(|scope| {
            let (back, returned) = mpsc::channel();
            let loaders: Vec<_> = (0..threads)
                .map(|_| {
                    let (give, taken) = mpsc::channel::<(Named, Door, Planned)>();
                    let back = back.clone();
                    scope.spawn(move || {
                        for (name, mut door, mut planned) in taken {
                            let outcome = door.pass(&mut planned.step).map_err(|error| error.to_string());
                            if back.send((name, door, planned, outcome)).is_err() {
                                return;
                            }
                        }
                    });
                    give
                })
                .collect();
            drop(back);
            let planned = pending.into_iter().filter_map(|id| done.plan(walls, id));
            for (planned, loader) in planned.zip((0..threads).cycle()) {
                let name = planned.name.clone();
                // A missing one is told below.
                if let Some(door) = doors.remove(&name) {
                    let _ = loaders[loader].send((name, door, planned));
                }
            }
            drop(loaders);
            outcomes.extend(returned);
        });
        let mut failed = None;
        for (name, door, planned, outcome) in outcomes {
            self.doors.insert(name, door);
            match outcome {
                Ok(changed) => {
                    done.count(&planned.step, changed.as_ref());
                    self.walls.done(planned);
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error.into()),
            None if self.walls.pending().next().is_some() => Err("a pod without a namespace".into()),
            None => Ok(done),
        }
    }

    /// Makes sure that what stands in the kernel is what should: everything, read back.
    pub fn verify(&mut self) -> Result<usize> {
        let mut verified = 0;
        let subjects: Vec<_> = self
            .walls
            .index()
            .subjects()
            .map(|(id, subject)| (id, Named::new(&subject.namespace, &subject.name)))
            .collect();
        for (id, name) in subjects {
            let Some(compiled) = self.walls.standing(id) else { continue };
            let door = self.doors.get_mut(&name).ok_or("a pod without a namespace")?;
            match door.kernel.verify(&compiled.ruleset)? {
                Standing::AsLoaded => verified += 1,
                Standing::Drifted(differences) => {
                    return Err(format!("{name} has other rules than it should: {:?}", differences.first()).into());
                }
            }
        }
        Ok(verified)
    }
}

impl Door {
    fn pass(&mut self, step: &mut Step) -> Result<Option<Changed>> {
        let options = LoadOptions::default();
        Ok(match step {
            Step::Load(fresh) => {
                let rules = fresh.number(self.kernel.fresh_generation()?);
                self.kernel.load(&rules.ruleset, options)?;
                None
            }
            Step::Change { from, to, .. } => {
                let (current, next) = (from.ruleset.generation, to.ruleset.generation);
                if next != current && self.kernel.next_generation(current)? != next {
                    return Err("the kernel's side counts generations otherwise".into());
                }
                Some(self.kernel.change(&from.ruleset, &to.ruleset, options)?)
            }
            Step::Unload => {
                self.kernel.unload()?;
                None
            }
        })
    }
}

/// What processor time this thread has had, in milliseconds.
fn processor() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

impl Done {
    fn plan(&mut self, walls: &mut Walls, id: SubjectId) -> Option<Planned> {
        let begin = processor();
        let planned = walls.plan(id);
        self.planning += processor() - begin;
        planned
    }

    fn count(&mut self, step: &Step, changed: Option<&Changed>) {
        self.pods += 1;
        match changed.map(|changed| &changed.way) {
            Some(Way::Nothing) => {}
            Some(Way::Amended { added, deleted, chains }) => {
                self.elements += added + deleted;
                self.chains += chains;
            }
            Some(Way::Loaded(because)) => {
                self.loads += 1;
                *self.why.entry(format!("{because:?}")).or_default() += 1;
            }
            None => {
                self.loads += usize::from(matches!(step, Step::Load(_)));
            }
        }
    }
}
