//! Whether a CustomResourceDefinition stands.
//!
//! When one is deleted, the API server first deletes every object of the kind, one by one, and only then the definition.
//! A watch sees ordinary deletions. The definition bears its deletion timestamp before the first of them, so looking at it
//! after a deletion was seen tells the two apart for certain.

use crate::request::ask;
use crate::trouble::{Cause, Failure};
use kube::Client;
use kube::api::GetParams;
use kube::core::Request;
use serde::Deserialize;
use std::time::Duration;

const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A CustomResourceDefinition's name.
pub(super) struct Definition(pub &'static str);

pub(super) enum Standing {
    Stands,
    /// It is being deleted, or is no more.
    Ends,
    Unknown(String),
}

#[derive(Deserialize)]
struct Partial {
    metadata: PartialMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartialMeta {
    deletion_timestamp: Option<String>,
}

impl Definition {
    pub async fn ask(&self, client: &Client, longest: Duration) -> Standing {
        let request = Request::new(PATH).get_metadata(self.0, &GetParams::default());
        match ask::<Partial>(client, request, longest).await {
            Ok(definition) if definition.metadata.deletion_timestamp.is_none() => Standing::Stands,
            Ok(_) | Err(Failure { cause: Cause::Absent, .. }) => Standing::Ends,
            Err(failure) => Standing::Unknown(failure.to_string()),
        }
    }
}
