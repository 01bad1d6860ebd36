//! Who sent it, who receives it: the chains behind the base chains.
//!
//! The client's side of a flow is judged where its packets leave (OUTPUT of original packets) and where it hears
//! (INPUT of replies), the server's where it hears (INPUT of original packets) and answers (OUTPUT of replies), always
//! by the original tuple, so that a flow is judged again whichever end speaks first after a new generation. Identity
//! comes before everything else, also in flows that have passed: a socket that sends in another's flow is a forger.

use super::builder::Builder;
use super::ends::{FORGED, IMPROPER, PROPER};
use super::hooks::{JUDGE_IN, JUDGE_OUT};
use super::judge::{Answers, Question};
use super::statements::{
    IPV4, IPV6, LO, NO_USER, TCP, at_most, bits, dispatch, dispatch_mark, goto, is, is_not, mark, mark_not, rule,
    set_mark, state,
};
use crate::mark;
use crate::model::{Identities, Layer};
use crate::ruleset::{Field, Kind, Rule, Statement, Verdict};
use sidewall_flow::{ContainerId, Direction, Party, Place, Protocol};
use std::collections::BTreeMap;

const ORIGINAL: u128 = 0;
const REPLY: u128 = 1;
const FIN: u32 = 0x01;
const SYN: u32 = 0x02;
const RST: u32 = 0x04;
const ACK: u32 = 0x10;
/// More than a SYN or SYN-ACK with every option, and less than one with data of any use.
const HANDSHAKE: u128 = 100;

/// The maps from numbers in the mark to judgements.
const EGRESS_OF: &str = "egress-of";
const INGRESS_OF: &str = "ingress-of";

impl Builder<'_> {
    /// The chains that identify and judge.
    pub fn judging(&mut self) {
        for party in self.parties() {
            self.egress(party);
        }
        self.party_map(EGRESS_OF, mark::sender, "egress");
        if self.pod.identities.by_port() {
            self.arrival_by_port();
            self.out_by_user();
            self.in_by_user();
        } else {
            for party in self.parties() {
                self.ingress(party);
            }
            self.party_map(INGRESS_OF, mark::receiver, "ingress");
            self.out_by_cgroup();
            self.in_by_cgroup();
        }
    }

    fn party_map(&mut self, name: &str, place: fn(Party) -> u32, chain: &str) {
        let verdicts: Vec<_> = self
            .parties()
            .into_iter()
            .map(|party| (vec![u128::from(place(party))], goto(&format!("{chain}-{party}"))))
            .collect();
        self.map(name, vec![Kind::Mark], verdicts);
    }

    /// Leads the packets of sockets that the identities name into `prefix-PARTY`.
    fn known_sockets(&mut self, prefix: &str) -> Statement {
        let to = |party: Party| goto(&format!("{prefix}-{party}"));
        let map = format!("{prefix}-map");
        match &self.pod.identities {
            Identities::Cgroup { level, containers, .. } => {
                let verdicts: Vec<_> = containers
                    .iter()
                    .flat_map(|(id, cgroups)| {
                        cgroups.iter().map(move |cgroup| (vec![u128::from(*cgroup)], to(Party::Container(*id))))
                    })
                    .collect();
                let map = self.map(&map, vec![Kind::Cgroup], verdicts);
                dispatch([Field::SocketCgroup { level: *level }], &map)
            }
            Identities::Uid(users) | Identities::Gid(users) => {
                let (field, kind) = match self.pod.identities {
                    Identities::Uid(_) => (Field::SocketUid, Kind::Uid),
                    _ => (Field::SocketGid, Kind::Gid),
                };
                let containers = users.containers.iter().map(|(id, user)| (*user, Party::Container(*id)));
                let nodes = users.node.iter().map(|user| (*user, Party::Node));
                let verdicts: Vec<_> =
                    containers.chain(nodes).map(|(user, party)| (vec![u128::from(user)], to(party))).collect();
                let map = self.map(&map, vec![kind], verdicts);
                dispatch([field], &map)
            }
        }
    }

    /// The rules that find the party of a packet's socket: into `prefix-PARTY`, or on where there is no such socket.
    /// `nodes` finds the node's sockets where only what is left can tell.
    fn identify(&mut self, prefix: &str, nodes: Statement) -> Vec<Rule> {
        let to = |party: Party| goto(&format!("{prefix}-{party}"));
        let known = rule([self.known_sockets(prefix)]);
        match &self.pod.identities {
            Identities::Cgroup { pods_level, pods, .. } => {
                let pods = is(Field::SocketCgroup { level: *pods_level }, u128::from(*pods));
                vec![known, rule([pods, to(Party::Unknown).into()]), rule([nodes, to(Party::Node).into()])]
            }
            Identities::Uid(_) | Identities::Gid(_) => {
                vec![known, rule([is_not(Field::SocketUid, NO_USER), to(Party::Unknown).into()])]
            }
        }
    }

    // === flows that this generation has judged ===

    /// Accepts what a known socket sends in a flow that it may: the one look-up that most packets need. `None` under
    /// identity by port, where a flow's recorded receiver need not be the socket that hears.
    pub fn seen_out(&mut self) -> Option<Statement> {
        if self.pod.identities.by_port() {
            return None;
        }
        let common = mark::GENERATION | mark::DENIED;
        let now = mark::generation(self.generation);
        let passed = |bits: u32, value: u32| mark(common | bits, now | value);
        let stays = || is(Field::OutputDevice, LO);
        for party in self.parties() {
            let sends = mark::sender(party) | mark::CLIENT;
            let answers = mark::receiver(party) | mark::SERVER;
            let ends = mark::SENDER | mark::RECEIVER;
            let rules = vec![
                rule([passed(mark::SENDER | mark::CLIENT, sends), original(), stays(), Verdict::Accept.into()]),
                rule([passed(mark::RECEIVER | mark::SERVER, answers), reply(), stays(), Verdict::Accept.into()]),
                // A flow to the network has no receiver here, one from it no sender.
                rule([passed(ends | mark::CLIENT, sends), original(), Verdict::Accept.into()]),
                rule([passed(ends | mark::SERVER, answers), reply(), Verdict::Accept.into()]),
                rule([Verdict::Return.into()]),
            ];
            self.chain(format!("seen-out-{party}"), rules);
        }
        Some(self.known_sockets("seen-out"))
    }

    /// Accepts what a known socket receives in a flow that it may; `None` as for [`Builder::seen_out`].
    pub fn seen_in(&mut self) -> Option<Statement> {
        if self.pod.identities.by_port() {
            return None;
        }
        let common = mark::GENERATION | mark::DENIED;
        let now = mark::generation(self.generation);
        for party in self.parties() {
            let hears = mark::sender(party) | mark::CLIENT;
            let serves = mark::receiver(party) | mark::SERVER;
            let rules = vec![
                rule([mark(common | mark::RECEIVER | mark::SERVER, now | serves), original(), Verdict::Accept.into()]),
                rule([mark(common | mark::SENDER | mark::CLIENT, now | hears), reply(), Verdict::Accept.into()]),
                rule([Verdict::Return.into()]),
            ];
            self.chain(format!("seen-in-{party}"), rules);
        }
        Some(self.known_sockets("seen-in"))
    }

    /// The rules by which a party's packets pass in flows that are judged already, where nothing has done that before:
    /// what [`Builder::seen_out`] and [`Builder::seen_in`] let by is to be judged.
    fn unless_seen<const N: usize>(&self, party: Party, passed: [Rule; N]) -> Vec<Rule> {
        let seen = matches!(party, Party::Container(_)) && !self.pod.identities.by_port();
        if seen { Vec::new() } else { passed.into() }
    }

    // === the client's side ===

    /// `egress-PARTY`: what a party opens.
    fn egress(&mut self, party: Party) {
        let place = Place::Egress(party);
        let question = Question { party, direction: Direction::Egress, other: None };
        let answers = Answers { allow: self.client_passes(party), deny: self.egress_denied(party, place) };
        let answers = self.audited(place, &[(party, Direction::Egress)], answers, |builder, prefix, layer, answers| {
            builder.ask(&format!("{prefix}network-from-{party}"), layer, question, answers)
        });
        let pod = self.pod;
        let network = self.ask(&format!("network-from-{party}"), &pod.enforced, question, &answers);
        let (mut rules, loopback) = if pod.identities.by_port() {
            self.loopback_by_port(party)
        } else {
            // OUTPUT can't know the receiver; it records the sender, and INPUT judges the pair.
            (Vec::new(), self.client_passes(party))
        };
        rules.extend([
            rule([is(Field::OutputDevice, LO), loopback.clone().into()]),
            rule([is(Field::InputDevice, LO), loopback.into()]),
            rule([network.into()]),
        ]);
        self.chain(format!("egress-{party}"), rules);
    }

    /// `out-PARTY`: a packet that this party's socket sends in a flow that it opened.
    fn out_original(&mut self) {
        for party in self.parties() {
            let own = mark::sender(party);
            let judge = || goto(&format!("egress-{party}"));
            let passed = mark(mark::SENDER | mark::CLIENT, own | mark::CLIENT);
            // A flow to the network has no receiver here.
            let left = mark(mark::SENDER | mark::RECEIVER | mark::CLIENT, own | mark::CLIENT);
            // A packet of a new flow has passed nothing: its mark has just begun.
            let passed = [
                rule([passed, is(Field::OutputDevice, LO), Verdict::Accept.into()]),
                rule([left, Verdict::Accept.into()]),
            ];
            let mut rules = self.unless_seen(party, passed);
            rules.extend([
                rule([state(Field::CT_ESTABLISHED), still_proper()]),
                rule([mark(mark::SENDER, 0), judge().into()]),
                rule([mark(mark::SENDER, own), judge().into()]),
                // On the network, a port that another has left may be taken; on loopback somebody may still listen.
                rule([is_not(Field::OutputDevice, LO), judge().into()]),
                rule([goto(FORGED).into()]),
            ]);
            self.chain(format!("out-{party}"), rules);
        }
    }

    /// What is left of `judge-out` for original packets: those without a socket of their own.
    fn out_original_rest() -> Vec<Rule> {
        vec![
            rule([mark(mark::RECEIVER | mark::CLIENT, mark::CLIENT), Verdict::Accept.into()]),
            // What a closed socket still had to send is among them.
            rule([state(Field::CT_ESTABLISHED), still_proper()]),
            rule([mark_not(mark::CLIENT, 0), is(Field::OutputDevice, LO), Verdict::Accept.into()]),
            rule([state(Field::CT_ESTABLISHED), dispatch_mark(mark::SENDER, EGRESS_OF)]),
            rule([goto(&format!("egress-{}", Party::Unknown)).into()]),
        ]
    }

    // === identity by cgroup ===

    /// `ingress-PARTY`: what a party receives, judged where the receiving socket is known.
    fn ingress(&mut self, receiver: Party) {
        let place = Place::Ingress(receiver);
        let question = Question { party: receiver, direction: Direction::Ingress, other: None };
        let answers = Answers { allow: self.server_passes(receiver), deny: self.ingress_denied(receiver, place) };
        let answers =
            self.audited(place, &[(receiver, Direction::Ingress)], answers, |builder, prefix, layer, answers| {
                builder.ask(&format!("{prefix}network-to-{receiver}"), layer, question, answers)
            });
        let network = self.ask(&format!("network-to-{receiver}"), &self.pod.enforced, question, &answers);
        let map = format!("loopback-to-{receiver}-from");
        let mut verdicts = Vec::new();
        for sender in self.parties() {
            let verdict = self.pair_by_cgroup(sender, receiver);
            verdicts.push((vec![u128::from(mark::sender(sender))], verdict));
        }
        let map = self.map(&map, vec![Kind::Mark], verdicts);
        let loopback = self.chain(
            format!("loopback-to-{receiver}"),
            vec![self.only_from_output(), rule([dispatch_mark(mark::SENDER, &map)]), rule([goto(FORGED).into()])],
        );
        let rules = vec![
            rule([is(Field::OutputDevice, LO), loopback.clone().into()]),
            rule([is(Field::InputDevice, LO), loopback.into()]),
            rule([network.into()]),
        ];
        self.chain(format!("ingress-{receiver}"), rules);
    }

    fn pair_by_cgroup(&mut self, sender: Party, receiver: Party) -> Verdict {
        let place = Place::Loopback { sender, receiver };
        let sides = [(sender, Direction::Egress), (receiver, Direction::Ingress)];
        let answers = Answers { allow: self.server_passes(receiver), deny: self.ingress_denied(receiver, place) };
        let name = format!("loopback-{sender}-{receiver}");
        let answers = self.audited(place, &sides, answers, |builder, prefix, layer, answers| {
            builder.ask_pair(&format!("{prefix}{name}"), layer, sender, receiver, answers)
        });
        self.ask_pair(&name, &self.pod.enforced, sender, receiver, &answers)
    }

    fn out_by_cgroup(&mut self) {
        self.out_original();
        let full = || at_most(Field::SocketWildcard, 1);
        let mut rules = vec![rule([reply(), goto("out-reply").into()])];
        rules.extend(self.identify("out", is_not(Field::SocketUid, NO_USER)));
        rules.extend(Self::out_original_rest());
        self.chain(JUDGE_OUT, rules);

        for party in self.parties() {
            let own = mark::receiver(party);
            let passed = mark(mark::RECEIVER | mark::SERVER, own | mark::SERVER);
            // A flow from the network has no sender here.
            let arrived = mark(mark::SENDER | mark::RECEIVER | mark::SERVER, own | mark::SERVER);
            let passed = [
                rule([passed, is(Field::OutputDevice, LO), Verdict::Accept.into()]),
                rule([arrived, Verdict::Accept.into()]),
            ];
            let mut rules = self.unless_seen(party, passed);
            rules.extend([
                rule([mark_not(mark::RECEIVER, 0), mark_not(mark::RECEIVER, own), goto(FORGED).into()]),
                rule([still_proper()]),
                rule([goto(&format!("ingress-{party}")).into()]),
            ]);
            self.chain(format!("answers-{party}"), rules);
        }
        // A SYN-ACK has the listener's user and no cgroup: only a full socket is looked at for the node's.
        let mut rules = self.identify("answers", full());
        let flags = SYN | ACK | RST | FIN;
        rules.extend([
            rule([
                is(Field::Protocol, TCP),
                bits(Field::TcpFlags, flags, SYN | ACK),
                at_most(Field::Length, HANDSHAKE),
                Verdict::Accept.into(),
            ]),
            rule([mark(mark::SENDER | mark::SERVER, mark::SERVER), Verdict::Accept.into()]),
            rule([still_proper()]),
            rule([mark_not(mark::SERVER, 0), Verdict::Accept.into()]),
            rule([dispatch_mark(mark::RECEIVER, INGRESS_OF)]),
            rule([is(Field::Protocol, TCP), bits(Field::TcpFlags, RST, RST), Verdict::Accept.into()]),
            rule([goto(IMPROPER).into()]),
        ]);
        self.chain("out-reply", rules);
    }

    fn in_by_cgroup(&mut self) {
        let full = || at_most(Field::SocketWildcard, 1);
        for party in self.parties() {
            let passed = mark(mark::RECEIVER | mark::SERVER, mark::receiver(party) | mark::SERVER);
            let mut rules = self.unless_seen(party, [rule([passed, Verdict::Accept.into()])]);
            rules.push(rule([goto(&format!("ingress-{party}")).into()]));
            self.chain(format!("in-{party}"), rules);
        }
        let mut rules = vec![rule([reply(), goto("in-reply").into()])];
        rules.extend(self.identify("in", full()));
        let flags = SYN | ACK | RST | FIN;
        let any_socket = || at_most(Field::SocketTransparent, 1);
        rules.push(rule([mark_not(mark::SERVER, 0), Verdict::Accept.into()]));
        // A SYN onto a TIME_WAIT socket and the handshake that follows: there is no receiver yet, and no payload. It is
        // judged at the first full socket.
        rules.push(rule([
            any_socket(),
            is(Field::Protocol, TCP),
            bits(Field::TcpFlags, flags, SYN),
            at_most(Field::Length, HANDSHAKE),
            Verdict::Accept.into(),
        ]));
        for (family, most) in [(IPV4, 52), (IPV6, 72)] {
            rules.push(rule([
                any_socket(),
                is(Field::Protocol, TCP),
                is(Field::NfProtocol, family),
                at_most(Field::Length, most),
                Verdict::Accept.into(),
            ]));
        }
        rules.push(rule([dispatch_mark(mark::RECEIVER, INGRESS_OF)]));
        rules.push(rule([goto(&format!("ingress-{}", Party::Unknown)).into()]));
        self.chain(JUDGE_IN, rules);

        for party in self.parties() {
            let own = mark::sender(party);
            let passed = mark(mark::SENDER | mark::CLIENT, own | mark::CLIENT);
            let mut rules = self.unless_seen(party, [rule([passed, Verdict::Accept.into()])]);
            rules.extend([
                rule([mark_not(mark::SENDER, 0), mark_not(mark::SENDER, own), goto(FORGED).into()]),
                // An answer to the network that was sent by way of lo.
                rule([is(Field::InputDevice, LO), mark(mark::SENDER, 0), goto(FORGED).into()]),
                rule([goto(&format!("egress-{party}")).into()]),
            ]);
            self.chain(format!("hears-{party}"), rules);
        }
        let mut rules = self.identify("hears", full());
        rules.extend(Self::in_reply_rest());
        self.chain("in-reply", rules);
    }

    /// On loopback, what arrives has passed OUTPUT in this generation.
    fn only_from_output(&self) -> Rule {
        let bits = mark::GENERATION | mark::CLIENT;
        let passed = mark::generation(self.generation) | mark::CLIENT;
        rule([is(Field::InputDevice, LO), mark_not(bits, passed), goto(FORGED).into()])
    }

    fn in_reply_rest() -> Vec<Rule> {
        vec![
            rule([mark_not(mark::CLIENT, 0), Verdict::Accept.into()]),
            rule([dispatch_mark(mark::SENDER, EGRESS_OF)]),
            rule([goto(IMPROPER).into()]),
        ]
    }

    // === identity by user or group: the receiver is known by its declared port ===

    /// How a party's loopback packets are judged: by the port, whose owner must then answer. Gives the rules for declared
    /// ports and the verdict for others. The rules stand in the party's own chain: the kernel allows 16 in a row.
    fn loopback_by_port(&mut self, sender: Party) -> (Vec<Rule>, Verdict) {
        let mut verdicts = Vec::new();
        for (protocol, port, owner) in self.owners() {
            let receiver = Party::Container(owner);
            let place = Place::Loopback { sender, receiver };
            let deny = self.egress_denied(sender, place);
            let deny = self.audited_by_port(place, sender, Some(receiver), None, deny);
            let allow = self.loopback_passes(sender, Some(receiver));
            let allow = self.audited_by_port(place, sender, Some(receiver), Some(allow.clone()), allow);
            let name = format!("loopback-{sender}-{receiver}");
            let owned = self.ask_pair(&name, &self.pod.enforced, sender, receiver, &Answers { allow, deny });
            let verdict = self.open_or(sender, place, owned);
            verdicts.push((vec![u128::from(protocol.number()), u128::from(port)], verdict));
        }
        let place = Place::LoopbackFrom(sender);
        let mut undeclared = Vec::new();
        let deny = self.egress_denied(sender, place);
        let deny = self.audited_by_port(place, sender, None, None, deny);
        if sender != Party::Unknown {
            // Over TCP its own answer can be told from another's before any data flows: in a connection that has begun
            // so, and not in one that the rules meet in its middle.
            let own = self.loopback_passes(sender, Some(sender));
            undeclared.push(rule([
                is(Field::Protocol, TCP),
                mark(mark::RECEIVER, mark::receiver(sender)),
                own.clone().into(),
            ]));
            undeclared.push(rule([
                is(Field::Protocol, TCP),
                bits(Field::TcpFlags, SYN | ACK | RST | FIN, SYN),
                at_most(Field::Length, HANDSHAKE),
                own.into(),
            ]));
        }
        undeclared.push(rule([deny.into()]));
        let undeclared = self.shared_chain(&format!("loopback-{sender}-undeclared"), undeclared);
        let undeclared = self.open_or(sender, place, undeclared);
        let mut rules = Vec::new();
        if !verdicts.is_empty() {
            let map = self.map(&format!("loopback-{sender}-map"), vec![Kind::Protocol, Kind::Port], verdicts);
            let ports = dispatch([Field::Protocol, Field::CtOriginalDestinationPort], &map);
            rules.extend([Field::OutputDevice, Field::InputDevice].map(|device| rule([is(device, LO), ports.clone()])));
        }
        (rules, undeclared)
    }

    /// Where even an unknown receiver may be reached, so may anybody; else `or`.
    fn open_or(&mut self, sender: Party, place: Place, or: Verdict) -> Verdict {
        let anybody = self.loopback_passes(sender, None);
        let receiver = match place {
            Place::Loopback { receiver, .. } => Some(receiver),
            _ => None,
        };
        let allow = self.audited_by_port(place, sender, receiver, Some(anybody.clone()), anybody);
        let answers = Answers { allow, deny: or };
        self.ask_pair(&format!("loopback-{sender}-anybody"), &self.pod.enforced, sender, Party::Unknown, &answers)
    }

    /// Leads a verdict of a loopback port through the Audit policies: `passed` where it allows, else it denies.
    fn audited_by_port(
        &mut self,
        place: Place,
        sender: Party,
        owner: Option<Party>,
        passed: Option<Verdict>,
        verdict: Verdict,
    ) -> Verdict {
        let mut sides = vec![(sender, Direction::Egress), (Party::Unknown, Direction::Ingress)];
        sides.extend(owner.map(|owner| (owner, Direction::Ingress)));
        let answers = Answers { allow: verdict.clone(), deny: verdict };
        let audited = self.audited(place, &sides, answers, |builder, prefix, layer, answers| {
            let deny = match owner {
                Some(owner) => {
                    builder.ask_pair(&format!("{prefix}loopback-{sender}-{owner}"), layer, sender, owner, answers)
                }
                None => answers.deny.clone(),
            };
            let answers = Answers { allow: answers.allow.clone(), deny };
            builder.ask_pair(&format!("{prefix}loopback-{sender}-anybody"), layer, sender, Party::Unknown, &answers)
        });
        if passed.is_some() { audited.allow } else { audited.deny }
    }

    /// The declared ports and whose they are; the first container that declares one has it.
    fn owners(&self) -> Vec<(Protocol, u16, ContainerId)> {
        let mut owners = BTreeMap::new();
        for (id, container) in &self.pod.containers {
            for port in &container.ports {
                owners.entry((port.protocol, port.port)).or_insert(*id);
            }
        }
        owners.into_iter().map(|((protocol, port), id)| (protocol, port, id)).collect()
    }

    /// The client's side has passed on loopback: sender and receiver are recorded, and the receiver must answer.
    /// `None` is anybody.
    fn loopback_passes(&mut self, sender: Party, receiver: Option<Party>) -> Verdict {
        let bits = mark::SENDER | mark::RECEIVER | mark::CLIENT;
        let passed = mark::sender(sender) | mark::CLIENT;
        match receiver {
            Some(receiver) => {
                let recorded = mark::receiver(receiver);
                let set = self.may_answer(receiver);
                let rules = vec![
                    rule([self.receiver_in(&set), set_mark(bits, passed | recorded), Verdict::Accept.into()]),
                    rule([goto(FORGED).into()]),
                ];
                self.shared_chain(&format!("passes-{sender}-{receiver}"), rules)
            }
            None => {
                let rules = vec![
                    rule([mark(mark::RECEIVER, 0), set_mark(bits, passed | mark::ANYBODY), Verdict::Accept.into()]),
                    rule([set_mark(mark::SENDER | mark::CLIENT, passed), Verdict::Accept.into()]),
                ];
                self.shared_chain(&format!("passes-{sender}-anybody"), rules)
            }
        }
    }

    fn may_answer(&mut self, receiver: Party) -> String {
        let values = [0, mark::receiver(receiver), mark::ANYBODY];
        self.set("may-answer", vec![Kind::Mark], values.map(|value| vec![u128::from(value)]))
    }

    fn receiver_in(&self, set: &str) -> Statement {
        Statement::Lookup {
            fields: vec![Field::CtMark],
            mask: Some(mark::RECEIVER),
            set: set.to_owned(),
            negate: false,
        }
    }

    /// `arrival`: what comes from the network, judged by the port's owner.
    fn arrival_by_port(&mut self) {
        let mut verdicts = Vec::new();
        for (protocol, port, owner) in self.owners() {
            let verdict = self.arrival_of(Some(Party::Container(owner)));
            verdicts.push((vec![u128::from(protocol.number()), u128::from(port)], verdict));
        }
        let mut rules = Vec::new();
        if !verdicts.is_empty() {
            let map = self.map("arrival-map", vec![Kind::Protocol, Kind::Port], verdicts);
            rules.push(rule([dispatch([Field::Protocol, Field::CtOriginalDestinationPort], &map)]));
        }
        let undeclared = self.arrival_of(None);
        rules.push(rule([undeclared.into()]));
        self.chain("arrival", rules);
    }

    /// A port's judgement: anybody's where even an unknown receiver would be reached, else its owner's.
    fn arrival_of(&mut self, owner: Option<Party>) -> Verdict {
        let receiver = owner.unwrap_or(Party::Unknown);
        let place = Place::Ingress(receiver);
        let sides = [(receiver, Direction::Ingress), (Party::Unknown, Direction::Ingress)];
        let question = |party| Question { party, direction: Direction::Ingress, other: None };
        let ask =
            |builder: &mut Self, prefix: &str, layer: &Layer, anybody: &Verdict, own: &Verdict, deny: &Verdict| {
                let mut deny = deny.clone();
                if owner.is_some() {
                    let answers = Answers { allow: own.clone(), deny };
                    deny = builder.ask(&format!("{prefix}network-to-{receiver}"), layer, question(receiver), &answers);
                }
                let answers = Answers { allow: anybody.clone(), deny };
                builder.ask(&format!("{prefix}network-to-anybody"), layer, question(Party::Unknown), &answers)
            };
        let deny = self.ingress_denied(receiver, place);
        let mut audited = |verdict: Verdict| {
            let answers = Answers { allow: verdict.clone(), deny: verdict };
            self.audited(place, &sides, answers, |builder, prefix, layer, answers| {
                ask(builder, prefix, layer, &answers.allow, &answers.allow, &answers.deny)
            })
        };
        let deny = audited(deny).deny;
        let anybody = goto("arrives-anybody");
        let own = owner.map_or(anybody.clone(), |owner| goto(&format!("arrives-{owner}")));
        let (anybody, own) = (audited(anybody).allow, audited(own).allow);
        ask(self, "", &self.pod.enforced, &anybody, &own, &deny)
    }

    fn arrives(&mut self) {
        let bits = mark::RECEIVER | mark::SERVER;
        for party in self.parties() {
            let Party::Container(_) = party else { continue };
            let set = self.may_answer(party);
            let rules = vec![
                rule([
                    self.receiver_in(&set),
                    set_mark(bits, mark::receiver(party) | mark::SERVER),
                    Verdict::Accept.into(),
                ]),
                rule([goto(FORGED).into()]),
            ];
            self.chain(format!("arrives-{party}"), rules);
        }
        let rules = vec![
            rule([mark(mark::RECEIVER, 0), set_mark(bits, mark::ANYBODY | mark::SERVER), Verdict::Accept.into()]),
            rule([set_mark(mark::SERVER, mark::SERVER), Verdict::Accept.into()]),
        ];
        self.chain("arrives-anybody", rules);
    }

    fn out_by_user(&mut self) {
        self.arrives();
        self.out_original();
        let nodes = || is_not(Field::SocketUid, NO_USER);
        let mut rules = vec![rule([reply(), goto("out-reply").into()])];
        rules.extend(self.identify("out", nodes()));
        rules.extend(Self::out_original_rest());
        self.chain(JUDGE_OUT, rules);

        for party in self.parties() {
            let own = mark::receiver(party);
            let rules = vec![
                // Who answers first where anybody may is the receiver from then on.
                rule([mark(mark::RECEIVER, mark::ANYBODY), set_mark(mark::RECEIVER, own)]),
                rule([mark_not(mark::RECEIVER, own), goto(FORGED).into()]),
                // The pair is judged where the client hears.
                rule([is(Field::OutputDevice, LO), Verdict::Accept.into()]),
                // A flow from the network has no sender here; another one stays on loopback.
                rule([mark_not(mark::SENDER, 0), goto(FORGED).into()]),
                rule([mark_not(mark::SERVER, 0), Verdict::Accept.into()]),
                rule([still_proper()]),
                rule([goto("arrival").into()]),
            ];
            self.chain(format!("answers-{party}"), rules);
        }
        let mut rules = self.identify("answers", nodes());
        rules.extend([
            rule([still_proper()]),
            rule([mark_not(mark::CLIENT | mark::SERVER, 0), Verdict::Accept.into()]),
            rule([is(Field::Protocol, TCP), bits(Field::TcpFlags, RST, RST), Verdict::Accept.into()]),
            rule([is(Field::OutputDevice, LO), mark_not(mark::RECEIVER, 0), Verdict::Accept.into()]),
            rule([goto("arrival").into()]),
        ]);
        self.chain("out-reply", rules);
    }

    fn in_by_user(&mut self) {
        let rules = vec![
            rule([reply(), goto("in-reply").into()]),
            self.only_from_output(),
            // A flow to the network, sent by way of lo, has no receiver that was judged.
            rule([is(Field::InputDevice, LO), mark(mark::RECEIVER, 0), goto(FORGED).into()]),
            rule([is(Field::InputDevice, LO), Verdict::Accept.into()]),
            rule([mark_not(mark::SERVER, 0), Verdict::Accept.into()]),
            rule([goto("arrival").into()]),
        ];
        self.chain(JUDGE_IN, rules);
        // There is no user at INPUT; the flow's recorded sender stands.
        self.chain("in-reply", Self::in_reply_rest());
    }
}

/// Looks again at addresses and device where a packet does not pass by its flow's mark.
fn still_proper() -> Statement {
    Verdict::Jump(PROPER.to_owned()).into()
}

/// The packet goes the way that the flow was opened.
const fn original() -> Statement {
    is(Field::CtDirection, ORIGINAL)
}

/// The packet goes the other way.
const fn reply() -> Statement {
    is(Field::CtDirection, REPLY)
}
