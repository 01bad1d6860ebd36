use super::*;
use serde_json::json;

fn pod(value: serde_json::Value) -> LocalPod {
    LocalPod::of(&serde_json::from_value(value).unwrap())
}

#[test]
fn what_walls_depend_on_is_kept() {
    let pod = pod(json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u-1", "labels": {"app": "web"},
            "annotations": {"sidewall.dev/split": "x", "k8s.v1.cni.cncf.io/network-status": "[]", "other": "y"},
        },
        "spec": {
            "nodeName": "n1", "hostUsers": false, "shareProcessNamespace": true, "runtimeClassName": "gvisor",
            "securityContext": {"runAsUser": 1000, "runAsGroup": 2000},
            "initContainers": [
                {"name": "setup", "securityContext": {"privileged": true}},
                {"name": "front-proxy", "restartPolicy": "Always", "securityContext": {"runAsUser": 1337}},
            ],
            "containers": [{
                "name": "app", "ports": [{"containerPort": 8080, "name": "http"}],
                "securityContext": {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}},
                "readinessProbe": {"httpGet": {"port": "http"}},
            }],
            "ephemeralContainers": [{"name": "debug"}],
        },
        "status": {
            "phase": "Running", "podIPs": [{"ip": "10.0.0.1"}],
            "containerStatuses": [{"name": "app", "containerID": "containerd://abc", "image": "", "imageID": "", "ready": true, "restartCount": 0}],
        },
    }));
    let shown: Vec<_> = pod.containers.iter().map(|c| (c.name.as_str(), c.form, c.user, c.privileged)).collect();
    assert_eq!(
        shown,
        [
            ("setup", ContainerForm::Init, Some(1000), true),
            ("front-proxy", ContainerForm::Sidecar, Some(1337), false),
            ("app", ContainerForm::App, Some(1000), false),
            ("debug", ContainerForm::Ephemeral, Some(1000), false),
        ]
    );
    let app = &pod.containers[2];
    assert_eq!((app.group, app.id.as_deref()), (Some(2000), Some("containerd://abc")));
    assert_eq!(
        (app.added.as_slice(), app.dropped.as_slice()),
        (&["NET_ADMIN".to_owned()][..], &["ALL".to_owned()][..])
    );
    assert_eq!(
        pod.annotations.keys().map(String::as_str).collect::<Vec<_>>(),
        ["k8s.v1.cni.cncf.io/network-status", "sidewall.dev/split"]
    );
    assert!(pod.own_users && pod.shares_processes && !pod.host_network && !pod.deleting && !pod.ended());
    assert_eq!((pod.runtime_class.as_deref(), pod.runtime_uid.as_str()), (Some("gvisor"), "u-1"));
    let identities = Identities::Cgroup { level: 3, containers: BTreeMap::new(), pods_level: 1, pods: 1 };
    let subject =
        pod.subject(vec!["10.9.9.9".parse().unwrap()], Some("eth0".to_owned()), identities, Attachments::default());
    let subject = subject.unwrap();
    // What the node found, not what the pod's status says.
    assert_eq!(subject.addresses, ["10.9.9.9".parse::<IpAddr>().unwrap()]);
    let names: Vec<_> = subject.containers.values().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["setup", "front-proxy", "app", "debug"]);
    assert_eq!(subject.containers.values().nth(2).unwrap().probes, [8080].into());
}

#[test]
fn a_mirrored_pod_has_two_identities() {
    let pod = pod(json!({
        "metadata": {"name": "etcd", "namespace": "kube-system", "uid": "api", "annotations": {"kubernetes.io/config.mirror": "file"}},
    }));
    assert_eq!((pod.uid.as_str(), pod.runtime_uid.as_str()), ("api", "file"));
}

#[test]
fn a_pod_with_too_many_containers_says_so() {
    let containers: Vec<_> = (0..300).map(|n| json!({"name": format!("c{n}")})).collect();
    let pod = pod(json!({"metadata": {"name": "many"}, "spec": {"containers": containers}}));
    assert_eq!(pod.containers.len(), 300);
    let identities = Identities::Cgroup { level: 3, containers: BTreeMap::new(), pods_level: 1, pods: 1 };
    assert!(pod.numbered.is_err() && pod.subject(Vec::new(), None, identities, Attachments::default()).is_err());
}
