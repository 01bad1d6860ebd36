use serde_json::json;

use super::*;
use crate::divide;
use crate::fixture::{key, pod, running, split};

fn primary() -> Value {
    running(divide(&pod(), "shop", &split(), &key()).expect("it can be divided").pod)
}

/// The parts as the API server has them.
fn created() -> Vec<Value> {
    let made = parts(&primary(), &key()).expect("its parts").into_iter().enumerate();
    made.map(|(index, part)| {
        let mut pod = part.pod;
        pod["metadata"]["uid"] = json!(format!("part-{index}"));
        pod["status"] = json!({"phase": "Running", "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]});
        pod
    })
    .collect()
}

fn look(primary: &Value, there: &[Value]) -> Following {
    follow(primary, there, &key()).expect("a primary of ours")
}

fn removed(following: &Following) -> Vec<(&str, Why)> {
    following.delete.iter().map(|removal| (removal.uid.as_str(), removal.why)).collect()
}

#[test]
fn what_is_missing_is_made_and_what_is_there_is_left() {
    let mut primary = primary();
    let first = look(&primary, &[]);
    assert!(first.label && first.delete.is_empty());
    assert_eq!(first.create.iter().map(|part| part.part.as_str()).collect::<Vec<_>>(), ["metrics", "logs"]);
    let State::Waiting(waiting) = &first.state else { panic!("{first:?}") };
    assert_eq!(waiting.len(), 2);
    primary["metadata"]["labels"][LABEL_PRIMARY] = primary["metadata"]["uid"].clone();
    let all = look(&primary, &created());
    assert_eq!(all, Following { state: State::Ready, ..Following::default() });
    // One of them was lost.
    let one = look(&primary, &created()[1..]);
    assert_eq!(one.create.iter().map(|part| part.part.as_str()).collect::<Vec<_>>(), ["metrics"]);
}

#[test]
fn why_a_part_is_not_ready_is_told() {
    let mut there = created();
    there[0]["status"]["conditions"] =
        json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]);
    there[1]["status"]["conditions"][1] =
        json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "l"});
    let State::Waiting(waiting) = look(&primary(), &there).state else { panic!("it waits") };
    let told = [("logs", "ContainersNotReady: l"), ("metrics", "Unschedulable: 0/1 nodes")];
    assert_eq!(waiting, told.map(|(part, why)| (part.to_owned(), why.to_owned())).into());
    there[1]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let following = look(&primary(), &there);
    assert!(following.delete.is_empty() && following.create.is_empty());
    there[1]["status"] = json!({});
    assert!(matches!(look(&primary(), &there).state, State::Waiting(_)));
}

#[test]
fn a_part_that_failed_is_made_anew_and_one_that_came_to_its_end_is_not() {
    let mut there = created();
    there[0]["status"] = json!({"phase": "Failed", "reason": "Evicted"});
    let following = look(&primary(), &there);
    assert_eq!(removed(&following), [("part-0", Why::Failed)]);
    // Once it is gone, it is missing.
    assert!(following.create.is_empty() && look(&primary(), &there[1..]).create.len() == 1);
    there[0]["status"] = json!({"phase": "Succeeded"});
    assert_eq!(removed(&look(&primary(), &there)), [("part-0", Why::Failed)]);
    there[0]["spec"]["restartPolicy"] = json!("Never");
    assert!(look(&primary(), &there).delete.is_empty());
    there[0]["status"] = json!({"phase": "Failed"});
    assert!(look(&primary(), &there).delete.is_empty());
    there[0]["status"]["reason"] = json!("Preempted");
    assert_eq!(removed(&look(&primary(), &there)), [("part-0", Why::Failed)]);
}

#[test]
fn the_primarys_end_is_its_parts() {
    for (field, value) in [("status", json!({"phase": "Succeeded"})), ("status", json!({"phase": "Failed"}))] {
        let mut primary = primary();
        primary[field] = value;
        let following = look(&primary, &created());
        assert_eq!(removed(&following), [("part-0", Why::Ended), ("part-1", Why::Ended)]);
        assert_eq!((following.state, following.create.len()), (State::Over, 0));
    }
    let mut leaving = primary();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(look(&leaving, &created()).delete.len(), 2);
}

#[test]
fn only_what_is_ours_is_touched() {
    let mut there = created();
    // A pod of somebody's that says that it belongs here.
    let mut other = there[0].clone();
    other["metadata"]["name"] = json!("somebodys");
    other["metadata"]["uid"] = json!("other");
    other["metadata"]["annotations"]["sidewall.dev/part"] = json!("{\"mac\":\"\",\"version\":1}");
    there.push(other);
    assert!(look(&primary(), &there).delete.is_empty());
    // A part that was called otherwise before the PodSplit was changed.
    let mut stray = there[0].clone();
    stray["metadata"]["name"] = json!("web-x7k2p-old");
    stray["metadata"]["uid"] = json!("stray");
    there.push(stray);
    assert_eq!(removed(&look(&primary(), &there)), [("stray", Why::Stray)]);
    // And of a primary that is not ours, nothing is made.
    let mut forged = primary();
    forged["metadata"]["namespace"] = json!("bank");
    assert!(matches!(follow(&forged, &there, &key()), Err(PartsError::Untrusted(_))));
}
