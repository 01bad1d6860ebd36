//! What happens when a supervisor is killed: its pods end, and the next start removes what is left. Needs root.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Bench, HELPER, IDLE, assert_nothing_left, manifest, pod, shell, with};
use serde_json::{Value, json};
use sidewall_netns::Links;
use sidewall_sandbox::{Identity, PodState, Sandbox, attach, cleanup_stale, list};

/// Ends the supervisor that a test has started, also when the test fails.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn supervise(bench: &Bench, manifest: Value) -> Victim {
    let path = bench.root.path().join("pod.json");
    std::fs::write(&path, manifest.to_string()).unwrap();
    let child = Command::new(HELPER).arg("supervise").arg(&path).arg(bench.root.path()).stdout(Stdio::piped()).spawn();
    let mut victim = Victim(child.unwrap());
    let mut line = String::new();
    BufReader::new(victim.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    victim
}

fn only(bench: &Bench) -> PodState {
    let [state]: [PodState; 1] = list(bench.root.path()).unwrap().try_into().unwrap();
    state
}

#[test]
fn a_killed_supervisor_takes_its_pod_with_it_and_the_next_start_cleans_up() {
    let bench = Bench::new();
    // A grandchild that no signal to the container's first process reaches, and that ignores what it can.
    let script = format!("(trap '' TERM HUP; sleep 1000) & {IDLE}");
    let spec = json!({
        "initContainers": [with(shell("proxy", IDLE), json!({"restartPolicy": "Always"}))],
        "containers": [shell("web", &script)],
    });
    let mut victim = supervise(&bench, pod("victim", spec.clone()));
    common::wait("both processes are written down", || only(&bench).processes.len() == 2);
    let state = only(&bench);
    assert_eq!(state.supervisor.pid, victim.0.id());
    // The pod is reached from here while its supervisor lives.
    let live = attach(bench.root.path(), "test", "victim").unwrap();
    let id = live.exec(&Identity::Container("web".into()), &["id", "-u"], common::LONG).unwrap();
    assert_eq!(id.stdout, b"10002\n");
    drop(live);
    assert!(cleanup_stale(bench.root.path()).unwrap().is_empty(), "what lives is left alone");
    assert_eq!(only(&bench), state);

    victim.0.kill().unwrap();
    victim.0.wait().unwrap();
    common::wait("the containers' first processes die with their supervisor", || {
        let left = common::processes_of(&state.pod.uid);
        state.processes.values().all(|pid| !left.contains(&pid.to_string()))
    });
    assert!(state.pod.cgroup.path.exists(), "there is something to clean up");
    assert!(list(bench.root.path()).unwrap().is_empty());
    assert!(attach(bench.root.path(), "test", "victim").is_err());

    // The next start: another pod of the same name.
    let prepared = Sandbox::prepare(&manifest(pod("victim", spec)), &bench.options()).unwrap();
    let new = prepared.pod().info().clone();
    assert!(!state.pod.cgroup.path.exists());
    assert!(common::processes_of(&state.pod.uid).is_empty());
    assert_eq!(new.addresses, state.pod.addresses, "its addresses were free again");
    drop(prepared);
    assert_nothing_left(&new, bench.root.path());
    assert_nothing_left(&state.pod, bench.root.path());
}

#[test]
fn a_link_that_outlives_its_supervisor_is_removed() {
    let bench = Bench::new();
    let mut victim = supervise(&bench, pod("link", json!({"containers": [shell("web", IDLE)]})));
    let state = only(&bench);
    // Holds the namespace open, and with it the link, beyond the end of its processes.
    let holder = attach(bench.root.path(), "test", "link").unwrap();
    victim.0.kill().unwrap();
    victim.0.wait().unwrap();
    let links = || Links::current().unwrap().links().unwrap();
    assert!(links().iter().any(|l| l.name == state.pod.node_interface));
    assert_eq!(cleanup_stale(bench.root.path()).unwrap(), ["test/link"]);
    assert_nothing_left(&state.pod, bench.root.path());
    drop(holder);
}

#[test]
fn a_state_file_that_lies_removes_nothing_of_others() {
    let bench = Bench::new();
    let running = bench.run(pod("bystander", json!({"containers": [shell("web", IDLE)]})));
    common::wait("written down", || only(&bench).processes.len() == 1);
    let bystander = running.pod().info().clone();
    let dir = bench.root.path().join("pods/test_bystander");
    let text = std::fs::read_to_string(dir.join("state.json")).unwrap();
    let mut state: Value = serde_json::from_str(&text).unwrap();
    state["supervisor"] = json!({"pid": 1, "start": 1});
    state["pod"]["cgroup"]["path"] = json!(bystander.pods_cgroup.path.parent().unwrap());
    state["pod"]["node_interface"] = json!("lo");
    let lie = bench.root.path().join("pods/test_lie");
    std::fs::create_dir(&lie).unwrap();
    std::fs::write(lie.join("state.json"), state.to_string()).unwrap();
    // And one that can't be read at all, which is left for a human.
    let broken = bench.root.path().join("pods/test_broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("state.json"), "{").unwrap();

    assert_eq!(cleanup_stale(bench.root.path()).unwrap(), ["test/lie"]);
    assert!(!lie.exists() && broken.exists());
    assert!(Links::current().unwrap().index("lo").is_ok());
    std::thread::sleep(Duration::from_millis(50));
    assert!(!running.status().finished && running.status().ready, "{:?}", running.status());
    running.stop().unwrap();
}

#[test]
fn dropping_a_running_pod_kills_it_at_once() {
    let bench = Bench::new();
    let running =
        bench.run(pod("dropped", json!({"containers": [shell("web", "trap '' TERM; while :; do sleep 1; done")]})));
    let info = running.pod().info().clone();
    common::wait_status(&running, "running", |s| s.ready);
    let start = std::time::Instant::now();
    drop(running);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_nothing_left(&info, bench.root.path());
}
