//! Pods with further networks when Multus, its programs or the API server are not there: a pod then does not start, or
//! starts behind its walls without the network, and never with a network and without walls; and no address is lost. Needs root.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use sidewall_node_tests::linked::{self, DEVICE, Linked, MACVLAN};
use sidewall_node_tests::multus::{Form, Multus};
use sidewall_node_tests::shop::SERVE;
use sidewall_node_tests::until::until;
use sidewall_node_tests::{Node, api::list};

const LIMIT: Duration = Duration::from_secs(60);
/// How long something that must not happen is waited for.
const LONG: Duration = Duration::from_secs(4);

/// Nobody reaches any pod on the pod network, and on the link only those labelled so.
fn walls() -> String {
    let deny = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "closed", "namespace": "shop"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    });
    let link = json!({
        "apiVersion": "k8s.cni.cncf.io/v1beta1", "kind": "MultiNetworkPolicy",
        "metadata": {"name": "link", "namespace": "shop", "annotations": {"k8s.v1.cni.cncf.io/policy-for": MACVLAN}},
        "spec": {
            "podSelector": {}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
        },
    });
    list(&[deny, link])
}

struct Bed<'a> {
    linked: &'a Linked,
}

impl Bed<'_> {
    fn make(&self, pod: &str) {
        self.linked.api().apply(&linked::pod(pod, "node2", MACVLAN, SERVE).to_string()).unwrap();
    }

    fn delete(&self, pod: &str) {
        self.linked.api().delete(&linked::pod(pod, "node2", MACVLAN, SERVE).to_string()).unwrap();
    }

    fn fetches(&self, from: &str, to: SocketAddr) -> bool {
        let url = format!("http://{to}/index.html");
        self.linked.api().exec("shop", from, "app", &["timeout", "2", "wget", "-q", "-O-", &url]).is_ok()
    }

    /// The pod is not started, and the reason that is told has this word.
    fn waits(&self, pod: &str, word: &str) {
        let field = format!("--field-selector=involvedObject.name={pod},reason=FailedCreatePodSandBox");
        let events = ["-n", "shop", "events", &field];
        self.linked
            .api()
            .until("a sandbox that fails", LIMIT, &events, |events| {
                let told =
                    |event: &serde_json::Value| event["message"].as_str().is_some_and(|said| said.contains(word));
                events["items"].as_array().is_some_and(|all| all.iter().any(told))
            })
            .unwrap();
        self.does_not_start(pod);
    }

    fn does_not_start(&self, pod: &str) {
        std::thread::sleep(LONG);
        let object = self.linked.api().get(&["-n", "shop", "pod", pod]).unwrap();
        let started = |status: &serde_json::Value| status["state"].get("waiting").is_none();
        let statuses = object["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        assert!(!statuses.iter().any(started), "{object}");
        assert_eq!(object["status"]["podIPs"].as_array().map_or(0, Vec::len), 0, "{object}");
    }

    /// The pod has its link and its walls: on neither network it is reached by `other`, and on the link by `friend`.
    fn is_linked(&self, pod: &str) {
        self.linked.api().ready("shop", pod, LIMIT).unwrap();
        let addresses = self.linked.addresses(pod).unwrap();
        assert_eq!(addresses.len(), 2, "{pod}: {addresses:?}");
        let of_pod_network = self.linked.api().addresses("shop", pod).unwrap();
        for address in addresses.iter().chain(&of_pod_network) {
            assert!(!self.fetches("other", (*address, 8080).into()), "{pod}: {address}");
        }
        for address in addresses {
            until(&format!("{pod} at {address}"), LIMIT, || {
                Ok(if self.fetches("friend", (address, 8080).into()) { Ok(()) } else { Err(String::new()) })
            })
            .unwrap();
        }
    }

    /// What whereabouts has to have reserved while these pods run beside those on the first node.
    fn reservations(&self, pods: &[&str]) -> BTreeSet<String> {
        let names: Vec<&str> = ["friend", "other"].into_iter().chain(pods.iter().copied()).collect();
        let of_range = |range| names.iter().map(move |pod| format!("{range} shop/{pod}")).collect::<Vec<_>>();
        linked::MACVLAN_RANGES.into_iter().flat_map(of_range).collect()
    }

    /// The reservations of whereabouts, and on the second node those of the pod network, are those of the pods that run.
    fn no_address_is_lost(&self, pods: &[&str]) {
        let reserved = self.reservations(pods);
        until("just the reservations of who runs", LIMIT, || {
            let found: BTreeSet<String> = self.linked.reserved()?.into_iter().collect();
            let mut given = self.linked.given(self.second(), "pods")?;
            for pod in pods {
                let own = self.linked.api().addresses("shop", pod)?;
                given.retain(|address| !own.contains(address));
            }
            Ok(if found == reserved && given.is_empty() { Ok(()) } else { Err(format!("{found:?} {given:?}")) })
        })
        .unwrap();
    }

    fn second(&self) -> &Node {
        &self.linked.nodes()[1]
    }

    /// Ends a pod's sandbox as a fault of the node would; the kubelet makes another.
    fn end_sandbox(&self, pod: &str) {
        let filter = format!(r#"labels."io.kubernetes.pod.name"=={pod},labels."io.cri-containerd.kind"==sandbox"#);
        let sandbox = self.second().ctr(&["containers", "ls", "-q", &filter]).unwrap().trim().to_owned();
        self.second().ctr(&["tasks", "kill", "-s", "KILL", "-a", &sandbox]).unwrap();
    }

    /// How many containers of a pod run on the second node, sandboxes too.
    fn running(&self, pod: &str) -> usize {
        let filter = format!(r#"labels."io.kubernetes.pod.name"=={pod}"#);
        let own = self.second().ctr(&["containers", "ls", "-q", &filter]).unwrap();
        let tasks = self.second().ctr(&["tasks", "ls"]).unwrap();
        let runs = |line: &&str| line.ends_with("RUNNING") && own.lines().any(|id| line.starts_with(id));
        tasks.lines().filter(runs).count()
    }

    fn comes_to_run(&self, pod: &str, containers: usize) {
        until(&format!("{containers} containers of {pod}"), LIMIT, || {
            let running = self.running(pod);
            Ok(if running == containers { Ok(()) } else { Err(format!("{running}")) })
        })
        .unwrap();
    }
}

#[test]
fn without_multus_a_pod_waits_or_has_no_link_and_always_its_walls() {
    let linked = Linked::start().unwrap();
    let multus = linked.multus(Form::Thin).unwrap();
    let agents = linked.agents(&json!({"policies": {"networkPolicies": true}})).unwrap();
    let (api, bed, second) = (linked.api(), Bed { linked: &linked }, &multus[1]);
    api.apply(&walls()).unwrap();
    // On the first node, where everything stays as it is.
    let others = ["friend", "other"].map(|name| linked::pod(name, "node1", MACVLAN, SERVE));
    api.apply(&list(&others)).unwrap();
    for name in ["friend", "other"] {
        api.ready("shop", name, LIMIT).unwrap();
    }
    bed.make("first");
    bed.is_linked("first");
    bed.no_address_is_lost(&["first"]);

    // The plugins, one after the other.
    for plugin in ["multus", "whereabouts", "macvlan"] {
        second.take_away(plugin).unwrap();
        let pod = format!("without-{plugin}");
        bed.make(&pod);
        bed.waits(&pod, plugin);
        second.put_back(plugin).unwrap();
        bed.is_linked(&pod);
        bed.no_address_is_lost(&["first", &pod]);
        bed.delete(&pod);
        bed.no_address_is_lost(&["first"]);
    }

    // The API server, of which Multus and whereabouts ask: a sandbox that ends meanwhile comes back after it.
    linked.cluster().control().stop_api(Signal::TERM).unwrap();
    bed.end_sandbox("first");
    bed.comes_to_run("first", 0);
    std::thread::sleep(LONG);
    // A sandbox that waits for its networks has no task yet.
    assert_eq!(bed.running("first"), 0);
    linked.cluster().control().start_api().unwrap();
    bed.comes_to_run("first", 2);
    bed.is_linked("first");
    bed.no_address_is_lost(&["first"]);

    // The runtime, with a pod that ends while it is away.
    bed.second().stop_containerd(Signal::KILL).unwrap();
    bed.second().start_containerd().unwrap();
    bed.is_linked("first");
    bed.delete("first");
    bed.no_address_is_lost(&[]);

    // The thin form's program takes its configuration away as it ends. Then pods are attached to the pod network alone, by a list
    // that has our plugin: behind their walls.
    second.stop(Signal::TERM).unwrap();
    assert!(!second.is_configured());
    until("the agent to be content", LIMIT, || {
        Ok(agents[1].page("readyz").map(drop).map_err(|error| error.to_string()))
    })
    .unwrap();
    bed.make("unlinked");
    api.ready("shop", "unlinked", LIMIT).unwrap();
    assert!(api.exec("shop", "unlinked", "app", &["ip", "addr", "show", "dev", DEVICE]).is_err());
    for address in api.addresses("shop", "unlinked").unwrap() {
        assert!(!bed.fetches("other", (address, 8080).into()), "{address}");
    }
    bed.delete("unlinked");

    // The thick form: killed, its plugin finds nobody to ask, and it takes up where it was.
    let thick = Multus::start(bed.second(), linked.cluster().control(), Form::Thick).unwrap();
    until("the agent to be content", LIMIT, || {
        Ok(agents[1].page("readyz").map(drop).map_err(|error| error.to_string()))
    })
    .unwrap();
    bed.make("thick");
    bed.is_linked("thick");
    thick.stop(Signal::KILL).unwrap();
    bed.make("late");
    // The plugin waits for its daemon, for longer than a test should.
    bed.does_not_start("late");
    thick.resume().unwrap();
    bed.is_linked("late");
    assert_eq!(linked.reserved().unwrap(), bed.reservations(&["late", "thick"]).into_iter().collect::<Vec<_>>());
}
