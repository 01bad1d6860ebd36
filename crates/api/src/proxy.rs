//! SidecarProxy: the front door of an application that has none.

mod status;

pub use status::{ProxyPodCounts, SidecarProxyStatus};

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use sidewall_proxy_config::{
    Admin, Capture, CertificateSource, Form, Limits, Listener, Probes, ProxyConfig, Timeouts, is_dns_name,
    is_of_namespace,
};

use crate::names::{DEFAULT_NAMESPACE, DEFAULT_PROXY_CONTAINER, is_dns_label};
use crate::problem::{FieldPath, Problem, Segment};
use crate::selector::LabelSelector;

/// The most listeners of one proxy.
pub const LISTENERS_MAX: usize = 32;

/// What a SidecarProxy says: which pods get the proxy, and the proxy's configuration.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[expect(clippy::duplicated_attributes, reason = "each column is an attribute of its own")]
#[kube(
    group = "sidewall.dev",
    version = "v1alpha1",
    kind = "SidecarProxy",
    plural = "sidecarproxies",
    shortname = "scp",
    category = "sidewall",
    namespaced,
    status = "SidecarProxyStatus",
    derive = "PartialEq",
    doc = "Puts an authenticating reverse proxy in front of the selected pods' application, and closes every other way to it.",
    printcolumn(name = "Ports", type_ = "string", json_path = ".spec.listeners[*].port"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.pods.selected"),
    printcolumn(name = "Fronted", type_ = "integer", json_path = ".status.pods.fronted"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Container", type_ = "string", json_path = ".spec.containerName", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.capture) || self.capture.inbound.all(p, self.listeners.exists(l, l.forward.port == p))")
        .message("captured traffic is treated as a listener's that forwards to its port: add one for each port")
        .field_path(".capture.inbound"),
    validation = Rule::new("!has(self.capture) || self.capture.inbound.all(p, self.listeners.all(l, l.port != p))")
        .message("a captured port cannot be a listener's own: remove it")
        .field_path(".capture.inbound"),
    validation = Rule::new("!has(self.admin) || self.listeners.all(l, l.port != self.admin.port && l.forward.port != self.admin.port)")
        .message("the admin port is a listener's or the application's: choose another")
        .field_path(".admin.port"),
    validation = Rule::new("!has(self.probes) || self.listeners.all(l, l.port != self.probes.port && l.forward.port != self.probes.port)")
        .message("the probe port is a listener's or the application's: choose another")
        .field_path(".probes.port"),
    validation = Rule::new("!has(self.capture) || self.listeners.all(l, l.port != self.capture.port && l.forward.port != self.capture.port)")
        .message("the capture port is a listener's or the application's: choose another")
        .field_path(".capture.port"),
    validation = Rule::new("!has(self.admin) || !has(self.probes) || self.admin.port != self.probes.port")
        .message("the admin port and the probe port are the same: choose another")
        .field_path(".probes.port"),
    validation = Rule::new("!has(self.capture) || ((!has(self.admin) || self.admin.port != self.capture.port) && (!has(self.probes) || self.probes.port != self.capture.port))")
        .message("the capture port is the admin port or the probe port: choose another")
        .field_path(".capture.port"),
    validation = Rule::new("!has(self.probes) || !has(self.probes.targets) || size(self.probes.targets) == 0")
        .message("the operator takes the targets from the pod's probes: remove them")
        .field_path(".probes.targets")
)]
pub struct SidecarProxySpec {
    /// The pods of the same namespace that get the proxy. `{}` selects all of them.
    pub pod_selector: LabelSelector,

    /// The container of those pods that is the proxy.
    #[serde(default = "default_container_name")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub container_name: String,

    /// The ports that the proxy opens, and where it forwards to. A port has one listener.
    #[schemars(
        length(min = 1, max = LISTENERS_MAX),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["port"])
    )]
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

fn default_container_name() -> String {
    DEFAULT_PROXY_CONTAINER.to_owned()
}

impl SidecarProxySpec {
    /// The proxy's own configuration: the spec less what only Kubernetes needs.
    pub fn config(&self) -> ProxyConfig {
        ProxyConfig {
            listeners: self.listeners.clone(),
            limits: self.limits.clone(),
            timeouts: self.timeouts.clone(),
            admin: self.admin.clone(),
            probes: self.probes.clone(),
            capture: self.capture.clone(),
        }
    }

    /// Which form the spec has: file names make it one for a proxy that runs by hand, everything else is a cluster's.
    pub fn form(&self) -> Form {
        let by_file = self.listeners.iter().any(|listener| {
            listener.tls.as_ref().is_some_and(|tls| tls.cert_file.is_some() || tls.key_file.is_some())
                || listener
                    .authentication
                    .iter()
                    .any(|way| way.basic.as_ref().is_some_and(|basic| basic.htpasswd_file.is_some()))
        });
        let by_file = by_file || self.probes.as_ref().is_some_and(|probes| !probes.targets.is_empty());
        if by_file { Form::File } else { Form::Cluster }
    }
}

impl SidecarProxy {
    /// What is wrong with it, where `form` says whether users and certificates are Secrets or files.
    pub fn validate(&self, form: Form) -> Vec<Problem> {
        let mut problems = Vec::new();
        let spec = FieldPath::spec();
        self.spec.pod_selector.validate(&spec.key("podSelector"), &mut problems);
        if !is_dns_label(&self.spec.container_name) {
            problems.push(Problem::error(
                spec.key("containerName"),
                format!(
                    "{:?} is no container name: 1 to 63 of a-z, 0-9 and -, a letter or digit at both ends",
                    self.spec.container_name
                ),
            ));
        }
        if self.spec.listeners.len() > LISTENERS_MAX {
            problems.push(Problem::error(
                spec.key("listeners"),
                format!("has {} entries, and at most {LISTENERS_MAX} are allowed", self.spec.listeners.len()),
            ));
        }
        self.one_listener_a_port(&mut problems);
        if let Err(found) = self.spec.config().validate(form) {
            problems.extend(found.as_slice().iter().map(|problem| {
                let path = FieldPath::parse(&problem.path).unwrap_or_default();
                let path: FieldPath =
                    std::iter::once(Segment::Key("spec".to_owned())).chain(path.segments().iter().cloned()).collect();
                Problem::error(path, problem.fault.to_string())
            }));
        }
        self.certificates(&mut problems);
        problems
    }

    /// Listeners are a map by their ports for the API server, so that two who apply a listener each get both. By hand, where a
    /// machine has addresses of its own, a port may have a listener on each.
    fn one_listener_a_port(&self, problems: &mut Vec<Problem>) {
        let mut first = BTreeMap::new();
        for (index, listener) in self.spec.listeners.iter().enumerate() {
            if let Some(before) = first.get(&listener.port) {
                problems.push(Problem::error(
                    FieldPath::spec().key("listeners").index(index).key("port"),
                    format!("port {} is that of spec.listeners[{before}]; a port has one listener", listener.port),
                ));
            } else {
                first.insert(listener.port, index);
            }
        }
    }

    /// A namespace is a boundary: who writes in one gets no certificate for another's names from an authority whom clients
    /// of both believe. That a name is of some namespace is checked with the configuration, which knows none.
    fn certificates(&self, problems: &mut Vec<Problem>) {
        let namespace = self.metadata.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        for (index, listener) in self.spec.listeners.iter().enumerate() {
            let request = listener.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
            let Some(request) = request.filter(|request| request.source == CertificateSource::SelfManaged) else {
                continue;
            };
            let at = FieldPath::spec().key("listeners").index(index).key("tls").key("certificate").key("dnsNames");
            for (index, name) in request.dns_names.iter().enumerate() {
                // What is no name at all, or of no namespace, has been told.
                let told = !is_dns_name(name) || !(name.ends_with(".svc") || name.ends_with(".svc.cluster.local"));
                if !told && !is_of_namespace(name, namespace) {
                    problems.push(Problem::error(
                        at.index(index),
                        format!(
                            "{name:?} is no name of this namespace: the operator's own authority signs names below \
                             {namespace}.svc and {namespace}.svc.cluster.local only; use such a name, or `source: CertManager`"
                        ),
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
