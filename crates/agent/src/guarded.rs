//! What a pod is taken for of which nothing is known but its name.

use sidewall_api::Attachments;
use sidewall_policy::Subject;
use sidewall_policy::index::Named;
use sidewall_policy::model::{Identities, UserIdentities};
use std::collections::BTreeMap;

/// A pod without containers, devices or addresses: whoever sends or receives there is nobody.
pub fn subject(name: &Named) -> Subject {
    Subject {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        labels: BTreeMap::new(),
        addresses: Vec::new(),
        interface: None,
        containers: BTreeMap::new(),
        identities: Identities::Uid(UserIdentities::default()),
        networks: Attachments::default(),
        link: None,
    }
}
