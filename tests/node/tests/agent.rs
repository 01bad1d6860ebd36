//! The agent on a real cluster: kubelet, containerd, CNI, NRI, API server. Needs root.
#![forbid(unsafe_code)]

use std::time::Duration;

use serde_json::{Value, json};
use sidewall_netns::{Launch, NetNs};
use sidewall_node_tests::agent::{self, Agent};
use sidewall_node_tests::api::list;
use sidewall_node_tests::node::PODS;
use sidewall_node_tests::parts;
use sidewall_node_tests::shop::{self, FRIENDS, HELPER, SERVE, WAIT, fetch};
use sidewall_node_tests::until::until;
use sidewall_node_tests::{Api, Cluster};

const POD: Duration = Duration::from_secs(60);

/// A pod on the only node.
fn pod(name: &str, app: &str, containers: &[(&str, u32, &str)]) -> Value {
    shop::pod(name, app, Some("node1"), &shop::confined(), containers)
}

#[test]
fn policies_hold_in_the_pods_of_a_cluster() {
    let cluster = Cluster::start(1).unwrap();
    let api = cluster.api();
    agent::install(api).unwrap();
    let node = &cluster.nodes()[0];
    let agent = Agent::start(node, cluster.control(), json!({})).unwrap();
    api.apply(&[&shop::policies(FRIENDS), HELPER].concat()).unwrap();
    let all = [
        pod("web", "web", &[("app", 1001, SERVE), ("helper", 1002, WAIT), ("stranger", 1003, WAIT)]),
        pod("friend", "friend", &[("main", 1001, WAIT)]),
        pod("foe", "foe", &[("main", 1001, WAIT)]),
    ];
    api.apply(&list(&all)).unwrap();
    for name in ["web", "friend", "foe"] {
        if let Err(error) = api.ready("shop", name, POD) {
            panic!("{error}\n{}", agent.log());
        }
    }
    let far = shop::far(api, "shop", "web").unwrap();
    let near = shop::NEAR;
    let enforced = |nodes: &Value| {
        let pods = nodes.pointer("/status/podList").and_then(Value::as_array);
        pods.is_some_and(|pods| {
            pods.iter().any(|pod| pod["name"] == "web" && pod["state"] == "Enforced" && pod["identity"] == "Cgroup")
        })
    };
    if let Err(error) = api.until("the node's word on web", POD, &["nodeenforcement", "node1"], enforced) {
        panic!("{error}\n{}", agent.log());
    }
    let mut wrong = Vec::new();
    for (from, container, url, expected) in [
        ("friend", "main", far.as_str(), true),
        ("foe", "main", far.as_str(), false),
        ("web", "helper", near, false),
        ("web", "app", near, true),
        ("web", "stranger", near, false),
    ] {
        let answer = fetch(api, from, container, url);
        if answer.is_ok() != expected {
            wrong.push(format!("{from}/{container} {url}: {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", agent.log());
}

/// What a node says of a pod.
fn said(api: &Api, name: &str) -> Option<Value> {
    let node = api.get(&["nodeenforcement", "node1"]).ok()?;
    let pods = node.pointer("/status/podList")?.as_array()?.clone();
    pods.into_iter().find(|pod| pod["name"] == name)
}

fn until_said(api: &Api, agent: &Agent<'_>, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let waited = until(&format!("the node's word on {name}"), POD, || {
        Ok(match said(api, name) {
            Some(pod) if holds(&pod) => Ok(pod),
            other => Err(format!("{other:?}")),
        })
    });
    waited.unwrap_or_else(|error| panic!("{error}\n{}", agent.log()))
}

const TAINT: &str = "sidewall.dev/agent-not-ready";

const MAY_PATCH_NODES: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: sidewall-agent-startup-taint}
rules: [{apiGroups: [""], resources: [nodes], verbs: [patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: sidewall-agent-startup-taint}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: sidewall-agent-startup-taint}
subjects: [{kind: ServiceAccount, name: sidewall-agent, namespace: sidewall-system}]
"#;

const EVERYBODY: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: everybody, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
"#;

/// Identity by user, and everything that stands against a pod's walls: found from what runs, and told.
#[test]
fn what_can_not_be_enforced_is_told() {
    let cluster = Cluster::start(1).unwrap();
    let api = cluster.api();
    agent::install(api).unwrap();
    let node = &cluster.nodes()[0];
    // No pod comes to the node before its agent is ready.
    api.apply(MAY_PATCH_NODES).unwrap();
    api.kubectl(&["taint", "node", "node1", &format!("{TAINT}=:NoExecute")]).unwrap();
    let settings = json!({"identity": "Uid", "startupTaint": TAINT, "timing": {"checkSeconds": 1}});
    let agent = Agent::start(node, cluster.control(), settings).unwrap();
    api.until("a node without the taint", POD, &["node", "node1"], |node| node.pointer("/spec/taints").is_none())
        .unwrap();
    api.apply(EVERYBODY).unwrap();
    let mut host = pod("host", "host", &[("main", 1001, WAIT)]);
    host["spec"]["hostNetwork"] = json!(true);
    let mut raw = pod("raw", "raw", &[("main", 1001, WAIT)]);
    raw["spec"]["containers"][0]["securityContext"]["capabilities"] = json!({"drop": ["ALL"], "add": ["NET_RAW"]});
    let mut becomes = pod("becomes", "becomes", &[("main", 1001, WAIT)]);
    becomes["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1001});
    let all = [
        pod("good", "good", &[("app", 1001, SERVE), ("helper", 1002, WAIT)]),
        pod("alike", "alike", &[("app", 1001, SERVE), ("helper", 1001, WAIT)]),
        host,
        raw,
        becomes,
    ];
    api.apply(&list(&all)).unwrap();
    let reason = |pod: &Value, word: &str| pod["reasons"].to_string().contains(word);
    until_said(api, &agent, "good", |pod| {
        pod["state"] == "Enforced" && pod["identity"] == "Uid" && pod["reasons"].is_null()
    });
    // Too strict is not passable: what both do is nobody's.
    until_said(api, &agent, "alike", |pod| pod["state"] == "Enforced" && reason(pod, "apart"));
    until_said(api, &agent, "host", |pod| pod["state"] == "NotEnforced" && reason(pod, "hostNetwork"));
    until_said(api, &agent, "raw", |pod| pod["state"] == "NotEnforced" && reason(pod, "NET_RAW"));
    until_said(api, &agent, "becomes", |pod| pod["state"] == "NotEnforced" && reason(pod, "SETUID"));
    let events = api.until("an event for the pod that is not walled", POD, &["-n", "shop", "events"], |events| {
        let items = events["items"].as_array().into_iter().flatten();
        items.clone().any(|event| event["reason"] == "NotEnforceable" && event["involvedObject"]["name"] == "raw")
    });
    events.unwrap();
    // The same container reaches itself by loopback, and the other does not reach it.
    let near = shop::NEAR;
    api.ready("shop", "good", POD).unwrap();
    assert!(fetch(api, "good", "app", near).is_ok(), "{}", agent.log());
    assert!(fetch(api, "good", "helper", near).is_err());

    // A process of another pod listens inside this one's namespace, as a mesh's does.
    let cgroup = |pod: &str| {
        let pod = api.get(&["-n", "shop", "pod", pod]).unwrap();
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
        let id = id.trim_start_matches("containerd://").to_owned();
        node.cell().cgroup().open(PODS.trim_start_matches('/')).unwrap().open(&id).unwrap()
    };
    api.ready("shop", "raw", POD).unwrap();
    let inside = NetNs::from_pid(u32::try_from(cgroup("good").procs().unwrap()[0]).unwrap()).unwrap();
    let listener = Launch::new(parts::node("busybox").unwrap())
        .args(["nc", "-l", "-p", "9999"])
        .cgroup(&cgroup("raw"))
        .netns(&inside)
        .privileged()
        .die_with_parent()
        .spawn();
    let mut listener = listener.unwrap();
    until_said(api, &agent, "good", |pod| pod["state"] == "NotEnforced" && reason(pod, "another pod's process"));
    listener.kill().unwrap();
    until_said(api, &agent, "good", |pod| pod["state"] == "Enforced");

    // What changes in the cluster changes in the pods: a policy that goes, and a label that a policy asks for.
    api.kubectl(&["-n", "shop", "delete", "ctnp", "everybody"]).unwrap();
    until("the way that is open again", POD, || Ok(fetch(api, "good", "helper", near))).unwrap();
    api.apply(
        "apiVersion: sidewall.dev/v1alpha1\nkind: ContainerNetworkPolicy\nmetadata: {name: locked, namespace: shop}\n\
         spec: {podSelector: {matchLabels: {lock: shut}}, policyTypes: [Ingress]}\n",
    )
    .unwrap();
    assert!(fetch(api, "good", "helper", near).is_ok());
    api.kubectl(&["-n", "shop", "label", "pod", "good", "lock=shut"]).unwrap();
    until("the way that is shut", POD, || {
        Ok(match fetch(api, "good", "helper", near) {
            Ok(answer) => Err(answer),
            Err(_) => Ok(()),
        })
    })
    .unwrap();
    let counted = "sidewall_agent_pods{state=\"Enforced\"} 1";
    until("the metric", POD, || {
        let metrics = agent.page("metrics")?;
        Ok(if metrics.contains(counted) { Ok(()) } else { Err(metrics) })
    })
    .unwrap();
}
