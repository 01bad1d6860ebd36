use serde_json::json;

use super::*;

fn policy(spec: Value) -> Value {
    json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy",
        "metadata": {"name": "p", "namespace": "shop", "uid": "1", "resourceVersion": "7"}, "spec": spec,
        "status": {"observedGeneration": 1, "pods": {"selected": 1, "enforced": 1}}
    })
}

fn unreadable(value: Value) -> (UnreadablePolicy, Vec<String>) {
    let unreadable = *read_policy(value).unwrap_err();
    let problems = unreadable.problems.iter().map(ToString::to_string).collect();
    (unreadable, problems)
}

#[test]
fn a_sound_policy_is_read_with_its_status() {
    let read = read_policy(policy(json!({"podSelector": {}, "egress": [{"to": [{"container": "a"}]}]}))).unwrap();
    assert!(read.warnings.is_empty());
    assert_eq!(read.object.status.unwrap().pods.unwrap().selected, 1);
}

#[test]
fn every_problem_is_found_at_once() {
    let (policy, problems) = unreadable(policy(json!({
        "podSelector": {"matchLabels": {"app": "web"}}, "mode": "enforce", "egres": [], "containers": null,
        "egress": [{"to": [{"container": "App"}], "port": []}],
    })));
    assert_eq!(
        problems,
        [
            "error: spec.containers: the field has no value: write [] for an empty list, or remove the field",
            "error: spec.egress[0].port: unknown field \"port\"; did you mean `ports`?",
            "error: spec.mode: \"enforce\" is not one of Enforce, Audit; did you mean `Enforce`?",
            "error: spec.egres: unknown field \"egres\"; did you mean `egress`?",
        ]
    );
    assert_eq!(policy.namespace.as_deref(), Some("shop"));
    assert_eq!(policy.name.as_deref(), Some("p"));
    assert_eq!(policy.pod_selector, Some(LabelSelector::label("app", "web")));
}

#[test]
fn rules_are_checked_beside_unknown_fields() {
    let (_, problems) = unreadable(policy(json!({
        "podSelector": {}, "unknown": 1, "egress": [{"to": [{"container": "App"}]}]
    })));
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn a_doubtful_selector_is_not_believed() {
    for spec in [
        json!({"podSelector": {"matchLabel": {"app": "web"}}}),
        json!({"podSelector": {"matchLabels": {"app": 1}}}),
        json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
        json!({"podSelector": null}),
        json!({"podSelector": []}),
        json!({}),
    ] {
        let (policy, problems) = unreadable(policy(spec.clone()));
        assert_eq!(policy.pod_selector, None, "{spec}");
        assert!(!problems.is_empty());
    }
}

#[test]
fn what_is_no_object_is_unreadable_too() {
    for value in [json!(null), json!([]), json!("x"), json!({}), json!({"metadata": []}), json!({"spec": 1})] {
        let (policy, problems) = unreadable(value.clone());
        assert_eq!(policy.pod_selector, None, "{value}");
        assert!(!problems.is_empty());
    }
    let (policy, _) = unreadable(json!({"metadata": {"namespace": 1}, "spec": {"podSelector": {}}}));
    assert_eq!(policy.namespace, None, "a namespace that cannot be read may be any");
}

#[test]
fn warnings_do_not_make_it_unreadable() {
    let read = read_policy(policy(json!({
        "podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}]
    })))
    .unwrap();
    assert_eq!(read.warnings.len(), 1);
}

fn proxy(spec: Value) -> Result<Read<SidecarProxy>, Box<UnreadablePolicy>> {
    read_proxy(json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy",
        "metadata": {"name": "p", "namespace": "shop"}, "spec": spec,
    }))
}

#[test]
fn proxies_are_read_in_both_forms() {
    let listener = |way: Value| json!({"podSelector": {}, "listeners": [{"port": 80, "forward": {"port": 8080}, "authentication": [{"basic": way}]}]});
    let cluster = proxy(listener(json!({"secretName": "users", "key": "htpasswd"}))).unwrap().object;
    assert_eq!(cluster.spec.container_name, "front-proxy");
    assert_eq!(cluster.spec.config().listeners[0].port, 80);
    proxy(listener(json!({"htpasswdFile": "users"}))).unwrap();
    let mixed = proxy(listener(json!({"secretName": "users", "htpasswdFile": "users"}))).unwrap_err();
    assert_eq!(mixed.kind, PolicyKind::SidecarProxy);
    assert!(mixed.problems[0].path.to_string().starts_with("spec.listeners[0].authentication[0].basic"), "{mixed:?}");
    assert_eq!(mixed.pod_selector, Some(LabelSelector::everything()));
}

#[test]
fn rules_of_proxies() {
    let paths = |spec: Value| proxy(spec).unwrap_err().problems.iter().map(|p| p.path.to_string()).collect::<Vec<_>>();
    let listeners = json!([{"port": 80, "forward": {"port": 8080}, "anonymous": true}]);
    assert!(proxy(json!({"podSelector": {}, "listeners": listeners})).is_ok());
    assert_eq!(paths(json!({"podSelector": {}, "listeners": []})), ["spec.listeners"]);
    assert_eq!(
        paths(json!({"podSelector": {}, "listeners": listeners, "containerName": "Proxy"})),
        ["spec.containerName"]
    );
    assert_eq!(
        paths(json!({"podSelector": {}, "listeners": [{"port": 0, "forward": {"port": 8080}, "anonymous": true}]})),
        ["spec.listeners[0].port"]
    );
    assert_eq!(
        paths(
            json!({"podSelector": {}, "listeners": [{"port": 80, "forward": {"port": 8080}, "authorisation": {}, "anonymous": true}]})
        ),
        ["spec.listeners[0].authorisation"]
    );
}

#[test]
fn core_kinds_are_read() {
    let meta = json!({"name": "x", "namespace": "shop"});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": meta,
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "targetPort": "http"}]}});
    assert_eq!(read_service(service).unwrap().object.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.1"));
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta,
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]});
    assert_eq!(read_endpoint_slice(slice).unwrap().object.endpoints.len(), 1);
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"a": "b"}}});
    assert!(read_namespace(namespace).is_ok());
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [{"name": "a"}]}});
    assert!(read_pod(pod).is_ok());
    assert!(read_pod(json!({"apiVersion": "v1", "kind": "Service", "metadata": meta})).is_err());
}
