//! What a SidecarProxy does in its author's name, and what of it is new.

use std::collections::BTreeMap;

use sidewall_api::SidecarProxy;
use sidewall_proxy_config::{CertificateSource, Listener};

use crate::proxies::secrets::{Takes, Use, namings};

/// What the requester himself must be allowed to do, in the object's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// `get` the Secret of this name.
    Secret(String),
    /// `create` cert-manager's Certificates: the operator would, in his name.
    Certificates,
}

impl Access {
    /// Group, resource, verb and name, as RBAC has them.
    pub(super) fn words(&self) -> (&'static str, &'static str, &'static str, Option<&str>) {
        match self {
            Self::Secret(name) => ("", "secrets", "get", Some(name)),
            Self::Certificates => ("cert-manager.io", "certificates", "create", None),
        }
    }
}

/// What of a SidecarProxy is new and needs a right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses(pub BTreeMap<Access, Use>);

impl Uses {
    /// What `proxy` does that `before` did not do. A listener that stands as it stood, before the same pods, is nothing new.
    pub(super) fn new_in(proxy: &SidecarProxy, before: Option<&SidecarProxy>) -> Self {
        let standing = before.filter(|before| {
            before.spec.pod_selector == proxy.spec.pod_selector
                && before.spec.container_name == proxy.spec.container_name
        });
        let stands = |listener: &Listener| standing.is_some_and(|before| before.spec.listeners.contains(listener));
        let listeners = &proxy.spec.listeners;
        let new: Vec<bool> = listeners.iter().map(|listener| !stands(listener)).collect();
        let mut uses = Self::default();
        for naming in namings(listeners).filter(|naming| new[naming.listener]) {
            uses.0.entry(Access::Secret(naming.secret.to_owned())).or_default().note(&naming);
            if let Takes::Certificate { request: Some(request), .. } = naming.takes
                && request.source == CertificateSource::CertManager
            {
                let field = format!("spec.listeners[{}].tls.certificate", naming.listener);
                uses.0.entry(Access::Certificates).or_default().fields.push(field);
            }
        }
        uses
    }

    /// What the requester must be allowed to do.
    pub(super) fn access(&self) -> impl Iterator<Item = &Access> {
        self.0.keys()
    }
}
