//! What the operator is told about its installation.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sidewall_api::LabelSelector;
use sidewall_proxy_config::{DEFAULT_ADMIN_PORT, DEFAULT_PROBE_PORT};

use crate::admission::identity::{Capability, UidRange};
use crate::names::{INJECTION_ENABLED, LABEL_INJECTION};
use crate::quantity::{self, Amount};

/// What the operator is told about its installation. Unknown fields are errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The namespaces whose pods are looked at: by default those labelled `sidewall.dev/injection: enabled`.
    #[serde(default = "default_selector")]
    pub namespace_selector: LabelSelector,
    /// Namespaces whose pods are left alone whatever their labels. The operator adds its own.
    #[serde(default = "default_excluded")]
    pub excluded_namespaces: BTreeSet<String>,
    /// The proxy's container.
    pub proxy: ProxySettings,
    /// The users that `sidewall.dev/assign-uids` gives to containers where the namespace has no range of its own.
    #[serde(default = "default_range")]
    pub uid_range: UidRange,
    /// How the nodes tell containers apart.
    #[serde(default)]
    pub identity: Identity,
    /// The capabilities that every container of a pod with a proxy loses.
    #[serde(default = "default_dropped")]
    pub drop_capabilities: BTreeSet<Capability>,
}

/// How the nodes of the cluster tell the containers of a pod apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Identity {
    /// By cgroup: containers of one user are a warning.
    #[default]
    Cgroup,
    /// By user: each container of a pod with a proxy must have one of its own, and not 0; others are refused.
    Uid,
}

/// The proxy's container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxySettings {
    /// The image.
    pub image: String,
    /// When the image is pulled.
    #[serde(default)]
    pub image_pull_policy: PullPolicy,
    /// The program; empty for the image's own.
    #[serde(default = "default_command")]
    pub command: Vec<String>,
    /// The user that it runs as, and its group. In a namespace with a range of users of its own, it has the last of these.
    #[serde(default = "default_uid")]
    pub uid: u32,
    /// The ports that it opens beside its listeners.
    #[serde(default)]
    pub ports: Ports,
    /// What it asks of the node, and what it may take.
    #[serde(default)]
    pub resources: Resources,
}

/// When an image is pulled, as in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

/// The ports that the proxy opens beside its listeners, where a SidecarProxy says no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ports {
    /// The kubelet's probes and hooks of the other containers.
    pub probe: u16,
    /// `/healthz`, `/readyz`, `/metrics`, on 127.0.0.1.
    pub admin: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { probe: DEFAULT_PROBE_PORT, admin: DEFAULT_ADMIN_PORT }
    }
}

impl Ports {
    /// Each port, with what it is for.
    pub fn named(&self) -> [(&'static str, u16); 2] {
        [("probe", self.probe), ("admin", self.admin)]
    }
}

/// Resources of a container, as Kubernetes' quantities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// What the scheduler reserves.
    pub requests: BTreeMap<String, String>,
    /// What the container may take.
    pub limits: BTreeMap<String, String>,
}

impl Default for Resources {
    fn default() -> Self {
        let of = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        // No limit of CPU: a throttled proxy delays every request, and the request is what is accounted for.
        Self { requests: of(&[("cpu", "10m"), ("memory", "32Mi")]), limits: of(&[("memory", "128Mi")]) }
    }
}

impl Resources {
    /// Whether a container with these leaves a pod of the QoS class Guaranteed what it is.
    pub fn is_guaranteed(&self) -> bool {
        ["cpu", "memory"].into_iter().all(|name| {
            let limit = self.limits.get(name);
            limit.is_some_and(|limit| self.requests.get(name).is_none_or(|request| quantity::same(request, limit)))
        })
    }
}

impl Settings {
    /// The settings of an installation that only names the proxy's image.
    pub fn of_image(image: impl Into<String>) -> Self {
        Self {
            namespace_selector: default_selector(),
            excluded_namespaces: default_excluded(),
            proxy: ProxySettings {
                image: image.into(),
                image_pull_policy: PullPolicy::default(),
                command: default_command(),
                uid: default_uid(),
                ports: Ports::default(),
                resources: Resources::default(),
            },
            uid_range: default_range(),
            identity: Identity::default(),
            drop_capabilities: default_dropped(),
        }
    }

    /// Checks what the shape alone cannot say.
    ///
    /// # Errors
    ///
    /// Every problem, each with its field.
    pub fn validate(&self) -> Result<(), Vec<SettingsFault>> {
        let mut faults = Vec::new();
        if self.proxy.image.is_empty() {
            faults.push(SettingsFault::NoImage);
        }
        if self.proxy.uid == 0 || self.proxy.uid > crate::admission::identity::UID_MAX {
            faults.push(SettingsFault::Uid { uid: self.proxy.uid });
        }
        let ports = self.proxy.ports.named();
        for (index, (name, port)) in ports.iter().enumerate() {
            if *port < crate::names::FIRST_UNPRIVILEGED_PORT {
                faults.push(SettingsFault::LowPort { name, port: *port });
            }
            if let Some((other, _)) = ports.iter().take(index).find(|(_, p)| p == port) {
                faults.push(SettingsFault::SamePort { name, other, port: *port });
            }
        }
        let Resources { requests, limits } = &self.proxy.resources;
        for (list, amounts) in [("requests", requests), ("limits", limits)] {
            for (name, amount) in amounts {
                if Amount::read(amount).is_none_or(Amount::is_negative) {
                    faults.push(SettingsFault::Amount { list, name: name.clone(), amount: amount.clone() });
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// What is wrong with settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsFault {
    /// No image.
    #[error("proxy.image is empty; name the proxy's image")]
    NoImage,
    /// A user that the proxy cannot have.
    #[error("proxy.uid is {uid}; use 1 to {}", crate::admission::identity::UID_MAX)]
    Uid {
        /// The user.
        uid: u32,
    },
    /// A port that would need a privilege.
    #[error("proxy.ports.{name} is {port}; use 1024 to 65535, which need no privilege")]
    LowPort {
        /// What the port is for.
        name: &'static str,
        /// The port.
        port: u16,
    },
    /// A resource without an amount.
    #[error("proxy.resources.{list}.{name} is {amount:?}; use an amount such as \"10m\" or \"32Mi\"")]
    Amount {
        /// `requests` or `limits`.
        list: &'static str,
        /// The resource.
        name: String,
        /// What it is said to be.
        amount: String,
    },
    /// One port for two things.
    #[error("proxy.ports.{name} and proxy.ports.{other} are both {port}; give each a port of its own")]
    SamePort {
        /// What the port is for.
        name: &'static str,
        /// What it is for, too.
        other: &'static str,
        /// The port.
        port: u16,
    },
}

fn default_selector() -> LabelSelector {
    LabelSelector::label(LABEL_INJECTION, INJECTION_ENABLED)
}

fn default_excluded() -> BTreeSet<String> {
    ["kube-node-lease", "kube-public", "kube-system"].map(str::to_owned).into()
}

fn default_command() -> Vec<String> {
    vec!["sidewall-proxy".to_owned()]
}

fn default_uid() -> u32 {
    61_802
}

fn default_range() -> UidRange {
    UidRange::default()
}

fn default_dropped() -> BTreeSet<Capability> {
    BTreeSet::from([Capability::NetRaw])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good_and_are_what_an_almost_empty_file_says() {
        let settings: Settings = serde_json::from_str(r#"{"proxy": {"image": "proxy:1"}}"#).unwrap();
        assert_eq!(settings, Settings::of_image("proxy:1"));
        assert_eq!(settings.validate(), Ok(()));
        let again: Settings = serde_json::from_value(serde_json::to_value(&settings).unwrap()).unwrap();
        assert_eq!(again, settings);
    }

    #[test]
    fn what_cannot_be_is_said_by_field() {
        let mut settings = Settings::of_image("");
        settings.proxy.uid = 0;
        settings.proxy.ports = Ports { probe: 80, admin: 80 };
        settings
            .proxy
            .resources
            .limits
            .extend([("cpu".to_owned(), "-1".to_owned()), ("memory".to_owned(), "1 GB".to_owned())]);
        let said: Vec<String> = settings.validate().unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "proxy.image is empty; name the proxy's image",
                "proxy.uid is 0; use 1 to 65533",
                "proxy.ports.probe is 80; use 1024 to 65535, which need no privilege",
                "proxy.ports.admin is 80; use 1024 to 65535, which need no privilege",
                "proxy.ports.admin and proxy.ports.probe are both 80; give each a port of its own",
                "proxy.resources.limits.cpu is \"-1\"; use an amount such as \"10m\" or \"32Mi\"",
                "proxy.resources.limits.memory is \"1 GB\"; use an amount such as \"10m\" or \"32Mi\"",
            ]
        );
        assert!(serde_json::from_str::<Settings>(r#"{"proxy": {"image": "a", "imagePolicy": "x"}}"#).is_err());
    }
}
