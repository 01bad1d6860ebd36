//! What is written on pods: on a primary, what has left it; on a part, whose it is.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerPort};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sidewall_api::NetworkName;
use sidewall_api::names::{ANNOTATION_PART, ANNOTATION_SPLIT, DEFAULT_NAMESPACE};

use crate::mac::{Domain, Key};
use crate::place::name_of;

/// The longest annotation [`ANNOTATION_SPLIT`], in octets: half of what the API server takes of annotations altogether.
pub const RECORD_MAX: usize = 128 * 1024;

/// The longest annotation [`ANNOTATION_PART`] that is read, in octets.
const MEMBER_MAX: usize = 1024;

/// The version of both annotations that this program writes and reads.
const VERSION: u32 = 1;

/// The service account of a pod that names none, as the API server fills it in.
const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// The annotation [`ANNOTATION_SPLIT`]: what has left a pod, verbatim, by parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// The PodSplit.
    pub split: String,
    /// The NetworkAttachmentDefinition of the link, as `namespace/name`.
    pub link: String,
    /// The parts beside the primary, in the order of the PodSplit.
    pub parts: Vec<RecordPart>,
    /// The ports that each container of the whole pod declares, wherever it is. Containers that declare none are not named.
    #[serde(default)]
    pub ports: BTreeMap<String, Vec<Port>>,
}

/// What has gone to a part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordPart {
    /// Its name.
    pub name: String,
    /// What stood in the pod's `containers`, in its order.
    pub containers: Vec<Value>,
    /// What stood in the pod's `initContainers`, in its order; native sidecars too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<Value>,
    /// The volumes that these use, by name. One that others use as well stands in each place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Value>,
    /// Annotations of the pod that are about its containers: AppArmor's, by name, of before Kubernetes 1.30.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// Its number.
    pub container_port: u16,
    /// Its name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// Why an annotation of ours is not believed, or is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// It is not there.
    #[error("the annotation {key} is not there: the pod is not split")]
    Missing {
        /// Its key.
        key: &'static str,
    },
    /// It is too long to be ours.
    #[error("the annotation {key} has {size} octets, and at most {most} are written: remove it")]
    TooLong {
        /// Its key.
        key: &'static str,
        /// How long it is.
        size: usize,
        /// How long it may be.
        most: usize,
    },
    /// It is not what we write.
    #[error("the annotation {key} is not what Sidewall writes ({path}): remove it")]
    Malformed {
        /// Its key.
        key: &'static str,
        /// Where; `.` for the whole. What stands there is not quoted.
        path: String,
    },
    /// A version that this program does not know.
    #[error(
        "the annotation {key} is of version {version}, and this program reads {VERSION}: let the pod be made anew, or upgrade"
    )]
    Version {
        /// Its key.
        key: &'static str,
        /// The version.
        version: u32,
    },
    /// The MAC is not ours, or not of this namespace, this service account and this content.
    #[error(
        "the annotation {key} was not written by this operator for this namespace and service account, or was changed: delete the \
         pod, and it is made anew"
    )]
    Mac {
        /// Its key.
        key: &'static str,
    },
}

impl Record {
    pub(crate) fn new(
        split: &str,
        link: &NetworkName,
        parts: Vec<RecordPart>,
        ports: BTreeMap<String, Vec<Port>>,
    ) -> Self {
        Self { version: VERSION, split: split.to_owned(), link: link.to_string(), parts, ports }
    }

    /// Reads the annotation of a pod **without** looking at its MAC: for who has no key, and relies on the API server to let nobody
    /// but the operator write it. Nothing may be created from it.
    ///
    /// # Errors
    ///
    /// It is not there, or not what is written.
    pub fn read(annotations: &BTreeMap<String, String>) -> Result<Self, BadRecord> {
        Self::parse(annotations).map(|(record, _, _)| record)
    }

    /// Reads the annotation of a pod, where this operator wrote it for this namespace and service account.
    ///
    /// # Errors
    ///
    /// It is not there, not what is written, or not ours.
    pub fn verify(
        annotations: &BTreeMap<String, String>,
        namespace: &str,
        service_account: Option<&str>,
        key: &Key,
    ) -> Result<Self, BadRecord> {
        let (record, content, mac) = Self::parse(annotations)?;
        let fields = [namespace, account(service_account), &content];
        if !key.is_ours(Domain::Split, &fields, &mac) {
            return Err(BadRecord::Mac { key: ANNOTATION_SPLIT });
        }
        Ok(record)
    }

    fn parse(annotations: &BTreeMap<String, String>) -> Result<(Self, String, String), BadRecord> {
        let text = annotations.get(ANNOTATION_SPLIT).ok_or(BadRecord::Missing { key: ANNOTATION_SPLIT })?;
        let (content, mac) = unsealed(text, ANNOTATION_SPLIT, RECORD_MAX)?;
        // Maps of JSON values are sorted: the text is the same whoever has written it down again.
        let canonical = content.to_string();
        let record: Self = typed(content, ANNOTATION_SPLIT)?;
        Ok((record, canonical, mac))
    }

    /// The annotation's text.
    pub(crate) fn seal(&self, namespace: &str, service_account: Option<&str>, key: &Key) -> String {
        // Numbers, text, lists and maps with text as keys: nothing of it cannot be JSON.
        let content = serde_json::to_value(self).unwrap_or_default();
        let mac = key.sign(Domain::Split, &[namespace, account(service_account), &content.to_string()]);
        sealed(content, mac)
    }

    /// The part of each container of the whole pod that is not in the primary.
    pub fn part_of(&self) -> BTreeMap<&str, &str> {
        let mut parts = BTreeMap::new();
        for part in &self.parts {
            for container in part.init_containers.iter().chain(&part.containers) {
                parts.insert(name_of(container), part.name.as_str());
            }
        }
        parts
    }
}

/// Puts a split pod together again: the pod as it would be if it were not split, as far as containers and volumes go. One that is not
/// split stays as it is.
///
/// The MAC is **not** looked at: see [`Record::read`].
///
/// # Errors
///
/// Its annotation is not what is written.
pub fn whole(pod: &Value) -> Result<Value, BadRecord> {
    match Record::read(&annotations(pod)) {
        Ok(record) => Ok(join(pod, &record)),
        Err(BadRecord::Missing { .. }) => Ok(pod.clone()),
        Err(error) => Err(error),
    }
}

pub(crate) fn join(pod: &Value, record: &Record) -> Value {
    let mut whole = pod.clone();
    let mut append = |field: &str, more: Vec<&Value>| {
        if more.is_empty() {
            return;
        }
        if let Some(spec) = whole.get_mut("spec").and_then(Value::as_object_mut) {
            let there = spec.entry(field).or_insert_with(|| json!([]));
            if there.is_null() {
                *there = json!([]);
            }
            if let Some(there) = there.as_array_mut() {
                for value in more {
                    // A volume that several use stands in the primary as well.
                    if !there.iter().any(|known| name_of(known) == name_of(value)) {
                        there.push(value.clone());
                    }
                }
            }
        }
    };
    append("containers", record.parts.iter().flat_map(|part| &part.containers).collect());
    append("initContainers", record.parts.iter().flat_map(|part| &part.init_containers).collect());
    append("volumes", record.parts.iter().flat_map(|part| &part.volumes).collect());
    let about = record.parts.iter().flat_map(|part| &part.annotations);
    if let Some(annotations) = whole.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.extend(about.map(|(key, value)| (key.clone(), json!(value))));
    }
    whole
}

/// The annotation [`ANNOTATION_PART`]: whose part a pod is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Member {
    version: u32,
    /// The primary's name.
    pub primary: String,
    /// The primary's uid.
    pub uid: String,
    /// The part.
    pub part: String,
}

impl Member {
    pub(crate) fn new(primary: &str, uid: &str, part: &str) -> Self {
        Self { version: VERSION, primary: primary.to_owned(), uid: uid.to_owned(), part: part.to_owned() }
    }

    /// Reads the annotation of a pod, where this operator wrote it for this namespace.
    ///
    /// # Errors
    ///
    /// It is not there, not what is written, or not ours.
    pub fn verify(annotations: &BTreeMap<String, String>, namespace: &str, key: &Key) -> Result<Self, BadRecord> {
        let text = annotations.get(ANNOTATION_PART).ok_or(BadRecord::Missing { key: ANNOTATION_PART })?;
        let (content, mac) = unsealed(text, ANNOTATION_PART, MEMBER_MAX)?;
        if !key.is_ours(Domain::Part, &[namespace, &content.to_string()], &mac) {
            return Err(BadRecord::Mac { key: ANNOTATION_PART });
        }
        typed(content, ANNOTATION_PART)
    }

    /// The annotation's text.
    pub(crate) fn seal(&self, namespace: &str, key: &Key) -> String {
        let content = serde_json::to_value(self).unwrap_or_default();
        let mac = key.sign(Domain::Part, &[namespace, &content.to_string()]);
        sealed(content, mac)
    }
}

fn sealed(mut content: Value, mac: String) -> String {
    if let Some(fields) = content.as_object_mut() {
        fields.insert("mac".to_owned(), json!(mac));
    }
    content.to_string()
}

fn unsealed(text: &str, key: &'static str, most: usize) -> Result<(Value, String), BadRecord> {
    if text.len() > most {
        return Err(BadRecord::TooLong { key, size: text.len(), most });
    }
    let malformed = |path: &str| BadRecord::Malformed { key, path: path.to_owned() };
    let mut content: Map<String, Value> = serde_json::from_str(text).map_err(|_| malformed("."))?;
    let mac = content.remove("mac").and_then(|mac| mac.as_str().map(str::to_owned)).ok_or_else(|| malformed("mac"))?;
    let version = content.get("version").and_then(Value::as_u64).ok_or_else(|| malformed("version"))?;
    if version != u64::from(VERSION) {
        return Err(BadRecord::Version { key, version: u32::try_from(version).unwrap_or(u32::MAX) });
    }
    Ok((Value::Object(content), mac))
}

fn typed<T: for<'de> Deserialize<'de>>(content: Value, key: &'static str) -> Result<T, BadRecord> {
    serde_path_to_error::deserialize(content)
        .map_err(|error| BadRecord::Malformed { key, path: error.path().to_string() })
}

/// The service account of a pod, whether or not the API server has filled it in.
fn account(name: Option<&str>) -> &str {
    name.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_SERVICE_ACCOUNT)
}

/// The service account that a pod names.
pub(crate) fn service_account(pod: &Value) -> Option<&str> {
    let of = |field| pod.pointer(field).and_then(Value::as_str).filter(|name| !name.is_empty());
    of("/spec/serviceAccountName").or_else(|| of("/spec/serviceAccount"))
}

/// The annotations of a pod.
pub(crate) fn annotations(pod: &Value) -> BTreeMap<String, String> {
    let all = pod.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The namespace of a pod.
pub(crate) fn namespace(pod: &Value) -> &str {
    let namespace = pod.pointer("/metadata/namespace").and_then(Value::as_str);
    namespace.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
}

/// The ports that containers declare.
pub(crate) fn declared<'a>(containers: impl Iterator<Item = &'a Container>) -> BTreeMap<String, Vec<Port>> {
    let port = |port: &ContainerPort| {
        Some(Port {
            container_port: u16::try_from(port.container_port).ok().filter(|number| *number > 0)?,
            name: port.name.clone(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        })
    };
    containers
        .map(|container| {
            (container.name.clone(), container.ports.iter().flatten().filter_map(port).collect::<Vec<_>>())
        })
        .filter(|(_, ports)| !ports.is_empty())
        .collect()
}

#[cfg(test)]
mod tests;
