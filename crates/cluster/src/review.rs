//! Who somebody is, and what he may see: both are the API server's to say.

use crate::request::{LONGEST, ask};
use crate::trouble::Failure;
use k8s_openapi::api::authentication::v1 as authentication;
use k8s_openapi::api::authorization::v1 as authorization;
use kube::Client;
use kube::api::PostParams;
use kube::core::Request;
use serde::Serialize;
use sidewall_api::names::GROUP;
use std::collections::BTreeMap;
use std::fmt;

/// The resource whose `get` in a namespace lets somebody see the flows of its pods. It is no kind: only rules name it.
pub const FLOWS: &str = "flows";

/// Somebody whom the API server knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// His name.
    pub name: String,
    /// His identity behind the name, where there is one.
    pub uid: String,
    /// His groups.
    pub groups: Vec<String>,
    /// What else the API server knows of him.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// A token. It is never written anywhere.
pub struct Token(String);

impl Token {
    /// A token.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The token itself, for whoever it is to be shown to.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why there is no answer. Nobody may see anything then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// The token is nobody's.
    #[error("the token is not valid for this cluster: log in again")]
    Nobody,
    /// The API server did not answer.
    #[error(
        "the API server could not be asked who this is and what he may see: {0}; does the agent's role allow to create tokenreviews and subjectaccessreviews?"
    )]
    Unanswered(String),
}

impl From<Failure> for ReviewError {
    fn from(failure: Failure) -> Self {
        Self::Unanswered(failure.to_string())
    }
}

/// Asks whose token this is. Where `audiences` is not empty the token must be meant for one of them.
///
/// # Errors
///
/// [`ReviewError::Nobody`] where it is nobody's.
pub async fn user(client: &Client, token: Token, audiences: &[String]) -> Result<User, ReviewError> {
    let review = authentication::TokenReview {
        spec: authentication::TokenReviewSpec {
            token: Some(token.0),
            audiences: (!audiences.is_empty()).then(|| audiences.to_vec()),
        },
        ..authentication::TokenReview::default()
    };
    let answer: authentication::TokenReview =
        create(client, "/apis/authentication.k8s.io/v1/tokenreviews", &review).await?;
    let status = answer.status.unwrap_or_default();
    // A server that does not know audiences names none, and the token may be meant for anybody.
    let meant = audiences.is_empty() || status.audiences.iter().flatten().any(|audience| audiences.contains(audience));
    match status.user {
        Some(user) if status.authenticated == Some(true) && meant => Ok(User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default().into_iter().collect(),
        }),
        _ => Err(ReviewError::Nobody),
    }
}

/// Whether somebody may see the flows of a namespace's pods; with no namespace, of all namespaces.
///
/// # Errors
///
/// [`ReviewError::Unanswered`]: then he may not.
pub async fn may_see_flows(client: &Client, user: &User, namespace: Option<&str>) -> Result<bool, ReviewError> {
    let review = authorization::SubjectAccessReview {
        spec: authorization::SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: (!user.uid.is_empty()).then(|| user.uid.clone()),
            groups: (!user.groups.is_empty()).then(|| user.groups.clone()),
            extra: (!user.extra.is_empty()).then(|| user.extra.clone().into_iter().collect()),
            resource_attributes: Some(authorization::ResourceAttributes {
                group: Some(GROUP.to_owned()),
                resource: Some(FLOWS.to_owned()),
                verb: Some("get".to_owned()),
                namespace: namespace.map(str::to_owned),
                ..authorization::ResourceAttributes::default()
            }),
            ..authorization::SubjectAccessReviewSpec::default()
        },
        ..authorization::SubjectAccessReview::default()
    };
    let answer: authorization::SubjectAccessReview =
        create(client, "/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await?;
    let status = answer.status.unwrap_or_default();
    Ok(status.allowed && status.denied != Some(true))
}

async fn create<T: Serialize + serde::de::DeserializeOwned>(
    client: &Client,
    path: &str,
    object: &T,
) -> Result<T, ReviewError> {
    let body = serde_json::to_vec(object).map_err(|error| ReviewError::Unanswered(error.to_string()))?;
    Ok(ask(client, Request::new(path).create(&PostParams::default(), body), LONGEST).await?)
}

#[cfg(test)]
mod tests;
