//! Whatever ends, and whatever changes meanwhile: nothing passes that policy denies. Needs root.
//!
//! A prober in every pod tries everything all the time, while policies, pods, the agent, the runtime, its shims and the API
//! server come and go at random. Each policy but the base allows exactly one thing, so that the verdict of any moment is
//! known: allowed, denied, or either, from just before the API server is told of a change until the node's own object says
//! that it is in force.
//!
//! Denied though allowed may be: while a change is under way; until a container's first packet came through, which is when
//! the agent has learned of the container; and where whoever is to answer is away, or the pod's network is.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use sidewall_node_tests::agent::Agent;
use sidewall_node_tests::node::Options;
use sidewall_node_tests::probe::{Got, Outcome, Plan, Report, Target, Then, now, prober};
use sidewall_node_tests::random::Random;
use sidewall_node_tests::until::until;
use sidewall_node_tests::walled::{Container, Pod, Walled, hub};

/// How long anything may take that is waited for.
const LIMIT: Duration = Duration::from_secs(180);
/// Between two attempts of a prober, in milliseconds.
const PAUSE: u64 = 50;
/// How long an attempt may take, in nanoseconds.
const ATTEMPT: u64 = 500_000_000;
/// The pods that stay.
const PODS: usize = 3;

/// Prints the shims of the node's pods but for the one whom others reach: when that pod is made anew it has another address.
const SHIMS: &str = "for shim in $(pidof containerd-shim-runc-v2); do \
    for child in $(cat /proc/$shim/task/*/children); do grep -q open-sink /proc/$child/cmdline && continue 2; done; \
    echo $shim; done";

/// What is allowed at all times: nothing, but for the app's own side of what its prober may do.
const BASE: &str = r#"
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: all, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
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
    ports: [{protocol: TCP, port: 8080}, {protocol: UDP, port: 8080}, {protocol: TCP, port: 8081}, {protocol: UDP, port: 8081}]
"#;

/// What can be allowed: the name of the policy and of the targets, to whom, and the port.
const SWITCHES: [(&str, &str, u16); 5] = [
    ("app8080", "{container: app}", 8080),
    ("app8081", "{container: app}", 8081),
    ("hub7001", "{ipBlock: {cidr: 10.90.0.254/32}}", 7001),
    ("hub7002", "{ipBlock: {cidr: 10.90.0.254/32}}", 7002),
    ("sink7001", "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: open}}}", 7001),
];

fn policy((name, to, port): (&str, &str, u16)) -> String {
    format!(
        "apiVersion: sidewall.dev/v1alpha1\nkind: ContainerNetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
         podSelector: {{}}\n  containers: [probe]\n  policyTypes: [Egress]\n  egress:\n  - to: [{to}]\n    \
         ports: [{{protocol: TCP, port: {port}}}, {{protocol: UDP, port: {port}}}]\n"
    )
}

/// A change of one policy: whether it allows from then on, when it began and when it was in force.
#[derive(Debug, Clone, Copy)]
struct Change {
    allows: bool,
    began: u64,
    done: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Denied,
    Either,
}

/// What policies said, and when.
#[derive(Debug, Default)]
struct History(BTreeMap<&'static str, Vec<Change>>);

impl History {
    /// The verdict on a target from one moment to another; `Either` where it was not the same all the time.
    fn verdict(&self, target: &str, from: u64, to: u64) -> Verdict {
        let switch = target.rsplit_once('-').map_or(target, |(switch, _)| switch);
        let changes = self.0.get(switch).map(Vec::as_slice).unwrap_or_default();
        if changes.iter().any(|change| change.began <= to && from <= change.done) {
            return Verdict::Either;
        }
        match changes.iter().rfind(|change| change.done < from) {
            Some(change) if change.allows => Verdict::Allowed,
            _ => Verdict::Denied,
        }
    }

    fn is_on(&self, switch: &str) -> bool {
        self.0.get(switch).and_then(|changes| changes.last()).is_some_and(|change| change.allows)
    }
}

fn pod(name: &str, sink: std::net::IpAddr) -> Pod {
    let address = |name: &str, port| match name {
        "hub7001" | "hub7002" => (hub(), port),
        "sink7001" => (sink, port),
        _ => (std::net::Ipv4Addr::LOCALHOST.into(), port),
    };
    let targets = SWITCHES.iter().flat_map(|(name, _, port)| Target::both(name, address(name, *port), false)).collect();
    let plan = |container: &str, listen: &[u16], targets, then| Plan {
        name: format!("{name}-{container}"),
        listen: listen.to_vec(),
        targets,
        burst: 0,
        then,
    };
    let containers = vec![
        Container { name: "app".into(), user: 1001, plan: plan("app", &[8080, 8081], Vec::new(), Then::Rest) },
        Container { name: "probe".into(), user: 1002, plan: plan("probe", &[], targets, Then::GoOn(PAUSE)) },
    ];
    Pod { namespace: "shop".into(), name: name.into(), app: name.into(), containers }
}

/// Whether the node's own object says that a policy is there, or not, and that the rules of every pod are in force.
fn in_force(walled: &Walled, name: &str, there: bool) -> Result<(), String> {
    let object = walled.api().get(&["nodeenforcement", walled.node().name()]).map_err(|error| error.to_string())?;
    let status = &object["status"];
    let list = |field: &str| status[field].as_array().cloned().unwrap_or_default();
    let named = list("policyList").iter().any(|policy| policy["name"] == name);
    let settled = list("podList").iter().all(|pod| pod["state"] == "Enforced");
    if named == there && settled { Ok(()) } else { Err(status.to_string()) }
}

/// Turns a policy on or off and waits until that is in force, however often it has to be tried.
fn turn(walled: &Walled, history: &Mutex<History>, switch: (&'static str, &str, u16), on: bool) {
    let (name, began) = (switch.0, now());
    // Until it is done, the end is open.
    let open = Change { allows: on, began, done: u64::MAX };
    history.lock().unwrap().0.entry(name).or_default().push(open);
    let api = walled.api();
    until("the API server's consent", LIMIT, || {
        let told = if on { api.apply(&policy(switch)) } else { api.delete(&policy(switch)) };
        Ok(told.map(drop).map_err(|error| error.to_string()))
    })
    .unwrap();
    let settled = until(&format!("{name} {on} in force"), LIMIT, || {
        let seen = in_force(walled, name, on);
        sleep(Duration::from_millis(if seen.is_ok() { 0 } else { 100 }));
        Ok(seen)
    });
    settled.unwrap();
    if let Some(change) = history.lock().unwrap().0.get_mut(name).and_then(|changes| changes.last_mut()) {
        change.done = now();
    }
}

/// Sets a flag when it goes, also by a panic: others then end too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Turns policies on and off.
fn churn_policies(walled: &Walled, history: &Mutex<History>, random: &mut Random, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        if let Some(switch) = random.of(&SWITCHES).copied() {
            let on = !history.lock().unwrap().is_on(switch.0);
            turn(walled, history, switch, on);
            // All stands still for a moment, in which verdicts are sharp.
            sleep(Duration::from_millis(random.between(500, 2000)));
        }
    }
}

/// Makes pods and takes them away.
fn churn_pods(walled: &Walled, sink: std::net::IpAddr, random: &mut Random, over: &AtomicBool) -> usize {
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let name = format!("churn{number}");
        // Without an API server there is nobody to ask: then the next comes later.
        if walled.make(&[pod(&name, sink)]).is_ok() {
            number += 1;
            sleep(Duration::from_millis(random.between(2000, 6000)));
            let gone = ["-n", "shop", "delete", "pod", "--now", "--wait=false", &name];
            let _ =
                until("the end of a pod", LIMIT, || Ok(walled.api().kubectl(&gone).map_err(|error| error.to_string())));
        }
        sleep(Duration::from_millis(200));
    }
    number
}

/// Ends something, and starts it again.
fn disturb(walled: &Walled, agent: &Agent, random: &mut Random) -> &'static str {
    match random.below(10) {
        0..=3 => {
            agent.stop(Signal::KILL).unwrap();
            sleep(Duration::from_millis(random.below(1500)));
            agent.resume().unwrap();
            "agent killed"
        }
        4 => {
            agent.stop(Signal::TERM).unwrap();
            agent.resume().unwrap();
            "agent restarted"
        }
        5 => {
            agent.signal(Signal::STOP).unwrap();
            sleep(Duration::from_millis(random.between(500, 3000)));
            agent.signal(Signal::CONT).unwrap();
            "agent stopped"
        }
        6 | 7 => {
            walled.node().stop_containerd(Signal::KILL).unwrap();
            sleep(Duration::from_millis(random.below(1000)));
            walled.node().start_containerd().unwrap();
            "containerd killed"
        }
        8 => {
            let shims = walled.node().cell().run("/bin/sh", &["-c", SHIMS]).unwrap_or_default();
            let shims: Vec<&str> = shims.split_ascii_whitespace().collect();
            if let Some(shim) = random.of(&shims) {
                // It may have ended by itself meanwhile.
                let _ = walled.node().cell().run("kill", &["-9", shim]);
            }
            "shim killed"
        }
        _ => {
            let control = walled.cluster().control();
            control.stop_api(Signal::KILL).unwrap();
            sleep(Duration::from_millis(random.between(500, 3000)));
            control.start_api().unwrap();
            "API server killed"
        }
    }
}

/// What was received although it was denied all the while.
fn broken(report: &Report, history: &History) -> Vec<String> {
    let of_pods = report
        .got
        .iter()
        .filter(|got| got.by.contains("-app.") || got.by.starts_with("hub.") || got.by.starts_with("open-"));
    of_pods
        .filter(|got| {
            got.run == "?" || history.verdict(&got.target, got.sent, got.at.min(got.sent + ATTEMPT)) == Verdict::Denied
        })
        // Who connects and is killed before he says who he is can't be judged, but where nothing was allowed on that port.
        .filter(|got| {
            let of_port = SWITCHES.iter().filter(|(.., port)| *port == got.port);
            let mut verdicts = of_port.map(|(name, ..)| history.verdict(name, got.at.saturating_sub(ATTEMPT), got.at));
            got.run != "?" || verdicts.all(|verdict| verdict == Verdict::Denied)
        })
        .map(|got| format!("{got:?}"))
        .collect()
}

/// What was refused although it was allowed all the while, after its container had come through once. Of what is outside
/// the pod: inside, whoever is to answer may be away.
fn refused(report: &Report, history: &History) -> (usize, Vec<String>) {
    let (mut known, mut reached, mut refused) = (BTreeSet::new(), 0, Vec::new());
    for tried in report.tried.iter().filter(|tried| tried.target.starts_with("hub")) {
        let verdict = history.verdict(&tried.target, tried.at, tried.at + ATTEMPT);
        match tried.outcome {
            Outcome::Reached => {
                known.insert(tried.run.as_str());
                reached += 1;
            }
            // EPERM and ECONNREFUSED are rules; anything else is a network that is being taken away.
            Outcome::Refused(1 | 111) if verdict == Verdict::Allowed && known.contains(tried.run.as_str()) => {
                refused.push(format!("{tried:?}"));
            }
            Outcome::Refused(_) | Outcome::Silence => {}
        }
    }
    (reached, refused)
}

#[test]
fn whatever_ends_nothing_passes_that_is_denied() {
    let mut random = Random::seeded();
    let long = std::env::var_os("SIDEWALL_LONG").is_some_and(|value| !value.is_empty());
    let walled = Walled::start(&Options::default(), &[7001, 7002]).unwrap();
    walled.namespace("shop").unwrap();
    walled.namespace("open").unwrap();
    walled.api().apply(BASE).unwrap();
    let agent = walled.agent(json!({})).unwrap();
    let plan = Plan { name: "open-sink".into(), listen: vec![7001], targets: Vec::new(), burst: 0, then: Then::Rest };
    let containers = vec![Container { name: "app".into(), user: 1001, plan }];
    walled.make(&[Pod { namespace: "open".into(), name: "sink".into(), app: "sink".into(), containers }]).unwrap();
    walled.api().ready("open", "sink", LIMIT).unwrap();
    let sink = walled.addresses("open", "sink").unwrap()[0];
    let names: Vec<String> = (0..PODS).map(|number| format!("stays{number}")).collect();
    walled.make(&names.iter().map(|name| pod(name, sink)).collect::<Vec<_>>()).unwrap();
    names.iter().for_each(|name| drop(walled.api().ready("shop", name, LIMIT).unwrap()));

    let history = Mutex::new(History::default());
    let (policies_over, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut done: BTreeMap<&str, usize> = BTreeMap::new();
    let pods = std::thread::scope(|scope| {
        let (mut first, mut second) = (random.split(), random.split());
        let (history, policies_over, over, walled) = (&history, &policies_over, &over, &walled);
        let policies = scope.spawn(move || {
            let _over = Over(policies_over);
            churn_policies(walled, history, &mut first, over);
        });
        let pods = scope.spawn(move || churn_pods(walled, sink, &mut second, over));
        let _over = Over(over);
        let (begin, span) = (Instant::now(), Duration::from_secs(if long { 600 } else { 25 }));
        while begin.elapsed() < span && !policies_over.load(Ordering::Relaxed) {
            *done.entry(disturb(walled, &agent, &mut random)).or_default() += 1;
            sleep(Duration::from_millis(random.between(200, 2500)));
        }
        agent.ready().unwrap();
        drop(_over);
        policies.join().unwrap();
        pods.join().unwrap()
    });
    // In the end all is as policies say.
    for switch in SWITCHES {
        if !history.lock().unwrap().is_on(switch.0) {
            turn(&walled, &history, switch, true);
        }
    }
    let since = now();
    until("probers that reach everything", LIMIT, || {
        let report = walled.report()?;
        let reached: BTreeSet<(&str, &str)> = report
            .tried
            .iter()
            .filter(|tried| tried.at >= since && tried.outcome == Outcome::Reached)
            .map(|tried| (prober(&tried.run), tried.target.as_str()))
            .collect();
        let all = names.iter().flat_map(|name| SWITCHES.iter().map(move |(switch, ..)| (name, switch)));
        let not: Vec<String> = all
            .filter(|(name, switch)| {
                let target = |suffix| format!("{switch}-{suffix}");
                let name = format!("{name}-probe");
                ["tcp", "udp"].iter().any(|suffix| !reached.contains(&(name.as_str(), target(suffix).as_str())))
            })
            .map(|(name, switch)| format!("{name} {switch}"))
            .collect();
        sleep(Duration::from_millis(200));
        Ok(if not.is_empty() { Ok(()) } else { Err(format!("{not:?}\n{}", agent.log())) })
    })
    .unwrap();

    let (report, history) = (walled.report().unwrap(), history.into_inner().unwrap());
    let changes: Vec<&Change> = history.0.values().flatten().collect();
    let mut under_way: Vec<u64> = changes.iter().map(|change| (change.done - change.began) / 1_000_000).collect();
    under_way.sort_unstable();
    let sharp = |wanted| {
        let verdict = |tried: &&sidewall_node_tests::probe::Tried| {
            history.verdict(&tried.target, tried.at, tried.at + ATTEMPT) == wanted
        };
        report.tried.iter().filter(verdict).count()
    };
    let (denied, allowed) = (sharp(Verdict::Denied), sharp(Verdict::Allowed));
    println!(
        "{done:?}, {pods} pods, {} runs, {} changes under way for {under_way:?} ms; {denied} attempts at what was denied, {allowed} \
         at what was allowed",
        report.runs.len(),
        changes.len(),
    );
    assert!(denied > 1000 && allowed > 100, "too few attempts to say anything");
    let broken = broken(&report, &history);
    assert!(broken.is_empty(), "{} got through: {:#?}\n{:#?}", broken.len(), &broken[..broken.len().min(20)], history);
    let (reached, refused) = refused(&report, &history);
    assert!(
        reached > 0 && refused.is_empty(),
        "of {reached}: {:#?}\n{:#?}",
        &refused[..refused.len().min(20)],
        history
    );
}

/// The judgement itself: of the same packets some are broken rules and some are not, by when they were sent.
#[test]
fn a_packet_is_judged_by_the_moment_it_was_sent_and_received_in() {
    let history = History(BTreeMap::from([(
        "hub7001",
        vec![Change { allows: true, began: 1_000, done: 2_000 }, Change { allows: false, began: 3_000, done: 4_000 }],
    )]));
    let judged = |sent, at| {
        let got = Got {
            by: "hub.1".into(),
            at,
            port: 7001,
            protocol: "udp".into(),
            peer: "10.91.1.2:4242".into(),
            run: "a-probe.1".into(),
            target: "hub7001-udp".into(),
            sent,
        };
        broken(&Report { got: vec![got], ..Report::default() }, &history).len()
    };
    // Before it was allowed, and after that was over; but not while a change was under way, nor where one began meanwhile.
    assert_eq!([(10, 20), (4_001, 4_002)].map(|(sent, at)| judged(sent, at)), [1, 1]);
    assert_eq!(
        [(990, 1_001), (1_500, 1_600), (2_500, 2_600), (3_999, 4_100)].map(|(sent, at)| judged(sent, at)),
        [0; 4]
    );
}
