//! A certificate that is made in the cluster, instead of one that somebody brings.

use serde::{Deserialize, Serialize};

/// The most names of one certificate.
pub const DNS_NAMES_MAX: usize = 32;

/// The longest DNS name, in characters (RFC 1035, less the dots that are not written).
pub const DNS_NAME_MAX: usize = 253;

/// Who signs where nobody says: cert-manager's own group and kind.
const ISSUER_GROUP: &str = "cert-manager.io";
const ISSUER_KIND: &str = "Issuer";

/// A certificate that is kept in the Secret for the proxy, and renewed in time. A Secret of that name that somebody else
/// has made is left alone, and the SidecarProxy's status says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "self.source != 'CertManager' || has(self.issuerRef)",
            "message": "CertManager needs an issuerRef: name the Issuer",
            "fieldPath": ".issuerRef",
        },
        {
            "rule": "self.source != 'SelfManaged' || !has(self.issuerRef)",
            "message": "SelfManaged has no issuer: remove issuerRef, or say `source: CertManager`",
            "fieldPath": ".issuerRef",
        },
        {
            "rule": "self.source != 'SelfManaged' || !has(self.dnsNames) || \
                     self.dnsNames.all(n, n == 'localhost' || n.endsWith('.svc') || n.endsWith('.svc.cluster.local'))",
            "message": "SelfManaged signs names of the namespace's own Services only: NAME.NAMESPACE.svc, \
                        NAME.NAMESPACE.svc.cluster.local and localhost",
            "fieldPath": ".dnsNames",
        },
    ]))
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateRequest {
    /// Who signs it. `SelfManaged`: an authority that the operator keeps for this alone, whose certificate stands in the
    /// Secret as `ca.crt` for clients. `CertManager`: cert-manager, which has to be installed; the operator creates its
    /// Certificate.
    #[serde(default)]
    pub source: CertificateSource,

    /// The issuer that cert-manager is to ask. With `CertManager` only, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,

    /// The names that clients call the proxy by. Omitted or empty: NAME.NAMESPACE.svc and NAME.NAMESPACE.svc.cluster.local,
    /// where NAME is the SidecarProxy's. With `SelfManaged`, only names below NAMESPACE.svc and
    /// NAMESPACE.svc.cluster.local, and localhost; a leading `*.` stands for one label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            length(max = DNS_NAMES_MAX),
            inner(
                length(min = 1, max = DNS_NAME_MAX),
                regex(pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
            ),
            extend("x-kubernetes-list-type" = "set")
        )
    )]
    pub dns_names: Vec<String>,
}

/// Who signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CertificateSource {
    /// An authority that the operator keeps.
    #[default]
    SelfManaged,
    /// cert-manager.
    CertManager,
}

/// An issuer of cert-manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerRef {
    /// The issuer's name.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = DNS_NAME_MAX)))]
    pub name: String,
    /// The issuer's kind: `Issuer`, which is of the same namespace, or `ClusterIssuer`.
    #[serde(default = "issuer_kind")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 63)))]
    pub kind: String,
    /// The issuer's group.
    #[serde(default = "issuer_group")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = DNS_NAME_MAX)))]
    pub group: String,
}

fn issuer_kind() -> String {
    ISSUER_KIND.to_owned()
}

fn issuer_group() -> String {
    ISSUER_GROUP.to_owned()
}

/// Whether a text is a DNS name of a server, as it stands in a certificate: lower case, and perhaps a leading `*.`
/// (RFC 9525, 6.3).
pub fn is_dns_name(name: &str) -> bool {
    let plain = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let end = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        label.len() <= 63
            && end(bytes.first())
            && end(bytes.last())
            && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
    };
    name.len() <= DNS_NAME_MAX && plain.split('.').all(label)
}

/// Whether a name belongs to a namespace's own Services (`NAME.NAMESPACE.svc`, also with the cluster's domain), or is
/// `localhost`. An authority that others believe may sign nothing else for an author of that namespace.
pub fn is_of_namespace(name: &str, namespace: &str) -> bool {
    if name == "localhost" {
        return true;
    }
    let service = name.strip_suffix(".cluster.local").unwrap_or(name);
    let below = service.strip_suffix(".svc").and_then(|rest| rest.strip_suffix(namespace));
    !namespace.is_empty() && is_dns_name(name) && below.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// Whether a name is of the form that [`is_of_namespace`] asks for, in some namespace.
pub(crate) fn is_of_some_namespace(name: &str) -> bool {
    let service = name.strip_suffix(".cluster.local").unwrap_or(name);
    let namespace = service.strip_suffix(".svc").and_then(|rest| rest.rsplit('.').next());
    is_of_namespace(name, namespace.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_namespace_and_no_others() {
        for name in [
            "web.shop.svc",
            "web.shop.svc.cluster.local",
            "web-0.web.shop.svc",
            "*.shop.svc",
            "*.web.shop.svc.cluster.local",
            "localhost",
        ] {
            assert!(is_of_namespace(name, "shop"), "{name}");
            assert!(is_of_some_namespace(name), "{name}");
            assert!(name == "localhost" || !is_of_namespace(name, "bank"), "{name}");
        }
        for name in [
            "shop.svc",
            ".shop.svc",
            "webshop.svc",
            "web.myshop.svc",
            "web.shop.svc.example.com",
            "web.shop",
            "*.svc",
            "*.*.shop.svc",
            "web.*.shop.svc",
            "example.com",
            "Web.shop.svc",
            "web.shop.svc.",
            "a.localhost",
            "10.0.0.1",
            "",
        ] {
            assert!(!is_of_namespace(name, "shop"), "{name}");
        }
        assert!(!is_of_namespace("web..svc", ""));
        assert!(!is_of_some_namespace("*.svc") && !is_of_some_namespace("svc") && !is_of_some_namespace(".svc"));
        // A namespace that is called as the cluster's domain is.
        assert!(!is_of_namespace("web.shop.svc.cluster.local", "local"));
        assert!(is_of_namespace("web.svc.svc", "svc") && !is_of_namespace("web.shop.svc", "svc"));
    }

    #[test]
    fn dns_names() {
        for name in ["a", "a-b.c", "1.a", "*.a"] {
            assert!(is_dns_name(name), "{name}");
        }
        let (label, long) = ("a".repeat(64), format!("{}.a", "a.".repeat(126)));
        for name in ["", "*", "*.", "-a", "a-", "a..b", "a_b", "ä", "a b", "*a.b", &label, &long] {
            assert!(!is_dns_name(name), "{name}");
        }
    }
}
