//! What would let a flow to a Service pass.

use super::advice::{Adviser, Suggestion, policy_port};
use crate::evaluate::Level;
use crate::resolve::{API_SERVER, DNS};
use crate::world::{Service, World};
use sidewall_api::{Entity, Peer};
use sidewall_flow::Protocol;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// An address, protocol and port.
type Socket = (IpAddr, Protocol, u16);

impl Adviser<'_> {
    /// The entity that stands for a socket: a Service that everybody knows.
    pub fn service_entity(&self, socket: Socket) -> Option<Entity> {
        let world = self.world?;
        let stands_for =
            |(namespace, name)| world.service(namespace, name).is_some_and(|service| has(world, service, socket));
        let dns = if world.network.dns.is_empty() { stands_for(DNS) } else { world.network.dns.contains(&socket) };
        if dns {
            return Some(Entity::ClusterDNS);
        }
        stands_for(API_SERVER).then_some(Entity::KubeAPIServer)
    }

    /// A rule that covers a Service: all that stands behind it, at their own ports. The pod itself may stand there too
    /// where it is the pod that is judged.
    pub fn service(&self, world: &World, (address, protocol, port): Socket, itself: bool) -> Suggestion {
        let named = self.named(address);
        let mut services = world.services.iter().filter(|service| service.addresses.contains(&address)).peekable();
        if services.peek().is_none() {
            return Err(format!(
                "{address} is in the range of Services, but no Service has it: a Service is judged by the pods behind it, so nothing narrower than a rule without `to` and `ports` covers it"
            ));
        }
        if is_shared(world, address) {
            return Err(format!(
                "{named}: where a Service has somebody else's address, nobody can say who is reached, and no rule but one without `to` and `ports` covers it"
            ));
        }
        let all: Vec<&BTreeSet<(IpAddr, Option<u16>)>> = services
            .flat_map(|service| &service.ports)
            .filter(|service| service.port == Some((protocol, port)))
            .map(|port| &port.endpoints)
            .collect();
        if all.is_empty() {
            return Err(format!("{named} has no port {protocol}/{port}: use one of the Service's ports"));
        }
        let endpoints: BTreeSet<(IpAddr, Option<u16>)> = all.iter().copied().flatten().copied().collect();
        if all.iter().any(|endpoints| endpoints.is_empty()) {
            return Err(format!(
                "{named} has nothing behind port {protocol}/{port}, and a Service is judged by the pods behind it: see why no pod is ready"
            ));
        }
        let mut peers: Vec<Peer> = Vec::new();
        let mut ports = BTreeSet::new();
        for (endpoint, number) in &endpoints {
            let mut pods = if itself { self.pods_at(*endpoint) } else { self.peers_at(*endpoint) };
            if world.service_addresses().contains(*endpoint) {
                pods.clear();
            }
            let (Some(pod), Some(number)) = (pods.first(), number) else {
                let endpoint = text(*endpoint, *number);
                return Err(format!(
                    "behind {named} stands {endpoint}, which is no other pod at a known port, so that no pods peer covers the Service"
                ));
            };
            let peer = self.any_pod_peer(pod);
            if !peers.contains(&peer) {
                peers.push(peer);
            }
            ports.insert(*number);
        }
        Ok((peers, ports.into_iter().map(|number| policy_port(protocol, number)).collect()))
    }

    /// Why a Service that is known is not covered yet: which of the endpoints are missing.
    pub fn missing_behind(&self, address: IpAddr, level: Level) -> Option<String> {
        let world = self.world?;
        let wanted = Some((self.flow.protocol, self.flow.port));
        let services = world.services.iter().filter(|service| service.addresses.contains(&address));
        let port = services.flat_map(|service| &service.ports).find(|service| service.port == wanted)?;
        if port.endpoints.is_empty() {
            return None;
        }
        let reached =
            |(address, port): &&(IpAddr, Option<u16>)| port.is_some_and(|port| self.reaches(*address, port, level));
        let missing: Vec<String> = port
            .endpoints
            .iter()
            .filter(|endpoint| !reached(endpoint))
            .map(|(address, port)| match self.known_as(*address).as_slice() {
                [] => text(*address, *port),
                names => format!("{} ({})", text(*address, *port), names.join(", ")),
            })
            .collect();
        Some(if missing.is_empty() {
            "a Service is allowed where one rule allows everything behind it, and no single rule does".to_owned()
        } else {
            format!(
                "a Service is allowed where a rule allows everything behind it; not allowed: {}",
                missing.join(", ")
            )
        })
    }
}

/// Whether somebody else has a Service's address too.
fn is_shared(world: &World, address: IpAddr) -> bool {
    world.network.nodes.contains(address)
        || world.network.this_node.contains(&address)
        || world.pods.iter().any(|pod| !pod.ended && pod.addresses.contains(&address))
}

fn has(world: &World, service: &Service, (address, protocol, number): Socket) -> bool {
    service.ports.iter().any(|port| {
        let own =
            service.addresses.contains(&address) && port.port == Some((protocol, number)) && !is_shared(world, address);
        let behind = port.port.is_some_and(|(behind, _)| behind == protocol)
            && port.endpoints.contains(&(address, Some(number)))
            && !world.service_addresses().contains(address);
        own || behind
    })
}

fn text(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (_, None) => format!("{address}, at an unknown port"),
        (IpAddr::V4(_), Some(port)) => format!("{address}:{port}"),
        (IpAddr::V6(_), Some(port)) => format!("[{address}]:{port}"),
    }
}
