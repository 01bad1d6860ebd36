//! The nine pods of the [NetworkPolicy cases](crate::network_policy) in the kernel: a namespace each, joined by a bridge
//! in a tenth, which is their node and everybody else.
//!
//! Servers are always there, and greet; a volley is many flows at once. What passes is told by its greeting and what is
//! refused by its error. What comes in and is denied is dropped without a word: it is known by the count of the pod that
//! dropped it, once there are no more flows to that pod without an outcome than it has counted drops.

mod flow;

use crate::cgroups;
use crate::lab::{By, Outcome, ip};
use crate::network_policy::cluster::{self, Cluster, DEVICE, NODE, OTHER_NODE, OUTSIDE, PORTS, Walls};
use crate::network_policy::{End, Place};
use crate::party::{Maker, SOCKETS_MAX};
pub use flow::Planned;
use flow::{Kind, Tried, heard, kind_of, open};
use rustix::fd::OwnedFd;
use rustix::net::{SocketType, ipproto};
use sidewall_flow::Protocol;
use sidewall_netfilter::{Kernel, LoadOptions};
use sidewall_netns::{Cgroup, Launch, Links, NetNs, Process, sysctl};
use sidewall_policy::compile;
use sidewall_policy::model::{Identities, ResolvedPod, UserIdentities};
use sidewall_policy::ruleset::Generation;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

/// The bridge.
const BRIDGE: &str = "pods";
/// How long a volley may take. TCP repeats itself after a second, and what is repeated is counted twice.
const VOLLEY: Duration = Duration::from_millis(800);
/// How often flows without an outcome are tried again, as on a machine that is busy with something else.
const TRIES: u32 = 5;
/// The most flows of a volley: each has a descriptor, of which many systems allow a process 1,024.
const FLOWS: usize = 600;
/// How long a device may take to carry packets.
const LIMIT: Duration = Duration::from_secs(5);
/// The user and group of a pod's container.
const USER: u32 = 20_001;

/// SCTP's number.
const SCTP: u32 = ipproto::SCTP.as_raw().get();

type Failure = Box<dyn std::error::Error>;

/// The nine pods, and everybody else.
pub struct Nine {
    pods: BTreeMap<String, Pod>,
    hub: NetNs,
    others: Maker,
    /// Who greets at an address.
    greeters: BTreeMap<IpAddr, u8>,
    program: std::path::PathBuf,
    by: By,
    _top: Top,
    processes: Vec<Process>,
    sctp: bool,
}

/// A pod in the kernel.
struct Pod {
    kernel: Kernel,
    party: Maker,
    identities: Identities,
    stands: Option<ResolvedPod>,
    generation: Option<Generation>,
    used: BTreeSet<Generation>,
}

/// The cgroup that holds all others; removed with them at the end.
struct Top(Cgroup);

impl Drop for Top {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.remove_tree()) {
            eprintln!("the cgroup {} is left behind: {error}", self.0.path().display());
        }
    }
}

impl Drop for Nine {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // One that has ended already is what is wanted.
            let _ = process.kill();
        }
    }
}

impl Nine {
    /// Makes the pods, whose containers are told apart in a way. `program` is `sidewall-party`.
    ///
    /// # Panics
    /// Where anything is missing, root above all: a test without its parts must fail.
    pub fn new(program: &Path, by: By) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes network namespaces and cgroups and loads nftables rules: run it as root"
        );
        Self::build(program, by).unwrap_or_else(|error| panic!("cannot make the nine pods: {error}"))
    }

    fn build(program: &Path, by: By) -> Result<Self, Failure> {
        let top = Top(cgroups::make()?);
        let pods = top.0.create("pods")?;
        let hub = NetNs::new()?;
        let mut nine = Self {
            pods: BTreeMap::new(),
            others: Maker::new(Maker::pair()?.0),
            greeters: BTreeMap::new(),
            program: program.to_owned(),
            by,
            _top: top,
            processes: Vec::new(),
            sctp: false,
            hub,
        };
        nine.make_hub()?;
        for (number, end) in (1..).zip(Cluster::default().ends().into_iter().filter(End::is_walled)) {
            nine.make_pod(number, &end, &pods)?;
        }
        for address in NODE.into_iter().chain(OUTSIDE).chain(OTHER_NODE) {
            nine.greet_elsewhere(address)?;
        }
        Ok(nine)
    }

    fn make_hub(&mut self) -> Result<(), Failure> {
        ip(&self.hub, &format!("link add {BRIDGE} type bridge mcast_snooping 0"))?;
        let mut links = Links::of(&self.hub)?;
        links.set_up("lo")?;
        links.set_up(BRIDGE)?;
        for (address, length) in NODE.into_iter().zip([16, 64]) {
            links.add_address(BRIDGE, ipnet::IpNet::new(address, length)?)?;
        }
        for address in OUTSIDE.into_iter().chain(OTHER_NODE) {
            links.add_address("lo", address.into())?;
        }
        settings(&self.hub)?;
        self.others = start(&mut self.processes, &self.program, &self.hub, None)?;
        self.sctp = self.others.sockets(crate::sockets::family(NODE[0]), SocketType::STREAM, SCTP, 1).is_ok();
        Ok(())
    }

    fn make_pod(&mut self, number: u32, end: &End, pods: &Cgroup) -> Result<(), Failure> {
        let ns = NetNs::new()?;
        let port = format!("pod{number}");
        let mut outside = Links::of(&self.hub)?;
        outside.add_veth(&port, &ns, DEVICE)?;
        ip(&self.hub, &format!("link set {port} master {BRIDGE} up"))?;
        let mut links = Links::of(&ns)?;
        links.set_up("lo")?;
        for address in &end.addresses {
            links.add_address(DEVICE, ipnet::IpNet::new(*address, if address.is_ipv4() { 16 } else { 64 })?)?;
        }
        links.set_up(DEVICE)?;
        links.wait_operational(DEVICE, LIMIT)?;
        outside.wait_operational(&port, LIMIT)?;
        links.add_route("0.0.0.0/0".parse()?, Some(NODE[0]), DEVICE)?;
        links.add_route("::/0".parse()?, Some(NODE[1]), DEVICE)?;
        settings(&ns)?;
        let cgroup = pods.create(&format!("{number}"))?;
        let party = start(&mut self.processes, &self.program, &ns, Some(&cgroup))?;
        for address in &end.addresses {
            let who = u8::try_from(self.greeters.len() + 1)?;
            self.greeters.insert(*address, who);
            PORTS.iter().try_for_each(|port| party.greet(who, SocketAddr::new(*address, *port)))?;
        }
        let users = || UserIdentities { containers: [(cluster::app_id(), USER)].into(), node: [0].into() };
        let identities = match self.by {
            By::Cgroup => Identities::Cgroup {
                level: u8::try_from(cgroup.level())?,
                containers: [(cluster::app_id(), [cgroup.id()?.0].into())].into(),
                pods_level: u8::try_from(pods.level())?,
                pods: pods.id()?.0,
            },
            By::Uid => Identities::Uid(users()),
            By::Gid => Identities::Gid(users()),
        };
        let kernel = Kernel::open(&ns)?;
        let pod = Pod { kernel, party, identities, stands: None, generation: None, used: BTreeSet::new() };
        self.pods.insert(end.name.clone(), pod);
        Ok(())
    }

    /// Lets somebody beside the nine pods answer at an address.
    fn greet_elsewhere(&mut self, address: IpAddr) -> Result<(), Failure> {
        let who = u8::try_from(self.greeters.len() + 1)?;
        self.greeters.insert(address, who);
        PORTS.iter().try_for_each(|port| self.others.greet(who, SocketAddr::new(address, *port)))?;
        Ok(())
    }

    /// Whether this kernel has SCTP.
    pub fn has_sctp(&self) -> bool {
        self.sctp
    }

    /// How the kernel tells the containers of one of the pods apart.
    pub fn identities(&self, name: &str) -> Identities {
        self.pods[name].identities.clone()
    }

    /// Lets the walls of the nine pods stand. A pod that nothing isolates needs none.
    ///
    /// # Panics
    /// Where the kernel refuses.
    pub fn enforce(&mut self, walls: &Walls) {
        // Each transaction waits for the kernel; the pods' waits need not follow one another.
        std::thread::scope(|scope| {
            for (name, pod) in &mut self.pods {
                let resolved = &walls.0[name];
                if !pod.has(resolved) {
                    scope.spawn(move || pod.enforce(resolved).unwrap_or_else(|error| panic!("{name}: {error}")));
                }
            }
        });
    }

    /// Lets the pods that a case has added answer, all of them in the tenth namespace.
    ///
    /// # Panics
    /// Where they can't.
    pub fn receive(&mut self, ends: &[End]) {
        let guests = ends.iter().filter(|end| end.place == Place::Guest);
        for address in guests.flat_map(|end| end.addresses.clone()) {
            if self.greeters.contains_key(&address) {
                continue;
            }
            let links = Links::of(&self.hub).map_err(Failure::from);
            let added = links.and_then(|mut links| Ok(links.add_address(BRIDGE, address.into())?));
            added.and_then(|()| self.greet_elsewhere(address)).unwrap_or_else(|error| panic!("{address}: {error}"));
        }
    }

    /// Tries flows, and says of each what became of it.
    ///
    /// # Errors
    /// Where of some nothing can be said.
    pub fn attempt(&mut self, flows: &[Planned]) -> Result<Vec<Outcome>, String> {
        let mut outcomes = Vec::new();
        for some in flows.chunks(FLOWS) {
            let mut decided = vec![None; some.len()];
            for _ in 0..TRIES {
                let open: Vec<usize> = (0..some.len()).filter(|index| decided[*index].is_none()).collect();
                if open.is_empty() {
                    break;
                }
                let plans: Vec<&Planned> = open.iter().map(|index| &some[*index]).collect();
                for (index, outcome) in open.into_iter().zip(self.volley(&plans)?) {
                    decided[index] = outcome;
                }
            }
            for (plan, outcome) in some.iter().zip(decided) {
                match outcome {
                    Some(outcome) => outcomes.push(outcome),
                    None => return Err(format!("{plan}: nothing decided it; {}", self.counted(plan))),
                }
            }
        }
        Ok(outcomes)
    }

    fn volley(&mut self, plans: &[&Planned]) -> Result<Vec<Option<Outcome>>, String> {
        let before = self.drops();
        let mut tried = self.open(plans)?;
        let until = Instant::now() + VOLLEY;
        let mut wait = Duration::from_micros(200);
        while Instant::now() < until {
            for flow in tried.iter_mut().filter(|flow| flow.outcome.is_none()) {
                flow.outcome = heard(flow, &self.greeters)?;
            }
            // A flow that is still on its way is one without an outcome that nobody has counted.
            let mut silent: BTreeMap<&str, u64> = BTreeMap::new();
            for flow in tried.iter().filter(|flow| flow.outcome.is_none()) {
                *silent.entry(&flow.plan.to.name).or_default() += 1;
            }
            let dropped = self.drops();
            let since = |name: &str| dropped.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
            if silent.iter().all(|(name, count)| since(name) == *count) {
                return Ok(tried.iter().map(|flow| Some(flow.outcome.unwrap_or(Outcome::Denied))).collect());
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_millis(10));
        }
        Ok(tried.iter().map(|flow| flow.outcome).collect())
    }

    /// How many packets that came in each pod has denied.
    fn drops(&mut self) -> BTreeMap<String, u64> {
        let walled = self.pods.iter_mut().filter(|(_, pod)| pod.stands.is_some());
        walled.map(|(name, pod)| (name.clone(), pod.drops())).collect()
    }

    /// What the rules at both ends of a flow have counted.
    fn counted(&mut self, plan: &Planned) -> String {
        let mut told = Vec::new();
        for name in [&plan.from.name, &plan.to.name] {
            if let Some(pod) = self.pods.get_mut(name) {
                let counters = pod.kernel.counters().unwrap_or_default();
                let moved = counters.iter().filter(|(_, count)| count.packets > 0);
                told.push(format!("{name} {:?}", moved.map(|(name, count)| (name, count.packets)).collect::<Vec<_>>()));
            }
        }
        told.join(", ")
    }

    fn open<'a>(&self, plans: &[&'a Planned]) -> Result<Vec<Tried<'a>>, String> {
        let mut needed: BTreeMap<Kind<'_>, usize> = BTreeMap::new();
        for plan in plans {
            *needed.entry(kind_of(plan)).or_default() += 1;
        }
        let mut stock = BTreeMap::new();
        for (kind, count) in needed {
            let sockets = self.sockets(kind, count).map_err(|error| format!("{kind:?}: no sockets: {error}"))?;
            stock.insert(kind, sockets);
        }
        let flow = |plan: &&'a Planned| {
            let socket = stock.get_mut(&kind_of(plan)).and_then(Vec::pop).expect("as many as are needed");
            let outcome = open(plan, &socket).map_err(|error| format!("{plan}: {error}"))?;
            Ok(Tried { plan, socket, outcome })
        };
        plans.iter().map(flow).collect()
    }

    fn sockets(&self, (pod, protocol, v6): Kind<'_>, mut count: usize) -> io::Result<Vec<OwnedFd>> {
        let party = pod.map_or(&self.others, |name| &self.pods[name].party);
        let (kind, number) = match protocol {
            Some(Protocol::Tcp) => (SocketType::STREAM, 0),
            Some(Protocol::Udp) => (SocketType::DGRAM, 0),
            Some(Protocol::Sctp) => (SocketType::STREAM, SCTP),
            None if v6 => (SocketType::DGRAM, ipproto::ICMPV6.as_raw().get()),
            None => (SocketType::DGRAM, ipproto::ICMP.as_raw().get()),
        };
        let mut sockets = Vec::new();
        while count > 0 {
            let some = u8::try_from(count).unwrap_or(u8::MAX).min(SOCKETS_MAX);
            sockets.extend(party.sockets(crate::sockets::family(NODE[usize::from(v6)]), kind, number, some)?);
            count -= usize::from(some);
        }
        Ok(sockets)
    }
}

impl Pod {
    /// Whether nothing has to be done for walls to stand.
    fn has(&self, resolved: &ResolvedPod) -> bool {
        match &self.stands {
            None => !resolved.is_selected(),
            Some(stands) => stands == resolved,
        }
    }

    fn enforce(&mut self, resolved: &ResolvedPod) -> Result<(), Failure> {
        if !resolved.is_selected() {
            self.stands = None;
            return Ok(self.kernel.unload()?);
        }
        let next = self.generation.map_or(Generation::FIRST, Generation::next);
        if !self.used.insert(next) {
            self.kernel.retire(next)?;
        }
        self.kernel.load(&compile(resolved, next).ruleset, LoadOptions::default())?;
        self.generation = Some(next);
        self.stands = Some(resolved.clone());
        Ok(())
    }

    fn drops(&mut self) -> u64 {
        let counters = self.kernel.counters().expect("the counters can be read");
        let drops = counters.iter().filter(|(name, _)| name.starts_with("deny/") && name.contains("ingress"));
        drops.map(|(_, count)| count.packets).sum()
    }
}

/// Lets everybody listen on the cases' ports and send echo requests, and the connection tracker forget soon.
fn settings(ns: &NetNs) -> Result<(), Failure> {
    sysctl::set(ns, "net.ipv4.ip_unprivileged_port_start", "0")?;
    sysctl::set(ns, "net.ipv4.ping_group_range", "0 65535")?;
    for (key, seconds) in [("udp_timeout", "5"), ("udp_timeout_stream", "5"), ("tcp_timeout_close", "1")] {
        // Where nothing tracks connections there is nothing to forget.
        let _ = sysctl::set(ns, &format!("net.netfilter.nf_conntrack_{key}"), seconds);
    }
    Ok(())
}

/// Starts a party: a pod's container, or somebody else.
fn start(processes: &mut Vec<Process>, program: &Path, ns: &NetNs, pod: Option<&Cgroup>) -> Result<Maker, Failure> {
    let (ours, theirs) = Maker::pair()?;
    let file = std::fs::File::open(program)
        .map_err(|error| format!("{} is not there ({error}): cargo builds it with this test", program.display()))?;
    let launch = Launch::from_file(file, program).netns(ns).stdin(theirs).die_with_parent();
    let launch = launch.stderr(std::process::Stdio::inherit());
    let launch = match pod {
        Some(cgroup) => launch.cgroup(cgroup).identity(USER, USER),
        None => launch.identity(0, 0).privileged(),
    };
    processes.push(launch.spawn()?);
    Ok(Maker::new(ours))
}
