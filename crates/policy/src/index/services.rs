//! The cluster's Services, by their names, addresses and endpoints.

use super::Named;
use crate::addresses::Addresses;
use crate::world::{Network, Service};
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// All Services.
#[derive(Debug, Default)]
pub(super) struct Services {
    services: Slab<Service>,
    by_name: BTreeMap<Named, usize>,
    /// The Services that have an endpoint at an address.
    by_endpoint: HashMap<IpAddr, BTreeSet<usize>>,
    /// The Services that have an address; there should be one.
    by_address: HashMap<IpAddr, BTreeSet<usize>>,
    other_names: BTreeSet<usize>,
    addresses: Arc<Addresses>,
}

/// What a change of a Service can have changed for others.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// The addresses that stand or stood behind it, or behind one that shares an address with it.
    pub endpoints: BTreeSet<IpAddr>,
    /// The addresses that are its own now and were not before, or the other way round: see [`Services::sum_up`].
    pub addresses: BTreeSet<IpAddr>,
    /// Whether it is or was only another name.
    pub other_name: bool,
}

impl Services {
    /// Puts a Service in the place of the one of its name, or takes that away. Says what that touches, where anything has
    /// changed at all.
    pub fn put(&mut self, name: &Named, service: Option<Service>) -> Option<Touched> {
        let known = self.by_name.get(name).copied();
        if known.map(|id| &self.services[id]) == service.as_ref() {
            return None;
        }
        let mut touched = Touched::default();
        let (mut had, mut has) = (BTreeSet::new(), BTreeSet::new());
        if let Some(id) = known {
            let before = self.services.remove(id);
            self.by_name.remove(name);
            touched.other_name |= self.other_names.remove(&id);
            had.extend(before.addresses.iter().copied());
            let endpoints = endpoints(&before);
            endpoints.iter().for_each(|address| take(&mut self.by_endpoint, *address, id));
            had.iter().for_each(|address| take(&mut self.by_address, *address, id));
            touched.endpoints.extend(endpoints);
        }
        if let Some(service) = service {
            has.extend(service.addresses.iter().copied());
            let endpoints = endpoints(&service);
            let other_name = service.external_name.is_some();
            let id = self.services.insert(service);
            self.by_name.insert(name.clone(), id);
            if other_name {
                touched.other_name = true;
                self.other_names.insert(id);
            }
            for address in &endpoints {
                self.by_endpoint.entry(*address).or_default().insert(id);
            }
            for address in &has {
                self.by_address.entry(*address).or_default().insert(id);
            }
            touched.endpoints.extend(endpoints);
        }
        for address in had.union(&has) {
            for id in self.by_address.get(address).into_iter().flatten() {
                touched.endpoints.extend(endpoints(&self.services[*id]));
            }
        }
        touched.addresses = had.symmetric_difference(&has).copied().collect();
        Some(touched)
    }

    /// Puts together anew what is a Service's address; says whether that has changed.
    pub fn sum_up(&mut self, network: &Network) -> bool {
        let known: Addresses =
            self.services.iter().flat_map(|(_, service)| service.addresses.iter().copied()).collect();
        let all = network.services.union(&known);
        let changed = *self.addresses != all;
        if changed {
            self.addresses = Arc::new(all);
        }
        changed
    }

    /// Every address that is a Service's.
    pub fn addresses(&self) -> &Arc<Addresses> {
        &self.addresses
    }

    pub fn get(&self, name: &Named) -> Option<&Service> {
        self.by_name.get(name).map(|id| &self.services[*id])
    }

    /// Every Service, in the order of their names.
    pub fn all(&self) -> impl Iterator<Item = &Service> {
        self.by_name.values().map(|id| &self.services[*id])
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.services.len()
    }

    /// The Services that are only other names.
    pub fn other_names(&self) -> impl Iterator<Item = &Service> {
        self.other_names.iter().map(|id| &self.services[*id])
    }

    /// The Services that have an endpoint at one of these addresses, and those that share an address with one of them; each
    /// once.
    pub fn before<'a>(&self, addresses: impl Iterator<Item = &'a IpAddr>) -> Vec<&Service> {
        let mut found: BTreeSet<usize> = BTreeSet::new();
        for services in addresses.filter_map(|address| self.by_endpoint.get(address)) {
            found.extend(services);
        }
        let own = found.iter().flat_map(|id| &self.services[*id].addresses);
        let sharing: BTreeSet<usize> =
            own.filter_map(|address| self.by_address.get(address)).flatten().copied().collect();
        found.union(&sharing).map(|id| &self.services[*id]).collect()
    }
}

fn take(of: &mut HashMap<IpAddr, BTreeSet<usize>>, address: IpAddr, id: usize) {
    if let Some(services) = of.get_mut(&address) {
        services.remove(&id);
        if services.is_empty() {
            of.remove(&address);
        }
    }
}

fn endpoints(service: &Service) -> BTreeSet<IpAddr> {
    service.ports.iter().flat_map(|port| &port.endpoints).map(|(address, _)| *address).collect()
}
