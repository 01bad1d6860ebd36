//! What the operator costs: what a review takes, how long it needs to come to rest, and what it holds of a large cluster.
//!
//! Beside a real etcd and API server with the deployed rights and webhooks. There are no nodes: pods are objects, and what the
//! nodes' agents would report is written once. Needs root, and leaves nothing: the control plane is a cell of its own, which ends
//! with the process.
#![forbid(unsafe_code)]

mod floor;
mod life;
mod load;
mod objects;
mod reviews;
mod world;

use base64::Engine;
use clap::{Parser, Subcommand};
use load::{Asker, Outcome, quantile};
use objects::{Objects, Write};
use reviews::Pods;
use rustix::process::Signal;
use serde_json::{Value, json};
use sidewall_benches::Options;
use sidewall_benches::report::{self, Row, Sample};
use sidewall_node_tests::until::until;
use sidewall_node_tests::{ControlPlane, Fabric, Operator, agent, operator};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What goes wrong here ends the benchmark; it is told as it is.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const MS: &str = "ms";
const S: &str = "s";
const MIB: &str = "MiB";

/// What 99 of 100 reviews may take at most, in milliseconds.
const REVIEW: f64 = 5.0;
/// What the operator may hold, in MiB.
const MEMORY: f64 = 100.0;
/// From a restart until it is at rest, in seconds.
const RESTART: f64 = 10.0;
/// Where the webhooks listen, beside the API server.
const WEBHOOKS: u16 = 9443;
/// The name of the webhooks' Service.
const HOST: &str = "sidewall-operator.sidewall-system.svc";
/// How many news come a second while reviews are asked for.
const NEWS: u32 = 20;
/// The webhook, in the API server's own count.
const WEBHOOK: &str = "inject.sidewall.dev";

/// The benchmark's own options.
#[derive(Clone, Debug, Parser)]
#[command(about = "What the operator costs")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// How many namespaces there are: each has 10 SidecarProxies, 50 ContainerNetworkPolicies and 100 pods [default: 100]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    namespaces: Option<u16>,
    /// How many reviews are asked for a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    rate: u32,
    /// How many seconds one load lasts [default: 10]
    #[arg(long)]
    seconds: Option<u64>,
    /// How many loads there are of each sort, in turn with those of the empty webhook [default: 6]
    #[arg(long)]
    rounds: Option<usize>,
    /// How often the operator is restarted by each signal [default: 3]
    #[arg(long)]
    restarts: Option<usize>,
    /// How many seconds nothing happens [default: 30]
    #[arg(long)]
    idle: Option<u64>,
    #[command(subcommand)]
    program: Option<Program>,
}

#[derive(Clone, Debug, Subcommand)]
enum Program {
    /// The empty webhook that the operator is compared with; the benchmark starts it itself
    #[command(hide = true)]
    Floor(floor::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.program {
        Some(Program::Floor(options)) => floor::serve(options),
        None => tokio::runtime::Runtime::new()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(Bench::run(&arguments))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Bench<'a> {
    arguments: &'a Arguments,
    control: &'a ControlPlane,
    operator: &'a Operator<'a>,
    objects: Objects,
    namespaces: usize,
    rows: Vec<Row>,
}

impl Bench<'_> {
    async fn run(arguments: &Arguments) -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Err("this benchmark runs an API server in namespaces of its own: run it as root".into());
        }
        let quick = arguments.options.quick;
        let fabric = Fabric::new()?;
        let control = ControlPlane::start(&fabric)?;
        let api = control.admin();
        agent::install(api)?;
        operator::install(api)?;
        let settings = json!({"webhook": {"address": format!("0.0.0.0:{WEBHOOKS}")}, "log": "info"});
        let operator = Operator::start(&control, 0, settings)?;
        operator::serve(api, &[&operator])?;
        let mut bench = Bench {
            arguments,
            control: &control,
            operator: &operator,
            objects: Objects::connect(api).await?,
            namespaces: usize::from(arguments.namespaces.unwrap_or(if quick { 5 } else { 100 })),
            rows: Vec::new(),
        };
        bench.fill().await.map_err(|error| format!("{error}\n{}", operator.log()))?;
        let done = bench.measure().await;
        done.map_err(|error| format!("{error}\n{}", operator.log()))?;
        if let Some(out) = &arguments.options.out {
            report::write(&bench.rows, out)?;
        }
        Ok(())
    }

    fn tell(&mut self, row: Row) {
        println!("{row}");
        self.rows.push(row);
    }

    fn alone(&mut self, name: String, unit: &'static str, target: Option<f64>, values: &[f64]) {
        self.tell(Row::alone(name, unit, target, values));
    }

    fn pods(&self) -> usize {
        self.namespaces * world::PODS
    }

    /// Makes everything that the API server knows, through the operator's webhooks.
    async fn fill(&self) -> Result<()> {
        let (api, objects, count) = (self.control.admin(), &self.objects, self.namespaces);
        let begin = Instant::now();
        let say =
            |what: &str| println!("    {what} after {:.0} s (load {})", begin.elapsed().as_secs_f64(), life::machine());
        for writes in world::namespaces(count) {
            objects.all(writes.into_iter(), |_| ()).await?;
        }
        // The API server has just been told whom to believe.
        let namespace = world::namespace(0);
        let probe = world::proxy(0, "Probe").to_string();
        until("the webhooks", Duration::from_secs(60), || {
            let tried = api.with_input(&["-n", &namespace, "create", "--dry-run=server", "-f", "-"], &probe);
            Ok(tried.map_err(|error| error.to_string()))
        })?;
        objects.all(world::proxies(count), |_| ()).await?;
        say("namespaces and SidecarProxies are there");
        let made = objects
            .all(world::pods(count), |pod| {
                let fronted = pod["spec"]["initContainers"].as_array().is_some_and(|containers| !containers.is_empty());
                (pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), fronted, pod.to_string().len())
            })
            .await?;
        let fronted = made.iter().filter(|(_, fronted, _)| *fronted).count();
        let wanted = (0..world::PODS).filter(|number| world::fronted(*number)).count() * count;
        if fronted != wanted {
            return Err(format!("{fronted} pods have got a proxy, and {wanted} should have").into());
        }
        let octets = |with: bool| {
            let all: Vec<usize> =
                made.iter().filter(|(_, fronted, _)| *fronted == with).map(|(_, _, octets)| *octets).collect();
            all.iter().sum::<usize>() / all.len().max(1)
        };
        say(&format!(
            "{} pods are there, {fronted} of them with a proxy (as JSON {} octets with, {} without)",
            made.len(),
            octets(true),
            octets(false)
        ));
        objects.all(world::policies(count), |_| ()).await?;
        say("policies are there");
        let uids: Vec<String> = made.into_iter().map(|(uid, _, _)| uid).collect();
        for writes in world::reports(count, &uids) {
            objects.all(writes.into_iter(), |_| ()).await?;
        }
        say("nodes' reports are there");
        let settled = self.settle(Instant::now())?;
        say(&format!("all is at rest, which took {:.1} s", settled.rest));
        Ok(())
    }

    fn settle(&self, begin: Instant) -> Result<life::Settled> {
        life::settle(self.operator, begin, self.pods())
    }

    async fn measure(&mut self) -> Result<()> {
        let (arguments, quick) = (self.arguments, self.arguments.options.quick);
        let wants = |name: &str| arguments.options.wants(name);
        if wants("restart") {
            self.restarts(arguments.restarts.unwrap_or(if quick { 1 } else { 3 }))?;
        }
        if wants("RSS") {
            self.memory("at rest")?;
        }
        if wants("idle") {
            let idle = Duration::from_secs(arguments.idle.unwrap_or(if quick { 5 } else { 30 }));
            let (before, begin) = (self.spent()?, Instant::now());
            tokio::time::sleep(idle).await;
            let part = (self.spent()? - before) / begin.elapsed().as_secs_f64() * 100.0;
            self.alone(format!("idle, {} s", idle.as_secs()), "% of a core", None, &[part]);
        }
        if wants("review") {
            self.reviews().await?;
        }
        if wants("API server") {
            self.admissions().await?;
        }
        if wants("change") {
            self.change().await?;
        }
        if wants("RSS") {
            self.memory("after all of it")?;
        }
        Ok(())
    }

    fn spent(&self) -> Result<f64> {
        life::spent(self.operator.pid()?)
    }

    fn memory(&mut self, when: &str) -> Result<()> {
        let (pid, pods) = (self.operator.pid()?, self.pods());
        self.alone(format!("RSS, {pods} pods, {when}"), MIB, Some(MEMORY), &[life::memory(pid, "VmRSS:")?]);
        self.alone(
            format!("RSS, {pods} pods, the most since its start, {when}"),
            MIB,
            None,
            &[life::memory(pid, "VmHWM:")?],
        );
        self.alone(format!("RSS, {pods} pods, of it anonymous, {when}"), MIB, None, &[life::memory(pid, "RssAnon:")?]);
        Ok(())
    }

    fn restarts(&mut self, times: usize) -> Result<()> {
        for (signal, name) in [(Signal::KILL, "SIGKILL"), (Signal::TERM, "SIGTERM")] {
            let mut all = Vec::new();
            for _ in 0..times {
                self.operator.stop(signal)?;
                let begin = Instant::now();
                self.operator.resume()?;
                all.push(self.settle(begin)?);
            }
            let of = |value: fn(&life::Settled) -> f64| all.iter().map(value).collect::<Vec<f64>>();
            self.alone(format!("restart after {name}, until at rest"), S, Some(RESTART), &of(|settled| settled.rest));
            self.alone(format!("restart after {name}, until it answers"), S, None, &of(|settled| settled.ready));
            self.alone(format!("restart after {name}, until it leads"), S, None, &of(|settled| settled.leads));
            self.alone(format!("restart after {name}, processor time"), S, None, &of(|settled| settled.processor));
            self.alone(format!("restart after {name}, writes"), "writes", None, &of(|settled| settled.writes));
        }
        Ok(())
    }

    /// Reviews at a rate, in turn by the operator and by an empty webhook.
    async fn reviews(&mut self) -> Result<()> {
        let quick = self.arguments.options.quick;
        let rounds = self.arguments.rounds.unwrap_or(if quick { 1 } else { 6 });
        let time = Duration::from_secs(self.arguments.seconds.unwrap_or(if quick { 3 } else { 10 }));
        let rate = self.arguments.rate;
        let cell = self.control.cell();
        let there = self.control.admin().get(&["mutatingwebhookconfiguration", "sidewall-inject"])?;
        let bundle = there["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default();
        let bundle = String::from_utf8(base64::prelude::BASE64_STANDARD.decode(bundle)?)?;
        let [authorities, certificate, key] = floor::certificates()?;
        let files = ["/etc/floor/tls.crt", "/etc/floor/tls.key"];
        cell.write(files[0], certificate)?;
        cell.write(files[1], key)?;
        let program = std::env::current_exe()?.display().to_string();
        let command = [program, "floor".into(), files[0].into(), files[1].into()];
        cell.start("floor", &command, &[("MALLOC_ARENA_MAX", "2")])?;
        let mut tried = 0;
        let floor = loop {
            match Asker::connect(cell.netns(), floor::PORT, floor::HOST, &authorities).await {
                Ok(floor) => break floor,
                Err(error) if tried > 50 => return Err(format!("{error}\n{}", cell.log("floor")).into()),
                Err(_) => tried += 1,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let ours = Asker::connect(cell.netns(), WEBHOOKS, HOST, &bundle).await?;
        let (us, peer) = (self.operator.pid()?, cell.service_pid("floor")?);
        let (objects, namespaces) = (self.objects.clone(), self.namespaces);
        let news = tokio::spawn(async move {
            for number in 0.. {
                objects.write(world::news(namespaces, number)).await?;
                tokio::time::sleep(Duration::from_secs(1) / NEWS).await;
            }
            Result::Ok(())
        });
        for (name, path, questions, target) in [
            ("review /inject, all get a proxy", "/inject", reviews::pods(self.namespaces, Pods::Fronted), true),
            ("review /inject, 3 of 10 get a proxy", "/inject", reviews::pods(self.namespaces, Pods::AsThere), false),
            ("review /validate, policies", "/validate", reviews::policies(self.namespaces), false),
        ] {
            let octets = questions.iter().map(|question| question.len()).sum::<usize>() / questions.len().max(1);
            let mut all = Outcome::default();
            let mut outcomes: Vec<(Outcome, Outcome)> = Vec::new();
            let mut spent: Vec<(Sample, Sample)> = Vec::new();
            for round in 0..rounds {
                let mut pair: [(Outcome, f64); 2] = Default::default();
                for of_ours in [round % 2 == 0, round % 2 != 0] {
                    let (asker, pid) = if of_ours { (&ours, us) } else { (&floor, peer) };
                    let before = life::spent(pid)?;
                    let outcome = asker.load(path, &questions, rate, time).await?;
                    pair[usize::from(!of_ours)] = (outcome, life::spent(pid)? - before);
                }
                let [(ours, used), (peer, used_by_peer)] = pair;
                let sample = |outcome: &Outcome, seconds: f64| Sample { count: outcome.took.len() as f64, seconds };
                spent.push((sample(&ours, used), sample(&peer, used_by_peer)));
                all.took.extend(&ours.took);
                all.late.extend(&ours.late);
                all.patched += ours.patched;
                outcomes.push((ours, peer));
            }
            all.took.sort_by(f64::total_cmp);
            all.late.sort_by(f64::total_cmp);
            let part = |part: f64| [quantile(&all.took, part)];
            self.alone(format!("{name}, p50"), MS, None, &part(0.5));
            self.alone(format!("{name}, p99"), MS, target.then_some(REVIEW), &part(0.99));
            self.alone(format!("{name}, p99.9"), MS, None, &part(0.999));
            let p99 = |outcome: &Outcome| Sample { count: 1.0, seconds: quantile(&outcome.took, 0.99) / 1e3 };
            let pairs: Vec<(Sample, Sample)> = outcomes.iter().map(|(ours, peer)| (p99(ours), p99(peer))).collect();
            self.tell(Row::costs(format!("{name}, p99 of a round / empty webhook"), None, &pairs));
            self.tell(Row::costs(format!("{name}, processor time / empty webhook"), None, &spent));
            println!(
                "    {} reviews of {octets} octets at {rate} a second, {} with a patch; sent late by {:.2} ms (p50), {:.2} ms (p99); load {}",
                all.took.len(),
                all.patched,
                quantile(&all.late, 0.5),
                quantile(&all.late, 0.99),
                life::machine()
            );
        }
        if news.is_finished() {
            return Err(format!("news could not be written: {:?}", news.await).into());
        }
        news.abort();
        cell.stop("floor", Signal::TERM, Duration::from_secs(10)).map(drop)?;
        Ok(())
    }

    /// What the API server itself says of the webhook, while pods are made that are not kept.
    async fn admissions(&mut self) -> Result<()> {
        let seconds = if self.arguments.options.quick { 3 } else { 30 };
        let rate = 50_u32;
        let before = self.counted()?;
        let begin = Instant::now();
        let mut made = tokio::task::JoinSet::new();
        let all = (0..self.namespaces).cycle().zip((0..world::PODS).filter(|number| world::fronted(*number)).cycle());
        for (number, (namespace, pod)) in all.take(rate as usize * seconds).enumerate() {
            let mut object = world::pod(namespace, pod, "");
            object["metadata"]["name"] = json!(format!("dry-{number}"));
            let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", world::namespace(namespace));
            let objects = self.objects.clone();
            tokio::time::sleep_until((begin + Duration::from_secs(1) * u32::try_from(number)? / rate).into()).await;
            made.spawn(async move { objects.write(Write::Create(path, object)).await.map(drop) });
        }
        while let Some(made) = made.join_next().await {
            made??;
        }
        let after = self.counted()?;
        let [count, sum, soon] = [0, 1, 2].map(|index| after[index] - before[index]);
        let name = format!("API server's own count, {rate} pods a second");
        self.alone(format!("{name}, mean"), MS, None, &[sum / count * 1e3]);
        self.alone(format!("{name}, part that took over 5 ms"), "%", None, &[(1.0 - soon / count) * 100.0]);
        println!("    {count} calls of {WEBHOOK}; load {}", life::machine());
        Ok(())
    }

    /// How many calls the API server has counted, their seconds, and how many took 5 ms at most.
    fn counted(&self) -> Result<[f64; 3]> {
        let page = self.control.admin().kubectl(&["get", "--raw", "/metrics"])?;
        let metric = "apiserver_admission_webhook_admission_duration_seconds";
        let of = |suffix: &str, le: &str| -> f64 {
            let begin = format!("{metric}{suffix}{{");
            let ours =
                page.lines().filter(|line| line.starts_with(&begin) && line.contains(WEBHOOK) && line.contains(le));
            ours.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
        };
        Ok([of("_count", ""), of("_sum", ""), of("_bucket", "le=\"0.005\"")])
    }

    /// Every SidecarProxy becomes another: each configuration is written anew, and each pod told.
    async fn change(&mut self) -> Result<()> {
        let fronted = (0..world::PODS).filter(|number| world::fronted(*number)).count() * self.namespaces;
        let before = self.spent()?;
        let (begin, realm) = (Instant::now(), "Everything");
        self.objects.all(world::other_realms(self.namespaces, realm.into()), |_| ()).await?;
        let changed = begin.elapsed().as_secs_f64();
        let settled = self.settle(begin)?;
        let spent = self.spent()? - before;
        let proxies = self.namespaces * world::PROXIES;
        let name = format!("change of {proxies} SidecarProxies with {fronted} pods");
        self.alone(format!("{name}, until the API server has taken it"), S, None, &[changed]);
        self.alone(format!("{name}, until at rest"), S, None, &[settled.rest]);
        self.alone(format!("{name}, processor time"), S, None, &[spent]);
        let there = self.control.admin().get(&[
            "-n",
            &world::namespace(0),
            "configmaps",
            "-l",
            "app.kubernetes.io/managed-by=sidewall-operator",
        ])?;
        let texts = there["items"]
            .as_array()
            .map(|items| items.iter().map(Value::to_string).collect::<Vec<_>>())
            .unwrap_or_default();
        if texts.is_empty() || !texts.iter().all(|text| text.contains(realm)) {
            return Err("the operator is at rest, and not every configuration is the new one".into());
        }
        Ok(())
    }
}
