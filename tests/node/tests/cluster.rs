//! Keeping up with a real API server: with no more rights than needed, through its end and the end of a kind. Needs root.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use sidewall_api::NodeEnforcementStatus;
use sidewall_api::enforcement::{EnforcementState, IdentityKind, NodePodCounts, PodEnforcement};
use sidewall_cluster::client::{ClientOptions, client};
use sidewall_cluster::enforcement::{EnforcementWriter, WriteTiming};
use sidewall_cluster::events::{EventWriter, Limits, Notice, Regarding};
use sidewall_cluster::review::{self, Token as ReviewToken};
use sidewall_cluster::{Batch, Cause, Kind, Kinds, LocalChange, LocalPod, Options, Timing, Watch, live};
use sidewall_node_tests::api::{Api, Credentials, Token};
use sidewall_node_tests::{ControlPlane, Fabric};
use sidewall_policy::index::{Index, Named};
use sidewall_policy::world::{Network, World};

const LIMIT: Duration = Duration::from_secs(60);

/// What is deployed, of which the tests here take what an agent may do.
const MANIFEST: &str = include_str!("../../../deploy/manifests/kubeadm.yaml");

/// What an agent may do, and nothing else.
fn role() -> &'static str {
    let is_role =
        |document: &&str| document.contains("\nkind: ClusterRole\n") && document.contains("\n  name: sidewall-agent\n");
    MANIFEST.split("\n---\n").find(is_role).unwrap()
}

const BINDING: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: sidewall-agent}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: sidewall-agent}
subjects: [{kind: ServiceAccount, name: agent, namespace: default}]
"#;

const WORLD: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDR: 10.91.1.0/24}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: blue}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  nodeName: n1
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: none, ports: [{containerPort: 8080, name: http}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.91.1.7]}]
ports: [{port: 8080, name: ""}]
"#;

const POLICY: &str = r#"
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
"#;

/// A control plane with our kinds, and an agent's way to it.
struct Bed {
    control: ControlPlane,
    agent: Api,
    token: String,
    _fabric: Fabric,
}

impl Bed {
    fn new() -> Self {
        let fabric = Fabric::new().unwrap();
        let control = ControlPlane::start(&fabric).unwrap();
        let admin = control.admin();
        admin.apply(&sidewall_api::crd::crd_yaml()).unwrap();
        for crd in sidewall_api::crd::crds() {
            let name = format!("crd/{}", crd.metadata.name.unwrap());
            admin.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &name]).unwrap();
        }
        admin.kubectl(&["create", "serviceaccount", "agent"]).unwrap();
        admin.apply(&format!("{}\n---{BINDING}---{WORLD}", role())).unwrap();
        let token = admin.kubectl(&["create", "token", "agent"]).unwrap().trim().to_owned();
        let agent = control.api(&Credentials::Token(Token(token.clone()))).unwrap();
        Self { control, agent, token, _fabric: fabric }
    }

    fn admin(&self) -> &Api {
        self.control.admin()
    }

    async fn client_of(api: &Api) -> sidewall_cluster::kube::Client {
        client(&ClientOptions { kubeconfig: Some(api.kubeconfig()), context: None }).await.unwrap()
    }
}

/// A watch and what its batches make.
struct Kept {
    watch: Watch,
    index: Index,
    local: Vec<LocalPod>,
}

impl Kept {
    fn absorb(&mut self, batch: Batch) {
        for change in batch.changes {
            self.index.apply(change);
        }
        for change in batch.local {
            match change {
                LocalChange::Put(pod) => {
                    self.local.retain(|other| other.uid != pod.uid);
                    self.local.push(*pod);
                }
                LocalChange::Gone { uid, .. } => self.local.retain(|pod| pod.uid != uid),
            }
        }
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&World) -> bool) {
        let end = tokio::time::Instant::now() + LIMIT;
        while !holds(&self.index.world()) {
            let Ok(batch) = tokio::time::timeout_at(end, self.watch.next()).await else {
                panic!("not within {LIMIT:?}: {what}; {:?}; {:?}", self.watch.health().borrow(), self.index.world());
            };
            self.absorb(batch.unwrap());
        }
    }

    async fn synced(&mut self) {
        let end = tokio::time::Instant::now() + LIMIT;
        while !self.watch.synced() {
            let Ok(batch) = tokio::time::timeout_at(end, self.watch.next()).await else {
                panic!("not synced within {LIMIT:?}: {:?}", self.watch.health().borrow());
            };
            self.absorb(batch.unwrap());
        }
    }

    async fn while_holds(&mut self, what: &str, time: Duration, holds: impl Fn(&World) -> bool) {
        let end = tokio::time::Instant::now() + time;
        loop {
            assert!(holds(&self.index.world()), "ceased to hold: {what}");
            let Ok(batch) = tokio::time::timeout_at(end, self.watch.next()).await else { return };
            self.absorb(batch.unwrap());
        }
    }

    async fn trouble(&mut self, kind: Kind, causes: &[Option<Cause>]) {
        let mut health = self.watch.health();
        let waiting = health
            .wait_for(|health| causes.contains(&health.kinds[&kind].trouble.as_ref().map(|trouble| trouble.cause)));
        let waited = tokio::time::timeout(LIMIT, waiting).await.map(drop);
        assert!(waited.is_ok(), "{kind} is not {causes:?}: {:?}", self.watch.health().borrow());
    }
}

fn has_policy(world: &World) -> bool {
    world.policies.iter().any(|policy| policy.metadata.name.as_deref() == Some("web"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_cluster_is_kept_up_with_through_its_misfortunes() {
    let bed = Bed::new();
    let admin = bed.admin();
    // Watches end soon, so that a lost right is noticed soon.
    let timing = Timing {
        watch_seconds: 5,
        page: 2,
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(1),
        ..Timing::default()
    };
    let options = Options { node: Some("n1".to_owned()), timing, ..Options::default() };
    let watch = Watch::start(&Bed::client_of(&bed.agent).await, options);
    let mut kept = Kept { watch, index: Index::new(World::default()), local: Vec::new() };
    kept.synced().await;
    let world = kept.index.world();
    assert_eq!(world.namespaces["shop"]["team"], "blue");
    for (address, of) in [
        ("10.96.7.7", &world.network.services),
        ("fd96::7", &world.network.services),
        ("10.91.1.9", &world.network.pods),
    ] {
        assert!(of.contains(address.parse().unwrap()), "{address}: {:?}", world.network);
    }
    let service = world.service("shop", "web").unwrap();
    assert_eq!(service.ports[0].endpoints.iter().next().unwrap(), &("10.91.1.7".parse().unwrap(), Some(8080)));
    assert!(world.service("default", "kubernetes").is_some());
    assert_eq!(kept.local.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["web"]);
    assert_eq!(kept.local[0].numbered.as_ref().unwrap().values().next().unwrap().ports[0].port, 8080);

    // Changes come, one after the other, and soon.
    let mut times = Vec::new();
    for number in 1..=5 {
        let status =
            json!({"status": {"podIP": format!("10.91.1.{number}"), "podIPs": [{"ip": format!("10.91.1.{number}")}]}});
        admin
            .kubectl(&[
                "-n",
                "shop",
                "patch",
                "pod",
                "web",
                "--subresource=status",
                "--type=merge",
                "-p",
                &status.to_string(),
            ])
            .unwrap();
        let start = Instant::now();
        let address: std::net::IpAddr = format!("10.91.1.{number}").parse().unwrap();
        kept.until("the address", |world| world.pods.iter().any(|pod| pod.addresses == [address])).await;
        times.push(start.elapsed());
    }
    println!("from the API server's answer to the index: {times:?}");
    assert_eq!(kept.local[0].addresses, ["10.91.1.5".parse::<std::net::IpAddr>().unwrap()]);
    admin.apply(POLICY).unwrap();
    kept.until("the policy", has_policy).await;

    // A field of a newer version is kept by the API server, and seen.
    let newer = POLICY.replace("podSelector:", "onlyOnFridays: true, podSelector:");
    admin.with_input(&["apply", "--validate=false", "-f", "-"], &newer).unwrap();
    kept.until("unreadable", |world| !world.unreadable.is_empty() && !has_policy(world)).await;
    assert!(kept.index.world().unreadable[0].reason.contains("onlyOnFridays"));
    admin.delete(POLICY).unwrap();
    kept.until("nothing is unreadable", |world| world.unreadable.is_empty()).await;
    admin.apply(POLICY).unwrap();
    kept.until("the policy", has_policy).await;

    // The API server ends, and comes back.
    bed.control.stop_api(Signal::KILL).unwrap();
    kept.trouble(Kind::Pod, &[Some(Cause::Unreachable)]).await;
    kept.while_holds("all is as it was", Duration::from_secs(2), |world| has_policy(world) && world.pods.len() == 1)
        .await;
    assert!(kept.watch.synced() && kept.watch.health().borrow().stale_since().is_some());
    bed.control.start_api().unwrap();
    for kind in Kinds::default().all() {
        kept.trouble(kind, &[None]).await;
    }
    kept.while_holds("all is as it was", Duration::from_secs(1), |world| has_policy(world) && world.pods.len() == 1)
        .await;
    admin.kubectl(&["label", "namespace", "shop", "team=green", "--overwrite"]).unwrap();
    kept.until("the label", |world| world.namespaces["shop"]["team"] == "green").await;

    // The right to look is lost, and given again.
    admin.delete(BINDING).unwrap();
    kept.trouble(Kind::ContainerNetworkPolicy, &[Some(Cause::Forbidden)]).await;
    kept.trouble(Kind::Pod, &[Some(Cause::Forbidden)]).await;
    kept.while_holds("all is as it was", Duration::from_secs(2), |world| has_policy(world) && world.pods.len() == 1)
        .await;
    admin.apply(BINDING).unwrap();
    kept.trouble(Kind::ContainerNetworkPolicy, &[None]).await;

    // Our kind's definition is deleted, and with it, one by one, its objects.
    admin.kubectl(&["delete", "crd", "containernetworkpolicies.sidewall.dev"]).unwrap();
    kept.trouble(Kind::ContainerNetworkPolicy, &[Some(Cause::Ending), Some(Cause::Absent)]).await;
    kept.while_holds("the policy stays", Duration::from_secs(5), has_policy).await;
    kept.trouble(Kind::ContainerNetworkPolicy, &[Some(Cause::Absent)]).await;
    admin.apply(&sidewall_api::crd::crd_yaml()).unwrap();
    kept.until("what is there then is what there is", |world| !has_policy(world)).await;
    admin.kubectl(&["wait", "--for=condition=Established", "crd/containernetworkpolicies.sidewall.dev"]).unwrap();
    admin.apply(POLICY).unwrap();
    kept.until("the policy", has_policy).await;

    admin.kubectl(&["-n", "shop", "delete", "pod", "web", "--force", "--grace-period=0"]).unwrap();
    kept.until("the pod is gone", |world| world.pods.is_empty()).await;
    assert!(kept.local.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_a_node_says_and_asks_needs_no_more_than_its_rights() {
    let bed = Bed::new();
    let admin = bed.admin();
    let agent = Bed::client_of(&bed.agent).await;

    let writer = EnforcementWriter::start(&agent, "n1", WriteTiming::default());
    let mut status = NodeEnforcementStatus {
        pods: NodePodCounts { total: 250, selected: 250, enforced: 0, not_enforced: 250 },
        ..NodeEnforcementStatus::default()
    };
    status.pod_list = (0..250)
        .map(|number| PodEnforcement {
            namespace: "shop".to_owned(),
            name: format!("web-{number}"),
            uid: format!("uid-{number}"),
            state: EnforcementState::NotEnforced,
            identity: (number % 2 == 0).then_some(IdentityKind::Cgroup),
            since: "2026-01-01T00:00:00Z".to_owned(),
            reasons: vec!["x".repeat(1000); 12],
        })
        .collect();
    writer.put(status);
    let mut health = writer.health();
    let written = tokio::time::timeout(LIMIT, health.wait_for(|health| health.writes == 1)).await.map(|_| ());
    assert!(written.is_ok(), "{:?}", writer.health().borrow());
    let object = admin.get(&["nodeenforcement", "n1"]).unwrap();
    let node = admin.get(&["node", "n1"]).unwrap();
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], node["metadata"]["uid"]);
    let listed = object["status"]["podList"].as_array().unwrap().len();
    let omitted = object["status"]["omitted"]["pods"].as_u64().unwrap_or(0);
    assert_eq!(listed as u64 + omitted, 250);
    println!("{} octets of status for {listed} pods in the worst case", object["status"].to_string().len());
    assert!(object["status"].to_string().len() < 500 << 10);
    assert_eq!(
        live::enforcements(&Bed::client_of(admin).await).await.unwrap()["n1"].status.as_ref().unwrap().pods.total,
        250
    );
    // Named as its node, and it stays that.
    let other = "
apiVersion: sidewall.dev/v1alpha1
kind: NodeEnforcement
metadata: {name: n2}
spec: {nodeName: n1}
";
    let error = admin.apply(other).unwrap_err().to_string();
    assert!(error.contains("must be named as its node"), "{error}");
    // Deleted by somebody, it is made again.
    admin.kubectl(&["delete", "nodeenforcement", "n1"]).unwrap();
    writer.put(NodeEnforcementStatus::default());
    admin
        .until("it is there again", LIMIT, &["nodeenforcement", "n1"], |object| object["status"]["pods"]["total"] == 0)
        .unwrap();

    let events = EventWriter::start(&agent, "sidewall.dev/agent", "n1", Limits::default());
    let pod = admin.get(&["-n", "shop", "pod", "web"]).unwrap();
    let notice = Notice {
        regarding: Regarding::pod("shop", "web", pod["metadata"]["uid"].as_str().unwrap()),
        reason: "NotEnforceable".to_owned(),
        action: "Enforce".to_owned(),
        note: "the container app holds NET_ADMIN: drop it".to_owned(),
        warning: true,
    };
    events.tell(notice.clone());
    events.tell(notice.clone());
    let seen = |count: u64| {
        move |list: &Value| {
            let items = list["items"].as_array().unwrap();
            items.len() == 1 && items[0]["series"]["count"].as_u64().unwrap_or(1) == count
        }
    };
    let get = ["-n", "shop", "events.v1.events.k8s.io", "--field-selector=reason=NotEnforceable"];
    admin.until("one event", LIMIT, &get, seen(1)).unwrap();
    drop(events);
    let events = EventWriter::start(&agent, "sidewall.dev/agent", "n1", Limits::default());
    events.tell(notice);
    admin.until("one more of the same", LIMIT, &get, seen(2)).unwrap();
    assert!(
        admin.kubectl(&["-n", "shop", "describe", "pod", "web"]).is_ok_and(|text| text.contains("holds NET_ADMIN"))
    );

    // Who may see what.
    let viewer = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: flows, namespace: shop}
rules: [{apiGroups: [sidewall.dev], resources: [flows], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: flows, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: flows}
subjects: [{kind: ServiceAccount, name: viewer, namespace: shop}]
";
    admin.kubectl(&["-n", "shop", "create", "serviceaccount", "viewer"]).unwrap();
    admin.apply(viewer).unwrap();
    let token = admin.kubectl(&["-n", "shop", "create", "token", "viewer"]).unwrap().trim().to_owned();
    let user = review::user(&agent, ReviewToken::new(token), &[]).await.unwrap();
    assert_eq!(user.name, "system:serviceaccount:shop:viewer");
    assert!(review::may_see_flows(&agent, &user, Some("shop")).await.unwrap());
    assert!(!review::may_see_flows(&agent, &user, Some("default")).await.unwrap());
    assert!(!review::may_see_flows(&agent, &user, None).await.unwrap());
    assert!(review::user(&agent, ReviewToken::new("nobody"), &[]).await.is_err());

    // Read once.
    admin.apply(POLICY).unwrap();
    let read =
        live::read(&agent, &Kinds { network_policies: true, ..Kinds::default() }, Network::default()).await.unwrap();
    assert!(has_policy(&read.world) && read.unknown.is_empty());
    let pod = live::pod(&Bed::client_of(admin).await, &Named::new("shop", "web")).await.unwrap();
    assert_eq!(pod.containers[0].name, "app");

    // And nothing else.
    for refused in [
        &["-n", "shop", "get", "secrets"][..],
        &["-n", "shop", "get", "pod", "web"],
        &["-n", "shop", "delete", "pod", "web"],
        &["-n", "shop", "delete", "containernetworkpolicy", "web"],
        &["delete", "nodeenforcement", "n1"],
        &["get", "crds"],
        &["-n", "shop", "get", "events"],
        &["label", "node", "n1", "a=b"],
    ] {
        let error = bed.agent.kubectl(refused).unwrap_err().to_string();
        assert!(error.contains("Forbidden") || error.contains("forbidden"), "{refused:?}: {error}");
    }
    assert!(!bed.token.is_empty());
}
