//! The policy that a SidecarProxy implies.
//!
//! On the pod interface only the proxy's listeners can be reached, and what ContainerNetworkPolicies open; the port that
//! it forwards to takes loopback connections from the proxy alone. The proxy's own listeners are open to everybody
//! unless a ContainerNetworkPolicy isolates the proxy.

use super::peers::Resolver;
use super::{errors, selects_own};
use crate::model::{Grant, Isolation, Layer, Peers, PolicyKind, PolicyName, Reach, Rule, RuleName, Scope};
use crate::ports::Ports;
use crate::world::objects::namespace;
use sidewall_api::SidecarProxy;
use sidewall_flow::{ContainerId, Direction, Party, Protocol};
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

    pub(super) fn proxy(&mut self, layer: &mut Layer) {
        let (good, bad): (Vec<_>, Vec<_>) = self.proxies().into_iter().partition(|proxy| faults(proxy).is_empty());
        for proxy in bad {
            self.not_understood(layer, name_of(proxy), &faults(proxy).join("; "));
        }
        let Some((proxy, others)) = good.split_first() else { return };
        let first = &name_of(proxy);
        for other in others {
            self.note(Some(name_of(other)), format!("has no effect here: {first} is older and selects this pod too"));
        }
        let container = proxy.spec.container_name.clone();
        let id = self.subject.containers.iter().find(|(_, c)| c.name == container).map(|(id, _)| *id);
        if id.is_none() {
            self.note(
                Some(first.clone()),
                format!("names {container:?} as the proxy, but this pod has no such container; nothing is reachable from outside"),
            );
        }
        self.implied(layer, first, proxy, id);
    }

    fn implied(&mut self, layer: &mut Layer, name: &PolicyName, proxy: &SidecarProxy, id: Option<ContainerId>) {
        let listeners: Ports = proxy.spec.listeners.iter().map(|l| (Protocol::Tcp, l.port, l.port)).collect();
        let forwarded = forwarded(proxy);
        let proxy = id.map(Party::Container);
        for party in super::parties(self.subject) {
            let (open, guarded) = if Some(party) == proxy {
                (listeners.clone(), forwarded.subtract(&listeners))
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

/// What can't be understood about a proxy.
fn faults(proxy: &SidecarProxy) -> Vec<String> {
    errors(&proxy.validate(proxy.spec.form()))
}

fn forwarded(proxy: &SidecarProxy) -> Ports {
    proxy.spec.listeners.iter().map(|l| (Protocol::Tcp, l.forward.port, l.forward.port)).collect()
}
