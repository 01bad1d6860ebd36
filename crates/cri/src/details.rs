//! What the runtime knows beyond CRI's own fields: the process, and the OCI specification that it was started from.
//!
//! CRI leaves the form to the runtime. containerd and CRI-O both send one JSON document under the key `info`, with the
//! specification as `runtimeSpec`; they differ in what else stands there. What is absent is `None` here, and what we do
//! not use (environment and arguments above all, which hold secrets) is never read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::BadAnswer;

/// What the runtime knows of a sandbox or of a container beyond CRI's own fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Its first process, in the runtime's own PID namespace. `None` when it has ended.
    pub pid: Option<u32>,
    /// The runtime handler that was asked for. `None` for the default one, and where the runtime does not tell; containerd
    /// tells it of sandboxes.
    pub handler: Option<String>,
    /// The kind of the runtime behind the handler, such as `io.containerd.runc.v2`. containerd only.
    pub runtime_type: Option<String>,
    /// Whether the container is being removed. containerd only.
    pub removing: bool,
    /// The OCI specification.
    pub specification: Option<Specification>,
}

/// The part of an OCI runtime specification that says what a container could do to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Specification {
    /// Where its cgroup is, as the specification writes it: a path below the cgroup root, or `slice:prefix:name` with
    /// systemd. What the process is in is said by `/proc/PID/cgroup`.
    pub cgroups_path: Option<String>,
    /// The user that the first process begins with.
    pub user: Option<User>,
    /// The capabilities that the first process begins with. `None` where the specification has no such section, which
    /// means none at all.
    pub capabilities: Option<Capabilities>,
    /// Whether the process can't gain privileges by running a program.
    pub no_new_privileges: bool,
    /// The namespaces that it does not share with the runtime. One that is absent is the node's.
    pub namespaces: Vec<Namespace>,
    /// How users are mapped in its user namespace. Empty where it has none.
    pub uid_mappings: Vec<IdMapping>,
}

impl Specification {
    /// The namespace of a kind, such as `network`; `None` if it is the node's.
    pub fn namespace(&self, kind: &str) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.kind == kind)
    }
}

/// A user and its groups, as numbers inside the container's user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct User {
    /// User.
    #[serde(default)]
    pub uid: u32,
    /// Primary group.
    #[serde(default)]
    pub gid: u32,
    /// Further groups.
    #[serde(default, rename = "additionalGids", deserialize_with = "or_default")]
    pub further_gids: BTreeSet<u32>,
}

/// Capabilities by their names (`CAP_NET_RAW`), in each of a process's sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// What it could have at most.
    #[serde(deserialize_with = "or_default")]
    pub bounding: BTreeSet<String>,
    /// What it has.
    #[serde(deserialize_with = "or_default")]
    pub effective: BTreeSet<String>,
    /// What it may make effective.
    #[serde(deserialize_with = "or_default")]
    pub permitted: BTreeSet<String>,
    /// What a program may inherit.
    #[serde(deserialize_with = "or_default")]
    pub inheritable: BTreeSet<String>,
    /// What a program does inherit.
    #[serde(deserialize_with = "or_default")]
    pub ambient: BTreeSet<String>,
}

impl Capabilities {
    /// Whether a process of the container could come to have the capability (`CAP_NET_RAW`), by any of the sets.
    pub fn within_reach(&self, capability: &str) -> bool {
        let sets = [&self.bounding, &self.effective, &self.permitted, &self.inheritable, &self.ambient];
        sets.iter().any(|set| set.contains(capability))
    }
}

/// A namespace of the container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Namespace {
    /// Its kind in the words of OCI: `network`, `pid`, `mount`, `user`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it was found, in the runtime's mount and PID namespaces; `None` if it was made for this container.
    #[serde(default, deserialize_with = "path")]
    pub path: Option<PathBuf>,
}

/// A range of users of the container, and whom they are outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdMapping {
    /// The first of them in the container.
    #[serde(rename = "containerID", default)]
    pub container: u32,
    /// The first of them outside.
    #[serde(rename = "hostID", default)]
    pub host: u32,
    /// How many.
    #[serde(default)]
    pub size: u32,
}

impl Details {
    /// Reads them from what a verbose answer brought along.
    pub(crate) fn read(info: &BTreeMap<String, String>) -> Result<Option<Self>, BadAnswer> {
        let Some(text) = info.get("info") else { return Ok(None) };
        let bad = |error: serde_json::Error| BadAnswer::Details { line: error.line(), column: error.column() };
        let document: Document = serde_json::from_str(text).map_err(bad)?;
        Ok(Some(document.into()))
    }
}

/// What is not there, Go also writes as `null`.
fn or_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn path<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Option::<PathBuf>::deserialize(from)?.filter(|path| !path.as_os_str().is_empty()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default, deserialize_with = "or_default")]
    pid: u32,
    #[serde(default, deserialize_with = "or_default")]
    runtime_handler: String,
    #[serde(default, deserialize_with = "or_default")]
    runtime_type: String,
    #[serde(default, deserialize_with = "or_default")]
    removing: bool,
    #[serde(default)]
    runtime_spec: Option<Oci>,
}

#[derive(Deserialize)]
struct Oci {
    #[serde(default)]
    process: Option<Process>,
    #[serde(default)]
    linux: Option<Linux>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    #[serde(default)]
    user: Option<User>,
    #[serde(default)]
    capabilities: Option<Capabilities>,
    #[serde(default, deserialize_with = "or_default")]
    no_new_privileges: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Linux {
    #[serde(deserialize_with = "or_default")]
    cgroups_path: String,
    #[serde(deserialize_with = "or_default")]
    namespaces: Vec<Namespace>,
    #[serde(deserialize_with = "or_default")]
    uid_mappings: Vec<IdMapping>,
}

fn told(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl From<Document> for Details {
    fn from(from: Document) -> Self {
        Self {
            pid: Some(from.pid).filter(|pid| *pid != 0),
            handler: told(from.runtime_handler),
            runtime_type: told(from.runtime_type),
            removing: from.removing,
            specification: from.runtime_spec.map(Into::into),
        }
    }
}

impl From<Oci> for Specification {
    fn from(from: Oci) -> Self {
        let linux = from.linux.unwrap_or_default();
        let (user, capabilities, no_new_privileges) = match from.process {
            Some(process) => (process.user, process.capabilities, process.no_new_privileges),
            None => (None, None, false),
        };
        Self {
            cgroups_path: told(linux.cgroups_path),
            user,
            capabilities,
            no_new_privileges,
            namespaces: linux.namespaces,
            uid_mappings: linux.uid_mappings,
        }
    }
}
