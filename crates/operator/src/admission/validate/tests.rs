mod bounds;
mod containers;
mod decisions;
mod hostile;
mod scale;
mod secrets;
mod updates;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sidewall_api::{ContainerNetworkPolicy, SidecarProxy};

use super::*;
use crate::admission::inject::Surroundings;
use crate::fixture::{namespace, settings, yaml};
use crate::known::slim::{SlimContainer, SlimPort};

/// A SidecarProxy as the API server sends one that is being created.
fn proxy(spec: &str) -> Value {
    let spec = yaml(spec);
    json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "creationTimestamp": "2026-02-01T00:00:00Z",
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}], "somethingNew": true},
        "spec": spec,
    })
}

fn policy(spec: &str) -> Value {
    json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy",
        "metadata": {"name": "shipper", "namespace": "shop"}, "spec": yaml(spec),
    })
}

const USERS: &str = "
podSelector: {matchLabels: {app: web}}
listeners:
- port: 80
  forward: {port: 8080}
  authentication: [{basic: {secretName: web-users, key: htpasswd}}]
";

const TLS: &str = "
podSelector: {matchLabels: {app: web}}
listeners:
- port: 8443
  forward: {port: 8080}
  tls: {secretName: web-tls}
  authentication: [{basic: {secretName: web-users, key: htpasswd}}]
- port: 9443
  forward: {port: 9090}
  tls: {secretName: web-tls, minVersion: '1.3'}
  anonymous: true
";

/// A review of an object; with an old one it is a change.
fn review(object: &Value, old: Option<&Value>) -> Value {
    let kind = object["kind"].as_str().unwrap_or("SidecarProxy");
    let resource = if kind == "SidecarProxy" { "sidecarproxies" } else { "containernetworkpolicies" };
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "sidewall.dev", "version": "v1alpha1", "kind": kind},
            "resource": {"group": "sidewall.dev", "version": "v1alpha1", "resource": resource},
            "namespace": "shop", "name": "web", "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "userInfo": {"username": "mallory", "uid": "7", "groups": ["dev", "system:authenticated"], "extra": {"k": ["v"]}},
            "object": object, "oldObject": old, "dryRun": false, "options": {"kind": "CreateOptions"},
        },
    })
}

fn question(review: &Value) -> Question {
    read(&serde_json::to_vec(review).unwrap()).unwrap()
}

/// What was decided; the body says the same.
fn decided(question: &Question, facts: &Facts<'_>) -> Decision {
    let answer = question.answer(facts, &settings()).unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let response = &body["response"];
    assert_eq!(response["uid"], question.uid);
    assert_eq!(response["allowed"], !matches!(answer.decision, Decision::Refused { .. }));
    match &answer.decision {
        Decision::Refused { message } => assert_eq!(response["status"]["message"], *message),
        Decision::Allowed { warnings } if warnings.is_empty() => assert_eq!(response.get("warnings"), None),
        Decision::Allowed { .. } => assert!(response["warnings"].is_array()),
        Decision::NotOurs => assert_eq!(response.as_object().unwrap().len(), 2),
    }
    answer.decision
}

fn warned(question: &Question, facts: &Facts<'_>) -> Vec<String> {
    match decided(question, facts) {
        Decision::Allowed { warnings } => warnings,
        other => panic!("{other:?}"),
    }
}

fn refused(question: &Question, facts: &Facts<'_>) -> String {
    match decided(question, facts) {
        Decision::Refused { message } => message,
        other => panic!("{other:?}"),
    }
}

/// Everything that is asked for is allowed.
fn allowed<'a>(question: &Question) -> Facts<'a> {
    let access = question.wants().access.into_iter().map(|access| (access.clone(), Permission::Allowed)).collect();
    Facts { access, ..Facts::default() }
}

fn content(entries: &[(&str, &str)]) -> Content {
    let data = entries
        .iter()
        .map(|(key, value)| ((*key).to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec())))
        .collect();
    Content::Found(SecretContent::of(k8s_openapi::api::core::v1::Secret { data: Some(data), ..Default::default() }))
}

/// A pod with its containers.
struct TestPod {
    labels: BTreeMap<String, String>,
    containers: Vec<SlimContainer>,
}

/// A pod `app: web`, with containers such as `app: http=8080, 9090`.
fn pod(containers: &[&str]) -> TestPod {
    let container = |text: &&str| {
        let (name, ports) = text.split_once(": ").unwrap_or((text, ""));
        let ports = ports.split(", ").filter(|port| !port.is_empty()).map(|text| {
            let (name, port) = text.split_once('=').unwrap_or(("", text));
            SlimPort { name: name.to_owned(), container_port: port.parse().unwrap(), protocol: "TCP".to_owned() }
        });
        SlimContainer { name: name.to_owned(), ports: ports.collect() }
    };
    TestPod {
        labels: [("app".to_owned(), "web".to_owned())].into(),
        containers: containers.iter().map(container).collect(),
    }
}

impl TestPod {
    fn known(&self) -> KnownPod<'_> {
        KnownPod { labels: &self.labels, host_network: false, containers: Some(&self.containers) }
    }

    fn labelled(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }
}
