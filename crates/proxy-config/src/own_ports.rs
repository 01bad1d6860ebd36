//! The proxy's own ports beside its listeners: what it tells of itself, what it asks for the kubelet, and where traffic
//! arrives that aimed at the application.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::target::Target;

/// The admin address's port, unless the configuration says another.
pub const DEFAULT_ADMIN_PORT: u16 = 15410;
/// The probe port, unless the configuration says another.
pub const DEFAULT_PROBE_PORT: u16 = 15411;
/// The port to which captured traffic is redirected, unless the configuration says another.
pub const DEFAULT_CAPTURE_PORT: u16 = 15412;
/// The most probes and hooks that one proxy asks for.
pub const TARGETS_MAX: usize = 256;
/// The most captured ports of one proxy.
pub const CAPTURED_MAX: usize = 32;

/// The address on which the proxy tells of itself, to whoever may connect: `/healthz`, `/readyz` and `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Admin {
    /// The address to listen on. By default 127.0.0.1, which only the pod itself reaches; the kubelet asks for the
    /// proxy's own health on the probe port. `0.0.0.0` is every address of IPv4, `::` every one of IPv6.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub address: IpAddr,
    /// The port to listen on.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub port: u16,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: DEFAULT_ADMIN_PORT }
    }
}

/// The port on which the kubelet's probes and hooks arrive. It answers with a status and nothing else; beside the targets
/// it knows `/healthz` and `/readyz`, which are the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Probes {
    /// The port to listen on.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub port: u16,
    /// The address to listen on. Without it: every address of the pod, IPv4 and IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub address: Option<IpAddr>,
    /// What is asked for which path. In a configuration file only: in a cluster the operator takes it from the pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = TARGETS_MAX), extend("x-kubernetes-list-type" = "atomic")))]
    pub targets: Vec<Target>,
}

impl Default for Probes {
    fn default() -> Self {
        Self { port: DEFAULT_PROBE_PORT, address: None, targets: Vec::new() }
    }
}

/// Traffic that aims at the application's own ports and that the kernel redirects to the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capture {
    /// The application's ports whose traffic is captured. To each, a listener must forward; a captured connection is
    /// treated as that listener's, and where several forward there, as the strictest one's: one that authenticates before
    /// an anonymous one, then one with TLS before one without, then the first.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = CAPTURED_MAX), inner(range(min = 1)), extend("x-kubernetes-list-type" = "set"))
    )]
    pub inbound: Vec<u16>,
    /// The port to which the kernel redirects it. A connection that comes here by itself is refused.
    #[serde(default = "default_capture_port")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub port: u16,
}

fn default_capture_port() -> u16 {
    DEFAULT_CAPTURE_PORT
}
