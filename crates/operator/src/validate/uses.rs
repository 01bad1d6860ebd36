//! What a SidecarProxy does in its author's name, and what of it is new.

use std::collections::{BTreeMap, BTreeSet};

use sidewall_api::SidecarProxy;
use sidewall_proxy_config::{CertificateSource, Listener, TlsSource, TlsVersion, UsersSource};

use crate::render::{TLS_CERT, TLS_KEY};

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

/// How something is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// The fields that name it, in their order.
    pub fields: Vec<String>,
    /// The keys whose values are users.
    pub users: BTreeSet<String>,
    /// Whether it is a certificate with its key, and the oldest TLS that is spoken with it.
    pub certificate: Option<TlsVersion>,
    /// Whether somebody makes it once it is asked for.
    pub made: bool,
}

impl Use {
    /// The keys that must be there.
    pub(super) fn keys(&self) -> BTreeSet<&str> {
        let mut keys: BTreeSet<&str> = self.users.iter().map(String::as_str).collect();
        if self.certificate.is_some() {
            keys.extend([TLS_CERT, TLS_KEY]);
        }
        keys
    }
}

impl Uses {
    /// What `proxy` does that `before` did not do. A listener that stands as it stood, before the same pods, is nothing new.
    pub(super) fn new_in(proxy: &SidecarProxy, before: Option<&SidecarProxy>) -> Self {
        let standing = before.filter(|before| {
            before.spec.pod_selector == proxy.spec.pod_selector
                && before.spec.container_name == proxy.spec.container_name
        });
        let stands = |listener: &Listener| standing.is_some_and(|before| before.spec.listeners.contains(listener));
        let mut uses = Self::default();
        for (index, listener) in proxy.spec.listeners.iter().enumerate() {
            if !stands(listener) {
                uses.add(index, listener);
            }
        }
        uses
    }

    fn add(&mut self, index: usize, listener: &Listener) {
        let at = format!("spec.listeners[{index}]");
        if let Some(tls) = &listener.tls
            && let Ok(TlsSource::Secret { name }) = tls.source()
        {
            let used = self.entry(Access::Secret(name.to_owned()), format!("{at}.tls.secretName"));
            // What the newer version takes, the older takes too.
            used.certificate = Some(used.certificate.map_or(tls.min_version, |least| least.min(tls.min_version)));
            used.made |= tls.certificate.is_some();
            if tls.certificate.as_ref().is_some_and(|asked| asked.source == CertificateSource::CertManager) {
                self.entry(Access::Certificates, format!("{at}.tls.certificate"));
            }
        }
        for (index, way) in listener.authentication.iter().enumerate() {
            if let Some(basic) = &way.basic
                && let Ok(UsersSource::Secret { name, key }) = basic.source()
            {
                let field = format!("{at}.authentication[{index}].basic.secretName");
                self.entry(Access::Secret(name.to_owned()), field).users.insert(key.to_owned());
            }
        }
    }

    fn entry(&mut self, access: Access, field: String) -> &mut Use {
        let used = self.0.entry(access).or_default();
        used.fields.push(field);
        used
    }

    /// What the requester must be allowed to do.
    pub(super) fn access(&self) -> impl Iterator<Item = &Access> {
        self.0.keys()
    }
}
