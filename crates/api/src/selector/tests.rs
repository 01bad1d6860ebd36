use std::collections::BTreeMap;

use serde_json::json;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn selector(value: serde_json::Value) -> LabelSelector {
    serde_json::from_value(value).unwrap()
}

fn problems(value: serde_json::Value) -> Vec<String> {
    let mut problems = Vec::new();
    selector(value).validate(&FieldPath::root().key("s"), &mut problems);
    problems.iter().map(|p| p.path.to_string()).collect()
}

#[test]
fn without_terms_it_selects_everything() {
    let all = selector(json!({}));
    assert!(all.is_everything());
    assert!(all.matches(&labels(&[])));
    assert!(all.matches(&labels(&[("a", "b")])));
}

#[test]
fn every_term_must_hold() {
    let s = selector(json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "back"]}]
    }));
    assert!(s.matches(&labels(&[("app", "web"), ("tier", "back")])));
    assert!(!s.matches(&labels(&[("app", "web"), ("tier", "other")])));
    assert!(!s.matches(&labels(&[("app", "web")])));
    assert!(!s.matches(&labels(&[("tier", "back")])));
}

#[test]
fn operators_are_those_of_kubernetes() {
    let term = |operator: &str, values: &[&str]| {
        selector(json!({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}))
    };
    let (absent, x, y) = (labels(&[]), labels(&[("a", "x")]), labels(&[("a", "y")]));
    let verdicts = |s: &LabelSelector| [s.matches(&absent), s.matches(&x), s.matches(&y)];
    assert_eq!(verdicts(&term("In", &["x"])), [false, true, false]);
    // NotIn holds where the label is absent.
    assert_eq!(verdicts(&term("NotIn", &["x"])), [true, false, true]);
    assert_eq!(verdicts(&term("Exists", &[])), [false, true, true]);
    assert_eq!(verdicts(&term("DoesNotExist", &[])), [true, false, false]);
}

#[test]
fn what_it_does_not_know_is_an_error() {
    for bad in [
        json!({"matchLabel": {"a": "b"}}),
        json!({"matchExpressions": [{"key": "a", "operator": "Matches", "values": ["b"]}]}),
        json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"], "value": "c"}]}),
        json!({"matchExpressions": [{"key": "a"}]}),
    ] {
        assert!(serde_json::from_value::<LabelSelector>(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn rules() {
    assert!(problems(json!({"matchLabels": {"app.kubernetes.io/name": "web", "empty": ""}})).is_empty());
    assert_eq!(problems(json!({"matchLabels": {"a b": "c"}})), [r#"s.matchLabels["a b"]"#]);
    assert_eq!(problems(json!({"matchLabels": {"a": "b c"}})), ["s.matchLabels.a"]);
    let expression = |operator: &str, values: &[&str]| {
        problems(json!({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}))
    };
    assert!(expression("In", &["b"]).is_empty());
    assert!(expression("Exists", &[]).is_empty());
    assert_eq!(expression("In", &[]), ["s.matchExpressions[0].values"]);
    assert_eq!(expression("NotIn", &[]), ["s.matchExpressions[0].values"]);
    assert_eq!(expression("Exists", &["b"]), ["s.matchExpressions[0].values"]);
    assert_eq!(expression("DoesNotExist", &["b"]), ["s.matchExpressions[0].values"]);
    assert_eq!(expression("In", &["b", "-"]), ["s.matchExpressions[0].values[1]"]);
    assert_eq!(
        problems(json!({"matchExpressions": [{"key": "/", "operator": "Exists"}]})),
        ["s.matchExpressions[0].key"]
    );
}

#[test]
fn sizes_are_bounded() {
    let many = |n: usize| (0..n).map(|i| (format!("k{i}"), "v")).collect::<BTreeMap<_, _>>();
    assert!(problems(json!({"matchLabels": many(SELECTOR_TERMS_MAX)})).is_empty());
    assert_eq!(problems(json!({"matchLabels": many(SELECTOR_TERMS_MAX + 1)})), ["s.matchLabels"]);
    let terms = |n: usize| problems(json!({"matchExpressions": vec![json!({"key": "a", "operator": "Exists"}); n]}));
    assert!(terms(SELECTOR_TERMS_MAX).is_empty());
    assert_eq!(terms(SELECTOR_TERMS_MAX + 1), ["s.matchExpressions"]);
    let values =
        |n: usize| problems(json!({"matchExpressions": [{"key": "a", "operator": "In", "values": vec!["v"; n]}]}));
    assert!(values(SELECTOR_VALUES_MAX).is_empty());
    assert_eq!(values(SELECTOR_VALUES_MAX + 1), ["s.matchExpressions[0].values"]);
}

#[test]
fn selectors_of_the_kubernetes_library_are_read_strictly() {
    let good = meta::LabelSelector {
        match_labels: Some(labels(&[("a", "b")])),
        match_expressions: Some(vec![meta::LabelSelectorRequirement {
            key: "c".to_owned(),
            operator: "DoesNotExist".to_owned(),
            values: None,
        }]),
    };
    let read = LabelSelector::try_from(&good).unwrap();
    assert!(read.matches(&labels(&[("a", "b")])));
    assert!(!read.matches(&labels(&[("a", "b"), ("c", "d")])));
    let mut bad = good;
    bad.match_expressions.as_mut().unwrap()[0].operator = "Like".to_owned();
    assert_eq!(
        LabelSelector::try_from(&bad),
        Err(UnknownOperator { key: "c".to_owned(), operator: "Like".to_owned() })
    );
}
