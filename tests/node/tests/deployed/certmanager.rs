//! cert-manager beside the API server: its own controllers and injector, as `cargo xtask` builds them.

use std::time::Duration;

use serde_json::{Value, json};
use sidewall_node_tests::api::{Credentials, list};
use sidewall_node_tests::until::until;
use sidewall_node_tests::{Api, ControlPlane, parts};

const SERVICE: &str = "cert-manager";
/// How long it may take to make something.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Makes a cluster know its kinds, and starts it.
pub fn start(control: &ControlPlane) {
    let program = parts::node("cert-manager").unwrap();
    let admin = control.admin();
    let kinds = program.with_file_name("cert-manager-crds.yaml").display().to_string();
    admin.kubectl(&["apply", "--server-side", "-f", &kinds]).unwrap();
    for kind in ["certificates", "certificaterequests", "issuers", "clusterissuers"] {
        let name = format!("crd/{kind}.cert-manager.io");
        admin.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &name]).unwrap();
    }
    let pair = control.client("cert-manager", Some("system:masters")).unwrap();
    let kubeconfig = "/etc/cert-manager/kubeconfig";
    control.cell().write(kubeconfig, control.inner_kubeconfig(&Credentials::Certificate(pair))).unwrap();
    let command = [program.display().to_string(), format!("--kubeconfig={kubeconfig}")];
    control.cell().start(SERVICE, &command, &[]).unwrap();
}

/// The end of its log.
pub fn log(control: &ControlPlane) -> String {
    control.cell().log(SERVICE)
}

/// An authority in a namespace, which signs for the Issuer of that name.
pub fn issuer(api: &Api, namespace: &str, name: &str) {
    let object = |kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": "cert-manager.io/v1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        })
    };
    let root = format!("{name}-root");
    let authority = json!({
        "isCA": true, "commonName": name, "secretName": root, "privateKey": {"algorithm": "ECDSA", "size": 256},
        "issuerRef": {"name": root},
    });
    api.apply(&list(&[
        object("Issuer", &root, json!({"selfSigned": {}})),
        object("Certificate", &root, authority),
        object("Issuer", name, json!({"ca": {"secretName": root}})),
    ]))
    .unwrap();
    ready(api, namespace, "issuer", name);
}

/// Waits until an object of its kinds is ready, and returns it.
pub fn ready(api: &Api, namespace: &str, kind: &str, name: &str) -> Value {
    let kind = format!("{kind}.cert-manager.io");
    let ready = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|found| found["type"] == "Ready" && found["status"] == "True")
    };
    api.until(&format!("{kind} {name}"), LIMIT, &["-n", namespace, &kind, name], ready).unwrap()
}

/// Has a certificate made anew, as `cmctl renew` does, and returns when there is another one.
pub fn renew(api: &Api, namespace: &str, name: &str) {
    let revision = |certificate: &Value| certificate["status"]["revision"].as_u64().unwrap_or_default();
    let get = ["-n", namespace, "certificates.cert-manager.io", name];
    let before = revision(&ready(api, namespace, "certificates", name));
    let issuing = json!([{"op": "add", "path": "/status/conditions/-", "value": {
        "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "renewed by a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }}]);
    let patch = ["-n", namespace, "patch", "certificates.cert-manager.io", name, "--subresource=status", "--type=json"];
    let issuing = issuing.to_string();
    until("a certificate that may be written", LIMIT, || {
        let all: Vec<&str> = patch.into_iter().chain(["-p", &issuing]).collect();
        Ok(api.kubectl(&all).map_err(|error| error.to_string()))
    })
    .unwrap();
    api.until("another certificate", LIMIT, &get, |certificate| revision(certificate) > before).unwrap();
}
