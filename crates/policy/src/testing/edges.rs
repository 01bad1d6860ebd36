//! Draws the policies of the pod's edges, and the further networks that they are about.

use super::cluster::{LABELS, NAMESPACES};
use super::policies::{block, port, selector};
use super::{Case, Draw, Ground, Link};
use crate::evaluate::End;
use crate::model::{AttachmentId, PolicyKind};
use crate::world::Unreadable;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::network::POLICY_FOR;
use sidewall_api::{
    Attachment, IpBlock, LabelSelector, MultiNetworkPolicy, NetworkEgressRule, NetworkIngressRule, NetworkName,
    NetworkPeer, NetworkPolicy, NetworkPolicySpec, PolicyPort, PolicyType,
};
use sidewall_flow::Direction;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Attaches the pod and its peers to the ground's further networks.
pub fn attach(draw: &mut Draw, case: &mut Case) {
    let links = case.ground.attachments.clone();
    for (number, link) in links.iter().enumerate() {
        let Some(network) = NetworkName::parse(&link.network, NAMESPACES[0]) else { continue };
        if draw.chance(85) {
            let (device, addresses) = (link.device.clone(), link.own.clone());
            case.subject.networks.known.push(Attachment { network: network.clone(), device, addresses });
        }
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = link.hosts.iter().partition(|address| address.is_ipv4());
        for (i, pod) in case.world.pods.iter_mut().enumerate() {
            if pod.host_network || draw.chance(35) {
                continue;
            }
            let mut addresses: Vec<IpAddr> = v4.get(i).into_iter().chain(v6.get(i)).copied().collect();
            if (&pod.namespace, &pod.name) == (&case.subject.namespace, &case.subject.name) {
                addresses.clone_from(&link.own);
            } else if draw.chance(10) {
                // What a pod says of itself need not be true.
                let ground = &case.ground;
                let others = [&link.hosts, &link.own, &ground.pods, &ground.this_node, &ground.services];
                let others: Vec<IpAddr> = others.into_iter().flatten().copied().collect();
                if !others.is_empty() {
                    addresses = vec![*draw.pick(&others)];
                }
            }
            let device = format!("net{number}");
            pod.networks.known.push(Attachment { network: network.clone(), device, addresses });
        }
    }
    if !links.is_empty() {
        if draw.chance(4) {
            case.subject.networks.faults.push("was drawn faulty".to_owned());
        }
        if draw.chance(4) {
            let twice = case.subject.networks.known.first().cloned();
            case.subject.networks.known.extend(twice);
        }
        let pods = &mut case.world.pods;
        if draw.chance(5) && pods.len() > 1 {
            let unlucky = draw.below(pods.len());
            pods[unlucky].networks.faults.push("was drawn faulty".to_owned());
            pods[unlucky].networks.known.clear();
        }
    }
}

/// Fills the world with the policies of edges.
pub fn fill(draw: &mut Draw, case: &mut Case) {
    if case.ground.network_policies {
        for i in 0..draw.below(4) {
            let policy = network_policy(draw, case, &format!("network-{i}"));
            case.world.network_policies.push(policy);
        }
        if draw.chance(4) {
            case.world.unreadable.push(unreadable(draw, PolicyKind::NetworkPolicy));
        }
    }
    if !case.ground.attachments.is_empty() {
        for i in 0..draw.below(4) {
            let policy = multi_network_policy(draw, case, &format!("multi-{i}"));
            case.world.multi_network_policies.push(policy);
        }
        if draw.chance(4) {
            case.world.unreadable.push(unreadable(draw, PolicyKind::MultiNetworkPolicy));
        }
    }
}

fn unreadable(draw: &mut Draw, kind: PolicyKind) -> Unreadable {
    Unreadable {
        kind,
        namespace: Some((*draw.pick(&NAMESPACES)).to_owned()),
        name: Some("unreadable".to_owned()),
        pod_selector: draw.chance(50).then(|| selector(draw)),
        reason: "drawn so".to_owned(),
    }
}

fn network_policy(draw: &mut Draw, case: &Case, name: &str) -> NetworkPolicy {
    let blocks: Vec<IpAddr> = case.sources().into_iter().chain(case.ground.services.iter().copied()).collect();
    let mut policy = NetworkPolicy { spec: spec(draw, &case.ground, &blocks), ..NetworkPolicy::default() };
    policy.metadata.name = Some(name.to_owned());
    policy.metadata.namespace = Some(namespace(draw));
    policy
}

fn multi_network_policy(draw: &mut Draw, case: &Case, name: &str) -> MultiNetworkPolicy {
    let links = &case.ground.attachments;
    let blocks: Vec<IpAddr> = links.iter().flat_map(|link| &link.hosts).chain(&case.ground.services).copied().collect();
    let mut policy = MultiNetworkPolicy { spec: spec(draw, &case.ground, &blocks), ..MultiNetworkPolicy::default() };
    let mut networks: Vec<String> = draw.some(links, links.len()).into_iter().map(|link| link.network).collect();
    if networks.is_empty() || draw.chance(5) {
        networks.push("nowhere".to_owned());
    }
    if draw.chance(96) {
        policy.metadata.annotations = Some(BTreeMap::from([(POLICY_FOR.to_owned(), networks.join(","))]));
    }
    policy.metadata.name = Some(name.to_owned());
    policy.metadata.namespace = Some(namespace(draw));
    policy
}

fn namespace(draw: &mut Draw) -> String {
    (if draw.chance(90) { NAMESPACES[0] } else { NAMESPACES[1] }).to_owned()
}

/// What a policy of an edge says, and sometimes what none may.
fn spec(draw: &mut Draw, ground: &Ground, blocks: &[IpAddr]) -> NetworkPolicySpec {
    let types: [&[PolicyType]; 5] =
        [&[], &[], &[PolicyType::Ingress], &[PolicyType::Egress], &[PolicyType::Egress, PolicyType::Ingress]];
    let rules = |draw: &mut Draw| -> Vec<_> {
        (0..draw.below(4)).map(|_| rule(draw, ground, blocks)).collect::<Vec<(Vec<NetworkPeer>, Vec<PolicyPort>)>>()
    };
    let ingress = rules(draw).into_iter().map(|(from, ports)| NetworkIngressRule { from, ports }).collect();
    let egress = rules(draw).into_iter().map(|(to, ports)| NetworkEgressRule { to, ports }).collect();
    NetworkPolicySpec {
        pod_selector: if draw.chance(70) { LabelSelector::everything() } else { selector(draw) },
        policy_types: draw.pick(&types).to_vec(),
        ingress,
        egress,
    }
}

fn rule(draw: &mut Draw, ground: &Ground, blocks: &[IpAddr]) -> (Vec<NetworkPeer>, Vec<PolicyPort>) {
    let peers = if draw.chance(15) { 0 } else { draw.between(1, 3) };
    let ports = if draw.chance(35) { 0 } else { draw.between(1, 3) };
    let peers = (0..peers).map(|_| peer(draw, blocks)).collect();
    let mut ports: Vec<PolicyPort> = (0..ports).map(|_| port(draw, ground)).collect();
    if draw.chance(1) {
        ports.push(PolicyPort { port: Some(IntOrString::Int(90)), end_port: Some(80), ..PolicyPort::default() });
    }
    (peers, ports)
}

fn peer(draw: &mut Draw, blocks: &[IpAddr]) -> NetworkPeer {
    if draw.chance(1) {
        let block = IpBlock { cidr: "10.0.0.0/8".to_owned(), except: Vec::new() };
        return NetworkPeer { pod_selector: Some(selector(draw)), ip_block: Some(block), ..NetworkPeer::default() };
    }
    match block(draw, blocks).filter(|_| draw.chance(35)) {
        Some(block) => NetworkPeer { ip_block: Some(block), ..NetworkPeer::default() },
        None => {
            let which = draw.below(4);
            let namespaces = match draw.below(3) {
                // The label that every namespace has.
                0 => LabelSelector::label("kubernetes.io/metadata.name", *draw.pick(&NAMESPACES)),
                1 => {
                    let (key, values) = draw.pick(&LABELS);
                    LabelSelector::label(*key, *draw.pick(values))
                }
                _ => LabelSelector::everything(),
            };
            NetworkPeer {
                pod_selector: (which != 1).then(|| selector(draw)),
                namespace_selector: (which != 0).then_some(namespaces),
                ip_block: None,
            }
        }
    }
}

impl Case {
    /// A rule for an edge, of any shape.
    pub fn edge_rule(&self, draw: &mut Draw) -> (Vec<NetworkPeer>, Vec<PolicyPort>) {
        let blocks: Vec<IpAddr> = self
            .sources()
            .into_iter()
            .chain(self.ground.attachments.iter().flat_map(|link| link.hosts.clone()))
            .collect();
        let peers = (0..draw.below(3))
            .map(|_| peer(draw, &blocks))
            .filter(|peer| peer.ip_block.is_none() || peer.pod_selector.is_none());
        let peers = peers.collect();
        let ports = (0..draw.below(3)).map(|_| port(draw, &self.ground)).collect();
        (peers, ports)
    }

    /// What every policy of an edge says, to be changed.
    pub fn edge_specs(&mut self) -> Vec<&mut NetworkPolicySpec> {
        let network = self.world.network_policies.iter_mut().map(|policy| &mut policy.spec);
        network.chain(self.world.multi_network_policies.iter_mut().map(|policy| &mut policy.spec)).collect()
    }

    /// The link that an attachment's number stands for, also where the pod does not say that it has it.
    ///
    /// Numbers of links that the pod does not tell of, or not so that they can be believed, count down from the last.
    pub fn link(&self, attachment: AttachmentId) -> Option<&Link> {
        let links = &self.ground.attachments;
        links.iter().find(|link| self.attachment(link) == attachment)
    }

    /// The number of a link: that of the attachment, where the pod tells of it, and one that no attachment has elsewhere.
    pub fn attachment(&self, link: &Link) -> AttachmentId {
        let known = crate::resolve(&crate::World::default(), &self.subject).attached;
        let told = known.into_iter().find(|(_, attached)| attached.device == link.device);
        let place = self.ground.attachments.iter().position(|other| other == link).unwrap_or_default();
        told.map_or(AttachmentId(u8::MAX - place as u8), |(id, _)| id)
    }

    /// An end on one of the further networks.
    pub(super) fn attached_end(&self, draw: &mut Draw) -> Option<End> {
        let links = &self.ground.attachments;
        if links.is_empty() {
            return None;
        }
        let link = draw.pick(links);
        // Somebody may well have an address there that another has on the pod network.
        let hosts = if draw.chance(15) { self.destinations() } else { link.hosts.clone() };
        if hosts.is_empty() {
            return None;
        }
        let address = *draw.pick(&hosts);
        Some(End::Attached(self.attachment(link), address))
    }
}

/// Adds a rule to a policy in a direction.
pub fn add(spec: &mut NetworkPolicySpec, direction: Direction, (peers, ports): (Vec<NetworkPeer>, Vec<PolicyPort>)) {
    match direction {
        Direction::Ingress => spec.ingress.push(NetworkIngressRule { from: peers, ports }),
        Direction::Egress => spec.egress.push(NetworkEgressRule { to: peers, ports }),
    }
}
