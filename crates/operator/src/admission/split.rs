//! Pods that become several: the webhook's half. What becomes of them is decided by [`sidewall_split`]; here is which PodSplit counts,
//! and who may say that a pod is split already.

use json_patch::{Patch, PatchError};
use serde_json::Value;
use sidewall_api::names::{ANNOTATION_LINK, ANNOTATION_PART, ANNOTATION_SPLIT, LABEL_PART, LABEL_PRIMARY};
use sidewall_api::{PodSplit, Problem, UnreadableSplit};
use sidewall_split::{BadRecord, Division, Key, Member, Refusals, divide};

use crate::admission::edits::{EditError, Edits};
use crate::known::Labels;

/// Our keys on pods that are split, and on their parts. Whoever else has them, on whatever pod, is refused.
const KEYS: [(&str, &str); 5] = [
    ("annotations", ANNOTATION_SPLIT),
    ("annotations", ANNOTATION_LINK),
    ("annotations", ANNOTATION_PART),
    ("labels", LABEL_PART),
    ("labels", LABEL_PRIMARY),
];

/// The PodSplits of a namespace.
#[derive(Clone, Copy)]
pub struct Splits<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// Those that can be read.
    pub splits: &'a [&'a PodSplit],
    /// Those that cannot.
    pub unreadable: &'a [&'a UnreadableSplit],
    /// Under what divided pods are signed.
    pub key: &'a Key,
}

/// How a pod is divided.
#[derive(Debug)]
pub struct Divided {
    /// The patch (RFC 6902); empty where it has been done before.
    pub patch: Patch,
    /// What its author should know.
    pub warnings: Vec<String>,
}

/// Why a pod is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It cannot be divided.
    #[error(transparent)]
    Divide(#[from] Refusals),
    /// The PodSplit that selects it cannot be understood.
    #[error("PodSplit {split:?} selects this pod and cannot be used: {problems}")]
    Split {
        /// Its name.
        split: String,
        /// What is wrong with it.
        problems: String,
    },
    /// It says that it is a part, and is none of ours.
    #[error(transparent)]
    Part(#[from] BadRecord),
    /// It says so without a word of ours.
    #[error(
        "the {field} {key} is written by Sidewall alone, on pods that a PodSplit selects, and none selects this one; remove it"
    )]
    Reserved {
        /// Whether it is a label or an annotation.
        field: &'static str,
        /// The key.
        key: &'static str,
    },
    /// The object does not have a pod's shape where it is to be changed.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// What injection has decided cannot be done.
    #[error("the pod cannot be changed: {0}")]
    Patch(#[from] PatchError),
}

impl Splits<'_> {
    /// Whether a pod is a part that the operator has made: nothing more becomes of it.
    ///
    /// # Errors
    ///
    /// It says that it is, and this operator did not write that for this namespace.
    pub fn is_part(&self, pod: &Value) -> Result<bool, Refusal> {
        let annotations = words(pod, "annotations");
        match Member::verify(&annotations, self.namespace, self.key) {
            // The label is what policies go by: it says what is signed, or the pod is nobody's part.
            Ok(member) if words(pod, "labels").get(LABEL_PART) == Some(&member.part) => Ok(true),
            Ok(_) => Err(BadRecord::Mac { key: ANNOTATION_PART }.into()),
            Err(BadRecord::Missing { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Divides a pod, where a PodSplit selects it.
    ///
    /// # Errors
    ///
    /// It may not be created: it can't be divided, or says of itself what only we say.
    pub fn divide(&self, pod: &Value) -> Result<Option<Divided>, Refusal> {
        let mut warnings = Vec::new();
        let Some(split) = self.choose(&words(pod, "labels"), &mut warnings)? else {
            let reserved = KEYS.into_iter().find(|(field, key)| words(pod, field).contains_key(*key));
            return match reserved {
                Some((field, key)) => Err(Refusal::Reserved { field: field.trim_end_matches('s'), key }),
                None => Ok(None),
            };
        };
        let Division { changes, warnings: told, .. } = divide(pod, self.namespace, split, self.key)?;
        warnings.extend(told);
        let mut edits = Edits::new(pod.clone());
        for change in changes {
            let path: Vec<&str> = change.path.iter().map(String::as_str).collect();
            match change.value {
                Some(value) => edits.set(&path, value)?,
                None => edits.remove(&path)?,
            }
        }
        Ok(Some(Divided { patch: edits.into_patch(), warnings }))
    }

    /// The oldest of those that select the pod and can be used; of two of one age the first by name.
    ///
    /// Where one selects the pod and none can be used, the pod is refused: it would be created in one piece for good.
    fn choose(&self, labels: &Labels, warnings: &mut Vec<String>) -> Result<Option<&PodSplit>, Refusal> {
        let own = |namespace: Option<&str>| namespace.is_none_or(|namespace| namespace == self.namespace);
        let mut selecting: Vec<&PodSplit> = self
            .splits
            .iter()
            .copied()
            .filter(|split| own(split.metadata.namespace.as_deref()) && split.spec.pod_selector.matches(labels))
            .collect();
        selecting.sort_by_key(|split| age(split));
        let mut unusable = Vec::new();
        let mut chosen: Option<&PodSplit> = None;
        for split in selecting {
            let problems = errors(&split.validate());
            match (&chosen, problems) {
                (_, Some(problems)) => unusable.push((name_of(split).to_owned(), problems)),
                (Some(first), None) => warnings.push(format!(
                    "PodSplit {:?} has no effect here: {:?} is older and selects this pod too",
                    name_of(split),
                    name_of(first),
                )),
                (None, None) => chosen = Some(split),
            }
        }
        for split in self.unreadable {
            let selects = split.pod_selector.as_ref().is_none_or(|selector| selector.matches(labels));
            if own(split.namespace.as_deref()) && selects {
                let problems = errors(&split.problems).unwrap_or_else(|| "it cannot be read".to_owned());
                unusable.push((split.name.clone().unwrap_or_default(), problems));
            }
        }
        match (chosen, unusable.into_iter().next()) {
            (None, Some((split, problems))) => Err(Refusal::Split { split, problems }),
            (chosen, None) => Ok(chosen),
            (chosen, Some((split, problems))) => {
                warnings.push(format!("PodSplit {split:?} selects this pod too, and cannot be used: {problems}"));
                Ok(chosen)
            }
        }
    }
}

fn age(split: &PodSplit) -> impl Ord + use<'_> {
    (split.metadata.creation_timestamp.as_ref().map(|time| time.0), name_of(split))
}

fn name_of(split: &PodSplit) -> &str {
    split.metadata.name.as_deref().unwrap_or_default()
}

fn errors(problems: &[Problem]) -> Option<String> {
    let said: Vec<String> = problems
        .iter()
        .filter(|problem| problem.is_error())
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// The labels or annotations of a pod.
fn words(pod: &Value, field: &str) -> Labels {
    let all = pod.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_object);
    all.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests;
