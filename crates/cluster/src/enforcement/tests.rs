use super::*;
use crate::testing::{Answer, Call, Fake, status, until};
use crate::trouble::Cause;
use serde_json::{Value, json};
use sidewall_api::enforcement::NodePodCounts;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const TIMING: WriteTiming = WriteTiming {
    interval: Duration::from_millis(200),
    heartbeat: Duration::from_secs(3600),
    longest_pause: Duration::from_millis(400),
};

fn total(total: i32) -> NodeEnforcementStatus {
    NodeEnforcementStatus {
        pods: NodePodCounts { total, ..NodePodCounts::default() },
        ..NodeEnforcementStatus::default()
    }
}

/// A server that takes everything.
fn takes(call: &Call) -> Option<Answer> {
    Some(match call.path.as_str() {
        "/api/v1/nodes/n1" => Answer::Json(200, json!({"metadata": {"name": "n1", "uid": "node-uid"}})),
        _ => Answer::Json(200, call.body.clone()),
    })
}

fn written(fake: &Fake) -> Vec<Value> {
    let calls = fake.calls().into_iter().filter(|call| call.path.ends_with("/status"));
    calls.map(|call| call.body["status"]["pods"]["total"].clone()).collect()
}

#[tokio::test]
async fn the_newest_is_written_and_not_too_often() {
    let fake = Fake::start(takes).await;
    let writer = EnforcementWriter::start(&fake.client(), "n1", TIMING);
    writer.put(total(1));
    until("the first is written", || written(&fake) == [1]).await;
    for number in 2..=500 {
        writer.put(total(number));
    }
    until("the last is written", || written(&fake).last() == Some(&json!(500))).await;
    assert_eq!(written(&fake), [1, 500]);
    // The same again is nothing new.
    writer.put(total(500));
    tokio::time::sleep(TIMING.interval * 3).await;
    assert_eq!(written(&fake).len(), 2);
    let at: Vec<_> =
        fake.calls().into_iter().filter(|call| call.path.ends_with("/status")).map(|call| call.at).collect();
    assert!(at[1] - at[0] >= TIMING.interval - Duration::from_millis(20), "{:?}", at[1] - at[0]);
    let calls = fake.calls();
    assert_eq!(calls[0].path, "/api/v1/nodes/n1");
    let made = &calls[1];
    assert_eq!(
        (made.method.as_str(), made.path.as_str()),
        ("PATCH", "/apis/sidewall.dev/v1alpha1/nodeenforcements/n1")
    );
    assert_eq!((made.asks("fieldManager"), made.asks("force")), ("sidewall-agent", "true"));
    assert_eq!(made.headers["content-type"], "application/apply-patch+yaml");
    assert_eq!(
        made.body["metadata"]["ownerReferences"],
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-uid"}])
    );
    assert_eq!(made.body["spec"], json!({"nodeName": "n1"}));
    let status = &calls[2].body["status"];
    assert_eq!(status["agentVersion"], env!("CARGO_PKG_VERSION"));
    let updated: jiff::Timestamp = status["updated"].as_str().unwrap().parse().unwrap();
    assert!((jiff::Timestamp::now().as_second() - updated.as_second()).abs() < 60);
    assert_eq!(calls.len(), 4);
    assert_eq!(writer.health().borrow().writes, 2);
}

#[tokio::test]
async fn silence_is_broken_now_and_then() {
    let fake = Fake::start(takes).await;
    let timing = WriteTiming { heartbeat: Duration::from_millis(300), interval: Duration::from_millis(50), ..TIMING };
    let writer = EnforcementWriter::start(&fake.client(), "n1", timing);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(written(&fake).is_empty(), "nothing is known yet, and nothing is said");
    writer.put(total(1));
    until("three writes", || written(&fake).len() >= 3).await;
}

#[tokio::test]
async fn an_outage_is_outlived() {
    let mut fake = Fake::start(takes).await;
    let writer = EnforcementWriter::start(&fake.client(), "n1", TIMING);
    writer.put(total(1));
    until("the first is written", || written(&fake) == [1]).await;
    fake.stop();
    writer.put(total(2));
    let mut health = writer.health();
    health.wait_for(|health| health.trouble.as_ref().is_some_and(|t| t.cause == Cause::Unreachable)).await.unwrap();
    writer.put(total(3));
    fake.restart().await;
    until("the newest is written", || written(&fake).last() == Some(&json!(3))).await;
    health.wait_for(|health| health.trouble.is_none()).await.unwrap();
    assert!(!written(&fake).contains(&json!(2)) || written(&fake) == [1, 2, 3]);
}

#[tokio::test]
async fn an_object_that_was_deleted_is_made_again() {
    let fake = Fake::start(takes).await;
    let writer = EnforcementWriter::start(&fake.client(), "n1", TIMING);
    writer.put(total(1));
    until("the first is written", || written(&fake) == [1]).await;
    let once = Arc::new(AtomicUsize::new(0));
    fake.script(move |call| match call.path.ends_with("/status") && once.fetch_add(1, Ordering::Relaxed) == 0 {
        true => Some(status(404, "NotFound")),
        false => takes(call),
    });
    writer.put(total(2));
    until("it is written", || writer.health().borrow().writes == 2).await;
    let made = fake.calls().iter().filter(|call| call.path.ends_with("/nodeenforcements/n1")).count();
    assert_eq!(made, 2);
}

#[tokio::test]
async fn a_missing_right_is_told() {
    let fake =
        Fake::start(|call| if call.path.ends_with("/status") { Some(status(403, "Forbidden")) } else { takes(call) })
            .await;
    let writer = EnforcementWriter::start(&fake.client(), "n1", TIMING);
    writer.put(total(1));
    let mut health = writer.health();
    let health = health.wait_for(|health| health.trouble.is_some()).await.unwrap().clone();
    let trouble = health.trouble.unwrap();
    assert_eq!(trouble.cause, Cause::Forbidden);
    assert!(trouble.message.contains("patch on nodeenforcements/status"), "{}", trouble.message);
}
