//! What the API server knows, as far as walls depend on it, and what nodes and pods are told back.
//!
//! - [`Watch`] keeps up with a cluster. Objects become the pruned types of `sidewall_policy::world` as they arrive, and
//!   come out as [`Batch`]es of `sidewall_policy::index::Change`s. What is kept of them here is what turns later events
//!   into changes: names, fingerprints, what Services are made of, and which policies can't be understood.
//! - [`live`] reads a cluster once, for commands that explain it.
//! - [`enforcement`] writes a node's `NodeEnforcement`; [`events`] writes Kubernetes Events; neither holds up its caller.
//! - [`census`] holds what nodes say of enforcement against what there is to enforce.
//! - [`client`] builds a client; [`review`] asks the API server who somebody is and what he may see; [`flows`] is the way to
//!   the flow logs of agents.
//!
//! # What holds whatever the API server does
//!
//! **Nothing is taken for empty that was not seen to be empty.** [`Batch::synced`] is false until *every* watched kind has
//! been listed to its end. A list that breaks off, an outage, a lost right (403) and a kind that is no longer served (404)
//! change nothing: the last known state stands, and [`Health`] says since when and why. When a CustomResourceDefinition is
//! deleted, the API server deletes its objects first; before a deletion of such an object is believed, the definition is
//! looked at, and where it is on its way out (or where nobody may say), the object stays.
//!
//! **A policy that can't be understood isolates.** Policies are read from raw JSON by `sidewall_api::read`, which sees
//! unknown fields; what it can't read becomes a `Change::Unreadable`, in the same batch in which the policy that it was
//! before goes.
//!
//! **Lists and watches are this crate's own loop** over the client's requests, not the client library's reflectors: those
//! keep whole objects or hide when a watch has come back, and a node must be able to say since when it works on old news.

#![forbid(unsafe_code)]

/// The client library whose client everything here takes.
pub use kube;

pub mod census;
pub mod client;
pub mod enforcement;
pub mod events;
mod feed;
pub mod flows;
mod item;
mod kind;
mod ledger;
pub mod live;
mod local;
mod pause;
mod request;
pub mod review;
pub mod taint;
#[cfg(test)]
mod testing;
mod trouble;
mod watch;

pub use kind::{Kind, Kinds, Reading};
pub use ledger::{Batch, LocalChange};
pub use local::{ContainerForm, LocalContainer, LocalPod};
pub use trouble::{Cause, Trouble};
pub use watch::{Health, KindHealth, Options, Timing, Watch};

/// Who this is, in the API server's logs: `sidewall/VERSION`.
pub const USER_AGENT: &str = concat!("sidewall/", env!("CARGO_PKG_VERSION"));
