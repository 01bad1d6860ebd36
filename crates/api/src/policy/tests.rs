//! Every rule twice: the Rust one with its place, and the schema's CEL rule, evaluated here as an API server does.

use std::collections::BTreeSet;

use kube::core::cel::Validator;
use serde_json::{Value, json};

use super::*;
use crate::crd::crds;
use crate::problem::{Problem, Severity};

fn policy(spec: Value) -> ContainerNetworkPolicy {
    let value = json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy",
        "metadata": {"name": "p", "namespace": "shop"}, "spec": spec
    });
    serde_json::from_value(value).unwrap()
}

fn errors(spec: &Value) -> Vec<Problem> {
    policy(spec.clone()).validate().into_iter().filter(Problem::is_error).collect()
}

fn schema() -> Value {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == "ContainerNetworkPolicy").unwrap();
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.clone();
    serde_json::to_value(schema).unwrap()
}

/// Whether the CEL rules accept it.
fn cel_accepts(spec: &Value) -> bool {
    let object = json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy",
        "metadata": {"name": "p", "namespace": "shop"}, "spec": spec
    });
    Validator::new().validate(&schema(), &object, None).is_ok()
}

fn with(field: &str, value: Value) -> Value {
    let mut spec = json!({"podSelector": {}});
    spec[field] = value;
    spec
}

fn to(peer: Value) -> Value {
    with("egress", json!([{"to": [peer]}]))
}

fn port(port: Value) -> Value {
    with("egress", json!([{"ports": [port]}]))
}

fn accept(spec: Value) {
    assert_eq!(errors(&spec), [], "{spec}");
    assert!(cel_accepts(&spec), "CEL refuses {spec}");
}

/// Refused by Rust at this path only, and by CEL.
fn refuse(spec: Value, path: &str) {
    refuse_in_rust(spec.clone(), path);
    assert!(!cel_accepts(&spec), "CEL accepts {spec}");
}

/// Refused by Rust at this path only. The API server refuses it by another part of the schema than CEL.
fn refuse_in_rust(spec: Value, path: &str) {
    let paths: BTreeSet<String> = errors(&spec).iter().map(|p| p.path.to_string()).collect();
    assert_eq!(paths, BTreeSet::from([path.to_owned()]), "{spec}");
}

#[test]
fn a_whole_policy_is_accepted() {
    accept(json!({
        "podSelector": {"matchLabels": {"app": "web"}},
        "containers": ["log-shipper"],
        "policyTypes": ["Ingress", "Egress"],
        "mode": "Audit",
        "egress": [
            {"to": [{"container": "app"}], "ports": [{"protocol": "TCP", "port": "metrics"}]},
            {"to": [
                {"podSelector": {"matchLabels": {"app": "db"}}, "namespaceSelector": {}},
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0/16"]}},
                {"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}},
                {"entity": "ClusterDNS"}
            ], "ports": [{"protocol": "UDP", "port": 53}, {"port": 8000, "endPort": 9000}, {"protocol": "SCTP"}]},
        ],
        "ingress": [{"from": [{"container": "front-proxy"}, {"entity": "PortForward"}]}]
    }));
}

#[test]
fn directions_default_as_in_network_policy() {
    let directions = |spec: Value| policy(spec).spec.directions();
    let (ingress, egress) = (PolicyType::Ingress, PolicyType::Egress);
    assert_eq!(directions(json!({"podSelector": {}})), BTreeSet::from([ingress]));
    assert_eq!(directions(with("ingress", json!([]))), BTreeSet::from([ingress]));
    assert_eq!(directions(with("egress", json!([{}]))), BTreeSet::from([ingress, egress]));
    assert_eq!(directions(with("policyTypes", json!([]))), BTreeSet::from([ingress]));
    assert_eq!(directions(with("policyTypes", json!(["Egress"]))), BTreeSet::from([egress]));
}

#[test]
fn sections_need_their_direction() {
    accept(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": []}));
    accept(json!({"podSelector": {}, "policyTypes": [], "egress": [{}]}));
    accept(json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}));
    refuse(json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": [{}]}), "spec.policyTypes");
    refuse(json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": []}), "spec.policyTypes");
    refuse(json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]}), "spec.policyTypes");
    // As in NetworkPolicy this would isolate nothing, which nobody means who writes it.
    refuse(json!({"podSelector": {}, "egress": []}), "spec.egress");
    refuse_in_rust(json!({"podSelector": {}, "policyTypes": ["Ingress", "Ingress"]}), "spec.policyTypes[1]");
}

#[test]
fn containers() {
    accept(json!({"podSelector": {}}));
    accept(with("containers", json!(["a", "b-1"])));
    refuse_in_rust(with("containers", json!([])), "spec.containers");
    refuse_in_rust(with("containers", json!(["a", "B"])), "spec.containers[1]");
    refuse_in_rust(with("containers", json!(["a", "a"])), "spec.containers[1]");
    let many = |n: usize| with("containers", json!((0..n).map(|i| format!("c{i}")).collect::<Vec<_>>()));
    accept(many(CONTAINERS_MAX));
    refuse_in_rust(many(CONTAINERS_MAX + 1), "spec.containers");
    assert!(policy(json!({"podSelector": {}})).spec.selects_container("any"));
    assert!(!policy(with("containers", json!(["a"]))).spec.selects_container("b"));
}

#[test]
fn a_peer_is_one_thing() {
    for peer in [
        json!({"container": "app"}),
        json!({"podSelector": {}}),
        json!({"namespaceSelector": {}}),
        json!({"podSelector": {}, "namespaceSelector": {}}),
        json!({"ipBlock": {"cidr": "0.0.0.0/0"}}),
        json!({"entity": "World"}),
    ] {
        accept(to(peer));
    }
    for peer in [
        json!({}),
        json!({"container": "app", "podSelector": {}}),
        json!({"container": "app", "namespaceSelector": {}}),
        json!({"container": "app", "entity": "Node"}),
        json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}),
        json!({"namespaceSelector": {}, "entity": "World"}),
        json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "entity": "World"}),
    ] {
        refuse(to(peer), "spec.egress[0].to[0]");
    }
    refuse_in_rust(to(json!({"container": "App"})), "spec.egress[0].to[0].container");
    let both = policy(to(json!({"namespaceSelector": {}, "entity": "World"}))).validate();
    assert!(both[0].message.contains("namespaceSelector and entity"), "{both:?}");
}

#[test]
fn selectors_of_peers_keep_their_rules() {
    let bad = json!({"matchExpressions": [{"key": "a", "operator": "In", "values": []}]});
    refuse(to(json!({"podSelector": bad})), "spec.egress[0].to[0].podSelector.matchExpressions[0].values");
    refuse(to(json!({"namespaceSelector": bad})), "spec.egress[0].to[0].namespaceSelector.matchExpressions[0].values");
    refuse(json!({"podSelector": bad}), "spec.podSelector.matchExpressions[0].values");
    let bad = json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]});
    refuse(json!({"podSelector": bad}), "spec.podSelector.matchExpressions[0].values");
}

#[test]
fn entities_stand_where_they_can_be_met() {
    let from = |entity: &str| with("ingress", json!([{"from": [{"entity": entity}]}]));
    for entity in ["KubeAPIServer", "Node", "PortForward", "World"] {
        accept(from(entity));
    }
    for entity in ["ClusterDNS", "KubeAPIServer", "Node", "World"] {
        accept(to(json!({"entity": entity})));
    }
    refuse(from("ClusterDNS"), "spec.ingress[0].from[0].entity");
    refuse(to(json!({"entity": "PortForward"})), "spec.egress[0].to[0].entity");
}

#[test]
fn ip_blocks() {
    let block = |cidr: &str, except: &[&str]| to(json!({"ipBlock": {"cidr": cidr, "except": except}}));
    accept(block("10.0.0.0/8", &[]));
    accept(block("10.0.0.0/8", &["10.0.0.0/9", "10.255.255.255/32"]));
    accept(block("::/0", &["fc00::/7"]));
    accept(block("192.0.2.1/32", &[]));
    let cidr = "spec.egress[0].to[0].ipBlock.cidr";
    for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/129", "web", "10.0.0.0/-1", "::ffff:10.0.0.0/104", ""] {
        refuse_in_rust(block(bad, &[]), cidr);
    }
    refuse_in_rust(block("10.0.0.0/08", &[]), cidr);
    let except = "spec.egress[0].to[0].ipBlock.except[0]";
    refuse_in_rust(block("10.0.0.0/8", &["11.0.0.0/16"]), except);
    refuse_in_rust(block("10.0.0.0/8", &["0.0.0.0/0"]), except);
    refuse(block("10.0.0.0/8", &["10.0.0.0/8"]), except);
    refuse_in_rust(block("10.0.0.0/8", &["2001:db8::/32"]), except);
    refuse_in_rust(block("10.0.0.0/8", &["10.0.0.1"]), except);
    // Another spelling of the whole range: CEL compares the text only.
    refuse_in_rust(block("10.0.0.0/8", &["10.1.0.0/8"]), except);
    let many = vec!["10.0.0.0/16"; EXCEPT_MAX + 1];
    refuse_in_rust(block("10.0.0.0/8", &many), "spec.egress[0].to[0].ipBlock.except");
    accept(block("10.0.0.0/8", &many[1..]));
}

#[test]
fn host_bits_are_warned_of() {
    let problems = policy(to(json!({"ipBlock": {"cidr": "10.1.2.3/8"}}))).validate();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].severity, Severity::Warning);
    assert_eq!(problems[0].message, "10.1.2.3/8 has host bits set and means 10.0.0.0/8");
}

#[test]
fn ports() {
    accept(port(json!({})));
    accept(port(json!({"port": 1})));
    accept(port(json!({"port": 65535})));
    accept(port(json!({"port": "http"})));
    accept(port(json!({"port": "a"})));
    accept(port(json!({"port": 80, "endPort": 80})));
    accept(port(json!({"port": 80, "endPort": 65535})));
    let at = "spec.egress[0].ports[0]";
    for bad in [
        json!(0),
        json!(-1),
        json!(65536),
        json!(""),
        json!("80"),
        json!("Http"),
        json!("a--b"),
        json!("-a"),
        json!("a-"),
    ] {
        refuse_in_rust(port(json!({"port": bad})), &format!("{at}.port"));
    }
    refuse_in_rust(port(json!({"port": "abcdefghijklmnop"})), &format!("{at}.port"));
    refuse(port(json!({"endPort": 80})), &format!("{at}.endPort"));
    refuse_in_rust(port(json!({"port": "http", "endPort": 80})), &format!("{at}.endPort"));
    refuse_in_rust(port(json!({"port": 81, "endPort": 80})), &format!("{at}.endPort"));
    refuse_in_rust(port(json!({"port": 81, "endPort": 65536})), &format!("{at}.endPort"));
}

#[test]
fn sizes_are_bounded() {
    accept(with("egress", json!(vec![json!({}); RULES_MAX])));
    refuse_in_rust(with("egress", json!(vec![json!({}); RULES_MAX + 1])), "spec.egress");
    refuse_in_rust(with("ingress", json!(vec![json!({}); RULES_MAX + 1])), "spec.ingress");
    let peers = |n: usize| with("egress", json!([{"to": vec![json!({"container": "a"}); n]}]));
    accept(peers(PEERS_MAX));
    refuse_in_rust(peers(PEERS_MAX + 1), "spec.egress[0].to");
    let ports = |n: usize| with("ingress", json!([{"ports": vec![json!({"port": 1}); n]}]));
    accept(ports(PORTS_MAX));
    refuse_in_rust(ports(PORTS_MAX + 1), "spec.ingress[0].ports");
}

#[test]
fn unknown_fields_and_words_are_errors() {
    for bad in [
        json!({"podSelector": {}, "container": ["a"]}),
        json!({"podSelector": {}, "mode": "Permissive"}),
        json!({"podSelector": {}, "policyTypes": ["egress"]}),
        json!({"podSelector": {}, "egress": [{"from": []}]}),
        json!({"podSelector": {}, "egress": [{"to": [{"containers": ["a"]}]}]}),
        json!({"podSelector": {}, "egress": [{"to": [{"entity": "Everybody"}]}]}),
        json!({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "::/0", "exclude": []}}]}]}),
        json!({"podSelector": {}, "egress": [{"ports": [{"portz": 1}]}]}),
        json!({"podSelector": {}, "egress": [{"ports": [{"protocol": "tcp"}]}]}),
        json!({}),
    ] {
        assert!(serde_json::from_value::<ContainerNetworkPolicySpec>(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn absent_and_empty_are_kept_apart() {
    let spec = policy(json!({"podSelector": {}})).spec;
    assert_eq!((spec.ingress, spec.egress, spec.containers), (None, None, None));
    let spec = policy(json!({"podSelector": {}, "ingress": [], "egress": [], "containers": []})).spec;
    assert_eq!(spec.ingress.map(|r| r.len()), Some(0));
    assert_eq!(spec.egress.map(|r| r.len()), Some(0));
    assert_eq!(spec.containers.map(|c| c.len()), Some(0));
}

#[test]
fn what_is_written_reads_back() {
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "web"}}, "mode": "Enforce", "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {}}], "ports": [{"protocol": "UDP", "port": "dns"}, {"protocol": "TCP", "port": 53}]}]
    });
    assert_eq!(serde_json::to_value(policy(spec.clone()).spec).unwrap(), spec);
}

#[test]
fn words_are_written_as_they_are_read() {
    for entity in [Entity::ClusterDNS, Entity::KubeAPIServer, Entity::Node, Entity::PortForward, Entity::World] {
        assert_eq!(serde_json::to_value(entity).unwrap(), entity.as_str());
    }
    for protocol in [PortProtocol::Tcp, PortProtocol::Udp, PortProtocol::Sctp] {
        assert_eq!(serde_json::to_value(protocol).unwrap(), protocol.as_str());
    }
    for direction in [PolicyType::Ingress, PolicyType::Egress] {
        assert_eq!(serde_json::to_value(direction).unwrap(), direction.as_str());
    }
}
