//! Services and what stands behind them: either makes a change of the whole.

use super::known::Printer;
use crate::item::Slice;
use k8s_openapi::api::core::v1 as core;
use sidewall_policy::index::Named;
use sidewall_policy::world::{self, objects};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Services {
    services: BTreeMap<Named, Entry>,
    /// By their own names.
    slices: BTreeMap<Named, Slice>,
    /// The names of the slices of a Service, by the Service's name.
    behind: BTreeMap<Named, BTreeSet<Box<str>>>,
    /// What has to be put together anew.
    dirty: BTreeSet<Named>,
    /// What is no more, unless it has come back since.
    gone: BTreeSet<Named>,
}

#[derive(Debug)]
struct Entry {
    service: Box<core::Service>,
    /// Of the whole that was told last.
    print: Option<u64>,
}

impl Services {
    pub fn put(&mut self, name: Named, service: Box<core::Service>) {
        self.dirty.insert(name.clone());
        let print = self.services.get(&name).and_then(|entry| entry.print);
        self.services.insert(name, Entry { service, print });
    }

    pub fn remove(&mut self, name: Named) {
        self.services.remove(&name);
        self.gone.insert(name);
    }

    pub fn put_slice(&mut self, name: Named, slice: Slice) {
        if self.slices.get(&name) == Some(&slice) {
            return;
        }
        self.remove_slice(&name);
        if let Some(service) = &slice.service {
            let service = Named::new(&name.namespace, &**service);
            self.behind.entry(service.clone()).or_default().insert(name.name.as_str().into());
            self.dirty.insert(service);
        }
        self.slices.insert(name, slice);
    }

    pub fn remove_slice(&mut self, name: &Named) {
        let Some(Slice { service: Some(service), .. }) = self.slices.remove(name) else { return };
        let service = Named::new(&name.namespace, service);
        if let Some(names) = self.behind.get_mut(&service) {
            names.remove(name.name.as_str());
            if names.is_empty() {
                self.behind.remove(&service);
            }
        }
        self.dirty.insert(service);
    }

    /// The Services that are others than were told last; none for those that are no more.
    pub fn flush(&mut self, printer: &Printer) -> Vec<(Named, Option<world::Service>)> {
        let mut gone = std::mem::take(&mut self.gone);
        gone.retain(|name| !self.services.contains_key(name));
        let dirty = std::mem::take(&mut self.dirty);
        let whole = dirty.into_iter().filter_map(|name| {
            // Slices of a Service that is not there make nothing.
            let entry = self.services.get_mut(&name)?;
            let names = self.behind.get(&name).into_iter().flatten();
            let slices: Vec<_> = names
                .filter_map(|slice| self.slices.get(&Named::new(&name.namespace, &**slice)))
                .map(|slice| slice.restored(&name.namespace))
                .collect();
            let service = objects::service(&entry.service, &slices);
            let print = printer.of(&service);
            (entry.print.replace(print) != Some(print)).then_some((name, Some(service)))
        });
        whole.chain(gone.into_iter().map(|name| (name, None))).collect()
    }
}
