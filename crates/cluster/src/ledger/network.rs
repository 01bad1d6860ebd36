//! Where things are, put together from what is configured, the ServiceCIDRs and the Nodes.

use crate::item::NodeFacts;
use ipnet::IpNet;
use sidewall_policy::addresses::Addresses;
use sidewall_policy::index::Named;
use sidewall_policy::world::Network;
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Places {
    base: Network,
    ranges: BTreeMap<Named, Vec<IpNet>>,
    nodes: BTreeMap<Named, NodeFacts>,
    dirty: bool,
    told: Option<Network>,
}

impl Places {
    pub fn new(base: Network) -> Self {
        Self { base, ranges: BTreeMap::new(), nodes: BTreeMap::new(), dirty: true, told: None }
    }

    pub fn set_base(&mut self, base: Network) {
        self.dirty |= self.base != base;
        self.base = base;
    }

    pub fn put_ranges(&mut self, name: Named, ranges: Vec<IpNet>) {
        self.dirty |= self.ranges.get(&name) != Some(&ranges);
        self.ranges.insert(name, ranges);
    }

    pub fn remove_ranges(&mut self, name: &Named) {
        self.dirty |= self.ranges.remove(name).is_some();
    }

    pub fn put_node(&mut self, name: Named, facts: NodeFacts) {
        self.dirty |= self.nodes.get(&name) != Some(&facts);
        self.nodes.insert(name, facts);
    }

    pub fn remove_node(&mut self, name: &Named) {
        self.dirty |= self.nodes.remove(name).is_some();
    }

    /// The whole, where it is another than was told last.
    pub fn flush(&mut self) -> Option<Network> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        let services: Addresses = self.ranges.values().flatten().copied().collect();
        let pods: Addresses = self.nodes.values().flat_map(|node| &node.pods).copied().collect();
        let nodes: Addresses = self.nodes.values().flat_map(|node| &node.addresses).copied().collect();
        let whole = Network {
            services: self.base.services.union(&services),
            pods: self.base.pods.union(&pods),
            nodes: self.base.nodes.union(&nodes),
            this_node: self.base.this_node.clone(),
            dns: self.base.dns.clone(),
        };
        if self.told.as_ref() == Some(&whole) {
            return None;
        }
        self.told = Some(whole.clone());
        Some(whole)
    }
}
