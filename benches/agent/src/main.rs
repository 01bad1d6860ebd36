//! What the node's agent costs: until a change is in force, what a pod's start takes longer, and what the agent itself needs.
//!
//! On nodes of containerd with a real etcd and API server. The benchmark plays the kubelet: it makes pods' objects, runs them over
//! CRI with the same names and UIDs, and writes their status back. Needs root, and leaves nothing: nodes and control plane are
//! cells of their own, which end with the process.
#![forbid(unsafe_code)]

mod changes;
mod eyes;
mod life;
mod objects;
mod pods;
mod starts;
mod world;

use changes::Scene;
use clap::Parser;
use eyes::Eyes;
use objects::Objects;
use pods::{Running, Runtime, Wanted};
use serde_json::json;
use sidewall_benches::Options;
use sidewall_benches::report::{self, Row};
use sidewall_node_tests::{Agent, ControlPlane, Fabric, Node, agent};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What goes wrong here ends the benchmark; it is told as it is.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const MS: &str = "ms";

/// The benchmark's own options.
#[derive(Clone, Debug, Parser)]
#[command(about = "What the node's agent costs")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// The CNI plugin as it is deployed [default: sidewall-cni beside this program]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// How many pairs of pods are started, one with walls and one without [default: 50]
    #[arg(long)]
    starts: Option<usize>,
    /// How many changes of each sort are measured [default: 60]
    #[arg(long)]
    changes: Option<usize>,
    /// How many pods run on the node while changes are measured [default: 100]
    #[arg(long)]
    pods: Option<usize>,
    /// How many pods run on the node while the agent itself is measured; 253 are the most [default: 250]
    #[arg(long)]
    most: Option<usize>,
    /// How often the agent is restarted by each signal [default: 10]
    #[arg(long)]
    restarts: Option<usize>,
    /// How many seconds nothing happens [default: 60]
    #[arg(long)]
    idle: Option<u64>,
    /// Waits at the end until standard input is closed, for who wants to look at the agent
    #[arg(long)]
    stay: bool,
}

fn main() -> ExitCode {
    let done = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(&Arguments::parse())));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err("this benchmark runs nodes with containers: run it as root".into());
    }
    let quick = arguments.options.quick;
    let or = |given: Option<usize>, quickly: usize, usual: usize| given.unwrap_or(if quick { quickly } else { usual });
    let (few, most) = (or(arguments.pods, 40, 100), or(arguments.most, 50, 250));
    let mut rows: Vec<Row> = Vec::new();
    let mut tell = |row: Row| {
        println!("{row}");
        rows.push(row);
    };

    let fabric = Fabric::new()?;
    let control = ControlPlane::start(&fabric)?;
    agent::install(control.admin())?;
    let objects = Objects::connect(control.admin()).await?;
    let node = Node::start(&fabric, 1)?;
    let settings = match &arguments.plugin {
        Some(path) => json!({"cni": {"program": path}}),
        None => json!({}),
    };
    world::make(&objects, &["node1", "node2"]).await?;
    let agent = Agent::start(&node, &control, settings)?;
    let runtime = Runtime::connect(&node).await?;

    if arguments.options.wants("pod start") {
        let open = Node::start(&fabric, 2)?;
        let peer = Runtime::connect(&open).await?;
        starts::run(&objects, &runtime, &peer, or(arguments.starts, 4, 50), &mut tell).await?;
    }
    let mut pods: Vec<Running> = Vec::new();
    if arguments.options.wants("in force") {
        more(&runtime, &objects, &mut pods, few).await?;
        let stores = stores(&runtime, &objects, &pods).await?;
        let mut namespaces = Vec::new();
        for pod in &pods {
            namespaces.push(runtime.netns(pod).await?);
        }
        let eyes = Eyes::open(&namespaces)?;
        let wanted: Vec<Wanted> = pods.iter().map(|pod| pod.pod.clone()).collect();
        let scene = Scene { objects: &objects, eyes: &eyes, pods: &wanted, stores: &stores };
        let measured = scene.run(or(arguments.changes, 5, 60), &mut tell).await;
        measured.map_err(|error| format!("{error}\n{}", agent.log()))?;
    }
    if ["restart", "RSS", "idle"].iter().any(|name| arguments.options.wants(name)) {
        more(&runtime, &objects, &mut pods, most).await?;
        life::restarts(&agent, pods.len(), or(arguments.restarts, 1, 10), &mut tell)?;
        let idle = arguments.idle.unwrap_or(if quick { 5 } else { 60 });
        life::stay(&agent, pods.len(), Duration::from_secs(idle), &mut tell)?;
    }
    if let Some(out) = &arguments.options.out {
        report::write(&rows, out)?;
    }
    if arguments.stay {
        eprintln!("the agent is process {}; close standard input to end", agent.pid()?);
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    }
    Ok(())
}

/// Runs pods until there are so many: a tenth are clients, the others those of the teams in turn.
async fn more(runtime: &Runtime<'_>, objects: &Objects, pods: &mut Vec<Running>, count: usize) -> Result<()> {
    let begin = Instant::now();
    let wanted = (pods.len()..count).map(|index| {
        let (tens, ones) = (index / 10, index % 10);
        let namespace = if ones == 9 { world::CLIENTS.to_owned() } else { world::team(ones) };
        Wanted { namespace, name: format!("pod-{index}"), number: tens }
    });
    let started = runtime.run(objects, wanted.collect()).await?;
    println!("    {} pods were started in {:.1} s", started.len(), begin.elapsed().as_secs_f64());
    pods.extend(started);
    Ok(())
}

/// Gives each team's Service its endpoints; returns their addresses.
async fn stores(runtime: &Runtime<'_>, objects: &Objects, pods: &[Running]) -> Result<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for team in (0..world::TEAMS).map(world::team) {
        let mut addresses = Vec::new();
        for pod in pods.iter().filter(|pod| pod.pod.namespace == team && pod.pod.number % world::APPLICATIONS == 3) {
            addresses.extend(runtime.addresses(pod).await?.into_iter().filter(|address| !address.contains(':')));
        }
        objects.create(world::slices(&team), world::slice(&addresses)).await?;
        all.push(addresses);
    }
    Ok(all)
}

fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}
