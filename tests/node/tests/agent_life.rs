//! What the agent, the runtime, the API server and the node may go through while rules stand, on a real kubelet and
//! containerd. Needs root.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use sidewall_netfilter::Kernel;
use sidewall_netns::NetNs;
use sidewall_node_tests::agent::Agent;
use sidewall_node_tests::cell::output;
use sidewall_node_tests::node::{CNI_CONFIGURATION, CNI_PLUGINS, Options};
use sidewall_node_tests::probe::{Outcome, Plan, Report, Target, Then, now, prober};
use sidewall_node_tests::until::until;
use sidewall_node_tests::walled::{Container, Pod, Walled, hub};
use sidewall_node_tests::{kubelet, parts};

/// How long anything may take that is waited for.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at what probers wrote down, which takes its time to read.
const LOOK: Duration = Duration::from_millis(200);
/// Between two attempts of a prober, in milliseconds.
const PAUSE: u64 = 20;

/// A pod's `probe` may reach one port of its `app` and one outside.
const POLICIES: &str = r#"
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: all, namespace: shop}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  egress:
  - to: [{ipBlock: {cidr: 10.90.0.254/32}}]
    ports: [{protocol: TCP, port: 7002}, {protocol: UDP, port: 7002}]
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: probe, namespace: shop}
spec:
  podSelector: {}
  containers: [probe]
  policyTypes: [Egress]
  egress:
  - to: [{container: app}]
    ports: [{protocol: TCP, port: 8081}, {protocol: UDP, port: 8081}]
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: crash, namespace: shop}
spec:
  podSelector: {}
  containers: [crash0, crash1, crash2, crash3]
  policyTypes: [Egress]
  egress:
  - to: [{container: app}]
    ports: [{protocol: TCP, port: 8082}, {protocol: UDP, port: 8082}]
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: app, namespace: shop}
spec:
  podSelector: {}
  containers: [app]
  policyTypes: [Ingress]
  ingress:
  - from: [{container: probe}]
    ports: [{protocol: TCP, port: 8081}, {protocol: UDP, port: 8081}]
  - from: [{container: crash0}, {container: crash1}, {container: crash2}, {container: crash3}]
    ports: [{protocol: TCP, port: 8082}, {protocol: UDP, port: 8082}]
"#;

/// One cluster at a time: two would only make each other slow.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn long() -> bool {
    std::env::var_os("SIDEWALL_LONG").is_some_and(|value| !value.is_empty())
}

fn start() -> Walled {
    let walled = Walled::start(&Options::default(), &[7001, 7002]).unwrap();
    walled.namespace("shop").unwrap();
    walled.api().apply(POLICIES).unwrap();
    walled
}

/// What is tried: `deny-…` is what may not be, anything else what may.
fn targets() -> Vec<Target> {
    let all = [
        Target::both("deny-loopback", ([127, 0, 0, 1], 8080), false),
        Target::both("deny-loopback6", (Ipv6Addr::LOCALHOST, 8080), false),
        Target::both("deny-outside", (hub(), 7001), false),
        Target::both("loopback", ([127, 0, 0, 1], 8081), true),
        Target::both("outside", (hub(), 7002), true),
    ];
    all.into_iter().flatten().collect()
}

/// A pod with an app and a prober that goes on.
fn pod(name: &str, further: Vec<Container>) -> Pod {
    let mut containers = vec![
        Container {
            name: "app".into(),
            user: 1001,
            plan: plan(&format!("{name}-app"), &[8080, 8081, 8082], Vec::new(), Then::Rest),
        },
        Container {
            name: "probe".into(),
            user: 1002,
            plan: plan(&format!("{name}-probe"), &[], targets(), Then::GoOn(PAUSE)),
        },
    ];
    containers.extend(further);
    Pod { namespace: "shop".into(), name: name.into(), app: name.into(), containers }
}

/// A pod that does nothing.
fn idle(name: &str) -> Pod {
    let containers = vec![Container {
        name: "app".into(),
        user: 1001,
        plan: plan(&format!("{name}-app"), &[8080], Vec::new(), Then::Rest),
    }];
    Pod { namespace: "shop".into(), name: name.into(), app: name.into(), containers }
}

fn plan(name: &str, listen: &[u16], targets: Vec<Target>, then: Then) -> Plan {
    Plan { name: name.into(), listen: listen.to_vec(), targets, burst: 0, then }
}

/// Waits until the prober of a pod has reached everything it may, of what it tried since a moment.
fn reaches(walled: &Walled, agent: &Agent, pod: &str, since: u64) {
    let name = format!("{pod}-probe");
    until(&format!("a prober of {pod} that reaches what it may"), LIMIT, || {
        sleep(LOOK);
        let report = walled.report()?;
        let reached = |target: &&Target| {
            let of_it = |t: &&sidewall_node_tests::probe::Tried| prober(&t.run) == name && t.target == target.name;
            report.tried.iter().filter(of_it).any(|tried| tried.at >= since && tried.outcome == Outcome::Reached)
        };
        let all = targets();
        let not: Vec<_> =
            all.iter().filter(|target| target.wanted && !reached(target)).map(|target| &target.name).collect();
        Ok(if not.is_empty() { Ok(()) } else { Err(format!("not {not:?}\n{}", agent.log())) })
    })
    .unwrap();
}

/// That nobody got through to what is denied since then.
fn closed(walled: &Walled, since: u64, what: &str) -> Report {
    let report = walled.report().unwrap();
    let passed: Vec<_> = report.got.iter().filter(|got| got.sent >= since && got.target.starts_with("deny-")).collect();
    assert!(passed.is_empty(), "{what}: {} got through: {:#?}", passed.len(), &passed[..passed.len().min(10)]);
    // Nobody else uses the ports that are denied to all.
    let nameless =
        report.got.iter().find(|got| got.run == "?" && got.at >= since && ![8081, 8082, 7002].contains(&got.port));
    assert!(nameless.is_none(), "{what}: {nameless:?}");
    let tried = report.tried.iter().filter(|tried| tried.at >= since && tried.target.starts_with("deny-")).count();
    assert!(tried > 20, "{what}: only {tried} attempts at what is denied, which says nothing");
    report
}

/// That rules stood all the time: of one prober nothing that is denied came through, and nothing that is allowed was
/// refused. That an answer is late says nothing on a machine that has much to do.
fn stood(walled: &Walled, pod: &str, since: u64, what: &str) {
    // A moment in which all stands still afterwards, too.
    sleep(Duration::from_millis(10 * PAUSE));
    let report = closed(walled, since, what);
    let name = format!("{pod}-probe");
    let of_it = |tried: &&sidewall_node_tests::probe::Tried| prober(&tried.run) == name && tried.at >= since;
    let allowed = report.tried.iter().filter(of_it).filter(|tried| !tried.target.starts_with("deny-"));
    let (mut reached, mut refused) = (0, Vec::new());
    for tried in allowed {
        match tried.outcome {
            Outcome::Reached => reached += 1,
            Outcome::Refused(_) => refused.push(tried),
            Outcome::Silence => {}
        }
    }
    assert!(
        refused.is_empty(),
        "{what}: refused though allowed: {} of {}: {:#?}",
        refused.len(),
        reached,
        &refused[..refused.len().min(10)]
    );
    assert!(reached > 20, "{what}: only {reached} attempts came through");
    println!("{what}: {reached} attempts in {} ms", (now() - since) / 1_000_000);
}

/// What the agent holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    threads: usize,
    namespaces: BTreeSet<String>,
}

fn held(agent: &Agent) -> Held {
    let process = PathBuf::from(format!("/proc/{}", agent.pid().unwrap()));
    let links: Vec<String> = fs::read_dir(process.join("fd"))
        .unwrap()
        .filter_map(|entry| Some(fs::read_link(entry.ok()?.path()).ok()?.display().to_string()))
        .collect();
    Held {
        descriptors: links.len(),
        threads: fs::read_dir(process.join("task")).unwrap().count(),
        namespaces: links.into_iter().filter(|link| link.starts_with("net:[")).collect(),
    }
}

/// The network namespaces of the node's pods.
fn namespaces(walled: &Walled) -> BTreeSet<String> {
    let folder = walled.node().cell().path("/run/netns");
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries.filter_map(|entry| Some(format!("net:[{}]", entry.ok()?.metadata().ok()?.ino()))).collect()
}

/// The files in which the agent remembers pods.
fn remembered(walled: &Walled) -> usize {
    fs::read_dir(walled.node().cell().path("/run/sidewall/pods")).map_or(0, Iterator::count)
}

/// Waits until the agent holds nothing of pods that are no more.
fn nothing_of_the_dead(walled: &Walled, agent: &Agent, pods: usize) {
    until("an agent that holds nothing of pods that are no more", LIMIT, || {
        let (held, there, files) = (held(agent), namespaces(walled), remembered(walled));
        let dead: Vec<&String> = held.namespaces.difference(&there).collect();
        // Its own namespace it may hold too.
        let own = fs::read_link(format!("/proc/{}/ns/net", agent.pid()?)).unwrap_or_default().display().to_string();
        let dead: Vec<&&String> = dead.iter().filter(|name| ***name != own).collect();
        let good = dead.is_empty() && files == pods && there.len() == pods;
        Ok(if good {
            Ok(())
        } else {
            Err(format!("{pods} pods, {} namespaces, {files} files, dead: {dead:?}", there.len()))
        })
    })
    .unwrap();
}

/// The host's number of a prober's process.
fn process(name: &str) -> Option<u32> {
    fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).find(|pid: &u32| {
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("comm").starts_with("sidewall-probe") && read("cmdline").contains(&format!("\"name\":\"{name}\""))
    })
}

/// Runs `nft` in the network of a prober, as root there.
fn nft(name: &str, arguments: &[&str]) -> Result<String, String> {
    let pid = process(name).unwrap_or_else(|| panic!("no prober {name}"));
    let mut command = Command::new(parts::system("nsenter").unwrap());
    command.args(["--target", &pid.to_string(), "--net", "--"]).arg(parts::system("nft").unwrap()).args(arguments);
    output(&mut command).map_err(|error| error.to_string())
}

/// Whether rules of ours stand in the network of a prober. `nft` itself, of some versions, can't list them.
fn has_rules(name: &str) -> bool {
    let pid = process(name).unwrap_or_else(|| panic!("no prober {name}"));
    Kernel::open(&NetNs::from_pid(pid).unwrap()).unwrap().has_tables().unwrap()
}

/// Takes our tables away, as root of the node can; says what the kernel would not let go.
fn take_away(name: &str) -> Vec<String> {
    let mut kept = Vec::new();
    for arguments in [
        &["delete", "table", "inet", "sidewall"][..],
        &["delete", "table", "netdev", "sidewall"],
        &["flush", "ruleset"],
    ] {
        if let Err(error) = nft(name, arguments) {
            kept.push(error);
        }
    }
    kept
}

fn ready(walled: &Walled, pod: &str, agent: &Agent) {
    if let Err(error) = walled.api().ready("shop", pod, LIMIT) {
        panic!("{error}\n{}", agent.log());
    }
}

/// The agent dies and comes back, another takes over from it, and the runtime dies and comes back: no packet notices.
#[test]
fn rules_stand_through_every_end() {
    let _alone = alone();
    let walled = start();
    let agent = walled.agent(json!({})).unwrap();
    // They have a port of their own: a source port that one container has just used stays its own for a while, and another
    // that happens to take it is refused, as whoever would speak in another's flow.
    let tries: Vec<Target> = targets().into_iter().filter(|target| !target.wanted).collect();
    let tries = [tries, Target::both("loopback", ([127, 0, 0, 1], 8082), true).into()].concat();
    let crashers = (0..4).map(|number| Container {
        name: format!("crash{number}"),
        user: 1003 + number,
        plan: Plan { burst: 20, ..plan(&format!("watch-crash{number}"), &[], tries.clone(), Then::End) },
    });
    walled.make(&[pod("watch", crashers.collect())]).unwrap();
    reaches(&walled, &agent, "watch", 0);

    let mut since = now();
    agent.stop(Signal::KILL).unwrap();
    sleep(Duration::from_millis(300));
    agent.resume().unwrap();
    agent.ready().unwrap();
    stood(&walled, "watch", since, "the agent was killed and restarted");

    since = now();
    agent.stop(Signal::TERM).unwrap();
    sleep(Duration::from_millis(300));
    agent.resume().unwrap();
    agent.ready().unwrap();
    stood(&walled, "watch", since, "the agent was ended and restarted");

    since = now();
    let next = agent.next().unwrap();
    sleep(Duration::from_secs(2));
    agent.stop(Signal::TERM).unwrap();
    next.ready().unwrap();
    stood(&walled, "watch", since, "another agent took over");
    next.stop(Signal::TERM).unwrap();
    agent.resume().unwrap();
    agent.ready().unwrap();
    stood(&walled, "watch", since, "the first took over again");

    for signal in [Signal::TERM, Signal::KILL] {
        since = now();
        walled.node().stop_containerd(signal).unwrap();
        sleep(Duration::from_millis(500));
        walled.node().start_containerd().unwrap();
        stood(&walled, "watch", since, "containerd was restarted");
    }
    // It is told of containers again: one that is new reaches what it may.
    since = now();
    walled.make(&[pod("later", Vec::new())]).unwrap();
    reaches(&walled, &agent, "later", since);

    // Containers that end as soon as they have reached what they may have been started many times meanwhile.
    let runs = if long() { 100 } else { 20 };
    until("runs of containers that end", LIMIT * 5, || {
        sleep(LOOK);
        let report = walled.report()?;
        let done = report.runs.iter().filter(|(run, done)| **done && run.starts_with("watch-crash")).count();
        Ok(if done >= runs { Ok(()) } else { Err(format!("{done} of {runs}")) })
    })
    .unwrap();
    stood(&walled, "watch", since, "containers ended and were started again");
}

/// Pods come and go, and nothing of them is left.
#[test]
fn nothing_is_left_of_pods_that_are_gone() {
    let _alone = alone();
    let walled = start();
    let agent = walled.agent(json!({})).unwrap();
    walled.make(&[pod("watch", Vec::new())]).unwrap();
    reaches(&walled, &agent, "watch", 0);
    // One wave first: what is made once and kept is made by it.
    let wave = |number: usize, pods: usize| {
        let names: Vec<String> = (0..pods).map(|pod| format!("churn{number}-{pod}")).collect();
        walled.make(&names.iter().map(|name| idle(name)).collect::<Vec<_>>()).unwrap();
        names.iter().for_each(|name| ready(&walled, name, &agent));
        let mut delete = vec!["-n", "shop", "delete", "pod", "--now"];
        delete.extend(names.iter().map(String::as_str));
        walled.api().kubectl(&delete).unwrap();
    };
    wave(0, 10);
    nothing_of_the_dead(&walled, &agent, 1);
    let (before, since) = (held(&agent), now());
    for number in 1..=if long() { 5 } else { 2 } {
        wave(number, 10);
    }
    nothing_of_the_dead(&walled, &agent, 1);
    stood(&walled, "watch", since, "pods came and went");
    // Threads that may wait end some seconds after they had something to do.
    until("as many descriptors and threads as before", LIMIT, || {
        let after = held(&agent);
        let same = after.descriptors <= before.descriptors + 2 && after.threads <= before.threads + 2;
        Ok(if same { Ok(()) } else { Err(format!("{before:?}, then {after:?}")) })
    })
    .unwrap();
}

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

/// Rules that somebody takes away come back, and it is told; where the kernel keeps them for the agent, it refuses.
#[test]
fn what_somebody_changes_is_put_right() {
    let _alone = alone();
    let walled = start();
    let agent = walled.agent(json!({})).unwrap();
    walled.make(&[pod("watch", Vec::new())]).unwrap();
    reaches(&walled, &agent, "watch", 0);
    let begin = now();
    let repairs = || agent.metric("sidewall_agent_repairs_total").unwrap();
    assert_eq!(repairs(), 0.0);
    let kept = take_away("watch-probe");
    println!("the kernel would not: {kept:#?}");
    if has_rules("watch-probe") && !kept.is_empty() {
        // It keeps them for their owner, who is there.
        println!("the kernel keeps tables for the agent");
        stood(&walled, "watch", begin, "somebody tried to take rules away");
    } else {
        until("a word to the pod's owner", LIMIT, || {
            let events = walled.api().get(&["-n", "shop", "events"])?;
            let told = events["items"].as_array().into_iter().flatten().any(|event| event["reason"] == "WallRepaired");
            Ok(if told { Ok(()) } else { Err(format!("{events}\n{}", agent.log())) })
        })
        .unwrap();
        assert!(has_rules("watch-probe") && repairs() > 0.0);
    }
    // While the agent is away nobody owns them, and somebody can take them away. When it is back they are, too.
    agent.stop(Signal::KILL).unwrap();
    println!("without the agent the kernel would not: {:#?}", take_away("watch-probe"));
    assert!(!has_rules("watch-probe"), "the kernel keeps tables of nobody");
    agent.resume().unwrap();
    agent.ready().unwrap();
    let since = now();
    assert!(has_rules("watch-probe"), "the agent is ready, and rules do not stand");
    reaches(&walled, &agent, "watch", since);
    stood(&walled, "watch", since, "the agent put rules back");
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

/// When a run began.
fn begun(run: &str) -> u64 {
    run.rsplit_once('.').and_then(|(_, begun)| begun.parse().ok()).unwrap_or_default()
}

/// Ends the process that keeps a prober's network namespace: of `localhost/pause:1`, which sleeps.
fn end_sandbox(prober: &str) {
    let net = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let own = net(process(prober).unwrap());
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if cmdline.starts_with("/bin/sleep") && net(pid.unsigned_abs()) == own {
            rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        }
    }
}

/// Everything the agent made goes, but not while an agent runs.
#[test]
fn uninstalling_leaves_nothing() {
    let _alone = alone();
    let walled = start();
    let cell = walled.node().cell();
    let directory = |path: &str| -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(cell.path(path))
            .map(|entries| {
                entries
                    .filter_map(Result::ok)
                    .filter(|entry| entry.path().is_file())
                    .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap()))
                    .collect()
            })
            .unwrap_or_default();
        files.sort();
        files
    };
    let names = |path: &str| directory(path).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let (lists, programs) = (directory(CNI_CONFIGURATION), names(CNI_PLUGINS));
    let agent = walled.agent(json!({})).unwrap();
    assert_ne!(directory(CNI_CONFIGURATION), lists);
    walled.make(&[pod("watch", Vec::new())]).unwrap();
    reaches(&walled, &agent, "watch", 0);
    let since = now();
    let refused = agent.uninstall().unwrap_err().to_string();
    assert!(refused.contains("an agent runs on this node"), "{refused}");
    stood(&walled, "watch", since, "it was refused to uninstall while an agent runs");
    assert!(has_rules("watch-probe"));

    agent.stop(Signal::TERM).unwrap();
    stood(&walled, "watch", since, "the agent has ended");
    println!("{}", agent.uninstall().unwrap());
    assert_eq!(directory(CNI_CONFIGURATION), lists);
    assert_eq!(names(CNI_PLUGINS), programs);
    assert!(!has_rules("watch-probe"));
    for path in ["/run/sidewall", "/var/lib/sidewall"] {
        assert!(!cell.path(path).exists(), "{path} stays: {:?}", names(path));
    }
    // Once more there is nothing to do, and that is no error.
    agent.uninstall().unwrap();
    // Pods start and end as if it never had been there.
    walled.make(&[idle("free")]).unwrap();
    walled.api().ready("shop", "free", LIMIT).unwrap();
    walled.api().kubectl(&["-n", "shop", "delete", "pod", "--now", "free", "watch"]).unwrap();
    let _: Value = walled.api().get(&["-n", "shop", "pods"]).unwrap();
}
