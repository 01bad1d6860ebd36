//! What the operator writes into statuses, and what it tells in Events: decisions, without I/O and without a clock.
//!
//! A status follows from what was seen alone. Where nothing has changed, it is the same again, to the byte: the time of a
//! condition's last transition is kept while its status stays.

mod condition;
mod events;
mod policy;
mod split;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use sidewall_api::proxy::{ProxyPodCounts, SidecarProxyStatus};
use sidewall_api::{Problem, SidecarProxy, UnreadablePolicy};
use sidewall_proxy_config::Form;

use crate::admission::inject::Record;
use crate::proxies::issue::Standing;
use crate::proxies::render::RenderError;
use condition::{Conditions, Says, listed, sentence};

pub use events::{policy_events, proxy_events, regarding_policy, regarding_proxy, split_events};
pub use policy::{PolicySeen, policy_status};
pub use split::{SplitPod, SplitSeen, SplitState, split_status};

/// The condition that says whether a spec is understood and can be used.
pub const ACCEPTED: &str = "Accepted";
/// The condition of a SidecarProxy that says whether an older one has some of its pods.
pub const CONFLICTED: &str = "Conflicted";
/// The condition of a SidecarProxy that says whether the certificates that it asks for are there.
pub const CERTIFICATES_READY: &str = "CertificatesReady";
/// The condition of a SidecarProxy that says whether every pod that it selects stands behind its proxy.
pub const READY: &str = "Ready";
/// The condition of a policy that says whether every pod that it selects is walled by it.
pub const ENFORCED: &str = "Enforced";

/// What was seen of a SidecarProxy and its pods.
#[derive(Clone, Copy)]
pub struct ProxySeen<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its generation.
    pub generation: i64,
    /// It, or why it can't be read.
    pub read: Result<&'a SidecarProxy, &'a UnreadablePolicy>,
    /// Whether pods of its namespace are given proxies.
    pub opted_in: bool,
    /// The pods that it selects, and that run or will: none that have ended or are being deleted. In any order.
    pub pods: &'a [PodSeen<'a>],
    /// What is wrong with the Secrets that it names.
    pub secrets: &'a [SecretProblem],
    /// How it stands with the certificates that it asks for, by the name of the Secret: of all of them.
    pub certificates: &'a BTreeMap<String, Standing>,
}

/// A pod that a SidecarProxy selects.
#[derive(Clone, Copy)]
pub struct PodSeen<'a> {
    /// Its name.
    pub name: &'a str,
    /// The oldest other SidecarProxy that selects it and counts before this one: see [`older`].
    pub older: Option<&'a str>,
    /// What stands before it.
    pub front: Front<'a>,
}

/// What stands before a pod.
#[derive(Clone, Copy)]
pub enum Front<'a> {
    /// No proxy of ours.
    Nothing,
    /// What is written on it about its proxy can't be read, and why.
    Unreadable(&'a str),
    /// A proxy.
    Proxy {
        /// What is written on it about its proxy.
        record: &'a Record,
        /// Why there is no configuration for it.
        problem: Option<&'a RenderError>,
        /// Whether its ConfigMap holds the present configuration.
        written: bool,
    },
}

/// What is wrong with a Secret that a SidecarProxy names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretProblem {
    /// The Secret's name.
    pub secret: String,
    /// What is wrong with it.
    pub fault: SecretFault,
}

/// What can be wrong with a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretFault {
    /// There is none of that name.
    Missing,
    /// It lacks a key.
    NoKey {
        /// The key.
        key: String,
    },
    /// What is under a key can't be used.
    Content {
        /// The key.
        key: String,
        /// Why, without any of the content.
        reason: String,
    },
}

/// The SidecarProxy that has a pod with these labels before `proxy` has: the oldest, and of two of one age the first by name, as
/// pods are given proxies.
pub fn older<'a>(
    proxy: &SidecarProxy,
    all: impl IntoIterator<Item = &'a SidecarProxy>,
    labels: &BTreeMap<String, String>,
) -> Option<&'a str> {
    fn age(proxy: &SidecarProxy) -> (Option<Timestamp>, &str) {
        let created = proxy.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, proxy.metadata.name.as_deref().unwrap_or_default())
    }
    let before = all.into_iter().filter(|other| age(other) < age(proxy) && other.spec.pod_selector.matches(labels));
    before.map(age).min().map(|(_, name)| name)
}

/// The status of a SidecarProxy. `before` is the one that it has.
pub fn proxy_status(seen: &ProxySeen<'_>, before: Option<&SidecarProxyStatus>, now: Timestamp) -> SidecarProxyStatus {
    let sorted = Sorted::of(seen);
    let mut conditions = Conditions::new(before.map_or(&[], |before| &before.conditions), seen.generation, now);
    let accepted = accepted(seen.read.err());
    let usable = accepted.holds();
    conditions.add(ACCEPTED, accepted);
    conditions.add(CONFLICTED, conflicted(&sorted));
    let certificates = certificates(seen.certificates);
    let good = certificates.as_ref().is_none_or(Says::holds);
    if let Some(certificates) = certificates {
        conditions.add(CERTIFICATES_READY, certificates);
    }
    let ready = match seen.read {
        _ if !usable => Says::no("NotAccepted", "the SidecarProxy cannot be used: see the condition Accepted"),
        Ok(proxy) if proxy.spec.form() == Form::File => Says::unknown(
            "BroughtAlong",
            "it names files: its pods bring their proxy along, and nothing is known of it",
        ),
        _ => ready(seen, &sorted, good),
    };
    conditions.add(READY, ready);
    SidecarProxyStatus {
        observed_generation: Some(seen.generation),
        conditions: conditions.done(),
        pods: Some(sorted.counts()),
    }
}

/// A spec that can be read is accepted: reading checks all its rules.
fn accepted(unreadable: Option<&UnreadablePolicy>) -> Says {
    let Some(unreadable) = unreadable else { return Says::yes("Valid", "the spec is understood") };
    let errors = unreadable.problems.iter().filter(|problem| problem.is_error());
    let said: Vec<String> = errors.map(|Problem { path, message, .. }| format!("{path}: {message}")).collect();
    let said = if said.is_empty() { "it can't be read".to_owned() } else { said.join("; ") };
    Says::no("Invalid", format!("{said}. Until it is mended, what it selects is closed"))
}

/// The pods, by what is to be said of them, each by name.
#[derive(Default)]
struct Sorted<'a> {
    selected: usize,
    /// Behind its proxy.
    fronted: usize,
    /// Behind its proxy, whose configuration is being written.
    pending: Vec<&'a str>,
    /// To be restarted, and why.
    outdated: Vec<(&'a str, String)>,
    /// Without a configuration, and why.
    failed: Vec<(&'a str, String)>,
    /// Without a proxy.
    unfronted: Vec<&'a str>,
    /// An older SidecarProxy's.
    older: Vec<(&'a str, &'a str)>,
}

impl<'a> Sorted<'a> {
    fn of(seen: &ProxySeen<'a>) -> Self {
        let mut sorted = Self { selected: seen.pods.len(), ..Self::default() };
        let mut pods: Vec<&PodSeen<'a>> = seen.pods.iter().collect();
        pods.sort_by_key(|pod| pod.name);
        for pod in pods {
            if let Some(older) = pod.older {
                sorted.older.push((pod.name, older));
            }
            match pod.front {
                Front::Nothing if pod.older.is_none() && seen.opted_in => sorted.unfronted.push(pod.name),
                Front::Nothing => {}
                Front::Unreadable(why) => sorted.failed.push((pod.name, why.to_owned())),
                Front::Proxy { record, problem, written } if record.proxy == seen.name => {
                    sorted.fronted += 1;
                    match problem {
                        Some(error @ RenderError::NotMounted { .. }) => {
                            sorted.outdated.push((pod.name, error.to_string()));
                        }
                        Some(error) => sorted.failed.push((pod.name, error.to_string())),
                        None if !written => sorted.pending.push(pod.name),
                        None => {}
                    }
                }
                Front::Proxy { record, .. } if pod.older != Some(&record.proxy) => {
                    sorted.fronted += 1;
                    let why = format!("it still has the proxy of SidecarProxy {:?}", record.proxy);
                    sorted.outdated.push((pod.name, why));
                }
                Front::Proxy { .. } => {}
            }
        }
        sorted
    }

    fn counts(&self) -> ProxyPodCounts {
        let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        ProxyPodCounts {
            selected: number(self.selected),
            fronted: number(self.fronted),
            outdated: number(self.outdated.len()),
            unfronted: number(self.unfronted.len()),
        }
    }
}

fn conflicted(sorted: &Sorted<'_>) -> Says {
    let [(pod, older), more @ ..] = sorted.older.as_slice() else {
        return Says::no("NoConflict", "no older SidecarProxy selects its pods");
    };
    let and = match more.len() {
        0 => String::new(),
        more => format!(", as {more} more of its pods are an older one's"),
    };
    Says::yes(
        "OlderSelects",
        format!(
            "SidecarProxy {older:?} is older, selects pod {pod:?} too, and has it{and}: let the selectors differ, or remove one \
             of both"
        ),
    )
}

/// Nothing where no certificate is asked for.
fn certificates(standings: &BTreeMap<String, Standing>) -> Option<Says> {
    if standings.is_empty() {
        return None;
    }
    let mut wrong: Vec<(&'static str, String)> = Vec::new();
    for (secret, standing) in standings {
        match standing {
            Standing::Good { .. } => {}
            Standing::Taken(whose) => wrong.push(("SecretNotOurs", whose.to_string())),
            Standing::Failed { why } => {
                wrong.push(("NotIssued", format!("the certificate for Secret {secret:?} could not be made: {why}")));
            }
            Standing::Pending { why } => {
                wrong.push(("Pending", format!("the certificate for Secret {secret:?} is not there yet: {why}")));
            }
        }
    }
    // What somebody has to do comes before what has to be waited for.
    wrong.sort_by_key(|(reason, _)| *reason == "Pending");
    let Some((reason, _)) = wrong.first() else { return Some(Says::yes("Issued", "every certificate is there")) };
    Some(Says::no(reason, sentence(wrong.iter().map(|(_, why)| why.as_str()))))
}

fn ready(seen: &ProxySeen<'_>, sorted: &Sorted<'_>, certificates: bool) -> Says {
    let mut wrong: Vec<(&'static str, String)> = Vec::new();
    let ProxySeen { namespace, .. } = seen;
    if !seen.opted_in {
        wrong.push((
            "NamespaceNotOptedIn",
            format!(
                "pods of namespace {namespace:?} are given no proxy: label it, for example with `kubectl label namespace \
                 {namespace} sidewall.dev/injection=enabled`, and restart the pods"
            ),
        ));
    }
    let kept = |secret: &str| seen.certificates.get(secret).is_some_and(|of| !matches!(of, Standing::Good { .. }));
    let mut secrets: Vec<&SecretProblem> = seen.secrets.iter().filter(|problem| !kept(&problem.secret)).collect();
    secrets.sort();
    wrong.extend(secrets.into_iter().map(SecretProblem::says));
    if !certificates {
        wrong
            .push(("CertificatesNotReady", "certificates are missing: see the condition CertificatesReady".to_owned()));
    }
    if !sorted.older.is_empty() {
        wrong.push((
            "Conflicted",
            "an older SidecarProxy has some of its pods: see the condition Conflicted".to_owned(),
        ));
    }
    if let [(pod, why), ..] = sorted.failed.as_slice() {
        let many = sorted.failed.len();
        wrong.push(("PodsNotConfigured", format!("{many} pods have no configuration ({pod}: {why})")));
    }
    if let [(_, why), ..] = sorted.outdated.as_slice() {
        let many = sorted.outdated.len();
        let names = listed(sorted.outdated.iter().map(|(name, _)| *name));
        wrong.push((
            "PodsOutdated",
            format!("{many} pods need a restart, for example with `kubectl rollout restart`: {names} ({why})"),
        ));
    }
    if !sorted.unfronted.is_empty() {
        let (many, names) = (sorted.unfronted.len(), listed(sorted.unfronted.iter().copied()));
        wrong.push((
            "PodsUnfronted",
            format!(
                "{many} pods have no proxy, because they were made before the SidecarProxy was or while the webhook was away: \
                 {names}. Where walls stand, nothing of them is reachable: restart them, for example with `kubectl rollout \
                 restart`"
            ),
        ));
    }
    if !sorted.pending.is_empty() {
        let many = sorted.pending.len();
        wrong.push(("PodsPending", format!("the configuration of {many} pods is being written")));
    }
    match wrong.first() {
        Some((reason, _)) => Says::no(reason, sentence(wrong.iter().map(|(_, why)| why.as_str()))),
        None if sorted.selected == 0 => Says::yes("NoPods", "it selects no pod"),
        None => {
            Says::yes("Fronted", "every pod that it selects stands behind its proxy, with the present configuration")
        }
    }
}

impl SecretProblem {
    fn says(&self) -> (&'static str, String) {
        let secret = &self.secret;
        match &self.fault {
            SecretFault::Missing => {
                ("SecretMissing", format!("Secret {secret:?} does not exist: create it; new pods wait for it"))
            }
            SecretFault::NoKey { key } => ("SecretKeyMissing", format!("Secret {secret:?} has no key {key:?}: add it")),
            SecretFault::Content { key, reason } => {
                ("SecretInvalid", format!("key {key:?} of Secret {secret:?} can't be used: {reason}"))
            }
        }
    }
}
