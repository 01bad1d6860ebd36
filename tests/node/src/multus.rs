//! Multus, which attaches pods to further networks, and whereabouts, which gives addresses there, as their own manifests
//! deploy them on a node.
//!
//! Multus comes in two forms. The *thin* one is a plugin, and a program that installs it and keeps its configuration a copy
//! of the default network's. The *thick* one is a daemon that does the work, and a plugin that only asks it. In a cluster
//! the programs run in pods of a DaemonSet; here they are services of the node's cell, with the same arguments but for
//! paths, the same service account and the same rights.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::api::{Api, Credentials, Token};
use crate::control::ControlPlane;
use crate::error::{BedError, Result};
use crate::node::{CNI_CONFIGURATION, CNI_PLUGINS, Node};
use crate::parts;
use crate::until::until;

/// How long Multus may take to write its configuration, and to end.
const LIMIT: Duration = Duration::from_secs(20);
/// Its service on a node.
const SERVICE: &str = "multus";
/// Where a pod finds its service account's credentials.
const SECRETS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The thick form's configuration, inside.
const DAEMON: &str = "/etc/cni/net.d/multus.d/daemon-config.json";
/// whereabouts' own folder, inside: `whereabouts.conf` is read from there.
const WHEREABOUTS: &str = "/etc/cni/net.d/whereabouts.d";
/// The kinds, and the files in which they are defined.
const KINDS: [(&str, &str); 4] = [
    ("network-attachment-definitions.k8s.cni.cncf.io", "network-attachment-definitions.yaml"),
    ("multi-networkpolicies.k8s.cni.cncf.io", "multi-networkpolicies.yaml"),
    ("ippools.whereabouts.cni.cncf.io", "ippools.yaml"),
    ("overlappingrangeipreservations.whereabouts.cni.cncf.io", "overlappingrangeipreservations.yaml"),
];

/// The service accounts, with the rights that Multus' and whereabouts' manifests give them.
const ACCOUNTS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: multus, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: multus}
rules:
- {apiGroups: [k8s.cni.cncf.io], resources: ["*"], verbs: ["*"]}
- {apiGroups: [""], resources: [pods, pods/status], verbs: [get, list, update, watch]}
- {apiGroups: ["", events.k8s.io], resources: [events], verbs: [create, patch, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: multus}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: multus}
subjects: [{kind: ServiceAccount, name: multus, namespace: kube-system}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: whereabouts, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: whereabouts-cni}
rules:
- apiGroups: [whereabouts.cni.cncf.io]
  resources: [ippools, overlappingrangeipreservations]
  verbs: [get, list, watch, create, update, patch, delete]
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: ["*"]}
- {apiGroups: [""], resources: [pods], verbs: [list, watch]}
- {apiGroups: [""], resources: [nodes], verbs: [get]}
- {apiGroups: [k8s.cni.cncf.io], resources: [network-attachment-definitions], verbs: [get, list, watch]}
- {apiGroups: ["", events.k8s.io], resources: [events], verbs: [create, patch, update, get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: whereabouts}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: whereabouts-cni}
subjects: [{kind: ServiceAccount, name: whereabouts, namespace: kube-system}]
"#;

/// Which of its two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A plugin.
    Thin,
    /// A daemon, and a plugin that asks it.
    Thick,
}

/// Makes a cluster know the kinds of further networks, their policies and their addresses, and both service accounts.
///
/// # Errors
/// When a part is missing, or the API server refuses something.
pub fn install(api: &Api) -> Result<()> {
    for (_, file) in KINDS {
        api.apply(&parts::document(file)?)?;
    }
    api.apply(ACCOUNTS)?;
    for (name, _) in KINDS {
        api.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &format!("crd/{name}")])?;
    }
    Ok(())
}

/// Multus on a node, with whereabouts beside it.
#[derive(Debug)]
pub struct Multus<'a> {
    node: &'a Node,
    form: Form,
    /// Host and port of the API server.
    server: (String, String),
}

impl<'a> Multus<'a> {
    /// Installs both, and returns when Multus' configuration is the first of the node's.
    ///
    /// # Errors
    /// When a part is missing, the API server gives no token, or Multus does not start; with its log.
    pub fn start(node: &'a Node, control: &ControlPlane, form: Form) -> Result<Multus<'a>> {
        let url = control.inner_url();
        let server = url.trim_start_matches("https://").split_once(':').unwrap_or_default();
        let multus = Multus { node, form, server: (server.0.into(), server.1.into()) };
        let cell = node.cell();
        let token = |account: &str| -> Result<String> {
            let create = ["-n", "kube-system", "create", "token", account, "--duration=24h"];
            Ok(control.admin().kubectl(&create)?.trim().to_owned())
        };
        cell.write(format!("{SECRETS}/token"), token("multus")?)?;
        cell.write(format!("{SECRETS}/ca.crt"), control.authority())?;
        let kubeconfig = format!("{WHEREABOUTS}/whereabouts.kubeconfig");
        cell.write(&kubeconfig, control.inner_kubeconfig(&Credentials::Token(Token(token("whereabouts")?))))?;
        let own = json!({"datastore": "kubernetes", "kubernetes": {"kubeconfig": kubeconfig}});
        cell.write(format!("{WHEREABOUTS}/whereabouts.conf"), own.to_string())?;
        multus.put_back("whereabouts")?;
        if form == Form::Thick {
            multus.put_back("multus-shim")?;
            let daemon = json!({
                "cniVersion": "1.0.0", "logLevel": "verbose", "logToStderr": true, "cniConfigDir": CNI_CONFIGURATION,
                "multusAutoconfigDir": CNI_CONFIGURATION, "multusConfigFile": "auto", "socketDir": "/run/multus/",
            });
            cell.write(DAEMON, daemon.to_string())?;
        }
        multus.resume()?;
        Ok(multus)
    }

    /// Starts Multus, for the first time or again, and waits for its configuration.
    ///
    /// # Errors
    /// When it ends, or writes none; with its log.
    pub fn resume(&self) -> Result<()> {
        let command = match self.form {
            Form::Thin => vec![
                parts::node("thin_entrypoint")?.display().to_string(),
                format!("--cni-bin-dir={CNI_PLUGINS}"),
                format!("--cni-conf-dir={CNI_CONFIGURATION}"),
                format!("--multus-autoconfig-dir={CNI_CONFIGURATION}"),
                "--multus-cni-conf-dir=/etc/cni/multus/net.d".into(),
                format!("--multus-bin-file={}", parts::node("multus")?.display()),
                "--multus-conf-file=auto".into(),
                "--cleanup-config-on-exit=true".into(),
            ],
            Form::Thick => {
                vec![parts::node("multus-daemon")?.display().to_string(), format!("--config={DAEMON}")]
            }
        };
        let (host, port) = (self.server.0.as_str(), self.server.1.as_str());
        let environment = [
            ("KUBERNETES_SERVICE_HOST", host),
            ("KUBERNETES_SERVICE_PORT", port),
            ("MULTUS_NODE_NAME", self.node.name()),
        ];
        self.node.cell().start(SERVICE, &command, &environment)?;
        until("Multus' configuration", LIMIT, || {
            self.node.cell().still_runs(SERVICE)?;
            Ok(if self.is_configured() { Ok(()) } else { Err(self.log()) })
        })
    }

    /// Whether pods are attached by Multus: whether its configuration is there.
    pub fn is_configured(&self) -> bool {
        let there = |name: &&str| self.node.cell().path(format!("{CNI_CONFIGURATION}/{name}")).exists();
        ["00-multus.conf", "00-multus.conflist"].iter().any(there)
    }

    /// Ends its program.
    ///
    /// # Errors
    /// When it does not run, or not end.
    pub fn stop(&self, signal: Signal) -> Result<()> {
        self.node.cell().stop(SERVICE, signal, LIMIT).map(drop)
    }

    /// Takes a plugin away from where the node looks for plugins.
    ///
    /// # Errors
    /// When it is not there.
    pub fn take_away(&self, plugin: &str) -> Result<()> {
        let path = self.node.cell().path(CNI_PLUGINS).join(plugin);
        fs::remove_file(&path).map_err(BedError::file("remove", path))
    }

    /// Copies a plugin to where the node looks for plugins.
    ///
    /// # Errors
    /// When it is missing, or can't be copied.
    pub fn put_back(&self, plugin: &str) -> Result<()> {
        let path = self.node.cell().path(CNI_PLUGINS).join(plugin);
        fs::copy(parts::node(plugin)?, &path).map(drop).map_err(BedError::file("write", path))
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.node.cell().log(SERVICE)
    }
}
