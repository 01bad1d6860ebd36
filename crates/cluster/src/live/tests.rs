use super::*;
use crate::testing::{Fake, list, status};
use serde_json::json;
use sidewall_api::LabelSelector;

fn policy(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop", "generation": 3}, "spec": spec,
    })
}

#[tokio::test]
async fn a_cluster_is_read_with_what_cant_be_understood() {
    let fake = Fake::start(|call| match call.path.rsplit('/').next().unwrap() {
        "pods" if call.asks("continue").is_empty() => Some(list(
            "7",
            Some("more"),
            &[json!({"metadata": {"name": "a", "namespace": "shop"}, "status": {"podIP": "10.0.0.1"}})],
        )),
        "pods" => Some(list("7", None, &[json!({"metadata": {"name": "b", "namespace": "shop"}})])),
        "containernetworkpolicies" => Some(list(
            "7",
            None,
            &[policy("good", json!({"podSelector": {}})), policy("odd", json!({"podSelector": {}, "news": 1}))],
        )),
        "nodes" => Some(status(403, "Forbidden")),
        "multi-networkpolicies" | "servicecidrs" => Some(status(404, "NotFound")),
        _ => None,
    })
    .await;
    let live = read(&fake.client(), &Kinds::default(), Network::default()).await.unwrap();
    let names: Vec<_> = live.world.pods.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(live.world.policies[0].metadata.generation, Some(3));
    assert_eq!(live.world.unreadable[0].name.as_deref(), Some("odd"));
    assert_eq!(live.unknown.keys().copied().collect::<Vec<_>>(), [Kind::Node]);
    assert!(live.unknown[&Kind::Node].contains("grant list on nodes"));
}

#[tokio::test]
async fn what_verdicts_depend_on_must_be_readable() {
    let fake = Fake::start(|call| call.of("sidecarproxies").then(|| status(404, "NotFound"))).await;
    let error = read(&fake.client(), &Kinds::default(), Network::default()).await.unwrap_err().to_string();
    assert!(error.contains("SidecarProxy") && error.contains("install the CustomResourceDefinitions"), "{error}");
    fake.script(|call| call.of("pods").then(|| status(403, "Forbidden")));
    let error = read(&fake.client(), &Kinds::default(), Network::default()).await.unwrap_err().to_string();
    assert!(error.contains("grant list on pods"), "{error}");
}

#[tokio::test]
async fn one_pod_and_what_nodes_say() {
    let fake = Fake::start(|call| match call.path.as_str() {
        "/api/v1/namespaces/shop/pods/web" => Some(crate::testing::Answer::Json(
            200,
            json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u"}}),
        )),
        "/apis/sidewall.dev/v1alpha1/nodeenforcements" => Some(list(
            "1",
            None,
            &[json!({
                "apiVersion": "sidewall.dev/v1alpha1", "kind": "NodeEnforcement", "metadata": {"name": "n1"},
                "spec": {"nodeName": "n1"}, "status": {"pods": {"total": 3}},
            })],
        )),
        _ => Some(status(404, "NotFound")),
    })
    .await;
    let client = fake.client();
    assert_eq!(pod(&client, &Named::new("shop", "web")).await.unwrap().uid, "u");
    let error = pod(&client, &Named::new("shop", "db")).await.unwrap_err().to_string();
    assert_eq!(error, "Pod shop/db does not exist");
    let all = enforcements(&client).await.unwrap();
    assert_eq!(all["n1"].status.as_ref().unwrap().pods.total, 3);
}

#[tokio::test]
async fn what_one_node_says() {
    let fake = Fake::start(|call| match call.path.rsplit('/').next().unwrap() {
        "n1" => Some(crate::testing::Answer::Json(
            200,
            json!({
                "apiVersion": "sidewall.dev/v1alpha1", "kind": "NodeEnforcement", "metadata": {"name": "n1"},
                "spec": {"nodeName": "n1"}, "status": {"agentVersion": "9"},
            }),
        )),
        "n2" => Some(status(404, "NotFound")),
        _ => Some(status(403, "Forbidden")),
    })
    .await;
    let client = fake.client();
    let one = enforcement(&client, "n1").await.unwrap().unwrap();
    assert_eq!(one.status.unwrap().agent_version, "9");
    assert_eq!(enforcement(&client, "n2").await.unwrap(), None);
    let error = enforcement(&client, "n3").await.unwrap_err().to_string();
    assert!(error.contains("grant get on nodeenforcements.sidewall.dev"), "{error}");
    let error = enforcements(&client).await.unwrap_err().to_string();
    assert!(error.contains("grant list on nodeenforcements.sidewall.dev"), "{error}");
}

#[tokio::test]
async fn lists_of_a_namespace() {
    let fake = Fake::start(|call| match call.path.as_str() {
        "/api/v1/namespaces/shop/pods" => Some(list(
            "7",
            None,
            &[
                json!({
                    "metadata": {"name": "web", "namespace": "shop", "uid": "u", "labels": {"app": "web"}},
                    "spec": {"nodeName": "n1", "containers": [{"name": "app"}]},
                }),
                json!({"metadata": {"name": "new", "namespace": "shop"}, "spec": {"containers": [{"name": "app"}]}}),
            ],
        )),
        "/apis/sidewall.dev/v1alpha1/namespaces/shop/containernetworkpolicies" => Some(list(
            "7",
            None,
            &[
                policy("web", json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"]})),
                policy("other", json!({"podSelector": {}, "containers": ["sidecar"], "policyTypes": ["Egress"]})),
                policy("odd", json!({"podSelector": {}, "news": 1})),
                policy("tell", json!({"podSelector": {}, "mode": "Audit", "policyTypes": ["Egress"]})),
            ],
        )),
        "/apis/sidewall.dev/v1alpha1/namespaces/shop/sidecarproxies" => Some(list("7", None, &[])),
        "/api/v1/nodes" => Some(list(
            "7",
            None,
            &[
                json!({"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "True",
                    "lastHeartbeatTime": null, "lastTransitionTime": null}]}}),
                json!({"metadata": {"name": "n2"}}),
            ],
        )),
        path if path.contains("multi-networkpolicies") => Some(status(404, "NotFound")),
        _ => Some(status(403, "Forbidden")),
    })
    .await;
    let client = fake.client();
    let pods = pods(&client, Some("shop")).await.unwrap();
    let nodes_of: Vec<_> = pods.iter().map(|pod| (pod.pod.name.as_str(), pod.node.as_deref())).collect();
    assert_eq!(nodes_of, [("web", Some("n1")), ("new", None)]);
    let listed = policies(&client, &Kinds::default(), Some("shop")).await.unwrap();
    let mut set = PolicySet::default();
    listed.iter().for_each(|policy| set.add(policy));
    let said: Vec<_> = listed
        .iter()
        .map(|policy| {
            let is = |pod: &PlacedPod| set.selecting(&pod.pod).contains(&(policy.kind, policy.name.clone()));
            let selected = pods.iter().map(is).collect::<Vec<_>>();
            (policy.name.name.as_str(), policy.unreadable().is_some(), policy.is_audit(), selected)
        })
        .collect();
    // One that can't be understood may be about any pod; one that names another container says nothing of these.
    assert_eq!(
        said,
        [
            ("odd", true, false, vec![true, true]),
            ("other", false, false, vec![false, false]),
            ("tell", false, true, vec![true, true]),
            ("web", false, false, vec![true, false]),
        ]
    );
    assert!(listed.iter().all(|policy| policy.generation == Some(3)));
    let ready: Vec<_> = nodes(&client).await.unwrap().into_iter().map(|node| (node.name, node.ready)).collect();
    assert_eq!(ready, [("n1".to_owned(), true), ("n2".to_owned(), false)]);
    // The whole cluster, or a kind that is read by request, takes other rights.
    let error = super::pods(&client, None).await.unwrap_err().to_string();
    assert!(error.contains("grant list on pods"), "{error}");
    let kinds = Kinds { network_policies: true, ..Kinds::default() };
    let error = policies(&client, &kinds, Some("shop")).await.unwrap_err().to_string();
    assert!(error.contains("NetworkPolicy") && error.contains("grant list on networkpolicies"), "{error}");
    let kinds = Kinds { multi_network_policies: Reading::Required, ..Kinds::default() };
    let error = policies(&client, &kinds, Some("shop")).await.unwrap_err().to_string();
    assert!(error.contains("install the CustomResourceDefinition of MultiNetworkPolicy"), "{error}");
}

#[test]
fn of_two_proxies_the_older_is_about_a_pod() {
    let proxy = |name: &str, created: &str| {
        let object = json!({
            "metadata": {"name": name, "namespace": "shop", "generation": 1, "creationTimestamp": created},
            "spec": {"podSelector": {}, "listeners": [{"port": 80, "forward": {"port": 8080}, "anonymous": true}]},
        });
        ListedPolicy::of(Kind::SidecarProxy, object).unwrap()
    };
    let both = [proxy("a", "2026-02-01T00:00:00Z"), proxy("b", "2026-01-01T00:00:00Z")];
    assert!(both.iter().all(|proxy| proxy.unreadable().is_none()), "{both:?}");
    let mut set = PolicySet::default();
    both.iter().for_each(|proxy| set.add(proxy));
    let pod = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"containers": [{"name": "app"}]}});
    let mut pod = LocalPod::of(&serde_json::from_value(pod).unwrap());
    let names = |pod: &LocalPod| set.selecting(pod).into_iter().map(|(_, name)| name.name).collect::<Vec<_>>();
    assert_eq!(names(&pod), ["b"]);
    pod.numbered = Err("too many".to_owned());
    assert_eq!(names(&pod), ["a", "b"]);
    pod.namespace = "other".to_owned();
    assert_eq!(names(&pod), [""; 0]);
}

#[tokio::test]
async fn pods_of_a_workload() {
    let fake = Fake::start(|call| match call.path.as_str() {
        "/apis/apps/v1/namespaces/shop/deployments/web" => {
            Some(crate::testing::Answer::Json(200, json!({"spec": {"selector": {"matchLabels": {"app": "web"}}}})))
        }
        "/apis/apps/v1/namespaces/shop/deployments/odd" => Some(crate::testing::Answer::Json(200, json!({"spec": {}}))),
        "/apis/batch/v1/namespaces/shop/jobs/web" => Some(status(403, "Forbidden")),
        _ => Some(status(404, "NotFound")),
    })
    .await;
    let client = fake.client();
    let ask = |workload, name| selector(&client, workload, Named::new("shop", name));
    async fn selector(client: &Client, workload: Workload, name: Named) -> Result<LabelSelector, LiveError> {
        super::selector(client, workload, &name).await
    }
    assert_eq!(ask(Workload::Deployment, "web").await.unwrap(), LabelSelector::label("app", "web"));
    let error = ask(Workload::StatefulSet, "web").await.unwrap_err().to_string();
    assert_eq!(error, "StatefulSet shop/web does not exist");
    let error = ask(Workload::Job, "web").await.unwrap_err().to_string();
    assert!(error.contains("grant get on jobs in shop"), "{error}");
    let error = ask(Workload::Deployment, "odd").await.unwrap_err().to_string();
    assert!(error.contains("can't be understood"), "{error}");
}

#[tokio::test]
async fn a_kind_that_may_not_be_read_need_not_be_there() {
    let refuse = |call: &crate::testing::Call| call.of("multi-networkpolicies").then(|| status(403, "Forbidden"));
    let version = |names: &[&str]| {
        let resources: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        Some(crate::testing::Answer::Json(200, json!({"kind": "APIResourceList", "resources": resources})))
    };
    let kinds = Kinds::default();
    // Nothing of that group, or nothing of that name in it.
    let fake = Fake::start(move |call| match call.path.as_str() {
        "/apis/k8s.cni.cncf.io/v1beta2" => Some(status(404, "NotFound")),
        "/apis/k8s.cni.cncf.io/v1beta1" => version(&["network-attachment-definitions"]),
        _ => refuse(call),
    })
    .await;
    let client = fake.client();
    assert!(read(&client, &kinds, Network::default()).await.is_ok());
    assert!(policies(&client, &kinds, Some("shop")).await.is_ok());
    // It is there, or nobody says.
    fake.script(move |call| match call.path.as_str() {
        "/apis/k8s.cni.cncf.io/v1beta2" => Some(status(404, "NotFound")),
        "/apis/k8s.cni.cncf.io/v1beta1" => version(&["multi-networkpolicies"]),
        _ => refuse(call),
    });
    for answer in [None, Some(500), Some(403)] {
        if let Some(code) = answer {
            fake.script(move |call| match call.path.as_str() {
                "/apis/k8s.cni.cncf.io/v1beta2" => Some(status(404, "NotFound")),
                "/apis/k8s.cni.cncf.io/v1beta1" => Some(status(code, "Trouble")),
                _ => refuse(call),
            });
        }
        let error = read(&client, &kinds, Network::default()).await.unwrap_err().to_string();
        assert!(error.contains("grant list on multi-networkpolicies"), "{answer:?}: {error}");
        assert!(policies(&client, &kinds, Some("shop")).await.is_err(), "{answer:?}");
    }
}
