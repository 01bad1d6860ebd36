//! What the leading operator does for split pods: their parts, their policies, their readiness, and the link's network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams, Preconditions,
};
use kube::{Api, Client};
use serde_json::{Value, json};
use sidewall_api::PodSplit;
use sidewall_api::names::{GATE_PARTS_READY, LABEL_PART, LABEL_PRIMARY, PRIMARY};
use sidewall_cluster::events::{EventWriter, Notice, Regarding};
use sidewall_policy::World;
use sidewall_policy::world::Unreadable;
use sidewall_split::{Key, PartPod, network, policies};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::json::{condition, has_gate, text, uid};
use super::plan::{Act, Plan, Seen, Standing, is_there, plan};
use super::status;
use crate::keeper::write_status;
use crate::known::Known;
use crate::known::shared::Shared;
use crate::names::MANAGED_BY;
use crate::program::hooks;
use crate::program::metrics::Metrics;
use crate::settings::Settings;
use crate::written::{WriteError, answered};

/// The wait before a part that has failed is made again; it doubles to [`LONGEST`].
const AGAIN: Duration = Duration::from_secs(10);
/// The longest such wait, as the kubelet's for containers.
const LONGEST: Duration = Duration::from_secs(300);
/// How long it is until what was too early is looked at again.
const EARLY: Duration = Duration::from_secs(1);
/// How long a part must have lasted for its failures to be forgotten.
const LASTED: Duration = Duration::from_secs(600);

/// A kind of somebody else's that a link is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkKind {
    /// Its group.
    group: &'static str,
    /// Its version.
    version: &'static str,
    /// Both.
    pub api_version: &'static str,
    /// Its name.
    pub kind: &'static str,
    /// Its name in the API's paths.
    plural: &'static str,
}

/// The network of a link.
pub const NETWORK: LinkKind = LinkKind {
    group: "k8s.cni.cncf.io",
    version: "v1",
    api_version: "k8s.cni.cncf.io/v1",
    kind: "NetworkAttachmentDefinition",
    plural: "network-attachment-definitions",
};

/// A policy of a link.
pub const POLICY: LinkKind = LinkKind {
    group: "k8s.cni.cncf.io",
    version: "v1beta1",
    api_version: "k8s.cni.cncf.io/v1beta1",
    kind: "MultiNetworkPolicy",
    plural: "multi-networkpolicies",
};

impl LinkKind {
    /// How the API server is asked for it.
    pub fn resource(self) -> ApiResource {
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(self.group, self.version, self.kind), self.plural)
    }
}

/// Keeps split pods right.
pub struct Splitting {
    client: Client,
    /// The operator's own namespace.
    namespace: String,
    /// The operator's key, once it has been read.
    key: OnceCell<Key>,
    metrics: Arc<Metrics>,
    /// The failures of parts, by the primary's uid and the part.
    failures: Mutex<BTreeMap<(String, String), Failures>>,
}

/// How often a part has failed.
#[derive(Clone, Copy, Debug)]
struct Failures {
    /// How often in a row.
    count: u32,
    /// When last.
    last: Instant,
}

impl Failures {
    /// When it may be made again.
    fn until(self) -> Instant {
        self.last + AGAIN.saturating_mul(1 << self.count.saturating_sub(1).min(10)).min(LONGEST)
    }
}

/// What is known of a namespace's split pods.
struct Namespace {
    primaries: Vec<Arc<Value>>,
    pods: BTreeMap<String, Arc<Value>>,
    policies: BTreeMap<String, Arc<Value>>,
    world: World,
}

impl Splitting {
    /// Speaks to the API server by `client`, for the operator that runs in `namespace`.
    pub fn new(client: Client, namespace: String, metrics: Arc<Metrics>) -> Self {
        Self { client, namespace, key: OnceCell::new(), metrics, failures: Mutex::default() }
    }

    /// The operator's key: waits until it can be read.
    async fn key(&self) -> &Key {
        self.key.get_or_init(|| async { hooks::secret(&self.client, &self.namespace).await.splits() }).await
    }

    /// Puts the split pods of a namespace right. When it is to be looked at again although nothing has been heard.
    ///
    /// # Errors
    ///
    /// The first thing that could not be done; what it does not stop is done all the same.
    pub async fn keep(
        &self,
        shared: &Shared,
        settings: &Settings,
        events: &EventWriter,
        namespace: &str,
    ) -> Result<Option<Duration>, WriteError> {
        let found = match look(&shared.known(), namespace) {
            Looked::Nothing => return Ok(None),
            Looked::TooEarly => return Ok(Some(EARLY)),
            Looked::Found(found) => *found,
        };
        let key = self.key().await;
        let mut first = Ok(());
        let mut note = |result: Result<(), WriteError>| {
            let done = result.is_ok();
            if first.is_ok() && !result.as_ref().is_err_and(WriteError::is_overtaken) {
                first = result;
            }
            done
        };
        let wanted = wanted_by_splits(&shared.known(), namespace);
        for object in wanted {
            note(self.apply(namespace, &object).await);
        }
        let mut again: Option<Duration> = None;
        let mut standings = BTreeMap::new();
        let pods: BTreeMap<String, &Value> = found.pods.iter().map(|(name, pod)| (name.clone(), &**pod)).collect();
        let policies: BTreeMap<String, &Value> =
            found.policies.iter().map(|(name, policy)| (name.clone(), &**policy)).collect();
        for primary in &found.primaries {
            let (resting, wait) = self.resting(uid(primary));
            again = [again, wait].into_iter().flatten().min();
            let seen = Seen { primary, pods: &pods, policies: &policies, world: &found.world, key, resting: &resting };
            let Plan { acts, standing } = plan(&seen);
            for act in acts {
                match self.act(namespace, primary, act, events).await {
                    Ok(()) => {}
                    // What follows would be done for a pod that we know too little of.
                    Err(error) => {
                        note(Err(error));
                        break;
                    }
                }
            }
            note(self.gate(namespace, primary, &standing, events).await);
            standings.insert(uid(primary).to_owned(), standing);
        }
        self.forget(&found.primaries);
        let changes = status::of_splits(&shared.known(), namespace, &standings, settings, Timestamp::now());
        for change in changes {
            note(write_status::<PodSplit>(&self.client, &self.metrics, events, change).await);
        }
        first.map(|()| again)
    }

    /// The parts of a primary that failed a short while ago, and when the first of them may be made again.
    fn resting(&self, primary: &str) -> (BTreeSet<String>, Option<Duration>) {
        let now = Instant::now();
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = failures.iter().filter(|((uid, _), failures)| uid == primary && failures.until() > now);
        let resting: Vec<(&String, Instant)> = of_it.map(|((_, part), failures)| (part, failures.until())).collect();
        let wait = resting.iter().map(|(_, until)| until.duration_since(now)).min();
        (resting.into_iter().map(|(part, _)| part.clone()).collect(), wait)
    }

    fn has_failed(&self, primary: &str, part: &str) {
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = failures.entry((primary.to_owned(), part.to_owned())).or_insert(Failures { count: 0, last: now });
        entry.count = if now.duration_since(entry.last) > LASTED { 1 } else { entry.count.saturating_add(1) };
        entry.last = now;
    }

    /// Forgets the failures of pods that are no more.
    fn forget(&self, primaries: &[Arc<Value>]) {
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|(primary, _), failures| {
            now.duration_since(failures.last) < LASTED || primaries.iter().any(|pod| uid(pod) == primary)
        });
    }

    async fn act(&self, namespace: &str, primary: &Value, act: Act, events: &EventWriter) -> Result<(), WriteError> {
        match act {
            Act::Name => self.name(namespace, primary).await,
            Act::Policy(policy) => self.apply(namespace, &policy).await,
            Act::Create(part) => self.create(namespace, primary, &part, events).await,
            Act::Delete { name, uid: pod, failed } => {
                self.delete(namespace, &name, pod).await?;
                if let Some(why) = failed {
                    let part = self.part_of(primary, &name);
                    self.has_failed(uid(primary), &part);
                    let note = format!("part {part} ({name}) has failed and is made again: {why}");
                    events.tell(notice(primary, "PartFailed", "Recreate", note));
                }
                Ok(())
            }
        }
    }

    /// The part that a pod of this name is.
    fn part_of(&self, primary: &Value, pod: &str) -> String {
        let parts = self.key.get().and_then(|key| sidewall_split::parts(primary, key).ok()).unwrap_or_default();
        parts.into_iter().find(|part| part.name == pod).map(|part| part.part).unwrap_or_default()
    }

    /// Writes the primary's uid into its label.
    async fn name(&self, namespace: &str, primary: &Value) -> Result<(), WriteError> {
        let labels = json!({LABEL_PART: PRIMARY, LABEL_PRIMARY: uid(primary)});
        let patch = Patch::Merge(json!({"metadata": {"uid": uid(primary), "labels": labels}}));
        let name = text(primary, "/metadata/name").unwrap_or_default();
        let written = answered(self.pods(namespace).patch(name, &parameters(), &patch)).await;
        self.metrics.write("pod", &written);
        written.map(drop)
    }

    async fn create(
        &self,
        namespace: &str,
        primary: &Value,
        part: &PartPod,
        events: &EventWriter,
    ) -> Result<(), WriteError> {
        let pod: DynamicObject = serde_json::from_value(part.pod.clone()).map_err(WriteError::Object)?;
        let created = answered(self.pods(namespace).create(&PostParams::default(), &pod)).await;
        self.metrics.write("part", &created);
        match created {
            Ok(_) => {
                tracing::info!(namespace, pod = part.name, "part {} of a split pod is made", part.part);
                Ok(())
            }
            // Ours, of which the news are on their way, or somebody else's.
            Err(error) if error.is_overtaken() => {
                let there = answered(self.pods(namespace).get_opt(&part.name)).await?;
                let owners = there.iter().flat_map(|pod| pod.metadata.owner_references.iter().flatten());
                if there.is_none() || owners.into_iter().any(|owner| owner.uid == uid(primary)) {
                    return Ok(());
                }
                let (kind, name) = ("Pod", part.name.clone());
                Err(WriteError::Foreign { kind, namespace: namespace.to_owned(), name })
            }
            // A quota, an admission plugin, a claim: whoever made the pod must know.
            Err(error) => {
                let note = format!("part {} can't be made: {error}", part.part);
                events.tell(notice(primary, "PartRefused", "Create", note));
                Err(error)
            }
        }
    }

    async fn delete(&self, namespace: &str, name: &str, uid: String) -> Result<(), WriteError> {
        let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        let deleted = answered(self.pods(namespace).delete(name, &parameters)).await;
        self.metrics.write("part", &deleted);
        match deleted {
            Err(error) if error.is_overtaken() => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    /// Writes an object that is ours whole: a policy, or a network.
    async fn apply(&self, namespace: &str, object: &Value) -> Result<(), WriteError> {
        let kind = if text(object, "/kind") == Some(NETWORK.kind) { NETWORK } else { POLICY };
        let resource = kind.resource();
        let objects = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource);
        let name = text(object, "/metadata/name").unwrap_or_default();
        let there = answered(objects.get_metadata_opt(name)).await?;
        let ours = there.is_none_or(|there| {
            there
                .metadata
                .labels
                .unwrap_or_default()
                .get(crate::names::LABEL_MANAGED_BY)
                .is_some_and(|by| by == MANAGED_BY)
        });
        if !ours {
            return Err(WriteError::Foreign {
                kind: kind.kind,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            });
        }
        let parameters = PatchParams::apply(MANAGED_BY).force();
        let applied = answered(objects.patch(name, &parameters, &Patch::Apply(object))).await;
        self.metrics.write(if kind == NETWORK { "network" } else { "multinetworkpolicy" }, &applied);
        applied.map(drop)
    }

    /// Opens or closes the primary's readiness gate, and tells of what people must do.
    async fn gate(
        &self,
        namespace: &str,
        primary: &Value,
        standing: &Standing,
        events: &EventWriter,
    ) -> Result<(), WriteError> {
        let Some(status::Gate { open, reason, message, tell }) = status::gate(standing) else { return Ok(()) };
        if !has_gate(primary, GATE_PARTS_READY) {
            return Ok(());
        }
        let wanted = (if open { "True" } else { "False" }, reason, message.as_str());
        let before = condition(primary, GATE_PARTS_READY);
        if before == Some(wanted) {
            return Ok(());
        }
        let changed = before.is_none_or(|before| before.0 != wanted.0);
        let since = before_since(primary).filter(|_| !changed);
        let name = text(primary, "/metadata/name").unwrap_or_default();
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "uid": uid(primary)},
            "status": {"conditions": [{
                "type": GATE_PARTS_READY, "status": wanted.0, "reason": reason, "message": message,
                "lastTransitionTime": since.unwrap_or_else(|| Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            }]},
        });
        let parameters = PatchParams::apply(MANAGED_BY).force();
        let written = answered(self.pods(namespace).patch_status(name, &parameters, &Patch::Apply(&object))).await;
        self.metrics.write("gate", &written);
        match written {
            Err(error) if error.is_overtaken() => return Ok(()),
            written => written.map(drop)?,
        }
        if tell {
            events.tell(notice(primary, reason, "Split", message));
        }
        Ok(())
    }

    fn pods(&self, namespace: &str) -> Api<DynamicObject> {
        let pod = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
        Api::namespaced_with(self.client.clone(), namespace, &pod)
    }
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(MANAGED_BY.to_owned()), ..PatchParams::default() }
}

fn before_since(primary: &Value) -> Option<String> {
    let conditions = primary.pointer("/status/conditions").and_then(Value::as_array)?;
    let found = conditions.iter().find(|condition| text(condition, "/type") == Some(GATE_PARTS_READY))?;
    text(found, "/lastTransitionTime").map(str::to_owned)
}

fn notice(primary: &Value, reason: &str, action: &str, note: String) -> Notice {
    let of = |pointer| text(primary, pointer).unwrap_or_default();
    Notice {
        regarding: Regarding::pod(of("/metadata/namespace"), of("/metadata/name"), uid(primary)),
        reason: reason.to_owned(),
        action: action.to_owned(),
        note,
        warning: true,
    }
}

/// What comes of a look at a namespace.
enum Looked {
    /// It has no split pod and no PodSplit.
    Nothing,
    /// Too little is known yet.
    TooEarly,
    /// It has.
    Found(Box<Namespace>),
}

/// What is known of a namespace's split pods.
fn look(known: &Known, namespace: &str) -> Looked {
    let mut split = known.parts.of(namespace).peekable();
    if split.peek().is_none() && known.splits.of(namespace).next().is_none() {
        return Looked::Nothing;
    }
    if !known.parts.synced() || !known.link_policies.synced() || !known.links.synced() {
        return Looked::TooEarly;
    }
    let pods: BTreeMap<String, Arc<Value>> = split.map(|(name, pod)| (name.clone(), Arc::clone(pod))).collect();
    let is_primary = |pod: &Value| text(pod, "/metadata/labels/sidewall.dev~1part") == Some(PRIMARY);
    let primaries = pods.values().filter(|pod| is_primary(pod)).cloned().collect();
    let policies = known.link_policies.of(namespace).map(|(name, policy)| (name.clone(), Arc::clone(policy))).collect();
    Looked::Found(Box::new(Namespace { primaries, pods, policies, world: world(known, namespace) }))
}

/// What the policies of a namespace's pods are resolved with, as far as the pods' own containers are concerned.
fn world(known: &Known, namespace: &str) -> World {
    let labels = known.namespaces.get(namespace, namespace).map(|surroundings| surroundings.labels.clone());
    let read = |unreadable: &sidewall_api::UnreadablePolicy| Unreadable::from(unreadable);
    let policies = || known.policies.of(namespace).map(|(_, object)| &object.read);
    let proxies = || known.proxies.of(namespace).map(|(_, object)| &object.read);
    let unreadable = policies().filter_map(|read| read.as_ref().err()).map(|found| read(found));
    let unreadable = unreadable.chain(proxies().filter_map(|read| read.as_ref().err()).map(|found| read(found)));
    World {
        namespaces: labels.map(|labels| (namespace.to_owned(), labels)).into_iter().collect(),
        policies: policies().filter_map(|read| read.as_ref().ok().cloned()).collect(),
        proxies: proxies().filter_map(|read| read.as_ref().ok().cloned()).collect(),
        unreadable: unreadable.collect(),
        ..World::default()
    }
}

/// The networks and policies that PodSplits need whatever pods there are, and that are missing or others than they should be.
fn wanted_by_splits(known: &Known, namespace: &str) -> Vec<Value> {
    let there = |table: &crate::known::table::Table<Arc<Value>>| -> BTreeMap<String, Arc<Value>> {
        table.of(namespace).map(|(name, object)| (name.clone(), Arc::clone(object))).collect()
    };
    let (links, rules) = (there(&known.links), there(&known.link_policies));
    let links: BTreeMap<String, &Value> = links.iter().map(|(name, object)| (name.clone(), &**object)).collect();
    let rules: BTreeMap<String, &Value> = rules.iter().map(|(name, object)| (name.clone(), &**object)).collect();
    let splits = known.splits.of(namespace).filter_map(|(_, object)| object.read.as_ref().ok());
    let mut wanted = Vec::new();
    for split in splits {
        // Closed before it is there: the policy first.
        wanted.extend(Some(policies::pending(split)).filter(|policy| !is_there(policy, &rules)));
        wanted.extend(network::definition(split).filter(|network| !is_there(network, &links)));
    }
    wanted
}
