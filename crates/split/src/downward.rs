//! What a container asks about its pod: the downward API.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::place::list;

/// Fields of a pod that are the same in each of its parts.
const SAME: [&str; 5] =
    ["metadata.namespace", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs"];

/// Of which containers a container's environment tells the resources, with the field's name. Without a name it is its own.
pub(crate) fn resources_in_environment(container: &Value) -> Vec<(String, String)> {
    let of = |entry: &Value| {
        let other = entry.pointer("/valueFrom/resourceFieldRef/containerName")?.as_str()?;
        let name = entry.get("name")?.as_str()?;
        (!other.is_empty()).then(|| (format!("env {name:?}"), other.to_owned()))
    };
    list(container, "/env").iter().filter_map(of).collect()
}

/// Of which containers a volume's files tell the resources.
pub(crate) fn resources_in_files(volume: &Value) -> Vec<String> {
    let of = |item: &Value| Some(item.pointer("/resourceFieldRef/containerName")?.as_str()?.to_owned());
    items(volume).filter_map(of).collect()
}

/// What a volume's files tell of the pod that differs from part to part.
pub(crate) fn own_fields_in_files(volume: &Value) -> Vec<String> {
    let field = |item: &Value| Some(item.pointer("/fieldRef/fieldPath")?.as_str()?.to_owned());
    items(volume).filter_map(field).filter(|path| !SAME.contains(&path.as_str())).collect()
}

/// The files of a downward API volume, or of one among projected ones.
fn items(volume: &Value) -> impl Iterator<Item = &Value> {
    let projected = list(volume, "/projected/sources").iter().flat_map(|source| list(source, "/downwardAPI/items"));
    list(volume, "/downwardAPI/items").iter().chain(projected)
}

/// What a primary is called, for those who ask in one of its parts.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub name: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

impl Identity {
    /// Writes what a container asks about its pod into its environment, as it is of the primary.
    pub(crate) fn tell(&self, container: &mut Value) {
        let Some(environment) = container.get_mut("env").and_then(Value::as_array_mut) else { return };
        for entry in environment {
            let path = entry.pointer("/valueFrom/fieldRef/fieldPath").and_then(Value::as_str);
            let Some(value) = path.and_then(|path| self.field(path)) else { continue };
            // A variable's value may name other variables, `$(NAME)`; this one means what it says.
            let value = value.replace('$', "$$");
            *entry = json!({"name": entry.get("name"), "value": value});
        }
    }

    /// A field that differs between the primary and its parts; none where it is the part's own business, or the same.
    fn field(&self, path: &str) -> Option<&str> {
        let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
        match path {
            "metadata.name" => Some(&self.name),
            "metadata.uid" => Some(&self.uid),
            _ => {
                let label = keyed("metadata.labels").map(|key| self.labels.get(key));
                let annotation = || keyed("metadata.annotations").map(|key| self.annotations.get(key));
                // One that is not there is empty, as the kubelet has it.
                Some(label.or_else(annotation)?.map_or("", String::as_str))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_the_pod_is_told_of_the_primary() {
        let identity = Identity {
            name: "web-1".to_owned(),
            uid: "u-1".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), "$(HOME)".to_owned())]),
            annotations: BTreeMap::from([("a.b/c".to_owned(), "x".to_owned())]),
        };
        let ask = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let mut container = json!({"name": "a", "env": [
            ask("NAME", "metadata.name"), ask("UID", "metadata.uid"), ask("APP", "metadata.labels['app']"),
            ask("NONE", "metadata.labels['none']"), ask("C", "metadata.annotations['a.b/c']"),
            ask("IP", "status.podIP"), ask("NS", "metadata.namespace"), {"name": "X", "value": "$(NAME)"},
        ]});
        let before = container.clone();
        identity.tell(&mut container);
        let env = container["env"].as_array().unwrap();
        let values: Vec<_> = env.iter().map(|entry| entry["value"].as_str().unwrap_or("?")).collect();
        assert_eq!(values, ["web-1", "u-1", "$$(HOME)", "", "x", "?", "?", "$(NAME)"]);
        assert_eq!(env[5..], before["env"].as_array().unwrap()[5..]);
        assert_eq!(env[0], json!({"name": "NAME", "value": "web-1"}));
    }
}
