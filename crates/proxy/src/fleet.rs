//! All who serve: the workers and the side thread, with the sockets that they hold. A version of the configuration is put in
//! force in two steps: first every port that it needs beside those that are open is opened, which may fail, and changes
//! nothing then; after that everybody is told, which cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sidewall_proxy_config::ProxyConfig;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::metrics::{CaptureCounters, ListenerCounters, Numbers};
use crate::phase::Phase;
use crate::prepare::StartError;
use crate::probe::{ProbeCounts, Prober};
use crate::reload::ReloadCounts;
use crate::side::{Role, SideReach, SideUpdate};
use crate::sockets::{self, Port};
use crate::version::Version;
use crate::worker::Update;

/// How long a thread may take to take up a version. It takes no time but for that of the requests before it in its queue.
const TAKING_UP: Duration = Duration::from_secs(10);

/// How to reach a worker.
pub struct WorkerReach {
    /// Its event queue.
    pub handle: Handle,
    /// What to serve.
    pub updates: mpsc::UnboundedSender<Update>,
    /// What it counts at the capture port.
    pub captured: Arc<CaptureCounters>,
}

/// Who holds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// Every worker, one of its own.
    Workers,
    /// The side thread.
    Side(Role),
}

impl Holder {
    fn same_threads(self, other: Self) -> bool {
        matches!((self, other), (Self::Workers, Self::Workers) | (Self::Side(_), Self::Side(_)))
    }
}

/// All who serve.
pub struct Fleet {
    workers: Vec<WorkerReach>,
    side: SideReach,
    held: BTreeMap<SocketAddr, Holder>,
    /// Addresses of IPv6 that the configuration means and the machine does not have.
    missing: BTreeSet<SocketAddr>,
    counters: ListenerCounters,
    /// Whether anything was ever captured: what was counted then is still told.
    captures: bool,
    probes: Option<Arc<ProbeCounts>>,
    reloads: Arc<ReloadCounts>,
    numbers: Arc<ArcSwap<Numbers>>,
    phase: watch::Receiver<Phase>,
}

/// Sockets that a version needs beside those that are there. They are open already.
pub struct Opened {
    held: BTreeMap<SocketAddr, Holder>,
    missing: BTreeSet<SocketAddr>,
    workers: Vec<Vec<(SocketAddr, TcpListener)>>,
    side: Vec<(SocketAddr, TcpListener)>,
}

impl Fleet {
    /// Of these threads, which serve nothing yet. What is counted is told in `numbers`.
    pub fn new(
        workers: Vec<WorkerReach>,
        side: SideReach,
        reloads: Arc<ReloadCounts>,
        numbers: Arc<ArcSwap<Numbers>>,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        Self {
            workers,
            side,
            held: BTreeMap::new(),
            missing: BTreeSet::new(),
            counters: ListenerCounters::default(),
            captures: false,
            probes: None,
            reloads,
            numbers,
            phase,
        }
    }

    /// Opens the ports of a configuration that are not open yet.
    ///
    /// # Errors
    ///
    /// Names the port that cannot be opened. Nothing is changed then.
    pub fn open(&self, config: &ProxyConfig) -> Result<Opened, StartError> {
        let count = NonZeroUsize::new(self.workers.len()).unwrap_or(NonZeroUsize::MIN);
        let mut opened = Opened {
            held: BTreeMap::new(),
            missing: BTreeSet::new(),
            workers: self.workers.iter().map(|_| Vec::new()).collect(),
            side: Vec::new(),
        };
        for (port, holder) in ports(config) {
            for address in port.addresses() {
                if self.held.get(&address).is_some_and(|now| now.same_threads(holder)) {
                    opened.held.insert(address, holder);
                    continue;
                }
                let ours = self.held.keys().any(|held| sockets::overlap(*held, address));
                let count = if holder == Holder::Workers { count } else { NonZeroUsize::MIN };
                let sockets = port.open(address, count, ours)?;
                if sockets.is_empty() {
                    opened.missing.insert(address);
                    continue;
                }
                opened.held.insert(address, holder);
                if holder == Holder::Workers {
                    for ((worker, own), socket) in self.workers.iter().zip(&mut opened.workers).zip(sockets) {
                        own.push((address, register(&worker.handle, socket)?));
                    }
                } else {
                    for socket in sockets {
                        opened.side.push((address, register(&self.side.handle, socket)?));
                    }
                }
            }
        }
        Ok(opened)
    }

    /// Puts a version in force, with what was opened for it. Returns when everybody goes by it.
    pub fn deploy(&mut self, version: &Arc<Version>, opened: Opened) {
        let Opened { held, missing, workers: by_worker, side } = opened;
        let ports: Vec<u16> = version.config.listeners.iter().map(|listener| listener.port).collect();
        self.counters.set(&ports, self.workers.len());
        self.captures |= version.config.capture.is_some();
        let prober = Prober::new(&version.config, self.phase.clone(), self.probes.as_deref());
        self.probes = version.config.probes.is_some().then(|| prober.counts());

        let (done, all_done) = std_mpsc::channel();
        for (index, (worker, sockets)) in self.workers.iter().zip(by_worker).enumerate() {
            let counters = self.counters.of(&ports, index);
            // A worker that has ended by itself has said why.
            let _ = worker.updates.send(Update { version: Arc::clone(version), counters, sockets, done: done.clone() });
        }
        drop(done);
        wait(&all_done);
        // Not before: whoever reads there which version is in force relies on it.
        self.numbers.store(Arc::new(self.numbers_of(version)));
        // Last, so that nobody is told that all is ready before it is.
        let (done, side_done) = std_mpsc::channel();
        let roles = held.iter().filter_map(|(address, holder)| match holder {
            Holder::Workers => None,
            Holder::Side(role) => Some((*address, *role)),
        });
        // The same holds of the side thread.
        let _ = self.side.updates.send(SideUpdate { roles: roles.collect(), sockets: side, prober, done });
        wait(&side_done);
        self.tell(&held);
        self.held = held;
        for address in missing.difference(&self.missing) {
            tracing::warn!(%address, "this machine has no IPv6; listening on IPv4 alone");
        }
        self.missing = missing;
    }

    fn numbers_of(&self, version: &Version) -> Numbers {
        let config = &version.config;
        Numbers {
            configuration: Some(version.hash.clone()),
            listeners: self.counters.all(),
            captured: match self.captures {
                true => self.workers.iter().map(|worker| Arc::clone(&worker.captured)).collect(),
                false => Vec::new(),
            },
            reloads: Arc::clone(&self.reloads),
            certificates: config
                .listeners
                .iter()
                .zip(&version.listeners)
                .filter_map(|(listener, prepared)| Some((listener.port, Arc::clone(&prepared.tls.as_ref()?.ends))))
                .collect(),
            probes: self.probes.clone(),
            phase: self.phase.clone(),
        }
    }

    /// Logs what listens now, and what does no more.
    fn tell(&self, next: &BTreeMap<SocketAddr, Holder>) {
        let what = |holder: &Holder| match holder {
            Holder::Workers => "requests",
            Holder::Side(Role::Admin) => "admin",
            Holder::Side(Role::Probes) => "probes",
        };
        let all: BTreeSet<&SocketAddr> = self.held.keys().chain(next.keys()).collect();
        for address in all {
            match (self.held.get(address), next.get(address)) {
                (before, Some(now)) if before != Some(now) => tracing::info!(%address, what = what(now), "listening"),
                (Some(before), None) => tracing::info!(%address, what = what(before), "no longer listening"),
                _ => {}
            }
        }
    }
}

/// Everything that a configuration listens on, and who serves it.
fn ports(config: &ProxyConfig) -> Vec<(Port, Holder)> {
    let port = |field: &str, at, port| Port { field: field.to_owned(), at, port };
    let listeners = config.listeners.iter().enumerate().map(|(index, listener)| {
        (port(&format!("listeners[{index}].port"), listener.address, listener.port), Holder::Workers)
    });
    let capture = config.capture.iter().map(|capture| (port("capture.port", None, capture.port), Holder::Workers));
    let admin = config
        .admin
        .iter()
        .map(|admin| (port("admin.port", Some(admin.address), admin.port), Holder::Side(Role::Admin)));
    let probes = config
        .probes
        .iter()
        .map(|probes| (port("probes.port", probes.address, probes.port), Holder::Side(Role::Probes)));
    listeners.chain(capture).chain(admin).chain(probes).collect()
}

/// Puts a socket into a thread's event queue, here, where it may still fail.
fn register(handle: &Handle, socket: std::net::TcpListener) -> Result<TcpListener, StartError> {
    let _entered = handle.enter();
    TcpListener::from_std(socket).map_err(StartError::Register)
}

fn wait(done: &std_mpsc::Receiver<std::convert::Infallible>) {
    // Nothing is ever sent; the senders go when the version is in force.
    if done.recv_timeout(TAKING_UP) == Err(std_mpsc::RecvTimeoutError::Timeout) {
        tracing::warn!("a thread is too busy to take up the new version; it will as soon as it can");
    }
}

/// What is told before the first version is in force.
pub fn no_numbers(reloads: &Arc<ReloadCounts>, phase: &watch::Receiver<Phase>) -> Arc<ArcSwap<Numbers>> {
    Arc::new(ArcSwap::from_pointee(Numbers {
        configuration: None,
        listeners: Vec::new(),
        captured: Vec::new(),
        reloads: Arc::clone(reloads),
        certificates: Vec::new(),
        probes: None,
        phase: phase.clone(),
    }))
}
