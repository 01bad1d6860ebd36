//! The front proxy: authenticates every request before the application sees it.
//!
//! A request's way: [`sockets`] → [`worker`] accepts → [`connection`] (TLS, [`stream`] with [`framing`]) → [`service`]
//! (checks, [`auth`], [`headers`]) → [`upstream`] → [`body`] back to the client; [`exchange`] logs it when it is over.
//! Connections that aimed at the application itself become a listener's in [`capture`].
//!
//! [`server`] starts the threads. A [`version`] of the configuration, from what [`prepare`] has read, is put in force by the
//! [`fleet`], the first as every later one; [`reload`] looks for new versions of it, and of the [`sources`] that it names.
//! Behind a [`slot`], where connections arrive, it changes between two requests.
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
pub mod fleet;
pub mod framing;
pub mod headers;
pub mod metrics;
pub mod phase;
pub mod places;
pub mod prepare;
pub mod probe;
pub mod reload;
pub mod room;
pub mod server;
pub mod service;
pub mod side;
pub mod slot;
pub mod sockets;
pub mod sources;
pub mod stream;
pub mod upstream;
pub mod version;
pub mod worker;

pub use sidewall_credentials::{htpasswd, secret, tls};
