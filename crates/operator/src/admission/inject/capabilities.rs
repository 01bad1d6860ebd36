//! Capabilities that containers lose.

use std::collections::BTreeSet;

use serde_json::json;

use crate::admission::edits::{EditError, Edits};
use crate::admission::identity::{Capability, Place};

/// Lets a container lose capabilities that it would have from the runtime. What it asks for itself is left to it, with a
/// warning: the walls say of such a pod what they cannot enforce.
pub(super) fn drop(
    place: &Place<'_>,
    capabilities: &BTreeSet<Capability>,
    edits: &mut Edits,
    warnings: &mut Vec<String>,
) -> Result<(), EditError> {
    let name = &place.container.name;
    let context = place.container.security_context.as_ref();
    if capabilities.is_empty() {
        return Ok(());
    }
    if context.is_some_and(|context| context.privileged == Some(true)) {
        warnings
            .push(format!("container {name:?} ({}) is privileged: no capability can be taken from it", place.path()));
        return Ok(());
    }
    let own = context.and_then(|context| context.capabilities.as_ref());
    let added: Vec<&String> = own.iter().flat_map(|own| own.add.iter().flatten()).collect();
    let dropped: Vec<&String> = own.iter().flat_map(|own| own.drop.iter().flatten()).collect();
    let index = place.index.to_string();
    let list = ["spec", place.list.field(), &index, "securityContext", "capabilities", "drop"];
    for capability in capabilities {
        let is =
            |name: &&String| Capability::of_name(name) == Some(*capability) || *name == "ALL" || *name == "CAP_ALL";
        if let Some(word) = added.iter().find(|name| is(name)) {
            warnings.push(format!(
                "container {name:?} ({}.securityContext.capabilities.add) asks for {word}, and keeps {capability}: its walls \
                 cannot be fully enforced",
                place.path(),
            ));
        } else if !dropped.iter().any(is) {
            edits.push(&list, json!(capability.as_str()))?;
        }
    }
    Ok(())
}
