//! The way to a cluster, and the words for what is there.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;

use sidewall_api::NodeEnforcement;
use sidewall_api::enforcement::EnforcedKind;
use sidewall_cluster::client::{ClientOptions, client};
use sidewall_cluster::kube::Client;
use sidewall_cluster::live::{self, PlacedPod};
use sidewall_cluster::{Kinds, Reading};
use sidewall_policy::index::Named;
use sidewall_policy::world::World;
use tokio::runtime::Builder;

use crate::args::cluster::{ClusterArgs, Count, CountArgs, ObjectName, POD, PodName, SERVICE};
use crate::error::Error;

/// A cluster as somebody may ask it.
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace of names without one.
    pub namespace: String,
}

impl Cluster {
    /// As the command line and the kubeconfig say. Nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub async fn of(args: &ClusterArgs) -> Result<Self, Error> {
        let options = ClientOptions { kubeconfig: args.kubeconfig.clone(), context: args.context.clone() };
        let client = client(&options).await?;
        let namespace = args.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        Ok(Self { client, namespace })
    }

    /// A name with its namespace.
    pub fn named(&self, name: &ObjectName) -> Named {
        Named::new(name.namespace.as_ref().unwrap_or(&self.namespace), &name.name)
    }

    /// The name of a pod. Of a workload's pods, which are all alike to policies, it is the first that is on a node and is to
    /// stay.
    ///
    /// # Errors
    /// [`Error::Live`]; [`Error::NoPodOf`].
    pub async fn pod(&self, name: &PodName) -> Result<Named, Error> {
        let (workload, name) = match name {
            PodName::Pod(name) => return Ok(self.named(name)),
            PodName::Of(workload, name) => (*workload, self.named(name)),
        };
        let selector = live::selector(&self.client, workload, &name).await?;
        let pods = live::pods(&self.client, Some(&name.namespace)).await?;
        let lives = |placed: &&PlacedPod| {
            let pod = &placed.pod;
            placed.node.is_some() && !pod.ended() && !pod.deleting && selector.matches(&pod.labels)
        };
        let first = pods.iter().filter(lives).map(|placed| &placed.pod.name).min();
        match first {
            Some(first) => Ok(Named::new(&name.namespace, first)),
            None => Err(Error::NoPodOf { kind: workload.as_str(), name }),
        }
    }
}

/// Runs what asks a cluster. The other commands start no runtime.
///
/// # Errors
/// [`Error::System`] where there can be none, and what the future ends with.
pub fn ask<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| Error::System { action: "start a runtime", source })?.block_on(future)
}

/// The policies that count, of whatever agents read.
pub fn kinds<'a>(count: &CountArgs, reports: impl IntoIterator<Item = &'a NodeEnforcement>) -> Kinds {
    let named = |report: &NodeEnforcement| {
        let policies = report.status.iter().flat_map(|status| &status.policy_list);
        policies.into_iter().any(|policy| policy.kind == EnforcedKind::NetworkPolicy)
    };
    Kinds {
        network_policies: match count.network_policies {
            Count::Auto => reports.into_iter().any(named),
            Count::Yes => true,
            Count::No => false,
        },
        multi_network_policies: match count.multi_network_policies {
            Count::Auto => Kinds::default().multi_network_policies,
            Count::Yes => Reading::Required,
            Count::No => Reading::Off,
        },
    }
}

/// The kinds of policies that count, by name, and those that don't.
pub fn counted(kinds: &Kinds) -> (Vec<&'static str>, Vec<&'static str>) {
    use sidewall_cluster::Kind;
    [Kind::ContainerNetworkPolicy, Kind::SidecarProxy, Kind::NetworkPolicy, Kind::MultiNetworkPolicy]
        .into_iter()
        .map(|kind| (kind.as_str(), kinds.reading(kind) != Reading::Off))
        .fold((Vec::new(), Vec::new()), |(mut yes, mut no), (kind, counts)| {
            if counts { &mut yes } else { &mut no }.push(kind);
            (yes, no)
        })
}

/// The addresses that words for pods and Services of a cluster stand for (`pod/NAME`, `svc/NAMESPACE/NAME`). Words of other
/// forms, and of what is not there or has no address, are left out.
pub fn addresses<'a>(
    words: impl IntoIterator<Item = &'a str>,
    namespace: &str,
    world: &World,
) -> BTreeMap<String, IpAddr> {
    let address = |word: &str| {
        let is = |named: &ObjectName, of: &str, name: &str| {
            named.name == name && named.namespace.as_deref().unwrap_or(namespace) == of
        };
        if let Some(named) = ObjectName::prefixed(word, &POD) {
            let mut alive = world.pods.iter().filter(|pod| !pod.ended && !pod.host_network);
            return alive.find(|pod| is(&named, &pod.namespace, &pod.name))?.addresses.first().copied();
        }
        let named = ObjectName::prefixed(word, &SERVICE)?;
        let mut services = world.services.iter();
        services.find(|service| is(&named, &service.namespace, &service.name))?.addresses.first().copied()
    };
    words.into_iter().filter_map(|word| Some((word.to_owned(), address(word)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidewall_api::enforcement::{NodeEnforcementSpec, NodeEnforcementStatus, PolicyEnforcement};
    use sidewall_policy::world::{Pod, Service};

    #[test]
    fn reports_tell_which_kinds_count() {
        let report = |kind| {
            let policy = PolicyEnforcement {
                kind,
                namespace: "shop".to_owned(),
                name: "p".to_owned(),
                observed_generation: Some(1),
                selected: 0,
                enforced: 0,
                unreadable: None,
            };
            let mut report = NodeEnforcement::new("n1", NodeEnforcementSpec::default());
            report.status = Some(NodeEnforcementStatus { policy_list: vec![policy], ..Default::default() });
            report
        };
        let (ours, theirs) = (report(EnforcedKind::ContainerNetworkPolicy), report(EnforcedKind::NetworkPolicy));
        let auto = CountArgs::default();
        assert_eq!(kinds(&auto, []), Kinds::default());
        assert!(!kinds(&auto, [&ours]).network_policies);
        assert!(kinds(&auto, [&ours, &theirs]).network_policies);
        let no = CountArgs { network_policies: Count::No, multi_network_policies: Count::No };
        assert_eq!(counted(&kinds(&no, [&theirs])).0, ["ContainerNetworkPolicy", "SidecarProxy"]);
        let yes = CountArgs { network_policies: Count::Yes, multi_network_policies: Count::Yes };
        assert_eq!(counted(&kinds(&yes, [])).1, [""; 0]);
    }

    #[test]
    fn words_for_what_a_cluster_has() {
        let pod = |namespace: &str, name: &str, ip: &str| Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            addresses: vec![ip.parse().unwrap()],
            ..Pod::default()
        };
        let service = Service {
            namespace: "shop".to_owned(),
            name: "db".to_owned(),
            addresses: vec!["10.96.0.7".parse().unwrap()],
            ..Service::default()
        };
        let host = Pod { host_network: true, ..pod("shop", "host", "10.0.0.9") };
        let pods = vec![pod("shop", "db", "10.0.0.1"), pod("other", "db", "10.0.0.2"), host];
        let world = World { pods, services: vec![service], ..World::default() };
        let words = ["pod/db", "po/other/db", "svc/db", "svc/other/db", "pod/host", "app", "10.0.0.1", "shop/db"];
        let found: Vec<(String, String)> =
            addresses(words, "shop", &world).into_iter().map(|(word, ip)| (word, ip.to_string())).collect();
        let found: Vec<(&str, &str)> = found.iter().map(|(word, ip)| (word.as_str(), ip.as_str())).collect();
        assert_eq!(found, [("po/other/db", "10.0.0.2"), ("pod/db", "10.0.0.1"), ("svc/db", "10.96.0.7")]);
    }
}
