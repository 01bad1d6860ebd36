//! The client's side of gRPC over a connection that somebody else made, with messages as bytes.
//!
//! ```text
//! a socket, a tunnel ──► Connection ──► tonic's client, with Raw ──► bytes, or a Status
//! ```
//!
//! **A [`Connection`] is one connection.** It is never made again behind the caller's back: when it has ended, every call
//! says so, and whoever wants to go on begins anew, since nobody knows what happened in between.
//!
//! **Messages are bytes** ([`Raw`]). Whoever asks decodes them himself, and so can tell an answer that makes no sense from
//! one that says that something went wrong.
//!
//! **What went wrong is told in the caller's own errors**, of which this crate has none; [`in_full`], [`shortened`] and
//! [`is_too_large`] are what they are made with. Nothing here knows who is asked, or for what.
#![forbid(unsafe_code)]

mod codec;
mod connection;
mod words;

pub use codec::{Raw, is_too_large};
pub use connection::{Connection, Heartbeat, Settings};
pub use words::{in_full, shortened};
