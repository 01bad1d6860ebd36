//! The pages by which a program is watched over: `/healthz`, `/readyz` and `/metrics`, over HTTP/1.1 without TLS. They tell no secret.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The most connections at once. A kubelet and a Prometheus or two have one each.
const CONNECTIONS: usize = 32;
/// How long a client may take for the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may last.
const CONNECTION: Duration = Duration::from_secs(60);
/// The wait before an address is tried again that somebody else has.
const AGAIN: Duration = Duration::from_millis(500);
/// The longest head of a request, in octets.
const HEAD_MAX: usize = 16 << 10;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Whether the program lives.
    Healthz,
    /// Whether it does what it is for.
    Readyz,
    /// What it has counted.
    Metrics,
}

/// What is answered: whether all is well, and a text.
pub type Told = (bool, String);

/// Serves the pages of a program where they are to be found, each address by a task of its own: `/healthz` and `/readyz` at one,
/// `/metrics` at another or the same. None is not at all.
pub fn start<F>(tasks: &mut JoinSet<()>, health: Option<SocketAddr>, metrics: Option<SocketAddr>, tell: F)
where
    F: Fn(Page) -> Told + Send + Sync + Clone + 'static,
{
    const HEALTH: &[Page] = &[Page::Healthz, Page::Readyz];
    const METRICS: &[Page] = &[Page::Metrics];
    const ALL: &[Page] = &[Page::Healthz, Page::Readyz, Page::Metrics];
    let places = match (health, metrics) {
        (Some(health), Some(metrics)) if health == metrics => vec![(health, ALL)],
        _ => health.map(|at| (at, HEALTH)).into_iter().chain(metrics.map(|at| (at, METRICS))).collect(),
    };
    for (address, pages) in places {
        let tell = tell.clone();
        tasks.spawn(async move { serve(listen(address).await, pages, tell).await });
    }
}

/// Listens at an address, as soon as nobody else does: while one program follows another, that may be a moment later.
async fn listen(address: SocketAddr) -> TcpListener {
    until_free(|| TcpListener::bind(address), &address.to_string()).await
}

/// Tries to listen until it can.
pub async fn until_free<T, E, F>(try_it: impl Fn() -> F, at: &str) -> T
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut told = false;
    loop {
        match try_it().await {
            Ok(listener) => return listener,
            Err(error) if std::mem::replace(&mut told, true) => {
                tracing::debug!("still can't listen at {at}: {error}");
            }
            Err(error) => {
                tracing::warn!("can't listen at {at} yet: {error}; end who has it, or choose another in `listen`");
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Serves some pages until it is dropped.
async fn serve<F>(listener: TcpListener, pages: &'static [Page], tell: F)
where
    F: Fn(Page) -> Told + Send + Sync + Clone + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((connection, _)) = listener.accept().await else {
            // Out of descriptors, as a rule: others end meanwhile.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let tell = tell.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, pages, &tell);
                async move { Ok::<_, Infallible>(answer) }
            });
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(HEAD_MAX)
                .serve_connection(TokioIo::new(connection), service);
            // Whoever asks has gone, or takes too long: it is his loss.
            let _ = tokio::time::timeout(CONNECTION, serving).await;
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, pages: &[Page], tell: &impl Fn(Page) -> Told) -> Response<Full<Bytes>> {
    let page = match request.uri().path() {
        "/healthz" => Page::Healthz,
        "/readyz" => Page::Readyz,
        "/metrics" => Page::Metrics,
        _ => return plain(StatusCode::NOT_FOUND, "not found\n".to_owned()),
    };
    if !pages.contains(&page) {
        return plain(StatusCode::NOT_FOUND, "not found here\n".to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are answered\n".to_owned());
    }
    let (well, text) = tell(page);
    let mut response = plain(if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text);
    if page == Page::Metrics {
        let kind = header::HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn get(at: SocketAddr, path: &str) -> String {
        let mut connection = loop {
            match TcpStream::connect(at).await {
                Ok(connection) => break connection,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// An address that nobody has.
    async fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    fn tell(page: Page) -> Told {
        (page != Page::Readyz, format!("{page:?}"))
    }

    #[tokio::test]
    async fn each_page_is_where_it_is_to_be() {
        let (health, metrics, all) = (free().await, free().await, free().await);
        let mut tasks = JoinSet::new();
        start(&mut tasks, Some(health), Some(metrics), tell);
        start(&mut tasks, Some(all), Some(all), tell);
        start(&mut tasks, None, None, tell);
        assert_eq!(tasks.len(), 3);
        for (at, path, status, text) in [
            (health, "/healthz", "200", "Healthz"),
            (health, "/readyz", "503", "Readyz"),
            (health, "/metrics", "404", "not found here"),
            (metrics, "/metrics", "200", "Metrics"),
            (metrics, "/healthz", "404", "not found here"),
            (all, "/healthz", "200", "Healthz"),
            (all, "/metrics", "200", "application/openmetrics-text"),
            (all, "/", "404", "not found"),
        ] {
            let answer = get(at, path).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(text), "{path} {answer}");
        }
    }
}
