use serde_json::json;

use super::*;

fn user(name: &str) -> UserInfo {
    let groups = Some(vec!["system:masters".to_owned()]);
    UserInfo { username: Some(name.to_owned()), groups, ..UserInfo::default() }
}

fn ourselves() -> Ourselves {
    Ourselves::service_accounts("sidewall-system", ["sidewall-operator", "sidewall-agent"])
}

fn judge(name: &str, sort: Sort, old: Option<&Value>, new: &Value) -> Result<(), NotYours> {
    may_write(&user(name), &ourselves(), sort, old, new)
}

fn annotated(key: &str, value: &str) -> Value {
    json!({"metadata": {"annotations": {key: value, "example.com/a": "b"}}})
}

#[test]
fn ourselves_are_known_by_the_whole_name_alone() {
    let pod = annotated("sidewall.dev/config-hash", "1");
    assert!(judge("system:serviceaccount:sidewall-system:sidewall-operator", Sort::Pod, None, &pod).is_ok());
    for other in [
        "system:serviceaccount:shop:sidewall-operator",
        "system:serviceaccount:sidewall-system:default",
        "sidewall-operator",
        "system:admin",
        "",
    ] {
        assert!(judge(other, Sort::Pod, None, &pod).is_err(), "{other}");
    }
    assert!(may_write(&UserInfo::default(), &Ourselves::default(), Sort::Pod, None, &pod).is_err());
}

#[test]
fn who_writes_changes_or_removes_one_is_told_which() {
    let none = json!({"metadata": {}});
    let one = annotated("sidewall.dev/config-hash", "1");
    let two = annotated("sidewall.dev/config-hash", "2");
    for (old, new) in [(None, &one), (Some(&none), &one), (Some(&one), &two), (Some(&one), &none)] {
        let error = judge("alice", Sort::Other, old, new).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sidewall.dev/config-hash may be written by Sidewall alone, and not by \"alice\": leave it as it was"
        );
    }
    assert!(judge("alice", Sort::Other, Some(&one), &one).is_ok());
    let label = json!({"metadata": {"labels": {"x.sidewall.dev/y": "1"}}});
    assert!(judge("alice", Sort::Other, None, &label).is_err());
    // A label is no annotation of the same name.
    let moved = json!({"metadata": {"labels": {"sidewall.dev/config-hash": "1"}}});
    assert!(judge("alice", Sort::Other, Some(&one), &moved).is_err());
}

#[test]
fn what_authors_say_they_may_say() {
    for key in AUTHORS_POD_KEYS {
        assert!(judge("alice", Sort::Pod, None, &annotated(key, "true")).is_ok());
        let template = json!({"spec": {"template": annotated(key, "true")}});
        assert!(judge("alice", Sort::Template, None, &template).is_ok());
        assert!(judge("alice", Sort::Other, None, &annotated(key, "true")).is_err());
    }
    let namespace = json!({"metadata": {"labels": {"sidewall.dev/injection": "enabled"}}});
    assert!(judge("alice", Sort::Namespace, None, &namespace).is_ok());
    assert!(judge("alice", Sort::Pod, None, &namespace).is_err());
}

#[test]
fn what_injection_writes_is_in_a_new_pod_and_no_template_and_stays() {
    let old = annotated("sidewall.dev/proxy", "{}");
    assert!(judge("alice", Sort::Pod, None, &old).is_ok());
    assert!(judge("alice", Sort::Pod, Some(&old), &annotated("sidewall.dev/proxy", "{...}")).is_err());
    assert!(judge("alice", Sort::Pod, Some(&old), &json!({"metadata": {}})).is_err());
    for at in ["template", "jobTemplate"] {
        assert!(judge("alice", Sort::Template, None, &json!({"spec": {at: &old}})).is_err(), "{at}");
    }
    let cron = json!({"spec": {"jobTemplate": {"spec": {"template": &old}}}});
    assert!(judge("alice", Sort::Template, None, &cron).is_err());
}

#[test]
fn odd_objects_have_no_keys() {
    for odd in
        [json!(null), json!([]), json!({"metadata": 1}), json!({"metadata": {"annotations": ["sidewall.dev/x"]}})]
    {
        assert!(judge("alice", Sort::Template, Some(&odd), &odd).is_ok());
        assert!(judge("alice", Sort::Template, None, &odd).is_ok());
    }
}
