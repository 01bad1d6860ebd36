use serde_json::json;
use sidewall_api::read::read_split;
use sidewall_split::parts;

use super::*;
use crate::fixture::{secret, yaml};

fn split(name: &str, created: &str, container: &str) -> PodSplit {
    let text = "
apiVersion: sidewall.dev/v1alpha1
kind: PodSplit
metadata: {name: NAME, namespace: shop, creationTimestamp: CREATED}
spec:
  podSelector: {matchLabels: {app: web}}
  parts: [{name: logs, containers: [CONTAINER]}]
";
    let text = text.replace("NAME", name).replace("CREATED", created).replace("CONTAINER", container);
    serde_json::from_value(yaml(&text)).expect("a PodSplit")
}

fn web() -> PodSplit {
    split("web", "2026-01-01T00:00:00Z", "log-shipper")
}

fn pod() -> Value {
    yaml(
        "{apiVersion: v1, kind: Pod, metadata: {labels: {app: web}}, \
         spec: {containers: [{name: app, image: a}, {name: log-shipper, image: l}]}}",
    )
}

fn ask(pod: &Value, splits: &[&PodSplit], unreadable: &[&UnreadableSplit]) -> Result<Option<Divided>, String> {
    let splits = Splits { namespace: "shop", splits, unreadable, key: &secret().splits() };
    assert!(!splits.is_part(pod).map_err(|refusal| refusal.to_string())?);
    splits.divide(pod).map_err(|refusal| refusal.to_string())
}

/// The pod after what a PodSplit makes of it.
fn divided(pod: &Value, splits: &[&PodSplit]) -> (Value, Vec<String>) {
    let Divided { patch, warnings } = ask(pod, splits, &[]).expect("it can be divided").expect("it is selected");
    let mut after = pod.clone();
    json_patch::patch(&mut after, &patch).expect("our own patch applies");
    (after, warnings)
}

#[test]
fn a_selected_pod_is_divided_by_a_patch() {
    let (primary, warnings) = divided(&pod(), &[&web()]);
    assert_eq!(primary["spec"]["containers"], json!([{"name": "app", "image": "a"}]));
    assert_eq!(primary["metadata"]["annotations"]["sidewall.dev/link"], "shop/sidewall-web");
    assert_eq!(primary["spec"]["readinessGates"][0]["conditionType"], "sidewall.dev/parts-ready");
    assert_eq!(warnings, Vec::<String>::new());
    // What has been done is not done again, whoever asks: all operators have the same secret.
    let again = ask(&primary, &[&web()], &[]).expect("ours").expect("it is selected");
    assert!(again.patch.0.is_empty());
}

#[test]
fn who_is_not_selected_stays_and_may_not_say_otherwise() {
    let mut other = pod();
    other["metadata"]["labels"] = json!({"app": "other"});
    assert!(ask(&other, &[&web()], &[]).expect("nothing is wrong").is_none());
    for (field, key) in KEYS {
        let mut forged = other.clone();
        forged["metadata"][field][key] = json!("{}");
        let said = ask(&forged, &[&web()], &[]).expect_err("a key of ours");
        assert!(said.contains(key), "{said}");
    }
    let mut forged = pod();
    forged["metadata"]["annotations"] = json!({"sidewall.dev/split": "{\"mac\":\"\",\"version\":1}"});
    let said = ask(&forged, &[&web()], &[]).expect_err("no word of ours");
    assert!(said.contains("sidewall.dev/split"), "{said}");
}

#[test]
fn the_oldest_counts() {
    let (old, young) = (web(), split("younger", "2026-02-01T00:00:00Z", "app"));
    for splits in [[&old, &young], [&young, &old]] {
        let (primary, warnings) = divided(&pod(), &splits);
        assert_eq!(primary["spec"]["containers"][0]["name"], "app");
        assert_eq!(warnings[0], "PodSplit \"younger\" has no effect here: \"web\" is older and selects this pod too");
    }
    let mut elsewhere = web();
    elsewhere.metadata.namespace = Some("bank".to_owned());
    assert!(ask(&pod(), &[&elsewhere], &[]).expect("of another namespace").is_none());
}

#[test]
fn one_that_cannot_be_understood_refuses_what_it_may_select() {
    let broken = |selector: &str| {
        let text = format!(
            "{{apiVersion: sidewall.dev/v1alpha1, kind: PodSplit, metadata: {{name: broken, namespace: shop}}, \
             spec: {{podSelector: {selector}, parts: [{{name: logs, containers: [log-shipper]}}], news: 1}}}}"
        );
        *read_split(yaml(&text)).expect_err("an unknown field")
    };
    let selects = broken("{matchLabels: {app: web}}");
    let said = ask(&pod(), &[], &[&selects]).expect_err("it cannot be divided as its author meant");
    assert!(
        said.starts_with("PodSplit \"broken\" selects this pod and cannot be used: spec.news: unknown field"),
        "{said}"
    );
    assert!(ask(&pod(), &[], &[&broken("{matchLabels: {app: other}}")]).expect("another's").is_none());
    let doubtful = UnreadableSplit { pod_selector: None, ..selects.clone() };
    assert!(ask(&pod(), &[], &[&doubtful]).is_err());
    // One that can be used counts.
    let web = web();
    let Divided { warnings, .. } =
        ask(&pod(), &[&web], &[&selects]).expect("it can be divided").expect("it is selected");
    assert!(warnings[0].contains("PodSplit \"broken\" selects this pod too"), "{warnings:?}");
    // One that could be read and breaks a rule all the same: the API server's schema may be an older one.
    let mut twice = web;
    twice.spec.parts.push(twice.spec.parts[0].clone());
    let said = ask(&pod(), &[&twice], &[]).expect_err("a part twice");
    assert!(said.contains("spec.parts[1].name"), "{said}");
}

#[test]
fn what_cannot_be_divided_is_refused_with_the_way_out() {
    let mut pod = pod();
    pod["spec"]["hostNetwork"] = json!(true);
    let said = ask(&pod, &[&web()], &[]).expect_err("the node's network");
    assert!(
        said.starts_with("PodSplit \"web\" selects this pod, and it cannot be split: spec.hostNetwork is true"),
        "{said}"
    );
}

#[test]
fn a_part_of_ours_is_left_alone_and_no_other() {
    let (mut primary, _) = divided(&pod(), &[&web()]);
    for (pointer, value) in [("name", "web-1"), ("uid", "u-1"), ("namespace", "shop")] {
        primary["metadata"][pointer] = json!(value);
    }
    primary["spec"]["nodeName"] = json!("n1");
    let key = secret().splits();
    let part = parts(&primary, &key).expect("its parts").remove(0).pod;
    let everything: PodSplit =
        PodSplit { spec: sidewall_api::PodSplitSpec { pod_selector: Default::default(), ..web().spec }, ..web() };
    let at = |namespace| Splits { namespace, splits: &[], unreadable: &[], key: &key };
    let in_shop = Splits { splits: &[&everything], ..at("shop") };
    assert!(in_shop.is_part(&part).expect("ours"));
    assert!(!in_shop.is_part(&pod()).expect("an ordinary pod"));
    assert!(!in_shop.is_part(&primary).expect("a primary"));
    assert!(at("bank").is_part(&part).is_err());
    // Whose part it is, its label says as it is signed.
    let mut other = part.clone();
    other["metadata"]["labels"]["sidewall.dev/part"] = json!("primary");
    assert!(in_shop.is_part(&other).is_err());
    // Without the word it is an ordinary pod, with a label that it may not have.
    let mut bare = part;
    bare["metadata"]["annotations"] = json!({});
    assert!(!in_shop.is_part(&bare).expect("no part"));
    assert!(at("shop").divide(&bare).is_err());
}
