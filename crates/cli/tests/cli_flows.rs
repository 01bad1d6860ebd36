//! `sidewall explain`, `matrix` and `test`, by the evaluator.

mod common;

use common::{files, hello, json, run};
use serde_json::Value;

const POLICIES: [&str; 3] = ["--policy", "policy.yaml", "sidecarproxy.yaml"];
const EXPLAIN: [&str; 5] = ["explain", "pod.yaml", "--policy=policy.yaml", "--policy=sidecarproxy.yaml", "--port"];

#[test]
fn an_explanation_says_who_isolates_and_what_would_allow() {
    let (code, out, err) = run(&hello(), &[&EXPLAIN[..], &["http", "log-shipper", "app"]].concat());
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(out.starts_with("denied: log-shipper to app, TCP/8080, in pod default/hello\n"), "{out}");
    for part in [
        "ContainerNetworkPolicy default/log-shipper",
        "SidecarProxy default/hello",
        "what would allow it:",
        "container: app",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    let (code, report) = json(&hello(), &[&EXPLAIN[..], &["8081", "log-shipper", "app", "--output=json"]].concat());
    assert_eq!((code, report["flows"][0]["verdict"].as_str()), (0, Some("allow")));
    assert_eq!(report["flows"][0]["sides"].as_array().unwrap().len(), 2);
}

#[test]
fn three_kinds_of_policies_are_one_example() {
    let edges = hello().join("../edges");
    let (code, out, err) = run(&edges, &["check", "--strict", "pod.yaml", "policies.yaml"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out, "1 ContainerNetworkPolicy, 1 MultiNetworkPolicy, 1 NetworkPolicy, 2 Pod: 0 errors, 0 warnings\n");
    let (code, out, err) = run(&edges, &["test", "cases.yaml"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let explain = ["explain", "pod.yaml", "--pod=web", "--policy=policies.yaml", "log-shipper"];
    let (code, out, _) = run(&edges, &[&explain[..], &["198.51.100.20", "--port=9000/TCP"]].concat());
    assert_eq!(code, 1);
    for part in [
        "egress of the pod: denied: isolated by NetworkPolicy shop/web",
        "egress of log-shipper: allowed",
        "add to spec.egress of NetworkPolicy shop/web",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    let (code, out, _) = run(&edges, &[&explain[..], &["10.9.0.2%net1", "--port=pg"]].concat());
    assert_eq!(code, 1);
    for part in [
        "10.9.0.2 (on shop/storage, pod shop/db, by its own word)",
        "the pod on shop/storage: allowed: MultiNetworkPolicy shop/storage egress[0]",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    // A device that the pod does not have is nobody's.
    assert_eq!(run(&edges, &[&explain[..], &["10.9.0.2%net7", "--port=80"]].concat()).0, 2);
}

/// The verdict of a field.
fn verdict<'a>(report: &'a Value, from: &str, to: &str, port: u64) -> &'a str {
    let flows = report["flows"].as_array().unwrap();
    let flow = flows.iter().find(|flow| flow["from"] == from && flow["to"] == to && flow["port"] == port);
    flow.unwrap_or_else(|| panic!("no {from} -> {to}:{port}"))["verdict"].as_str().unwrap()
}

#[test]
fn the_matrix_has_everybody_and_every_port() {
    let args = [
        &["matrix", "pod.yaml"],
        &POLICIES[..],
        &["--peer", "office=203.0.113.7", "--to", "198.51.100.10:9000", "--output=json"],
    ];
    let (code, report) = json(&hello(), &args.concat());
    assert_eq!((code, report["probed"].as_bool(), report["identity"].as_str()), (0, Some(false), Some("cgroup")));
    // Seven senders to three ports in the pod; five of them are in the pod and have the collector too.
    assert_eq!(report["flows"].as_array().unwrap().len(), 7 * 3 + 5);
    for (from, to, port, expected) in [
        ("front-proxy", "app", 8080, "allow"),
        ("log-shipper", "app", 8080, "deny"),
        ("log-shipper", "app", 8081, "allow"),
        ("log-shipper", "198.51.100.10", 9000, "allow"),
        ("app", "198.51.100.10", 9000, "deny"),
        ("unknown", "app", 8081, "deny"),
        ("port-forward", "front-proxy", 80, "allow"),
        ("node", "front-proxy", 80, "allow"),
        ("office", "app", 8080, "deny"),
    ] {
        assert_eq!(verdict(&report, from, to, port), expected, "{from} -> {to}:{port}");
    }
    let (_, out, _) = run(&hello(), &[&["matrix", "pod.yaml"], &POLICIES[..]].concat());
    assert_eq!(
        out,
        "\
from \\ to     front-proxy:80/TCP  app:8080/TCP  app:8081/TCP
front-proxy   allow               allow         deny
app           deny                allow         allow
log-shipper   deny                deny          allow
unknown       deny                deny          deny
port-forward  allow               deny          deny
node          allow               deny          deny
"
    );
}

#[test]
fn the_shipped_expectations_hold() {
    let (code, report) = json(&hello(), &["test", "cases.yaml", "--output", "json"]);
    assert_eq!((code, report["failed"].as_u64(), report["kernel"].as_bool()), (0, Some(0), Some(false)));
    assert!(report["passed"].as_u64().unwrap() >= 12);
}

fn cases(expect: &str) -> String {
    let hello = hello().canonicalize().unwrap();
    let hello = hello.display();
    format!(
        "pod: {hello}/pod.yaml\npolicies: ['{hello}/policy.yaml']\ncases:\n\
         - {{name: metrics, from: log-shipper, to: app, port: metrics, expect: Allow}}\n\
         - {{name: no secrets, from: log-shipper, to: app, port: http, expect: {expect}}}\n"
    )
}

#[test]
fn a_failed_expectation_is_explained() {
    let dir = files(&[("cases.yaml", &cases("Allow"))]);
    let (code, out, _) = run(dir.path(), &["test", "cases.yaml"]);
    assert_eq!(code, 1);
    assert!(out.contains("FAIL no secrets (log-shipper -> app 8080/TCP: expected allow, got deny)"), "{out}");
    assert!(out.contains("what would allow it:"), "{out}");
    assert!(out.ends_with("1 passed, 1 failed (by the policies)\n"), "{out}");
    let dir = files(&[("cases.yaml", &cases("Deny"))]);
    assert_eq!(run(dir.path(), &["test", "cases.yaml"]).0, 0);
}

#[test]
fn a_fault_in_the_cases_is_shown_at_its_place() {
    for (wrong, line) in [("Perhaps", 5), ("Deny, until: now", 5)] {
        let dir = files(&[("cases.yaml", &cases(wrong))]);
        let (code, _, err) = run(dir.path(), &["test", "cases.yaml"]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(&format!("--> cases.yaml:{line}:")), "{err}");
    }
}

#[test]
fn users_that_cannot_be_told_apart_are_refused() {
    let pod = std::fs::read_to_string(hello().join("pod.yaml")).unwrap().replace("20003", "20002");
    let dir = files(&[("pod.yaml", &pod)]);
    let (code, _, err) = run(dir.path(), &["matrix", "pod.yaml", "--identity", "uid"]);
    assert_eq!(code, 2);
    assert!(err.contains("app and log-shipper both have runAsUser 20002"), "{err}");
    assert_eq!(run(dir.path(), &["matrix", "pod.yaml", "--identity", "cgroup"]).0, 0);
}

#[test]
fn policies_can_come_from_standard_input() {
    let policies = std::fs::File::open(hello().join("policy.yaml")).unwrap();
    let out = common::sidewall()
        .current_dir(hello())
        .args(["explain", "pod.yaml", "--policy", "-", "log-shipper", "app", "--port", "http", "--output=json"])
        .stdin(policies)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((out.status.code(), report["flows"][0]["verdict"].as_str()), (Some(1), Some("deny")));
    // The pod and its policies in one text.
    let both =
        ["pod.yaml", "policy.yaml"].map(|name| std::fs::read_to_string(hello().join(name)).unwrap()).join("---\n");
    let dir = files(&[("both.yaml", &both)]);
    let out = common::sidewall()
        .args(["explain", "-", "log-shipper", "app", "--port=http"])
        .stdin(std::fs::File::open(dir.path().join("both.yaml")).unwrap())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stderr));
}
