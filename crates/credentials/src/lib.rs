//! What a Secret holds for the front proxy, read the same way by the proxy that uses it and by the operator that says what is
//! wrong with it.
//!
//! - [`htpasswd`] — users and the hashes of their passwords.
//! - [`tls`] — certificates and their keys.
//! - [`secret`] — values that are never printed and do not stay in memory.
//!
//! No error of this crate quotes what it read.

#![forbid(unsafe_code)]

pub mod htpasswd;
pub mod secret;
pub mod tls;
