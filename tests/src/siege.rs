//! Attacks from inside a container: the same attempt without rules, where it must succeed, and under every identity,
//! where it must not.
//!
//! An attack counts as stopped when its victims have received nothing although something that is allowed, and was sent
//! after it on the same way, has arrived.

pub mod networks;

use crate::lab::attacker::{Arms, Attacker};
use crate::lab::{self, By};
use crate::raw::Sniffer;
use crate::scene::{APP, COLLECTORS, LOOPBACK, MALLORY, POD, PROXY, SHIPPER, Scene, bound, heard, id, send_to};
use crate::sockets;
use rustix::fd::OwnedFd;
use sidewall_flow::Protocol;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One time that an attack is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// How containers are told apart; `None` is a pod without rules, where the attack must succeed: else it is none.
    pub by: Option<By>,
    /// What the attacker has.
    pub arms: Arms,
    /// The address family: 0 is IPv4, 1 is IPv6.
    pub family: usize,
}

impl Round {
    /// Every round. Root is tried under cgroup identity alone: under the others root is the node's, and a container that
    /// is root, or may become it, is refused.
    pub fn all() -> Vec<Self> {
        [
            (None, Arms::Root),
            (None, Arms::Plain),
            (Some(By::Cgroup), Arms::Root),
            (Some(By::Cgroup), Arms::Plain),
            (Some(By::Uid), Arms::Raw),
            (Some(By::Uid), Arms::Plain),
        ]
        .into_iter()
        .flat_map(|(by, arms)| [0, 1].map(|family| Self { by, arms, family }))
        .collect()
    }

    /// Without rules, with all arms: an attack that fails here is broken.
    pub fn control(self) -> bool {
        self.by.is_none()
    }

    /// The address that stands for all of this round's family.
    pub fn any(self) -> IpAddr {
        if self.family == 0 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
    }
}

/// A victim: who hears there, where, and by what socket.
pub struct Ear {
    /// Where it hears.
    pub at: SocketAddr,
    /// Its socket.
    pub socket: OwnedFd,
}

/// A pod under attack.
pub struct Siege {
    /// The pod.
    pub scene: Scene,
    /// What passes the network.
    pub outside: Sniffer,
    attackers: BTreeMap<(u8, Arms), Attacker>,
    stage: Option<By>,
}

impl Siege {
    /// A pod in which no rule has ever been loaded.
    ///
    /// # Panics
    /// Where anything is missing.
    pub fn new(program: &str) -> Self {
        let scene = Scene::bare(program);
        let outside = Sniffer::new(scene.outside()).expect("the network can be watched");
        Self::over(scene, outside)
    }

    /// A pod that is there already, and what passes its network.
    pub fn over(scene: Scene, outside: Sniffer) -> Self {
        Self { scene, outside, attackers: BTreeMap::new(), stage: None }
    }

    /// Tries an attack in every round, with the walls of the scene.
    pub fn rounds(&mut self, mut attack: impl FnMut(&mut Self, Round)) {
        for round in Round::all() {
            if round.by != self.stage {
                self.stage = round.by;
                self.scene.stand(round.by.expect("rules are never taken away"));
            }
            attack(self, round);
        }
    }

    /// The attacker, a process of [`MALLORY`], which may nothing.
    pub fn mallory(&mut self, arms: Arms) -> &mut Attacker {
        self.process(MALLORY, arms)
    }

    /// A process of another container, for the same attempt by the one who may.
    pub fn process(&mut self, container: u8, arms: Arms) -> &mut Attacker {
        let lab = &self.scene.lab;
        self.attackers.entry((container, arms)).or_insert_with(|| lab.attacker(id(container), arms))
    }

    /// A process of who may do what the attacker may not: the proxy may reach the application,
    /// and the application the collector.
    pub fn rightful(&mut self, ear: SocketAddr) -> &mut Attacker {
        let owner = if COLLECTORS.contains(&ear.ip()) { APP } else { PROXY };
        self.process(owner, Arms::Plain)
    }

    /// A text that nothing else in this test contains.
    pub fn marker(&self) -> String {
        format!("ATTACK-{}-", self.scene.port())
    }

    /// Those over UDP that the attacker may not reach: the application over loopback and by the pod's address, and
    /// somebody on the network.
    ///
    /// # Panics
    /// Where they can't listen.
    pub fn ears(&self, round: Round) -> Vec<Ear> {
        let at = |address: IpAddr, port| SocketAddr::new(address, port);
        let app = self.scene.app(APP);
        [
            (app, at(LOOPBACK[round.family], 8080)),
            (app, at(POD[round.family], 8080)),
            (self.scene.outside(), at(COLLECTORS[round.family], 7000)),
        ]
        .into_iter()
        .map(|(maker, at)| {
            let socket = sockets::listen(maker, Protocol::Udp, at).expect("a victim listens");
            Ear { at, socket }
        })
        .collect()
    }

    /// Lets what is allowed pass on loopback and to the network, in both families: what was sent before has been decided.
    ///
    /// # Panics
    /// Where it does not arrive.
    pub fn settle(&mut self) {
        for family in [0, 1] {
            let app = (self.scene.app(APP), SocketAddr::new(LOOPBACK[family], 8081));
            let collector = (self.scene.outside(), SocketAddr::new(COLLECTORS[family], 7001));
            for (server, to) in [app, collector] {
                let ear = sockets::listen(server, Protocol::Udp, to).expect("the fence listens");
                let any = if family == 0 { "0.0.0.0" } else { "::" };
                let from = self.scene.fresh(any.parse().expect("an address"));
                let socket = bound(self.scene.app(SHIPPER), Protocol::Udp, from).expect("the fence has a socket");
                let text = format!("FENCE-{}-", from.port());
                send_to(&socket, text.as_bytes(), to).expect("the fence is sent");
                let got = heard(&ear).expect("the fence is heard");
                assert_eq!(got.as_deref(), Some(text.as_bytes()), "what is allowed does not pass to {to}");
                if to.port() == 7001 {
                    self.outside.waits_for(text.as_bytes()).expect("the network can be watched");
                }
            }
        }
    }

    /// Whether a text has left the pod since the test began. [`Self::settle`] comes before.
    ///
    /// # Panics
    /// Where the network can't be watched.
    pub fn left(&mut self, text: &str) -> bool {
        self.outside.saw(text.as_bytes()).expect("the network can be watched")
    }

    /// The index of the pod's device.
    ///
    /// # Panics
    /// Where it is missing.
    pub fn device(&self) -> u32 {
        sidewall_netns::Links::of(&self.scene.lab.pod)
            .and_then(|mut links| links.index(lab::DEVICE))
            .expect("the pod's device is there")
    }
}

/// Everything that waits at a socket, as text.
pub fn drained(socket: &OwnedFd) -> String {
    let mut text = String::new();
    while let Ok(Some(data)) = sockets::arrived(socket) {
        if data.is_empty() {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&data));
    }
    text
}

/// Packets as an attacker's code has them.
pub fn hex(packets: &[Vec<u8>]) -> String {
    let packet = |packet: &Vec<u8>| packet.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    packets.iter().map(packet).collect::<Vec<_>>().join(",")
}
