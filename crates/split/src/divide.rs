//! What becomes of a pod on its way into the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};
use sidewall_api::names::{
    ANNOTATION_LINK, ANNOTATION_NETWORKS, ANNOTATION_SPLIT, GATE_PARTS_READY, LABEL_PART, LABEL_PRIMARY, PRIMARY,
};
use sidewall_api::split::Part;
use sidewall_api::{NetworkName, PodSplit};

use crate::checks::Checks;
use crate::mac::Key;
use crate::network::{attach, link};
use crate::place::{List, Place, list, name_of};
use crate::policies::PENDING;
use crate::record::{RECORD_MAX, Record, RecordPart, annotations, declared, join, service_account};
use crate::refusal::{Refusal, Refusals};

/// The most that the API server takes of annotations, keys and values of all together, in octets.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// What is left of it to those who write annotations later: Multus, other webhooks.
const ANNOTATIONS_LEFT: usize = 8 * 1024;

/// What the annotations begin with in which older clusters say AppArmor profiles, by container.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What becomes of a pod.
pub struct Division {
    /// The pod as it becomes: the primary.
    pub pod: Value,
    /// What has to be changed for that; nothing where it has been done before.
    pub changes: Vec<Change>,
    /// What its author should know.
    pub warnings: Vec<String>,
}

/// A field that is set or taken away.
#[derive(Clone, PartialEq)]
pub struct Change {
    /// The way to it, from the root.
    pub path: Vec<String>,
    /// What stands there then; none where nothing does.
    pub value: Option<Value>,
}

// By hand: a pod may have passwords in its environment.
impl fmt::Debug for Division {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Division")
            .field("changes", &self.changes)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.value.is_some() { "" } else { "-" }, self.path.join("/"))
    }
}

/// Divides a pod of a namespace by a PodSplit that selects it and is sound ([`PodSplit::validate`]).
///
/// Calling it again with what came of it changes nothing; where the pod or the PodSplit has changed meanwhile, it comes out as if
/// it had been divided at once.
///
/// # Errors
///
/// Every reason for which the pod cannot be divided.
pub fn divide(pod: &Value, namespace: &str, split: &PodSplit, key: &Key) -> Result<Division, Refusals> {
    let name = split.metadata.name.clone().unwrap_or_default();
    plan(pod, namespace, split, key).map_err(|reasons| Refusals { split: name, reasons })
}

fn plan(pod: &Value, namespace: &str, split: &PodSplit, key: &Key) -> Result<Division, Vec<Refusal>> {
    let one = |refusal: Refusal| vec![refusal];
    let told = annotations(pod);
    let account = service_account(pod);
    let before = if told.contains_key(ANNOTATION_SPLIT) {
        Some(Record::verify(&told, namespace, account, key).map_err(|error| one(error.into()))?)
    } else {
        None
    };
    let whole = before.as_ref().map_or_else(|| pod.clone(), |record| join(pod, record));
    let typed: Pod = serde_path_to_error::deserialize(&whole)
        .map_err(|error| one(Refusal::Unreadable { path: error.path().to_string() }))?;
    let spec = typed.spec.as_ref().ok_or_else(|| one(Refusal::Unreadable { path: "spec".to_owned() }))?;
    let mut refusals = names(&whole);
    let mut places = places(&whole, &spec.containers, spec.init_containers.as_deref().unwrap_or_default());
    assign(&split.spec.parts, &mut places, &mut refusals);
    let mut checks =
        Checks { pod: &whole, spec, parts: &split.spec.parts, places: &places, refusals, warnings: Vec::new() };
    checks.run();
    let Checks { mut refusals, mut warnings, .. } = checks;
    let link = link(split);
    let former = before.as_ref().and_then(|record| NetworkName::parse(&record.link, namespace));
    let networks = attach(told.get(ANNOTATION_NETWORKS).map(String::as_str), namespace, &link, former.as_ref());
    let networks = match networks {
        Ok(networks) if refusals.is_empty() => networks,
        other => {
            refusals.extend(other.err().map(Refusal::from));
            return Err(refusals);
        }
    };
    if before.is_none() && told.get(ANNOTATION_NETWORKS).is_some_and(|text| !text.trim().is_empty()) {
        warnings.push("the further networks of this pod are its own: its parts are not attached to them".to_owned());
    }
    let about = annotations(&whole);
    let record = Record::new(
        split.metadata.name.as_deref().unwrap_or_default(),
        &link,
        record_parts(&split.spec.parts, &places, &whole, &about),
        declared(places.iter().map(|place| place.container)),
    );
    let sealed = record.seal(namespace, account, key);
    if sealed.len() > RECORD_MAX {
        return Err(one(Refusal::TooLarge { size: sealed.len(), most: RECORD_MAX }));
    }
    let mut writing = Writing { before: pod, pod: pod.clone(), changes: Vec::new() };
    writing.containers(&places);
    writing.volumes(&places, &whole);
    writing.gate();
    writing.annotate(&[
        (ANNOTATION_SPLIT, sealed),
        (ANNOTATION_LINK, link.to_string()),
        (ANNOTATION_NETWORKS, networks),
    ]);
    let moved = record.parts.iter().flat_map(|part| part.annotations.keys());
    moved.for_each(|key| writing.set(&["metadata", "annotations", key], None));
    writing.set(&["metadata", "labels", LABEL_PART], Some(json!(PRIMARY)));
    writing.set(&["metadata", "labels", LABEL_PRIMARY], Some(json!(PENDING)));
    let Writing { pod, changes, .. } = writing;
    let size = annotations(&pod).iter().map(|(key, value)| key.len() + value.len()).sum();
    // At a second call they have written, and it was enough or the API server says so.
    let most = if before.is_some() { ANNOTATIONS_MAX } else { ANNOTATIONS_MAX - ANNOTATIONS_LEFT };
    if size > most {
        return Err(one(Refusal::Annotations { size, most }));
    }
    Ok(Division { pod, changes, warnings })
}

/// Containers and volumes have names, each its own: by them they are found again.
fn names(pod: &Value) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let containers = [("containers", "/spec/containers"), ("initContainers", "/spec/initContainers")];
    let mut seen = BTreeSet::new();
    for (field, pointer) in containers {
        for name in list(pod, pointer).iter().map(name_of) {
            if name.is_empty() || !seen.insert(name) {
                refusals.push(Refusal::Name { list: field, name: name.to_owned() });
            }
        }
    }
    let mut seen = BTreeSet::new();
    for name in list(pod, "/spec/volumes").iter().map(name_of) {
        if name.is_empty() || !seen.insert(name) {
            refusals.push(Refusal::Name { list: "volumes", name: name.to_owned() });
        }
    }
    refusals
}

/// The containers of the whole pod; all stay, for the time being.
fn places<'a>(pod: &'a Value, containers: &'a [Container], init: &'a [Container]) -> Vec<Place<'a>> {
    let of = |which: List, typed: &'a [Container], pointer: &str| {
        let places = typed.iter().zip(list(pod, pointer));
        places.map(|(container, verbatim)| Place { list: which, container, verbatim, part: None }).collect::<Vec<_>>()
    };
    let mut places = of(List::Init, init, "/spec/initContainers");
    places.extend(of(List::Containers, containers, "/spec/containers"));
    places
}

/// Says of each container that a part names that it goes there.
fn assign(parts: &[Part], places: &mut [Place<'_>], refusals: &mut Vec<Refusal>) {
    for (index, part) in parts.iter().enumerate() {
        let lists = [("containers", &part.containers), ("initContainers", &part.init_containers)];
        for (field, names) in lists {
            for name in names {
                let (part, container) = (part.name.clone(), name.clone());
                let Some(place) = places.iter_mut().find(|place| place.name() == name) else {
                    refusals.push(Refusal::UnknownContainer { part, container });
                    continue;
                };
                let wrong = match (field, place.is_init(), place.is_sidecar()) {
                    ("containers", true, _) => Some(("an init container", "initContainers")),
                    ("initContainers", false, true) => Some(("a native sidecar", "containers")),
                    ("initContainers", false, false) => Some(("a container of the application", "containers")),
                    _ => None,
                };
                if let Some((what, instead)) = wrong {
                    refusals.push(Refusal::Misplaced { part, container, field, what, instead });
                }
                place.part.get_or_insert(index);
            }
        }
    }
}

fn record_parts(
    parts: &[Part],
    places: &[Place<'_>],
    whole: &Value,
    annotations: &BTreeMap<String, String>,
) -> Vec<RecordPart> {
    let volumes = list(whole, "/spec/volumes");
    parts
        .iter()
        .enumerate()
        .map(|(index, part)| {
            let own = || places.iter().filter(|place| place.part == Some(index));
            let verbatim =
                |which: List| own().filter(|place| place.list == which).map(|place| place.verbatim.clone()).collect();
            let used: BTreeSet<&str> = own().flat_map(Place::volumes).collect();
            let mut volumes: Vec<Value> =
                volumes.iter().filter(|volume| used.contains(name_of(volume))).cloned().collect();
            // A volume that others have as well has another place in the pod at a second call.
            volumes.sort_by(|one, other| name_of(one).cmp(name_of(other)));
            let about = own().filter_map(|place| annotations.get_key_value(&format!("{APP_ARMOR}{}", place.name())));
            RecordPart {
                name: part.name.clone(),
                containers: verbatim(List::Containers),
                init_containers: verbatim(List::Init),
                volumes,
                annotations: about.map(|(key, value)| (key.clone(), value.clone())).collect(),
            }
        })
        .collect()
}

/// The pod as it becomes, and what is changed for it.
struct Writing<'a> {
    before: &'a Value,
    pod: Value,
    changes: Vec<Change>,
}

impl Writing<'_> {
    fn containers(&mut self, places: &[Place<'_>]) {
        for which in [List::Containers, List::Init] {
            let stay = places.iter().filter(|place| place.list == which && place.part.is_none());
            self.list(which.field(), stay.map(|place| place.verbatim.clone()).collect());
        }
    }

    /// Volumes that somebody uses who stays, or nobody.
    fn volumes(&mut self, places: &[Place<'_>], whole: &Value) {
        let used = |volume: &Value, stays: bool| {
            places
                .iter()
                .filter(|place| place.part.is_none() == stays)
                .any(|place| place.volumes().contains(name_of(volume)))
        };
        let stay = list(whole, "/spec/volumes").iter().filter(|volume| used(volume, true) || !used(volume, false));
        self.list("volumes", stay.cloned().collect());
    }

    fn gate(&mut self) {
        let mut gates = list(self.before, "/spec/readinessGates").to_vec();
        let is_ours = |gate: &Value| gate.get("conditionType").and_then(Value::as_str) == Some(GATE_PARTS_READY);
        if !gates.iter().any(is_ours) {
            gates.push(json!({"conditionType": GATE_PARTS_READY}));
        }
        self.list("readinessGates", gates);
    }

    fn annotate(&mut self, all: &[(&str, String)]) {
        for (key, value) in all {
            self.set(&["metadata", "annotations", key], Some(json!(value)));
        }
    }

    /// A list of the spec; one that is empty is not there.
    fn list(&mut self, field: &str, values: Vec<Value>) {
        let there = self.before.get("spec").and_then(|spec| spec.get(field)).and_then(Value::as_array);
        if there.map(Vec::as_slice).unwrap_or_default() == values {
            return;
        }
        self.set(&["spec", field], (!values.is_empty()).then_some(Value::Array(values)));
    }

    fn set(&mut self, path: &[&str], value: Option<Value>) {
        let pointer: String =
            path.iter().map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect();
        if self.pod.pointer(&pointer) == value.as_ref() {
            return;
        }
        let Some((last, way)) = path.split_last() else { return };
        let mut place = &mut self.pod;
        for step in way {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[*step];
        }
        if !place.is_object() {
            *place = json!({});
        }
        if let Some(fields) = place.as_object_mut() {
            match &value {
                Some(value) => fields.insert((*last).to_owned(), value.clone()),
                None => fields.remove(*last),
            };
        }
        self.changes.push(Change { path: path.iter().map(|step| (*step).to_owned()).collect(), value });
    }
}

#[cfg(test)]
mod tests;
