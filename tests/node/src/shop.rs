//! The namespace `shop`: policies around a pod `web` that serves a page, and pods of busybox that serve it or fetch it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::api::Api;
use crate::error::Result;

/// Serves the page, on port 8080.
pub const SERVE: &str = "mkdir -p /tmp/www; echo hello > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www";
/// Does nothing.
pub const WAIT: &str = "exec sleep 3600";
/// The page, as the serving container and its neighbours in the pod have it.
pub const NEAR: &str = "http://127.0.0.1:8080/index.html";
/// The peers of [`policies`] that are pods labelled `app: friend`.
pub const FRIENDS: &str = "{podSelector: {matchLabels: {app: friend}}}";

/// The namespace, and its policy `web`: pods labelled `app: web` are reached by these peers alone, on port 8080, and send
/// nothing.
pub fn policies(peers: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: shop}}
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {{name: web, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: web}}}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{peers}]
    ports: [{{protocol: TCP, port: 8080}}]
"#
    )
}

/// The policy `helper`, to stand behind [`policies`]: the container of that name may send to its neighbour `app`.
pub const HELPER: &str = r#"---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: helper, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  containers: [helper]
  policyTypes: [Egress]
  egress:
  - to: [{container: app}]
    ports: [{protocol: TCP, port: 8080}]
"#;

/// What a container may not have that needs nothing: any capability, and any by a program of another's.
pub fn confined() -> Value {
    json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}})
}

/// A pod, on a node or wherever the scheduler wants it. Each of its containers has a name, a user and what its shell runs,
/// and `security` for its security context otherwise; the one called `app` says that it has port 8080.
pub fn pod(name: &str, app: &str, node: Option<&str>, security: &Value, containers: &[(&str, u32, &str)]) -> Value {
    let containers: Vec<_> = containers
        .iter()
        .map(|(name, user, command)| {
            let mut security = security.clone();
            security["runAsUser"] = json!(user);
            json!({
                "name": name, "image": "localhost/busybox:1", "command": ["sh", "-c", command],
                "ports": if *name == "app" { json!([{"containerPort": 8080}]) } else { json!([]) },
                "securityContext": security,
            })
        })
        .collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
        "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "containers": containers},
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = json!(node);
    }
    pod
}

/// The page, as others have it of a pod.
///
/// # Errors
/// As [`Api::addresses`].
pub fn far(api: &Api, namespace: &str, pod: &str) -> Result<String> {
    // It gives at least one.
    let address = api.addresses(namespace, pod)?[0];
    Ok(format!("http://{}/index.html", SocketAddr::from((address, 8080))))
}

/// What a container of a pod of `shop` gets, within two seconds.
///
/// # Errors
/// Why it gets nothing.
pub fn fetch(api: &Api, pod: &str, container: &str, url: &str) -> std::result::Result<String, String> {
    let fetched = api.exec("shop", pod, container, &["timeout", "2", "wget", "-q", "-O-", url]);
    fetched.map_err(|error| error.to_string())
}
