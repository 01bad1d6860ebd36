//! What an AdmissionReview looks like, whatever it is about.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use json_patch::Patch;
use k8s_openapi::api::authentication::v1::UserInfo;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The largest review that is read, in bytes. The API server takes objects of at most 3 MiB.
pub const BODY_MAX: usize = 8 * 1024 * 1024;

/// The most warnings of an answer.
const WARNINGS_MAX: usize = 16;

/// The longest warning, in characters. The API server cuts all of them together at 4096 bytes.
const WARNING_MAX: usize = 256;

/// The longest message of a refusal, in characters.
pub(crate) const MESSAGE_MAX: usize = 4096;

/// The longest `uid` that is sent back.
const UID_LENGTH_MAX: usize = 256;

const API_VERSION: &str = "admission.k8s.io/v1";

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
    request: Option<Asked>,
}

/// What is asked. It is not printed: objects may hold what must not be.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    uid: String,
    pub resource: Resource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    pub operation: String,
    #[serde(default)]
    pub user_info: UserInfo,
    #[serde(default)]
    pub object: Value,
    #[serde(default)]
    pub old_object: Value,
    #[serde(default)]
    dry_run: Option<bool>,
}

/// A resource as the API server names it.
#[derive(Deserialize)]
pub(crate) struct Resource {
    #[serde(default)]
    pub group: String,
    pub version: String,
    pub resource: String,
}

impl Asked {
    /// The namespace; empty where there is none.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// Whether it is about a part of the object only, such as its status.
    pub fn has_sub_resource(&self) -> bool {
        self.sub_resource.as_deref().is_some_and(|sub| !sub.is_empty())
    }

    /// Whether nothing will be stored.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run == Some(true)
    }

    /// The number under which the answer is awaited.
    pub fn uid(&self) -> &str {
        &self.uid
    }
}

/// Reads a review.
pub(crate) fn read(body: &[u8]) -> Result<Asked, ReviewError> {
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
    Ok(request)
}

/// What is answered.
#[derive(Default)]
pub(crate) struct Reply<'a> {
    /// Why it is refused; none where it is allowed.
    pub refused: Option<Refused<'a>>,
    /// How the object is changed.
    pub patch: Option<&'a Patch>,
    /// What the user is told.
    pub warnings: &'a [String],
}

/// A refusal, as the user's client is told of it.
#[derive(Clone, Copy)]
pub(crate) struct Refused<'a> {
    pub message: &'a str,
    pub cause: Cause,
}

/// What sort of refusal it is: the status that the user's client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// The object cannot be.
    Invalid,
    /// It cannot be found out whether it may be.
    Unavailable,
    /// It may not be.
    Forbidden,
}

impl Cause {
    const fn status(self) -> (u16, &'static str) {
        match self {
            Self::Invalid => (422, "Invalid"),
            Self::Unavailable => (503, "ServiceUnavailable"),
            Self::Forbidden => (403, "Forbidden"),
        }
    }
}

/// Writes the answer to the review of this uid.
pub(crate) fn write(uid: &str, reply: &Reply<'_>) -> Result<Vec<u8>, ReviewError> {
    let mut response = Map::new();
    response.insert("uid".to_owned(), json!(uid));
    response.insert("allowed".to_owned(), json!(reply.refused.is_none()));
    if let Some(Refused { message, cause }) = reply.refused {
        let (code, reason) = cause.status();
        let status = json!({"code": code, "reason": reason, "message": short(message, MESSAGE_MAX)});
        response.insert("status".to_owned(), status);
    }
    if let Some(patch) = reply.patch {
        let patch = serde_json::to_vec(patch).map_err(ReviewError::Unwritable)?;
        response.insert("patchType".to_owned(), json!("JSONPatch"));
        response.insert("patch".to_owned(), json!(BASE64_STANDARD.encode(patch)));
    }
    if !reply.warnings.is_empty() {
        let mut warnings: Vec<String> =
            reply.warnings.iter().take(WARNINGS_MAX).map(|text| short(text, WARNING_MAX)).collect();
        let more = reply.warnings.len().saturating_sub(WARNINGS_MAX - 1);
        if reply.warnings.len() > WARNINGS_MAX {
            warnings.truncate(WARNINGS_MAX - 1);
            warnings.push(format!("and {more} more warnings"));
        }
        response.insert("warnings".to_owned(), json!(warnings));
    }
    let body = json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response});
    serde_json::to_vec(&body).map_err(ReviewError::Unwritable)
}

/// A text, cut where it is too long; without control characters, which a terminal would take for its own.
pub(crate) fn short(text: &str, most: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().nth(most).is_none() {
        return text.chars().map(clean).collect();
    }
    text.chars().take(most.saturating_sub(1)).map(clean).chain(['…']).collect()
}
