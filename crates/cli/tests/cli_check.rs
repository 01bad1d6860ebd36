//! `sidewall check`, and what every command does with bad input.

mod common;

use common::{files, hello, json, run};

const POLICY: &str = "\
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: shipper}
spec:
  podSelector: {matchLabels: {app: web}}
  containers: [log-shipper]
  egress:
  - to: [{container: app}]
    ports: [{port: metrics}]
";

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: app, image: app, ports: [{name: http, containerPort: 8080}]}
  - {name: log-shipper, image: shipper}
";

#[test]
fn a_mistake_is_shown_at_its_place() {
    let dir =
        files(&[("bad.yaml", &POLICY.replace("containers:", "container:").replace("{port: metrics}", "{port: 0}"))]);
    let (code, out, err) = run(dir.path(), &["check", "bad.yaml"]);
    assert_eq!(code, 2, "{err}");
    assert_eq!(out, "no objects: 2 errors, 0 warnings\n");
    let shown = err.lines().filter(|line| !line.starts_with("error:")).collect::<Vec<_>>().join("\n");
    assert_eq!(
        shown,
        " --> bad.yaml:6:3
  |
6 |   container: [log-shipper]
  |   ^^^^^^^^^
  = spec.container

 --> bad.yaml:9:20
  |
9 |     ports: [{port: 0}]
  |                    ^
  = spec.egress[0].ports[0].port
"
    );
    assert!(err.starts_with("error: unknown field \"container\""), "{err}");
}

#[test]
fn json_has_every_place() {
    let dir = files(&[("bad.yaml", &POLICY.replace("egress:", "egres:"))]);
    let (code, report) = json(dir.path(), &["check", "bad.yaml", "--output", "json"]);
    assert_eq!((code, report["ok"].as_bool(), report["errors"].as_u64()), (2, Some(false), Some(1)));
    let found = &report["diagnostics"][0];
    assert_eq!(
        (found["file"].as_str(), found["line"].as_u64(), found["column"].as_u64()),
        (Some("bad.yaml"), Some(7), Some(3))
    );
    assert_eq!(found["field"], "spec.egres");
}

#[test]
fn what_means_nothing_for_a_pod_is_a_warning() {
    let dir = files(&[("pod.yaml", POD), ("policy.yaml", &POLICY.replace("container: app", "container: ap"))]);
    let (code, report) = json(dir.path(), &["check", "pod.yaml", "policy.yaml", "--output=json"]);
    assert_eq!((code, report["errors"].as_u64(), report["warnings"].as_u64()), (0, Some(0), Some(1)), "{report}");
    let found = &report["diagnostics"][0];
    assert_eq!((found["file"].as_str(), found["severity"].as_str()), (Some("policy.yaml"), Some("warning")));
    assert!(found["message"].as_str().unwrap().contains("\"ap\""), "{report}");
    assert_eq!(run(dir.path(), &["check", "--strict", "pod.yaml", "policy.yaml"]).0, 1);
}

#[test]
fn the_shipped_example_is_sound() {
    let (code, out, err) = run(&hello(), &["check", "--strict", "pod.yaml", "policy.yaml", "sidecarproxy.yaml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "3 ContainerNetworkPolicy, 1 Pod, 1 SidecarProxy: 0 errors, 0 warnings\n");
}

#[test]
fn policies_of_the_edge_are_checked_as_the_api_server_does() {
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec:\n  podSelector: {}\n  \
                  ingress:\n  - from:\n    - podSelector: {}\n      ipBlock: {cidr: 10.0.0.0/8}\n";
    let multi =
        "apiVersion: k8s.cni.cncf.io/v1beta1\nkind: MultiNetworkPolicy\nmetadata: {name: a}\nspec: {podSelector: {}}\n";
    let dir = files(&[("bad.yaml", policy), ("multi.yaml", multi)]);
    let (code, _, err) = run(dir.path(), &["check", "bad.yaml"]);
    assert!(code == 2 && err.contains("make them two entries of the list") && err.contains("bad.yaml:8:7"), "{err}");
    let (code, _, err) = run(dir.path(), &["check", "multi.yaml"]);
    assert!(code == 2 && err.contains("names no network"), "{err}");
}

#[test]
fn what_a_pod_says_of_its_networks_is_checked() {
    let status = "[{\"name\": \"link\", \"interface\": \"lo\"}]";
    let pod = POD.replace(
        "metadata: {",
        &format!("metadata: {{annotations: {{k8s.v1.cni.cncf.io/network-status: '{status}'}}, "),
    );
    let dir = files(&[("pod.yaml", &pod)]);
    let (code, report) = json(dir.path(), &["check", "pod.yaml", "--output=json"]);
    let found = &report["diagnostics"][0];
    assert!(code == 0 && found["message"].as_str().unwrap().contains("which it can't be"), "{report}");
    assert_eq!((found["file"].as_str(), found["field"].as_str()), (Some("pod.yaml"), Some("metadata")));
}

#[test]
fn bad_input_and_bad_usage_are_2() {
    let dir = files(&[("pod.yaml", POD), ("bad.yaml", &POLICY.replace("spec:", "specs:")), ("two.yaml", &two())]);
    for args in [
        vec!["check"],
        vec!["nonsense"],
        vec!["check", "missing.yaml"],
        vec!["matrix", "bad.yaml"],
        vec!["matrix", "two.yaml"],
        vec!["matrix", "two.yaml", "--pod", "other"],
        vec!["matrix", "pod.yaml", "--policy", "bad.yaml"],
        vec!["explain", "pod.yaml", "app", "nobody"],
        vec!["explain", "pod.yaml", "app", "log-shipper"],
        vec!["explain", "pod.yaml", "192.0.2.1", "192.0.2.2", "--port", "80"],
        vec!["explain", "pod.yaml", "log-shipper", "app", "--port", "metrics"],
        vec!["explain", "pod.yaml", "log-shipper", "127.0.0.1", "--port", "8080"],
        vec!["test", "pod.yaml"],
        vec!["run", "pod.yaml", "--publish", "80"],
    ] {
        let (code, out, err) = run(dir.path(), &args);
        assert_eq!(code, 2, "{args:?}\n{out}\n{err}");
        assert!(!err.is_empty(), "{args:?}");
    }
    assert_eq!(run(dir.path(), &["matrix", "two.yaml", "--pod", "web"]).0, 0);
}

fn two() -> String {
    format!("{POD}---\n{}", POD.replace("name: web,", "name: web2,"))
}

#[test]
fn completions_and_help() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run(&hello(), &["completions", shell]);
        assert!(code == 0 && out.contains("matrix"), "{shell}");
    }
    let (code, out, _) = run(&hello(), &["--help"]);
    assert!(code == 0 && out.contains("Exit codes:") && !out.contains("internal"), "{out}");
    for command in ["run", "check", "matrix", "explain", "test", "demo"] {
        let (code, out, _) = run(&hello(), &[command, "--help"]);
        assert!(code == 0 && out.contains("Example"), "{command}: {out}");
    }
}

#[test]
fn what_is_hardly_meant_is_a_warning_at_its_place() {
    let twice =
        POLICY.to_owned() + "  - to: [{container: app}]\n    ports: [{port: metrics}]\n  - to: [{entity: World}]\n";
    let pod = POD.replace("image: shipper}", "image: shipper, securityContext: {runAsUser: 1000, privileged: true}}");
    let dir = files(&[("policy.yaml", &twice), ("pod.yaml", &pod)]);
    let (code, report) = json(dir.path(), &["check", "--strict", "policy.yaml", "pod.yaml", "--output", "json"]);
    assert_eq!(code, 1, "{report}");
    let found: Vec<(String, u64, String)> = report["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| {
            let text = |key: &str| d[key].as_str().unwrap_or_default().to_owned();
            (text("file"), d["line"].as_u64().unwrap_or_default(), text("field"))
        })
        .collect();
    for (file, line, path) in [
        ("policy.yaml", 8, "spec.egress"),
        ("policy.yaml", 9, "spec.egress[1]"),
        ("pod.yaml", 7, "spec.containers[1].securityContext.privileged"),
    ] {
        let there = found.iter().any(|(f, l, p)| f == file && p == path && l.abs_diff(line) <= 1);
        assert!(there, "{file}:{line} {path} is not in {found:#?}");
    }
    let uid = |identity: &str| {
        let (_, report) =
            json(dir.path(), &["check", "--identity", identity, "policy.yaml", "pod.yaml", "--output", "json"]);
        let found = report["diagnostics"].as_array().unwrap().iter();
        found.filter(|d| d["field"].as_str().is_some_and(|p| p.ends_with("runAsUser"))).count()
    };
    assert_eq!((uid("cgroup"), uid("uid")), (0, 1));
}
