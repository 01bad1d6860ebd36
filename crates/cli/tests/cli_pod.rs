//! `sidewall run`, `test --kernel` and `matrix --probe`, with real pods. They need root.

mod common;

use std::net::SocketAddr;
use std::path::Path;

use common::{Background, files, hello, json, pods, processes_in, run};
use nix::sys::signal::Signal;
use sidewall_sandbox::prober::{Connect, Outcome, Prober, Protocol};
use sidewall_sandbox::{Identity, LivePod, attach};

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 3
  containers:
  - name: app
    command: [sidewall, internal, hello, '--listen=0.0.0.0:8080', '--metrics=127.0.0.1:8081']
    ports: [{name: http, containerPort: 8080}]
  - name: client
    command: [sleep, '600']
";

const OPEN: &str = "\
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: app}
spec:
  podSelector: {matchLabels: {app: web}}
  containers: [app]
  ingress:
  - from: [{container: client}]
    ports: [{port: http}]
";

fn closed() -> String {
    OPEN.replace("container: client", "container: nobody")
}

/// A probe in a pod of another process.
fn prober(pod: &LivePod, identity: &Identity) -> Prober {
    let file = std::fs::File::open(env!("CARGO_BIN_EXE_sidewall")).unwrap();
    let launch = sidewall_netns::Launch::from_file(file, "sidewall").args(["internal", "prober", "test"]);
    Prober::start(pod.confine(identity, launch).unwrap()).unwrap()
}

fn connect(prober: &Prober, to: SocketAddr) -> Outcome {
    let connect = Connect { keep: true, await_name: false, ..Connect::new(Protocol::Tcp, to, 900) };
    prober.connect(connect).unwrap()
}

fn ask(prober: &Prober, handle: u64) -> Outcome {
    match prober.send(handle, "GET / HTTP/1.1\r\nHost: app\r\n\r\n").unwrap() {
        Outcome::Sent => prober.receive(handle, 20_000).unwrap(),
        other => other,
    }
}

fn arguments<'a>(state: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "pod.yaml", "--policy", "policy.yaml", "--output=json", "--state-dir", state], more].concat()
}

#[track_caller]
fn nothing_left(state: &Path, dir: &Path, pod: &LivePod) {
    assert!(pods(state).is_empty(), "a pod is still written down");
    assert!(!pod.info().cgroup.path.exists(), "its cgroup is there");
    assert!(!Path::new("/sys/class/net").join(&pod.info().node_interface).exists(), "its link is there");
    assert_eq!(processes_in(dir), Vec::<std::path::PathBuf>::new(), "its processes are there");
}

#[test]
fn a_change_of_policy_ends_a_live_connection() {
    let dir = files(&[("pod.yaml", POD), ("policy.yaml", OPEN)]);
    let state = files(&[]);
    let mut up = Background::start(dir.path(), &arguments(state.path().to_str().unwrap(), &["--publish", "0:8080"]));
    let started = up.event("started", |_| true);
    assert_eq!((started["walls"].as_bool(), started["namespace"].as_str()), (Some(true), Some("default")), "{started}");
    assert_eq!(started["published"][0]["port"], 8080);
    up.event("log", |event| event["container"] == "app");

    let pod = attach(state.path(), "default", "web").unwrap();
    let client = prober(&pod, &Identity::Container("client".into()));
    let app: SocketAddr = "127.0.0.1:8080".parse().unwrap();
    let Outcome::Connected { handle: Some(live), .. } = connect(&client, app) else { panic!("not connected") };
    let Outcome::Received { text } = ask(&client, live) else { panic!("no answer") };
    assert!(text.ends_with("Hello World!\n"), "{text}");

    // A version with an error is refused, and what stood stays.
    std::fs::write(dir.path().join("policy.yaml"), OPEN.replace("ingress:", "ingres:")).unwrap();
    let refused = up.event("refused", |_| true);
    assert_eq!(refused["diagnostics"][0]["field"], "spec.ingres", "{refused}");
    assert!(matches!(ask(&client, live), Outcome::Received { .. }));

    // The client is not allowed any more: the connection ends at its next packet, and no new one is made.
    std::fs::write(dir.path().join("policy.yaml"), closed()).unwrap();
    let reloaded = up.event("reloaded", |event| event["generation"].is_u64());
    assert!(reloaded["entry"]["by"].is_string(), "{reloaded}");
    let after = ask(&client, live);
    assert!(
        matches!(after, Outcome::Reset | Outcome::Refused | Outcome::Closed | Outcome::Prohibited { .. }),
        "{after:?}"
    );
    assert!(!connect(&client, app).connected());
    let told = up.event("flow", |event| event["flow"]["container"] == "client");
    let flow = &told["flow"];
    assert_eq!((flow["peer"]["container"].as_str(), flow["verdict"].as_str()), (Some("app"), Some("deny")), "{told}");
    assert_eq!(flow["port"], 8080);

    drop(client);
    up.signal(Signal::SIGTERM);
    up.event("ended", |_| true);
    assert_eq!(up.code(), 0);
    nothing_left(state.path(), dir.path(), &pod);
}

#[test]
fn probes_in_a_running_pod_agree_with_its_policies() {
    let dir = files(&[("pod.yaml", POD), ("policy.yaml", OPEN)]);
    let state = files(&[]);
    let at = state.path().to_str().unwrap();
    let mut up = Background::start(dir.path(), &arguments(at, &[]));
    up.event("log", |event| event["container"] == "app");
    let matrix = ["matrix", "pod.yaml", "--policy", "policy.yaml", "--probe", "--output=json", "--state-dir", at];
    let (code, report) = json(dir.path(), &matrix);
    assert_eq!((code, report["disagreements"].as_u64()), (0, Some(0)), "{report:#}");
    assert!(report["flows"].as_array().unwrap().iter().all(|flow| flow["probe"].is_object()));
    // Other policies than those that are in force: the difference is found.
    std::fs::write(dir.path().join("other.yaml"), closed()).unwrap();
    let other: Vec<&str> = matrix.iter().map(|word| if *word == "policy.yaml" { "other.yaml" } else { word }).collect();
    let (code, report) = json(dir.path(), &other);
    assert_eq!((code, report["disagreements"].as_u64()), (1, Some(1)), "{report:#}");
    let pod = attach(state.path(), "default", "web").unwrap();
    up.signal(Signal::SIGINT);
    assert_eq!(up.code(), 0);
    nothing_left(state.path(), dir.path(), &pod);
}

#[test]
fn the_shipped_expectations_hold_in_a_real_pod_by_every_identity() {
    let state = files(&[]);
    let cases = std::fs::read_to_string(hello().join("cases.yaml")).unwrap();
    let here = hello().canonicalize().unwrap().display().to_string();
    let cases = cases
        .replace("pod: pod", &format!("pod: {here}/pod"))
        .replace("[policy.yaml, sidecarproxy.yaml]", &format!("[{here}/policy.yaml, {here}/sidecarproxy.yaml]"));
    for identity in ["cgroup", "uid", "gid"] {
        let dir = files(&[("cases.yaml", &format!("identity: {identity}\n{cases}"))]);
        let args = ["test", "cases.yaml", "--kernel", "--output=json", "--state-dir", state.path().to_str().unwrap()];
        let (code, report) = json(dir.path(), &args);
        assert_eq!((code, report["failed"].as_u64()), (0, Some(0)), "{report:#}");
        assert!(report["cases"].as_array().unwrap().iter().all(|case| case["kernel"]["result"].is_string()));
    }
    assert!(pods(state.path()).is_empty());
}

#[test]
fn a_wrong_expectation_fails_in_a_real_pod_too() {
    let dir = files(&[
        ("pod.yaml", POD),
        ("policy.yaml", OPEN),
        (
            "cases.yaml",
            "pod: pod.yaml\npolicies: [policy.yaml]\ncases:\n\
             - {name: wrong, from: unknown, to: app, port: http, expect: Allow}\n\
             - {name: open, from: app, to: 203.0.113.9, port: 53, protocol: UDP, expect: Allow}\n\
             - {name: IPv6, from: '2001:db8::7', to: app, port: http, expect: Deny}\n",
        ),
    ]);
    let state = dir.path().join("state");
    let (code, report) =
        json(dir.path(), &["test", "cases.yaml", "--kernel", "--output=json", "--state-dir", state.to_str().unwrap()]);
    assert_eq!((code, report["passed"].as_u64(), report["failed"].as_u64()), (1, Some(2), Some(1)), "{report:#}");
    assert_eq!(report["cases"][0]["kernel"]["result"], "deny");
}

#[test]
fn what_cannot_be_walled_off_does_not_start() {
    let raw = POD.replace(
        "command: [sleep, '600']",
        "command: [sleep, '600']\n    securityContext: {capabilities: {add: [NET_RAW]}}",
    );
    let same = POD.replace("  containers:\n", "  securityContext: {runAsUser: 30001}\n  containers:\n");
    let dir = files(&[
        ("raw.yaml", &raw),
        ("same.yaml", &same),
        ("policy.yaml", OPEN),
        ("bad.yaml", &OPEN.replace("spec:", "specs:")),
    ]);
    let state = dir.path().join("state");
    let at = state.to_str().unwrap();
    for (args, reason) in [
        (vec!["run", "raw.yaml", "--policy", "policy.yaml"], "capabilities.add"),
        (vec!["run", "same.yaml", "--policy", "policy.yaml", "--identity", "uid"], "both have runAsUser 30001"),
        (vec!["run", "same.yaml", "--policy", "bad.yaml"], "specs"),
    ] {
        let (code, out, err) = run(dir.path(), &[&args[..], &["--state-dir", at]].concat());
        assert_eq!(code, 2, "{args:?}\n{out}\n{err}");
        assert!(err.contains(reason), "{args:?}\n{err}");
        assert!(pods(&state).is_empty() && processes_in(dir.path()).is_empty(), "{args:?}");
    }
}

#[test]
fn without_a_policy_there_are_no_walls_and_it_is_said() {
    let dir = files(&[("pod.yaml", POD), ("policy.yaml", &OPEN.replace("app: web", "app: other"))]);
    let state = files(&[]);
    let mut up = Background::start(dir.path(), &arguments(state.path().to_str().unwrap(), &[]));
    let started = up.event("started", |_| true);
    assert_eq!((started["walls"].as_bool(), started["generation"].is_null()), (Some(true), true), "{started}");
    let pod = attach(state.path(), "default", "web").unwrap();
    let mut kernel = sidewall_netfilter::Kernel::open(pod.netns()).unwrap();
    let before = kernel.counters().map(|counters| counters.len()).unwrap_or(0);
    assert_eq!(before, 0, "a table is there");
    // A policy that comes to select it raises them.
    std::fs::write(dir.path().join("policy.yaml"), OPEN).unwrap();
    up.event("reloaded", |event| event["generation"].is_u64());
    assert!(!kernel.counters().unwrap().is_empty());
    up.signal(Signal::SIGTERM);
    assert_eq!(up.code(), 0);
    nothing_left(state.path(), dir.path(), &pod);
}

#[test]
fn without_privileges_it_says_so() {
    let dir = files(&[("pod.yaml", POD), ("policy.yaml", OPEN)]);
    let file = std::fs::File::open(env!("CARGO_BIN_EXE_sidewall")).unwrap();
    let mut process = sidewall_netns::Launch::from_file(file, "sidewall")
        .args(["run", "pod.yaml", "--policy", "policy.yaml"])
        .directory(dir.path())
        .identity(65534, 65534)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut process.take_stderr().unwrap(), &mut said).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(3));
    assert!(said.contains("as root"), "{said}");
}

#[test]
fn a_port_that_is_taken_starts_nothing() {
    let dir = files(&[("pod.yaml", POD), ("policy.yaml", OPEN)]);
    let state = dir.path().join("state");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let publish = format!("{}:8080", taken.local_addr().unwrap().port());
    let args =
        ["run", "pod.yaml", "--policy=policy.yaml", "--publish", &publish, "--state-dir", state.to_str().unwrap()];
    let (code, out, err) = run(dir.path(), &args);
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains("can't publish on 127.0.0.1"), "{err}");
    assert!(pods(&state).is_empty() && processes_in(dir.path()).is_empty());
}
