//! The agent's configuration file: YAML, strict, everything with a default.

use crate::enforceability::Preference;
use crate::installer;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sidewall_cluster::{Kinds, Reading};
use sidewall_cni::entry::{self, Entry};
use sidewall_cni::names::Namespace;
use sidewall_flow::Protocol;
use sidewall_policy::world::Network;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the agent is told to do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Where things are on the node.
    pub paths: Paths,
    /// How the plugin gets into the pods' network chain.
    pub cni: Cni,
    /// How containers are told apart.
    pub identity: Identity,
    /// Runtime handlers beside runc and crun that use the pod's network namespace.
    pub runtime_handlers: BTreeSet<String>,
    /// Namespaces whose pods start and run without walls. `kube-system` unless said otherwise: a node must be able to come up
    /// without its agent.
    #[serde(default = "exempt")]
    pub exempt_namespaces: Exempt,
    /// Where things are in the cluster's network, beside what the API server tells.
    pub network: NetworkRanges,
    /// Which further kinds of policies are enforced.
    pub policies: Policies,
    /// Where it listens.
    pub listen: Listen,
    /// How long things may take.
    pub timing: Timing,
    /// The key of the taint that keeps pods off the node until the agent is ready, and that the agent then takes away. It
    /// needs the right to patch its node. Left alone where none is named.
    pub startup_taint: Option<String>,
}

/// Where things are on the node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Paths {
    /// The container runtime's CRI socket.
    pub cri: PathBuf,
    /// The container runtime's NRI socket; none where NRI is not to be used.
    pub nri: Option<PathBuf>,
    /// Where the CNI plugin asks.
    pub cni_socket: PathBuf,
    /// What the CNI plugin may read while no agent answers. It must outlive a restart of the node.
    pub cni_state: PathBuf,
    /// Where the agent remembers pods. It must not outlive a restart of the node.
    pub memory: PathBuf,
    /// Where root on the node reads flows.
    pub flow_socket: PathBuf,
    /// The cgroups below which all pods are; the first that there is counts.
    pub pod_cgroups: Vec<PathBuf>,
}

/// How the plugin gets into the pods' network chain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Cni {
    /// Whether the agent installs the plugin. Where it does not, somebody else has to.
    pub install: bool,
    /// The directory of network configurations.
    pub configuration_directory: PathBuf,
    /// The directory of plugins.
    pub program_directory: PathBuf,
    /// The plugin, where the agent takes it from.
    pub program: PathBuf,
    /// The agent's own DaemonSet, as NAMESPACE/NAME: named to people when it does not answer.
    pub daemon_set: String,
    /// How long the agent may take to answer the plugin, in milliseconds: 100 to 60,000.
    pub timeout_milliseconds: u32,
}

/// How containers are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Identity {
    /// By cgroup where that can be, else by user, else by group.
    #[default]
    Auto,
    /// By cgroup or not at all.
    Cgroup,
    /// By user or not at all.
    Uid,
    /// By group or not at all.
    Gid,
}

/// Namespaces that have no walls.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Exempt(pub BTreeSet<Namespace>);

/// Where things are in the cluster's network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NetworkRanges {
    /// Ranges that pods take their addresses from, beside those that nodes name.
    pub pods: Vec<IpNet>,
    /// Ranges that Services take their addresses from, beside those of ServiceCIDR objects. Needed before Kubernetes 1.31.
    pub services: Vec<IpNet>,
    /// Addresses of the cluster's DNS; where none is named, it is what stands behind the Service kube-system/kube-dns.
    pub dns: Vec<Dns>,
}

/// Where a DNS server answers, by UDP and TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Dns {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    #[serde(default = "dns_port")]
    pub port: u16,
}

/// Which further kinds of policies are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Policies {
    /// NetworkPolicies. Off unless said otherwise: the cluster's own network plugin enforces them.
    pub network_policies: bool,
    /// MultiNetworkPolicies.
    pub multi_network_policies: Multi,
}

/// Whether MultiNetworkPolicies are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Multi {
    /// Where the cluster has the kind.
    #[default]
    IfServed,
    /// In any case: without the kind nothing starts.
    Required,
    /// Not.
    Off,
}

/// Where the agent listens. None means not at all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Listen {
    /// `/healthz` and `/readyz`. On loopback unless said otherwise: the kubelet is on the same node.
    pub health: Option<SocketAddr>,
    /// `/metrics`.
    pub metrics: Option<SocketAddr>,
    /// The flows, for who has a token; loopback, to be reached by the API server's port-forwarding.
    pub flows: Option<SocketAddr>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Timing {
    /// How often each pod's rules are looked at beside the kernel's own notices, in seconds.
    pub check_seconds: u32,
    /// How often the runtime is asked for what it has, in seconds, while NRI tells what changes.
    pub list_seconds: u32,
    /// The same while NRI does not, in milliseconds.
    pub poll_milliseconds: u32,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            cri: "/run/containerd/containerd.sock".into(),
            nri: Some("/run/nri/nri.sock".into()),
            cni_socket: sidewall_cni::wire::SOCKET.into(),
            cni_state: sidewall_cni::state::PATH.into(),
            memory: "/run/sidewall/pods".into(),
            flow_socket: "/run/sidewall/flows.sock".into(),
            // The kubelet's two drivers, and containerd's for pods whose kubelet names no cgroup.
            pod_cgroups: ["/kubepods.slice", "/kubepods", "/kubelet.slice/kubelet-kubepods.slice", "/k8s.io"]
                .map(PathBuf::from)
                .to_vec(),
        }
    }
}

impl Default for Cni {
    fn default() -> Self {
        Self {
            install: true,
            configuration_directory: sidewall_cni::install::DIRECTORY.into(),
            program_directory: "/opt/cni/bin".into(),
            program: "/usr/libexec/sidewall/sidewall-cni".into(),
            daemon_set: entry::DAEMON_SET.to_owned(),
            timeout_milliseconds: u32::try_from(entry::TIMEOUT.as_millis()).unwrap_or(u32::MAX),
        }
    }
}

impl Default for Exempt {
    fn default() -> Self {
        exempt()
    }
}

fn exempt() -> Exempt {
    Exempt(Namespace::try_from("kube-system").into_iter().collect())
}

const fn dns_port() -> u16 {
    53
}

impl Default for Policies {
    fn default() -> Self {
        Self { network_policies: false, multi_network_policies: Multi::IfServed }
    }
}

impl Default for Listen {
    fn default() -> Self {
        let loopback = |port| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Self { health: loopback(9551), metrics: loopback(9552), flows: loopback(9553) }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self { check_seconds: 30, list_seconds: 30, poll_milliseconds: 1000 }
    }
}

impl sidewall_daemon::config::Config for Config {
    fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.entry().check().err().iter().map(|error| format!("cni: {error}")).collect();
        let Paths { cri, nri, cni_socket, cni_state, memory, flow_socket, pod_cgroups } = &self.paths;
        for (field, path) in [
            ("paths.cri", Some(cri)),
            ("paths.nri", nri.as_ref()),
            ("paths.cniSocket", Some(cni_socket)),
            ("paths.cniState", Some(cni_state)),
            ("paths.memory", Some(memory)),
            ("paths.flowSocket", Some(flow_socket)),
            ("cni.configurationDirectory", Some(&self.cni.configuration_directory)),
            ("cni.programDirectory", Some(&self.cni.program_directory)),
            ("cni.program", Some(&self.cni.program)),
        ] {
            if path.is_some_and(|path| !path.is_absolute()) {
                faults.push(format!("{field} must be an absolute path"));
            }
        }
        if pod_cgroups.iter().any(|path| !path.is_absolute() || path.parent().is_none()) {
            faults
                .push("paths.podCgroups: each must be a path from the top of the cgroup tree, as /kubepods".to_owned());
        }
        let Timing { check_seconds, list_seconds, poll_milliseconds } = self.timing;
        for (field, value, range) in [
            ("timing.checkSeconds", check_seconds, 1..=3600),
            ("timing.listSeconds", list_seconds, 1..=3600),
            ("timing.pollMilliseconds", poll_milliseconds, 50..=60_000),
        ] {
            if !range.contains(&value) {
                faults.push(format!("{field} is {value}; use {} to {}", range.start(), range.end()));
            }
        }
        let shared = self.listen.flows.filter(|address| !address.ip().is_loopback());
        if let Some(address) = shared {
            faults.push(format!(
                "listen.flows is {address}, which is not on loopback, and tokens would cross the network in the clear"
            ));
        }
        faults
    }
}

impl Config {
    /// The plugin's entry in the chain.
    pub fn entry(&self) -> Entry {
        let unusual = |path: &Path, usual: &str| (path != Path::new(usual)).then(|| path.to_owned());
        Entry {
            socket: unusual(&self.paths.cni_socket, sidewall_cni::wire::SOCKET),
            state: unusual(&self.paths.cni_state, sidewall_cni::state::PATH),
            exempt_namespaces: self.exempt_namespaces.0.clone(),
            daemon_set: Some(self.cni.daemon_set.clone()),
            timeout_milliseconds: Some(self.cni.timeout_milliseconds),
            converted_from: None,
        }
    }

    /// What the installer of the plugin needs.
    pub fn installation(&self) -> installer::Options {
        installer::Options {
            configuration_directory: self.cni.configuration_directory.clone(),
            program_directory: self.cni.program_directory.clone(),
            program: self.cni.program.clone(),
            entry: self.entry(),
        }
    }

    /// Which kinds are watched.
    pub fn kinds(&self) -> Kinds {
        Kinds {
            network_policies: self.policies.network_policies,
            multi_network_policies: match self.policies.multi_network_policies {
                Multi::IfServed => Reading::IfServed,
                Multi::Required => Reading::Required,
                Multi::Off => Reading::Off,
            },
        }
    }

    /// What is known of the network without asking.
    pub fn network(&self) -> Network {
        let dns = self.network.dns.iter();
        Network {
            services: self.network.services.iter().copied().collect(),
            pods: self.network.pods.iter().copied().collect(),
            dns: dns.flat_map(|dns| [Protocol::Tcp, Protocol::Udp].map(|by| (dns.address, by, dns.port))).collect(),
            ..Network::default()
        }
    }

    /// How containers are to be told apart.
    pub const fn preference(&self) -> Preference {
        match self.identity {
            Identity::Auto => Preference::Auto,
            Identity::Cgroup => Preference::Cgroup,
            Identity::Uid => Preference::Uid,
            Identity::Gid => Preference::Gid,
        }
    }
}

impl Timing {
    /// How often rules are looked at.
    pub const fn check(self) -> Duration {
        Duration::from_secs(self.check_seconds as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidewall_daemon::config::parse;

    fn read(text: &str) -> Config {
        parse(text).unwrap()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let config = read("# nothing\n\n");
        assert_eq!(config, Config::default());
        assert!(config.exempt_namespaces.0.iter().any(|name| name.as_str() == "kube-system"));
        let config = read("exemptNamespaces: []\npaths: {nri: null}\nnetwork: {dns: [{address: 10.96.0.10}]}\n");
        assert!(config.exempt_namespaces.0.is_empty() && config.paths.nri.is_none());
        assert_eq!(config.network().dns.len(), 2);
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let shown = serde_json::to_string(&Config::default()).unwrap();
        assert_eq!(read(&shown), Config::default(), "{shown}");
    }

    #[test]
    fn what_can_not_be_is_refused_with_its_place() {
        let problem = |text: &str| parse::<Config>(text).unwrap_err();
        assert!(problem("cni: {instal: true}").contains("instal"));
        assert!(
            problem("# one\nidentity: Uid\nelse: 1\n").contains("line 3"),
            "{}",
            problem("# one\nidentity: Uid\nelse: 1\n")
        );
        assert!(problem("identity: Cgroups").contains("Cgroups"));
        assert!(problem("paths: {cri: run/x}").starts_with("paths.cri"));
        assert!(problem("paths: {podCgroups: [/]}").starts_with("paths.podCgroups"));
        assert!(problem("timing: {pollMilliseconds: 0}").starts_with("timing.pollMilliseconds"));
        assert!(problem("cni: {timeoutMilliseconds: 5}").starts_with("cni"));
        assert!(problem("listen: {flows: '0.0.0.0:9553'}").starts_with("listen.flows"));
        assert!(problem("exemptNamespaces: [Kube]").contains("line 1"), "{}", problem("exemptNamespaces: [Kube]"));
        let two = problem("{paths: {cri: run/x}, timing: {pollMilliseconds: 0}}");
        assert_eq!(two, "paths.cri must be an absolute path; timing.pollMilliseconds is 0; use 50 to 60000");
    }
}
