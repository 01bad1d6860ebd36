//! The one place where everything comes together: what the cluster says, what runs on the node, and what stands in the kernel.
//!
//! One task, which decides and waits for nothing: whatever blocks is done elsewhere, before (looking at a namespace) or after
//! (loading rules), and comes as a [`Message`]. Planning a pod's rules is pure and takes milliseconds; between two pods whoever
//! is in a hurry gets his turn.
//!
//! Nothing in the kernel is replaced before every watched kind has been listed. Until then only guards are put where nothing
//! stands, and who asks whether a pod may start waits, or is told that it is not known.

mod attach;
mod inventory;
mod report;
mod round;
mod start;
mod steps;

use crate::config::Config;
use crate::flows::Flows;
use crate::foreign::Owners;
use crate::found::Message;
use crate::known::Known;
use crate::memory::{Memory, Remembered};
use crate::metrics::Metrics;
use crate::pod::{NodeFacts, Pod};
use crate::standing::Standings;
use crate::waiter::Outcome;
use crate::watching::Watcher;
use crate::work::{Tools, Workers};
use round::Round;
use sidewall_cluster::enforcement::EnforcementWriter;
use sidewall_cluster::events::EventWriter;
use sidewall_cluster::{Batch, Health, LocalChange, Watch};
use sidewall_netns::Cgroups;
use sidewall_policy::index::{Change, Named, SubjectId, Walls};
use sidewall_policy::world::{Network, World};
use sidewall_runtime_ids::SandboxId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

/// How many things are done at once in pods' namespaces. More would not be faster, and who is in a hurry would wait longer.
const AT_ONCE: usize = 8;

/// How long pods of an unsynced agent wait for NRI to say whether it is there.
const NRI_WITHIN: Duration = Duration::from_secs(2);

/// How long pods of an agent that has just begun wait for the runtime to say what it has. Until then a container that happens to
/// start would be the only one known of its pod, and the others would lose what they have.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

/// How often what waits is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often all is looked at where nothing waits.
const DOZE: Duration = Duration::from_millis(500);

/// What the agent knows, and what it does about it.
#[derive(Debug)]
pub struct Brain {
    config: Arc<Config>,
    node: NodeFacts,
    cgroups: Option<Cgroups>,
    walls: Walls,
    pods: BTreeMap<Named, Pod>,
    by_subject: BTreeMap<SubjectId, Named>,
    by_sandbox: BTreeMap<SandboxId, Named>,
    /// Pods for whose rules somebody waits.
    awaited: BTreeSet<Named>,
    /// What an earlier run of the agent did, of pods that have not been found yet.
    remembered: BTreeMap<String, Remembered>,
    synced: bool,
    /// When NRI is not waited for any longer.
    nri_until: Instant,
    /// Whether the runtime has said what it has.
    listed: bool,
    /// When that is not waited for any longer.
    listed_until: Instant,
    under_way: usize,
    sources: BTreeSet<std::net::IpAddr>,
    network: Network,
    memory: Arc<Memory>,
    known: Known,
    flows: Arc<Flows>,
    watcher: Watcher,
    workers: Workers,
    writer: EnforcementWriter,
    events: EventWriter,
    metrics: Arc<Metrics>,
    standings: Standings,
    ready: watch::Sender<Ready>,
    health: watch::Receiver<Health>,
    /// Since when news are old, as was told last.
    told_stale: Option<SystemTime>,
    changed: Changed,
    next_status: Instant,
    next_names: Instant,
    round: Round<SandboxId>,
}

/// What the brain stands on.
#[derive(Debug)]
pub struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// What holds for every pod of the node.
    pub node: NodeFacts,
    /// The cgroup tree.
    pub cgroups: Option<Cgroups>,
    /// What is remembered of pods.
    pub memory: Arc<Memory>,
    /// What is known, for who lists what the runtime has.
    pub known: Known,
    /// Reads the flows.
    pub flows: Arc<Flows>,
    /// Notices changes.
    pub watcher: Watcher,
    /// What an earlier run remembered.
    pub remembered: Vec<Remembered>,
    /// Writes this node's object.
    pub writer: EnforcementWriter,
    /// Writes events.
    pub events: EventWriter,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Leaves the state for the CNI plugin.
    pub standings: Standings,
    /// Says how ready the agent is.
    pub ready: watch::Sender<Ready>,
    /// How well the watches go.
    pub health: watch::Receiver<Health>,
}

/// How ready the agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Every watched kind has been listed.
    pub synced: bool,
    /// The runtime has said what it has.
    pub listed: bool,
    /// Pods whose rules are still to be put in force for the first time.
    pub unsettled: usize,
    /// All that was there at the start has its rules: from then on the agent is ready, whatever comes.
    pub settled: bool,
}

/// What is to be told again.
#[derive(Debug, Default)]
struct Changed {
    status: bool,
    standings: bool,
    names: bool,
}

impl Brain {
    /// A brain that knows nothing yet.
    pub fn new(parts: Parts, to: mpsc::UnboundedSender<Message>) -> Self {
        let Parts {
            config,
            node,
            cgroups,
            memory,
            known,
            flows,
            watcher,
            remembered,
            writer,
            events,
            metrics,
            standings,
            ready,
            health,
        } = parts;
        let network = config.network();
        let owners = Owners::new(cgroups.clone(), &config.paths.pod_cgroups);
        let tools = Tools { memory: Arc::clone(&memory), flows: Arc::clone(&flows), owners };
        let now = Instant::now();
        Self {
            workers: Workers::new(Arc::new(tools), to),
            nri_until: if config.paths.nri.is_some() { now + NRI_WITHIN } else { now },
            listed_until: now + LISTED_WITHIN,
            round: Round::new(now),
            walls: Walls::new(World { network: network.clone(), ..World::default() }),
            pods: BTreeMap::new(),
            by_subject: BTreeMap::new(),
            by_sandbox: BTreeMap::new(),
            awaited: BTreeSet::new(),
            remembered: remembered.into_iter().map(|pod| (pod.sandbox.clone(), pod)).collect(),
            synced: false,
            listed: false,
            under_way: 0,
            sources: BTreeSet::new(),
            changed: Changed { status: true, standings: true, names: true },
            config,
            node,
            cgroups,
            network,
            memory,
            known,
            flows,
            watcher,
            writer,
            events,
            metrics,
            standings,
            ready,
            health,
            told_stale: None,
            next_status: now,
            next_names: now,
        }
    }

    /// Thinks until `stop` is ready or nobody tells it anything any more.
    pub async fn run(
        mut self,
        mut watch: Watch,
        mut messages: mpsc::UnboundedReceiver<Message>,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let next = self.next();
            let idle = next.is_none();
            let doze = Instant::now() + if self.is_restless() { TICK } else { DOZE };
            tokio::select! {
                biased;
                () = &mut stop => return,
                message = messages.recv() => match message {
                    Some(message) => self.hear(message),
                    None => return,
                },
                batch = watch.next() => match batch {
                    Some(batch) => self.learn(batch),
                    None => return,
                },
                () = sleep_until(doze.into()), if idle => {}
                Some(name) = std::future::ready(next) => self.plan(&name),
            }
            self.tell_network(&mut watch);
            if idle {
                self.look_after();
            }
        }
    }

    /// Whether something waits that time alone will move.
    fn is_restless(&self) -> bool {
        !self.awaited.is_empty() || self.changed.status || self.changed.standings || !self.ready.borrow().settled
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Attach(found, reply) => self.attach(found, reply),
            Message::Detach(detachment) => self.detach(&detachment),
            Message::Gc(valid) => self.collect(&valid),
            Message::Status(reply) => self.status(reply),
            Message::Sandbox(found) => self.sandbox(found, false),
            Message::SandboxGone(id) => self.forget_sandbox(&id),
            Message::Start(found, container, reply) => self.start(found, container, reply),
            Message::ContainerGone(sandbox, container) => self.forget_container(&sandbox, &container),
            Message::Inventory(inventory) => self.take_stock(inventory),
            Message::Nri => self.nri(),
            Message::Done(done) => self.done(*done),
            Message::Stirred { sandbox, devices } => self.inspect(&sandbox, devices),
        }
    }

    /// What has become otherwise in the cluster.
    fn learn(&mut self, batch: Batch) {
        self.metrics.batches.inc();
        for change in batch.changes {
            self.changed.standings |= matters_to_namespaces(&change);
            self.changed.status |= matters_to_status(&change);
            self.changed.names |= matters_to_names(&change);
            self.walls.apply(change);
        }
        for change in batch.local {
            match change {
                LocalChange::Put(pod) => {
                    let name = Named::new(&pod.namespace, &pod.name);
                    self.pods.entry(name.clone()).or_default().api = Some(*pod);
                    self.refresh(&name);
                }
                LocalChange::Gone { name, uid } => {
                    let pod = self.pods.get_mut(&name);
                    if let Some(pod) = pod.filter(|pod| pod.api.as_ref().is_some_and(|api| api.uid == uid)) {
                        // What still runs of it keeps the rules that it has: they go with its namespace.
                        pod.api = None;
                        self.refresh(&name);
                    }
                }
            }
        }
        if batch.synced && !self.synced {
            self.synced = true;
            self.changed = Changed { status: true, standings: true, names: true };
            tracing::info!(pods = self.pods.len(), "every kind has been listed: policies are enforced from now on");
        }
    }

    fn nri(&mut self) {
        self.nri_until = Instant::now();
        if !std::mem::replace(&mut self.node.nri, true) {
            let names: Vec<Named> = self.pods.keys().cloned().collect();
            for name in names {
                self.refresh(&name);
            }
        }
    }

    /// Brings a pod's place in the index up to what is known of it.
    fn refresh(&mut self, name: &Named) {
        self.changed.status = true;
        let exempt = self.is_exempt(&name.namespace);
        let Some(pod) = self.pods.get_mut(name) else { return };
        match pod.subject(&self.node, exempt) {
            Some(subject) => {
                self.walls.apply(Change::Subject(subject));
                if let Some(id) = self.walls.index().find(name)
                    && pod.subject != Some(id)
                {
                    // A guard stands there, or rules of an earlier run: they are replaced, or taken away.
                    if pod.walled {
                        self.walls.lost(id);
                    }
                    pod.subject = Some(id);
                    self.by_subject.insert(id, name.clone());
                }
            }
            None => {
                if let Some(id) = pod.subject.take() {
                    self.by_subject.remove(&id);
                    self.walls.apply(Change::SubjectGone(name.clone()));
                }
            }
        }
        if pod.is_nothing() {
            self.pods.remove(name);
        }
    }

    fn is_exempt(&self, namespace: &str) -> bool {
        self.config.exempt_namespaces.0.iter().any(|exempt| exempt.as_str() == namespace)
    }

    /// The node's own addresses toward its pods are part of the network.
    fn tell_network(&mut self, watch: &mut Watch) {
        if self.network.this_node != self.sources {
            self.network.this_node.clone_from(&self.sources);
            watch.set_network(self.network.clone());
        }
    }

    /// What time brings about.
    fn look_after(&mut self) {
        let now = Instant::now();
        self.look_after_waiters(now);
        for sandbox in self.round.due(now, self.config.timing.check(), &self.by_sandbox) {
            self.inspect(&sandbox, true);
        }
        self.tell(now);
    }

    fn answer(&mut self, name: &Named, outcome: &Outcome) {
        self.awaited.remove(name);
        if let Some(pod) = self.pods.get_mut(name) {
            for waiter in pod.take_waiters() {
                waiter.tell(outcome.clone());
            }
            if pod.is_nothing() {
                self.pods.remove(name);
            }
        }
    }
}

/// Whether namespaces may be selected otherwise now.
const fn matters_to_namespaces(change: &Change) -> bool {
    matches!(
        change,
        Change::Namespace(..)
            | Change::NamespaceGone(_)
            | Change::Policy(_)
            | Change::NetworkPolicy(_)
            | Change::MultiNetworkPolicy(_)
            | Change::Proxy(_)
            | Change::PolicyGone(..)
            | Change::Unreadable(_)
    )
}

/// Whether addresses may have other names now.
const fn matters_to_names(change: &Change) -> bool {
    matches!(
        change,
        Change::Pod(_) | Change::PodGone(_) | Change::Service(_) | Change::ServiceGone(_) | Change::Network(_)
    )
}

/// Whether it is to be told of even where no pod's rules become others.
const fn matters_to_status(change: &Change) -> bool {
    matches!(
        change,
        Change::Policy(_)
            | Change::NetworkPolicy(_)
            | Change::MultiNetworkPolicy(_)
            | Change::Proxy(_)
            | Change::PolicyGone(..)
            | Change::Unreadable(_)
    )
}
