//! A certificate and its key.

use super::authority::Purpose;
use super::{CertificateError, SKEW};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

/// A certificate that is to be signed.
pub(crate) struct Wanted<'a> {
    /// Its common name.
    pub called: &'static str,
    /// The server's names.
    pub names: &'a [String],
    /// How long it is to be good for.
    pub life: Duration,
}

/// A certificate that was read, as far as it is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    pem: String,
    der: Vec<u8>,
    from: SystemTime,
    until: SystemTime,
    names: Vec<String>,
}

/// A certificate and its key, which is never printed and is wiped from memory.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: Certificate,
    key: Arc<Zeroizing<String>>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).field("key", &"redacted").finish()
    }
}

impl Pair {
    /// An authority that may sign certificates of servers and nothing else.
    pub(super) fn authority(purpose: &Purpose, now: SystemTime) -> Result<Self, CertificateError> {
        let mut wanted = CertificateParams::default();
        (wanted.not_before, wanted.not_after) = ((now - SKEW).into(), (now + purpose.life).into());
        wanted.distinguished_name = called(purpose.name);
        wanted.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        if !purpose.within.is_empty() {
            // Whoever believes it, believes it of nothing else (RFC 5280, 4.2.1.10), even were its key lost.
            let within = purpose.within.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned())).collect();
            wanted.name_constraints =
                Some(NameConstraints { permitted_subtrees: within, excluded_subtrees: Vec::new() });
        }
        let key = KeyPair::generate()?;
        let made = wanted.self_signed(&key)?;
        Self::made(&made.pem(), &key)
    }

    /// Signs a certificate for a server, which is good no longer than this authority.
    pub(super) fn sign(&self, of: &Wanted<'_>, now: SystemTime) -> Result<Self, CertificateError> {
        let mut wanted = CertificateParams::new(of.names)?;
        let until = (now + of.life).min(self.certificate.until);
        // What is good from now on is good a little before, too, by whoever's clock is behind.
        (wanted.not_before, wanted.not_after) = ((now - SKEW).into(), until.into());
        wanted.distinguished_name = called(of.called);
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
    pub(crate) fn read(
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

    pub(crate) fn key_pem(&self) -> &str {
        &self.key
    }
}

impl Certificate {
    /// The certificate of a Secret's entry, with the entry's name.
    pub(crate) fn read((entry, pem): (&'static str, &str)) -> Result<Self, CertificateError> {
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

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) const fn good_from(&self) -> SystemTime {
        self.from
    }

    pub(crate) const fn good_until(&self) -> SystemTime {
        self.until
    }

    /// Whether it is not good any more.
    pub(crate) fn is_over(&self, now: SystemTime) -> bool {
        now >= self.until
    }

    /// Whether two thirds of its time are over.
    pub(crate) fn is_old(&self, now: SystemTime) -> bool {
        now >= self.from + self.whole() * 2 / 3
    }

    /// How long it is good for, all in all.
    pub(crate) fn whole(&self) -> Duration {
        self.until.duration_since(self.from).unwrap_or_default()
    }

    /// How long ago it was made, which is so much later than when it began to be good.
    pub(crate) fn age(&self, now: SystemTime, skew: Duration) -> Duration {
        now.duration_since(self.from + skew).unwrap_or_default()
    }

    pub(crate) fn is_signed_by(&self, authority: &Self) -> bool {
        let verified = self.parsed(|own| {
            authority.parsed(|by| own.issuer() == by.subject() && own.verify_signature(Some(by.public_key())).is_ok())
        });
        verified.flatten() == Some(true)
    }

    fn parsed<T>(&self, ask: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
        X509Certificate::from_der(&self.der).ok().map(|(_, parsed)| ask(&parsed))
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}
