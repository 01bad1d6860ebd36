//! What is known of the cluster: [`watching`] learns it, [`shared`] hands it on and says what has to be looked at again.

pub mod shared;
pub mod slim;
pub mod table;
pub mod watching;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Weak};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::core::PartialObjectMeta;
use kube::core::metadata::TypeMeta;
use kube::{Resource, ResourceExt};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sidewall_api::names::API_VERSION;
use sidewall_api::read::{read_policy, read_proxy, read_split};
use sidewall_api::{
    ContainerNetworkPolicy, NodeEnforcement, PodSplit, SidecarProxy, UnreadablePolicy, UnreadableSplit,
};

use crate::admission::inject::{Record, Secrets, Surroundings};
use crate::admission::probes::{Originals, read_originals};
use crate::admission::review::Cluster;
use crate::known::slim::{SlimContainer, SlimPod};
use crate::known::table::{Key, Table};
use crate::names::{ANNOTATION_REFRESHED, FILE_CONFIG};
use crate::proxies::refreshed::word;
use crate::proxies::render::{RenderError, config_name, hex};
use crate::settings::Settings;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// What is known of the cluster.
#[derive(Default)]
pub struct Known {
    /// Namespaces, each under its own name twice.
    pub namespaces: Table<Surroundings>,
    /// SidecarProxies.
    pub proxies: Table<Arc<Object<SidecarProxy>>>,
    /// ContainerNetworkPolicies.
    pub policies: Table<Arc<Object<ContainerNetworkPolicy>>>,
    /// PodSplits.
    pub splits: Table<Arc<Object<PodSplit, UnreadableSplit>>>,
    /// Split pods and their parts, whole.
    pub parts: Table<Arc<Value>>,
    /// The MultiNetworkPolicies of links, which are ours.
    pub link_policies: Table<Arc<Value>>,
    /// The networks of links, which are ours.
    pub links: Table<Arc<Value>>,
    /// Pods.
    pub pods: Table<PodFacts>,
    /// ConfigMaps with the configuration of proxies, which are ours.
    pub configs: Table<ConfigFacts>,
    /// Secrets' versions: of all namespaces under an empty name, or of single ones.
    pub secrets: BTreeMap<String, Table<String>>,
    /// What nodes say, each under an empty namespace.
    pub enforcements: Table<Arc<NodeEnforcement>>,
    pools: Pools,
}

/// An object of one of our kinds, as it could be read.
#[derive(Debug, PartialEq)]
pub struct Object<T, E = UnreadablePolicy> {
    /// Its identity.
    pub uid: String,
    /// The version of its spec.
    pub generation: i64,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// It, or why it can't be read.
    pub read: Result<T, Box<E>>,
    /// Its status, which is read even where the rest can't be; null where it has none.
    pub status: Value,
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    /// Its identity.
    pub uid: String,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Its containers, sidecars too.
    pub containers: Arc<Vec<SlimContainer>>,
    /// Its proxy; an error where what says so can't be read.
    pub fronted: Option<Result<Arc<Fronted>, String>>,
    /// When it was last told to look at its files.
    pub refreshed: Option<String>,
    /// Whether it has a node.
    pub placed: bool,
    /// Whether it shares its node's network.
    pub host_network: bool,
    /// Whether it has come to its end, or is on the way.
    pub ending: bool,
}

/// What is written on a pod about its proxy.
#[derive(Debug, PartialEq)]
pub struct Fronted {
    /// What is fixed.
    pub record: Record,
    /// What its probes asked.
    pub originals: Originals,
}

/// A ConfigMap of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFacts {
    /// Its identity.
    pub uid: String,
    /// SHA-256 of the configuration in it, in hexadecimal digits.
    pub hash: String,
    /// Of what its pods have been told.
    pub refreshed: Option<String>,
}

/// What many pods have alike, once.
#[derive(Default)]
struct Pools {
    labels: Pool<Labels, Labels>,
    containers: Pool<Vec<SlimContainer>, Vec<SlimContainer>>,
    fronted: Pool<(String, String), Fronted>,
}

/// Values that somebody has, by what they were made of.
struct Pool<K, V> {
    there: HashMap<K, Weak<V>>,
    /// At how many it is looked through for those that nobody has any more.
    look: usize,
}

impl<K, V> Default for Pool<K, V> {
    fn default() -> Self {
        Self { there: HashMap::new(), look: 64 }
    }
}

impl<K: Eq + Hash, V> Pool<K, V> {
    fn get<E>(&mut self, key: K, make: impl FnOnce(&K) -> Result<V, E>) -> Result<Arc<V>, E> {
        if let Some(value) = self.there.get(&key).and_then(Weak::upgrade) {
            return Ok(value);
        }
        let value = Arc::new(make(&key)?);
        if self.there.len() >= self.look {
            self.there.retain(|_, value| value.strong_count() > 0);
            self.look = (self.there.len() * 2).max(64);
        }
        self.there.insert(key, Arc::downgrade(&value));
        Ok(value)
    }
}

impl<T: Clone + Eq + Hash> Pool<T, T> {
    fn share(&mut self, value: T) -> Arc<T> {
        match self.get(value, |value| Ok::<_, std::convert::Infallible>(value.clone())) {
            Ok(shared) => shared,
        }
    }
}

fn key_of(object: &impl ResourceExt) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

impl Known {
    /// Whether everything has been read to its end once.
    pub fn synced(&self) -> bool {
        // The links' kinds are somebody else's, and need not be there: who needs them asks for them.
        let Self {
            namespaces,
            proxies,
            policies,
            splits,
            parts,
            pods,
            configs,
            secrets,
            enforcements,
            link_policies: _,
            links: _,
            pools: _,
        } = self;
        namespaces.synced()
            && proxies.synced()
            && policies.synced()
            && splits.synced()
            && parts.synced()
            && pods.synced()
            && configs.synced()
            && secrets.values().all(Table::synced)
            && enforcements.synced()
    }

    /// What of a pod is kept.
    pub fn pod(&mut self, pod: SlimPod) -> (Key, PodFacts) {
        let key = key_of(&pod);
        let SlimPod { metadata, spec, status } = pod;
        let annotations = metadata.annotations.unwrap_or_default();
        let labels = self.pools.labels.share(metadata.labels.unwrap_or_default());
        let containers: Vec<SlimContainer> = spec.init_containers.into_iter().chain(spec.containers).collect();
        let containers = self.pools.containers.share(containers);
        let text = |name: &str| annotations.get(name).cloned().unwrap_or_default();
        let written = (text(crate::names::ANNOTATION_PROXY), text(crate::names::ANNOTATION_PROBES));
        let fronted = (!written.0.is_empty()).then(|| {
            self.pools.fronted.get(written, |_| {
                let record = Record::read(&annotations).map_err(|refusal| refusal.to_string())?;
                let originals = read_originals(&annotations).map_err(|refusal| refusal.to_string())?;
                let record = record.ok_or_else(String::new)?;
                // Else the author of one pod could stand in for another's.
                if record.config != config_name(&record, &originals) {
                    return Err(RenderError::Name { config: record.config }.to_string());
                }
                Ok(Fronted { record, originals })
            })
        });
        let facts = PodFacts {
            uid: metadata.uid.unwrap_or_default(),
            labels,
            containers,
            fronted,
            refreshed: annotations.get(ANNOTATION_REFRESHED).cloned(),
            placed: !spec.node_name.is_empty(),
            host_network: spec.host_network,
            ending: metadata.deletion_timestamp.is_some() || matches!(status.phase.as_str(), "Succeeded" | "Failed"),
        };
        (key, facts)
    }

    /// The pods of a namespace that run, or will.
    pub fn running<'a>(&'a self, namespace: &str) -> impl Iterator<Item = (&'a String, &'a PodFacts)> + use<'a> {
        self.pods.of(namespace).filter(|(_, pod)| !pod.ending)
    }

    /// The Secrets of a namespace; none where the operator may not look.
    pub fn secrets_of(&self, namespace: &str) -> Option<&Table<String>> {
        self.secrets.get("").or_else(|| self.secrets.get(namespace))
    }

    /// Which version there is of a Secret. None where there is none, or where the operator may not look.
    pub fn secret_version(&self, namespace: &str, secret: &str) -> Option<&str> {
        self.secrets_of(namespace)?.get(namespace, secret).map(String::as_str)
    }

    /// The word by which pods are told that have this configuration and these Secrets.
    pub fn word(&self, namespace: &str, hash: &str, secrets: &Secrets) -> String {
        word(hash, secrets, |secret| self.secret_version(namespace, secret).map(str::to_owned))
    }

    /// Whether the pods of a namespace are looked at.
    pub fn opted_in(&self, namespace: &str, settings: &Settings) -> bool {
        !settings.excluded_namespaces.contains(namespace)
            && self
                .namespaces
                .get(namespace, namespace)
                .is_some_and(|surroundings| settings.namespace_selector.matches(&surroundings.labels))
    }
}

impl Cluster for Known {
    fn namespace(&self, name: &str) -> Option<&Surroundings> {
        self.namespaces.get(name, name)
    }

    fn proxies(&self, namespace: &str) -> Vec<&SidecarProxy> {
        self.proxies.of(namespace).filter_map(|(_, object)| object.read.as_ref().ok()).collect()
    }

    fn unreadable(&self, namespace: &str) -> Vec<&UnreadablePolicy> {
        self.proxies.of(namespace).filter_map(|(_, object)| object.read.as_ref().err().map(Box::as_ref)).collect()
    }

    fn secret_version(&self, namespace: &str, secret: &str) -> Option<&str> {
        self.secret_version(namespace, secret)
    }

    fn splits(&self, namespace: &str) -> Vec<&PodSplit> {
        self.splits.of(namespace).filter_map(|(_, object)| object.read.as_ref().ok()).collect()
    }

    fn unreadable_splits(&self, namespace: &str) -> Vec<&UnreadableSplit> {
        self.splits.of(namespace).filter_map(|(_, object)| object.read.as_ref().err().map(Box::as_ref)).collect()
    }
}

/// What of a namespace is kept.
pub fn namespace(object: PartialObjectMeta<Namespace>) -> (Key, Surroundings) {
    let name = object.name_any();
    let metadata = object.metadata;
    let surroundings = Surroundings {
        name: name.clone(),
        labels: metadata.labels.unwrap_or_default(),
        annotations: metadata.annotations.unwrap_or_default(),
    };
    ((name.clone(), name), surroundings)
}

/// What of a Secret is kept: never what is in it, which is not even asked for.
pub fn secret(object: PartialObjectMeta<Secret>) -> (Key, String) {
    (key_of(&object), object.metadata.resource_version.unwrap_or_default())
}

/// What of a ConfigMap is kept.
pub fn config(object: ConfigMap) -> (Key, ConfigFacts) {
    let text = object.data.as_ref().and_then(|data| data.get(FILE_CONFIG));
    let facts = ConfigFacts {
        uid: object.metadata.uid.clone().unwrap_or_default(),
        hash: text.map(|text| hex(&Sha256::digest(text))).unwrap_or_default(),
        refreshed: object.annotations().get(ANNOTATION_REFRESHED).cloned(),
    };
    (key_of(&object), facts)
}

/// What a node says.
pub fn enforcement(object: NodeEnforcement) -> (Key, Arc<NodeEnforcement>) {
    ((String::new(), object.name_any()), Arc::new(object))
}

/// A SidecarProxy, read strictly.
pub fn proxy(object: kube::api::DynamicObject) -> (Key, Arc<Object<SidecarProxy>>) {
    read(object, SidecarProxy::kind(&()).as_ref(), |value| read_proxy(value).map(|read| read.object))
}

/// A ContainerNetworkPolicy, read strictly.
pub fn policy(object: kube::api::DynamicObject) -> (Key, Arc<Object<ContainerNetworkPolicy>>) {
    read(object, ContainerNetworkPolicy::kind(&()).as_ref(), |value| read_policy(value).map(|read| read.object))
}

/// A PodSplit, read strictly.
pub fn split(object: kube::api::DynamicObject) -> (Key, Arc<Object<PodSplit, UnreadableSplit>>) {
    read(object, PodSplit::kind(&()).as_ref(), |value| read_split(value).map(|read| read.object))
}

/// An object that is kept whole, but for who wrote which field. Lists leave its kind out of their entries.
pub fn whole(mut object: kube::api::DynamicObject, kind: &TypeMeta) -> (Key, Arc<Value>) {
    let key = key_of(&object);
    object.metadata.managed_fields = None;
    object.types = Some(kind.clone());
    (key, Arc::new(serde_json::to_value(&object).unwrap_or_default()))
}

fn read<T, E>(
    mut object: kube::api::DynamicObject,
    kind: &str,
    read: impl FnOnce(Value) -> Result<T, Box<E>>,
) -> (Key, Arc<Object<T, E>>) {
    let key = key_of(&object);
    object.metadata.managed_fields = None;
    // Lists leave them out of their entries.
    object.types = Some(TypeMeta { api_version: API_VERSION.to_owned(), kind: kind.to_owned() });
    let metadata = object.metadata.clone();
    let status = object.data.as_object_mut().and_then(|data| data.remove("status")).unwrap_or_default();
    let value = serde_json::to_value(&object).unwrap_or_default();
    let object = Object {
        uid: metadata.uid.unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        created: metadata.creation_timestamp.map(|time| time.0),
        read: read(value),
        status,
    };
    (key, Arc::new(object))
}

#[cfg(test)]
mod tests;
