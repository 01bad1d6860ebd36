//! Probes against real processes. Needs root.

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{Bench, IDLE, manifest, pod, shell, wait_status, with};
use serde_json::json;
use sidewall_sandbox::{Phase, Prepared, Sandbox};

/// An HTTP server inside the pod, run by the test, that says 200 while it is well and 503 otherwise.
struct Server {
    well: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    last: Arc<std::sync::Mutex<String>>,
}

fn serve(prepared: &Prepared, port: u16) -> Server {
    let at = (prepared.pod().info().addresses[0], port);
    let listener = prepared.pod().netns().run(|| TcpListener::bind(at)).unwrap().unwrap();
    let server = Server { well: Arc::default(), asked: Arc::default(), last: Arc::default() };
    let (well, asked, last) = (server.well.clone(), server.asked.clone(), server.last.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).unwrap_or(0);
            *last.lock().unwrap() = String::from_utf8_lossy(&buffer[..n]).into_owned();
            asked.fetch_add(1, Ordering::SeqCst);
            let answer: &[u8] = match (well.load(Ordering::SeqCst), buffer.starts_with(b"GET /moved")) {
                (true, true) => b"HTTP/1.1 302 Found\r\nLocation: /healthz\r\n\r\n",
                (true, false) => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                (false, _) => b"HTTP/1.1 503 No\r\n\r\n",
            };
            let _ = stream.write_all(answer);
        }
    });
    server
}

#[test]
fn readiness_follows_an_http_server_and_comes_from_the_node() {
    let bench = Bench::new();
    let spec = json!({"containers": [with(shell("web", IDLE), json!({
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {
            "httpGet": {"path": "/moved?x=1", "port": "http", "httpHeaders": [{"name": "X-Test", "value": "yes"}]},
            "periodSeconds": 1, "failureThreshold": 1,
        },
    }))]});
    let prepared = Sandbox::prepare(&manifest(pod("ready", spec)), &bench.options()).unwrap();
    let server = serve(&prepared, 8080);
    let running = prepared.start().unwrap();
    let status = wait_status(&running, "running", |s| s.phase == Phase::Running);
    common::wait("a first attempt", || server.asked.load(Ordering::SeqCst) > 0);
    assert!(!status.ready && !running.status().ready);
    let asked = server.last.lock().unwrap().clone();
    assert!(asked.starts_with("GET /moved?x=1 HTTP/1.1\r\n") && asked.contains("X-Test: yes\r\n"), "{asked}");
    assert!(asked.contains(&format!("Host: {}:8080\r\n", running.pod().info().addresses[0])), "{asked}");
    server.well.store(true, Ordering::SeqCst);
    wait_status(&running, "ready", |s| s.ready);
    assert!(server.last.lock().unwrap().starts_with("GET /healthz "), "the redirect was followed");
    server.well.store(false, Ordering::SeqCst);
    wait_status(&running, "not ready", |s| !s.ready);
    assert_eq!(running.status().container("web").unwrap().restarts, 0, "readiness ends nothing");
}

#[test]
fn a_failing_liveness_probe_restarts_the_container() {
    let bench = Bench::new();
    let running = bench.run(pod("live", json!({"containers": [with(shell("web", IDLE), json!({
        "livenessProbe": {"exec": {"command": ["/bin/sh", "-c", "exit 1"]}, "periodSeconds": 1, "failureThreshold": 2},
    }))]})));
    let status = wait_status(&running, "restarted", |s| s.container("web").unwrap().restarts == 1);
    let web = status.container("web").unwrap();
    assert!(web.message.as_ref().unwrap().starts_with("liveness probe failed: /bin/sh ended with"), "{web:?}");
    assert_eq!(web.last_exit, Some(0), "SIGTERM, which the script obeys");
}

#[test]
fn exec_probes_run_in_the_containers_identity_and_within_their_time() {
    let bench = Bench::new();
    let check = "test $(id -u) = 4321 && grep -q '/web$' /proc/self/cgroup && test \"$A\" = x";
    let running = bench.run(pod("exec-probe", json!({"containers": [
        with(shell("web", IDLE), json!({
            "securityContext": {"runAsUser": 4321}, "env": [{"name": "A", "value": "x"}],
            "readinessProbe": {"exec": {"command": ["/bin/sh", "-c", check]}, "periodSeconds": 1},
        })),
        with(shell("slow", IDLE), json!({
            "startupProbe": {"exec": {"command": ["/bin/sleep", "1000"]}, "timeoutSeconds": 1, "failureThreshold": 1},
        })),
    ]})));
    wait_status(&running, "web ready", |s| s.container("web").unwrap().ready);
    let status = wait_status(&running, "slow restarted", |s| s.container("slow").unwrap().restarts == 1);
    let slow = status.container("slow").unwrap();
    assert!(slow.message.as_ref().unwrap().contains("longer than 1000 ms"), "{slow:?}");
    assert!(!status.ready);
}

#[test]
fn the_other_probes_wait_for_the_startup_probe() {
    let bench = Bench::new();
    let spec = json!({"containers": [with(shell("web", IDLE), json!({
        "startupProbe": {"tcpSocket": {"port": 9000}, "periodSeconds": 1, "failureThreshold": 30},
        "livenessProbe": {"exec": {"command": ["/bin/false"]}, "periodSeconds": 1, "failureThreshold": 1},
    }))]});
    let running = bench.run(pod("startup", spec));
    // Liveness would have ended it within a second.
    let (status, restarted) =
        running.wait_until(std::time::Duration::from_millis(2500), |s| s.container("web").unwrap().restarts > 0);
    assert!(!restarted && !status.container("web").unwrap().started, "{status:?}");
    let at = (running.pod().info().addresses[0], 9000);
    let _listener = running.pod().netns().run(|| TcpListener::bind(at)).unwrap().unwrap();
    wait_status(&running, "restarted by liveness", |s| s.container("web").unwrap().restarts > 0);
}

#[test]
fn a_probe_of_another_host_goes_there() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let probe = json!({"tcpSocket": {"host": "127.0.0.1", "port": port}, "periodSeconds": 1});
    let running = bench
        .run(pod("other-host", json!({"containers": [with(shell("web", IDLE), json!({"readinessProbe": probe}))]})));
    wait_status(&running, "ready", |s| s.ready);
    assert!(listener.accept().is_ok());
}
