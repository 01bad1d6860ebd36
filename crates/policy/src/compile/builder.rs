//! What a ruleset in the making consists of: chains, sets and counters.
//!
//! Names say what a thing is for, and neither in which order it was made nor what is in it, so that a ruleset of the
//! same policies has the same names whichever peers there are.

use super::question::Answers;
use super::statements::rule;
use super::{Compiled, Meaning};
use crate::model::{ResolvedPod, RuleName, Side};
use crate::ports::Ports;
use crate::ruleset::{
    Chain, Counter, Element, Family, Generation, Hook, HookPoint, Kind, Rule, Ruleset, Set, Statement, Table, Verdict,
};
use sidewall_flow::{Decision, Party};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A ruleset in the making.
pub struct Builder<'a> {
    /// The pod.
    pub pod: &'a ResolvedPod,
    /// The ruleset's number.
    pub generation: Generation,
    chains: Vec<Chain>,
    chain_names: BTreeSet<String>,
    chains_by_rules: HashMap<Vec<Rule>, String>,
    sets: BTreeMap<String, Set>,
    counters: BTreeMap<String, Meaning>,
    rule_counters: BTreeMap<RuleName, Arc<str>>,
    /// Where questions about networks lead, by their chain and answers.
    pub networks_asked: HashMap<(String, Answers), Verdict>,
    /// The sets that hold whom rules allow.
    sets_of_peers: HashMap<PeerSet, String>,
    /// Where maps may lead whose elements come and go.
    leads: BTreeMap<String, Vec<Verdict>>,
}

/// Which of the peers of which rules a set holds. The same rules are asked again and again, with ever other answers, and may
/// have ten thousand peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerSet {
    /// What the set is called, where nothing else is.
    pub name: String,
    /// The rules, by their place in the pod, which stays where it is as long as there is a builder.
    pub rules: *const Side,
    /// The ports that it is for, where it is for some.
    pub ports: Option<Ports>,
}

/// What the elements of a set come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// They are what they are as long as the policies are.
    Fixed,
    /// They come and go while the set stands.
    Grows,
}

impl<'a> Builder<'a> {
    pub fn new(pod: &'a ResolvedPod, generation: Generation) -> Self {
        let edges = pod.attached.values().map(|attached| &attached.edge).chain([&pod.edge, &pod.elsewhere]);
        let rules: BTreeSet<&RuleName> = pod
            .enforced
            .parties
            .values()
            .chain(edges)
            .flat_map(|sides| sides.ingress.rules.iter().chain(&sides.egress.rules))
            .map(|rule| &rule.name)
            .collect();
        let mut counters = BTreeMap::new();
        let mut rule_counters = BTreeMap::new();
        for rule in rules {
            let name = counter_of_rule(rule, &counters);
            counters.insert(name.clone(), Meaning::Rule(rule.clone()));
            rule_counters.insert(rule.clone(), name.into());
        }
        Self {
            pod,
            generation,
            chains: Vec::new(),
            chain_names: BTreeSet::new(),
            chains_by_rules: HashMap::new(),
            sets: BTreeMap::new(),
            counters,
            rule_counters,
            networks_asked: HashMap::new(),
            sets_of_peers: HashMap::new(),
            leads: BTreeMap::new(),
        }
    }

    /// The parties whose sockets are in this namespace.
    pub fn parties(&self) -> Vec<Party> {
        self.pod.local_parties().collect()
    }

    /// Adds a base chain.
    pub fn base_chain(&mut self, name: &str, point: HookPoint, priority: i32, accept: bool, rules: Vec<Rule>) {
        self.chain_names.insert(name.to_owned());
        self.chains.push(Chain { name: name.to_owned(), hook: Some(Hook { point, priority, accept }), rules });
    }

    /// Whether there is a chain of a name.
    pub fn has_chain(&self, name: &str) -> bool {
        self.chain_names.contains(name)
    }

    /// Adds a chain and gives the verdict that leads there.
    pub fn chain(&mut self, name: impl Into<String>, rules: Vec<Rule>) -> Verdict {
        let name = name.into();
        let fresh = self.chain_names.insert(name.clone());
        debug_assert!(fresh, "two chains {name}");
        self.chains.push(Chain { name: name.clone(), hook: None, rules });
        Verdict::Goto(name)
    }

    /// Adds a chain that others may share: where there is one of the same rules, that one serves. Rules name sets and
    /// don't hold addresses, so that who shares a chain does not change with the peers.
    pub fn shared_chain(&mut self, name: &str, rules: Vec<Rule>) -> Verdict {
        if let Some(name) = self.chains_by_rules.get(&rules) {
            return Verdict::Goto(name.clone());
        }
        let name = self.free_name(name);
        self.chains_by_rules.insert(rules.clone(), name.clone());
        self.chain(name, rules)
    }

    fn free_name(&self, name: &str) -> String {
        let names = std::iter::once(name.to_owned()).chain((2u32..).map(|number| format!("{name}.{number}")));
        names.into_iter().find(|name| !self.chain_names.contains(name)).unwrap_or_default()
    }

    /// Adds a set, a verdict map or a map to counters, whichever its elements are, and gives its name. Who adds the same
    /// under the same name shares it; another one gets a number.
    pub fn add_set(&mut self, mut set: Set) -> String {
        let wanted = set.name.clone();
        let mut number = 1u32;
        while let Some(other) = self.sets.get(&set.name) {
            if *other == set {
                return set.name;
            }
            number += 1;
            set.name = format!("{wanted}.{number}");
        }
        let name = set.name.clone();
        self.sets.insert(name.clone(), set);
        name
    }

    /// Adds a set of peers, where it has not been made yet.
    pub fn peer_set(&mut self, which: PeerSet, make: impl FnOnce(&Self) -> Set) -> String {
        if let Some(name) = self.sets_of_peers.get(&which) {
            debug_assert_eq!(self.sets[name].elements, make(self).elements, "{which:?}");
            return name.clone();
        }
        let set = make(self);
        let name = self.add_set(set);
        self.sets_of_peers.insert(which, name.clone());
        name
    }

    /// A set of single keys that stays as it is.
    pub fn set(&mut self, name: &str, key: Vec<Kind>, keys: impl IntoIterator<Item = Vec<u128>>) -> String {
        let keys: BTreeSet<Vec<u128>> = keys.into_iter().collect();
        let elements =
            keys.into_iter().map(|key| Element { key: key.into(), last: None, verdict: None, counter: None }).collect();
        let (interval, map, counts, grows) = (false, false, false, false);
        self.add_set(Set { name: name.to_owned(), key, interval, map, counts, grows, elements })
    }

    /// Says where a map may lead, whatever its elements are now.
    pub fn may_lead(&mut self, map: &str, to: Vec<Verdict>) {
        self.leads.insert(map.to_owned(), to);
    }

    /// A verdict map.
    pub fn map(
        &mut self,
        name: &str,
        key: Vec<Kind>,
        size: Size,
        verdicts: impl IntoIterator<Item = (Vec<u128>, Verdict)>,
    ) -> String {
        let verdicts: BTreeMap<Vec<u128>, Verdict> = verdicts.into_iter().collect();
        let elements = verdicts
            .into_iter()
            .map(|(key, verdict)| Element { key: key.into(), last: None, verdict: Some(verdict), counter: None })
            .collect();
        let (interval, map, counts, grows) = (false, true, false, size == Size::Grows);
        self.add_set(Set { name: name.to_owned(), key, interval, map, counts, grows, elements })
    }

    /// The counter of what a rule of a policy allows.
    pub fn rule_counter(&self, rule: &RuleName) -> Option<&Arc<str>> {
        self.rule_counters.get(rule)
    }

    /// Counts a decision.
    pub fn count(&mut self, decision: Decision) -> Statement {
        let name = counter_name(decision);
        self.counters.insert(name.clone(), Meaning::Decision(decision));
        Statement::Count(name)
    }

    /// Counts the packets of flows that were denied before.
    pub fn count_ended(&mut self) -> Statement {
        self.counters.insert(super::ENDED.to_owned(), Meaning::Ended);
        Statement::Count(super::ENDED.to_owned())
    }

    /// Counts and logs a decision.
    pub fn tell(&mut self, decision: Decision) -> Rule {
        rule([self.count(decision), Statement::Limit { per_second: 20, burst: 40 }, Statement::Log(decision)])
    }

    /// Counts and logs a decision and goes on to its verdict: a whole chain.
    pub fn tell_and(&mut self, decision: Decision, then: Verdict) -> Vec<Rule> {
        vec![self.tell(decision), rule([then.into()])]
    }

    /// The finished ruleset; `links` are the devices whose egress is guarded.
    pub fn finish(self, links: Vec<Chain>) -> Compiled {
        let sets = self.sets.into_values().collect();
        let mut table = Table { family: Family::Inet, counters: Vec::new(), sets, chains: self.chains };
        prune(&mut table, &self.leads);
        let mut counted: BTreeSet<&str> = statements(&table.chains)
            .filter_map(|statement| match statement {
                Statement::Count(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        for set in table.sets.iter().filter(|set| set.counts) {
            let counters = set.elements.iter().filter_map(|element| element.counter.as_ref());
            // Thousands that follow one another have the same.
            let mut before: Option<&Arc<str>> = None;
            for counter in counters {
                if !before.is_some_and(|before| Arc::ptr_eq(before, counter)) {
                    counted.insert(counter);
                }
                before = Some(counter);
            }
        }
        let meanings: BTreeMap<String, Meaning> =
            self.counters.into_iter().filter(|(name, _)| counted.contains(name.as_str())).collect();
        table.counters = meanings.keys().map(|name| Counter { name: name.clone() }).collect();
        let mut tables = vec![table];
        if !links.is_empty() {
            tables.push(Table { family: Family::Netdev, counters: Vec::new(), sets: Vec::new(), chains: links });
        }
        Compiled { ruleset: Ruleset { generation: self.generation, tables }, meanings }
    }
}

fn statements(chains: &[Chain]) -> impl Iterator<Item = &Statement> {
    chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.statements)
}

/// Leaves out the chains and sets that no packet can meet.
fn prune(table: &mut Table, leads: &BTreeMap<String, Vec<Verdict>>) {
    let chains: BTreeMap<&str, &Chain> = table.chains.iter().map(|chain| (chain.name.as_str(), chain)).collect();
    let sets: BTreeMap<&str, &Set> = table.sets.iter().map(|set| (set.name.as_str(), set)).collect();
    let mut met: BTreeSet<String> = BTreeSet::new();
    let mut used: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<&Chain> = table.chains.iter().filter(|chain| chain.hook.is_some()).collect();
    while let Some(chain) = open.pop() {
        if !met.insert(chain.name.clone()) {
            continue;
        }
        let mut follow = |verdict: &Verdict| {
            if let Verdict::Jump(name) | Verdict::Goto(name) = verdict {
                open.extend(chains.get(name.as_str()));
            }
        };
        for statement in chain.rules.iter().flat_map(|rule| &rule.statements) {
            match statement {
                Statement::Verdict(verdict) => follow(verdict),
                Statement::Dispatch { map: set, .. }
                | Statement::CountBy { map: set, .. }
                | Statement::Lookup { set, .. } => {
                    used.insert(set.clone());
                    let elements = sets.get(set.as_str()).into_iter().flat_map(|set| &set.elements);
                    elements.filter_map(|element| element.verdict.as_ref()).for_each(&mut follow);
                    leads.get(set).into_iter().flatten().for_each(&mut follow);
                }
                _ => {}
            }
        }
    }
    table.chains.retain(|chain| met.contains(&chain.name));
    table.sets.retain(|set| used.contains(&set.name));
}

/// The counter of a decision: its name without the prefix that marks our log messages.
pub fn counter_name(decision: Decision) -> String {
    let name = decision.to_string();
    name.strip_prefix("sw:").map_or(name.clone(), str::to_owned)
}

/// The counter of a policy's rule: by a hash of its name, so that it is the same whatever other rules there are.
fn counter_of_rule(rule: &RuleName, taken: &BTreeMap<String, Meaning>) -> String {
    let name = format!("rule-{}", short_hash(&rule.to_string()));
    // Two rules of one hash are told apart by their order.
    let names = std::iter::once(name.clone()).chain((2u32..).map(|number| format!("{name}.{number}")));
    names.into_iter().find(|name| !taken.contains_key(name)).unwrap_or_default()
}

/// Twelve hexadecimal digits for a text: FNV-1a (Fowler, Noll, Vo), folded to 48 bits.
pub fn short_hash(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{:012x}", (hash >> 48) ^ (hash & 0xffff_ffff_ffff))
}
