//! The flow log: what the walls log, as a stream of records.
//!
//! ```text
//! kernel ── LogReader ─┐
//! kernel ── LogReader ─┼─ Gatherer ── Hub ─┬─ Subscription (an iterator's `next`, or a `futures_core::Stream`)
//! kernel ── LogReader ─┘ (one thread)      ├─ Drain: a Subscription into a file, a terminal, a metric
//!                                          └─ Server ── UNIX socket ── Client, in another process
//! ```
//!
//! A [`Gatherer`] reads the logs of any number of pods on one thread, which sleeps while nothing is logged; each pod is a
//! [`Followed`] handle.
//!
//! **Nothing waits for a reader.** The kernel drops what does not fit into the socket's queue, and the [`Hub`] drops what
//! does not fit into a subscriber's. Either loss is counted and told in the stream itself, at its place, as a
//! [`sidewall_flow::LostRecord`]: what a subscriber was given and what it was told to be missing add up to what there was.
//!
//! **What a subscriber does not want costs him nothing**: the hub asks before it queues ([`Hub::subscribe_to`]), so that
//! records of other pods neither take room in a queue nor are told of as missing.
//!
//! **Memory is bounded**: the kernel queues one mebibyte a pod; a hub keeps [`HISTORY`] records, or as many in all and of
//! one pod as [`Keep`] says, and each of at most [`SUBSCRIBERS_MAX`] subscribers has a queue of its own, by default of
//! [`QUEUE`]. Records are shared between all of them; each names at most [`sidewall_policy::record::POLICIES_MAX`] policies,
//! which keeps it, as a rule, below one kibibyte. A socket's connection adds a thread and one line, and there are at most
//! [`CONNECTIONS_MAX`].
//!
//! One pod's log group has one reader in the whole machine; who else wants its records asks the process that has it, with a
//! [`Client`].
#![forbid(unsafe_code)]

mod client;
mod directory;
mod drain;
mod error;
mod file;
mod follow;
mod gather;
mod history;
mod hub;
mod message;
mod reading;
mod serve;
#[cfg(test)]
mod testing;
mod untold;
mod wire;

pub use client::Client;
pub use drain::Drain;
pub use error::{ClientError, FileError, FollowError, ServeError, TooManySubscribers};
pub use file::RotatingFile;
pub use follow::{Counts, Followed};
pub use gather::Gatherer;
pub use history::{HISTORY, Keep};
pub use hub::{Backlog, Hub, Next, QUEUE, SUBSCRIBERS_MAX, Subscription};
pub use message::logged;
pub use serve::{CONNECTIONS_MAX, SOCKET, Server};
