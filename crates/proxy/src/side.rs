//! What is not for the application's clients: the admin address and the probe port, on a thread of their own, so that they
//! answer while workers are busy and never take a worker's time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::admin::Admin;
use crate::places::{Place, Places};
use crate::probe::{LocalProber, Prober};

/// Octets of a request's head.
const HEAD_BYTES: usize = 8 * 1024;
/// Header lines of a request.
const HEADERS: usize = 32;
/// From a connection's start to the end of its request's head.
const HEAD: Duration = Duration::from_secs(2);
/// How long the thread waits after the system refused a connection for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections to the admin address at a time, and of one client.
const ADMIN_PLACES: (usize, usize) = (32, 8);
/// Connections to the probe port at a time, and of one client. A pod's probes all come from its node, so that its part
/// holds every probe of a large pod at once; and many others must come together before there is no place for the node.
const PROBE_PLACES: (usize, usize) = (512, 64);
/// How long a connection may last: to the admin address; to the probe port, where a hook may take an hour.
const ADMIN_TIME: Duration = Duration::from_secs(10);
const PROBE_TIME: Duration = Duration::from_secs(3610);

/// Somebody who answers one request. An error is no answer: the connection is closed without one.
pub trait Answer: 'static {
    /// Answers a request that came to this address of ours.
    fn answer(
        &self,
        request: Request<Incoming>,
        local: SocketAddr,
    ) -> impl Future<Output = Result<Response<Full<Bytes>>, NoAnswer>>;
}

/// There is no answer to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no answer to give")]
pub struct NoAnswer;

/// What is behind a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The admin address.
    Admin,
    /// The probe port.
    Probes,
}

/// What to serve from now on.
pub struct SideUpdate {
    /// Every address, and what is behind it. Sockets that are not among them are closed.
    pub roles: BTreeMap<SocketAddr, Role>,
    /// Sockets that there have not been before.
    pub sockets: Vec<(SocketAddr, TcpListener)>,
    /// What the probe port answers.
    pub prober: Prober,
    /// Dropped when it is so.
    pub done: std_mpsc::Sender<Infallible>,
}

/// The thread. It ends when this is dropped.
pub struct Side {
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

/// How to reach the thread.
pub struct SideReach {
    /// Its event queue.
    pub handle: Handle,
    /// What to serve.
    pub updates: mpsc::UnboundedSender<SideUpdate>,
}

impl Side {
    /// Starts the thread. It serves nothing until it is told what.
    ///
    /// # Errors
    ///
    /// When the system gives no thread or no event queue.
    pub fn start(admin: Admin) -> io::Result<(Self, SideReach)> {
        let (stop, stopped) = oneshot::channel();
        let (updates, to_do) = mpsc::unbounded_channel();
        let (tell, told) = std_mpsc::channel();
        let thread = thread::Builder::new().name("side".to_owned()).spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime,
                Err(error) => {
                    // Whoever started it waits for this.
                    let _ = tell.send(Err(error));
                    return;
                }
            };
            let _ = tell.send(Ok(runtime.handle().clone()));
            runtime.block_on(serve_all(Rc::new(admin), to_do, stopped));
        })?;
        let side = Self { stop: Some(stop), thread: Some(thread) };
        let handle = told.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok((side, SideReach { handle, updates }))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// What all connections of the thread share.
struct Desk {
    admin: Rc<Admin>,
    prober: RefCell<Option<Rc<LocalProber>>>,
    admin_places: Places,
    probe_places: Places,
}

/// A socket that is served.
struct Door {
    role: Rc<Cell<Role>>,
    task: tokio::task::JoinHandle<()>,
}

async fn serve_all(
    admin: Rc<Admin>,
    mut to_do: mpsc::UnboundedReceiver<SideUpdate>,
    mut stopped: oneshot::Receiver<Infallible>,
) {
    let desk = Rc::new(Desk {
        admin,
        prober: RefCell::default(),
        admin_places: Places::new(ADMIN_PLACES.0, ADMIN_PLACES.1),
        probe_places: Places::new(PROBE_PLACES.0, PROBE_PLACES.1),
    });
    let mut doors: BTreeMap<SocketAddr, Door> = BTreeMap::new();
    loop {
        let update = tokio::select! {
            // Nothing is ever sent: the sender goes when the thread shall.
            _ = &mut stopped => return,
            Some(update) = to_do.recv() => update,
        };
        let SideUpdate { roles, sockets, prober, done } = update;
        desk.prober.replace(Some(Rc::new(prober.local())));
        // Connections that it has taken go on.
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            doors.into_iter().partition(|(address, _)| roles.contains_key(address));
        doors = kept;
        for door in gone.into_values() {
            door.task.abort();
            // Aborted, or ended by a panic that has been reported; and then its port is free.
            let _ = door.task.await;
        }
        for (address, door) in &doors {
            if let Some(role) = roles.get(address) {
                door.role.set(*role);
            }
        }
        for (address, socket) in sockets {
            let Some(role) = roles.get(&address) else { continue };
            let role = Rc::new(Cell::new(*role));
            let task = spawn_local(accept(socket, Rc::clone(&role), Rc::clone(&desk)));
            doors.insert(address, Door { role, task });
        }
        drop(done);
    }
}

async fn accept(listener: TcpListener, role: Rc<Cell<Role>>, desk: Rc<Desk>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let by = peer.ip().to_canonical();
                let prober = desk.prober.borrow().clone();
                // Refused at once and not left waiting: one client's silence must not be another's.
                match (role.get(), prober) {
                    (Role::Admin, _) => spawn(stream, &desk.admin, desk.admin_places.take(by), ADMIN_TIME),
                    (Role::Probes, Some(prober)) => spawn(stream, &prober, desk.probe_places.take(by), PROBE_TIME),
                    (Role::Probes, None) => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to admin address or probe port");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn spawn<A: Answer>(stream: TcpStream, whom: &Rc<A>, place: Option<Place>, time: Duration) {
    let Some(place) = place else { return };
    let whom = Rc::clone(whom);
    spawn_local(async move {
        // Whoever asks has gone, or takes too long: it is his loss.
        let _ = timeout(time, serve(stream, whom)).await;
        drop(place);
    });
}

async fn serve<A: Answer>(stream: TcpStream, whom: Rc<A>) -> Result<(), Box<dyn Error>> {
    let local = stream.local_addr()?;
    let service = service_fn(move |request| {
        let whom = Rc::clone(&whom);
        async move { whom.answer(request, local).await }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .auto_date_header(false)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}
