//! The front proxy: authenticates every request before the application sees it.
#![forbid(unsafe_code)]

pub mod auth;
pub mod config;
pub mod framing;
pub mod headers;
pub mod htpasswd;
pub mod reload;
pub mod secret;
pub mod tls;
