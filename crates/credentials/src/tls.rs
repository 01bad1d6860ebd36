//! TLS towards the client: rustls with aws-lc-rs, from two PEM files.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use sidewall_proxy_config::TlsVersion;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a certificate and its key cannot be used. Never quotes them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The certificate file holds no certificate.
    #[error("the certificate file holds no PEM certificate (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// The certificate file is broken.
    #[error("the certificate file is not well-formed PEM")]
    Certificate,
    /// The key file holds no key.
    #[error("the key file holds no unencrypted PEM private key (-----BEGIN PRIVATE KEY-----)")]
    Key,
    /// Key and certificate do not fit.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// The TLS library does not take them.
    #[error("the TLS library refuses certificate or key: {reason}")]
    Refused {
        /// The library's own words, which hold no key.
        reason: String,
    },
}

/// Makes the server side of TLS from the PEM text of a certificate chain and its key.
///
/// # Errors
///
/// Says what is wrong with which of the two.
pub fn server_config(cert: &[u8], key: &[u8], min_version: TlsVersion) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(cert).collect::<Result<_, _>>().map_err(|_| TlsError::Certificate)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
    let versions: &[&rustls::SupportedProtocolVersion] = match min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(refused)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// When the first certificate of a chain ends, in seconds since 1970: from then on clients refuse the chain.
///
/// # Errors
///
/// When one of them is not understood.
pub fn ends(cert: &[u8]) -> Result<i64, TlsError> {
    let mut first = None;
    for certificate in CertificateDer::pem_slice_iter(cert) {
        let certificate = certificate.map_err(|_| TlsError::Certificate)?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| TlsError::Certificate)?;
        let ends = parsed.validity().not_after.timestamp();
        first = Some(first.map_or(ends, |first: i64| first.min(ends)));
    }
    first.ok_or(TlsError::NoCertificate)
}

fn refused(error: rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
        other => TlsError::Refused { reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_is_taken_and_speaks_http_1_1_alone() {
        let (cert, key) = pair();
        let config = server_config(cert.as_bytes(), key.as_bytes(), TlsVersion::V1_3).expect("a fitting pair");
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
    }

    #[test]
    fn the_first_end_of_a_chain_counts() {
        let until = |year: i32| {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let key = rcgen::KeyPair::generate().expect("a key");
            params.self_signed(&key).expect("a certificate").pem()
        };
        assert_eq!(ends(until(2030).as_bytes()), Ok(1_893_456_000));
        assert_eq!(ends(format!("{}{}", until(2040), until(2030)).as_bytes()), Ok(1_893_456_000));
        // Beyond 2049 the form of the date is another.
        assert_eq!(ends(until(2051).as_bytes()), Ok(2_556_144_000));
        assert_eq!(ends(b""), Err(TlsError::NoCertificate));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(ends(broken), Err(TlsError::Certificate));
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words_without_the_key() {
        let (cert, key) = pair();
        let (_, other) = pair();
        let make = |cert: &str, key: &str| {
            server_config(cert.as_bytes(), key.as_bytes(), TlsVersion::V1_2).map(|_| ()).expect_err("refused")
        };
        assert_eq!(make(&cert, &other), TlsError::Mismatch);
        assert_eq!(make("", &key), TlsError::NoCertificate);
        assert_eq!(make(&key, &key), TlsError::NoCertificate);
        assert_eq!(make(&cert, ""), TlsError::Key);
        assert_eq!(make(&cert, &cert), TlsError::Key);
        assert_eq!(make("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", &key), TlsError::Certificate);
        let body = key.lines().nth(1).expect("a key has lines");
        let cut = key.replace(body, &body[..8]);
        let message = make(&cert, &cut).to_string();
        assert!(!message.contains(&body[..8]), "{message}");
    }
}
