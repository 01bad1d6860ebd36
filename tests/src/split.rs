//! A split pod: two labs, each a part with some of the containers, joined by a segment, and a neighbour on it.
//!
//! Each lab has a process for every container; those of the other part are not used there.

use crate::lab::{By, Lab, Outcome, is_refusal};
use crate::party::Maker;
use crate::scene::{Flow, bound};
use crate::sockets;
use rustix::fd::OwnedFd;
use sidewall_flow::{ContainerId, Party, Protocol};
use sidewall_netfilter::{LoopbackLink, Standing};
use sidewall_netns::{Launch, NetNs};
use sidewall_policy::model::{Identities, Link, LinkedPart};
use sidewall_policy::ruleset::Ruleset;
use sidewall_policy::{ResolvedPod, Subject, World, compile, resolve};
use sidewall_sandbox::{LINK_DEVICE, Segment, SegmentKind};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

/// The parts' names.
pub const PARTS: [&str; 2] = ["primary", "other"];
/// How long a flow may take to be decided.
const LIMIT: Duration = Duration::from_secs(5);
/// 127.0.0.1.
pub const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A split pod.
pub struct SplitLab {
    /// The parts.
    pub parts: [Lab; 2],
    /// Their addresses on the link.
    pub addresses: [Ipv4Addr; 2],
    /// What joins them.
    pub segment: Segment,
    /// What was loaded last, into each.
    pub loaded: [Option<Ruleset>; 2],
    /// The containers of the other part; all else is in the primary.
    pub elsewhere: BTreeSet<ContainerId>,
    opened: [Option<LoopbackLink>; 2],
    last_port: Cell<u16>,
}

impl SplitLab {
    /// Makes the parts, without any rules.
    ///
    /// # Panics
    /// Where anything is missing.
    pub fn new(program: &str, kind: SegmentKind, elsewhere: &[u8]) -> Self {
        let parts = [Lab::new(Path::new(program)), Lab::new(Path::new(program))];
        let mut segment = Segment::new(kind).expect("a segment can be made");
        let addresses = [&parts[0], &parts[1]].map(|part| segment.join(&part.pod).expect("a namespace can be joined"));
        let elsewhere = elsewhere.iter().map(|number| crate::scene::id(*number)).collect();
        let last_port = Cell::new(20_000);
        Self { parts, addresses, segment, loaded: [None, None], elsewhere, opened: [None, None], last_port }
    }

    /// The part that a container is in; for who is none, the first.
    pub fn part_of(&self, party: Party) -> usize {
        match party {
            Party::Container(id) => usize::from(self.elsewhere.contains(&id)),
            Party::Unknown | Party::Node => 0,
        }
    }

    /// The whole pod as one of the parts sees it.
    pub fn subject(&self, part: usize, by: By, whole: &Subject) -> Subject {
        let ids = |part: usize| {
            let all = whole.containers.keys().copied();
            all.filter(move |id| usize::from(self.elsewhere.contains(id)) == part).collect::<BTreeSet<_>>()
        };
        let here = ids(part);
        let identities = match self.parts[part].identities(by, crate::lab::CONTAINERS) {
            Identities::Cgroup { level, mut containers, pods_level, pods } => {
                containers.retain(|id, _| here.contains(id));
                Identities::Cgroup { level, containers, pods_level, pods }
            }
            Identities::Uid(mut users) => {
                users.containers.retain(|id, _| here.contains(id));
                Identities::Uid(users)
            }
            Identities::Gid(mut users) => {
                users.containers.retain(|id, _| here.contains(id));
                Identities::Gid(users)
            }
        };
        let other = 1 - part;
        let linked =
            LinkedPart { addresses: [IpAddr::V4(self.addresses[other])].into(), containers: ids(other), ready: true };
        let link = Link {
            device: LINK_DEVICE.to_owned(),
            addresses: [IpAddr::V4(self.addresses[part])].into(),
            parts: [(PARTS[other].to_owned(), linked)].into(),
        };
        Subject { identities, link: Some(link), ..whole.clone() }
    }

    /// The policies' rules in both parts; gives what they mean in each. Loopback is opened to the link behind them.
    ///
    /// # Panics
    /// Where the kernel does not take them.
    pub fn enforce(&mut self, by: By, whole: &Subject, world: &World) -> [ResolvedPod; 2] {
        [0, 1].map(|part| {
            let subject = self.subject(part, by, whole);
            self.enforce_part(part, &resolve(world, &subject))
        })
    }

    /// The same in one part.
    ///
    /// # Panics
    /// As for [`Self::enforce`].
    pub fn enforce_part(&mut self, part: usize, pod: &ResolvedPod) -> ResolvedPod {
        let lab = &mut self.parts[part];
        let generation = lab.next_generation();
        let ruleset = compile(pod, generation).ruleset;
        lab.load(&ruleset);
        let standing = lab.kernel.verify(&ruleset).expect("the rules can be read back");
        assert_eq!(standing, Standing::AsLoaded, "{ruleset}");
        if self.opened[part].is_none() {
            let opened = LoopbackLink::open(&mut lab.kernel, &lab.pod, LINK_DEVICE, &ruleset);
            self.opened[part] = Some(opened.expect("loopback can be opened behind its guard"));
        }
        self.loaded[part] = Some(ruleset);
        pod.clone()
    }

    /// The process of a container, in its part.
    pub fn app(&self, number: u8) -> &Maker {
        let party = crate::lab::container(number);
        self.parts[self.part_of(party)].party(party)
    }

    /// A namespace of somebody else's on the segment, with a process in it that may send anything; its device is `link0` too.
    ///
    /// # Panics
    /// Where it can't be made.
    pub fn neighbour(&mut self) -> Neighbour {
        let namespace = NetNs::new().expect("a namespace");
        let (address, hardware) = self.segment.attach(&namespace, LINK_DEVICE).expect("a neighbour can be joined");
        let launch = Launch::new("/usr/bin/perl").netns(&namespace).privileged();
        let process = crate::lab::attacker::Attacker::start(launch).expect("a neighbour can be started");
        Neighbour { namespace, address, hardware, process }
    }

    /// A port that no flow had.
    pub fn port(&self) -> u16 {
        self.last_port.set(self.last_port.get() + 1);
        self.last_port.get()
    }

    /// An address with such a port.
    pub fn fresh(&self, address: IpAddr) -> SocketAddr {
        SocketAddr::new(address, self.port())
    }

    /// What the rules of both parts have denied.
    pub fn denials(&mut self) -> u64 {
        self.parts.iter_mut().map(Lab::denials).sum()
    }

    /// The counters that moved, in each part.
    pub fn moved(&mut self) -> String {
        let moved = self.parts.iter_mut().map(|lab| {
            let all = lab.kernel.counters().unwrap_or_default();
            all.into_iter()
                .filter(|(_, count)| count.packets > 0)
                .map(|(name, c)| format!("{name}={}", c.packets))
                .collect::<Vec<_>>()
        });
        format!("{:?}", moved.collect::<Vec<_>>())
    }

    /// Does something and waits until the rules of some part have denied a packet.
    ///
    /// # Panics
    /// Where they don't.
    pub fn denied<T>(&mut self, what: &str, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.denials();
        let done = act(self);
        let until = Instant::now() + LIMIT;
        while self.denials() == before {
            assert!(Instant::now() < until, "{what}: no rule denied it; {}", self.moved());
            std::thread::sleep(Duration::from_millis(1));
        }
        done
    }

    /// Opens a flow between containers over `localhost`, and sends data there and back.
    ///
    /// # Errors
    /// Whatever stopped it.
    pub fn flow(&self, client: u8, server: u8, protocol: Protocol, port: u16) -> Result<Flow, String> {
        let listener = sockets::listen(self.app(server), protocol, SocketAddr::new(LOCALHOST, port))
            .map_err(|error| format!("listen: {error}"))?;
        let client =
            bound(self.app(client), protocol, self.fresh(LOCALHOST)).map_err(|error| format!("bind: {error}"))?;
        connected(client, self.app(server), listener, protocol, SocketAddr::new(LOCALHOST, port))
    }

    /// Tries a flow between parties over `localhost`: opens it, and where it passes sends data there and back.
    ///
    /// # Errors
    /// Where nothing decides it.
    pub fn attempt(
        &mut self,
        (from, sender): (usize, Party),
        (to, receiver): (usize, Party),
        protocol: Protocol,
        at: SocketAddr,
    ) -> Result<Outcome, String> {
        let text = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let before = self.denials();
        let source = self.fresh(if at.is_ipv4() { LOCALHOST } else { std::net::Ipv6Addr::LOCALHOST.into() });
        let listener = sockets::listen(self.parts[to].party(receiver), protocol, at).map_err(text("cannot listen"))?;
        let client = match sockets::open(self.parts[from].party(sender), protocol, source, at) {
            Ok(client) => client,
            Err(error) if is_refusal(&error) => return Ok(Outcome::Denied),
            Err(error) => return Err(format!("cannot open: {error}")),
        };
        let until = Instant::now() + LIMIT;
        let mut accepted: Option<OwnedFd> = None;
        let wait = Duration::from_millis(1);
        while Instant::now() < until {
            if protocol == Protocol::Tcp {
                if accepted.is_none() && sockets::decided(&client, wait).map_err(text("poll"))? {
                    if sockets::pending_error(&client).map_err(text("SO_ERROR"))?.is_some() {
                        return Ok(Outcome::Denied);
                    }
                    match self.parts[to].party(receiver).accept(&listener) {
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
            } else {
                sockets::readable(&listener, wait).map_err(text("poll"))?;
                match sockets::echo(&listener) {
                    Ok(_) => {}
                    Err(error) if is_refusal(&error) => return Ok(Outcome::Denied),
                    Err(error) => return Err(format!("cannot answer: {error}")),
                }
            }
            match sockets::arrived(&client) {
                Ok(Some(data)) if data == sockets::PAYLOAD => return Ok(Outcome::Passed),
                Ok(Some(data)) => return Err(format!("{} bytes of something else came back", data.len())),
                Ok(None) => {}
                Err(error) if is_refusal(&error) => return Ok(Outcome::Denied),
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOTCONN.raw_os_error()) => {}
                Err(error) => return Err(format!("cannot hear: {error}")),
            }
            if self.denials() > before {
                return Ok(Outcome::Denied);
            }
        }
        Err(format!("nothing decided it within {LIMIT:?}; {}", self.moved()))
    }
}

/// Connects a client to a listener in another namespace. Each end calls the other what it sees of it.
///
/// # Errors
/// Whatever stopped it.
pub fn connected(
    client: OwnedFd,
    server: &Maker,
    listener: OwnedFd,
    protocol: Protocol,
    to: SocketAddr,
) -> Result<Flow, String> {
    if protocol == Protocol::Tcp {
        let flow = Flow::between(server, protocol, client, listener, to)?;
        flow.works()?;
        return Ok(flow);
    }
    let text = |error: rustix::io::Errno| error.to_string();
    rustix::net::connect(&client, &to).map_err(text)?;
    let from = SocketAddr::try_from(rustix::net::getsockname(&client).map_err(text)?).map_err(text)?;
    let failed = |error: io::Error| error.to_string();
    sockets::send(&client, b"first").map_err(failed)?;
    if !sockets::readable(&listener, LIMIT).map_err(failed)? {
        return Err("the first datagram did not arrive".to_owned());
    }
    let mut buffer = [0u8; 16];
    let (_, _, seen) =
        rustix::net::recvfrom(&listener, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT).map_err(text)?;
    let seen = SocketAddr::try_from(seen.ok_or("nobody sent it")?).map_err(text)?;
    if !seen.ip().is_loopback() {
        return Err(format!("the server sees {seen}, which is not loopback"));
    }
    rustix::net::connect(&listener, &seen).map_err(text)?;
    let flow = Flow { protocol, client, server: listener, from, to };
    flow.works()?;
    Ok(flow)
}

/// Somebody else on the segment.
pub struct Neighbour {
    /// Its namespace.
    pub namespace: NetNs,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its device's own.
    pub hardware: sidewall_netns::HardwareAddress,
    /// Its process.
    pub process: crate::lab::attacker::Attacker,
}

impl Neighbour {
    /// Puts an IP packet on the segment, in a frame to and from hardware addresses of one's choice.
    ///
    /// # Panics
    /// Where it can't be sent: nothing would be tried.
    pub fn put(&mut self, to: [u8; 6], from: [u8; 6], packet: &[u8]) {
        let kind: u16 = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
        self.frame(kind, &[&to[..], &from, &kind.to_be_bytes(), packet].concat());
    }

    /// Puts a frame on the segment.
    ///
    /// # Panics
    /// As for [`Self::put`].
    pub fn frame(&mut self, kind: u16, frame: &[u8]) {
        let mut links = sidewall_netns::Links::of(&self.namespace).expect("links");
        let index = links.index(LINK_DEVICE).expect("the neighbour's device");
        let code = format!(
            "my $s = made(17, SOCK_RAW, 0);
             defined(send($s, pack('H*', '{}'), 0, pack('S n i S C C a8', 17, {kind}, {index}, 0, 0, 6, ''))) or fail('send')",
            crate::siege::hex(&[frame.to_vec()]),
        );
        self.process.must(&code);
    }
}
