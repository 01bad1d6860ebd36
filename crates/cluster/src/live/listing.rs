//! Pods, policies and nodes as lists: for commands that compare what there is with what nodes say of it.
//!
//! Unlike [`read`](super::read), which needs the whole cluster because a policy may speak of any of it, these lists can be of
//! one namespace, for whoever may see no more.

use super::served::is_absent;
use super::{LiveError, PAGE, TRIES, about};
use crate::enforcement::enforced_kind;
use crate::feed::Page;
use crate::item::{Item, Watched};
use crate::kind::{Kind, Kinds, Reading};
use crate::local::LocalPod;
use crate::request::{LONGEST, ask};
use crate::trouble::{Cause, Failure};
use k8s_openapi::api::core::v1 as core;
use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sidewall_api::enforcement::EnforcedKind;
use sidewall_policy::index::Named;
use sidewall_policy::model::Identities;
use sidewall_policy::resolve;
use sidewall_policy::world::World;
use std::collections::{BTreeMap, BTreeSet};

/// A pod and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedPod {
    /// Its node; none where it has none yet.
    pub node: Option<String>,
    /// The pod.
    pub pod: LocalPod,
}

/// A node, as the cluster has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedNode {
    /// Its name.
    pub name: String,
    /// Its kubelet says that it is ready.
    pub ready: bool,
}

/// A policy of whatever kind.
#[derive(Clone, Debug)]
pub struct ListedPolicy {
    /// Its kind.
    pub kind: EnforcedKind,
    /// Its namespace and name.
    pub name: Named,
    /// Its generation.
    pub generation: Option<i64>,
    /// A world in which there is nothing but this policy.
    alone: World,
}

impl ListedPolicy {
    /// A policy as the API server has it. None of another kind than a policy's.
    pub fn of(kind: Kind, value: Value) -> Option<Self> {
        let enforced = match kind {
            Kind::ContainerNetworkPolicy => EnforcedKind::ContainerNetworkPolicy,
            Kind::SidecarProxy => EnforcedKind::SidecarProxy,
            Kind::NetworkPolicy => EnforcedKind::NetworkPolicy,
            Kind::MultiNetworkPolicy => EnforcedKind::MultiNetworkPolicy,
            Kind::Namespace | Kind::Node | Kind::ServiceCidr | Kind::Service | Kind::EndpointSlice | Kind::Pod => {
                return None;
            }
        };
        let name = value.named();
        let generation = value.pointer("/metadata/generation").and_then(Value::as_i64);
        let mut alone = World::default();
        match value.item(kind, None) {
            Item::Container(policy) => alone.policies.push(*policy),
            Item::Proxy(proxy) => alone.proxies.push(*proxy),
            Item::Network(policy) => alone.network_policies.push(*policy),
            Item::Multi(policy) => alone.multi_network_policies.push(*policy),
            Item::Unreadable(policy) => alone.unreadable.push(*policy),
            Item::Pod(..) | Item::Namespace(_) | Item::Service(_) | Item::Slice(_) | Item::Cidr(_) | Item::Node(_) => {
                return None;
            }
        }
        Some(Self { kind: enforced, name, generation, alone })
    }

    /// Why it can't be understood, where it can't. It isolates what it selects then.
    pub fn unreadable(&self) -> Option<&str> {
        self.alone.unreadable.first().map(|policy| policy.reason.as_str())
    }

    /// Whether it only tells what it would deny.
    pub fn is_audit(&self) -> bool {
        self.alone.policies.first().is_some_and(|policy| !policy.spec.enforces())
    }
}

/// Policies together, to find out which of them are about a pod. One may keep another from that: of the proxies that select
/// a pod, only the oldest counts.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    world: World,
    names: BTreeSet<(EnforcedKind, Named)>,
}

impl PolicySet {
    /// Adds a policy.
    pub fn add(&mut self, policy: &ListedPolicy) {
        let World { policies, network_policies, multi_network_policies, proxies, unreadable, .. } = &policy.alone;
        self.world.policies.extend(policies.iter().cloned());
        self.world.network_policies.extend(network_policies.iter().cloned());
        self.world.multi_network_policies.extend(multi_network_policies.iter().cloned());
        self.world.proxies.extend(proxies.iter().cloned());
        self.world.unreadable.extend(unreadable.iter().cloned());
        self.names.insert((policy.kind, policy.name.clone()));
    }

    /// Those that isolate the pod, or one of its containers, in some direction, or would if they were enforced.
    pub fn selecting(&self, pod: &LocalPod) -> BTreeSet<(EnforcedKind, Named)> {
        let identities = Identities::Cgroup { level: 0, containers: BTreeMap::new(), pods_level: 0, pods: 0 };
        match pod.subject(pod.addresses.clone(), None, identities, pod.claimed_networks(None)) {
            Ok(subject) => {
                let pod = resolve(&self.world, &subject);
                let by = pod.isolated_by().into_iter();
                by.filter_map(|by| Some((enforced_kind(by.kind)?, Named::new(&by.namespace, &by.name)))).collect()
            }
            // Whose containers can't be numbered, any of its namespace may be about.
            Err(_) => self.names.iter().filter(|(_, name)| name.namespace == pod.namespace).cloned().collect(),
        }
    }
}

/// Lists the pods of a namespace, or of all.
///
/// # Errors
///
/// [`LiveError::Kind`].
pub async fn pods(client: &Client, namespace: Option<&str>) -> Result<Vec<PlacedPod>, LiveError> {
    let placed = |pod: core::Pod| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|name| !name.is_empty());
        PlacedPod { node, pod: LocalPod::of(&pod) }
    };
    every(client, Kind::Pod, namespace, placed).await.map_err(|failure| of_kind(Kind::Pod, failure))
}

/// Lists the nodes.
///
/// # Errors
///
/// [`LiveError::Kind`].
pub async fn nodes(client: &Client) -> Result<Vec<ListedNode>, LiveError> {
    let listed = |node: core::Node| {
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        ListedNode { name: node.metadata.name.unwrap_or_default(), ready }
    };
    every(client, Kind::Node, None, listed).await.map_err(|failure| of_kind(Kind::Node, failure))
}

/// Lists the policies of a namespace, or of all, by kind and name. Of kinds that need not be served there are none where
/// they are not.
///
/// # Errors
///
/// [`LiveError::Kind`] for the first kind that can't be read.
pub async fn policies(client: &Client, kinds: &Kinds, namespace: Option<&str>) -> Result<Vec<ListedPolicy>, LiveError> {
    const POLICIES: [Kind; 4] =
        [Kind::ContainerNetworkPolicy, Kind::SidecarProxy, Kind::NetworkPolicy, Kind::MultiNetworkPolicy];
    let mut all = Vec::new();
    for kind in POLICIES {
        let reading = kinds.reading(kind);
        if reading == Reading::Off {
            continue;
        }
        match every(client, kind, namespace, |value: Value| ListedPolicy::of(kind, value)).await {
            Ok(listed) => all.extend(listed.into_iter().flatten()),
            Err(failure) if reading == Reading::IfServed && is_absent(client, kind, &failure).await => {}
            Err(failure) => return Err(of_kind(kind, failure)),
        }
    }
    all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    Ok(all)
}

fn of_kind(kind: Kind, failure: Failure) -> LiveError {
    let Failure { cause, message, .. } = about(kind, failure);
    LiveError::Kind { kind, cause, message }
}

/// All objects of a kind, of the best version that is served, each taken down to what matters as it comes.
async fn every<T: DeserializeOwned, R>(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
    take: impl Fn(T) -> R,
) -> Result<Vec<R>, Failure> {
    let mut paths = kind.paths().iter().peekable();
    let mut tries = 0;
    while let Some(path) = paths.peek() {
        let path = namespace.map_or_else(|| (*path).to_string(), |namespace| within(path, namespace));
        match pages(client, &path, &take).await {
            Err(failure) if failure.cause == Cause::Absent => {
                paths.next();
                if paths.peek().is_none() {
                    return Err(failure);
                }
            }
            Err(failure) if failure.cause == Cause::Expired && tries < TRIES => tries += 1,
            other => return other,
        }
    }
    Ok(Vec::new())
}

async fn pages<T: DeserializeOwned, R>(client: &Client, path: &str, take: &impl Fn(T) -> R) -> Result<Vec<R>, Failure> {
    let mut all = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page: Page<T> = ask(client, Request::new(path).list(&params), LONGEST).await?;
        all.extend(page.items.into_iter().flatten().map(take));
        match page.metadata.next.filter(|next| !next.is_empty()) {
            Some(next) => params.continue_token = Some(next),
            None => return Ok(all),
        }
    }
}

/// The path of a kind's objects in a namespace.
fn within(path: &str, namespace: &str) -> String {
    match path.rsplit_once('/') {
        Some((group, plural)) => format!("{group}/namespaces/{namespace}/{plural}"),
        None => path.to_owned(),
    }
}
