//! One HTTP/2 connection over a unix socket, in the form in which tonic takes it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::body::Body;

use crate::error::Error;
use crate::options::Options;

/// Header lists beyond this are refused; gRPC's are a few hundred bytes, the longest a status message.
const HEADERS_MAX: u32 = 64 << 10;

/// One connection. It is never made again: when it has ended, it stays so.
#[derive(Debug, Clone)]
pub(crate) struct Connection(SendRequest<Body>);

impl Connection {
    pub(crate) async fn open(options: &Options) -> Result<Self, Error> {
        let not_connected = |why: String| Error::NotConnected { socket: options.socket.clone(), why };
        let connect = async {
            let stream = UnixStream::connect(&options.socket).await.map_err(|error| refused(options, error))?;
            let (send, connection) = http2::Builder::new(TokioExecutor::new())
                .max_header_list_size(HEADERS_MAX)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| not_connected(in_full(&error)))?;
            // Ends by itself with the peer, or when the last clone of `send` is gone. Its error is met by the calls.
            tokio::spawn(async move { drop(connection.await) });
            Ok(Self(send))
        };
        let late = || not_connected(format!("no connection within {:?}", options.connect_within));
        timeout(options.connect_within, connect).await.map_err(|_| late())?
    }
}

fn refused(options: &Options, source: io::Error) -> Error {
    let socket = options.socket.clone();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NotThere { socket, source },
        io::ErrorKind::PermissionDenied => Error::NotPermitted { socket, source },
        _ => Error::NotConnected { socket, why: source.to_string() },
    }
}

/// An error with all that caused it.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
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
