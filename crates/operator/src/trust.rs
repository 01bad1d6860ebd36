//! Who may write our annotations and labels.
//!
//! Sidewall acts on what it has written on objects; nobody else may write that (invariant 11). What authors themselves say by
//! a key of ours, such as that users shall be assigned, they may.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::authentication::v1::UserInfo;
use serde_json::Value;
use sidewall_api::names::is_reserved_key;

use crate::names::{AUTHORS_POD_KEYS, OWNERS_NAMESPACE_KEYS, WRITTEN_POD_KEYS};

/// The users that are Sidewall itself, by their whole names: `system:serviceaccount:NAMESPACE:NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ourselves(pub BTreeSet<String>);

impl Ourselves {
    /// Service accounts of the namespace in which Sidewall runs.
    pub fn service_accounts<'a>(namespace: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(|name| format!("system:serviceaccount:{namespace}:{name}")).collect())
    }

    /// Whether a user is one of them. Groups do not count: an administrator is not Sidewall.
    pub fn has(&self, user: &UserInfo) -> bool {
        user.username.as_ref().is_some_and(|name| self.0.contains(name))
    }
}

/// What sort of object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A pod.
    Pod,
    /// A namespace.
    Namespace,
    /// Whatever has a pod's template in it: a Deployment, a Job, a CronJob.
    Template,
    /// Anything else.
    Other,
}

impl Sort {
    /// Our keys that any author may write on an object of this sort.
    fn authors(self) -> &'static [&'static str] {
        match self {
            Self::Pod | Self::Template => &AUTHORS_POD_KEYS,
            Self::Namespace => &OWNERS_NAMESPACE_KEYS,
            Self::Other => &[],
        }
    }
}

/// Reserved keys that somebody else than Sidewall has written, changed or removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} may be written by Sidewall alone, and not by {user:?}: leave {} as {} was",
    list(keys),
    them(keys),
    they(keys)
)]
pub struct NotYours {
    /// Who wrote.
    pub user: String,
    /// The keys.
    pub keys: BTreeSet<String>,
}

fn list(keys: &BTreeSet<String>) -> String {
    keys.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn them(keys: &BTreeSet<String>) -> &'static str {
    if keys.len() == 1 { "it" } else { "them" }
}

fn they(keys: &BTreeSet<String>) -> &'static str {
    if keys.len() == 1 { "it" } else { "they were, each" }
}

/// Whether a user may turn `old` (none: nothing yet) into `new`.
///
/// On a pod that is being created, what injection writes is passed over here: it has just been written, in the creator's name,
/// and injection refuses or replaces what somebody else wrote there.
///
/// # Errors
///
/// The reserved keys that he has touched.
pub fn may_write(
    user: &UserInfo,
    ourselves: &Ourselves,
    sort: Sort,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), NotYours> {
    if ourselves.has(user) {
        return Ok(());
    }
    let before = old.map(|old| reserved(old, sort)).unwrap_or_default();
    let after = reserved(new, sort);
    let created_pod = old.is_none() && sort == Sort::Pod;
    let keys: BTreeSet<String> = before
        .keys()
        .chain(after.keys())
        .filter(|place| before.get(place) != after.get(place))
        .map(|(_, key)| *key)
        .filter(|key| !(sort.authors().contains(key) || created_pod && WRITTEN_POD_KEYS.contains(key)))
        .map(str::to_owned)
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    Err(NotYours { user: user.username.clone().unwrap_or_default(), keys })
}

/// Where a template may stand in an object, beside the object's own metadata.
const TEMPLATES: [&str; 3] =
    ["/spec/template/metadata", "/spec/jobTemplate/metadata", "/spec/jobTemplate/spec/template/metadata"];

type Reserved<'a> = BTreeMap<(String, &'a str), &'a Value>;

/// Every reserved key of an object, by where it stands.
fn reserved(object: &Value, sort: Sort) -> Reserved<'_> {
    let mut places = vec!["/metadata"];
    if sort == Sort::Template {
        places.extend(TEMPLATES);
    }
    let mut found = Reserved::new();
    for place in places {
        for map in ["annotations", "labels"] {
            let at = format!("{place}/{map}");
            let Some(entries) = object.pointer(&at).and_then(Value::as_object) else { continue };
            for (key, value) in entries.iter().filter(|(key, _)| is_reserved_key(key)) {
                found.insert((at.clone(), key.as_str()), value);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
