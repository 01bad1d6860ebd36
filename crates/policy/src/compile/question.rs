//! The chains that ask the policies' rules about one side of a flow.
//!
//! Each question (may this side, in this direction, with that other end?) becomes a chain that ends in one of two
//! verdicts; questions whose answer does not depend on the packet become no chain at all. What peers a rule allows
//! stands in sets and maps, so that neither peers nor policies make a packet's way longer: see [`addresses`].

mod addresses;
mod cover;
mod ports;

use super::builder::Builder;
use super::statements::{in_set, rule};
use crate::model::{Grant, Layer, Peers, Reach, RuleName, Side, Wire};
use crate::ports::Ports;
use crate::ruleset::{Field, Kind, Rule, Statement, Verdict};
use ports::port_compares;
use sidewall_flow::{Direction, Party, Protocol};

/// One side of a flow, as it is asked about.
#[derive(Clone)]
pub struct Question<'a> {
    /// What the sets of the side's rules are called by: who asks the same of the same rules shares them.
    pub name: String,
    /// The rules.
    pub side: &'a Side,
    /// In which direction.
    pub direction: Direction,
    /// The other end.
    pub other: Other,
    /// Whether what the rules allow is counted.
    pub counted: bool,
}

/// The other end of a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// A party of the pod.
    Party(Party),
    /// Somebody on the network whose edge is asked about: every grant counts.
    Edge,
    /// Somebody on any network of a container, where those grants that are bound to the pod network count there only.
    Network,
}

/// Where the two answers lead.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Answers {
    /// Where an allowed flow goes.
    pub allow: Verdict,
    /// Where a denied flow goes.
    pub deny: Verdict,
}

/// The most grants that are tried in turn: a rule each is cheaper than a map.
const IN_TURN: usize = 4;

/// The types that the routing tables give broadcast and multicast addresses (`RTN_BROADCAST`, `RTN_MULTICAST`).
const GROUPS: [u128; 2] = [3, 5];

impl Answers {
    /// On where it is allowed: for a chain that is jumped to.
    pub fn unless(deny: Verdict) -> Self {
        Self { allow: Verdict::Return, deny }
    }
}

impl Question<'_> {
    /// Whether a rule may come to single addresses with ports that there are none of yet.
    fn waits(&self) -> bool {
        self.side.rules.iter().any(|rule| rule.awaits)
    }
}

impl Builder<'_> {
    /// Asks a question; gives the verdict that leads to the answer. The chain, where there is one, is called `name`.
    pub fn ask(&mut self, name: &str, question: &Question<'_>, answers: &Answers) -> Verdict {
        let wire = if matches!(question.other, Other::Party(_)) { Wire::Loopback } else { Wire::Network };
        let scope = question.side.scope(wire);
        if scope.is_none() {
            return answers.allow.clone();
        }
        let open = Ports::all().subtract(&scope.ports);
        let grants = self.grants(question, &scope.ports);
        let waits = wire == Wire::Network && question.waits();
        if scope.others && open.is_empty() && grants.is_empty() && !waits {
            return answers.deny.clone();
        }
        let mut rules = Vec::new();
        if wire == Wire::Network && question.direction == Direction::Egress {
            // No rule speaks of groups of receivers.
            let groups = self.set("group-types", vec![Kind::FibType], GROUPS.map(|group| vec![group]));
            rules.push(rule([in_set([Field::FibDestinationType], &groups), answers.deny.clone().into()]));
        }
        if scope.others {
            for ports in self.port_matches(&open) {
                rules.push(finish(ports, answers.allow.clone()));
            }
        }
        let end = if scope.others {
            vec![rule([answers.deny.clone().into()])]
        } else {
            // Not by a set: should a set ever find nothing, as while a table is made, that must deny and not allow.
            let denied = port_compares(&scope.ports).into_iter().map(|ports| finish(ports, answers.deny.clone()));
            denied.chain([rule([answers.allow.clone().into()])]).collect()
        };
        let (isolated, checked) = (&scope.ports, scope.others);
        rules.extend(self.allowed(&Asking { name, question, isolated, checked, waits, answers }, grants, end));
        self.shared_chain(name, rules)
    }

    /// The rule by which a chain goes through a question and on.
    pub fn on_the_way(&self, verdict: Verdict, deny: &Verdict) -> Option<Rule> {
        match verdict {
            Verdict::Return => None,
            Verdict::Goto(chain) if Verdict::Goto(chain.clone()) != *deny => Some(rule([Verdict::Jump(chain).into()])),
            verdict => Some(rule([verdict.into()])),
        }
    }

    /// Asks whether one party may open a flow to another over loopback: both sides, one after the other.
    pub fn ask_pair(
        &mut self,
        name: &str,
        layer: &Layer,
        sender: Party,
        receiver: Party,
        answers: &Answers,
    ) -> Verdict {
        let allow = self.ask_receiver(&format!("{name}.in"), layer, sender, receiver, answers);
        self.ask_sender(&format!("{name}.out"), layer, sender, receiver, &Answers { allow, deny: answers.deny.clone() })
    }

    /// Asks the sender's side of a flow over loopback.
    pub fn ask_sender(
        &mut self,
        name: &str,
        layer: &Layer,
        sender: Party,
        receiver: Party,
        answers: &Answers,
    ) -> Verdict {
        self.ask_party(name, layer, (sender, Direction::Egress), receiver, answers)
    }

    /// Asks the receiver's side of a flow over loopback.
    pub fn ask_receiver(
        &mut self,
        name: &str,
        layer: &Layer,
        sender: Party,
        receiver: Party,
        answers: &Answers,
    ) -> Verdict {
        self.ask_party(name, layer, (receiver, Direction::Ingress), sender, answers)
    }

    fn ask_party(
        &mut self,
        name: &str,
        layer: &Layer,
        (party, direction): (Party, Direction),
        other: Party,
        answers: &Answers,
    ) -> Verdict {
        // Two unknown processes may be two containers.
        if other == party && party != Party::Unknown {
            return answers.allow.clone();
        }
        let question = Question {
            name: name.to_owned(),
            side: layer.side(party, direction),
            direction,
            other: Other::Party(other),
            counted: self.is_enforced(layer),
        };
        self.ask(name, &question, answers)
    }

    /// Whether a layer is the enforced one, whose rules are counted.
    pub fn is_enforced(&self, layer: &Layer) -> bool {
        std::ptr::eq(layer, &self.pod.enforced)
    }

    /// The protocols that rules can allow.
    pub fn transports(&mut self) -> String {
        self.set("transports", vec![Kind::Protocol], Protocol::ALL.map(|p| vec![u128::from(p.number())]))
    }

    /// The grants of a side that count for a question, with the ports that they allow of those that are isolated.
    fn grants<'b>(&self, question: &Question<'b>, isolated: &Ports) -> Vec<Allowed<'b>> {
        let counts = |grant: &&Grant| match question.other {
            Other::Party(party) => grant.peers.covers_party(party),
            Other::Edge | Other::Network => !matches!(grant.peers, Peers::Parties(_)),
        };
        let mut all = Vec::new();
        for policy_rule in &question.side.rules {
            for grant in policy_rule.grants.iter().filter(counts) {
                let ports = grant.ports.intersect(isolated);
                if !ports.is_empty() {
                    all.push(Allowed { rule: &policy_rule.name, peers: &grant.peers, ports, reach: grant.reach });
                }
            }
        }
        all
    }
}

/// What a rule allows of what a question is about.
struct Allowed<'a> {
    rule: &'a RuleName,
    peers: &'a Peers,
    ports: Ports,
    reach: Reach,
}

/// A question on its way to a chain.
struct Asking<'q, 'a> {
    /// The chain's name.
    name: &'q str,
    question: &'q Question<'a>,
    /// The ports that it is about.
    isolated: &'q Ports,
    /// Whether only isolated ports, and what has none, come to where peers are looked at.
    checked: bool,
    /// Whether a rule waits for peers.
    waits: bool,
    answers: &'q Answers,
}

/// A rule of these statements, and a verdict.
fn finish(mut statements: Vec<Statement>, verdict: Verdict) -> Rule {
    statements.push(verdict.into());
    Rule { statements, comment: None }
}
