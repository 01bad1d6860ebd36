//! The race between a container's first instruction and its rules, on a real kubelet and containerd, while the agent is
//! killed, stopped and away. Needs root.
//!
//! What decides is what was received: each attempt says who made it and when. That the same program, in the same pods, gets
//! through where no agent is, is shown first.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use sidewall_node_tests::agent::Agent;
use sidewall_node_tests::node::Options;
use sidewall_node_tests::probe::{Outcome, Plan, Report, Target, Then, begun, prober};
use sidewall_node_tests::random::Random;
use sidewall_node_tests::run::{alone, long};
use sidewall_node_tests::until::until;
use sidewall_node_tests::walled::{Container, Pod, Walled, hub};

/// How long anything may take that is waited for.
const LIMIT: Duration = Duration::from_secs(120);
/// How long a racer tries as often as it can.
const BURST: u64 = 300;
/// The racers of one pod.
const RACERS: usize = 3;

/// Who may reach what: a racer one port of its pod's app and one outside, and nothing else.
const POLICIES: &str = r#"
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: race, namespace: shop}
spec:
  podSelector: {matchLabels: {app: race}}
  policyTypes: [Ingress, Egress]
  egress:
  - to: [{ipBlock: {cidr: 10.90.0.254/32}}]
    ports: [{protocol: TCP, port: 7002}, {protocol: UDP, port: 7002}]
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: racers, namespace: shop}
spec:
  podSelector: {matchLabels: {app: race}}
  containers: [racer0, racer1, racer2]
  policyTypes: [Egress]
  egress:
  - to: [{container: app}]
    ports: [{protocol: TCP, port: 8081}, {protocol: UDP, port: 8081}]
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: app, namespace: shop}
spec:
  podSelector: {matchLabels: {app: race}}
  containers: [app]
  policyTypes: [Ingress]
  ingress:
  - from: [{container: racer0}, {container: racer1}, {container: racer2}]
    ports: [{protocol: TCP, port: 8081}, {protocol: UDP, port: 8081}]
"#;

/// A cluster with the namespaces `shop`, where policies select pods called `race…`, and `open`, where nothing does, and in
/// `open` a pod that answers whoever reaches it.
struct Race {
    walled: Walled,
    sink: std::net::IpAddr,
}

impl Race {
    fn start(options: &Options) -> Race {
        let walled = Walled::start(options, &[7001, 7002]).unwrap();
        walled.namespace("shop").unwrap();
        walled.namespace("open").unwrap();
        walled.api().apply(POLICIES).unwrap();
        let answers = Container::new("app", 1001, plan("open-sink", &[7001], Vec::new(), Then::Rest));
        walled.make(&[pod("open", "sink", vec![answers])]).unwrap();
        walled.api().ready("open", "sink", LIMIT).unwrap();
        let sink = walled.addresses("open", "sink").unwrap()[0];
        Race { walled, sink }
    }

    /// What every racer tries: `deny-…` is what it may not, anything else what it may.
    fn targets(&self) -> Vec<Target> {
        let denied = [
            Target::both("deny-loopback", ([127, 0, 0, 1], 8080), false),
            Target::both("deny-loopback6", (std::net::Ipv6Addr::LOCALHOST, 8080), false),
            Target::both("deny-pod", (self.sink, 7001), false),
            Target::both("deny-outside", (hub(), 7001), false),
        ];
        let allowed =
            [Target::both("loopback", ([127, 0, 0, 1], 8081), true), Target::both("outside", (hub(), 7002), true)];
        denied.into_iter().chain(allowed).flatten().collect()
    }

    /// A pod of an app and racers, which end when they have done all, and are started again.
    fn pod(&self, namespace: &str, name: &str, then: Then) -> Pod {
        let app = Container::new(
            "app",
            1001,
            plan(&format!("{namespace}-{name}-app"), &[8080, 8081], Vec::new(), Then::Rest),
        );
        let racers = (0..RACERS).map(|number| {
            let name = format!("{namespace}-{name}-racer{number}");
            Container::new(&format!("racer{number}"), 1002 + number as u32, plan(&name, &[], self.targets(), then))
        });
        pod(namespace, name, std::iter::once(app).chain(racers).collect())
    }

    fn report(&self) -> Report {
        self.walled.report().unwrap()
    }

    /// Runs of racers that have done all they had to, of those that began since then.
    fn done(&self, since: u64) -> BTreeSet<String> {
        let runs = self.report().runs.into_iter();
        runs.filter(|(run, done)| *done && run.contains("-racer") && begun(run) >= since).map(|(run, _)| run).collect()
    }
}

/// Does all it can for a while, and then what it is told.
fn plan(name: &str, listen: &[u16], targets: Vec<Target>, then: Then) -> Plan {
    Plan { burst: BURST, ..Plan::new(name, listen, targets, then) }
}

fn pod(namespace: &str, name: &str, containers: Vec<Container>) -> Pod {
    Pod { namespace: namespace.into(), name: name.into(), app: "race".into(), containers }
}

/// What racers of `shop` got through with since then that they may not; by what was received, and by their own word.
fn broken(report: &Report, since: u64) -> Vec<String> {
    let walled = |run: &str| prober(run).starts_with("shop-race") && begun(run) >= since;
    let received = report.got.iter().filter(|got| walled(&got.run) && got.target.starts_with("deny-"));
    // Nobody else uses the ports that are denied to all.
    let nameless =
        report.got.iter().filter(|got| got.run == "?" && got.sent >= since && got.port != 8081 && got.port != 7002);
    let told = report
        .tried
        .iter()
        .filter(|tried| walled(&tried.run) && tried.outcome == Outcome::Reached && tried.target.starts_with("deny-"));
    let received = received.chain(nameless).map(|got| format!("{got:?}"));
    received.chain(told.map(|tried| format!("{tried:?}"))).collect()
}

/// That a run of a racer has tried everything, else it would show nothing.
fn tried_all(report: &Report, run: &str, targets: &[Target]) -> bool {
    let of_it = |target: &&Target| report.tried.iter().any(|tried| tried.run == run && tried.target == target.name);
    targets.iter().filter(of_it).count() == targets.len()
}

/// Has racers run, again and again, while something is done to the agent, until so many runs have done all they had to.
fn race(race: &Race, agent: &Agent, pods: usize, runs: usize, random: &mut Random, nri: bool) {
    let since = sidewall_node_tests::probe::now();
    let name = |number: usize| format!("race{number}");
    let all: Vec<Pod> = (0..pods).map(|number| race.pod("shop", &name(number), Then::End)).collect();
    // Half of them at once, the others while the agent comes and goes.
    let (first, rest) = all.split_at(pods.div_ceil(2));
    race.walled.make(first).unwrap();
    let mut rest = rest.iter();
    let begin = Instant::now();
    let (mut kills, mut stops) = (0, 0);
    let limit = LIMIT + Duration::from_secs(2 * runs as u64);
    while race.done(since).len() < runs {
        if begin.elapsed() > limit {
            let told = race.walled.api().kubectl(&["get", "nodeenforcements", "-o", "yaml"]).unwrap_or_default();
            panic!("{} of {runs} runs\n{}\n{told}", race.done(since).len(), agent.log());
        }
        sleep(Duration::from_millis(random.between(200, 4000)));
        if random.below(4) == 0 {
            // Longer than the runtime waits for a plugin's answer: it closes the plugin and starts without it.
            stops += 1;
            agent.signal(Signal::STOP).unwrap();
            sleep(Duration::from_millis(random.between(2200, 3000)));
            agent.signal(Signal::CONT).unwrap();
        } else {
            kills += 1;
            agent.stop(Signal::KILL).unwrap();
            if let Some(pod) = rest.next() {
                race.walled.make(std::slice::from_ref(pod)).unwrap();
            }
            sleep(Duration::from_millis(random.below(1000)));
            agent.resume().unwrap();
            if random.below(3) > 0 {
                agent.ready().unwrap();
            }
        }
    }
    race.walled.make(rest.as_slice()).unwrap();
    agent.ready().unwrap();
    if nri {
        closed_by_the_runtime(race, agent);
    }
    // In the end everyone reaches what he may.
    let settled = sidewall_node_tests::probe::now();
    until("a whole run of every racer, with the agent there", LIMIT, || {
        let done: BTreeSet<String> = race.done(settled).iter().map(|run| prober(run).to_owned()).collect();
        let late: Vec<String> = (0..pods)
            .flat_map(|pod| (0..RACERS).map(move |racer| format!("shop-race{pod}-racer{racer}")))
            .filter(|racer| !done.contains(racer))
            .collect();
        Ok(if late.is_empty() { Ok(()) } else { Err(format!("{late:?}\n{}", agent.log())) })
    })
    .unwrap();
    let report = race.report();
    let runs: Vec<&String> =
        report.runs.iter().filter(|(run, done)| **done && run.contains("-racer")).map(|(run, _)| run).collect();
    let starts = report.runs.keys().filter(|run| run.contains("-racer") && begun(run) >= since).count();
    let attempts: u64 =
        report.tried.iter().filter(|tried| tried.target.starts_with("deny-")).map(|tried| tried.times).sum();
    println!("{starts} starts, {kills} kills, {stops} stops, NRI {nri}: {attempts} attempts at what is denied");
    let lazy: Vec<_> = runs.iter().filter(|run| !tried_all(&report, run, &race.targets())).collect();
    assert!(lazy.is_empty(), "{lazy:?}");
    let broken = broken(&report, since);
    assert!(broken.is_empty(), "{} got through: {:#?}\n{}", broken.len(), &broken[..broken.len().min(20)], agent.log());
    for pod in all {
        race.walled.api().kubectl(&["-n", "shop", "delete", "pod", &pod.name, "--wait=false"]).unwrap();
    }
}

/// Has the runtime close the plugin, which does not answer while containers start, and waits until it is connected again.
fn closed_by_the_runtime(race: &Race, agent: &Agent) {
    let connected = || agent.whole_log().matches("the runtime tells of containers before they start").count();
    let (before, since) = (connected(), sidewall_node_tests::probe::now());
    agent.signal(Signal::STOP).unwrap();
    let started = until("containers that start without the plugin", LIMIT, || {
        let runs = race.report().runs;
        let new = runs.keys().filter(|run| run.contains("-racer") && begun(run) > since + 2_000_000_000).count();
        Ok(if new > 0 { Ok(new) } else { Err("none".into()) })
    });
    agent.signal(Signal::CONT).unwrap();
    println!("{} containers started while the agent was stopped", started.unwrap());
    until("a plugin that is connected again", LIMIT, || {
        Ok(if connected() > before { Ok(()) } else { Err(agent.log()) })
    })
    .unwrap();
}

/// That without an agent the racers get through to everything: else nothing below would say anything.
fn control(race: &Race) {
    race.walled.make(&[race.pod("shop", "control", Then::Rest)]).unwrap();
    race.walled.api().ready("shop", "control", LIMIT).unwrap();
    let targets = race.targets();
    until("a racer without walls that reaches everything", LIMIT, || {
        let report = race.report();
        let received = |racer: usize, target: &Target| {
            let name = format!("shop-control-racer{racer}");
            report.got.iter().any(|got| prober(&got.run) == name && got.target == target.name)
        };
        let not: Vec<_> = (0..RACERS)
            .flat_map(|racer| targets.iter().map(move |target| (racer, target)))
            .filter(|(racer, target)| !received(*racer, target))
            .map(|(racer, target)| (racer, &target.name))
            .collect();
        Ok(if not.is_empty() { Ok(()) } else { Err(format!("{not:?}")) })
    })
    .unwrap();
    race.walled.api().kubectl(&["-n", "shop", "delete", "pod", "control"]).unwrap();
}

/// While the agent is away, pods that nothing selects start, and others wait and say for what; then they start too.
fn away(race: &Race, agent: &Agent) {
    let api = race.walled.api();
    agent.stop(Signal::TERM).unwrap();
    let since = sidewall_node_tests::probe::now();
    race.walled.make(&[race.pod("open", "away", Then::Rest), race.pod("shop", "race-away", Then::End)]).unwrap();
    api.ready("open", "away", LIMIT).unwrap();
    let events = ["-n", "shop", "events", "--field-selector=involvedObject.name=race-away"];
    let said = |events: &serde_json::Value| {
        let all = events["items"].as_array().into_iter().flatten();
        all.filter_map(|event| event["message"].as_str())
            .find(|message| message.contains("Sidewall"))
            .map(str::to_owned)
    };
    let events = api.until("a word to the pod's owner", LIMIT, &events, |events| said(events).is_some()).unwrap();
    let message = said(&events).unwrap();
    println!("{message}");
    assert!(
        message.contains("DaemonSet sidewall-agent in namespace sidewall-system"),
        "it names nobody to ask: {message}"
    );
    let waits = api.get(&["-n", "shop", "pod", "race-away"]).unwrap();
    assert_eq!(waits["status"]["phase"], "Pending", "{}", waits["status"]);
    assert!(race.report().runs.keys().all(|run| !run.starts_with("shop-race-away")), "it started");
    agent.resume().unwrap();
    agent.ready().unwrap();
    until("the pod that waited", LIMIT, || {
        let done = race.done(since);
        Ok(if done.iter().any(|run| run.starts_with("shop-race-away")) { Ok(()) } else { Err(agent.log()) })
    })
    .unwrap();
    assert_eq!(broken(&race.report(), since), Vec::<String>::new());
}

#[test]
fn a_first_instruction_passes_no_wall_while_the_agent_comes_and_goes() {
    let _alone = alone();
    let mut random = Random::seeded();
    let bed = Race::start(&Options::default());
    control(&bed);
    let agent = bed.walled.agent(json!({})).unwrap();
    away(&bed, &agent);
    let (pods, runs) = if long() { (20, 200) } else { (4, 30) };
    race(&bed, &agent, pods, runs, &mut random, true);
}

#[test]
fn nor_without_nri() {
    let _alone = alone();
    let mut random = Random::seeded();
    let bed = Race::start(&Options { nri: false, ..Options::default() });
    let agent = bed.walled.agent(json!({"paths": {"nri": null}, "timing": {"pollMilliseconds": 200}})).unwrap();
    let (pods, runs) = if long() { (20, 200) } else { (2, 10) };
    race(&bed, &agent, pods, runs, &mut random, false);
}
