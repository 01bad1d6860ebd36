//! Whether the API server serves a kind at all.
//!
//! Whoever lacks a right is refused before the API server looks whether it has what was asked for: 403 may mean that there is
//! nothing to see. Everybody who is known may ask what is served.

use crate::kind::Kind;
use crate::request::{LONGEST, ask};
use crate::trouble::{Cause, Failure};
use kube::Client;
use serde::Deserialize;

#[derive(Deserialize)]
struct Served {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
}

/// Whether a kind may be served. Where that can't be found out, it may be.
pub async fn may_be_served(client: &Client, kind: Kind) -> bool {
    for path in kind.paths() {
        let Some((version, plural)) = path.rsplit_once('/') else { return true };
        let request = http::Request::get(version).body(Vec::new());
        let Ok(request) = request else { return true };
        match ask::<Served>(client, Ok(request), LONGEST).await {
            Ok(served) if served.resources.iter().any(|resource| resource.name == plural) => return true,
            Ok(_) | Err(Failure { cause: Cause::Absent, .. }) => {}
            Err(_) => return true,
        }
    }
    false
}

/// What a failure to read a kind means where the kind need not be served: whether there is nothing of it.
pub async fn is_absent(client: &Client, kind: Kind, failure: &Failure) -> bool {
    match failure.cause {
        Cause::Absent => true,
        Cause::Forbidden => !may_be_served(client, kind).await,
        _ => false,
    }
}
