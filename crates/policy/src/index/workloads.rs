//! The cluster's pods, parted into workloads.
//!
//! The replicas of a Deployment differ by name and address only. What a selector, or a named port, can tell apart is the
//! same for all of them and is kept once: a [`Workload`]. There are some thousand of these where there are ten thousand
//! pods, and selectors are matched against workloads, not pods.

use super::terms::{ByTerm, Term, ways};
use crate::model::DeclaredPort;
use crate::world::{Labels, Pod};
use sidewall_api::{Attachments, LabelSelector};
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// A pod's place in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PodId(u32);

/// A workload's place in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WorkloadId(u32);

/// What a selector or a named port can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Traits {
    pub namespace: Arc<str>,
    pub labels: Labels,
    pub ports: Vec<DeclaredPort>,
    pub host_network: bool,
    pub ended: bool,
}

/// Pods that are alike.
#[derive(Debug)]
pub(super) struct Workload {
    pub traits: Arc<Traits>,
    pub pods: BTreeSet<PodId>,
}

/// What is a pod's own.
#[derive(Debug)]
pub(super) struct Replica {
    pub name: Arc<str>,
    pub workload: WorkloadId,
    pub addresses: Box<[IpAddr]>,
    /// What it says of further networks; most say nothing.
    pub networks: Option<Box<Attachments>>,
}

/// All pods.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    replicas: Slab<Replica>,
    workloads: Slab<Workload>,
    namespaces: BTreeMap<Arc<str>, Members>,
    by_traits: BTreeMap<Arc<Traits>, WorkloadId>,
    /// The pods that bear an address: more than one while a new one has the address of an old one that has not been
    /// heard of since.
    bearers: HashMap<IpAddr, Vec<PodId>>,
    /// Those that say anything of further networks.
    attached: BTreeSet<PodId>,
}

#[derive(Debug, Default)]
struct Members {
    pods: BTreeMap<Arc<str>, PodId>,
    workloads: BTreeSet<WorkloadId>,
    by_term: ByTerm<WorkloadId>,
}

/// What a pod was before it changed.
#[derive(Debug)]
pub(super) struct Before {
    pub traits: Arc<Traits>,
    pub workload: WorkloadId,
    pub addresses: Box<[IpAddr]>,
    pub networks: Option<Box<Attachments>>,
}

impl Traits {
    fn terms(&self) -> impl Iterator<Item = Term> + '_ {
        self.labels.iter().map(|(key, value)| Term::of(key, value))
    }
}

impl Workloads {
    /// Puts a pod in the place of the one of its name. Says where it belongs, and whether that is a new workload.
    pub fn put(&mut self, pod: Pod) -> Placed {
        let Pod { namespace, name, labels, addresses, ports, host_network, ended, networks } = pod;
        let networks = (networks != Attachments::default()).then(|| Box::new(networks));
        let before = self.remove(&namespace, &name);
        let namespace = match self.namespaces.get_key_value(namespace.as_str()) {
            Some((known, _)) => known.clone(),
            None => namespace.into(),
        };
        let members = self.namespaces.entry(namespace.clone()).or_default();
        let traits = Arc::new(Traits { namespace, labels, ports, host_network, ended });
        let known = self.by_traits.get(&traits).copied();
        let workload = known.unwrap_or_else(|| {
            let workload = Workload { traits: traits.clone(), pods: BTreeSet::new() };
            let id = WorkloadId(number(self.workloads.insert(workload)));
            self.by_traits.insert(traits, id);
            members.workloads.insert(id);
            self.workloads[id.0 as usize].traits.terms().for_each(|term| members.by_term.insert(term, id));
            id
        });
        let name: Arc<str> = name.into();
        let attached = networks.is_some();
        let replica = Replica { name: name.clone(), workload, addresses: addresses.into(), networks };
        let pod = PodId(number(self.replicas.insert(replica)));
        members.pods.insert(name, pod);
        if attached {
            self.attached.insert(pod);
        }
        self.workloads[workload.0 as usize].pods.insert(pod);
        for address in &self.replicas[pod.0 as usize].addresses {
            let bearers = self.bearers.entry(*address).or_default();
            if !bearers.contains(&pod) {
                bearers.push(pod);
            }
        }
        Placed { before, workload, is_new: known.is_none() }
    }

    /// Whether there is just this pod.
    pub fn is(&self, pod: &Pod) -> bool {
        self.find(&pod.namespace, &pod.name).is_some_and(|id| {
            let replica = self.replica(id);
            let traits = &self.workload(replica.workload).traits;
            traits.labels == pod.labels
                && *replica.addresses == *pod.addresses
                && traits.ports == pod.ports
                && traits.host_network == pod.host_network
                && traits.ended == pod.ended
                && replica.networks.as_deref().unwrap_or(&Attachments::default()) == &pod.networks
        })
    }

    /// Takes a pod away, where there is one of that name.
    pub fn remove(&mut self, namespace: &str, name: &str) -> Option<Before> {
        let members = self.namespaces.get_mut(namespace)?;
        let pod = members.pods.remove(name)?;
        let Replica { workload, addresses, networks, .. } = self.replicas.remove(pod.0 as usize);
        self.attached.remove(&pod);
        for address in &addresses {
            if let Some(bearers) = self.bearers.get_mut(address) {
                bearers.retain(|bearer| *bearer != pod);
                if bearers.is_empty() {
                    self.bearers.remove(address);
                }
            }
        }
        let alike = &mut self.workloads[workload.0 as usize];
        alike.pods.remove(&pod);
        let traits = alike.traits.clone();
        Some(Before { traits, workload, addresses, networks })
    }

    /// Forgets a workload that has no pods left; says whether it had none.
    pub fn forget(&mut self, workload: WorkloadId) -> bool {
        let empty = self.workloads.get(workload.0 as usize).is_some_and(|workload| workload.pods.is_empty());
        if !empty {
            return false;
        }
        let Workload { traits, .. } = self.workloads.remove(workload.0 as usize);
        self.by_traits.remove(&traits);
        if let Some(members) = self.namespaces.get_mut(&traits.namespace) {
            members.workloads.remove(&workload);
            traits.terms().for_each(|term| members.by_term.remove(term, workload));
            if members.workloads.is_empty() {
                self.namespaces.remove(&traits.namespace);
            }
        }
        true
    }

    pub fn workload(&self, id: WorkloadId) -> &Workload {
        &self.workloads[id.0 as usize]
    }

    pub fn replica(&self, id: PodId) -> &Replica {
        &self.replicas[id.0 as usize]
    }

    /// The pod of a name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<PodId> {
        self.namespaces.get(namespace)?.pods.get(name).copied()
    }

    /// The pods that bear an address.
    pub fn bearers(&self, address: IpAddr) -> &[PodId] {
        self.bearers.get(&address).map_or(&[], Vec::as_slice)
    }

    /// The pods that say anything of further networks.
    pub fn attached(&self) -> impl Iterator<Item = PodId> + '_ {
        self.attached.iter().copied()
    }

    /// Every address that a pod bears, in any order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.bearers.keys().copied()
    }

    /// The namespaces that have pods.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.keys().map(|name| &**name)
    }

    /// The workloads of a namespace.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = WorkloadId> + '_ {
        self.namespaces.get(namespace).into_iter().flat_map(|members| members.workloads.iter().copied())
    }

    /// At least the workloads of a namespace that a selector selects.
    pub fn near(&self, namespace: &str, selector: Option<&LabelSelector>) -> Vec<WorkloadId> {
        let Some(members) = self.namespaces.get(namespace) else { return Vec::new() };
        match members.by_term.narrowest(selector.map(ways).unwrap_or_default()) {
            Some(terms) => terms.iter().flat_map(|term| members.by_term.of(*term)).collect(),
            None => members.workloads.iter().copied().collect(),
        }
    }

    /// Every pod, as it was put in.
    pub fn pods(&self) -> impl Iterator<Item = Pod> + '_ {
        self.namespaces.values().flat_map(|members| members.pods.values()).map(|id| {
            let replica = self.replica(*id);
            let traits = &*self.workload(replica.workload).traits;
            Pod {
                namespace: traits.namespace.to_string(),
                name: replica.name.to_string(),
                labels: traits.labels.clone(),
                addresses: replica.addresses.to_vec(),
                ports: traits.ports.clone(),
                host_network: traits.host_network,
                ended: traits.ended,
                networks: replica.networks.as_deref().cloned().unwrap_or_default(),
            }
        })
    }
}

/// Where a pod was put.
#[derive(Debug)]
pub(super) struct Placed {
    /// What it was before.
    pub before: Option<Before>,
    /// Its workload.
    pub workload: WorkloadId,
    /// Whether there was none like it.
    pub is_new: bool,
}

/// A slab's key in half the room. There is no machine that holds four milliards of pods.
fn number(key: usize) -> u32 {
    u32::try_from(key).unwrap_or_else(|_| unreachable!("more than 2^32 objects"))
}
