//! Draws policies of every shape, with those that nobody can understand.

use super::cluster::{CONTAINERS, LABELS, NAMESPACES, PORT_NAMES, protocol};
use super::{Case, Draw, Ground};
use crate::model::{DeclaredPort, PolicyKind};
use crate::world::Unreadable;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{
    ContainerNetworkPolicy, ContainerNetworkPolicySpec, EgressRule, Entity, IngressRule, IpBlock, LabelSelector, Mode,
    Operator, Peer, PolicyPort, PolicyType, PortProtocol, Requirement, SidecarProxy, SidecarProxySpec,
};
use sidewall_flow::{Direction, Protocol};
use sidewall_proxy_config::{
    Capture, DEFAULT_CAPTURE_PORT, DEFAULT_PROBE_PORT, Forward, Limits, Listener, Probes, Timeouts,
};
use std::net::IpAddr;

/// Fills the world with policies.
pub fn fill(draw: &mut Draw, case: &mut Case) {
    for i in 0..draw.between(0, 4) {
        let policy = policy(draw, case, &format!("policy-{i}"));
        case.world.policies.push(policy);
    }
    if draw.chance(35) {
        for i in 0..draw.between(1, 2) {
            case.world.proxies.push(proxy(draw, &case.ground, &format!("proxy-{i}")));
        }
        if draw.chance(30) {
            led_probe(draw, case);
        }
    }
    if draw.chance(6) {
        case.world.unreadable.push(Unreadable {
            kind: *draw.pick(&[PolicyKind::ContainerNetworkPolicy, PolicyKind::SidecarProxy]),
            namespace: Some((*draw.pick(&NAMESPACES)).to_owned()),
            name: Some("unreadable".to_owned()),
            pod_selector: draw.chance(50).then(|| selector(draw)),
            reason: "drawn so".to_owned(),
        });
    }
}

/// A policy, mostly for the pod's namespace.
pub fn policy(draw: &mut Draw, case: &Case, name: &str) -> ContainerNetworkPolicy {
    let containers = draw.chance(65).then(|| {
        let mut names: Vec<String> = draw.some(&CONTAINERS, 3).into_iter().map(str::to_owned).collect();
        if names.is_empty() {
            names.push((*draw.pick(&CONTAINERS)).to_owned());
        }
        names
    });
    let types: [&[PolicyType]; 4] =
        [&[], &[PolicyType::Ingress], &[PolicyType::Egress], &[PolicyType::Egress, PolicyType::Ingress]];
    let policy_types = draw.pick(&types).to_vec();
    let may = |policy_type| policy_types.is_empty() || policy_types.contains(&policy_type);
    let (may_ingress, may_egress) = (may(PolicyType::Ingress), may(PolicyType::Egress));
    let ingress: Vec<IngressRule> =
        rules(draw, case, Direction::Ingress).into_iter().map(|(from, ports)| IngressRule { from, ports }).collect();
    let egress: Vec<EgressRule> =
        rules(draw, case, Direction::Egress).into_iter().map(|(to, ports)| EgressRule { to, ports }).collect();
    let mut spec = ContainerNetworkPolicySpec {
        pod_selector: if draw.chance(70) { LabelSelector::everything() } else { selector(draw) },
        containers,
        policy_types: policy_types.clone(),
        mode: if draw.chance(75) { Mode::Enforce } else { Mode::Audit },
        ingress: (may_ingress && draw.chance(85)).then_some(ingress),
        // An empty egress section without policyTypes is refused, because it isolates nothing.
        egress: (may_egress && draw.chance(85) && !(egress.is_empty() && policy_types.is_empty())).then_some(egress),
    };
    if draw.chance(5) {
        spec.egress = Some(vec![EgressRule { to: vec![Peer::default()], ports: Vec::new() }]);
    }
    let mut policy = ContainerNetworkPolicy::new(name, spec);
    let namespace = if draw.chance(90) { NAMESPACES[0] } else { NAMESPACES[1] };
    policy.metadata.namespace = Some(namespace.to_owned());
    policy
}

fn rules(draw: &mut Draw, case: &Case, direction: Direction) -> Vec<(Vec<Peer>, Vec<PolicyPort>)> {
    (0..draw.between(0, 3)).map(|_| rule(draw, case, direction)).collect()
}

/// The peers and ports of a rule.
pub fn rule(draw: &mut Draw, case: &Case, direction: Direction) -> (Vec<Peer>, Vec<PolicyPort>) {
    let peers = if draw.chance(15) { 0 } else { draw.between(1, 3) };
    let ports = if draw.chance(35) { 0 } else { draw.between(1, 3) };
    let peers = (0..peers).map(|_| peer(draw, &case.ground, direction)).collect();
    let ports = (0..ports).map(|_| port(draw, &case.ground)).collect();
    (peers, ports)
}

fn peer(draw: &mut Draw, ground: &Ground, direction: Direction) -> Peer {
    match draw.below(10) {
        0..=2 => Peer { container: Some((*draw.pick(&CONTAINERS)).to_owned()), ..Peer::default() },
        3..=5 => {
            let which = draw.below(3);
            Peer {
                pod_selector: (which != 1).then(|| selector(draw)),
                namespace_selector: (which != 0).then(|| selector(draw)),
                ..Peer::default()
            }
        }
        6 | 7 => match block(draw, &around(ground)) {
            Some(block) => Peer { ip_block: Some(block), ..Peer::default() },
            None => Peer { entity: Some(Entity::World), ..Peer::default() },
        },
        _ => {
            let entity = match direction {
                Direction::Ingress => [Entity::KubeAPIServer, Entity::Node, Entity::PortForward, Entity::World],
                Direction::Egress => [Entity::ClusterDNS, Entity::KubeAPIServer, Entity::Node, Entity::World],
            };
            Peer { entity: Some(*draw.pick(&entity)), ..Peer::default() }
        }
    }
}

/// Every address of the ground but those on further networks and the pod's own.
fn around(ground: &Ground) -> Vec<IpAddr> {
    [&ground.pods, &ground.outside, &ground.other_nodes, &ground.this_node, &ground.services]
        .into_iter()
        .chain(ground.attachments.iter().map(|link| &link.hosts))
        .flatten()
        .copied()
        .collect()
}

/// A block around some of these addresses, sometimes less a smaller one.
pub fn block(draw: &mut Draw, all: &[IpAddr]) -> Option<IpBlock> {
    if all.is_empty() {
        return None;
    }
    let address = *draw.pick(all);
    let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = *draw.pick(&[0, bits - 16, bits - 8, bits - 3, bits - 2, bits - 1, bits]);
    let net = |address, prefix| ipnet::IpNet::new(address, prefix).map(|net| net.trunc()).ok();
    let cidr = net(address, prefix)?;
    let mut except = Vec::new();
    for _ in 0..draw.below(3) {
        let hole = net(*draw.pick(all), bits - u8::from(draw.chance(50)))?;
        if cidr.contains(&hole) && hole.prefix_len() > cidr.prefix_len() {
            except.push(hole.to_string());
        }
    }
    Some(IpBlock { cidr: cidr.to_string(), except })
}

pub fn port(draw: &mut Draw, ground: &Ground) -> PolicyPort {
    let protocol = match protocol(draw, ground) {
        Protocol::Tcp => PortProtocol::Tcp,
        Protocol::Udp => PortProtocol::Udp,
        Protocol::Sctp => PortProtocol::Sctp,
    };
    let number = i32::from(*draw.pick(&ground.ports));
    match draw.below(10) {
        0 => PolicyPort { protocol, port: None, end_port: None },
        1..=4 => PolicyPort { protocol, port: Some(IntOrString::Int(number)), end_port: None },
        5 | 6 => {
            let end = (number + *draw.pick(&[0, 1, 7, 8, 400, 60_000])).min(65_535);
            PolicyPort { protocol, port: Some(IntOrString::Int(number)), end_port: Some(end) }
        }
        _ => {
            let name = (*draw.pick(&PORT_NAMES)).to_owned();
            PolicyPort { protocol, port: Some(IntOrString::String(name)), end_port: None }
        }
    }
}

/// A selector of one or two terms, or of none.
pub fn selector(draw: &mut Draw) -> LabelSelector {
    let mut selector = LabelSelector::everything();
    for _ in 0..draw.below(3) {
        let (key, values) = draw.pick(&LABELS);
        let value = (*draw.pick(values)).to_owned();
        let operator = match draw.below(6) {
            0 => Operator::In,
            1 => Operator::NotIn,
            2 => Operator::Exists,
            3 => Operator::DoesNotExist,
            _ => {
                selector.match_labels.insert((*key).to_owned(), value);
                continue;
            }
        };
        let values = match operator {
            Operator::In | Operator::NotIn => vec![value],
            Operator::Exists | Operator::DoesNotExist => Vec::new(),
        };
        selector.match_expressions.push(Requirement { key: (*key).to_owned(), operator, values });
    }
    selector
}

/// A probe that is led through a proxy, as a container's manifest then has it.
fn led_probe(draw: &mut Draw, case: &mut Case) {
    let most = case.subject.containers.len();
    let Some(container) = case.subject.containers.values_mut().nth(draw.below(most)) else { return };
    container.probes.insert(DEFAULT_PROBE_PORT);
    container.ports.push(DeclaredPort { name: None, protocol: Protocol::Tcp, port: DEFAULT_PROBE_PORT });
}

fn proxy(draw: &mut Draw, ground: &Ground, name: &str) -> SidecarProxy {
    let mut ports = ground.ports.clone();
    draw.shuffle(&mut ports);
    let mut listeners = Vec::new();
    while let (Some(port), Some(forward)) = (ports.pop(), ports.pop()) {
        listeners.push(Listener {
            port,
            address: None,
            forward: Forward { port: forward, protocol: sidewall_proxy_config::Protocol::Http },
            tls: None,
            authentication: Vec::new(),
            anonymous: true,
        });
        if draw.chance(60) {
            break;
        }
    }
    let forwarded: Vec<u16> = listeners.iter().map(|listener| listener.forward.port).collect();
    let mut proxy = SidecarProxy::new(
        name,
        SidecarProxySpec {
            pod_selector: if draw.chance(70) { LabelSelector::everything() } else { selector(draw) },
            container_name: (*draw.pick(&[CONTAINERS[0], CONTAINERS[0], CONTAINERS[0], CONTAINERS[3]])).to_owned(),
            listeners,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            admin: None,
            probes: None,
            capture: None,
        },
    );
    if draw.chance(50) {
        let mut inbound = draw.some(&forwarded, forwarded.len());
        inbound.sort_unstable();
        // None is too few for the API server, and is nothing captured.
        proxy.spec.capture = (!inbound.is_empty()).then_some(Capture { inbound, port: DEFAULT_CAPTURE_PORT });
    }
    if draw.chance(20) {
        proxy.spec.probes = Some(Probes::default());
    }
    proxy.metadata.namespace = Some(NAMESPACES[0].to_owned());
    proxy
}
