//! What was found on the node, and what the brain is told. Whoever finds something looks at it first: the brain itself waits
//! for nothing.

use crate::devices::Device;
use crate::memory::{self, PodUid};
use crate::running::Running;
use crate::wall::{Wall, WallError};
use crate::watching::Notices;
use crate::work::Done;
use sidewall_cni::wire::{Answer, Detachment, Valid};
use sidewall_netfilter::Features;
use sidewall_netns::{NetNs, NsId};
use sidewall_nri::Veto;
use sidewall_policy::index::Named;
use sidewall_runtime_ids::{ContainerId, SandboxId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;
use tokio::sync::oneshot;

/// What the brain is told.
#[derive(Debug)]
pub enum Message {
    /// The CNI plugin attaches a pod, or asks whether its walls stand.
    Attach(Found, oneshot::Sender<Answer>),
    /// An attachment ends.
    Detach(Detachment),
    /// These are all attachments to a network.
    Gc(Valid),
    /// Whether pods can start now.
    Status(oneshot::Sender<Answer>),
    /// A sandbox is there.
    Sandbox(Found),
    /// A sandbox is no more.
    SandboxGone(SandboxId),
    /// A container is about to run its first instruction, in a sandbox that was not known before or in one that is.
    Start(Option<Found>, FoundContainer, oneshot::Sender<Result<(), Veto>>),
    /// A container is no more.
    ContainerGone(SandboxId, ContainerId),
    /// What the runtime has.
    Inventory(Inventory),
    /// NRI tells of containers before they start, from now on.
    Nri,
    /// Work is done.
    Done(Box<Done>),
    /// Somebody has changed something in a sandbox's namespace.
    Stirred {
        /// Which.
        sandbox: SandboxId,
        /// Its devices or addresses, and not only its tables.
        devices: bool,
    },
}

/// A pod's sandbox that was found.
#[derive(Debug)]
pub struct Found {
    /// The runtime's name of it.
    pub id: SandboxId,
    /// The pod.
    pub pod: Named,
    /// The pod's identity, as the runtime has it.
    pub uid: Option<PodUid>,
    /// The runtime handler, where it is known.
    pub handler: Option<String>,
    /// The device that CNI has made just now, where that is how it was found.
    pub made: BTreeMap<String, memory::Device>,
    /// The addresses that the runtime has of CNI.
    pub reported: Vec<IpAddr>,
    /// Its namespace.
    pub place: Place,
}

/// A pod's network namespace that was looked at.
#[derive(Debug)]
pub struct Place {
    /// The kernel's side.
    pub wall: Box<Wall>,
    /// Its devices.
    pub devices: Vec<Device>,
    /// Whether rules of ours stand there.
    pub walled: bool,
    /// The kernel's notices; none where they can't be had, and what changes is found out by looking.
    pub notices: Option<Notices>,
    /// The node's own addresses toward it.
    pub sources: BTreeSet<IpAddr>,
}

/// A container that was found.
#[derive(Debug)]
pub struct FoundContainer {
    /// The runtime's name of it.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// Its name in the pod.
    pub name: String,
    /// What it is.
    pub running: Running,
}

/// What the runtime has, and when the list was begun: what was heard of since may not be in it.
#[derive(Debug)]
pub struct Inventory {
    /// When.
    pub began: Instant,
    /// Every sandbox that runs.
    pub sandboxes: BTreeSet<SandboxId>,
    /// Every container that runs, or is about to.
    pub containers: BTreeSet<ContainerId>,
    /// Sandboxes that were not known before.
    pub found: Vec<Found>,
    /// Containers that were not known before.
    pub found_containers: Vec<FoundContainer>,
}

impl Place {
    /// Opens and looks at a namespace. Blocks, for about a millisecond.
    ///
    /// # Errors
    /// [`WallError`] where it can't be entered, or the process may not.
    pub fn open(netns: NetNs, features: Features) -> Result<Self, WallError> {
        // Before it is looked at, so that nothing can change unnoticed between.
        let notices =
            Notices::open(&netns).inspect_err(|error| tracing::warn!("changes are noticed late: {error}")).ok();
        let mut wall = Box::new(Wall::open(netns, features)?);
        let walled = wall.has_rules()?;
        let devices = wall.devices()?;
        let sources = devices.iter().flat_map(|device| &device.addresses).filter_map(|to| source_toward(*to)).collect();
        Ok(Self { wall, devices, walled, notices, sources })
    }

    /// Which namespace it is.
    pub fn id(&self) -> NsId {
        self.wall.id()
    }
}

/// The node's own address toward another, by the kernel's choice of a route. Nothing is sent.
fn source_toward(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::from((any, 0))).ok()?;
    // Any port serves: no packet leaves.
    socket.connect(SocketAddr::from((to, 9))).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
