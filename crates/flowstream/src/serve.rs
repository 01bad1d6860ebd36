//! Offers a hub's records over connections.

use crate::FOLLOW;
use crate::admission::Admission;
use crate::follow::Follow;
use crate::limits::Limits;
use crate::stream;
use crate::token::Token;
use crate::wire::FollowRequest;
use bytes::Bytes;
use futures::Stream;
use http::{Method, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use sidewall_flowlog::Hub;
use sidewall_grpc::Raw;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::body::Body;
use tonic::{Request, Response, Status};

/// The content type of gRPC, and the beginning of its variants'.
const GRPC: &[u8] = b"application/grpc";

/// Offers a hub's records to whom an [`Admission`] lets in. Cheap to clone; clones share their limits.
pub struct Server<A> {
    shared: Arc<Shared<A>>,
}

/// What the calls of a server share.
pub struct Shared<A> {
    pub hub: Hub,
    pub admission: A,
    pub limits: Limits,
    pub calls: Arc<Semaphore>,
    pub questions: Semaphore,
}

impl<A> Clone for Server<A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<A> fmt::Debug for Server<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

impl<A: Admission> Server<A> {
    /// A server without connections.
    pub fn new(hub: Hub, admission: A, limits: Limits) -> Self {
        let (calls, questions) = (Arc::new(Semaphore::new(limits.calls)), Semaphore::new(limits.questions));
        Self { shared: Arc::new(Shared { hub, admission, limits, calls, questions }) }
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Serves one connection until it ends. [`crate::Listener`] does this for each that it takes.
    pub async fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        self.serve_until(io, std::future::pending()).await;
    }

    /// As [`Server::serve`]; after `ending`, no further calls are taken, and it ends with the last of those that are
    /// under way.
    pub(crate) async fn serve_until(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        ending: impl Future<Output = ()>,
    ) {
        let limits = self.shared.limits;
        let activity = Arc::new(Activity::default());
        let (shared, busy) = (Arc::clone(&self.shared), Arc::clone(&activity));
        let service = service_fn(move |request| {
            let (shared, busy) = (Arc::clone(&shared), Busy::new(&busy));
            async move { Ok::<_, Infallible>(answer(shared, busy, request).await) }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.calls_of_a_connection)
            .max_header_list_size(limits.headers)
            .max_send_buf_size(limits.unsent)
            .keep_alive_interval(limits.ping)
            .keep_alive_timeout(limits.pong_within);
        let mut ending = pin!(ending);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a connection to the flow log has failed");
                    }
                    return;
                }
                () = sleep_until(activity.idle_until(limits.idle)) => {
                    if activity.idle_until(limits.idle) > Instant::now() {
                        continue;
                    }
                    connection.as_mut().graceful_shutdown();
                    // It may not even listen.
                    let _ = timeout(limits.goodbye, connection).await;
                    return;
                }
                () = ending.as_mut() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                    return;
                }
            }
        }
    }
}

/// Answers one request, whatever it is.
async fn answer<A: Admission>(
    shared: Arc<Shared<A>>,
    busy: Busy,
    request: http::Request<Incoming>,
) -> http::Response<Body> {
    let grpc = |value: &header::HeaderValue| value.as_bytes().starts_with(GRPC);
    if request.method() != Method::POST || !request.headers().get(header::CONTENT_TYPE).is_some_and(grpc) {
        let mut response = http::Response::new(Body::empty());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    if request.uri().path() != FOLLOW {
        return Status::unimplemented(format!("the one call here is {FOLLOW}")).into_http();
    }
    let limits = shared.limits;
    let mut server = tonic::server::Grpc::new(Raw).max_decoding_message_size(limits.request);
    // Both for the request to come and for the admission: what has begun by then has no limit.
    let within = limits.request_within + limits.admit_within;
    match timeout(within, server.server_streaming(Call { shared, busy: Some(busy) }, request)).await {
        Ok(response) => response,
        Err(_) => Status::deadline_exceeded("the request did not come in time").into_http(),
    }
}

/// The call, in the form in which tonic takes it.
struct Call<A> {
    shared: Arc<Shared<A>>,
    busy: Option<Busy>,
}

type Records = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;

impl<A: Admission> tower_service::Service<Request<Bytes>> for Call<A> {
    type Response = Response<Records>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Records>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (shared, busy) = (Arc::clone(&self.shared), self.busy.take());
        Box::pin(async move {
            let busy = busy.ok_or_else(|| Status::internal("one call is one request"))?;
            let token = Token::of(request.metadata());
            let message = FollowRequest::decode(request.into_inner())
                .map_err(|error| Status::invalid_argument(format!("the request can't be read: {error}")))?;
            let follow = Follow::read(message).map_err(Status::invalid_argument)?;
            let records: Records = Box::pin(stream::open(shared, follow, token, busy).await?);
            Ok(Response::new(records))
        })
    }
}

/// Whether a connection has calls, and since when it has none.
#[derive(Debug)]
struct Activity(Mutex<(usize, Instant)>);

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new((0, Instant::now())))
    }
}

impl Activity {
    fn change(&self, by: impl FnOnce(usize) -> usize) {
        // Nobody panics in between.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (by(state.0), Instant::now());
    }

    /// When the connection will have been idle for so long, if nothing happens until then.
    fn idle_until(&self, idle: std::time::Duration) -> Instant {
        let (calls, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls == 0 { since + idle } else { Instant::now() + idle }
    }
}

/// A call on a connection, for as long as this lives.
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.change(|calls| calls + 1);
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|calls| calls.saturating_sub(1));
    }
}
