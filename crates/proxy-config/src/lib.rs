//! The front proxy's configuration: plain data that serde reads, and the rules it must keep.
//!
//! The same types are two things. In a cluster they are the `spec` of a `SidecarProxy` (less its `podSelector`), where
//! users and certificates are named as Secrets ([`Form::Cluster`]). For a proxy that runs by hand they are its
//! configuration file, where the same things are files ([`Form::File`]). One shape, two forms:
//!
//! ```yaml
//! listeners:
//! - port: 443
//!   forward: {port: 8080}
//!   tls: {certFile: tls.crt, keyFile: tls.key}         # or: {secretName: web-tls}
//!   authentication:
//!   - basic: {htpasswdFile: users.htpasswd}            # or: {secretName: web-users, key: htpasswd}
//! ```
//!
//! Unknown fields are errors, and what this version cannot enforce is refused by [`ProxyConfig::validate`] rather than
//! accepted and ignored.
#![forbid(unsafe_code)]

mod certificate;
mod limits;
mod listener;
mod own_ports;
mod source;
mod target;
mod validate;

pub use certificate::{
    CertificateRequest, CertificateSource, DNS_NAME_MAX, DNS_NAMES_MAX, IssuerRef, is_dns_name, is_of_namespace,
};
pub use limits::{Limits, Timeouts};
pub use listener::{Authentication, Basic, Forward, Listener, Protocol, Tls, TlsVersion};
pub use own_ports::{
    Admin, CAPTURED_MAX, Capture, DEFAULT_ADMIN_PORT, DEFAULT_CAPTURE_PORT, DEFAULT_PROBE_PORT, Probes, TARGETS_MAX,
};
pub use source::{SourceFault, TlsSource, UsersSource};
pub use target::{Grpc, HookKey, HttpGet, HttpHeader, Occasion, Scheme, Target, TcpSocket};
pub use validate::{Fault, Form, Problem, Problems};

use serde::{Deserialize, Serialize};

/// Everything the proxy of one pod does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyConfig {
    /// The ports that the proxy opens. At least one.
    pub listeners: Vec<Listener>,
    /// How much the proxy accepts before it refuses.
    #[serde(default)]
    pub limits: Limits,
    /// How long the proxy waits before it gives up.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Where the proxy tells of itself. Without it, nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<Admin>,
    /// Where the kubelet's probes and hooks arrive. Without it, nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// Traffic that aims at the application's own ports and is redirected to the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
}
