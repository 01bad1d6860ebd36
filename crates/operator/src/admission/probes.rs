//! What the kubelet asks of containers, led through the proxy.
//!
//! A probe that aims at a port on 127.0.0.1 cannot reach it from outside, and must not be let through the wall: what the whole
//! world sends can carry the node's address. So the probe goes to the proxy's probe port, under a path of its own, and the proxy
//! asks. What the probe asked before is kept in an annotation ([`Originals`]): the renderer makes the proxy's targets of it,
//! and a second call of the webhook knows by it what has been done.

mod key;
mod original;
mod rewrite;

pub use key::{BadHookSecret, HookSecret};
pub use original::{Original, Originals, read_originals};
pub(crate) use rewrite::Rewriting;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_proxy_config::Occasion;
use std::net::IpAddr;

/// The most bytes of [`Originals`] that one pod keeps. Kubernetes allows 256 KiB for all annotations together.
pub const ORIGINALS_MAX: usize = 64 * 1024;

/// The longest time that the proxy gives an application to answer, in seconds.
const TIMEOUT_MAX: u32 = 3600;

/// Every occasion on which the kubelet asks.
pub const OCCASIONS: [Occasion; 5] =
    [Occasion::Startup, Occasion::Liveness, Occasion::Readiness, Occasion::PostStart, Occasion::PreStop];

/// The fields that lead from a container to what is asked on an occasion.
pub fn fields(occasion: Occasion) -> &'static [&'static str] {
    match occasion {
        Occasion::Startup => &["startupProbe"],
        Occasion::Liveness => &["livenessProbe"],
        Occasion::Readiness => &["readinessProbe"],
        Occasion::PostStart => &["lifecycle", "postStart"],
        Occasion::PreStop => &["lifecycle", "preStop"],
    }
}

/// A request that the kubelet makes over the network.
#[derive(Clone, Debug, PartialEq)]
enum Asked<'a> {
    Http(&'a HTTPGetAction),
    Tcp { port: &'a IntOrString, host: Option<&'a str> },
    Grpc { port: i32 },
}

impl Asked<'_> {
    /// The field that holds it, beside its occasion.
    fn field(&self) -> &'static str {
        match self {
            Self::Http(_) => "httpGet",
            Self::Tcp { .. } => "tcpSocket",
            Self::Grpc { .. } => "grpc",
        }
    }

    /// The address that it names; none for the pod's own.
    fn host(&self) -> Option<&str> {
        let host = match self {
            Self::Http(http) => http.host.as_deref(),
            Self::Tcp { host, .. } => *host,
            Self::Grpc { .. } => None,
        };
        host.filter(|host| !host.is_empty())
    }

    /// The port, if it is one: a name is looked up in the container's own ports, as the kubelet does.
    fn port(&self, container: &Container) -> Option<u16> {
        let port = match self {
            Self::Http(http) => &http.port,
            Self::Tcp { port, .. } => *port,
            Self::Grpc { port } => return u16::try_from(*port).ok().filter(|port| *port > 0),
        };
        let number = match port {
            IntOrString::Int(number) => *number,
            IntOrString::String(name) => {
                let mut ports = container.ports.iter().flatten();
                let named = ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port);
                named.or_else(|| name.parse().ok())?
            }
        };
        u16::try_from(number).ok().filter(|port| *port > 0)
    }
}

/// What a container is asked over the network on an occasion, and how long it may take.
fn asked(container: &Container, occasion: Occasion) -> Option<(Asked<'_>, Option<i32>)> {
    match occasion {
        Occasion::Startup => of_probe(container.startup_probe.as_ref()?),
        Occasion::Liveness => of_probe(container.liveness_probe.as_ref()?),
        Occasion::Readiness => of_probe(container.readiness_probe.as_ref()?),
        Occasion::PostStart => of_hook(container.lifecycle.as_ref()?.post_start.as_ref()?),
        Occasion::PreStop => of_hook(container.lifecycle.as_ref()?.pre_stop.as_ref()?),
    }
}

fn of_probe(probe: &Probe) -> Option<(Asked<'_>, Option<i32>)> {
    let asked = match (&probe.http_get, &probe.tcp_socket, &probe.grpc) {
        (Some(http), None, None) => Asked::Http(http),
        (None, Some(tcp), None) => Asked::Tcp { port: &tcp.port, host: tcp.host.as_deref() },
        (None, None, Some(grpc)) => Asked::Grpc { port: grpc.port },
        // None of them, or so many that the API server refuses the pod.
        _ => return None,
    };
    Some((asked, probe.timeout_seconds))
}

fn of_hook(handler: &LifecycleHandler) -> Option<(Asked<'_>, Option<i32>)> {
    // A hook's tcpSocket is kept by the API for the sake of old objects, and never tried.
    Some((Asked::Http(handler.http_get.as_ref()?), None))
}

/// Whether a host is this pod's, or rather what an author took for it, loopback.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
