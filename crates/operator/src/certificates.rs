//! The certificates that the webhooks serve with where nobody else gives them any: an authority of our own, which the API
//! server is told of, and what it has signed.
//!
//! All of it is kept in one Secret and changes by [`Store::next`], step by step. Whoever serves and whoever is told never have
//! to change at the same moment: a new authority is made known before anything is signed by it, and an old one is believed until
//! nobody serves with what it has signed.

pub(crate) mod authority;
pub(crate) mod pair;

use authority::{Authority, Purpose, Texts};
use pair::{Pair, Wanted};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use thiserror::Error;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long an authority is good for. The next one is made when two thirds of it are over.
pub const AUTHORITY: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long what is served with is good for. It is replaced when two thirds of it are over.
pub const SERVING: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a change takes at most to be known to every API server and every webhook.
pub const KNOWN_WITHIN: Duration = HOUR;
/// How much clocks may differ: what is made now is good since then.
pub(crate) const SKEW: Duration = DAY;

/// The Secret's entries, beside those of the authority.
const SERVING_CERTIFICATE: &str = "tls.crt";
const SERVING_KEY: &str = "tls.key";

/// The authority of the webhooks.
const PURPOSE: Purpose =
    Purpose { name: "Sidewall webhook authority", within: &[], life: AUTHORITY, notice: KNOWN_WITHIN };

/// Why certificates can't be used or made. Keys are never told.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// The Secret lacks an entry.
    #[error("the Secret has no {entry:?}")]
    Missing {
        /// Which.
        entry: &'static str,
    },
    /// An entry is none.
    #[error("{entry:?} of the Secret is not what it should be: {reason}")]
    Unreadable {
        /// Which.
        entry: &'static str,
        /// Why, without its content.
        reason: String,
    },
    /// What is served with is not signed by an authority that is told of.
    #[error("{SERVING_CERTIFICATE:?} of the Secret is signed by none of its authorities")]
    Stranger,
    /// A certificate can't be made.
    #[error("a certificate can't be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// The authority, and what the webhooks serve with.
#[derive(Debug)]
pub struct Store {
    authority: Authority,
    serving: Pair,
}

impl Store {
    /// An authority, and what is served with under these names, first the most usual one.
    ///
    /// # Errors
    /// [`CertificateError::Make`].
    pub fn new(names: &[String], now: SystemTime) -> Result<Self, CertificateError> {
        let authority = Authority::new(&PURPOSE, now)?;
        let serving = authority.sign(&wanted(names), now)?;
        Ok(Self { authority, serving })
    }

    /// The store that a Secret holds.
    ///
    /// # Errors
    /// [`CertificateError`] where anything of it can't be used: then a new store is to be made.
    pub fn read(secret: &BTreeMap<String, Vec<u8>>) -> Result<Self, CertificateError> {
        let texts = Texts(secret);
        let authority = Authority::read(texts)?;
        let serving = Pair::read(texts.needed(SERVING_CERTIFICATE)?, texts.needed(SERVING_KEY)?)?;
        let signed = authority.has_signed(&serving.certificate);
        if signed { Ok(Self { authority, serving }) } else { Err(CertificateError::Stranger) }
    }

    /// What a Secret holds of it.
    pub fn written(&self) -> BTreeMap<String, Vec<u8>> {
        let serving = [(SERVING_CERTIFICATE, self.serving.certificate.pem()), (SERVING_KEY, self.serving.key_pem())];
        let entries = self.authority.written().into_iter().chain(serving);
        entries.map(|(entry, text)| (entry.to_owned(), text.as_bytes().to_vec())).collect()
    }

    /// What is to become of it at a moment; none where it stays as it is. It takes one step at a time, and is to be asked
    /// again, at least once in [`KNOWN_WITHIN`].
    ///
    /// # Errors
    /// [`CertificateError::Make`].
    pub fn next(&self, names: &[String], now: SystemTime) -> Result<Option<Self>, CertificateError> {
        let (authority, serving) = (&self.authority, &self.serving.certificate);
        if authority.current.certificate.is_over(now) || serving.is_over(now) {
            // Nobody has looked after it for long: whoever is told of nothing new believes nothing that is served.
            return Self::new(names, now).map(Some);
        }
        if let Some(authority) = authority.announced(&PURPOSE, now)? {
            return Ok(Some(Self { authority, serving: self.serving.clone() }));
        }
        if let Some(authority) = authority.succeeded(&PURPOSE, now) {
            let serving = authority.sign(&wanted(names), now)?;
            return Ok(Some(Self { authority, serving }));
        }
        if authority.former.is_some()
            && serving.is_signed_by(&authority.current.certificate)
            && serving.age(now, SKEW) >= KNOWN_WITHIN
        {
            return Ok(Some(Self { authority: authority.without_former(), serving: self.serving.clone() }));
        }
        if serving.is_old(now) || serving.names() != names {
            let serving = authority.sign(&wanted(names), now)?;
            return Ok(Some(Self { authority: authority.clone(), serving }));
        }
        Ok(None)
    }

    /// Whom the API server is to believe (`caBundle`): certificates in PEM.
    pub fn authorities(&self) -> String {
        self.authority.bundle()
    }

    /// What is served with: a certificate and its key in PEM.
    pub fn serving(&self) -> (&str, &str) {
        (self.serving.certificate.pem(), self.serving.key_pem())
    }

    /// Until when what is served with is good.
    pub fn good_until(&self) -> SystemTime {
        self.serving.certificate.good_until()
    }
}

/// What is served with. Names are in their extension: a common name has 64 characters at most, and nobody reads it.
const fn wanted(names: &[String]) -> Wanted<'_> {
    Wanted { called: "Sidewall webhook", names, life: SERVING }
}

#[cfg(test)]
pub(crate) mod tests;
