//! What an object is called.

use serde_json::Value;

use crate::names::{DEFAULT_NAMESPACE, is_dns_label, is_dns_subdomain};
use crate::problem::{FieldPath, Problem};

/// What an object is called.
pub(super) struct Identity {
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) problems: Vec<Problem>,
}

/// Finds out what an object is called, and writes the default namespace into one that names none.
pub(super) fn identify(value: &mut Value, namespaced: bool) -> Identity {
    let at = FieldPath::root().key("metadata");
    let mut problems = Vec::new();
    let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else {
        let message = "the object needs metadata with a name";
        return Identity {
            namespace: namespaced.then(|| DEFAULT_NAMESPACE.to_owned()),
            name: None,
            problems: vec![Problem::error(FieldPath::root(), message)],
        };
    };
    let name = match metadata.get("name") {
        None | Some(Value::Null) => {
            problems.push(Problem::error(at.clone(), "the object needs a name: write metadata.name"));
            None
        }
        Some(Value::String(name)) if !is_dns_subdomain(name) => {
            let message =
                format!("{name:?} is no name: at most 253 of a-z, 0-9, - and ., a letter or digit at both ends");
            problems.push(Problem::error(at.key("name"), message));
            None
        }
        Some(name) => name.as_str().map(str::to_owned),
    };
    let namespace = match metadata.get("namespace") {
        _ if !namespaced => None,
        None | Some(Value::Null) => {
            metadata.insert("namespace".to_owned(), DEFAULT_NAMESPACE.into());
            Some(DEFAULT_NAMESPACE.to_owned())
        }
        Some(Value::String(namespace)) if !is_dns_label(namespace) => {
            let message =
                format!("{namespace:?} is no namespace: 1 to 63 of a-z, 0-9 and -, a letter or digit at both ends");
            problems.push(Problem::error(at.key("namespace"), message));
            None
        }
        Some(namespace) => namespace.as_str().map(str::to_owned),
    };
    Identity { namespace, name, problems }
}
