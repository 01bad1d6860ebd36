//! The authority that signs for proxies.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::certificates::CertificateError;
use crate::certificates::authority::{Authority, Purpose, Texts};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What it is for. Clients are told by the `ca.crt` of a Secret, and may copy it: they have a week to hear of the next one.
const PURPOSE: Purpose = Purpose {
    name: "Sidewall proxy authority",
    within: &["svc", "svc.cluster.local", "localhost"],
    life: Duration::from_secs(365 * 24 * 3600),
    notice: Duration::from_secs(7 * 24 * 3600),
};

/// The authority that signs for proxies, with the one to come and the one before. It is kept in one Secret of the operator's
/// namespace and changes by [`ProxyAuthority::next`], step by step.
///
/// Whoever believes it, believes it of names below `svc`, `svc.cluster.local` and `localhost` only.
pub struct ProxyAuthority(pub(super) Authority);

impl ProxyAuthority {
    /// A new one. What another has signed must then be signed anew, and whoever believed that one be told.
    ///
    /// # Errors
    /// [`CertificateError::Make`].
    pub fn new(now: SystemTime) -> Result<Self, CertificateError> {
        Authority::new(&PURPOSE, now).map(Self)
    }

    /// The one that a Secret holds.
    ///
    /// # Errors
    /// [`CertificateError`] where anything of it can't be used: then a new one is to be made.
    pub fn read(secret: &BTreeMap<String, Vec<u8>>) -> Result<Self, CertificateError> {
        Authority::read(Texts(secret)).map(Self)
    }

    /// What a Secret holds of it.
    pub fn written(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.written().into_iter().map(|(entry, text)| (entry.to_owned(), text.as_bytes().to_vec())).collect()
    }

    /// What is to become of it at a moment; none where it stays as it is. It takes one step at a time, and is to be asked
    /// again, once a day or more often. After a step, every [`WantedCertificate`](super::WantedCertificate) is to be looked at.
    ///
    /// # Errors
    /// [`CertificateError::Make`].
    pub fn next(&self, now: SystemTime) -> Result<Option<Self>, CertificateError> {
        let authority = &self.0;
        if authority.current.certificate.is_over(now) {
            return Self::new(now).map(Some);
        }
        if let Some(announced) = authority.announced(&PURPOSE, now)? {
            return Ok(Some(Self(announced)));
        }
        if let Some(succeeded) = authority.succeeded(&PURPOSE, now) {
            return Ok(Some(Self(succeeded)));
        }
        // Nothing that it has signed is good any longer than itself. Its key went when it was succeeded.
        if authority.former.as_ref().is_some_and(|former| former.is_over(now)) {
            return Ok(Some(Self(authority.without_former())));
        }
        Ok(None)
    }

    /// Whom clients of proxies are to believe: certificates in PEM.
    pub fn bundle(&self) -> String {
        self.0.bundle()
    }
}

/// How long it takes until all Secrets have heard of a change: not all of them are written at once.
pub(super) const HEARD_WITHIN: Duration = DAY;
