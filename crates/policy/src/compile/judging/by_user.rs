//! Judging by user or group: a receiver is known by the port that its container declares, and must then answer.

use super::super::builder::{Builder, Size};
use super::super::ends::{DENY_INGRESS, FORGED};
use super::super::hooks::{JUDGE_IN, JUDGE_OUT};
use super::super::question::Answers;
use super::super::statements::{
    ACK, FIN, LO, NO_USER, RST, SYN, TCP, bits, dispatch, goto, is, is_not, mark, mark_not, rule, set_mark,
};
use super::identify::into;
use super::{reply, still_proper};
use crate::mark;
use crate::model::Layer;
use crate::ruleset::{Field, Kind, Rule, Statement, Verdict};
use sidewall_flow::{ContainerId, Direction, Party, Place, Protocol};
use std::collections::BTreeMap;

impl Builder<'_> {
    /// How a party's loopback packets are judged: by the port, whose owner must then answer. Gives the rules for declared
    /// ports and the verdict for others. The rules stand in the party's own chain: the kernel allows 16 in a row.
    pub(super) fn loopback_by_port(&mut self, sender: Party) -> (Vec<Rule>, Verdict) {
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
                self.without_data(),
                own.into(),
            ]));
        }
        undeclared.push(rule([deny.into()]));
        let undeclared = self.shared_chain(&format!("loopback-{sender}-undeclared"), undeclared);
        let undeclared = self.open_or(sender, place, undeclared);
        let mut rules = Vec::new();
        if !verdicts.is_empty() {
            let map =
                self.map(&format!("loopback-{sender}-map"), vec![Kind::Protocol, Kind::Port], Size::Fixed, verdicts);
            let ports = dispatch([Field::Protocol, Field::CtOriginalDestinationPort], &map);
            rules.extend([Field::OutputDevice, Field::InputDevice].map(|device| rule([is(device, LO), ports.clone()])));
        }
        (rules, undeclared)
    }

    /// Where even an unknown receiver may be reached, so may anybody; else `or`.
    pub(super) fn open_or(&mut self, sender: Party, place: Place, or: Verdict) -> Verdict {
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
    pub(super) fn audited_by_port(
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

    /// The declared ports of this namespace's containers and whose they are; the first container that declares one has it.
    pub(super) fn owners(&self) -> Vec<(Protocol, u16, ContainerId)> {
        self.pod.ports_here().collect()
    }

    /// The same for what comes from the network: captured ports are the proxy's.
    fn owners_on_network(&self) -> Vec<(Protocol, u16, ContainerId)> {
        let mut owners: BTreeMap<_, _> =
            self.owners().into_iter().map(|(protocol, port, id)| ((protocol, port), id)).collect();
        if let Some(captured) = &self.pod.captured {
            owners.extend(captured.ports.iter().map(|port| ((Protocol::Tcp, *port), captured.proxy)));
        }
        owners.into_iter().map(|((protocol, port), id)| (protocol, port, id)).collect()
    }

    fn is_captured(&self, protocol: Protocol, port: u16) -> bool {
        self.pod.captured.as_ref().is_some_and(|captured| protocol == Protocol::Tcp && captured.ports.contains(&port))
    }

    /// The client's side has passed on loopback: sender and receiver are recorded, and the receiver must answer.
    /// `None` is anybody.
    pub(super) fn loopback_passes(&mut self, sender: Party, receiver: Option<Party>) -> Verdict {
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

    pub(super) fn may_answer(&mut self, receiver: Party) -> String {
        let values = [0, mark::receiver(receiver), mark::ANYBODY];
        self.set(&format!("may-answer-{receiver}"), vec![Kind::Mark], values.map(|value| vec![u128::from(value)]))
    }

    pub(super) fn receiver_in(&self, set: &str) -> Statement {
        Statement::Lookup {
            fields: vec![Field::CtMark],
            mask: Some(mark::RECEIVER),
            set: set.to_owned(),
            negate: false,
        }
    }

    /// `arrival`: what comes from the network, judged by the port's owner.
    pub(super) fn arrival_by_port(&mut self) {
        let mut verdicts = Vec::new();
        for (protocol, port, owner) in self.owners_on_network() {
            let verdict = if self.is_captured(protocol, port) {
                self.captured_arrival(Party::Container(owner))
            } else {
                self.arrival_of(Some(Party::Container(owner)))
            };
            verdicts.push((vec![u128::from(protocol.number()), u128::from(port)], verdict));
        }
        // At the edge, whoever declares the port is the receiver too.
        let denied: Vec<_> = self
            .owners_on_network()
            .into_iter()
            .map(|(protocol, port, owner)| {
                let owner = Party::Container(owner);
                let denied = self.ingress_denied(owner, Place::Ingress(owner));
                (vec![u128::from(protocol.number()), u128::from(port)], denied)
            })
            .collect();
        let mut denials = Vec::new();
        if !denied.is_empty() {
            let map = self.map("deny-ingress-map", vec![Kind::Protocol, Kind::Port], Size::Fixed, denied);
            denials.push(rule([dispatch([Field::Protocol, Field::CtOriginalDestinationPort], &map)]));
        }
        denials.push(rule([self.ingress_denied(Party::Unknown, Place::Ingress(Party::Unknown)).into()]));
        let denies = self.chain(DENY_INGRESS, denials);
        let mut rules: Vec<Rule> = self.edge(Direction::Ingress, &denies).into_iter().collect();
        if !verdicts.is_empty() {
            let map = self.map("arrival-map", vec![Kind::Protocol, Kind::Port], Size::Fixed, verdicts);
            rules.push(rule([dispatch([Field::Protocol, Field::CtOriginalDestinationPort], &map)]));
        }
        let undeclared = self.arrival_of(None);
        rules.push(rule([undeclared.into()]));
        self.chain("arrival", rules);
    }

    /// A port's judgement: anybody's where even an unknown receiver would be reached, else its owner's.
    pub(super) fn arrival_of(&mut self, owner: Option<Party>) -> Verdict {
        let receiver = owner.unwrap_or(Party::Unknown);
        let place = Place::Ingress(receiver);
        let sides = [(receiver, Direction::Ingress), (Party::Unknown, Direction::Ingress)];
        let ask =
            |builder: &mut Self, prefix: &str, layer: &Layer, anybody: &Verdict, own: &Verdict, deny: &Verdict| {
                let mut deny = deny.clone();
                if owner.is_some() {
                    let answers = Answers { allow: own.clone(), deny };
                    deny = builder.ask_network(prefix, layer, receiver, Direction::Ingress, &answers);
                }
                let answers = Answers { allow: anybody.clone(), deny };
                builder.ask_network(prefix, layer, Party::Unknown, Direction::Ingress, &answers)
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

    /// A captured port's judgement: the proxy's, and nobody else's.
    fn captured_arrival(&mut self, proxy: Party) -> Verdict {
        let (place, sides) = (Place::Ingress(proxy), [(proxy, Direction::Ingress)]);
        let deny = self.ingress_denied(proxy, place);
        // Where the proxy is in another part of a split pod, nothing is led to it.
        if self.pod.is_elsewhere(proxy) {
            return deny;
        }
        let mut audited = |verdict: Verdict| {
            let answers = Answers { allow: verdict.clone(), deny: verdict };
            self.audited(place, &sides, answers, |builder, prefix, layer, answers| {
                builder.ask_network(prefix, layer, proxy, Direction::Ingress, answers)
            })
        };
        let deny = audited(deny).deny;
        let allow = audited(goto(&format!("arrives-{proxy}"))).allow;
        self.ask_network("", &self.pod.enforced, proxy, Direction::Ingress, &Answers { allow, deny })
    }

    pub(super) fn arrives(&mut self) {
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

    pub(super) fn out_by_user(&mut self) {
        self.arrives();
        let nodes = || is_not(Field::SocketUid, NO_USER);
        let mut rules = vec![rule([reply(), goto("out-reply").into()])];
        rules.extend(self.identify("out", nodes(), &into("egress")));
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
        let mut rules = self.identify("answers", nodes(), &into("answers"));
        rules.extend([
            rule([still_proper()]),
            rule([mark_not(mark::CLIENT | mark::SERVER, 0), Verdict::Accept.into()]),
            rule([is(Field::Protocol, TCP), bits(Field::TcpFlags, RST, RST), Verdict::Accept.into()]),
            rule([is(Field::OutputDevice, LO), mark_not(mark::RECEIVER, 0), Verdict::Accept.into()]),
            rule([goto("arrival").into()]),
        ]);
        self.chain("out-reply", rules);
    }

    pub(super) fn in_by_user(&mut self) {
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
