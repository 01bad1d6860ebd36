//! What the API server and the whole node may go through while rules stand, on a real kubelet and containerd. Needs root.
#![forbid(unsafe_code)]

mod life;

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sidewall_node_tests::agent::Agent;
use sidewall_node_tests::kubelet;
use sidewall_node_tests::probe::{begun, now};
use sidewall_node_tests::run::alone;
use sidewall_node_tests::until::until;
use sidewall_node_tests::walled::Walled;

use life::{LIMIT, LOOK, closed, namespaces, nothing_of_the_dead, pod, process, reaches, remembered, start, stood};

/// The node loses everything that runs and all of `/run`, and comes back.
#[test]
fn a_node_comes_back_with_its_walls() {
    let _alone = alone();
    let walled = start();
    let agent = walled.agent(json!({})).unwrap();
    walled.make(&[pod("watch", Vec::new())]).unwrap();
    reaches(&walled, &agent, "watch", 0);
    let cell = walled.node().cell();
    let since = now();
    for service in ["kubelet", "containerd"] {
        cell.stop(service, Signal::KILL, LIMIT).unwrap();
    }
    agent.stop(Signal::KILL).unwrap();
    // What the power takes with it: processes, mounts below /run, the bridge. Our own bed stays.
    cell.run(
        "/bin/sh",
        &["-c",
            "echo 1 > /sys/fs/cgroup/k8s.io/cgroup.kill; \
             for shim in $(pidof containerd-shim-runc-v2); do kill -9 $shim; done; sleep 0.5; \
             awk '$5 ~ \"^/run/\" && $5 !~ \"^/run/bed\" {print $5}' /proc/self/mountinfo | sort -r | xargs -r umount -l; \
             awk '$5 ~ \"^/var/lib/kubelet/pods\" {print $5}' /proc/self/mountinfo | sort -r | xargs -r umount -l; \
             find /run -mindepth 1 -maxdepth 1 ! -name bed ! -name probe -exec rm -rf {} +; \
             ip link delete cni0; true"],
    )
    .unwrap();
    assert!(namespaces(&walled).is_empty() && remembered(&walled) == 0, "the node still has something");
    assert!(process("watch-probe").is_none(), "a container outlived its node");
    let again = now();
    walled.node().start_containerd().unwrap();
    kubelet::start(walled.node(), walled.cluster().control()).unwrap();
    sleep(Duration::from_secs(1));
    agent.resume().unwrap();
    agent.ready().unwrap();
    reaches(&walled, &agent, "watch", again);
    closed(&walled, since, "the node was restarted");
    nothing_of_the_dead(&walled, &agent, 1);
}

/// Without the API server rules stand and new ones are not guessed; with a kind gone its policies stay.
#[test]
fn the_api_servers_end_opens_nothing() {
    let _alone = alone();
    let walled = start();
    let agent = walled.agent(json!({})).unwrap();
    walled.make(&[pod("watch", Vec::new()), pod("victim", Vec::new())]).unwrap();
    reaches(&walled, &agent, "watch", 0);
    reaches(&walled, &agent, "victim", 0);
    let control = walled.cluster().control();

    let mut since = now();
    control.stop_api(Signal::KILL).unwrap();
    sleep(Duration::from_secs(2));
    stood(&walled, "watch", since, "the API server has ended");
    // A sandbox that ends is made anew by the kubelet, which needs no API server for that; nor does the agent.
    let mut again = now();
    end_sandbox("victim-probe");
    reaches(&walled, &agent, "victim", began_after(&walled, "victim-probe", again, &agent));
    closed(&walled, since, "a pod was started again without an API server");
    agent.stop(Signal::KILL).unwrap();
    agent.resume().unwrap();
    sleep(Duration::from_secs(3));
    stood(&walled, "watch", since, "the agent was restarted without an API server");
    // An agent that has just begun knows nothing that it could put in force: such a pod waits.
    again = now();
    end_sandbox("victim-probe");
    let refused =
        |name: &str| agent.metric(&format!("sidewall_agent_cni_requests_total{{ask=\"add\",answer=\"{name}\"}}"));
    until("a pod that is told to wait", LIMIT, || {
        let times = refused("not-ready")?;
        Ok(if times > 0.0 { Ok(()) } else { Err(agent.page("metrics")?) })
    })
    .unwrap();
    let report = closed(&walled, since, "a pod waits for an agent that waits for the API server");
    assert!(report.runs_of("victim-probe").all(|run| begun(run) < again), "it did not wait");
    control.start_api().unwrap();
    agent.ready().unwrap();
    reaches(&walled, &agent, "victim", began_after(&walled, "victim-probe", again, &agent));
    stood(&walled, "watch", since, "the API server came back");

    since = now();
    walled.api().kubectl(&["delete", "crd", "containernetworkpolicies.sidewall.dev"]).unwrap();
    sleep(Duration::from_secs(3));
    stood(&walled, "watch", since, "the kind of the policies was taken away");
}

/// When a run of a prober began, of those after a moment; waits for one.
fn began_after(walled: &Walled, name: &str, since: u64, agent: &Agent) -> u64 {
    until(&format!("a new run of {name}"), LIMIT, || {
        sleep(LOOK);
        let report = walled.report()?;
        let run = report.runs_of(name).map(begun).find(|begun| *begun > since);
        Ok(run.ok_or_else(|| agent.log()))
    })
    .unwrap()
}

/// Ends the process that keeps a prober's network namespace: of `localhost/pause:1`, which sleeps.
fn end_sandbox(prober: &str) {
    let net = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let own = net(process(prober).unwrap());
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if cmdline.starts_with("/bin/sleep") && net(pid.unsigned_abs()) == own {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        }
    }
}
