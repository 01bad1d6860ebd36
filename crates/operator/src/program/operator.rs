//! The operator: its parts, started in order and ended in order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use sidewall_cluster::client::{ClientOptions, client, in_cluster};
use sidewall_cluster::events::{EventWriter, Limits};
use sidewall_daemon::pages::{self, Page};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admission::door::{Door, Written};
use crate::admission::webhook;
use crate::keeper::Keeper;
use crate::keeper::certificates::Issuing;
use crate::keeper::secrets::Looked;
use crate::known::shared::Shared;
use crate::known::table::Table;
use crate::known::watching;
use crate::program::config::{Certificates, Config};
use crate::program::hooks;
use crate::program::leader::Elector;
use crate::program::metrics::{Kind, Metrics};
use crate::program::serving::{self, Keeping, Served};
use crate::settings::Settings;
use crate::splitting::Splitting;

/// How long the Lease may take to be given back at the end.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// How long `/readyz` says that the operator is about to end, before it takes no more: until the API server asks others.
const UNREADY: Duration = Duration::from_secs(3);

/// Who tells in Events.
const CONTROLLER: &str = "sidewall.dev/operator";

/// What the operator is started with.
pub struct Start {
    /// What it is told.
    pub config: Config,
    /// The namespace that it runs in.
    pub namespace: String,
    /// Its own pod.
    pub pod: String,
    /// A kubeconfig, in place of the pod's service account.
    pub kubeconfig: Option<PathBuf>,
}

/// How far the operator has come.
#[derive(Clone)]
struct Condition {
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    serves: watch::Receiver<Served>,
    leads: watch::Receiver<bool>,
    ending: watch::Receiver<bool>,
}

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// What it cannot begin without: the API server's address, an address to listen at.
pub async fn run(start: Start) -> anyhow::Result<()> {
    let Start { config, namespace, pod, kubeconfig } = start;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let client = match kubeconfig {
        Some(kubeconfig) => client(&ClientOptions { kubeconfig: Some(kubeconfig), context: None }).await?,
        None => in_cluster()?,
    };
    let settings = Arc::new(settings(&config, &namespace));
    let shared = Arc::new(Shared::default());
    let metrics = Arc::new(Metrics::default());
    let (leading, leads) = watch::channel(false);
    let (serve, serves) = watch::channel::<Served>(None);
    let (end, ending) = watch::channel(false);
    let condition = Condition {
        shared: Arc::clone(&shared),
        metrics: Arc::clone(&metrics),
        serves: serves.clone(),
        leads: leads.clone(),
        ending: ending.clone(),
    };

    let mut parts = JoinSet::new();
    let own = condition.clone();
    pages::start(&mut parts, config.listen.health, config.listen.metrics, move |page| own.tell(page));
    // The port is taken before anything is waited for: an address that can't be had is said at once.
    let listener = TcpListener::bind(config.webhook.address)
        .await
        .map_err(|error| anyhow::anyhow!("can't listen at {} (webhook.address): {error}", config.webhook.address))?;
    certificates(&mut parts, &config, &client, &namespace, &condition, serve);
    // Whoever stops leads no more, and says so; only then may its writes end.
    let (give_back, given_back) = watch::channel(false);
    let elector = Elector::new(client.clone(), &namespace, &config.leader.lease, format!("{pod}_{}", instance()));
    let mut election = tokio::spawn(elector.run(leading, until(given_back)));
    let keeper = Keeper {
        client: client.clone(),
        shared: Arc::clone(&shared),
        settings: Arc::clone(&settings),
        metrics: Arc::clone(&metrics),
        events: EventWriter::start(&client, CONTROLLER, &pod, Limits::default()),
        issuing: Issuing::new(client.clone(), namespace.clone()),
        looked: Looked::default(),
        splitting: Splitting::new(client.clone(), namespace.clone(), Arc::clone(&metrics)),
    };
    parts.spawn(keeper.run(leads));
    let watches = watching::start(&client, &shared, &config.secrets);
    let serving = tokio::spawn(serving(listener, client, namespace, settings, condition, serves, until(ending)));

    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    tracing::info!("the operator ends: it answers what it was asked, and gives the lead back");
    let _ = end.send(true);
    let _ = give_back.send(true);
    let _ = timeout(GIVE_BACK, &mut election).await;
    // It drains for itself, within a bound.
    let _ = serving.await;
    drop((parts, watches));
    Ok(())
}

/// The settings, with the operator's own namespace left alone.
fn settings(config: &Config, namespace: &str) -> Settings {
    let mut settings = config.injection.clone();
    settings.excluded_namespaces.insert(namespace.to_owned());
    settings
}

/// Another word for each run: a pod that is started again is another holder of the Lease.
fn instance() -> String {
    let mut bytes = [0_u8; 4];
    // Without random numbers the process' own is as good: only the same pod could have it before.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        bytes = std::process::id().to_be_bytes();
    }
    format!("{:08x}", u32::from_be_bytes(bytes))
}

async fn until(mut told: watch::Receiver<bool>) {
    let _ = told.wait_for(|told| *told).await;
}

fn certificates(
    parts: &mut JoinSet<()>,
    config: &Config,
    client: &Client,
    namespace: &str,
    condition: &Condition,
    serve: watch::Sender<Served>,
) {
    match &config.webhook.certificates {
        Certificates::SelfManaged => {
            let keeping = Keeping {
                client: client.clone(),
                namespace: namespace.to_owned(),
                service: config.webhook.service.clone(),
                names: config.names(namespace),
                mutating: config.webhook.mutating.clone(),
                validating: config.webhook.validating.clone(),
                metrics: Arc::clone(&condition.metrics),
            };
            parts.spawn(keeping.run(condition.leads.clone(), serve));
        }
        Certificates::Files { directory } => {
            let directory = directory.clone();
            parts.spawn(async move { serving::files(&directory, serve).await });
        }
    }
}

/// Answers the API server, as soon as there is something to serve with.
async fn serving(
    listener: TcpListener,
    client: Client,
    namespace: String,
    settings: Arc<Settings>,
    condition: Condition,
    mut serves: watch::Receiver<Served>,
    stop: impl Future<Output = ()>,
) {
    let mut stop = std::pin::pin!(stop);
    let ready = async {
        let secret = hooks::secret(&client, &namespace).await;
        let first = serves.wait_for(Option::is_some).await.ok()?.clone()?;
        Some((secret, first))
    };
    let (secret, first) = tokio::select! {
        () = &mut stop => return,
        ready = ready => match ready {
            Some(ready) => ready,
            None => return,
        },
    };
    let (now, tls) = watch::channel(first);
    let door = Door {
        client,
        shared: condition.shared,
        settings,
        secret,
        metrics: condition.metrics,
        written: Written::default(),
    };
    let follow = async {
        while serves.changed().await.is_ok() {
            if let Some(config) = serves.borrow_and_update().clone() {
                now.send_replace(config);
            }
        }
        std::future::pending::<()>().await;
    };
    let stop = async {
        stop.await;
        tokio::time::sleep(UNREADY).await;
    };
    tokio::select! {
        () = webhook::serve(listener, tls, Arc::new(door), stop) => {}
        () = follow => {}
    }
}

impl Condition {
    fn tell(&self, page: Page) -> pages::Told {
        match page {
            Page::Healthz => (true, "ok\n".to_owned()),
            Page::Readyz => self.ready(),
            Page::Metrics => {
                self.count();
                (true, self.metrics.text())
            }
        }
    }

    /// Whether questions are answered. An API server that is away does not make it unready: what is known counts.
    fn ready(&self) -> pages::Told {
        let mut missing = Vec::new();
        if *self.ending.borrow() {
            missing.push("the operator ends".to_owned());
        }
        if self.serves.borrow().is_none() {
            missing.push("there is no certificate to serve with yet".to_owned());
        }
        if !self.shared.known().synced() {
            let outages = self.shared.outages();
            let why: Vec<String> = outages.iter().map(|(kind, outage)| format!("{kind}: {}", outage.reason)).collect();
            let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
            missing.push(format!("the cluster has not been read yet{why}"));
        }
        if missing.is_empty() { (true, "ok\n".to_owned()) } else { (false, format!("{}\n", missing.join("\n"))) }
    }

    fn count(&self) {
        self.metrics.leads.set(i64::from(*self.leads.borrow()));
        self.metrics.stale.set(i64::try_from(self.shared.outages().len()).unwrap_or(i64::MAX));
        let known = self.shared.known();
        for (kind, count) in [
            ("namespaces", known.namespaces.len()),
            ("sidecarproxies", known.proxies.len()),
            ("containernetworkpolicies", known.policies.len()),
            ("podsplits", known.splits.len()),
            ("pods", known.pods.len()),
            ("configmaps", known.configs.len()),
            ("secrets", known.secrets.values().map(Table::len).sum()),
            ("nodeenforcements", known.enforcements.len()),
        ] {
            self.metrics.known.get_or_create(&Kind { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
