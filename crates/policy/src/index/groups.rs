//! Groups: the pods that a selector names, kept once for every rule and every subject that names the same.

use super::SubjectId;
use super::lookup::{HostsByPorts, PodQuery, Selected, Within};
use super::namespaces::Namespaces;
use super::workloads::{PodId, Traits, WorkloadId, Workloads};
use crate::ports::Ports;
use crate::resolve::resolve_ports;
use crate::world::Labels;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{LabelSelector, PolicyPort};
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// A group's place in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupId(usize);

/// What a group is the answer to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Selector {
    namespaces: Scope,
    pods: Option<LabelSelector>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    One(String),
    Labelled(LabelSelector),
}

/// A pod of the group for which it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asking {
    pub pod: PodId,
    /// Whether it is one of those that are asked for.
    pub counts: bool,
}

/// What was told where these ports were asked for.
type Told = (Option<Vec<PolicyPort>>, Selected);

#[derive(Debug)]
struct Group {
    selector: Arc<Selector>,
    /// The workloads of pods that live.
    workloads: BTreeSet<WorkloadId>,
    /// What was told of it, by the pod that it was told to and the ports that were asked for.
    told: BTreeMap<Option<Asking>, Vec<Told>>,
    readers: BTreeSet<SubjectId>,
}

/// Every group that some subject's policies name.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Slab<Group>,
    by_selector: HashMap<Arc<Selector>, GroupId>,
    by_workload: HashMap<WorkloadId, BTreeSet<GroupId>>,
    by_namespace: BTreeMap<String, BTreeSet<GroupId>>,
    of_many_namespaces: BTreeSet<GroupId>,
}

impl Selector {
    fn selects(&self, traits: &Traits, namespace: &Labels) -> bool {
        let here = match &self.namespaces {
            Scope::One(name) => **name == *traits.namespace,
            Scope::Labelled(selector) => selector.matches(namespace),
        };
        here && self.selects_pods(traits)
    }

    fn selects_pods(&self, traits: &Traits) -> bool {
        !traits.ended && self.pods.as_ref().is_none_or(|selector| selector.matches(&traits.labels))
    }
}

impl Groups {
    /// The group of a query; it is made where nobody has asked for it before.
    pub fn of(&mut self, query: &PodQuery<'_>, workloads: &Workloads, namespaces: &Namespaces) -> GroupId {
        let scope = match query.within {
            Within::Namespace(name) => Scope::One(name.to_owned()),
            Within::Labelled(selector) => Scope::Labelled(selector.clone()),
        };
        let selector = Selector { namespaces: scope, pods: query.pods.cloned() };
        if let Some(id) = self.by_selector.get(&selector) {
            return *id;
        }
        let mut found = BTreeSet::new();
        let mut within = |namespace: &str| {
            let selected =
                workloads.of_namespace(namespace).filter(|id| selector.selects_pods(&workloads.workload(*id).traits));
            found.extend(selected);
        };
        match &selector.namespaces {
            Scope::One(name) => within(name),
            Scope::Labelled(wanted) => {
                workloads.namespaces().filter(|name| wanted.matches(&namespaces.labels(name))).for_each(within);
            }
        }
        let selector = Arc::new(selector);
        let id = GroupId(self.groups.vacant_key());
        for workload in &found {
            self.by_workload.entry(*workload).or_default().insert(id);
        }
        match &selector.namespaces {
            Scope::One(name) => self.by_namespace.entry(name.clone()).or_default().insert(id),
            Scope::Labelled(_) => self.of_many_namespaces.insert(id),
        };
        self.by_selector.insert(selector.clone(), id);
        self.groups.insert(Group { selector, workloads: found, told: BTreeMap::new(), readers: BTreeSet::new() });
        id
    }

    /// What a group is to a pod that asks for some ports.
    pub fn tell(
        &mut self,
        id: GroupId,
        asking: Option<Asking>,
        ports: Option<&[PolicyPort]>,
        workloads: &Workloads,
    ) -> Selected {
        let group = &mut self.groups[id.0];
        // To most it is the same: to those that are not in it, and to those that count as others do.
        let asking = asking.filter(|Asking { pod, counts }| {
            let workload = workloads.replica(*pod).workload;
            group.workloads.contains(&workload) && (!counts || workloads.workload(workload).traits.host_network)
        });
        // Without names, ports are the same numbers on every pod.
        let named = ports.filter(|ports| ports.iter().any(|port| matches!(port.port, Some(IntOrString::String(_)))));
        let told = group.told(asking, named, workloads);
        let hosts = match ports {
            Some(ports) if named.is_none() => {
                let ports = resolve_ports(ports, &[]);
                let hosts = told.hosts.into_values().filter(|_| !ports.is_empty());
                hosts.map(|hosts| (ports.clone(), hosts)).collect()
            }
            _ => told.hosts,
        };
        Selected { hosts, shared: told.shared, group: Some(id) }
    }

    /// Puts a new workload into the groups that name it.
    pub fn add(&mut self, workload: WorkloadId, traits: &Traits, namespace: &Labels) {
        let near = self.by_namespace.get(&*traits.namespace).into_iter().flatten();
        let selecting: BTreeSet<GroupId> = near
            .chain(&self.of_many_namespaces)
            .copied()
            .filter(|id| self.groups[id.0].selector.selects(traits, namespace))
            .collect();
        for id in &selecting {
            self.groups[id.0].workloads.insert(workload);
        }
        if !selecting.is_empty() {
            self.by_workload.insert(workload, selecting);
        }
    }

    /// Takes a workload out of its groups.
    pub fn remove(&mut self, workload: WorkloadId) {
        for id in self.by_workload.remove(&workload).into_iter().flatten() {
            self.groups[id.0].workloads.remove(&workload);
        }
    }

    /// Finds out anew which groups a workload is in, because its namespace's labels have changed; says which it has come
    /// into or left.
    pub fn revise(&mut self, workload: WorkloadId, traits: &Traits, namespace: &Labels) -> BTreeSet<GroupId> {
        let before = self.of_workload(workload);
        self.remove(workload);
        self.add(workload, traits, namespace);
        before.symmetric_difference(&self.of_workload(workload)).copied().collect()
    }

    /// The groups of a workload.
    pub fn of_workload(&self, workload: WorkloadId) -> BTreeSet<GroupId> {
        self.by_workload.get(&workload).cloned().unwrap_or_default()
    }

    /// Forgets what was told of a group: something in it has changed.
    pub fn changed(&mut self, id: GroupId) {
        self.groups[id.0].told.clear();
    }

    /// The subjects that have asked for a group.
    pub fn readers(&self, id: GroupId) -> &BTreeSet<SubjectId> {
        &self.groups[id.0].readers
    }

    /// A subject has asked for these groups, and no longer for those.
    pub fn read(&mut self, subject: SubjectId, now: &BTreeSet<GroupId>, before: &BTreeSet<GroupId>) {
        for id in now {
            self.groups[id.0].readers.insert(subject);
        }
        for id in before.difference(now) {
            self.groups[id.0].readers.remove(&subject);
            if self.groups[id.0].readers.is_empty() {
                self.drop_group(*id);
            }
        }
    }

    fn drop_group(&mut self, id: GroupId) {
        let group = self.groups.remove(id.0);
        self.by_selector.remove(&group.selector);
        for workload in group.workloads {
            if let Some(groups) = self.by_workload.get_mut(&workload) {
                groups.remove(&id);
                if groups.is_empty() {
                    self.by_workload.remove(&workload);
                }
            }
        }
        self.of_many_namespaces.remove(&id);
        if let Scope::One(name) = &group.selector.namespaces
            && let Some(groups) = self.by_namespace.get_mut(name)
        {
            groups.remove(&id);
            if groups.is_empty() {
                self.by_namespace.remove(name);
            }
        }
    }
}

impl Group {
    fn told(&mut self, asking: Option<Asking>, ports: Option<&[PolicyPort]>, workloads: &Workloads) -> Selected {
        let known = self.told.get(&asking).into_iter().flatten();
        if let Some((_, told)) = known.into_iter().find(|(known, _)| known.as_deref() == ports) {
            return told.clone();
        }
        let told = match asking {
            None => self.select(ports, workloads),
            Some(asking) => {
                let all = self.told(None, ports, workloads);
                self.select_for(asking, all, ports, workloads)
            }
        };
        self.told.entry(asking).or_default().push((ports.map(<[_]>::to_vec), told.clone()));
        told
    }

    fn select(&self, ports: Option<&[PolicyPort]>, workloads: &Workloads) -> Selected {
        let mut hosts: BTreeMap<Ports, Vec<IpAddr>> = BTreeMap::new();
        let mut shared = false;
        for id in &self.workloads {
            let workload = workloads.workload(*id);
            if workload.traits.host_network {
                shared |= !workload.pods.is_empty();
                continue;
            }
            let ports = ports_of(ports, &workload.traits);
            if !ports.is_empty() {
                let addresses = workload.pods.iter().flat_map(|pod| workloads.replica(*pod).addresses.iter());
                hosts.entry(ports).or_default().extend(addresses);
            }
        }
        let hosts = hosts.into_iter().filter(|(_, addresses)| !addresses.is_empty());
        let hosts = hosts.map(|(ports, addresses)| (ports, Arc::new(addresses.into_iter().collect())));
        Selected { hosts: hosts.collect(), shared, group: None }
    }

    /// The same for one of its pods: without that pod, or with it although it seems to share its node's network.
    fn select_for(
        &self,
        Asking { pod, counts }: Asking,
        all: Selected,
        ports: Option<&[PolicyPort]>,
        workloads: &Workloads,
    ) -> Selected {
        let replica = workloads.replica(pod);
        let traits = &workloads.workload(replica.workload).traits;
        let Selected { mut hosts, mut shared, .. } = all;
        let meant = ports_of(ports, traits);
        if traits.host_network {
            shared = self
                .workloads
                .iter()
                .map(|id| workloads.workload(*id))
                .any(|workload| workload.traits.host_network && workload.pods.iter().any(|other| *other != pod));
            if counts && !meant.is_empty() && !replica.addresses.is_empty() {
                Arc::make_mut(hosts.entry(meant).or_default()).extend(&replica.addresses);
            }
            return Selected { hosts, shared, group: None };
        }
        // Its address may be another's too, where that one came before this one was seen to go.
        let by_another = |address: &IpAddr| {
            let others = workloads.bearers(*address).iter().filter(|other| **other != pod);
            others.map(|other| workloads.replica(*other).workload).any(|id| {
                let traits = &workloads.workload(id).traits;
                self.workloads.contains(&id) && !traits.host_network && ports_of(ports, traits) == meant
            })
        };
        let own: Vec<IpAddr> = replica.addresses.iter().filter(|address| !by_another(address)).copied().collect();
        take_out(&mut hosts, &meant, &own);
        Selected { hosts, shared, group: None }
    }
}

fn take_out(hosts: &mut HostsByPorts, ports: &Ports, taken: &[IpAddr]) {
    let Some(addresses) = hosts.get_mut(ports) else { return };
    if taken.is_empty() {
        return;
    }
    let left: BTreeSet<IpAddr> = addresses.iter().filter(|address| !taken.contains(address)).copied().collect();
    if left.is_empty() {
        hosts.remove(ports);
    } else {
        *addresses = Arc::new(left);
    }
}

fn ports_of(ports: Option<&[PolicyPort]>, traits: &Traits) -> Ports {
    ports.map_or_else(Ports::all, |ports| resolve_ports(ports, &traits.ports))
}
