//! The whole proxy: from a configuration to running workers, and back to nothing.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sidewall_proxy_config::{Listener, ProxyConfig};
use tokio::sync::{mpsc, watch};

use crate::access_log::{AccessLog, LogBuffer};
use crate::admin::Admin;
use crate::auth::{CredentialCache, CredentialKey, Verifier};
use crate::capture::{self, Captured};
use crate::connection::Entrance;
use crate::metrics::{CaptureCounters, Counters, Metrics, Numbers};
use crate::phase::Phase;
use crate::prepare::{Prepared, PreparedListener, StartError};
use crate::probe::Prober;
use crate::reload::Watcher;
use crate::service::Front;
use crate::side::{Side, Sides};
use crate::sockets;
use crate::stream::Patience;
use crate::upstream::{Pool, UpstreamLimits};
use crate::worker::{Door, Worker};

/// Sockets of one worker, each with what is behind it.
type Sockets = Vec<(TcpListener, Behind)>;

/// What is behind a socket: a listener, by its index, or the capture port.
#[derive(Clone, Copy)]
enum Behind {
    Listener(usize),
    Capture,
}

impl Prepared {
    /// Opens the ports and starts the workers. The access log goes to `log`.
    ///
    /// # Errors
    ///
    /// Names the port that cannot be opened. Nothing keeps running then.
    pub fn start(self, workers: NonZeroUsize, log: Box<dyn Write + Send>) -> Result<Running, StartError> {
        let Self { config, listeners, watches } = self;
        let limits = &config.limits;
        let key = Arc::new(CredentialKey::random()?);
        let checks = NonZeroUsize::new(limits.password_checks as usize).unwrap_or(NonZeroUsize::MIN);
        let verifier =
            Arc::new(Verifier::start(checks, limits.waiting_password_checks as usize).map_err(StartError::Thread)?);
        let log = AccessLog::start(log).map_err(StartError::Thread)?;

        let sockets = open_all(&config, workers)?;
        let one = NonZeroUsize::MIN;
        let admin_socket = match &config.admin {
            Some(admin) => sockets::open("admin.port", Some(admin.address), admin.port, one)?.pop(),
            None => None,
        };
        let probe_sockets = match &config.probes {
            Some(probes) => sockets::open("probes.port", probes.address, probes.port, one)?.pop(),
            None => None,
        };

        let watcher = Watcher::start(watches).map_err(StartError::Thread)?;
        let config = Arc::new(config);
        let (phase, phases) = watch::channel(Phase::Serving);
        let counters: Vec<WorkerCounters> = (0..workers.get()).map(|_| WorkerCounters::of(&config)).collect();
        let prober = Prober::new(&config, phases.clone());
        let numbers = Numbers {
            ports: config.listeners.iter().map(|listener| listener.port).collect(),
            workers: counters.iter().map(|worker| worker.listeners.clone()).collect(),
            captured: counters.iter().filter_map(|worker| worker.captured.clone()).collect(),
            reloads: watcher.counts(),
            certificates: config
                .listeners
                .iter()
                .zip(&listeners)
                .filter_map(|(listener, prepared)| Some((listener.port, Arc::clone(&prepared.tls.as_ref()?.ends))))
                .collect(),
            probes: probe_sockets.is_some().then(|| prober.counts()),
            phase: phases.clone(),
        };
        let sides = Sides {
            admin: admin_socket
                .map(|sockets| (sockets, Admin { metrics: Metrics::new(numbers), phase: phases.clone() })),
            probes: probe_sockets.map(|sockets| (sockets, prober)),
        };
        let (alive, ended) = mpsc::channel(1);
        let mut threads = Vec::new();
        for (index, (sockets, counters)) in sockets.into_iter().zip(counters).enumerate() {
            let shared = Shared {
                config: Arc::clone(&config),
                listeners: listeners.clone(),
                key: Arc::clone(&key),
                verifier: Arc::clone(&verifier),
                counters,
                phase: phases.clone(),
            };
            let buffer = log.buffer();
            let alive = alive.clone();
            let thread = thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    let outcome = Worker::run(move || shared.worker(sockets, buffer));
                    drop(alive);
                    if let Err(error) = outcome {
                        tracing::error!(%error, "a worker ended");
                    }
                })
                .map_err(StartError::Thread)?;
            threads.push(thread);
        }
        // Last, so that nobody is told that all is ready before it is.
        let side = Side::start(sides).map_err(StartError::Thread)?;
        if let Some(admin) = &config.admin {
            tracing::info!(address = %admin.address, port = admin.port, "telling of itself");
        }
        if let Some(probes) = &config.probes {
            tracing::info!(port = probes.port, targets = probes.targets.len(), "answering the kubelet");
        }
        if let Some(capture) = &config.capture {
            tracing::info!(port = capture.port, inbound = ?capture.inbound, "taking captured traffic");
        }
        for listener in &config.listeners {
            tracing::info!(
                port = listener.port,
                application = listener.forward.port,
                tls = listener.tls.is_some(),
                workers,
                "listening"
            );
        }
        let unready_for = seconds(config.timeouts.unready_seconds);
        Ok(Running { phase, unready_for, ended, threads, watcher, side, log })
    }
}

/// The running proxy.
pub struct Running {
    phase: watch::Sender<Phase>,
    unready_for: Duration,
    ended: mpsc::Receiver<()>,
    threads: Vec<JoinHandle<()>>,
    watcher: Watcher,
    side: Side,
    log: AccessLog,
}

impl Running {
    /// Says from now on that it is not ready, while it still serves. How long it should be left so is for
    /// [`Running::unready_for`] to say. Returns at once.
    pub fn unready(&self) {
        self.go_to(Phase::Unready);
    }

    /// How long it should serve on while it says that it is not ready.
    pub fn unready_for(&self) -> Duration {
        self.unready_for
    }

    fn go_to(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = next > *phase;
            if later {
                *phase = next;
            }
            later
        });
    }

    /// Tells the workers to accept nothing more and to end when their requests in flight have, or the time to drain is
    /// over. Returns at once.
    pub fn stop(&self) {
        self.go_to(Phase::Closing);
    }

    /// Waits until all workers have ended, on their own or after [`Running::stop`].
    pub async fn ended(&mut self) {
        // Nobody sends; the channel closes when the last worker lets go of it.
        while self.ended.recv().await.is_some() {}
    }

    /// Ends what is left and writes what is logged. Blocks until the workers have ended.
    pub fn finish(self) {
        self.stop();
        for thread in self.threads {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
        drop(self.watcher);
        // It tells until the end that it is not ready.
        drop(self.side);
        if !self.log.finish() {
            tracing::error!("the access log is not read any more; its last lines are lost");
        }
    }
}

/// What a worker's thread needs to build the worker.
struct Shared {
    config: Arc<ProxyConfig>,
    listeners: Vec<PreparedListener>,
    key: Arc<CredentialKey>,
    verifier: Arc<Verifier>,
    counters: WorkerCounters,
    phase: watch::Receiver<Phase>,
}

/// What one worker counts.
struct WorkerCounters {
    listeners: Vec<Arc<Counters>>,
    captured: Option<Arc<CaptureCounters>>,
}

impl WorkerCounters {
    fn of(config: &ProxyConfig) -> Self {
        Self {
            listeners: config.listeners.iter().map(|_| Arc::default()).collect(),
            captured: config.capture.as_ref().map(|_| Arc::default()),
        }
    }
}

impl Shared {
    fn worker(self, sockets: Sockets, buffer: LogBuffer) -> Worker {
        let Self { config, listeners, key, verifier, counters, phase } = self;
        let (limits, timeouts) = (&config.limits, &config.timeouts);
        let log = Rc::new(buffer);
        let cache = Rc::new(RefCell::new(CredentialCache::new(
            limits.remembered_credentials as usize,
            seconds(timeouts.credential_seconds),
        )));
        let upstream = UpstreamLimits {
            connect: seconds(timeouts.connect_seconds),
            response: seconds(timeouts.response_seconds),
            idle: seconds(timeouts.upstream_idle_seconds),
            most_idle: limits.idle_upstream_per_worker as usize,
            header_bytes: limits.header_bytes as usize,
            headers: limits.headers as usize,
        };
        let leaving = Rc::new(Cell::new(false));
        let entrance = |((listener, prepared), counters): ((&Listener, PreparedListener), Arc<Counters>)| {
            Rc::new(Entrance {
                front: Rc::new(Front {
                    port: listener.port,
                    access: prepared.access,
                    pool: Pool::new(listener.forward.port, upstream),
                    log: Rc::clone(&log),
                    cache: Rc::clone(&cache),
                    key: Arc::clone(&key),
                    verifier: Arc::clone(&verifier),
                    counters,
                    leaving: Rc::clone(&leaving),
                    request_pause: seconds(timeouts.request_body_seconds),
                    response_pause: seconds(timeouts.response_body_seconds),
                }),
                tls: prepared.tls.map(|tls| tls.config),
                patience: Patience {
                    header: seconds(timeouts.header_seconds),
                    idle: seconds(timeouts.idle_seconds),
                    send: seconds(timeouts.send_seconds),
                },
                header_bytes: limits.header_bytes as usize,
                headers: limits.headers as usize,
                phase: phase.clone(),
            })
        };
        let each = config.listeners.iter().zip(listeners).zip(counters.listeners);
        let entrances: Vec<Rc<Entrance>> = each.map(entrance).collect();
        let captured = config.capture.as_ref().zip(counters.captured).map(|(capture, counters)| {
            let whose = capture::strictest(capture, &config.listeners).into_iter();
            let entrances = whose.map(|(port, listener)| (port, Rc::clone(&entrances[listener]))).collect();
            Rc::new(Captured { port: capture.port, entrances, counters })
        });
        let door = |(socket, behind)| {
            let door = match behind {
                Behind::Listener(index) => Door::Listener(Rc::clone(&entrances[index])),
                Behind::Capture => Door::Captured(Rc::clone(captured.as_ref()?)),
            };
            Some((socket, door))
        };
        Worker {
            doors: sockets.into_iter().filter_map(door).collect(),
            entrances: entrances.clone(),
            leaving: Rc::clone(&leaving),
            log,
            connections: limits.connections_per_worker as usize,
            drain: seconds(timeouts.drain_seconds),
            phase,
        }
    }
}

/// Opens what the workers serve: a list for each worker.
fn open_all(config: &ProxyConfig, workers: NonZeroUsize) -> Result<Vec<Sockets>, StartError> {
    let mut sockets: Vec<Sockets> = (0..workers.get()).map(|_| Vec::new()).collect();
    let mut open = |field: &str, address, port, behind| -> Result<(), StartError> {
        let by_worker = sockets::open(field, address, port, workers)?;
        for (own, opened) in sockets.iter_mut().zip(by_worker) {
            own.extend(opened.into_iter().map(|socket| (socket, behind)));
        }
        Ok(())
    };
    for (index, listener) in config.listeners.iter().enumerate() {
        let field = format!("listeners[{index}].port");
        open(&field, listener.address, listener.port, Behind::Listener(index))?;
    }
    if let Some(capture) = &config.capture {
        open("capture.port", None, capture.port, Behind::Capture)?;
    }
    Ok(sockets)
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}
