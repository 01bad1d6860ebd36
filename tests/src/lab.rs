//! A pod's network namespace, a network behind it, and everybody who has sockets in either.
//!
//! The network namespace that stands for the network answers for every address there is, so that a test may let peers
//! have any. Everything ends with the [`Lab`]: processes and cgroups by its drop, namespaces with the last descriptor.

pub mod attacker;

use crate::cgroups;
use crate::party::Maker;
use crate::sockets;
use sidewall_flow::{ContainerId, Party, Protocol};
use sidewall_netfilter::{Changed, Kernel, LoadOptions};
use sidewall_netns::{Capability, Cgroup, Launch, Links, NetNs, Process};
use sidewall_policy::compile::{ENDED, compile_next};
use sidewall_policy::model::{Identities, UserIdentities};
use sidewall_policy::ruleset::{Generation, Ruleset};
use sidewall_policy::{Compiled, ResolvedPod};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

/// The pod's IPv4 address.
pub const POD4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
/// The pod's IPv6 address.
pub const POD6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2));
/// The node's IPv4 address toward the pod.
pub const NODE4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
/// The node's IPv6 address toward the pod.
pub const NODE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));
/// The pod's device.
pub const DEVICE: &str = "eth0";

/// A further network of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The pod's device there.
    pub device: &'static str,
    /// The pod's addresses there.
    pub pod: [IpAddr; 2],
    /// The addresses of the other end.
    pub gateway: [IpAddr; 2],
    /// The routing table of what the pod sends from those addresses.
    table: u8,
}

/// The further networks of a lab that is [`Lab::with_links`]. A test chooses which of them the pod's rules know.
pub const LINKS: [Link; 3] = [link("net1", 1), link("net2", 2), link("stray0", 3)];

const fn link(device: &'static str, number: u8) -> Link {
    Link { device, pod: on_link(number, 2), gateway: on_link(number, 1), table: 100 + number }
}

const fn on_link(number: u8, host: u8) -> [IpAddr; 2] {
    [
        IpAddr::V4(Ipv4Addr::new(10, 78, number, host)),
        IpAddr::V6(Ipv6Addr::new(0xfd78, number as u16, 0, 0, 0, 0, 0, host as u16)),
    ]
}

/// The most containers of a lab's pod.
pub const CONTAINERS: u8 = 4;
/// Flows are opened from this port on; those that tests listen on are below.
const FIRST_PORT: u16 = 10_000;
/// How long a flow may take to be decided before the test gives up.
const LIMIT: Duration = Duration::from_secs(5);

/// A way to tell sockets apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// By cgroup v2.
    Cgroup,
    /// By user.
    Uid,
    /// By group.
    Gid,
}

impl By {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Cgroup, Self::Uid, Self::Gid];
}

/// A pod's namespace with its parties, and the network behind it.
pub struct Lab {
    /// The pod's namespace.
    pub pod: NetNs,
    /// The namespace that stands for the network.
    pub network: NetNs,
    /// Netfilter in the pod's namespace.
    pub kernel: Kernel,
    /// What makes sockets on the network.
    pub outside: Maker,
    /// What makes sockets on each of the [`LINKS`], where the lab has them.
    pub linked: Vec<Maker>,
    parties: BTreeMap<Party, Maker>,
    cgroups: Groups,
    processes: Vec<Process>,
    generation: Option<Generation>,
    restarts: u32,
    last_port: u16,
}

/// The cgroups of a lab; removed with it, and all that is in them ended.
struct Groups {
    top: Cgroup,
    pods: Cgroup,
    containers: BTreeMap<ContainerId, Cgroup>,
    other: Cgroup,
}

impl Drop for Groups {
    fn drop(&mut self) {
        if let Err(error) = self.top.kill().and_then(|()| self.top.remove_tree()) {
            eprintln!("the lab's cgroup {} is left behind: {error}", self.top.path().display());
        }
    }
}

/// What became of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Data went there and back.
    Passed,
    /// It was refused, or a counter says that it was dropped.
    Denied,
}

/// A flow to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Who opens it; `None` is somebody on the network.
    pub sender: Option<Party>,
    /// Who answers it; `None` is somebody on the network.
    pub receiver: Option<Party>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where the receiver is, as the sender means it.
    pub to: SocketAddr,
    /// The port at which the receiver listens: another one where what is meant for `to` is captured.
    pub at: u16,
    /// Where the sender is, for one on the network; and the pod's own address, where it sends on one of the links.
    pub source: Option<IpAddr>,
    /// The link whose far end is the sender or receiver on the network; `None` is the pod network.
    pub link: Option<usize>,
}

impl Lab {
    /// Makes a lab. `maker` is the program that serves as a party (`sidewall-party`).
    ///
    /// # Panics
    /// Where anything is missing, root above all: a test without its parts must fail.
    pub fn new(maker: &Path) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes network namespaces and cgroups and loads nftables rules: run it as root"
        );
        Self::build(maker).unwrap_or_else(|error| panic!("cannot make a lab: {error}"))
    }

    /// Joins the pod to the [`LINKS`] too: each a network of its own that answers for every address. The pod reaches
    /// one by sending from its address there.
    ///
    /// # Panics
    /// Where one cannot be made.
    #[must_use]
    pub fn with_links(mut self, maker: &Path) -> Self {
        for link in &LINKS {
            let made = self.join(maker, link);
            self.linked.push(made.unwrap_or_else(|error| panic!("cannot make the link {}: {error}", link.device)));
        }
        self
    }

    fn join(&mut self, maker: &Path, link: &Link) -> Result<Maker, Box<dyn std::error::Error>> {
        let network = NetNs::new()?;
        connect(&self.pod, &network, link.device, link.pod, link.gateway)?;
        for (family, gateway, own) in [("-4", link.gateway[0], link.pod[0]), ("-6", link.gateway[1], link.pod[1])] {
            let (device, table) = (link.device, link.table);
            ip(&self.pod, &format!("{family} route add default via {gateway} dev {device} table {table}"))?;
            ip(&self.pod, &format!("{family} rule add from {own} lookup {table}"))?;
        }
        self.start(maker, &network, None, (0, 0), &[])
    }

    fn build(maker: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let pod = NetNs::new()?;
        let network = NetNs::new()?;
        connect(&pod, &network, DEVICE, [POD4, POD6], [NODE4, NODE6])?;
        let mut links = Links::of(&pod)?;
        links.add_route("0.0.0.0/0".parse()?, Some(NODE4), DEVICE)?;
        links.add_route("::/0".parse()?, Some(NODE6), DEVICE)?;

        let top = cgroups::make()?;
        let pods = top.create("pods")?;
        let mut containers = BTreeMap::new();
        for number in 1..=CONTAINERS {
            containers.insert(ContainerId::try_from(number)?, pods.create(&format!("c{number}"))?);
        }
        let other = pods.create("other")?;
        let cgroups = Groups { top, pods, containers, other };

        let mut lab = Self {
            kernel: Kernel::open(&pod)?,
            outside: Maker::new(Maker::pair()?.0),
            linked: Vec::new(),
            pod,
            network,
            parties: BTreeMap::new(),
            cgroups,
            processes: Vec::new(),
            generation: None,
            restarts: 0,
            last_port: FIRST_PORT,
        };
        lab.outside = lab.start(maker, &lab.network.clone(), None, (0, 0), &[])?;
        for number in 1..=CONTAINERS {
            let id = ContainerId::try_from(number)?;
            let party = lab.container(maker, id, &[])?;
            lab.parties.insert(Party::Container(id), party);
        }
        let other = lab.cgroups.other.clone();
        let unknown = lab.start(maker, &lab.pod.clone(), Some(&other), (29_999, 39_999), &[])?;
        lab.parties.insert(Party::Unknown, unknown);
        let node = lab.start(maker, &lab.pod.clone(), None, (0, 0), &[])?;
        lab.parties.insert(Party::Node, node);
        Ok(lab)
    }

    /// Another process of a container, with capabilities where the test needs an attacker who has some.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn container(
        &mut self,
        maker: &Path,
        id: ContainerId,
        capabilities: &[Capability],
    ) -> Result<Maker, Box<dyn std::error::Error>> {
        let cgroup = self.cgroups.containers[&id].clone();
        let ids = (20_000 + u32::from(id.get()), 30_000 + u32::from(id.get()));
        self.start(maker, &self.pod.clone(), Some(&cgroup), ids, capabilities)
    }

    /// A process of no container, under a user of one's choice, in the pods' cgroup.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn stranger(&mut self, maker: &Path, uid: u32) -> Result<Maker, Box<dyn std::error::Error>> {
        let cgroup = self.cgroups.other.clone();
        self.start(maker, &self.pod.clone(), Some(&cgroup), (uid, uid), &[])
    }

    /// A process in a container's cgroup (or in none) under a user and group of one's choice.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn process(
        &mut self,
        maker: &Path,
        cgroup: Option<ContainerId>,
        ids: (u32, u32),
        capabilities: &[Capability],
    ) -> Result<Maker, Box<dyn std::error::Error>> {
        let cgroup = cgroup.map(|id| self.cgroups.containers[&id].clone());
        self.start(maker, &self.pod.clone(), cgroup.as_ref(), ids, capabilities)
    }

    fn start(
        &mut self,
        maker: &Path,
        ns: &NetNs,
        cgroup: Option<&Cgroup>,
        (uid, gid): (u32, u32),
        capabilities: &[Capability],
    ) -> Result<Maker, Box<dyn std::error::Error>> {
        let (ours, theirs) = Maker::pair()?;
        let program = std::fs::File::open(maker)
            .map_err(|error| format!("{} is not there ({error}): cargo builds it with this test", maker.display()))?;
        let mut launch = Launch::from_file(program, maker).netns(ns).identity(uid, gid).stdin(theirs).die_with_parent();
        launch = launch.stderr(std::process::Stdio::inherit()).keep_capabilities(capabilities.iter().copied());
        if let Some(cgroup) = cgroup {
            launch = launch.cgroup(cgroup);
        }
        if uid == 0 {
            launch = launch.privileged();
        }
        self.processes.push(launch.spawn()?);
        Ok(Maker::new(ours))
    }

    /// What makes sockets for a party.
    pub fn party(&self, party: Party) -> &Maker {
        &self.parties[&party]
    }

    /// What makes sockets for a container.
    ///
    /// # Panics
    /// Where there is no such container.
    pub fn app(&self, number: u8) -> &Maker {
        self.party(container(number))
    }

    /// How the kernel tells the first `count` containers apart.
    ///
    /// # Panics
    /// Where the cgroups are gone.
    pub fn identities(&self, by: By, count: u8) -> Identities {
        let ids = (1..=count).map(|number| ContainerId::try_from(number).expect("a container's number"));
        match by {
            By::Cgroup => {
                let id = |cgroup: &Cgroup| cgroup.id().expect("the lab's cgroups are there").0;
                let level = |cgroup: &Cgroup| u8::try_from(cgroup.level()).expect("a cgroup's depth");
                Identities::Cgroup {
                    level: level(&self.cgroups.other),
                    containers: ids.map(|c| (c, [id(&self.cgroups.containers[&c])].into())).collect(),
                    pods_level: level(&self.cgroups.pods),
                    pods: id(&self.cgroups.pods),
                }
            }
            By::Uid => Identities::Uid(UserIdentities {
                containers: ids.map(|c| (c, 20_000 + u32::from(c.get()))).collect(),
                node: [0].into(),
            }),
            By::Gid => Identities::Gid(UserIdentities {
                containers: ids.map(|c| (c, 30_000 + u32::from(c.get()))).collect(),
                node: [0].into(),
            }),
        }
    }

    /// Ends a container's party and starts it again, in another cgroup.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn restart(&mut self, maker: &Path, id: ContainerId) {
        self.restarts += 1;
        let again =
            self.cgroups.pods.create(&format!("c{}-{}", id.get(), self.restarts)).expect("a cgroup can be made");
        let before = self.cgroups.containers.insert(id, again).expect("a container has a cgroup");
        before.remove_tree().expect("the old cgroup can be removed");
        // Those that have ended, and their descriptors.
        self.processes.retain_mut(|process| !matches!(process.try_wait(), Ok(Some(_))));
        let party = self.container(maker, id, &[]).expect("a party can be started");
        self.parties.insert(Party::Container(id), party);
    }

    /// The generation for the next ruleset, which no live flow bears.
    ///
    /// # Panics
    /// Where the kernel refuses.
    pub fn next_generation(&mut self) -> Generation {
        let next = match self.generation {
            None => Generation::FIRST,
            Some(current) => {
                let next = self.kernel.next_generation(current);
                next.unwrap_or_else(|error| panic!("cannot clear the generation after {current}: {error}"))
            }
        };
        self.generation = Some(next);
        next
    }

    /// Puts a pod's rules in the place of `old`, which stand, by what differs.
    ///
    /// # Panics
    /// Where the kernel refuses them.
    pub fn follow(&mut self, pod: &ResolvedPod, old: &Compiled) -> (Compiled, Changed) {
        let (to, _) = compile_next(pod, old);
        if to.ruleset.generation != old.ruleset.generation {
            assert_eq!(self.next_generation(), to.ruleset.generation, "the compiler and the kernel count alike");
        }
        let changed = self.kernel.change(&old.ruleset, &to.ruleset, LoadOptions::default());
        match changed {
            Ok(changed) => (to, changed),
            Err(error) => panic!("cannot change the ruleset: {error}\n{}\nto\n{}", old.ruleset, to.ruleset),
        }
    }

    /// Loads a ruleset.
    ///
    /// # Panics
    /// Where the kernel refuses it.
    pub fn load(&mut self, ruleset: &Ruleset) {
        let loaded = self.kernel.load(ruleset, LoadOptions::default());
        if let Err(error) = loaded {
            panic!("cannot load the ruleset: {error}\n{ruleset}");
        }
    }

    /// Tries a flow: opens it, and where it passes sends data there and back.
    ///
    /// # Errors
    /// Where nothing decides it: it neither passed, nor was refused, nor did a counter say that it was dropped.
    pub fn attempt(&mut self, trial: &Trial) -> Result<Outcome, String> {
        let before = self.denials();
        let outcome = self.attempt_from(trial, before);
        outcome.map_err(|error| format!("{trial:?}: {error}"))
    }

    fn attempt_from(&mut self, trial: &Trial, before: u64) -> Result<Outcome, String> {
        let source = self.next_source(trial);
        let text = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let parties = &self.parties;
        let network = trial.link.map_or(&self.outside, |link| &self.linked[link]);
        let maker = |who: Option<Party>| who.map_or(network, |party| &parties[&party]);
        let (sender, receiver) = (maker(trial.sender), maker(trial.receiver));
        let listener = sockets::listen(receiver, trial.protocol, SocketAddr::new(trial.to.ip(), trial.at))
            .map_err(text("cannot listen"))?;
        let client = match sockets::open(sender, trial.protocol, source, trial.to) {
            Ok(client) => client,
            Err(error) if is_refusal(&error) => return Ok(Outcome::Denied),
            Err(error) => return Err(format!("cannot open: {error}")),
        };
        let until = Instant::now() + LIMIT;
        let mut accepted = None;
        let mut wait = Duration::from_micros(200);
        while Instant::now() < until {
            match trial.protocol {
                Protocol::Tcp => {
                    if accepted.is_none() && sockets::decided(&client, wait).map_err(text("poll"))? {
                        if sockets::pending_error(&client).map_err(text("SO_ERROR"))?.is_some() {
                            return Ok(Outcome::Denied);
                        }
                        match receiver.accept(&listener) {
                            Ok(socket) => {
                                sockets::send(&client, sockets::PAYLOAD).map_err(text("send"))?;
                                accepted = Some(socket);
                            }
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                            Err(error) => return Err(format!("cannot accept: {error}")),
                        }
                    }
                    if let Some(server) = &accepted
                        && sockets::readable(server, wait).map_err(text("poll"))?
                        && sockets::arrived(server).map_err(text("receive"))?.is_some()
                    {
                        sockets::send(server, sockets::PAYLOAD).map_err(text("answer"))?;
                    }
                }
                _ => {
                    sockets::readable(&listener, wait).map_err(text("poll"))?;
                    match sockets::echo(&listener) {
                        Ok(_) => {}
                        Err(error) if is_refusal(&error) => return Ok(Outcome::Denied),
                        Err(error) => return Err(format!("cannot answer: {error}")),
                    }
                }
            }
            match sockets::arrived(&client) {
                Ok(Some(data)) if data == sockets::PAYLOAD => return Ok(Outcome::Passed),
                Ok(Some(data)) => return Err(format!("{} bytes of something else came back", data.len())),
                Ok(None) => {}
                Err(error) if is_refusal(&error) => return Ok(Outcome::Denied),
                // A connecting TCP socket has nothing to receive yet.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOTCONN.raw_os_error()) => {}
                Err(error) => return Err(format!("cannot hear: {error}")),
            }
            if denials(&mut self.kernel) > before {
                return Ok(Outcome::Denied);
            }
            wait = (wait * 2).min(Duration::from_millis(20));
        }
        Err(format!("nothing decided it within {LIMIT:?}"))
    }

    /// A source port that no flow had for long: the connection tracker remembers who used one, for two minutes after a
    /// UDP flow's last packet, and on loopback another's port can't be taken meanwhile.
    fn next_source(&mut self, trial: &Trial) -> SocketAddr {
        let any =
            if trial.to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        self.last_port = if self.last_port == u16::MAX { FIRST_PORT } else { self.last_port + 1 };
        SocketAddr::new(trial.source.unwrap_or(any), self.last_port)
    }

    /// How many packets the rules have denied so far.
    pub fn denials(&mut self) -> u64 {
        denials(&mut self.kernel)
    }

    /// What a counter of the loaded ruleset says, in packets.
    ///
    /// # Panics
    /// Where the counters cannot be read.
    pub fn counted(&mut self, name: &str) -> u64 {
        let counters = self.kernel.counters().expect("the counters can be read");
        counters.get(name).map_or(0, |count| count.packets)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // One that has ended already is what is wanted.
            let _ = process.kill();
        }
    }
}

fn denials(kernel: &mut Kernel) -> u64 {
    let counters = kernel.counters().expect("the counters can be read");
    let denied = |name: &str| name.starts_with("deny/") || name == ENDED;
    counters.iter().filter(|(name, _)| denied(name)).map(|(_, count)| count.packets).sum()
}

/// Errors by which a socket tells that a wall, or a host, refused.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const REFUSALS: [Errno; 6] =
        [Errno::CONNREFUSED, Errno::CONNRESET, Errno::PERM, Errno::ACCESS, Errno::HOSTUNREACH, Errno::NETUNREACH];
    REFUSALS.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The party of a container's number.
///
/// # Panics
/// Where the number is no container's.
pub fn container(number: u8) -> Party {
    Party::Container(ContainerId::try_from(number).expect("a container's number"))
}

/// Joins the pod to a network, which answers for every address; the route there is the caller's.
fn connect(
    pod: &NetNs,
    network: &NetNs,
    device: &str,
    own: [IpAddr; 2],
    gateway: [IpAddr; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    const OUTER: &str = "pod0";
    let mut inside = Links::of(pod)?;
    let mut outside = Links::of(network)?;
    outside.add_veth(OUTER, pod, device)?;
    for (links, device, addresses) in [(&mut inside, device, own), (&mut outside, OUTER, gateway)] {
        links.set_up("lo")?;
        for address in addresses {
            let length = if address.is_ipv4() { 24 } else { 64 };
            links.add_address(device, ipnet::IpNet::new(address, length)?)?;
        }
        links.set_up(device)?;
    }
    // A new pair drops packets for a while; a single datagram would be lost, and no counter would tell.
    inside.wait_operational(device, LIMIT)?;
    outside.wait_operational(OUTER, LIMIT)?;
    // Every address is local to the network, but for the pod's own subnet, which stands before it in the same table.
    for (family, address, length) in [("-4", own[0], 24), ("-6", own[1], 64)] {
        let subnet = ipnet::IpNet::new(address, length)?.trunc();
        ip(network, &format!("{family} route add {subnet} dev {OUTER} table local"))?;
        ip(network, &format!("{family} route add local default dev lo table local"))?;
    }
    Ok(())
}

/// Runs the program `ip` in a namespace.
///
/// # Errors
/// Where it is missing or fails.
pub fn ip(ns: &NetNs, arguments: &str) -> Result<(), Box<dyn std::error::Error>> {
    let program = ["/usr/sbin/ip", "/sbin/ip"].into_iter().find(|path| Path::new(path).exists());
    let program = program.ok_or("the program ip is missing: install iproute2")?;
    let launch = Launch::new(program).args(arguments.split(' ')).netns(ns).privileged();
    let status = launch.stderr(std::process::Stdio::inherit()).spawn()?.wait()?;
    if status.success() { Ok(()) } else { Err(format!("ip {arguments}: {status}").into()) }
}
