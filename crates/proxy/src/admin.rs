//! The admin address: what the proxy tells of itself to whoever may connect there. No secret is among it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::phase::Phase;
use crate::side::{Answer, NoAnswer};

/// What the text of the metrics is (OpenMetrics 1.0).
const METRICS_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// The pages.
pub struct Admin {
    /// What is counted.
    pub metrics: Metrics,
    /// Whether the proxy serves.
    pub phase: watch::Receiver<Phase>,
}

impl Answer for Admin {
    async fn answer(&self, request: Request<Incoming>, _local: SocketAddr) -> Result<Response<Full<Bytes>>, NoAnswer> {
        Ok(self.page(request.method(), request.uri().path()))
    }
}

impl Admin {
    fn page(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
            return text(StatusCode::NOT_FOUND, "not found\n".to_owned());
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are answered\n".to_owned());
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/metrics" => {
                let mut response = text(StatusCode::OK, self.metrics.text());
                response.headers_mut().insert(header::CONTENT_TYPE, METRICS_TYPE);
                response
            }
            // The listeners are open before anything is asked here, and the configuration is read before them.
            "/readyz" if *self.phase.borrow() != Phase::Serving => {
                text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned())
            }
            _ => text(StatusCode::OK, "ok\n".to_owned()),
        }
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
