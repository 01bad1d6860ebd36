//! An `httpGet` as the kubelet sends it: one request on a connection of its own, redirections within the application
//! followed, ten kibibytes of the answer read.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use sidewall_proxy_config::{HttpGet, HttpHeader, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

use super::ProbeError;
use super::connect::Whereto;
use super::location::{Named, Place, Redirection, rooted};

/// Requests of one probe, the first and those that redirections lead to, as the kubelet does.
const REQUESTS: usize = 10;
/// Octets of the answer's body that are read; the rest is not waited for, as the kubelet does not.
const BODY: usize = 10 * 1024;
/// Octets of the answer's head.
const HEAD: usize = 64 * 1024;
/// What an HTTP library says itself, and no probe instead of it.
const NOT_PASSED: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TRAILER, header::CONNECTION];

/// A request to the application.
pub(super) struct HttpAsk {
    whereto: Whereto,
    scheme: Scheme,
    path: String,
    host: Option<HeaderValue>,
    headers: HeaderMap,
    tls: Arc<ClientConfig>,
}

impl HttpAsk {
    /// From a validated probe.
    pub(super) fn new(probe: &HttpGet, whereto: Whereto, tls: Arc<ClientConfig>) -> Self {
        let mut headers = HeaderMap::new();
        for HttpHeader { name, value } in &probe.http_headers {
            let header = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.trim().as_bytes()));
            if let (Ok(name), Ok(value)) = header {
                headers.append(name, value);
            }
        }
        for name in NOT_PASSED {
            headers.remove(name);
        }
        let host = headers.remove(header::HOST).filter(|host| !host.is_empty());
        Self { whereto, scheme: probe.scheme, path: rooted(&probe.path), host, headers, tls }
    }

    /// Asks, and gives the status of the last answer.
    pub(super) async fn get(&self, local: IpAddr, agent: &HeaderValue) -> Result<StatusCode, ProbeError> {
        let host = self.whereto.host(local);
        let port = self.whereto.port();
        let mut place = Place { scheme: self.scheme, host, port, path: self.path.clone() };
        let mut named = self.host.clone();
        for _ in 0..REQUESTS {
            let response = self.once(&place, named.clone(), local, agent).await?;
            let status = response.status();
            let location = match status.as_u16() {
                301 | 302 | 303 | 307 | 308 => response.headers().get(header::LOCATION).cloned(),
                _ => None,
            };
            let Some(location) = location else {
                read(response.into_body()).await?;
                return Ok(status);
            };
            let location = location.to_str().map_err(|_| ProbeError::Location)?;
            match place.redirected(location) {
                Redirection::Elsewhere => return Ok(status),
                Redirection::Same(next, by) => {
                    place = next;
                    if by == Named::Host {
                        named = None;
                    }
                }
            }
        }
        Err(ProbeError::Redirects)
    }

    async fn once(
        &self,
        place: &Place,
        host: Option<HeaderValue>,
        local: IpAddr,
        agent: &HeaderValue,
    ) -> Result<Response<Incoming>, ProbeError> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = place.path.parse().map_err(|_| ProbeError::Location)?;
        let host = match host {
            Some(host) => host,
            None => HeaderValue::from_str(&place.authority()).map_err(|_| ProbeError::Location)?,
        };
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        headers.insert(header::USER_AGENT, agent.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        for name in self.headers.keys() {
            headers.remove(name);
            for value in self.headers.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        // An empty one means none, to the kubelet.
        for name in [header::USER_AGENT, header::ACCEPT] {
            if headers.get(&name).is_some_and(HeaderValue::is_empty) {
                headers.remove(&name);
            }
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));

        let stream = self.whereto.connect(local).await?;
        match place.scheme {
            Scheme::Http => send(stream, request).await,
            Scheme::Https => {
                let name = ServerName::try_from(place.host.clone()).map_err(|_| ProbeError::Location)?;
                let connector = TlsConnector::from(Arc::clone(&self.tls));
                send(connector.connect(name, stream).await.map_err(ProbeError::Tls)?, request).await
            }
        }
    }
}

async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (mut sender, connection) = Builder::new()
        .max_buf_size(HEAD)
        // As the kubelet's library writes them, for applications that know no better.
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ProbeError::Http)?;
    // It ends when neither sender nor answer is there any more.
    spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a probe's connection to the application ended");
        }
    });
    sender.send_request(request).await.map_err(ProbeError::Http)
}

/// Reads a body, or as much of it as counts.
async fn read(mut body: Incoming) -> Result<(), ProbeError> {
    let mut left = BODY;
    while left > 0 {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(ProbeError::Http)?;
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
    }
    Ok(())
}
