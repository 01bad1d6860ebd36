//! The certificates that the webhooks serve with where nobody else gives them any: an authority of our own, which the API
//! server is told of, and what it has signed.
//!
//! All of it is kept in one Secret and changes by [`Store::next`], step by step. Whoever serves and whoever is told never have
//! to change at the same moment: a new authority is made known before anything is signed by it, and an old one is believed until
//! nobody serves with what it has signed.

mod pair;

use pair::Pair;
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
const SKEW: Duration = DAY;

/// The Secret's entries.
const AUTHORITY_CERTIFICATE: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const NEXT_CERTIFICATE: &str = "ca-next.crt";
const NEXT_KEY: &str = "ca-next.key";
const FORMER_CERTIFICATE: &str = "ca-former.crt";
const SERVING_CERTIFICATE: &str = "tls.crt";
const SERVING_KEY: &str = "tls.key";

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
    authority: Pair,
    /// The authority to come: it is told of, and has signed nothing.
    next: Option<Pair>,
    /// The authority before, as long as somebody may serve with what it has signed.
    former: Option<pair::Certificate>,
    serving: Pair,
}

impl Store {
    /// An authority, and what is served with under these names, first the most usual one.
    ///
    /// # Errors
    /// [`CertificateError::Make`].
    pub fn new(names: &[String], now: SystemTime) -> Result<Self, CertificateError> {
        let authority = Pair::authority(now)?;
        let serving = authority.sign(names, now)?;
        Ok(Self { authority, next: None, former: None, serving })
    }

    /// The store that a Secret holds.
    ///
    /// # Errors
    /// [`CertificateError`] where anything of it can't be used: then a new store is to be made.
    pub fn read(secret: &BTreeMap<String, Vec<u8>>) -> Result<Self, CertificateError> {
        let text = |entry: &'static str| match secret.get(entry) {
            None => Ok(None),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some((entry, text))),
                Err(_) => Err(CertificateError::Unreadable { entry, reason: "no text".to_owned() }),
            },
        };
        let needed = |entry| text(entry)?.ok_or(CertificateError::Missing { entry });
        let next = match (text(NEXT_CERTIFICATE)?, text(NEXT_KEY)?) {
            (Some(certificate), Some(key)) => Some(Pair::read(certificate, key)?),
            (None, None) => None,
            (Some(_), None) => return Err(CertificateError::Missing { entry: NEXT_KEY }),
            (None, Some(_)) => return Err(CertificateError::Missing { entry: NEXT_CERTIFICATE }),
        };
        let store = Self {
            authority: Pair::read(needed(AUTHORITY_CERTIFICATE)?, needed(AUTHORITY_KEY)?)?,
            next,
            former: text(FORMER_CERTIFICATE)?.map(pair::Certificate::read).transpose()?,
            serving: Pair::read(needed(SERVING_CERTIFICATE)?, needed(SERVING_KEY)?)?,
        };
        let of = |authority: &pair::Certificate| store.serving.certificate.is_signed_by(authority);
        let signed = of(&store.authority.certificate) || store.former.as_ref().is_some_and(of);
        if signed { Ok(store) } else { Err(CertificateError::Stranger) }
    }

    /// What a Secret holds of it.
    pub fn written(&self) -> BTreeMap<String, Vec<u8>> {
        let mut entries = vec![
            (AUTHORITY_CERTIFICATE, self.authority.certificate.pem()),
            (AUTHORITY_KEY, self.authority.key_pem()),
            (SERVING_CERTIFICATE, self.serving.certificate.pem()),
            (SERVING_KEY, self.serving.key_pem()),
        ];
        if let Some(next) = &self.next {
            entries.extend([(NEXT_CERTIFICATE, next.certificate.pem()), (NEXT_KEY, next.key_pem())]);
        }
        if let Some(former) = &self.former {
            entries.push((FORMER_CERTIFICATE, former.pem()));
        }
        entries.into_iter().map(|(entry, text)| (entry.to_owned(), text.as_bytes().to_vec())).collect()
    }

    /// What is to become of it at a moment; none where it stays as it is. It takes one step at a time, and is to be asked
    /// again, at least once in [`KNOWN_WITHIN`].
    ///
    /// # Errors
    /// [`CertificateError::Make`].
    pub fn next(&self, names: &[String], now: SystemTime) -> Result<Option<Self>, CertificateError> {
        if self.authority.certificate.is_over(now) || self.serving.certificate.is_over(now) {
            // Nobody has looked after it for long: whoever is told of nothing new believes nothing that is served.
            return Self::new(names, now).map(Some);
        }
        let stays = || Self {
            authority: self.authority.clone(),
            next: self.next.clone(),
            former: self.former.clone(),
            serving: self.serving.clone(),
        };
        if self.next.is_none() && self.authority.certificate.is_old(now) {
            return Ok(Some(Self { next: Some(Pair::authority(now)?), ..stays() }));
        }
        if let Some(next) = &self.next
            && next.certificate.age(now, SKEW) >= KNOWN_WITHIN
        {
            let serving = next.sign(names, now)?;
            let former = Some(self.authority.certificate.clone());
            return Ok(Some(Self { authority: next.clone(), next: None, former, serving }));
        }
        let serving = &self.serving.certificate;
        if self.former.is_some()
            && serving.is_signed_by(&self.authority.certificate)
            && serving.age(now, SKEW) >= KNOWN_WITHIN
        {
            return Ok(Some(Self { former: None, ..stays() }));
        }
        if serving.is_old(now) || serving.names() != names {
            return Ok(Some(Self { serving: self.authority.sign(names, now)?, ..stays() }));
        }
        Ok(None)
    }

    /// Whom the API server is to believe (`caBundle`): certificates in PEM.
    pub fn authorities(&self) -> String {
        let next = self.next.as_ref().map(|next| &next.certificate);
        [Some(&self.authority.certificate), next, self.former.as_ref()]
            .into_iter()
            .flatten()
            .map(|one| one.pem())
            .collect()
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

#[cfg(test)]
mod tests;
