//! What the API server knows: namespaces of teams with their policies, pods here and elsewhere, Services.

use crate::Result;
use crate::objects::Objects;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// How many namespaces of teams there are.
pub const TEAMS: usize = 9;
/// How many applications a team has.
pub const APPLICATIONS: usize = 5;
/// The namespace of those who use what the teams offer.
pub const CLIENTS: &str = "clients";
/// How many pods run on nodes that are not there: peers of pods that are.
const ELSEWHERE: usize = 120;
/// Who collects metrics and logs.
const COMMON: [&str; 2] = ["monitoring", "logging"];

/// The namespace of a team.
pub fn team(number: usize) -> String {
    format!("team-{}", number % TEAMS)
}

/// The path of a namespace's policies.
pub fn policies(namespace: &str) -> String {
    format!("/apis/sidewall.dev/v1alpha1/namespaces/{namespace}/containernetworkpolicies")
}

/// The path of a namespace's EndpointSlices.
pub fn slices(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

/// The path of a pod.
pub fn pod_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{name}")
}

/// Everything but the pods that run.
pub async fn make(objects: &Objects, nodes: &[&str]) -> Result<()> {
    for (number, node) in nodes.iter().chain(&["elsewhere"]).enumerate() {
        // A node's own is told; the API server would not need it.
        let range = format!("10.91.{}.0/24", number + 1);
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "spec": {"podCIDR": range}});
        objects.create("/api/v1/nodes", node).await?;
    }
    let teams: Vec<String> = (0..TEAMS).map(team).collect();
    for name in teams.iter().map(String::as_str).chain([CLIENTS]).chain(COMMON) {
        let stage = if name.starts_with("team") { "live" } else { "shared" };
        let labels = json!({"stage": stage, "team": if name == CLIENTS { "blue" } else { name }});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        objects.create("/api/v1/namespaces", namespace).await?;
        // No controller makes it here, and without it no pod is admitted.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        objects.create(format!("/api/v1/namespaces/{name}/serviceaccounts"), account).await?;
    }
    for name in teams.iter().map(String::as_str).chain([CLIENTS]) {
        for policy in of_namespace(name) {
            objects.create(policies(name), policy).await?;
        }
    }
    for name in &teams {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "store"},
            "spec": {"selector": {"app": "app-3"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        });
        objects.create(format!("/api/v1/namespaces/{name}/services"), service).await?;
        for policy in of_team() {
            objects.create(policies(name), policy).await?;
        }
    }
    for number in 0..ELSEWHERE {
        let namespace = match number % 6 {
            0 => COMMON[0].to_owned(),
            1 => COMMON[1].to_owned(),
            _ => team(number / 6),
        };
        let name = format!("far-{number}");
        objects.create(format!("/api/v1/namespaces/{namespace}/pods"), pod("elsewhere", &name, number)).await?;
        let octet = u8::try_from(number % 250)? + 2;
        say_running(objects, &namespace, &name, &[Ipv4Addr::new(10, 91, 200, octet).to_string()]).await?;
    }
    Ok(())
}

/// A pod's object.
pub fn pod(node: &str, name: &str, number: usize) -> Value {
    let port = |port: u16, name: &str| json!({"containerPort": port, "name": name});
    let container = |name: &str, uid: u32, ports: Value| {
        json!({
            "name": name, "image": "localhost/busybox:1", "command": ["sleep", "2147483647"], "ports": ports,
            "securityContext": {"runAsUser": uid, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels(number)},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "containers": [
                container("app", 1001, json!([port(8080, "http"), port(9090, "metrics")])),
                container("log-shipper", 1002, json!([])),
            ],
        },
    })
}

/// The labels of a pod with that number.
pub fn labels(number: usize) -> Value {
    json!({
        "app": format!("app-{}", number % APPLICATIONS), "tier": if number.is_multiple_of(2) { "front" } else { "back" },
        "version": "v1", "role": "client",
    })
}

/// What a kubelet says of a pod that runs.
pub async fn say_running(objects: &Objects, namespace: &str, name: &str, addresses: &[String]) -> Result<()> {
    let all: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
    let status = json!({"status": {
        "phase": "Running", "podIP": addresses.first(), "podIPs": all,
        "conditions": [{"type": "Ready", "status": "True"}],
    }});
    objects.merge(format!("{}/status", pod_path(namespace, name)), status).await.map(drop)
}

/// The EndpointSlice of a team's Service.
pub fn slice(addresses: &[String]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "store-1", "labels": {"kubernetes.io/service-name": "store"}},
        "endpoints": endpoints(addresses), "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

/// The endpoints of an EndpointSlice.
pub fn endpoints(addresses: &[String]) -> Value {
    addresses.iter().map(|address| json!({"addresses": [address], "conditions": {"ready": true}})).collect()
}

/// A policy that opens a team's first application to another of its own.
pub fn opening(name: &str) -> Value {
    policy(
        name,
        json!({
            "podSelector": app(0), "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": app(4)}], "ports": [named("http")]}],
        }),
    )
}

/// Default deny with DNS, metrics, and a log shipper that reaches the logs alone.
fn of_namespace(name: &str) -> Vec<Value> {
    let mut all = vec![
        policy(
            "default-deny",
            json!({
                "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{"to": [{"entity": "ClusterDNS"}]}],
            }),
        ),
        policy(
            "metrics",
            json!({
                "podSelector": {}, "policyTypes": ["Ingress"],
                "ingress": [{"from": [of_namespaces("kubernetes.io/metadata.name", COMMON[0])], "ports": [named("metrics")]}],
            }),
        ),
        policy(
            "log-shipper",
            json!({
                "podSelector": {}, "containers": ["log-shipper"], "policyTypes": ["Egress"],
                "egress": [{"to": [of_namespaces("kubernetes.io/metadata.name", COMMON[1]), {"entity": "ClusterDNS"}]}],
            }),
        ),
    ];
    if name == CLIENTS {
        all.push(policy(
            "to-teams",
            json!({
                "podSelector": {}, "containers": ["app"], "policyTypes": ["Egress"],
                "egress": [{"to": [of_namespaces("stage", "live")], "ports": [named("http")]}],
            }),
        ));
    }
    all
}

/// What a team's applications may do.
fn of_team() -> Vec<Value> {
    let client = json!({"namespaceSelector": {"matchLabels": {"stage": "shared"}}, "podSelector": {"matchLabels": {"role": "client"}}});
    let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"];
    vec![
        policy(
            "front",
            json!({
                "podSelector": app(0), "containers": ["app"], "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [client], "ports": [named("http")]}],
                "egress": [{"to": [{"podSelector": app(1)}], "ports": [named("http")]}],
            }),
        ),
        policy(
            "from-blue",
            json!({
                "podSelector": app(0), "policyTypes": ["Ingress"],
                "ingress": [{"from": [of_namespaces("team", "blue")], "ports": [{"protocol": "TCP", "port": 8443}]}],
            }),
        ),
        policy(
            "outward",
            json!({
                "podSelector": app(1), "containers": ["app"], "policyTypes": ["Egress"],
                "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": private}}], "ports": [{"protocol": "TCP", "port": 443}]}],
            }),
        ),
        policy(
            "to-store",
            json!({
                "podSelector": app(2), "containers": ["app"], "policyTypes": ["Egress"],
                "egress": [{"to": [{"podSelector": app(3)}], "ports": [named("http")]}],
            }),
        ),
        policy(
            "store",
            json!({
                "podSelector": app(3), "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": app(2)}], "ports": [named("http")]}],
            }),
        ),
    ]
}

fn app(number: usize) -> Value {
    json!({"matchLabels": {"app": format!("app-{number}")}})
}

fn of_namespaces(key: &str, value: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {key: value}}})
}

fn named(port: &str) -> Value {
    json!({"protocol": "TCP", "port": port})
}

fn policy(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy", "metadata": {"name": name}, "spec": spec,
    })
}
