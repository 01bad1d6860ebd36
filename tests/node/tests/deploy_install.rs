//! `sidewall install`: what it writes is what Helm renders, and a real API server takes it at once, and lets it go again in the order that
//! it tells. Needs root.
#![forbid(unsafe_code)]

use std::process::Command;

use deployed::{Bed, NAMESPACE, helm};
use serde_json::json;
use sidewall_node_tests::api::Api;
use sidewall_node_tests::cell::output;
use sidewall_node_tests::parts;

mod deployed;

fn install(arguments: &[&str]) -> String {
    let mut sidewall = Command::new(parts::built("sidewall").unwrap());
    sidewall.env_clear().arg("install").args(arguments);
    output(&mut sidewall).unwrap()
}

/// The lines that count: not what says where they come from, and not the checksums, which differ in how they are made.
fn lines(text: &str) -> Vec<&str> {
    let counts = |line: &&str| !line.starts_with("# Written by") && !line.contains("checksum/configuration");
    text.lines().filter(counts).collect()
}

#[test]
fn it_writes_what_helm_renders() {
    for (own, values) in [
        (&["--preset=kubeadm"][..], &[][..]),
        (&["--preset=k3s", "--no-agent"], &["preset=k3s", "agent.enabled=false"]),
        (&["--preset=talos", "--no-operator"], &["preset=talos", "operator.enabled=false"]),
        (
            &["--preset=openshift", "--image-repository=registry.example/s", "--tag=v9"],
            &[
                "preset=openshift",
                "image.repository=registry.example/s/sidewall-agent",
                "operator.image.repository=registry.example/s/sidewall-operator",
                "proxy.image.repository=registry.example/s/sidewall-proxy",
                "image.tag=v9",
                "operator.image.tag=v9",
                "proxy.image.tag=v9",
            ],
        ),
    ] {
        for namespace in [NAMESPACE, "walls"] {
            let more = ["--no-crds".to_owned(), format!("--namespace={namespace}")];
            let all: Vec<&str> = own.iter().copied().chain(more.iter().map(String::as_str)).collect();
            let start = ["template", "sidewall", "sidewall", "--kube-version=1.30.0", "--namespace", namespace];
            let common = ["namespace.create=true", "crds.install=false"];
            let sets = common.iter().chain(values).flat_map(|value| ["--set", value]);
            let rendered = helm(&start.into_iter().chain(sets).collect::<Vec<_>>()).unwrap();
            let written = install(&all);
            assert_eq!(lines(written.trim_end()), lines(rendered.trim_end()), "{all:?}");
        }
    }
}

fn gone(admin: &Api, arguments: &[&str]) {
    let error = admin.get(arguments).unwrap_err().to_string();
    assert!(error.contains("NotFound"), "{arguments:?}: {error}");
}

#[test]
fn one_apply_installs_and_the_told_order_uninstalls() {
    let bed = Bed::new();
    let admin = bed.admin();
    // As on a cluster that has never seen us.
    admin.delete(&sidewall_api::crd::crd_yaml()).unwrap();
    admin.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]).unwrap();
    // Nobody empties namespaces here: another one.
    let walls = "--namespace=walls";
    admin.apply(&install(&[walls])).unwrap();
    let image = |kind: &str, name: &str| {
        admin.get(&["-n", "walls", kind, name]).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(image("daemonset", "sidewall-agent"), format!("sidewall/sidewall-agent:{version}"));
    assert_eq!(image("deployment", "sidewall-operator"), format!("sidewall/sidewall-operator:{version}"));
    // An upgrade is the same once more.
    admin.apply(&install(&[walls, "--tag=next"])).unwrap();
    assert_eq!(image("deployment", "sidewall-operator"), "sidewall/sidewall-operator:next");

    // What a user has by the time that it is taken away; the operator does not run here, so that it is made without its webhooks.
    for (kind, name) in [("mutating", "sidewall-inject"), ("validating", "sidewall-validate")] {
        admin.kubectl(&["delete", &format!("{kind}webhookconfiguration"), name]).unwrap();
    }
    let proxy = json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"podSelector": {}, "listeners": [{"port": 8443, "forward": {"port": 8080}, "anonymous": true}]},
    });
    sidewall_node_tests::until::until("the webhooks to be forgotten", deployed::LIMIT, || {
        Ok(admin.apply(&proxy.to_string()).map_err(|error| error.to_string()))
    })
    .unwrap();
    let uid = admin.get(&["sidecarproxy", "web"]).unwrap()["metadata"]["uid"].clone();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "sidewall-proxy-web", "namespace": "default", "labels": {"app.kubernetes.io/managed-by": "sidewall-operator"},
        },
    });
    let as_operator = "--as=system:serviceaccount:walls:sidewall-operator";
    admin.with_input(&["create", "-f", "-", as_operator], &map.to_string()).unwrap();

    admin.apply(&install(&[walls, "--uninstall"])).unwrap();
    let agents = admin.get(&["-n", "walls", "daemonset", "sidewall-agent"]).unwrap();
    assert_eq!(agents["spec"]["template"]["spec"]["initContainers"][0]["args"][0], "uninstall");
    let delete = ["delete", "--wait=false", "--ignore-not-found", "-f", "-"];
    admin.with_input(&delete, &install(&[walls, "--no-crds"])).unwrap();
    for what in [
        &["-n", "walls", "daemonset", "sidewall-agent"][..],
        &["-n", "walls", "deployment", "sidewall-operator"],
        &["clusterrole", "sidewall-operator"],
        &["clusterrolebinding", "sidewall-operator-secrets"],
        &["validatingadmissionpolicy", "sidewall-reserved-pod-keys"],
    ] {
        gone(admin, what);
    }
    // Running pods keep what they read; the kinds stay, and with them the SidecarProxies.
    assert_eq!(admin.get(&["sidecarproxy", "web"]).unwrap()["metadata"]["uid"], uid);
    admin.get(&["configmap", "sidewall-proxy-web"]).unwrap();
}
