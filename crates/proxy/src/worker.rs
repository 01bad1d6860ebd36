//! One worker: one thread, one runtime, its own sockets, connections, caches and log. Workers share only what never
//! changes, and what is replaced as a whole behind an atomic pointer.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::access_log::LogBuffer;
use crate::capture::Captured;
use crate::connection::Entrance;
use crate::phase::Phase;

/// How often collected log lines are handed over.
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// How often idle connections to the application are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long a worker waits after the system refused a connection for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is behind a socket.
#[derive(Clone)]
pub enum Door {
    /// A listener.
    Listener(Rc<Entrance>),
    /// The capture port.
    Captured(Rc<Captured>),
}

impl Door {
    fn port(&self) -> u16 {
        match self {
            Self::Listener(entrance) => entrance.front.port,
            Self::Captured(captured) => captured.port,
        }
    }
}

/// What a worker is made of. Made on its own thread, since nothing of it may leave it.
pub struct Worker {
    /// Its sockets, each with what is behind it.
    pub doors: Vec<(TcpListener, Door)>,
    /// Its listeners.
    pub entrances: Vec<Rc<Entrance>>,
    /// Where its listeners look whether every answer is its connection's last.
    pub leaving: Rc<Cell<bool>>,
    /// Its part of the access log.
    pub log: Rc<LogBuffer>,
    /// Connections at a time.
    pub connections: usize,
    /// How long requests in flight may go on after the signal to stop.
    pub drain: Duration,
    /// Says when to stop.
    pub phase: watch::Receiver<Phase>,
}

impl Worker {
    /// Serves until it is told to stop and all connections have ended, or the time to drain is over.
    ///
    /// # Errors
    ///
    /// When the system gives no event queue.
    pub fn run(make: impl FnOnce() -> Worker) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        runtime.block_on(async move { make().serve().await })
    }

    async fn serve(self) -> io::Result<()> {
        let Self { doors: sockets, entrances, leaving, log, connections, drain, mut phase } = self;
        let room = Arc::new(Semaphore::new(connections));
        let keeper = spawn_local(keep(Rc::clone(&log), entrances));
        let mut doors = Vec::new();
        for (listener, door) in sockets {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            doors.push(spawn_local(accept(listener, door, Arc::clone(&room))));
        }
        // The sender lives as long as the process; without it, stop too.
        let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
        leaving.set(true);
        let _ = phase.wait_for(|phase| *phase == Phase::Closing).await;
        for door in doors {
            door.abort();
            // Aborted, or ended by a panic that has been reported.
            let _ = door.await;
        }
        let all = u32::try_from(connections).unwrap_or(u32::MAX);
        if timeout(drain, room.acquire_many(all)).await.is_err() {
            let left = connections - room.available_permits();
            tracing::warn!(connections = left, "the time to drain is over; connections are cut");
        }
        keeper.abort();
        log.flush();
        Ok(())
    }
}

async fn accept(listener: tokio::net::TcpListener, door: Door, room: Arc<Semaphore>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let entrance = match &door {
                    Door::Listener(entrance) => Rc::clone(entrance),
                    Door::Captured(captured) => match captured.entrance(&stream) {
                        Ok(entrance) => entrance,
                        Err(refused) => {
                            tracing::debug!(%refused, %peer, "a connection to the capture port is refused");
                            continue;
                        }
                    },
                };
                // At the limit, this one waits here and all others in the kernel's backlog. Never closed.
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                spawn_local(serve(entrance, stream, peer, permit));
            }
            Err(error) => {
                // Some of these are one connection's (reset before it was accepted), some everybody's (no descriptors).
                let of_one = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
                );
                if !of_one {
                    tracing::error!(%error, listener = door.port(), "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve(entrance: Rc<Entrance>, stream: tokio::net::TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
    entrance.serve(stream, peer).await;
    drop(permit);
}

/// Hands over log lines and closes old connections to the application.
async fn keep(log: Rc<LogBuffer>, entrances: Vec<Rc<Entrance>>) {
    let mut flush = interval(FLUSH_EVERY);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweep = interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = flush.tick() => log.flush(),
            _ = sweep.tick() => {
                for entrance in &entrances {
                    entrance.front.pool.sweep();
                }
            }
        }
    }
}
