//! The front proxy: authenticates every request before the application sees it.
//!
//! A request's way: [`sockets`] → [`worker`] accepts → [`connection`] (TLS, [`stream`] with [`framing`]) → [`service`]
//! (checks, [`auth`], [`headers`]) → [`upstream`] → [`body`] back to the client; [`exchange`] logs it when it is over.
//! [`server`] puts the parts together from what [`prepare`] has read, [`reload`] replaces users and certificates while they
//! run. Connections that aimed at the application itself become a listener's in [`capture`].
//!
//! Beside the workers, on a thread of its own ([`side`]): [`admin`] tells of the proxy itself, with the [`metrics`] that
//! workers count each for itself, and [`probe`] asks the application what the kubelet wants to know.
#![forbid(unsafe_code)]

pub mod access_log;
pub mod admin;
pub mod auth;
pub mod body;
pub mod capture;
pub mod cli;
pub mod config;
pub mod connection;
pub mod exchange;
pub mod framing;
pub mod headers;
pub mod metrics;
pub mod phase;
pub mod places;
pub mod prepare;
pub mod probe;
pub mod reload;
pub mod server;
pub mod service;
pub mod side;
pub mod sockets;
pub mod stream;
pub mod upstream;
pub mod worker;

pub use sidewall_credentials::{htpasswd, secret, tls};
