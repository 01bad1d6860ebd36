//! What would let a denied side of a flow pass.

use super::{Advice, AllowRule, Change, other, text, yaml};
use crate::addresses::Addresses;
use crate::evaluate::{End, Flow, Half, Level, Reason, evaluate};
use crate::model::{DeclaredPort, PolicyKind, PolicyName, ResolvedPod};
use crate::ports::Ports;
use crate::world::{NAMESPACE_NAME_LABEL, Pod, World};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::policy::RULES_MAX;
use sidewall_api::selector::SELECTOR_TERMS_MAX;
use sidewall_api::{
    ContainerNetworkPolicy, ContainerNetworkPolicySpec, Entity, IpBlock, LabelSelector, Peer, PolicyPort, PolicyType,
    PortProtocol, Problem,
};
use sidewall_flow::{Action, ContainerId, Direction, Party, Protocol};
use std::net::IpAddr;

/// Labels that come and go with a rollout or belong to one pod: no policy should name them.
const FLEETING_LABELS: [&str; 7] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "controller-uid",
];

/// Gives advice about one flow of a pod.
#[derive(Clone, Copy)]
pub struct Adviser<'a> {
    pub pod: &'a ResolvedPod,
    pub world: Option<&'a World>,
    pub flow: &'a Flow,
}

/// The peers and ports that a rule would have to name, or why none can.
pub type Suggestion = Result<(Vec<Peer>, Vec<PolicyPort>), String>;

impl<'a> Adviser<'a> {
    /// Advice for every side that denies, and whether its changes together let the flow pass.
    pub fn advise(&self, halves: &[Half]) -> (Vec<Advice>, bool) {
        let mut advice = Vec::new();
        let mut allowable = true;
        for half in halves {
            let given = match &half.reason {
                Reason::Isolated { by } if half.level == Level::Pod => self.at_edge(half, by),
                Reason::Isolated { by } => self.isolated(half, by),
                Reason::NotDeclared { owner } => self.not_declared(half, owner.as_deref()),
                Reason::NotReady { part } => vec![only(format!("wait until the part {part} is ready"))],
                Reason::Captured { proxy, .. } => vec![only(format!(
                    "that traffic is {proxy}'s already: ask about {proxy} and this port, or about one of its listeners"
                ))],
                Reason::Itself | Reason::NotIsolated | Reason::Allowed { .. } => continue,
            };
            allowable &= given.iter().any(|advice| advice.change.is_some());
            advice.extend(given);
        }
        // A port that is not declared hides what policies say of its container: that comes after.
        let declared = advice.iter().find_map(|advice| match &advice.change {
            Some(Change::DeclarePort { container, .. }) => self.pod.container(container),
            _ => None,
        });
        if let Some(id) = declared {
            let then = self.with_declared(id);
            let adviser = Adviser { pod: &then, ..*self };
            let halves = evaluate(&then, self.flow).halves;
            let later = |half: &&Half| half.direction == Direction::Ingress && half.level == Level::Container;
            for half in halves.iter().filter(later) {
                if let Reason::Isolated { by } = &half.reason {
                    let given = adviser.isolated(half, by);
                    allowable &= given.iter().any(|advice| advice.change.is_some());
                    advice.extend(given);
                }
            }
        }
        (advice, allowable)
    }

    fn with_declared(&self, id: ContainerId) -> ResolvedPod {
        let mut pod = self.pod.clone();
        if let Some(container) = pod.containers.get_mut(&id) {
            let port = DeclaredPort { name: None, protocol: self.flow.protocol, port: self.flow.port };
            container.ports.push(port);
        }
        pod
    }

    /// By user, a receiver is known by the port that it declares.
    fn not_declared(&self, half: &Half, owner: Option<&str>) -> Vec<Advice> {
        let (protocol, port) = (self.flow.protocol, self.flow.port);
        let container = self.pod.party_name(half.party);
        match (half.party, owner) {
            (Party::Unknown | Party::Node, _) => vec![only(
                "sockets of no container can't be allowed by name: let the process listen in a container of the pod"
                    .to_owned(),
            )],
            (Party::Container(_), Some(owner)) if !self.pod.identities.by_port() => vec![only(format!(
                "{owner} declares {protocol}/{port}, and in a split pod a port is one container's: let {container} listen on another port and declare that"
            ))],
            (Party::Container(_), Some(owner)) => vec![only(format!(
                "{owner} declares {protocol}/{port}, and by user a port is one container's: let {container} listen on another port and declare that, or use identity by cgroup"
            ))],
            (Party::Container(_), None) => vec![Advice {
                message: format!(
                    "declare the port in the pod's manifest, so that {container} is known by it (identity by cgroup needs no declaration)"
                ),
                change: Some(Change::DeclarePort { container: container.to_owned(), protocol, port }),
            }],
        }
    }

    fn isolated(&self, half: &Half, by: &[PolicyName]) -> Vec<Advice> {
        if by.iter().any(|policy| policy.kind == PolicyKind::Guard) {
            return vec![only(
                "the pod's policies are not known yet, and until then nothing passes: see that the agent runs on its node"
                    .to_owned(),
            )];
        }
        let mut advice: Vec<Advice> = self.through_the_proxy(half, by).into_iter().collect();
        let Party::Container(_) = half.party else {
            advice.push(only(match (half.party, half.direction) {
                (Party::Node, Direction::Egress) => {
                    "no policy speaks of what the node's own processes open from here".to_owned()
                }
                _ => "a socket of no known container can't be selected by name: run the process in a container of the pod"
                    .to_owned(),
            }));
            return advice;
        };
        match self.suggest(half.direction) {
            Err(why) => advice.push(only(why)),
            Ok((peers, ports)) => advice.push(self.rule(half, by, peers, ports)),
        }
        advice
    }

    /// Where a SidecarProxy isolates, the way in is through the proxy.
    fn through_the_proxy(&self, half: &Half, by: &[PolicyName]) -> Option<Advice> {
        let name = by.iter().find(|policy| policy.kind == PolicyKind::SidecarProxy)?;
        // The proxy is the one whose ports it leaves open.
        let (proxy, listeners) = self.pod.containers.iter().find_map(|(id, container)| {
            let side = self.pod.enforced.side(Party::Container(*id), half.direction);
            let isolation = side.isolations.iter().find(|isolation| isolation.by == *name)?;
            let open = Ports::all().subtract(&isolation.network.ports);
            (!open.is_empty()).then_some((&container.name, open))
        })?;
        Some(only(format!(
            "{name} stands before this pod: go through {proxy} on {listeners}; a rule that opens another port goes past its authentication"
        )))
    }

    fn rule(&self, half: &Half, by: &[PolicyName], peers: Vec<Peer>, ports: Vec<PolicyPort>) -> Advice {
        let container = self.pod.party_name(half.party);
        let add_to = by.iter().find(|name| self.is_about_only(name, container, half.direction)).cloned();
        let section = half.direction;
        let message = match &add_to {
            Some(policy) => format!("add to spec.{section} of {policy}"),
            None if by.iter().any(|policy| policy.kind == PolicyKind::ContainerNetworkPolicy) => {
                format!("add to spec.{section} of a ContainerNetworkPolicy for this pod and the container {container}")
            }
            None => format!(
                "add to spec.{section} of a ContainerNetworkPolicy for this pod and the container {container}; such a policy isolates {container} for all {section}, so let it also name whoever else is meant"
            ),
        };
        let yaml = yaml::rule(half.direction, &peers, &ports);
        let rule = AllowRule {
            namespace: self.pod.namespace.clone(),
            containers: vec![container.to_owned()],
            direction: half.direction,
            add_to,
            peers,
            ports,
            yaml,
        };
        Advice { message, change: Some(Change::AllowRule(rule)) }
    }

    /// Whether a rule that is added to a policy is about nobody but one container (and can be added).
    fn is_about_only(&self, name: &PolicyName, container: &str, direction: Direction) -> bool {
        let world = self.world.into_iter().flat_map(|world| &world.policies);
        let mut named = world.filter(|policy| {
            name.kind == PolicyKind::ContainerNetworkPolicy
                && policy.metadata.name.as_deref() == Some(&name.name)
                && crate::world::objects::namespace(policy.metadata.namespace.as_deref()) == name.namespace
        });
        let fits = |policy: &ContainerNetworkPolicy| {
            let spec = &policy.spec;
            spec.containers.as_deref() == Some(&[container.to_owned()])
                && rules(spec, direction).is_some_and(|rules| rules < RULES_MAX)
                && !policy.validate().iter().any(Problem::is_error)
        };
        named.next().is_some_and(fits) && named.next().is_none()
    }

    fn suggest(&self, direction: Direction) -> Suggestion {
        let ports = || vec![policy_port(self.flow.protocol, self.flow.port)];
        match (other(self.flow, direction), direction) {
            (End::Local(Party::Container(id)), _) => {
                let name = self.pod.party_name(Party::Container(id)).to_owned();
                Ok((vec![Peer { container: Some(name), ..Peer::default() }], ports()))
            }
            (End::Local(Party::Node), Direction::Ingress) => Ok((vec![entity(Entity::PortForward)], ports())),
            (End::Local(Party::Unknown), Direction::Ingress) => Err(
                "the sender is no container's, and sockets of no container can't be allowed by name: run the process in a container of the pod (a rule without `from` would let everybody in)"
                    .to_owned(),
            ),
            (End::Local(Party::Unknown | Party::Node), Direction::Egress) => Err(
                "the receiver is no container's, and sockets of no container can't be allowed by name: let it listen in a container of the pod"
                    .to_owned(),
            ),
            (End::Remote(address) | End::Attached(_, address), _) if Addresses::never_peers().contains(address) => Err(format!(
                "no rule can name {address}: loopback, multicast and unspecified addresses are no peers on the network"
            )),
            (End::Remote(address), Direction::Ingress) => Ok((self.remote(address), ports())),
            (End::Remote(address), Direction::Egress) => self.destination(address),
            (End::Attached(_, address), Direction::Egress)
                if self.world.is_some_and(|world| world.service_addresses().contains(address)) =>
            {
                Err(format!(
                    "{address} is in the range of Services, which no address block of a ContainerNetworkPolicy covers on any network: nothing narrower than a rule without `to` and `ports` does"
                ))
            }
            // Only a block speaks of addresses on another network.
            (End::Attached(_, address), _) => Ok((vec![block(address)], ports())),
        }
    }

    fn destination(&self, address: IpAddr) -> Suggestion {
        let socket = (address, self.flow.protocol, self.flow.port);
        let ports = vec![policy_port(self.flow.protocol, self.flow.port)];
        if let Some(entity) = self.service_entity(socket) {
            return Ok((vec![self::entity(entity)], ports));
        }
        match self.world {
            Some(world) if world.service_addresses().contains(address) => self.service(world, socket, false),
            _ => Ok((self.remote(address), ports)),
        }
    }

    /// The narrowest name of an address that will last.
    fn remote(&self, address: IpAddr) -> Vec<Peer> {
        let pods = self.peers_at(address);
        if let Some(pod) = pods.first()
            && let Some(peer) = self.pod_peer(pod)
        {
            return vec![peer];
        }
        if self.world.is_some_and(|world| world.network.this_node.contains(&address)) {
            return vec![entity(Entity::Node)];
        }
        vec![block(address)]
    }

    /// A pod by its labels; none where it has none that last.
    pub fn pod_peer(&self, pod: &Pod) -> Option<Peer> {
        let peer = self.any_pod_peer(pod);
        peer.pod_selector.as_ref().is_some_and(|selector| !selector.is_everything()).then_some(peer)
    }

    /// A pod by its labels, or else all pods of its namespace.
    pub fn any_pod_peer(&self, pod: &Pod) -> Peer {
        let labels = pod.labels.iter().filter(|(key, _)| !FLEETING_LABELS.contains(&key.as_str()));
        let match_labels = labels.take(SELECTOR_TERMS_MAX).map(|(key, value)| (key.clone(), value.clone())).collect();
        let elsewhere = pod.namespace != self.pod.namespace;
        Peer {
            pod_selector: Some(LabelSelector { match_labels, match_expressions: Vec::new() }),
            namespace_selector: elsewhere.then(|| LabelSelector::label(NAMESPACE_NAME_LABEL, &pod.namespace)),
            ..Peer::default()
        }
    }

    /// Whether a flow to this address and port would pass for itself, by the policies of one level.
    pub fn reaches(&self, address: IpAddr, port: u16, level: Level) -> bool {
        let flow = Flow { receiver: End::Remote(address), port, ..*self.flow };
        let halves = evaluate(self.pod, &flow).halves;
        halves.iter().filter(|half| half.level == level).all(|half| half.reason.action() == Action::Allow)
    }

    /// An address with its names.
    pub fn named(&self, address: IpAddr) -> String {
        text::end(&self.end(End::Remote(address)))
    }
}

/// The peer that is one address.
pub fn block(address: IpAddr) -> Peer {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let block = IpBlock { cidr: format!("{address}/{bits}"), except: Vec::new() };
    Peer { ip_block: Some(block), ..Peer::default() }
}

/// How many rules a policy has for a direction in which it isolates.
fn rules(spec: &ContainerNetworkPolicySpec, direction: Direction) -> Option<usize> {
    let (kind, rules) = match direction {
        Direction::Ingress => (PolicyType::Ingress, spec.ingress.as_ref().map(Vec::len)),
        Direction::Egress => (PolicyType::Egress, spec.egress.as_ref().map(Vec::len)),
    };
    spec.directions().contains(&kind).then(|| rules.unwrap_or_default())
}

pub fn only(message: String) -> Advice {
    Advice { message, change: None }
}

pub fn entity(entity: Entity) -> Peer {
    Peer { entity: Some(entity), ..Peer::default() }
}

/// A single port. Port 0 can be named only with all others.
pub fn policy_port(protocol: Protocol, port: u16) -> PolicyPort {
    let protocol = match protocol {
        Protocol::Tcp => PortProtocol::Tcp,
        Protocol::Udp => PortProtocol::Udp,
        Protocol::Sctp => PortProtocol::Sctp,
    };
    PolicyPort { protocol, port: (port > 0).then(|| IntOrString::Int(port.into())), end_port: None }
}
