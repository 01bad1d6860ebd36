//! What would let a flow pass the pod's edge.

use super::advice::{Adviser, block, only, policy_port};
use super::{Advice, Change, other, yaml};
use crate::addresses::Addresses;
use crate::evaluate::Half;
use crate::model::{PolicyKind, PolicyName};
use crate::world::objects::namespace;
use serde::Serialize;
use sidewall_api::network::{POLICY_FOR, RULES_MAX};
use sidewall_api::{
    LabelSelector, NetworkEgressRule, NetworkIngressRule, NetworkPeer, NetworkPolicySpec, Peer, PolicyPort, PolicyType,
    Problem,
};
use sidewall_flow::Direction;
use std::net::IpAddr;

/// A rule to add to a policy of the pod's edge.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeRule {
    /// The kind of the policy: a NetworkPolicy, or a MultiNetworkPolicy.
    pub policy_kind: PolicyKind,
    /// The policy's namespace.
    pub namespace: String,
    /// The network that a MultiNetworkPolicy is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The direction.
    pub direction: Direction,
    /// The policy to add it to, where one isolates that can be added to; otherwise any that selects the pod, or a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_to: Option<PolicyName>,
    /// The peers.
    pub peers: Vec<NetworkPeer>,
    /// The ports.
    pub ports: Vec<PolicyPort>,
    /// The rule as YAML, to stand in the list of its direction.
    pub yaml: String,
}

impl EdgeRule {
    /// A policy of its own with this rule, for the pods that a selector selects.
    pub fn policy(&self, pod_selector: LabelSelector) -> NetworkPolicySpec {
        let mut spec =
            NetworkPolicySpec { pod_selector, policy_types: vec![self.kind()], ..NetworkPolicySpec::default() };
        self.add(&mut spec);
        spec
    }

    /// Adds this rule to a policy.
    pub fn add(&self, spec: &mut NetworkPolicySpec) {
        let (peers, ports) = (self.peers.clone(), self.ports.clone());
        match self.direction {
            Direction::Ingress => spec.ingress.push(NetworkIngressRule { from: peers, ports }),
            Direction::Egress => spec.egress.push(NetworkEgressRule { to: peers, ports }),
        }
    }

    const fn kind(&self) -> PolicyType {
        kind(self.direction)
    }
}

const fn kind(direction: Direction) -> PolicyType {
    match direction {
        Direction::Ingress => PolicyType::Ingress,
        Direction::Egress => PolicyType::Egress,
    }
}

impl Adviser<'_> {
    /// The network of a side, where it is not the pod network.
    pub fn network(&self, half: &Half) -> Option<String> {
        let (attachment, _) = other(self.flow, half.direction).on_network()?;
        let unknown = || "a device that is not known".to_owned();
        Some(self.pod.attached.get(&attachment?).map_or_else(unknown, |attached| attached.network.clone()))
    }

    /// What would let a flow pass the pod's edge: a rule in the form of the policies that isolate there.
    pub fn at_edge(&self, half: &Half, by: &[PolicyName]) -> Vec<Advice> {
        let Some((attachment, address)) = other(self.flow, half.direction).on_network() else { return Vec::new() };
        let network = match attachment.map(|id| self.pod.attached.get(&id)) {
            None => None,
            Some(Some(attached)) => Some(attached.network.as_str()),
            Some(None) => {
                return vec![only(
                    "no policy can open a device that is not known: see what the pod's list of its networks says"
                        .to_owned(),
                )];
            }
        };
        if Addresses::never_peers().contains(address) {
            return vec![only(format!(
                "no rule can name {address}: loopback, multicast and unspecified addresses are no peers on the network"
            ))];
        }
        match self.suggest_at_edge(half.direction, network, address) {
            Err(why) => vec![only(why)],
            Ok((peers, ports)) => vec![self.edge_rule(half.direction, by, network, &peers, ports)],
        }
    }

    fn suggest_at_edge(
        &self,
        direction: Direction,
        network: Option<&str>,
        address: IpAddr,
    ) -> super::advice::Suggestion {
        let ports = vec![policy_port(self.flow.protocol, self.flow.port)];
        let Some(network) = network else {
            let socket = (address, self.flow.protocol, self.flow.port);
            return match self.world {
                Some(world) if direction == Direction::Egress && world.service_addresses().contains(address) => {
                    self.service(world, socket, true)
                }
                _ => {
                    let pod = self.pods_at(address).first().and_then(|pod| self.pod_peer(pod));
                    Ok((vec![pod.unwrap_or_else(|| block(address))], ports))
                }
            };
        };
        // A claim that anything speaks against is not believed: an address is then named by itself.
        let believed = match self.claimants(network, address)[..] {
            [only] if self.known_as(address).is_empty() && self.is_claimed_nowhere_else(only, address) => Some(only),
            _ => None,
        };
        Ok((vec![believed.and_then(|pod| self.pod_peer(pod)).unwrap_or_else(|| block(address))], ports))
    }

    fn is_claimed_nowhere_else(&self, pod: &crate::world::Pod, address: IpAddr) -> bool {
        let mut pods = self.world.into_iter().flat_map(|world| &world.pods).filter(|other| !other.ended);
        let has = |other: &crate::world::Pod| {
            other.addresses.contains(&address)
                || other.networks.known.iter().any(|one| one.addresses.contains(&address))
        };
        pods.all(|other| (&other.namespace, &other.name) == (&pod.namespace, &pod.name) || !has(other))
    }

    fn edge_rule(
        &self,
        direction: Direction,
        by: &[PolicyName],
        network: Option<&str>,
        peers: &[Peer],
        ports: Vec<PolicyPort>,
    ) -> Advice {
        let add_to = by.iter().find(|name| self.can_be_added_to(name, direction, network)).cloned();
        let message = match (&add_to, network) {
            (Some(policy), _) => format!("add to spec.{direction} of {policy}"),
            (None, None) => format!("add to spec.{direction} of a NetworkPolicy for this pod"),
            (None, Some(network)) => format!(
                "add to spec.{direction} of a MultiNetworkPolicy for this pod, with the annotation {POLICY_FOR}: {network}"
            ),
        };
        let rule = EdgeRule {
            policy_kind: network.map_or(PolicyKind::NetworkPolicy, |_| PolicyKind::MultiNetworkPolicy),
            namespace: self.pod.namespace.clone(),
            network: network.map(str::to_owned),
            direction,
            add_to,
            peers: peers.iter().map(at_edge).collect(),
            yaml: yaml::rule(direction, peers, &ports),
            ports,
        };
        Advice { message, change: Some(Change::AllowAtEdge(rule)) }
    }

    /// Whether a policy isolates here by its own words, so that a rule can be added to it; and is about no other network.
    fn can_be_added_to(&self, name: &PolicyName, direction: Direction, network: Option<&str>) -> bool {
        let Some(world) = self.world else { return false };
        let is = |metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            metadata.name.as_deref() == Some(&name.name) && namespace(metadata.namespace.as_deref()) == name.namespace
        };
        let found: Vec<(&NetworkPolicySpec, Vec<Problem>)> = match (name.kind, network) {
            (PolicyKind::NetworkPolicy, None) => {
                let named = world.network_policies.iter().filter(|policy| is(&policy.metadata));
                named.map(|policy| (&policy.spec, policy.validate())).collect()
            }
            (PolicyKind::MultiNetworkPolicy, Some(network)) => {
                let only = |networks: Vec<String>| networks == [network];
                let named = world.multi_network_policies.iter().filter(|policy| is(&policy.metadata));
                let named = named.filter(|policy| {
                    policy.networks().is_ok_and(|all| only(all.iter().map(ToString::to_string).collect()))
                });
                named.map(|policy| (&policy.spec, policy.validate())).collect()
            }
            _ => return false,
        };
        let [(spec, problems)] = &found[..] else { return false };
        let rules = match direction {
            Direction::Ingress => spec.ingress.len(),
            Direction::Egress => spec.egress.len(),
        };
        rules < RULES_MAX && spec.directions().contains(&kind(direction)) && !problems.iter().any(Problem::is_error)
    }
}

/// A peer in the words of a NetworkPolicy. Nothing that is suggested at an edge has other words.
fn at_edge(peer: &Peer) -> NetworkPeer {
    NetworkPeer {
        pod_selector: peer.pod_selector.clone(),
        namespace_selector: peer.namespace_selector.clone(),
        ip_block: peer.ip_block.clone(),
    }
}
