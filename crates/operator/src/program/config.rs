//! The operator's configuration file: YAML, strict.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sidewall_api::names::is_dns_label;

use crate::settings::Settings;

/// What the operator is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// What becomes of pods.
    pub injection: Settings,
    /// Where the API server asks.
    #[serde(default)]
    pub webhook: Webhook,
    /// Where the operator tells of itself.
    #[serde(default)]
    pub listen: Listen,
    /// Which of several operators writes.
    #[serde(default)]
    pub leader: Leader,
    /// Whose Secrets the operator may read and write.
    #[serde(default)]
    pub secrets: SecretScope,
    /// What is logged: a level, or levels by module.
    #[serde(default = "info")]
    pub log: String,
}

/// Where the API server asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Webhook {
    /// The address and port.
    pub address: SocketAddr,
    /// The Service in front of it, in the operator's own namespace: certificates are for its names.
    pub service: String,
    /// Where the certificates come from.
    pub certificates: Certificates,
    /// The MutatingWebhookConfiguration that is told of self-managed certificates.
    pub mutating: String,
    /// The ValidatingWebhookConfiguration that is told of them.
    pub validating: String,
}

/// Where the webhooks' certificates come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Certificates {
    /// The operator makes and renews them, and tells the API server whom to believe.
    #[default]
    SelfManaged,
    /// Somebody else does, as cert-manager; they are read again when they change.
    Files {
        /// Where `tls.crt` and `tls.key` are.
        directory: PathBuf,
    },
}

/// Where the operator tells of itself. None means not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// `/healthz` and `/readyz`.
    pub health: Option<SocketAddr>,
    /// `/metrics`.
    pub metrics: Option<SocketAddr>,
}

/// Which of several operators writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Leader {
    /// The Lease, in the operator's own namespace.
    pub lease: String,
}

/// Whose Secrets the operator may read and write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`Everywhere`, or a list of namespaces")]
pub enum SecretScope {
    /// Those of all namespaces.
    Everywhere(Everywhere),
    /// Those of some namespaces, in which it has been given the right. Elsewhere proxies hear of changes when the kubelet
    /// looks, within two minutes, and get no certificates.
    In(BTreeSet<String>),
}

impl Default for SecretScope {
    fn default() -> Self {
        Self::Everywhere(Everywhere::Everywhere)
    }
}

/// The word `Everywhere`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Everywhere {
    /// In all namespaces.
    Everywhere,
}

fn anywhere(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

fn info() -> String {
    "info".to_owned()
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            address: anywhere(9443),
            service: "sidewall-operator".to_owned(),
            certificates: Certificates::default(),
            mutating: "sidewall-inject".to_owned(),
            validating: "sidewall-validate".to_owned(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { health: Some(anywhere(9561)), metrics: Some(anywhere(9562)) }
    }
}

impl Default for Leader {
    fn default() -> Self {
        Self { lease: "sidewall-operator".to_owned() }
    }
}

impl sidewall_daemon::config::Config for Config {
    fn faults(&self) -> Vec<String> {
        let faults = self.injection.validate().err().unwrap_or_default();
        let mut faults: Vec<String> = faults.into_iter().map(|fault| format!("injection.{fault}")).collect();
        let names = [
            ("webhook.service", &self.webhook.service),
            ("webhook.mutating", &self.webhook.mutating),
            ("webhook.validating", &self.webhook.validating),
            ("leader.lease", &self.leader.lease),
        ];
        for (field, name) in names {
            if !is_dns_label(name) {
                faults.push(format!("{field} is {name:?}; use 1 to 63 of a-z, 0-9 and -"));
            }
        }
        if let Certificates::Files { directory } = &self.webhook.certificates
            && !directory.is_absolute()
        {
            faults.push("webhook.certificates.directory must be an absolute path".to_owned());
        }
        faults
    }
}

impl Config {
    /// The names that certificates are made for: those by which the API server calls the Service.
    pub fn names(&self, namespace: &str) -> Vec<String> {
        let service = &self.webhook.service;
        vec![format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.cluster.local")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidewall_daemon::config::parse;

    #[test]
    fn only_the_image_has_to_be_said() {
        let config: Config = parse("injection: {proxy: {image: 'proxy:1'}}\n").unwrap();
        assert_eq!(config.injection, Settings::of_image("proxy:1"));
        assert_eq!(config.webhook, Webhook::default());
        assert_eq!(config.webhook.certificates, Certificates::SelfManaged);
        assert_eq!(config.names("walls")[0], "sidewall-operator.walls.svc");
        let again: Config = parse(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn what_cannot_be_is_said_with_its_place() {
        let problem = |text: &str| parse::<Config>(text).unwrap_err();
        assert!(problem("injection: {proxy: {image: a}}\nwebhok: {}\n").contains("line 2"), "{}", problem("webhok: 1"));
        let said = problem("injection: {proxy: {image: a, uid: 0}}\nwebhook: {service: A_b}\n");
        assert_eq!(
            said,
            "injection.proxy.uid is 0; use 1 to 65533; webhook.service is \"A_b\"; use 1 to 63 of a-z, 0-9 and -"
        );
        let files = "injection: {proxy: {image: a}}\nwebhook: {certificates: {source: Files, directory: here}}\n";
        assert_eq!(problem(files), "webhook.certificates.directory must be an absolute path");
        assert!(
            problem("injection: {proxy: {image: a}}\nwebhook: {certificates: {source: Files}}\n").contains("directory")
        );
        assert!(problem("# nothing\n").contains("injection"), "{}", problem("# nothing\n"));
    }

    #[test]
    fn secrets_are_read_everywhere_or_in_some_namespaces() {
        let scope = |said: &str| {
            parse::<Config>(&format!("injection: {{proxy: {{image: a}}}}\nsecrets: {said}\n")).map(|c| c.secrets)
        };
        assert_eq!(scope("Everywhere"), Ok(SecretScope::default()));
        assert_eq!(scope("[shop, bank]"), Ok(SecretScope::In(["bank".to_owned(), "shop".to_owned()].into())));
        assert!(scope("Nowhere").unwrap_err().contains("`Everywhere`, or a list of namespaces"));
    }
}
