//! The proxy's volumes among the pod's.

use sidewall_api::names::is_dns_subdomain;

use super::{Record, Secrets};
use crate::admission::edits::Edits;
use crate::admission::refusal::Refusal;
use crate::admission::sidecar;
use crate::names::{VOLUME_CONFIG, VOLUME_NO_TOKEN, VOLUME_SECRET};

/// The longest key of a Secret.
const KEY_MAX: usize = 253;

const LIST: [&str; 2] = ["spec", "volumes"];

/// Refuses names of Secrets and keys that the API server would refuse in a volume, or that lead out of it.
pub(crate) fn check_names(proxy: &str, secrets: &Secrets) -> Result<(), Refusal> {
    let bad = |name: &str, what| Refusal::SecretName { proxy: proxy.to_owned(), name: name.to_owned(), what };
    for (secret, keys) in secrets {
        if !is_dns_subdomain(secret) {
            return Err(bad(secret, "name of a Secret: a-z, 0-9, - and ."));
        }
        for key in keys {
            let plain = key.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'));
            if !plain || key.len() > KEY_MAX || key.is_empty() || key == "." || key.starts_with("..") {
                return Err(bad(key, "key of a Secret: letters, digits, -, _ and ."));
            }
        }
    }
    Ok(())
}

/// Puts the volumes among the pod's. `known` says that we have been here before, so that what bears our names is ours.
pub(super) fn put(edits: &mut Edits, record: &Record, group: bool, known: bool) -> Result<(), Refusal> {
    let wanted = sidecar::volumes(record, group);
    let names: Vec<String> = edits
        .get(&LIST)
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten()
        .map(|volume| volume.get("name").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned())
        .collect();
    let is_ours = |name: &str| name == VOLUME_CONFIG || name == VOLUME_NO_TOKEN || name.starts_with(VOLUME_SECRET);
    if !known && let Some((index, volume)) = names.iter().enumerate().find(|(_, name)| is_ours(name)) {
        return Err(Refusal::VolumeTaken { volume: volume.clone(), index });
    }
    for (name, volume) in &wanted {
        match names.iter().position(|there| there == name) {
            Some(index) => edits.set(&["spec", "volumes", &index.to_string()], volume.clone())?,
            None => edits.push(&LIST, volume.clone())?,
        }
    }
    // From the end, so that those before keep their places. What is left of an earlier call could keep the pod waiting.
    for (index, name) in names.iter().enumerate().rev() {
        if is_ours(name) && !wanted.iter().any(|(wanted, _)| wanted == name) {
            edits.remove(&["spec", "volumes", &index.to_string()])?;
        }
    }
    Ok(())
}
