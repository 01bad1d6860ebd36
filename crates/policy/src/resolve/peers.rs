//! What a rule's peers and ports come to.

use super::pods::Allowed;
use crate::addresses::Addresses;
use crate::index::lookup::Lookup;
use crate::model::{DeclaredPort, Grant, Note, Peers, Reach, RuleName};
use crate::ports::Ports;
use crate::world::{Service, ServicePort, Subject};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{Entity, IpBlock, Peer, PeerKind, PolicyPort, PortProtocol};
use sidewall_flow::{Direction, Party, Protocol};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The Service of the cluster's DNS.
pub const DNS: (&str, &str) = ("kube-system", "kube-dns");
/// The Service of the API server.
pub const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// Resolves the policies of one pod.
pub struct Resolver<'a> {
    pub(super) cluster: &'a dyn Lookup,
    pub(super) subject: &'a Subject,
    pub(super) notes: Vec<Note>,
    /// The addresses of Services that somebody else has too. Who is meant there is not certain, so that no rule covers
    /// them.
    pub(super) contested: Addresses,
}

impl<'a> Resolver<'a> {
    /// A resolver for a pod.
    pub fn new(cluster: &'a dyn Lookup, subject: &'a Subject) -> Self {
        Self { cluster, subject, notes: Vec::new(), contested: cluster.contested(subject) }
    }

    /// This node's own addresses toward the pod.
    pub fn this_node(&self) -> Peers {
        Peers::Addresses(Arc::new(self.cluster.network().this_node.iter().copied().collect()))
    }

    /// What a rule allows a party of the pod.
    pub fn grants(&mut self, rule: &RuleName, peers: &[Peer], ports: &[PolicyPort], party: Party) -> Vec<Grant> {
        // An ingress port is the party's own, an egress port the peer's.
        let own = self.declared_by(party).to_vec();
        let own = |ports: &[PolicyPort]| resolve_ports(ports, &own);
        if peers.is_empty() {
            return match rule.direction {
                Direction::Ingress => grant_everywhere(Peers::Anyone, own(ports)),
                Direction::Egress => self.anywhere(rule, ports),
            };
        }
        let mut grants = Vec::new();
        let mut pods = Allowed::default();
        let mut blocks = Vec::new();
        for peer in peers {
            let kind = match peer.kind() {
                Ok(kind) => kind,
                // Validation has refused it already; a peer that names nobody allows nobody.
                Err(_) => continue,
            };
            match kind {
                PeerKind::Container(name) => grants.extend(self.container(rule, name, ports, &own)),
                PeerKind::Pods { pods: selector, namespaces } => {
                    let asked = (rule.direction == Direction::Egress).then_some(ports);
                    // A container is no pod: whom it reaches in its own pod is said by `container`.
                    pods.add(self.selected(rule, (selector, namespaces), asked, false));
                    self.other_names(rule, (selector, namespaces));
                }
                PeerKind::IpBlock(block) => blocks.push(self.block(block, rule.direction)),
                PeerKind::Entity(entity) => grants.extend(self.entity(rule, entity, ports, &own)),
            }
        }
        if rule.direction == Direction::Egress {
            grants.extend(self.services_of(rule, &pods));
            grants.extend(pods.grants(Ports::clone));
        } else {
            grants.extend(pods.grants(|_| own(ports)));
        }
        let blocks: Addresses = blocks.into_iter().collect();
        if !blocks.is_empty() {
            let ports = match rule.direction {
                Direction::Ingress => own(ports),
                Direction::Egress => self.numbers(rule, ports),
            };
            grants.extend(grant_everywhere(Peers::Addresses(Arc::new(blocks)), ports));
        }
        grants
    }

    fn declared_by(&self, party: Party) -> &[DeclaredPort] {
        match party {
            Party::Container(id) => &self.subject.containers[&id].ports,
            Party::Unknown | Party::Node => &[],
        }
    }

    /// A container of the same pod.
    fn container(
        &mut self,
        rule: &RuleName,
        name: &str,
        ports: &[PolicyPort],
        own: &dyn Fn(&[PolicyPort]) -> Ports,
    ) -> Vec<Grant> {
        let Some((id, container)) = self.subject.containers.iter().find(|(_, container)| container.name == name) else {
            self.note_rule(rule, format!("allows the container {name:?}, which this pod does not have"));
            return Vec::new();
        };
        let ports = match rule.direction {
            Direction::Ingress => own(ports),
            Direction::Egress => resolve_ports(ports, &container.ports),
        };
        grant(Peers::Parties(BTreeSet::from([Party::Container(*id)])), ports)
    }

    /// An address block. Inside the pod a packet to a Service still carries the Service's address, and who stands
    /// behind it is not said by an address block.
    pub(super) fn block(&self, block: &IpBlock, direction: Direction) -> Addresses {
        let net = |text: &String| text.parse::<ipnet::IpNet>().ok();
        let within: Addresses = net(&block.cidr).into_iter().collect();
        let except: Addresses = block.except.iter().filter_map(net).collect();
        let block = within.subtract(&except).subtract(&Addresses::never_peers());
        match direction {
            Direction::Ingress => block,
            Direction::Egress => block.subtract(&self.cluster.service_addresses()),
        }
    }

    fn entity(
        &mut self,
        rule: &RuleName,
        entity: Entity,
        ports: &[PolicyPort],
        own: &dyn Fn(&[PolicyPort]) -> Ports,
    ) -> Vec<Grant> {
        let ingress = rule.direction == Direction::Ingress;
        let numbers = if ingress { own(ports) } else { self.numbers(rule, ports) };
        match entity {
            Entity::Node => grant(self.this_node(), numbers),
            Entity::PortForward => grant(Peers::Parties(BTreeSet::from([Party::Node])), numbers),
            Entity::World => grant(Peers::Addresses(Arc::new(self.outside())), numbers),
            Entity::ClusterDNS if !self.cluster.network().dns.is_empty() => {
                sockets(self.cluster.network().dns.iter().copied(), &numbers)
            }
            Entity::ClusterDNS => self.service_entity(rule, entity, DNS, &numbers),
            Entity::KubeAPIServer if ingress => {
                let Some(service) = self.known_service(rule, entity, API_SERVER) else { return Vec::new() };
                let endpoints = service.ports.iter();
                let addresses: Addresses = endpoints.flat_map(|port| port.endpoints.iter().map(|e| e.0)).collect();
                grant(Peers::Addresses(Arc::new(addresses)), numbers)
            }
            Entity::KubeAPIServer => self.service_entity(rule, entity, API_SERVER, &numbers),
        }
    }

    /// A Service that everybody knows: its own addresses, and what stands behind it.
    fn service_entity(&mut self, rule: &RuleName, entity: Entity, service: (&str, &str), ports: &Ports) -> Vec<Grant> {
        let Some(service) = self.known_service(rule, entity, service) else { return Vec::new() };
        let services = self.cluster.service_addresses();
        let all =
            service.ports.iter().filter_map(|port| Some((port.port?, port))).flat_map(|((protocol, number), port)| {
                let own = service.addresses.iter().filter(|address| !self.contested.contains(**address));
                let own = own.map(move |address| (*address, protocol, number));
                // What else stands in the range of Services is judged by its own Service.
                let behind = port.endpoints.iter().filter(|(address, _)| !services.contains(*address));
                let behind = behind.filter_map(move |(address, number)| Some((*address, protocol, (*number)?)));
                own.chain(behind)
            });
        sockets(all, ports)
    }

    fn known_service(
        &mut self,
        rule: &RuleName,
        entity: Entity,
        (namespace, name): (&str, &str),
    ) -> Option<&'a Service> {
        let service = self.cluster.service(namespace, name);
        if service.is_none() {
            self.note_rule(rule, format!("allows {entity}, but the Service {namespace}/{name} is not known"));
        }
        if let Some(target) = service.and_then(|service| service.external_name.as_ref()) {
            self.note_rule(
                rule,
                format!("allows {entity}, but the Service {namespace}/{name} is only another name for {target:?}"),
            );
        }
        service
    }

    /// What is not the cluster.
    fn outside(&self) -> Addresses {
        let network = &self.cluster.network();
        let own: Addresses = self.subject.addresses.iter().chain(&network.this_node).copied().collect();
        let (services, strays) = (self.cluster.service_addresses(), self.cluster.stray_pods());
        [&Addresses::never_peers(), &Addresses::link_local(), &services, &network.pods, &network.nodes, &strays, &own]
            .into_iter()
            .fold(Addresses::all(), |left, taken| left.subtract(taken))
    }

    /// Everywhere, on some ports. A Service is judged by what stands behind it.
    fn anywhere(&mut self, rule: &RuleName, ports: &[PolicyPort]) -> Vec<Grant> {
        if resolve_ports(ports, &[]).is_all() {
            return grant_everywhere(Peers::Anyone, Ports::all());
        }
        let mut grants = Vec::new();
        let subject = self.subject;
        for (id, container) in &subject.containers {
            let parties = Peers::Parties(BTreeSet::from([Party::Container(*id)]));
            grants.extend(grant(parties, resolve_ports(ports, &container.ports)));
        }
        let numbers = resolve_ports(ports, &[]);
        grants.extend(grant(Peers::Parties(BTreeSet::from([Party::Unknown, Party::Node])), numbers.clone()));
        let everywhere =
            Addresses::all().subtract(&Addresses::never_peers()).subtract(&self.cluster.service_addresses());
        grants.extend(grant_everywhere(Peers::Addresses(Arc::new(everywhere.clone())), numbers.clone()));
        let named = self.everybody(rule, ports, &numbers);
        let services = self.services_behind(rule, self.cluster.services(), |address, protocol, port| {
            everywhere.contains(address) && numbers.contains(protocol, port) || named.contains(address, protocol, port)
        });
        grants.extend(named.grants(Ports::clone));
        grants.extend(services);
        grants
    }

    /// The Services that stand before allowed pods.
    pub(super) fn services_of(&mut self, rule: &RuleName, pods: &Allowed) -> Vec<Grant> {
        if pods.selected().is_empty() {
            return Vec::new();
        }
        let before = self.cluster.services_before(pods.selected());
        self.services_behind(rule, before, |address, protocol, port| pods.contains(address, protocol, port))
    }

    /// The Services of which everything that stands behind them is allowed.
    pub(super) fn services_behind(
        &mut self,
        rule: &RuleName,
        services: Vec<&Service>,
        allowed: impl Fn(IpAddr, Protocol, u16) -> bool,
    ) -> Vec<Grant> {
        let mut covered = BTreeSet::new();
        let mut not_covered = Vec::new();
        let mut partly = Vec::new();
        for service in services {
            for ServicePort { port, endpoints } in &service.ports {
                let Some((protocol, number)) = port else { continue };
                let sockets = service.addresses.iter().map(|address| (*address, *protocol, *number));
                let passes = |(address, port): &(IpAddr, Option<u16>)| {
                    port.is_some_and(|port| allowed(*address, *protocol, port))
                };
                let (mut some, mut all) = (false, true);
                for passes in endpoints.iter().map(passes) {
                    some |= passes;
                    all &= passes;
                    if some && !all {
                        break;
                    }
                }
                if some && all {
                    covered.extend(sockets);
                    continue;
                }
                not_covered.extend(sockets);
                if some && !service.addresses.is_empty() {
                    partly.push(format!("{}/{} port {number}", service.namespace, service.name));
                }
            }
        }
        // Where two Services have an address, either may be the one that is reached.
        for socket in not_covered {
            covered.remove(&socket);
        }
        covered.retain(|socket| !self.contested.contains(socket.0));
        for name in partly {
            self.note_rule(
                rule,
                format!("allows only some of the pods behind the Service {name}, so the Service itself is denied"),
            );
        }
        grant(Peers::Sockets(covered), Ports::all())
    }

    /// Ports where no pod can give a name its number.
    pub(super) fn numbers(&mut self, rule: &RuleName, ports: &[PolicyPort]) -> Ports {
        for port in ports {
            if let Some(IntOrString::String(name)) = &port.port {
                self.note_rule(
                    rule,
                    format!(
                        "names the port {name:?} where no pod is selected that could declare it; it allows nothing"
                    ),
                );
            }
        }
        resolve_ports(ports, &[])
    }

    pub(super) fn note_rule(&mut self, rule: &RuleName, message: String) {
        let message = format!("{}[{}] {message}", rule.direction, rule.index);
        self.notes.push(Note { policy: Some(rule.policy.clone()), message });
    }
}

pub(super) fn grant(peers: Peers, ports: Ports) -> Vec<Grant> {
    if ports.is_empty() { Vec::new() } else { vec![Grant { peers, ports, reach: Reach::PodNetwork }] }
}

fn grant_everywhere(peers: Peers, ports: Ports) -> Vec<Grant> {
    if ports.is_empty() { Vec::new() } else { vec![Grant { peers, ports, reach: Reach::EveryNetwork }] }
}

fn sockets(sockets: impl Iterator<Item = (IpAddr, Protocol, u16)>, ports: &Ports) -> Vec<Grant> {
    let sockets: BTreeSet<_> = sockets.filter(|(_, protocol, port)| ports.contains(*protocol, *port)).collect();
    if sockets.is_empty() { Vec::new() } else { grant(Peers::Sockets(sockets), Ports::all()) }
}

/// Whether any of a rule's ports is given by name.
pub(super) fn names_ports(ports: &[PolicyPort]) -> bool {
    ports.iter().any(|port| matches!(port.port, Some(IntOrString::String(_))))
}

/// Whether a container's rule may come to sockets that it does not come to yet.
pub(super) fn awaits(direction: Direction, peers: &[Peer], ports: &[PolicyPort]) -> bool {
    let awaits = |peer: &Peer| match peer.kind() {
        Ok(PeerKind::Pods { .. }) => names_ports(ports),
        Ok(PeerKind::Entity(entity)) => matches!(entity, Entity::ClusterDNS | Entity::KubeAPIServer),
        Ok(PeerKind::Container(_) | PeerKind::IpBlock(_)) | Err(_) => false,
    };
    direction == Direction::Egress && (peers.is_empty() && names_ports(ports) || peers.iter().any(awaits))
}

/// The numbers of a rule's ports; names are looked up among the declared ones.
pub(crate) fn resolve_ports(ports: &[PolicyPort], declared: &[DeclaredPort]) -> Ports {
    if ports.is_empty() {
        return Ports::all();
    }
    let mut ranges = Vec::new();
    for port in ports {
        let protocol = match port.protocol {
            PortProtocol::Tcp => Protocol::Tcp,
            PortProtocol::Udp => Protocol::Udp,
            PortProtocol::Sctp => Protocol::Sctp,
        };
        match &port.port {
            None => ranges.push((protocol, 0, u16::MAX)),
            Some(IntOrString::Int(first)) => {
                let last = port.end_port.unwrap_or(*first);
                // Validation has refused what is out of range; a range that is none allows nothing.
                if let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(last)) {
                    ranges.push((protocol, first, last));
                }
            }
            Some(IntOrString::String(name)) => ranges.extend(
                declared
                    .iter()
                    .filter(|d| d.protocol == protocol && d.name.as_ref() == Some(name))
                    .map(|d| (protocol, d.port, d.port)),
            ),
        }
    }
    ranges.into_iter().collect()
}
