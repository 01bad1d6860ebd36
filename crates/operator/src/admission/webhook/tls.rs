//! What the server's TLS is configured with.

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use thiserror::Error;

/// The most certificates of a chain.
const CHAIN: usize = 16;

/// Why a certificate can't be served with. Keys are never told.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The certificate can't be read.
    #[error("the certificate is not in PEM: {0}")]
    Certificate(pem::Error),
    /// There is none, or there are too many.
    #[error("the certificate's file has {count} certificates, and 1 to {CHAIN} are served")]
    Count {
        /// How many.
        count: usize,
    },
    /// The key can't be read.
    #[error("the key is not a private key in PEM")]
    Key,
    /// They can't be used, or not together.
    #[error("the certificate can't be served with: {0}")]
    Use(rustls::Error),
}

/// TLS 1.2 and 1.3 with a certificate chain and its key in PEM, for HTTP/2 and HTTP/1.1.
///
/// # Errors
/// [`TlsError`]; whoever serves goes on with what he has.
pub fn config(certificates: &str, key: &str) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificates.as_bytes()).take(CHAIN + 1);
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(TlsError::Certificate)?;
    if chain.is_empty() || chain.len() > CHAIN {
        return Err(TlsError::Count { count: chain.len() });
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::Key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Use)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
