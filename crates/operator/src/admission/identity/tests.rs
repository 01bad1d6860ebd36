use serde_json::{Value, json};

use super::*;
use crate::fixture::{Try, web};

const THREE: &str = "{name: a}, {name: b, securityContext: {runAsUser: 62000}}, {name: c, securityContext: {readOnlyRootFilesystem: true}}";

fn uids(pod: &Value) -> Vec<Value> {
    pod["spec"]["containers"].as_array().unwrap().iter().map(|c| c["securityContext"]["runAsUser"].clone()).collect()
}

fn asking(containers: &str) -> Try {
    Try::containers(containers).annotated("sidewall.dev/assign-uids", "true")
}

#[test]
fn ranges() {
    let range = |text: &str| text.parse::<UidRange>().map(|range| (range.first(), range.last())).ok();
    assert_eq!(range("1000650000/10000"), Some((1_000_650_000, 1_000_659_999)));
    assert_eq!(range("1000650000-1000659999"), Some((1_000_650_000, 1_000_659_999)));
    for bad in ["", "5", "0/10", "1/0", "9-1", "x/y", "4294967290/100", "-1/3", "1-4294967295"] {
        assert_eq!(range(bad), None, "{bad}");
    }
}

#[test]
fn nobody_gets_a_number_unasked() {
    let (pod, _) = Try::containers(THREE).patched();
    assert_eq!(uids(&pod), [Value::Null, json!(62_000), Value::Null]);
}

#[test]
fn each_container_gets_a_number_of_its_own_that_nobody_has() {
    let (pod, _) = asking(THREE).patched();
    assert_eq!(uids(&pod), [json!(62_001), json!(62_000), json!(62_002)]);
    assert_eq!(pod["spec"]["containers"][2]["securityContext"]["readOnlyRootFilesystem"], true);
    // What the pod says for all is no number of one's own.
    let (pod, _) = asking(THREE).set("/spec/securityContext", json!({"runAsUser": 1000})).patched();
    assert_eq!(uids(&pod), [json!(62_001), json!(62_000), json!(62_002)]);
    assert_eq!(pod["spec"]["securityContext"]["runAsUser"], 1000);
}

#[test]
fn the_namespace_may_ask_for_all_and_the_pod_refuse() {
    let mut of = Try::containers(THREE);
    of.namespace.annotations.insert("sidewall.dev/assign-uids".to_owned(), "true".to_owned());
    assert_eq!(uids(&of.patched().0)[0], json!(62_001));
    assert_eq!(uids(&of.annotated("sidewall.dev/assign-uids", "false").patched().0)[0], Value::Null);
}

#[test]
fn a_mesh_keeps_its_one_number() {
    let mesh = json!([
        {"name": "istio-init"}, {"name": "istio-validation", "securityContext": {"runAsUser": 1337}},
        {"name": "istio-proxy", "securityContext": {"runAsUser": 1337}},
    ]);
    let of = asking(THREE).set("/spec/initContainers", mesh);
    let (pod, patched) = of.patched();
    assert_eq!(uids(&pod), [json!(62_001), json!(62_000), json!(62_002)]);
    assert_eq!(pod["spec"]["initContainers"][0].get("securityContext"), None);
    assert!(!patched.warnings.iter().any(|w| w.contains("1337")), "{:?}", patched.warnings);
    // Nobody else has it.
    let other = asking(
        "{name: istio-proxy, securityContext: {runAsUser: 1337}}, {name: b, securityContext: {runAsUser: 1337}}",
    );
    assert!(other.refusal().contains("1337"));
}

#[test]
fn without_a_proxy_numbers_are_given_all_the_same() {
    let mut of = asking(THREE);
    of.proxies.clear();
    let (pod, patched) = of.patched();
    assert_eq!(uids(&pod), [json!(62_001), json!(62_000), json!(62_002)]);
    assert!(patched.needs.is_none());
    assert_eq!(pod["spec"].get("initContainers"), None);
}

#[test]
fn two_that_say_the_same_number_are_refused_by_name() {
    let message =
        asking("{name: a, securityContext: {runAsUser: 5}}, {name: x}, {name: b, securityContext: {runAsUser: 5}}")
            .refusal();
    assert!(
        message.contains("\"a\" (spec.containers[0]) and \"b\" (spec.containers[2]) both say runAsUser 5"),
        "{message}"
    );
}

#[test]
fn the_namespaces_range_counts_and_its_end_is_the_proxys() {
    let mut of = asking(THREE);
    of.namespace.annotations.insert("openshift.io/sa.scc.uid-range".to_owned(), "5000/5".to_owned());
    let (pod, _) = of.patched();
    assert_eq!(uids(&pod), [json!(5000), json!(62_000), json!(5001)]);
    assert_eq!(pod["spec"]["initContainers"][0]["securityContext"]["runAsUser"], 5004);
    // What OpenShift filled in is nobody's choice.
    let filled = "{name: a, securityContext: {runAsUser: 5000}}, {name: b, securityContext: {runAsUser: 5000}}";
    let filled =
        Try { namespace: of.namespace.clone(), ..asking(filled) }.annotated("openshift.io/scc", "restricted-v2");
    let (pod, _) = filled.patched();
    assert_eq!(uids(&pod), [json!(5001), json!(5002)]);
    of.namespace.annotations.insert("openshift.io/sa.scc.uid-range".to_owned(), "5000/2".to_owned());
    let message = of.refusal();
    assert!(message.contains("5000-5001 is too small for this pod's 3 containers"), "{message}");
    of.namespace.annotations.insert("openshift.io/sa.scc.uid-range".to_owned(), "many".to_owned());
    assert!(of.refusal().contains("openshift.io/sa.scc.uid-range"));
}

#[test]
fn a_user_namespace_has_small_numbers_only() {
    let mut of = asking(THREE).set("/spec/hostUsers", json!(false));
    let (pod, _) = of.patched();
    assert_eq!(uids(&pod)[0], json!(62_001));
    of.namespace.annotations.insert("openshift.io/sa.scc.uid-range".to_owned(), "65530/100".to_owned());
    let (pod, _) = of.patched();
    assert_eq!(pod["spec"]["initContainers"][0]["securityContext"]["runAsUser"], 65_533);
    of.namespace.annotations.insert("openshift.io/sa.scc.uid-range".to_owned(), "1000650000/10000".to_owned());
    let message = of.refusal();
    assert!(message.contains("spec.hostUsers is false") && message.contains("1000650000"), "{message}");
}

#[test]
fn root_is_told_where_numbers_are_asked_for() {
    let (_, patched) = asking("{name: a, securityContext: {runAsUser: 0}}").patched();
    assert!(patched.warnings.iter().any(|w| w.contains("\"a\" (spec.containers[0]) runs as user 0")));
}

#[test]
fn capabilities_go_where_that_is_asked_for_and_what_a_namespace_takes_no_pod_gives_back() {
    let mut of = Try::containers("{name: a}").annotated("sidewall.dev/drop-capabilities", "SETUID");
    of.namespace.annotations.insert("sidewall.dev/drop-capabilities".to_owned(), "SETGID, CAP_NET_ADMIN".to_owned());
    of.proxies.clear();
    let (pod, _) = of.patched();
    let dropped = json!(["NET_ADMIN", "SETGID", "SETUID"]);
    assert_eq!(pod["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"], dropped);
    of.proxies = vec![web()];
    let (pod, _) = of.patched();
    let dropped = json!(["NET_ADMIN", "NET_RAW", "SETGID", "SETUID"]);
    assert_eq!(pod["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"], dropped);
}
