//! Pods as far as the operator reads them. There are many, and most of what they say is nothing to us.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer};

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SlimPod {
    /// Whose it is, as far as anybody asks here.
    #[serde(default, deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// What runs in it.
    #[serde(default)]
    pub spec: SlimSpec,
    /// How far it has come.
    #[serde(default)]
    pub status: SlimStatus,
}

/// The metadata that is kept. Who wrote which field (`managedFields`) is as much as all the rest, and is passed over.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    deletion_timestamp: Option<Time>,
}

fn slim_metadata<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let SlimMetadata { name, namespace, uid, resource_version, labels, annotations, deletion_timestamp } =
        SlimMetadata::deserialize(from)?;
    Ok(ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        labels,
        annotations,
        deletion_timestamp,
        ..ObjectMeta::default()
    })
}

/// What runs in a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimSpec {
    /// Its containers.
    #[serde(default)]
    pub containers: Vec<SlimContainer>,
    /// Those before them, sidecars too.
    #[serde(default)]
    pub init_containers: Vec<SlimContainer>,
    /// The node that it runs on; empty as long as it has none.
    #[serde(default)]
    pub node_name: String,
    /// Whether it shares its node's network.
    #[serde(default)]
    pub host_network: bool,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub struct SlimContainer {
    /// Its name.
    pub name: String,
    /// The ports that it declares.
    #[serde(default)]
    pub ports: Vec<SlimPort>,
}

/// A port that a container declares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimPort {
    /// Its name; empty where it has none.
    #[serde(default)]
    pub name: String,
    /// Its number.
    #[serde(default)]
    pub container_port: i32,
    /// Its protocol; empty is TCP.
    #[serde(default)]
    pub protocol: String,
}

/// How far a pod has come.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SlimStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    #[serde(default)]
    pub phase: String,
}

impl SlimPort {
    /// Its protocol, as Kubernetes has it.
    pub fn protocol(&self) -> &str {
        if self.protocol.is_empty() { "TCP" } else { &self.protocol }
    }
}

impl Resource for SlimPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group(_: &()) -> Cow<'_, str> {
        "".into()
    }

    fn version(_: &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural(_: &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
