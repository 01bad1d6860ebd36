//! What is not for the application's clients: the admin address and the probe port, on a thread of their own, so that they
//! answer while workers are busy and never take a worker's time.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::admin::Admin;
use crate::places::Places;
use crate::probe::Prober;

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

/// What is served, and where.
#[derive(Default)]
pub struct Sides {
    /// The admin address.
    pub admin: Option<(Vec<TcpListener>, Admin)>,
    /// The probe port.
    pub probes: Option<(Vec<TcpListener>, Prober)>,
}

/// The thread. It ends when this is dropped.
pub struct Side {
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Side {
    /// Starts to answer, if there is anything to be asked.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(sides: Sides) -> io::Result<Self> {
        if sides.admin.is_none() && sides.probes.is_none() {
            return Ok(Self { stop: None, thread: None });
        }
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("side".to_owned()).spawn(move || {
            if let Err(error) = run(sides, stopped) {
                tracing::error!(%error, "neither admin address nor probe port is served");
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
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

fn run(sides: Sides, stopped: oneshot::Receiver<Infallible>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async move {
        if let Some((listeners, admin)) = sides.admin {
            serve_all(listeners, Rc::new(admin), ADMIN_PLACES, ADMIN_TIME)?;
        }
        if let Some((listeners, prober)) = sides.probes {
            serve_all(listeners, Rc::new(prober.local()), PROBE_PLACES, PROBE_TIME)?;
        }
        // Nothing is ever sent: the sender goes when the thread shall.
        let _ = stopped.await;
        Ok(())
    })
}

fn serve_all<A: Answer>(
    listeners: Vec<TcpListener>,
    whom: Rc<A>,
    (all, each): (usize, usize),
    time: Duration,
) -> io::Result<()> {
    let places = Places::new(all, each);
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        spawn_local(accept(listener, Rc::clone(&whom), places.clone(), time));
    }
    Ok(())
}

async fn accept<A: Answer>(listener: tokio::net::TcpListener, whom: Rc<A>, places: Places, time: Duration) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Refused at once and not left waiting: one client's silence must not be another's.
                let Some(place) = places.take(peer.ip().to_canonical()) else { continue };
                let whom = Rc::clone(&whom);
                spawn_local(async move {
                    // Whoever asks has gone, or takes too long: it is his loss.
                    let _ = timeout(time, serve(stream, whom)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to admin address or probe port");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
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
