//! A split pod's link: loopback carried to the pod's other parts, and nothing else.
//!
//! Who sends to a declared port of a container that is elsewhere is led to its part, under our address on the link; the part
//! leads it to its own loopback, where it comes from 127.0.0.1 as in a pod that is not split. What is judged is what was
//! meant (`ct original`): at the sender the pair of containers, at the receiver the part and the container that declares the
//! port. The device has chains of its own, before all others: no mark of another network's flow counts there, nor the other
//! way round, for a flow of the link has both its ends in its mark, and of them one is not here.

use super::builder::{Builder, Size};
use super::capture::REDIRECTION;
use super::ends::{ENDED, FORGED, IMPROPER, LOCAL};
use super::hooks::PLAIN_IPV4;
use super::judging::identify::into;
use super::judging::{HANDSHAKE, original, reply};
use super::question::Answers;
use super::statements::{
    ACK, FIN, IPV4, LO, NO_USER, RST, SYN, TCP, UDP, at_most, bits, bits_not, dispatch, dispatch_mark, goto, in_set,
    is, is_not, mark, mark_not, rule, set_mark, state,
};
use crate::link::Link;
use crate::mark;
use crate::model::Identities;
use crate::ruleset::{Field, HookPoint, Kind, Rule, Statement, Verdict, device_name};
use sidewall_flow::{Direction, Party, Place, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// `NF_IP_PRI_NAT_SRC`.
const SOURCES: i32 = 100;
/// 127.0.0.0/8.
const LOOPBACK: (u32, u32) = (0xff00_0000, 0x7f00_0000);

/// Judges what our containers send by the link: whose it is, and where it was meant for.
const JUDGE: &str = "link-judge";
/// Judges what our containers answer by the link.
const ANSWERS_OF: &str = "link-answers-of";
/// The maps from numbers in the mark to judgements.
const FROM: &str = "link-from-of";
const TO: &str = "link-to-of";
/// Sources, protocols and ports that the parts may reach here.
const SERVED: &str = "link-served";

fn number(address: Ipv4Addr) -> u128 {
    address.to_bits().into()
}

const fn place(sender: Party, receiver: Party) -> Place {
    Place::Loopback { sender, receiver }
}

impl Builder<'_> {
    fn link(&self) -> Option<&Link> {
        self.pod.link.as_ref()
    }

    /// The chains that lead connections: out of our loopback to a part, and from the link to our loopback.
    pub fn link_nat(&mut self) {
        let Some(link) = self.pod.link.as_ref() else { return };
        let Some(own) = link.own() else { return };
        let device = device_name(&link.device);
        let [v4, to_loopback] = Self::loopback_net(Field::Ipv4Destination);
        let mut led = Vec::new();
        for (protocol, port, address) in self.led() {
            led.push(rule([
                is(Field::OutputDevice, LO),
                v4.clone(),
                to_loopback.clone(),
                is(Field::Protocol, protocol.number().into()),
                is(Field::DestinationPort, port.into()),
                Statement::LeadTo { address },
            ]));
        }
        if !led.is_empty() {
            self.base_chain("link-leads", HookPoint::OutputNat, REDIRECTION, true, led);
            let spoken = rule([
                is(Field::OutputDeviceName, device),
                v4.clone(),
                bits(Field::CtOriginalDestination4, LOOPBACK.0, LOOPBACK.1),
                Statement::SpeakAs { address: own },
            ]);
            self.base_chain("link-speaks", HookPoint::PostroutingNat, SOURCES, true, vec![spoken]);
        }
        let served = self.served();
        if !served.is_empty() {
            let set = self.served_set(SERVED, served.keys().copied());
            let from = || is(Field::InputDeviceName, device);
            let carried = rule([
                from(),
                is(Field::Ipv4Destination, number(own)),
                in_set([Field::Ipv4Source, Field::Protocol, Field::DestinationPort], &set),
                Statement::LeadTo { address: Ipv4Addr::LOCALHOST },
            ]);
            // Before the front proxy's: what the link carries was meant for loopback.
            self.base_chain("link-carried", HookPoint::PreroutingNat, REDIRECTION - 1, true, vec![carried]);
            let heard = rule([
                from(),
                is(Field::Ipv4Destination, number(Ipv4Addr::LOCALHOST)),
                Statement::SpeakAs { address: Ipv4Addr::LOCALHOST },
            ]);
            self.base_chain("link-heard", HookPoint::InputNat, SOURCES, true, vec![heard]);
        }
    }

    /// The ports that are led to a part, and to which address: those of ready parts that anybody here may reach.
    fn led(&self) -> Vec<(Protocol, u16, Ipv4Addr)> {
        let pod = self.pod;
        let Some(link) = self.link().filter(|link| link.own().is_some()) else { return Vec::new() };
        let led = |(protocol, port, owner)| {
            let (_, part) = link.part_of(owner)?;
            let target = part.target()?;
            let receiver = Party::Container(owner);
            let passes = |sender| crate::link::may_reach(pod, sender, receiver, protocol, port);
            let edge = pod.link_edge_allows(Direction::Egress, target.into(), protocol, port);
            (edge && pod.local_parties().any(passes)).then_some((protocol, port, target))
        };
        pod.ports_elsewhere().filter_map(led).collect()
    }

    /// What the parts may reach here, and whose it is.
    fn served(&self) -> BTreeMap<(Ipv4Addr, Protocol, u16), Party> {
        let pod = self.pod;
        let mut served = BTreeMap::new();
        for part in self.link().into_iter().flat_map(|link| link.parts.values()) {
            for source in part.sources() {
                for port in pod.ports_here().filter(|port| pod.is_served_to(part, source, *port)) {
                    served.insert((source, port.0, port.1), Party::Container(port.2));
                }
            }
        }
        served
    }

    fn served_set(&mut self, name: &str, served: impl IntoIterator<Item = (Ipv4Addr, Protocol, u16)>) -> String {
        let keys = served
            .into_iter()
            .map(|(source, protocol, port)| vec![number(source), protocol.number().into(), port.into()])
            .collect::<BTreeSet<_>>();
        self.set(name, vec![Kind::Ipv4, Kind::Protocol, Kind::Port], keys)
    }

    /// The rules at PREROUTING by which our addresses on the link are nobody's on another device.
    pub fn link_addresses_elsewhere(&self) -> Vec<Rule> {
        let Some(link) = self.link() else { return Vec::new() };
        let device = device_name(&link.device);
        own_v4(link)
            .map(|own| {
                rule([
                    is_not(Field::InputDeviceName, device),
                    is(Field::Ipv4Destination, number(own)),
                    goto(FORGED).into(),
                ])
            })
            .collect()
    }

    /// The rules at OUTPUT that come first: what leaves by the link is its chains' alone, and what belongs to its flows leaves
    /// by nothing else, whichever device a process chooses. What is led there has set out on loopback, and the hook goes on
    /// telling that device: such packets are known by their addresses.
    pub fn link_out(&mut self) -> Vec<Rule> {
        let Some(link) = self.pod.link.as_ref() else { return Vec::new() };
        self.link_judging();
        // What was not led: the kernel's own words, and who means the link itself.
        let mut way_out = vec![rule([
            state(Field::CT_RELATED | Field::CT_UNTRACKED),
            is_not(Field::SocketUid, NO_USER),
            goto(FORGED).into(),
        ])];
        way_out.push(self.icmpv6("nd-out", &[131, 132, 133, 135, 136, 143], None));
        way_out.extend(self.related_errors());
        let reset = bits(Field::TcpFlags, RST, RST);
        way_out.push(rule([state(Field::CT_RELATED), is(Field::Protocol, TCP), reset, Verdict::Accept.into()]));
        way_out.push(rule([goto(IMPROPER).into()]));
        self.chain("link-out", way_out);
        let [v4, meant] = Self::loopback_net(Field::CtOriginalDestination4);
        let mut rules = vec![
            rule([is(Field::OutputDeviceName, device_name(&link.device)), goto("link-out").into()]),
            // Off loopback from the beginning: the process has chosen the device.
            rule([is_not(Field::OutputDevice, LO), v4.clone(), meant.clone(), goto(FORGED).into()]),
            rule([v4, meant, led(), original(), goto("link-open").into()]),
        ];
        for own in own_v4(link) {
            let meant = || is(Field::CtOriginalDestination4, number(own));
            let on_lo = is(Field::OutputDevice, LO);
            rules.push(rule([meant(), on_lo, reply(), state(Field::CT_ESTABLISHED), goto("link-answers").into()]));
            rules.push(rule([meant(), original(), goto(IMPROPER).into()]));
            rules.push(rule([meant(), state(Field::CT_NEW | Field::CT_ESTABLISHED), goto(FORGED).into()]));
        }
        rules
    }

    /// The rule at OUTPUT for what would stay on loopback although its port is a container's that is elsewhere: the part is not
    /// ready, nobody here may reach it, or it is IPv6, which no link carries.
    pub fn link_on_loopback(&mut self) -> Option<Rule> {
        let keys: Vec<_> = self
            .pod
            .ports_elsewhere()
            .map(|(protocol, port, _)| vec![u128::from(protocol.number()), u128::from(port)])
            .collect();
        if keys.is_empty() {
            return None;
        }
        let ports = self.set("link-ports", vec![Kind::Protocol, Kind::Port], keys);
        Some(rule([
            is(Field::OutputDevice, LO),
            original(),
            in_set([Field::Protocol, Field::CtOriginalDestinationPort], &ports),
            goto(JUDGE).into(),
        ]))
    }

    /// The rule at INPUT that comes first: what comes by the link.
    pub fn link_in(&mut self) -> Vec<Rule> {
        let Some(link) = self.pod.link.as_ref() else { return Vec::new() };
        let mut way_in = vec![
            rule([state(Field::CT_NEW | Field::CT_ESTABLISHED), original(), goto("link-serve").into()]),
            rule([state(Field::CT_ESTABLISHED), reply(), goto("link-hears").into()]),
        ];
        way_in.push(self.icmpv6("nd-in", &[134, 135, 136], Some(255)));
        way_in.push(self.icmpv6("mld-in", &[130], Some(1)));
        way_in.extend(self.related_errors());
        way_in.push(rule([goto(FORGED).into()]));
        self.chain("link-in", way_in);
        vec![rule([is(Field::InputDeviceName, device_name(&link.device)), goto("link-in").into()])]
    }

    fn link_judging(&mut self) {
        self.link_sends();
        self.link_receives();
    }

    /// As in every flow, an older generation keeps its names and loses its verdicts. A flow that nobody has answered keeps what
    /// it has: who receives it is not seen again once its socket is connected, which calls the sender what it is called
    /// behind INPUT only. It inherits nothing, for what an expectation opens is let in nowhere here.
    fn link_generation(&self) -> [Rule; 2] {
        let now = mark::generation(self.generation);
        let verdicts = mark::GENERATION | mark::CLIENT | mark::SERVER | mark::DENIED;
        [
            rule([mark_not(mark::GENERATION, now), set_mark(verdicts, now)]),
            rule([mark_not(mark::DENIED, 0), goto(ENDED).into()]),
        ]
    }

    // === the client's side ===

    fn link_sends(&mut self) {
        let pod = self.pod;
        let targets: Vec<_> = self
            .led()
            .into_iter()
            .map(|(protocol, port, address)| vec![number(address), protocol.number().into(), port.into()])
            .collect();
        let targets = self.set("link-targets", vec![Kind::Ipv4, Kind::Protocol, Kind::Port], targets);
        let mut open = vec![clamps()];
        open.extend([
            rule([is_not(Field::NetworkHeaderStart, PLAIN_IPV4), goto(IMPROPER).into()]),
            rule([is_not(Field::FibSourceType, LOCAL), goto(FORGED).into()]),
            rule([
                is(Field::NfProtocol, IPV4),
                in_set([Field::Ipv4Destination, Field::Protocol, Field::CtOriginalDestinationPort], &targets),
                goto(JUDGE).into(),
            ]),
            rule([goto(IMPROPER).into()]),
        ]);
        self.chain("link-open", open);
        let mut judge: Vec<Rule> = self.link_generation().into();
        judge.extend(self.identify("link-out", is_not(Field::SocketUid, NO_USER), &into("link-from")));
        judge.extend([
            // What a closed socket still had to send.
            rule([led(), mark_not(mark::CLIENT, 0), Verdict::Accept.into()]),
            rule([state(Field::CT_ESTABLISHED), dispatch_mark(mark::SENDER, FROM)]),
            rule([goto(&format!("link-from-{}", Party::Unknown)).into()]),
        ]);
        self.chain(JUDGE, judge);
        for sender in self.parties() {
            let own = mark::sender(sender);
            // What was not led is never marked so.
            let mut rules = vec![rule([
                mark(mark::SENDER | mark::CLIENT, own | mark::CLIENT),
                mark_not(mark::RECEIVER, 0),
                Verdict::Accept.into(),
            ])];
            let mut verdicts = Vec::new();
            for (protocol, port, owner) in pod.ports_elsewhere() {
                let verdict = self.link_pair(sender, Party::Container(owner));
                verdicts.push((vec![u128::from(protocol.number()), u128::from(port)], verdict));
            }
            if !verdicts.is_empty() {
                let kinds = vec![Kind::Protocol, Kind::Port];
                let map = self.map(&format!("link-from-{sender}-map"), kinds, Size::Fixed, verdicts);
                rules.push(rule([dispatch([Field::Protocol, Field::CtOriginalDestinationPort], &map)]));
            }
            rules.push(rule([self.egress_denied(sender, Place::LoopbackFrom(sender)).into()]));
            self.chain(format!("link-from-{sender}"), rules);
        }
        let verdicts: Vec<_> = self
            .parties()
            .into_iter()
            .map(|party| (vec![u128::from(mark::sender(party))], goto(&format!("link-from-{party}"))))
            .collect();
        self.map(FROM, vec![Kind::Mark], Size::Fixed, verdicts);
        // Answers: who opened the flow hears them. A connected socket is not found here, for its other end is not yet called
        // what the socket calls it; what is found is somebody who would hear them instead.
        let mut hears: Vec<Rule> = self.link_generation().into();
        if !pod.identities.by_port() {
            hears.extend(self.identify("link-hears", at_most(Field::SocketWildcard, 1), &into("link-from")));
        }
        hears.extend([
            rule([mark_not(mark::CLIENT, 0), Verdict::Accept.into()]),
            rule([dispatch_mark(mark::SENDER, FROM)]),
            rule([goto(IMPROPER).into()]),
        ]);
        self.chain("link-hears", hears);
    }

    /// What a sender may with a container that is elsewhere, as over loopback: both sides at once.
    fn link_pair(&mut self, sender: Party, receiver: Party) -> Verdict {
        let pod = self.pod;
        let place = place(sender, receiver);
        let deny = self.egress_denied(sender, place);
        let bits = mark::SENDER | mark::RECEIVER | mark::CLIENT;
        let passed = mark::sender(sender) | mark::receiver(receiver) | mark::CLIENT;
        let [v4, stays] = Self::loopback_net(Field::Ipv4Destination);
        let leaves = || is_not(Field::OutputDevice, 0);
        let passes = vec![
            // Nothing has led it to the part.
            rule([leaves(), v4, stays, goto(IMPROPER).into()]),
            rule([leaves(), is_not(Field::NfProtocol, IPV4), goto(IMPROPER).into()]),
            rule([set_mark(bits, passed), Verdict::Accept.into()]),
        ];
        let allow = self.shared_chain(&format!("link-passes-{sender}-{receiver}"), passes);
        let sides = [(sender, Direction::Egress), (receiver, Direction::Ingress)];
        let name = format!("loopback-{sender}-{receiver}");
        let answers = self.audited(place, &sides, Answers { allow, deny }, |builder, prefix, layer, answers| {
            builder.ask_pair(&format!("{prefix}{name}"), layer, sender, receiver, answers)
        });
        self.ask_pair(&name, &pod.enforced, sender, receiver, &answers)
    }

    // === the server's side ===

    fn link_receives(&mut self) {
        let served = self.served();
        let all = self.served_set(SERVED, served.keys().copied());
        let by_port = self.pod.identities.by_port();
        for receiver in self.parties() {
            let own = mark::receiver(receiver);
            let passes = set_mark(mark::RECEIVER | mark::SERVER, own | mark::SERVER);
            let mut rules = vec![
                // In an answer, another's socket is a forger's.
                rule([
                    is_not(Field::OutputDevice, 0),
                    mark_not(mark::RECEIVER, 0),
                    mark_not(mark::RECEIVER, own),
                    goto(FORGED).into(),
                ]),
                rule([mark(mark::RECEIVER | mark::SERVER, own | mark::SERVER), Verdict::Accept.into()]),
            ];
            let mine = served.iter().filter(|(_, owner)| **owner == receiver).map(|(key, _)| *key);
            let mine: Vec<_> = mine.collect();
            if !mine.is_empty() {
                let set = self.served_set(&format!("{SERVED}-{receiver}"), mine);
                rules.push(rule([meant_for(&set), passes, Verdict::Accept.into()]));
            }
            rules.push(rule([self.ingress_denied(receiver, Place::Ingress(receiver)).into()]));
            self.chain(format!("link-to-{receiver}"), rules);
        }
        let verdicts: Vec<_> = self
            .parties()
            .into_iter()
            .map(|party| (vec![u128::from(mark::receiver(party))], goto(&format!("link-to-{party}"))))
            .collect();
        self.map(TO, vec![Kind::Mark], Size::Fixed, verdicts);
        let groups = self.groups();
        let mut serve = vec![
            rule([in_set([Field::PacketType], &groups), goto(IMPROPER).into()]),
            // What was led here was led to loopback; everything else was not meant for a container of this pod.
            rule([
                is(Field::NfProtocol, IPV4),
                is_not(Field::Ipv4Destination, number(Ipv4Addr::LOCALHOST)),
                goto(IMPROPER).into(),
            ]),
            rule([is_not(Field::NfProtocol, IPV4), goto(IMPROPER).into()]),
        ];
        serve.extend(self.link_generation());
        if by_port {
            let verdicts: Vec<_> = served
                .iter()
                .map(|((source, protocol, port), owner)| {
                    let key = vec![number(*source), u128::from(protocol.number()), u128::from(*port)];
                    (key, goto(&format!("link-to-{owner}")))
                })
                .collect();
            if !verdicts.is_empty() {
                let kinds = vec![Kind::Ipv4, Kind::Protocol, Kind::Port];
                let map = self.map("link-serve-map", kinds, Size::Fixed, verdicts);
                serve.push(rule([dispatch(MEANT, &map)]));
            }
        } else {
            serve.extend(self.identify("link-in", at_most(Field::SocketWildcard, 1), &into("link-to")));
            serve.extend([
                rule([mark_not(mark::SERVER, 0), Verdict::Accept.into()]),
                rule([dispatch_mark(mark::RECEIVER, TO)]),
                // Nobody listens, and the kernel says so: that carries nothing.
                rule([is(Field::Protocol, TCP), self.without_data(), meant_for(&all), Verdict::Accept.into()]),
                rule([is(Field::Protocol, UDP), meant_for(&all), Statement::RejectProhibited]),
            ]);
        }
        serve.push(rule([goto(IMPROPER).into()]));
        self.chain("link-serve", serve);
        self.link_answers();
    }

    fn link_answers(&mut self) {
        let flags = SYN | ACK | RST | FIN;
        let full = match self.pod.identities {
            Identities::Cgroup { .. } => at_most(Field::SocketWildcard, 1),
            Identities::Uid(_) | Identities::Gid(_) => is_not(Field::SocketUid, NO_USER),
        };
        // That nobody listens is said by the kernel, from a socket of its own that has no user.
        let resets = || [is(Field::Protocol, TCP), bits(Field::TcpFlags, RST, RST)];
        let [tcp, reset] = resets();
        let of_users = rule([tcp, reset, is_not(Field::SocketUid, NO_USER), goto(ANSWERS_OF).into()]);
        let [tcp, reset] = resets();
        let of_kernel = rule([tcp, reset, Verdict::Accept.into()]);
        self.chain("link-answers", vec![clamps(), of_users, of_kernel, rule([goto(ANSWERS_OF).into()])]);
        let mut answers: Vec<Rule> = self.link_generation().into();
        answers.extend(self.identify("link-answers", full, &into("link-to")));
        if !self.pod.identities.by_port() {
            // A SYN-ACK has its listener's user and no cgroup.
            answers.push(rule([
                is(Field::Protocol, TCP),
                bits(Field::TcpFlags, flags, SYN | ACK),
                at_most(Field::Length, HANDSHAKE),
                Verdict::Accept.into(),
            ]));
        }
        answers.extend([
            rule([mark_not(mark::SERVER, 0), Verdict::Accept.into()]),
            rule([dispatch_mark(mark::RECEIVER, TO)]),
            rule([goto(IMPROPER).into()]),
        ]);
        self.chain(ANSWERS_OF, answers);
    }
}

/// What a flow that came by the link was meant for, and whose it was.
const MEANT: [Field; 3] = [Field::CtOriginalSource4, Field::Protocol, Field::CtOriginalDestinationPort];

/// The packet goes to no loopback address (any more).
fn led() -> Statement {
    bits_not(Field::Ipv4Destination, LOOPBACK.0, LOOPBACK.1)
}

fn meant_for(set: &str) -> Statement {
    in_set(MEANT, set)
}

/// Loopback's segments are larger than what a link carries.
fn clamps() -> Rule {
    rule([is(Field::Protocol, TCP), bits(Field::TcpFlags, SYN, SYN), Statement::ClampSegments])
}

fn own_v4(link: &Link) -> impl Iterator<Item = Ipv4Addr> + '_ {
    link.addresses.iter().filter_map(|address| match address {
        std::net::IpAddr::V4(address) => Some(*address),
        std::net::IpAddr::V6(_) => None,
    })
}
