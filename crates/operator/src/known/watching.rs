//! The watches: what the API server tells becomes what is known, and marks what it may change.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::api::{ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::core::metadata::TypeMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use sidewall_api::names::LABEL_PART;
use sidewall_api::{ContainerNetworkPolicy, NodeEnforcement, PodSplit, SidecarProxy};
use tokio::task::JoinSet;

use crate::known::shared::{Shared, Subject};
use crate::known::slim::SlimPod;
use crate::known::table::{Key, Table};
use crate::known::{self, Known};
use crate::names::{LABEL_MANAGED_BY, MANAGED_BY};
use crate::program::config::SecretScope;
use crate::splitting::keeping::{LinkKind, NETWORK, POLICY};

/// How long a watch without news lasts, in seconds: a connection that was lost without a word is noticed within it.
const WATCH: u32 = 120;

/// How long it takes at most until it is noticed that there is something to be split.
const NEEDED: Duration = Duration::from_millis(500);

/// How many pods are listed at a time: a page is held whole.
const PODS: u32 = 100;

/// How long no news may come before that is told, in seconds: a watch that ends is begun again at once.
const PATIENCE: i64 = 5;
/// The longest wait before a watch that failed is begun again. The usual half a minute is how long a changed password would go on
/// once the API server is back, and our watches are few.
const LONGEST: Duration = Duration::from_secs(4);

/// The watches, until they are dropped.
pub fn start(client: &Client, shared: &Arc<Shared>, secrets: &SecretScope) -> JoinSet<()> {
    let mut watches = JoinSet::new();
    let all = watcher::Config::default().timeout(WATCH);
    let ours = all.clone().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));
    watches.spawn(follow(
        Arc::clone(shared),
        Watch {
            kind: "namespaces".to_owned(),
            marks: |namespaces| namespaces.into_iter().map(Subject::Namespace).collect(),
        },
        watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), all.clone()),
        |_, object| known::namespace(object),
        |known| &mut known.namespaces,
    ));
    watches.spawn(follow(
        Arc::clone(shared),
        Watch { kind: "sidecarproxies".to_owned(), marks: in_namespaces_and_splits },
        watcher(dynamic::<SidecarProxy>(client), all.clone()),
        |_, object| known::proxy(object),
        |known| &mut known.proxies,
    ));
    watches.spawn(follow(
        Arc::clone(shared),
        Watch { kind: "containernetworkpolicies".to_owned(), marks: of_policies_and_splits },
        watcher(dynamic::<ContainerNetworkPolicy>(client), all.clone()),
        |_, object| known::policy(object),
        |known| &mut known.policies,
    ));
    watches.spawn(follow(
        Arc::clone(shared),
        Watch { kind: "podsplits".to_owned(), marks: in_splits },
        watcher(dynamic::<PodSplit>(client), all.clone()),
        |_, object| known::split(object),
        |known| &mut known.splits,
    ));
    let split = all.clone().labels(LABEL_PART).page_size(PODS);
    watches.spawn(follow(
        Arc::clone(shared),
        Watch { kind: "parts".to_owned(), marks: in_splits },
        watcher(dynamic::<Pod>(client), split),
        |_, object| known::whole(object, &types("v1", "Pod")),
        |known| &mut known.parts,
    ));
    let (of_links, networks) = (shared.clone(), shared.clone());
    let (policies, definitions) = (watched(client, POLICY), watched(client, NETWORK));
    let (ours_too, ours_as_well) = (ours.clone(), ours.clone());
    watches.spawn(async move {
        needed(&of_links).await;
        let watch = Watch { kind: "multinetworkpolicies".to_owned(), marks: in_splits };
        let keep = |_: &mut Known, object| known::whole(object, &types(POLICY.api_version, POLICY.kind));
        follow(of_links, watch, watcher(policies, ours_too), keep, |known| &mut known.link_policies).await;
    });
    watches.spawn(async move {
        needed(&networks).await;
        let watch = Watch { kind: "networkattachmentdefinitions".to_owned(), marks: in_splits };
        let keep = |_: &mut Known, object| known::whole(object, &types(NETWORK.api_version, NETWORK.kind));
        follow(networks, watch, watcher(definitions, ours_as_well), keep, |known| &mut known.links).await;
    });
    watches.spawn(follow(
        Arc::clone(shared),
        Watch { kind: "pods".to_owned(), marks: in_namespaces_and_splits },
        watcher(Api::<SlimPod>::all(client.clone()), all.clone().page_size(PODS)),
        Known::pod,
        |known| &mut known.pods,
    ));
    watches.spawn(follow(
        Arc::clone(shared),
        Watch { kind: "configmaps".to_owned(), marks: in_namespaces },
        watcher(Api::<ConfigMap>::all(client.clone()), ours),
        |_, object| known::config(object),
        |known| &mut known.configs,
    ));
    // An empty name is all of them.
    let scopes = match secrets {
        SecretScope::Everywhere(_) => BTreeSet::from([String::new()]),
        SecretScope::In(namespaces) => namespaces.clone(),
    };
    shared.learn().secrets = scopes.iter().map(|scope| (scope.clone(), Table::default())).collect();
    for scope in scopes {
        let (kind, secrets) = match scope.is_empty() {
            true => ("secrets".to_owned(), Api::<PartialObjectMeta<Secret>>::all(client.clone())),
            false => (format!("secrets of {scope}"), Api::namespaced(client.clone(), &scope)),
        };
        watches.spawn(follow(
            Arc::clone(shared),
            Watch { kind, marks: in_namespaces },
            watcher(secrets, all.clone()),
            |_, object| known::secret(object),
            move |known| known.secrets.entry(scope.clone()).or_default(),
        ));
    }
    watches.spawn(follow(
        Arc::clone(shared),
        Watch { kind: "nodeenforcements".to_owned(), marks: of_policies },
        watcher(Api::<NodeEnforcement>::all(client.clone()), all),
        |_, object| known::enforcement(object),
        |known| &mut known.enforcements,
    ));
    watches
}

/// Objects of one of our kinds as they are: reading them strictly is our own business.
fn dynamic<K: Resource<DynamicType = ()>>(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<K>(&()))
}

/// Waits until there is anything to be split: before that the kinds of others that links are made of are nothing to us, and need not
/// be there.
async fn needed(shared: &Shared) {
    loop {
        {
            let known = shared.known();
            if !known.splits.is_empty() || !known.parts.is_empty() {
                return;
            }
        }
        tokio::time::sleep(NEEDED).await;
    }
}

fn types(api_version: &str, kind: &str) -> TypeMeta {
    TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() }
}

fn watched(client: &Client, kind: LinkKind) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &kind.resource())
}

fn in_splits(namespaces: BTreeSet<String>) -> Vec<Subject> {
    namespaces.into_iter().map(Subject::Splits).collect()
}

fn in_namespaces_and_splits(namespaces: BTreeSet<String>) -> Vec<Subject> {
    in_splits(namespaces.clone()).into_iter().chain(in_namespaces(namespaces)).collect()
}

fn in_namespaces(namespaces: BTreeSet<String>) -> Vec<Subject> {
    namespaces.into_iter().map(Subject::Namespace).collect()
}

fn of_policies(namespaces: BTreeSet<String>) -> Vec<Subject> {
    if namespaces.is_empty() { Vec::new() } else { vec![Subject::Policies] }
}

fn of_policies_and_splits(namespaces: BTreeSet<String>) -> Vec<Subject> {
    of_policies(namespaces.clone()).into_iter().chain(in_splits(namespaces)).collect()
}

/// The usual waits, and none longer than [`LONGEST`].
#[derive(Default)]
struct Waits(DefaultBackoff);

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|wait| wait.min(LONGEST))
    }
}

impl Backoff for Waits {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// What is watched.
struct Watch {
    /// Its plural name, and of which namespace if not of all.
    kind: String,
    /// What is to be looked at again when something changes in some namespaces.
    marks: fn(BTreeSet<String>) -> Vec<Subject>,
}

async fn follow<K, T>(
    shared: Arc<Shared>,
    watch: Watch,
    events: impl futures::Stream<Item = watcher::Result<Event<K>>> + Send,
    keep: impl Fn(&mut Known, K) -> (Key, T) + Send,
    table: impl Fn(&mut Known) -> &mut Table<T> + Send,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    T: PartialEq + Send,
{
    let mut events = pin!(events.backoff(Waits::default()));
    let kind = watch.kind.as_str();
    let mut told = false;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                let reason = error.to_string();
                let since = shared.trouble(kind, reason.clone());
                let late = Timestamp::now().duration_since(since).as_secs() >= PATIENCE;
                if late && !std::mem::replace(&mut told, true) {
                    tracing::warn!(kind, "no news come, and what was known last counts: {reason}");
                }
                continue;
            }
        };
        // A new list has only begun: the API server may still refuse it.
        if !matches!(event, Event::Init) {
            shared.well(kind);
            if std::mem::take(&mut told) {
                tracing::info!(kind, "news come again");
            }
        }
        let changed = {
            let mut known = shared.learn();
            let event = match event {
                Event::Init => Event::Init,
                Event::InitDone => Event::InitDone,
                Event::InitApply(object) => Event::InitApply(keep(&mut known, object)),
                Event::Apply(object) => Event::Apply(keep(&mut known, object)),
                Event::Delete(object) => Event::Delete(keep(&mut known, object)),
            };
            table(&mut known).note(event)
        };
        shared.mark((watch.marks)(changed));
    }
}

/// Waits until everything has been read to its end once.
pub async fn synced(shared: &Shared) {
    while !shared.known().synced() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
