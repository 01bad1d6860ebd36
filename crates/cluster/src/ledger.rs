//! From what feeds see to changes: the little that must be remembered for it.
//!
//! Of most objects that is their name and a fingerprint of what was made of them: the name to find out after a list what
//! has gone, the fingerprint to leave out what only looks new (heartbeats, statuses). Services are kept with what stands
//! behind them, because either makes a change of the whole; so are the ranges and addresses of the network, and the policies
//! that can't be understood.

mod known;
mod network;
mod services;
#[cfg(test)]
mod tests;

use crate::item::{Event, Item};
use crate::kind::Kind;
use crate::local::LocalPod;
use known::{Known, Printer};
use network::Places;
use services::Services;
use sidewall_policy::index::{Change, Named};
use sidewall_policy::model::PolicyKind;
use sidewall_policy::world::{Network, Unreadable};
use std::collections::{BTreeMap, BTreeSet};

/// What has become otherwise since the last batch.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Changes for the policy index, in an order in which no moment allows more than before and after it.
    pub changes: Vec<Change>,
    /// Pods of this node.
    pub local: Vec<LocalChange>,
    /// Whether every watched kind has been listed to its end at least once. Until then the index knows too little, and
    /// nothing in the kernel may be replaced by what it says.
    pub synced: bool,
}

/// A pod of this node that came, changed or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalChange {
    /// It is there, and is so.
    Put(Box<LocalPod>),
    /// It is no more.
    Gone {
        /// Its namespace and name. Another pod may have taken them: then its own [`LocalChange::Put`] follows.
        name: Named,
        /// The identity that the API server gave it.
        uid: String,
    },
}

/// What must be remembered to turn events into changes.
#[derive(Debug)]
pub(crate) struct Ledger {
    wanted: BTreeSet<Kind>,
    listed: BTreeSet<Kind>,
    known: BTreeMap<Kind, Known>,
    printer: Printer,
    services: Services,
    places: Places,
    unreadable: BTreeMap<(PolicyKind, Named), Unreadable>,
    local: BTreeMap<Named, Local>,
    pending: Pending,
    told_synced: bool,
}

#[derive(Debug)]
struct Local {
    uid: String,
    print: u64,
}

/// What is to be told with the next batch; of each object only its last state.
#[derive(Debug, Default)]
struct Pending {
    objects: BTreeMap<(Kind, Named), Option<Change>>,
    unreadable: bool,
    local: Vec<LocalChange>,
}

impl Ledger {
    /// A ledger of these kinds. `base` is what is known of the network without asking.
    pub fn new(wanted: BTreeSet<Kind>, base: Network) -> Self {
        Self {
            wanted,
            listed: BTreeSet::new(),
            known: BTreeMap::new(),
            printer: Printer::default(),
            services: Services::default(),
            places: Places::new(base),
            unreadable: BTreeMap::new(),
            local: BTreeMap::new(),
            pending: Pending::default(),
            told_synced: false,
        }
    }

    /// Whether every kind has been listed.
    pub fn synced(&self) -> bool {
        self.listed.is_superset(&self.wanted)
    }

    /// What is known of the network without asking has changed.
    pub fn set_base(&mut self, base: Network) {
        self.places.set_base(base);
    }

    /// Takes note of an event.
    pub fn note(&mut self, event: Event) {
        match event {
            Event::Begin(kind) => self.known.entry(kind).or_default().begin(),
            Event::Put(kind, name, item) => self.put(kind, name, item),
            Event::Gone(kind, name) => {
                if self.known.entry(kind).or_default().remove(&name) {
                    self.gone(kind, name);
                }
            }
            Event::Listed(kind) => {
                for name in self.known.entry(kind).or_default().unseen() {
                    self.gone(kind, name);
                }
                self.listed.insert(kind);
            }
            Event::Absent(kind) => {
                self.listed.insert(kind);
            }
        }
    }

    /// What has become otherwise since the last call; none where nothing has.
    pub fn batch(&mut self) -> Option<Batch> {
        for (name, service) in self.services.flush(&self.printer) {
            self.pending.objects.insert((Kind::Service, name), service.map(Change::Service));
        }
        let Pending { objects, unreadable, local } = std::mem::take(&mut self.pending);
        let mut changes = Vec::with_capacity(objects.len() + 2);
        changes.extend(self.places.flush().map(Change::Network));
        let mut gone = Vec::new();
        // What is put comes first: nothing that isolates goes before what takes its place has come.
        for ((kind, name), change) in objects {
            match change {
                Some(change) => changes.push(change),
                None => gone.push(farewell(kind, name)),
            }
        }
        if unreadable {
            changes.push(Change::Unreadable(self.unreadable.values().cloned().collect()));
        }
        changes.extend(gone.into_iter().flatten());
        let synced = self.synced();
        let news = synced != self.told_synced;
        self.told_synced = synced;
        (news || !changes.is_empty() || !local.is_empty()).then_some(Batch { changes, local, synced })
    }

    fn put(&mut self, kind: Kind, name: Named, item: Item) {
        let print = match &item {
            // Services find out for themselves, from the whole.
            Item::Service(_) | Item::Slice(_) | Item::Cidr(_) | Item::Node(_) => 0,
            Item::Pod(pod, _) => self.printer.of(pod),
            Item::Namespace(labels) => self.printer.of(labels),
            Item::Container(policy) => self.printer.of(policy),
            Item::Proxy(proxy) => self.printer.of(proxy),
            Item::Network(policy) => self.printer.of(policy),
            Item::Multi(policy) => self.printer.of(policy),
            Item::Unreadable(policy) => self.printer.of(policy),
        };
        let same = self.known.entry(kind).or_default().put(&name, print) == Some(print);
        match item {
            Item::Pod(pod, local) => {
                self.put_local(&name, local);
                if !same {
                    self.pending.objects.insert((kind, name), Some(Change::Pod(*pod)));
                }
            }
            Item::Namespace(labels) if !same => {
                let change = Change::Namespace(name.name.clone(), labels);
                self.pending.objects.insert((kind, name), Some(change));
            }
            Item::Service(service) => self.services.put(name, service),
            Item::Slice(slice) => self.services.put_slice(name, slice),
            Item::Cidr(ranges) => self.places.put_ranges(name, ranges),
            Item::Node(facts) => self.places.put_node(name, facts),
            Item::Container(policy) if !same => self.put_policy(kind, name, Change::Policy(policy)),
            Item::Proxy(proxy) if !same => self.put_policy(kind, name, Change::Proxy(proxy)),
            Item::Network(policy) if !same => self.put_policy(kind, name, Change::NetworkPolicy(policy)),
            Item::Multi(policy) if !same => self.put_policy(kind, name, Change::MultiNetworkPolicy(policy)),
            Item::Unreadable(policy) if !same => {
                self.unreadable.insert((policy.kind, name.clone()), *policy);
                self.pending.unreadable = true;
                // What it said before holds no longer, neither what it isolated nor what it allowed.
                self.pending.objects.insert((kind, name), None);
            }
            _ => {}
        }
    }

    fn put_policy(&mut self, kind: Kind, name: Named, change: Change) {
        self.understood(kind, &name);
        self.pending.objects.insert((kind, name), Some(change));
    }

    fn put_local(&mut self, name: &Named, pod: Option<Box<LocalPod>>) {
        let Some(pod) = pod else { return self.local_gone(name) };
        let print = self.printer.of(&pod);
        let before = self.local.insert(name.clone(), Local { uid: pod.uid.clone(), print });
        match before {
            Some(before) if before.print == print => return,
            Some(before) if before.uid != pod.uid => {
                self.pending.local.push(LocalChange::Gone { name: name.clone(), uid: before.uid });
            }
            _ => {}
        }
        self.pending.local.push(LocalChange::Put(pod));
    }

    fn local_gone(&mut self, name: &Named) {
        if let Some(Local { uid, .. }) = self.local.remove(name) {
            self.pending.local.push(LocalChange::Gone { name: name.clone(), uid });
        }
    }

    fn gone(&mut self, kind: Kind, name: Named) {
        match kind {
            Kind::Service => return self.services.remove(name),
            Kind::EndpointSlice => return self.services.remove_slice(&name),
            Kind::ServiceCidr => return self.places.remove_ranges(&name),
            Kind::Node => return self.places.remove_node(&name),
            Kind::Pod => self.local_gone(&name),
            _ => self.understood(kind, &name),
        }
        self.pending.objects.insert((kind, name), None);
    }

    /// A policy can be understood, or is no more.
    fn understood(&mut self, kind: Kind, name: &Named) {
        if let Some(kind) = policy_kind(kind)
            && self.unreadable.remove(&(kind, name.clone())).is_some()
        {
            self.pending.unreadable = true;
        }
    }
}

fn policy_kind(kind: Kind) -> Option<PolicyKind> {
    match kind {
        Kind::ContainerNetworkPolicy => Some(PolicyKind::ContainerNetworkPolicy),
        Kind::SidecarProxy => Some(PolicyKind::SidecarProxy),
        Kind::NetworkPolicy => Some(PolicyKind::NetworkPolicy),
        Kind::MultiNetworkPolicy => Some(PolicyKind::MultiNetworkPolicy),
        _ => None,
    }
}

/// The change that says that an object is no more.
fn farewell(kind: Kind, name: Named) -> Option<Change> {
    match kind {
        Kind::Pod => Some(Change::PodGone(name)),
        Kind::Namespace => Some(Change::NamespaceGone(name.name)),
        Kind::Service => Some(Change::ServiceGone(name)),
        _ => policy_kind(kind).map(|kind| Change::PolicyGone(kind, name)),
    }
}
