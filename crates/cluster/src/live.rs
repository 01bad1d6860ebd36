//! A cluster as it is now, read once: for commands that explain it.

mod listing;
mod served;
mod workload;

pub use listing::{ListedNode, ListedPolicy, PlacedPod, PolicySet, nodes, pods, policies};
pub use workload::{Workload, selector};

use crate::feed::Page;
use crate::item::{Event, Watched};
use crate::kind::{Kind, Kinds, Reading};
use crate::ledger::Ledger;
use crate::local::LocalPod;
use crate::request::{LONGEST, ask};
use crate::trouble::{Cause, Failure};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{GetParams, ListParams};
use kube::core::Request;
use serde_json::Value;
use sidewall_api::NodeEnforcement;
use sidewall_policy::index::{Index, Named};
use sidewall_policy::world::{Network, World};
use std::collections::BTreeMap;

/// The most objects of one page.
const PAGE: u32 = 500;

/// How often a list is begun anew because it became too old while it was read.
const TRIES: u32 = 3;

/// A cluster as it was when it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// Everything that policies can speak of.
    pub world: World,
    /// Kinds that could not be read, and why. Only kinds without which most verdicts are right are left out so: nodes and
    /// ranges, which not everybody may read.
    pub unknown: BTreeMap<Kind, String>,
}

/// Why a cluster can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// A kind can't be read that verdicts depend on.
    #[error("{kind} objects can't be read: {message}")]
    Kind {
        /// The kind.
        kind: Kind,
        /// Why not.
        cause: Cause,
        /// The same in words, and what can be done.
        message: String,
    },
    /// The object does not exist.
    #[error("{kind} {name} does not exist")]
    Missing {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// What makes pods can't be read.
    #[error("{kind} {name} can't be read: {message}")]
    Workload {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why not.
        cause: Cause,
        /// The same in words.
        message: String,
    },
    /// The NodeEnforcements can't be read.
    #[error("NodeEnforcement objects can't be read: {message}")]
    Enforcements {
        /// Why not.
        cause: Cause,
        /// The same in words.
        message: String,
    },
}

/// Reads a cluster. `network` is what is known of the network without asking.
///
/// The kinds are read one after the other, so that a change meanwhile may be half seen: what comes of it is as right as what
/// a node knows at some moment.
///
/// # Errors
///
/// [`LiveError::Kind`] for the first kind that can't be read.
pub async fn read(client: &Client, kinds: &Kinds, network: Network) -> Result<Live, LiveError> {
    let all = kinds.all();
    let mut ledger = Ledger::new(all.clone(), network);
    let mut unknown = BTreeMap::new();
    for kind in &all {
        let read = match kind {
            Kind::Pod => list::<core::Pod>(client, *kind, &mut ledger).await,
            Kind::Namespace => list::<core::Namespace>(client, *kind, &mut ledger).await,
            Kind::Node => list::<core::Node>(client, *kind, &mut ledger).await,
            Kind::Service => list::<core::Service>(client, *kind, &mut ledger).await,
            Kind::EndpointSlice => list::<EndpointSlice>(client, *kind, &mut ledger).await,
            Kind::ServiceCidr
            | Kind::ContainerNetworkPolicy
            | Kind::SidecarProxy
            | Kind::NetworkPolicy
            | Kind::MultiNetworkPolicy => list::<Value>(client, *kind, &mut ledger).await,
        };
        match read {
            Ok(()) => {}
            Err(failure)
                if kinds.reading(*kind) == Reading::IfServed && served::is_absent(client, *kind, &failure).await => {}
            Err(failure) if failure.cause == Cause::Forbidden && matches!(kind, Kind::Node | Kind::ServiceCidr) => {
                unknown.insert(*kind, failure.message);
            }
            Err(Failure { cause, message, .. }) => return Err(LiveError::Kind { kind: *kind, cause, message }),
        }
    }
    let mut index = Index::new(World::default());
    for change in ledger.batch().into_iter().flat_map(|batch| batch.changes) {
        index.apply(change);
    }
    Ok(Live { world: index.world(), unknown })
}

/// Reads one pod, as far as its walls depend on it.
///
/// # Errors
///
/// [`LiveError::Missing`] where it does not exist.
pub async fn pod(client: &Client, name: &Named) -> Result<LocalPod, LiveError> {
    manifest(client, name).await.map(|pod| LocalPod::of(&pod))
}

/// Reads one pod, whole.
///
/// # Errors
///
/// [`LiveError::Missing`] where it does not exist.
pub async fn manifest(client: &Client, name: &Named) -> Result<core::Pod, LiveError> {
    let path = format!("/api/v1/namespaces/{}/pods", name.namespace);
    match ask(client, Request::new(path).get(&name.name, &GetParams::default()), LONGEST).await {
        Ok(pod) => Ok(pod),
        Err(Failure { cause: Cause::Absent, .. }) => {
            Err(LiveError::Missing { kind: Kind::Pod.as_str(), name: name.to_string() })
        }
        Err(Failure { cause, message, .. }) => {
            let advice = match cause {
                Cause::Forbidden => format!("; grant get on pods in {}", name.namespace),
                _ => String::new(),
            };
            Err(LiveError::Kind { kind: Kind::Pod, cause, message: format!("{message}{advice}") })
        }
    }
}

/// Reads what the nodes say of enforcement, by node.
///
/// # Errors
///
/// [`LiveError::Enforcements`].
pub async fn enforcements(client: &Client) -> Result<BTreeMap<String, NodeEnforcement>, LiveError> {
    let mut all = BTreeMap::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let request = Request::new(crate::enforcement::PATH).list(&params);
        let page: Page<NodeEnforcement> =
            ask(client, request, LONGEST).await.map_err(|failure| of_enforcements("list", failure))?;
        for object in page.items.into_iter().flatten() {
            all.insert(object.metadata.name.clone().unwrap_or_default(), object);
        }
        match page.metadata.next.filter(|next| !next.is_empty()) {
            Some(next) => params.continue_token = Some(next),
            None => return Ok(all),
        }
    }
}

/// Reads what one node says of enforcement: nothing, where no agent has ever written there.
///
/// # Errors
///
/// [`LiveError::Enforcements`].
pub async fn enforcement(client: &Client, node: &str) -> Result<Option<NodeEnforcement>, LiveError> {
    let request = Request::new(crate::enforcement::PATH).get(node, &GetParams::default());
    match ask(client, request, LONGEST).await {
        Ok(object) => Ok(Some(object)),
        Err(Failure { cause: Cause::Absent, .. }) => Ok(None),
        Err(failure) => Err(of_enforcements("get", failure)),
    }
}

fn of_enforcements(verb: &str, Failure { cause, message, .. }: Failure) -> LiveError {
    let advice = match cause {
        Cause::Forbidden => format!("; grant {verb} on nodeenforcements.sidewall.dev"),
        Cause::Absent => "; install the CustomResourceDefinitions of Sidewall".to_owned(),
        _ => String::new(),
    };
    LiveError::Enforcements { cause, message: format!("{message}{advice}") }
}

/// Reads all of a kind, of the best version that is served.
async fn list<T: Watched>(client: &Client, kind: Kind, ledger: &mut Ledger) -> Result<(), Failure> {
    let mut paths = kind.paths().iter().peekable();
    let mut tries = 0;
    while let Some(path) = paths.peek() {
        match pages::<T>(client, kind, path, ledger).await {
            Err(failure) if failure.cause == Cause::Absent => {
                paths.next();
                if paths.peek().is_none() {
                    return Err(about(kind, failure));
                }
            }
            Err(failure) if failure.cause == Cause::Expired && tries < TRIES => tries += 1,
            other => return other.map_err(|failure| about(kind, failure)),
        }
    }
    Ok(())
}

/// The same, with what can be done where a kind was to be read once: watching it takes one right more.
fn about(kind: Kind, failure: Failure) -> Failure {
    match failure.cause {
        Cause::Forbidden => {
            let plural = kind.paths()[0].rsplit('/').next().unwrap_or_default();
            Failure { message: format!("{}; grant list on {plural}", failure.message), ..failure }
        }
        _ => failure.about(kind),
    }
}

async fn pages<T: Watched>(client: &Client, kind: Kind, path: &str, ledger: &mut Ledger) -> Result<(), Failure> {
    ledger.note(Event::Begin(kind));
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page: Page<T> = ask(client, Request::new(path).list(&params), LONGEST).await?;
        for object in page.items.into_iter().flatten() {
            let name = object.named();
            ledger.note(Event::Put(kind, name, object.item(kind, None)));
        }
        match page.metadata.next.filter(|next| !next.is_empty()) {
            Some(next) => params.continue_token = Some(next),
            None => break,
        }
    }
    ledger.note(Event::Listed(kind));
    Ok(())
}

#[cfg(test)]
mod tests;
