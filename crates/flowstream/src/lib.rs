//! The flow log of a node as a gRPC stream, over any connection. `proto/flows.proto` describes the service for programs in
//! other languages.
//!
//! ```text
//!  Hub ── Server ─┬─ Listener: a UNIX socket, for root
//!                 └─ Listener: TCP on loopback, for whom Admission lets in ── (a tunnel) ── Client
//! ```
//!
//! **Who may see what** is not known here: an [`Admission`] says it, for every call and again while the call lasts
//! ([`Limits::readmit`]). What it cannot say is a no.
//!
//! **What is chosen is chosen here**: records that a reader did not ask for, or may not see, are left out before they take
//! room in his queue, so that he does not even learn that they were lost ([`sidewall_flowlog::Hub::subscribe_to`]).
//!
//! **Nobody waits for a reader**, and everything has a limit ([`Limits`]). A reader that is too slow is told how many records
//! he misses.
//!
//! **There is no encryption**: a [`Listener`] takes a UNIX socket or an address of the loopback device, and nothing else. From
//! afar it is reached through somebody else's tunnel. A [`Token`] is never written anywhere.
#![forbid(unsafe_code)]

mod admission;
mod client;
mod error;
mod follow;
mod limits;
mod listen;
mod record;
mod serve;
mod stream;
mod token;
mod wire;

pub use admission::{Admission, Admitted, Everything, Refusal};
pub use client::{Client, Event, Events};
pub use error::{ClientError, ListenError};
pub use follow::{Follow, NAME_MAX};
pub use limits::Limits;
pub use listen::Listener;
pub use serve::Server;
pub use token::Token;

/// The path of the one call (gRPC over HTTP/2: `/package.Service/Method`).
const FOLLOW: &str = "/sidewall.flows.v1.Flows/Follow";
