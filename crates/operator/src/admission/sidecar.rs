//! The proxy's container and volumes, as they stand in a pod.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Map, Value, json};
use sidewall_api::SidecarProxy;

use crate::admission::edits::{EditError, Edits};
use crate::admission::inject::Record;
use crate::names::{
    DIRECTORY_CONFIG, DIRECTORY_SECRETS, DIRECTORY_TOKEN, FILE_CONFIG, VOLUME_CONFIG, VOLUME_NO_TOKEN, VOLUME_SECRET,
    is_mesh,
};
use crate::quantity;
use crate::settings::{ProxySettings, Resources};

/// The container. Every field that the API server would fill in is there, so that a second call finds it as it was left.
pub(crate) fn container(
    proxy: &SidecarProxy,
    record: &Record,
    settings: &ProxySettings,
    resources: &Resources,
    uid: u32,
) -> Value {
    let mut container = Map::new();
    let mut set = |key: &str, value: Value| container.insert(key.to_owned(), value);
    set("name", json!(record.container));
    set("image", json!(settings.image));
    set("imagePullPolicy", json!(settings.image_pull_policy));
    // A native sidecar: there before the application, and no reason for a job to go on.
    set("restartPolicy", json!("Always"));
    if !settings.command.is_empty() {
        set("command", json!(settings.command));
    }
    set("args", json!(["--config", format!("{DIRECTORY_CONFIG}/{FILE_CONFIG}")]));
    set("ports", ports(proxy, record));
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": {"path": path, "port": record.probe_port, "scheme": "HTTP"},
            "periodSeconds": period, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": failures,
        })
    };
    // The containers after it are started once this one has succeeded.
    set("startupProbe", probe("/healthz", 1, 60));
    set("livenessProbe", probe("/healthz", 10, 3));
    set("readinessProbe", probe("/readyz", 5, 2));
    let resources: Map<String, Value> = [("limits", &resources.limits), ("requests", &resources.requests)]
        .into_iter()
        .filter(|(_, amounts)| !amounts.is_empty())
        .map(|(key, amounts)| (key.to_owned(), json!(amounts)))
        .collect();
    set("resources", Value::Object(resources));
    set(
        "securityContext",
        json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": uid,
            "runAsNonRoot": true,
            "runAsUser": uid,
            "seccompProfile": {"type": "RuntimeDefault"},
        }),
    );
    set("terminationMessagePath", json!("/dev/termination-log"));
    set("terminationMessagePolicy", json!("FallbackToLogsOnError"));
    let mut mounts = vec![mount(VOLUME_CONFIG, DIRECTORY_CONFIG.to_owned())];
    for (index, secret) in record.secrets.keys().enumerate() {
        mounts.push(mount(&format!("{VOLUME_SECRET}{index}"), format!("{DIRECTORY_SECRETS}/{secret}")));
    }
    // Where something is mounted already, the API server mounts no token: the proxy speaks with strangers and never with
    // the API server.
    mounts.push(mount(VOLUME_NO_TOKEN, DIRECTORY_TOKEN.to_owned()));
    set("volumeMounts", Value::Array(mounts));
    Value::Object(container)
}

fn mount(volume: &str, path: String) -> Value {
    json!({"name": volume, "mountPath": path, "readOnly": true})
}

fn ports(proxy: &SidecarProxy, record: &Record) -> Value {
    let listeners: BTreeSet<u16> = proxy.spec.listeners.iter().map(|listener| listener.port).collect();
    let mut ports: Vec<Value> =
        listeners.into_iter().map(|port| json!({"containerPort": port, "protocol": "TCP"})).collect();
    ports.push(json!({"name": "sidewall-probe", "containerPort": record.probe_port, "protocol": "TCP"}));
    let admin = proxy.spec.admin.as_ref().filter(|admin| !is_own(admin.address));
    if let Some(admin) = admin {
        ports.push(json!({"name": "sidewall-admin", "containerPort": admin.port, "protocol": "TCP"}));
    }
    Value::Array(ports)
}

fn is_own(address: IpAddr) -> bool {
    address.is_loopback()
}

/// The volumes. `group` says that the pod has an fsGroup, to which the kubelet gives the files.
pub(crate) fn volumes(record: &Record, group: bool) -> Vec<(String, Value)> {
    // Without a group the files are root's, and the proxy reads them as anybody: no other container mounts them. We set
    // no fsGroup for its sake, because it would change the application's volumes.
    let mode = if group { 0o440 } else { 0o444 };
    let mut volumes = vec![(
        VOLUME_CONFIG.to_owned(),
        json!({
            "name": VOLUME_CONFIG,
            "configMap": {
                "name": record.config, "defaultMode": mode, "optional": false,
                "items": [{"key": FILE_CONFIG, "path": FILE_CONFIG}],
            },
        }),
    )];
    // A volume for each: where one is deleted, the others go on being renewed. None is optional: a pod whose Secret is not
    // there yet waits for it, and one whose Secret is gone keeps what it had.
    for (index, (secret, keys)) in record.secrets.iter().enumerate() {
        let name = format!("{VOLUME_SECRET}{index}");
        let items: Vec<Value> = keys.iter().map(|key| json!({"key": key, "path": key})).collect();
        let source = json!({"secretName": secret, "defaultMode": mode, "optional": false, "items": items});
        volumes.push((name.clone(), json!({"name": name, "secret": source})));
    }
    volumes.push((
        VOLUME_NO_TOKEN.to_owned(),
        json!({"name": VOLUME_NO_TOKEN, "emptyDir": {"medium": "Memory", "sizeLimit": "4Ki"}}),
    ));
    volumes
}

/// Lets the container stand among the init containers: before all but those of a mesh, which redirect what it sends.
pub(crate) fn place(edits: &mut Edits, container: Value, before: Option<&str>) -> Result<(), EditError> {
    const LIST: [&str; 2] = ["spec", "initContainers"];
    let names: Vec<String> = edits
        .get(&LIST)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|container| container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned())
        .collect();
    let there = names.iter().position(|name| Some(name.as_str()) == before);
    let others = names.iter().filter(|name| Some(name.as_str()) != before);
    let index = others.enumerate().filter(|(_, name)| is_mesh(name)).map(|(index, _)| index + 1).last().unwrap_or(0);
    let Some(there) = there else { return edits.insert(&LIST, index, container) };
    let at = there.to_string();
    let at = ["spec", "initContainers", &at];
    if there == index {
        let same = edits.get(&at).is_some_and(|current| is_same(current, &container));
        return if same { Ok(()) } else { edits.set(&at, container) };
    }
    edits.remove(&at)?;
    edits.insert(&LIST, index, container)
}

/// Whether two amounts are one. The API server may have given ours another form.
fn is_amount(current: &Value, ours: &Value) -> bool {
    current == ours || current.as_str().zip(ours.as_str()).is_some_and(|(current, ours)| quantity::same(current, ours))
}

/// Whether a container is as we would make it, but for amounts of resources that a LimitRange added to ours.
fn is_same(current: &Value, ours: &Value) -> bool {
    let adds = |current: Option<&Value>, ours: Option<&Value>| -> bool {
        let amounts =
            |value: Option<&Value>, key: &str| value.and_then(|v| v.get(key)).and_then(Value::as_object).cloned();
        ["limits", "requests"].iter().all(|key| {
            let (current, ours) = (amounts(current, key).unwrap_or_default(), amounts(ours, key).unwrap_or_default());
            ours.iter().all(|(name, amount)| current.get(name).is_some_and(|there| is_amount(there, amount)))
        })
    };
    if !adds(current.get("resources"), ours.get("resources")) {
        return false;
    }
    let mut ours = ours.clone();
    if let (Some(ours), Some(resources)) = (ours.as_object_mut(), current.get("resources")) {
        ours.insert("resources".to_owned(), resources.clone());
    }
    *current == ours
}
