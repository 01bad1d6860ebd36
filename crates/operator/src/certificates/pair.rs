//! A certificate and its key.

use super::{AUTHORITY, CertificateError, SERVING, SKEW};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

/// What every authority of ours is called.
const AUTHORITY_NAME: &str = "Sidewall webhook authority";

/// A certificate that was read, as far as it is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    pem: String,
    der: Vec<u8>,
    from: SystemTime,
    until: SystemTime,
    names: Vec<String>,
}

/// A certificate and its key, which is never printed and is wiped from memory.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) certificate: Certificate,
    key: Arc<Zeroizing<String>>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).field("key", &"redacted").finish()
    }
}

impl Pair {
    /// An authority that may sign certificates of servers and nothing else.
    pub(super) fn authority(now: SystemTime) -> Result<Self, CertificateError> {
        let mut wanted = valid(now, AUTHORITY);
        wanted.distinguished_name = called(AUTHORITY_NAME);
        wanted.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let made = wanted.self_signed(&key)?;
        Self::made(&made.pem(), &key)
    }

    /// Signs a certificate for a server of these names.
    pub(super) fn sign(&self, names: &[String], now: SystemTime) -> Result<Self, CertificateError> {
        let mut wanted = CertificateParams::new(names)?;
        let CertificateParams { not_before, not_after, .. } = valid(now, SERVING);
        (wanted.not_before, wanted.not_after) = (not_before, not_after);
        // A common name has 64 characters at most, and nobody reads it: names are in the extension.
        wanted.distinguished_name = called("Sidewall webhook");
        wanted.use_authority_key_identifier_extension = true;
        wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issuer = Issuer::from_ca_cert_pem(&self.certificate.pem, KeyPair::from_pem(&self.key)?)?;
        let key = KeyPair::generate()?;
        let made = wanted.signed_by(&key, &issuer)?;
        Self::made(&made.pem(), &key)
    }

    fn made(certificate: &str, key: &KeyPair) -> Result<Self, CertificateError> {
        let certificate = Certificate::read(("a certificate", certificate))?;
        Ok(Self { certificate, key: Arc::new(Zeroizing::new(key.serialize_pem())) })
    }

    /// A pair from a Secret's entries, each with its name.
    pub(super) fn read(
        certificate: (&'static str, &str),
        (entry, key): (&'static str, &str),
    ) -> Result<Self, CertificateError> {
        let certificate = Certificate::read(certificate)?;
        let unreadable = |reason: &str| CertificateError::Unreadable { entry, reason: reason.to_owned() };
        let pair = KeyPair::from_pem(key).map_err(|_| unreadable("no private key in PEM"))?;
        let its = certificate.parsed(|parsed| *parsed.public_key().subject_public_key.data == *pair.public_key_raw());
        if its != Some(true) {
            return Err(unreadable("the key is not that of its certificate"));
        }
        Ok(Self { certificate, key: Arc::new(Zeroizing::new(key.to_owned())) })
    }

    pub(super) fn key_pem(&self) -> &str {
        &self.key
    }
}

impl Certificate {
    /// The certificate of a Secret's entry, with the entry's name.
    pub(super) fn read((entry, pem): (&'static str, &str)) -> Result<Self, CertificateError> {
        let unreadable = |reason: &str| CertificateError::Unreadable { entry, reason: reason.to_owned() };
        let (rest, block) =
            x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| unreadable("no certificate in PEM"))?;
        if block.label != "CERTIFICATE" || !rest.iter().all(u8::is_ascii_whitespace) {
            return Err(unreadable("not one certificate in PEM"));
        }
        let (_, parsed) = X509Certificate::from_der(&block.contents).map_err(|_| unreadable("no X.509 certificate"))?;
        let time = |seconds: i64| u64::try_from(seconds).ok().map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        let validity = parsed.validity();
        let times = time(validity.not_before.timestamp()).zip(time(validity.not_after.timestamp()));
        let (from, until) = times.ok_or_else(|| unreadable("it was good before 1970 only"))?;
        let alternative = parsed.subject_alternative_name().map_err(|_| unreadable("its names can't be read"))?;
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        };
        let names = alternative.into_iter().flat_map(|names| &names.value.general_names).filter_map(name).collect();
        Ok(Self { pem: pem.to_owned(), from, until, names, der: block.contents.clone() })
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) const fn good_until(&self) -> SystemTime {
        self.until
    }

    /// Whether it is not good any more.
    pub(super) fn is_over(&self, now: SystemTime) -> bool {
        now >= self.until
    }

    /// Whether two thirds of its time are over.
    pub(super) fn is_old(&self, now: SystemTime) -> bool {
        let whole = self.until.duration_since(self.from).unwrap_or_default();
        now >= self.from + whole * 2 / 3
    }

    /// How long ago it was made, which is so much later than when it began to be good.
    pub(super) fn age(&self, now: SystemTime, skew: Duration) -> Duration {
        now.duration_since(self.from + skew).unwrap_or_default()
    }

    pub(super) fn is_signed_by(&self, authority: &Self) -> bool {
        let verified = self.parsed(|own| {
            authority.parsed(|by| own.issuer() == by.subject() && own.verify_signature(Some(by.public_key())).is_ok())
        });
        verified.flatten() == Some(true)
    }

    fn parsed<T>(&self, ask: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
        X509Certificate::from_der(&self.der).ok().map(|(_, parsed)| ask(&parsed))
    }
}

/// What is good for so long from now on, and a little before, by whoever's clock is behind.
fn valid(now: SystemTime, life: Duration) -> CertificateParams {
    let mut wanted = CertificateParams::default();
    (wanted.not_before, wanted.not_after) = ((now - SKEW).into(), (now + life).into());
    wanted
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}
