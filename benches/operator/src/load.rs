//! Asks at a rate, whether answers come or not, as the API server asks: over one connection of HTTP/2 in TLS.

use crate::Result;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sidewall_netns::NetNs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// A connection to somebody who answers reviews.
#[derive(Clone)]
pub struct Asker {
    send: SendRequest<Full<Bytes>>,
    host: &'static str,
}

/// What came of a load: milliseconds from the moment at which each question was due until its answer was there.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// One for each question, sorted.
    pub took: Vec<f64>,
    /// How much later than they were due questions were sent, sorted: what the load itself was held up.
    pub late: Vec<f64>,
    /// Answers that carried a patch.
    pub patched: usize,
}

impl Asker {
    /// Connects to a port on a namespace's loopback, where whoever answers shows a certificate for that name.
    pub async fn connect(netns: &NetNs, port: u16, host: &'static str, authorities: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = netns.run(|| std::net::TcpStream::connect(address))??;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(ServerName::try_from(host)?, TcpStream::from_std(stream)?).await?;
        let (send, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { send, host })
    }

    /// Asks one question after the other so often a second, for so long.
    pub async fn load(&self, path: &'static str, questions: &[Bytes], rate: u32, time: Duration) -> Result<Outcome> {
        let count = (f64::from(rate) * time.as_secs_f64()) as u32;
        let (tell, mut due) = mpsc::unbounded_channel();
        // A thread of its own: the runtime's timers go by milliseconds.
        let pace = thread::Builder::new().name("pace".into()).spawn(move || {
            let begin = Instant::now() + Duration::from_millis(50);
            for number in 0..count {
                let at = begin + Duration::from_secs(1) * number / rate;
                thread::sleep(at.saturating_duration_since(Instant::now()));
                if tell.send(at).is_err() {
                    return;
                }
            }
        })?;
        let mut asked = JoinSet::new();
        let mut questions = questions.iter().cycle();
        while let Some(at) = due.recv().await {
            let (asker, question) = (self.clone(), questions.next().ok_or("nothing to ask")?.clone());
            asked.spawn(async move { asker.ask(path, question, at).await });
        }
        let mut outcome = Outcome::default();
        while let Some(answered) = asked.join_next().await {
            let (took, late, patched) = answered??;
            outcome.took.push(took);
            outcome.late.push(late);
            outcome.patched += usize::from(patched);
        }
        pace.join().map_err(|_| "the pace was lost")?;
        outcome.took.sort_by(f64::total_cmp);
        outcome.late.sort_by(f64::total_cmp);
        Ok(outcome)
    }

    async fn ask(mut self, path: &str, question: Bytes, due: Instant) -> Result<(f64, f64, bool)> {
        let late = due.elapsed().as_secs_f64() * 1e3;
        let request = Request::post(format!("https://{}{path}?timeout=10s", self.host));
        let request = request.header(header::CONTENT_TYPE, "application/json").body(Full::new(question))?;
        let (head, body) = self.send.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let took = due.elapsed().as_secs_f64() * 1e3;
        let text = String::from_utf8_lossy(&body);
        if head.status != http::StatusCode::OK || !text.contains("\"allowed\":true") {
            return Err(format!("{path} answered {}: {text}", head.status).into());
        }
        Ok((took, late, text.contains("\"patch\":")))
    }
}

/// The value within which a part of sorted ones are.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}
