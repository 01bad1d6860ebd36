//! A cluster kept ready for resolving, change by change.
//!
//! [`crate::resolve()`] looks through a whole [`World`] for one pod. A node has some hundred pods and a cluster ten
//! thousand, and something changes all the time: an [`Index`] holds what the resolver asks for in the form in which it
//! asks, and knows after each change whom it can concern.
//!
//! - Pods are parted into workloads (the replicas of a Deployment), and selectors are matched against those.
//! - What a selector names is a group. Its addresses are held once, for every rule and subject that name the same.
//! - While a subject is resolved, the index writes down what it asked for. A change concerns the subjects that asked for
//!   what it changes, and those whose own policies it is about.
//!
//! [`Index::apply`] may name a subject whose rules turn out to be the same; it never leaves out one whose rules are not.
//! That, and that an index answers as its world does, is what its tests look for.

mod catalog;
mod change;
mod groups;
pub(crate) mod lookup;
mod namespaces;
mod plain;
mod pods;
mod reader;
mod services;
mod surroundings;
mod terms;
#[cfg(test)]
mod tests;
mod walls;
mod workloads;

pub use change::{Change, Named};
pub use walls::{Fresh, Planned, Step, Walls};

use crate::addresses::Addresses;
use crate::model::{PolicyKind, ResolvedPod};
use crate::resolve::{resolve_in, selects};
use crate::world::objects::namespace;
use crate::world::{Network, Subject, Unreadable, World};
use catalog::Catalog;
use groups::Groups;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use namespaces::Namespaces;
use reader::{Reader, Reads};
use services::Services;
use sidewall_api::network::SELECTOR_LIMITS;
use sidewall_api::{
    ContainerNetworkPolicy, LabelSelector, MultiNetworkPolicy, NetworkPolicy, SelectorLimits, SidecarProxy,
};
use slab::Slab;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use workloads::{Placed, Workloads};

/// A subject's place in the index, as long as the subject is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectId(usize);

/// A cluster kept ready for resolving.
///
/// Of each kind, a name stands for one object, as in a cluster: of several in a [`World`], the last counts.
#[derive(Debug, Default)]
pub struct Index {
    namespaces: Namespaces,
    workloads: Workloads,
    services: Services,
    policies: Catalog<ContainerNetworkPolicy>,
    network_policies: Catalog<NetworkPolicy>,
    multi_network_policies: Catalog<MultiNetworkPolicy>,
    proxies: Catalog<SidecarProxy>,
    unreadable: Vec<Unreadable>,
    network: Network,
    subjects: Slab<Local>,
    by_name: BTreeMap<Named, SubjectId>,
    /// Resolving fills it, and so does only what was asked for.
    groups: RefCell<Groups>,
    strays: OnceCell<Arc<Addresses>>,
    contested: OnceCell<Addresses>,
}

/// A subject and what it has asked for.
#[derive(Debug)]
struct Local {
    subject: Subject,
    reads: Reads,
}

impl Index {
    /// An index of a world, without subjects.
    pub fn new(world: World) -> Self {
        let mut index = Self { network: world.network, unreadable: world.unreadable, ..Self::default() };
        for (name, labels) in world.namespaces {
            index.namespaces.put(&name, Some(labels));
        }
        for pod in world.pods {
            let Placed { before, workload, .. } = index.workloads.put(pod);
            if let Some(before) = before.filter(|before| before.workload != workload) {
                index.workloads.forget(before.workload);
            }
        }
        for service in world.services {
            index.services.put(&Named::new(&service.namespace, &service.name), Some(service));
        }
        index.services.sum_up(&index.network);
        for mut policy in world.policies {
            prune(&mut policy.metadata);
            policy.status = None;
            index.policies.put(name_of(&policy.metadata), policy);
        }
        for mut policy in world.network_policies {
            prune(&mut policy.metadata);
            index.network_policies.put(name_of(&policy.metadata), policy);
        }
        for policy in world.multi_network_policies {
            index.multi_network_policies.put(name_of(&policy.metadata), policy);
        }
        for proxy in world.proxies {
            index.proxies.put(name_of(&proxy.metadata), proxy);
        }
        index
    }

    /// The world that it holds: equal to the one that was put in, in the order of names.
    pub fn world(&self) -> World {
        World {
            namespaces: self.namespaces.all().clone(),
            pods: self.workloads.pods().collect(),
            services: self.services.all().cloned().collect(),
            policies: self.policies.all().cloned().collect(),
            network_policies: self.network_policies.all().cloned().collect(),
            multi_network_policies: self.multi_network_policies.all().cloned().collect(),
            proxies: self.proxies.all().cloned().collect(),
            unreadable: self.unreadable.clone(),
            network: self.network.clone(),
        }
    }

    /// The namespaces that are known or have policies, and of each whether a policy is about its pods, or may be.
    pub fn namespaces(&self) -> BTreeMap<&str, bool> {
        let known = self.namespaces.all().keys().map(String::as_str);
        let of_policies = (self.policies.namespaces())
            .chain(self.network_policies.namespaces())
            .chain(self.multi_network_policies.namespaces())
            .chain(self.proxies.namespaces())
            .chain(self.unreadable.iter().filter_map(|policy| policy.namespace.as_deref()));
        known.chain(of_policies).map(|name| (name, self.may_select(name))).collect()
    }

    /// Whether a policy is about pods of a namespace, or may be: [`Index::namespaces`] for one.
    pub fn may_select(&self, namespace: &str) -> bool {
        let may_be_here = |policy: &Unreadable| policy.namespace.as_deref().is_none_or(|its| its == namespace);
        self.policies.of(namespace).next().is_some()
            || self.network_policies.of(namespace).next().is_some()
            || self.multi_network_policies.of(namespace).next().is_some()
            || self.proxies.of(namespace).next().is_some()
            || self.unreadable.iter().any(may_be_here)
    }

    /// The generation that the API server gave a policy; none where it is not known, or can't be understood.
    pub fn generation(&self, kind: PolicyKind, name: &Named) -> Option<i64> {
        let metadata = match kind {
            PolicyKind::ContainerNetworkPolicy => &self.policies.get(name)?.metadata,
            PolicyKind::SidecarProxy => &self.proxies.get(name)?.metadata,
            PolicyKind::NetworkPolicy => &self.network_policies.get(name)?.metadata,
            PolicyKind::MultiNetworkPolicy => &self.multi_network_policies.get(name)?.metadata,
            PolicyKind::Probes | PolicyKind::Guard => return None,
        };
        metadata.generation
    }

    /// The policies that can't be understood.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// Where things are.
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// The pods, in no order that means anything.
    pub fn pods(&self) -> impl Iterator<Item = crate::world::Pod> + '_ {
        self.workloads.pods()
    }

    /// The Services.
    pub fn services(&self) -> impl Iterator<Item = &crate::world::Service> {
        self.services.all()
    }

    /// Every address that is a Service's: the ranges, and the known addresses.
    pub fn service_addresses(&self) -> Addresses {
        Addresses::clone(self.services.addresses())
    }

    /// The subjects, in the order of their names.
    pub fn subjects(&self) -> impl Iterator<Item = (SubjectId, &Subject)> {
        self.by_name.values().map(|id| (*id, &self.subjects[id.0].subject))
    }

    /// A subject; none where it has gone.
    pub fn subject(&self, id: SubjectId) -> Option<&Subject> {
        self.subjects.get(id.0).map(|local| &local.subject)
    }

    /// The subject of a name.
    pub fn find(&self, name: &Named) -> Option<SubjectId> {
        self.by_name.get(name).copied()
    }

    /// What all policies together mean for a subject: exactly what [`crate::resolve()`] says of its world. None where the
    /// subject has gone.
    pub fn resolve(&mut self, id: SubjectId) -> Option<ResolvedPod> {
        let local = self.subjects.get(id.0)?;
        let reader = Reader { index: self, reads: RefCell::default() };
        let pod = resolve_in(&reader, &local.subject);
        let now = reader.reads.into_inner();
        let before = std::mem::replace(&mut self.subjects[id.0].reads, now);
        self.groups.get_mut().read(id, &self.subjects[id.0].reads.groups, &before.groups);
        Some(pod)
    }

    /// Applies a change. Says which subjects it may concern: only their [`Index::resolve`] can be other than before.
    pub fn apply(&mut self, change: Change) -> BTreeSet<SubjectId> {
        match change {
            Change::Pod(pod) => self.put_pod(pod),
            Change::PodGone(name) => self.remove_pod(&name),
            Change::Namespace(name, labels) => self.put_namespace(&name, Some(labels)),
            Change::NamespaceGone(name) => self.put_namespace(&name, None),
            Change::Service(service) => self.put_service(&Named::new(&service.namespace, &service.name), Some(service)),
            Change::ServiceGone(name) => self.put_service(&name, None),
            Change::Policy(mut policy) => {
                prune(&mut policy.metadata);
                policy.status = None;
                let name = name_of(&policy.metadata);
                let selector = policy.spec.pod_selector.clone();
                match self.policies.put(name.clone(), *policy) {
                    Some(before) if self.policies.get(&name).is_some_and(|now| now.spec == before.spec) => {
                        BTreeSet::new()
                    }
                    before => self.selected_own(&name, Some(selector), before.map(|before| before.spec.pod_selector)),
                }
            }
            Change::NetworkPolicy(mut policy) => {
                prune(&mut policy.metadata);
                let name = name_of(&policy.metadata);
                let selector = policy.spec.pod_selector.clone();
                match self.network_policies.put(name.clone(), *policy) {
                    Some(before) if self.network_policies.get(&name).is_some_and(|now| now.spec == before.spec) => {
                        BTreeSet::new()
                    }
                    before => self.selected_edge(&name, Some(selector), before.map(|before| before.spec.pod_selector)),
                }
            }
            // Annotations are part of these.
            Change::MultiNetworkPolicy(policy) => {
                let name = name_of(&policy.metadata);
                let selector = policy.spec.pod_selector.clone();
                let before = self.multi_network_policies.put(name.clone(), *policy);
                self.selected_edge(&name, Some(selector), before.map(|before| before.spec.pod_selector))
            }
            Change::Proxy(proxy) => {
                let name = name_of(&proxy.metadata);
                let selector = proxy.spec.pod_selector.clone();
                let before = self.proxies.put(name.clone(), *proxy);
                self.selected_own(&name, Some(selector), before.map(|before| before.spec.pod_selector))
            }
            Change::PolicyGone(kind, name) => match kind {
                PolicyKind::ContainerNetworkPolicy => {
                    let before = self.policies.remove(&name).map(|policy| policy.spec.pod_selector);
                    self.selected_own(&name, None, before)
                }
                PolicyKind::SidecarProxy => {
                    let before = self.proxies.remove(&name).map(|proxy| proxy.spec.pod_selector);
                    self.selected_own(&name, None, before)
                }
                PolicyKind::NetworkPolicy => {
                    let before = self.network_policies.remove(&name).map(|policy| policy.spec.pod_selector);
                    self.selected_edge(&name, None, before)
                }
                PolicyKind::MultiNetworkPolicy => {
                    let before = self.multi_network_policies.remove(&name).map(|policy| policy.spec.pod_selector);
                    self.selected_edge(&name, None, before)
                }
                // Nobody writes these.
                PolicyKind::Probes | PolicyKind::Guard => BTreeSet::new(),
            },
            Change::Unreadable(policies) => self.put_unreadable(policies),
            Change::Network(network) => self.put_network(network),
            Change::Subject(subject) => self.put_subject(subject),
            Change::SubjectGone(name) => self.remove_subject(&name),
        }
    }

    /// The subjects that a policy of a kind of ours is or was about.
    fn selected_own(
        &self,
        policy: &Named,
        now: Option<LabelSelector>,
        before: Option<LabelSelector>,
    ) -> BTreeSet<SubjectId> {
        self.selected(&policy.namespace, &[now, before], &SelectorLimits::default())
    }

    /// The subjects that a policy of the pod's edges is or was about.
    fn selected_edge(
        &self,
        policy: &Named,
        now: Option<LabelSelector>,
        before: Option<LabelSelector>,
    ) -> BTreeSet<SubjectId> {
        self.selected(&policy.namespace, &[now, before], &SELECTOR_LIMITS)
    }

    fn selected(
        &self,
        namespace: &str,
        selectors: &[Option<LabelSelector>],
        limits: &SelectorLimits,
    ) -> BTreeSet<SubjectId> {
        let here = self.in_namespace(namespace);
        here.filter(|id| {
            let subject = &self.subjects[id.0].subject;
            selectors.iter().flatten().any(|selector| selects(subject, Some(namespace), selector, limits))
        })
        .collect()
    }

    fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = SubjectId> {
        let here = self.by_name.range(Named::new(namespace, "")..);
        here.take_while(move |(name, _)| name.namespace == namespace).map(|(_, id)| *id)
    }

    /// The subjects whose reads are of some sort.
    fn readers(&self, of: impl Fn(&Reads) -> bool) -> BTreeSet<SubjectId> {
        self.subjects.iter().filter(|(_, local)| of(&local.reads)).map(|(id, _)| SubjectId(id)).collect()
    }

    fn everyone(&self) -> BTreeSet<SubjectId> {
        self.readers(|_| true)
    }

    fn strays(&self) -> &Arc<Addresses> {
        self.strays.get_or_init(|| {
            let Network { pods, nodes, .. } = &self.network;
            let all =
                self.workloads.addresses().filter(|address| !pods.contains(*address) && !nodes.contains(*address));
            Arc::new(all.collect())
        })
    }

    /// The addresses of live pods that are Services' too.
    fn contested(&self) -> &Addresses {
        self.contested.get_or_init(|| {
            let services = self.services.addresses();
            let both = self.workloads.addresses().filter(|address| services.contains(*address) && self.lives(*address));
            both.collect()
        })
    }

    /// Whether a pod that lives bears an address.
    fn lives(&self, address: IpAddr) -> bool {
        let mut bearers = self.workloads.bearers(address).iter();
        bearers.any(|pod| !self.workloads.workload(self.workloads.replica(*pod).workload).traits.ended)
    }
}

fn name_of(metadata: &ObjectMeta) -> Named {
    Named::new(namespace(metadata.namespace.as_deref()), metadata.name.clone().unwrap_or_default())
}

/// Takes away what no verdict depends on.
fn prune(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.annotations = None;
}
