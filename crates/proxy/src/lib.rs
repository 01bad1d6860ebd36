//! The front proxy: authenticates every request before the application sees it.
//!
//! A request's way: [`sockets`] → [`worker`] accepts → [`connection`] (TLS, [`stream`] with [`framing`]) → [`service`]
//! (checks, [`auth`], [`headers`]) → [`upstream`] → [`body`] back to the client; [`exchange`] logs it when it is over.
//! [`server`] puts the parts together, [`reload`] replaces users and certificates while they run.
#![forbid(unsafe_code)]

pub mod access_log;
pub mod auth;
pub mod body;
pub mod cli;
pub mod config;
pub mod connection;
pub mod exchange;
pub mod framing;
pub mod headers;
pub mod htpasswd;
pub mod reload;
pub mod secret;
pub mod server;
pub mod service;
pub mod sockets;
pub mod stream;
pub mod tls;
pub mod upstream;
pub mod worker;
