//! What the tests share. They need root and say so.
#![allow(dead_code)]

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sidewall_netns::{Launch, Links};
use sidewall_sandbox::prober::Prober;
use sidewall_sandbox::{BackOff, Identity, LivePod, LogLine, Options, PodInfo, PodStatus, Running, Sandbox, Stream};

/// The longest that anything here may take on a slow machine. Nothing waits for it when all is well.
pub const LONG: Duration = Duration::from_secs(20);

pub const HELPER: &str = env!("CARGO_BIN_EXE_sidewall-sandbox-helper");

pub fn need_root() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("\nUid:\t0\t0\t"), "this test makes namespaces and cgroups: run it as root");
}

/// A test's own state directory and log. At the end, also after a failure, it removes what killed supervisors have left;
/// pods of this process remove themselves, since they are dropped before.
pub struct Bench {
    pub root: tempfile::TempDir,
    pub lines: Arc<Mutex<Vec<LogLine>>>,
}

impl Bench {
    pub fn new() -> Bench {
        need_root();
        Bench { root: tempfile::tempdir().unwrap(), lines: Arc::default() }
    }

    pub fn options(&self) -> Options {
        let lines = self.lines.clone();
        Options {
            state_root: self.root.path().into(),
            log_sink: Some(Arc::new(move |line: &LogLine| lines.lock().unwrap().push(line.clone()))),
            back_off: BackOff {
                initial: Duration::from_millis(200),
                max: Duration::from_millis(800),
                ..BackOff::default()
            },
            ..Options::default()
        }
    }

    pub fn run(&self, pod: Value) -> Running {
        Sandbox::prepare(&manifest(pod), &self.options()).unwrap().start().unwrap()
    }

    /// What a container has written to its standard output.
    pub fn output(&self, container: &str) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        let own = lines.iter().filter(|l| l.container == container && l.stream == Stream::Stdout);
        own.map(|l| l.text.clone()).collect()
    }

    /// All containers' lines in the order in which they came.
    pub fn all_output(&self) -> Vec<String> {
        self.lines.lock().unwrap().iter().map(|l| l.text.clone()).collect()
    }

    /// Waits until a container has written a line; the log comes over a pipe, a little after the status.
    pub fn wait_for_line(&self, container: &str, line: &str) {
        wait(&format!("{line:?} from {container}"), || self.output(container).iter().any(|l| l == line));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Err(error) = sidewall_sandbox::cleanup_stale(self.root.path()) {
            eprintln!("left behind: {error}");
        }
    }
}

pub fn wait(what: &str, met: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !met() {
        assert!(start.elapsed() < LONG, "{what}: not after {LONG:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn manifest(pod: Value) -> Pod {
    serde_json::from_value(pod).unwrap()
}

/// A pod of the given specification. Names are distinct for each test, since tests run side by side.
pub fn pod(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "test"}, "spec": spec})
}

/// A container that runs a shell script.
pub fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "command": ["/bin/sh", "-c", script]})
}

/// Adds fields to a container or a specification.
pub fn with(mut object: Value, more: Value) -> Value {
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

/// A script that does nothing until SIGTERM, and then ends well at once.
pub const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";

#[track_caller]
pub fn wait_status(running: &Running, what: &str, met: impl Fn(&PodStatus) -> bool) -> PodStatus {
    let (status, ok) = running.wait_until(LONG, met);
    assert!(ok, "{what}: not after {LONG:?}; {status:#?}");
    status
}

/// A prober in an identity of the pod. The helper is run by descriptor: it may lie below a private directory.
pub fn prober(pod: &LivePod, identity: &Identity, name: &str) -> Prober {
    let launch = Launch::from_file(File::open(HELPER).unwrap(), "prober").args(["prober", name]);
    Prober::start(pod.confine(identity, launch).unwrap()).unwrap()
}

/// That nothing of a pod is left: processes, cgroups, link, state.
#[track_caller]
pub fn assert_nothing_left(info: &PodInfo, root: &Path) {
    assert!(!info.cgroup.path.exists(), "{}", info.cgroup.path.display());
    let links: Vec<String> = Links::current().unwrap().links().unwrap().into_iter().map(|l| l.name).collect();
    assert!(!links.contains(&info.node_interface), "{links:?}");
    let state = root.join("pods").join(format!("{}_{}", info.namespace, info.name));
    assert!(!state.exists(), "{}", state.display());
    let inside = processes_of(&info.uid);
    assert!(inside.is_empty(), "{inside:?}");
}

/// The processes whose cgroup's path contains the pod's UID.
pub fn processes_of(uid: &str) -> Vec<String> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|e| e.ok())
        .filter(|e| e.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
        .filter(|e| std::fs::read_to_string(e.path().join("cgroup")).is_ok_and(|text| text.contains(uid)))
        // What has ended and waits for its parent to look is not a process any more.
        .filter(|e| std::fs::read(e.path().join("cmdline")).is_ok_and(|line| !line.is_empty()))
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}
