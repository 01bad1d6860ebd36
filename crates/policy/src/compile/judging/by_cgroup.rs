//! Judging where the kernel knows the receiving socket too: a pair is judged at the receiver.

use super::super::builder::{Builder, Size};
use super::super::ends::{DENY_INGRESS, FORGED, IMPROPER, REFUSE, REFUSE_OWN};
use super::super::hooks::{JUDGE_IN, JUDGE_OUT};
use super::super::question::Answers;
use super::super::statements::{
    ACK, FIN, ICMP, ICMPV6, LO, NO_USER, RST, SYN, TCP, UDP, at_most, bits, dispatch_mark, goto, in_set, is, is_not,
    mark, mark_not, not_in_set, rule,
};
use super::identify::into;
use super::{HANDSHAKE, INGRESS_OF, reply, server_passes, still_proper};
use crate::mark;
use crate::ruleset::{Field, Kind, Rule, Statement, Verdict};
use sidewall_flow::{Decision, Direction, Party, Place};
use std::collections::BTreeMap;

impl Builder<'_> {
    /// The server's side, judged where the receiving socket is known.
    pub(super) fn ingress_by_cgroup(&mut self) {
        let mut denied = BTreeMap::new();
        for party in self.parties() {
            let senders = self.ingress(party);
            denied.insert(party, self.denied_to(party, &senders));
        }
        self.denials(Direction::Ingress, &denied);
    }

    /// `ingress-PARTY`: what a party receives, where it arrives and where it answers. Gives the parties of the pod whose
    /// flows it may deny.
    fn ingress(&mut self, receiver: Party) -> Vec<Party> {
        let own = mark::receiver(receiver);
        let passes = server_passes(receiver);
        let network = self.on_network(receiver, Direction::Ingress, passes.clone());
        let (loopback, senders) = self.loopback_to(receiver, passes);
        let mut rules = self.unless_seen(
            receiver,
            [
                rule([
                    mark(mark::RECEIVER | mark::SERVER, own | mark::SERVER),
                    at_most(Field::OutputDevice, LO),
                    Verdict::Accept.into(),
                ]),
                // A flow from the network has no sender here.
                rule([mark(mark::SENDER | mark::RECEIVER | mark::SERVER, own | mark::SERVER), Verdict::Accept.into()]),
            ],
        );
        let answers = || is_not(Field::OutputDevice, 0);
        rules.extend([
            rule([answers(), mark_not(mark::RECEIVER, 0), mark_not(mark::RECEIVER, own), goto(FORGED).into()]),
            rule([answers(), still_proper()]),
            rule([is(Field::OutputDevice, LO), loopback.clone().into()]),
            rule([is(Field::InputDevice, LO), loopback.into()]),
        ]);
        rules.extend(network);
        self.chain(format!("ingress-{receiver}"), rules);
        senders
    }

    /// `loopback-to-PARTY`: what a party receives from the others of its pod, and which of them it may be denied.
    fn loopback_to(&mut self, receiver: Party, passes: Rule) -> (Verdict, Vec<Party>) {
        let pod = self.pod;
        let answers = Answers::unless(goto(DENY_INGRESS));
        let (mut asked, mut audits, mut denied) = (Vec::new(), Vec::new(), Vec::new());
        for sender in self.parties() {
            let key = || vec![u128::from(mark::sender(sender))];
            let name = format!("loopback-{sender}-{receiver}");
            let verdict = match self.ask_pair(&name, &pod.enforced, sender, receiver, &answers) {
                Verdict::Return => None,
                deny if deny == answers.deny => Some(deny),
                Verdict::Goto(chain) => Some(Verdict::Jump(chain)),
                other => Some(other),
            };
            denied.extend(verdict.as_ref().map(|_| sender));
            asked.extend(verdict.map(|verdict| (key(), verdict)));
            audits.extend(self.audit_pair(sender, receiver, true).map(|verdict| (key(), verdict)));
        }
        let mut rules = Vec::new();
        for (name, verdicts) in [("loopback-to", asked), ("audit.loopback-to", audits)] {
            if !verdicts.is_empty() {
                let map = self.map(&format!("{name}-{receiver}"), vec![Kind::Mark], Size::Fixed, verdicts);
                rules.push(rule([dispatch_mark(mark::SENDER, &map)]));
            }
        }
        let senders: Vec<_> = self.parties().into_iter().map(|party| vec![u128::from(mark::sender(party))]).collect();
        let senders = self.set("senders", vec![Kind::Mark], senders);
        let (fields, mask) = (vec![Field::CtMark], Some(mark::SENDER));
        let mut known = vec![Statement::Lookup { fields, mask, set: senders, negate: false }];
        known.extend(passes.statements);
        rules.push(Rule { statements: known, comment: None });
        rules.push(rule([goto(FORGED).into()]));
        (self.chain(format!("loopback-to-{receiver}"), rules), denied)
    }

    /// `deny-ingress-PARTY`: tells of a flow that was denied to a receiver, and refuses it. One that another receives is
    /// not marked.
    fn denied_to(&mut self, receiver: Party, senders: &[Party]) -> Verdict {
        let network = self.tell(Decision::denied(Place::Ingress(receiver)));
        // A flow from the network has no sender here; one over loopback has.
        let mut rules = vec![from(mark(mark::SENDER, 0), network)];
        for sender in senders {
            let own = || mark(mark::SENDER, mark::sender(*sender));
            if let Some(audited) = self.audit_pair(*sender, receiver, false) {
                rules.push(rule([own(), audited.into()]));
            }
            let told = self.tell(Decision::denied(Place::Loopback { sender: *sender, receiver }));
            rules.push(from(own(), told));
        }
        let foreign = mark_not(mark::RECEIVER, mark::receiver(receiver));
        rules.push(rule([mark_not(mark::RECEIVER, 0), foreign, goto(REFUSE).into()]));
        rules.push(rule([goto(REFUSE_OWN).into()]));
        self.chain(format!("{DENY_INGRESS}-{receiver}"), rules)
    }

    pub(super) fn out_by_cgroup(&mut self) {
        let full = || at_most(Field::SocketWildcard, 1);
        let mut rules = vec![rule([reply(), goto("out-reply").into()])];
        rules.extend(self.identify("out", is_not(Field::SocketUid, NO_USER), &into("egress")));
        rules.extend(Self::out_original_rest());
        self.chain(JUDGE_OUT, rules);

        // A SYN-ACK has the listener's user and no cgroup: only a full socket is looked at for the node's.
        let mut rules = self.identify("answers", full(), &into("ingress"));
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
            // What is left of a connection (TIME_WAIT) says so where nobody listens any more; the client then ends it.
            rule([
                is(Field::Protocol, TCP),
                bits(Field::TcpFlags, flags, ACK),
                self.without_data(),
                Verdict::Accept.into(),
            ]),
            rule([goto(IMPROPER).into()]),
        ]);
        self.chain("out-reply", rules);
    }

    pub(super) fn in_by_cgroup(&mut self) {
        let full = || at_most(Field::SocketWildcard, 1);
        let mut rules = vec![rule([reply(), goto("in-reply").into()]), self.only_from_output()];
        rules.extend(self.identify("in", full(), &into("ingress")));
        let any_socket = || at_most(Field::SocketTransparent, 1);
        rules.push(rule([mark_not(mark::SERVER, 0), Verdict::Accept.into()]));
        // What has no full socket, the end of a handshake or of a connection, is for the receiver that was judged before.
        rules.push(rule([dispatch_mark(mark::RECEIVER, INGRESS_OF)]));
        // Where nobody was: a SYN onto TIME_WAIT that has found no listener, for the kernel can't look for it, or there is
        // none. It is judged at the first full socket, and until then nothing may be carried: with TCP Fast Open a SYN's
        // data would be handed over.
        rules.push(rule([any_socket(), is(Field::Protocol, TCP), self.without_data(), Verdict::Accept.into()]));
        // The kernel itself answers an echo, by a socket of its own, which is no container's.
        let echoes = self.set("echoes", vec![Kind::Protocol], [ICMP, ICMPV6].map(|p| vec![p]));
        rules.push(rule([in_set([Field::Protocol], &echoes), goto(&format!("ingress-{}", Party::Node)).into()]));
        rules.push(rule([goto(&format!("ingress-{}", Party::Unknown)).into()]));
        self.chain(JUDGE_IN, rules);

        // An answer to the network that was sent by way of lo.
        let mut rules = vec![rule([is(Field::InputDevice, LO), mark(mark::SENDER, 0), goto(FORGED).into()])];
        rules.extend(self.identify("hears", full(), &into("egress")));
        // Without ports or identifiers, what an address sends itself is its own reply from the second packet on, and who
        // receives it is known no better than for the first.
        let told = self.set("told-from-replies", vec![Kind::Protocol], [ICMP, TCP, UDP, ICMPV6].map(|p| vec![p]));
        rules.push(rule([
            is(Field::InputDevice, LO),
            not_in_set(Field::Protocol, &told),
            goto(&format!("ingress-{}", Party::Unknown)).into(),
        ]));
        rules.extend(Self::in_reply_rest());
        self.chain("in-reply", rules);
    }
}

/// A rule for some packets only.
fn from(matched: Statement, mut rule: Rule) -> Rule {
    rule.statements.insert(0, matched);
    rule
}
