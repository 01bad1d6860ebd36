//! The operator. What becomes of pods, of what is written about them, and of what their proxies need is decided without I/O,
//! without a clock and without a Kubernetes client; what asks and writes stands around that and is thin: [`watching`] and
//! [`known`] learn, [`door`] answers the API server through [`mod@webhook`], [`keeper`] keeps things right while [`leader`] lets
//! it, [`serving`] keeps the webhooks' [`certificates`], and [`operator`] starts and ends all of them.
//!
//! ```text
//! AdmissionReview (bytes) ── review ──► inject ──► patch, warnings, what the pod needs │ refusal │ untouched
//!                                         ├── identity   numbers for containers that have none, capabilities that go
//!                                         ├── probes     what the kubelet asks, led through the proxy
//!                                         └── sidecar    the container and its volumes
//!                  └──► split ───► what goes to parts leaves the pod │ refusal
//! SidecarProxy + what the pod's annotations say ── render ──► the proxy's configuration, as text
//! SidecarProxy ── issue ──► the certificates that it asks for, and what is to become of their Secrets
//! pods, Secrets, nodes' reports ── status ──► statuses and Events
//! AdmissionReview of a kind of ours ── validate ──► what must be asked first ──► allowed, warnings │ refused
//! ```
//!
//! A pod is patched as JSON and never read into a type and written back: what this version does not know stays as it is.
//! Everything that a pod's annotations say is made anew from the pod and the SidecarProxy at each call; the only thing that
//! is read back is what a probe asked before it was rewritten, which its author could as well have written into the probe.
//! So a forged annotation gains nothing (invariant 11), and a second call changes nothing. Who may write our annotations and
//! labels at all, the API server itself decides, by the ValidatingAdmissionPolicies that are installed with the operator.
#![forbid(unsafe_code)]

pub mod args;
pub mod certificates;
pub mod config;
pub mod configs;
pub mod door;
mod edits;
#[cfg(test)]
mod fixture;
pub mod hooks;
pub mod identity;
pub mod inject;
pub mod issue;
pub mod keeper;
pub mod known;
pub mod leader;
pub mod metrics;
pub mod names;
pub mod operator;
pub mod probes;
mod quantity;
pub mod refreshed;
pub mod refusal;
pub mod render;
pub mod review;
pub mod secrets;
pub mod serving;
pub mod settings;
pub mod shared;
mod sidecar;
pub mod slim;
pub mod split;
pub mod splitting;
pub mod status;
pub mod table;
pub mod validate;
pub mod watching;
pub mod webhook;
pub mod written;

pub use inject::{Needs, Outcome, Patched, Record, Request, Surroundings, Why, inject};
pub use refusal::Refusal;
pub use render::{RenderError, Rendered, render};
pub use settings::Settings;
