//! The HTTPS server that the API server asks: HTTP/1.1 and HTTP/2 over TLS, with certificates that may be replaced while it serves.
//!
//! What is asked comes from the API server, and from whoever else reaches the port: TLS does not tell them apart (an API server
//! shows no certificate of its own by default). So an answer may hold nothing that its question did not, and everything that a
//! question can cost is bounded: connections, streams, sizes, times.

mod tls;

use crate::admission::review::BODY_MAX;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

pub use tls::{TlsError, config};

/// The most connections at once. An API server has a few to each webhook.
const CONNECTIONS: usize = 256;
/// The most requests at once on one connection of HTTP/2.
const STREAMS: u32 = 250;
/// How long the TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a client may take for the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// How long a client may take for the body of a request. The API server gives a webhook 30 seconds at most, for all.
const BODY: Duration = Duration::from_secs(10);
/// The longest list of headers of a request, in octets.
const HEADERS: u32 = 32 << 10;
/// How often a connection of HTTP/2 is asked whether somebody is there, and how soon an answer is expected.
const ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// How long a connection lasts before its client is asked to begin another. An API server asks over one for as long as it can,
/// and so always the operator that it has reached first; another one leads to any of them.
const LIFE: Duration = Duration::from_secs(90);
/// How long requests may go on that run when the server is told to stop, or a connection has lasted long enough.
const DRAIN: Duration = Duration::from_secs(15);
/// The wait after a connection could not be accepted: out of descriptors, as a rule.
const AGAIN: Duration = Duration::from_millis(100);

/// Who answers a question.
pub trait Answers: Send + Sync + 'static {
    /// The answer to a body that was posted to a path.
    ///
    /// # Errors
    /// Why there is none; the API server then does what its `failurePolicy` says.
    fn answer(&self, path: &str, body: &[u8]) -> impl Future<Output = Result<Vec<u8>, NoAnswer>> + Send;
}

/// Why there is no answer. What is said is told as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nobody is asked at this path: status 404.
    Nobody,
    /// The question can't be understood: status 400.
    Unintelligible(String),
    /// Not now: status 503.
    NotNow(String),
}

/// Serves until `stop` is ready, and then until what runs is done, or too long runs.
///
/// A connection keeps the certificate that it was begun with; the next one gets what `tls` holds then. After a minute and a half
/// or up to half as much again, its client is asked to begin another, and what it has asked until then is answered.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    answers: Arc<impl Answers>,
    stop: impl Future<Output = ()>,
) {
    serve_for(LIFE, listener, tls, answers, stop).await;
}

/// The same, with connections that last so long, or up to half as much again.
pub async fn serve_for(
    life: Duration,
    listener: TcpListener,
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    answers: Arc<impl Answers>,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (ending, ended) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let place = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            sleep(AGAIN).await;
            continue;
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow()));
        let (answers, mut ended) = (Arc::clone(&answers), ended.clone());
        let life = life + life.mul_f64(part()) / 2;
        connections.spawn(async move {
            let end = async {
                tokio::select! {
                    () = sleep(life) => {}
                    () = async { drop(ended.wait_for(|ended| *ended).await) } => {}
                }
            };
            connection(stream, acceptor, answers, end).await;
            drop(place);
        });
    }
    drop(listener);
    let _ = ending.send(true);
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

/// A part of one, another each time: connections that were begun together do not end together. Without random numbers they do.
fn part() -> f64 {
    let mut byte = [0];
    let _ = aws_lc_rs::rand::fill(&mut byte);
    f64::from(byte[0]) / 256.0
}

/// Answers what is asked over a connection, until its client ends it, or `end` is ready and what runs is answered.
async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    answers: Arc<impl Answers>,
    end: impl Future<Output = ()>,
) {
    // Questions are small and are waited for.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        tracing::debug!("a connection did not come to TLS");
        return;
    };
    let service = service_fn(move |request| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(answer(request, &*answers).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEADERS as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .keep_alive_interval(ALIVE.0)
        .keep_alive_timeout(ALIVE.1);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = serving.as_mut() => {}
        () = end => {
            serving.as_mut().graceful_shutdown();
            // However it ends, there is nobody to tell.
            let _ = timeout(DRAIN, serving).await;
        }
    }
}

async fn answer(request: Request<Incoming>, answers: &impl Answers) -> Response<Full<Bytes>> {
    if *request.method() != Method::POST {
        return told(StatusCode::METHOD_NOT_ALLOWED, "a review is posted");
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return told(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a review is application/json");
    }
    let (head, body) = request.into_parts();
    let body = match timeout(BODY, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return told(StatusCode::PAYLOAD_TOO_LARGE, "the review is too large");
        }
        Ok(Err(_)) => return told(StatusCode::BAD_REQUEST, "the review ended before its end"),
        Err(_) => return told(StatusCode::REQUEST_TIMEOUT, "the review took too long to come"),
    };
    match answers.answer(head.uri.path(), &body).await {
        Ok(answer) => {
            let mut response = Response::new(Full::new(Bytes::from(answer)));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(NoAnswer::Nobody) => told(StatusCode::NOT_FOUND, "nobody is asked here"),
        Err(NoAnswer::Unintelligible(error)) => told(StatusCode::BAD_REQUEST, &error),
        Err(NoAnswer::NotNow(error)) => told(StatusCode::SERVICE_UNAVAILABLE, &error),
    }
}

fn told(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
