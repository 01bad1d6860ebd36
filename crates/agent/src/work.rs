//! What is done in pods' namespaces, each on a thread that may wait, so that no pod's work blocks another's.

use crate::devices::Device;
use crate::enforceability::CgroupPlace;
use crate::flows::Flows;
use crate::foreign::Owners;
use crate::found::Message;
use crate::memory::{Memory, MemoryError, Remembered, Rules};
use crate::wall::{Entry, Wall, WallError};
use sidewall_policy::index::{Named, Planned, Step};
use sidewall_policy::{Generation, ResolvedPod, Subject};
use sidewall_runtime_ids::SandboxId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// What is to be done in a pod's namespace.
#[derive(Debug)]
pub enum Job {
    /// Its rules become others. The generation is what an earlier run of the agent may have left there.
    Step(Box<Planned>, Option<Generation>),
    /// Everything is denied.
    Guard(Box<Subject>),
    /// What was changed in its namespace is found out, and rules are put right.
    Inspect {
        /// The generation of the rules that stand, and what they mean.
        standing: Option<(Generation, Arc<ResolvedPod>)>,
        /// Whether its devices are looked at, and who has sockets there.
        devices: bool,
        /// The cgroups of the pod's containers.
        own: BTreeSet<CgroupPlace>,
    },
}

/// Something to be done.
#[derive(Debug)]
pub struct Work {
    /// The pod.
    pub pod: Named,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// The kernel's side.
    pub wall: Box<Wall>,
    /// What is to be remembered when it is done, but for the generation.
    pub remember: Option<Remembered>,
    /// What.
    pub job: Job,
}

/// Something that was done, or could not be.
#[derive(Debug)]
pub struct Done {
    /// The pod.
    pub pod: Named,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// The kernel's side; none where whoever had it is gone.
    pub wall: Option<Box<Wall>>,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// Why it is not remembered, where it is not.
    pub forgotten: Option<MemoryError>,
}

/// What came of work.
#[derive(Debug)]
pub enum Outcome {
    /// Of [`Job::Step`].
    Stepped(Box<Planned>, Result<Entry, WallError>),
    /// Of [`Job::Guard`].
    Guarded(Result<Entry, WallError>),
    /// Of [`Job::Inspect`]: what had been changed and is right again; the devices as they are.
    Inspected(Result<Inspected, WallError>),
    /// The thread has ended before.
    Lost,
}

/// What work is done with.
#[derive(Debug)]
pub struct Tools {
    /// What is remembered of pods.
    pub memory: Arc<Memory>,
    /// Reads flows.
    pub flows: Arc<Flows>,
    /// Tells whose sockets are.
    pub owners: Owners,
}

/// What an inspection found.
#[derive(Debug)]
pub struct Inspected {
    /// What had been changed and is right again.
    pub repaired: Vec<String>,
    /// The devices, and whose sockets are there that are not the pod's; where that was asked.
    pub seen: Option<(Vec<Device>, BTreeSet<String>)>,
}

/// Where work is given.
#[derive(Clone, Debug)]
pub struct Workers {
    tools: Arc<Tools>,
    to: mpsc::UnboundedSender<Message>,
}

impl Workers {
    /// Workers that say to `to` what they have done.
    pub fn new(tools: Arc<Tools>, to: mpsc::UnboundedSender<Message>) -> Self {
        Self { tools, to }
    }

    /// A pod has ended. Must be called inside a Tokio runtime.
    pub fn end(&self, wall: Box<Wall>) {
        tokio::task::spawn_blocking(move || wall.end());
    }

    /// Has something done. Must be called inside a Tokio runtime.
    pub fn start(&self, work: Work) {
        let (tools, to) = (Arc::clone(&self.tools), self.to.clone());
        let (pod, sandbox) = (work.pod.clone(), work.sandbox.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            let done = tokio::task::spawn_blocking(move || work.run(&tools)).await.unwrap_or_else(|_| Done {
                pod,
                sandbox,
                wall: None,
                outcome: Outcome::Lost,
                took: began.elapsed(),
                forgotten: None,
            });
            // Without a brain the agent is ending.
            let _ = to.send(Message::Done(Box::new(done)));
        });
    }
}

impl Work {
    fn run(self, tools: &Tools) -> Done {
        let began = Instant::now();
        let Self { pod, sandbox, mut wall, remember, job } = self;
        let outcome = match job {
            Job::Step(mut planned, remembered) => {
                let entry = match &mut planned.step {
                    Step::Load(fresh) => wall.load(fresh, remembered),
                    Step::Change { from, to, .. } => wall.change(from, to),
                    Step::Unload => wall.unload(),
                };
                if let Ok(entry) = &entry
                    && let Err(error) = wall.follow(&tools.flows, &planned, entry)
                {
                    tracing::warn!(namespace = %pod.namespace, pod = %pod.name, "its flows are not told: {error}");
                }
                Outcome::Stepped(planned, entry)
            }
            Job::Guard(subject) => Outcome::Guarded(wall.guard(&subject)),
            Job::Inspect { standing, devices, own } => {
                wall.account();
                let inspect = || {
                    let repaired = match standing {
                        Some((generation, meaning)) => {
                            if let Err(error) = wall.follow_on(&tools.flows, &meaning) {
                                tracing::debug!(namespace = %pod.namespace, pod = %pod.name, "its flows are not told: {error}");
                            }
                            wall.repair(&meaning, generation)?
                        }
                        None => Vec::new(),
                    };
                    let seen = devices.then(|| wall.look_around(&tools.owners, &own)).transpose()?;
                    Ok(Inspected { repaired, seen })
                };
                Outcome::Inspected(inspect())
            }
        };
        let forgotten = match (&outcome, remember) {
            (Outcome::Stepped(planned, Ok(_)), Some(mut remember)) => {
                remember.rules = generation(&planned.step).map(|generation| Rules { generation: generation.get() });
                tools.memory.keep(&remember).err()
            }
            (Outcome::Guarded(Ok(_)), Some(remember)) => tools.memory.keep(&remember).err(),
            _ => None,
        };
        Done { pod, sandbox, wall: Some(wall), outcome, took: began.elapsed(), forgotten }
    }
}

/// The generation that stands after a step.
fn generation(step: &Step) -> Option<Generation> {
    match step {
        Step::Load(fresh) => fresh.generation(),
        Step::Change { to, .. } => Some(to.ruleset.generation),
        Step::Unload => None,
    }
}
