//! Requests to the API server, each with an end.

use crate::trouble::{Cause, Failure};
use kube::Client;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// The longest that one answer is waited for.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);

/// Asks, and reads the answer. Answers are never logged: some repeat a token.
pub(crate) async fn ask<T: DeserializeOwned>(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    longest: Duration,
) -> Result<T, Failure> {
    let request = request.map_err(|error| Failure::new(Cause::Unintelligible, error.to_string()))?;
    let answer = tokio::time::timeout(longest, client.request_text(request)).await;
    let text = answer.map_err(|_| late(longest))?.map_err(|error| Failure::plain(&error))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::new(Cause::Unintelligible, format!("the answer can't be understood: {error}")))
}

pub(crate) fn late(longest: Duration) -> Failure {
    Failure::new(Cause::Unreachable, format!("the API server has not answered within {} s", longest.as_secs_f32()))
}
