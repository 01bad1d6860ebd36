//! Every rule twice: the Rust one with its place, and the schema's CEL rule, evaluated here as an API server does.

use std::collections::BTreeSet;

use kube::core::cel::Validator;
use serde_json::{Value, json};

use super::*;
use crate::crd::crds;
use crate::problem::{Problem, Severity};

fn object(spec: &Value) -> Value {
    json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "PodSplit",
        "metadata": {"name": "web", "namespace": "shop"}, "spec": spec
    })
}

fn spec(parts: Value) -> Value {
    json!({"podSelector": {"matchLabels": {"app": "web"}}, "parts": parts})
}

fn with_link(link: Value) -> Value {
    let mut spec = spec(json!([{"name": "logs", "containers": ["log-shipper"]}]));
    spec["link"] = link;
    spec
}

fn problems(spec: &Value) -> Vec<Problem> {
    serde_json::from_value::<PodSplit>(object(spec)).expect("it reads").validate()
}

fn schema() -> Value {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == "PodSplit").expect("ours");
    let schema = crd.spec.versions[0].schema.as_ref().expect("a schema").open_api_v3_schema.clone();
    serde_json::to_value(schema).expect("it serialises")
}

fn cel_accepts(spec: &Value) -> bool {
    Validator::new().validate(&schema(), &object(spec), None).is_ok()
}

fn accept(spec: Value) {
    assert_eq!(problems(&spec), [], "{spec}");
    assert!(cel_accepts(&spec), "CEL refuses {spec}");
}

/// Refused by Rust at this path only, and by CEL.
fn refuse(spec: Value, path: &str) {
    refuse_in_rust(&spec, path);
    assert!(!cel_accepts(&spec), "CEL accepts {spec}");
}

/// Refused by Rust at this path only. The API server refuses it by another part of the schema than CEL, or not at all.
fn refuse_in_rust(spec: &Value, path: &str) {
    let found = problems(spec);
    let errors: BTreeSet<String> = found.iter().filter(|p| p.is_error()).map(|p| p.path.to_string()).collect();
    assert_eq!(errors, BTreeSet::from([path.to_owned()]), "{spec}: {found:?}");
}

#[test]
fn whole_splits_are_accepted() {
    accept(spec(json!([{"name": "logs", "containers": ["log-shipper"]}])));
    accept(spec(json!([
        {"name": "metrics", "containers": ["metrics-exporter"], "initContainers": ["fetch-config"]},
        {"name": "logs", "containers": ["log-shipper", "log-rotator"], "initContainers": []},
    ])));
    accept(with_link(json!({})));
    accept(with_link(json!({"type": "Bridge", "ipam": "HostLocal", "subnets": ["10.213.0.0/16", "fd00:213::/64"]})));
    accept(with_link(
        json!({"type": "Macvlan", "parent": "eth1.100", "ipam": "Whereabouts", "subnets": ["fd00::/64"]}),
    ));
    accept(with_link(json!({"network": {"name": "my-link"}})));
    accept(with_link(json!({"network": {"name": "my.link", "namespace": "net"}})));
}

#[test]
fn parts_have_names_of_their_own() {
    let part = |name: &str, container: &str| json!({"name": name, "containers": [container]});
    refuse(spec(json!([part("primary", "a")])), "spec.parts[0].name");
    refuse_in_rust(&spec(json!([part("logs", "a"), part("logs", "b")])), "spec.parts[1].name");
    for bad in ["", "Logs", "-logs", "a.b", "abcdefghijklmnopqrstu"] {
        refuse_in_rust(&spec(json!([part(bad, "a")])), "spec.parts[0].name");
    }
    accept(spec(json!([part("abcdefghijklmnopqrst", "a")])));
}

#[test]
fn a_container_is_in_one_part_only() {
    refuse(
        spec(json!([{"name": "a", "containers": ["x", "y"]}, {"name": "b", "containers": ["z", "y"]}])),
        "spec.parts[1].containers[1]",
    );
    refuse(
        spec(json!([
            {"name": "a", "containers": ["x"], "initContainers": ["i"]},
            {"name": "b", "containers": ["y"], "initContainers": ["i"]},
        ])),
        "spec.parts[1].initContainers[0]",
    );
    refuse(
        spec(json!([{"name": "a", "containers": ["x"]}, {"name": "b", "containers": ["y"], "initContainers": ["x"]}])),
        "spec.parts[1].initContainers[0]",
    );
    refuse(
        spec(json!([{"name": "a", "containers": ["x"], "initContainers": ["x"]}])),
        "spec.parts[0].initContainers[0]",
    );
    // A list that is a set.
    refuse_in_rust(&spec(json!([{"name": "a", "containers": ["x", "x"]}])), "spec.parts[0].containers[1]");
}

#[test]
fn lists_are_neither_empty_nor_endless() {
    refuse_in_rust(&spec(json!([])), "spec.parts");
    refuse_in_rust(&spec(json!([{"name": "a", "containers": []}])), "spec.parts[0].containers");
    let many: Vec<Value> =
        (0..=PARTS_MAX).map(|n| json!({"name": format!("p{n}"), "containers": [format!("c{n}")]})).collect();
    refuse_in_rust(&spec(json!(many)), "spec.parts");
    accept(spec(json!(many[..PARTS_MAX])));
    let names: Vec<String> = (0..=PART_CONTAINERS_MAX).map(|n| format!("c{n}")).collect();
    refuse_in_rust(&spec(json!([{"name": "a", "containers": names}])), "spec.parts[0].containers");
    let init = json!([{"name": "a", "containers": ["x"], "initContainers": names}]);
    refuse_in_rust(&spec(init), "spec.parts[0].initContainers");
    refuse_in_rust(&spec(json!([{"name": "a", "containers": ["X"]}])), "spec.parts[0].containers[0]");
}

#[test]
fn a_network_that_is_there_says_the_rest_itself() {
    for own in [
        json!({"type": "Bridge"}),
        json!({"type": "Macvlan", "parent": "eth1"}),
        json!({"subnets": ["10.0.0.0/24"]}),
        json!({"ipam": "HostLocal"}),
    ] {
        let mut link = own;
        link["network"] = json!({"name": "mine"});
        refuse(with_link(link), "spec.link.network");
    }
    refuse_in_rust(&with_link(json!({"network": {"name": "My link"}})), "spec.link.network.name");
    let elsewhere = json!({"network": {"name": "mine", "namespace": "a.b"}});
    refuse_in_rust(&with_link(elsewhere), "spec.link.network.namespace");
}

#[test]
fn only_a_macvlan_has_a_parent() {
    refuse(with_link(json!({"parent": "eth1"})), "spec.link.parent");
    refuse(with_link(json!({"type": "Bridge", "parent": "eth1"})), "spec.link.parent");
    for bad in ["", "-eth", "eth 1", "../eth1", "abcdefghijklmnop"] {
        refuse_in_rust(&with_link(json!({"type": "Macvlan", "parent": bad})), "spec.link.parent");
    }
}

#[test]
fn subnets_are_one_of_each_family_and_ones_own() {
    refuse(with_link(json!({"subnets": ["10.1.0.0/16", "10.2.0.0/16"]})), "spec.link.subnets[1]");
    refuse(with_link(json!({"subnets": ["fd00::/64", "fd01::/64"]})), "spec.link.subnets[1]");
    refuse_in_rust(&with_link(json!({"subnets": ["10.1.0.0"]})), "spec.link.subnets[0]");
    refuse_in_rust(&with_link(json!({"subnets": ["10.1.0.0/33"]})), "spec.link.subnets[0]");
    // What CEL does not look into.
    for bad in ["10.1.0.0/29", "fd00::/121", "127.0.0.0/16", "0.0.0.0/0", "169.254.0.0/24", "fe80::/64", "ff00::/64"] {
        refuse_in_rust(&with_link(json!({"subnets": [bad]})), "spec.link.subnets[0]");
    }
    let three = json!({"subnets": ["10.1.0.0/16", "fd00::/64", "x"]});
    assert!(problems(&with_link(three)).iter().any(|problem| problem.path.to_string() == "spec.link.subnets"));
    assert!(DEFAULT_SUBNET.parse::<ipnet::IpNet>().is_ok());
}

#[test]
fn nodes_that_give_out_the_same_addresses_are_told_of() {
    let found = problems(&with_link(json!({"type": "Macvlan"})));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].severity, found[0].path.to_string()), (Severity::Warning, "spec.link.ipam".to_owned()));
}

#[test]
fn what_is_left_out_has_a_meaning() {
    let split: PodSplit = serde_json::from_value(object(&with_link(json!({})))).expect("it reads");
    let link = split.spec.link.clone().expect("a link");
    assert_eq!((link.kind(), link.ipam(), link.subnets()), (LinkType::Bridge, Ipam::HostLocal, vec![DEFAULT_SUBNET]));
    assert_eq!(split.network(), None);
    // A default of the schema would stand there beside `network`, which excludes it.
    let schema = schema();
    let link = &schema["properties"]["spec"]["properties"]["link"]["properties"];
    assert!(link["type"].is_object() && link["type"].get("default").is_none() && link["ipam"].get("default").is_none());
    let split: PodSplit =
        serde_json::from_value(object(&with_link(json!({"network": {"name": "mine"}})))).expect("it reads");
    assert_eq!(split.network().map(|name| name.to_string()), Some("shop/mine".to_owned()));
}

#[test]
fn unknown_fields_are_errors_and_a_newer_status_is_read() {
    let mut unknown = object(&with_link(json!({"typ": "Bridge"})));
    let unreadable = crate::read::read_split(unknown.clone()).expect_err("an unknown field");
    assert_eq!(unreadable.problems[0].path.to_string(), "spec.link.typ");
    assert_eq!(unreadable.pod_selector, Some(LabelSelector::label("app", "web")));
    assert_eq!((unreadable.namespace.as_deref(), unreadable.name.as_deref()), (Some("shop"), Some("web")));
    unknown["spec"]["link"] = json!({});
    unknown["status"] = json!({"news": 1, "pods": {"selected": 2, "more": 1}, "conditions": []});
    let read = crate::read::read_split(unknown).expect("it reads");
    let counts = read.object.status.and_then(|status| status.pods).expect("the counts");
    assert_eq!((counts.selected, counts.split, counts.ready), (2, 0, 0));
}
