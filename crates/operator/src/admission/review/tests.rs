use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::wire::short;
use super::*;
use crate::fixture::{namespace, secret, settings, web, yaml};

struct World {
    namespace: Surroundings,
    proxies: Vec<SidecarProxy>,
    splits: Vec<PodSplit>,
}

impl Cluster for World {
    fn namespace(&self, name: &str) -> Option<&Surroundings> {
        (name == self.namespace.name).then_some(&self.namespace)
    }

    fn proxies(&self, _: &str) -> Vec<&SidecarProxy> {
        self.proxies.iter().collect()
    }

    fn unreadable(&self, _: &str) -> Vec<&UnreadablePolicy> {
        Vec::new()
    }

    fn secret_version(&self, _: &str, _: &str) -> Option<&str> {
        Some("1")
    }

    fn splits(&self, _: &str) -> Vec<&PodSplit> {
        self.splits.iter().collect()
    }

    fn unreadable_splits(&self, _: &str) -> Vec<&UnreadableSplit> {
        Vec::new()
    }
}

fn world() -> World {
    World { namespace: namespace(), proxies: vec![web()], splits: Vec::new() }
}

fn pod() -> Value {
    yaml("{apiVersion: v1, kind: Pod, metadata: {labels: {app: web}}, spec: {containers: [{name: app, image: a}]}}")
}

fn review(object: Value) -> Value {
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": "shop", "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["a"], "extra": {"k": ["v"]}},
            "object": object, "oldObject": null, "dryRun": false, "options": {"kind": "CreateOptions"},
        },
    })
}

fn ask(review: &Value) -> Result<(Answer, Value), ReviewError> {
    let answer = answer(&serde_json::to_vec(review).unwrap(), &world(), &secret(), &settings())?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&body["apiVersion"], &body["kind"]), (&json!("admission.k8s.io/v1"), &json!("AdmissionReview")));
    assert_eq!(body["response"]["uid"], review["request"]["uid"]);
    let response = body["response"].clone();
    Ok((answer, response))
}

#[test]
fn a_pod_is_patched() {
    let (answer, response) = ask(&review(pod())).unwrap();
    assert_eq!(answer.decision, Decision::Patched);
    assert_eq!(answer.needs.unwrap().record.proxy, "web");
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch = BASE64_STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: Patch = serde_json::from_slice(&patch).unwrap();
    let mut patched = pod();
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched["spec"]["initContainers"][0]["name"], "front-proxy");
    assert_eq!(response["warnings"].as_array().unwrap().len(), 1);
    // The second call has nothing to say.
    let (answer, response) = ask(&review(patched)).unwrap();
    assert_eq!(answer.decision, Decision::Untouched(Why::Done));
    assert_eq!(response.as_object().unwrap().keys().collect::<Vec<_>>(), ["allowed", "uid"]);
}

#[test]
fn a_pod_is_refused_with_a_message() {
    let mut pod = pod();
    pod["spec"]["hostNetwork"] = json!(true);
    let (answer, response) = ask(&review(pod)).unwrap();
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.hostNetwork"), "{message}");
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(403)));
    assert_eq!(answer.decision, Decision::Refused(message.to_owned()));
    assert_eq!(response.get("patch"), None);
}

#[test]
fn what_is_no_creation_of_a_pod_passes() {
    for (pointer, value) in [
        ("/request/operation", json!("UPDATE")),
        ("/request/resource/resource", json!("services")),
        ("/request/resource/group", json!("example.com")),
        ("/request/subResource", json!("status")),
    ] {
        let mut review = review(pod());
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        review.pointer_mut(parent).unwrap()[key] = value;
        let (answer, response) = ask(&review).unwrap();
        assert_eq!(answer.decision, Decision::NotOurs, "{pointer}");
        assert_eq!(response["allowed"], true);
    }
}

#[test]
fn a_namespace_that_is_not_known_is_no_reason_to_let_a_pod_pass() {
    let mut review = review(pod());
    review["request"]["namespace"] = json!("new");
    let (answer, response) = ask(&review).unwrap();
    assert_eq!(response["allowed"], false);
    assert!(matches!(answer.decision, Decision::Refused(message) if message.contains("\"new\"")));
}

#[test]
fn dry_runs_are_told() {
    let mut review = review(pod());
    review["request"]["dryRun"] = json!(true);
    assert!(ask(&review).unwrap().0.dry_run);
}

#[test]
fn what_cannot_be_answered_is_an_error() {
    let of = |body: &[u8]| answer(body, &world(), &secret(), &settings()).unwrap_err().to_string();
    assert!(of(b"{").contains("line 1, column 1"));
    assert!(of(b"null").contains("no AdmissionReview"));
    assert!(of(&vec![b' '; BODY_MAX + 1]).contains("at most 8388608"));
    assert!(of("[".repeat(100_000).as_bytes()).contains("no AdmissionReview"));
    let mut other = review(pod());
    other["apiVersion"] = json!("admission.k8s.io/v1beta1");
    assert!(ask(&other).unwrap_err().to_string().contains("admissionReviewVersions"));
    let mut none = review(pod());
    none["request"] = Value::Null;
    assert!(matches!(ask(&none).unwrap_err(), ReviewError::NoRequest));
    for uid in [json!(""), json!("x".repeat(300))] {
        let mut review = review(pod());
        review["request"]["uid"] = uid;
        assert!(matches!(ask(&review).unwrap_err(), ReviewError::NoUid));
    }
}

#[test]
fn messages_have_an_end_and_no_control_characters() {
    assert_eq!(short("a\u{1b}[31m\nb", 20), "a [31m b");
    assert_eq!(short("äöü", 3), "äöü");
    assert_eq!(short("äöüß", 3), "äö…");
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = answer(&bytes, &world(), &secret(), &settings());
    }

    #[test]
    fn reviews_with_anything_in_them_never_panic_and_have_their_uid(
        at in 0usize..2000, byte in any::<u8>(), end in 0usize..2000, cut in any::<bool>(),
    ) {
        let mut bytes = serde_json::to_vec(&review(pod())).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        if cut {
            bytes.truncate(end % bytes.len());
        }
        if let Ok(answer) = answer(&bytes, &world(), &secret(), &settings()) {
            // What nobody reads need not be text.
            let sent: Value = serde_json::from_str(&String::from_utf8_lossy(&bytes)).unwrap();
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            prop_assert_eq!(&body["response"]["uid"], &sent["request"]["uid"]);
            prop_assert!(body["response"]["allowed"].is_boolean());
        }
    }
}

#[test]
fn a_pod_gets_its_proxy_and_is_divided_in_one_patch() {
    let split = yaml(
        "{apiVersion: sidewall.dev/v1alpha1, kind: PodSplit, metadata: {name: web, namespace: shop}, \
         spec: {podSelector: {}, parts: [{name: logs, containers: [logs]}]}}",
    );
    let world = World { splits: vec![serde_json::from_value(split).unwrap()], ..world() };
    let ask = |object: &Value| {
        let body = serde_json::to_vec(&review(object.clone())).unwrap();
        let answer = answer(&body, &world, &secret(), &settings()).unwrap();
        let response: Value = serde_json::from_slice::<Value>(&answer.body).unwrap()["response"].clone();
        let mut object = object.clone();
        if let Some(patch) = response["patch"].as_str() {
            let patch: Patch = serde_json::from_slice(&BASE64_STANDARD.decode(patch).unwrap()).unwrap();
            json_patch::patch(&mut object, &patch).unwrap();
        }
        (answer.decision, object)
    };
    let mut pod = pod();
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "logs", "image": "l"}));
    let (decision, primary) = ask(&pod);
    assert_eq!(decision, Decision::Patched);
    // The proxy stays with the application; what goes has no part of it.
    assert_eq!(primary["spec"]["initContainers"][0]["name"], "front-proxy");
    assert_eq!(primary["spec"]["containers"].as_array().unwrap().len(), 1);
    let text = primary["metadata"]["annotations"]["sidewall.dev/split"].as_str().unwrap();
    assert!(text.contains("\"logs\"") && !text.contains("sidewall-config"), "{text}");
    assert_eq!(ask(&primary), (Decision::Untouched(Why::Done), primary.clone()));
    // Its parts are left alone, though both kinds select every pod.
    let mut running = primary;
    for (field, value) in [("name", "web-1"), ("uid", "u-1"), ("namespace", "shop")] {
        running["metadata"][field] = json!(value);
    }
    running["spec"]["nodeName"] = json!("n1");
    let part = sidewall_split::parts(&running, &secret().splits()).unwrap().remove(0).pod;
    assert_eq!(ask(&part), (Decision::Untouched(Why::Part), part.clone()));
    // Where a proxy asks for probes of what has left, the pod is refused as a whole.
    pod["spec"]["containers"][1]["livenessProbe"] = json!({"httpGet": {"port": 8080, "path": "/"}});
    let (decision, _) = ask(&pod);
    let Decision::Refused(message) = decision else { panic!("{decision:?}") };
    assert!(message.contains("livenessProbe of container \"logs\" (part \"logs\") asks port"), "{message}");
}
