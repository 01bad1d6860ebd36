//! The CustomResourceDefinitions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{ContainerNetworkPolicy, SidecarProxy};

/// Every CustomResourceDefinition of ours, in the order of their names.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![ContainerNetworkPolicy::crd(), SidecarProxy::crd()];
    crds.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    crds
}
