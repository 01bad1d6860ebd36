//! An authority, and the one to come, and the one before: as a Secret keeps them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::pair::{Certificate, Pair, Wanted};
use super::{CertificateError, SKEW};

/// The Secret's entries.
const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const NEXT_CERTIFICATE: &str = "ca-next.crt";
const NEXT_KEY: &str = "ca-next.key";
const FORMER_CERTIFICATE: &str = "ca-former.crt";

/// What an authority is for.
#[derive(Debug)]
pub(crate) struct Purpose {
    /// What it is called.
    pub name: &'static str,
    /// The only names that it may sign, and names below them; all where there are none.
    pub within: &'static [&'static str],
    /// How long it is good for. The next one is made when two thirds of it are over.
    pub life: Duration,
    /// How long before the next one signs anything it is made known.
    pub notice: Duration,
}

/// An authority.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    pub current: Pair,
    /// The authority to come: it is told of, and has signed nothing.
    pub next: Option<Pair>,
    /// The authority before, as long as something that it has signed may be good.
    pub former: Option<Certificate>,
}

/// The texts that a Secret holds.
#[derive(Clone, Copy)]
pub(crate) struct Texts<'a>(pub &'a BTreeMap<String, Vec<u8>>);

impl<'a> Texts<'a> {
    pub(super) fn get(self, entry: &'static str) -> Result<Option<(&'static str, &'a str)>, CertificateError> {
        match self.0.get(entry) {
            None => Ok(None),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some((entry, text))),
                Err(_) => Err(CertificateError::Unreadable { entry, reason: "no text".to_owned() }),
            },
        }
    }

    pub(super) fn needed(self, entry: &'static str) -> Result<(&'static str, &'a str), CertificateError> {
        self.get(entry)?.ok_or(CertificateError::Missing { entry })
    }
}

impl Authority {
    pub fn new(purpose: &Purpose, now: SystemTime) -> Result<Self, CertificateError> {
        Ok(Self { current: Pair::authority(purpose, now)?, next: None, former: None })
    }

    pub fn read(texts: Texts<'_>) -> Result<Self, CertificateError> {
        let next = match (texts.get(NEXT_CERTIFICATE)?, texts.get(NEXT_KEY)?) {
            (Some(certificate), Some(key)) => Some(Pair::read(certificate, key)?),
            (None, None) => None,
            (Some(_), None) => return Err(CertificateError::Missing { entry: NEXT_KEY }),
            (None, Some(_)) => return Err(CertificateError::Missing { entry: NEXT_CERTIFICATE }),
        };
        Ok(Self {
            current: Pair::read(texts.needed(CERTIFICATE)?, texts.needed(KEY)?)?,
            next,
            former: texts.get(FORMER_CERTIFICATE)?.map(Certificate::read).transpose()?,
        })
    }

    /// What a Secret holds of it.
    pub fn written(&self) -> Vec<(&'static str, &str)> {
        let mut entries = vec![(CERTIFICATE, self.current.certificate.pem()), (KEY, self.current.key_pem())];
        if let Some(next) = &self.next {
            entries.extend([(NEXT_CERTIFICATE, next.certificate.pem()), (NEXT_KEY, next.key_pem())]);
        }
        if let Some(former) = &self.former {
            entries.push((FORMER_CERTIFICATE, former.pem()));
        }
        entries
    }

    /// With one to come, where it is time for that.
    pub fn announced(&self, purpose: &Purpose, now: SystemTime) -> Result<Option<Self>, CertificateError> {
        if self.next.is_some() || !self.current.certificate.is_old(now) {
            return Ok(None);
        }
        Ok(Some(Self { next: Some(Pair::authority(purpose, now)?), ..self.clone() }))
    }

    /// With the one to come in its place, where everybody knows that one.
    pub fn succeeded(&self, purpose: &Purpose, now: SystemTime) -> Option<Self> {
        let next = self.next.as_ref().filter(|next| next.certificate.age(now, SKEW) >= purpose.notice)?;
        Some(Self { current: next.clone(), next: None, former: Some(self.current.certificate.clone()) })
    }

    /// Without the one before.
    pub fn without_former(&self) -> Self {
        Self { former: None, ..self.clone() }
    }

    /// Whom to believe, the oldest first: so that the list changes when one comes or goes, and not when one follows another.
    pub fn believed(&self) -> Vec<&Certificate> {
        let next = self.next.as_ref().map(|next| &next.certificate);
        let mut all: Vec<&Certificate> =
            [Some(&self.current.certificate), next, self.former.as_ref()].into_iter().flatten().collect();
        all.sort_by_key(|certificate| certificate.good_from());
        all
    }

    /// The same in PEM.
    pub fn bundle(&self) -> String {
        self.believed().into_iter().map(Certificate::pem).collect()
    }

    /// Whether it or the one before it has signed a certificate.
    pub fn has_signed(&self, certificate: &Certificate) -> bool {
        let of = |authority: &Certificate| certificate.is_signed_by(authority);
        of(&self.current.certificate) || self.former.as_ref().is_some_and(of)
    }

    pub fn sign(&self, wanted: &Wanted<'_>, now: SystemTime) -> Result<Pair, CertificateError> {
        self.current.sign(wanted, now)
    }
}
