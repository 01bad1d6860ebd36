//! The chart and the manifests on a real API server, and who is who there.
#![allow(dead_code, reason = "each test takes its part")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sidewall_cluster::client::{ClientOptions, client};
use sidewall_cluster::kube::api::{Patch, PatchParams};
use sidewall_cluster::kube::core::Request;
use sidewall_node_tests::api::{Api, Credentials, Token};
use sidewall_node_tests::cell::output;
use sidewall_node_tests::{ControlPlane, Fabric, parts};

pub mod certmanager;
pub mod product;

/// How long anything may take that is waited for.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Where the product is installed.
pub const NAMESPACE: &str = "sidewall-system";
/// Without kubectl's own validation, for which it reads definitions that an agent may not list.
pub const CREATE: [&str; 6] = ["create", "--validate=false", "-o", "json", "-f", "-"];

/// The workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs Helm, which finds nothing of this machine's user.
pub fn helm(arguments: &[&str]) -> Result<String, String> {
    let home = tempfile::tempdir().unwrap();
    let mut helm = Command::new(parts::node("helm").unwrap());
    helm.env_clear().env("HOME", home.path()).current_dir(root().join("deploy/charts")).args(arguments);
    output(&mut helm).map_err(|error| error.to_string())
}

/// The chart with these values.
pub fn rendered(values: &[&str]) -> String {
    let sets = values.iter().flat_map(|value| ["--set", value]);
    let arguments = ["template", "sidewall", "sidewall", "--namespace", NAMESPACE].into_iter().chain(sets);
    helm(&arguments.collect::<Vec<_>>()).unwrap()
}

/// A control plane with our kinds and two nodes that are none.
pub struct Bed {
    /// The control plane.
    pub control: ControlPlane,
    _fabric: Fabric,
}

impl Bed {
    /// Starts it.
    pub fn new() -> Self {
        let fabric = Fabric::new().unwrap();
        let control = ControlPlane::start(&fabric).unwrap();
        let admin = control.admin();
        admin.apply(&sidewall_api::crd::crd_yaml()).unwrap();
        for crd in sidewall_api::crd::crds() {
            let name = format!("crd/{}", crd.metadata.name.unwrap());
            admin.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &name]).unwrap();
        }
        for node in ["n1", "n2"] {
            admin.apply(&format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {node}}}\n")).unwrap();
        }
        admin.kubectl(&["create", "namespace", NAMESPACE]).unwrap();
        Self { control, _fabric: fabric }
    }

    /// Whoever may do anything.
    pub fn admin(&self) -> &Api {
        self.control.admin()
    }

    /// As one of our accounts, with a token; `more` says what it is bound to.
    pub fn account(&self, name: &str, more: &[&str]) -> Api {
        let create = ["-n", NAMESPACE, "create", "token", name];
        let arguments: Vec<&str> = create.into_iter().chain(more.iter().copied()).collect();
        let token = self.admin().kubectl(&arguments).unwrap().trim().to_owned();
        self.control.api(&Credentials::Token(Token(token))).unwrap()
    }

    /// As the agent's account.
    pub fn agent(&self, more: &[&str]) -> Api {
        self.account("sidewall-agent", more)
    }

    /// As the agent on a node: a pod of its account is bound to it there, and the token to the pod.
    pub fn agent_on(&self, node: &str) -> Api {
        let name = format!("agent-on-{node}");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "nodeName": node, "serviceAccountName": "sidewall-agent",
                "containers": [{"name": "agent", "image": "none"}],
            },
        });
        self.admin().apply(&pod.to_string()).unwrap();
        let pod = self.admin().get(&["-n", NAMESPACE, "pod", &name]).unwrap();
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        self.agent(&["--bound-object-kind=Pod", "--bound-object-name", &name, "--bound-object-uid", uid])
    }
}

/// A merge patch and nothing else: kubectl looks at an object before it patches it, which an agent may not.
pub fn patch(api: &Api, path: &str, name: &str, subresource: Option<&str>, change: &Value) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = ClientOptions { kubeconfig: Some(api.kubeconfig()), context: None };
        let client = client(&options).await.unwrap();
        let (request, how, change) = (Request::new(path), PatchParams::default(), Patch::Merge(change));
        let request = match subresource {
            None => request.patch(name, &how, &change),
            Some(part) => request.patch_subresource(part, name, &how, &change),
        };
        let answer = client.request::<Value>(request.unwrap()).await;
        answer.map(|object| object.to_string()).map_err(|error| error.to_string())
    })
}

/// Checks that somebody may not.
pub fn refused<E: std::fmt::Display>(result: Result<String, E>, what: &str) {
    let error = match result {
        Ok(said) => panic!("{what} is allowed: {said}"),
        Err(error) => error.to_string(),
    };
    assert!(error.to_lowercase().contains("forbidden"), "{what}: {error}");
}

/// What the API server itself says that somebody may, one line a rule: `VERBS GROUP/RESOURCE [NAMES]`.
pub fn rules(api: &Api, namespace: &str) -> BTreeSet<String> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace},
    });
    let answer = api.with_input(&CREATE, &review.to_string()).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["status"]["incomplete"], false, "{answer}");
    let words = |rule: &Value, field: &str| -> Vec<String> {
        let all = rule[field].as_array().into_iter().flatten();
        all.map(|word| word.as_str().unwrap_or_default().to_owned()).collect()
    };
    let mut lines = BTreeSet::new();
    for rule in answer["status"]["resourceRules"].as_array().unwrap() {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                let mut line = format!("{} {group}/{resource}", words(rule, "verbs").join(","));
                for name in words(rule, "resourceNames") {
                    line = format!("{line} {name}");
                }
                lines.insert(line);
            }
        }
    }
    lines
}

/// An Event, in the name of a controller.
pub fn event(name: &str, controller: &str, instance: &str) -> String {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": controller, "reportingInstance": instance,
        "action": "Enforce", "reason": "NotEnforceable", "type": "Warning", "note": "words",
        "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "x"},
    })
    .to_string()
}
