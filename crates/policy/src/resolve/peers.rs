//! What a rule's peers and ports come to.

use crate::addresses::Addresses;
use crate::model::{DeclaredPort, Grant, Note, Peers, Reach, RuleName};
use crate::ports::Ports;
use crate::world::{Pod, Service, ServicePort, Subject, World};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{Entity, IpBlock, LabelSelector, Peer, PeerKind, PolicyPort, PortProtocol};
use sidewall_flow::{Direction, Party, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The Service of the cluster's DNS.
pub const DNS: (&str, &str) = ("kube-system", "kube-dns");
/// The Service of the API server.
pub const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// Resolves the policies of one pod.
pub struct Resolver<'a> {
    pub(super) world: &'a World,
    pub(super) subject: &'a Subject,
    pub(super) notes: Vec<Note>,
    services: Addresses,
    /// Of these, the ones that somebody else has too. Who is meant there is not certain, so that no rule covers them.
    contested: Addresses,
}

/// The pods and single addresses that the peers of a rule allow, before they become grants.
#[derive(Default)]
pub(super) struct Allowed {
    /// Addresses by the ports that are allowed there: a named port can differ from pod to pod.
    by_ports: BTreeMap<Ports, BTreeSet<IpAddr>>,
}

impl<'a> Resolver<'a> {
    /// A resolver for a pod.
    pub fn new(world: &'a World, subject: &'a Subject) -> Self {
        let services = world.service_addresses();
        let contested = services.intersect(&world.own_addresses(subject));
        Self { world, subject, notes: Vec::new(), services, contested }
    }

    /// Every address that is a Service's.
    pub(super) const fn services(&self) -> &Addresses {
        &self.services
    }

    fn is_subject(&self, pod: &Pod) -> bool {
        pod.namespace == self.subject.namespace && pod.name == self.subject.name
    }

    /// This node's own addresses toward the pod.
    pub fn this_node(&self) -> Peers {
        Peers::Addresses(Arc::new(self.world.network.this_node.iter().copied().collect()))
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
        let mut any_pods = false;
        for peer in peers {
            let kind = match peer.kind() {
                Ok(kind) => kind,
                // Validation has refused it already; a peer that names nobody allows nobody.
                Err(_) => continue,
            };
            match kind {
                PeerKind::Container(name) => grants.extend(self.container(rule, name, ports, &own)),
                PeerKind::Pods { pods: selector, namespaces } => {
                    any_pods = true;
                    for pod in self.selected(rule, selector, namespaces) {
                        // A container is no pod: whom it reaches in its own pod is said by `container`.
                        if self.is_subject(pod) {
                            continue;
                        }
                        let ports = match rule.direction {
                            Direction::Ingress => own(ports),
                            Direction::Egress => resolve_ports(ports, &pod.ports),
                        };
                        let addresses = self.reached(rule, pod);
                        pods.add(ports, addresses);
                    }
                    self.other_names(rule, selector, namespaces);
                }
                PeerKind::IpBlock(block) => blocks.push(self.block(block, rule.direction)),
                PeerKind::Entity(entity) => grants.extend(self.entity(rule, entity, ports, &own)),
            }
        }
        if any_pods && rule.direction == Direction::Egress {
            let services = self.services_behind(rule, |address, protocol, port| pods.contains(address, protocol, port));
            grants.extend(services);
        }
        grants.extend(pods.grants());
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

    /// The pods that selectors name, but for those that have no address of their own.
    pub(super) fn selected(
        &mut self,
        rule: &RuleName,
        pods: Option<&LabelSelector>,
        namespaces: Option<&LabelSelector>,
    ) -> Vec<&'a Pod> {
        let mut found: BTreeMap<&str, bool> = BTreeMap::new();
        let mut selected = Vec::new();
        let mut shared = false;
        for pod in &self.world.pods {
            let here = *found.entry(&pod.namespace).or_insert_with(|| match namespaces {
                Some(selector) => selector.matches(&self.world.namespace_labels(&pod.namespace)),
                None => pod.namespace == self.subject.namespace,
            });
            if !here || pod.ended || pods.is_some_and(|selector| !selector.matches(&pod.labels)) {
                continue;
            }
            if pod.host_network && !self.is_subject(pod) {
                shared = true;
                continue;
            }
            selected.push(pod);
        }
        if shared {
            self.note_rule(
                rule,
                "selects pods that share their node's network: they have no address of their own and are not allowed; name the node by ipBlock".to_owned(),
            );
        }
        selected
    }

    /// The addresses under which a rule covers a pod.
    pub(super) fn reached(&mut self, rule: &RuleName, pod: &Pod) -> BTreeSet<IpAddr> {
        let mut addresses: BTreeSet<IpAddr> = pod.addresses.iter().copied().collect();
        if rule.direction == Direction::Egress && !self.contested.is_empty() {
            for address in &pod.addresses {
                if self.contested.contains(*address) {
                    addresses.remove(address);
                    let pod = format!("{}/{}", pod.namespace, pod.name);
                    self.note_rule(
                        rule,
                        format!("does not allow {address} of the pod {pod}, because it is an address of Services"),
                    );
                }
            }
        }
        addresses
    }

    /// Says of Services that are only other names that selectors don't cover them, where an author may think so.
    pub(super) fn other_names(
        &mut self,
        rule: &RuleName,
        pods: Option<&LabelSelector>,
        namespaces: Option<&LabelSelector>,
    ) {
        if rule.direction == Direction::Ingress {
            return;
        }
        let world = self.world;
        for service in &world.services {
            let Some(target) = &service.external_name else { continue };
            let here = match namespaces {
                Some(selector) => selector.matches(&world.namespace_labels(&service.namespace)),
                None => service.namespace == self.subject.namespace,
            };
            let labelled = |labels| pods.is_none_or(|selector| selector.matches(labels));
            let by_label = pods.is_some_and(|selector| !selector.is_everything()) && labelled(&service.labels);
            let nobody = || !world.pods.iter().any(|pod| pod.namespace == service.namespace && labelled(&pod.labels));
            if here && (by_label || nobody()) {
                self.note_rule(
                    rule,
                    format!(
                        "does not cover the Service {}/{}, which is only another name for {target:?}: allow the addresses behind that name by ipBlock",
                        service.namespace, service.name
                    ),
                );
            }
        }
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
            Direction::Egress => block.subtract(&self.services),
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
            Entity::ClusterDNS if !self.world.network.dns.is_empty() => {
                sockets(self.world.network.dns.iter().copied(), &numbers)
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
        let all =
            service.ports.iter().filter_map(|port| Some((port.port?, port))).flat_map(|((protocol, number), port)| {
                let own = service.addresses.iter().filter(|address| !self.contested.contains(**address));
                let own = own.map(move |address| (*address, protocol, number));
                // What else stands in the range of Services is judged by its own Service.
                let behind = port.endpoints.iter().filter(|(address, _)| !self.services.contains(*address));
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
        let service = self.world.service(namespace, name);
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
        let network = &self.world.network;
        let pods: Addresses = self.world.pods.iter().flat_map(|pod| pod.addresses.iter().copied()).collect();
        let own: Addresses = self.subject.addresses.iter().chain(&network.this_node).copied().collect();
        [Addresses::never_peers(), Addresses::link_local(), self.services.clone(), network.pods.clone()]
            .iter()
            .chain([&network.nodes, &pods, &own])
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
        let everywhere = Addresses::all().subtract(&Addresses::never_peers()).subtract(&self.services);
        grants.extend(grant_everywhere(Peers::Addresses(Arc::new(everywhere.clone())), numbers.clone()));
        let mut named = Allowed::default();
        for pod in self.world.pods.iter().filter(|pod| !pod.ended && !pod.host_network) {
            let ports = resolve_ports(ports, &pod.ports).subtract(&numbers);
            if !ports.is_empty() {
                let addresses = self.reached(rule, pod);
                named.add(ports, addresses);
            }
        }
        let services = self.services_behind(rule, |address, protocol, port| {
            everywhere.contains(address) && numbers.contains(protocol, port) || named.contains(address, protocol, port)
        });
        grants.extend(named.grants());
        grants.extend(services);
        grants
    }

    /// The Services of which everything that stands behind them is allowed.
    pub(super) fn services_behind(
        &mut self,
        rule: &RuleName,
        allowed: impl Fn(IpAddr, Protocol, u16) -> bool,
    ) -> Vec<Grant> {
        let mut covered = BTreeSet::new();
        let mut not_covered = BTreeSet::new();
        let mut partly = Vec::new();
        for service in &self.world.services {
            for ServicePort { port, endpoints } in &service.ports {
                let Some((protocol, number)) = port else { continue };
                let sockets = service.addresses.iter().map(|address| (*address, *protocol, *number));
                let passes = |(address, port): &(IpAddr, Option<u16>)| {
                    port.is_some_and(|port| allowed(*address, *protocol, port))
                };
                if !endpoints.is_empty() && endpoints.iter().all(passes) {
                    covered.extend(sockets);
                    continue;
                }
                not_covered.extend(sockets);
                if endpoints.iter().any(passes) && !service.addresses.is_empty() {
                    partly.push(format!("{}/{} port {number}", service.namespace, service.name));
                }
            }
        }
        // Where two Services have an address, either may be the one that is reached.
        covered.retain(|socket| !not_covered.contains(socket) && !self.contested.contains(socket.0));
        for name in partly {
            self.note_rule(
                rule,
                format!("allows only some of the pods behind the Service {name}, so the Service itself is denied"),
            );
        }
        if covered.is_empty() { Vec::new() } else { grant(Peers::Sockets(covered), Ports::all()) }
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

impl Allowed {
    pub(super) fn add(&mut self, ports: Ports, addresses: BTreeSet<IpAddr>) {
        self.by_ports.entry(ports).or_default().extend(addresses);
    }

    pub(super) fn contains(&self, address: IpAddr, protocol: Protocol, port: u16) -> bool {
        self.by_ports.iter().any(|(ports, addresses)| ports.contains(protocol, port) && addresses.contains(&address))
    }

    pub(super) fn grants(self) -> Vec<Grant> {
        self.by_ports
            .into_iter()
            .filter(|(_, addresses)| !addresses.is_empty())
            .flat_map(|(ports, addresses)| grant(Peers::Hosts(Arc::new(addresses)), ports))
            .collect()
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

/// The numbers of a rule's ports; names are looked up among the declared ones.
pub(super) fn resolve_ports(ports: &[PolicyPort], declared: &[DeclaredPort]) -> Ports {
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
