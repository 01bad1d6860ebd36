//! What the agent and the runtime may go through while rules stand, on a real kubelet and containerd. Needs root.
#![forbid(unsafe_code)]

mod life;

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use sidewall_netfilter::Kernel;
use sidewall_netns::NetNs;
use sidewall_node_tests::agent::Agent;
use sidewall_node_tests::cell::output;
use sidewall_node_tests::node::{CNI_CONFIGURATION, CNI_PLUGINS};
use sidewall_node_tests::parts;
use sidewall_node_tests::probe::{Plan, Target, Then, now};
use sidewall_node_tests::run::{alone, long};
use sidewall_node_tests::until::until;
use sidewall_node_tests::walled::{Container, Pod, Walled};

use life::{LIMIT, LOOK, held, nothing_of_the_dead, pod, process, reaches, start, stood, targets};

/// A pod that does nothing.
fn idle(name: &str) -> Pod {
    let app = Container::new("app", 1001, Plan::new(&format!("{name}-app"), &[8080], Vec::new(), Then::Rest));
    Pod { namespace: "shop".into(), name: name.into(), app: name.into(), containers: vec![app] }
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
    let crashers = (0..4).map(|number| {
        let plan = Plan::new(&format!("watch-crash{number}"), &[], tries.clone(), Then::End);
        Container::new(&format!("crash{number}"), 1003 + number, Plan { burst: 20, ..plan })
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
