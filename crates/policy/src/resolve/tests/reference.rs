//! What NetworkPolicies and MultiNetworkPolicies mean, said a second time: for one flow, straight from the objects.
//!
//! Slow and plain, after the words of the Kubernetes documentation. Nothing here is shared with the resolver; what is the
//! same is only the questions. Thousands of drawn cases are judged by both.

use crate::evaluate::{End, Flow, Level, evaluate};
use crate::model::PolicyKind;
use crate::resolve;
use crate::testing::{Case, Draw, Ground};
use crate::world::{Pod, Subject, World};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{
    IpBlock, LabelSelector, NetworkPeer, NetworkPolicySpec, Operator, PolicyPort, PolicyType, PortProtocol,
};
use sidewall_flow::{Action, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

type Labels = BTreeMap<String, String>;
/// Name, protocol and number of a port that somebody declares.
type Declared = (Option<String>, Protocol, u16);

/// One question: may this flow pass the pod's edge?
struct Question<'c> {
    world: &'c World,
    subject: &'c Subject,
    ingress: bool,
    /// The end on the network.
    address: IpAddr,
    protocol: Protocol,
    port: u16,
}

/// A policy that selects the pod; none where it can't be understood.
struct Applied<'c> {
    understood: Option<&'c NetworkPolicySpec>,
    /// The networks of a MultiNetworkPolicy.
    networks: BTreeSet<String>,
}

fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let mut all = true;
    for (key, value) in &selector.match_labels {
        all &= labels.get(key).is_some_and(|found| found == value);
    }
    for requirement in &selector.match_expressions {
        let found = labels.get(&requirement.key);
        all &= match requirement.operator {
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
            Operator::In => requirement.values.iter().any(|value| Some(value) == found),
            Operator::NotIn => requirement.values.iter().all(|value| Some(value) != found),
        };
    }
    all
}

fn in_block(address: IpAddr, cidr: &str) -> bool {
    let (network, length) = cidr.split_once('/').unwrap();
    let length: u32 = length.parse().unwrap();
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 4),
        IpAddr::V6(v6) => (v6.to_bits(), 6),
    };
    let ((network, family), (address, other)) = (bits(network.parse().unwrap()), bits(address));
    let same = network ^ address;
    family == other && (length == 0 || same >> (128 - length) == 0)
}

fn covers(block: &IpBlock, address: IpAddr) -> bool {
    in_block(address, &block.cidr) && !block.except.iter().any(|except| in_block(address, except))
}

fn transport(protocol: PortProtocol) -> Protocol {
    match protocol {
        PortProtocol::Tcp => Protocol::Tcp,
        PortProtocol::Udp => Protocol::Udp,
        PortProtocol::Sctp => Protocol::Sctp,
    }
}

fn port_fits(ports: &[PolicyPort], declared: &[Declared], protocol: Protocol, port: u16) -> bool {
    ports.is_empty()
        || ports.iter().any(|one| {
            transport(one.protocol) == protocol
                && match &one.port {
                    None => true,
                    Some(IntOrString::Int(first)) => {
                        (*first..=one.end_port.unwrap_or(*first)).contains(&i32::from(port))
                    }
                    Some(IntOrString::String(name)) => declared.contains(&(Some(name.clone()), protocol, port)),
                }
        })
}

/// Every port there is.
fn every_port(ports: &[PolicyPort]) -> bool {
    let whole = |protocol| ports.iter().any(|one| transport(one.protocol) == protocol && one.port.is_none());
    ports.is_empty() || Protocol::ALL.into_iter().all(whole)
}

fn understood(spec: &NetworkPolicySpec) -> bool {
    let rules = spec.ingress.iter().map(|rule| (&rule.from, &rule.ports));
    let mut rules = rules.chain(spec.egress.iter().map(|rule| (&rule.to, &rule.ports)));
    rules.all(|(peers, ports)| {
        let one_thing = |peer: &NetworkPeer| {
            (peer.pod_selector.is_some() || peer.namespace_selector.is_some()) != peer.ip_block.is_some()
        };
        let a_range = |port: &PolicyPort| match (&port.port, port.end_port) {
            (Some(IntOrString::Int(first)), Some(last)) => first <= &last,
            (_, last) => last.is_none(),
        };
        peers.iter().all(one_thing) && ports.iter().all(a_range)
    })
}

fn declared(pod: &Pod) -> Vec<Declared> {
    pod.ports.iter().map(|port| (port.name.clone(), port.protocol, port.port)).collect()
}

fn alive(world: &World) -> impl Iterator<Item = &Pod> {
    world.pods.iter().filter(|pod| !pod.ended)
}

impl<'c> Question<'c> {
    fn isolates(&self, policy: &Applied<'_>) -> bool {
        let Some(spec) = policy.understood else { return true };
        let named = |kind| spec.policy_types.contains(&kind);
        match (self.ingress, spec.policy_types.is_empty()) {
            (true, absent) => absent || named(PolicyType::Ingress),
            (false, true) => !spec.egress.is_empty(),
            (false, false) => named(PolicyType::Egress),
        }
    }

    fn unreadable(&self, kind: PolicyKind) -> impl Iterator<Item = Applied<'c>> {
        let about = move |policy: &&crate::world::Unreadable| {
            policy.kind == kind
                && policy.namespace.as_ref().is_none_or(|namespace| *namespace == self.subject.namespace)
                && policy.pod_selector.as_ref().is_none_or(|selector| matches(selector, &self.subject.labels))
        };
        let count = self.world.unreadable.iter().filter(about).count();
        (0..count).map(|_| Applied { understood: None, networks: BTreeSet::new() })
    }

    fn selects(&self, namespace: Option<&String>, spec: &NetworkPolicySpec) -> bool {
        namespace == Some(&self.subject.namespace) && matches(&spec.pod_selector, &self.subject.labels)
    }

    fn on_the_pod_network(&self) -> bool {
        if self.world.network.this_node.contains(&self.address) {
            return true;
        }
        let policies = self.world.network_policies.iter();
        let policies = policies.filter(|policy| self.selects(policy.metadata.namespace.as_ref(), &policy.spec));
        let mut applied: Vec<Applied<'_>> = policies
            .map(|policy| Applied {
                understood: understood(&policy.spec).then_some(&policy.spec),
                networks: BTreeSet::new(),
            })
            .collect();
        applied.extend(self.unreadable(PolicyKind::NetworkPolicy));
        self.judge(&applied, |_| true, |peers, ports, _| self.pod_rule(peers, ports))
    }

    fn on(&self, device: &str) -> bool {
        let told: Vec<_> = self.subject.networks.known.iter().filter(|known| known.device == device).collect();
        let network = match told[..] {
            [only] => Some(format!("{}/{}", only.network.namespace, only.network.name)),
            _ => None,
        };
        let policies = self.world.multi_network_policies.iter();
        let policies = policies.filter(|policy| self.selects(policy.metadata.namespace.as_ref(), &policy.spec));
        let mut applied: Vec<Applied<'_>> = policies
            .map(|policy| {
                let annotations = policy.metadata.annotations.as_ref();
                let names = annotations.and_then(|all| all.get("k8s.v1.cni.cncf.io/policy-for"));
                let own = &self.subject.namespace;
                let full = |name: &str| if name.contains('/') { name.to_owned() } else { format!("{own}/{name}") };
                Applied {
                    understood: (names.is_some() && understood(&policy.spec)).then_some(&policy.spec),
                    networks: names.into_iter().flat_map(|names| names.split(',')).map(full).collect(),
                }
            })
            .collect();
        applied.extend(self.unreadable(PolicyKind::MultiNetworkPolicy));
        // On a device that nobody knows, every policy isolates and none allows.
        let about = |policy: &Applied<'_>| {
            policy.understood.is_none() || network.as_ref().is_none_or(|network| policy.networks.contains(network))
        };
        self.judge(&applied, about, |peers, ports, networks| {
            network.is_some() && self.further_rule(peers, ports, networks)
        })
    }

    fn judge(
        &self,
        policies: &[Applied<'_>],
        about: impl Fn(&Applied<'_>) -> bool,
        rule: impl Fn(&[NetworkPeer], &[PolicyPort], &BTreeSet<String>) -> bool,
    ) -> bool {
        let isolating: Vec<_> = policies.iter().filter(|policy| about(policy) && self.isolates(policy)).collect();
        isolating.is_empty()
            || isolating.iter().any(|policy| {
                let Some(spec) = policy.understood else { return false };
                if self.ingress {
                    spec.ingress.iter().any(|one| rule(&one.from, &one.ports, &policy.networks))
                } else {
                    spec.egress.iter().any(|one| rule(&one.to, &one.ports, &policy.networks))
                }
            })
    }

    fn own_ports(&self) -> Vec<Declared> {
        let all = self.subject.containers.values().flat_map(|container| &container.ports);
        all.map(|port| (port.name.clone(), port.protocol, port.port)).collect()
    }

    fn is_service(&self, address: IpAddr) -> bool {
        self.world.network.services.contains(address)
            || self.world.services.iter().any(|service| service.addresses.contains(&address))
    }

    fn selected(&self, peer: &NetworkPeer) -> Vec<&'c Pod> {
        let namespace = |pod: &Pod| match &peer.namespace_selector {
            None => pod.namespace == self.subject.namespace,
            Some(selector) => {
                let mut labels = self.world.namespaces.get(&pod.namespace).cloned().unwrap_or_default();
                labels.insert("kubernetes.io/metadata.name".to_owned(), pod.namespace.clone());
                matches(selector, &labels)
            }
        };
        let labels = |pod: &Pod| peer.pod_selector.as_ref().is_none_or(|selector| matches(selector, &pod.labels));
        if peer.ip_block.is_some() {
            return Vec::new();
        }
        alive(self.world).filter(|pod| !pod.host_network && namespace(pod) && labels(pod)).collect()
    }

    /// Whether a rule allows an address that is no Service's.
    fn pod_rule_allows(&self, peers: &[NetworkPeer], ports: &[PolicyPort], address: IpAddr, port: u16) -> bool {
        let fits = |declared: &[Declared]| port_fits(ports, declared, self.protocol, port);
        if self.ingress {
            let block = |peer: &NetworkPeer| peer.ip_block.as_ref().is_some_and(|block| covers(block, address));
            let pod = |peer: &NetworkPeer| self.selected(peer).iter().any(|pod| pod.addresses.contains(&address));
            return fits(&self.own_ports()) && (peers.is_empty() || peers.iter().any(|peer| block(peer) || pod(peer)));
        }
        let there = |pod: &&Pod| pod.addresses.contains(&address) && fits(&declared(pod));
        if peers.is_empty() {
            return fits(&[]) || alive(self.world).filter(|pod| !pod.host_network).any(|pod| there(&pod));
        }
        peers.iter().any(|peer| {
            peer.ip_block.as_ref().is_some_and(|block| covers(block, address) && fits(&[]))
                || self.selected(peer).iter().any(there)
        })
    }

    fn pod_rule(&self, peers: &[NetworkPeer], ports: &[PolicyPort]) -> bool {
        if self.ingress || !self.is_service(self.address) {
            return self.pod_rule_allows(peers, ports, self.address, self.port);
        }
        if peers.is_empty() && every_port(ports) {
            return true;
        }
        // Whose address it is, must be certain.
        let network = &self.world.network;
        let shared = alive(self.world).any(|pod| pod.addresses.contains(&self.address))
            || self.subject.addresses.contains(&self.address)
            || network.nodes.contains(self.address);
        let wanted = Some((self.protocol, self.port));
        let behind: Vec<_> = self
            .world
            .services
            .iter()
            .filter(|service| service.addresses.contains(&self.address))
            .flat_map(|service| service.ports.iter().filter(|port| port.port == wanted))
            .map(|port| &port.endpoints)
            .collect();
        // Of a rule's peers, only pods speak of Services.
        let pods: Vec<NetworkPeer> = peers.iter().filter(|peer| peer.ip_block.is_none()).cloned().collect();
        let allowed = |(address, port): &(IpAddr, Option<u16>)| {
            port.is_some_and(|port| {
                !self.is_service(*address)
                    && (peers.is_empty() || !pods.is_empty())
                    && self.pod_rule_allows(&pods, ports, *address, port)
            })
        };
        !shared
            && !behind.is_empty()
            && behind.iter().all(|endpoints| !endpoints.is_empty() && endpoints.iter().all(allowed))
    }

    /// The pods that have an address on some networks, by their own words.
    fn claimants(&self, networks: &BTreeSet<String>) -> BTreeSet<(&str, &str)> {
        let says = |attachments: &[sidewall_api::Attachment]| {
            attachments.iter().any(|one| {
                let name = format!("{}/{}", one.network.namespace, one.network.name);
                networks.contains(&name) && one.addresses.contains(&self.address)
            })
        };
        let pods = alive(self.world).filter(|pod| says(&pod.networks.known));
        let mut all: BTreeSet<(&str, &str)> = pods.map(|pod| (&*pod.namespace, &*pod.name)).collect();
        if says(&self.subject.networks.known) {
            all.insert((&self.subject.namespace, &self.subject.name));
        }
        all
    }

    fn further_rule(&self, peers: &[NetworkPeer], ports: &[PolicyPort], networks: &BTreeSet<String>) -> bool {
        let claimants = self.claimants(networks);
        let network = &self.world.network;
        let has = |pod: &Pod| {
            let me = (&*pod.namespace, &*pod.name);
            let elsewhere = alive(self.world)
                .any(|other| (&*other.namespace, &*other.name) != me && other.addresses.contains(&self.address));
            let subjects =
                (&*self.subject.namespace, &*self.subject.name) != me && self.subject.addresses.contains(&self.address);
            let others = network.nodes.contains(self.address) || network.this_node.contains(&self.address);
            claimants.len() == 1
                && claimants.contains(&me)
                && pod.networks.known.iter().any(|one| one.addresses.contains(&self.address))
                && !(elsewhere || subjects || others || self.is_service(self.address))
        };
        let fits = |declared: &[Declared]| port_fits(ports, declared, self.protocol, self.port);
        let pod_fits =
            |pod: &Pod| has(pod) && if self.ingress { fits(&self.own_ports()) } else { fits(&declared(pod)) };
        let anybody = if self.ingress { fits(&self.own_ports()) } else { fits(&[]) };
        if peers.is_empty() {
            return anybody || alive(self.world).any(|pod| !pod.host_network && pod_fits(pod));
        }
        peers.iter().any(|peer| {
            peer.ip_block.as_ref().is_some_and(|block| covers(block, self.address) && anybody)
                || self.selected(peer).into_iter().any(pod_fits)
        })
    }
}

/// The reference's answer; none for a flow that passes no edge.
fn reference(case: &Case, flow: &Flow) -> Option<bool> {
    let (ingress, end) = match (flow.sender, flow.receiver) {
        (End::Local(_), End::Local(_)) => return None,
        (End::Local(_), end) => (false, end),
        (end, _) => (true, end),
    };
    let (attachment, address) = end.on_network()?;
    let (world, subject) = (&case.world, &case.subject);
    let question = Question { world, subject, ingress, address, protocol: flow.protocol, port: flow.port };
    Some(match attachment {
        None => question.on_the_pod_network(),
        Some(attachment) => question.on(&case.link(attachment)?.device),
    })
}

#[test]
fn thousands_of_drawn_cases_are_judged_alike() {
    let (mut passed, mut stopped, mut further) = (0, 0, 0);
    for seed in 0..4000 {
        let mut draw = Draw::new(seed);
        let case = Case::draw(&mut draw, &Ground::whole());
        let pod = resolve(&case.world, &case.subject);
        for flow in case.flows(&mut draw, 40) {
            let Some(expected) = reference(&case, &flow) else { continue };
            let halves = evaluate(&pod, &flow).halves;
            let edge = halves.iter().find(|half| half.level == Level::Pod);
            let found = edge.is_none_or(|half| half.reason.action() == Action::Allow);
            assert_eq!(found, expected, "seed {seed}: {flow:?}: {edge:#?}\n{:#?}", case.world.network_policies);
            // Only where a policy isolates is there anything to be told apart.
            match edge {
                Some(_) if expected => passed += 1,
                Some(_) => stopped += 1,
                None => {}
            }
            further += usize::from(edge.is_some() && matches!(flow.sender, End::Attached(..)));
        }
    }
    assert!(passed > 10_000 && stopped > 10_000 && further > 2_000, "{passed} passed, {stopped} stopped, {further}");
}
