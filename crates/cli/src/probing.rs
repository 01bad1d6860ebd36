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

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use sidewall_flow::{Party, Protocol};
use sidewall_netfilter::Kernel;
use sidewall_policy::{End, Flow, ResolvedPod};
use sidewall_sandbox::prober::{Connect, Outcome, Prober, Protocol as Wire};
use sidewall_sandbox::{LivePod, attach};

use crate::args::IdentityChoice;
use crate::error::Error;
use crate::identity::Identity;
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
    pod: LivePod,
    view: View,
    kernel: Kernel,
    probers: BTreeMap<Who, Prober>,
    /// None where the pod is another process's.
    made: Option<Standing>,
}

/// Whose probe it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Party(Party),
    Network,
}

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

    /// A pod of the caller's, for attempts beside its own life.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn of(pod: LivePod, view: View, made: Option<Standing>) -> Result<Self, Error> {
        let kernel = Kernel::open(pod.netns())?;
        Ok(Self { pod, view, kernel, probers: BTreeMap::new(), made })
    }

    /// How its containers are told apart.
    pub fn identity(&self) -> Identity {
        self.view.identity
    }

    /// The pod as its policies see it.
    pub fn imagine(&self, scene: &Scene) -> Imagined {
        let info = self.pod.info();
        Imagined {
            pod: self.view.resolved.clone(),
            node: info.node_addresses.clone(),
            own: info.addresses.clone(),
            world: scene.world(self.view.network.clone()),
        }
    }

    /// Ends the probes, then the pod if it was made here. What can't be removed is logged.
    pub fn end(self) {
        drop(self.probers);
        drop(self.made);
    }

    /// Tries a flow. `None` where it can't be tried here: an address of somebody else's.
    ///
    /// # Errors
    /// A probe could not be started, or ended.
    pub fn attempt(&mut self, pod: &ResolvedPod, flow: &Flow) -> Result<Option<Finding>, Error> {
        let Some((sender, receiver, to, from)) = self.way(flow) else { return Ok(None) };
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
    fn way(&self, flow: &Flow) -> Option<(Who, Who, SocketAddr, Option<SocketAddr>)> {
        let at = |address| SocketAddr::new(address, flow.port);
        let info = self.pod.info();
        // Addresses of the network are there where the network is ours.
        let ours = |address: &IpAddr| self.made.is_some() || info.node_addresses.contains(address);
        match (flow.sender, flow.receiver) {
            (End::Local(sender), End::Local(receiver)) => {
                Some((Who::Party(sender), Who::Party(receiver), at(Ipv4Addr::LOCALHOST.into()), None))
            }
            (End::Remote(sender), End::Local(receiver)) => {
                let own = info.addresses.iter().find(|own| own.is_ipv4() == sender.is_ipv4())?;
                ours(&sender).then_some(())?;
                Some((Who::Network, Who::Party(receiver), at(*own), Some(SocketAddr::new(sender, 0))))
            }
            (End::Local(sender), End::Remote(receiver)) => {
                ours(&receiver).then_some(())?;
                Some((Who::Party(sender), Who::Network, at(receiver), None))
            }
            // Sandboxed pods have one network.
            (End::Remote(_) | End::Attached(..), _) | (_, End::Attached(..)) => None,
        }
    }

    fn attempt_once(
        &mut self,
        pod: &ResolvedPod,
        flow: &Flow,
        sender: Who,
        receiver: Who,
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
            _ if self.made.is_none() => None,
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
        sender: Who,
        receiver: Who,
        connect: Connect,
        silent: bool,
    ) -> Result<Finding, Error> {
        self.prober(pod, sender)?;
        let named = connect.await_name;
        let Self { kernel, probers, .. } = self;
        let prober = probers.get(&sender).ok_or_else(|| gone(sender))?;
        let came = race::run(prober, connect, silent, || race::denials(kernel))?;
        let expected = who_name(pod, receiver);
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

    fn prober(&mut self, pod: &ResolvedPod, who: Who) -> Result<&Prober, Error> {
        if !self.probers.contains_key(&who) {
            let name = who_name(pod, who);
            let launch = launch_own(["internal", "prober", &name])?;
            let launch = match who {
                Who::Network => launch.netns(self.pod.node_netns()).privileged().die_with_parent(),
                Who::Party(party) => self.pod.confine(&identity_of(pod, party, &self.pod), launch)?,
            };
            self.probers.insert(who, Prober::start(launch)?);
        }
        self.probers.get(&who).ok_or_else(|| gone(who))
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
