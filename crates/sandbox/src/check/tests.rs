use super::*;
use serde_json::{Value as Json, json};

fn check(spec: Json) -> Vec<Finding> {
    check_supported(&serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap())
}

fn one(more: Json) -> Json {
    let mut container = json!({"name": "a", "command": ["run"]});
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"containers": [container]})
}

fn spec(more: Json) -> Json {
    let mut spec = one(json!({}));
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

#[track_caller]
fn only(spec: Json, severity: Severity, field: &str) {
    let findings = check(spec);
    let seen: Vec<_> = findings.iter().map(|f| (f.severity, f.field.as_str())).collect();
    assert_eq!(seen, [(severity, field)], "{findings:#?}");
    assert!(!findings[0].message.is_empty());
}

#[test]
fn a_plain_pod_has_no_findings() {
    assert_eq!(check(one(json!({}))), []);
    let careful = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "runAsUser": 5});
    assert_eq!(check(one(json!({"securityContext": careful, "resources": {}}))), []);
}

#[test]
fn what_changes_security_or_behaviour_is_refused() {
    for (more, field) in [
        (json!({"hostNetwork": true}), "spec.hostNetwork"),
        (json!({"hostPID": true}), "spec.hostPID"),
        (json!({"hostIPC": true}), "spec.hostIPC"),
        (json!({"hostUsers": false}), "spec.hostUsers"),
        (json!({"shareProcessNamespace": true}), "spec.shareProcessNamespace"),
        (json!({"activeDeadlineSeconds": 5}), "spec.activeDeadlineSeconds"),
        (json!({"hostAliases": [{"ip": "1.2.3.4"}]}), "spec.hostAliases"),
        (json!({"runtimeClassName": "gvisor"}), "spec.runtimeClassName"),
        (json!({"os": {"name": "windows"}}), "spec.os.name"),
        (json!({"restartPolicy": "Sometimes"}), "spec.restartPolicy"),
        (json!({"terminationGracePeriodSeconds": -1}), "spec.terminationGracePeriodSeconds"),
        (json!({"ephemeralContainers": [{"name": "d"}]}), "spec.ephemeralContainers"),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
            "spec.securityContext.sysctls[0].name",
        ),
        (json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}), "spec.securityContext.seccompProfile"),
        (json!({"securityContext": {"seLinuxOptions": {}}}), "spec.securityContext.seLinuxOptions"),
    ] {
        only(spec(more), Severity::Error, field);
    }
    for (more, field) in [
        (json!({"command": []}), "command"),
        (json!({"securityContext": {"privileged": true}}), "securityContext.privileged"),
        (json!({"securityContext": {"capabilities": {"add": ["NET_RAW"]}}}), "securityContext.capabilities.add"),
        (json!({"securityContext": {"procMount": "Unmasked"}}), "securityContext.procMount"),
        (json!({"lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}), "lifecycle"),
        (json!({"envFrom": [{"secretRef": {"name": "s"}}]}), "envFrom"),
        (json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}), "env[0].valueFrom"),
        (json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}), "volumeMounts[0]"),
        (json!({"volumeDevices": [{"name": "v", "devicePath": "/v"}]}), "volumeDevices"),
        (json!({"ports": [{"containerPort": 80, "hostPort": 80}]}), "ports[0].hostPort"),
        (json!({"tty": true}), "tty"),
        (json!({"restartPolicy": "Always"}), "restartPolicy"),
    ] {
        only(one(more), Severity::Error, &format!("spec.containers[0].{field}"));
    }
    let init = json!({"name": "i", "command": ["x"], "livenessProbe": {"exec": {"command": ["x"]}}});
    only(spec(json!({"initContainers": [init]})), Severity::Error, "spec.initContainers[0]");
    assert_eq!(check_supported(&Pod::default())[0].field, "spec");
}

#[test]
fn what_means_nothing_here_is_warned_about() {
    for (more, field) in [
        (json!({"serviceAccountName": "x"}), "spec.serviceAccountName"),
        (json!({"tolerations": [{"operator": "Exists"}]}), "spec.tolerations"),
        (json!({"nodeSelector": {"a": "b"}}), "spec.nodeSelector"),
        (json!({"imagePullSecrets": [{"name": "x"}]}), "spec.imagePullSecrets"),
        (json!({"dnsPolicy": "Default"}), "spec.dnsPolicy"),
        (
            json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}),
            "spec.securityContext.seccompProfile",
        ),
    ] {
        only(spec(more), Severity::Warning, field);
    }
    for (more, field) in [
        (json!({"image": "nginx"}), "image"),
        (json!({"imagePullPolicy": "Always"}), "imagePullPolicy"),
        (json!({"resources": {"limits": {"cpu": "1"}}}), "resources"),
        (json!({"securityContext": {"readOnlyRootFilesystem": true}}), "securityContext.readOnlyRootFilesystem"),
        (json!({"securityContext": {"allowPrivilegeEscalation": true}}), "securityContext.allowPrivilegeEscalation"),
    ] {
        only(one(more), Severity::Warning, &format!("spec.containers[0].{field}"));
    }
}

#[test]
fn a_host_path_in_its_own_place_needs_no_mount() {
    let mounted = |mount: Json| {
        let mut spec = one(json!({"volumeMounts": [mount]}));
        spec["volumes"] = json!([{"name": "v", "hostPath": {"path": "/srv/x"}}, {"name": "e", "emptyDir": {}}]);
        check(spec)
    };
    assert_eq!(mounted(json!({"name": "v", "mountPath": "/srv/x"})), []);
    let read_only = mounted(json!({"name": "v", "mountPath": "/srv/x", "readOnly": true}));
    assert_eq!(read_only[0].severity, Severity::Warning);
    for bad in [
        json!({"name": "v", "mountPath": "/srv/y"}),
        json!({"name": "v", "mountPath": "/srv/x", "subPath": "z"}),
        json!({"name": "e", "mountPath": "/srv/x"}),
        json!({"name": "none", "mountPath": "/srv/x"}),
    ] {
        assert_eq!(mounted(bad.clone())[0].severity, Severity::Error, "{bad}");
    }
}

#[test]
fn args_without_a_command_are_explained() {
    let findings = check(json!({"containers": [{"name": "web", "image": "nginx", "args": ["-g"]}]}));
    assert!(findings[0].message.contains("\"web\"") && findings[0].message.contains("args alone"), "{findings:?}");
}
