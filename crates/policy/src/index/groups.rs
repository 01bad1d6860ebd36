//! Groups: the pods that a selector names, kept once for every rule and every subject that names the same.

use super::SubjectId;
use super::lookup::{HostsByPorts, PodQuery, Selected, Within};
use super::namespaces::Namespaces;
use super::terms::{ByTerm, Term, ways};
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

/// What a pod brings to the groups that it is in: its addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Brings<'a> {
    pub traits: &'a Traits,
    pub addresses: &'a BTreeSet<IpAddr>,
}

#[derive(Debug)]
struct Group {
    selector: Arc<Selector>,
    /// By which terms it is found; none where it is looked at for every workload.
    terms: Option<Box<[Term]>>,
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
    by_namespace: BTreeMap<String, Waiting>,
    of_many_namespaces: Waiting,
}

/// Groups that wait for new workloads.
#[derive(Debug, Default)]
struct Waiting {
    by_term: ByTerm<GroupId>,
    /// Those that no label is asked for by.
    others: BTreeSet<GroupId>,
}

impl Waiting {
    /// Adds a group; says by which terms it is found from now on.
    fn insert(&mut self, id: GroupId, selector: Option<&LabelSelector>) -> Option<Box<[Term]>> {
        // Where many groups ask for the same label, another one tells them apart.
        let terms = self.by_term.narrowest(selector.map(ways).unwrap_or_default());
        match &terms {
            Some(terms) => terms.iter().for_each(|term| self.by_term.insert(*term, id)),
            None => drop(self.others.insert(id)),
        }
        terms
    }

    fn remove(&mut self, id: GroupId, terms: Option<&[Term]>) {
        match terms {
            Some(terms) => terms.iter().for_each(|term| self.by_term.remove(*term, id)),
            None => drop(self.others.remove(&id)),
        }
    }

    /// At least the groups that have pods of such labels.
    fn near<'a>(&'a self, labels: &'a [Term]) -> impl Iterator<Item = GroupId> + 'a {
        labels.iter().flat_map(|term| self.by_term.of(*term)).chain(self.others.iter().copied())
    }

    fn is_empty(&self) -> bool {
        self.by_term.is_empty() && self.others.is_empty()
    }
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
        let within = |namespace: &str| -> Vec<WorkloadId> {
            let near = workloads.near(namespace, selector.pods.as_ref());
            near.into_iter().filter(|id| selector.selects_pods(&workloads.workload(*id).traits)).collect()
        };
        let found: BTreeSet<WorkloadId> = match &selector.namespaces {
            Scope::One(name) => within(name).into_iter().collect(),
            Scope::Labelled(wanted) => {
                let all = workloads.namespaces().filter(|name| wanted.matches(&namespaces.labels(name)));
                all.flat_map(within).collect()
            }
        };
        let selector = Arc::new(selector);
        let id = GroupId(self.groups.vacant_key());
        for workload in &found {
            self.by_workload.entry(*workload).or_default().insert(id);
        }
        let waiting = match &selector.namespaces {
            Scope::One(name) => self.by_namespace.entry(name.clone()).or_default(),
            Scope::Labelled(_) => &mut self.of_many_namespaces,
        };
        let terms = waiting.insert(id, selector.pods.as_ref());
        self.by_selector.insert(selector.clone(), id);
        self.groups.insert(Group {
            selector,
            terms,
            workloads: found,
            told: BTreeMap::new(),
            readers: BTreeSet::new(),
        });
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
        let terms: Vec<Term> = traits.labels.iter().map(|(key, value)| Term::of(key, value)).collect();
        let here = self.by_namespace.get(&*traits.namespace).into_iter();
        let near = here.chain([&self.of_many_namespaces]).flat_map(|waiting| waiting.near(&terms));
        let selecting: BTreeSet<GroupId> =
            near.filter(|id| self.groups[id.0].selector.selects(traits, namespace)).collect();
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

    /// A pod of a group is otherwise: what it brought to it, and what it brings now. `workloads` know it as it is now.
    pub fn follow(&mut self, id: GroupId, before: Option<Brings<'_>>, now: Option<Brings<'_>>, workloads: &Workloads) {
        self.groups[id.0].follow(before, now, workloads);
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
        match &group.selector.namespaces {
            Scope::Labelled(_) => self.of_many_namespaces.remove(id, group.terms.as_deref()),
            Scope::One(name) => {
                if let Some(waiting) = self.by_namespace.get_mut(name) {
                    waiting.remove(id, group.terms.as_deref());
                    if waiting.is_empty() {
                        self.by_namespace.remove(name);
                    }
                }
            }
        }
    }
}

impl Group {
    /// Brings what was told up to date: of thousands of addresses, one comes or goes. What was told to pods of the group is
    /// made of that when they ask again.
    fn follow(&mut self, before: Option<Brings<'_>>, now: Option<Brings<'_>>, workloads: &Workloads) {
        if [before, now].into_iter().flatten().any(|brings| brings.traits.host_network) {
            // It is not told by its address.
            self.told.clear();
            return;
        }
        let mut told = self.told.remove(&None).unwrap_or_default();
        for (ports, Selected { hosts, .. }) in &mut told {
            let ports = ports.as_deref();
            if let Some(Brings { traits, addresses }) = before {
                let meant = ports_of(ports, traits);
                let gone = addresses.iter().filter(|address| !self.has(**address, ports, &meant, None, workloads));
                take_out(hosts, &meant, &gone.copied().collect::<Vec<_>>());
            }
            if let Some(Brings { traits, addresses }) = now.filter(|now| !now.addresses.is_empty()) {
                let meant = ports_of(ports, traits);
                if !meant.is_empty() {
                    Arc::make_mut(hosts.entry(meant).or_default()).extend(addresses);
                }
            }
        }
        self.told = BTreeMap::from([(None, told)]);
    }

    /// Whether an address is one of the group's at these ports, where they are `meant`; but for a pod.
    fn has(
        &self,
        address: IpAddr,
        ports: Option<&[PolicyPort]>,
        meant: &Ports,
        but: Option<PodId>,
        workloads: &Workloads,
    ) -> bool {
        let bearers = workloads.bearers(address).iter().filter(|bearer| Some(**bearer) != but);
        bearers.map(|bearer| workloads.replica(*bearer).workload).any(|id| {
            let traits = &workloads.workload(id).traits;
            self.workloads.contains(&id) && !traits.host_network && ports_of(ports, traits) == *meant
        })
    }

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
        let by_another = |address: &IpAddr| self.has(*address, ports, &meant, Some(pod), workloads);
        let own: Vec<IpAddr> = replica.addresses.iter().filter(|address| !by_another(address)).copied().collect();
        take_out(&mut hosts, &meant, &own);
        Selected { hosts, shared, group: None }
    }
}

fn take_out(hosts: &mut HostsByPorts, ports: &Ports, taken: &[IpAddr]) {
    let Some(addresses) = hosts.get_mut(ports) else { return };
    if !taken.iter().any(|address| addresses.contains(address)) {
        return;
    }
    let left = Arc::make_mut(addresses);
    for address in taken {
        left.remove(address);
    }
    if left.is_empty() {
        hosts.remove(ports);
    }
}

fn ports_of(ports: Option<&[PolicyPort]>, traits: &Traits) -> Ports {
    ports.map_or_else(Ports::all, |ports| resolve_ports(ports, &traits.ports))
}
