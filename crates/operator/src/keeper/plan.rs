//! What has to be written in a namespace so that its proxies have what they need. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::known::{Fronted, Known, PodFacts};
use crate::proxies::render::{RenderError, Rendered, render};
use crate::settings::Ports;

/// What is to be done in a namespace.
#[derive(Debug, Default)]
pub struct Plan {
    /// ConfigMaps that have to be as they are said here, by name.
    pub configs: BTreeMap<String, Wanted>,
    /// ConfigMaps of ours that no pod needs.
    pub unused: BTreeSet<String>,
    /// Why there is no configuration for some pods, by the ConfigMap that they name.
    pub problems: BTreeMap<String, RenderError>,
}

/// A ConfigMap as it has to be, where it is not.
#[derive(Debug)]
pub struct Wanted {
    /// Its content.
    pub rendered: Rendered,
    /// How it stands.
    pub state: State,
    /// What its pods are to be told.
    pub word: String,
    /// The pods that have not been told, each with its identity.
    pub untold: Vec<(String, String)>,
}

/// How a ConfigMap stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not there.
    Missing,
    /// Its content is another; `told` is what it says of its pods.
    Outdated {
        /// Of what its pods have been told.
        told: String,
    },
    /// Its content is right, and its pods have to be told of something.
    Untold,
    /// It says that all have been told, and some that have come since have not.
    Newcomers,
}

impl State {
    /// Whether the ConfigMap has the content that it has to have.
    pub fn is_written(&self) -> bool {
        matches!(self, Self::Untold | Self::Newcomers)
    }
}

/// A pod that needs a ConfigMap.
struct User<'a> {
    name: &'a String,
    pod: &'a PodFacts,
    fronted: &'a Fronted,
}

/// Plans for a namespace.
pub fn plan(known: &Known, namespace: &str, ports: Ports) -> Plan {
    let mut plan = Plan::default();
    let mut users: BTreeMap<&str, Vec<User<'_>>> = BTreeMap::new();
    // What has ended needs nothing; what is about to still does.
    for (name, pod) in known.pods.of(namespace) {
        if let Some(Ok(fronted)) = &pod.fronted {
            users.entry(&fronted.record.config).or_default().push(User { name, pod, fronted });
        }
    }
    for (config, pods) in &users {
        let Some(User { fronted, .. }) = pods.first() else { continue };
        // All that name it have the same on them: its name follows from that.
        let proxy = known.proxies.get(namespace, &fronted.record.proxy);
        let rendered = match proxy.map(|object| object.read.as_ref()) {
            // The proxies of a SidecarProxy that is no more go on with what they have.
            None => continue,
            // As long as it can't be understood, its proxies go on with what they have.
            Some(Err(_)) => continue,
            Some(Ok(proxy)) => render(proxy, &fronted.record, &fronted.originals, ports),
        };
        let rendered = match rendered {
            Ok(rendered) => rendered,
            Err(problem) => {
                plan.problems.insert((*config).to_owned(), problem);
                continue;
            }
        };
        let word = known.word(namespace, &rendered.hash, &fronted.record.secrets);
        let state = match known.configs.get(namespace, config) {
            None => State::Missing,
            Some(there) if there.hash != rendered.hash => {
                State::Outdated { told: there.refreshed.clone().unwrap_or_default() }
            }
            Some(there) if there.refreshed.as_ref() != Some(&word) => State::Untold,
            Some(_) => State::Newcomers,
        };
        let untold = pods
            .iter()
            .filter(|user| !user.pod.ending)
            .filter(|user| match &user.pod.refreshed {
                Some(told) => *told != word,
                // A version that wrote none has let it in: of it the ConfigMap says whether all have been told.
                None => state != State::Newcomers,
            })
            .map(|user| (user.name.clone(), user.pod.uid.clone()));
        // Without its ConfigMap no pod has started: it will look when there is one.
        let untold: Vec<_> = if state == State::Missing { Vec::new() } else { untold.collect() };
        if state == State::Newcomers && untold.is_empty() {
            continue;
        }
        plan.configs.insert((*config).to_owned(), Wanted { rendered, state, word, untold });
    }
    let unused = known.configs.of(namespace).map(|(name, _)| name).filter(|name| !users.contains_key(name.as_str()));
    plan.unused = unused.cloned().collect();
    plan
}
