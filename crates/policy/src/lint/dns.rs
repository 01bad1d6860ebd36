//! Isolation that leaves no way to the cluster's DNS.

use super::covers;
use super::effort::Effort;
use super::{Finding, Seen, Wider, Written, WrittenRule};
use crate::ports::Ports;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{Entity, FieldPath, IpBlock, PeerKind};
use sidewall_flow::{Direction, Protocol};

/// Where the cluster's DNS runs.
const DNS_NAMESPACE: &str = "kube-system";

/// Says so where a policy lets its containers out to others, and nothing lets them ask for those others' addresses.
pub fn check(
    seen: &Seen<'_>,
    policy: &Written<'_>,
    wider: &[Wider<'_, '_>],
    effort: &Effort,
    findings: &mut Vec<Finding>,
) {
    if !policy.directions.contains(&Direction::Egress)
        || policy.networks.is_some()
        || !policy.egress.iter().any(needs_names)
    {
        return;
    }
    // What an Audit policy says counts once it is enforced, together with the Enforce policies.
    let helps = wider.iter().map(|wider| wider.policy).filter(|other| other.enforces || !policy.enforces);
    let mut rules = policy.egress.iter().chain(helps.flat_map(|other| &other.egress));
    // A rule that was not looked at may be the one.
    let perhaps = rules
        .any(|rule| !effort.spend(1 + rule.ports.len() / 4 + rule.peers.len() / 16) || reaches(seen, policy, rule));
    if !perhaps {
        policy.warn(
            findings,
            FieldPath::spec().key("egress"),
            "lets containers out, but not to DNS: they can't resolve names. Add `- to: [{entity: ClusterDNS}]`, or for a NetworkPolicy UDP and TCP port 53 of the DNS pods",
        );
    }
}

/// Whether a rule's peers are usually found by name.
fn needs_names(rule: &WrittenRule<'_>) -> bool {
    rule.peers.is_empty()
        || rule.peers.iter().any(|peer| match peer.kind() {
            Ok(PeerKind::Pods { .. } | PeerKind::Entity(Entity::World)) => true,
            Ok(PeerKind::IpBlock(block)) => !single(block),
            _ => false,
        })
}

/// Who is named by a single address needs no name.
fn single(block: &IpBlock) -> bool {
    block.cidr.parse::<ipnet::IpNet>().is_ok_and(|net| net.prefix_len() == net.max_prefix_len())
}

/// Whether the cluster's DNS may be among what a rule allows.
fn reaches(seen: &Seen<'_>, policy: &Written<'_>, rule: &WrittenRule<'_>) -> bool {
    let numbers = covers::numbers(rule.ports);
    let port = rule.ports.is_empty()
        || numbers.contains(Protocol::Udp, 53)
        // The DNS pods' own port has a name.
        || rule.ports.iter().any(|port| matches!(port.port, Some(IntOrString::String(_))));
    let dns = [Protocol::Udp, Protocol::Tcp].map(|protocol| (protocol, 53, 53)).into_iter().collect();
    let nothing_else = !numbers.is_empty() && Ports::subtract(&numbers, &dns).is_empty();
    let peer = rule.peers.is_empty()
        || rule.peers.iter().any(|peer| match peer.kind() {
            Ok(PeerKind::Entity(entity)) => entity == Entity::ClusterDNS,
            // A cache on the node, or a resolver of one's own, may stand anywhere.
            Ok(PeerKind::IpBlock(_)) => true,
            Ok(PeerKind::Pods { namespaces: Some(selector), .. }) => {
                // Where its labels are not known, they may be what is asked for.
                !seen.knows_namespace(DNS_NAMESPACE) || selector.matches(&seen.namespace_labels(DNS_NAMESPACE))
            }
            // Its own namespace's resolver, where the rule is about DNS and nothing else.
            Ok(PeerKind::Pods { namespaces: None, .. }) => policy.name.namespace == DNS_NAMESPACE || nothing_else,
            _ => false,
        });
    port && peer
}
