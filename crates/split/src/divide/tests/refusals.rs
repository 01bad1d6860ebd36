//! What cannot be divided, and what is said of it.

use super::*;

/// The reasons for which a pod is refused.
fn refused_by(pod: &Value, split: &PodSplit) -> Vec<String> {
    let said = divide(pod, "shop", split, &key());
    said.err().map(|refusals| refusals.reasons.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

/// The one reason for which the fixture is refused after a change.
#[track_caller]
fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut pod = pod();
    change(&mut pod);
    let reasons = refused_by(&pod, &split());
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    reasons.into_iter().next().expect("one")
}

#[track_caller]
fn divides(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut pod = pod();
    change(&mut pod);
    assert_eq!(refused_by(&pod, &split()), Vec::<String>::new());
    divided(&pod).warnings
}

fn mount(pod: &mut Value, container: &str, mount: Value) {
    for pointer in ["/spec/containers", "/spec/initContainers"] {
        let list = pod.pointer_mut(pointer).and_then(Value::as_array_mut).expect("a list");
        if let Some(container) = list.iter_mut().find(|value| name_of(value) == container) {
            if !container["volumeMounts"].is_array() {
                container["volumeMounts"] = json!([]);
            }
            container["volumeMounts"].as_array_mut().expect("a list").push(mount.clone());
        }
    }
}

fn volume(pod: &mut Value, volume: Value) {
    pod["spec"]["volumes"].as_array_mut().expect("a list").push(volume);
}

/// A volume that the application and the exporter both mount.
fn both(source: Value) -> impl FnOnce(&mut Value) {
    move |pod| {
        let mut shared = source;
        shared["name"] = json!("shared");
        volume(pod, shared);
        for container in ["app", "metrics-exporter"] {
            mount(pod, container, json!({"name": "shared", "mountPath": "/s"}));
        }
    }
}

#[test]
fn what_the_whole_pod_shares() {
    assert!(refused(|pod| pod["spec"]["hostNetwork"] = json!(true)).contains("remove hostNetwork"));
    assert!(refused(|pod| pod["spec"]["shareProcessNamespace"] = json!(true)).contains("do not see each other"));
    assert!(refused(|pod| pod["spec"]["os"] = json!({"name": "windows"})).contains("only Linux"));
    assert!(
        refused(|pod| pod["spec"]["resources"] = json!({"limits": {"cpu": "1"}})).contains("say it of each container")
    );
    let debug = json!([{"name": "debug", "image": "sh"}]);
    assert!(refused(|pod| pod["spec"]["ephemeralContainers"] = debug).contains("ephemeralContainers"));
    assert!(refused(|pod| pod["spec"]["newInKubernetes"] = json!(1)).contains("spec.newInKubernetes is not known"));
    // Processes of the node are the same for every pod.
    divides(|pod| pod["spec"]["hostPID"] = json!(true));
    divides(|pod| pod["spec"]["hostNetwork"] = json!(false));
    divides(|pod| pod["spec"]["newInKubernetes"] = Value::Null);
}

#[test]
fn containers_that_are_not_there_or_not_what_they_should_be() {
    let part = |containers: Value, init: Value| {
        refused_by(&pod(), &split_of(json!([{"name": "x", "containers": containers, "initContainers": init}])))
    };
    let unknown = part(json!(["exporter"]), json!([]));
    assert_eq!(unknown.len(), 1, "{unknown:?}");
    assert!(unknown[0].contains("names the container \"exporter\", which the pod does not have"), "{unknown:?}");
    for (containers, init, what) in [
        (json!(["migrate"]), json!([]), "and it is an init container: name it under initContainers"),
        (json!(["metrics-exporter"]), json!(["log-shipper"]), "and it is a native sidecar: name it under containers"),
        (json!(["log-shipper"]), json!(["app"]), "and it is a container of the application: name it under containers"),
    ] {
        let said = part(containers, init);
        assert!(said.iter().any(|said| said.contains(what)), "{said:?}");
    }
    let all = part(json!(["app", "metrics-exporter"]), json!(["fetch-config", "migrate"]));
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].contains("leave one of them out"), "{all:?}");
    let twice = refused(|pod| volume(pod, json!({"name": "data", "emptyDir": {}})));
    assert!(twice.contains("spec.volumes has \"data\" twice"), "{twice}");
    assert!(
        refused(|pod| mount(pod, "app", json!({"name": "none", "mountPath": "/n"}))).contains("does not have: add it")
    );
}

#[test]
fn volumes_of_one_pod() {
    let said = refused(both(json!({"emptyDir": {}})));
    assert_eq!(
        said,
        "container \"app\" (the pod itself) and container \"metrics-exporter\" (part \"metrics\") both use the volume \"shared\", an \
         emptyDir, which two pods cannot share: put them in one part, or use a PersistentVolumeClaim"
    );
    assert!(refused(both(json!({"ephemeral": {}}))).contains("an ephemeral volume"));
    assert!(refused(both(json!({"csi": {"driver": "d"}}))).contains("inline CSI volume"));
    assert!(refused(both(json!({}))).contains("a volume of one pod"));
    assert!(refused(both(json!({"awsElasticBlockStore": {"volumeID": "v"}}))).contains("a volume of one pod"));
    for shared in [
        json!({"configMap": {"name": "c"}}),
        json!({"secret": {"secretName": "s"}}),
        json!({"hostPath": {"path": "/var/log"}}),
        json!({"csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true}}),
        json!({"nfs": {"server": "s", "path": "/"}}),
        json!({"image": {"reference": "r"}}),
    ] {
        divides(both(shared));
    }
    let warnings = divides(both(json!({"persistentVolumeClaim": {"claimName": "c"}})));
    assert!(warnings.iter().any(|warning| warning.contains("ReadWriteOncePod")), "{warnings:?}");
}

#[test]
fn what_an_init_container_hands_over() {
    let said = refused(|pod| mount(pod, "migrate", json!({"name": "exporter", "mountPath": "/e"})));
    assert!(
        said.contains("init container \"migrate\" (the pod itself) uses the volume \"exporter\", an emptyDir"),
        "{said}"
    );
    assert!(said.contains("name it under initContainers of that part"), "{said}");
    // A sidecar runs beside the others.
    let said = refused(|pod| mount(pod, "log-shipper", json!({"name": "exporter", "mountPath": "/e"})));
    assert!(said.contains("container \"log-shipper\" (part \"logs\") and container \"metrics-exporter\""), "{said}");
}

#[test]
fn pieces_of_volumes_that_two_have() {
    let with = |source: Value, extra: Value| {
        move |pod: &mut Value| {
            both(source)(pod);
            let mut piece = json!({"name": "shared", "mountPath": "/p"});
            for (field, value) in extra.as_object().expect("an object") {
                piece[field] = value.clone();
            }
            mount(pod, "app", piece);
        }
    };
    for piece in [json!({"subPath": "a"}), json!({"subPathExpr": "$(POD)"})] {
        let said = refused(with(json!({"persistentVolumeClaim": {"claimName": "c"}}), piece.clone()));
        assert!(said.contains("mounts a subPath of the volume \"shared\""), "{said}");
        divides(with(json!({"configMap": {"name": "c"}}), piece));
    }
    divides(with(json!({"hostPath": {"path": "/x"}}), json!({"subPath": ""})));
}

#[test]
fn devices_and_ports_of_the_node() {
    let claim = json!({"claims": [{"name": "gpu"}]});
    assert!(refused(|pod| pod["spec"]["containers"][1]["resources"] = claim.clone()).contains("uses a resource claim"));
    divides(|pod| pod["spec"]["containers"][0]["resources"] = claim.clone());
    let port = |number: i32, host: Value| {
        move |pod: &mut Value| {
            for container in 0..2 {
                let port = json!({"containerPort": 1000 + container, "hostPort": number, "hostIP": host[container]});
                pod["spec"]["containers"][container]["ports"].as_array_mut().expect("a list").push(port);
            }
        }
    };
    assert!(refused(port(9000, json!(["", ""]))).contains("port TCP/9000 of the node"));
    assert!(refused(port(9000, json!(["10.0.0.1", "0.0.0.0"]))).contains("port TCP/9000 of the node"));
    divides(port(9000, json!(["10.0.0.1", "10.0.0.2"])));
    divides(port(0, json!(["", ""])));
}

#[test]
fn probes_and_hooks_that_would_ask_the_wrong_pod() {
    let probe = json!({"httpGet": {"port": 8080, "path": "/"}});
    let said = refused(|pod| pod["spec"]["containers"][1]["livenessProbe"] = probe.clone());
    assert!(
        said.starts_with(
            "livenessProbe of container \"metrics-exporter\" (part \"metrics\") asks port 8080, which container \"app\""
        ),
        "{said}"
    );
    let hook = json!({"preStop": {"httpGet": {"port": "9100", "path": "/"}}});
    assert!(
        refused(|pod| pod["spec"]["containers"][0]["lifecycle"] = hook)
            .starts_with("lifecycle.preStop of container \"app\"")
    );
    assert!(
        refused(|pod| pod["spec"]["containers"][0]["startupProbe"] = json!({"grpc": {"port": 9100}})).contains("9100")
    );
    // One's own port, a port that nobody declares, another host, a command.
    divides(|pod| pod["spec"]["containers"][0]["livenessProbe"] = probe.clone());
    divides(|pod| pod["spec"]["containers"][1]["livenessProbe"] = json!({"tcpSocket": {"port": 7}}));
    divides(|pod| {
        pod["spec"]["containers"][1]["livenessProbe"] = json!({"tcpSocket": {"port": 8080, "host": "10.0.0.1"}})
    });
    divides(|pod| {
        pod["spec"]["containers"][1]["livenessProbe"] = json!({"exec": {"command": ["curl", "localhost:8080"]}})
    });
}

#[test]
fn what_containers_ask_about_others_and_files_about_the_pod() {
    let ask = |other: &str| json!([{"name": "CPU", "valueFrom": {"resourceFieldRef": {"containerName": other, "resource": "limits.cpu"}}}]);
    let said = refused(|pod| pod["spec"]["containers"][1]["env"] = ask("app"));
    assert!(said.starts_with("env \"CPU\" of container \"metrics-exporter\" (part \"metrics\") asks for the resources of container \"app\""), "{said}");
    divides(|pod| pod["spec"]["containers"][1]["env"] = ask("metrics-exporter"));
    let file = |item: Value| {
        move |pod: &mut Value| {
            volume(pod, json!({"name": "info", "downwardAPI": {"items": [item]}}));
            mount(pod, "metrics-exporter", json!({"name": "info", "mountPath": "/i"}));
        }
    };
    let said = refused(file(json!({"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}})));
    assert!(
        said.contains("has metadata.labels in a file, which in part \"metrics\" would be the part's own"),
        "{said}"
    );
    let resource = json!({"path": "c", "resourceFieldRef": {"containerName": "app", "resource": "limits.cpu"}});
    assert!(refused(file(resource)).starts_with("resourceFieldRef of the volume \"info\""));
    divides(file(json!({"path": "n", "fieldRef": {"fieldPath": "metadata.namespace"}})));
    // In the pod itself it tells of the pod.
    divides(|pod| {
        volume(
            pod,
            json!({"name": "info", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
        );
        mount(pod, "app", json!({"name": "info", "mountPath": "/i"}));
    });
}

#[test]
fn what_does_not_fit() {
    let said = refused(|pod| pod["spec"]["containers"][1]["args"] = json!(["x".repeat(RECORD_MAX)]));
    assert!(said.contains("and at most 131072 can be kept in an annotation"), "{said}");
    let said = refused(|pod| {
        pod["spec"]["containers"][1]["args"] = json!(["x".repeat(100_000)]);
        pod["metadata"]["annotations"]["long"] = json!("x".repeat(160_000));
    });
    assert!(said.contains("the annotations of this pod would be"), "{said}");
}

#[test]
fn a_pod_that_is_none_is_refused_and_all_reasons_are_told() {
    let reasons = refused_by(&json!({"spec": {"containers": 1}}), &split());
    assert_eq!(reasons, ["it is no pod that can be read: spec.containers is not what a pod has there"]);
    let mut pod = pod();
    pod["spec"]["hostNetwork"] = json!(true);
    both(json!({"emptyDir": {}}))(&mut pod);
    pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] = json!("[");
    let refusals = divide(&pod, "shop", &split(), &key()).expect_err("three reasons");
    assert_eq!(refusals.reasons.len(), 3, "{refusals}");
    let said = refusals.to_string();
    assert!(
        said.starts_with("PodSplit \"web\" selects this pod, and it cannot be split: spec.hostNetwork is true"),
        "{said}"
    );
}

#[test]
fn who_runs_to_an_end_is_told_that_nobody_waits() {
    let warnings = divides(|pod| pod["spec"]["restartPolicy"] = json!("Never"));
    assert!(
        warnings.contains(&"\"metrics-exporter\" will end with the pod, which does not wait for them".to_owned()),
        "{warnings:?}"
    );
}
