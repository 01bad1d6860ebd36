//! What makes pods: to find one of them by the name that its author knows.

use super::LiveError;
use crate::request::{LONGEST, ask};
use crate::trouble::{Cause, Failure};
use kube::Client;
use kube::api::GetParams;
use kube::core::Request;
use serde::Deserialize;
use sidewall_api::LabelSelector;
use sidewall_policy::index::Named;

/// A kind whose objects make pods of one template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
    /// A ReplicaSet.
    ReplicaSet,
    /// A Job.
    Job,
}

impl Workload {
    /// Its name, as objects bear it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::Job => "Job",
        }
    }

    /// Where the API server has it: the group with its version, and the plural.
    const fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Deployment => ("apps/v1", "deployments"),
            Self::StatefulSet => ("apps/v1", "statefulsets"),
            Self::DaemonSet => ("apps/v1", "daemonsets"),
            Self::ReplicaSet => ("apps/v1", "replicasets"),
            Self::Job => ("batch/v1", "jobs"),
        }
    }
}

/// Reads which pods are a workload's. Labels tell, as they tell its controller.
///
/// # Errors
///
/// [`LiveError::Missing`], [`LiveError::Workload`].
pub async fn selector(client: &Client, workload: Workload, name: &Named) -> Result<LabelSelector, LiveError> {
    #[derive(Deserialize)]
    struct Object {
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        selector: LabelSelector,
    }
    let (group, plural) = workload.place();
    let path = format!("/apis/{group}/namespaces/{}/{plural}", name.namespace);
    let got: Result<Object, Failure> =
        ask(client, Request::new(path).get(&name.name, &GetParams::default()), LONGEST).await;
    let (kind, name_of) = (workload.as_str(), name.to_string());
    match got {
        Ok(object) => Ok(object.spec.selector),
        Err(Failure { cause: Cause::Absent, .. }) => Err(LiveError::Missing { kind, name: name_of }),
        Err(Failure { cause, message, .. }) => {
            let advice = match cause {
                Cause::Forbidden => format!("; grant get on {plural} in {}", name.namespace),
                _ => String::new(),
            };
            Err(LiveError::Workload { kind, name: name_of, cause, message: format!("{message}{advice}") })
        }
    }
}
