//! Judging where the kernel knows the receiving socket too: a pair is judged at the receiver.

use super::super::builder::Builder;
use super::super::ends::{FORGED, IMPROPER};
use super::super::hooks::{JUDGE_IN, JUDGE_OUT};
use super::super::judge::{Answers, Question};
use super::super::statements::{
    IPV4, IPV6, LO, NO_USER, TCP, at_most, bits, dispatch_mark, goto, is, is_not, mark, mark_not, rule,
};
use super::{ACK, FIN, HANDSHAKE, INGRESS_OF, RST, SYN, reply, still_proper};
use crate::mark;
use crate::ruleset::{Field, Kind, Verdict};
use sidewall_flow::{Direction, Party, Place};

impl Builder<'_> {
    /// `ingress-PARTY`: what a party receives, judged where the receiving socket is known.
    pub(super) fn ingress(&mut self, receiver: Party) {
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

    pub(super) fn pair_by_cgroup(&mut self, sender: Party, receiver: Party) -> Verdict {
        let place = Place::Loopback { sender, receiver };
        let sides = [(sender, Direction::Egress), (receiver, Direction::Ingress)];
        let answers = Answers { allow: self.server_passes(receiver), deny: self.ingress_denied(receiver, place) };
        let name = format!("loopback-{sender}-{receiver}");
        let answers = self.audited(place, &sides, answers, |builder, prefix, layer, answers| {
            builder.ask_pair(&format!("{prefix}{name}"), layer, sender, receiver, answers)
        });
        self.ask_pair(&name, &self.pod.enforced, sender, receiver, &answers)
    }

    pub(super) fn out_by_cgroup(&mut self) {
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

    pub(super) fn in_by_cgroup(&mut self) {
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
}
