//! The rules of the proxy's own ports twice: the Rust one with its place, and the schema's CEL rule, evaluated here as an
//! API server does.

use std::collections::BTreeSet;

use kube::core::cel::Validator;
use serde_json::{Value, json};

use super::*;
use crate::crd::crds;

fn spec(rest: Value) -> Value {
    let mut spec = json!({
        "podSelector": {},
        "listeners": [
            {"port": 80, "forward": {"port": 8080}, "anonymous": true},
            {"port": 443, "forward": {"port": 8080}, "tls": {"secretName": "web-tls"},
             "authentication": [{"basic": {"secretName": "users", "key": "htpasswd"}}]}
        ]
    });
    for (field, value) in rest.as_object().expect("an object") {
        spec[field] = value.clone();
    }
    spec
}

fn object(spec: &Value) -> Value {
    json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy",
        "metadata": {"name": "p", "namespace": "shop"}, "spec": spec
    })
}

fn rust_refuses(spec: &Value) -> BTreeSet<String> {
    let proxy: SidecarProxy = serde_json::from_value(object(spec)).expect("it reads");
    proxy.validate(Form::Cluster).iter().map(|problem| problem.path.to_string()).collect()
}

fn cel_accepts(spec: &Value) -> bool {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == "SidecarProxy").expect("ours");
    let schema = crd.spec.versions[0].schema.as_ref().expect("a schema").open_api_v3_schema.clone();
    let schema = serde_json::to_value(schema).expect("it serialises");
    Validator::new().validate(&schema, &object(spec), None).is_ok()
}

#[test]
fn own_ports_of_ones_own_are_accepted() {
    for rest in [
        json!({}),
        json!({"admin": {"address": "0.0.0.0", "port": 15410}, "probes": {"port": 15411},
            "capture": {"inbound": [8080], "port": 15412}}),
        json!({"probes": {"port": 9, "targets": []}}),
    ] {
        let spec = spec(rest);
        assert_eq!(rust_refuses(&spec), BTreeSet::new(), "{spec}");
        assert!(cel_accepts(&spec), "CEL refuses {spec}");
    }
}

#[test]
fn contradictions_are_refused_twice() {
    for (rest, path) in [
        (json!({"admin": {"port": 80}}), "spec.admin.port"),
        (json!({"admin": {"port": 8080}}), "spec.admin.port"),
        (json!({"probes": {"port": 443}}), "spec.probes.port"),
        (json!({"probes": {"port": 8080}}), "spec.probes.port"),
        (json!({"admin": {"port": 9}, "probes": {"port": 9}}), "spec.probes.port"),
        (json!({"capture": {"inbound": [8080], "port": 80}}), "spec.capture.port"),
        (json!({"admin": {"port": 9}, "capture": {"inbound": [8080], "port": 9}}), "spec.capture.port"),
        (json!({"probes": {"port": 9}, "capture": {"inbound": [8080], "port": 9}}), "spec.capture.port"),
        (json!({"capture": {"inbound": [8080, 9090], "port": 9}}), "spec.capture.inbound[1]"),
        (json!({"capture": {"inbound": [80], "port": 9}}), "spec.capture.inbound[0]"),
        (
            json!({"probes": {"port": 9, "targets": [
                {"container": "app", "occasion": "liveness", "tcpSocket": {"port": 8080}}]}}),
            "spec.probes.targets",
        ),
    ] {
        let spec = spec(rest);
        assert_eq!(rust_refuses(&spec), BTreeSet::from([path.to_owned()]), "{spec}");
        assert!(!cel_accepts(&spec), "CEL accepts {spec}");
    }
}

#[test]
fn blocks_that_rules_look_into_have_their_ports_by_default() {
    // Without a default in the schema, a rule would fail on a block that leaves its port out.
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == "SidecarProxy").expect("ours");
    let crd = serde_json::to_value(crd).expect("it serialises");
    let properties = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    for (block, port) in [("admin", 15410), ("probes", 15411), ("capture", 15412)] {
        assert_eq!(properties[block]["properties"]["port"]["default"], port, "{block}");
    }
}

#[test]
fn a_spec_with_targets_is_a_file() {
    let mut value = spec(json!({"probes": {"port": 9, "targets": [
        {"container": "app", "occasion": "liveness", "tcpSocket": {"port": 8080}}]}}));
    value["listeners"] = json!([{"port": 80, "forward": {"port": 8080}, "anonymous": true}]);
    let proxy: SidecarProxy = serde_json::from_value(object(&value)).expect("it reads");
    assert_eq!(proxy.spec.form(), Form::File);
    assert!(proxy.validate(Form::File).is_empty());
    assert_eq!(proxy.spec.config().probes.expect("the probe port").targets.len(), 1);
}

#[test]
fn certificates_are_of_the_namespaces_own_names() {
    let with = |certificate: Value| {
        let mut spec = spec(json!({}));
        spec["listeners"][1]["tls"]["certificate"] = certificate;
        spec
    };
    let at = |field: &str| BTreeSet::from([format!("spec.listeners[1].tls.certificate.{field}")]);
    for good in [
        json!({}),
        json!({"source": "SelfManaged", "dnsNames": ["web.shop.svc", "*.web.shop.svc.cluster.local", "localhost"]}),
        json!({"source": "CertManager", "issuerRef": {"name": "ca"}, "dnsNames": ["www.example.com"]}),
        json!({"source": "CertManager", "issuerRef": {"name": "ca", "kind": "ClusterIssuer", "group": "example.com"}}),
    ] {
        let spec = with(good);
        assert_eq!(rust_refuses(&spec), BTreeSet::new(), "{spec}");
        assert!(cel_accepts(&spec), "CEL refuses {spec}");
    }
    for (bad, path) in [
        (json!({"source": "CertManager"}), "issuerRef"),
        (json!({"source": "SelfManaged", "issuerRef": {"name": "ca"}}), "issuerRef"),
        (json!({"source": "SelfManaged", "dnsNames": ["www.example.com"]}), "dnsNames[0]"),
        (json!({"source": "SelfManaged", "dnsNames": ["web.shop"]}), "dnsNames[0]"),
    ] {
        let spec = with(bad);
        assert_eq!(rust_refuses(&spec), at(path), "{spec}");
        assert!(!cel_accepts(&spec), "CEL accepts {spec}");
    }
    // CEL does not know the namespace.
    assert_eq!(rust_refuses(&with(json!({"dnsNames": ["web.shop.svc", "web.bank.svc"]}))), at("dnsNames[1]"));
    let mut nowhere = spec(json!({}));
    nowhere["listeners"][0]["tls"] = json!({"certificate": {"source": "SelfManaged"}});
    assert!(!cel_accepts(&nowhere), "a certificate without a Secret");
}

#[test]
fn a_status_of_a_newer_operator_is_read() {
    let mut object = object(&spec(json!({})));
    object["status"] = json!({"news": 1, "pods": {"selected": 2, "more": 1}, "conditions": []});
    let read = crate::read::read_proxy(object).expect("it reads");
    let counts = read.object.status.and_then(|status| status.pods).expect("the counts");
    assert_eq!((counts.selected, counts.fronted), (2, 0));
}

#[test]
fn a_port_has_one_listener_whatever_their_addresses() {
    let spec = spec(json!({"listeners": [
        {"port": 80, "address": "10.0.0.1", "forward": {"port": 8080}, "anonymous": true},
        {"port": 443, "forward": {"port": 8080}, "anonymous": true},
        {"port": 80, "address": "10.0.0.2", "forward": {"port": 8080}, "anonymous": true},
    ]}));
    assert_eq!(rust_refuses(&spec), BTreeSet::from(["spec.listeners[2].port".to_owned()]));
}
