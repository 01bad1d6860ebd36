//! How what a question's rules allow is looked up.
//!
//! However many rules and peers there are, a new flow is looked up a few times:
//!
//! - **Open ports**: grants that hold for whoever it is. A rule each, where there are few; else a map by port.
//! - **Sockets**: single addresses with few ports, and Services: a hash map by address, protocol and port.
//! - **Hosts and blocks**: single addresses in a hash map, blocks in an interval map, for each distinct set of ports. All
//!   isolated ports come first and need no look at the port; of the others, a few are tried in turn, and many are found
//!   by a map from the port to those that hold it.
//!
//! A map gives the counter of the first of its rules that covers the address; which of several rules in different maps
//! counts is decided by the order above.
//!
//! Which of these there are, and what they are called, follows from the policies' rules alone: peers that come and go
//! change elements. So single addresses and Services have their maps in both families even when those are empty.

use super::super::builder::{Builder, PeerSet};
use super::super::statements::{dispatch, goto, is, not_in_set, rule};
use super::cover::{depth, firsts, parts};
use super::ports::{few, ports_name};
use super::{Allowed, Asking, IN_TURN, Other, Question, finish};
use crate::addresses::Addresses;
use crate::model::{Peers, Reach, RuleName};
use crate::ports::Ports;
use crate::ranges::Ranges;
use crate::ruleset::{Element, Field, Key, Kind, Rule, Set, Statement, Verdict};
use sidewall_flow::{Direction, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The hosts and blocks that rules allow for one set of ports.
#[derive(Default)]
struct Group<'a> {
    /// Single addresses; `None` where no rule has any for these ports.
    hosts: Option<Vec<(&'a RuleName, &'a BTreeSet<IpAddr>)>>,
    blocks: Vec<(&'a RuleName, &'a Addresses)>,
}

/// Single addresses with a port each, that a rule allows.
enum Sockets<'a> {
    /// Those of these that are among its ports.
    Listed(&'a BTreeSet<(IpAddr, Protocol, u16)>, Ports),
    /// All of these, at each of few ports.
    Hosts(&'a BTreeSet<IpAddr>, Vec<(Protocol, u16)>),
}

impl Sockets<'_> {
    /// How many there are at most.
    fn most(&self) -> usize {
        match self {
            Self::Listed(all, _) => all.len(),
            Self::Hosts(hosts, ports) => hosts.len() * ports.len(),
        }
    }

    fn keys(&self, field: Field) -> impl Iterator<Item = Key> + '_ {
        let (listed, hosts) = match self {
            Self::Listed(all, ports) => (Some((all, ports)), None),
            Self::Hosts(hosts, ports) => (None, Some((hosts, ports))),
        };
        let listed = listed.into_iter().flat_map(|(all, ports)| {
            all.iter().filter(|(_, protocol, port)| ports.contains(*protocol, *port)).copied()
        });
        let hosts = hosts.into_iter().flat_map(|(hosts, ports)| {
            ports.iter().flat_map(|(protocol, port)| hosts.iter().map(|host| (*host, *protocol, *port)))
        });
        listed.chain(hosts).filter_map(move |(address, protocol, port)| {
            Some(Key::from([number(field, address)?, protocol.number().into(), port.into()]))
        })
    }
}

/// The two families: their names, and where the other end's address stands.
fn families(direction: Direction) -> [(&'static str, Field); 2] {
    match direction {
        Direction::Ingress => [("4", Field::CtOriginalSource4), ("6", Field::CtOriginalSource6)],
        Direction::Egress => [("4", Field::CtOriginalDestination4), ("6", Field::CtOriginalDestination6)],
    }
}

/// An address's number, where it is of the family of a field.
fn number(field: Field, address: IpAddr) -> Option<u128> {
    match (field.kind(), address) {
        (Kind::Ipv4, IpAddr::V4(address)) => Some(address.to_bits().into()),
        (Kind::Ipv6, IpAddr::V6(address)) => Some(address.to_bits()),
        _ => None,
    }
}

impl Builder<'_> {
    /// The rules that allow what grants allow, and those of the chain's end.
    pub(super) fn allowed(&mut self, asking: &Asking<'_, '_>, grants: Vec<Allowed<'_>>, end: Vec<Rule>) -> Vec<Rule> {
        let deny = &asking.answers.deny;
        let elsewhere = if asking.question.other == Other::Network { self.off_pod_network(deny) } else { Vec::new() };
        // Where all that leads out is the pod network, nothing else need be told from it.
        let bound = |grant: &Allowed<'_>| grant.reach == Reach::PodNetwork && !elsewhere.is_empty();
        let (bound, everywhere): (Vec<_>, Vec<_>) = grants.into_iter().partition(bound);
        let mut rest = end;
        if !elsewhere.is_empty() && (!bound.is_empty() || asking.waits) {
            let (mut rules, _) = self.looked_up(asking, &asking.question.name, bound, asking.waits, deny);
            rules.splice(..0, elsewhere);
            rules.extend(rest);
            rest = rules;
            let name = format!("{}.everywhere", asking.question.name);
            let on = goto(&format!("{}.pod-network", asking.name));
            let (mut rules, parted) = self.looked_up(asking, &name, everywhere, false, &on);
            if parted {
                // What finds nothing by its port goes on there.
                self.chain(format!("{}.pod-network", asking.name), rest);
                rules.push(rule([on.into()]));
            } else {
                rules.extend(rest);
            }
            return rules;
        }
        let (mut rules, _) = self.looked_up(asking, &asking.question.name, everywhere, asking.waits, deny);
        rules.extend(rest);
        rules
    }

    /// The rules that look up what grants allow. Where ports are led to chains of their own, which the second value says,
    /// what finds nothing there goes to `miss`. The sets are called by `name`.
    fn looked_up(
        &mut self,
        asking: &Asking<'_, '_>,
        name: &str,
        grants: Vec<Allowed<'_>>,
        waits: bool,
        miss: &Verdict,
    ) -> (Vec<Rule>, bool) {
        let Asking { question, isolated, answers, .. } = asking;
        let allow = &answers.allow;
        let mut rules = Vec::new();
        let mut open = Vec::new();
        let mut sockets: Option<Vec<(&RuleName, Sockets<'_>)>> = waits.then(Vec::new);
        let mut groups: BTreeMap<Ports, Group<'_>> = BTreeMap::new();
        for Allowed { rule, peers, ports, .. } in grants {
            match peers {
                Peers::Anyone | Peers::Parties(_) => open.push((rule, ports)),
                Peers::Sockets(all) => {
                    sockets.get_or_insert_default().push((rule, Sockets::Listed(all, ports)));
                }
                Peers::Hosts(hosts) => {
                    // A named port is a number more for some pods: that must be no other form.
                    let (few, many) = few(&ports, isolated);
                    if !few.is_empty() {
                        sockets.get_or_insert_default().push((rule, Sockets::Hosts(hosts, few)));
                    }
                    if !many.is_empty() {
                        groups.entry(many).or_default().hosts.get_or_insert_default().push((rule, hosts));
                    }
                }
                Peers::Addresses(blocks) => groups.entry(ports).or_default().blocks.push((rule, blocks)),
            }
        }
        self.open_ports(&mut rules, question, name, open, allow);
        if let Some(sockets) = sockets {
            self.sockets(&mut rules, question, name, &sockets, allow);
        }
        if let Some(group) = groups.remove(*isolated) {
            let matches = if asking.checked {
                let transports = self.transports();
                rules.push(rule([not_in_set(Field::Protocol, &transports), answers.deny.clone().into()]));
                vec![Vec::new()]
            } else {
                self.port_matches(isolated)
            };
            let lookups = self.lookups(question, name, isolated, &group);
            add(&mut rules, &matches, &lookups, allow);
        }
        let groups: Vec<(Ports, Vec<Statement>)> = groups
            .into_iter()
            .map(|(ports, group)| {
                let lookups = self.lookups(question, &format!("{name}.{}", ports_name(&ports)), &ports, &group);
                (ports, lookups)
            })
            .collect();
        // Ports that overlap in ever other ways would need a chain for each way: thousands of each other's.
        let of = |protocol| groups.iter().map(move |(ports, _)| ports.of_protocol(protocol));
        let tries: usize = Protocol::ALL.into_iter().map(|protocol| depth(of(protocol))).sum();
        if groups.len() <= IN_TURN || tries > groups.len() * IN_TURN {
            for (ports, lookups) in &groups {
                let matches = self.port_matches(ports);
                add(&mut rules, &matches, lookups, allow);
            }
            return (rules, false);
        }
        for protocol in Protocol::ALL {
            self.by_port(&mut rules, asking, name, (protocol, parts(of(protocol))), &groups, miss);
        }
        (rules, true)
    }

    /// Leads the ports of a protocol to the groups that hold them.
    fn by_port(
        &mut self,
        rules: &mut Vec<Rule>,
        asking: &Asking<'_, '_>,
        name: &str,
        (protocol, parts): (Protocol, Vec<(u128, u128, BTreeSet<usize>)>),
        groups: &[(Ports, Vec<Statement>)],
        miss: &Verdict,
    ) {
        if parts.is_empty() {
            return;
        }
        let text = protocol.to_string().to_lowercase();
        let elements = parts
            .into_iter()
            .map(|(first, last, held_by)| {
                let mut held = Vec::new();
                for group in held_by {
                    add(&mut held, &[Vec::new()], &groups[group].1, &asking.answers.allow);
                }
                held.push(finish(Vec::new(), miss.clone()));
                let verdict = self.shared_chain(&format!("{}.{text}-{first}", asking.name), held);
                Element { key: first.into(), last: Some(last), verdict: Some(verdict), counter: None }
            })
            .collect();
        // Who asks the same with other answers has chains, and so a map, of his own.
        let map = Set {
            name: format!("{name}.ports-{text}"),
            key: vec![Kind::Port],
            interval: true,
            map: true,
            counts: false,
            grows: false,
            elements,
        };
        let map = self.add_set(map);
        let ports = dispatch([Field::CtOriginalDestinationPort], &map);
        rules.push(Rule { statements: vec![is(Field::Protocol, protocol.number().into()), ports], comment: None });
    }

    /// What is allowed to whoever it is.
    fn open_ports(
        &mut self,
        rules: &mut Vec<Rule>,
        question: &Question<'_>,
        name: &str,
        open: Vec<(&RuleName, Ports)>,
        allow: &Verdict,
    ) {
        if open.len() <= IN_TURN {
            for (rule, ports) in open {
                for mut statements in self.port_matches(&ports) {
                    if question.counted {
                        statements.extend(self.rule_counter(rule).map(|name| Statement::Count(name.to_string())));
                    }
                    let comment = question.counted.then(|| shortened(&rule.to_string()));
                    rules.push(Rule { comment, ..finish(statements, allow.clone()) });
                }
            }
            return;
        }
        for protocol in Protocol::ALL {
            let covers: Vec<&Ranges> = open.iter().map(|(_, ports)| ports.of_protocol(protocol)).collect();
            if covers.iter().all(|ports| ports.is_empty()) {
                continue;
            }
            let name = format!("{name}.open-{}", protocol.to_string().to_lowercase());
            let elements = |builder: &Self| {
                let ranges = firsts(covers).into_iter();
                ranges.map(|(first, last, rule)| builder.range(question, first, last, open[rule].0)).collect()
            };
            let found = self.found(question, (name, None), vec![Field::CtOriginalDestinationPort], true, elements);
            rules.push(finish(vec![is(Field::Protocol, protocol.number().into()), found], allow.clone()));
        }
    }

    /// Single addresses with a port each.
    fn sockets(
        &mut self,
        rules: &mut Vec<Rule>,
        question: &Question<'_>,
        name: &str,
        sockets: &[(&RuleName, Sockets<'_>)],
        allow: &Verdict,
    ) {
        for (family, field) in families(question.direction) {
            let elements = |builder: &Self| {
                let mut keys = Vec::with_capacity(sockets.iter().map(|(_, sockets)| sockets.most()).sum());
                for (rule, sockets) in sockets {
                    keys.extend(sockets.keys(field).map(|key| (key, *rule)));
                }
                builder.single(question, keys)
            };
            let fields = vec![field, Field::Protocol, Field::CtOriginalDestinationPort];
            let found = self.found(question, (format!("{name}.sockets{family}"), None), fields, false, elements);
            rules.push(finish(vec![found], allow.clone()));
        }
    }

    /// The look-ups that find a group's addresses: any of them allows.
    fn lookups(&mut self, question: &Question<'_>, name: &str, ports: &Ports, group: &Group<'_>) -> Vec<Statement> {
        let mut lookups = Vec::new();
        for (family, field) in families(question.direction) {
            let Some(hosts) = &group.hosts else { break };
            let elements = |builder: &Self| {
                let keys = hosts.iter().flat_map(|(rule, hosts)| {
                    hosts.iter().filter_map(move |host| Some((Key::from(number(field, *host)?), *rule)))
                });
                builder.single(question, keys.collect())
            };
            let name = (format!("{name}.hosts{family}"), Some(ports));
            lookups.push(self.found(question, name, vec![field], false, elements));
        }
        for (family, field) in families(question.direction) {
            let ranges = |addresses: &'_ Addresses| -> Ranges {
                if field.kind() == Kind::Ipv4 { addresses.v4.clone() } else { addresses.v6.clone() }
            };
            let covers: Vec<Ranges> = group.blocks.iter().map(|(_, blocks)| ranges(blocks)).collect();
            if covers.iter().all(Ranges::is_empty) {
                continue;
            }
            let elements = |builder: &Self| {
                let ranges = firsts(&covers).into_iter();
                ranges.map(|(first, last, rule)| builder.range(question, first, last, group.blocks[rule].0)).collect()
            };
            let name = (format!("{name}.blocks{family}"), Some(ports));
            lookups.push(self.found(question, name, vec![field], true, elements));
        }
        lookups
    }

    /// The element of a range.
    fn range(&self, question: &Question<'_>, first: u128, last: u128, rule: &RuleName) -> Element {
        Element { key: first.into(), last: Some(last), verdict: None, counter: self.counter(question, rule) }
    }

    /// The elements of single keys; of several rules that have the same key, the first counts.
    fn single(&self, question: &Question<'_>, mut keys: Vec<(Key, &RuleName)>) -> Vec<Element> {
        // There are thousands, mostly of one rule and in order already; the sort keeps the order of the rules.
        keys.sort_by(|(a, _), (b, _)| a.cmp(b));
        keys.dedup_by(|(key, _), (kept, _)| key == kept);
        let mut known: Option<(&RuleName, Option<Arc<str>>)> = None;
        let elements = keys.into_iter().map(|(key, rule)| {
            let counter = match &known {
                Some((of, counter)) if std::ptr::eq(*of, rule) => counter.clone(),
                _ => known.insert((rule, self.counter(question, rule))).1.clone(),
            };
            Element { key, last: None, verdict: None, counter }
        });
        elements.collect()
    }

    fn counter(&self, question: &Question<'_>, rule: &RuleName) -> Option<Arc<str>> {
        self.rule_counter(rule).filter(|_| question.counted).cloned()
    }

    /// Goes on where the fields are among the elements, and counts where that is wanted. They follow from the question's
    /// rules, the set's name and the ports beside it.
    fn found(
        &mut self,
        question: &Question<'_>,
        (name, ports): (String, Option<&Ports>),
        fields: Vec<Field>,
        interval: bool,
        elements: impl FnOnce(&Self) -> Vec<Element>,
    ) -> Statement {
        let which = PeerSet { name: name.clone(), rules: question.side, ports: ports.cloned() };
        let key = fields.iter().map(|field| field.kind()).collect();
        let (map, counts, grows) = (false, question.counted, true);
        let set = self.peer_set(which, |builder| Set {
            name,
            key,
            interval,
            map,
            counts,
            grows,
            elements: elements(builder),
        });
        if counts {
            Statement::CountBy { fields, map: set }
        } else {
            Statement::Lookup { fields, mask: None, set, negate: false }
        }
    }
}

/// Adds a rule for each way in which a packet can match and each look-up.
fn add(rules: &mut Vec<Rule>, matches: &[Vec<Statement>], lookups: &[Statement], allow: &Verdict) {
    for statements in matches {
        for lookup in lookups {
            rules.push(finish([statements.as_slice(), std::slice::from_ref(lookup)].concat(), allow.clone()));
        }
    }
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
