//! The whole proxy: from a configuration to running threads, and back to nothing.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::access_log::AccessLog;
use crate::admin::Admin;
use crate::auth::CredentialKey;
use crate::fleet::{Fleet, WorkerReach, no_numbers};
use crate::metrics::{CaptureCounters, Metrics};
use crate::phase::Phase;
use crate::prepare::{Prepared, StartError, VersionError};
use crate::reload::{ReloadCounts, Reloader, Watcher};
use crate::side::Side;
use crate::version::Version;
use crate::worker::{Kit, Worker};

impl Prepared {
    /// Starts the threads, opens the ports and puts the configuration in force; a new version of its file replaces it from
    /// then on. The access log goes to `log`.
    ///
    /// # Errors
    ///
    /// Names the port that cannot be opened. Nothing keeps running then.
    pub fn start(self, workers: NonZeroUsize, log: Box<dyn Write + Send>) -> Result<Running, VersionError> {
        let (phase, phases) = watch::channel(Phase::Serving);
        let reloads = Arc::new(ReloadCounts::default());
        let (threads, fleet) = match Threads::start(workers, log, (phase, &phases), &reloads) {
            Ok(started) => started,
            Err(error) => return Err(self.source.at(error)),
        };
        let reloader = match Reloader::new(self, fleet, reloads, phases) {
            Ok(reloader) => reloader,
            Err(error) => {
                threads.finish(None);
                return Err(error);
            }
        };
        let current = reloader.current();
        match Watcher::start(reloader) {
            Ok(watcher) => Ok(Running { threads, watcher, current }),
            Err(error) => {
                threads.finish(None);
                Err(VersionError::Start { place: "reload".to_owned(), source: StartError::Thread(error) })
            }
        }
    }
}

/// The running proxy.
pub struct Running {
    threads: Threads,
    watcher: Watcher,
    current: Arc<ArcSwap<Version>>,
}

impl Running {
    /// Looks at all files at once, and does not wait until it is time. Returns before it has.
    pub fn reload(&self) {
        self.watcher.look_now();
    }

    /// Says from now on that it is not ready, while it still serves. How long it should be left so is for
    /// [`Running::unready_for`] to say. Returns at once.
    pub fn unready(&self) {
        self.threads.go_to(Phase::Unready);
    }

    /// How long it should serve on while it says that it is not ready.
    pub fn unready_for(&self) -> Duration {
        Duration::from_secs(self.current.load().config.timeouts.unready_seconds.into())
    }

    /// Tells the workers to accept nothing more and to end when their requests in flight have, or the time to drain is
    /// over. Returns at once.
    pub fn stop(&self) {
        self.threads.go_to(Phase::Closing);
    }

    /// Waits until all workers have ended, on their own or after [`Running::stop`].
    pub async fn ended(&mut self) {
        // Nobody sends; the channel closes when the last worker lets go of it.
        while self.threads.ended.recv().await.is_some() {}
    }

    /// Ends what is left and writes what is logged. Blocks until the workers have ended.
    pub fn finish(self) {
        self.threads.finish(Some(self.watcher));
    }
}

/// Everything that runs, but for what looks at files.
struct Threads {
    phase: watch::Sender<Phase>,
    ended: mpsc::Receiver<()>,
    workers: Vec<JoinHandle<()>>,
    side: Side,
    log: AccessLog,
}

impl Threads {
    /// Starts them. They serve nothing until the fleet says so.
    fn start(
        workers: NonZeroUsize,
        log: Box<dyn Write + Send>,
        (phase, phases): (watch::Sender<Phase>, &watch::Receiver<Phase>),
        reloads: &Arc<ReloadCounts>,
    ) -> Result<(Self, Fleet), StartError> {
        let key = Arc::new(CredentialKey::random()?);
        let log = AccessLog::start(log).map_err(StartError::Thread)?;
        let numbers = no_numbers(reloads, phases);
        let admin = Admin { metrics: Metrics::new(Arc::clone(&numbers)), phase: phases.clone() };
        let (side, side_reach) = Side::start(admin).map_err(StartError::Thread)?;
        let (alive, ended) = mpsc::channel(1);
        let mut threads = Vec::new();
        let mut reaches = Vec::new();
        for index in 0..workers.get() {
            let (updates, to_do) = mpsc::unbounded_channel();
            let captured = Arc::<CaptureCounters>::default();
            let kit = Kit {
                log: log.buffer(),
                key: Arc::clone(&key),
                captured: Arc::clone(&captured),
                phase: phases.clone(),
                updates: to_do,
            };
            // If one cannot be started, the others end by themselves: nobody is left to tell them when to stop.
            let (thread, handle) = start_worker(index, kit, alive.clone()).map_err(StartError::Thread)?;
            threads.push(thread);
            reaches.push(WorkerReach { handle, updates, captured });
        }
        let fleet = Fleet::new(reaches, side_reach, Arc::clone(reloads), numbers, phases.clone());
        Ok((Self { phase, ended, workers: threads, side, log }, fleet))
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

    fn finish(self, watcher: Option<Watcher>) {
        self.go_to(Phase::Closing);
        for thread in self.workers {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
        drop(watcher);
        // It tells until the end that it is not ready.
        drop(self.side);
        if !self.log.finish() {
            tracing::error!("the access log is not read any more; its last lines are lost");
        }
    }
}

fn start_worker(index: usize, kit: Kit, alive: mpsc::Sender<()>) -> io::Result<(JoinHandle<()>, Handle)> {
    let (tell, told) = std_mpsc::channel();
    let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let telling = tell.clone();
        let outcome = Worker::run(kit, move |handle| {
            // Whoever started it waits for this.
            let _ = telling.send(Ok(handle));
        });
        drop(alive);
        if let Err(error) = outcome {
            let _ = tell.send(Err(error));
        }
    })?;
    let handle = told.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
    Ok((thread, handle))
}
