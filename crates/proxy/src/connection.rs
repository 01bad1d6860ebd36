//! One client connection: TLS if the listener speaks it, then requests until one side has had enough.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::access_log::Line;
use crate::service::{Client, Front};
use crate::slot::{Slot, Stay};
use crate::stream::{GuardedStream, Patience, StreamFault, StreamState};

/// What the connections of one listener share within one worker, under one version of the configuration.
pub struct Entrance {
    /// What becomes of their requests.
    pub front: Rc<Front>,
    /// The certificate, if the listener speaks TLS; replaced as a whole when its file changes.
    pub tls: Option<Arc<ArcSwap<ServerConfig>>>,
    /// How long clients may take.
    pub patience: Patience,
    /// How large a request's head may be.
    pub heads: HeadLimits,
}

/// How large a request's head may be. Fixed for a connection when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes.
    pub bytes: usize,
    /// Header lines.
    pub lines: usize,
}

impl Slot {
    /// Serves one connection to its end.
    pub async fn serve(self: Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let counters = Arc::clone(&self.entrance().front.counters);
        counters.opened();
        self.serve_opened(stream, peer).await;
        counters.closed();
    }

    async fn serve_opened(self: Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let began = Instant::now();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "the connection ended before it began");
            return;
        }
        let (entrance, mut stay) = (self.entrance(), self.stay());
        let Some(tls) = &entrance.tls else {
            return self.requests(stream, peer, began, &entrance, stay).await;
        };
        let acceptor = TlsAcceptor::from(tls.load_full());
        let handshake = timeout(entrance.patience.header, acceptor.accept(stream));
        let shaken = tokio::select! {
            biased;
            shaken = handshake => shaken,
            () = leaves(&mut stay, Stay::LastRequest) => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.requests(stream, peer, began, &entrance, stay).await,
            Ok(Err(error)) => self.handshake_failed(peer, began, &format!("TLS handshake failed: {error}")),
            Err(_) => self.handshake_failed(peer, began, "the TLS handshake did not come to its end in time"),
        }
    }

    async fn requests<S>(
        self: Rc<Self>,
        stream: S,
        peer: SocketAddr,
        began: Instant,
        entrance: &Entrance,
        mut stay: watch::Receiver<Stay>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let state = Rc::new(StreamState::default());
        let heads = entrance.heads;
        // Far above what the library itself lets pass, which answers larger heads with 431.
        let scanned = 2 * heads.bytes.max(8192) + 64 * 1024;
        let guarded = GuardedStream::new(stream, scanned, self.patience(), Rc::clone(&state));
        let client = Rc::new(Client {
            slot: Rc::clone(&self),
            heads,
            peer,
            tls: entrance.tls.is_some(),
            stream: Rc::clone(&state),
        });
        let service = service_fn(move |request| Rc::clone(&client).answer(request));
        let connection = http1::Builder::new()
            // Head and body in one write: cheaper than a vectored one on loopback, measured.
            .writev(false)
            // The application dates its own answers.
            .auto_date_header(false)
            .max_headers(heads.lines)
            .max_header_size(heads.bytes)
            .max_buf_size(heads.bytes.max(8192))
            // The time is kept by the stream, which knows idleness from slowness.
            .header_read_timeout(None::<Duration>)
            .serve_connection(TokioIo::new(guarded), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = leaves(&mut stay, Stay::LastRequest) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    ended = connection.as_mut() => ended,
                    () = leaves(&mut stay, Stay::Cut) => return,
                }
            }
        };
        let fault = state.fault.get();
        match ended {
            // What broke within a request or a response is told by its own line.
            Ok(()) => {}
            Err(error) if error.is_parse() => {
                let status = if error.is_parse_too_large() { 431 } else { 400 };
                let why = fault.map_or_else(|| format!("the request is malformed: {error}"), |fault| fault.to_string());
                self.refused(peer, began, status, &why);
            }
            Err(_) if fault == Some(StreamFault::HeaderTimeout) => {
                self.refused(peer, began, 0, &StreamFault::HeaderTimeout.to_string());
            }
            Err(error) => tracing::debug!(%error, %peer, "the connection broke"),
        }
    }

    fn handshake_failed(&self, peer: SocketAddr, began: Instant, why: &str) {
        self.entrance().front.counters.handshake_failed();
        self.log(peer, began, 0, why);
    }

    /// Counts and logs what was answered though it never became a request.
    fn refused(&self, peer: SocketAddr, began: Instant, status: u16, why: &str) {
        // What it took is not known: the connection may have been silent for long before.
        self.entrance().front.counters.request(status, 0, 0, 0);
        self.log(peer, began, status, why);
    }

    /// Logs what never became a request.
    fn log(&self, peer: SocketAddr, began: Instant, status: u16, why: &str) {
        let front = &self.entrance().front;
        front.log.add(&Line {
            time: SystemTime::now(),
            listener: front.port,
            captured: self.captured,
            peer,
            method: None,
            path: None,
            status,
            duration_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            bytes_in: 0,
            bytes_out: 0,
            user: None,
            upstream_status: None,
            error: Some(why),
        });
    }
}

/// Ends when a connection may stay no longer than so.
async fn leaves(stay: &mut watch::Receiver<Stay>, until: Stay) {
    // What is found is a lock, and must not be held while a connection is served on.
    drop(stay.wait_for(|stay| *stay >= until).await);
}
