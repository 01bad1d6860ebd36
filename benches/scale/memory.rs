//! What memory the engine takes, in a process that holds nothing else.

use crate::churn::{Churn, Kind};
use crate::cluster::{Cluster, Replica, Size};
use crate::node::{self, Node};
use crate::{Arguments, Result, policies};
use serde::{Deserialize, Serialize};
use sidewall_benches::report::Row;
use sidewall_policy::index::{Change, Named, Walls};
use std::collections::BTreeMap;
use std::process::Command;

const MIB: &str = "MiB";
/// Memory, in MiB.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    /// Before anything: the program itself, and what tells the objects apart.
    before: f64,
    /// When all rules are in force.
    started: f64,
    /// The most until then.
    peak: f64,
    /// After as many happenings.
    later: f64,
    /// The most until then.
    later_peak: f64,
}

/// Measures in a process of its own and tells.
pub fn run(arguments: &Arguments, size: &Size, target: f64, tell: &mut dyn FnMut(Row)) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--memory").args(["--threads", &arguments.threads.to_string()]);
    for (flag, value) in [
        ("--pods", size.pods as u64),
        ("--policies", size.policies as u64),
        ("--namespaces", size.namespaces as u64),
        ("--local", size.local as u64),
        ("--seed", size.seed),
        ("--happenings", arguments.happenings as u64),
    ] {
        command.arg(flag).arg(value.to_string());
    }
    if size.dual_stack {
        command.arg("--dual-stack");
    }
    if size.scraper {
        command.arg("--scraper");
    }
    if arguments.options.quick {
        command.arg("--quick");
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("measuring memory: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    let memory: Memory = serde_json::from_slice(&output.stdout)?;
    for (name, target, value) in [
        ("the most until all rules are in force", Some(target), memory.peak),
        ("when all rules are in force", None, memory.started),
        ("after further changes", None, memory.later),
        ("the most after further changes", Some(target), memory.later_peak),
        ("of these the program alone", None, memory.before),
    ] {
        let scraper = if size.scraper { ", with a Prometheus" } else { "" };
        tell(Row::alone(format!("memory{scraper}, {name}"), MIB, target, &[value]));
    }
    Ok(())
}

/// The process of its own.
pub fn tell(arguments: &Arguments) -> Result<()> {
    let mut cluster = Cluster::new(&arguments.size);
    let mut churn = Churn::new(&cluster);
    let here: Vec<Replica> = cluster.replicas.iter().filter(|replica| replica.node == 0).cloned().collect();
    // What churn leaves behind would show.
    let happenings = if arguments.options.quick { 20 } else { arguments.happenings };
    let mut spaces = node::spaces(here.len())?;
    let before = resident("VmRSS:")?;
    let mut node = Node::new(Walls::default(), arguments.threads);
    // An agent hears of one object after the other and holds none of them but in the index.
    node.walls.apply(Change::Network(cluster.network()));
    for (index, name) in cluster.namespaces.iter().enumerate() {
        node.walls.apply(Change::Namespace(name.clone(), cluster.namespace_labels(index)));
    }
    for pod in cluster.host_pods() {
        node.walls.apply(Change::Pod(pod));
    }
    let mut by_workload: BTreeMap<usize, Vec<&Replica>> = BTreeMap::new();
    for replica in &cluster.replicas {
        node.walls.apply(Change::Pod(cluster.pod(replica)));
        by_workload.entry(replica.workload).or_default().push(replica);
    }
    for (workload, replicas) in by_workload {
        node.walls.apply(Change::Service(cluster.service(workload, &replicas)));
    }
    for policy in policies::policies(&cluster) {
        node.walls.apply(policy);
    }
    let mut used = Vec::new();
    for (replica, space) in here.iter().zip(spaces.drain(..here.len())) {
        let subject = cluster.subject(replica, 0);
        node.open(Named::new(&subject.namespace, &subject.name), &space)?;
        used.push(space);
        node.walls.apply(Change::Subject(subject));
    }
    node.settle()?;
    let (started, peak) = (resident("VmRSS:")?, resident("VmHWM:")?);
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::StartsHere).cycle().take(happenings) {
        let Some(happening) = churn.next(&mut cluster, kind) else { continue };
        for change in happening.changes {
            node.walls.apply(change);
        }
        node.settle()?;
    }
    let memory = Memory { before, started, peak, later: resident("VmRSS:")?, later_peak: resident("VmHWM:")? };
    println!("{}", serde_json::to_string(&memory)?);
    Ok(())
}

/// A line of `NAME: NUMBER kB` of this process's status (proc(5)), in MiB.
fn resident(name: &str) -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let number = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
    Ok(number.ok_or_else(|| format!("the kernel tells no {name}"))? / 1024.0)
}
