//! Selectors and peers that match nobody.

use super::covers;
use super::effort::Effort;
use super::{Finding, Seen, SeenPod, Written};
use crate::model::PolicyKind;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{Entity, FieldPath, LabelSelector, Peer, PeerKind, PolicyPort, PortProtocol};
use sidewall_flow::Direction;

/// What of a policy selects nothing, or names nobody.
pub fn check(seen: &Seen<'_>, policy: &Written<'_>, effort: &Effort, findings: &mut Vec<Finding>) {
    let selector = FieldPath::spec().key("podSelector");
    if covers::impossible(policy.pods) {
        policy.warn(findings, selector, "no pod can have these labels: the requirements contradict each other");
    } else {
        selects(seen, policy, selector, effort, findings);
    }
    if policy.directions.is_empty() {
        policy.warn(findings, FieldPath::spec(), "isolates in no direction, so it does nothing");
    }
    for (direction, rules) in policy.sides() {
        if !rules.is_empty() && !policy.directions.contains(&direction) {
            let path = FieldPath::spec().key(direction.to_string());
            policy.warn(findings, path, "policyTypes does not name this direction, so these rules have no effect");
            continue;
        }
        for (index, rule) in rules.iter().enumerate() {
            for (i, peer) in rule.peers.iter().enumerate() {
                if !effort.spend(1) {
                    return;
                }
                let path = Written::peer_path(direction, index, i);
                for (path, message) in nobody(seen, policy, peer, &path, effort) {
                    policy.warn(findings, path, message);
                }
                if let Some(message) = never_there(peer, rule.ports) {
                    policy.warn(findings, path, message);
                }
            }
            if direction == Direction::Egress {
                undeclared(seen, policy, index, effort, findings);
            }
        }
    }
}

fn selects(seen: &Seen<'_>, policy: &Written<'_>, path: FieldPath, effort: &Effort, findings: &mut Vec<Finding>) {
    let namespace = &policy.name.namespace;
    let Some(pods) = seen.pods_of(|of| of == namespace) else {
        if !seen.has_no_pods() {
            policy.warn(findings, path, format!("selects nothing: no pod that was read is in namespace {namespace}"));
        }
        return;
    };
    if !effort.spend(cost(policy.pods, pods.len())) {
        return;
    }
    let selected: Vec<&&dyn SeenPod> = pods.iter().filter(|pod| policy.pods.matches(pod.labels())).collect();
    if selected.is_empty() {
        let message = format!("selects none of the {} pods of namespace {namespace} that were read", pods.len());
        policy.warn(findings, path, message);
        return;
    }
    if selected.iter().all(|pod| pod.host_network()) {
        let message = "selects only pods that share their node's network, and no policy holds there".to_owned();
        policy.warn(findings, path, message);
    }
}

/// What it costs to hold a selector against so many pods. A label's look-up is about a fourth of a comparison of addresses.
pub fn cost(selector: &LabelSelector, pods: usize) -> usize {
    (pods / 4 + 1).saturating_mul(1 + covers::size(selector))
}

/// Why a peer names nobody, and which field of it.
fn nobody(
    seen: &Seen<'_>,
    policy: &Written<'_>,
    peer: &Peer,
    path: &FieldPath,
    effort: &Effort,
) -> Vec<(FieldPath, String)> {
    let mut found = Vec::new();
    match peer.kind() {
        Ok(PeerKind::Container(name)) => {
            let only_itself = policy.containers.is_some_and(|own| matches!(own, [only] if only == name));
            if only_itself {
                found.push((path.key("container"), "a container always reaches itself: this peer adds nothing".into()));
            }
        }
        Ok(PeerKind::IpBlock(block)) if effort.spend(2 + block.except.len() / 4) => {
            let addresses = covers::addresses(block);
            if addresses.is_empty() {
                found.push((path.key("ipBlock"), "its exceptions leave nothing of it".to_owned()));
            } else if addresses.subtract(&seen.never_peers).is_empty() {
                let message = "loopback, multicast and unspecified addresses are no peers: name the container instead";
                found.push((path.key("ipBlock").key("cidr"), message.to_owned()));
            } else if policy.networks.is_none() && addresses.subtract(&seen.services).is_empty() {
                let message = "Services are never allowed by address: name the pods behind them by podSelector";
                found.push((path.key("ipBlock").key("cidr"), message.to_owned()));
            }
        }
        Ok(PeerKind::Pods { pods, namespaces }) if effort.spend(1 + covers::words(peer) / 4) => {
            let mut possible = true;
            for (key, selector) in [("podSelector", pods), ("namespaceSelector", namespaces)] {
                if selector.is_some_and(covers::impossible) {
                    let message = "can never match: the requirements contradict each other";
                    found.push((path.key(key), message.to_owned()));
                    possible = false;
                }
            }
            if possible && policy.networks.is_none() {
                found.extend(unmatched(seen, policy, (pods, namespaces), path, effort));
            }
        }
        Ok(PeerKind::IpBlock(_) | PeerKind::Entity(_) | PeerKind::Pods { .. }) | Err(_) => {}
    }
    found
}

/// Pods that a peer could name were read, and it names none of them.
fn unmatched(
    seen: &Seen<'_>,
    policy: &Written<'_>,
    (pods, namespaces): (Option<&LabelSelector>, Option<&LabelSelector>),
    path: &FieldPath,
    effort: &Effort,
) -> Option<(FieldPath, String)> {
    // Else all pods would be gathered for each peer, and not held against it.
    if effort.is_used_up() {
        return None;
    }
    // Where no namespace of the files is meant, its pods may well be somewhere else.
    let candidates = named(seen, policy, namespaces)?;
    if !pods.is_none_or(|selector| effort.spend(cost(selector, candidates.len()))) {
        return None;
    }
    let matches = candidates.iter().any(|pod| pods.is_none_or(|selector| selector.matches(pod.labels())));
    let message = || format!("matches none of the {} pods that were read where it looks", candidates.len());
    (!matches).then(|| (path.key("podSelector"), message()))
}

/// The pods of the namespaces that a peer names; `None` where none was read, or perhaps not all.
fn named<'a>(
    seen: &Seen<'a>,
    policy: &Written<'_>,
    namespaces: Option<&LabelSelector>,
) -> Option<Vec<&'a dyn SeenPod>> {
    match namespaces {
        None => seen.pods_of(|name| name == policy.name.namespace),
        Some(_) if !seen.everywhere => None,
        Some(selector) => seen.pods_of(|name| selector.matches(&seen.namespace_labels(name))),
    }
}

/// An entity that is never reached on any of a rule's ports.
fn never_there(peer: &Peer, ports: &[PolicyPort]) -> Option<String> {
    let Ok(PeerKind::Entity(entity)) = peer.kind() else { return None };
    let none = |wanted: &[PortProtocol]| !ports.is_empty() && ports.iter().all(|port| !wanted.contains(&port.protocol));
    match entity {
        Entity::PortForward if none(&[PortProtocol::Tcp]) => {
            Some("a port-forward carries TCP only, and no port of this rule is TCP".to_owned())
        }
        Entity::KubeAPIServer if none(&[PortProtocol::Tcp]) => {
            Some("the API server answers on TCP only, and no port of this rule is TCP".to_owned())
        }
        Entity::ClusterDNS if none(&[PortProtocol::Tcp, PortProtocol::Udp]) => {
            Some("DNS answers on UDP and TCP, and no port of this rule is either".to_owned())
        }
        _ => None,
    }
}

/// A rule's named ports that no pod declares which it names.
fn undeclared(seen: &Seen<'_>, policy: &Written<'_>, index: usize, effort: &Effort, findings: &mut Vec<Finding>) {
    // A container's ports are among the notes of resolving, which know the pod.
    if policy.name.kind == PolicyKind::MultiNetworkPolicy {
        return;
    }
    let rule = &policy.egress[index];
    let selectors: Vec<_> = rule
        .peers
        .iter()
        .filter_map(|peer| match peer.kind() {
            Ok(PeerKind::Pods { pods, namespaces }) => Some((pods, namespaces)),
            _ => None,
        })
        .collect();
    let has_names = rule.ports.iter().any(|port| matches!(port.port, Some(IntOrString::String(_))));
    if !has_names || selectors.is_empty() || selectors.len() < rule.peers.len() {
        return;
    }
    let mut peers: Vec<&dyn SeenPod> = Vec::new();
    for (pods, namespaces) in selectors {
        if effort.is_used_up() {
            return;
        }
        let candidates = named(seen, policy, namespaces).unwrap_or_default();
        if namespaces.is_some() && !seen.everywhere
            || !pods.is_none_or(|selector| effort.spend(cost(selector, candidates.len())))
        {
            return;
        }
        peers.extend(candidates.iter().filter(|pod| pods.is_none_or(|selector| selector.matches(pod.labels()))));
    }
    // One whom two peers name counts once.
    peers.sort_by_key(|pod| std::ptr::from_ref(*pod).cast::<()>());
    peers.dedup_by_key(|pod| std::ptr::from_ref(*pod).cast::<()>());
    for (i, port) in rule.ports.iter().enumerate() {
        let Some(IntOrString::String(name)) = &port.port else { continue };
        if peers.is_empty() || !effort.spend(peers.len()) {
            return;
        }
        if !peers.iter().any(|pod| pod.declares(name, port.protocol)) {
            let path = Written::rule_path(Direction::Egress, index).key("ports").index(i).key("port");
            let message = format!(
                "none of the {} pods that this rule names declares a {} port {name:?}",
                peers.len(),
                port.protocol
            );
            policy.warn(findings, path, message);
        }
    }
}
