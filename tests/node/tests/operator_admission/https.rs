//! A client for one HTTPS server, whatever network namespace its connections are made in.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sidewall_node_tests::certificates::Pair;
use tokio::time::timeout;

/// How long an answer may take: the API server gives up on a request before.
const LIMIT: Duration = Duration::from_secs(60);

/// An answer's status and body, or what became of the connection.
pub type Answer = Result<(u16, Vec<u8>), String>;

/// One server, which may be asked again and again over one connection.
pub struct Https<'a> {
    connect: Box<dyn Fn() -> std::io::Result<TcpStream> + 'a>,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl<'a> Https<'a> {
    /// Believes whom these authorities have signed, if it is called this.
    pub fn new(
        connect: impl Fn() -> std::io::Result<TcpStream> + 'a,
        name: &str,
        authorities: &str,
        own: Option<&Pair>,
    ) -> Https<'a> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(roots);
        let tls = match own {
            Some(pair) => {
                let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                tls.with_client_auth_cert(chain, key).unwrap()
            }
            None => tls.with_no_client_auth(),
        };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        Https { connect: Box::new(connect), tls: Arc::new(tls), name, open: None }
    }

    /// Sends a request and waits for its answer; over a new connection where the old one has been closed.
    pub async fn send(&mut self, method: &str, path: &str, kind: &str, body: Vec<u8>) -> Answer {
        match timeout(LIMIT, self.try_send(method, path, kind, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.open = None;
                Err(error)
            }
            Err(_) => {
                self.open = None;
                Err(format!("no answer within {LIMIT:?}"))
            }
        }
    }

    async fn try_send(&mut self, method: &str, path: &str, kind: &str, body: Vec<u8>) -> Answer {
        if self.open.as_ref().is_none_or(SendRequest::is_closed) {
            self.open = Some(self.connect().await.map_err(|error| error.to_string())?);
        }
        // The webhooks end a connection that has lasted long enough.
        if self.open.as_mut().ok_or("no connection")?.ready().await.is_err() {
            self.open = Some(self.connect().await.map_err(|error| error.to_string())?);
        }
        let sender = self.open.as_mut().ok_or("no connection")?;
        let request =
            http::Request::builder().method(method).uri(path).header("host", "bed").header("content-type", kind);
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
        sender.ready().await.map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
        Ok((status, body.to_bytes().to_vec()))
    }

    async fn connect(&self) -> std::io::Result<SendRequest<Full<Bytes>>> {
        let stream = (self.connect)()?;
        stream.set_nonblocking(true)?;
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let stream = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls)).connect(self.name.clone(), stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}
