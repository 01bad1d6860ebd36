//! Who sent it, who receives it: the chains behind the base chains.
//!
//! The client's side of a flow is judged where its packets leave (OUTPUT of original packets) and where it hears
//! (INPUT of replies), the server's where it hears (INPUT of original packets) and answers (OUTPUT of replies), always
//! by the original tuple, so that a flow is judged again whichever end speaks first after a new generation. Identity
//! comes before everything else, also in flows that have passed: a socket that sends in another's flow is a forger.

mod by_cgroup;
mod by_user;
pub mod identify;
mod seen;

use super::builder::{Builder, Size};
use super::ends::{DENY_EGRESS, DENY_INGRESS, FORGED, IMPROPER, PROPER};
use super::question::Answers;
use super::statements::{
    IPV4, IPV6, LO, at_most, dispatch_mark, goto, in_set, is, is_not, mark, mark_not, rule, set_mark, state,
};
use crate::mark;
use crate::ruleset::{Field, Kind, Rule, Statement, Verdict};
use sidewall_flow::{Direction, Party, Place};
use std::collections::BTreeMap;

const ORIGINAL: u128 = 0;
const REPLY: u128 = 1;
/// More than a SYN or SYN-ACK with every option, and less than one with data of any use.
pub(super) const HANDSHAKE: u128 = 100;

/// The maps from numbers in the mark to judgements.
const EGRESS_OF: &str = "egress-of";
const INGRESS_OF: &str = "ingress-of";

impl Builder<'_> {
    /// The chains that identify and judge.
    pub fn judging(&mut self) {
        self.egress_denials();
        for party in self.parties() {
            self.egress(party);
        }
        self.party_map(EGRESS_OF, mark::sender, "egress");
        if self.pod.identities.by_port() {
            self.arrival_by_port();
            self.out_by_user();
            self.in_by_user();
        } else {
            self.ingress_by_cgroup();
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
        self.map(name, vec![Kind::Mark], Size::Fixed, verdicts);
    }

    /// The chains that a denied client's side goes to: whoever asks the policies' rules need not know for whom.
    fn egress_denials(&mut self) {
        let denied = self.parties().into_iter().map(|party| (party, self.egress_denied(party, Place::Egress(party))));
        let denied = denied.collect();
        self.denials(Direction::Egress, &denied);
    }

    /// The chains that find again whose side is denied, and lead to what is done then; where its own policies have denied
    /// it, past the Audit policies.
    fn denials(&mut self, direction: Direction, denied: &BTreeMap<Party, Verdict>) {
        let (name, audited_name) = denial(direction);
        self.find_again(name, direction, &|party| denied[&party].clone());
        if !self.audits(direction) {
            return;
        }
        let mut audited = denied.clone();
        for (party, verdict) in denied {
            if let Some(asked) = self.audit_denied(*party, direction) {
                let rules = vec![asked, rule([verdict.clone().into()])];
                audited.insert(*party, self.chain(format!("{audited_name}-{party}"), rules));
            }
        }
        self.find_again(audited_name, direction, &|party| audited[&party].clone());
    }

    /// What is asked of a flow from or to the network, one after the other, and where it goes when all is well.
    fn on_network(&mut self, party: Party, direction: Direction, passes: Rule) -> Vec<Rule> {
        let pod = self.pod;
        let (edge_denies, audited) = denial(direction);
        let edge_denies = goto(edge_denies);
        let denies = if self.audits(direction) { goto(audited) } else { edge_denies.clone() };
        let mut rules = Vec::new();
        rules.extend(self.edge(direction, &edge_denies));
        rules.extend(self.unless_captured(party, direction));
        let verdict = self.ask_network("", &pod.enforced, party, direction, &Answers::unless(denies.clone()));
        rules.extend(self.on_the_way(verdict, &denies));
        rules.extend(self.audit_allowed(party, direction));
        rules.push(passes);
        // Where everything is denied, nothing goes on.
        let decided = |rule: &Rule| matches!(rule.statements.as_slice(), [Statement::Verdict(Verdict::Goto(_))]);
        if let Some(last) = rules.iter().position(decided) {
            rules.truncate(last + 1);
        }
        rules
    }

    /// The rules by which a party's packets pass in flows that are judged already, where nothing has done that before:
    /// what [`Builder::seen_out`] and [`Builder::seen_in`] let by is to be judged.
    fn unless_seen<const N: usize>(&self, party: Party, passed: [Rule; N]) -> Vec<Rule> {
        let seen = matches!(party, Party::Container(_)) && !self.pod.identities.by_port();
        if seen { Vec::new() } else { passed.into() }
    }

    // === the client's side ===

    /// `egress-PARTY`: what a party opens, where its packets leave and where it hears.
    fn egress(&mut self, party: Party) {
        let own = mark::sender(party);
        let passes = client_passes(party);
        let network = self.on_network(party, Direction::Egress, passes.clone());
        let mut rules = self.unless_seen(
            party,
            [
                rule([
                    mark(mark::SENDER | mark::CLIENT, own | mark::CLIENT),
                    at_most(Field::OutputDevice, LO),
                    Verdict::Accept.into(),
                ]),
                // A flow to the network has no receiver here.
                rule([mark(mark::SENDER | mark::RECEIVER | mark::CLIENT, own | mark::CLIENT), Verdict::Accept.into()]),
            ],
        );
        rules.extend([
            // A packet of a new flow has been looked at just now.
            rule([is_not(Field::OutputDevice, 0), state(Field::CT_ESTABLISHED), still_proper()]),
            // On the network, a port that another has left may be taken; on loopback somebody may still listen, and who
            // hears is not the one who asked. At INPUT, the number of the device that it leaves by is 0.
            rule([
                at_most(Field::OutputDevice, LO),
                mark_not(mark::SENDER, 0),
                mark_not(mark::SENDER, own),
                goto(FORGED).into(),
            ]),
        ]);
        let loopback = if self.pod.identities.by_port() {
            let (declared, others) = self.loopback_by_port(party);
            rules.extend(declared);
            rule([others.into()])
        } else {
            // OUTPUT can't know the receiver; it records the sender, and INPUT judges the pair.
            passes
        };
        if network != [loopback.clone()] {
            rules.extend([Field::OutputDevice, Field::InputDevice].map(|device| on_lo(device, &loopback)));
        }
        rules.extend(network);
        self.chain(format!("egress-{party}"), rules);
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

    /// The TCP segment carries no data. Its header's length is all that says where data begins, so each that there is has
    /// an element; of the bits beside it only the one for ECN may be set (RFC 9768).
    pub(super) fn without_data(&mut self) -> Statement {
        let keys = [(IPV4, 20), (IPV6, 40)].into_iter().flat_map(|(family, network)| {
            (5..=15u128).flat_map(move |words| [0, 1].map(|ecn| vec![family, network + 4 * words, words << 4 | ecn]))
        });
        let set = self.set("without-data", vec![Kind::Byte, Kind::Number, Kind::Byte], keys);
        in_set([Field::NfProtocol, Field::Length, Field::TcpDataOffset], &set)
    }

    fn in_reply_rest() -> Vec<Rule> {
        vec![
            rule([mark_not(mark::CLIENT, 0), Verdict::Accept.into()]),
            rule([dispatch_mark(mark::SENDER, EGRESS_OF)]),
            rule([goto(IMPROPER).into()]),
        ]
    }
}

/// The chains that deny a side of a flow on the network: at the pod's edge, and where a container's own policies do, which
/// Audit policies may have something to say of.
const fn denial(direction: Direction) -> (&'static str, &'static str) {
    match direction {
        Direction::Egress => (DENY_EGRESS, "audited-egress"),
        Direction::Ingress => (DENY_INGRESS, "audited-ingress"),
    }
}

/// The client's side has passed: the sender is recorded.
fn client_passes(sender: Party) -> Rule {
    let passed = set_mark(mark::SENDER | mark::CLIENT, mark::sender(sender) | mark::CLIENT);
    rule([passed, Verdict::Accept.into()])
}

/// The server's side has passed: the receiver is recorded.
fn server_passes(receiver: Party) -> Rule {
    let passed = set_mark(mark::RECEIVER | mark::SERVER, mark::receiver(receiver) | mark::SERVER);
    rule([passed, Verdict::Accept.into()])
}

/// A rule for what leaves by, or has come by, the loopback device.
fn on_lo(device: Field, rule: &Rule) -> Rule {
    let mut statements = vec![is(device, LO)];
    statements.extend(rule.statements.iter().cloned());
    Rule { statements, comment: None }
}

/// Looks again at addresses and device where a packet does not pass by its flow's mark.
fn still_proper() -> Statement {
    Verdict::Jump(PROPER.to_owned()).into()
}

/// The packet goes the way that the flow was opened.
pub(super) const fn original() -> Statement {
    is(Field::CtDirection, ORIGINAL)
}

/// The packet goes the other way.
pub(super) const fn reply() -> Statement {
    is(Field::CtDirection, REPLY)
}
