//! The command against a real API server: what it says of live objects, with no more rights than it needs, and as a plugin
//! of kubectl. Needs root.
#![forbid(unsafe_code)]

mod cli;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cli::{Done, done, sidewall};
use rustix::process::Signal;
use serde_json::{Value, json};
use sidewall_api::NodeEnforcementStatus;
use sidewall_api::enforcement::{
    EnforcedKind, EnforcementState, IdentityKind, NodePodCounts, PodEnforcement, PolicyEnforcement,
};
use sidewall_cluster::client::{ClientOptions, client};
use sidewall_cluster::enforcement::{EnforcementWriter, WriteTiming};
use sidewall_node_tests::api::{Api, Credentials};
use sidewall_node_tests::until::until;
use sidewall_node_tests::{ControlPlane, Fabric, parts};

const LIMIT: Duration = Duration::from_secs(60);

/// What `status`, `explain` and `matrix` ask for, and nothing else.
const RIGHTS: &str = r#"
- {apiGroups: [""], resources: [pods], verbs: [get, list]}
- {apiGroups: [""], resources: [namespaces, nodes, services], verbs: [list]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list]}
- {apiGroups: [networking.k8s.io], resources: [servicecidrs, networkpolicies], verbs: [list]}
- {apiGroups: [sidewall.dev], resources: [containernetworkpolicies, sidecarproxies], verbs: [list]}
- {apiGroups: [sidewall.dev], resources: [nodeenforcements], verbs: [get, list]}
"#;

/// What is needed more where MultiNetworkPolicies are served.
const MULTI: &str = "- {apiGroups: [k8s.cni.cncf.io], resources: [multi-networkpolicies], verbs: [list]}\n";

const MULTI_NETWORK_POLICIES: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: multi-networkpolicies.k8s.cni.cncf.io}
spec:
  group: k8s.cni.cncf.io
  scope: Namespaced
  names: {plural: multi-networkpolicies, singular: multi-networkpolicy, kind: MultiNetworkPolicy}
  versions:
  - name: v1beta1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

const NAMESPACES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: blue}}
---
apiVersion: v1
kind: Namespace
metadata: {name: data}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: data}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
";

const POLICY: &str = "
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  containers: [shipper]
  policyTypes: [Egress]
  egress:
  - to: [{container: app}]
    ports: [{port: metrics}]
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: data}}, podSelector: {matchLabels: {app: db}}}]
    ports: [{port: 5432}]
";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: data}
spec: {clusterIP: 10.96.0.77, clusterIPs: [10.96.0.77], selector: {app: db}, ports: [{port: 5432, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: data, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [10.91.2.9]}]
ports: [{port: 5432, name: '', protocol: TCP}]
";

/// A pod as it runs, with a status as a kubelet writes it.
fn pod(namespace: &str, name: &str, app: &str, node: &str, ip: &str, containers: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
        "spec": {
            "nodeName": node, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "initContainers": [{"name": "prepare", "image": "none"}],
            "containers": containers,
        },
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "10.90.0.1", "hostIPs": [{"ip": "10.90.0.1"}],
        },
    })
}

fn pods() -> [Value; 2] {
    let web = json!([
        {"name": "app", "image": "none", "ports": [
            {"containerPort": 8080, "name": "http"}, {"containerPort": 9090, "name": "metrics"}]},
        {"name": "shipper", "image": "none"},
    ]);
    let db = json!([{"name": "db", "image": "none", "ports": [{"containerPort": 5432}]}]);
    [pod("shop", "web", "web", "n1", "10.91.1.7", &web), pod("data", "db", "db", "n2", "10.91.2.9", &db)]
}

struct Bed {
    control: ControlPlane,
    _fabric: Fabric,
}

impl Bed {
    fn new() -> Self {
        let fabric = Fabric::new().unwrap();
        Self { control: ControlPlane::start(&fabric).unwrap(), _fabric: fabric }
    }

    fn admin(&self) -> &Api {
        self.control.admin()
    }

    fn install(&self) {
        let admin = self.admin();
        admin.apply(&sidewall_api::crd::crd_yaml()).unwrap();
        for crd in sidewall_api::crd::crds() {
            let name = format!("crd/{}", crd.metadata.name.unwrap());
            admin.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &name]).unwrap();
        }
    }

    fn fill(&self) {
        let admin = self.admin();
        admin.apply(&format!("{NAMESPACES}---{SERVICE}---{POLICY}")).unwrap();
        for pod in pods() {
            let (namespace, name) = (&pod["metadata"]["namespace"], &pod["metadata"]["name"]);
            admin.apply(&pod.to_string()).unwrap();
            let status = json!({"status": pod["status"]}).to_string();
            let patch = ["patch", "pod", "--subresource=status", "--type=merge", "-p", &status];
            let whom = ["-n", namespace.as_str().unwrap(), name.as_str().unwrap()];
            admin.kubectl(&patch.into_iter().chain(whom).collect::<Vec<_>>()).unwrap();
        }
    }

    /// A user with these rights, everywhere or in one namespace.
    fn user(&self, name: &str, rights: &str, namespace: Option<&str>) -> Api {
        let (kind, scope) = match namespace {
            None => ("ClusterRoleBinding", String::new()),
            Some(namespace) => ("RoleBinding", format!(", namespace: {namespace}")),
        };
        let head = "apiVersion: rbac.authorization.k8s.io/v1\nkind:";
        let role = format!("{head} ClusterRole\nmetadata: {{name: {name}}}\nrules:\n{rights}");
        let binding = format!(
            "{head} {kind}\nmetadata: {{name: {name}{scope}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {name}}}\n\
             subjects: [{{kind: User, apiGroup: rbac.authorization.k8s.io, name: {name}}}]\n"
        );
        self.admin().apply(&format!("{role}\n---\n{binding}")).unwrap();
        let api = self.control.api(&Credentials::Certificate(self.control.client(name, None).unwrap())).unwrap();
        // Roles come into force a moment after they are written, each as a whole.
        let resource = if rights.contains("[pods]") { "pods" } else { "nodeenforcements.sidewall.dev" };
        let mut ask = vec!["auth", "can-i", "list", resource];
        ask.extend(namespace.map_or(["--all-namespaces", "-q"], |namespace| ["-n", namespace]));
        until("the rights", LIMIT, || Ok(api.kubectl(&ask).map(drop).map_err(|error| error.to_string()))).unwrap();
        api
    }

    fn uid(&self, namespace: &str, pod: &str) -> String {
        let object = self.admin().get(&["-n", namespace, "pod", pod]).unwrap();
        object["metadata"]["uid"].as_str().unwrap().to_owned()
    }
}

/// What the agent of a node says where `web` runs.
fn report(uid: &str, state: EnforcementState, generation: i64) -> NodeEnforcementStatus {
    let enforced = i32::from(state == EnforcementState::Enforced);
    NodeEnforcementStatus {
        pods: NodePodCounts { total: 1, selected: 1, enforced, not_enforced: 1 - enforced },
        pod_list: vec![PodEnforcement {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            uid: uid.to_owned(),
            state,
            identity: (enforced == 1).then_some(IdentityKind::Uid),
            since: "2026-01-01T00:00:00Z".to_owned(),
            reasons: if enforced == 1 { vec![] } else { vec!["the container app holds NET_ADMIN: drop it".to_owned()] },
        }],
        policy_list: vec![PolicyEnforcement {
            kind: EnforcedKind::ContainerNetworkPolicy,
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            observed_generation: Some(generation),
            selected: 1,
            enforced,
            unreadable: None,
        }],
        ..NodeEnforcementStatus::default()
    }
}

/// Runs `status` until it says what it should: a report takes a moment to be written.
fn status_until(api: &Api, what: &str, arguments: &[&str], holds: impl Fn(&Done) -> bool) -> Done {
    until(what, LIMIT, || {
        let done = sidewall(api, arguments);
        Ok(if holds(&done) { Ok(done) } else { Err(format!("{}: {} {}", done.code, done.out, done.err)) })
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_enforced_is_told_from_live_objects() {
    let bed = Bed::new();
    // Nothing of ours is installed yet.
    let done = sidewall(bed.admin(), &["status"]);
    assert_eq!(done.code, 3, "{}", done.out);
    assert!(done.err.contains("install the CustomResourceDefinitions of Sidewall"), "{}", done.err);
    let done = sidewall(bed.admin(), &["explain", "-n", "default", "pod/web", "a", "b"]);
    assert_eq!(done.code, 3, "{}", done.out);
    assert!(done.err.contains("Pod default/web does not exist"), "{}", done.err);
    bed.install();
    bed.fill();
    let viewer = bed.user("viewer", RIGHTS, None);

    // No agent anywhere: nothing is enforced.
    let done = sidewall(&viewer, &["status", "--output", "json"]);
    assert_eq!(done.code, 1, "{}", done.err);
    let status = done.json();
    assert_eq!(status["enforced"], false);
    let nodes: Vec<_> = status["nodes"].as_array().unwrap().iter().map(|n| (&n["name"], &n["state"])).collect();
    assert_eq!(nodes, [(&json!("n1"), &json!("NoAgent")), (&json!("n2"), &json!("NoAgent"))]);
    assert_eq!(status["pods"][0]["state"], "NotEnforced");
    assert_eq!(status["pods"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!((&status["policies"][0]["selected"], &status["policies"][0]["enforced"]), (&json!(1), &json!(0)));
    assert_eq!(status["notCounted"], json!(["NetworkPolicy"]));

    // Both agents report.
    let agent = client(&ClientOptions { kubeconfig: Some(bed.admin().kubeconfig()), context: None }).await.unwrap();
    let timing = WriteTiming { interval: Duration::from_millis(50), ..WriteTiming::default() };
    let uid = bed.uid("shop", "web");
    let n1 = EnforcementWriter::start(&agent, "n1", timing);
    let n2 = EnforcementWriter::start(&agent, "n2", timing);
    n1.put(report(&uid, EnforcementState::Enforced, 1));
    n2.put(NodeEnforcementStatus::default());
    let done = status_until(&viewer, "all is enforced", &["status"], |done| done.code == 0);
    assert!(done.out.contains("1 of 1 selected pod is enforced"), "{}", done.out);
    assert!(done.out.contains("reporting") && !done.out.contains("Pods that are not enforced"), "{}", done.out);
    for (target, code) in [("pod/web", 0), ("policy/web", 0), ("ctnp/shop/web", 0), ("scp/web", 3), ("pod/none", 3)] {
        assert_eq!(sidewall(&viewer, &["status", "-n", "shop", target]).code, code, "{target}");
    }
    let one = sidewall(&viewer, &["status", "pod/shop/web", "--output", "json"]).json();
    assert_eq!((&one["pods"][0]["identity"], &one["nodes"][0]["name"]), (&json!("Uid"), &json!("n1")));
    assert_eq!(one["nodes"].as_array().unwrap().len(), 1);

    // A change that the agent has not taken up is not in force, whatever it says of the pod.
    bed.admin().apply(&POLICY.replace("5432", "5433")).unwrap();
    let done = sidewall(&viewer, &["status", "-n", "shop"]);
    assert_eq!(done.code, 1);
    assert!(
        done.out.contains("works on generation 1 of ContainerNetworkPolicy shop/web, which is at 2"),
        "{}",
        done.out
    );
    bed.admin().apply(POLICY).unwrap();
    n1.put(report(&uid, EnforcementState::Enforced, 3));
    status_until(&viewer, "the change is in force", &["status"], |done| done.code == 0);

    // What it can't enforce, with its reasons; `explain` says it before it says anything.
    n1.put(report(&uid, EnforcementState::NotEnforced, 3));
    let reason = "the container app holds NET_ADMIN: drop it";
    status_until(&viewer, "the reason", &["status"], |done| done.code == 1 && done.out.contains(reason));
    let done = sidewall(&viewer, &["explain", "-n", "shop", "pod/web", "shipper", "app", "--port", "metrics"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.starts_with("shop/web on n1: NOT ENFORCED") && done.out.contains(reason), "{}", done.out);

    // A policy of a newer version isolates, and is never all right.
    n1.put(report(&uid, EnforcementState::Enforced, 3));
    status_until(&viewer, "all is well", &["status"], |done| done.code == 0);
    let odd = POLICY.replace("name: web,", "name: odd,").replace("containers: [shipper]", "news: 1");
    let lenient = ["apply", "--validate=ignore", "-f", "-"];
    bed.admin().with_input(&lenient, &odd).unwrap();
    let done = sidewall(&viewer, &["status", "policy/odd", "-n", "shop"]);
    assert_eq!(done.code, 1, "{}", done.out);
    assert!(done.out.contains("can't be understood") && done.out.contains("news"), "{}", done.out);
    let done = sidewall(&viewer, &["explain", "-n", "shop", "pod/web", "app", "198.51.100.7", "--port", "443"]);
    assert_eq!(done.code, 1, "{}", done.out);
    assert!(done.out.contains("odd"), "{}", done.out);
    bed.admin().kubectl(&["-n", "shop", "delete", "ctnp", "odd"]).unwrap();

    // An agent that is no longer heard says nothing of now.
    drop((n1, n2));
    let old = r#"{"status": {"updated": "2026-01-01T00:00:00Z"}}"#;
    let patch = ["patch", "nodeenforcement", "n1", "--subresource=status", "--type=merge", "-p", old];
    bed.admin().kubectl(&patch).unwrap();
    let done = status_until(&viewer, "silence", &["status"], |done| done.out.contains("last heard of"));
    assert_eq!(done.code, 1);
    assert!(done.out.contains("silent") && done.out.contains("0 of 1 selected pod is enforced"), "{}", done.out);
}

#[test]
fn live_objects_and_files_give_one_answer() {
    let bed = Bed::new();
    bed.install();
    bed.fill();
    let viewer = bed.user("viewer", RIGHTS, None);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.yaml");
    // Accounts and nodes are of the cluster, and not of manifests.
    let read = |text: &&str| !text.contains("kind: ServiceAccount") && !text.contains("kind: Node\n");
    let mut all =
        format!("{NAMESPACES}---{SERVICE}---{POLICY}").split("---").filter(read).collect::<Vec<_>>().join("---");
    for pod in pods() {
        all.push_str(&format!("---\n{pod}\n"));
    }
    std::fs::write(&file, all).unwrap();
    let file = file.to_str().unwrap();
    let json = |arguments: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        let done = sidewall(&viewer, &arguments);
        (done.code, done.json())
    };

    // Every kind of end, and both verdicts.
    let mut codes = Vec::new();
    for (live, of_file, port) in [
        (["shipper", "app"], ["shipper", "app"], "metrics"),
        (["shipper", "app"], ["shipper", "app"], "http"),
        (["shipper", "data/db"], ["shipper", "data/db"], "5432"),
        (["shipper", "198.51.100.7"], ["shipper", "198.51.100.7"], "443"),
        (["prepare", "app"], ["prepare", "app"], "http"),
        (["unknown", "app"], ["unknown", "app"], "http"),
        (["node", "app"], ["node", "app"], "http"),
        (["port-forward", "app"], ["port-forward", "app"], "http"),
    ] {
        let (code, here) = json(&["explain", "-n", "shop", "pod/web", live[0], live[1], "--port", port]);
        let (expected, there) = json(&["explain", file, "--pod", "web", of_file[0], of_file[1], "--port", port]);
        assert_eq!((code, &here["flows"]), (expected, &there["flows"]), "{live:?}:{port}");
        assert_eq!(here["cluster"]["state"], "NotEnforced", "{here}");
        assert_eq!((&here["cluster"]["identityReported"], &here["identity"]), (&json!(false), &json!("cgroup")));
        codes.push(code);
    }
    assert!(codes.contains(&0) && codes.contains(&1), "{codes:?}");
    // The same by the words of kubectl.
    let (code, here) = json(&["explain", "-n", "shop", "pod/web", "shipper", "svc/data/db", "--port", "5432"]);
    let (_, there) = json(&["explain", file, "--pod", "web", "shipper", "10.96.0.77", "--port", "5432"]);
    assert_eq!((code, &here["flows"], &here["to"]), (0, &there["flows"], &json!("svc/data/db")), "{here}");
    let (_, here) = json(&["explain", "pod/shop/web", "shipper", "pod/data/db"]);
    assert_eq!(here["flows"][0]["port"], 5432, "{here}");

    let (code, here) = json(&["matrix", "pod/shop/web", "--peer", "pod/data/db", "--to", "10.96.0.77:5432"]);
    let (expected, there) = json(&["matrix", file, "--pod", "web", "--peer", "data/db", "--to", "10.96.0.77:5432"]);
    let renamed = serde_json::from_str::<Value>(&there["flows"].to_string().replace("data/db", "pod/data/db")).unwrap();
    let fields = |of: &Value| -> Vec<Value> {
        let cut = |field: &Value| json!([field["from"], field["to"], field["port"], field["verdict"]]);
        of.as_array().unwrap().iter().map(cut).collect()
    };
    assert_eq!((code, fields(&here["flows"])), (expected, fields(&renamed)));
    assert_eq!(here["pod"], "shop/web");
    assert!(fields(&here["flows"]).len() > 10, "{here}");
    let done = sidewall(&viewer, &["matrix", "-n", "shop", "pod/web"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("not counted: NetworkPolicy") && done.out.contains("app:9090/TCP"), "{}", done.out);

    // A change that is tried before it is made: in place of the policy of its name, or beside it.
    let changed = folder.path().join("changed.yaml");
    let supposed = |text: &str| {
        std::fs::write(&changed, text).unwrap();
        let explain = ["explain", "pod/shop/web", "shipper", "pod/data/db", "--port", "5432"];
        let (code, said) = json(&[&explain[..], &["-p", changed.to_str().unwrap()]].concat());
        (
            code,
            said["cluster"]["supposed"][0]["replaces"].clone(),
            said["cluster"]["warnings"].as_array().unwrap().len(),
        )
    };
    assert_eq!(supposed(POLICY), (0, json!(true), 0));
    assert_eq!(supposed(&POLICY.replace("5432", "5433")), (1, json!(true), 0));
    assert_eq!(supposed(&POLICY.replace("name: web,", "name: more,").replace("5432", "5433")), (0, json!(false), 0));
    assert_eq!(
        supposed(&POLICY.replace("namespace: shop", "namespace: data").replace("5432", "5433")),
        (0, json!(false), 1)
    );

    // A pod by what made it: the first that runs. The labels tell, as they tell its controller.
    let deployment = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: front, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: app, image: none}]}}
";
    bed.admin().apply(deployment).unwrap();
    let rights = format!("{RIGHTS}- {{apiGroups: [apps], resources: [deployments], verbs: [get]}}\n");
    let author = bed.user("author", &rights, None);
    let by_deployment = ["explain", "-n", "shop", "deploy/front", "shipper", "app", "--port", "metrics"];
    let done = sidewall(&author, &by_deployment);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.starts_with("shop/web on n1"), "{}", done.out);
    let done = sidewall(&viewer, &by_deployment);
    assert_eq!(done.code, 3);
    assert!(done.err.contains("grant get on deployments in shop"), "{}", done.err);

    // A container that was added to the running pod has its walls, and is asked about as any other.
    let debugger = r#"{"spec": {"ephemeralContainers": [{"name": "debugger", "image": "none"}]}}"#;
    let patch = ["-n", "shop", "patch", "pod", "web", "--subresource=ephemeralcontainers", "-p", debugger];
    bed.admin().kubectl(&patch).unwrap();
    let close =
        POLICY.replace("name: web,", "name: closed,").replace("containers: [shipper]", "containers: [debugger]");
    bed.admin().apply(close.split("  egress:").next().unwrap()).unwrap();
    let (code, here) = json(&["explain", "pod/shop/web", "debugger", "app", "--port", "http"]);
    assert_eq!(code, 1, "{here}");
    assert!(here["flows"][0]["sides"].to_string().contains("closed"), "{here}");

    // NetworkPolicies count when they are asked for: the cluster's own plugin enforces them otherwise.
    let all = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nothing, namespace: shop}
spec: {podSelector: {}, policyTypes: [Egress]}
";
    bed.admin().apply(all).unwrap();
    let explain = ["explain", "pod/shop/web", "app", "198.51.100.7", "--port", "443"];
    assert_eq!(json(&explain).0, 0);
    let (code, here) = json(&[&explain[..], &["--network-policies", "yes"]].concat());
    assert_eq!((code, &here["cluster"]["notCounted"]), (1, &json!([])), "{here}");
    let (_, status) = json(&["status", "-n", "shop", "--network-policies", "yes"]);
    let kinds: Vec<_> = status["policies"].as_array().unwrap().iter().map(|policy| policy["kind"].clone()).collect();
    assert!(kinds.contains(&json!("NetworkPolicy")), "{status}");

    // The kubeconfig says which namespace is meant, where nobody else does.
    let config = std::fs::read_to_string(viewer.kubeconfig()).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["contexts"][0]["context"]["namespace"] = json!("shop");
    config["contexts"][0]["name"] = json!("mine");
    let own = folder.path().join("kubeconfig");
    std::fs::write(&own, config.to_string()).unwrap();
    let config = ["--kubeconfig", own.to_str().unwrap(), "--context", "mine"];
    let own = json(&[&["explain", "pod/web", "shipper", "app", "--port", "metrics"], &config[..]].concat());
    assert_eq!((own.0, &own.1["cluster"]["namespace"]), (0, &json!("shop")));

    // What can't be meant is said before anything is asked.
    for (arguments, said) in [
        (&["explain", "pod/web", "a", "b", "--pod", "web"][..], "--pod is for a pod of a file"),
        (&["explain", "pod/web", "a", "b", "-p", "/none.yaml"], "can't read /none.yaml"),
        (&["explain", "pod/shop/web", "app", "node", "-p", file], "a file has a Pod"),
        (&["matrix", "pod/web", "--probe"], "nothing is tried"),
        (&["explain", file, "a", "b", "-n", "shop"], "write pod/NAME"),
        (&["status", "-n", "Shop"], "a namespace's name"),
        (&["status", "web"], "none of pod/NAME"),
        (&["status", "--context", "other"], "other"),
    ] {
        let done = sidewall(&viewer, arguments);
        assert_eq!(done.code, 2, "{arguments:?}: {}", done.err);
        assert!(done.err.contains(said), "{arguments:?}: {}", done.err);
    }

    plugin(&viewer, folder.path());
    refusals(&bed);

    // An API server that is gone is said to be so, soon.
    bed.control.stop_api(Signal::KILL).unwrap();
    for arguments in [&["status"][..], &["explain", "pod/shop/web", "app", "node"], &["matrix", "pod/shop/web"]] {
        let start = Instant::now();
        let done = sidewall(&viewer, arguments);
        assert_eq!(done.code, 3, "{arguments:?}: {}", done.out);
        assert!(done.err.contains("can't be reached"), "{}", done.err);
        assert_eq!(done.err.lines().count(), 1, "{}", done.err);
        assert!(start.elapsed() < Duration::from_secs(45), "{arguments:?}: {:?}", start.elapsed());
    }
}

/// The same program, found and run by the real kubectl.
fn plugin(viewer: &Api, folder: &Path) {
    let link = folder.join("kubectl-sidewall");
    std::os::unix::fs::symlink(parts::built("sidewall").unwrap(), &link).unwrap();
    let kubectl: PathBuf = parts::kubernetes("kubectl").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&kubectl);
        // It keeps a cache at home, or else wherever it is.
        command.env_clear().env("PATH", folder).env("HOME", folder).env("KUBECONFIG", viewer.kubeconfig());
        done(command.args(arguments))
    };
    let done = run(&["plugin", "list"]);
    assert!(done.out.contains("kubectl-sidewall"), "{} {}", done.out, done.err);
    let done = run(&["sidewall", "status", "-n", "shop", "--output", "json"]);
    let own = sidewall(viewer, &["status", "-n", "shop", "--output", "json"]);
    assert_eq!((done.code, done.json()), (own.code, own.json()));
    let done = run(&["sidewall", "explain", "-n", "shop", "pod/web", "shipper", "app", "--port", "metrics"]);
    assert_eq!(done.code, 0, "{}", done.err);
    let done = run(&["sidewall", "explain", "pod/web"]);
    assert_eq!(done.code, 2);
    assert!(done.err.contains("Usage: kubectl sidewall explain "), "{}", done.err);
}

/// Who may see less is told what he lacks, and gets what can be had all the same.
fn refusals(bed: &Bed) {
    let without = |resource: &str| {
        let other = RIGHTS.replace(&format!("{resource}, "), "").replace(&format!(", {resource}"), "");
        assert_ne!(other, RIGHTS, "{resource}");
        other
    };
    let stranger = bed.control.api(&Credentials::Certificate(bed.control.client("stranger", None).unwrap())).unwrap();
    let done = sidewall(&stranger, &["status"]);
    assert_eq!(done.code, 3);
    assert!(done.err.contains("\"stranger\"") && done.err.contains("grant list on nodeenforcements"), "{}", done.err);
    let done = sidewall(&stranger, &["explain", "pod/shop/web", "app", "node"]);
    assert_eq!(done.code, 3);
    assert!(done.err.contains("grant get on pods in shop"), "{}", done.err);

    // Nodes are better had, and not needed.
    let user = bed.user("without-nodes", &without("nodes"), None);
    let done = sidewall(&user, &["status", "--output", "json"]);
    assert_eq!(done.code, 1, "{}", done.err);
    assert!(done.json()["unknown"][0].as_str().unwrap().contains("grant list on nodes"), "{}", done.out);
    let done = sidewall(&user, &["explain", "pod/shop/web", "shipper", "app", "--port", "metrics"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("not known: Node objects"), "{}", done.err);

    // What verdicts depend on is needed.
    let user = bed.user("without-services", &without("services"), None);
    let done = sidewall(&user, &["explain", "pod/shop/web", "shipper", "app", "--port", "metrics"]);
    assert_eq!((done.code, done.out.as_str()), (3, ""));
    assert!(done.err.contains("grant list on services"), "{}", done.err);

    // Whether it is enforced can't be said without the nodes' reports.
    let unheard =
        RIGHTS.replace("- {apiGroups: [sidewall.dev], resources: [nodeenforcements], verbs: [get, list]}\n", "");
    let user = bed.user("unheard", &unheard, None);
    let done = sidewall(&user, &["explain", "pod/shop/web", "shipper", "app", "--port", "metrics"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("nobody can say whether this is enforced"), "{}", done.out);
    assert!(done.err.contains("grant get on nodeenforcements.sidewall.dev"), "{}", done.err);

    // One namespace.
    let rights = "
- {apiGroups: [sidewall.dev], resources: [containernetworkpolicies, sidecarproxies], verbs: [list]}
- {apiGroups: [''], resources: [pods], verbs: [list]}
";
    bed.user("tenant", &rights.replace("''", "\"\""), Some("shop"));
    let reports = "- {apiGroups: [sidewall.dev], resources: [nodeenforcements], verbs: [list]}";
    let role = bed.user("tenant-reports", reports, None);
    drop(role);
    bed.admin()
        .kubectl(&["create", "clusterrolebinding", "tenant-too", "--clusterrole=tenant-reports", "--user=tenant"])
        .unwrap();
    let tenant = bed.control.api(&Credentials::Certificate(bed.control.client("tenant", None).unwrap())).unwrap();
    let done = status_until(&tenant, "reports", &["status", "-n", "shop"], |done| done.code == 1);
    assert!(done.out.contains("shop") && done.out.contains("no agent"), "{}", done.out);
    let done = sidewall(&tenant, &["status"]);
    assert_eq!(done.code, 3, "{}", done.out);
    assert!(done.err.contains("name a namespace with --namespace"), "{}", done.err);

    // A kind that need not be there must be readable once it is.
    let (few, more) = (bed.user("few", RIGHTS, None), bed.user("more", &format!("{RIGHTS}{MULTI}"), None));
    assert_eq!(sidewall(&few, &["status"]).code, 1);
    bed.admin().apply(MULTI_NETWORK_POLICIES).unwrap();
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "crd/multi-networkpolicies.k8s.cni.cncf.io"];
    bed.admin().kubectl(&wait).unwrap();
    let done = status_until(&few, "the kind is served", &["status"], |done| done.code == 3);
    assert!(done.err.contains("grant list on multi-networkpolicies"), "{}", done.err);
    assert_eq!(sidewall(&few, &["explain", "pod/shop/web", "app", "node", "--port", "1"]).code, 3);
    assert_eq!(sidewall(&few, &["status", "--multi-network-policies", "no"]).code, 1);
    assert_eq!(sidewall(&more, &["status"]).code, 1);
}
