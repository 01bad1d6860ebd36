//! The client's side of one HTTP/2 connection, in the form in which tonic takes it.

use crate::error::ClientError;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tonic::body::Body;

/// Header lists beyond this are refused.
const HEADERS_MAX: u32 = 16 << 10;
/// How long the first exchange may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How often the connection is tried while it is quiet, and how long the other end may take to answer.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);

/// One connection. It is never made again: when it has ended, it stays so.
#[derive(Debug, Clone)]
pub struct Connection(SendRequest<Body>);

impl Connection {
    /// Speaks HTTP/2 over a connection.
    pub async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, ClientError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(HEADERS_MAX)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG);
        let shaken = timeout(CONNECT, builder.handshake(TokioIo::new(io))).await;
        let late = |_| ClientError::NotConnected(format!("no answer within {CONNECT:?}"));
        let (send, connection) = shaken.map_err(late)?.map_err(|error| ClientError::NotConnected(in_full(&error)))?;
        // Ends by itself with the peer, or when the last clone of `send` is gone. Its error is met by the calls.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self(send))
    }
}

/// An error with all that caused it.
pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
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
