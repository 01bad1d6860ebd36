use crate::kind::{Kind, Kinds, Reading};
use crate::ledger::{Batch, LocalChange};
use crate::testing::{Answer, Call, Fake, event, list, quiet, refusal, status, until};
use crate::trouble::Cause;
use crate::watch::{Health, Options, Timing, Watch};
use serde_json::{Value, json};
use sidewall_policy::index::{Change, Index, Named};
use sidewall_policy::model::PolicyKind;
use sidewall_policy::world::World;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const TIMING: Timing = Timing {
    page: 2,
    request: Duration::from_secs(2),
    idle: Duration::from_secs(5),
    watch_seconds: 60,
    first_pause: Duration::from_millis(20),
    longest_pause: Duration::from_millis(100),
};

/// A watch, and the index that its batches make.
struct Kept {
    watch: Watch,
    index: Index,
    local: Vec<LocalChange>,
    synced: bool,
}

impl Kept {
    fn new(fake: &Fake, timing: Timing) -> Self {
        let kinds = Kinds { network_policies: false, multi_network_policies: Reading::IfServed };
        let options = Options { node: Some("n1".to_owned()), kinds, timing, ..Options::default() };
        let watch = Watch::start(&fake.client(), options);
        Self { watch, index: Index::new(World::default()), local: Vec::new(), synced: false }
    }

    fn absorb(&mut self, batch: Batch) {
        batch.changes.into_iter().for_each(|change| {
            self.index.apply(change);
        });
        self.local.extend(batch.local);
        self.synced |= batch.synced;
    }

    /// Goes on until something holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        while !holds(self) {
            let next = tokio::time::timeout_at(end, self.watch.next()).await;
            let Ok(batch) = next else { panic!("not within 10 s: {what}; {:?}", self.health()) };
            self.absorb(batch.expect("the feeds run"));
        }
    }

    /// Goes on for a while, and fails where something ceases to hold.
    async fn while_holds(&mut self, what: &str, time: Duration, holds: impl Fn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + time;
        loop {
            assert!(holds(self), "ceased to hold: {what}");
            let Ok(batch) = tokio::time::timeout_at(end, self.watch.next()).await else { return };
            self.absorb(batch.expect("the feeds run"));
        }
    }

    async fn synced(&mut self) {
        self.until("synced", |kept| kept.synced).await;
        assert!(self.watch.synced());
    }

    fn health(&self) -> Health {
        self.watch.health().borrow().clone()
    }

    fn cause(&self, kind: Kind) -> Option<Cause> {
        self.health().kinds[&kind].trouble.as_ref().map(|trouble| trouble.cause)
    }

    async fn troubled(&mut self, kind: Kind, cause: Cause) {
        let mut health = self.watch.health();
        let waiting = health
            .wait_for(|health| health.kinds[&kind].trouble.as_ref().is_some_and(|trouble| trouble.cause == cause));
        let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await.map(drop);
        assert!(waited.is_ok(), "{kind} is not {cause:?}: {:?}", self.health().kinds[&kind]);
    }

    async fn fresh(&mut self, kind: Kind) {
        let mut health = self.watch.health();
        let waiting = health.wait_for(|health| health.kinds[&kind].trouble.is_none());
        let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await.map(drop);
        assert!(waited.is_ok(), "{kind} stays in trouble: {:?}", self.health().kinds[&kind]);
    }

    fn pods(&self) -> Vec<String> {
        self.index.world().pods.into_iter().map(|pod| pod.name).collect()
    }

    fn policies(&self) -> Vec<String> {
        self.index.world().policies.into_iter().filter_map(|policy| policy.metadata.name).collect()
    }
}

fn pod(name: &str, version: u32, label: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": version.to_string(), "labels": {"app": label}},
        "spec": {"nodeName": "n1", "containers": [{"name": "app"}]},
        "status": {"phase": "Running"},
    })
}

fn policy(name: &str, version: u32) -> Value {
    json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": version.to_string(), "generation": 1},
        "spec": {"podSelector": {}},
    })
}

/// A watch whose events a test sends.
#[derive(Clone, Default)]
struct Remote(Arc<Mutex<Option<mpsc::UnboundedSender<Value>>>>);

impl Remote {
    fn answer(&self) -> Answer {
        let (to, events) = mpsc::unbounded_channel();
        *self.0.lock().unwrap() = Some(to);
        Answer::Stream(events)
    }

    async fn send(&self, what: Value) {
        self.there().await;
        self.0.lock().unwrap().as_ref().unwrap().send(what).unwrap();
    }

    async fn there(&self) {
        until("a watch is there", || self.0.lock().unwrap().as_ref().is_some_and(|to| !to.is_closed())).await;
    }

    async fn end(&self) {
        self.there().await;
        *self.0.lock().unwrap() = None;
    }
}

fn watches(fake: &Fake, plural: &str) -> Vec<String> {
    let calls = fake.calls().into_iter().filter(|call| call.of(plural) && call.is_watch());
    calls.map(|call| call.asks("resourceVersion").to_owned()).collect()
}

fn lists(fake: &Fake, plural: &str) -> Vec<Call> {
    fake.calls().into_iter().filter(|call| call.of(plural) && !call.is_watch()).collect()
}

#[tokio::test]
async fn pages_are_read_to_the_end_before_anything_is_synced() {
    let last = Arc::new(AtomicBool::new(false));
    let go = Arc::clone(&last);
    let fake = Fake::start(move |call| {
        (call.of("pods") && !call.is_watch()).then(|| match call.asks("continue") {
            "" => list("7", Some("two"), &[pod("a", 1, "x"), pod("b", 2, "x")]),
            "two" => list("7", Some("three"), &[pod("c", 3, "x"), pod("d", 4, "x")]),
            _ if go.load(Ordering::Relaxed) => list("7", None, &[pod("e", 5, "x")]),
            _ => Answer::Silence,
        })
    })
    .await;
    let mut kept = Kept::new(&fake, TIMING);
    kept.until("four pods", |kept| kept.pods().len() == 4).await;
    kept.while_holds("not synced", Duration::from_millis(300), |kept| !kept.synced && !kept.watch.synced()).await;
    assert!(!kept.health().kinds[&Kind::Pod].listed && kept.health().kinds[&Kind::Node].listed);
    // The page that does not come is given up on, and the list begins anew.
    last.store(true, Ordering::Relaxed);
    kept.synced().await;
    assert_eq!(kept.pods(), ["a", "b", "c", "d", "e"]);
    assert!(kept.health().kinds[&Kind::Pod].listed);
    let calls = fake.calls();
    assert!(calls.iter().all(|call| call.headers["user-agent"] == crate::USER_AGENT));
    assert!(lists(&fake, "pods").iter().all(|call| call.asks("limit") == "2"));
    until("a watch goes on from the list", || watches(&fake, "pods") == ["7"]).await;
    let watch = fake.calls().into_iter().find(|call| call.of("pods") && call.is_watch()).unwrap();
    assert_eq!((watch.asks("allowWatchBookmarks"), watch.asks("timeoutSeconds")), ("true", "60"));
}

#[tokio::test]
async fn a_list_that_grew_too_old_begins_anew_and_what_went_meanwhile_goes() {
    let first = AtomicUsize::new(0);
    let fake = Fake::start(move |call| {
        (call.of("pods") && !call.is_watch()).then(|| match (call.asks("continue"), first.load(Ordering::Relaxed)) {
            ("", 0) => list("7", Some("two"), &[pod("a", 1, "x"), pod("b", 2, "x")]),
            (_, 0) => {
                first.store(1, Ordering::Relaxed);
                status(410, "Expired")
            }
            _ => list("9", None, &[pod("b", 2, "x")]),
        })
    })
    .await;
    let mut kept = Kept::new(&fake, TIMING);
    kept.synced().await;
    assert_eq!(kept.pods(), ["b"]);
}

#[tokio::test]
async fn a_watch_goes_on_from_the_last_event_or_bookmark() {
    let remote = Remote::default();
    let answer = remote.clone();
    let fake = Fake::start(move |call| match (call.of("pods"), call.is_watch()) {
        (true, false) => Some(list("7", None, &[pod("a", 1, "x")])),
        (true, true) => Some(answer.answer()),
        _ => None,
    })
    .await;
    let mut kept = Kept::new(&fake, TIMING);
    kept.synced().await;
    remote.send(event("ADDED", &pod("b", 8, "x"))).await;
    kept.until("b", |kept| kept.pods() == ["a", "b"]).await;
    remote.send(event("MODIFIED", &pod("a", 9, "y"))).await;
    kept.until("a is another", |kept| kept.index.world().pods[0].labels["app"] == "y").await;
    remote.end().await;
    until("the next watch", || watches(&fake, "pods") == ["7", "9"]).await;
    let bookmark = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "42"}});
    remote.send(event("BOOKMARK", &bookmark)).await;
    remote.send(event("DELETED", &pod("b", 43, "x"))).await;
    kept.until("b is gone", |kept| kept.pods() == ["a"]).await;
    remote
        .send(event("BOOKMARK", &json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "99"}})))
        .await;
    remote.end().await;
    until("the next watch", || watches(&fake, "pods").last().is_some_and(|from| from == "99")).await;
    assert_eq!(lists(&fake, "pods").len(), 1);
    assert_eq!(kept.cause(Kind::Pod), None);
    // Nothing that is the same is told again.
    let before = kept.local.len();
    remote.send(event("MODIFIED", &pod("a", 100, "y"))).await;
    kept.while_holds("nothing new", Duration::from_millis(200), |kept| kept.local.len() == before).await;
    let gone = LocalChange::Gone { name: Named::new("shop", "b"), uid: "b".to_owned() };
    assert!(kept.local.contains(&gone), "{:?}", kept.local);
}

#[tokio::test]
async fn a_watch_that_is_too_old_lists_again() {
    let remote = Remote::default();
    let answer = remote.clone();
    let times = AtomicUsize::new(0);
    let fake = Fake::start(move |call| match (call.of("pods"), call.is_watch()) {
        (true, false) => Some(match times.fetch_add(1, Ordering::Relaxed) {
            0 => list("7", None, &[pod("a", 1, "x"), pod("b", 1, "x")]),
            _ => list("70", None, &[pod("b", 60, "y"), pod("c", 61, "x")]),
        }),
        (true, true) => Some(answer.answer()),
        _ => None,
    })
    .await;
    let mut kept = Kept::new(&fake, TIMING);
    kept.synced().await;
    remote.send(event("ERROR", &refusal(410, "Expired"))).await;
    kept.until("what is there now", |kept| kept.pods() == ["b", "c"]).await;
    assert_eq!(kept.index.world().pods[0].labels["app"], "y");
    until("a watch", || watches(&fake, "pods") == ["7", "70"]).await;
    kept.fresh(Kind::Pod).await;
}

#[tokio::test]
async fn an_event_that_cant_be_understood_is_not_passed_over() {
    let remote = Remote::default();
    let answer = remote.clone();
    let times = AtomicUsize::new(0);
    let fake = Fake::start(move |call| match (call.of("pods"), call.is_watch()) {
        (true, false) => Some(match times.fetch_add(1, Ordering::Relaxed) {
            0 => list("7", None, &[pod("a", 1, "x")]),
            _ => list("9", None, &[pod("a", 8, "y")]),
        }),
        (true, true) => Some(answer.answer()),
        _ => None,
    })
    .await;
    let mut kept = Kept::new(&fake, TIMING);
    kept.synced().await;
    let mut strange = pod("a", 8, "y");
    strange["metadata"]["labels"] = json!(["a list"]);
    remote.send(event("MODIFIED", &strange)).await;
    kept.until("listed again", |kept| kept.index.world().pods[0].labels["app"] == "y").await;
    assert_eq!(lists(&fake, "pods").len(), 2);
}

#[tokio::test]
async fn a_lost_right_keeps_the_last_state_and_says_what_to_grant() {
    let allowed = Arc::new(AtomicBool::new(true));
    let may = Arc::clone(&allowed);
    let remote = Remote::default();
    let answer = remote.clone();
    let fake = Fake::start(move |call| match (call.of("pods"), call.is_watch()) {
        (true, _) if !may.load(Ordering::Relaxed) => Some(status(403, "Forbidden")),
        (true, false) => Some(list("7", None, &[pod("a", 1, "x")])),
        (true, true) => Some(answer.answer()),
        _ => None,
    })
    .await;
    let mut kept = Kept::new(&fake, TIMING);
    kept.synced().await;
    remote.there().await;
    allowed.store(false, Ordering::Relaxed);
    remote.end().await;
    kept.troubled(Kind::Pod, Cause::Forbidden).await;
    let trouble = kept.health().kinds[&Kind::Pod].trouble.clone().unwrap();
    assert!(trouble.message.contains("grant list and watch on pods"), "{}", trouble.message);
    kept.while_holds("a stays", Duration::from_millis(300), |kept| kept.pods() == ["a"]).await;
    // It began once, however often it was tried since.
    assert_eq!(kept.health().kinds[&Kind::Pod].trouble.clone().unwrap().since, trouble.since);
    assert_eq!(kept.health().stale_since(), Some(trouble.since));
    allowed.store(true, Ordering::Relaxed);
    kept.fresh(Kind::Pod).await;
    assert_eq!(lists(&fake, "pods").len(), 1, "it went on from where it was");
}

#[tokio::test]
async fn the_end_of_a_definition_is_not_the_end_of_its_policies() {
    let stage = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&stage);
    let remote = Remote::default();
    let answer = remote.clone();
    let fake = Fake::start(move |call| {
        let stage = now.load(Ordering::Relaxed);
        if call.path.ends_with("/containernetworkpolicies.sidewall.dev") {
            return match stage {
                1 => Some(Answer::Json(200, json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))),
                2 => Some(status(404, "NotFound")),
                _ => None,
            };
        }
        match (call.of("containernetworkpolicies"), call.is_watch(), stage) {
            (true, _, 2) => Some(status(404, "NotFound")),
            (true, false, 0) => Some(list("7", None, &[policy("a", 1), policy("b", 2)])),
            // What is still there of them.
            (true, false, 1) => Some(list("9", None, &[policy("b", 2)])),
            (true, false, _) => Some(list("90", None, &[policy("c", 80)])),
            (true, true, _) => Some(answer.answer()),
            _ => None,
        }
    })
    .await;
    let mut kept = Kept::new(&fake, TIMING);
    kept.synced().await;
    // An ordinary deletion is believed.
    remote.send(event("ADDED", &policy("z", 3))).await;
    kept.until("z", |kept| kept.policies() == ["a", "b", "z"]).await;
    remote.send(event("DELETED", &policy("z", 4))).await;
    kept.until("z is gone", |kept| kept.policies() == ["a", "b"]).await;
    stage.store(1, Ordering::Relaxed);
    remote.send(event("DELETED", &policy("a", 8))).await;
    kept.troubled(Kind::ContainerNetworkPolicy, Cause::Ending).await;
    kept.while_holds("both stay", Duration::from_millis(300), |kept| kept.policies() == ["a", "b"]).await;
    stage.store(2, Ordering::Relaxed);
    kept.troubled(Kind::ContainerNetworkPolicy, Cause::Absent).await;
    kept.while_holds("both stay", Duration::from_millis(300), |kept| kept.policies() == ["a", "b"]).await;
    // Installed again: what is there then is what there is.
    stage.store(3, Ordering::Relaxed);
    kept.until("only c", |kept| kept.policies() == ["c"]).await;
    kept.fresh(Kind::ContainerNetworkPolicy).await;
}

#[tokio::test]
async fn a_deletion_is_not_believed_where_nobody_may_look() {
    let may = Arc::new(AtomicBool::new(true));
    let allowed = Arc::clone(&may);
    let gone = Arc::new(AtomicBool::new(false));
    let deleted = Arc::clone(&gone);
    let remote = Remote::default();
    let answer = remote.clone();
    let fake = Fake::start(move |call| match (call.of("containernetworkpolicies"), call.is_watch()) {
        _ if call.path.contains("customresourcedefinitions") && !allowed.load(Ordering::Relaxed) => {
            Some(status(403, "Forbidden"))
        }
        (true, false) if deleted.load(Ordering::Relaxed) => Some(list("9", None, &[])),
        (true, false) => Some(list("7", None, &[policy("a", 1)])),
        (true, true) => Some(answer.answer()),
        _ => None,
    })
    .await;
    let mut kept = Kept::new(&fake, TIMING);
    kept.synced().await;
    may.store(false, Ordering::Relaxed);
    gone.store(true, Ordering::Relaxed);
    remote.send(event("DELETED", &policy("a", 8))).await;
    kept.troubled(Kind::ContainerNetworkPolicy, Cause::Ending).await;
    let message = kept.health().kinds[&Kind::ContainerNetworkPolicy].trouble.clone().unwrap().message;
    assert!(message.contains("grant get on"), "{message}");
    kept.while_holds("a stays", Duration::from_millis(300), |kept| kept.policies() == ["a"]).await;
    may.store(true, Ordering::Relaxed);
    kept.until("a is gone", |kept| kept.policies().is_empty()).await;
}

#[tokio::test]
async fn a_kind_that_need_not_be_served_may_come_and_stays_when_it_goes() {
    let stage = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&stage);
    let remote = Remote::default();
    let answer = remote.clone();
    let object = json!({
        "metadata": {"name": "m", "namespace": "shop", "resourceVersion": "3", "annotations": {"k8s.v1.cni.cncf.io/policy-for": "link"}},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    });
    let fake = Fake::start(move |call| {
        let served = now.load(Ordering::Relaxed) == 1;
        if call.path.ends_with("/multi-networkpolicies.k8s.cni.cncf.io") {
            return (!served).then(|| status(404, "NotFound"));
        }
        match (call.of("multi-networkpolicies"), call.is_watch()) {
            // Only the older version.
            (true, _) if call.path.contains("v1beta2") || !served => Some(status(404, "NotFound")),
            (true, false) => Some(list("7", None, std::slice::from_ref(&object))),
            (true, true) => Some(answer.answer()),
            _ => None,
        }
    })
    .await;
    let mut kept = Kept::new(&fake, TIMING);
    kept.synced().await;
    assert_eq!(kept.cause(Kind::MultiNetworkPolicy), None);
    stage.store(1, Ordering::Relaxed);
    kept.until("it is there", |kept| kept.index.world().multi_network_policies.len() == 1).await;
    remote.there().await;
    stage.store(2, Ordering::Relaxed);
    remote.end().await;
    kept.troubled(Kind::MultiNetworkPolicy, Cause::Absent).await;
    kept.while_holds("it stays", Duration::from_millis(200), |kept| {
        kept.index.world().multi_network_policies.len() == 1
    })
    .await;
}

#[tokio::test]
async fn without_our_own_kinds_nothing_is_synced() {
    let fake = Fake::start(|call| call.of("sidecarproxies").then(|| status(404, "NotFound"))).await;
    let mut kept = Kept::new(&fake, TIMING);
    kept.troubled(Kind::SidecarProxy, Cause::Absent).await;
    kept.while_holds("not synced", Duration::from_millis(500), |kept| !kept.synced).await;
    let message = kept.health().kinds[&Kind::SidecarProxy].trouble.clone().unwrap().message;
    assert!(message.contains("install the CustomResourceDefinitions"), "{message}");
    fake.script(|_| None);
    kept.synced().await;
}

#[tokio::test]
async fn an_outage_keeps_everything_and_goes_on_where_it_was() {
    let mut fake =
        Fake::start(|call| (call.of("pods") && !call.is_watch()).then(|| list("7", None, &[pod("a", 1, "x")]))).await;
    let mut kept = Kept::new(&fake, TIMING);
    kept.synced().await;
    until("a watch", || watches(&fake, "pods") == ["7"]).await;
    fake.stop();
    for kind in [Kind::Pod, Kind::Service, Kind::ContainerNetworkPolicy] {
        kept.troubled(kind, Cause::Unreachable).await;
    }
    kept.while_holds("a stays", Duration::from_millis(300), |kept| kept.pods() == ["a"]).await;
    fake.restart().await;
    kept.fresh(Kind::Pod).await;
    kept.fresh(Kind::ContainerNetworkPolicy).await;
    assert!(kept.watch.synced());
    assert_eq!(lists(&fake, "pods").len(), 1);
}

#[tokio::test]
async fn a_silent_watch_is_replaced_by_another() {
    let timing = Timing { idle: Duration::from_millis(200), ..TIMING };
    let fake = Fake::start(|call| (call.of("pods") && call.is_watch()).then(quiet)).await;
    let mut kept = Kept::new(&fake, timing);
    kept.synced().await;
    until("three watches", || watches(&fake, "pods").len() >= 3).await;
    assert_eq!(lists(&fake, "pods").len(), 1);
    assert_eq!(kept.cause(Kind::Pod), None);
}

#[tokio::test]
async fn a_server_that_fails_is_asked_less_and_less_often() {
    let timing = Timing { first_pause: Duration::from_millis(40), longest_pause: Duration::from_millis(320), ..TIMING };
    let fake = Fake::start(|call| call.of("pods").then(|| status(500, "InternalError"))).await;
    let mut kept = Kept::new(&fake, timing);
    kept.troubled(Kind::Pod, Cause::Failing).await;
    until("eight tries", || lists(&fake, "pods").len() >= 8).await;
    let at: Vec<Instant> = lists(&fake, "pods").iter().map(|call| call.at).collect();
    let gap = |n: usize| at[n + 1] - at[n];
    for n in 0..7 {
        // The shortest that the wait may be; how much longer it was depends on the machine.
        let least = (40 * 2_u64.pow(u32::try_from(n).unwrap())).min(320) * 3 / 4;
        assert!(gap(n) >= Duration::from_millis(least), "{n}: {:?} < {least} ms", gap(n));
    }
    assert!(!kept.synced);
}

#[tokio::test]
async fn a_server_that_ends_every_watch_at_once_is_not_asked_without_end() {
    let fake =
        Fake::start(|call| (call.of("pods") && call.is_watch()).then(|| Answer::Stream(mpsc::unbounded_channel().1)))
            .await;
    let timing = Timing { longest_pause: Duration::from_millis(200), ..TIMING };
    let mut kept = Kept::new(&fake, timing);
    kept.synced().await;
    kept.troubled(Kind::Pod, Cause::Failing).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = watches(&fake, "pods").len();
    assert!((2..=40).contains(&asked), "{asked} watches in a second");
}

#[tokio::test]
async fn an_unreadable_policy_takes_the_place_of_what_it_was() {
    let remote = Remote::default();
    let answer = remote.clone();
    let fake = Fake::start(move |call| match (call.of("containernetworkpolicies"), call.is_watch()) {
        (true, false) => Some(list("7", None, &[policy("a", 1)])),
        (true, true) => Some(answer.answer()),
        _ => None,
    })
    .await;
    let mut kept = Kept::new(&fake, TIMING);
    kept.synced().await;
    let mut newer = policy("a", 8);
    newer["spec"]["onlyOnFridays"] = json!(true);
    remote.send(event("MODIFIED", &newer)).await;
    let batch = kept.watch.next().await.unwrap();
    let words: Vec<&str> = batch
        .changes
        .iter()
        .map(|change| match change {
            Change::Unreadable(all) if all.len() == 1 => "unreadable",
            Change::PolicyGone(PolicyKind::ContainerNetworkPolicy, _) => "gone",
            _ => "other",
        })
        .collect();
    assert_eq!(words, ["unreadable", "gone"], "{:?}", batch.changes);
    kept.absorb(batch);
    let world = kept.index.world();
    assert!(world.policies.is_empty());
    let unreadable = &world.unreadable[0];
    assert_eq!((unreadable.namespace.as_deref(), unreadable.name.as_deref()), (Some("shop"), Some("a")));
    assert!(unreadable.pod_selector.is_some() && unreadable.reason.contains("onlyOnFridays"), "{unreadable:?}");
    // And back.
    remote.send(event("MODIFIED", &policy("a", 9))).await;
    kept.until("it can be read again", |kept| kept.policies() == ["a"] && kept.index.world().unreadable.is_empty())
        .await;
}
