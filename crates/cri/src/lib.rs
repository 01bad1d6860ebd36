//! What the container runtime tells of its pods and containers, asked over its own socket in the words of the Kubernetes
//! Container Runtime Interface (CRI) v1, which containerd and CRI-O speak.
//!
//! ```text
//! Client ── version, status, sandboxes, containers ──► what there is
//!        ── sandbox_status, container_status ────────► one of them, with its pid and its OCI specification (Details)
//!        ── events ──────────────────────────────────► what comes and goes
//! ```
//!
//! **One connection.** A [`Client`] is one connection, shared by its clones. When it has ended, every call says
//! [`Error::Lost`]; whoever wants to go on connects again, and asks for everything again, since nobody knows what
//! happened in between.
//!
//! **Everything has a limit**: each call its time and the size of its answer ([`Options`]), the runtime's own words in an
//! error their length. Nothing that a runtime sends makes this crate panic.
//!
//! **What is trusted.** The socket belongs to root, and so does who answers on it. What the runtime repeats from the pod's
//! author (labels, annotations, names) is his word and no more.
//!
//! CRI-O has not been tried. Its details are read as its published sources give them: the same keys, fewer of them.
#![forbid(unsafe_code)]

mod call;
mod client;
mod connection;
#[cfg(feature = "control")]
pub mod control;
mod details;
mod error;
mod events;
mod model;
mod options;
#[cfg(test)]
mod tests;
mod wire;

pub use client::Client;
pub use details::{Capabilities, Details, IdMapping, Namespace, Specification, User};
pub use error::{BadAnswer, Call, Error};
pub use events::{ContainerEvent, EventKind, Events};
pub use model::{
    Condition, Container, ContainerState, ContainerStatus, Network, PodIdentity, RuntimeHandler, RuntimeStatus,
    Sandbox, SandboxState, SandboxStatus, Version,
};
pub use options::Options;
pub use sidewall_runtime_ids::{BadId, ContainerId, ID_MAX, SandboxId};
