//! Reads a container's probes.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe as Manifest};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Port;
use crate::check::{Finding, Severity};

/// The probes of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Until it succeeds, the others wait; when it fails for good, the container is ended.
    pub startup: Option<Probe>,
    /// When it fails, the container is ended (and started again, if the restart policy says so).
    pub liveness: Option<Probe>,
    /// Whether the container is ready.
    pub readiness: Option<Probe>,
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is tried.
    pub action: ProbeAction,
    /// How long to wait after the container's start.
    pub initial_delay: Duration,
    /// How long to wait between attempts.
    pub period: Duration,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// How many successes in a row count as success.
    pub success_threshold: u32,
    /// How many failures in a row count as failure.
    pub failure_threshold: u32,
    /// How long the container has between SIGTERM and SIGKILL when this probe ends it; else the pod's.
    pub grace: Option<Duration>,
}

/// What a probe tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAction {
    /// A command in the container's identity; exit code 0 is success.
    Exec(Vec<String>),
    /// An HTTP request from the node; 200 to 399 is success.
    Http {
        /// The host, when it isn't the pod.
        host: Option<String>,
        /// The port.
        port: u16,
        /// Path and query.
        path: String,
        /// Headers beside the usual ones.
        headers: Vec<(String, String)>,
    },
    /// A TCP connection from the node.
    Tcp {
        /// The host, when it isn't the pod.
        host: Option<String>,
        /// The port.
        port: u16,
    },
}

pub(super) fn read(at: &str, container: &Container, ports: &[Port], problems: &mut Vec<Finding>) -> Probes {
    let mut one = |field: &str, manifest: &Option<Manifest>, only_one_success: bool| {
        let at = format!("{at}.{field}");
        let mut report = |field: &str, message: String| {
            let field = if field.is_empty() { at.clone() } else { format!("{at}.{field}") };
            problems.push(Finding { field, severity: Severity::Error, message });
        };
        let manifest = manifest.as_ref()?;
        let action = action(manifest, ports, &mut report);
        let mut number = |field: &str, value: Option<i32>, default: u32, least: u32| match value.map(u32::try_from) {
            None => default,
            Some(Ok(n)) if n >= least => n,
            // Kubernetes takes 0 for "not given".
            Some(Ok(_)) => default,
            Some(Err(_)) => {
                report(field, "must not be negative".into());
                default
            }
        };
        let probe = Probe {
            initial_delay: secs(number("initialDelaySeconds", manifest.initial_delay_seconds, 0, 0)),
            period: secs(number("periodSeconds", manifest.period_seconds, 10, 1)),
            timeout: secs(number("timeoutSeconds", manifest.timeout_seconds, 1, 1)),
            success_threshold: number("successThreshold", manifest.success_threshold, 1, 1),
            failure_threshold: number("failureThreshold", manifest.failure_threshold, 3, 1),
            grace: manifest.termination_grace_period_seconds.map(super::seconds),
            action: action?,
        };
        if only_one_success && probe.success_threshold != 1 {
            report("successThreshold", "must be 1 in a startup or liveness probe".into());
        }
        Some(probe)
    };
    Probes {
        startup: one("startupProbe", &container.startup_probe, true),
        liveness: one("livenessProbe", &container.liveness_probe, true),
        readiness: one("readinessProbe", &container.readiness_probe, false),
    }
}

fn action(manifest: &Manifest, ports: &[Port], report: &mut dyn FnMut(&str, String)) -> Option<ProbeAction> {
    match (&manifest.exec, &manifest.http_get, &manifest.tcp_socket, &manifest.grpc) {
        (Some(exec), None, None, None) => {
            let command = exec.command.clone().unwrap_or_default();
            if command.is_empty() {
                report("exec.command", "is empty".into());
                return None;
            }
            Some(ProbeAction::Exec(command))
        }
        (None, Some(http), None, None) => {
            if http.scheme.as_deref().is_some_and(|s| s != "HTTP") {
                report("httpGet.scheme", "only HTTP is tried here; use tcpSocket or exec for a TLS port".into());
                return None;
            }
            let headers = http.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect();
            for (name, value) in &headers as &Vec<(String, String)> {
                if name.is_empty() || name.contains([':', ' ', '\r', '\n']) || value.contains(['\r', '\n']) {
                    report("httpGet.httpHeaders", format!("{name:?} is not a header that can be sent"));
                }
            }
            let path = http.path.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "/".into());
            let path = if path.starts_with('/') { path } else { format!("/{path}") };
            if path.contains([' ', '\r', '\n']) {
                report("httpGet.path", "has blanks or line ends; percent-encode them".into());
            }
            let port = port(&http.port, ports).map_err(|m| report("httpGet.port", m)).ok()?;
            Some(ProbeAction::Http { host: host(&http.host), port, path, headers })
        }
        (None, None, Some(tcp), None) => {
            let port = port(&tcp.port, ports).map_err(|m| report("tcpSocket.port", m)).ok()?;
            Some(ProbeAction::Tcp { host: host(&tcp.host), port })
        }
        (None, None, None, Some(_)) => {
            report("grpc", "is not tried here; use tcpSocket or exec".into());
            None
        }
        _ => {
            report("", "must have exactly one of exec, httpGet and tcpSocket".into());
            None
        }
    }
}

fn host(host: &Option<String>) -> Option<String> {
    host.clone().filter(|h| !h.is_empty())
}

fn port(port: &IntOrString, ports: &[Port]) -> Result<u16, String> {
    match port {
        IntOrString::Int(n) => {
            u16::try_from(*n).ok().filter(|n| *n > 0).ok_or_else(|| "must be between 1 and 65535".into())
        }
        IntOrString::String(name) => ports
            .iter()
            .find(|p| p.name.as_deref() == Some(name) && p.protocol == "TCP")
            .map(|p| p.port)
            .ok_or_else(|| format!("the container declares no TCP port {name:?}")),
    }
}

fn secs(n: u32) -> Duration {
    Duration::from_secs(n.into())
}
