use super::*;
use crate::testing::{Fake, list, status};
use serde_json::json;

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
    assert!(live.unknown[&Kind::Node].contains("grant list and watch on nodes"));
}

#[tokio::test]
async fn what_verdicts_depend_on_must_be_readable() {
    let fake = Fake::start(|call| call.of("sidecarproxies").then(|| status(404, "NotFound"))).await;
    let error = read(&fake.client(), &Kinds::default(), Network::default()).await.unwrap_err().to_string();
    assert!(error.contains("SidecarProxy") && error.contains("install the CustomResourceDefinitions"), "{error}");
    fake.script(|call| call.of("pods").then(|| status(403, "Forbidden")));
    let error = read(&fake.client(), &Kinds::default(), Network::default()).await.unwrap_err().to_string();
    assert!(error.contains("grant list and watch on pods"), "{error}");
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
