//! The agent as it is deployed: the chart's DaemonSet on a real cluster, with its capabilities, its system calls and its mounts and
//! no others. Needs root.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sidewall_cluster::client::{ClientOptions, client};
use sidewall_cluster::flows;
use sidewall_node_tests::cell::output;
use sidewall_node_tests::shop::{self, FRIENDS, SERVE, fetch};
use sidewall_node_tests::until::until;
use sidewall_node_tests::{Api, Cluster, Image, Node, api, parts};

const LIMIT: Duration = Duration::from_secs(90);
const NAMESPACE: &str = "sidewall-system";
const IMAGE: &str = "localhost/sidewall-agent:test";
/// The network that the cluster's own plugin installed.
const NETWORK: &str = "/etc/cni/net.d/10-pods.conflist";

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/charts/sidewall")
}

/// The agent's image: both programs, and the libraries that this build of the agent loads.
fn image() -> Image {
    let agent = parts::built("sidewall-agent").unwrap();
    let mut image = Image::new(IMAGE)
        .program("usr/bin/sidewall-agent", &agent)
        .program("usr/libexec/sidewall/sidewall-cni", parts::built("sidewall-cni").unwrap());
    let listed = output(Command::new("ldd").arg(&agent)).unwrap();
    for library in listed.split_ascii_whitespace().filter(|word| word.starts_with('/')) {
        image = image.program(library, fs::canonicalize(library).unwrap());
    }
    image
}

/// The chart for this cluster, which has no kube-proxy and no registry.
fn rendered(cluster: &Cluster, values: &[&str]) -> String {
    let server = cluster.control().inner_url();
    let (host, port) = server.trim_start_matches("https://").rsplit_once(':').unwrap();
    let (host, port) = (format!("apiServer.host={host}"), format!("apiServer.port={port}"));
    let own = [
        "namespace.create=true",
        // It has tests of its own; nobody answers its webhooks here.
        "operator.enabled=false",
        "image.repository=localhost/sidewall-agent",
        "image.tag=test",
        "uninstall.pauseImage=localhost/pause:1",
        "seccomp.type=Localhost",
        "agent.log=info\\,sidewall_agent=debug",
        &host,
        &port,
    ];
    let sets = own.iter().chain(values).flat_map(|value| ["--set", value]);
    let mut helm = Command::new(parts::node("helm").unwrap());
    helm.env_clear().args(["template", "sidewall"]).arg(chart()).args(["--namespace", NAMESPACE]).args(sets);
    output(&mut helm).unwrap()
}

/// The DaemonSet's pod that is not on its way out.
fn agent_pod(api: &Api) -> Option<Value> {
    let pods = api.get(&["-n", NAMESPACE, "pods", "-l", "app.kubernetes.io/name=sidewall-agent"]).ok()?;
    let mut all = pods["items"].as_array()?.iter();
    all.find(|pod| pod["metadata"].get("deletionTimestamp").is_none()).cloned()
}

/// The nodes whose agents `sidewall flows` would find.
fn agents(api: &Api) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = ClientOptions { kubeconfig: Some(api.kubeconfig()), context: None };
        let client = client(&options).await.unwrap();
        flows::agents(&client, NAMESPACE).await.unwrap().into_keys().collect()
    })
}

/// All that is known of the agents, for a person.
fn story(api: &Api) -> String {
    let pod = agent_pod(api).unwrap_or_default();
    let name = pod["metadata"]["name"].as_str().unwrap_or("none").to_owned();
    api.story(NAMESPACE, &name)
}

fn rolled_out(api: &Api) {
    let timeout = format!("--timeout={}s", LIMIT.as_secs());
    let waited = api.kubectl(&[
        "-n",
        NAMESPACE,
        "--request-timeout=0",
        "rollout",
        "status",
        "daemonset/sidewall-agent",
        &timeout,
    ]);
    waited.unwrap_or_else(|error| panic!("{error}\n{}", story(api)));
}

fn pod(name: &str, app: &str) -> Value {
    shop::pod(name, app, None, &shop::confined(), &[("app", 1001, SERVE)])
}

/// Whether `from` gets `web`'s page.
fn gets(api: &Api, from: &str, url: &str) -> bool {
    fetch(api, from, "app", url).is_ok()
}

/// Starts the three pods anew and returns what is wrong with their walls.
fn walls(api: &Api, limit: Duration) -> Vec<String> {
    let names = ["web", "friend", "foe"];
    let pods: Vec<Value> = names.iter().map(|name| pod(name, name)).collect();
    let pods = api::list(&pods);
    api.delete(&pods).unwrap();
    api.apply(&pods).unwrap();
    for name in names {
        if let Err(error) = api.ready("shop", name, limit) {
            return vec![error.to_string()];
        }
    }
    let web = api.get(&["-n", "shop", "pod", "web"]).unwrap();
    let url = shop::far(api, "shop", "web").unwrap();
    let mut wrong = Vec::new();
    for (from, expected) in [("friend", true), ("foe", false)] {
        if gets(api, from, &url) != expected {
            wrong.push(format!("{from}: not {expected}"));
        }
    }
    // As much as can be said of a pod is said: told apart by cgroup, with no reservation.
    let told = api.until("the node's word", limit, &["nodeenforcement", "node1"], |object| {
        let uid = &web["metadata"]["uid"];
        let list = object["status"]["podList"].as_array().into_iter().flatten();
        list.into_iter().any(|told| {
            told["uid"] == *uid
                && told["state"] == "Enforced"
                && told["identity"] == "Cgroup"
                && told.get("reasons").is_none()
        })
    });
    wrong.extend(told.err().map(|error| error.to_string()));
    wrong
}

fn list(status: &str, key: &str) -> String {
    status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned()
}

/// The agent's process as the kernel sees it: `/proc/PID/status`.
fn agent_process(node: &Node) -> String {
    let all = fs::read_dir(node.cell().path("/proc")).unwrap().flatten();
    let statuses = all.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok());
    statuses.into_iter().find(|status| list(status, "Name:") == "sidewall-agent").expect("no agent runs")
}

/// Changes the DaemonSet and says how its next pod fares: an error where the agent ends instead of becoming ready.
fn with(api: &Api, change: &Value, limit: Duration) -> Result<(), String> {
    let before = agent_pod(api).map(|pod| pod["metadata"]["uid"].clone());
    api.kubectl(&["-n", NAMESPACE, "patch", "daemonset", "sidewall-agent", "--type=json", "-p", &change.to_string()])
        .unwrap();
    until("what becomes of the agent", limit, || {
        let Some(pod) = agent_pod(api).filter(|pod| Some(&pod["metadata"]["uid"]) != before.as_ref()) else {
            return Ok(Err("it is not exchanged".to_owned()));
        };
        let container = &pod["status"]["containerStatuses"][0];
        let ended = [&container["state"]["terminated"], &container["lastState"]["terminated"]];
        Ok(match ended.into_iter().find(|ended| ended.is_object()) {
            Some(ended) => Ok(Err(format!("{ended}\n{}", story(api)))),
            None if container["ready"] == true => Ok(Ok(())),
            None => Err(container.to_string()),
        })
    })
    .unwrap_or_else(|error| Err(error.to_string()))
}

const TEMPLATE: &str = "/spec/template/spec";

/// Mounts something empty in place of what the agent needs of the node, one after the other. What it does not need to wall a pod
/// is not tried: NRI saves time, the folders of network configurations and plugins are needed once, the state while no agent
/// answers, and the namespaces for pods of which the plugin has not told.
fn no_mount_can_be_spared(api: &Api) {
    let object = api.get(&["-n", NAMESPACE, "daemonset", "sidewall-agent"]).unwrap();
    let volumes = object["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    for name in ["cgroups", "runtime", "run"] {
        let index = volumes.iter().position(|volume| volume["name"] == name).unwrap();
        let path = format!("{TEMPLATE}/volumes/{index}");
        let empty = json!([{"op": "replace", "path": path, "value": {"name": name, "emptyDir": {}}}]);
        let short = Duration::from_secs(20);
        let said = match with(api, &empty, short) {
            Err(said) => said,
            Ok(()) => {
                let wrong = walls(api, short);
                assert!(!wrong.is_empty(), "nothing is missed without the node's {name}");
                wrong.concat()
            }
        };
        println!("without the node's {name}: {}", said.chars().take(300).collect::<String>());
        let back = json!([{"op": "replace", "path": path, "value": volumes[index]}]);
        with(api, &back, LIMIT).unwrap();
    }
    let wrong = walls(api, LIMIT);
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", story(api));
}

#[test]
fn the_daemon_set_works_with_what_it_has_and_not_with_less() {
    let cluster = Cluster::start(1).unwrap();
    let (api, node) = (cluster.api(), &cluster.nodes()[0]);
    let network = fs::read_to_string(node.cell().path(NETWORK)).unwrap();
    node.import(&image()).unwrap();
    let profile = fs::read_to_string(chart().join("files/seccomp.json")).unwrap();
    node.cell().write("/var/lib/kubelet/seccomp/sidewall-agent.json", profile).unwrap();
    // As a node is registered that waits for its agent; the cluster has a taint of its own, too.
    let (waits, other) = (
        json!({"key": "sidewall.dev/agent-not-ready", "effect": "NoExecute"}),
        json!({"key": "other", "value": "x", "effect": "PreferNoSchedule"}),
    );
    let tainted = json!({"spec": {"taints": [waits, other]}}).to_string();
    api.kubectl(&["patch", "node", "node1", "--type=merge", "-p", &tainted]).unwrap();
    let early = ["create", "deployment", "early", "--image=localhost/busybox:1", "--", "sleep", "3600"];
    api.kubectl(&early).unwrap();
    let waiting = |pods: &Value| pods["items"][0]["status"]["conditions"][0]["reason"] == "Unschedulable";
    api.until("a pod that waits", LIMIT, &["pods", "-l", "app=early"], waiting).unwrap();
    let everything = rendered(&cluster, &["startupTaint.remove=true"]);
    api.with_input(&["apply", "--server-side", "-f", "-"], &everything).unwrap();
    rolled_out(api);
    let left = |node: &Value| node["spec"]["taints"] == json!([other]);
    if let Err(error) = api.until("a node without the start-up taint", LIMIT, &["node", "node1"], left) {
        panic!("{error}\n{}", story(api));
    }
    api.kubectl(&["--request-timeout=0", "rollout", "status", "deployment/early", "--timeout=90s"]).unwrap();
    assert_eq!(agents(api), ["node1"]);
    api.apply(&shop::policies(FRIENDS)).unwrap();

    // What was asked for is what it has.
    let status = agent_process(node);
    assert_eq!(list(&status, "CapEff:"), "0000000000281000", "NET_ADMIN, SYS_PTRACE, SYS_ADMIN\n{status}");
    assert_eq!(list(&status, "CapBnd:"), "0000000000281000");
    assert_eq!((list(&status, "NoNewPrivs:"), list(&status, "Seccomp:")), ("1".into(), "2".into()));
    let wrong = walls(api, LIMIT);
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", story(api));
    assert!(fs::read_to_string(node.cell().path(NETWORK)).unwrap().contains("sidewall-cni"));

    // The profile of the runtime, which every node has, will do as well.
    let profile = format!("{TEMPLATE}/securityContext/seccompProfile");
    with(api, &json!([{"op": "replace", "path": profile, "value": {"type": "RuntimeDefault"}}]), LIMIT).unwrap();
    let wrong = walls(api, LIMIT);
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", story(api));

    // And with any capability less it does not work.
    let needed = ["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"];
    let capabilities = |list: &[&str]| json!([{"op": "replace", "path": format!("{TEMPLATE}/containers/0/securityContext/capabilities/add"), "value": list}]);
    for missing in needed {
        let less: Vec<&str> = needed.into_iter().filter(|name| *name != missing).collect();
        match with(api, &capabilities(&less), LIMIT) {
            Err(said) => {
                let words = said.lines().filter(|line| line.contains("/agent] sidewall-agent: ")).collect::<Vec<_>>();
                println!("without {missing}: {words:#?}");
                assert!(!words.is_empty(), "without {missing} the agent ends, and does not say why: {said}");
            }
            Ok(()) => {
                let wrong = walls(api, LIMIT);
                assert!(!wrong.is_empty(), "nothing is missed without {missing}");
                println!("without {missing}: {wrong:#?}");
            }
        }
    }
    with(api, &capabilities(&needed), LIMIT).unwrap();
    let wrong = walls(api, LIMIT);
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", story(api));

    if std::env::var_os("SIDEWALL_LONG").is_some() {
        no_mount_can_be_spared(api);
    }

    // Kubernetes' own check of types has no doubt about any expression.
    for policy in ["sidewall-agent-own-node", "sidewall-agent-own-events", "sidewall-agent-startup-taint"] {
        let checked = api.until("a checked policy", LIMIT, &["validatingadmissionpolicy", policy], |policy| {
            policy["status"]["observedGeneration"] == policy["metadata"]["generation"]
        });
        let checked = checked.unwrap();
        assert!(checked["status"]["typeChecking"].get("expressionWarnings").is_none(), "{}", checked["status"]);
    }

    // Uninstalled, the node is as it was, and pods start without us.
    let uninstall = rendered(&cluster, &["startupTaint.remove=true", "uninstall.enabled=true"]);
    api.with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &uninstall).unwrap();
    rolled_out(api);
    assert_eq!(fs::read_to_string(node.cell().path(NETWORK)).unwrap(), network);
    for left in
        ["/opt/cni/bin/sidewall-cni", "/run/sidewall/cni.sock", "/run/sidewall/pods", "/var/lib/sidewall/cni.json"]
    {
        assert!(!node.cell().path(left).exists(), "{left} is still there");
    }
    let url = shop::far(api, "shop", "web").unwrap();
    assert!(gets(api, "foe", &url), "the rules of a pod that runs are still in force");
    api.with_input(
        &["delete", "--wait=true", "-f", "-"],
        &rendered(&cluster, &["startupTaint.remove=true", "uninstall.enabled=true", "crds.install=false"]),
    )
    .unwrap();
    api.apply(&pod("later", "web").to_string()).unwrap();
    api.ready("shop", "later", LIMIT).unwrap();
}
