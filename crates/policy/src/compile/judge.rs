//! The chains that judge one side of a flow.
//!
//! Each question (may this party, in this direction, with that other end?) becomes a chain that ends in one of two
//! verdicts; questions whose answer does not depend on the packet become no chain at all. A flow between two parties
//! asks two questions, and Audit policies ask the same again with other verdicts behind them.

use super::builder::{Builder, counter_name};
use super::statements::{at_least, at_most, in_set, is, rule};
use crate::model::{Layer, Peers, Side, Wire};
use crate::ports::Ports;
use crate::ruleset::{Field, Kind, Rule, Statement, Verdict};
use sidewall_flow::{Action, Decision, Direction, Party, Place, Protocol};
use std::net::IpAddr;

/// One side of a flow, as it is asked about.
#[derive(Clone, Copy)]
pub struct Question {
    /// Whose side.
    pub party: Party,
    /// In which direction.
    pub direction: Direction,
    /// The other end: a party of the pod, or the network.
    pub other: Option<Party>,
}

/// Where the two answers lead.
#[derive(Clone)]
pub struct Answers {
    /// Where an allowed flow goes.
    pub allow: Verdict,
    /// Where a denied flow goes.
    pub deny: Verdict,
}

/// The most ports of one range that become elements of a set instead of a range.
const EXPANDED: u16 = 8;

/// The type that the routing tables give a broadcast address (`RTN_BROADCAST`).
const BROADCAST: u128 = 3;
/// The type that the routing tables give a multicast address (`RTN_MULTICAST`).
const MULTICAST: u128 = 5;

impl Builder<'_> {
    /// Asks one question of a layer; gives the verdict that leads to the answer.
    pub fn ask(&mut self, name: &str, layer: &Layer, question: Question, answers: &Answers) -> Verdict {
        let Question { party, direction, other } = question;
        if other == Some(party) && party != Party::Unknown {
            return answers.allow.clone();
        }
        let side = layer.side(party, direction);
        let scope = side.scope(if other.is_some() { Wire::Loopback } else { Wire::Network });
        if scope.is_none() {
            return answers.allow.clone();
        }
        let counted = self.is_enforced(layer);
        let mut rules = Vec::new();
        if other.is_none() && direction == Direction::Egress {
            for group in [BROADCAST, MULTICAST] {
                rules.push(rule([is(Field::FibDestinationType, group), answers.deny.clone().into()]));
            }
        }
        let before = rules.len();
        if scope.others {
            for ports in self.port_matches(&Ports::all().subtract(&scope.ports)) {
                rules.push(finish(ports, answers.allow.clone(), None));
            }
            self.grants(&mut rules, side, question, &scope.ports, &answers.allow, counted);
            if rules.len() == before {
                return answers.deny.clone();
            }
            rules.push(rule([answers.deny.clone().into()]));
        } else {
            self.grants(&mut rules, side, question, &scope.ports, &answers.allow, counted);
            // Not by a set: should a set ever find nothing, as while a table is made, that must deny and not allow.
            for ports in port_compares(&scope.ports) {
                rules.push(finish(ports, answers.deny.clone(), None));
            }
            rules.push(rule([answers.allow.clone().into()]));
        }
        self.shared_chain(name, rules)
    }

    /// Asks whether one party may open a flow to another over loopback: both sides.
    pub fn ask_pair(
        &mut self,
        name: &str,
        layer: &Layer,
        sender: Party,
        receiver: Party,
        answers: &Answers,
    ) -> Verdict {
        let ingress = Question { party: receiver, direction: Direction::Ingress, other: Some(sender) };
        let allow = self.ask(&format!("{name}.in"), layer, ingress, answers);
        let egress = Question { party: sender, direction: Direction::Egress, other: Some(receiver) };
        self.ask(&format!("{name}.out"), layer, egress, &Answers { allow, deny: answers.deny.clone() })
    }

    /// The answers of the enforced layer, led through the Audit policies where they say anything else of these sides:
    /// where they would have decided otherwise, that is told first. `ask` poses the same question to their layer.
    pub fn audited(
        &mut self,
        place: Place,
        sides: &[(Party, Direction)],
        answers: Answers,
        mut ask: impl FnMut(&mut Self, &str, &Layer, &Answers) -> Verdict,
    ) -> Answers {
        let pod = self.pod;
        let Some(layer) = &pod.audit else {
            return answers;
        };
        if sides.iter().all(|(party, side)| layer.side(*party, *side) == pod.enforced.side(*party, *side)) {
            return answers;
        }
        let mut told = |action, then: &Verdict| {
            let decision = Decision::audit(place, action);
            let rules = self.tell(decision, then.clone());
            self.shared_chain(&counter_name(decision), rules)
        };
        let would_deny = told(Action::Deny, &answers.allow);
        let would_allow = told(Action::Allow, &answers.deny);
        let allow = Answers { allow: answers.allow, deny: would_deny };
        let deny = Answers { allow: would_allow, deny: answers.deny };
        Answers { allow: ask(self, "audit.", layer, &allow), deny: ask(self, "audit.", layer, &deny) }
    }

    /// What a side's rules allow of the ports that it is isolated for.
    fn grants(
        &mut self,
        rules: &mut Vec<Rule>,
        side: &Side,
        question: Question,
        isolated: &Ports,
        allow: &Verdict,
        counted: bool,
    ) {
        for policy_rule in &side.rules {
            for grant in &policy_rule.grants {
                let ports = grant.ports.intersect(isolated);
                for mut statements in self.grant_matches(&grant.peers, &ports, question) {
                    if counted {
                        statements.extend(self.count_rule(&policy_rule.name));
                    }
                    rules.push(finish(statements, allow.clone(), counted.then(|| policy_rule.name.to_string())));
                }
            }
        }
    }

    /// The ways in which a packet can match a grant: each a list of statements.
    fn grant_matches(&mut self, peers: &Peers, ports: &Ports, question: Question) -> Vec<Vec<Statement>> {
        let peers = match (peers, question.other) {
            (peers, Some(party)) if peers.covers_party(party) => vec![Vec::new()],
            (Peers::Anyone, None) => vec![Vec::new()],
            (Peers::Addresses(addresses), None) => {
                let (v4, v6) = match question.direction {
                    Direction::Ingress => (Field::CtOriginalSource4, Field::CtOriginalSource6),
                    Direction::Egress => (Field::CtOriginalDestination4, Field::CtOriginalDestination6),
                };
                let mut matches = Vec::new();
                for (field, ranges) in [(v4, &addresses.v4), (v6, &addresses.v6)] {
                    if !ranges.is_empty() {
                        let set = self.range_set("peers", field.kind(), ranges);
                        matches.push(vec![in_set([field], &set)]);
                    }
                }
                matches
            }
            (Peers::Hosts(hosts), None) => {
                let (v4, v6) = match question.direction {
                    Direction::Ingress => (Field::CtOriginalSource4, Field::CtOriginalSource6),
                    Direction::Egress => (Field::CtOriginalDestination4, Field::CtOriginalDestination6),
                };
                let keys4 = hosts.iter().filter_map(|host| match host {
                    IpAddr::V4(host) => Some(vec![u128::from(host.to_bits())]),
                    IpAddr::V6(_) => None,
                });
                let keys6 = hosts.iter().filter_map(|host| match host {
                    IpAddr::V4(_) => None,
                    IpAddr::V6(host) => Some(vec![host.to_bits()]),
                });
                let mut matches = Vec::new();
                for (field, keys) in [(v4, keys4.collect::<Vec<_>>()), (v6, keys6.collect())] {
                    if !keys.is_empty() {
                        let set = self.set("peers", vec![field.kind()], keys);
                        matches.push(vec![in_set([field], &set)]);
                    }
                }
                matches
            }
            (Peers::Sockets(sockets), None) => return self.socket_matches(sockets),
            _ => Vec::new(),
        };
        if peers.is_empty() {
            return peers;
        }
        let ports = self.port_matches(ports);
        // The ports first: they are cheaper than an address in a large set.
        peers.iter().flat_map(|peer| ports.iter().map(|port| [port.clone(), peer.clone()].concat())).collect()
    }

    fn socket_matches<'b>(
        &mut self,
        sockets: impl IntoIterator<Item = &'b (IpAddr, Protocol, u16)>,
    ) -> Vec<Vec<Statement>> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (address, protocol, port) in sockets {
            let rest = [u128::from(protocol.number()), u128::from(*port)];
            match address {
                IpAddr::V4(address) => v4.push([&[u128::from(address.to_bits())], &rest[..]].concat()),
                IpAddr::V6(address) => v6.push([&[address.to_bits()], &rest[..]].concat()),
            }
        }
        let mut matches = Vec::new();
        for (field, keys) in [(Field::CtOriginalDestination4, v4), (Field::CtOriginalDestination6, v6)] {
            if !keys.is_empty() {
                let set = self.set("services", vec![field.kind(), Kind::Protocol, Kind::Port], keys);
                matches.push(vec![in_set([field, Field::Protocol, Field::CtOriginalDestinationPort], &set)]);
            }
        }
        matches
    }

    /// The protocols that rules can allow.
    pub fn transports(&mut self) -> String {
        self.set("transports", vec![Kind::Protocol], Protocol::ALL.map(|p| vec![u128::from(p.number())]))
    }

    /// The ways in which a packet can match ports: each a list of statements.
    pub fn port_matches(&mut self, ports: &Ports) -> Vec<Vec<Statement>> {
        if ports.is_empty() {
            return Vec::new();
        }
        if ports.is_all() {
            let transports = self.transports();
            return vec![vec![in_set([Field::Protocol], &transports)]];
        }
        let mut singles = Vec::new();
        let mut matches = Vec::new();
        for (protocol, first, last) in ports.iter() {
            if last - first < EXPANDED {
                let number = u128::from(protocol.number());
                singles.extend((first..=last).map(|port| vec![number, u128::from(port)]));
            } else {
                matches.push(port_range(protocol, first, last));
            }
        }
        match singles.as_slice() {
            [] => {}
            [single] => {
                matches.insert(0, vec![is(Field::Protocol, single[0]), is(Field::CtOriginalDestinationPort, single[1])])
            }
            _ => {
                let set = self.set("ports", vec![Kind::Protocol, Kind::Port], singles);
                matches.insert(0, vec![in_set([Field::Protocol, Field::CtOriginalDestinationPort], &set)]);
            }
        }
        matches
    }
}

/// The ways in which a packet can match ports, without any set.
fn port_compares(ports: &Ports) -> Vec<Vec<Statement>> {
    ports.iter().map(|(protocol, first, last)| port_range(protocol, first, last)).collect()
}

fn port_range(protocol: Protocol, first: u16, last: u16) -> Vec<Statement> {
    let mut statements = vec![is(Field::Protocol, protocol.number().into())];
    if first == last {
        statements.push(is(Field::CtOriginalDestinationPort, first.into()));
        return statements;
    }
    if first > 0 {
        statements.push(at_least(Field::CtOriginalDestinationPort, first.into()));
    }
    if last < u16::MAX {
        statements.push(at_most(Field::CtOriginalDestinationPort, last.into()));
    }
    statements
}

fn finish(mut statements: Vec<Statement>, verdict: Verdict, comment: Option<String>) -> Rule {
    statements.push(verdict.into());
    Rule { statements, comment: comment.map(|text| shortened(&text)) }
}

/// What fits into a rule's user data.
fn shortened(text: &str) -> String {
    const MOST: usize = 127;
    if text.len() <= MOST {
        return text.to_owned();
    }
    // Kubernetes names and our own words are ASCII; keep the end, which says which rule it is.
    let start = text.char_indices().map(|(i, _)| i).find(|i| text.len() - i <= MOST - 3).unwrap_or(0);
    format!("...{}", &text[start..])
}
