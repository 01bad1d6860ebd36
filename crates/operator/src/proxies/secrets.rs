//! The Secrets that a SidecarProxy names: what the proxy takes of each, and what it would find wrong there.
//!
//! Whoever asks about a Secret, before a SidecarProxy is written, while its configuration is made or when its status is, asks here.

mod content;
mod faults;
mod uses;

pub use content::SecretContent;
pub use faults::{Fault, faults};
pub use uses::{Naming, Takes, Use, namings, needed, uses};

/// The entry of a Secret with a certificate that holds the certificate and its chain, as in the type `kubernetes.io/tls`.
pub const TLS_CERT: &str = "tls.crt";
/// The entry that holds its key.
pub const TLS_KEY: &str = "tls.key";
