//! AdmissionReview (`admission.k8s.io/v1`): from bytes to bytes, for the way on which pods are changed.
//!
//! A request that cannot be read at all is an error, for which the webhook answers with an HTTP status; the API server then
//! does what its `failurePolicy` says. Every other request gets an answer with its own `uid`.

pub(crate) mod wire;

use std::fmt;

use json_patch::Patch;
use serde_json::Value;
use sidewall_api::{PodSplit, SidecarProxy, UnreadablePolicy, UnreadableSplit};
use wire::{Asked, Cause, Refused, Reply, Resource};

pub use wire::{BODY_MAX, ReviewError};

use crate::admission::inject::{Needs, Outcome, Patched, Request, Surroundings, Why, inject};
use crate::admission::probes::HookSecret;
use crate::admission::split::{self, Splits};
use crate::settings::Settings;

/// What is known of the cluster.
pub trait Cluster {
    /// A namespace; none where it is not known.
    fn namespace(&self, name: &str) -> Option<&Surroundings>;

    /// The SidecarProxies of a namespace.
    fn proxies(&self, namespace: &str) -> Vec<&SidecarProxy>;

    /// The SidecarProxies that cannot be read and may be of a namespace.
    fn unreadable(&self, namespace: &str) -> Vec<&UnreadablePolicy>;

    /// Which version there is of a Secret; none where that is not known.
    fn secret_version(&self, namespace: &str, secret: &str) -> Option<&str>;

    /// The PodSplits of a namespace.
    fn splits(&self, namespace: &str) -> Vec<&PodSplit>;

    /// The PodSplits that cannot be read and may be of a namespace.
    fn unreadable_splits(&self, namespace: &str) -> Vec<&UnreadableSplit>;
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
    let asked = wire::read(body)?;
    let Verdict { decision, patch, warnings, needs } = verdict(&asked, cluster, secret, settings);
    let refused = match &decision {
        Decision::Refused(message) => Some(Refused { message, cause: Cause::Forbidden }),
        _ => None,
    };
    let body = wire::write(asked.uid(), &Reply { refused, patch: patch.as_ref(), warnings: &warnings })?;
    Ok(Answer { body, decision, needs, dry_run: asked.is_dry_run(), namespace: asked.namespace().to_owned() })
}

struct Verdict {
    decision: Decision,
    patch: Option<Patch>,
    warnings: Vec<String>,
    needs: Option<Needs>,
}

impl Verdict {
    fn of(decision: Decision) -> Self {
        Self { decision, patch: None, warnings: Vec::new(), needs: None }
    }
}

fn verdict(request: &Asked, cluster: &dyn Cluster, secret: &HookSecret, settings: &Settings) -> Verdict {
    let namespace = request.namespace();
    let Resource { group, version, resource } = &request.resource;
    let pod = (group.as_str(), version.as_str(), resource.as_str()) == ("", "v1", "pods");
    if !pod || request.has_sub_resource() || request.operation != "CREATE" {
        return Verdict::of(Decision::NotOurs);
    }
    // The webhook is asked for namespaces that have opted in. One that is not known yet is younger than our news of it.
    let Some(surroundings) = cluster.namespace(namespace) else {
        let user = request.user_info.username.as_deref().unwrap_or("somebody");
        return Verdict::of(Decision::Refused(format!(
            "Sidewall does not know the namespace {namespace:?} yet, in which {user:?} creates a pod; try again in a moment"
        )));
    };
    let (splits, unreadable) = (cluster.splits(namespace), cluster.unreadable_splits(namespace));
    let splits = Splits { namespace, splits: &splits, unreadable: &unreadable, key: &secret.splits() };
    match splits.is_part(&request.object) {
        Ok(false) => {}
        Ok(true) => return Verdict::of(Decision::Untouched(Why::Part)),
        Err(refusal) => return Verdict::of(Decision::Refused(refusal.to_string())),
    }
    let proxies = cluster.proxies(namespace);
    let unreadable = cluster.unreadable(namespace);
    let asked = Request {
        pod: &request.object,
        namespace: surroundings,
        proxies: &proxies,
        unreadable: &unreadable,
        versions: &|secret| cluster.secret_version(namespace, secret).map(str::to_owned),
        secret,
    };
    match inject(&asked, settings) {
        Outcome::Untouched(why @ (Why::Namespace | Why::Mirror)) => Verdict::of(Decision::Untouched(why)),
        Outcome::Untouched(why) => divided(&splits, &request.object, Err(why)),
        Outcome::Refused(refusal) => Verdict::of(Decision::Refused(refusal.to_string())),
        Outcome::Patched(patched) => divided(&splits, &request.object, Ok(*patched)),
    }
}

/// What becomes of a pod after the proxy has come in, or has not.
fn divided(splits: &Splits<'_>, pod: &Value, injected: Result<Patched, Why>) -> Verdict {
    let (mut steps, mut warnings, needs, why) = match injected {
        Ok(Patched { patch, warnings, needs }) => (patch.0, warnings, needs, Why::Done),
        Err(why) => (Vec::new(), Vec::new(), None, why),
    };
    let mut injected = pod.clone();
    let applied = json_patch::patch(&mut injected, &steps).map_err(split::Refusal::from);
    let divided = match applied.and_then(|()| splits.divide(&injected)) {
        Ok(divided) => divided,
        Err(refusal) => return Verdict::of(Decision::Refused(refusal.to_string())),
    };
    let why = match divided {
        Some(divided) => {
            steps.extend(divided.patch.0);
            warnings.extend(divided.warnings);
            Why::Done
        }
        None => why,
    };
    if steps.is_empty() {
        return Verdict::of(Decision::Untouched(why));
    }
    Verdict { decision: Decision::Patched, patch: Some(Patch(steps)), warnings, needs }
}

#[cfg(test)]
mod tests;
