//! Asks the runtime what it has, from time to time and when there is a reason: NRI may be off, or have been away.

use crate::found::{Found, FoundContainer, Inventory, Message, Place};
use crate::known::{Ids, Known};
use crate::metrics::Metrics;
use crate::running;
use futures::{StreamExt, stream};
use sidewall_cri::{Client, Container, ContainerState, Error, Network, Options, Sandbox, SandboxState, SandboxStatus};
use sidewall_netfilter::Features;
use sidewall_netns::{Cgroups, NetNs};
use sidewall_policy::index::Named;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// The longest wait after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How many sandboxes or containers are asked about at once.
const AT_ONCE: usize = 8;
/// How soon a list may follow another that somebody asked for.
const BETWEEN: Duration = Duration::from_millis(100);

/// Who asks the runtime.
#[derive(Debug)]
pub struct Lister {
    /// The runtime's socket.
    pub socket: PathBuf,
    /// The brain.
    pub to: mpsc::UnboundedSender<Message>,
    /// What the brain knows.
    pub known: Known,
    /// Somebody wants a list now.
    pub list: Arc<Notify>,
    /// What the kernel can do.
    pub features: Features,
    /// The cgroup tree.
    pub cgroups: Option<Cgroups>,
    /// How often, while NRI tells what changes.
    pub rarely: Duration,
    /// How often, while it does not.
    pub often: Duration,
    /// What is counted; it knows whether NRI tells.
    pub metrics: Arc<Metrics>,
}

impl Lister {
    /// Asks until it is dropped.
    pub async fn run(self) {
        let mut pause = BETWEEN;
        let mut told = false;
        loop {
            match Client::connect(Options::new(&self.socket)).await {
                Ok(client) => {
                    if std::mem::take(&mut told) {
                        tracing::info!("the runtime answers again");
                    }
                    pause = BETWEEN;
                    if let Err(error) = self.follow(&client).await {
                        tracing::debug!("the runtime's answers have ended: {error}");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!("the runtime can't be asked: {error}");
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn follow(&self, client: &Client) -> Result<(), Error> {
        loop {
            let inventory = self.take(client).await?;
            if self.to.send(Message::Inventory(inventory)).is_err() {
                return Ok(());
            }
            let every = if self.metrics.nri.get() == 1 { self.rarely } else { self.often };
            let asked = tokio::time::timeout(every, self.list.notified()).await.is_ok();
            if asked {
                tokio::time::sleep(BETWEEN).await;
            }
        }
    }

    async fn take(&self, client: &Client) -> Result<Inventory, Error> {
        let began = Instant::now();
        let Ids { sandboxes: known, containers: known_containers } = self.known.now();
        let (sandboxes, containers) = tokio::try_join!(client.sandboxes(), client.containers())?;
        let ready: Vec<Sandbox> =
            sandboxes.into_iter().filter(|sandbox| sandbox.state == SandboxState::Ready).collect();
        let mut inventory = Inventory {
            began,
            sandboxes: ready.iter().map(|sandbox| sandbox.id.clone()).collect(),
            containers: BTreeSet::new(),
            found: Vec::new(),
            found_containers: Vec::new(),
        };
        let new = ready.into_iter().filter(|sandbox| !known.contains(&sandbox.id));
        let mut found = stream::iter(new).map(|sandbox| self.sandbox(client, sandbox)).buffer_unordered(AT_ONCE);
        while let Some(found) = found.next().await {
            inventory.found.extend(found);
        }
        let there =
            |container: &Container| matches!(container.state, ContainerState::Running | ContainerState::Created);
        let containers: Vec<Container> = containers.into_iter().filter(there).collect();
        inventory.containers = containers.iter().map(|container| container.id.clone()).collect();
        let new = containers.into_iter().filter(|container| {
            // One that has not started is told of by NRI, or by the next list.
            container.state == ContainerState::Running && !known_containers.contains(&container.id)
        });
        let mut found = stream::iter(new).map(|container| self.container(client, container)).buffer_unordered(AT_ONCE);
        while let Some(found) = found.next().await {
            inventory.found_containers.extend(found);
        }
        drop(found);
        Ok(inventory)
    }

    async fn sandbox(&self, client: &Client, sandbox: Sandbox) -> Option<Found> {
        match client.sandbox_status(&sandbox.id).await {
            Ok(status) => self.look(status).await,
            Err(error) => {
                // It has ended meanwhile, or the next list will tell.
                tracing::debug!(sandbox = %sandbox.id, "a sandbox can't be asked about: {error}");
                None
            }
        }
    }

    async fn container(&self, client: &Client, container: Container) -> Option<FoundContainer> {
        let status = client.container_status(&container.id).await.ok()?;
        let pid = status.details?.pid?;
        let (id, cgroups) = (container.id.clone(), self.cgroups.clone());
        let looked = tokio::task::spawn_blocking(move || running::look(pid, id.as_str(), cgroups.as_ref())).await;
        let running = looked.ok()?.ok()?;
        Some(FoundContainer { id: container.id, sandbox: container.sandbox, name: container.name, running })
    }

    async fn look(&self, status: SandboxStatus) -> Option<Found> {
        let SandboxStatus { sandbox, addresses, network, details } = status;
        let handler = details.as_ref().and_then(|details| details.handler.clone()).unwrap_or(sandbox.handler.clone());
        if network == Network::Node {
            return None;
        }
        let (path, pid) = details.map(|details| {
            let specification = details.specification.as_ref();
            let netns = specification.and_then(|specification| specification.namespace("network"));
            (netns.and_then(|netns| netns.path.clone()), details.pid)
        })?;
        let features = self.features;
        let place = match tokio::task::spawn_blocking(move || open(path, pid, features)).await.ok()? {
            Ok(place) => place,
            Err(error) => {
                tracing::warn!(sandbox = %sandbox.id, "a sandbox's network namespace can't be opened: {error}");
                return None;
            }
        };
        Some(Found {
            id: sandbox.id,
            pod: Named::new(sandbox.pod.namespace, sandbox.pod.name),
            uid: sandbox.pod.uid.try_into().ok(),
            handler: Some(handler),
            made: BTreeMap::new(),
            reported: addresses,
            place,
        })
    }
}

/// The namespace where the runtime found it, else that of the sandbox's process.
fn open(path: Option<PathBuf>, pid: Option<u32>, features: Features) -> Result<Place, String> {
    let by_path = path.and_then(|path| NetNs::from_path(path).ok());
    let netns = match (by_path, pid) {
        (Some(netns), _) => netns,
        (None, Some(pid)) => NetNs::from_pid(pid).map_err(|error| error.to_string())?,
        (None, None) => return Err("the runtime does not tell where it is".to_owned()),
    };
    Place::open(netns, features).map_err(|error| error.to_string())
}
