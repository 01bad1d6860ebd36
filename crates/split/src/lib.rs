//! A pod divided into parts. Pure: objects in, decisions out; no client, no clock, no I/O.
//!
//! ```text
//! pod on its way in + PodSplit ── divide ──► the primary (changed fields), warnings │ refusals, each with a way out
//! primary as it runs           ── parts  ──► the pods of its other parts            │ why its annotation is not believed
//! PodSplit                     ── network ─► the NetworkAttachmentDefinition of the link
//! whole pod + policies         ── policies ► MultiNetworkPolicies of its parts
//! ```
//!
//! # What a part has of its pod
//!
//! Containers, init containers and volumes stand verbatim in the primary's annotation `sidewall.dev/split`, as JSON that this
//! version need not understand. A part gets its own of them, and of the pod what they need: service account, pull secrets,
//! security context, restart policy, DNS, host aliases, hostname, tolerations, priority class, runtime class, scheduler and
//! grace period. It does not get:
//!
//! - **labels and annotations** of the pod: no Service, ReplicaSet or policy of the user's selects a part;
//! - **where the pod may run** (node selector, affinity, spread): it runs where the primary does, and goes there through the
//!   scheduler, so that what it asks for is counted;
//! - **priority, preemption policy and overhead** as numbers: the API server fills them in again from the classes;
//! - **activeDeadlineSeconds, readiness gates, scheduling gates**: the primary has them, and its parts follow its life;
//! - **further networks**: their addresses are the primary's.
//!
//! What a container asks about its pod in its environment it is told of the primary: `metadata.name`, `metadata.uid`, labels and
//! annotations are written into the part as they are when it is made. `status.podIP` is the part's own, because that is where it
//! can listen.
//!
//! # Where a pod is refused
//!
//! Whatever the containers of a pod share that pods cannot is refused when the pod is created, and not found out when it runs:
//! see [`Refusal`]. What cannot be seen in a manifest cannot be refused: System V IPC and abstract Unix sockets between
//! containers of two parts, and processes that find each other by `/proc`.
#![forbid(unsafe_code)]

mod checks;
mod divide;
mod downward;
#[cfg(test)]
mod fixture;
mod mac;
mod names;
pub mod network;
mod parts;
mod place;
pub mod policies;
mod record;
mod refusal;

pub use divide::{Change, Division, divide};
pub use mac::{BadKey, Key};
pub use parts::{PartPod, PartsError, parts};
pub use record::{BadRecord, Member, Port, RECORD_MAX, Record, RecordPart, whole};
pub use refusal::{Refusal, Refusals};
