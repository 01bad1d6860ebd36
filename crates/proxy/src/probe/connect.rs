//! The way to the application: where it may listen, and TLS that asks for no name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;

use super::ProbeError;

/// Where a target listens.
#[derive(Clone, Debug)]
pub(super) struct Whereto {
    host: Option<String>,
    first: IpAddr,
    port: u16,
    /// Whether it is looked for at the pod's own address too.
    also_own: bool,
}

impl Whereto {
    /// At this host of the loopback, or wherever in the pod the application listens.
    pub(super) fn new(host: Option<&str>, port: u16, also_own: bool) -> Self {
        let first = host.and_then(|host| host.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Self { host: host.map(str::to_owned), first, port, also_own: also_own && host.is_none() }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The host as the kubelet would write it: what the probe says, or the pod's own address.
    pub(super) fn host(&self, local: IpAddr) -> String {
        self.host.clone().unwrap_or_else(|| local.to_string())
    }

    /// Connects to 127.0.0.1, where an application behind the proxy listens; if nothing does, to the pod's own address,
    /// where the kubelet would have asked.
    pub(super) async fn connect(&self, local: IpAddr) -> Result<TcpStream, ProbeError> {
        let refused = match TcpStream::connect(SocketAddr::new(self.first, self.port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if !self.also_own || local == self.first {
            return Err(ProbeError::Connect(refused));
        }
        TcpStream::connect(SocketAddr::new(local, self.port)).await.map_err(ProbeError::Connect)
    }
}

/// TLS that takes every certificate, as the kubelet's does: a probe asks whether somebody answers, not who.
pub(super) fn unverified_tls() -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Unverified(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Arc::new(config)
}

#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    // Nobody asked whose key it is, so a signature by it proves nothing; and not to look at it lets certificates be as old
    // as they like.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
