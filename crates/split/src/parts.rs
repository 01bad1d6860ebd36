//! The pods of a primary's other parts.

use serde_json::{Map, Value, json};
use sidewall_api::NetworkName;
use sidewall_api::names::{
    ANNOTATION_LINK, ANNOTATION_NETWORKS, ANNOTATION_PART, LABEL_PART, LABEL_PRIMARY, is_dns_label,
};

use crate::downward::Identity;
use crate::mac::Key;
use crate::names::part_pod;
use crate::network::attach_only;
use crate::record::{BadRecord, Member, Record, RecordPart, annotations, namespace, service_account};

/// What each part has of its pod as it is: what its containers, or whoever starts them, need. The rest is said in the crate's own
/// words, with the reasons.
const CARRIED: [&str; 21] = [
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostIPC",
    "hostPID",
    "hostUsers",
    "imagePullSecrets",
    "os",
    "priorityClassName",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "hostname",
];

/// The pod of a part.
#[derive(Clone, PartialEq)]
pub struct PartPod {
    /// The part.
    pub part: String,
    /// The pod's name. It is the same at every try.
    pub name: String,
    /// The pod, as JSON: it may have fields that this version does not know.
    pub pod: Value,
}

// By hand: a pod may have passwords in its environment.
impl std::fmt::Debug for PartPod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartPod").field("part", &self.part).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why no parts can be made of a pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartsError {
    /// Its annotation is not believed: nothing is created from it.
    #[error(transparent)]
    Untrusted(#[from] BadRecord),
    /// It has no node yet: its parts go where it goes.
    #[error("the pod has no node yet")]
    NoNode,
    /// It has no name or uid: it has not been created.
    #[error("the pod has no name or no uid: it has not been created")]
    NotCreated,
}

/// The pods of a primary's other parts, in the order of the PodSplit, for a primary that has been created and has a node.
///
/// The MAC is looked at first: of a pod whose annotation this operator did not write for its namespace and service account, nothing
/// is made.
///
/// # Errors
///
/// Why there are none.
pub fn parts(primary: &Value, key: &Key) -> Result<Vec<PartPod>, PartsError> {
    let told = annotations(primary);
    let record = Record::verify(&told, namespace(primary), service_account(primary), key)?;
    let text = |pointer: &str| primary.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (name, uid) = text("/metadata/name").zip(text("/metadata/uid")).ok_or(PartsError::NotCreated)?;
    let node = text("/spec/nodeName").ok_or(PartsError::NoNode)?;
    let labels = primary.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let identity = Identity {
        name: name.to_owned(),
        uid: uid.to_owned(),
        labels: labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
        annotations: told,
    };
    let link = NetworkName::parse(&record.link, namespace(primary))
        .ok_or_else(|| BadRecord::Malformed { key: sidewall_api::names::ANNOTATION_SPLIT, path: "link".to_owned() })?;
    let making = Making { primary, identity: &identity, node, link: &link, key };
    Ok(record.parts.iter().map(|part| making.part(part)).collect())
}

struct Making<'a> {
    primary: &'a Value,
    identity: &'a Identity,
    node: &'a str,
    link: &'a NetworkName,
    key: &'a Key,
}

impl Making<'_> {
    fn part(&self, part: &RecordPart) -> PartPod {
        let Identity { name: primary, uid, .. } = self.identity;
        let name = part_pod(primary, uid, &part.name);
        let namespace = namespace(self.primary);
        let mut annotations: Map<String, Value> =
            part.annotations.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let member = Member::new(primary, uid, &part.name).seal(namespace, self.key);
        annotations.insert(ANNOTATION_PART.to_owned(), json!(member));
        annotations.insert(ANNOTATION_LINK.to_owned(), json!(self.link.to_string()));
        annotations.insert(ANNOTATION_NETWORKS.to_owned(), json!(attach_only(self.link)));
        let metadata = json!({
            "name": name,
            "namespace": namespace,
            "labels": {
                LABEL_PART: part.name,
                LABEL_PRIMARY: uid,
                "app.kubernetes.io/managed-by": "sidewall-operator",
            },
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Pod", "name": primary, "uid": uid,
                "controller": true, "blockOwnerDeletion": false,
            }],
        });
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": self.spec(part)});
        PartPod { part: part.name.clone(), name, pod }
    }

    fn spec(&self, part: &RecordPart) -> Value {
        let mut spec = Map::new();
        let own = self.primary.get("spec");
        for field in CARRIED {
            if let Some(value) = own.and_then(|own| own.get(field)).filter(|value| !value.is_null()) {
                spec.insert(field.to_owned(), value.clone());
            }
        }
        // What a container takes for its host's name is the primary's, as before.
        if !spec.contains_key("hostname") && is_dns_label(&self.identity.name) {
            spec.insert("hostname".to_owned(), json!(self.identity.name));
        }
        spec.insert("affinity".to_owned(), on_node(self.node));
        let is_sidecar = |container: &Value| container.get("restartPolicy").and_then(Value::as_str) == Some("Always");
        let (mut init, mut containers) = (part.init_containers.clone(), part.containers.clone());
        if containers.is_empty() {
            // A pod needs a container that is no sidecar. Sidecars run as long as the pod does: as containers of a pod that
            // restarts them they do just that, and the operator ends the pod with its primary.
            (containers, init) = init.into_iter().partition(is_sidecar);
            for container in containers.iter_mut().filter_map(Value::as_object_mut) {
                container.remove("restartPolicy");
            }
            spec.insert("restartPolicy".to_owned(), json!("Always"));
        }
        init.iter_mut().chain(&mut containers).for_each(|container| self.identity.tell(container));
        let lists = [("containers", containers), ("initContainers", init), ("volumes", part.volumes.clone())];
        for (field, values) in lists {
            if !values.is_empty() {
                spec.insert(field.to_owned(), Value::Array(values));
            }
        }
        Value::Object(spec)
    }
}

/// To a node and no other, by the scheduler: what the part asks for is counted, and a part that does not fit waits and says so.
fn on_node(node: &str) -> Value {
    let node = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let terms = json!({"nodeSelectorTerms": [{"matchFields": [node]}]});
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})
}

#[cfg(test)]
mod tests;
