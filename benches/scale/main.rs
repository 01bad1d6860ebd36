//! A node of a large cluster: how long until all its pods have their rules, until one pod's change is in force, and what
//! memory that takes. Needs root; touches nothing but network namespaces of its own, which end with the process.
#![forbid(unsafe_code)]

mod churn;
mod cluster;
mod memory;
mod node;
mod one;
mod policies;

use churn::{Churn, Happening, Kind};
use clap::Parser;
use cluster::{Cluster, Size};
use node::{Done, Node};
use sidewall_benches::Options;
use sidewall_benches::report::{self, Row};
use sidewall_benches::stats;
use sidewall_netns::NetNs;
use sidewall_policy::index::{Change, Named, Walls};
use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::time::Instant;

/// What goes wrong here ends the benchmark; it is told as it is.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const MS: &str = "ms";
/// Until all pods of the node have their rules, in milliseconds.
const START: f64 = 3_000.0;
/// Until a pod's change is in force everywhere on the node, in milliseconds; the median.
const CHANGE: f64 = 20.0;
/// What an agent's engine may hold, in MiB.
const MEMORY: f64 = 150.0;

/// The benchmark's own options.
#[derive(Clone, Debug, Parser)]
#[command(about = "A node of a large cluster")]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    size: Size,
    /// How many happenings of each sort are measured [default: 60]
    #[arg(long)]
    changes: Option<usize>,
    /// How many threads load rules while another plans
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How often the start is measured [default: 5]
    #[arg(long)]
    starts: Option<usize>,
    /// Cluster sizes of the curve, in pods
    #[arg(long, value_delimiter = ',', default_value = "100,1000,3000,10000")]
    curve: Vec<usize>,
    /// How many policies select one pod, where that is measured
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,20000")]
    one: Vec<usize>,
    /// How many happenings there are before memory is told again
    #[arg(long, default_value_t = 300)]
    happenings: usize,
    /// Tells its memory only: the benchmark calls itself so
    #[arg(long, hide = true)]
    memory: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err("this benchmark makes network namespaces and loads rules: run it as root".into());
    }
    if arguments.memory {
        return memory::tell(arguments);
    }
    let quick = arguments.options.quick;
    let size = if quick { quick_size(&arguments.size) } else { arguments.size.clone() };
    let mut rows: Vec<Row> = Vec::new();
    let mut tell = |row: Row| {
        println!("{row}");
        rows.push(row);
    };
    for scraper in if size.scraper { vec![true] } else { vec![false, true] } {
        let size = Size { scraper, ..size.clone() };
        if arguments.options.wants("start") || arguments.options.wants("change") {
            whole(arguments, &size, &mut tell)?;
        }
        if arguments.options.wants("memory") {
            memory::run(arguments, &size, MEMORY, &mut tell)?;
        }
    }
    if arguments.options.wants("curve") {
        for pods in arguments.curve.iter().filter(|pods| !quick || **pods < 500) {
            curve(arguments, *pods, &mut tell)?;
        }
    }
    if arguments.options.wants("one pod, ") {
        one::run(arguments, &mut tell)?;
    }
    if let Some(out) = &arguments.options.out {
        report::write(&rows, out)?;
    }
    Ok(())
}

fn quick_size(size: &Size) -> Size {
    Size {
        pods: size.pods.min(400),
        policies: size.policies.min(60),
        namespaces: 12,
        local: size.local.min(10),
        ..size.clone()
    }
}

/// The cluster as it was asked for: start, then all sorts of happenings.
fn whole(arguments: &Arguments, size: &Size, tell: &mut dyn FnMut(Row)) -> Result<()> {
    let quick = arguments.options.quick;
    let starts = arguments.starts.unwrap_or(if quick { 1 } else { 5 });
    let mut took = Vec::new();
    let mut last = None;
    for _ in 0..starts.max(1) {
        // The one before goes first, so that no more namespaces are there than one node has.
        drop(last.take());
        let begun = start(arguments, size)?;
        took.push(begun.took);
        last = Some(begun);
    }
    let Some(mut begun) = last else { return Ok(()) };
    println!("{}", begun.about());
    let label = label(size);
    tell(Row::alone(
        format!("full start, {label}"),
        MS,
        Some(START),
        &took.iter().map(|took| took.all).collect::<Vec<_>>(),
    ));
    for (part, value) in [
        ("processor time", (|took| took.processor) as fn(&Took) -> f64),
        ("objects into the index", |took| took.index),
        ("resolve and compile alone", |took| took.plan),
        ("in force, from the first pod planned", |took| took.settle),
    ] {
        tell(Row::alone(format!("full start, {part}"), MS, None, &took.iter().map(value).collect::<Vec<_>>()));
    }
    let count = arguments.changes.unwrap_or(if quick { 4 } else { 60 });
    let measured = churn(&mut begun, count)?;
    tell_changes(&measured, &label, tell);
    println!("{} pods read back: every rule and element is as it should be", begun.node.verify()?);
    Ok(())
}

/// A smaller or larger cluster with the same policies to a pod.
fn curve(arguments: &Arguments, pods: usize, tell: &mut dyn FnMut(Row)) -> Result<()> {
    let size = Size {
        pods,
        policies: (pods / 10).max(10),
        namespaces: (pods / 80).clamp(8, 120),
        local: arguments.size.local.min(pods),
        ..arguments.size.clone()
    };
    let mut begun = start(arguments, &size)?;
    let label = label(&size);
    tell(Row::alone(format!("curve, full start, {label}"), MS, None, &[begun.took.all]));
    let measured = churn(&mut begun, arguments.changes.unwrap_or(20).min(20))?;
    let pods: Vec<f64> =
        measured.iter().filter(|m| m.kind != Kind::Policy && m.kind != Kind::StartsHere).map(|m| m.took).collect();
    tell(Row::alone(format!("curve, one pod's change, {label}"), MS, None, &pods));
    begun.node.verify()?;
    Ok(())
}

fn label(size: &Size) -> String {
    let scraper = if size.scraper { ", a Prometheus among them" } else { "" };
    format!("{} pods, {} policies, {} on the node{scraper}", size.pods, size.policies, size.local.min(size.pods))
}

/// What a start took, in milliseconds.
#[derive(Clone, Copy)]
struct Took {
    all: f64,
    index: f64,
    settle: f64,
    plan: f64,
    processor: f64,
}

/// A node whose pods have their rules.
struct Begun {
    cluster: Cluster,
    node: Node,
    spaces: VecDeque<NetNs>,
    used: Vec<NetNs>,
    took: Took,
    done: Done,
}

impl Begun {
    fn about(&self) -> String {
        let (mut chains, mut rules, mut sets, mut elements, mut walled) = (0, 0, 0, 0, 0);
        for (id, _) in self.node.walls.index().subjects() {
            let Some(compiled) = self.node.walls.standing(id) else { continue };
            walled += 1;
            for table in &compiled.ruleset.tables {
                chains += table.chains.len();
                rules += table.chains.iter().map(|chain| chain.rules.len()).sum::<usize>();
                sets += table.sets.len();
                elements += table.sets.iter().map(|set| set.elements.len()).sum::<usize>();
            }
        }
        format!(
            "{} namespaces, {} workloads, {} nodes; {walled} pods with rules, loaded {}: {chains} chains, {rules} rules, {sets} sets, {elements} elements",
            self.cluster.namespaces.len(),
            self.cluster.workloads.len(),
            self.cluster.nodes,
            self.done.loads,
        )
    }
}

/// Everything that the API server has, in the order in which an agent may hear of it; then the node's pods.
fn objects(cluster: &Cluster) -> Vec<Change> {
    let mut objects = vec![Change::Network(cluster.network())];
    for (index, name) in cluster.namespaces.iter().enumerate() {
        objects.push(Change::Namespace(name.clone(), cluster.namespace_labels(index)));
    }
    objects.extend(cluster.host_pods().map(Change::Pod));
    let mut by_workload: BTreeMap<usize, Vec<&cluster::Replica>> = BTreeMap::new();
    for replica in &cluster.replicas {
        objects.push(Change::Pod(cluster.pod(replica)));
        by_workload.entry(replica.workload).or_default().push(replica);
    }
    objects
        .extend(by_workload.iter().map(|(workload, replicas)| Change::Service(cluster.service(*workload, replicas))));
    objects.extend(policies::policies(cluster));
    objects
}

/// Makes a cluster and the node's namespaces, then measures from there until all rules are in force.
fn start(arguments: &Arguments, size: &Size) -> Result<Begun> {
    let cluster = Cluster::new(size);
    let here: Vec<_> = cluster.replicas.iter().filter(|replica| replica.node == 0).collect();
    let mut spaces = node::spaces(here.len() + arguments.changes.unwrap_or(60))?;
    let used: Vec<NetNs> = spaces.drain(..here.len()).collect();
    let objects = objects(&cluster);
    let subjects: Vec<_> = here.iter().map(|replica| cluster.subject(replica, 0)).collect();

    let (begin, before) = (Instant::now(), processor());
    let mut node = Node::new(Walls::default(), arguments.threads);
    for object in objects {
        node.walls.apply(object);
    }
    for (subject, space) in subjects.into_iter().zip(&used) {
        node.open(Named::new(&subject.namespace, &subject.name), space)?;
        node.walls.apply(Change::Subject(subject));
    }
    let indexed = Instant::now();
    let done = node.settle()?;
    let (end, after) = (Instant::now(), processor());

    // The same once more without a kernel, to know what part that was.
    let mut alone = Walls::new(node.walls.index().world());
    for (_, subject) in node.walls.index().subjects() {
        alone.apply(Change::Subject(subject.clone()));
    }
    let again = Instant::now();
    let pending: Vec<_> = alone.pending().collect();
    for id in pending {
        drop(alone.plan(id));
    }
    let plan = milliseconds(again, Instant::now());
    let took = Took {
        all: milliseconds(begin, end),
        index: milliseconds(begin, indexed),
        settle: milliseconds(indexed, end),
        plan,
        processor: after - before,
    };
    Ok(Begun { cluster, node, spaces, used, took, done })
}

/// What processor time this process has had, in user and in kernel mode, in milliseconds.
fn processor() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn milliseconds(from: Instant, to: Instant) -> f64 {
    (to - from).as_secs_f64() * 1e3
}

/// One happening, measured.
struct Measured {
    kind: Kind,
    took: f64,
    processor: f64,
    index: f64,
    done: Done,
}

/// Lets so many of each sort happen, in turn.
fn churn(begun: &mut Begun, count: usize) -> Result<Vec<Measured>> {
    let mut churn = Churn::new(&begun.cluster);
    let mut measured = Vec::new();
    for _ in 0..count {
        for kind in Kind::ALL {
            let Some(Happening { changes, starts }) = churn.next(&mut begun.cluster, kind) else { continue };
            let space = match &starts {
                Some(_) => Some(begun.spaces.pop_front().ok_or("no network namespace is left")?),
                None => None,
            };
            let (begin, before) = (Instant::now(), processor());
            if let (Some(name), Some(space)) = (starts, &space) {
                begun.node.open(name, space)?;
            }
            for change in changes {
                begun.node.walls.apply(change);
            }
            let applied = Instant::now();
            let done = begun.node.settle()?;
            let (end, after) = (Instant::now(), processor());
            begun.used.extend(space);
            let (took, index) = (milliseconds(begin, end), milliseconds(begin, applied));
            measured.push(Measured { kind, took, processor: after - before, index, done });
        }
    }
    Ok(measured)
}

fn tell_changes(measured: &[Measured], label: &str, tell: &mut dyn FnMut(Row)) {
    // What is a pod's own change: a policy's is told apart, and a pod's start is a load.
    let ordinary = |m: &&Measured| !matches!(m.kind, Kind::Policy | Kind::StartsHere);
    let took: Vec<f64> = measured.iter().filter(ordinary).map(|m| m.took).collect();
    tell(Row::alone(format!("one pod's change to loaded rules, {label}"), MS, Some(CHANGE), &took));
    let processor: Vec<f64> = measured.iter().filter(ordinary).map(|m| m.processor).collect();
    tell(Row::alone("one pod's change, processor time", MS, None, &processor));
    for kind in Kind::ALL {
        let of: Vec<&Measured> = measured.iter().filter(|m| m.kind == kind).collect();
        let took: Vec<f64> = of.iter().map(|m| m.took).collect();
        if took.is_empty() {
            continue;
        }
        tell(Row::alone(format!("change, {}", kind.name()), MS, None, &took));
        let processor = stats::median(&of.iter().map(|m| m.processor).collect::<Vec<_>>());
        let column = |value: fn(&Measured) -> usize| -> String {
            let values: Vec<f64> = of.iter().map(|m| value(m) as f64).collect();
            format!("{:.0} ≤ {:.0}", stats::median(&values), quantile(&values, 1.0))
        };
        let mut why: BTreeMap<&str, usize> = BTreeMap::new();
        for (reason, count) in of.iter().flat_map(|m| &m.done.why) {
            *why.entry(reason).or_default() += count;
        }
        println!(
            "    p95 {:.2}, max {:.2} ms, processor {processor:.2} ms, index {:.2} ms, planning {:.2} ms; median and most: pods looked at {}, changed {}, loaded {}, chains {}, elements {} {why:?}",
            quantile(&took, 0.95),
            quantile(&took, 1.0),
            stats::median(&of.iter().map(|m| m.index).collect::<Vec<_>>()),
            stats::median(&of.iter().map(|m| m.done.planning).collect::<Vec<_>>()),
            column(|m| m.done.looked_at),
            column(|m| m.done.pods),
            column(|m| m.done.loads),
            column(|m| m.done.chains),
            column(|m| m.done.elements),
        );
    }
    for (name, part) in [("p95", 0.95), ("max", 1.0)] {
        tell(Row::alone(format!("one pod's change, {name}"), MS, None, &[quantile(&took, part)]));
    }
}

fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}
