//! What is asked of the application for the kubelet: the pod's own probes and hooks, in Kubernetes' own words.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One probe or hook of one container, and what it asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// The container whose probe or hook it is.
    pub container: String,
    /// Which of its probes or hooks.
    pub occasion: Occasion,
    /// A hook does something, and whoever reaches the port could call it: so its path ends in this word, which nobody
    /// can guess. For a hook only, and needed there; 20 to 64 of a-z, A-Z, 0-9, - and _.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<HookKey>,
    /// How long the application may take for the whole answer, in seconds: the probe's own `timeoutSeconds`, and for a
    /// hook, which has none, at most the pod's grace period. 1 to 3600.
    #[serde(default = "one_second")]
    pub timeout_seconds: u32,
    /// An HTTP request. Exactly one of `httpGet`, `tcpSocket` and `grpc` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// A TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocket>,
    /// The standard health check of gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Grpc>,
}

fn one_second() -> u32 {
    1
}

/// When the kubelet asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Occasion {
    /// `livenessProbe`.
    Liveness,
    /// `readinessProbe`.
    Readiness,
    /// `startupProbe`.
    Startup,
    /// `lifecycle.postStart`.
    PostStart,
    /// `lifecycle.preStop`.
    PreStop,
}

impl Occasion {
    /// Its name, as it stands in configuration and path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
            Self::PostStart => "postStart",
            Self::PreStop => "preStop",
        }
    }

    /// Whether it is a hook, which does something, and not a probe, which asks.
    pub fn is_hook(self) -> bool {
        matches!(self, Self::PostStart | Self::PreStop)
    }
}

impl Target {
    /// The path on the probe port that stands for this target, for the pod's rewritten `httpGet`:
    /// `/probe/CONTAINER/OCCASION`, or `/lifecycle/CONTAINER/OCCASION/KEY`.
    pub fn path(&self) -> String {
        let (container, occasion) = (&self.container, self.occasion.name());
        match &self.key {
            Some(key) if self.occasion.is_hook() => format!("/lifecycle/{container}/{occasion}/{}", key.expose()),
            _ if self.occasion.is_hook() => format!("/lifecycle/{container}/{occasion}"),
            _ => format!("/probe/{container}/{occasion}"),
        }
    }

    /// The application's port that is asked; `None` where nothing is.
    pub fn port(&self) -> Option<u16> {
        match (&self.http_get, &self.tcp_socket, &self.grpc) {
            (Some(http), None, None) => Some(http.port),
            (None, Some(tcp), None) => Some(tcp.port),
            (None, None, Some(grpc)) => Some(grpc.port),
            _ => None,
        }
    }
}

/// The word that nobody can guess, at the end of a hook's path. Not printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct HookKey(String);

impl HookKey {
    /// The fewest characters: 120 bits, if drawn from all 64.
    pub const MIN: usize = 20;
    /// The most.
    pub const MAX: usize = 64;

    /// A word as it is; [`crate::ProxyConfig::validate`] says whether it will do.
    pub fn new(word: impl Into<String>) -> Self {
        Self(word.into())
    }

    /// The word.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookKey(redacted)")
    }
}

/// An HTTP GET request. 200 to 399 is success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpGet {
    /// The application's port.
    pub port: u16,
    /// The path, with its query.
    #[serde(default = "root")]
    pub path: String,
    /// Whether the port speaks TLS. Its certificate is not verified, as the kubelet does not.
    #[serde(default)]
    pub scheme: Scheme,
    /// The address to connect to; one of the loopback, or `localhost`. Without it: 127.0.0.1 and, if nothing listens
    /// there, the pod's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Headers of the request. `Host` replaces what the kubelet would send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http_headers: Vec<HttpHeader>,
}

fn root() -> String {
    "/".to_owned()
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Scheme {
    /// Plain HTTP.
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP over TLS.
    #[serde(rename = "HTTPS")]
    Https,
}

/// A header of a probe's request.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpHeader {
    /// Its name.
    pub name: String,
    /// Its value. Not printed: some probes carry credentials.
    pub value: String,
}

impl fmt::Debug for HttpHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpHeader").field("name", &self.name).field("value", &"redacted").finish()
    }
}

/// A TCP connection. That it is accepted is success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpSocket {
    /// The application's port.
    pub port: u16,
    /// The address to connect to, as in `httpGet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// `grpc.health.v1.Health/Check` over HTTP/2 without TLS. `SERVING` is success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grpc {
    /// The application's port.
    pub port: u16,
    /// The service that is asked about; empty for the server as a whole.
    #[serde(default)]
    pub service: String,
}
