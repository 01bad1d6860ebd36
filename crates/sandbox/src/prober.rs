//! Tries connections from inside an identity: a small server that runs as a process of one party (a container, an
//! unknown user, the node, the outside), and the client that tells it what to try.
//!
//! One process a party, no process a flow: the server handles any number of attempts at the same time. They talk in
//! JSON lines ([`wire`]) over the server's standard streams. Its listeners answer with the party's name, so that a
//! client knows not only that somebody answered, but who.

mod client;
mod server;
pub mod wire;

pub use client::{Pending, Prober};
pub use server::{serve, serve_stdio};
pub use wire::{Connect, Outcome, Protocol};
