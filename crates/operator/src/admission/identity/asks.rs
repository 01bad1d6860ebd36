//! What a pod's author, or the namespace's owner, asks for in annotations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{ANNOTATION_ASSIGN_UIDS, ANNOTATION_DROP_CAPABILITIES, ANNOTATION_LOOPBACK_PORTS};

/// The longest list in an annotation.
const ENTRIES_MAX: usize = 64;

/// A capability that lets a container pass for another, or round the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum Capability {
    NetAdmin,
    NetRaw,
    Setgid,
    Setuid,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NetAdmin, Self::NetRaw, Self::Setgid, Self::Setuid];

    /// As a container's securityContext writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetAdmin => "NET_ADMIN",
            Self::NetRaw => "NET_RAW",
            Self::Setgid => "SETGID",
            Self::Setuid => "SETUID",
        }
    }

    /// Reads a name, with or without `CAP_`.
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("CAP_").unwrap_or(name);
        Self::ALL.into_iter().find(|capability| capability.as_str() == name)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// A number of its own for each container.
    pub assign_uids: bool,
    /// Capabilities that no container shall have.
    pub drop: BTreeSet<Capability>,
    /// Ports that the application has on 127.0.0.1 only.
    pub loopback_ports: BTreeSet<u16>,
}

/// An annotation that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the annotation {key} of the {of} is {value:?}; write {expected}")]
pub struct BadAnnotation {
    /// Its key.
    pub key: &'static str,
    /// Whose it is: `pod` or `namespace`.
    pub of: &'static str,
    /// What it says, or the part of it that is wrong.
    pub value: String,
    /// What it may say.
    pub expected: &'static str,
}

type Annotations = BTreeMap<String, String>;

impl Asks {
    /// Reads the annotations of a pod and of its namespace.
    ///
    /// # Errors
    ///
    /// The first one that cannot be understood: what was asked for in a way that we do not know is not passed over.
    pub fn read(pod: &Annotations, namespace: &Annotations) -> Result<Self, BadAnnotation> {
        let assign = |annotations: &Annotations, of| match annotations.get(ANNOTATION_ASSIGN_UIDS).map(String::as_str) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(bad(ANNOTATION_ASSIGN_UIDS, of, other, "\"true\" or \"false\"")),
        };
        // Both are read, so that a bad word of the namespace is told whatever the pod says.
        let namespace_assigns = assign(namespace, "namespace")?;
        let assign_uids = assign(pod, "pod")?.or(namespace_assigns).unwrap_or_default();
        let mut drop = BTreeSet::new();
        for (annotations, of) in [(namespace, "namespace"), (pod, "pod")] {
            let key = ANNOTATION_DROP_CAPABILITIES;
            let expected = "any of NET_ADMIN, NET_RAW, SETGID and SETUID, with commas between them";
            for word in words(annotations, key, of, expected)? {
                drop.insert(Capability::of_name(word).ok_or_else(|| bad(key, of, word, expected))?);
            }
        }
        let mut loopback_ports = BTreeSet::new();
        let (key, expected) = (ANNOTATION_LOOPBACK_PORTS, "ports from 1 to 65535, with commas between them");
        for word in words(pod, key, "pod", expected)? {
            let port = word.parse().ok().filter(|port| *port > 0);
            loopback_ports.insert(port.ok_or_else(|| bad(key, "pod", word, expected))?);
        }
        Ok(Self { assign_uids, drop, loopback_ports })
    }

    /// Whether anything is asked for that holds without a proxy too.
    pub fn without_proxy(&self) -> bool {
        self.assign_uids || !self.drop.is_empty()
    }
}

fn words<'a>(
    annotations: &'a Annotations,
    key: &'static str,
    of: &'static str,
    expected: &'static str,
) -> Result<Vec<&'a str>, BadAnnotation> {
    let Some(text) = annotations.get(key) else { return Ok(Vec::new()) };
    let words: Vec<&str> = text.split(',').map(str::trim).take(ENTRIES_MAX + 1).collect();
    if words.len() > ENTRIES_MAX { Err(bad(key, of, text, expected)) } else { Ok(words) }
}

fn bad(key: &'static str, of: &'static str, value: &str, expected: &'static str) -> BadAnnotation {
    BadAnnotation { key, of, value: value.chars().take(64).collect(), expected }
}
