//! Selectors and peers that match nobody.

use super::covers;
use super::{Finding, Written};
use crate::addresses::Addresses;
use crate::model::PolicyKind;
use crate::world::{Pod, World};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{Entity, FieldPath, LabelSelector, Peer, PeerKind, PolicyPort, PortProtocol};
use sidewall_flow::Direction;

/// What of a policy selects nothing, or names nobody.
pub fn check(world: &World, policy: &Written, findings: &mut Vec<Finding>) {
    let selector = FieldPath::spec().key("podSelector");
    if covers::impossible(&policy.pods) {
        policy.warn(findings, selector, "no pod can have these labels: the requirements contradict each other");
    } else {
        selects(world, policy, selector, findings);
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
                let path = Written::peer_path(direction, index, i);
                for (path, message) in nobody(world, policy, peer, &path) {
                    policy.warn(findings, path, message);
                }
                if let Some(message) = never_there(peer, &rule.ports) {
                    policy.warn(findings, path, message);
                }
            }
            if direction == Direction::Egress {
                undeclared(world, policy, index, findings);
            }
        }
    }
}

/// The pods of a namespace, as far as they were read; `None` where none was.
fn pods_of(world: &World, namespaces: impl Fn(&str) -> bool) -> Option<Vec<&Pod>> {
    let pods: Vec<&Pod> = world.pods.iter().filter(|pod| namespaces(&pod.namespace)).collect();
    (!pods.is_empty()).then_some(pods)
}

fn selects(world: &World, policy: &Written, path: FieldPath, findings: &mut Vec<Finding>) {
    let namespace = &policy.name.namespace;
    let Some(pods) = pods_of(world, |of| of == namespace) else {
        if !world.pods.is_empty() {
            policy.warn(findings, path, format!("selects nothing: no pod that was read is in namespace {namespace}"));
        }
        return;
    };
    let selected: Vec<&&Pod> = pods.iter().filter(|pod| policy.pods.matches(&pod.labels)).collect();
    if selected.is_empty() {
        let message = format!("selects none of the {} pods of namespace {namespace} that were read", pods.len());
        policy.warn(findings, path, message);
        return;
    }
    if selected.iter().all(|pod| pod.host_network) {
        let message = "selects only pods that share their node's network, and no policy holds there".to_owned();
        policy.warn(findings, path, message);
    }
}

/// Why a peer names nobody, and which field of it.
fn nobody(world: &World, policy: &Written, peer: &Peer, path: &FieldPath) -> Vec<(FieldPath, String)> {
    let mut found = Vec::new();
    match peer.kind() {
        Ok(PeerKind::Container(name)) => {
            let only_itself = policy.containers.as_ref().is_some_and(|own| own.len() == 1 && own.contains(name));
            if only_itself {
                found.push((path.key("container"), "a container always reaches itself: this peer adds nothing".into()));
            }
        }
        Ok(PeerKind::IpBlock(block)) => {
            let addresses = covers::addresses(block);
            if addresses.is_empty() {
                found.push((path.key("ipBlock"), "its exceptions leave nothing of it".to_owned()));
            } else if addresses.subtract(&Addresses::never_peers()).is_empty() {
                let message = "loopback, multicast and unspecified addresses are no peers: name the container instead";
                found.push((path.key("ipBlock").key("cidr"), message.to_owned()));
            } else if policy.networks.is_none() && addresses.subtract(&world.service_addresses()).is_empty() {
                let message = "Services are never allowed by address: name the pods behind them by podSelector";
                found.push((path.key("ipBlock").key("cidr"), message.to_owned()));
            }
        }
        Ok(PeerKind::Pods { pods, namespaces }) => {
            let mut possible = true;
            for (key, selector) in [("podSelector", pods), ("namespaceSelector", namespaces)] {
                if selector.is_some_and(covers::impossible) {
                    let message = "can never match: the requirements contradict each other";
                    found.push((path.key(key), message.to_owned()));
                    possible = false;
                }
            }
            if possible && policy.networks.is_none() {
                found.extend(unmatched(world, policy, (pods, namespaces), path));
            }
        }
        Ok(PeerKind::Entity(_)) | Err(_) => {}
    }
    found
}

/// Pods that a peer could name were read, and it names none of them.
fn unmatched(
    world: &World,
    policy: &Written,
    (pods, namespaces): (Option<&LabelSelector>, Option<&LabelSelector>),
    path: &FieldPath,
) -> Option<(FieldPath, String)> {
    let here = |namespace: &str| match namespaces {
        Some(selector) => selector.matches(&world.namespace_labels(namespace)),
        None => namespace == policy.name.namespace,
    };
    // Where no namespace of the files is meant, its pods may well be somewhere else.
    let candidates = pods_of(world, here)?;
    let matches = candidates.iter().any(|pod| pods.is_none_or(|selector| selector.matches(&pod.labels)));
    let message = || format!("matches none of the {} pods that were read where it looks", candidates.len());
    (!matches).then(|| (path.key("podSelector"), message()))
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
fn undeclared(world: &World, policy: &Written, index: usize, findings: &mut Vec<Finding>) {
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
    if selectors.is_empty() || selectors.len() < rule.peers.len() {
        return;
    }
    let named = |pod: &&Pod| {
        selectors.iter().any(|(pods, namespaces)| {
            let here = match namespaces {
                Some(selector) => selector.matches(&world.namespace_labels(&pod.namespace)),
                None => pod.namespace == policy.name.namespace,
            };
            here && pods.is_none_or(|selector| selector.matches(&pod.labels))
        })
    };
    let peers: Vec<&Pod> = world.pods.iter().filter(named).collect();
    for (i, port) in rule.ports.iter().enumerate() {
        let Some(IntOrString::String(name)) = &port.port else { continue };
        let declares = |pod: &&Pod| {
            pod.ports.iter().any(|declared| {
                declared.name.as_ref() == Some(name) && declared.protocol.to_string() == port.protocol.as_str()
            })
        };
        if !peers.is_empty() && !peers.iter().any(declares) {
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
