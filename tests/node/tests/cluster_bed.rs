//! The test bed's cluster: that it is a real one, and refuses whom a real one refuses. Needs root.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sidewall_node_tests::api::{Credentials, Token};
use sidewall_node_tests::{Cluster, Node};

const POD: Duration = Duration::from_secs(60);

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
                api.exec("default", from, "main", &["wget", "-q", "-T5", "-O-", &url]).unwrap(),
                format!("{to}\n")
            );
        }
    }

    // The scheduler and the controllers work: a Deployment becomes pods on nodes.
    api.kubectl(&["create", "deployment", "many", "--image=localhost/busybox:1", "--replicas=2", "--", "sleep", "600"])
        .unwrap();
    api.kubectl(&["rollout", "status", "deployment/many", "--timeout=60s"]).unwrap();

    // Containers stand below the pods' cgroup.
    let pods = cluster.nodes()[0].cell().cgroup().open("kubepods").unwrap();
    assert!(!pods.children().unwrap().is_empty());

    // Who has no rights gets nothing; a service account gets what RBAC grants and no more.
    for credentials in [Credentials::None, Credentials::Token(Token("invalid".into()))] {
        let error = cluster.control().api(&credentials).unwrap().get(&["pods"]).unwrap_err().to_string();
        let refused = ["Unauthorized", "Forbidden", "must be logged in", "provide credentials"];
        assert!(refused.iter().any(|word| error.contains(word)), "{error}");
    }
    let token = api.kubectl(&["create", "token", "default"]).unwrap().trim().to_owned();
    let account = cluster.control().api(&Credentials::Token(Token(token))).unwrap();
    let error = account.get(&["pods"]).unwrap_err().to_string();
    assert!(error.contains("system:serviceaccount:default:default") && error.contains("Forbidden"), "{error}");
    api.kubectl(&["create", "clusterrolebinding", "see", "--clusterrole=view", "--serviceaccount=default:default"])
        .unwrap();
    let pods = account.until("the right to see pods", POD, &["pods"], |pods| pods["items"].is_array()).unwrap();
    assert!(pods["items"].as_array().unwrap().len() >= 4, "{pods}");
    assert!(account.kubectl(&["delete", "pod", "here"]).is_err());

    // A node's own certificate may not write another node's status (NodeRestriction).
    let node = cluster.control().client("system:node:node1", Some("system:nodes")).unwrap();
    let node = cluster.control().api(&Credentials::Certificate(node)).unwrap();
    node.kubectl(&["label", "node", "node1", "mine=yes"]).unwrap();
    assert!(node.kubectl(&["label", "node", "node2", "mine=yes"]).is_err());

    // An outage of the API server ends, and nothing is lost.
    cluster.control().stop_api(Signal::KILL).unwrap();
    assert!(api.get(&["pod", "here"]).is_err());
    cluster.control().start_api().unwrap();
    assert_eq!(api.get(&["pod", "here"]).unwrap()["metadata"]["uid"], here["metadata"]["uid"]);

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
