//! Which cluster, as whom, and what of it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use sidewall_api::enforcement::EnforcedKind;
use sidewall_api::names::{is_dns_label, is_dns_subdomain};
use sidewall_cluster::live::Workload;

use crate::error::Error;

/// The options of every command that can ask a cluster.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// The kubeconfig [default: KUBECONFIG, ~/.kube/config, or the service account of the pod that this runs in]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace
    #[arg(long, short, value_name = "NAME", value_parser = namespace)]
    pub namespace: Option<String>,
}

impl ClusterArgs {
    /// Whether any of it is given.
    pub fn is_given(&self) -> bool {
        *self != Self::default()
    }
}

/// The options of commands that can be about one namespace or about all.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// All namespaces, which is the default
    #[arg(long, short = 'A', conflicts_with = "namespace", help_heading = "Cluster")]
    pub all_namespaces: bool,
}

/// Which further kinds of policies count. A cluster's agents are configured to read them or not.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Cluster")]
pub struct CountArgs {
    /// Whether NetworkPolicies count; `auto`: where an agent's report names one
    #[arg(long, value_enum, default_value_t, value_name = "WHETHER")]
    pub network_policies: Count,
    /// Whether MultiNetworkPolicies count; `auto`: where the cluster has them
    #[arg(long, value_enum, default_value_t, value_name = "WHETHER")]
    pub multi_network_policies: Count,
}

/// Whether a kind counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Count {
    /// As agents do unless they are told otherwise, and as far as their reports tell
    #[default]
    Auto,
    /// It counts
    Yes,
    /// It does not count
    No,
}

fn namespace(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        Ok(text.to_owned())
    } else {
        Err("a namespace's name has 1 to 63 lower-case letters, digits and hyphens".to_owned())
    }
}

/// The name of an object that may be in another namespace than the usual one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// Its namespace, where it is said.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectName {
    /// `NAME` or `NAMESPACE/NAME`.
    pub fn of(text: &str) -> Option<Self> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        (namespace.is_none_or(is_dns_label) && is_dns_subdomain(name))
            .then(|| Self { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }

    /// `PREFIX/NAME` or `PREFIX/NAMESPACE/NAME`, for one of these prefixes.
    pub fn prefixed(text: &str, prefixes: &[&str]) -> Option<Self> {
        let (prefix, rest) = text.split_once('/')?;
        prefixes.contains(&prefix).then(|| Self::of(rest))?
    }
}

/// How a pod of a cluster is written.
pub const POD: [&str; 3] = ["pod", "pods", "po"];
/// How what makes pods is written.
const WORKLOADS: [(Workload, &[&str]); 5] = [
    (Workload::Deployment, &["deployment", "deployments", "deploy"]),
    (Workload::StatefulSet, &["statefulset", "statefulsets", "sts"]),
    (Workload::DaemonSet, &["daemonset", "daemonsets", "ds"]),
    (Workload::ReplicaSet, &["replicaset", "replicasets", "rs"]),
    (Workload::Job, &["job", "jobs"]),
];
/// How a Service of a cluster is written.
pub const SERVICE: [&str; 3] = ["service", "services", "svc"];

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodPlace {
    /// In a file.
    File(PathBuf),
    /// In a cluster.
    Cluster(PodName),
}

/// How a pod of a cluster is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodName {
    /// By its own name.
    Pod(ObjectName),
    /// As one of those that something makes.
    Of(Workload, ObjectName),
}

impl PodName {
    /// `pod/NAME`, `deploy/NAMESPACE/NAME` and the like.
    fn of(text: &str) -> Option<Self> {
        if let Some(name) = ObjectName::prefixed(text, &POD) {
            return Some(Self::Pod(name));
        }
        WORKLOADS
            .iter()
            .find_map(|(workload, prefixes)| ObjectName::prefixed(text, prefixes).map(|name| Self::Of(*workload, name)))
    }
}

impl PodPlace {
    /// What the first argument of `explain` and `matrix` names. Files that happen to be called so stay reachable, unless
    /// an option speaks of a cluster.
    ///
    /// # Errors
    /// [`Error::FileOfCluster`] for a file of a cluster.
    pub fn of(path: &Path, cluster: &ClusterArgs) -> Result<Self, Error> {
        let given = cluster.is_given();
        match path.to_str().and_then(PodName::of) {
            Some(name) if given || !path.is_file() => Ok(Self::Cluster(name)),
            None if given => Err(Error::FileOfCluster(path.to_owned())),
            _ => Ok(Self::File(path.to_owned())),
        }
    }
}

/// What `status` is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A pod.
    Pod(ObjectName),
    /// A policy, of that kind or of any.
    Policy(Option<EnforcedKind>, ObjectName),
    /// A node.
    Node(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is none of pod/NAME, policy/NAME, node/NAME, pod/NAMESPACE/NAME and the like");
        let (prefix, _) = text.split_once('/').ok_or_else(form)?;
        let name = ObjectName::prefixed(text, &[prefix]).ok_or_else(form)?;
        let kind = match prefix.to_ascii_lowercase().as_str() {
            "pod" | "pods" | "po" => return Ok(Self::Pod(name)),
            "node" | "nodes" | "no" if name.namespace.is_none() => return Ok(Self::Node(name.name)),
            "policy" | "policies" => None,
            "containernetworkpolicy" | "containernetworkpolicies" | "ctnp" => {
                Some(EnforcedKind::ContainerNetworkPolicy)
            }
            "sidecarproxy" | "sidecarproxies" | "scp" => Some(EnforcedKind::SidecarProxy),
            "networkpolicy" | "networkpolicies" | "netpol" => Some(EnforcedKind::NetworkPolicy),
            "multinetworkpolicy" | "multi-networkpolicies" | "multi-networkpolicy" | "multi-policy" => {
                Some(EnforcedKind::MultiNetworkPolicy)
            }
            _ => return Err(form()),
        };
        Ok(Self::Policy(kind, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(namespace: Option<&str>, name: &str) -> ObjectName {
        ObjectName { namespace: namespace.map(str::to_owned), name: name.to_owned() }
    }

    #[test]
    fn pods_of_a_cluster_and_files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pod")).unwrap();
        std::fs::write(dir.path().join("pod/web"), "").unwrap();
        let none = ClusterArgs::default();
        let here = ClusterArgs { namespace: Some("shop".to_owned()), ..ClusterArgs::default() };
        let of = |text: &str, args: &ClusterArgs| PodPlace::of(Path::new(text), args).map_err(|e| e.to_string());
        let live = |namespace, name| Ok(PodPlace::Cluster(PodName::Pod(named(namespace, name))));
        let made = |workload, name| Ok(PodPlace::Cluster(PodName::Of(workload, named(None, name))));
        assert_eq!(of("deploy/web", &none), made(Workload::Deployment, "web"));
        assert_eq!(of("sts/web", &here), made(Workload::StatefulSet, "web"));
        assert_eq!(of("pod/web-1", &none), live(None, "web-1"));
        assert_eq!(of("po/shop/web", &here), live(Some("shop"), "web"));
        for file in ["pod.yaml", "./pod/web", "pod/Web.yaml", "pods/a/b/c", "-", "pod/", "policies/web"] {
            assert_eq!(of(file, &none), Ok(PodPlace::File(file.into())));
            assert!(of(file, &here).unwrap_err().contains("write pod/NAME"), "{file}");
        }
        // No such name begins with the slash of this file, so it is one whatever is there.
        let path = dir.path().join("pod/web");
        assert_eq!(PodPlace::of(&path, &none).ok(), Some(PodPlace::File(path)));
    }

    #[test]
    fn what_status_is_asked_about() {
        let of = |text: &str| text.parse::<Target>();
        assert_eq!(of("pod/web"), Ok(Target::Pod(named(None, "web"))));
        assert_eq!(of("pods/shop/web.1"), Ok(Target::Pod(named(Some("shop"), "web.1"))));
        assert_eq!(of("node/n1.example"), Ok(Target::Node("n1.example".to_owned())));
        assert_eq!(of("policy/shop/p"), Ok(Target::Policy(None, named(Some("shop"), "p"))));
        assert_eq!(of("ctnp/p"), Ok(Target::Policy(Some(EnforcedKind::ContainerNetworkPolicy), named(None, "p"))));
        assert_eq!(of("SidecarProxy/p"), Ok(Target::Policy(Some(EnforcedKind::SidecarProxy), named(None, "p"))));
        for bad in ["web", "", "pod/", "pod/a/b/c", "pod/../x", "node/a/b", "secret/x", "pod/Web", "policy//x"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
