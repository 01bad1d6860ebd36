use super::*;
use serde_json::{Value as Json, json};

fn read(spec: Json) -> Result<PodPlan, Vec<Finding>> {
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "web"}}, "spec": spec});
    plan(&serde_json::from_value(pod).unwrap(), &PlanOptions::default())
}

fn container(name: &str, more: Json) -> Json {
    let mut container = json!({"name": name, "command": ["run"]});
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    container
}

#[track_caller]
fn refused(spec: Json, field: &str, word: &str) {
    let findings = read(spec).unwrap_err();
    let found = findings.iter().find(|f| f.field == field);
    assert!(found.is_some_and(|f| f.message.contains(word)), "{field} {word}: {findings:#?}");
}

#[test]
fn defaults_are_kubernetes() {
    let plan = read(json!({"containers": [container("a", json!({"ports": [{"containerPort": 80}]}))]})).unwrap();
    assert_eq!(
        (plan.namespace.as_str(), plan.restart_policy, plan.grace),
        ("default", RestartPolicy::Always, Duration::from_secs(30))
    );
    let a = &plan.containers[0];
    assert_eq!((a.kind, a.uid, a.gid), (Kind::App, 10001, 10001));
    assert_eq!(a.ports, [Port { name: None, protocol: "TCP".into(), port: 80 }]);
    let command = plan.command(a, &Facts { uid: "u", pod_ips: &[], host_ip: None });
    assert_eq!(command.argv, ["run"]);
    assert_eq!(command.env["PATH"], DEFAULT_PATH);
    assert_eq!((command.env["HOSTNAME"].as_str(), command.directory.to_str().unwrap()), ("p", "/"));
}

#[test]
fn kinds_come_in_order_and_ids_are_distinct_unless_asked_for() {
    let plan = read(json!({
        "securityContext": {"runAsGroup": 7},
        "initContainers": [container("i", json!({})), container("s", json!({"restartPolicy": "Always"}))],
        "containers": [
            container("a", json!({"securityContext": {"runAsUser": 10001, "runAsGroup": 10004}})),
            container("b", json!({})),
        ],
    }))
    .unwrap();
    let all: Vec<_> = plan.containers.iter().map(|c| (c.name.as_str(), c.kind, c.uid, c.gid)).collect();
    assert_eq!(
        all,
        [
            ("i", Kind::Init, 10002, 7),
            ("s", Kind::Sidecar, 10003, 7),
            ("a", Kind::App, 10001, 10004),
            ("b", Kind::App, 10006, 7),
        ]
    );
}

#[test]
fn the_pods_user_goes_for_all_that_have_none_of_their_own() {
    let plan = read(json!({
        "securityContext": {"runAsUser": 500, "fsGroup": 9, "supplementalGroups": [8]},
        "containers": [container("a", json!({})), container("b", json!({"securityContext": {"runAsUser": 600}}))],
    }))
    .unwrap();
    assert_eq!(plan.containers.iter().map(|c| c.uid).collect::<Vec<_>>(), [500, 600]);
    assert_eq!(plan.containers[0].groups, [8, 9]);
}

#[test]
fn root_is_refused_unless_a_test_allows_it() {
    let spec = json!({"containers": [container("a", json!({"securityContext": {"runAsUser": 0}}))]});
    refused(spec.clone(), "spec.containers[0].securityContext.runAsUser", "root would own");
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
    let allow = PlanOptions { allow_root: true, ..PlanOptions::default() };
    assert_eq!(plan(&pod, &allow).unwrap().containers[0].uid, 0);
    let non_root = json!({"runAsUser": 0, "runAsNonRoot": true});
    let spec = json!({"containers": [container("a", json!({"securityContext": non_root}))]});
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
    assert!(plan(&pod, &allow).unwrap_err()[0].message.contains("runAsNonRoot"));
}

#[test]
fn variables_see_those_before_them_and_commands_see_all() {
    let plan = read(json!({"containers": [container("a", json!({
        "command": ["$(A)/bin", "$(LATE)"],
        "args": ["$(PATH)"],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)$(LATE)"},
            {"name": "LATE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "A", "value": "2$(A)"},
            {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
            {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
        ],
    }))]}))
    .unwrap();
    let ips = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    let facts = Facts { uid: "u", pod_ips: &ips, host_ip: Some("10.0.0.2".parse().unwrap()) };
    let command = plan.command(&plan.containers[0], &facts);
    assert_eq!(command.argv, ["21/bin", "web", "$(PATH)"], "what the manifest does not declare stays as written");
    assert_eq!((command.env["B"].as_str(), command.env["IPS"].as_str()), ("1$(LATE)", "10.0.0.1,fd00::1"));
    assert_eq!(command.env["HOST"], "10.0.0.2");
}

#[test]
fn probes_take_named_ports_and_kubernetes_defaults() {
    let plan = read(json!({"containers": [container("a", json!({
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}],
        "startupProbe": {"tcpSocket": {"port": "http"}},
        "livenessProbe": {"exec": {"command": ["true"]}, "timeoutSeconds": 0, "terminationGracePeriodSeconds": 5},
        "readinessProbe": {"httpGet": {"port": 9, "path": "x", "host": "h"}, "periodSeconds": 3, "successThreshold": 2},
    }))]}))
    .unwrap();
    let probes = &plan.containers[0].probes;
    let startup = probes.startup.as_ref().unwrap();
    assert_eq!(startup.action, ProbeAction::Tcp { host: None, port: 8080 });
    assert_eq!((startup.period, startup.timeout), (Duration::from_secs(10), Duration::from_secs(1)));
    assert_eq!((startup.success_threshold, startup.failure_threshold, startup.grace), (1, 3, None));
    let liveness = probes.liveness.as_ref().unwrap();
    assert_eq!((liveness.timeout, liveness.grace), (Duration::from_secs(1), Some(Duration::from_secs(5))));
    let readiness = probes.readiness.as_ref().unwrap();
    let http = ProbeAction::Http { host: Some("h".into()), port: 9, path: "/x".into(), headers: vec![] };
    assert_eq!((&readiness.action, readiness.success_threshold), (&http, 2));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_field() {
    let one = |more: Json| json!({"containers": [container("a", more)]});
    let at = |field: &str| format!("spec.containers[0].{field}");
    refused(json!({"containers": []}), "spec.containers", "at least one");
    refused(
        json!({"containers": [container("a", json!({})), container("a", json!({}))]}),
        "spec.containers[1].name",
        "taken",
    );
    refused(json!({"containers": [container("A", json!({}))]}), "spec.containers[0].name", "not a container's name");
    refused(one(json!({"ports": [{"containerPort": 0}]})), &at("ports[0].containerPort"), "between 1 and 65535");
    refused(one(json!({"ports": [{"containerPort": 5, "protocol": "QUIC"}]})), &at("ports[0].protocol"), "QUIC");
    refused(
        one(json!({"securityContext": {"runAsUser": 4294967295u32}})),
        &at("securityContext.runAsUser"),
        "between 0",
    );
    refused(one(json!({"securityContext": {"runAsGroup": -1}})), &at("securityContext.runAsGroup"), "between 0");
    refused(one(json!({"env": [{"name": "A=B", "value": "x"}]})), &at("env[0].name"), "not a variable");
    let field = json!({"fieldRef": {"fieldPath": "spec.nodeName"}});
    refused(
        one(json!({"env": [{"name": "A", "valueFrom": field}]})),
        &at("env[0].valueFrom.fieldRef.fieldPath"),
        "not known",
    );
    let port = json!({"tcpSocket": {"port": "dns"}});
    refused(one(json!({"livenessProbe": port})), &at("livenessProbe.tcpSocket.port"), "no TCP port \"dns\"");
    refused(one(json!({"livenessProbe": {}})), &at("livenessProbe"), "exactly one");
    let https = json!({"httpGet": {"port": 443, "scheme": "HTTPS"}});
    refused(one(json!({"livenessProbe": https})), &at("livenessProbe.httpGet.scheme"), "only HTTP");
    let split = json!({"httpGet": {"port": 80, "path": "/a\r\nX: y"}});
    refused(one(json!({"livenessProbe": split})), &at("livenessProbe.httpGet.path"), "percent-encode");
    let two = json!({"exec": {"command": ["true"]}, "successThreshold": 2});
    refused(one(json!({"startupProbe": two})), &at("startupProbe.successThreshold"), "must be 1");
    let negative = json!({"exec": {"command": ["true"]}, "periodSeconds": -1});
    refused(one(json!({"startupProbe": negative})), &at("startupProbe.periodSeconds"), "negative");

    let named = |meta: Json| {
        let pod = json!({"metadata": meta, "spec": {"containers": [container("a", json!({}))]}});
        plan(&serde_json::from_value(pod).unwrap(), &PlanOptions::default())
    };
    for meta in [
        json!({}),
        json!({"name": "../x"}),
        json!({"name": "a", "namespace": "a_b"}),
        json!({"name": "a", "uid": ".."}),
    ] {
        assert!(named(meta.clone()).is_err(), "{meta}");
    }
    assert!(named(json!({"name": "a.b-c", "namespace": "n", "uid": "0a-1"})).is_ok());
}
