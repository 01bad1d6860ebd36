//! Whose a port is.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::json;
use sidewall_api::SidecarProxy;

use super::choose::name_of;
use crate::admission::edits::Edits;
use crate::admission::identity::Place;
use crate::admission::refusal::Refusal;
use crate::names::{FIRST_UNPRIVILEGED_PORT, SYSCTL_PORT_START};
use crate::settings::Ports;

/// The ports of the proxy beside its listeners.
pub(crate) struct Own {
    /// Probes and hooks.
    pub probe: u16,
    /// What the SidecarProxy may say, with the operator's word where it says nothing; and whether it is on the pod's address.
    others: Vec<(&'static str, u16, bool)>,
}

impl Own {
    pub(crate) fn of(proxy: &SidecarProxy, settings: &Ports) -> Self {
        let spec = &proxy.spec;
        let probe = spec.probes.as_ref().map_or(settings.probe, |probes| probes.port);
        let admin = spec.admin.as_ref();
        let mut others =
            vec![("admin", admin.map_or(settings.admin, |a| a.port), admin.is_some_and(|a| !a.address.is_loopback()))];
        others.extend(spec.capture.as_ref().map(|capture| ("capture", capture.port, true)));
        Self { probe, others }
    }

    /// Refuses ports that two would have.
    pub(crate) fn check(&self, proxy: &SidecarProxy, places: &[Place<'_>]) -> Result<(), Refusal> {
        let own: Vec<(&'static str, u16, bool)> =
            std::iter::once(("probe", self.probe, true)).chain(self.others.iter().copied()).collect();
        for (index, listener) in proxy.spec.listeners.iter().enumerate() {
            for (field, port) in [("port", listener.port), ("forward.port", listener.forward.port)] {
                if let Some((what, ..)) = own.iter().find(|(_, own, _)| *own == port) {
                    let field = format!("spec.listeners[{index}].{field}");
                    return Err(Refusal::PortReserved { proxy: name_of(proxy).to_owned(), field, port, what });
                }
            }
        }
        for place in places {
            for (index, declared) in place.container.ports.iter().flatten().enumerate() {
                if declared.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
                    continue;
                }
                let Ok(port) = u16::try_from(declared.container_port) else { continue };
                let listener = proxy.spec.listeners.iter().position(|listener| listener.port == port);
                let what = match (listener, own.iter().find(|(_, own, _)| *own == port)) {
                    (Some(listener), _) => {
                        let field = format!("spec.listeners[{listener}].port of SidecarProxy {:?}", name_of(proxy));
                        Some((format!("as {field}"), field))
                    }
                    (None, Some((what, _, true))) => Some((
                        format!("for {what}"),
                        format!("proxy.ports.{what} in the operator's settings, or the port in the SidecarProxy"),
                    )),
                    // On 127.0.0.1 only: who listens on the pod's address alone does not meet it, but who can tell?
                    (None, Some((what, ..))) => Some((
                        format!("on 127.0.0.1, for {what}"),
                        format!("proxy.ports.{what} in the operator's settings, or the port in the SidecarProxy"),
                    )),
                    (None, None) => None,
                };
                if let Some((what, change)) = what {
                    return Err(Refusal::PortTaken {
                        container: place.container.name.clone(),
                        field: format!("{}.ports[{index}]", place.path()),
                        port,
                        what,
                        change,
                    });
                }
            }
        }
        Ok(())
    }
}

/// Warns of ports of the node that lead past the proxy.
pub(super) fn warn(hidden: &BTreeSet<u16>, places: &[Place<'_>], warnings: &mut Vec<String>) {
    for place in places {
        for (index, declared) in place.container.ports.iter().flatten().enumerate() {
            let port = u16::try_from(declared.container_port).unwrap_or_default();
            if declared.host_port.is_some_and(|port| port > 0) && hidden.contains(&port) {
                warnings.push(format!(
                    "{}.ports[{index}] of container {:?} opens port {port} on the node, and the proxy closes it: remove hostPort",
                    place.path(),
                    place.container.name,
                ));
            }
        }
    }
}

/// Lets the proxy listen below 1024 without a privilege, where it has to.
pub(super) fn sysctl(
    proxy: &SidecarProxy,
    spec: &PodSpec,
    edits: &mut Edits,
    warnings: &mut Vec<String>,
) -> Result<(), Refusal> {
    let lowest = proxy.spec.listeners.iter().map(|listener| listener.port).min();
    let Some(port) = lowest.filter(|port| *port < FIRST_UNPRIVILEGED_PORT) else { return Ok(()) };
    let own = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    if let Some((index, sysctl)) = own.enumerate().find(|(_, sysctl)| is_port_start(&sysctl.name)) {
        let value = sysctl.value.clone();
        if value.trim().parse().is_ok_and(|start: u16| start <= port) {
            return Ok(());
        }
        return Err(Refusal::Sysctl { port, index, sysctl: SYSCTL_PORT_START, value });
    }
    warnings.push(format!(
        "listener {port} needs the sysctl {SYSCTL_PORT_START}={port}, which is set for the whole pod: its other containers, too, \
         may listen from port {port} on"
    ));
    let sysctl = json!({"name": SYSCTL_PORT_START, "value": port.to_string()});
    Ok(edits.push(&["spec", "securityContext", "sysctls"], sysctl)?)
}

/// Kubernetes takes `/` for `.` in names of sysctls.
fn is_port_start(name: &str) -> bool {
    name.replace('/', ".") == SYSCTL_PORT_START
}
