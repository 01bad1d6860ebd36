//! The rules of the schema and its CEL expressions once more in Rust, with places and advice.
//!
//! The command line has no API server, and an agent must not believe that the API server's schema is
//! the one of its own version.

use std::collections::BTreeSet;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    CONTAINERS_MAX, ContainerNetworkPolicy, ContainerNetworkPolicySpec, EXCEPT_MAX, Entity, IpBlock, PEERS_MAX,
    PORTS_MAX, Peer, PolicyPort, PolicyType, RULES_MAX,
};
use crate::names::{is_dns_label, is_port_name};
use crate::problem::{FieldPath, Problem};

impl ContainerNetworkPolicy {
    /// What is wrong with the policy, in the order of its fields.
    ///
    /// One with an error ([`Problem::is_error`]) must not be enforced as if it were understood:
    /// what it selects is isolated.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.spec.validate(&FieldPath::spec(), &mut problems);
        problems
    }
}

impl ContainerNetworkPolicySpec {
    fn validate(&self, at: &FieldPath, problems: &mut Vec<Problem>) {
        self.pod_selector.validate(&at.key("podSelector"), problems);
        self.check_containers(&at.key("containers"), problems);
        self.check_types(at, problems);
        if let Some(rules) = &self.ingress {
            check_size(rules.len(), RULES_MAX, "rules", &at.key("ingress"), problems);
            for (i, rule) in rules.iter().enumerate() {
                let at = at.key("ingress").index(i);
                check_peers(&rule.from, PolicyType::Ingress, &at.key("from"), problems);
                check_ports(&rule.ports, &at.key("ports"), problems);
            }
        }
        if let Some(rules) = &self.egress {
            check_size(rules.len(), RULES_MAX, "rules", &at.key("egress"), problems);
            for (i, rule) in rules.iter().enumerate() {
                let at = at.key("egress").index(i);
                check_peers(&rule.to, PolicyType::Egress, &at.key("to"), problems);
                check_ports(&rule.ports, &at.key("ports"), problems);
            }
        }
    }

    fn check_containers(&self, at: &FieldPath, problems: &mut Vec<Problem>) {
        let Some(names) = &self.containers else {
            return;
        };
        if names.is_empty() {
            problems.push(Problem::error(
                at.clone(),
                "an empty list selects no container: name some, or remove the field to select every one",
            ));
        }
        check_size(names.len(), CONTAINERS_MAX, "containers", at, problems);
        let mut seen = BTreeSet::new();
        for (i, name) in names.iter().enumerate() {
            check_container_name(name, &at.index(i), problems);
            if !seen.insert(name) {
                problems.push(Problem::error(at.index(i), format!("{name:?} is named twice: remove one")));
            }
        }
    }

    fn check_types(&self, at: &FieldPath, problems: &mut Vec<Problem>) {
        let types = at.key("policyTypes");
        let mut seen = BTreeSet::new();
        for (i, policy_type) in self.policy_types.iter().enumerate() {
            if !seen.insert(policy_type) {
                problems.push(Problem::error(types.index(i), format!("{policy_type} is named twice: remove one")));
            }
        }
        let sections = [
            (self.ingress.is_some(), PolicyType::Ingress, "ingress"),
            (self.egress.is_some(), PolicyType::Egress, "egress"),
        ];
        for (there, policy_type, section) in sections {
            if there && !self.policy_types.is_empty() && !self.policy_types.contains(&policy_type) {
                problems.push(Problem::error(
                    types.clone(),
                    format!("an {section} section needs {policy_type} in policyTypes: add it, or remove the section"),
                ));
            }
        }
        let empty_egress = self.egress.as_ref().is_some_and(Vec::is_empty);
        if empty_egress && self.policy_types.is_empty() {
            problems.push(Problem::error(
                at.key("egress"),
                "an empty egress section isolates nothing unless policyTypes names Egress: \
                 add `policyTypes: [Egress]` (with Ingress, if that is meant too), or remove the section",
            ));
        }
    }
}

pub(crate) fn check_size(have: usize, max: usize, what: &str, at: &FieldPath, problems: &mut Vec<Problem>) {
    if have > max {
        problems.push(Problem::error(
            at.clone(),
            format!("has {have} {what}, and at most {max} are allowed: divide the policy"),
        ));
    }
}

pub(crate) fn check_container_name(name: &str, at: &FieldPath, problems: &mut Vec<Problem>) {
    if !is_dns_label(name) {
        problems.push(Problem::error(
            at.clone(),
            format!("{name:?} is no container name: 1 to 63 of a-z, 0-9 and -, a letter or digit at both ends"),
        ));
    }
}

fn check_peers(peers: &[Peer], direction: PolicyType, at: &FieldPath, problems: &mut Vec<Problem>) {
    check_size(peers.len(), PEERS_MAX, "peers", at, problems);
    for (i, peer) in peers.iter().enumerate() {
        peer.validate(direction, &at.index(i), problems);
    }
}

fn check_ports(ports: &[PolicyPort], at: &FieldPath, problems: &mut Vec<Problem>) {
    check_size(ports.len(), PORTS_MAX, "ports", at, problems);
    for (i, port) in ports.iter().enumerate() {
        port.validate(&at.index(i), problems);
    }
}

impl Peer {
    fn validate(&self, direction: PolicyType, at: &FieldPath, problems: &mut Vec<Problem>) {
        if let Err(error) = self.kind() {
            problems.push(Problem::error(at.clone(), error.to_string()));
        }
        if let Some(name) = &self.container {
            check_container_name(name, &at.key("container"), problems);
        }
        if let Some(selector) = &self.pod_selector {
            selector.validate(&at.key("podSelector"), problems);
        }
        if let Some(selector) = &self.namespace_selector {
            selector.validate(&at.key("namespaceSelector"), problems);
        }
        if let Some(block) = &self.ip_block {
            block.validate(EXCEPT_MAX, &at.key("ipBlock"), problems);
        }
        let misplaced = match (self.entity, direction) {
            (Some(Entity::ClusterDNS), PolicyType::Ingress) => {
                Some("ClusterDNS opens no connections: it can stand under egress only")
            }
            (Some(Entity::PortForward), PolicyType::Egress) => {
                Some("PortForward accepts no connections: it can stand under ingress only")
            }
            _ => None,
        };
        if let Some(message) = misplaced {
            problems.push(Problem::error(at.key("entity"), message));
        }
    }
}

impl IpBlock {
    pub(crate) fn validate(&self, except_max: usize, at: &FieldPath, problems: &mut Vec<Problem>) {
        let whole = check_cidr(&self.cidr, &at.key("cidr"), problems);
        let at = at.key("except");
        check_size(self.except.len(), except_max, "exceptions", &at, problems);
        for (i, text) in self.except.iter().enumerate() {
            let Some(part) = check_cidr(text, &at.index(i), problems) else {
                continue;
            };
            let Some(whole) = whole else { continue };
            // Like NetworkPolicy: an exception that is the whole range leaves nothing to allow.
            if !(whole.contains(&part) && part.prefix_len() > whole.prefix_len()) {
                problems.push(Problem::error(
                    at.index(i),
                    format!("{part} is not a smaller range inside {whole}: an exception takes a part of cidr away"),
                ));
            }
        }
    }
}

/// Reads a network. Host bits are passed over with a warning, as the API server does.
pub(crate) fn check_cidr(text: &str, at: &FieldPath, problems: &mut Vec<Problem>) -> Option<IpNet> {
    let bad = |problems: &mut Vec<Problem>, why: String| {
        problems.push(Problem::error(at.clone(), why));
        None
    };
    let Ok(net) = text.parse::<IpNet>() else {
        let advice = match text.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(_)) => format!("write {text}/32 for the one address"),
            Ok(std::net::IpAddr::V6(_)) => format!("write {text}/128 for the one address"),
            Err(_) => "write a network such as 10.0.0.0/8 or 2001:db8::/32".to_owned(),
        };
        return bad(problems, format!("{text:?} is no network in CIDR form: {advice}"));
    };
    // The prefix must be plain digits: the API server takes neither `/08` nor `/+8`.
    if text.rsplit('/').next() != Some(net.prefix_len().to_string().as_str()) {
        return bad(problems, format!("{text:?}: write the prefix length as {}", net.prefix_len()));
    }
    if let IpNet::V6(v6) = net
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return bad(problems, format!("{text:?} is an IPv4-mapped network: write it as IPv4"));
    }
    if net.trunc() != net {
        problems.push(Problem::warning(at.clone(), format!("{text} has host bits set and means {}", net.trunc())));
    }
    Some(net.trunc())
}

impl PolicyPort {
    pub(crate) fn validate(&self, at: &FieldPath, problems: &mut Vec<Problem>) {
        let number = match &self.port {
            None => None,
            Some(IntOrString::Int(n)) => {
                if u16::try_from(*n).is_ok_and(|n| n > 0) {
                    Some(*n)
                } else {
                    problems.push(Problem::error(at.key("port"), format!("{n} is no port: 1 to 65535")));
                    return;
                }
            }
            Some(IntOrString::String(name)) => {
                if !is_port_name(name) {
                    let advice = match name.parse::<u16>() {
                        Ok(n) => format!("write the number without quotes: port: {n}"),
                        Err(_) => {
                            "at most 15 of a-z, 0-9 and -, at least one letter, no - at the ends and no two together"
                                .to_owned()
                        }
                    };
                    problems.push(Problem::error(at.key("port"), format!("{name:?} is no port name: {advice}")));
                }
                None
            }
        };
        let Some(end) = self.end_port else { return };
        let at = at.key("endPort");
        match (&self.port, number) {
            (None, _) => problems.push(Problem::error(at, "endPort needs port, the first port of the range")),
            (Some(_), None) => {
                problems.push(Problem::error(at, "endPort needs a port that is a number: a name has no range"));
            }
            (Some(_), Some(first)) if end < first || u16::try_from(end).is_err() => {
                problems.push(Problem::error(at, format!("{end} does not end a range that begins with {first}")));
            }
            _ => {}
        }
    }
}
