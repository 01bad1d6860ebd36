//! The cluster that is measured, how it is filled, and what of it is measured in which order.

use crate::args::Arguments;
use crate::objects::Objects;
use crate::{Result, life, world};
use serde_json::json;
use sidewall_benches::report::{self, Row};
use sidewall_node_tests::until::until;
use sidewall_node_tests::{ControlPlane, Fabric, Operator, agent, operator};
use std::time::{Duration, Instant};

const MIB: &str = "MiB";
/// What the operator may hold, in MiB.
const MEMORY: f64 = 100.0;
/// Where the webhooks listen, beside the API server.
pub const WEBHOOKS: u16 = 9443;

/// What is measured, and with what.
pub struct Bench<'a> {
    pub arguments: &'a Arguments,
    pub control: &'a ControlPlane,
    pub operator: &'a Operator<'a>,
    pub objects: Objects,
    pub namespaces: usize,
    rows: Vec<Row>,
}

impl Bench<'_> {
    /// Measures what the options ask for.
    pub async fn run(arguments: &Arguments) -> Result<()> {
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

    /// Tells a row, and keeps it for the report.
    pub fn tell(&mut self, row: Row) {
        println!("{row}");
        self.rows.push(row);
    }

    /// Tells a row of values that are compared with nothing.
    pub fn alone(&mut self, name: String, unit: &'static str, target: Option<f64>, values: &[f64]) {
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

    /// Waits until all is at rest.
    pub fn settle(&self, begin: Instant) -> Result<life::Settled> {
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

    /// The processor time that the operator has used, in seconds.
    pub fn spent(&self) -> Result<f64> {
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
}
