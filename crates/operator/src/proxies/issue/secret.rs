//! A Secret with a certificate that the operator signs itself.

use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use sha2::{Digest, Sha256};
use sidewall_proxy_config::is_of_namespace;
use zeroize::Zeroize;

use super::authority::HEARD_WITHIN;
use super::{NotOurs, ProxyAuthority, WantedCertificate};
use crate::certificates::pair::{Certificate, Pair, Wanted};
use crate::certificates::{CertificateError, SKEW};

/// How long a certificate is good for. It is replaced when half of it to two thirds of it are over, each at its own time.
pub const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The Secret's entries.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";

/// The end of a certificate in PEM.
const PEM_END: &str = "-----END CERTIFICATE-----\n";

/// What is to become of a Secret.
pub enum Decision {
    /// Nothing.
    Keep {
        /// Until when its certificate is good.
        good_until: SystemTime,
        /// When it is to be looked at again, if the authority and the SidecarProxy stay as they are.
        until: SystemTime,
    },
    /// It is to be written.
    Write(Box<ToWrite>),
    /// It is somebody else's, and is left alone.
    NotOurs(NotOurs),
}

/// A Secret that is to be written. Its key is wiped from memory with it, and it can't be printed.
pub struct ToWrite {
    secret: Secret,
    /// Until when its certificate will be good.
    good_until: SystemTime,
    why: Why,
}

/// Why a Secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// There is none.
    Missing,
    /// What is in it can't be used.
    Damaged,
    /// Its certificate bears other names than it should.
    Names,
    /// Its certificate is signed by no authority of ours.
    Authority,
    /// Its certificate has come of age.
    Age,
    /// It is to tell of other authorities. Its certificate stays.
    Authorities,
}

impl Why {
    /// One word for it, for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Names => "names",
            Self::Authority => "authority",
            Self::Age => "age",
            Self::Authorities => "authorities",
        }
    }
}

/// Why no certificate can be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The name is not of the namespace.
    #[error(
        "{name:?} is no name of namespace {namespace:?}, and is not signed: use names below {namespace}.svc, or \
         `source: CertManager`"
    )]
    ForeignName {
        /// The name.
        name: String,
        /// The namespace.
        namespace: String,
    },
    /// The authority is not good any more.
    #[error("the authority that signs for proxies is over: it is to be replaced first")]
    Over,
    /// It can't be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl ToWrite {
    /// The Secret, whole. A new one is to be created; another is to be replaced, and bears the `resourceVersion` that was
    /// looked at, so that nothing is written over what somebody else has written meanwhile.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Whether it is to be created.
    pub fn is_new(&self) -> bool {
        self.why == Why::Missing
    }

    /// Why it is written.
    pub fn why(&self) -> Why {
        self.why
    }

    /// Until when its certificate will be good.
    pub fn good_until(&self) -> SystemTime {
        self.good_until
    }
}

impl Drop for ToWrite {
    fn drop(&mut self) {
        if let Some(key) = self.secret.data.as_mut().and_then(|data| data.get_mut(KEY)) {
            key.0.zeroize();
        }
    }
}

/// What is to become of the Secret that a certificate is to be kept in. `existing` is that Secret as it is now.
///
/// It is to be asked again at the time that [`Decision::Keep`] says, and when the authority, the SidecarProxy or the Secret has
/// changed.
///
/// # Errors
/// [`IssueError`].
pub fn next(
    wanted: &WantedCertificate,
    existing: Option<&Secret>,
    authority: &ProxyAuthority,
    now: SystemTime,
) -> Result<Decision, IssueError> {
    if let Some(Err(whose)) = existing.map(|secret| wanted.owns_secret(&secret.metadata)) {
        return Ok(Decision::NotOurs(whose));
    }
    if let Some(name) = wanted.names.iter().find(|name| !is_of_namespace(name, &wanted.namespace)) {
        return Err(IssueError::ForeignName { name: name.clone(), namespace: wanted.namespace.clone() });
    }
    if authority.0.current.certificate.is_over(now) {
        return Err(IssueError::Over);
    }
    let signed = |why| {
        let of = Wanted { called: "Sidewall front proxy", names: &wanted.names, life: LIFE };
        let pair = authority.0.sign(&of, now)?;
        Ok(write(wanted, existing, &pair, authority, why))
    };
    let Some(secret) = existing else { return signed(Why::Missing) };
    let Ok(pair) = held(secret) else { return signed(Why::Damaged) };
    let certificate = &pair.certificate;
    if certificate.names() != wanted.names {
        return signed(Why::Names);
    }
    if !authority.0.has_signed(certificate) {
        return signed(Why::Authority);
    }
    let due = due(certificate, wanted);
    if now >= due || certificate.is_over(now) {
        return signed(Why::Age);
    }
    let told = told(secret, authority, wanted);
    if told.is_some_and(|told| now >= told) {
        return Ok(write(wanted, existing, &pair, authority, Why::Authorities));
    }
    let until = told.map_or(due, |told| told.min(due));
    Ok(Decision::Keep { good_until: certificate.good_until(), until })
}

/// When a certificate is to be replaced: when half of its time to two thirds of it are over, so that those that were made
/// together are not replaced together.
fn due(certificate: &Certificate, wanted: &WantedCertificate) -> SystemTime {
    let whole = certificate.whole();
    certificate.good_from() + whole / 2 + spread(wanted, whole / 6)
}

/// When the Secret's list of authorities is to be mended; none where it is right.
fn told(secret: &Secret, authority: &ProxyAuthority, wanted: &WantedCertificate) -> Option<SystemTime> {
    let at_once = Some(SystemTime::UNIX_EPOCH);
    let Some(have) = entry(secret, AUTHORITIES) else { return at_once };
    if have == authority.bundle() {
        return None;
    }
    let believed = authority.0.believed();
    let later = spread(wanted, HEARD_WITHIN);
    let mut times = Vec::new();
    for block in have.split_inclusive(PEM_END).filter(|block| !believed.iter().any(|one| one.pem() == *block)) {
        match Certificate::read((AUTHORITIES, block)) {
            // An authority of ours that is over. To believe it does no harm.
            Ok(former) if believed.iter().all(|one| former.good_until() < one.good_until()) => {
                times.push(former.good_until() + later);
            }
            _ => return at_once,
        }
    }
    let missing = believed.iter().filter(|one| !have.contains(one.pem()));
    times.extend(missing.map(|one| one.good_from() + SKEW + later));
    // Nothing too many, nothing too few, and yet another: somebody has put them in another order.
    times.into_iter().min().or(at_once)
}

/// A part of a time that follows from the Secret's name: for many Secrets, evenly spread.
fn spread(wanted: &WantedCertificate, within: Duration) -> Duration {
    let hash = Sha256::digest(format!("{}/{}", wanted.namespace, wanted.secret));
    let part = hash.iter().take(4).fold(0_u32, |part, byte| part << 8 | u32::from(*byte));
    within.mul_f64(f64::from(part) / f64::from(u32::MAX))
}

fn entry<'a>(secret: &'a Secret, entry: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(entry)?.0).ok()
}

fn held(secret: &Secret) -> Result<Pair, CertificateError> {
    let needed = |name| entry(secret, name).map(|text| (name, text)).ok_or(CertificateError::Missing { entry: name });
    Pair::read(needed(CERTIFICATE)?, needed(KEY)?)
}

fn write(
    wanted: &WantedCertificate,
    existing: Option<&Secret>,
    pair: &Pair,
    authority: &ProxyAuthority,
    why: Why,
) -> Decision {
    // What others have added to it stays.
    let mut secret = existing.cloned().unwrap_or_else(|| Secret {
        metadata: wanted.metadata(),
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    });
    secret.metadata.managed_fields = None;
    let data = secret.data.get_or_insert_default();
    for (name, text) in
        [(CERTIFICATE, pair.certificate.pem()), (KEY, pair.key_pem()), (AUTHORITIES, authority.bundle().as_str())]
    {
        if let Some(mut before) = data.insert(name.to_owned(), ByteString(text.as_bytes().to_vec())) {
            before.0.zeroize();
        }
    }
    let good_until = pair.certificate.good_until();
    Decision::Write(Box::new(ToWrite { secret, good_until, why }))
}
