//! The product as a user installs it: images, Helm, a real cluster. It is installed, used, upgraded and taken away. Needs root.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use deployed::product::{self, LIMIT, Release, SHOP, another, ask, fronted, hello, made_meanwhile, reaches};
use deployed::{NAMESPACE, patch};
use serde_json::{Value, json};
use sidewall_node_tests::{Api, Cluster, Node};

mod deployed;

/// A process of the operator as the kernel sees it: `/proc/PID/status`, and the mounts that it sees.
fn processes(node: &Node) -> Vec<(String, String)> {
    let all = fs::read_dir(node.cell().path("/proc")).unwrap().flatten();
    let read = |entry: fs::DirEntry| {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).ok();
        Some((read("status")?, read("mountinfo")?))
    };
    // A process has fifteen letters of its name.
    all.filter_map(read).filter(|(status, _)| field(status, "Name:") == "sidewall-operat").collect()
}

fn field(status: &str, key: &str) -> String {
    status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned()
}

/// That the operator's processes have what the chart says, and no more.
fn confined(node: &Node) {
    let processes = processes(node);
    assert_eq!(processes.len(), 2, "two replicas");
    for (status, mounts) in processes {
        let fields = ["Uid:", "Gid:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:"];
        let none = "0000000000000000";
        let nobody = "65532\t65532\t65532\t65532";
        let found = fields.map(|key| field(&status, key));
        assert_eq!(found, [nobody, nobody, none, none, none, "1", "2"], "{status}");
        // 1 2 0:3 /root /mount-point options …
        let root = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words[4] == "/");
        let root = root.unwrap_or_default();
        assert!(root.get(5).is_some_and(|options| options.split(',').any(|option| option == "ro")), "{root:?}");
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn address(pod: &Value) -> IpAddr {
    pod["status"]["podIP"].as_str().unwrap_or_default().parse().unwrap()
}

/// What stands behind the operator's Service.
fn endpoints(api: &Api) -> BTreeSet<IpAddr> {
    let selector = ["-n", NAMESPACE, "endpointslices", "-l", "kubernetes.io/service-name=sidewall-operator"];
    let slices = api.get(&selector).unwrap();
    let all = slices["items"].as_array().into_iter().flatten();
    let ready = all.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let ready = ready.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    ready.map(|endpoint| endpoint["addresses"][0].as_str().unwrap().parse().unwrap()).collect()
}

/// A drain may take one of the two, and not the other before the first is there again.
fn one_at_a_time(api: &Api, release: &Release<'_>) {
    let allowed = |budget: &Value| budget["status"]["disruptionsAllowed"] == 1 && budget["status"]["expectedPods"] == 2;
    api.until("the budget", LIMIT, &["-n", NAMESPACE, "poddisruptionbudget", "sidewall-operator"], allowed).unwrap();
    let evict = |pod: &Value| {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name(pod), "namespace": NAMESPACE}});
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}/eviction", name(pod));
        api.with_input(&["create", "--raw", &path, "-f", "-"], &eviction.to_string())
    };
    let pods = release.operators();
    evict(&pods[0]).unwrap();
    let error = evict(&pods[1]).unwrap_err().to_string();
    assert!(error.contains("disruption budget"), "{error}");
    release.operator_settled();
}

/// Only what the chart's NetworkPolicy opens is reached of the operator's pods; the agent enforces it here.
fn closed_but_for_webhooks(cluster: &Cluster, release: &Release<'_>) {
    let pods = release.operators();
    let at = |port: u16| SocketAddr::new(address(&pods[0]), port);
    assert!(reaches(cluster, at(9443)), "the webhooks");
    for closed in [9561, 9562] {
        assert!(!reaches(cluster, at(closed)), "port {closed}");
    }
    // That somebody listens there, and it is the policy that closes it.
    cluster.api().kubectl(&["-n", NAMESPACE, "delete", "networkpolicy", "sidewall-operator"]).unwrap();
    sidewall_node_tests::until::until("metrics without the policy", LIMIT, || {
        Ok(if reaches(cluster, at(9562)) { Ok(()) } else { Err(release.story()) })
    })
    .unwrap();
}

#[test]
fn the_product_is_installed_upgraded_and_taken_away() {
    let begun = Instant::now();
    let cluster = Cluster::start(1).unwrap();
    let (api, node) = (cluster.api(), &cluster.nodes()[0]);
    product::import_images(&cluster);
    println!("{:?}: a cluster with the images", begun.elapsed());
    let release = Release::install(&cluster, &["agent.policies.networkPolicies=true"]);
    release.rolled_out("daemonset/sidewall-agent");
    release.rolled_out("deployment/sidewall-operator");
    println!("{:?}: installed", begun.elapsed());
    // The operators were there before their walls, with connections on which only the API server speaks: these have ended
    // without a word. From here on they are like any pod that is made where an agent is.
    api.kubectl(&["-n", NAMESPACE, "rollout", "restart", "deployment/sidewall-operator"]).unwrap();
    release.operator_settled();
    confined(node);

    // The API server comes to it through its Service.
    let pods: BTreeSet<IpAddr> = release.operators().iter().map(address).collect();
    assert_eq!((pods.len(), &endpoints(api)), (2, &pods));
    product::open_shop(api);
    product::apply(&release, &product::example("front-door.yaml"));
    product::apply(&release, &product::example("application.yaml"));
    let pod = hello(&release);
    assert!(fronted(&pod), "{pod}");
    for (kind, webhook) in
        [("mutatingwebhookconfiguration", "sidewall-inject"), ("validatingwebhookconfiguration", "sidewall-validate")]
    {
        let client = api.get(&[kind, webhook]).unwrap()["webhooks"][0]["clientConfig"].clone();
        assert_eq!(client["service"]["name"], "sidewall-operator");
        assert!(client.get("url").is_none() && client["caBundle"].is_string(), "{client}");
    }
    // The front door and its walls, with all of it in pods.
    let door = SocketAddr::new(address(&pod), 8000);
    assert_eq!(ask(&cluster, door, None).unwrap().0, 401);
    assert_eq!(ask(&cluster, door, Some("admin:admin")).unwrap(), (200, "Hello World!\n".to_owned()));
    let captured = SocketAddr::new(address(&pod), 8080);
    assert_eq!(ask(&cluster, captured, None).unwrap().0, 401, "{}", release.story());
    for (kind, condition) in [("sidecarproxy", "Ready"), ("containernetworkpolicy", "Enforced")] {
        let told = api.until("the status", LIMIT, &["-n", SHOP, kind, "hello"], |object| {
            let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|found| found["type"] == condition && found["status"] == "True")
        });
        told.unwrap_or_else(|error| panic!("{error}\n{}", release.story()));
    }
    println!("{:?}: a pod stands behind its front door", begun.elapsed());

    one_at_a_time(api, &release);
    closed_but_for_webhooks(&cluster, &release);
    println!("{:?}: drained, and looked at from outside", begun.elapsed());

    // An upgrade exchanges both operators, and no pod is refused meanwhile.
    let before: BTreeSet<String> = release.operators().iter().map(|pod| name(pod).to_owned()).collect();
    let made = made_meanwhile(api, || {
        release.upgrade(&["operator.log=debug"]);
        release.operator_settled();
        thread::sleep(Duration::from_secs(1));
    });
    println!("{:?}: upgraded; {made} pods were made meanwhile", begun.elapsed());
    assert!(made > 20, "{made}");
    assert!(release.operators().iter().all(|pod| !before.contains(name(pod))));
    confined(node);
    api.get(&["-n", NAMESPACE, "networkpolicy", "sidewall-operator"]).unwrap();

    // Taken away, in the order that is told. Pods that run keep their front door.
    release.upgrade(&["uninstall.enabled=true"]);
    release.rolled_out("daemonset/sidewall-agent");
    release.uninstall();
    let gone = |pods: &Value| pods["items"].as_array().is_some_and(Vec::is_empty);
    api.until("the product's end", LIMIT, &["-n", NAMESPACE, "pods"], gone).unwrap();
    assert_eq!(ask(&cluster, door, None).unwrap().0, 401);
    assert_eq!(ask(&cluster, door, Some("admin:admin")).unwrap().0, 200);
    let after = hello(&release);
    assert_eq!(after["metadata"]["uid"], pod["metadata"]["uid"]);
    assert_eq!(after["status"]["initContainerStatuses"][0]["restartCount"], 0);
    // Its configuration stays, and nobody else's pods wait for an operator that is no more.
    let annotation = after["metadata"]["annotations"]["sidewall.dev/proxy"].as_str().unwrap();
    let record: Value = serde_json::from_str(annotation).unwrap();
    api.get(&["-n", SHOP, "configmap", record["config"].as_str().unwrap()]).unwrap();
    api.apply(&another("later").to_string()).unwrap();
    let later = api.ready(SHOP, "later", LIMIT).unwrap();
    assert!(!fronted(&later), "{later}");
    // What is left of it can be changed by who may.
    let listener = json!({"spec": {"listeners": [{"port": 8001, "forward": {"port": 8080}, "anonymous": true}]}});
    let kinds = format!("/apis/sidewall.dev/v1alpha1/namespaces/{SHOP}/sidecarproxies");
    patch(api, &kinds, "hello", None, &listener).unwrap();
    println!("{:?}: taken away", begun.elapsed());
}
