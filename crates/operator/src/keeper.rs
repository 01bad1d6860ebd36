//! What the leading operator keeps right: the configurations of proxies, that pods look at what has changed, and statuses.
//!
//! What is to be done is planned from what is known, at once and whole, for a namespace at a time; what fails is planned anew.

pub mod certificates;
pub mod plan;
pub mod secrets;
pub mod status;
#[cfg(test)]
mod tests;
pub mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource};
use serde_json::json;
use sidewall_api::{ContainerNetworkPolicy, NodeEnforcement, SidecarProxy};
use sidewall_cluster::census::Tally;
use sidewall_cluster::events::EventWriter;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::known::Object;
use crate::known::shared::{Shared, Subject};
use crate::known::slim::SlimPod;
use crate::known::watching::synced;
use crate::names::{ANNOTATION_REFRESHED, MANAGED_BY};
use crate::program::metrics::{Metrics, Outcome};
use crate::proxies::configs;
use crate::settings::Settings;
use crate::splitting::Splitting;
use crate::written::{WriteError, answered};
use certificates::{Issuing, issue_nothing};
use plan::{State, Wanted, plan};
use secrets::Looked;
use status::{Change, Found};

/// How many namespaces are looked at at a time.
const NAMESPACES: usize = 8;
/// How many pods of a ConfigMap are told at a time.
const PODS: usize = 8;
/// How long changes are collected before they are looked at.
const COLLECT: Duration = Duration::from_millis(50);
/// The wait before what failed is looked at again; it doubles to [`LONGEST`].
const AGAIN: Duration = Duration::from_millis(500);
/// The longest such wait.
const LONGEST: Duration = Duration::from_secs(60);
/// How long a ConfigMap is left that no pod needs: a pod that was let in may take a while to be written down.
const UNUSED: Duration = Duration::from_secs(600);
/// How many statuses of policies are written at a time.
const STATUSES: usize = 8;
/// How often policies are added up at most.
const POLICIES: Duration = Duration::from_secs(5);
/// The shortest wait before something is looked at again of which nothing has been heard.
const SOON: Duration = Duration::from_secs(1);

/// Keeps things right while it leads.
pub struct Keeper {
    /// Speaks to the API server.
    pub client: Client,
    /// What is known.
    pub shared: Arc<Shared>,
    /// What becomes of pods.
    pub settings: Arc<Settings>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Tells people.
    pub events: EventWriter,
    /// The certificates of proxies.
    pub issuing: Issuing,
    /// What is in proxies' Secrets.
    pub looked: Looked,
    /// Split pods.
    pub splitting: Splitting,
}

/// What is remembered of the work while this operator leads.
#[derive(Default)]
struct Work {
    /// What failed, when it is to be looked at again, and how often it has failed.
    failed: BTreeMap<Subject, (Instant, u32)>,
    /// Since when ConfigMaps are not needed, by namespace and name.
    unused: BTreeMap<(String, String), Instant>,
    /// What is to be looked at again although nothing has been heard, and when.
    due: BTreeMap<Subject, Instant>,
    /// When policies were looked at last.
    policies: Option<Instant>,
}

/// What came of a look.
#[derive(Default)]
struct Look {
    /// ConfigMaps that no pod needs.
    unused: BTreeSet<String>,
    /// When it is to be taken again although nothing has been heard.
    again: Option<Duration>,
}

impl Keeper {
    /// Works whenever this operator leads.
    pub async fn run(self, mut leads: watch::Receiver<bool>) {
        loop {
            if leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            synced(&self.shared).await;
            self.shared.mark_all();
            tokio::select! {
                // What is on its way is dropped: whoever leads now does it again.
                lost = leads.wait_for(|leads| !*leads) => if lost.is_err() { return },
                () = self.work() => {}
            }
        }
    }

    async fn work(&self) {
        let mut work = Work::default();
        loop {
            let now = Instant::now();
            let failed = work.failed.values().map(|(at, _)| *at);
            let unused = work.unused.values().map(|since| *since + UNUSED);
            let next = failed.chain(unused).chain(work.due.values().copied()).min().unwrap_or(now + LONGEST);
            let mut subjects = tokio::select! {
                subjects = self.shared.marked() => {
                    sleep(COLLECT).await;
                    subjects
                }
                () = sleep_until(next) => BTreeSet::new(),
            };
            let now = Instant::now();
            subjects.extend(work.failed.iter().filter(|(_, (at, _))| *at <= now).map(|(subject, _)| subject.clone()));
            let over = work.unused.iter().filter(|(_, since)| **since + UNUSED <= now);
            subjects.extend(over.map(|((namespace, _), _)| Subject::Namespace(namespace.clone())));
            subjects.extend(work.due.iter().filter(|(_, at)| **at <= now).map(|(subject, _)| subject.clone()));
            // Every node's report is news of policies: they are added up so often and not more often.
            if let Some(last) = work.policies
                && now < last + POLICIES
                && subjects.remove(&Subject::Policies)
            {
                work.due.insert(Subject::Policies, last + POLICIES);
            }
            self.look(&mut work, subjects).await;
        }
    }

    /// Looks at subjects, several at a time.
    async fn look(&self, work: &mut Work, subjects: BTreeSet<Subject>) {
        if subjects.contains(&Subject::Policies) {
            work.policies = Some(Instant::now());
        }
        let unused = &work.unused;
        let done: Vec<(Subject, Result<Look, WriteError>)> = stream::iter(subjects)
            .map(|subject| async {
                let done = match &subject {
                    Subject::Namespace(namespace) => self.namespace(namespace, unused).await,
                    Subject::Policies => self.policies().await,
                    Subject::Splits(namespace) => self
                        .splitting
                        .keep(&self.shared, &self.settings, &self.events, namespace)
                        .await
                        .map(|again| Look { unused: BTreeSet::new(), again }),
                };
                (subject, done)
            })
            .buffer_unordered(NAMESPACES)
            .collect()
            .await;
        let now = Instant::now();
        for (subject, done) in done {
            let outcome = if done.is_ok() { "done" } else { "failed" };
            self.metrics.looks.get_or_create(&Outcome { outcome }).inc();
            match done {
                Ok(Look { unused, again }) => {
                    work.failed.remove(&subject);
                    match again {
                        Some(again) => work.due.insert(subject.clone(), now + again),
                        None => work.due.remove(&subject),
                    };
                    let Subject::Namespace(namespace) = subject else { continue };
                    work.unused.retain(|(at, name), _| *at != namespace || unused.contains(name));
                    for name in unused {
                        work.unused.entry((namespace.clone(), name)).or_insert(now);
                    }
                }
                Err(error) => {
                    let tries = work.failed.get(&subject).map_or(0, |(_, tries)| *tries);
                    let wait = AGAIN.saturating_mul(1 << tries.min(10)).min(LONGEST);
                    if error.is_overtaken() {
                        tracing::debug!(?subject, "overtaken: {error}");
                    } else {
                        tracing::warn!(?subject, tries, "not done, to be tried again in {wait:?}: {error}");
                    }
                    work.due.remove(&subject);
                    work.failed.insert(subject, (now + wait, tries.saturating_add(1)));
                }
            }
        }
    }

    /// Puts a namespace right.
    async fn namespace(
        &self,
        namespace: &str,
        unused: &BTreeMap<(String, String), Instant>,
    ) -> Result<Look, WriteError> {
        let (mut plan, proxies, versions) = {
            let known = self.shared.known();
            let proxies: Vec<(String, Arc<Object<SidecarProxy>>)> =
                known.proxies.of(namespace).map(|(name, proxy)| (name.clone(), Arc::clone(proxy))).collect();
            let secrets = known.secrets_of(namespace).filter(|_| !proxies.is_empty());
            let versions: Option<BTreeMap<String, String>> = secrets
                .map(|secrets| secrets.of(namespace).map(|(name, version)| (name.clone(), version.clone())).collect());
            (plan(&known, namespace, self.settings.proxy.ports), proxies, versions)
        };
        // What can't be done keeps nothing else from being done.
        let mut first = Ok(());
        let mut note = |result: Result<(), WriteError>| {
            let done = result.is_ok();
            if first.is_ok() {
                first = result;
            }
            done
        };
        let mut written = Vec::new();
        for (name, wanted) in &plan.configs {
            if note(self.config(namespace, name, wanted).await) {
                written.push(name.clone());
            }
        }
        plan.configs.retain(|name, _| !written.contains(name));
        let now = Instant::now();
        for name in &plan.unused {
            let since = unused.get(&(namespace.to_owned(), name.clone()));
            if since.is_some_and(|since| *since + UNUSED <= now) {
                note(self.delete(namespace, name).await);
            }
        }
        let mut found = BTreeMap::new();
        let mut again: Option<Duration> = None;
        for (name, object) in &proxies {
            let Ok(proxy) = &object.read else { continue };
            let Some(versions) = &versions else {
                found.insert(name.clone(), Found { secrets: Vec::new(), certificates: issue_nothing(proxy) });
                continue;
            };
            let version = |secret: &str| versions.get(secret).cloned();
            let certificates = self.issuing.keep(proxy, version, &self.metrics).await;
            let secrets = self.looked.problems(&self.client, namespace, proxy, version).await;
            let (certificates, soonest) = match certificates {
                Ok(standings) => standings,
                Err(error) => {
                    note(Err(error));
                    continue;
                }
            };
            if let Some(soonest) = soonest {
                let wait = soonest.duration_since(SystemTime::now()).unwrap_or_default().max(SOON);
                again = Some(again.map_or(wait, |again| again.min(wait)));
            }
            match secrets {
                Ok(secrets) => {
                    found.insert(name.clone(), Found { secrets, certificates });
                }
                Err(error) => {
                    note(Err(error));
                }
            }
        }
        self.looked.keep(namespace, &proxies.into_iter().map(|(name, _)| name).collect());
        let changes =
            status::of_proxies(&self.shared.known(), namespace, &plan, &found, &self.settings, Timestamp::now());
        for change in changes {
            note(self.status::<SidecarProxy>(change).await);
        }
        first.map(|()| Look { unused: plan.unused, again })
    }

    /// Puts the statuses of policies right.
    async fn policies(&self) -> Result<Look, WriteError> {
        let now = Timestamp::now();
        let (namespaces, reports): (Vec<String>, Vec<(String, Arc<NodeEnforcement>)>) = {
            let known = self.shared.known();
            let reports = known.enforcements.all().map(|(_, node, report)| (node.clone(), Arc::clone(report)));
            (known.policies.namespaces().cloned().collect(), reports.collect())
        };
        let tally = Tally::of(reports.iter().map(|(node, report)| (node.as_str(), report.as_ref())), now);
        let mut changes = Vec::new();
        for namespace in namespaces {
            // A namespace at a time: reviews wait behind whoever has news meanwhile.
            changes.extend(status::of_policies(&self.shared.known(), &namespace, &tally, now));
            tokio::task::yield_now().await;
        }
        let until = tally.until();
        let written = stream::iter(changes).map(|change| self.status::<ContainerNetworkPolicy>(change));
        let written: Vec<Result<(), WriteError>> = written.buffer_unordered(STATUSES).collect().await;
        written.into_iter().collect::<Result<(), WriteError>>()?;
        let again = until.and_then(|until| Duration::try_from(until.duration_since(now)).ok());
        Ok(Look { unused: BTreeSet::new(), again: again.map(|again| again.max(SOON)) })
    }

    async fn status<K: Resource<DynamicType = ()>>(&self, change: Change) -> Result<(), WriteError> {
        write_status::<K>(&self.client, &self.metrics, &self.events, change).await
    }

    /// Writes a ConfigMap, has its pods look, and notes that they have been told: in this order, so that nothing is forgotten
    /// whatever fails in between.
    async fn config(&self, namespace: &str, name: &str, wanted: &Wanted) -> Result<(), WriteError> {
        let Wanted { rendered, state, word, untold } = wanted;
        let object = |told: &str| configs::object(namespace, name, rendered, told);
        match state {
            State::Missing => {
                let created = configs::create(&self.client, &object(word)).await;
                self.metrics.write("configmap", &created);
                // Where another replica of ours has just made it, the news of that are on their way, and this is looked at again.
                return match created? {
                    true => Ok(()),
                    false => self.whose(namespace, name).await,
                };
            }
            State::Outdated { told } => {
                let applied = configs::apply(&self.client, &object(told)).await;
                self.metrics.write("configmap", &applied);
                applied?;
                tracing::info!(namespace, name, "the configuration of {} pods is another", untold.len());
            }
            State::Untold | State::Newcomers => {}
        }
        let told: Vec<Result<(), WriteError>> = stream::iter(untold.clone())
            .map(|(pod, uid)| async move { self.tell(namespace, &pod, &uid, word).await })
            .buffer_unordered(PODS)
            .collect()
            .await;
        told.into_iter().collect::<Result<(), WriteError>>()?;
        if *state == State::Newcomers {
            return Ok(());
        }
        let applied = configs::apply(&self.client, &object(word)).await;
        self.metrics.write("configmap", &applied);
        applied
    }

    /// Whether a ConfigMap that is there already is ours.
    async fn whose(&self, namespace: &str, name: &str) -> Result<(), WriteError> {
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let there = answered(maps.get_opt(name)).await?;
        let ours = there.is_none_or(|map| {
            let labels = map.metadata.labels.unwrap_or_default();
            labels.get(crate::names::LABEL_MANAGED_BY).is_some_and(|by| by == MANAGED_BY)
        });
        if ours {
            return Ok(());
        }
        Err(WriteError::Foreign { kind: "ConfigMap", namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Has the kubelet look at a pod's files.
    async fn tell(&self, namespace: &str, pod: &str, uid: &str, word: &str) -> Result<(), WriteError> {
        let pods = Api::<SlimPod>::namespaced(self.client.clone(), namespace);
        // Another pod of the same name is not meant: the API server compares the identity.
        let patch = Patch::Merge(json!({"metadata": {"uid": uid, "annotations": {ANNOTATION_REFRESHED: word}}}));
        let parameters = PatchParams { field_manager: Some(MANAGED_BY.to_owned()), ..PatchParams::default() };
        let told = answered(pods.patch_metadata(pod, &parameters, &patch)).await;
        self.metrics.write("pod", &told);
        match told {
            // It is no more.
            Err(error) if error.is_overtaken() => Ok(()),
            told => told.map(drop),
        }
    }

    async fn delete(&self, namespace: &str, name: &str) -> Result<(), WriteError> {
        let Some(uid) = self.shared.known().configs.get(namespace, name).map(|there| there.uid.clone()) else {
            return Ok(());
        };
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        let deleted = answered(maps.delete(name, &parameters)).await;
        self.metrics.write("configmap", &deleted);
        match deleted {
            Err(error) if error.is_overtaken() => Ok(()),
            deleted => deleted.map(drop),
        }
    }
}

/// Writes a status, and tells of it.
pub(crate) async fn write_status<K: Resource<DynamicType = ()>>(
    client: &Client,
    metrics: &Metrics,
    events: &EventWriter,
    change: Change,
) -> Result<(), WriteError> {
    let Change { namespace, name, uid, status, notices } = change;
    let kind = ApiResource::erase::<K>(&());
    let objects = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &kind);
    let object = json!({
        "apiVersion": kind.api_version, "kind": kind.kind,
        "metadata": {"name": name, "namespace": namespace, "uid": uid},
        "status": status,
    });
    let parameters = PatchParams::apply(MANAGED_BY).force();
    let written = answered(objects.patch_status(&name, &parameters, &Patch::Apply(&object))).await;
    metrics.write("status", &written);
    match written {
        Err(error) if error.is_overtaken() => Ok(()),
        Err(error) => Err(error),
        Ok(_) => {
            notices.into_iter().for_each(|notice| events.tell(notice));
            Ok(())
        }
    }
}
