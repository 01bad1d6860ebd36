//! The policy that a SidecarProxy implies.
//!
//! On the pod interface only the proxy's listeners can be reached, and what ContainerNetworkPolicies open; the port that
//! it forwards to takes loopback connections from the proxy alone. The proxy's own listeners are open to everybody
//! unless a ContainerNetworkPolicy isolates the proxy. Where it captures the application's ports, traffic from the network that
//! aims at those is the proxy's too: under the port that it aims at, which is what policies speak of.

use super::peers::Resolver;
use super::{errors, selects_own};
use crate::model::{
    Captured, DeclaredPort, Grant, Isolation, Layer, Peers, PolicyKind, PolicyName, Reach, Rule, RuleName, Scope,
};
use crate::ports::Ports;
use crate::world::SubjectContainer;
use crate::world::objects::namespace;
use sidewall_api::SidecarProxy;
use sidewall_flow::{ContainerId, Direction, Party, Protocol};
use sidewall_proxy_config::DEFAULT_PROBE_PORT;
use std::collections::BTreeSet;

impl<'a> Resolver<'a> {
    /// The SidecarProxies of this pod: the oldest wins.
    fn proxies(&self) -> Vec<&'a SidecarProxy> {
        let mut proxies: Vec<&SidecarProxy> = self
            .cluster
            .proxies(&self.subject.namespace)
            .into_iter()
            .filter(|proxy| selects_own(self.subject, proxy.metadata.namespace.as_deref(), &proxy.spec.pod_selector))
            .collect();
        proxies.sort_by_cached_key(|proxy| {
            let age = proxy.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (age, &proxy.metadata.name, format!("{:?}", proxy.spec))
        });
        proxies
    }

    /// The ports that a proxy stands before; every one where a proxy can't be understood.
    pub(super) fn fronted_ports(&self) -> Ports {
        let proxies = self.proxies();
        let unreadable = self.unreadables().into_iter().any(|policy| policy.kind == PolicyKind::SidecarProxy);
        if unreadable || proxies.iter().any(|proxy| !faults(proxy).is_empty()) {
            return Ports::all();
        }
        proxies.first().map(|proxy| forwarded(proxy)).unwrap_or_default()
    }

    /// The proxy in force, and the container that is it, where the pod has one.
    fn front(&self) -> Option<(&'a SidecarProxy, ContainerId)> {
        let proxy = self.proxies().into_iter().find(|proxy| faults(proxy).is_empty())?;
        Some((proxy, self.container_of(proxy)?))
    }

    fn container_of(&self, proxy: &SidecarProxy) -> Option<ContainerId> {
        let mut containers = self.subject.containers.iter();
        containers.find(|(_, c)| c.name == proxy.spec.container_name).map(|(id, _)| *id)
    }

    /// The proxy's container and the port on which it answers the kubelet for the pod: where the SidecarProxy names one, or
    /// the pod has probes that are led to the usual one. What the pod says of it beside that is not asked: anybody could.
    pub(super) fn probe_port(&self) -> Option<(ContainerId, u16)> {
        let (proxy, id) = self.front()?;
        if let Some(probes) = &proxy.spec.probes {
            return Some((id, probes.port));
        }
        let taken = |port| proxy.spec.listeners.iter().any(|l| l.port == port || l.forward.port == port);
        let port = Some(DEFAULT_PROBE_PORT).filter(|port| !taken(*port))?;
        self.subject.containers.values().any(|container| container.probes.contains(&port)).then_some((id, port))
    }

    /// Adds what the proxy implies; gives what it captures.
    pub(super) fn proxy(&mut self, layer: &mut Layer) -> Option<Captured> {
        let (good, bad): (Vec<_>, Vec<_>) = self.proxies().into_iter().partition(|proxy| faults(proxy).is_empty());
        for proxy in bad {
            self.not_understood(layer, name_of(proxy), &faults(proxy).join("; "));
        }
        let (proxy, others) = good.split_first()?;
        let first = &name_of(proxy);
        for other in others {
            self.note(Some(name_of(other)), format!("has no effect here: {first} is older and selects this pod too"));
        }
        let container = proxy.spec.container_name.clone();
        let id = self.container_of(proxy);
        if id.is_none() {
            self.note(
                Some(first.clone()),
                format!("names {container:?} as the proxy, but this pod has no such container; nothing is reachable from outside"),
            );
        }
        let captured = captured(first, proxy, id);
        self.implied(layer, first, proxy, id, captured.as_ref());
        captured
    }

    fn implied(
        &mut self,
        layer: &mut Layer,
        name: &PolicyName,
        proxy: &SidecarProxy,
        id: Option<ContainerId>,
        captured: Option<&Captured>,
    ) {
        let listeners: Ports = proxy.spec.listeners.iter().map(|l| (Protocol::Tcp, l.port, l.port)).collect();
        let captured = captured.into_iter().flat_map(|captured| &captured.ports);
        let captured: Ports = captured.map(|port| (Protocol::Tcp, *port, *port)).collect();
        let forwarded = forwarded(proxy);
        let proxy = id.map(Party::Container);
        for party in super::parties(self.subject) {
            let (open, guarded) = if Some(party) == proxy {
                (listeners.union(&captured), forwarded.subtract(&listeners))
            } else {
                (Ports::none(), forwarded.clone())
            };
            let isolation = Isolation {
                by: name.clone(),
                loopback: Scope { ports: guarded, others: false },
                network: Scope { ports: Ports::all().subtract(&open), others: true },
            };
            layer.parties.entry(party).or_default().ingress.isolations.push(isolation);
        }
        let Some(proxy) = proxy else { return };
        for (index, (protocol, first, last)) in forwarded.iter().enumerate() {
            let ports = Ports::of(protocol, first, last);
            let targets: BTreeSet<Party> = self.applications(proxy, protocol, first);
            let rule = |direction, peers| Rule {
                name: RuleName { policy: name.clone(), direction, index },
                grants: vec![Grant { peers, ports: ports.clone(), reach: Reach::PodNetwork }],
                awaits: false,
            };
            for target in &targets {
                let from = Peers::Parties(BTreeSet::from([proxy]));
                layer.parties.entry(*target).or_default().ingress.rules.push(rule(Direction::Ingress, from));
            }
            let to = Peers::Parties(targets);
            layer.parties.entry(proxy).or_default().egress.rules.push(rule(Direction::Egress, to));
        }
    }

    /// Whom the proxy may forward to: the container that declares the port, else every one but the proxy.
    fn applications(&self, proxy: Party, protocol: Protocol, port: u16) -> BTreeSet<Party> {
        let others = || self.subject.containers.iter().filter(|(id, _)| Party::Container(**id) != proxy);
        let owner = others()
            .find(|(_, container)| container.ports.iter().any(|d| d.protocol == protocol && d.port == port))
            .map(|(id, _)| Party::Container(*id));
        match owner {
            Some(owner) => BTreeSet::from([owner]),
            None => others().map(|(id, _)| Party::Container(*id)).collect(),
        }
    }
}

fn name_of(proxy: &SidecarProxy) -> PolicyName {
    PolicyName {
        kind: PolicyKind::SidecarProxy,
        namespace: namespace(proxy.metadata.namespace.as_deref()),
        name: proxy.metadata.name.clone().unwrap_or_default(),
    }
}

/// What the kernel leads to the proxy. Where the pod has no proxy, nothing is, and the application's ports stay closed.
fn captured(by: &PolicyName, proxy: &SidecarProxy, id: Option<ContainerId>) -> Option<Captured> {
    let capture = proxy.spec.capture.as_ref()?;
    let ports: BTreeSet<u16> = capture.inbound.iter().copied().collect();
    Some(Captured { by: by.clone(), proxy: id?, ports, port: capture.port })
        .filter(|captured| !captured.ports.is_empty())
}

/// The ports that a container declares, where probes are led through the proxy's `probe_port`: each of these is a probe of its
/// container in the manifest, and the proxy's port all the same.
pub(super) fn declared(container: &SubjectContainer, is_proxy: bool, probe_port: u16) -> Vec<DeclaredPort> {
    let led = |port: &DeclaredPort| port.protocol == Protocol::Tcp && port.port == probe_port;
    let mut ports = container.ports.clone();
    if !is_proxy {
        ports.retain(|port| !led(port));
    } else if !ports.iter().any(led) {
        ports.push(DeclaredPort { name: None, protocol: Protocol::Tcp, port: probe_port });
    }
    ports
}

/// What can't be understood about a proxy.
fn faults(proxy: &SidecarProxy) -> Vec<String> {
    errors(&proxy.validate(proxy.spec.form()))
}

fn forwarded(proxy: &SidecarProxy) -> Ports {
    proxy.spec.listeners.iter().map(|l| (Protocol::Tcp, l.forward.port, l.forward.port)).collect()
}
