use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;

fn check<T: JsonSchema>(mut value: Value) -> (Vec<String>, Value) {
    let problems = Shape::core::<T>().check(&mut value);
    (problems.iter().map(ToString::to_string).collect(), value)
}

fn pod(container: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}})
}

#[test]
fn a_sound_pod_passes() {
    let value = pod(json!({
        "name": "app", "image": "app:1", "command": ["app"], "ports": [{"name": "http", "containerPort": 80}],
        "resources": {"limits": {"memory": "64Mi"}},
        "livenessProbe": {"httpGet": {"port": "http", "path": "/"}, "initialDelaySeconds": 1},
        "readinessProbe": {"tcpSocket": {"port": 80}},
        "securityContext": {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}}
    }));
    let (problems, after) = check::<Pod>(value.clone());
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(after, value);
}

#[test]
fn unknown_fields_are_named_with_the_likely_word_and_taken_out() {
    let (problems, after) = check::<Pod>(pod(json!({"name": "app", "securityContext": {"runAsUsr": 1, "zzz": 2}})));
    assert_eq!(
        problems,
        [
            "error: spec.containers[0].securityContext.runAsUsr: unknown field \"runAsUsr\"; did you mean `runAsUser`?",
            "error: spec.containers[0].securityContext.zzz: unknown field \"zzz\"; known here: \
             allowPrivilegeEscalation, appArmorProfile, capabilities, privileged, procMount, readOnlyRootFilesystem, \
             runAsGroup, runAsNonRoot, runAsUser, seLinuxOptions, seccompProfile, windowsOptions",
        ]
    );
    assert_eq!(after, pod(json!({"name": "app", "securityContext": {}})));
}

#[test]
fn maps_of_the_authors_words_are_open() {
    let mut value = pod(json!({"name": "app"}));
    value["metadata"]["labels"] = json!({"anything": "goes", "sidewall.dev/x": "y"});
    value["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    assert_eq!(check::<Pod>(value.clone()).0, Vec::<String>::new());
    value["metadata"]["labels"] = json!({"anything": 1});
    assert_eq!(
        check::<Pod>(value).0,
        ["error: metadata.labels.anything: here stands a number, but this field takes text: put it in quotes"]
    );
}

#[test]
fn types_are_checked() {
    for (container, message) in [
        (
            json!({"name": 1}),
            "error: spec.containers[0].name: here stands a number, but this field takes text: put it in quotes",
        ),
        (
            json!({"name": "a", "args": "x"}),
            "error: spec.containers[0].args: here stands text, but this field takes a list",
        ),
        (
            json!({"name": "a", "stdin": "yes"}),
            "error: spec.containers[0].stdin: here stands text, but this field takes true or false",
        ),
        (
            json!({"name": "a", "securityContext": []}),
            "error: spec.containers[0].securityContext: here stands a list, but this field takes fields",
        ),
        (
            json!({"name": "a", "securityContext": {"runAsUser": "1"}}),
            "error: spec.containers[0].securityContext.runAsUser: here stands text, but this field takes a whole number",
        ),
        (
            json!({"name": "a", "securityContext": {"runAsUser": 1.5}}),
            "error: spec.containers[0].securityContext.runAsUser: here stands a number, but this field takes a whole number",
        ),
        (
            json!({"name": "a", "livenessProbe": {"tcpSocket": {"port": true}}}),
            "error: spec.containers[0].livenessProbe.tcpSocket.port: here stands true or false, but this field takes a number or a name",
        ),
        (json!({"image": "a"}), "error: spec.containers[0]: field `name` is missing"),
        (json!({"name": null}), "error: spec.containers[0]: field `name` is missing"),
    ] {
        assert_eq!(check::<Pod>(pod(container)).0, [message]);
    }
    let mut value = pod(json!({"name": "a"}));
    value["spec"]["containers"] = json!([null]);
    assert_eq!(check::<Pod>(value).0, ["error: spec.containers[0]: the list has an entry without a value: remove it"]);
}

#[test]
fn quantities_may_be_numbers() {
    let (problems, after) = check::<Pod>(pod(json!({"name": "a", "resources": {"limits": {"cpu": 1, "memory": 1.5}}})));
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(after, pod(json!({"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1.5"}}})));
    let (problems, _) = check::<Pod>(pod(json!({"name": "a", "resources": {"limits": {"cpu": []}}})));
    assert_eq!(problems.len(), 1);
}

#[test]
fn fields_without_a_value_count_as_absent_in_kubernetes_own_kinds() {
    let mut value = pod(json!({"name": "a", "args": null}));
    value["metadata"]["creationTimestamp"] = Value::Null;
    let (problems, after) = check::<Pod>(value);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(after, pod(json!({"name": "a"})));
}

#[test]
fn a_newer_status_is_a_warning() {
    let mut value = pod(json!({"name": "a"}));
    value["status"] = json!({"phase": "Running", "fromTheFuture": {}});
    let mut after = value.clone();
    let problems = Shape::core::<Pod>().check(&mut after);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].severity, Severity::Warning);
    assert_eq!(problems[0].path.to_string(), "status.fromTheFuture");
    assert_eq!(after["status"], json!({"phase": "Running"}));
}

#[test]
fn suggestions_are_near() {
    let words = ["egress", "ingress", "podSelector", "mode"];
    let likely = |found| suggest(found, words.into_iter());
    assert_eq!(likely("egres"), Some("egress"));
    assert_eq!(likely("podselector"), Some("podSelector"));
    assert_eq!(likely("modes"), Some("mode"));
    assert_eq!(likely("containers"), None);
    assert_eq!(likely(&"x".repeat(1000)), None);
}
