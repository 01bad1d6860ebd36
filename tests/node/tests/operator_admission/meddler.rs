//! Another mutating webhook, which comes after Sidewall's: what it changes lets the API server ask Sidewall's again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sidewall_node_tests::ControlPlane;
use sidewall_node_tests::fabric::Addresses;
use sidewall_operator::admission::webhook::{Answers, NoAnswer, config, serve};
use sidewall_operator::certificates::Store;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The label of a pod that says what is done to it: one of [`WAYS`].
pub const LABEL: &str = "bed.example/meddle";
/// What can be done to a pod.
pub const WAYS: [&str; 7] = ["label", "container", "sidecar", "everywhere", "resources", "probe", "image"];
/// The label of namespaces whose pods come to it.
pub const NAMESPACE_LABEL: &str = "bed.example/drawn";

const NAME: &str = "meddler.default.svc";
const PORT: u16 = 9600;

struct Meddler;

impl Answers for Meddler {
    async fn answer(&self, _: &str, body: &[u8]) -> Result<Vec<u8>, NoAnswer> {
        let review: Value =
            serde_json::from_slice(body).map_err(|error| NoAnswer::Unintelligible(error.to_string()))?;
        let request = &review["request"];
        let patch = Value::Array(meddle(&request["object"]));
        let patch = BASE64_STANDARD.encode(patch.to_string());
        let response = json!({"uid": request["uid"], "allowed": true, "patchType": "JSONPatch", "patch": patch});
        let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        Ok(answer.to_string().into_bytes())
    }
}

/// A container that every pod security admits.
fn modest(name: &str) -> Value {
    json!({
        "name": name, "image": "bed.example/late:1",
        "securityContext": {
            "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 4711,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

/// The steps (RFC 6902) by which a pod is changed.
fn meddle(pod: &Value) -> Vec<Value> {
    let all = |list: &str| pod["spec"][list].as_array().into_iter().flatten().enumerate().collect::<Vec<_>>();
    let each = || {
        ["initContainers", "containers"].into_iter().flat_map(|list| {
            all(list).into_iter().map(move |(index, container)| (format!("/spec/{list}/{index}"), container))
        })
    };
    let add = |path: String, value: Value| json!({"op": "add", "path": path, "value": value});
    match pod["metadata"]["labels"][LABEL].as_str().unwrap_or_default() {
        "label" => vec![add("/metadata/labels/bed.example~1meddled".into(), json!("true"))],
        "container" => {
            let mut late = modest("late");
            late["livenessProbe"] = json!({"httpGet": {"port": 8080, "path": "/late"}});
            vec![add("/spec/containers/-".into(), late)]
        }
        "sidecar" => {
            let mut late = modest("late");
            late["restartPolicy"] = json!("Always");
            late["startupProbe"] = json!({"tcpSocket": {"port": 8080}});
            let list = if all("initContainers").is_empty() { json!([late]) } else { late };
            let path = if list.is_array() { "/spec/initContainers" } else { "/spec/initContainers/0" };
            vec![add(path.into(), list)]
        }
        // As those do that hand a variable and a mount to all.
        "everywhere" => each()
            .map(|(at, container)| {
                let mut env = container["env"].as_array().cloned().unwrap_or_default();
                env.push(json!({"name": "MEDDLED", "value": "1"}));
                add(format!("{at}/env"), Value::Array(env))
            })
            .collect(),
        "resources" => each()
            .filter(|(_, container)| {
                container["resources"].get("limits").is_none_or(|limits| limits.get("cpu").is_none())
            })
            .map(|(at, container)| {
                let mut resources = container["resources"].clone();
                if !resources.is_object() {
                    resources = json!({});
                }
                resources["limits"]["cpu"] = json!("8");
                add(format!("{at}/resources"), resources)
            })
            .collect(),
        "probe" => vec![add(
            "/spec/containers/0/readinessProbe".into(),
            json!({"httpGet": {"port": 8080, "path": "/meddled"}, "timeoutSeconds": 7}),
        )],
        // As those do that have all images come from one registry.
        "image" => each().map(|(at, _)| add(format!("{at}/image"), json!("registry.example/all:1"))).collect(),
        _ => Vec::new(),
    }
}

/// Serves beside the API server, and has it ask. It ends with the runtime.
pub async fn start(control: &ControlPlane) -> JoinHandle<()> {
    let store = Store::new(&[NAME.to_owned()], SystemTime::now()).unwrap();
    let (certificate, key) = store.serving();
    let (kept, tls) = watch::channel(config(certificate, key).unwrap());
    let hub = Addresses::hub().node()[0];
    let listener = control.cell().netns().run(|| std::net::TcpListener::bind(SocketAddr::new(hub, PORT))).unwrap();
    let listener = listener.unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let served = tokio::spawn(async move {
        serve(listener, tls, Arc::new(Meddler), std::future::pending()).await;
        drop(kept);
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "meddler", "namespace": "default"},
        "spec": {"ports": [{"name": "webhook", "port": 443, "targetPort": PORT}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "meddler", "namespace": "default", "labels": {"kubernetes.io/service-name": "meddler"}},
        "endpoints": [{"addresses": [hub.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "webhook", "port": PORT, "protocol": "TCP"}],
    });
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        // They are asked in the order of their names.
        "metadata": {"name": "zz-meddler"},
        "webhooks": [{
            "name": "meddler.bed.example", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "clientConfig": {
                "service": {"name": "meddler", "namespace": "default", "path": "/meddle", "port": 443},
                "caBundle": BASE64_STANDARD.encode(store.authorities()),
            },
            "namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: "true"}},
            "objectSelector": {"matchExpressions": [{"key": LABEL, "operator": "Exists"}]},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        }],
    });
    let objects = [service, slice, webhook];
    control.admin().apply(&sidewall_node_tests::api::list(&objects)).unwrap();
    served
}
