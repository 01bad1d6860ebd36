//! Takes the taint away that keeps pods off a node until its agent is ready.

use crate::request::{LONGEST, ask};
use crate::trouble::{Cause, Failure};
use kube::Client;
use kube::api::{GetParams, Patch, PatchParams};
use kube::core::Request;
use serde_json::{Value, json};

/// Why a taint is still there. Asking again may help.
#[derive(Debug, thiserror::Error)]
#[error("the taint {key} of node {node} can't be taken away: {message}")]
pub struct TaintError {
    key: String,
    node: String,
    message: String,
}

/// Takes every taint of a key from a node; says whether there was one. Other taints that somebody else puts there meanwhile
/// are not lost: then it fails, and is to be tried again.
///
/// # Errors
/// [`TaintError`].
pub async fn remove(client: &Client, node: &str, key: &str) -> Result<bool, TaintError> {
    let failed = |failure: Failure| {
        let advice = match failure.cause {
            Cause::Forbidden => "; grant get and patch on nodes",
            _ => "",
        };
        TaintError { key: key.to_owned(), node: node.to_owned(), message: format!("{}{advice}", failure.message) }
    };
    let nodes = Request::new("/api/v1/nodes");
    let get = nodes.get(node, &GetParams::default());
    let found: Value = ask(client, get, LONGEST).await.map_err(failed)?;
    let taints = found.pointer("/spec/taints").and_then(Value::as_array).cloned().unwrap_or_default();
    let left: Vec<&Value> = taints.iter().filter(|taint| taint["key"] != key).collect();
    if left.len() == taints.len() {
        return Ok(false);
    }
    // With the version that was read: where somebody else has changed the node meanwhile, the API server refuses.
    let body = json!({
        "metadata": {"resourceVersion": found.pointer("/metadata/resourceVersion")},
        "spec": {"taints": left},
    });
    let patch = nodes.patch(node, &PatchParams::default(), &Patch::Merge(body));
    ask::<Value>(client, patch, LONGEST).await.map_err(failed)?;
    Ok(true)
}
