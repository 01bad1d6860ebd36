//! Keeping up with a cluster.

use crate::feed::Feed;
use crate::item::{Event, Watched};
use crate::kind::{Kind, Kinds, Reading};
use crate::ledger::{Batch, Ledger};
use crate::trouble::{Failure, Trouble};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use serde_json::Value;
use sidewall_policy::world::Network;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The most events that wait to be made changes of. A feed that is faster waits.
const QUEUE: usize = 1024;

/// The most events that one batch is made of.
const BATCH: usize = 4096;

/// What is watched.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The node whose pods are told in more detail.
    pub node: Option<String>,
    /// The kinds.
    pub kinds: Kinds,
    /// What is known of the network without asking: configured ranges, this node's own addresses, where DNS is. What the
    /// API server says is added.
    pub network: Network,
    /// How long things may take.
    pub timing: Timing,
}

/// How long things may take, and how much is asked at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The most objects of one page of a list.
    pub page: u32,
    /// The longest that one answer is waited for, or the beginning of a watch.
    pub request: Duration,
    /// How long a watch may be silent. The API server sends a bookmark every minute; after a silence longer than this the
    /// connection counts as dead and another watch goes on from where it was.
    pub idle: Duration,
    /// When the API server shall end a watch, in seconds. It goes on at once with another.
    pub watch_seconds: u32,
    /// The wait after a first failure. It doubles with each.
    pub first_pause: Duration,
    /// The longest wait after a failure.
    pub longest_pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            page: 500,
            request: crate::request::LONGEST,
            idle: Duration::from_secs(75),
            watch_seconds: 240,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// How well the watch of each kind goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Every kind that is watched.
    pub kinds: BTreeMap<Kind, KindHealth>,
}

/// How well the watch of a kind goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindHealth {
    /// Whether it has been listed to its end, or was found not to be served where it need not be.
    pub listed: bool,
    /// Why no news come; none while they do.
    pub trouble: Option<Trouble>,
}

impl Health {
    /// Kinds of which no news come, or never came.
    pub fn troubled(&self) -> impl Iterator<Item = (Kind, &Trouble)> {
        self.kinds.iter().filter_map(|(kind, health)| Some((*kind, health.trouble.as_ref()?)))
    }

    /// Since when the oldest of what is acted on is old; none while all news come.
    pub fn stale_since(&self) -> Option<SystemTime> {
        self.troubled().map(|(_, trouble)| trouble.since).min()
    }
}

/// Keeps up with a cluster: lists and watches run until this is dropped.
#[derive(Debug)]
pub struct Watch {
    events: mpsc::Receiver<Event>,
    ledger: Ledger,
    health: watch::Receiver<Health>,
    /// Ended with this.
    _feeds: JoinSet<()>,
}

impl Watch {
    /// Begins to watch. Must be called inside a Tokio runtime.
    pub fn start(client: &Client, options: Options) -> Self {
        let Options { node, kinds, network, timing } = options;
        let all = kinds.all();
        let health = Health { kinds: all.iter().map(|kind| (*kind, KindHealth::default())).collect() };
        let (reporter, health) = watch::channel(health);
        let reporter = Reporter(Arc::new(reporter));
        let (to, events) = mpsc::channel(QUEUE);
        let mut feeds = JoinSet::new();
        let node: Option<Arc<str>> = node.map(Into::into);
        for kind in &all {
            let start = Start {
                client,
                kind: *kind,
                reading: kinds.reading(*kind),
                node: &node,
                timing,
                to: &to,
                reporter: &reporter,
            };
            match kind {
                Kind::Pod => start.feed::<core::Pod>(&mut feeds),
                Kind::Namespace => start.feed::<core::Namespace>(&mut feeds),
                Kind::Node => start.feed::<core::Node>(&mut feeds),
                Kind::Service => start.feed::<core::Service>(&mut feeds),
                Kind::EndpointSlice => start.feed::<EndpointSlice>(&mut feeds),
                Kind::ServiceCidr
                | Kind::ContainerNetworkPolicy
                | Kind::SidecarProxy
                | Kind::NetworkPolicy
                | Kind::MultiNetworkPolicy => start.feed::<Value>(&mut feeds),
            }
        }
        Self { events, ledger: Ledger::new(all, network), health, _feeds: feeds }
    }

    /// Waits for changes and gives all that there are. It may be dropped while it waits, and nothing is lost.
    ///
    /// None only if every feed has ended, which happens when their tasks are ended by the runtime.
    pub async fn next(&mut self) -> Option<Batch> {
        loop {
            // What was noted before a call was dropped, or by `set_base`.
            if let Some(batch) = self.ledger.batch() {
                return Some(batch);
            }
            self.ledger.note(self.events.recv().await?);
            for _ in 1..BATCH {
                let Ok(event) = self.events.try_recv() else { break };
                self.ledger.note(event);
            }
        }
    }

    /// Whether every watched kind has been listed to its end at least once. The batch that made it so has been given.
    pub fn synced(&self) -> bool {
        self.ledger.synced()
    }

    /// What is known of the network without asking has changed: the next batch has the whole.
    pub fn set_network(&mut self, network: Network) {
        self.ledger.set_base(network);
    }

    /// How well the watches go, now and from now on.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }
}

/// What a feed is started with.
struct Start<'a> {
    client: &'a Client,
    kind: Kind,
    reading: Reading,
    node: &'a Option<Arc<str>>,
    timing: Timing,
    to: &'a mpsc::Sender<Event>,
    reporter: &'a Reporter,
}

impl Start<'_> {
    fn feed<T: Watched>(self, feeds: &mut JoinSet<()>) {
        let feed = Feed::<T> {
            client: self.client.clone(),
            kind: self.kind,
            reading: self.reading,
            node: self.node.clone(),
            timing: self.timing,
            to: self.to.clone(),
            reporter: self.reporter.clone(),
            path: 0,
            served: false,
            of: PhantomData,
        };
        feeds.spawn(feed.run());
    }
}

/// Where feeds say how they are.
#[derive(Clone, Debug)]
pub(crate) struct Reporter(Arc<watch::Sender<Health>>);

impl Reporter {
    /// News come again.
    pub fn fresh(&self, kind: Kind) {
        self.0.send_if_modified(|health| {
            let Some(health) = health.kinds.get_mut(&kind) else { return false };
            let before = health.trouble.take();
            if let Some(before) = &before {
                tracing::info!(%kind, cause = before.cause.as_str(), "news come again");
            }
            before.is_some()
        });
    }

    /// The kind has been listed to its end, or is known not to be there.
    pub fn listed(&self, kind: Kind) {
        self.0.send_if_modified(|health| {
            let health = health.kinds.get_mut(&kind);
            health.is_some_and(|health| !std::mem::replace(&mut health.listed, true))
        });
    }

    /// No news come.
    pub fn trouble(&self, kind: Kind, failure: &Failure) {
        self.0.send_if_modified(|health| {
            let Some(health) = health.kinds.get_mut(&kind) else { return false };
            let since = health.trouble.as_ref().map_or_else(SystemTime::now, |trouble| trouble.since);
            let trouble = Trouble { since, cause: failure.cause, message: failure.message.clone() };
            let other = health.trouble.as_ref() != Some(&trouble);
            if health.trouble.as_ref().is_none_or(|before| before.cause != trouble.cause) {
                tracing::warn!(%kind, cause = trouble.cause.as_str(), "no news come: {}", trouble.message);
            }
            health.trouble = Some(trouble);
            other
        });
    }
}
