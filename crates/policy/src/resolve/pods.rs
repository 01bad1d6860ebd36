//! Pods as peers.

use super::peers::{Resolver, grant};
use crate::index::lookup::{HostsByPorts, Own, PodQuery, Selected, Within};
use crate::model::{Grant, Peers, RuleName};
use crate::ports::Ports;
use crate::resolve::resolve_ports;
use crate::world::Subject;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{LabelSelector, PolicyPort};
use sidewall_flow::{Direction, Protocol};
use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

/// A pod selector and a namespace selector.
pub(super) type Selectors<'q> = (Option<&'q LabelSelector>, Option<&'q LabelSelector>);

/// The pods that the peers of a rule allow, before they become grants.
#[derive(Default)]
pub(super) struct Allowed(Vec<Selected>);

impl Resolver<'_> {
    /// The pods that selectors name, but for those that have no address of their own; by the numbers of ports, where these
    /// are theirs.
    pub(super) fn selected(
        &mut self,
        rule: &RuleName,
        selectors: Selectors<'_>,
        ports: Option<&[PolicyPort]>,
        own_counts: bool,
    ) -> Selected {
        let query = self.query(selectors, ports, own_counts);
        let selected = self.cluster.pods(&query);
        self.note_shared(rule, &selected);
        whoever_comes(self.reached(rule, selected, &query), ports)
    }

    /// Says where pods are selected that nobody can be told by.
    pub(super) fn note_shared(&mut self, rule: &RuleName, selected: &Selected) {
        if selected.shared {
            self.note_rule(
                rule,
                "selects pods that share their node's network: they have no address of their own and are not allowed; name the node by ipBlock".to_owned(),
            );
        }
    }

    /// The question for the pods that selectors name.
    pub(super) fn query<'q>(
        &self,
        (pods, namespaces): Selectors<'q>,
        ports: Option<&'q [PolicyPort]>,
        own_counts: bool,
    ) -> PodQuery<'q>
    where
        Self: 'q,
    {
        let Subject { namespace, name, .. } = self.subject;
        PodQuery {
            within: namespaces.map_or(Within::Namespace(namespace), Within::Labelled),
            pods,
            ports,
            own: Some(Own { namespace, name, counts: own_counts }),
        }
    }

    /// Every pod that has an address of its own, by the numbers that a rule's ports have there beyond those that they have
    /// everywhere.
    pub(super) fn everybody(&mut self, rule: &RuleName, ports: &[PolicyPort], numbers: &Ports) -> Allowed {
        let mut all = Allowed::default();
        if ports.iter().any(|port| matches!(port.port, Some(IntOrString::String(_)))) {
            let anywhere = LabelSelector::everything();
            let query = PodQuery { within: Within::Labelled(&anywhere), pods: None, ports: Some(ports), own: None };
            let Selected { hosts, .. } = self.cluster.pods(&query);
            let hosts = hosts.into_iter().map(|(ports, hosts)| (ports.subtract(numbers), hosts));
            let beyond = Selected { hosts: sum(hosts), ..Selected::default() };
            all.add(self.reached(rule, beyond, &query));
        }
        all
    }

    /// The selected pods under the addresses under which a rule covers them.
    fn reached(&mut self, rule: &RuleName, mut selected: Selected, query: &PodQuery<'_>) -> Selected {
        if rule.direction == Direction::Ingress || self.contested.is_empty() {
            return selected;
        }
        let mut contested = BTreeSet::new();
        for hosts in selected.hosts.values_mut() {
            let here: BTreeSet<IpAddr> =
                hosts.iter().filter(|address| self.contested.contains(**address)).copied().collect();
            if !here.is_empty() {
                Arc::make_mut(hosts).retain(|address| !here.contains(address));
                contested.extend(here);
            }
        }
        selected.hosts.retain(|_, hosts| !hosts.is_empty());
        for address in contested {
            for (namespace, name) in self.cluster.bearers(address, Some(query)) {
                let pod = format!("{namespace}/{name}");
                self.note_rule(
                    rule,
                    format!("does not allow {address} of the pod {pod}, because it is an address of Services"),
                );
            }
        }
        selected
    }

    /// Says of Services that are only other names that selectors don't cover them, where an author may think so.
    pub(super) fn other_names(&mut self, rule: &RuleName, (pods, namespaces): Selectors<'_>) {
        if rule.direction == Direction::Ingress {
            return;
        }
        let cluster = self.cluster;
        for service in cluster.other_names() {
            let Some(target) = &service.external_name else { continue };
            let here = match namespaces {
                Some(selector) => selector.matches(&cluster.namespace_labels(&service.namespace)),
                None => service.namespace == self.subject.namespace,
            };
            let by_label = pods.is_some_and(|selector| !selector.is_everything() && selector.matches(&service.labels));
            if here && (by_label || !cluster.anybody(&service.namespace, pods)) {
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
}

impl Allowed {
    pub(super) fn add(&mut self, selected: Selected) {
        self.0.push(selected);
    }

    pub(super) fn selected(&self) -> &[Selected] {
        &self.0
    }

    pub(super) fn contains(&self, address: IpAddr, protocol: Protocol, port: u16) -> bool {
        let mut hosts = self.0.iter().flat_map(|selected| &selected.hosts);
        hosts.any(|(ports, hosts)| ports.contains(protocol, port) && hosts.contains(&address))
    }

    /// Grants of the ports that the selected ones come to. What several peers select at the same ports is one grant.
    pub(super) fn grants(self, come_to: impl Fn(&Ports) -> Ports) -> Vec<Grant> {
        let all = self.0.into_iter().flat_map(|selected| selected.hosts);
        let all = sum(all.map(|(ports, hosts)| (come_to(&ports), hosts)));
        all.into_iter().flat_map(|(ports, hosts)| grant(Peers::Hosts(hosts), ports)).collect()
    }
}

/// With the ports that a rule has by number, also where nobody is selected: the grant is there before the first pod is, so
/// that pods that come and go change addresses and nothing else.
pub(super) fn whoever_comes(mut selected: Selected, ports: Option<&[PolicyPort]>) -> Selected {
    let numbers = ports.map_or_else(Ports::all, |ports| resolve_ports(ports, &[]));
    if !numbers.is_empty() {
        selected.hosts.entry(numbers).or_default();
    }
    selected
}

/// Puts together what is at the same ports; what is at none is left out.
fn sum(parts: impl Iterator<Item = (Ports, Arc<BTreeSet<IpAddr>>)>) -> HostsByPorts {
    let mut all = HostsByPorts::new();
    for (ports, hosts) in parts.filter(|(ports, _)| !ports.is_empty()) {
        match all.entry(ports) {
            Entry::Vacant(entry) => {
                entry.insert(hosts);
            }
            // Most often nothing is put together, and the set stays the one that others hold too.
            Entry::Occupied(mut entry) if !Arc::ptr_eq(entry.get(), &hosts) => {
                Arc::make_mut(entry.get_mut()).extend(hosts.iter());
            }
            Entry::Occupied(_) => {}
        }
    }
    all
}
