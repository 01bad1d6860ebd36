//! Puts the agent together, and ends it.

use crate::brain::{Brain, Parts, Ready};
use crate::cni_server::Server;
use crate::config::Config;
use crate::flows::{self, Flows};
use crate::found::Message;
use crate::installer::{Installer, InstallerStatus};
use crate::inventory::Lister;
use crate::known::Known;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::node;
use crate::nri_plugin::Plugin;
use crate::pod::NodeFacts;
use crate::standing::Standings;
use crate::watching::Watcher;
use sidewall_cluster::client::{ClientOptions, client, in_cluster};
use sidewall_cluster::enforcement::{EnforcementWriter, WriteTiming};
use sidewall_cluster::events::{EventWriter, Limits};
use sidewall_cluster::kube::Client;
use sidewall_cluster::{Health, Options, Watch, taint};
use sidewall_cni::serve::Listening;
use sidewall_daemon::pages::{self, Page};
use sidewall_netfilter::Features;
use sidewall_netns::Cgroups;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

/// Who reports events.
const CONTROLLER: &str = "sidewall.dev/agent";
/// How much longer than the plugin waits a question may take: its answer is of no use then.
const SLACK: Duration = Duration::from_secs(2);

/// How long readers of flows have for the end of their streams.
const GOODBYE: Duration = Duration::from_millis(250);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// The node's name.
    pub node_name: String,
    /// A kubeconfig; none for the pod's service account.
    pub kubeconfig: Option<PathBuf>,
}

/// Serves until SIGTERM or SIGINT. Rules stay.
///
/// # Errors
/// What keeps the agent from beginning.
pub async fn run(start: Start) -> anyhow::Result<()> {
    let Start { config, node_name, kubeconfig } = start;
    let config = Arc::new(config);
    let features = tokio::task::spawn_blocking(Features::probe).await??;
    let cgroups = Cgroups::find().inspect_err(|error| tracing::warn!("no identity by cgroup: {error}")).ok();
    let pods = cgroups.as_ref().and_then(|cgroups| node::pods(&config, cgroups));
    if pods.is_none() {
        let tried = &config.paths.pod_cgroups;
        tracing::warn!(
            ?tried,
            "none of these cgroups is there yet; until one is, nobody is told apart by cgroup: does paths.podCgroups name the pods'?"
        );
    }
    tracing::info!(%features, node = node_name, version = env!("CARGO_PKG_VERSION"), "the agent begins");
    let memory = Arc::new(Memory::open(&config.paths.memory)?);
    let (remembered, troubles) = memory.recall()?;
    for trouble in troubles {
        tracing::warn!("{trouble}");
    }
    let client = match &kubeconfig {
        Some(path) => client(&ClientOptions { kubeconfig: Some(path.clone()), context: None }).await?,
        None => in_cluster()?,
    };

    let metrics = Arc::new(Metrics::default());
    let known = Known::default();
    let list = Arc::new(Notify::new());
    let (to, messages) = mpsc::unbounded_channel::<Message>();
    let (ready, is_ready) = watch::channel(Ready::default());
    let mut tasks = JoinSet::new();

    // Whoever asks how the agent is gets an answer from the beginning on.
    let options = Options {
        node: Some(node_name.clone()),
        kinds: config.kinds(),
        network: config.network(),
        ..Options::default()
    };
    let watched = Watch::start(&client, options);
    let health = watched.health();
    let installed = config.cni.install.then(|| {
        let installer = Installer::new(config.installation());
        let status = installer.status();
        tasks.spawn(async move {
            if let Err(error) = installer.run(std::future::pending()).await {
                tracing::error!("the CNI plugin can't be installed: {error}");
            }
        });
        status
    });
    if let Some(key) = config.startup_taint.clone() {
        let (ready, installed) = (is_ready.clone(), installed.clone());
        tasks.spawn(open_node(client.clone(), node_name.clone(), key, ready, installed));
    }
    let pages = Pages { metrics: Arc::clone(&metrics), ready: is_ready, health: health.clone(), installed };
    pages.serve(&config, &mut tasks);

    let (flows, hub) = Flows::start()?;
    let flows = Arc::new(flows);
    flows::serve(&hub, &client, &config.paths.flow_socket, &config.listen, &mut tasks);

    let listening = Listening::at(&config.paths.cni_socket)?;
    let server = Server {
        to: to.clone(),
        features,
        within: Duration::from_millis(config.cni.timeout_milliseconds.into()) + SLACK,
        metrics: Arc::clone(&metrics),
    };
    tasks.spawn(async move {
        if let Err(error) = server.run(&listening).await {
            tracing::error!("the CNI plugin can't be answered: {error}");
        }
    });
    if let Some(socket) = &config.paths.nri {
        let options = sidewall_nri::Options { socket: socket.clone(), ..sidewall_nri::Options::new("sidewall") };
        let plugin = Arc::new(Plugin {
            to: to.clone(),
            features,
            cgroups: cgroups.clone(),
            list: Arc::clone(&list),
            known: known.clone(),
            metrics: Arc::clone(&metrics),
        });
        tasks.spawn(async move { sidewall_nri::run(&options, &plugin, std::future::pending()).await });
    }
    let lister = Lister {
        socket: config.paths.cri.clone(),
        to: to.clone(),
        known: known.clone(),
        list,
        features,
        cgroups: cgroups.clone(),
        rarely: Duration::from_secs(config.timing.list_seconds.into()),
        often: Duration::from_millis(config.timing.poll_milliseconds.into()),
        metrics: Arc::clone(&metrics),
    };
    tasks.spawn(lister.run());

    let parts = Parts {
        node: NodeFacts {
            features,
            pods,
            preference: config.preference(),
            handlers: config.runtime_handlers.clone(),
            nri: false,
        },
        cgroups,
        memory,
        known,
        flows,
        watcher: Watcher::start(to.clone())?,
        remembered,
        writer: EnforcementWriter::start(&client, &node_name, WriteTiming::default()),
        events: EventWriter::start(&client, CONTROLLER, &node_name, Limits::default()),
        metrics,
        standings: Standings::start(config.paths.cni_state.clone()),
        ready,
        health,
        config,
    };
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    Brain::new(parts, to).run(watched, messages, stop).await;
    tracing::info!("the agent ends; rules stay in force");
    hub.end();
    tokio::time::sleep(GOODBYE).await;
    tasks.shutdown().await;
    Ok(())
}

/// Lets pods come to the node once they are walled there.
async fn open_node(
    client: Client,
    node: String,
    key: String,
    mut ready: watch::Receiver<Ready>,
    installed: Option<watch::Receiver<InstallerStatus>>,
) {
    if ready.wait_for(|ready| ready.settled).await.is_err() {
        return;
    }
    if let Some(mut installed) = installed
        && installed.wait_for(|installed| installed.state.is_installed()).await.is_err()
    {
        return;
    }
    let mut pause = Duration::from_millis(250);
    loop {
        match taint::remove(&client, &node, &key).await {
            Ok(true) => return tracing::info!(key, "the node's taint is taken away: pods may come"),
            Ok(false) => return,
            Err(error) => tracing::warn!("{error}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}

/// What the pages are made of.
#[derive(Clone)]
struct Pages {
    metrics: Arc<Metrics>,
    ready: watch::Receiver<Ready>,
    health: watch::Receiver<Health>,
    /// None where somebody else installs the plugin.
    installed: Option<watch::Receiver<InstallerStatus>>,
}

impl Pages {
    fn serve(self, config: &Config, tasks: &mut JoinSet<()>) {
        pages::start(tasks, config.listen.health, config.listen.metrics, move |page| self.tell(page));
    }

    fn tell(&self, page: Page) -> (bool, String) {
        match page {
            Page::Healthz => (true, "ok\n".to_owned()),
            Page::Readyz => self.tell_ready(),
            Page::Metrics => {
                let stale = self.health.borrow().troubled().count();
                self.metrics.stale.set(i64::try_from(stale).unwrap_or(i64::MAX));
                self.metrics.installed.set(i64::from(self.is_installed()));
                (true, self.metrics.text())
            }
        }
    }

    fn is_installed(&self) -> bool {
        self.installed.as_ref().is_none_or(|installed| installed.borrow().state.is_installed())
    }

    /// Ready is who is asked before pods start and has put in force all that there was when it began. Old news do not make it
    /// unready: it does what it can, and a node without its agent would do less.
    fn tell_ready(&self) -> (bool, String) {
        use std::fmt::Write;
        let ready = self.ready.borrow().clone();
        let mut text = String::new();
        let mut line = |well: bool, what: &str| {
            let _ = writeln!(text, "[{}] {what}", if well { '+' } else { '-' });
        };
        line(ready.synced, "policies: every kind has been listed");
        line(ready.listed, "runtime: it has said what it has");
        line(ready.settled, &format!("rules: in force for every pod that was there ({} to go)", ready.unsettled));
        if let Some(installed) = &self.installed {
            line(self.is_installed(), &format!("network: {}", installed.borrow().state));
        }
        for (kind, trouble) in self.health.borrow().troubled() {
            let _ = writeln!(text, "[!] {kind}: no news come: {}", trouble.message);
        }
        (ready.settled && self.is_installed(), text)
    }
}
