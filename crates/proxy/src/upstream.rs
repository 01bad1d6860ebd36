//! Connections to the application: kept open between requests, one pool for each worker and port.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::body::{RequestBody, RequestProgress};

/// How long the application may take, and how many of its connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// To accept a connection.
    pub connect: Duration,
    /// From the end of a request to the head of the response.
    pub response: Duration,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// How many idle connections are kept.
    pub most_idle: usize,
    /// Bytes of a response's head.
    pub header_bytes: usize,
    /// Header lines of a response.
    pub headers: usize,
}

/// Why the application did not answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Nothing listens, or the connection was refused.
    #[error("cannot connect to the application at {address}: {source}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The connection was not accepted in time.
    #[error("the application at {address} did not accept the connection in time")]
    ConnectTimeout {
        /// Where.
        address: SocketAddr,
    },
    /// The answer did not come in time.
    #[error("the application did not answer in time")]
    ResponseTimeout,
    /// The connection broke, or the answer is not HTTP.
    #[error("the application's answer is broken: {0}")]
    Broken(#[source] hyper::Error),
}

impl UpstreamError {
    /// Whether the application was too slow (504) rather than broken (502).
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::ConnectTimeout { .. } | Self::ResponseTimeout)
    }
}

/// The idle connections of one worker to one port of the application.
pub struct Pool {
    address: SocketAddr,
    limits: UpstreamLimits,
    idle: RefCell<Vec<Idle>>,
    closed: Cell<bool>,
}

struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// A connection that one request uses. Dropped, it is closed; given back, the next request can use it.
pub struct Lease {
    sender: SendRequest<RequestBody>,
    pool: Weak<Pool>,
    reused: bool,
}

impl Pool {
    /// A pool for a port on 127.0.0.1.
    pub fn new(port: u16, limits: UpstreamLimits) -> Rc<Self> {
        Rc::new(Self {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            limits,
            idle: RefCell::default(),
            closed: Cell::new(false),
        })
    }

    /// Where the application listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was made with.
    pub fn limits(&self) -> UpstreamLimits {
        self.limits
    }

    /// Keeps no connections any more: those who still use it are its last.
    pub fn close(&self) {
        self.closed.set(true);
        self.idle.borrow_mut().clear();
    }

    /// Closes what has been idle for too long.
    pub fn sweep(&self) {
        let now = Instant::now();
        let idle_for = self.limits.idle;
        self.idle.borrow_mut().retain(|idle| !idle.sender.is_closed() && now - idle.since < idle_for);
    }

    /// How many connections are idle.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Sends a request and waits for the head of the answer. A request that a kept connection did not take is sent again
    /// on a new one; one that it may have taken only if that cannot do harm: its method is idempotent (RFC 9110 §9.2.2)
    /// and it has no body.
    ///
    /// # Errors
    ///
    /// Why the application did not answer.
    pub async fn send(
        self: &Rc<Self>,
        mut request: Request<RequestBody>,
        progress: &RequestProgress,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        loop {
            let mut lease = self.lease().await?;
            let again = (lease.reused && request.body().is_empty() && request.method().is_idempotent())
                .then(|| head_of(&request));
            progress.last.set(Instant::now());
            let mut error = tokio::select! {
                biased;
                answer = lease.sender.try_send_request(request) => match answer {
                    Ok(response) => return Ok((response, lease)),
                    Err(error) => error,
                },
                () = too_late(progress, self.limits.response) => return Err(UpstreamError::ResponseTimeout),
            };
            // A new connection that fails has no excuse.
            let retry = if lease.reused { error.take_message().or(again) } else { None };
            match retry {
                Some(unsent) if progress.fault.get().is_none() => request = unsent,
                _ => return Err(UpstreamError::Broken(error.into_error())),
            }
        }
    }

    async fn lease(self: &Rc<Self>) -> Result<Lease, UpstreamError> {
        // The youngest first, so that the others can grow old and be closed.
        loop {
            let Some(idle) = self.idle.borrow_mut().pop() else { break };
            if idle.sender.is_ready() && idle.since.elapsed() < self.limits.idle {
                return Ok(Lease { sender: idle.sender, pool: Rc::downgrade(self), reused: true });
            }
        }
        let address = self.address;
        let stream = timeout(self.limits.connect, TcpStream::connect(address))
            .await
            .map_err(|_| UpstreamError::ConnectTimeout { address })?
            .map_err(|source| UpstreamError::Connect { address, source })?;
        stream.set_nodelay(true).map_err(|source| UpstreamError::Connect { address, source })?;
        let (sender, connection) = Builder::new()
            // Header and body in one write: cheaper than a vectored one on loopback, measured.
            .writev(false)
            .max_headers(self.limits.headers)
            .max_buf_size(self.limits.header_bytes.max(8192))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(UpstreamError::Broken)?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                // Whoever waits for this connection is told by its own error.
                tracing::debug!(%error, "a connection to the application ended");
            }
        });
        Ok(Lease { sender, pool: Rc::downgrade(self), reused: false })
    }
}

impl Lease {
    /// Gives the connection back, once the response's body has ended.
    pub fn give_back(self) {
        let Self { mut sender, pool, .. } = self;
        if sender.is_ready() {
            put(&pool, sender);
        } else if !sender.is_closed() {
            // The connection has not noticed yet that it is free, or the request's body is still on its way.
            tokio::task::spawn_local(async move {
                if sender.ready().await.is_ok() {
                    put(&pool, sender);
                }
            });
        }
    }
}

fn put(pool: &Weak<Pool>, sender: SendRequest<RequestBody>) {
    if let Some(pool) = pool.upgrade() {
        let mut idle = pool.idle.borrow_mut();
        if idle.len() < pool.limits.most_idle && !pool.closed.get() {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

/// Ends when the application has had its time since it took the request's last piece. While the client is the slow one,
/// its own clock runs, not this one.
async fn too_late(progress: &RequestProgress, response: Duration) {
    loop {
        let deadline = progress.last.get() + response;
        sleep_until(deadline).await;
        if progress.client_is_slow.get() {
            progress.last.set(Instant::now());
        } else if progress.last.get() + response <= deadline {
            return;
        }
    }
}

/// A copy of a request without a body.
fn head_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
