//! The test bed's cluster: that it is a real one, and refuses whom a real one refuses. Needs root.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sidewall_node_tests::api::{Credentials, Token};
use sidewall_node_tests::certificates::Authority;
use sidewall_node_tests::node::PODS;
use sidewall_node_tests::{Cluster, ControlPlane, Fabric, Node, parts};

const POD: Duration = Duration::from_secs(60);

#[test]
fn a_control_plane_knows_who_may_what() {
    let fabric = Fabric::new().unwrap();
    let start = Instant::now();
    let control = ControlPlane::start(&fabric).unwrap();
    println!("a control plane in {:?}", start.elapsed());
    let api = control.admin();

    // Neither an unknown token nor another authority's certificate is believed.
    let stranger = Authority::new().unwrap().client("admin", Some("system:masters")).unwrap();
    for credentials in [Credentials::Token(Token("invalid".into())), Credentials::Certificate(stranger)] {
        let error = control.api(&credentials).unwrap().get(&["pods"]).unwrap_err().to_string();
        assert!(error.contains("Unauthorized") || error.contains("must be logged in"), "{error}");
    }

    // A service account gets what RBAC grants and no more.
    api.kubectl(&["create", "serviceaccount", "agent"]).unwrap();
    let token = api.kubectl(&["create", "token", "agent"]).unwrap().trim().to_owned();
    let account = control.api(&Credentials::Token(Token(token))).unwrap();
    let error = account.get(&["pods"]).unwrap_err().to_string();
    assert!(error.contains("system:serviceaccount:default:agent") && error.contains("Forbidden"), "{error}");
    api.kubectl(&["create", "clusterrole", "see", "--verb=get,list", "--resource=pods"]).unwrap();
    api.kubectl(&["create", "clusterrolebinding", "see", "--clusterrole=see", "--serviceaccount=default:agent"])
        .unwrap();
    account.until("the right to see pods", POD, &["pods"], |pods| pods["items"].is_array()).unwrap();
    assert!(account.kubectl(&["create", "configmap", "mine"]).is_err());

    // Objects are checked, and an outage loses none.
    let error = api.apply("apiVersion: v1\nkind: Service\nmetadata: {name: none}\nspec: {ports: [{port: 70000}]}\n");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("65535"), "{error}");
    api.kubectl(&["create", "configmap", "kept"]).unwrap();
    control.stop_api(Signal::KILL).unwrap();
    let start = Instant::now();
    assert!(api.kubectl(&["get", "--raw", "/readyz"]).is_err());
    println!("outage noticed in {:?}", start.elapsed());
    let start = Instant::now();
    control.start_api().unwrap();
    println!("the API server again in {:?}", start.elapsed());
    api.get(&["configmap", "kept"]).unwrap();

    // Nodes reach it too, at its address in the fabric.
    let node = Node::start(&fabric, 1).unwrap();
    let host = control.inner_url().trim_start_matches("https://").replace(':', " ");
    let connect = format!("{} nc -w5 {host} </dev/null", parts::node("busybox").unwrap().display());
    node.cell().run("sh", &["-c", &connect]).unwrap();
}

fn pod(name: &str, node: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: localhost/busybox:1
    command: [sh, -c, "echo {name} > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
    readinessProbe: {{httpGet: {{path: /index.html, port: 8080}}, periodSeconds: 1}}
    securityContext: {{runAsUser: 1001}}
---
"#
    )
}

/// One cluster for all that is asked of one: it takes the longest to start.
#[test]
fn a_cluster_is_a_real_one() {
    let start = Instant::now();
    let cluster = Cluster::start(2).unwrap();
    println!("a cluster of two nodes in {:?}", start.elapsed());
    let api = cluster.api();

    // Pods by `kubectl apply`, one on each node, and each reaches the other by both families.
    let start = Instant::now();
    let yaml = [pod("here", "node1"), pod("there", "node2")].concat();
    api.apply(&yaml).unwrap();
    let [here, there] = ["here", "there"].map(|name| api.ready("default", name, POD).unwrap());
    println!("two pods in {:?}", start.elapsed());
    let addresses = |pod: &serde_json::Value| -> Vec<String> {
        let all = pod["status"]["podIPs"].as_array().unwrap();
        all.iter().map(|ip| ip["ip"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(addresses(&here).len(), 2, "{here}");
    for (from, to, peer) in [("here", "there", &there), ("there", "here", &here)] {
        for address in addresses(peer) {
            let url = if address.contains(':') {
                format!("http://[{address}]:8080/index.html")
            } else {
                format!("http://{address}:8080/index.html")
            };
            assert_eq!(
                api.exec("default", from, "main", &["timeout", "5", "wget", "-q", "-O-", &url]).unwrap(),
                format!("{to}\n")
            );
        }
    }

    // The scheduler and the controllers work: a Deployment becomes pods on nodes.
    api.kubectl(&["create", "deployment", "many", "--image=localhost/busybox:1", "--replicas=2", "--", "sleep", "600"])
        .unwrap();
    api.kubectl(&["rollout", "status", "deployment/many", "--timeout=60s"]).unwrap();

    // Containers have a cgroup each, below that of all pods.
    for node in cluster.nodes() {
        let pods = node.cell().cgroup().open(PODS.trim_start_matches('/')).unwrap().children().unwrap();
        // Each node has a pod and a part of the Deployment's, and each has a sandbox beside its container.
        assert!(pods.len() >= 2, "{pods:?}");
        assert!(pods.iter().all(|container| !container.procs().unwrap().is_empty()), "{pods:?}");
    }

    // A node's own certificate may not write another node's status (NodeRestriction).
    let node = cluster.control().client("system:node:node1", Some("system:nodes")).unwrap();
    let node = cluster.control().api(&Credentials::Certificate(node)).unwrap();
    node.kubectl(&["label", "node", "node1", "mine=yes"]).unwrap();
    assert!(node.kubectl(&["label", "node", "node2", "mine=yes"]).is_err());

    let cgroups: Vec<_> = cluster
        .nodes()
        .iter()
        .map(Node::cell)
        .chain([cluster.control().cell()])
        .map(|cell| cell.cgroup().clone())
        .collect();
    let start = Instant::now();
    drop(cluster);
    println!("the cluster ended in {:?}", start.elapsed());
    for cgroup in cgroups {
        assert!(!cgroup.path().exists(), "{} is still there", cgroup.path().display());
    }
}
