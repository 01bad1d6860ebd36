//! Pods on this machine, from an ordinary Pod manifest.
//!
//! A pod here is a network namespace with a veth link to the node, a cgroup and a user for each container, and the
//! containers' commands as processes of this machine: without an image, without capabilities, without a way to gain any.
//! It is made in two steps, so that walls can stand before the first instruction runs:
//!
//! ```no_run
//! # fn main() -> sidewall_sandbox::Result<()> {
//! # let manifest = k8s_openapi::api::core::v1::Pod::default();
//! use sidewall_sandbox::{Options, Sandbox};
//! let prepared = Sandbox::prepare(&manifest, &Options::default())?;
//! let info = prepared.pod().info(); // what rules are compiled from
//! // … compile the rules and load them into prepared.pod().netns() …
//! let running = prepared.start()?;
//! running.wait();
//! running.stop()?;
//! # Ok(()) }
//! ```
//!
//! What a pod here is **not**: its processes share this machine's files, process ids, host name and resources, and those
//! of two containers (or two pods) with the same user id can signal and trace each other. They are told apart on the
//! network, which is what this crate is for.
//!
//! A pod that is split is several of these, whose namespaces a [`Segment`] joins.
//!
//! This crate knows nothing of policies or packet rules.

#![forbid(unsafe_code)]

mod address;
mod check;
mod error;
mod lifecycle;
mod logs;
mod network;
mod plan;
mod pod;
mod probe;
pub mod prober;
mod publish;
mod sandbox;
mod segment;
mod state;
mod supervisor;

pub use address::{Addresses, Pools};
pub use check::{Finding, Severity, check_supported};
pub use error::{Error, Result};
pub use lifecycle::{BackOff, Phase};
pub use logs::{LINE_LIMIT, LogLine, LogSink, Stream};
pub use plan::{
    Command, ContainerPlan, DEFAULT_PATH, FIRST_ID, Facts, Kind, PlanOptions, PodPlan, Port, Probe, ProbeAction,
    Probes, RestartPolicy, expand, plan,
};
pub use pod::{CgroupRef, ContainerInfo, INTERFACE, Identity, LivePod, OUTPUT_LIMIT, Output, PodInfo};
pub use publish::{MAX_CONNECTIONS, Published, publish};
pub use sandbox::{Options, Prepared, Sandbox};
pub use segment::{LINK_DEVICE, Segment, SegmentKind};
pub use state::{DEFAULT_ROOT, NsState, PODS_CGROUP, PodState, ProcessId, attach, cleanup_stale, directory, list};
pub use supervisor::{ContainerState, ContainerStatus, PodStatus, Running};
