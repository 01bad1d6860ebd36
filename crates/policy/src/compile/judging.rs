//! Who sent it, who receives it: the chains behind the base chains.
//!
//! The client's side of a flow is judged where its packets leave (OUTPUT of original packets) and where it hears
//! (INPUT of replies), the server's where it hears (INPUT of original packets) and answers (OUTPUT of replies), always
//! by the original tuple, so that a flow is judged again whichever end speaks first after a new generation. Identity
//! comes before everything else, also in flows that have passed: a socket that sends in another's flow is a forger.

mod by_cgroup;
mod by_user;
mod identify;
mod seen;

use super::builder::Builder;
use super::ends::{FORGED, IMPROPER, PROPER};
use super::judge::{Answers, Question};
use super::statements::{LO, dispatch_mark, goto, is, is_not, mark, mark_not, rule, state};
use crate::mark;
use crate::ruleset::{Field, Kind, Rule, Statement, Verdict};
use sidewall_flow::{Direction, Party, Place};

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
