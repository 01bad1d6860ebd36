//! What holds for the pod as a whole, on each of its networks.
//!
//! NetworkPolicies hold on the pod network, MultiNetworkPolicies on the further networks that they name. Each kind means
//! what it means alone: what a rule allows here still has to pass with the container.

use super::networks::Claims;
use super::peers::{Resolver, grant, names_ports, resolve_ports};
use super::pods::Allowed;
use super::{errors, in_order, selects};
use crate::addresses::Addresses;
use crate::model::{
    Attached, AttachmentId, DeclaredPort, Grant, Isolation, Note, Peers, PolicyKind, PolicyName, Reach, Rule, RuleName,
    Scope, Sides,
};
use crate::ports::Ports;
use crate::world::Unreadable;
use ipnet::IpNet;
use sidewall_api::network::SELECTOR_LIMITS;
use sidewall_api::{IpBlock, MultiNetworkPolicy, NetworkPeer, NetworkPolicySpec, PolicyPort, PolicyType};
use sidewall_flow::Direction;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The name under which the pod's own node passes NetworkPolicies. No policy can have it.
pub const OWN_NODE: &str = "(own node)";

/// What holds at every edge of the pod.
#[derive(Default)]
pub(super) struct Edges {
    pub(super) edge: Sides,
    pub(super) attached: BTreeMap<AttachmentId, Attached>,
    pub(super) elsewhere: Sides,
}

/// The network that a policy's peers are looked for on.
#[derive(Clone, Copy)]
enum On<'c> {
    PodNetwork,
    Further(&'c Claims),
}

impl<'a> Resolver<'a> {
    /// What the policies of the pod's edges come to.
    pub(super) fn edges(&mut self) -> Edges {
        let mut edges = Edges { attached: self.attached(), ..Edges::default() };
        self.unreadable_edges(&mut edges);
        self.network_policies(&mut edges.edge);
        self.multi_network_policies(&mut edges);
        for sides in edges.all() {
            for direction in [Direction::Ingress, Direction::Egress] {
                let side = sides.side_mut(direction);
                side.isolations.sort();
                side.isolations.dedup();
                side.rules.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        edges
    }

    fn unreadable_edges(&mut self, edges: &mut Edges) {
        for Unreadable { kind, namespace, name, reason, .. } in self.unreadables() {
            let name = || PolicyName {
                kind: *kind,
                namespace: namespace.clone().unwrap_or_else(|| self.subject.namespace.clone()),
                name: name.clone().unwrap_or_else(|| "(nameless)".to_owned()),
            };
            match kind {
                PolicyKind::NetworkPolicy => self.closed([&mut edges.edge], name(), reason),
                PolicyKind::MultiNetworkPolicy => self.closed(edges.further(), name(), reason),
                _ => {}
            }
        }
    }

    /// A policy that can't be understood isolates what it selects, in both directions.
    fn closed<'s>(&mut self, edges: impl IntoIterator<Item = &'s mut Sides>, name: PolicyName, why: &str) {
        for sides in edges {
            for direction in [Direction::Ingress, Direction::Egress] {
                isolate(sides, direction, &name);
            }
        }
        let message = format!("isolates every pod that it selects, because it can't be understood: {why}");
        self.notes.push(Note { policy: Some(name), message });
    }

    fn network_policies(&mut self, edge: &mut Sides) {
        let (cluster, subject) = (self.cluster, self.subject);
        let mut policies: Vec<_> = cluster
            .network_policies(&subject.namespace)
            .into_iter()
            .filter(|policy| {
                let namespace = policy.metadata.namespace.as_deref();
                selects(subject, namespace, &policy.spec.pod_selector, &SELECTOR_LIMITS)
            })
            .collect();
        in_order(&mut policies, |policy| &policy.metadata.name, |policy| format!("{:?}", policy.spec));
        for policy in policies {
            let name = self.edge_name(PolicyKind::NetworkPolicy, policy.metadata.name.as_ref());
            let faults = errors(&policy.validate());
            if !faults.is_empty() {
                self.closed([&mut *edge], name, &faults.join("; "));
                continue;
            }
            for direction in directions(&policy.spec) {
                isolate(edge, direction, &name);
                let rules = self.edge_rules(&name, &policy.spec, direction, On::PodNetwork);
                edge.side_mut(direction).rules.extend(rules);
            }
        }
        // Whatever a NetworkPolicy says, the pod's own node reaches the pod, and the pod its node.
        if !cluster.network().this_node.is_empty() {
            for direction in [Direction::Ingress, Direction::Egress] {
                if edge.side(direction).isolations.is_empty() {
                    continue;
                }
                let policy = self.edge_name(PolicyKind::NetworkPolicy, Some(&OWN_NODE.to_owned()));
                let grants = grant(self.this_node(), Ports::all());
                edge.side_mut(direction).rules.push(Rule {
                    name: RuleName { policy, direction, index: 0 },
                    grants,
                    awaits: false,
                });
            }
        }
    }

    fn multi_network_policies(&mut self, edges: &mut Edges) {
        let (cluster, subject) = (self.cluster, self.subject);
        let mut policies: Vec<&MultiNetworkPolicy> = cluster
            .multi_network_policies(&subject.namespace)
            .into_iter()
            .filter(|policy| {
                let namespace = policy.metadata.namespace.as_deref();
                selects(subject, namespace, &policy.spec.pod_selector, &SELECTOR_LIMITS)
            })
            .collect();
        let says = |policy: &MultiNetworkPolicy| format!("{:?} {:?}", policy.spec, policy.metadata.annotations);
        in_order(&mut policies, |policy| &policy.metadata.name, says);
        for policy in policies {
            let name = self.edge_name(PolicyKind::MultiNetworkPolicy, policy.metadata.name.as_ref());
            let faults = errors(&policy.validate());
            let networks = match policy.networks() {
                Ok(networks) if faults.is_empty() => networks,
                _ => {
                    self.closed(edges.further(), name, &faults.join("; "));
                    continue;
                }
            };
            let claims = Claims::new(cluster, subject, &networks);
            let named: BTreeSet<String> = networks.iter().map(ToString::to_string).collect();
            for direction in directions(&policy.spec) {
                // A device that nobody knows may lead to any of them.
                isolate(&mut edges.elsewhere, direction, &name);
                let mut rules = None;
                for attached in edges.attached.values_mut().filter(|attached| named.contains(&attached.network)) {
                    isolate(&mut attached.edge, direction, &name);
                    let rules = rules
                        .get_or_insert_with(|| self.edge_rules(&name, &policy.spec, direction, On::Further(&claims)));
                    attached.edge.side_mut(direction).rules.extend(rules.iter().cloned());
                }
            }
        }
    }

    fn edge_name(&self, kind: PolicyKind, name: Option<&String>) -> PolicyName {
        PolicyName { kind, namespace: self.subject.namespace.clone(), name: name.cloned().unwrap_or_default() }
    }

    fn edge_rules(
        &mut self,
        policy: &PolicyName,
        spec: &NetworkPolicySpec,
        direction: Direction,
        on: On<'_>,
    ) -> Vec<Rule> {
        let written: Vec<(&[NetworkPeer], &[PolicyPort])> = match direction {
            Direction::Ingress => spec.ingress.iter().map(|rule| (&*rule.from, &*rule.ports)).collect(),
            Direction::Egress => spec.egress.iter().map(|rule| (&*rule.to, &*rule.ports)).collect(),
        };
        let mut rules = Vec::new();
        for (index, (peers, ports)) in written.into_iter().enumerate() {
            let name = RuleName { policy: policy.clone(), direction, index };
            let mut grants = if peers.is_empty() {
                self.edge_anywhere(&name, ports, on)
            } else {
                self.edge_grants(&name, peers, ports, on)
            };
            if matches!(on, On::Further(_)) {
                grants.iter_mut().for_each(|grant| grant.reach = Reach::EveryNetwork);
            }
            let pods = |peer: &NetworkPeer| peer.ip_block.is_none();
            let pods = peers.is_empty() || peers.iter().any(pods);
            let awaits = direction == Direction::Egress && pods && names_ports(ports);
            rules.push(Rule { name, grants, awaits });
        }
        rules
    }

    /// The ports that the pod's containers declare: an ingress port may be any of theirs.
    fn own_ports(&self) -> Vec<DeclaredPort> {
        self.subject.containers.values().flat_map(|container| container.ports.iter().cloned()).collect()
    }

    fn edge_grants(&mut self, rule: &RuleName, peers: &[NetworkPeer], ports: &[PolicyPort], on: On<'_>) -> Vec<Grant> {
        let ingress = (rule.direction == Direction::Ingress).then(|| resolve_ports(ports, &self.own_ports()));
        let mut pods = Allowed::default();
        let mut blocks = Vec::new();
        for peer in peers {
            match &peer.ip_block {
                Some(block) => blocks.push(match on {
                    On::PodNetwork => self.block(block, rule.direction),
                    On::Further(_) => whole_block(block),
                }),
                None => {
                    let selectors = (peer.pod_selector.as_ref(), peer.namespace_selector.as_ref());
                    let asked = ingress.is_none().then_some(ports);
                    pods.add(match on {
                        On::PodNetwork => {
                            self.other_names(rule, selectors);
                            self.selected(rule, selectors, asked, true)
                        }
                        On::Further(claims) => {
                            let query = self.query(selectors, None, true);
                            self.note_shared(rule, &self.cluster.pods(&query));
                            self.selected_there(rule, claims, &self.cluster.attached_pods(Some(&query)), asked)
                        }
                    });
                }
            }
        }
        let mut grants = Vec::new();
        if rule.direction == Direction::Egress && matches!(on, On::PodNetwork) {
            grants.extend(self.services_of(rule, &pods));
        }
        grants.extend(pods.grants(|ports| ingress.clone().unwrap_or_else(|| ports.clone())));
        let blocks: Addresses = blocks.into_iter().collect();
        if !blocks.is_empty() {
            let ports = ingress.unwrap_or_else(|| self.numbers(rule, ports));
            grants.extend(grant(Peers::Addresses(Arc::new(blocks)), ports));
        }
        grants
    }

    /// Everywhere, on some ports. A Service is judged by what stands behind it.
    fn edge_anywhere(&mut self, rule: &RuleName, ports: &[PolicyPort], on: On<'_>) -> Vec<Grant> {
        if rule.direction == Direction::Ingress {
            return grant(Peers::Anyone, resolve_ports(ports, &self.own_ports()));
        }
        let numbers = resolve_ports(ports, &[]);
        if numbers.is_all() {
            return grant(Peers::Anyone, numbers);
        }
        let mut everywhere = Addresses::all().subtract(&Addresses::never_peers());
        if matches!(on, On::PodNetwork) {
            everywhere = everywhere.subtract(&self.cluster.service_addresses());
        }
        let mut grants = grant(Peers::Addresses(Arc::new(everywhere.clone())), numbers.clone());
        let named = match on {
            On::PodNetwork => self.everybody(rule, ports, &numbers),
            On::Further(claims) => self.everybody_there(rule, claims, ports, &numbers),
        };
        if matches!(on, On::PodNetwork) {
            grants.extend(self.services_behind(rule, self.cluster.services(), |address, protocol, port| {
                everywhere.contains(address) && numbers.contains(protocol, port)
                    || named.contains(address, protocol, port)
            }));
        }
        grants.extend(named.grants(|ports| ports.subtract(&numbers)));
        grants
    }
}

impl Edges {
    fn further(&mut self) -> impl Iterator<Item = &mut Sides> {
        self.attached.values_mut().map(|attached| &mut attached.edge).chain([&mut self.elsewhere])
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Sides> {
        let further = self.attached.values_mut().map(|attached| &mut attached.edge).chain([&mut self.elsewhere]);
        further.chain([&mut self.edge])
    }
}

/// Loopback has no edge: a pod can't be kept from itself.
fn isolate(sides: &mut Sides, direction: Direction, by: &PolicyName) {
    let isolation = Isolation { by: by.clone(), loopback: Scope::none(), network: Scope::all() };
    sides.side_mut(direction).isolations.push(isolation);
}

fn directions(spec: &NetworkPolicySpec) -> impl Iterator<Item = Direction> {
    spec.directions().into_iter().map(|kind| match kind {
        PolicyType::Ingress => Direction::Ingress,
        PolicyType::Egress => Direction::Egress,
    })
}

/// An address block as it stands: on a further network there are no Services.
fn whole_block(block: &IpBlock) -> Addresses {
    let net = |text: &String| text.parse::<IpNet>().ok();
    let within: Addresses = net(&block.cidr).into_iter().collect();
    let except: Addresses = block.except.iter().filter_map(net).collect();
    within.subtract(&except).subtract(&Addresses::never_peers())
}
