//! One port of the proxy: where it listens, where it forwards to, and who may pass.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::certificate::CertificateRequest;

/// One port that the proxy opens in front of the application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// The port to listen on.
    pub port: u16,
    /// The address to listen on. Without it: every address of the pod, IPv4 and IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub address: Option<IpAddr>,
    /// The application behind this port.
    pub forward: Forward,
    /// Speak TLS on this port. Without it the port speaks plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The ways in which a request may say who it comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authentication: Vec<Authentication>,
    /// Let every request pass without credentials. A listener without `authentication` must say so, so that a
    /// forgotten block never opens an application.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
}

/// The application's port, on 127.0.0.1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forward {
    /// The port on which the application listens on 127.0.0.1.
    pub port: u16,
    /// What the application speaks.
    #[serde(default)]
    pub protocol: Protocol,
}

/// What is spoken with the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/2 without TLS. Not supported yet: `validate` refuses it.
    #[serde(rename = "HTTP2")]
    Http2,
    /// Bytes. Not supported yet: `validate` refuses it.
    #[serde(rename = "TCP")]
    Tcp,
}

/// TLS towards the client. The certificate comes from a Secret of type `kubernetes.io/tls` in a cluster, and from two
/// PEM files otherwise: see [`Tls::source`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend("x-kubernetes-validations" = [{
        "rule": "!has(self.certificate) || has(self.secretName)",
        "message": "a certificate needs a Secret to be kept in: add secretName",
        "fieldPath": ".secretName",
    }]))
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// The Secret that holds `tls.crt` and `tls.key`. In a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Have the certificate made and renewed, and kept in that Secret. Without it, you bring the Secret. In a cluster
    /// only. Listeners that share a Secret ask once, or ask for the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateRequest>,
    /// The PEM file with the certificate, followed by its intermediates. In a configuration file only; a relative name
    /// is looked up beside that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<String>,
    /// The PEM file with the certificate's private key. In a configuration file only; a relative name is looked up
    /// beside that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// The oldest protocol version that a client may speak.
    #[serde(default)]
    pub min_version: TlsVersion,
}

/// A TLS protocol version. Older ones than 1.2 are not offered (RFC 8996).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V1_3,
}

/// One way to say who a request comes from. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authentication {
    /// HTTP Basic authentication (RFC 7617) against an htpasswd file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
}

/// HTTP Basic authentication. The users come from a key of a Secret in a cluster, and from a file otherwise: see
/// [`Basic::source`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Basic {
    /// The Secret that holds the users. In a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// The key of that Secret, whose value is an htpasswd file. In a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The htpasswd file. In a configuration file only; a relative name is looked up beside that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub htpasswd_file: Option<String>,
    /// What a browser shows when it asks for the password.
    #[serde(default = "default_realm")]
    pub realm: String,
}

fn default_realm() -> String {
    "Protected".to_owned()
}
