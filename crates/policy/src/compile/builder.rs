//! What a ruleset in the making consists of: chains, sets shared by content, counters by what they count.

use super::statements::rule;
use super::{Compiled, Meaning};
use crate::model::{Layer, ResolvedPod, RuleName};
use crate::ranges::Ranges;
use crate::ruleset::{
    Chain, Counter, Element, Family, Generation, Hook, HookPoint, Kind, Rule, Ruleset, Set, Statement, Table, Verdict,
};
use sidewall_flow::{Decision, Party};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A ruleset in the making.
pub struct Builder<'a> {
    /// The pod.
    pub pod: &'a ResolvedPod,
    /// The ruleset's number.
    pub generation: Generation,
    chains: Vec<Chain>,
    chains_by_rules: HashMap<Vec<Rule>, String>,
    sets: Vec<Set>,
    sets_by_content: HashMap<SetContent, String>,
    counters: BTreeMap<String, Meaning>,
    rule_counters: BTreeMap<RuleName, String>,
}

type SetContent = (Vec<Kind>, bool, Vec<Element>);

impl<'a> Builder<'a> {
    pub fn new(pod: &'a ResolvedPod, generation: Generation) -> Self {
        let rules: BTreeSet<&RuleName> = pod
            .enforced
            .parties
            .values()
            .flat_map(|sides| sides.ingress.rules.iter().chain(&sides.egress.rules))
            .map(|rule| &rule.name)
            .collect();
        let rule_counters: BTreeMap<RuleName, String> =
            rules.into_iter().enumerate().map(|(i, name)| (name.clone(), format!("rule-{}", i + 1))).collect();
        let counters = rule_counters.iter().map(|(rule, name)| (name.clone(), Meaning::Rule(rule.clone()))).collect();
        Self {
            pod,
            generation,
            chains: Vec::new(),
            chains_by_rules: HashMap::new(),
            sets: Vec::new(),
            sets_by_content: HashMap::new(),
            counters,
            rule_counters,
        }
    }

    /// The parties of the pod.
    pub fn parties(&self) -> Vec<Party> {
        self.pod.parties().collect()
    }

    /// Whether a layer is the enforced one, whose rules are counted.
    pub fn is_enforced(&self, layer: &Layer) -> bool {
        std::ptr::eq(layer, &self.pod.enforced)
    }

    /// Adds a base chain.
    pub fn base_chain(&mut self, name: &str, point: HookPoint, priority: i32, accept: bool, rules: Vec<Rule>) {
        self.chains.push(Chain { name: name.to_owned(), hook: Some(Hook { point, priority, accept }), rules });
    }

    /// Adds a chain and gives the verdict that leads there.
    pub fn chain(&mut self, name: impl Into<String>, rules: Vec<Rule>) -> Verdict {
        let name = name.into();
        debug_assert!(self.chains.iter().all(|chain| chain.name != name), "two chains {name}");
        self.chains.push(Chain { name: name.clone(), hook: None, rules });
        Verdict::Goto(name)
    }

    /// Adds a chain that others may share: where there is one of the same rules, that one serves.
    pub fn shared_chain(&mut self, name: &str, rules: Vec<Rule>) -> Verdict {
        if let Some(name) = self.chains_by_rules.get(&rules) {
            return Verdict::Goto(name.clone());
        }
        let name = self.free_name(name);
        self.chains_by_rules.insert(rules.clone(), name.clone());
        self.chain(name, rules)
    }

    fn free_name(&self, name: &str) -> String {
        let taken = |name: &str| self.chains.iter().any(|chain| chain.name == name);
        if !taken(name) {
            return name.to_owned();
        }
        let mut number = 2u32;
        loop {
            let name = format!("{name}.{number}");
            if !taken(&name) {
                return name;
            }
            number += 1;
        }
    }

    /// A set of single keys.
    pub fn set(&mut self, hint: &str, key: Vec<Kind>, keys: impl IntoIterator<Item = Vec<u128>>) -> String {
        let keys: BTreeSet<Vec<u128>> = keys.into_iter().collect();
        let elements = keys.into_iter().map(|key| Element { key, last: None, verdict: None, counter: None }).collect();
        self.intern(hint, key, false, elements)
    }

    /// A set of numbers, with intervals where they are needed.
    pub fn range_set(&mut self, hint: &str, kind: Kind, ranges: &Ranges) -> String {
        let interval = ranges.iter().any(|(first, last)| first != last);
        if !interval {
            return self.set(hint, vec![kind], ranges.iter().map(|(only, _)| vec![only]));
        }
        let elements = ranges
            .iter()
            .map(|(first, last)| Element { key: vec![first], last: Some(last), verdict: None, counter: None })
            .collect();
        self.intern(hint, vec![kind], true, elements)
    }

    fn intern(&mut self, hint: &str, key: Vec<Kind>, interval: bool, elements: Vec<Element>) -> String {
        let content = (key, interval, elements);
        if let Some(name) = self.sets_by_content.get(&content) {
            return name.clone();
        }
        let name = format!("{hint}-{}", self.sets.len() + 1);
        self.sets_by_content.insert(content.clone(), name.clone());
        let (key, interval, elements) = content;
        self.sets.push(Set { name: name.clone(), key, interval, map: false, counts: false, grows: false, elements });
        name
    }

    /// A verdict map.
    pub fn map(
        &mut self,
        name: &str,
        key: Vec<Kind>,
        verdicts: impl IntoIterator<Item = (Vec<u128>, Verdict)>,
    ) -> String {
        let verdicts: BTreeMap<Vec<u128>, Verdict> = verdicts.into_iter().collect();
        let elements = verdicts
            .into_iter()
            .map(|(key, verdict)| Element { key, last: None, verdict: Some(verdict), counter: None })
            .collect();
        self.sets.push(Set {
            name: name.to_owned(),
            key,
            interval: false,
            map: true,
            counts: false,
            grows: false,
            elements,
        });
        name.to_owned()
    }

    /// Counts what a rule of a policy allows.
    pub fn count_rule(&self, rule: &RuleName) -> Option<Statement> {
        self.rule_counters.get(rule).map(|name| Statement::Count(name.clone()))
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

    /// Logs and counts a decision and goes on to its verdict: a whole chain.
    pub fn tell(&mut self, decision: Decision, then: Verdict) -> Vec<Rule> {
        vec![
            rule([Statement::Limit { per_second: 20, burst: 40 }, Statement::Log(decision)]),
            rule([self.count(decision), then.into()]),
        ]
    }

    /// The finished ruleset; `link` are the rules of the pod interface's egress.
    pub fn finish(self, link: Option<(String, Vec<Rule>)>) -> Compiled {
        let mut table = Table { family: Family::Inet, counters: Vec::new(), sets: self.sets, chains: self.chains };
        prune(&mut table);
        let counted: BTreeSet<&String> = statements(&table.chains)
            .filter_map(|statement| match statement {
                Statement::Count(name) => Some(name),
                _ => None,
            })
            .collect();
        let meanings: BTreeMap<String, Meaning> =
            self.counters.into_iter().filter(|(name, _)| counted.contains(name)).collect();
        table.counters = meanings.keys().map(|name| Counter { name: name.clone() }).collect();
        let mut tables = vec![table];
        if let Some((device, rules)) = link {
            let hook = Hook { point: HookPoint::DeviceEgress(device), priority: 0, accept: false };
            let chain = Chain { name: "egress".to_owned(), hook: Some(hook), rules };
            tables.push(Table { family: Family::Netdev, counters: Vec::new(), sets: Vec::new(), chains: vec![chain] });
        }
        Compiled { ruleset: Ruleset { generation: self.generation, tables }, meanings }
    }
}

fn statements(chains: &[Chain]) -> impl Iterator<Item = &Statement> {
    chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.statements)
}

/// Leaves out the chains and sets that no packet can meet.
fn prune(table: &mut Table) {
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
                Statement::Dispatch { map: set, .. } | Statement::Lookup { set, .. } => {
                    used.insert(set.clone());
                    let elements = sets.get(set.as_str()).into_iter().flat_map(|set| &set.elements);
                    elements.filter_map(|element| element.verdict.as_ref()).for_each(&mut follow);
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
