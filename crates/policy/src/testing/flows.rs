//! Draws flows that a case's pod could open or receive.

use super::cluster::protocol;
use super::{Case, Draw};
use crate::evaluate::{End, Flow};
use crate::model::Identities;
use sidewall_flow::{Party, Protocol};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Case {
    /// So many flows: within the pod, from it and to it.
    pub fn flows(&self, draw: &mut Draw, count: usize) -> Vec<Flow> {
        (0..count).map(|_| self.flow(draw)).collect()
    }

    /// The parties of the pod: containers, unknown, and the node where anything tells it from an unknown one.
    pub fn parties(&self) -> Vec<Party> {
        let containers = self.subject.containers.keys().copied().map(Party::Container);
        let node = match &self.subject.identities {
            Identities::Cgroup { .. } => true,
            Identities::Uid(users) | Identities::Gid(users) => !users.node.is_empty(),
        };
        containers.chain([Party::Unknown]).chain(node.then_some(Party::Node)).collect()
    }

    /// A flow within the pod, from it or to it.
    pub fn flow(&self, draw: &mut Draw) -> Flow {
        let parties = self.parties();
        let local = |draw: &mut Draw| {
            // Containers more often than the others.
            let most = if draw.chance(75) { self.subject.containers.len() } else { parties.len() };
            End::Local(parties[draw.below(most)])
        };
        let destinations = self.destinations();
        let sources = self.sources();
        // Without further networks, nothing is drawn for them.
        let attached =
            if self.ground.attachments.is_empty() || draw.chance(65) { None } else { self.attached_end(draw) };
        let (sender, receiver) = match (draw.below(3), attached) {
            (1, Some(end)) => (local(draw), end),
            (2, Some(end)) => (end, local(draw)),
            (1, None) if !destinations.is_empty() => (local(draw), End::Remote(*draw.pick(&destinations))),
            (2, None) if !sources.is_empty() => (End::Remote(*draw.pick(&sources)), local(draw)),
            _ => (local(draw), local(draw)),
        };
        let ground = &self.ground;
        let port = if ground.ports.is_empty() { 80 } else { *draw.pick(&ground.ports) };
        let port = if draw.chance(85) { port } else { port.saturating_add(*draw.pick(&[1, 7, 8, 9])) };
        let flow = Flow { sender, receiver, protocol: protocol(draw, ground), port };
        // Without a proxy that has ports of its own, nothing is drawn for them.
        let own = self.proxy_ports();
        if own.is_empty() || draw.chance(70) {
            return flow;
        }
        let proxy = draw.pick(&self.world.proxies).spec.container_name.as_str();
        let proxy = self.subject.containers.iter().find(|(_, container)| container.name == proxy);
        let receiver = match proxy {
            Some((id, _)) if flow.sender.on_network().is_some() && draw.chance(70) => End::Local(Party::Container(*id)),
            _ => flow.receiver,
        };
        Flow { receiver, port: *draw.pick(&own), protocol: Protocol::Tcp, ..flow }
    }

    /// The ports of proxies beside their listeners, and those whose traffic they capture.
    fn proxy_ports(&self) -> Vec<u16> {
        let specs = self.world.proxies.iter().map(|proxy| &proxy.spec);
        let ports = specs.flat_map(|spec| {
            let captured = spec.capture.iter().flat_map(|capture| capture.inbound.iter().chain([&capture.port]));
            captured.chain(spec.probes.iter().map(|probes| &probes.port)).copied()
        });
        ports.collect::<BTreeSet<u16>>().into_iter().collect()
    }

    /// Every address that the pod can send to.
    pub fn destinations(&self) -> Vec<IpAddr> {
        self.sources().into_iter().chain(self.ground.services.iter().copied()).collect()
    }

    /// Every address that something can reach the pod from.
    pub fn sources(&self) -> Vec<IpAddr> {
        let ground = &self.ground;
        let kinds = [&ground.pods, &ground.outside, &ground.this_node, &ground.other_nodes];
        kinds.into_iter().flatten().copied().collect()
    }
}
