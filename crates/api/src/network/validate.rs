//! What an API server refuses of these kinds, and what can't be understood here.

use std::collections::BTreeSet;
use std::fmt;

use super::{
    EXCEPT_MAX, MultiNetworkPolicy, NetworkPeer, NetworkPolicy, NetworkPolicySpec, PEERS_MAX, POLICY_FOR, PORTS_MAX,
    RULES_MAX, SELECTOR_LIMITS,
};
use crate::names::{is_dns_label, is_dns_subdomain};
use crate::policy::{PolicyPort, PolicyType, check_size};
use crate::problem::{FieldPath, Problem};

/// The most networks that one MultiNetworkPolicy may name.
pub const NETWORKS_MAX: usize = 64;

/// The name of a NetworkAttachmentDefinition, shown as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl NetworkName {
    /// Reads `name` or `namespace/name`; a name alone is of the namespace `own`.
    pub fn parse(text: &str, own: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/').unwrap_or((own, text));
        (is_dns_label(namespace) && is_dns_subdomain(name))
            .then(|| Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Reads a list of names, separated by commas, with spaces around them or without.
    ///
    /// # Errors
    ///
    /// The part that is no name.
    pub fn list(text: &str, own: &str) -> Result<BTreeSet<Self>, String> {
        text.split(',')
            .map(|part| Self::parse(part.trim(), own).ok_or_else(|| part.trim().chars().take(80).collect()))
            .collect()
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl NetworkPolicy {
    /// What is wrong with the policy, in the order of its fields. One with an error must not be enforced as if it were
    /// understood: what it selects is isolated.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.spec.validate(&FieldPath::spec(), &mut problems);
        problems
    }
}

impl MultiNetworkPolicy {
    /// What is wrong with the policy, in the order of its fields. One with an error must not be enforced as if it were
    /// understood: what it selects is isolated on all its further networks.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let at = FieldPath::root().key("metadata").key("annotations");
        match self.networks() {
            Ok(networks) if networks.is_empty() => problems.push(Problem::error(
                FieldPath::root().key("metadata"),
                format!(
                    "the policy names no network: name its NetworkAttachmentDefinitions in the annotation {POLICY_FOR}"
                ),
            )),
            Ok(networks) => check_size(networks.len(), NETWORKS_MAX, "networks", &at.key(POLICY_FOR), &mut problems),
            Err(part) => {
                let message =
                    format!("{part:?} names no network: write `name` or `namespace/name`, and commas between");
                problems.push(Problem::error(at.key(POLICY_FOR), message));
            }
        }
        self.spec.validate(&FieldPath::spec(), &mut problems);
        problems
    }
}

impl NetworkPolicySpec {
    fn validate(&self, at: &FieldPath, problems: &mut Vec<Problem>) {
        self.pod_selector.validate_within(&SELECTOR_LIMITS, &at.key("podSelector"), problems);
        let types = at.key("policyTypes");
        if self.policy_types.len() > 2 {
            problems.push(Problem::error(types.clone(), "at most two types are allowed: Ingress and Egress"));
        }
        let sections = [(self.ingress.len(), PolicyType::Ingress), (self.egress.len(), PolicyType::Egress)];
        for ((rules, direction), section) in sections.into_iter().zip(["ingress", "egress"]) {
            check_size(rules, RULES_MAX, "rules", &at.key(section), problems);
            if rules > 0 && !self.directions().contains(&direction) {
                let message = format!("has no effect, because policyTypes does not name {direction}: add it there");
                problems.push(Problem::warning(at.key(section), message));
            }
        }
        for (i, rule) in self.ingress.iter().enumerate() {
            let at = at.key("ingress").index(i);
            check_peers(&rule.from, &at.key("from"), problems);
            check_ports(&rule.ports, &at.key("ports"), problems);
        }
        for (i, rule) in self.egress.iter().enumerate() {
            let at = at.key("egress").index(i);
            check_peers(&rule.to, &at.key("to"), problems);
            check_ports(&rule.ports, &at.key("ports"), problems);
        }
    }
}

fn check_peers(peers: &[NetworkPeer], at: &FieldPath, problems: &mut Vec<Problem>) {
    check_size(peers.len(), PEERS_MAX, "peers", at, problems);
    for (i, peer) in peers.iter().enumerate() {
        peer.validate(&at.index(i), problems);
    }
}

fn check_ports(ports: &[PolicyPort], at: &FieldPath, problems: &mut Vec<Problem>) {
    check_size(ports.len(), PORTS_MAX, "ports", at, problems);
    for (i, port) in ports.iter().enumerate() {
        port.validate(&at.index(i), problems);
    }
}

impl NetworkPeer {
    fn validate(&self, at: &FieldPath, problems: &mut Vec<Problem>) {
        let selectors = self.pod_selector.is_some() || self.namespace_selector.is_some();
        match (&self.ip_block, selectors) {
            (None, false) => problems.push(Problem::error(
                at.clone(),
                "the peer is empty: give it podSelector and/or namespaceSelector, or ipBlock; to allow everybody, remove the list",
            )),
            (Some(_), true) => problems.push(Problem::error(
                at.clone(),
                "the peer has ipBlock and a selector: make them two entries of the list",
            )),
            _ => {}
        }
        if let Some(selector) = &self.pod_selector {
            selector.validate_within(&SELECTOR_LIMITS, &at.key("podSelector"), problems);
        }
        if let Some(selector) = &self.namespace_selector {
            selector.validate_within(&SELECTOR_LIMITS, &at.key("namespaceSelector"), problems);
        }
        if let Some(block) = &self.ip_block {
            block.validate(EXCEPT_MAX, &at.key("ipBlock"), problems);
        }
    }
}
