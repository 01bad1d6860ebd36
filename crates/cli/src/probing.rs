//! Flows that are tried for real.
//!
//! A probe (a small server, `sidewall internal prober`) runs in the identity of each end. The receiver's listens, the
//! sender's connects, and the answer carries the receiver's name. What counts:
//!
//! - **allowed**: the answer came, from the one who was meant;
//! - **denied**: none came, and a denial counter of the pod's rules went up meanwhile;
//! - **unclear**: none came and no counter moved, which no wall can be blamed for.
//!
//! So a silent drop is seen in milliseconds and a missing listener is never mistaken for a wall. Attempts are made one at
//! a time: a counter that moved belongs to the one attempt there is.

mod finding;
mod made;
pub mod race;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use sidewall_flow::{Party, Protocol};
use sidewall_netfilter::Kernel;
use sidewall_policy::{End, Flow, ResolvedPod};
use sidewall_sandbox::prober::{Connect, Outcome, Prober, Protocol as Wire};
use sidewall_sandbox::{LivePod, Segment, SegmentKind, attach};

use crate::args::IdentityChoice;
use crate::error::Error;
use crate::identity::Identity;
use crate::parting::Parting;
use crate::programs::launch_own;
use crate::scene::{Imagined, Scene};
use crate::walled_pod::{self, Standing, View};

pub use finding::Finding;

/// How long an attempt may take: less than the second after which TCP sends its first packet again (RFC 6298), so that
/// nothing of an attempt is left when the next one begins.
pub const DEADLINE: Duration = Duration::from_millis(900);
/// How often an unclear attempt is made again: the machine may be busy.
const ATTEMPTS: usize = 3;

/// A pod in which flows are tried.
pub struct ProbePod {
    /// The pod; of a split pod its parts, the primary first.
    parts: Vec<Part>,
    parting: Option<Parting>,
    probers: BTreeMap<(usize, Who), Prober>,
    /// Whether it is ours: addresses on the network are then there.
    ours: bool,
    _segment: Option<Segment>,
}

/// A namespace in which flows are tried.
struct Part {
    pod: LivePod,
    view: View,
    kernel: Kernel,
    /// None where the pod is another process's.
    made: Option<Standing>,
}

/// Whose probe it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Party(Party),
    Network,
}

/// Somebody's probe, and in which part it is.
type Place = (usize, Who);

impl ProbePod {
    /// Takes the pod that `sidewall run` has running, or makes one.
    ///
    /// # Errors
    /// Whatever keeps it from being reached or made.
    pub fn find_or_make(
        scene: &Scene,
        choice: IdentityChoice,
        state: &Path,
        remotes: &[IpAddr],
    ) -> Result<Self, Error> {
        let features = walled_pod::features()?;
        let manifest = &scene.manifest;
        let namespace = sidewall_policy::world::objects::namespace(manifest.metadata.namespace.as_deref());
        match attach(state, &namespace, manifest.metadata.name.as_deref().unwrap_or_default()) {
            Ok(pod) => {
                let identity = Identity::choose(choice, features)?;
                let view = View::new(scene, pod.info(), identity)?;
                Self::of(pod, view, None)
            }
            Err(sidewall_sandbox::Error::NoPod { .. }) => Self::make(scene, choice, state, remotes),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a pod in which nothing runs but probes, in a network of its own that has the addresses of `remotes`.
    ///
    /// # Errors
    /// Whatever keeps it from being made.
    pub fn make(scene: &Scene, choice: IdentityChoice, state: &Path, remotes: &[IpAddr]) -> Result<Self, Error> {
        let standing = made::make(scene, choice, state, remotes)?;
        let pod = standing.prepared.pod().clone();
        Self::of(pod, standing.view.clone(), Some(standing))
    }

    /// The same of a pod that is split.
    ///
    /// # Errors
    /// As [`ProbePod::make`].
    pub fn make_split(
        scene: &Scene,
        parting: Parting,
        kind: SegmentKind,
        choice: IdentityChoice,
        state: &Path,
        remotes: &[IpAddr],
    ) -> Result<Self, Error> {
        let standing = made::make_split(scene, &parting, kind, choice, state, remotes)?;
        let parts = standing.parts.into_iter().map(|part| {
            let (pod, view) = (part.prepared.pod().clone(), part.view.clone());
            Part::of(pod, view, Some(part))
        });
        Ok(Self {
            parts: parts.collect::<Result<_, _>>()?,
            parting: Some(parting),
            probers: BTreeMap::new(),
            ours: true,
            _segment: Some(standing.segment),
        })
    }

    /// A pod of the caller's, for attempts beside its own life.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn of(pod: LivePod, view: View, made: Option<Standing>) -> Result<Self, Error> {
        let ours = made.is_some();
        let parts = vec![Part::of(pod, view, made)?];
        Ok(Self { parts, parting: None, probers: BTreeMap::new(), ours, _segment: None })
    }

    /// How its containers are told apart.
    pub fn identity(&self) -> Identity {
        self.parts[0].view.identity
    }

    /// The pod as its policies see it; of a split pod each part, the primary first.
    pub fn imagine(&self, scene: &Scene) -> Vec<Imagined> {
        let imagine = |part: &Part| {
            let info = part.pod.info();
            Imagined {
                pod: part.view.resolved.clone(),
                node: info.node_addresses.clone(),
                own: info.addresses.clone(),
                world: scene.world(part.view.network.clone()),
            }
        };
        self.parts.iter().map(imagine).collect()
    }

    /// Ends the probes, then the pod if it was made here. What can't be removed is logged.
    pub fn end(self) {
        drop(self.probers);
        drop(self.parts);
    }

    /// Tries a flow. `None` where it can't be tried here: an address of somebody else's.
    ///
    /// # Errors
    /// A probe could not be started, or ended.
    pub fn attempt(&mut self, pod: &ResolvedPod, flow: &Flow) -> Result<Option<Finding>, Error> {
        let Some((sender, receiver, to, from)) = self.way(pod, flow) else { return Ok(None) };
        let mut finding = Finding::unclear("not tried");
        for _ in 0..ATTEMPTS {
            finding = self.attempt_once(pod, flow, sender, receiver, to, from)?;
            if finding.action().is_some() {
                break;
            }
        }
        Ok(Some(finding))
    }

    /// Who connects to whom, at which address, and from which.
    fn way(&self, pod: &ResolvedPod, flow: &Flow) -> Option<(Place, Place, SocketAddr, Option<SocketAddr>)> {
        let at = |address| SocketAddr::new(address, flow.port);
        let part = |party| self.part_of(pod, party);
        // Who is no container is where the other end is.
        let both = |sender, receiver| {
            let (from, to) = (part(sender), part(receiver));
            (from.or(to).unwrap_or(0), to.or(from).unwrap_or(0))
        };
        // Addresses of the network are there where the network is ours.
        let ours =
            |index: usize, address: &IpAddr| self.ours || self.parts[index].pod.info().node_addresses.contains(address);
        match (flow.sender, flow.receiver) {
            (End::Local(sender), End::Local(receiver)) => {
                let (from, to) = both(sender, receiver);
                let address = at(Ipv4Addr::LOCALHOST.into());
                Some(((from, Who::Party(sender)), (to, Who::Party(receiver)), address, None))
            }
            (End::Remote(sender), End::Local(receiver)) => {
                let index = part(receiver).unwrap_or(0);
                let mut addresses = self.parts[index].pod.info().addresses.iter();
                let own = addresses.find(|own| own.is_ipv4() == sender.is_ipv4())?;
                ours(index, &sender).then_some(())?;
                let from = SocketAddr::new(sender, 0);
                Some(((index, Who::Network), (index, Who::Party(receiver)), at(*own), Some(from)))
            }
            (End::Local(sender), End::Remote(receiver)) => {
                let index = part(sender).unwrap_or(0);
                ours(index, &receiver).then_some(())?;
                Some(((index, Who::Party(sender)), (index, Who::Network), at(receiver), None))
            }
            // Sandboxed pods have one network.
            (End::Remote(_) | End::Attached(..), _) | (_, End::Attached(..)) => None,
        }
    }

    /// The part that a container is in; none for who is no container, and in a pod that is not split.
    fn part_of(&self, pod: &ResolvedPod, party: Party) -> Option<usize> {
        matches!(party, Party::Container(_)).then_some(())?;
        self.parting.as_ref()?.index_of(pod.party_name(party))
    }

    fn attempt_once(
        &mut self,
        pod: &ResolvedPod,
        flow: &Flow,
        sender: Place,
        receiver: Place,
        to: SocketAddr,
        from: Option<SocketAddr>,
    ) -> Result<Finding, Error> {
        let protocol = wire(flow.protocol);
        self.prober(pod, sender)?;
        // What a front proxy captures arrives at another port than the one it was meant for.
        let at = SocketAddr::new(to.ip(), pod.answered_at(flow));
        let listener = match self.prober(pod, receiver)?.listen(protocol, at)? {
            Outcome::Listening { handle, .. } => Some(handle),
            Outcome::Unsupported => return Ok(Finding::unclear("this kernel does not have the protocol")),
            // The running pod's own process has the port.
            _ if !self.ours => None,
            other => return Ok(Finding::unclear(format!("nobody could listen there: {other:?}"))),
        };
        // A datagram that arrives is not answered by a program that we do not know.
        let silent = listener.is_none() && flow.protocol == Protocol::Udp;
        let connect = Connect {
            protocol,
            to,
            from,
            deadline_ms: race::millis(DEADLINE),
            await_name: listener.is_some(),
            keep: false,
        };
        let finding = self.race(pod, sender, receiver, connect, silent);
        if let Some(handle) = listener {
            self.prober(pod, receiver)?.close(handle)?;
        }
        finding
    }

    /// Connects, and watches the counters meanwhile.
    fn race(
        &mut self,
        pod: &ResolvedPod,
        sender: Place,
        receiver: Place,
        connect: Connect,
        silent: bool,
    ) -> Result<Finding, Error> {
        self.prober(pod, sender)?;
        let named = connect.await_name;
        let Self { parts, probers, .. } = self;
        let prober = probers.get(&sender).ok_or_else(|| gone(sender.1))?;
        // Of a flow between two parts, either may deny.
        let at: BTreeSet<usize> = [sender.0, receiver.0].into();
        let came = race::run(prober, connect, silent, || {
            let mut all = BTreeMap::new();
            for index in &at {
                for (name, count) in race::denials(&mut parts[*index].kernel)? {
                    *all.entry(name).or_default() += count;
                }
            }
            Ok(all)
        })?;
        let expected = who_name(pod, receiver.1);
        Ok(match (came.outcome, came.denied) {
            // Who was to be silent has sent its datagram; whether it was denied is the counter's to say.
            (Some(Outcome::Connected { name, .. }), _) if !silent => match name {
                Some(name) if name != expected => Finding::unclear(format!("{name} answered, not {expected}")),
                None if named => Finding::unclear("somebody took the connection and did not answer"),
                _ => Finding::Allow,
            },
            (_, denied) if !denied.is_empty() => Finding::Deny { counters: denied },
            _ if silent => Finding::Allow,
            (outcome, _) => Finding::unclear(format!("no connection, and no wall denied it: {outcome:?}")),
        })
    }

    fn prober(&mut self, pod: &ResolvedPod, place: Place) -> Result<&Prober, Error> {
        let (index, who) = place;
        if !self.probers.contains_key(&place) {
            let live = &self.parts[index].pod;
            let name = who_name(pod, who);
            let launch = launch_own(["internal", "prober", &name])?;
            let launch = match who {
                Who::Network => launch.netns(live.node_netns()).privileged().die_with_parent(),
                Who::Party(party) => live.confine(&identity_of(pod, party, live), launch)?,
            };
            self.probers.insert(place, Prober::start(launch)?);
        }
        self.probers.get(&place).ok_or_else(|| gone(who))
    }
}

impl Part {
    fn of(pod: LivePod, view: View, made: Option<Standing>) -> Result<Self, Error> {
        let kernel = Kernel::open(pod.netns())?;
        Ok(Self { pod, view, kernel, made })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(self.made.take());
    }
}

fn gone(who: Who) -> Error {
    Error::Probe(format!("{who:?}"), "it did not start".to_owned())
}

fn identity_of(pod: &ResolvedPod, party: Party, live: &LivePod) -> sidewall_sandbox::Identity {
    match party {
        Party::Container(_) => sidewall_sandbox::Identity::Container(pod.party_name(party).to_owned()),
        Party::Unknown => sidewall_sandbox::Identity::Unknown { uid: unused_user(live) },
        Party::Node => sidewall_sandbox::Identity::Node,
    }
}

/// A user and group id that no container of the pod has.
pub fn unused_user(live: &LivePod) -> u32 {
    let containers = &live.info().containers;
    (60_000..).find(|id| containers.iter().all(|c| c.uid != *id && c.gid != *id)).unwrap_or(60_000)
}

fn who_name(pod: &ResolvedPod, who: Who) -> String {
    match who {
        Who::Party(party) => pod.party_name(party).to_owned(),
        Who::Network => "(network)".to_owned(),
    }
}

fn wire(protocol: Protocol) -> Wire {
    match protocol {
        Protocol::Tcp => Wire::Tcp,
        Protocol::Udp => Wire::Udp,
        Protocol::Sctp => Wire::Sctp,
    }
}
