use super::*;
use crate::testing::{Answer, Fake, list, status};
use serde_json::{Value, json};

fn pod(name: &str, node: &str, phase: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "walls"}, "spec": {"nodeName": node, "containers": []},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    })
}

#[tokio::test]
async fn a_node_has_the_agent_that_runs_there() {
    let fake = Fake::start(|call| {
        let label = "app.kubernetes.io%2Fname%3Dsidewall-agent";
        let asked = call.path == "/api/v1/namespaces/walls/pods" && call.asks("labelSelector") == label;
        let leaving = {
            let mut pod = pod("leaving", "n3", "Running", true);
            pod["metadata"]["deletionTimestamp"] = json!("2026-11-22T02:29:48Z");
            pod
        };
        let pages = match call.asks("continue") {
            "" => list("7", Some("more"), &[pod("old", "n1", "Running", true), pod("failed", "n2", "Failed", true)]),
            _ => list("7", None, &[pod("new", "n1", "Running", false), pod("late", "n2", "Running", false), leaving]),
        };
        asked.then_some(pages)
    })
    .await;
    let found = agents(&fake.client(), "walls").await.unwrap();
    let found: Vec<String> = found.iter().map(|(node, name)| format!("{node} {name}")).collect();
    assert_eq!(found, ["n1 walls/old", "n2 walls/late"]);
    fake.script(|_| Some(status(403, "Forbidden")));
    let error = agents(&fake.client(), "walls").await.unwrap_err().to_string();
    assert!(error.contains("walls") && error.contains("grant list on pods"), "{error}");
}

#[tokio::test]
async fn a_token_is_for_flow_logs_and_for_a_short_time_and_is_not_told() {
    let fake = Fake::start(|call| {
        let spec = &call.body["spec"];
        let asked = call.path == "/api/v1/namespaces/shop/serviceaccounts/sidewall-flows/token"
            && (call.method.as_str(), &spec["audiences"], &spec["expirationSeconds"])
                == ("POST", &json!(["sidewall.dev/flows"]), &json!(600));
        let answer = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec,
            "status": {"token": "hush-hush", "expirationTimestamp": "2026-11-22T02:29:48Z"},
        });
        asked.then_some(Answer::Json(201, answer))
    })
    .await;
    let account = Named::new("shop", READER);
    let found = token(&fake.client(), &account).await.unwrap();
    assert_eq!(found.reveal(), "hush-hush");
    assert!(!format!("{found:?}").contains("hush"));
    for (code, reason, advice) in [
        (403, "Forbidden", "grant create on serviceaccounts/token"),
        (404, "NotFound", "create serviceaccount sidewall-flows"),
    ] {
        fake.script(move |_| Some(status(code, reason)));
        let error = token(&fake.client(), &account).await.unwrap_err().to_string();
        assert!(error.contains("shop/sidewall-flows") && error.contains(advice), "{error}");
    }
    // What a strange server sends is not repeated.
    fake.script(|_| Some(Answer::Json(201, json!({"status": {"token": {"hush-hush": 1}}}))));
    let error = token(&fake.client(), &account).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
    fake.script(|_| Some(Answer::Json(201, json!({"spec": {"audiences": []}}))));
    let error = token(&fake.client(), &account).await.unwrap_err().to_string();
    assert!(error.contains("no token"), "{error}");
}

#[cfg(feature = "forward")]
#[tokio::test]
async fn who_may_not_forward_ports_is_told_so() {
    let fake =
        Fake::start(|call| call.path.ends_with("/pods/agent-1/portforward").then(|| status(403, "Forbidden"))).await;
    let error = forward(&fake.client(), &Named::new("walls", "agent-1")).await.unwrap_err().to_string();
    assert!(
        error.contains("walls/agent-1") && error.contains("grant get and create on pods/portforward in walls"),
        "{error}"
    );
}
