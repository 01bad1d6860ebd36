//! A front proxy that captures what aims at the application, and answers the kubelet's probes, in a pod on this machine.
//! Needs root, and `sidewall-proxy` beside `sidewall`: cargo build -p sidewall-proxy.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use common::{Background, PATIENCE, files, hello, json, run};
use nix::sys::signal::Signal;
use serde_json::Value;

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 5
  initContainers:
  - name: front-proxy
    restartPolicy: Always
    command: [sidewall-proxy, --config, proxy.yaml]
    ports: [{containerPort: 80}]
    startupProbe: {httpGet: {port: 15411, path: /healthz}, periodSeconds: 1, failureThreshold: 30}
    readinessProbe: {httpGet: {port: 15411, path: /readyz}, periodSeconds: 1}
    securityContext: {runAsUser: 20001, runAsGroup: 20001}
  containers:
  - name: app
    command: [sidewall, internal, hello]
    args: ['--listen=127.0.0.1:8080', '--metrics=127.0.0.1:8081']
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {port: 15411, path: /probe/app/readiness}, periodSeconds: 1}
    securityContext: {runAsUser: 20002, runAsGroup: 20002}
";

const LISTENERS: &str = "\
listeners:
- port: 80
  forward: {port: 8080}
  authentication:
  - basic: {htpasswdFile: users.htpasswd, realm: Protected}
probes:
  targets:
  - {container: app, occasion: readiness, httpGet: {port: 8080, path: /}}
capture: {inbound: [8080]}
";

fn sidecar_proxy() -> String {
    let spec: String = LISTENERS.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: sidewall.dev/v1alpha1\nkind: SidecarProxy\nmetadata: {{name: web}}\nspec:\n  podSelector: {{matchLabels: {{app: web}}}}\n{spec}"
    )
}

fn pod_files() -> tempfile::TempDir {
    let users = std::fs::read_to_string(hello().join("users.htpasswd")).unwrap();
    let proxy = sidecar_proxy();
    files(&[("pod.yaml", POD), ("policy.yaml", &proxy), ("proxy.yaml", LISTENERS), ("users.htpasswd", &users)])
}

/// What comes back for a request; nothing where the connection is closed instead.
fn answer(to: SocketAddr, credentials: Option<&str>) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let authorization = credentials.map(|word| format!("Authorization: Basic {word}\r\n")).unwrap_or_default();
    // A relay that finds nobody closes while we write.
    let _ =
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n{authorization}\r\n").as_bytes());
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

fn published(started: &Value, port: u64) -> SocketAddr {
    let all = started["published"].as_array().unwrap();
    let one = all.iter().find(|one| one["port"] == port).unwrap_or_else(|| panic!("{port} in {started}"));
    one["at"].as_str().unwrap().parse().unwrap()
}

#[test]
fn what_aims_at_the_application_is_asked_for_its_password() {
    for identity in ["cgroup", "uid"] {
        let (dir, state) = (pod_files(), files(&[]));
        let place = state.path().to_str().unwrap();
        let mut arguments = vec!["run", "pod.yaml", "--policy", "policy.yaml", "--output=json", "--identity", identity];
        arguments.extend(["--state-dir", place]);
        arguments.extend(["0:80", "0:8080", "0:15412", "0:8081"].iter().flat_map(|port| ["--publish", port]));
        let mut up = Background::start(dir.path(), &arguments);
        let started = up.event("started", |_| true);
        // The probes have been asked at the proxy's port, under the walls: else nobody would be ready.
        up.event("container", |event| event["container"] == "app" && event["state"] == "ready");
        for port in [80, 8080] {
            let at = published(&started, port);
            let refused = answer(at, None);
            assert!(refused.starts_with("HTTP/1.1 401 "), "{identity}, {port}: {refused}");
            let let_in = answer(at, Some("YWRtaW46YWRtaW4="));
            assert!(let_in.starts_with("HTTP/1.1 200 ") && let_in.ends_with("Hello World!\n"), "{identity}: {let_in}");
        }
        // Straight to the capture port, and to what the application tells: a wall stands there.
        let mut tried = Vec::new();
        for port in [15412, 8081] {
            let at = published(&started, port);
            tried.push(std::thread::spawn(move || answer(at, Some("YWRtaW46YWRtaW4="))));
            let told = up.event("flow", |event| event["flow"]["port"] == port && event["flow"]["verdict"] == "deny");
            assert_eq!(told["flow"]["direction"], "ingress", "{identity}: {told}");
        }
        up.signal(Signal::SIGTERM);
        up.event("ended", |_| true);
        assert_eq!(up.code(), 0);
        for tried in tried {
            assert_eq!(tried.join().unwrap(), "", "{identity}");
        }
    }
}

#[test]
fn explain_and_matrix_show_where_it_is_led() {
    let dir = pod_files();
    let explain = |to: &str, identity: &str| {
        let words = [
            "explain",
            "pod.yaml",
            "192.0.2.1",
            to,
            "--port",
            "8080",
            "--identity",
            identity,
            "--policy",
            "policy.yaml",
        ];
        run(dir.path(), &words)
    };
    for identity in ["cgroup", "uid"] {
        let (code, out, err) = explain("front-proxy", identity);
        assert_eq!(code, 0, "{out}{err}");
        assert!(out.contains("SidecarProxy default/web captures it: it arrives at port 15412"), "{out}");
        let (code, out, _) = explain("app", identity);
        assert_eq!(code, 1, "{out}");
        assert!(out.contains("captures what comes to TCP/8080 from the network for front-proxy"), "{out}");
    }
    let (_, matrix) = json(
        dir.path(),
        &["matrix", "pod.yaml", "--policy", "policy.yaml", "--peer", "client=192.0.2.1", "--output=json"],
    );
    let verdict = |from: &str, to: &str, port: u64| {
        let flows = matrix["flows"].as_array().unwrap();
        let is = |flow: &&Value| flow["from"] == from && flow["to"] == to && flow["port"] == port;
        flows.iter().find(is).unwrap_or_else(|| panic!("{from} {to} {port} in {matrix:#}"))["verdict"].clone()
    };
    for (from, to, port, expected) in [
        ("client", "front-proxy", 80, "allow"),
        ("client", "front-proxy", 8080, "allow"),
        ("client", "app", 8080, "deny"),
        ("client", "front-proxy", 15411, "deny"),
        ("node", "front-proxy", 15411, "allow"),
        ("front-proxy", "app", 8080, "allow"),
        ("node", "app", 8080, "deny"),
    ] {
        assert_eq!(verdict(from, to, port), expected, "{from} to {to} {port}");
    }
}

/// Every pair, by real attempts: what is led to the proxy arrives there.
#[test]
fn the_kernel_does_what_the_matrix_says() {
    let dir = pod_files();
    for identity in ["cgroup", "uid"] {
        let state = files(&[]);
        let words = ["matrix", "pod.yaml", "--probe", "--policy", "policy.yaml", "--peer", "client=192.0.2.1"];
        let more = ["--identity", identity, "--output=json", "--state-dir", state.path().to_str().unwrap()];
        let (code, report) = json(dir.path(), &[words.as_slice(), &more].concat());
        assert_eq!((code, report["disagreements"].as_u64()), (0, Some(0)), "{report:#}");
        let flows = report["flows"].as_array().unwrap();
        let led = |flow: &&Value| flow["from"] == "client" && flow["to"] == "front-proxy" && flow["port"] == 8080;
        let led = flows.iter().find(led).expect("the captured port");
        assert_eq!((&led["verdict"], led["probe"].is_null()), (&Value::from("allow"), false), "{led}");
    }
}
