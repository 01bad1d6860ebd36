//! What is to be written into the statuses of a namespace's SidecarProxies, and of all policies. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use sidewall_api::enforcement::EnforcedKind;
use sidewall_api::{ContainerNetworkPolicy, ContainerNetworkPolicyStatus, SidecarProxy, SidecarProxyStatus};
use sidewall_cluster::census::{Present, Tally};
use sidewall_cluster::events::Notice;

use super::plan::Plan;
use crate::keeper::told::{
    Front, PodSeen, PolicySeen, ProxySeen, SecretProblem, older, policy_events, policy_status, proxy_events,
    proxy_status, regarding_policy, regarding_proxy,
};
use crate::known::{Known, Object, PodFacts};
use crate::proxies::issue::Standing;
use crate::settings::Settings;

/// More pairs of policies and pods than this are not held against each other: the nodes' own counts are told then.
const PAIRS: usize = 2_000_000;

/// A status that is another than the object has.
#[derive(Debug)]
pub struct Change {
    /// The object's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// The status.
    pub status: Value,
    /// What is to be told of it.
    pub notices: Vec<Notice>,
}

/// How it stands with what a SidecarProxy names.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// What is wrong with its Secrets.
    pub secrets: Vec<SecretProblem>,
    /// How it stands with the certificates that it asks for.
    pub certificates: BTreeMap<String, Standing>,
}

/// The statuses of a namespace's SidecarProxies that have to be written.
pub fn of_proxies(
    known: &Known,
    namespace: &str,
    plan: &Plan,
    found: &BTreeMap<String, Found>,
    settings: &Settings,
    now: Timestamp,
) -> Vec<Change> {
    let opted_in = known.opted_in(namespace, settings);
    let nothing = Found::default();
    let mut changes = Vec::new();
    for (name, object) in known.proxies.of(namespace) {
        let found = found.get(name).unwrap_or(&nothing);
        let pods = pods(known, namespace, object, plan);
        let seen = ProxySeen {
            namespace,
            name,
            generation: object.generation,
            read: object.read.as_ref().map_err(Box::as_ref),
            opted_in,
            pods: &pods,
            secrets: &found.secrets,
            certificates: &found.certificates,
        };
        let before = serde_json::from_value::<SidecarProxyStatus>(object.status.clone()).ok();
        let after = proxy_status(&seen, before.as_ref(), now);
        if before.as_ref() != Some(&after) {
            let notices = proxy_events(&regarding_proxy(namespace, name, &object.uid), before.as_ref(), &after);
            changes.extend(change(namespace, name, &object.uid, &after, notices));
        }
    }
    changes
}

/// The pods that a SidecarProxy selects; those of one that can't be read, as far as its selector can.
fn pods<'a>(known: &'a Known, namespace: &str, object: &'a Object<SidecarProxy>, plan: &'a Plan) -> Vec<PodSeen<'a>> {
    let selector = match &object.read {
        Ok(proxy) => Some(&proxy.spec.pod_selector),
        Err(unreadable) => unreadable.pod_selector.as_ref(),
    };
    let Some(selector) = selector else { return Vec::new() };
    let others: Vec<&SidecarProxy> =
        known.proxies.of(namespace).filter_map(|(_, other)| other.read.as_ref().ok()).collect();
    let selected = known.running(namespace).filter(|(_, pod)| selector.matches(&pod.labels));
    selected
        .map(|(name, pod)| PodSeen {
            name,
            older: object.read.as_ref().ok().and_then(|proxy| older(proxy, others.iter().copied(), &pod.labels)),
            front: front(pod, plan),
        })
        .collect()
}

fn front<'a>(pod: &'a PodFacts, plan: &'a Plan) -> Front<'a> {
    match &pod.fronted {
        None => Front::Nothing,
        Some(Err(why)) => Front::Unreadable(why),
        Some(Ok(fronted)) => {
            let config = &fronted.record.config;
            let wanted = plan.configs.get(config);
            let written = wanted.is_none_or(|wanted| wanted.state.is_written());
            Front::Proxy { record: &fronted.record, problem: plan.problems.get(config), written }
        }
    }
}

/// The statuses of a namespace's policies that have to be written, by what the nodes say.
pub fn of_policies(known: &Known, namespace: &str, tally: &Tally<'_>, now: Timestamp) -> Vec<Change> {
    let mut changes = Vec::new();
    for (name, object) in known.policies.of(namespace) {
        let tallied = tally.policy(&Present {
            kind: EnforcedKind::ContainerNetworkPolicy,
            namespace,
            name,
            generation: Some(object.generation),
            unreadable: object.read.is_err(),
        });
        let seen = PolicySeen {
            generation: object.generation,
            read: object.read.as_ref().map_err(Box::as_ref),
            tallied: &tallied,
            pods: selected(known, namespace, object),
        };
        let before = serde_json::from_value::<ContainerNetworkPolicyStatus>(object.status.clone()).ok();
        let after = policy_status(&seen, before.as_ref(), now);
        if before.as_ref() != Some(&after) {
            let notices = policy_events(&regarding_policy(namespace, name, &object.uid), before.as_ref(), &after);
            changes.extend(change(namespace, name, &object.uid, &after, notices));
        }
    }
    changes
}

/// How many pods a policy selects, as far as it can be read.
fn selected(known: &Known, namespace: &str, object: &Object<ContainerNetworkPolicy>) -> Option<usize> {
    let selector = match &object.read {
        Ok(policy) => &policy.spec.pod_selector,
        Err(unreadable) => unreadable.pod_selector.as_ref()?,
    };
    if known.policies.of(namespace).count().saturating_mul(known.pods.of(namespace).count()) > PAIRS {
        return None;
    }
    let walled = known.running(namespace).filter(|(_, pod)| pod.placed && !pod.host_network);
    Some(walled.filter(|(_, pod)| selector.matches(&pod.labels)).count())
}

fn change(
    namespace: &str,
    name: &str,
    uid: &str,
    status: &impl serde::Serialize,
    notices: Vec<Notice>,
) -> Option<Change> {
    let status = serde_json::to_value(status).ok()?;
    Some(Change { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.to_owned(), status, notices })
}
