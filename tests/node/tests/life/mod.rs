//! Pods of probers, and what must be true of them whatever happens.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use sidewall_node_tests::agent::Agent;
use sidewall_node_tests::node::Options;
use sidewall_node_tests::probe::{Outcome, Plan, Report, Target, Then, now, prober};
use sidewall_node_tests::until::until;
use sidewall_node_tests::walled::{Container, Pod, Walled, hub};

/// How long anything may take that is waited for.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at what probers wrote down, which takes its time to read.
pub const LOOK: Duration = Duration::from_millis(200);
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

/// A cluster in whose namespace `shop` the policies hold.
pub fn start() -> Walled {
    let walled = Walled::start(&Options::default(), &[7001, 7002]).unwrap();
    walled.namespace("shop").unwrap();
    walled.api().apply(POLICIES).unwrap();
    walled
}

/// What is tried: `deny-…` is what may not be, anything else what may.
pub fn targets() -> Vec<Target> {
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
pub fn pod(name: &str, further: Vec<Container>) -> Pod {
    let mut containers = vec![
        Container::new("app", 1001, Plan::new(&format!("{name}-app"), &[8080, 8081, 8082], Vec::new(), Then::Rest)),
        Container::new("probe", 1002, Plan::new(&format!("{name}-probe"), &[], targets(), Then::GoOn(PAUSE))),
    ];
    containers.extend(further);
    Pod { namespace: "shop".into(), name: name.into(), app: name.into(), containers }
}

/// Waits until the prober of a pod has reached everything it may, of what it tried since a moment.
pub fn reaches(walled: &Walled, agent: &Agent, pod: &str, since: u64) {
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
pub fn closed(walled: &Walled, since: u64, what: &str) -> Report {
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
pub fn stood(walled: &Walled, pod: &str, since: u64, what: &str) {
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
pub struct Held {
    /// Open files.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Network namespaces that it has open.
    pub namespaces: BTreeSet<String>,
}

pub fn held(agent: &Agent) -> Held {
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
pub fn namespaces(walled: &Walled) -> BTreeSet<String> {
    let folder = walled.node().cell().path("/run/netns");
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries.filter_map(|entry| Some(format!("net:[{}]", entry.ok()?.metadata().ok()?.ino()))).collect()
}

/// The files in which the agent remembers pods.
pub fn remembered(walled: &Walled) -> usize {
    fs::read_dir(walled.node().cell().path("/run/sidewall/pods")).map_or(0, Iterator::count)
}

/// Waits until the agent holds nothing of pods that are no more.
pub fn nothing_of_the_dead(walled: &Walled, agent: &Agent, pods: usize) {
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
pub fn process(name: &str) -> Option<u32> {
    fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).find(|pid: &u32| {
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("comm").starts_with("sidewall-probe") && read("cmdline").contains(&format!("\"name\":\"{name}\""))
    })
}
