//! `sidewall flows` in a cluster: from the kernel of a pod's namespace through its node's agent, kubelet and API server to
//! who may see it, and to nobody else. Needs root.
#![forbid(unsafe_code)]

mod cli;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use cli::sidewall;
use serde_json::{Value, json};
use sidewall_node_tests::agent::{self, Agent};
use sidewall_node_tests::api::{Credentials, list};
use sidewall_node_tests::shop::{self, SERVE, WAIT};
use sidewall_node_tests::until::until;
use sidewall_node_tests::{Api, Cluster, parts};

const LIMIT: Duration = Duration::from_secs(60);

/// Two namespaces whose pods nobody may reach.
const WALLS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: bank}
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: vault, namespace: bank}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
"#;

/// What is written for people who let jane see the flows of `shop`; it is done here word for word.
const DOCUMENT: &str = include_str!("../../../docs/flows.md");

/// The way to the agents, as it is deployed.
fn forward() -> &'static str {
    let manifest = include_str!("../../../deploy/manifests/kubeadm.yaml");
    let is_role =
        |document: &&str| document.contains("\nkind: Role\n") && document.contains("  name: sidewall-agent-forward\n");
    manifest.split("\n---\n").find(is_role).expect("the role is deployed")
}

fn pod(namespace: &str, name: &str, app: &str, node: &str, command: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "containers": [{
                "name": "app", "image": "localhost/busybox:1", "command": ["sh", "-c", command],
                "securityContext": {"runAsUser": 1001, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

/// What stands for an agent's pod: the agent itself is a program of the node here, with the node's network as in its pod.
fn agent_pod(node: &str) -> Value {
    let mut pod = pod("sidewall-system", &format!("sidewall-agent-{node}"), "none", node, WAIT);
    pod["metadata"]["labels"] = json!({"app.kubernetes.io/name": "sidewall-agent"});
    pod["spec"]["hostNetwork"] = json!(true);
    pod
}

struct Bed {
    cluster: Cluster,
    jane: Api,
}

impl Bed {
    fn new() -> Self {
        let cluster = Cluster::start(2).unwrap();
        let api = cluster.api();
        agent::install(api).unwrap();
        api.apply(WALLS).unwrap();
        api.apply(forward()).unwrap();
        let commands: Vec<&str> = DOCUMENT.lines().filter_map(|line| line.strip_prefix("kubectl ")).collect();
        assert_eq!(commands.len(), 6, "{commands:?}");
        for command in commands {
            api.kubectl(&command.split_whitespace().collect::<Vec<_>>()).unwrap();
        }
        let jane = cluster.control().client("jane", None).unwrap();
        let jane = cluster.control().api(&Credentials::Certificate(jane)).unwrap();
        Self { cluster, jane }
    }

    fn start(&self, pods: &[Value]) {
        let api = self.cluster.api();
        api.apply(&list(pods)).unwrap();
        for pod in pods {
            let of = |field: &str| pod["metadata"][field].as_str().unwrap().to_owned();
            api.ready(&of("namespace"), &of("name"), LIMIT).unwrap();
        }
    }

    /// Somebody tries a pod in vain.
    fn knock(&self, namespace: &str, pod: &str) {
        let api = self.cluster.api();
        let url = shop::far(api, namespace, pod).unwrap();
        let fetched = api.exec("shop", "foe", "app", &["timeout", "1", "wget", "-q", "-O-", &url]);
        assert!(fetched.is_err(), "{fetched:?}");
    }
}

/// The command while it runs; ended with this.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(api: &Api, arguments: &[&str]) -> Self {
        let mut command = Command::new(parts::built("sidewall").unwrap());
        command.env_clear().env("KUBECONFIG", api.kubeconfig()).current_dir("/").args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a line comes")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn flows_are_for_those_who_may_see_them() {
    let bed = Bed::new();
    let api = bed.cluster.api();
    let node = &bed.cluster.nodes()[0];
    let agent = Agent::start(node, bed.cluster.control(), json!({})).unwrap();
    bed.start(&[
        pod("shop", "web", "web", "node1", SERVE),
        pod("bank", "web", "web", "node1", SERVE),
        pod("shop", "foe", "foe", "node1", WAIT),
        agent_pod("node1"),
    ]);
    for namespace in ["shop", "bank"] {
        until("walls", LIMIT, || {
            let done = sidewall(api, &["status", &format!("pod/{namespace}/web")]);
            Ok(if done.code == 0 { Ok(()) } else { Err(format!("{}{}\n{}", done.out, done.err, agent.log())) })
        })
        .unwrap();
        bed.knock(namespace, "web");
    }

    // Jane logs in with a certificate and has no token of her own. She sees `shop`, summed up, line by line, and as it comes.
    let records = |done: &cli::Done| -> Vec<Value> {
        done.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    };
    let summary = until("the denied flow", LIMIT, || {
        let done = sidewall(&bed.jane, &["flows", "-n", "shop", "--output", "json"]);
        Ok(match done.code == 0 && !done.json()["pods"].as_array().unwrap().is_empty() {
            true => Ok(done.json()),
            false => Err(format!("{}: {}{}\n{}", done.code, done.out, done.err, agent.log())),
        })
    })
    .unwrap();
    let pods: Vec<_> = summary["pods"].as_array().unwrap().iter().map(|pod| (&pod["namespace"], &pod["pod"])).collect();
    assert_eq!(pods, [(&json!("shop"), &json!("web"))], "{summary}");
    // Who has which address, an agent learns from time to time.
    let all = until("the peer's name", LIMIT, || {
        bed.knock("shop", "web");
        let done = sidewall(&bed.jane, &["flows", "pod/shop/web", "--denied", "--output", "json"]);
        assert_eq!(done.code, 0, "{}", done.err);
        let all = records(&done);
        Ok(if all.iter().any(|record| record["peer"]["name"] == "foe") { Ok(all) } else { Err(done.out) })
    });
    for record in all.unwrap() {
        let about = (&record["namespace"], &record["pod"], &record["verdict"], &record["port"]);
        assert_eq!(about, (&json!("shop"), &json!("web"), &json!("deny"), &json!(8080)), "{record}");
        assert_eq!(record["policies"][0]["name"], "closed", "{record}");
    }
    let done = sidewall(&bed.jane, &["flows", "-n", "shop", "pod/web", "--last", "1"]);
    assert_eq!((done.code, done.out.lines().count()), (0, 1), "{}{}", done.out, done.err);
    let running = Running::start(&bed.jane, &["flows", "-n", "shop", "--follow", "--since", "0s"]);
    bed.knock("bank", "web");
    bed.knock("shop", "web");
    let line = running.line();
    assert!(line.contains("shop/web pod shop/foe") && line.contains("deny"), "{line}");
    drop(running);

    // Not so another namespace, nor all of them; and nobody without the rights.
    let account = ["--service-account", "shop/sidewall-flows"];
    let done = sidewall(api, &[&["flows", "-n", "bank"][..], &account].concat());
    assert_eq!(done.code, 3, "{}", done.out);
    assert!(done.err.contains("may not see the flows of namespace bank"), "{}", done.err);
    let done = sidewall(api, &[&["flows", "-A"][..], &account].concat());
    assert!(done.code == 3 && done.err.contains("may not see the flows of all namespaces"), "{}{}", done.out, done.err);
    let done = sidewall(api, &["flows", "-n", "bank"]);
    assert!(done.code == 3 && done.err.contains("create serviceaccount sidewall-flows"), "{}", done.err);
    let done = sidewall(&bed.jane, &[&["flows", "-n", "shop"][..], &["--service-account", "default"]].concat());
    assert!(done.code == 3 && done.err.contains("grant create on serviceaccounts/token of default"), "{}", done.err);
    let stranger = bed.cluster.control().client("stranger", None).unwrap();
    let stranger = bed.cluster.control().api(&Credentials::Certificate(stranger)).unwrap();
    let done = sidewall(&stranger, &["flows", "pod/shop/web"]);
    assert!(done.code == 3 && done.err.contains("grant get on pods in shop"), "{}", done.err);

    // Root on the node needs nobody, and sees everything.
    let socket = format!("--agent={}", node.cell().path("/run/sidewall/flows.sock").display());
    let here = |arguments: &[&str]| {
        let mut command = Command::new(parts::built("sidewall").unwrap());
        cli::done(command.env_clear().args([&["flows", &socket][..], arguments].concat()))
    };
    let done = here(&["--output", "json"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(done.json()["pods"].as_array().unwrap().len(), 2, "{}", done.out);
    assert_eq!(here(&["-n", "bank", "--output", "json"]).json()["pods"][0]["namespace"], "bank");

    // A node whose agent does not answer, and one that has none, are told of beside what there is.
    bed.start(&[pod("shop", "far", "web", "node2", WAIT)]);
    let done = sidewall(&bed.jane, &["flows", "-n", "shop"]);
    assert_eq!(done.code, 1, "{}", done.out);
    assert!(done.out.contains("shop/web") && done.err.contains("no agent runs on node2"), "{}{}", done.out, done.err);
    let done = sidewall(&bed.jane, &["flows", "-n", "shop", "pod/far"]);
    assert!(done.code == 3 && done.err.contains("no agent runs on node2"), "{}", done.err);
    bed.start(&[agent_pod("node2")]);
    let done = sidewall(&bed.jane, &["flows", "-n", "shop"]);
    assert_eq!(done.code, 1, "{}", done.out);
    assert!(done.out.contains("shop/web") && done.err.contains("node2: "), "{}{}", done.out, done.err);
    println!("{}", done.err);

    // An agent that is killed is asked again; what it kept is gone with it, what comes is not.
    let running = Running::start(&bed.jane, &["flows", "-n", "shop", "pod/web", "--follow"]);
    running.line();
    agent.stop(rustix::process::Signal::KILL).unwrap();
    agent.resume().unwrap();
    agent.ready().unwrap();
    while running.lines.recv_timeout(Duration::from_millis(100)).is_ok() {}
    let again = until("a flow after the agent is back", LIMIT, || {
        bed.knock("shop", "web");
        Ok(running.lines.recv_timeout(Duration::from_secs(1)).map_err(|error| format!("{error}\n{}", agent.log())))
    });
    let again = again.unwrap();
    assert!(again.contains("deny") && again.contains("foe"), "{again}");
    drop(running);

    // A right that is taken away is gone with the next question.
    api.kubectl(&["-n", "shop", "delete", "rolebinding", "sidewall-flows"]).unwrap();
    let refused = until("the right is gone", LIMIT, || {
        let done = sidewall(&bed.jane, &["flows", "-n", "shop", "pod/web"]);
        Ok(if done.code == 3 { Ok(done.err) } else { Err(done.out) })
    });
    assert!(refused.unwrap().contains("may not see the flows of namespace shop"));
    // No token was written anywhere on the way: they all begin with the same JSON.
    assert!(!agent.log().contains("eyJ"), "the agent's log has a token");
}
