//! The order in which a pod's containers start and end, with real processes. Needs root.

mod common;

use std::time::{Duration, Instant};

use common::{Bench, IDLE, assert_nothing_left, pod, shell, wait_status, with};
use serde_json::json;
use sidewall_sandbox::{ContainerState, Phase};

#[test]
fn init_containers_then_sidecars_then_apps_and_the_reverse_at_the_end() {
    let bench = Bench::new();
    let said = |name: &str| {
        format!("trap 'echo {name} ends; exit 0' TERM; echo {name}; while :; do sleep 1000 & wait $!; done")
    };
    let sidecar = |name: &str| {
        with(
            shell(name, &said(name)),
            json!({
                "restartPolicy": "Always",
                "startupProbe": {"exec": {"command": ["/bin/sh", "-c", "sleep 0.2"]}, "periodSeconds": 1},
            }),
        )
    };
    let running = bench.run(pod(
        "order",
        json!({
            "initContainers": [
                shell("first", "sleep 0.2; echo first"),
                sidecar("proxy"),
                shell("second", "echo second"),
                sidecar("shipper"),
            ],
            "containers": [shell("web", &said("web")), shell("api", &said("api"))],
        }),
    ));
    let info = running.pod().info().clone();
    let status = wait_status(&running, "running", |s| s.phase == Phase::Running && s.ready);
    for name in ["web", "api"] {
        bench.wait_for_line(name, name);
    }
    let started = bench.all_output();
    assert_eq!(started[..4], ["first", "proxy", "second", "shipper"]);
    assert_eq!(status.container("first").unwrap().state, ContainerState::Terminated);
    assert!(matches!(status.container("proxy").unwrap().state, ContainerState::Running { .. }));

    let status = running.stop().unwrap();
    assert_eq!(status.phase, Phase::Succeeded, "{status:?}");
    let mut ended = bench.all_output().split_off(6);
    ended[..2].sort();
    assert_eq!(ended, ["api ends", "web ends", "shipper ends", "proxy ends"]);
    assert_nothing_left(&info, bench.root.path());
}

#[test]
fn a_pod_that_has_done_its_work_ends_its_sidecars() {
    let bench = Bench::new();
    let running = bench.run(pod(
        "job",
        json!({
            "restartPolicy": "Never",
            "initContainers": [with(shell("proxy", IDLE), json!({"restartPolicy": "Always"}))],
            "containers": [shell("work", "echo done"), shell("more", "sleep 0.3")],
        }),
    ));
    let status = wait_status(&running, "finished", |s| s.finished);
    assert_eq!(status.phase, Phase::Succeeded);
    assert_eq!(status.container("proxy").unwrap().last_exit, Some(0), "it was asked, not killed");
    assert_eq!(status.container("work").unwrap().restarts, 0);
}

#[test]
fn a_failed_init_container_fails_the_pod_under_never_and_starts_again_otherwise() {
    let bench = Bench::new();
    let spec = |policy: &str| {
        json!({
            "restartPolicy": policy,
            "initContainers": [shell("setup", "echo try; exit 3")],
            "containers": [shell("web", "echo never")],
        })
    };
    let never = bench.run(pod("init-never", spec("Never")));
    let status = wait_status(&never, "finished", |s| s.finished);
    assert_eq!((status.phase, status.container("setup").unwrap().last_exit), (Phase::Failed, Some(3)));
    assert_eq!(status.container("web").unwrap().state, ContainerState::Waiting);
    drop(never);

    let again = bench.run(pod("init-again", spec("OnFailure")));
    let status = wait_status(&again, "restarts", |s| s.container("setup").unwrap().restarts >= 2);
    assert_eq!(status.phase, Phase::Pending);
    assert!(bench.output("web").is_empty());
}

#[test]
fn restarts_are_immediate_once_and_then_wait_longer_and_longer() {
    let bench = Bench::new();
    let start = Instant::now();
    let running = bench.run(pod("crash", json!({"containers": [shell("web", "exit 7")]})));
    wait_status(&running, "waiting to start again", |s| {
        s.container("web").unwrap().state == ContainerState::CrashLoopBackOff
    });
    assert!(start.elapsed() < Duration::from_secs(5));
    let status = wait_status(&running, "restarts", |s| s.container("web").unwrap().restarts >= 3);
    // 0 + 200 + 400 ms.
    assert!(start.elapsed() >= Duration::from_millis(600), "{:?}", start.elapsed());
    assert_eq!((status.phase, status.container("web").unwrap().last_exit), (Phase::Running, Some(7)));
}

#[test]
fn on_failure_restarts_what_failed_and_leaves_what_succeeded() {
    let bench = Bench::new();
    let counter = bench.root.path().join("count");
    std::fs::create_dir(&counter).unwrap();
    std::fs::set_permissions(&counter, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::set_permissions(bench.root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let script = format!("cd {}; if mkdir once; then exit 1; fi; echo second time", counter.display());
    let running = bench.run(pod(
        "on-failure",
        json!({
            "restartPolicy": "OnFailure",
            "containers": [shell("web", &script), shell("fine", "exit 0")],
        }),
    ));
    let status = wait_status(&running, "finished", |s| s.finished);
    assert_eq!(status.phase, Phase::Succeeded, "{status:?}");
    assert_eq!((status.container("web").unwrap().restarts, status.container("fine").unwrap().restarts), (1, 0));
}

#[test]
fn what_ignores_sigterm_is_killed_after_the_grace_period_with_all_its_children() {
    let bench = Bench::new();
    let running = bench.run(pod("stubborn", json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [shell("web", "trap '' TERM; (trap '' TERM; sleep 1000) & echo up; while :; do sleep 1; done")],
    })));
    let info = running.pod().info().clone();
    bench.wait_for_line("web", "up");
    let start = Instant::now();
    let status = running.stop().unwrap();
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(10), "{took:?}");
    assert_eq!(status.container("web").unwrap().last_exit, Some(137));
    assert_eq!(status.phase, Phase::Failed);
    assert_nothing_left(&info, bench.root.path());
}

#[test]
fn what_a_container_leaves_in_the_background_ends_with_it() {
    let bench = Bench::new();
    let running = bench.run(pod(
        "orphans",
        json!({
            "restartPolicy": "Never",
            "containers": [shell("web", "sleep 1000 & sleep 1001 & exit 0")],
        }),
    ));
    wait_status(&running, "finished", |s| s.finished);
    let uid = running.pod().info().uid.clone();
    common::wait("all processes gone", || common::processes_of(&uid).is_empty());
}

#[test]
fn a_command_that_does_not_exist_is_said_and_tried_again() {
    let bench = Bench::new();
    let running =
        bench.run(pod("no-program", json!({"containers": [{"name": "web", "command": ["no-such-program"]}]})));
    let status = wait_status(&running, "restarts", |s| s.container("web").unwrap().restarts >= 1);
    let web = status.container("web").unwrap();
    assert_eq!(web.last_exit, Some(128));
    assert!(web.message.as_ref().unwrap().contains("no-such-program"), "{web:?}");
}
