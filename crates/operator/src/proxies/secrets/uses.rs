//! How a SidecarProxy uses Secrets.

use std::collections::{BTreeMap, BTreeSet};

use sidewall_api::SidecarProxy;
use sidewall_proxy_config::{CertificateRequest, Listener, TlsSource, TlsVersion, UsersSource};

use super::{TLS_CERT, TLS_KEY};
use crate::admission::inject::Secrets;

/// A place at which a SidecarProxy names a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming<'a> {
    /// Which of its listeners does.
    pub listener: usize,
    /// The field that does.
    pub field: String,
    /// The Secret.
    pub secret: &'a str,
    /// What the proxy takes of it.
    pub takes: Takes<'a>,
}

/// What the proxy takes of a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes<'a> {
    /// A certificate with its key.
    Certificate {
        /// The oldest TLS that is spoken with it.
        least: TlsVersion,
        /// Who is to make it, where somebody is.
        request: Option<&'a CertificateRequest>,
    },
    /// Users.
    Users {
        /// The key under which they are.
        key: &'a str,
    },
}

impl<'a> Takes<'a> {
    /// The keys that must be there.
    pub fn keys(self) -> impl Iterator<Item = &'a str> {
        let (first, second) = match self {
            Self::Certificate { .. } => (TLS_CERT, Some(TLS_KEY)),
            Self::Users { key } => (key, None),
        };
        std::iter::once(first).chain(second)
    }
}

/// Where listeners name Secrets, in the order in which they do.
pub fn namings(listeners: &[Listener]) -> impl Iterator<Item = Naming<'_>> {
    listeners.iter().enumerate().flat_map(|(listener, of)| {
        let at = format!("spec.listeners[{listener}]");
        let mut all = Vec::new();
        if let Some(tls) = &of.tls
            && let Ok(TlsSource::Secret { name }) = tls.source()
        {
            let takes = Takes::Certificate { least: tls.min_version, request: tls.certificate.as_ref() };
            all.push(Naming { listener, field: format!("{at}.tls.secretName"), secret: name, takes });
        }
        for (way, of) in of.authentication.iter().enumerate() {
            if let Some(basic) = &of.basic
                && let Ok(UsersSource::Secret { name, key }) = basic.source()
            {
                let field = format!("{at}.authentication[{way}].basic.secretName");
                all.push(Naming { listener, field, secret: name, takes: Takes::Users { key } });
            }
        }
        all
    })
}

/// How one Secret is used, at all the places that name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
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
    /// Adds a place.
    pub fn note(&mut self, naming: &Naming<'_>) {
        self.fields.push(naming.field.clone());
        match naming.takes {
            Takes::Certificate { least, request } => {
                // What the newer version takes, the older takes too.
                self.certificate = Some(self.certificate.map_or(least, |before| before.min(least)));
                self.made |= request.is_some();
            }
            Takes::Users { key } => drop(self.users.insert(key.to_owned())),
        }
    }

    /// The keys that must be there.
    pub fn keys(&self) -> BTreeSet<&str> {
        let mut keys: BTreeSet<&str> = self.users.iter().map(String::as_str).collect();
        if self.certificate.is_some() {
            keys.extend([TLS_CERT, TLS_KEY]);
        }
        keys
    }
}

/// The Secrets that a SidecarProxy names, and how it uses each.
pub fn uses(proxy: &SidecarProxy) -> BTreeMap<String, Use> {
    let mut uses: BTreeMap<String, Use> = BTreeMap::new();
    for naming in namings(&proxy.spec.listeners) {
        uses.entry(naming.secret.to_owned()).or_default().note(&naming);
    }
    uses
}

/// The Secrets, and of each the keys, that a pod with this proxy has to mount.
pub fn needed(proxy: &SidecarProxy) -> Secrets {
    let mut secrets = Secrets::new();
    for Naming { secret, takes, .. } in namings(&proxy.spec.listeners) {
        secrets.entry(secret.to_owned()).or_default().extend(takes.keys().map(str::to_owned));
    }
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{proxy, tls};

    #[test]
    fn what_is_needed_is_what_is_used() {
        let uses = uses(&tls());
        let keys: Vec<(&str, Vec<&str>)> =
            uses.iter().map(|(secret, used)| (secret.as_str(), used.keys().into_iter().collect())).collect();
        assert_eq!(keys, [("web-tls", vec!["tls.crt", "tls.key"]), ("web-users", vec!["htpasswd", "metrics.users"])]);
        let needed = needed(&tls());
        for (secret, used) in &uses {
            assert!(needed[secret].iter().map(String::as_str).eq(used.keys()), "{secret}");
        }
        assert_eq!(uses["web-tls"].fields, ["spec.listeners[0].tls.secretName", "spec.listeners[1].tls.secretName"]);
        assert_eq!(uses["web-users"].fields[1], "spec.listeners[1].authentication[0].basic.secretName");
    }

    #[test]
    fn the_oldest_version_and_anybody_who_makes_it_count() {
        let asking = proxy(
            "
apiVersion: sidewall.dev/v1alpha1
kind: SidecarProxy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  listeners:
  - {port: 1, forward: {port: 8080}, anonymous: true, tls: {secretName: t, minVersion: '1.3'}}
  - {port: 2, forward: {port: 8080}, anonymous: true, tls: {secretName: t, minVersion: '1.2', certificate: {}}}
  - {port: 3, forward: {port: 8080}, anonymous: true, tls: {certFile: a, keyFile: b}}
",
        );
        let uses = uses(&asking);
        assert_eq!(uses.len(), 1);
        assert_eq!((uses["t"].certificate, uses["t"].made), (Some(TlsVersion::V1_2), true));
    }
}
