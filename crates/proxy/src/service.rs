//! A request's way through the proxy: check the head, authenticate, clean the headers, forward, answer.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};

use crate::access_log::LogBuffer;
use crate::auth::{BasicAuth, CredentialCache, CredentialKey, Denied, Verifier};
use crate::body::{BodyFault, RequestBody, RequestProgress, ResponseBody};
use crate::connection::HeadLimits;
use crate::exchange::{Exchange, Origins};
use crate::headers::{self, HeadFault, Origin};
use crate::metrics::Counters;
use crate::slot::Slot;
use crate::stream::StreamState;
use crate::upstream::Pool;

/// Who may pass.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everybody, because the configuration says so.
    Anonymous,
    /// Whoever knows a user's password.
    Basic(Arc<BasicAuth>),
}

/// What the requests of one listener share within one worker, under one version of the configuration.
pub struct Front {
    /// The listener's port.
    pub port: u16,
    /// Who may pass.
    pub access: Access,
    /// The application.
    pub pool: Rc<Pool>,
    /// The worker's log.
    pub log: Rc<LogBuffer>,
    /// The worker's verified credentials.
    pub cache: Rc<RefCell<CredentialCache>>,
    /// The process's key for naming credentials.
    pub key: Arc<CredentialKey>,
    /// The process's password threads.
    pub verifier: Arc<Verifier>,
    /// What the worker counts of this listener.
    pub counters: Arc<Counters>,
    /// Whether every answer is its connection's last, because the proxy is about to stop.
    pub leaving: Rc<Cell<bool>>,
    /// The longest pause within a request's body.
    pub request_pause: Duration,
    /// The longest pause within a response's body.
    pub response_pause: Duration,
}

/// What the requests of one connection share.
pub struct Client {
    /// Where it connected to. What is in force there is asked with every request.
    pub slot: Rc<Slot>,
    /// How large its requests' heads may be.
    pub heads: HeadLimits,
    /// Its address.
    pub peer: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// What its connection tells.
    pub stream: Rc<StreamState>,
}

impl Client {
    /// Answers one request.
    ///
    /// # Errors
    ///
    /// None: every failure is an answer.
    pub async fn answer(self: Rc<Self>, request: Request<Incoming>) -> Result<Response<ResponseBody>, Infallible> {
        let entrance = self.slot.entrance();
        let mut response = Rc::clone(&self).respond(request, &entrance.front).await;
        // The next one needs a connection with the limits of now.
        if entrance.front.leaving.get() || self.slot.heads() != self.heads {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    async fn respond(self: Rc<Self>, request: Request<Incoming>, front: &Rc<Front>) -> Response<ResponseBody> {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let mut exchange = Exchange::new(
            Rc::clone(front),
            Rc::clone(&self.stream),
            Origins { peer: self.peer, captured: self.slot.captured },
            started,
            (parts.method.clone(), parts.uri.clone()),
        );

        if let Err(fault) = headers::check_request(&parts.method, &parts.uri, parts.version, &parts.headers) {
            return refuse_head(fault, exchange);
        }
        let user = match &front.access {
            Access::Anonymous => None,
            Access::Basic(basic) => {
                let authorization = parts.headers.get(header::AUTHORIZATION);
                let outcome =
                    basic.authenticate(authorization, &front.key, &front.cache, &front.verifier, started).await;
                front.counters.authenticated(outcome.as_ref().err().copied());
                match outcome {
                    Ok(user) => Some(user),
                    Err(denied) => return deny(denied, basic, exchange),
                }
            }
        };
        if let Some(user) = &user {
            exchange.authenticated(user.clone());
        }

        let mut upstream_headers = parts.headers;
        let origin = Origin { peer: self.peer.ip(), tls: self.tls, user: user.as_ref() };
        if let Err(fault) = headers::to_upstream(&mut upstream_headers, origin) {
            return refuse_head(fault, exchange);
        }
        if !upstream_headers.contains_key(header::HOST) {
            // Only HTTP/1.0 may leave it out; the application is asked in HTTP/1.1.
            if let Ok(host) = HeaderValue::from_str(&front.pool.address().to_string()) {
                upstream_headers.insert(header::HOST, host);
            }
        }
        let progress = RequestProgress::new();
        let body = RequestBody::new(body, front.request_pause, &progress);
        if !body.is_empty() && body.size_hint().exact().is_none() {
            // Said outright: the HTTP library takes a GET without a length for one without a body.
            upstream_headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        exchange.counts(Rc::clone(&progress));

        let mut upstream_request = Request::new(body);
        *upstream_request.method_mut() = parts.method;
        *upstream_request.uri_mut() = origin_form(parts.uri);
        *upstream_request.version_mut() = Version::HTTP_11;
        *upstream_request.headers_mut() = upstream_headers;

        let (response, lease) = match front.pool.send(upstream_request, &progress).await {
            Ok(answer) => answer,
            Err(error) => {
                if progress.fault.get().is_none() {
                    front.counters.upstream_failed(&error);
                }
                let status = match progress.fault.get() {
                    Some(fault) => {
                        exchange.failed(fault.to_string());
                        match fault {
                            BodyFault::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
                            _ => StatusCode::BAD_REQUEST,
                        }
                    }
                    None if error.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
                    None => StatusCode::BAD_GATEWAY,
                };
                exchange.failed(error.to_string());
                return own(status, exchange);
            }
        };
        let (mut parts, body) = response.into_parts();
        exchange.upstream_answered(parts.status.as_u16());
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            exchange.failed("the application changed the protocol, which nobody asked for");
            return own(StatusCode::BAD_GATEWAY, exchange);
        }
        exchange.answered(parts.status.as_u16());
        headers::to_client(&mut parts.headers);
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        let body = ResponseBody::upstream(body, lease, front.response_pause, exchange);
        Response::from_parts(parts, body)
    }
}

/// The target as an application expects it: without scheme and host.
fn origin_form(uri: Uri) -> Uri {
    if uri.authority().is_none() {
        return uri;
    }
    let mut parts = uri.into_parts();
    parts.scheme = None;
    parts.authority = None;
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    // A path alone is a target.
    Uri::from_parts(parts).unwrap_or_default()
}

fn refuse_head(fault: HeadFault, mut exchange: Exchange) -> Response<ResponseBody> {
    exchange.failed(fault.to_string());
    own(
        match fault {
            HeadFault::Expectation => StatusCode::EXPECTATION_FAILED,
            HeadFault::Unsupported => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        },
        exchange,
    )
}

fn deny(denied: Denied, basic: &BasicAuth, mut exchange: Exchange) -> Response<ResponseBody> {
    exchange.failed(denied.to_string());
    if denied == Denied::Busy {
        let mut response = own(StatusCode::SERVICE_UNAVAILABLE, exchange);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    }
    let mut response = own(StatusCode::UNAUTHORIZED, exchange);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, basic.challenge.value());
    response
}

/// An answer of our own: its status in words, and no more, since the cause is the operator's business.
fn own(status: StatusCode, mut exchange: Exchange) -> Response<ResponseBody> {
    exchange.answered(status.as_u16());
    let text = format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or("Error"));
    let date = httpdate::fmt_http_date(SystemTime::now());
    let mut response = Response::new(ResponseBody::own(Bytes::from(text), exchange));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(date) = HeaderValue::from_str(&date) {
        headers.insert(header::DATE, date);
    }
    response
}
