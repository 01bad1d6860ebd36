//! Where the containers of a whole pod stand, and where they go.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Container;
use serde_json::Value;

/// A container of the whole pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Which of the pod's two lists it stands in.
    pub list: List,
    /// What is understood of it.
    pub container: &'a Container,
    /// All of it.
    pub verbatim: &'a Value,
    /// The part that it goes to, by its place in the PodSplit; none where it stays.
    pub part: Option<usize>,
}

/// A list of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum List {
    /// `spec.containers`.
    Containers,
    /// `spec.initContainers`.
    Init,
}

impl List {
    pub(crate) const fn field(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::Init => "initContainers",
        }
    }
}

impl Place<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.container.name
    }

    /// Whether it is a native sidecar: an init container that runs as long as the pod does.
    pub(crate) fn is_sidecar(&self) -> bool {
        self.list == List::Init && self.container.restart_policy.as_deref() == Some("Always")
    }

    /// Whether it runs to its end before the others begin.
    pub(crate) fn is_init(&self) -> bool {
        self.list == List::Init && !self.is_sidecar()
    }

    /// The names of the volumes that it uses.
    pub(crate) fn volumes(&self) -> BTreeSet<&str> {
        volumes(self.verbatim)
    }
}

/// The names of the volumes that a container uses, in every way that a container can.
pub(crate) fn volumes(container: &Value) -> BTreeSet<&str> {
    let list = |field: &str| container.get(field).and_then(Value::as_array).into_iter().flatten();
    let mounted = list("volumeMounts").chain(list("volumeDevices")).filter_map(|mount| mount.get("name")?.as_str());
    // Kubernetes 1.34 and newer: a variable from a file that an init container has written.
    let files = list("env").filter_map(|entry| entry.pointer("/valueFrom/fileKeyRef/volumeName")?.as_str());
    mounted.chain(files).collect()
}

/// A list of a JSON object; empty where it is not there.
pub(crate) fn list<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The name of a container or a volume.
pub(crate) fn name_of(value: &Value) -> &str {
    value.get("name").and_then(Value::as_str).unwrap_or_default()
}
