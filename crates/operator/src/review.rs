//! AdmissionReview (`admission.k8s.io/v1`): from bytes to bytes, for the way on which pods are changed.
//!
//! A request that cannot be read at all is an error, for which the webhook answers with an HTTP status; the API server then
//! does what its `failurePolicy` says. Every other request gets an answer with its own `uid`.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::authentication::v1::UserInfo;
use serde::Deserialize;
use serde_json::{Value, json};
use sidewall_api::{SidecarProxy, UnreadablePolicy};

use crate::inject::{Needs, Outcome, Request, Surroundings, Why, inject};
use crate::probes::HookSecret;
use crate::settings::Settings;

/// The largest review that is read, in bytes. The API server takes objects of at most 3 MiB.
pub const BODY_MAX: usize = 8 * 1024 * 1024;

/// The most warnings of an answer.
const WARNINGS_MAX: usize = 16;

/// The longest warning, in characters. The API server cuts all of them together at 4096 bytes.
const WARNING_MAX: usize = 256;

/// The longest message of a refusal, in characters.
const MESSAGE_MAX: usize = 4096;

/// The longest `uid` that is sent back.
const UID_LENGTH_MAX: usize = 256;

const API_VERSION: &str = "admission.k8s.io/v1";

/// What is known of the cluster.
pub trait Cluster {
    /// A namespace; none where it is not known.
    fn namespace(&self, name: &str) -> Option<&Surroundings>;

    /// The SidecarProxies of a namespace.
    fn proxies(&self, namespace: &str) -> Vec<&SidecarProxy>;

    /// The SidecarProxies that cannot be read and may be of a namespace.
    fn unreadable(&self, namespace: &str) -> Vec<&UnreadablePolicy>;
}

/// An answer, and what it means.
pub struct Answer {
    /// The AdmissionReview to send back, as JSON.
    pub body: Vec<u8>,
    /// What was decided.
    pub decision: Decision,
    /// What the pod needs that is not in it; the ConfigMap had better be there before the answer is sent.
    pub needs: Option<Needs>,
    /// Whether nothing will be stored, so that nothing is needed either.
    pub dry_run: bool,
    /// The namespace.
    pub namespace: String,
}

// By hand: what probes ask is in the patch, and may carry credentials.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { body: _, decision, needs, dry_run, namespace } = self;
        let mut shown = f.debug_struct("Answer");
        shown.field("decision", decision).field("needs", needs).field("dry_run", dry_run);
        shown.field("namespace", namespace).finish_non_exhaustive()
    }
}

/// What was decided on a review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is no creation of a pod.
    NotOurs,
    /// The pod stays as it is.
    Untouched(Why),
    /// The pod is changed.
    Patched,
    /// The pod is refused, with this message.
    Refused(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Too long.
    #[error("the review is {size} bytes long, and at most {BODY_MAX} are read")]
    TooLarge {
        /// Its length.
        size: usize,
    },
    /// Not JSON, or not of this shape.
    #[error("the body is no AdmissionReview: line {line}, column {column}")]
    Unreadable {
        /// The line at which it could not be read on. What stands there is not quoted.
        line: usize,
        /// The column.
        column: usize,
    },
    /// Of another version.
    #[error(
        "the review is of {api_version:?} {kind:?}; only {API_VERSION} AdmissionReview is known: set admissionReviewVersions to [v1]"
    )]
    Version {
        /// What it says it is.
        api_version: String,
        /// What it says it is.
        kind: String,
    },
    /// No request in it.
    #[error("the review has no request")]
    NoRequest,
    /// No uid that could be sent back.
    #[error("the request's uid is empty or longer than {UID_LENGTH_MAX} bytes")]
    NoUid,
    /// The answer cannot be written.
    #[error("the answer cannot be written: {0}")]
    Unwritable(serde_json::Error),
}

// What we do not know of a review is the API server's business: fields may be added to it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<ReviewRequest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReviewRequest {
    uid: String,
    resource: Resource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    operation: String,
    #[serde(default)]
    user_info: UserInfo,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    group: String,
    version: String,
    resource: String,
}

/// Answers a review of a pod's creation.
///
/// # Errors
///
/// The bytes are no review; see [`ReviewError`].
pub fn answer(
    body: &[u8],
    cluster: &dyn Cluster,
    secret: &HookSecret,
    settings: &Settings,
) -> Result<Answer, ReviewError> {
    if body.len() > BODY_MAX {
        return Err(ReviewError::TooLarge { size: body.len() });
    }
    let review: Review = serde_json::from_slice(body)
        .map_err(|error| ReviewError::Unreadable { line: error.line(), column: error.column() })?;
    if review.api_version != API_VERSION || review.kind != "AdmissionReview" {
        return Err(ReviewError::Version {
            api_version: short(&review.api_version, 64),
            kind: short(&review.kind, 64),
        });
    }
    let request = review.request.ok_or(ReviewError::NoRequest)?;
    if request.uid.is_empty() || request.uid.len() > UID_LENGTH_MAX {
        return Err(ReviewError::NoUid);
    }
    let namespace = request.namespace.clone().unwrap_or_default();
    let Verdict { decision, patch, warnings, needs } = verdict(&request, &namespace, cluster, secret, settings);
    let mut response = json!({"uid": request.uid, "allowed": true});
    let mut set = |key: &str, value: Value| {
        if let Some(fields) = response.as_object_mut() {
            fields.insert(key.to_owned(), value);
        }
    };
    if let Decision::Refused(message) = &decision {
        set("allowed", json!(false));
        set("status", json!({"code": 403, "reason": "Forbidden", "message": short(message, MESSAGE_MAX)}));
    }
    if let Some(patch) = patch {
        let patch = serde_json::to_vec(&patch).map_err(ReviewError::Unwritable)?;
        set("patchType", json!("JSONPatch"));
        set("patch", json!(BASE64_STANDARD.encode(patch)));
    }
    if !warnings.is_empty() {
        let warnings: Vec<String> = warnings.iter().take(WARNINGS_MAX).map(|text| short(text, WARNING_MAX)).collect();
        set("warnings", json!(warnings));
    }
    let body = json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response});
    let body = serde_json::to_vec(&body).map_err(ReviewError::Unwritable)?;
    Ok(Answer { body, decision, needs, dry_run: request.dry_run == Some(true), namespace })
}

struct Verdict {
    decision: Decision,
    patch: Option<json_patch::Patch>,
    warnings: Vec<String>,
    needs: Option<Needs>,
}

impl Verdict {
    fn of(decision: Decision) -> Self {
        Self { decision, patch: None, warnings: Vec::new(), needs: None }
    }
}

fn verdict(
    request: &ReviewRequest,
    namespace: &str,
    cluster: &dyn Cluster,
    secret: &HookSecret,
    settings: &Settings,
) -> Verdict {
    let Resource { group, version, resource } = &request.resource;
    let pod = (group.as_str(), version.as_str(), resource.as_str()) == ("", "v1", "pods");
    if !pod || request.sub_resource.as_deref().is_some_and(|sub| !sub.is_empty()) || request.operation != "CREATE" {
        return Verdict::of(Decision::NotOurs);
    }
    // The webhook is asked for namespaces that have opted in. One that is not known yet is younger than our news of it.
    let Some(surroundings) = cluster.namespace(namespace) else {
        let user = request.user_info.username.as_deref().unwrap_or("somebody");
        return Verdict::of(Decision::Refused(format!(
            "Sidewall does not know the namespace {namespace:?} yet, in which {user:?} creates a pod; try again in a moment"
        )));
    };
    let proxies = cluster.proxies(namespace);
    let unreadable = cluster.unreadable(namespace);
    let asked =
        Request { pod: &request.object, namespace: surroundings, proxies: &proxies, unreadable: &unreadable, secret };
    match inject(&asked, settings) {
        Outcome::Untouched(why) => Verdict::of(Decision::Untouched(why)),
        Outcome::Refused(refusal) => Verdict::of(Decision::Refused(refusal.to_string())),
        Outcome::Patched(patched) => Verdict {
            decision: Decision::Patched,
            patch: Some(patched.patch),
            warnings: patched.warnings,
            needs: patched.needs,
        },
    }
}

/// A text, cut where it is too long; without control characters, which a terminal would take for its own.
fn short(text: &str, most: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().nth(most).is_none() {
        return text.chars().map(clean).collect();
    }
    text.chars().take(most.saturating_sub(1)).map(clean).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
