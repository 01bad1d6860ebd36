//! The client's side of one HTTP/2 connection, in the form in which tonic takes it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use tonic::client::Grpc;

/// Who is asked. The name is never looked up; without one, Go's gRPC refuses the call.
const ORIGIN: &str = "http://localhost";

/// What a connection bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Header lists of more bytes are refused, counted as HTTP/2 does (RFC 9113, 6.5.2). gRPC's are a few hundred bytes,
    /// the longest a status message.
    pub headers_most: u32,
    /// Whether the other end is asked for a sign of life; without, one that is gone without a word is never missed.
    pub heartbeat: Option<Heartbeat>,
}

/// How a connection is tried while it is quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// How often.
    pub every: Duration,
    /// How long the other end may take to answer; then the connection has ended.
    pub within: Duration,
}

/// One connection, shared by its clones. It is never made again: when it has ended, it stays so.
#[derive(Debug, Clone)]
pub struct Connection(SendRequest<Body>);

impl Connection {
    /// Speaks HTTP/2 over `io`, in a task of the runtime that this is called in. That task ends with the other end, or with
    /// the last clone.
    ///
    /// It takes as long as the other end does: the caller has a limit. Whether the other end speaks HTTP/2 may be found out
    /// by the first call only.
    ///
    /// # Errors
    /// When `io` ends, or HTTP/2 can't begin over it.
    pub async fn over(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        settings: Settings,
    ) -> Result<Self, hyper::Error> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_header_list_size(settings.headers_most);
        if let Some(heartbeat) = settings.heartbeat {
            builder.timer(TokioTimer::new()).keep_alive_interval(heartbeat.every).keep_alive_timeout(heartbeat.within);
        }
        let (send, connection) = builder.handshake(TokioIo::new(io)).await?;
        // Ends by itself with the peer, or when the last clone of `send` is gone. Its error is met by the calls.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self(send))
    }

    /// tonic's client over this connection, with tonic's own limits.
    pub fn grpc(self) -> Grpc<Self> {
        Grpc::with_origin(self, http::Uri::from_static(ORIGIN))
    }
}

impl tower_service::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

#[cfg(test)]
mod tests;
