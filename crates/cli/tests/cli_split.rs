//! A pod that is split on this machine: the same policies, the same matrix, the same `localhost`. Needs root, and
//! `sidewall-proxy` beside `sidewall`: cargo build -p sidewall-proxy.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use common::{Background, PATIENCE, files, hello, json, pods, processes_in, run};
use nix::sys::signal::Signal;
use serde_json::Value;

/// An application, a metrics exporter that reads from it, and a log shipper that may read from the exporter.
const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: app
    command: [sidewall, internal, hello]
    args: ['--listen=127.0.0.1:8080', '--metrics=127.0.0.1:8081']
    ports: [{name: http, containerPort: 8080}, {name: admin, containerPort: 8081}]
  - name: metrics-exporter
    command: [sidewall, internal, hello]
    args: ['--listen=127.0.0.1:9100', '--metrics=127.0.0.1:9101']
    ports: [{name: metrics, containerPort: 9100}, {name: statsd, containerPort: 8125, protocol: UDP}]
  - name: log-shipper
    command: [sidewall, internal, ship]
    args: ['--metrics=127.0.0.1:9100', '--collector=127.0.0.1:8080', '--seconds=1']
";

const POLICIES: &str = "\
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: app}
spec:
  podSelector: {matchLabels: {app: web}}
  containers: [app]
  policyTypes: [Ingress]
  ingress:
  - from: [{container: metrics-exporter}]
    ports: [{port: admin}]
  - from: [{entity: PortForward}]
    ports: [{port: http}]
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: log-shipper}
spec:
  podSelector: {matchLabels: {app: web}}
  containers: [log-shipper]
  policyTypes: [Ingress, Egress]
  egress:
  - to: [{container: metrics-exporter}]
    ports: [{port: metrics}, {port: statsd, protocol: UDP}]
";

/// What a matrix says, by its flows.
fn verdicts(report: &Value) -> BTreeMap<String, String> {
    let flows = report["flows"].as_array().unwrap();
    let key = |flow: &Value| format!("{} {} {} {}", flow["from"], flow["to"], flow["protocol"], flow["port"]);
    flows.iter().map(|flow| (key(flow), flow["verdict"].as_str().unwrap().to_owned())).collect()
}

fn matrix(dir: &Path, input: &[&str], options: &[&str]) -> BTreeMap<String, String> {
    let args = [&["matrix"], input, &["--output", "json", "--state-dir", "state"], options].concat();
    let (code, report) = json(dir, &args);
    assert_eq!(code, 0, "{options:?}: {report:#}");
    verdicts(&report)
}

fn three() -> tempfile::TempDir {
    files(&[("pod.yaml", POD), ("policy.yaml", POLICIES)])
}

#[test]
fn split_and_shared_the_matrix_is_the_same() {
    let examples = hello();
    let dir = three();
    let hello: [&str; 4] = ["pod.yaml", "-p", "policy.yaml", "sidecarproxy.yaml"];
    let state = dir.path().join("state");
    let state = ["--state-dir", state.to_str().unwrap()];
    for (place, input) in [(examples.as_path(), hello.as_slice()), (dir.path(), &["pod.yaml", "-p", "policy.yaml"])] {
        for identity in ["cgroup", "uid"] {
            let with = |more: &[&'static str]| {
                let args = [&["matrix"], input, &["--output", "json", "--identity", identity], &state, more].concat();
                let (code, report) = json(place, &args);
                assert_eq!(code, 0, "{more:?}: {report:#}");
                verdicts(&report)
            };
            let shared = with(&[]);
            assert!(shared.values().any(|v| v == "allow") && shared.values().any(|v| v == "deny"), "{shared:?}");
            assert_eq!(with(&["--wall", "split"]), shared, "{identity}");
            for link in ["bridge", "macvlan"] {
                // Its exit code says that kernel and evaluator agree.
                let tried = with(&["--wall", "split", "--link", link, "--probe"]);
                assert_eq!(tried, shared, "{identity} {link}");
            }
        }
    }
    assert_eq!(pods(&dir.path().join("state")), Vec::<std::path::PathBuf>::new());
}

#[test]
fn parts_are_chosen_or_refused_with_the_way_out() {
    let dir = three();
    let input = ["pod.yaml", "-p", "policy.yaml"];
    let shared = matrix(dir.path(), &input, &[]);
    let parts = ["--wall", "split", "--part", "watch=metrics-exporter,log-shipper"];
    assert_eq!(matrix(dir.path(), &input, &parts), shared);
    assert_eq!(matrix(dir.path(), &input, &[&parts[..], &["--probe"]].concat()), shared);
    for (options, told) in [
        (vec!["--part", "a=app"], "add --wall split"),
        (vec!["--link", "macvlan"], "add --wall split"),
        (vec!["--wall", "split", "--part", "a=nobody"], "does not have"),
        (vec!["--wall", "split", "--part", "primary=app"], "choose another name"),
        (vec!["--wall", "split", "--part", "a=app,metrics-exporter,log-shipper"], "no container is left"),
        (vec!["--wall", "split", "--part", "a"], "NAME=CONTAINER"),
    ] {
        for command in ["matrix", "run"] {
            let (code, _, err) = run(dir.path(), &[&[command, "pod.yaml"], options.as_slice()].concat());
            assert!(code == 2 && err.contains(told), "{command} {options:?}: {code} {err}");
        }
    }
    let (code, _, err) = run(dir.path(), &["run", "pod.yaml", "--wall", "split", "--no-walls"]);
    assert!(code == 2 && err.contains("carried by its rules"), "{code} {err}");
}

fn answer(to: SocketAddr, credentials: &str) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request =
        format!("GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\nAuthorization: Basic {credentials}\r\n\r\n");
    let _ = stream.write_all(request.as_bytes());
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

/// The unchanged example: the proxy is in a part of its own, and the application behind it in another.
#[test]
fn the_example_answers_through_its_proxy() {
    let copied: Vec<(String, String)> =
        ["pod.yaml", "policy.yaml", "sidecarproxy.yaml", "proxy.yaml", "users.htpasswd"]
            .map(|name| (name.to_owned(), std::fs::read_to_string(hello().join(name)).unwrap()))
            .into();
    let copied: Vec<(&str, &str)> = copied.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let dir = files(&copied);
    let mut args = vec!["run", "pod.yaml", "-p", "policy.yaml", "sidecarproxy.yaml", "--wall", "split"];
    args.extend(["--publish", "0:80", "--state-dir", "state", "--output", "json"]);
    let mut pod = Background::start(dir.path(), &args);
    let mut published = None;
    let started = |event: &Value, published: &mut Option<SocketAddr>| {
        if let Some(at) = event["published"].as_array().and_then(|all| all.first()) {
            *published = Some(at["at"].as_str().unwrap().parse().unwrap());
        }
        published.is_some()
    };
    pod.event("started", |event| started(event, &mut published));
    pod.event("container", |event| event["container"] == "front-proxy" && event["state"] == "ready");
    // admin:admin
    let text = answer(published.unwrap(), "YWRtaW46YWRtaW4=");
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("Hello World!"), "{text}");
    let text = answer(published.unwrap(), "YWRtaW46b3RoZXI=");
    assert!(text.starts_with("HTTP/1.1 401"), "{text}");
    pod.signal(Signal::SIGTERM);
    assert_eq!(pod.code(), 0);
    assert_eq!(processes_in(dir.path()), Vec::<std::path::PathBuf>::new());
    assert_eq!(pods(&dir.path().join("state")), Vec::<std::path::PathBuf>::new());
}

/// Every part is told of a change, and the next flow is judged by it.
#[test]
fn policies_can_change_while_it_runs() {
    let dir = three();
    let args = ["run", "pod.yaml", "-p", "policy.yaml", "--wall", "split", "--state-dir", "state", "--output", "json"];
    let mut pod = Background::start(dir.path(), &args);
    let denied = |to: &'static str| {
        move |event: &Value| {
            let flow = &event["flow"];
            (&flow["container"], &flow["peer"]["container"], &flow["verdict"])
                == (&"log-shipper".into(), &to.into(), &"deny".into())
        }
    };
    // It reads its metrics in one part, and may not send them to another.
    let flow = pod.event("flow", denied("app"));
    let policies = flow["flow"]["policies"].as_array().unwrap();
    assert!(policies.iter().any(|policy| policy["name"] == "log-shipper"), "{flow:#}");
    let closed = POLICIES.replace("{port: metrics}", "{port: statsd}");
    assert_ne!(closed, POLICIES);
    std::fs::write(dir.path().join("policy.yaml"), closed).unwrap();
    for _ in 0..3 {
        pod.event("reloaded", |_| true);
    }
    pod.event("flow", denied("metrics-exporter"));
    pod.signal(Signal::SIGTERM);
    assert_eq!(pod.code(), 0);
    assert_eq!(processes_in(dir.path()), Vec::<std::path::PathBuf>::new());
    assert_eq!(pods(&dir.path().join("state")), Vec::<std::path::PathBuf>::new());
}
