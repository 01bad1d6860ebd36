//! Who waits for a pod's rules to be in force: the CNI plugin at a pod's start, the runtime at a container's.

use sidewall_cni::wire::{Answer, Free, Reason};
use sidewall_nri::Veto;
use std::time::Instant;
use tokio::sync::oneshot;

/// Somebody who waits.
#[derive(Debug)]
pub struct Waiter {
    /// Until when an answer is of use.
    pub until: Instant,
    /// When it is time to make do with what is known.
    pub impatient: Instant,
    /// For what.
    pub what: Waits,
}

/// For what somebody waits.
#[derive(Debug)]
pub enum Waits {
    /// The CNI plugin, to end its ADD or CHECK.
    Attach(oneshot::Sender<Answer>),
    /// The runtime, to let a container of this name run its first instruction.
    Start(String, oneshot::Sender<Result<(), Veto>>),
}

/// How it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What policies ask for is in force, or at least the guard is.
    Walled,
    /// No policy asks for anything.
    Free(Free),
    /// Too little is known.
    NotReady(String),
    /// It was tried, and can't be.
    Failed(String),
}

impl Waiter {
    /// Whether a pod's rules are what it waits for: those of a container, once the pod is known to have it.
    pub fn is_served_by(&self, containers: &[String]) -> bool {
        match &self.what {
            Waits::Attach(_) => true,
            Waits::Start(name, _) => containers.contains(name),
        }
    }

    /// Tells whoever waits. It is nobody's fault where he has gone.
    pub fn tell(self, outcome: Outcome) {
        match self.what {
            Waits::Attach(reply) => {
                let _ = reply.send(match outcome {
                    Outcome::Walled => Answer::Guarded,
                    Outcome::Free(free) => Answer::Free(free),
                    Outcome::NotReady(message) => Answer::refused(Reason::NotReady, message),
                    Outcome::Failed(message) => Answer::refused(Reason::Failed, message),
                });
            }
            Waits::Start(_, reply) => {
                let _ = reply.send(match outcome {
                    Outcome::Walled | Outcome::Free(_) => Ok(()),
                    Outcome::NotReady(message) | Outcome::Failed(message) => Err(Veto::new(message)),
                });
            }
        }
    }
}
