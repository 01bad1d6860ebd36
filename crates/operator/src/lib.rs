//! The operator: what becomes of pods on their way into the cluster, and what their proxies need afterwards.
//!
//! ```text
//! API server ── AdmissionReview ──► admission ──────────────┐
//!     ▲                                 │ what is known     ▼
//!     ├── watches ──► known ◄───────────┘              proxies (decisions)
//!     │                 └── marks ──► keeper ───────────────┘
//!     └──────────────── writes ◄─────────┘
//! ```
//!
//! [`admission`] answers the API server: the front proxy is put into a pod, or what somebody writes is allowed or refused.
//! [`proxies`] decides what a proxy needs; [`keeper`] sees to it that it is there, in one operator of several. [`known`] is the
//! cluster as its watches tell it. [`program`] starts and ends all of them. Decisions are made without I/O, without a clock and
//! without a Kubernetes client; what asks and writes stands around them and is thin.
#![forbid(unsafe_code)]

pub mod admission;
pub mod certificates;
#[cfg(test)]
mod fixture;
pub mod keeper;
pub mod known;
pub mod names;
pub mod program;
pub mod proxies;
mod quantity;
pub mod settings;
pub mod splitting;
pub mod written;

pub use admission::inject::{Needs, Outcome, Patched, Record, Request, Surroundings, Why, inject};
pub use admission::refusal::Refusal;
pub use proxies::render::{RenderError, Rendered, render};
pub use settings::Settings;
