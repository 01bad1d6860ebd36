//! The ConfigMaps with the configuration of proxies, as objects and as writes.
//!
//! They have no owner: a proxy goes on when its SidecarProxy is deleted, and a container of its pod could not be started again
//! without it. Those that no pod needs any more are deleted by [`crate::keeper`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};

use crate::names::{ANNOTATION_REFRESHED, LABEL_MANAGED_BY, MANAGED_BY};
use crate::proxies::render::{Rendered, config_data};
use crate::written::{WriteError, answered};

/// A ConfigMap that holds a configuration, and says of what its pods have been told.
pub fn object(namespace: &str, name: &str, rendered: &Rendered, refreshed: &str) -> ConfigMap {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from([
                label(LABEL_MANAGED_BY, MANAGED_BY),
                label("app.kubernetes.io/name", "sidewall-proxy"),
                label("app.kubernetes.io/part-of", "sidewall"),
            ])),
            annotations: Some(BTreeMap::from([label(ANNOTATION_REFRESHED, refreshed)])),
            ..ObjectMeta::default()
        },
        data: Some(config_data(rendered)),
        ..ConfigMap::default()
    }
}

/// Creates a ConfigMap; whether there was none of this name.
///
/// # Errors
/// [`WriteError`].
pub async fn create(client: &Client, object: &ConfigMap) -> Result<bool, WriteError> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), object.metadata.namespace.as_deref().unwrap_or_default());
    match answered(maps.create(&PostParams::default(), object)).await {
        Ok(_) => Ok(true),
        Err(error) if error.status() == Some(409) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Changes a ConfigMap of ours.
///
/// # Errors
/// [`WriteError`].
pub async fn apply(client: &Client, object: &ConfigMap) -> Result<(), WriteError> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), object.metadata.namespace.as_deref().unwrap_or_default());
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let parameters = PatchParams::apply(MANAGED_BY).force();
    answered(maps.patch(name, &parameters, &Patch::Apply(object))).await.map(drop)
}
