//! The front proxy's way into a pod.

mod capabilities;
mod choose;
mod plan;
mod ports;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use json_patch::Patch;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sidewall_api::{SidecarProxy, UnreadablePolicy};

use crate::admission::identity::Asks;
use crate::admission::probes::{HookSecret, Originals};
use crate::admission::refusal::Refusal;
use crate::names::{ANNOTATION_MIRROR, ANNOTATION_PROXY, WRITTEN_POD_KEYS};
use crate::proxies::render::Rendered;
use crate::settings::Settings;

pub(crate) use choose::{age, name_of};
pub(crate) use ports::Own;
pub(crate) use volumes::check_names;

/// Secrets by their names, and of each the keys that are used.
pub type Secrets = BTreeMap<String, BTreeSet<String>>;

/// A namespace, as far as its pods are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What is asked: what becomes of this pod.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The pod as the API server sent it, which need not have a name yet.
    pub pod: &'a Value,
    /// Its namespace.
    pub namespace: &'a Surroundings,
    /// The SidecarProxies of that namespace.
    pub proxies: &'a [&'a SidecarProxy],
    /// Those that cannot be read.
    pub unreadable: &'a [&'a UnreadablePolicy],
    /// Which version there is of a Secret of that namespace; none where that is not known.
    pub versions: &'a dyn Fn(&str) -> Option<String>,
    /// The operator's secret.
    pub secret: &'a HookSecret,
}

/// What becomes of a pod.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing.
    Untouched(Why),
    /// It is changed.
    Patched(Box<Patched>),
    /// It may not be.
    Refused(Box<Refusal>),
}

/// Why nothing becomes of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its namespace is not one of those that are looked at.
    Namespace,
    /// It is the image of a static pod, which the kubelet runs whatever the API server says.
    Mirror,
    /// No SidecarProxy selects it, and it asks for nothing.
    NotSelected,
    /// The SidecarProxy that selects it names files: the pod brings its proxy along.
    BringsItsOwn {
        /// The SidecarProxy.
        proxy: String,
    },
    /// No SidecarProxy selects it, and what it or its namespace asks for is Linux's.
    System,
    /// It is a part of a split pod, which the operator itself has made.
    Part,
    /// All has been done before.
    Done,
}

/// How a pod is changed.
pub struct Patched {
    /// The patch (RFC 6902).
    pub patch: Patch,
    /// What its author should know.
    pub warnings: Vec<String>,
    /// What must be there for it to start; nothing where it has no proxy.
    pub needs: Option<Needs>,
}

// By hand: what probes ask is in the patch, and may carry credentials.
impl fmt::Debug for Patched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { patch, warnings, needs } = self;
        let paths: Vec<&str> = patch.0.iter().map(|step| step.path().as_str()).collect();
        f.debug_struct("Patched").field("paths", &paths).field("warnings", warnings).field("needs", needs).finish()
    }
}

// By hand: a pod may have passwords in its environment.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("namespace", &self.namespace.name).finish_non_exhaustive()
    }
}

/// What a pod with a proxy needs beside itself.
#[derive(Clone, Debug)]
pub struct Needs {
    /// What was written on the pod: the ConfigMap's name, and the Secrets.
    pub record: Record,
    /// What its probes asked.
    pub originals: Originals,
    /// What the ConfigMap is to hold.
    pub config: Rendered,
    /// Of what the pod has been told: see [`crate::proxies::refreshed`].
    pub word: String,
}

/// The annotation [`ANNOTATION_PROXY`]: what is fixed in a pod about its proxy.
///
/// Fields of newer versions are passed over: it is only read to find what was done, and made anew at each call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The SidecarProxy.
    pub proxy: String,
    /// The proxy's container.
    pub container: String,
    /// The port to which the kubelet's probes are led.
    pub probe_port: u16,
    /// The ConfigMap with the proxy's configuration.
    pub config: String,
    /// The Secrets that are mounted.
    pub secrets: Secrets,
}

/// The longest [`Record`] that is read.
const RECORD_MAX: usize = 64 * 1024;

impl Record {
    /// Reads the annotation of a pod; none where there is none.
    ///
    /// # Errors
    ///
    /// It is not what this program writes.
    pub fn read(annotations: &BTreeMap<String, String>) -> Result<Option<Self>, Refusal> {
        let Some(text) = annotations.get(ANNOTATION_PROXY) else { return Ok(None) };
        let forged = |reason: String| Refusal::Forged { key: ANNOTATION_PROXY, reason };
        if text.len() > RECORD_MAX {
            return Err(forged(format!("it is longer than {RECORD_MAX} bytes")));
        }
        let record = serde_json::from_str(text);
        record.map(Some).map_err(|error| forged(format!("line {}, column {}", error.line(), error.column())))
    }
}

/// Decides what becomes of a pod. Calling it again with what came of it gives [`Why::Done`].
pub fn inject(request: &Request<'_>, settings: &Settings) -> Outcome {
    match decide(request, settings) {
        Ok(outcome) => outcome,
        Err(refusal) => Outcome::Refused(Box::new(refusal)),
    }
}

fn decide(request: &Request<'_>, settings: &Settings) -> Result<Outcome, Refusal> {
    let namespace = request.namespace;
    let excluded = settings.excluded_namespaces.contains(&namespace.name);
    if excluded || !settings.namespace_selector.matches(&namespace.labels) {
        return Ok(Outcome::Untouched(Why::Namespace));
    }
    let pod: Pod = serde_path_to_error::deserialize(request.pod)
        .map_err(|error| Refusal::Unreadable { path: error.path().to_string() })?;
    let nothing = BTreeMap::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&nothing);
    if annotations.contains_key(ANNOTATION_MIRROR) {
        return Ok(Outcome::Untouched(Why::Mirror));
    }
    let asks = Asks::read(annotations, &namespace.annotations)?;
    let labels = pod.metadata.labels.as_ref().unwrap_or(&nothing);
    let chosen = choose::choose(request, labels)?;
    let proxy = match &chosen.proxy {
        Some(proxy) if proxy.by_hand => None,
        other => other.as_ref().map(|proxy| proxy.proxy),
    };
    if proxy.is_none() {
        let ours = |key: &&&str| annotations.contains_key(**key) || labels.contains_key(**key);
        if let Some(key) = WRITTEN_POD_KEYS.iter().find(ours) {
            return Err(Refusal::Reserved { key });
        }
        if !asks.without_proxy() {
            let own = chosen.proxy.map(|proxy| Why::BringsItsOwn { proxy: name_of(proxy.proxy).to_owned() });
            return Ok(Outcome::Untouched(own.unwrap_or(Why::NotSelected)));
        }
        // The API server would refuse it with a user or capabilities in it.
        if pod.spec.as_ref().and_then(|spec| spec.os.as_ref()).is_some_and(|os| os.name != "linux") {
            return Ok(Outcome::Untouched(Why::System));
        }
    }
    let patched = plan::plan(request, settings, &pod, &asks, proxy, chosen.warnings)?;
    if patched.patch.0.is_empty() {
        return Ok(Outcome::Untouched(Why::Done));
    }
    Ok(Outcome::Patched(Box::new(patched)))
}

#[cfg(test)]
mod tests;
