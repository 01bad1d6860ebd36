//! One worker: one thread, one runtime, its own sockets, connections, caches and log. Workers share only what never
//! changes, and what is replaced as a whole behind an atomic pointer. A new version of the configuration comes as a message;
//! between two messages no request asks another thread for anything.

mod furnish;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::access_log::LogBuffer;
use crate::auth::{CredentialCache, CredentialKey};
use crate::capture::Captured;
use crate::metrics::{CaptureCounters, Counters};
use crate::phase::Phase;
use crate::room::{Room, Seat};
use crate::slot::{Slot, SlotKey};
use crate::upstream::Pool;
use crate::version::Version;

/// How often collected log lines are handed over.
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// How often idle connections to the application are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long a worker waits after the system refused a connection for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a worker begins with.
pub struct Kit {
    /// Its part of the access log.
    pub log: LogBuffer,
    /// The process's key for naming credentials.
    pub key: Arc<CredentialKey>,
    /// What it counts at the capture port.
    pub captured: Arc<CaptureCounters>,
    /// Says when to stop.
    pub phase: watch::Receiver<Phase>,
    /// Says what to serve.
    pub updates: mpsc::UnboundedReceiver<Update>,
}

/// A version of the configuration to serve from now on.
pub struct Update {
    /// The version.
    pub version: Arc<Version>,
    /// What the worker counts of each listener of the configuration.
    pub counters: Vec<Arc<Counters>>,
    /// Sockets that it has not had before. It closes those that the version does not name.
    pub sockets: Vec<(SocketAddr, TcpListener)>,
    /// Dropped when the version is in force.
    pub done: std_mpsc::Sender<Infallible>,
}

/// What is behind a socket.
#[derive(Clone)]
enum Behind {
    /// A listener.
    Listener(Rc<Slot>),
    /// The capture port.
    Captured(Rc<Captured>),
}

/// A socket that is served.
struct Door {
    behind: Rc<RefCell<Behind>>,
    task: JoinHandle<()>,
}

impl Door {
    /// Closes the socket. It is closed when what this gives has ended.
    fn close(self) -> JoinHandle<()> {
        self.task.abort();
        self.task
    }
}

/// A worker at work.
pub struct Worker {
    tools: Tools,
    room: Rc<Room>,
    doors: BTreeMap<SocketAddr, Door>,
    slots: BTreeMap<SlotKey, Rc<Slot>>,
    pools: Rc<RefCell<Vec<Rc<Pool>>>>,
    captured: Arc<CaptureCounters>,
    drain: Duration,
}

/// What all requests of a worker share, under every version.
struct Tools {
    log: Rc<LogBuffer>,
    cache: Rc<RefCell<CredentialCache>>,
    key: Arc<CredentialKey>,
    leaving: Rc<Cell<bool>>,
}

impl Worker {
    /// Serves until it is told to stop and all connections have ended, or the time to drain is over. Tells first how it is
    /// reached.
    ///
    /// # Errors
    ///
    /// When the system gives no event queue.
    pub fn run(kit: Kit, tell: impl FnOnce(Handle)) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        tell(runtime.handle().clone());
        runtime.block_on(async move {
            let tools = Tools {
                log: Rc::new(kit.log),
                // The first version says how much it holds.
                cache: Rc::new(RefCell::new(CredentialCache::new(1, Duration::ZERO))),
                key: kit.key,
                leaving: Rc::default(),
            };
            let worker = Self {
                tools,
                room: Room::new(0),
                doors: BTreeMap::new(),
                slots: BTreeMap::new(),
                pools: Rc::default(),
                captured: kit.captured,
                drain: Duration::ZERO,
            };
            worker.serve(kit.phase, kit.updates).await;
        });
        Ok(())
    }

    async fn serve(mut self, mut phase: watch::Receiver<Phase>, mut updates: mpsc::UnboundedReceiver<Update>) {
        let log = Rc::clone(&self.tools.log);
        let keeper = spawn_local(keep(Rc::clone(&log), Rc::clone(&self.pools)));
        loop {
            match *phase.borrow_and_update() {
                Phase::Serving => {}
                Phase::Unready => self.tools.leaving.set(true),
                Phase::Closing => break,
            }
            tokio::select! {
                biased;
                changed = phase.changed() => {
                    // The sender lives as long as the process; without it, stop too.
                    if changed.is_err() {
                        break;
                    }
                }
                Some(update) = updates.recv() => self.take_up(update),
            }
        }
        self.tools.leaving.set(true);
        let doors = std::mem::take(&mut self.doors);
        closed(doors.into_values().map(Door::close).collect()).await;
        for slot in self.slots.values() {
            slot.close();
        }
        if timeout(self.drain, self.room.emptied()).await.is_err() {
            tracing::warn!(connections = self.room.taken(), "the time to drain is over; connections are cut");
        }
        keeper.abort();
        log.flush();
    }

    fn open(&mut self, address: SocketAddr, socket: TcpListener, behind: Behind) {
        let behind = Rc::new(RefCell::new(behind));
        let task = spawn_local(accept(socket, Rc::clone(&behind), Rc::clone(&self.room)));
        self.doors.insert(address, Door { behind, task });
    }
}

/// Ends when these are closed.
async fn closed(doors: Vec<JoinHandle<()>>) {
    for door in doors {
        // Aborted, or ended by a panic that has been reported.
        let _ = door.await;
    }
}

async fn accept(listener: TcpListener, behind: Rc<RefCell<Behind>>, room: Rc<Room>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // At the limit, this one waits here and all others in the kernel's backlog. Never closed.
                let seat = room.take().await;
                // Asked now and not before: what is behind the socket may have changed meanwhile.
                let now = behind.borrow().clone();
                let slot = match now {
                    Behind::Listener(slot) => slot,
                    Behind::Captured(captured) => match captured.slot(&stream) {
                        Ok(slot) => slot,
                        Err(refused) => {
                            tracing::debug!(%refused, %peer, "a connection to the capture port is refused");
                            continue;
                        }
                    },
                };
                spawn_local(serve(slot, stream, peer, seat));
            }
            Err(error) => {
                // Some of these are one connection's (reset before it was accepted), some everybody's (no descriptors).
                let of_one = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
                );
                if !of_one {
                    let address = listener.local_addr().ok();
                    tracing::error!(%error, ?address, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve(slot: Rc<Slot>, stream: TcpStream, peer: SocketAddr, seat: Seat) {
    slot.serve(stream, peer).await;
    drop(seat);
}

/// Hands over log lines and closes old connections to the application.
async fn keep(log: Rc<LogBuffer>, pools: Rc<RefCell<Vec<Rc<Pool>>>>) {
    let mut flush = interval(FLUSH_EVERY);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweep = interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = flush.tick() => log.flush(),
            _ = sweep.tick() => {
                for pool in pools.borrow().iter() {
                    pool.sweep();
                }
            }
        }
    }
}
