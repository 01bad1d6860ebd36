//! Pods and PodSplits for tests.

use serde_json::{Value, json};
use sidewall_api::PodSplit;

use crate::mac::Key;

pub(crate) fn key() -> Key {
    Key::new(&[7; 32]).expect("32 bytes")
}

/// An application with its metrics exporter and a log shipper, as the API server hands it to webhooks: no name, no uid, the service
/// account's token mounted.
pub(crate) fn pod() -> Value {
    let token = json!({"name": "kube-api-access-x7k2p", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "web-", "namespace": "shop", "labels": {"app": "web"}, "annotations": {"a": "b"}},
        "spec": {
            "serviceAccountName": "web", "serviceAccount": "web", "priority": 0, "enableServiceLinks": true,
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
            "initContainers": [
                {"name": "migrate", "image": "app:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
                {"name": "fetch-config", "image": "fetch:1", "volumeMounts": [{"name": "exporter", "mountPath": "/etc/exporter"}]},
                {"name": "log-shipper", "image": "shipper:1", "restartPolicy": "Always", "volumeMounts": [token]},
            ],
            "containers": [
                {"name": "app", "image": "app:1", "ports": [{"name": "http", "containerPort": 8080}],
                 "readinessProbe": {"httpGet": {"port": "http", "path": "/"}},
                 "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "config", "mountPath": "/c"}, token]},
                {"name": "metrics-exporter", "image": "exporter:1",
                 "ports": [{"name": "metrics", "containerPort": 9100}],
                 "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                 "volumeMounts": [{"name": "exporter", "mountPath": "/e"}, {"name": "config", "mountPath": "/c"}, token],
                 "fromTheFuture": {"keep": [1, 2.5, null]}},
            ],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "exporter", "emptyDir": {}},
                {"name": "config", "configMap": {"name": "web"}},
                {"name": "unused", "emptyDir": {}},
                {"name": "kube-api-access-x7k2p", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token"}},
                    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}},
            ],
            "tolerations": [{"operator": "Exists"}], "nodeSelector": {"disk": "ssd"},
        },
    })
}

/// The exporter with what fetches its configuration in one part, the log shipper in another.
pub(crate) fn split() -> PodSplit {
    split_of(json!([
        {"name": "metrics", "containers": ["metrics-exporter"], "initContainers": ["fetch-config"]},
        {"name": "logs", "containers": ["log-shipper"]},
    ]))
}

pub(crate) fn split_of(parts: Value) -> PodSplit {
    let split = json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "PodSplit",
        "metadata": {"name": "web", "namespace": "shop", "uid": "split-uid"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "parts": parts},
    });
    serde_json::from_value(split).expect("a PodSplit")
}

/// What the API server and the scheduler make of a primary.
pub(crate) fn running(mut primary: Value) -> Value {
    primary["metadata"]["name"] = json!("web-x7k2p");
    primary["metadata"]["uid"] = json!("6f1c9a34-0000-4000-8000-000000000001");
    primary["spec"]["nodeName"] = json!("n1");
    primary
}
