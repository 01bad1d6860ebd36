use super::*;
use crate::testing::{Answer, Fake, status, until};
use std::sync::Mutex;

fn notice(pod: &str, note: &str) -> Notice {
    Notice {
        regarding: Regarding::pod("shop", pod, "u-1"),
        reason: "NotEnforceable".to_owned(),
        action: "Enforce".to_owned(),
        note: note.to_owned(),
        warning: true,
    }
}

#[test]
fn the_same_is_said_once_in_a_while() {
    let start = Instant::now();
    let limits = Limits { window: Duration::from_secs(600), ..Limits::default() };
    let mut limiter = Limiter::new(limits, start);
    let object = Regarding::pod("shop", "web", "u");
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(limiter.decide(at(0), "a", &object), Decision::Write { count: 1 });
    for second in 1..600 {
        assert_eq!(limiter.decide(at(second), "a", &object), Decision::Hold, "{second}");
    }
    assert_eq!(limiter.decide(at(600), "a", &object), Decision::Write { count: 601 });
    assert_eq!(limiter.decide(at(601), "a", &object), Decision::Hold);
    limiter.forget("a");
    assert_eq!(limiter.decide(at(602), "a", &object), Decision::Write { count: 1 });
}

#[test]
fn neither_one_object_nor_all_together_can_flood() {
    let start = Instant::now();
    let limits = Limits::default();
    let mut limiter = Limiter::new(limits, start);
    let written = |limiter: &mut Limiter, many: usize, object: &dyn Fn(usize) -> String, at: Instant| {
        let decisions = (0..many).map(|n| {
            let name = format!("{}-{n}-{at:?}", object(n));
            limiter.decide(at, &name, &Regarding::pod("shop", object(n), "u"))
        });
        decisions.filter(|decision| matches!(decision, Decision::Write { .. })).count()
    };
    assert_eq!(written(&mut limiter, 1000, &|_| "one".to_owned(), start), limits.object_burst as usize);
    let rest = (limits.burst - limits.object_burst) as usize;
    assert_eq!(written(&mut limiter, 1500, &|n| format!("pod-{n}"), start), rest);
    // A minute later there is room for another thirty, but not for as many of the same object.
    let later = start + Duration::from_secs(60);
    assert_eq!(written(&mut limiter, 1000, &|_| "one".to_owned(), later), 1);
    assert_eq!(written(&mut limiter, 1500, &|n| format!("pod-{n}"), later), (limits.burst - 1) as usize);
    // However many objects there are, only so many are remembered.
    written(&mut limiter, 10_000, &|n| format!("other-{n}"), later);
    assert!(limiter.remembered() <= 2 * limits.remembered);
}

#[test]
fn names_follow_from_what_is_said() {
    let one = name(&notice("web", "a"), "n1");
    assert_eq!(one, name(&notice("web", "a"), "n1"));
    for other in [name(&notice("web", "b"), "n1"), name(&notice("web", "a"), "n2"), name(&notice("db", "a"), "n1")] {
        assert_ne!(one, other);
    }
    assert!(one.starts_with("web.") && sidewall_api::names::is_dns_subdomain(&one), "{one}");
    let long = name(&notice(&format!("{}.{}", "x".repeat(199), "y".repeat(50)), "a"), "n1");
    assert!(sidewall_api::names::is_dns_subdomain(&long), "{long}");
    assert_eq!(cut("aä", 2), "a");
    assert_eq!(cut("aä", 3), "aä");
}

#[tokio::test]
async fn events_are_written_counted_and_found_again() {
    // The names that are taken, as a server has them that outlives the writer.
    let taken: Arc<Mutex<Vec<String>>> = Arc::default();
    let names = Arc::clone(&taken);
    let fake = Fake::start(move |call| {
        if call.method != "POST" {
            return Some(Answer::Json(200, json!({})));
        }
        let name = call.body["metadata"]["name"].as_str().unwrap().to_owned();
        let mut names = names.lock().unwrap();
        if names.contains(&name) {
            return Some(status(409, "AlreadyExists"));
        }
        names.push(name);
        Some(Answer::Json(201, call.body.clone()))
    })
    .await;
    let writer = EventWriter::start(&fake.client(), "sidewall.dev/agent", "n1", Limits::default());
    for _ in 0..10 {
        writer.tell(notice("web", "holds NET_ADMIN"));
    }
    until("one is written", || writer.counts().written == 1 && writer.counts().repeated == 9).await;
    let calls = fake.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(
        (calls[0].method.as_str(), calls[0].path.as_str()),
        ("POST", "/apis/events.k8s.io/v1/namespaces/shop/events")
    );
    let event = &calls[0].body;
    assert_eq!(
        event["regarding"],
        json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web", "uid": "u-1"})
    );
    assert_eq!((&event["type"], &event["note"]), (&json!("Warning"), &json!("holds NET_ADMIN")));
    assert!(event["eventTime"].is_string() && event["reportingController"] == "sidewall.dev/agent");
    // Another run of the program says the same: it is one more of the same.
    drop(writer);
    let writer = EventWriter::start(&fake.client(), "sidewall.dev/agent", "n1", Limits::default());
    writer.tell(notice("web", "holds NET_ADMIN"));
    until("it is counted", || writer.counts().written == 1).await;
    let last = fake.calls().pop().unwrap();
    assert_eq!((last.method.as_str(), &last.body["series"]["count"]), ("PATCH", &json!(2)));
    assert!(last.path.ends_with(&taken.lock().unwrap()[0]));
}

#[tokio::test]
async fn what_is_refused_is_counted_and_may_be_said_again() {
    let fake = Fake::start(|call| (call.method == "POST").then(|| status(403, "Forbidden"))).await;
    let writer = EventWriter::start(&fake.client(), "sidewall.dev/agent", "n1", Limits::default());
    writer.tell(notice("web", "x"));
    until("it failed", || writer.counts().failed == 1).await;
    fake.script(|call| Some(Answer::Json(201, call.body.clone())));
    writer.tell(notice("web", "x"));
    until("it is written", || writer.counts().written == 1).await;
}
