//! However much is beside an object, only so much of it is looked at.

use sidewall_api::LabelSelector;
use sidewall_policy::lint::{Effort, matching_cost};

use super::*;

/// A selector with as many words as one that is stored may have.
fn wordy() -> Value {
    let values = |key: usize| (0..64).map(|value| format!("v{key}-{value}")).collect::<Vec<_>>();
    let all: Vec<Value> =
        (0..32).map(|key| json!({"key": format!("k{key}"), "operator": "NotIn", "values": values(key)})).collect();
    json!({"matchExpressions": all})
}

#[test]
fn what_is_too_much_to_look_at_is_left_unsaid_and_all_else_is_said() {
    let pods: Vec<TestPod> =
        (0..200).map(|number| pod(&["app: http=8080"]).labelled("n", &number.to_string())).collect();
    let known: Vec<KnownPod<'_>> = pods.iter().map(TestPod::known).collect();
    let selector: LabelSelector = serde_json::from_value(wordy()).unwrap();
    assert!(!Effort::of(EFFORT).spend(matching_cost(&selector, known.len())), "nothing would be left unsaid");
    let mut wordy_policy = policy("{podSelector: {}, containers: [aap], policyTypes: [Egress], egress: []}");
    let mut wordy_proxy = proxy(USERS);
    let warned_of = |object: &Value, word: &str| {
        let question = question(&review(object, None));
        let facts = Facts { pods: Some(&known), ..allowed(&question) };
        warned(&question, &facts).iter().any(|warning| warning.contains(word))
    };
    assert!(warned_of(&wordy_policy, "did you mean \"app\"?"));
    assert!(warned_of(&wordy_proxy, "of the 200 pods that it selects"));
    wordy_policy["spec"]["podSelector"] = wordy();
    wordy_proxy["spec"]["podSelector"] = wordy();
    assert!(!warned_of(&wordy_policy, "aap") && !warned_of(&wordy_proxy, "of the 200 pods that it selects"));
    // What needs no look at pods is refused all the same.
    wordy_proxy["spec"]["listeners"][0]["port"] = json!(15411);
    let question = question(&review(&wordy_proxy, None));
    let facts = Facts { pods: Some(&known), ..allowed(&question) };
    assert!(refused(&question, &facts).contains("15411"));
}

#[test]
fn proxies_that_are_too_many_to_look_at_leave_names_unjudged() {
    let one = pod(&["app: http=8080"]);
    let known = [one.known()];
    let others: Vec<SidecarProxy> = (0..30)
        .map(|number| {
            let mut other = crate::fixture::web();
            other.metadata.name = Some(format!("p{number}"));
            other.spec.container_name = format!("door-{number}");
            other.spec.pod_selector = serde_json::from_value(wordy()).unwrap();
            other.spec.pod_selector.match_labels.insert("app".to_owned(), "other".to_owned());
            other
        })
        .collect();
    let object = policy("{podSelector: {}, containers: [door-7], policyTypes: [Egress], egress: []}");
    let question = question(&review(&object, None));
    let said = |proxies: &[&SidecarProxy]| {
        let facts = Facts { pods: Some(&known), proxies, ..allowed(&question) };
        warned(&question, &facts).iter().any(|warning| warning.contains("door-7"))
    };
    let others: Vec<&SidecarProxy> = others.iter().collect();
    assert!(said(&others[..5]) && !said(&others));
}
