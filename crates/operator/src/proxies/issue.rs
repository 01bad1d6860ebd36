//! The certificates that the operator keeps for proxies, because a SidecarProxy asks for them.
//!
//! ```text
//! SidecarProxy ── wanted ──► WantedCertificate ─┬─ SelfManaged ── next ────► Keep │ Write(Secret) │ NotOurs
//!                                               └─ CertManager ── managed ─► Keep │ Write(Certificate) │ NotOurs
//! ```
//!
//! With `SelfManaged` a [`ProxyAuthority`] of the operator's own signs, which is not the webhooks' and which signs names of
//! Services only. A Secret that was there before, and that the operator did not make for this very SidecarProxy, is left alone:
//! what is ours bears our label *and* is owned by the SidecarProxy, by its uid. What cert-manager has filled for it says so in
//! [`ANNOTATION_PROXY_UID`].

mod authority;
mod cert_manager;
mod secret;

use std::collections::BTreeMap;
use std::time::SystemTime;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use sidewall_api::SidecarProxy;
use sidewall_api::names::API_VERSION;
use sidewall_proxy_config::{CertificateSource, Form, IssuerRef};

pub use authority::ProxyAuthority;
pub use cert_manager::{Managed, managed};
pub use secret::{Decision, IssueError, LIFE, ToWrite, Why, next};

use crate::names::{LABEL_MANAGED_BY, MANAGED_BY};
use crate::proxies::secrets::{Naming, Takes, namings};

/// The Secret in the operator's own namespace that holds the [`ProxyAuthority`].
pub const AUTHORITY_SECRET: &str = "sidewall-operator-proxies";

/// The annotation of a Secret that cert-manager fills for a SidecarProxy: the SidecarProxy's uid. Such a Secret is
/// cert-manager's: it has no owner of ours, and not our label, since nobody but the operator may write what bears that.
pub const ANNOTATION_PROXY_UID: &str = "sidewall.dev/sidecarproxy-uid";

/// A certificate that a SidecarProxy asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedCertificate {
    /// The SidecarProxy's namespace.
    pub namespace: String,
    /// The SidecarProxy's name.
    pub proxy: String,
    /// The SidecarProxy's identity.
    pub uid: String,
    /// The Secret that is to hold it.
    pub secret: String,
    /// The names that it is to bear.
    pub names: Vec<String>,
    /// Who is to sign it.
    pub signer: Signer,
}

/// Who signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The operator: [`next`].
    SelfManaged,
    /// cert-manager, which asks this issuer: [`managed`].
    CertManager(IssuerRef),
}

/// How it stands with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there.
    Good {
        /// Until when, where that is known.
        until: Option<SystemTime>,
    },
    /// It is not there yet.
    Pending {
        /// What is waited for.
        why: String,
    },
    /// Its place is taken.
    Taken(NotOurs),
    /// It could not be made or written.
    Failed {
        /// Why.
        why: String,
    },
}

/// An object that is somebody else's, where ours should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// Somebody else has made it.
    #[error(
        "{kind} {name:?} is there already, and was not made by Sidewall: remove it, or let tls.secretName name another Secret"
    )]
    Unlabelled {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It was made for another.
    #[error(
        "{kind} {name:?} is there already, and is kept for {owner}: let tls.secretName name another Secret, or remove that one"
    )]
    Owned {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// For whom it is kept.
        owner: String,
    },
}

/// The certificates that a SidecarProxy asks for, by Secret. It must have been read without errors.
pub fn wanted(proxy: &SidecarProxy) -> Vec<WantedCertificate> {
    if proxy.spec.form() == Form::File {
        return Vec::new();
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (namespace, name) = (text(&proxy.metadata.namespace), text(&proxy.metadata.name));
    let mut wanted: BTreeMap<&str, WantedCertificate> = BTreeMap::new();
    for Naming { secret, takes, .. } in namings(&proxy.spec.listeners) {
        let Takes::Certificate { request: Some(request), .. } = takes else { continue };
        let signer = match (request.source, &request.issuer_ref) {
            (CertificateSource::SelfManaged, _) => Signer::SelfManaged,
            (CertificateSource::CertManager, Some(issuer)) => Signer::CertManager(issuer.clone()),
            // It was not read without errors.
            (CertificateSource::CertManager, None) => continue,
        };
        let names = match request.dns_names.as_slice() {
            [] => vec![format!("{name}.{namespace}.svc"), format!("{name}.{namespace}.svc.cluster.local")],
            names => names.to_vec(),
        };
        wanted.entry(secret).or_insert_with(|| WantedCertificate {
            namespace: namespace.clone(),
            proxy: name.clone(),
            uid: text(&proxy.metadata.uid),
            secret: secret.to_owned(),
            names,
            signer,
        });
    }
    wanted.into_values().collect()
}

impl WantedCertificate {
    /// The owner reference of what is made for it.
    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: "SidecarProxy".to_owned(),
            name: self.proxy.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            // Whoever deletes the SidecarProxy need not wait, and we need no right to its finalizers.
            block_owner_deletion: None,
        }
    }

    /// Whether a Secret is the one that is kept for it.
    ///
    /// # Errors
    /// Whose it is instead.
    pub fn owns_secret(&self, secret: &ObjectMeta) -> Result<(), NotOurs> {
        match self.signer {
            Signer::SelfManaged => self.owns("Secret", secret),
            Signer::CertManager(_) => match secret.annotations.as_ref().and_then(|all| all.get(ANNOTATION_PROXY_UID)) {
                None => Err(NotOurs::Unlabelled { kind: "Secret", name: self.secret.clone() }),
                Some(uid) if *uid == self.uid && !uid.is_empty() => Ok(()),
                Some(_) => {
                    Err(self.owned("Secret", "another SidecarProxy, or one of this name that is gone".to_owned()))
                }
            },
        }
    }

    fn labelled(&self, kind: &'static str, object: &ObjectMeta) -> Result<(), NotOurs> {
        let label = object.labels.as_ref().and_then(|labels| labels.get(LABEL_MANAGED_BY));
        if label.map(String::as_str) == Some(MANAGED_BY) {
            return Ok(());
        }
        Err(NotOurs::Unlabelled { kind, name: self.secret.clone() })
    }

    fn owns(&self, kind: &'static str, object: &ObjectMeta) -> Result<(), NotOurs> {
        self.labelled(kind, object)?;
        let owners = object.owner_references.as_deref().unwrap_or_default();
        let is_ours = |owner: &OwnerReference| {
            owner.kind == "SidecarProxy" && owner.uid == self.uid && owner.api_version.starts_with("sidewall.dev/")
        };
        // One that is about to be created has no uid yet, and owns nothing.
        if !self.uid.is_empty() && owners.iter().any(is_ours) {
            return Ok(());
        }
        let of = |owner: &OwnerReference| match owner.name == self.proxy && owner.kind == "SidecarProxy" {
            true => "a SidecarProxy of this name that is gone".to_owned(),
            false => format!("{} {:?}", owner.kind, owner.name),
        };
        Err(self.owned(kind, owners.first().map_or_else(|| "nobody who is known".to_owned(), of)))
    }

    fn owned(&self, kind: &'static str, owner: String) -> NotOurs {
        NotOurs::Owned { kind, name: self.secret.clone(), owner }
    }

    /// The metadata of what is made for it.
    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.secret.clone()),
            namespace: Some(self.namespace.clone()),
            labels: Some([(LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned())].into()),
            owner_references: Some(vec![self.owner()]),
            ..ObjectMeta::default()
        }
    }
}

#[cfg(test)]
mod tests;
