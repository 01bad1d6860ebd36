//! What changes of a cluster come to in the rules: elements for peers, more for policies.

use crate::compile::{Compiled, compile_next};
use crate::fixture::Fixture;
use crate::model::Identities;
use crate::ruleset::{Change, Set};
use crate::testing::{Case, Draw, Ground};
use crate::{Generation, ResolvedPod, compile, resolve};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Takes a pod away, moves one to a free address, or adds one that is like another.
fn peers_change(draw: &mut Draw, case: &mut Case) {
    let own = (case.subject.namespace.clone(), case.subject.name.clone());
    let pods = &mut case.world.pods;
    let others: Vec<usize> =
        (0..pods.len()).filter(|i| (pods[*i].namespace.clone(), pods[*i].name.clone()) != own).collect();
    if others.is_empty() {
        return;
    }
    let chosen = *draw.pick(&others);
    let free: Vec<IpAddr> = (1..=9).map(|last| IpAddr::from([10, 1, 7, last])).collect();
    match draw.below(3) {
        0 => {
            pods.remove(chosen);
        }
        1 => pods[chosen].addresses = draw.some(&free, 1),
        _ => {
            let mut added = pods[chosen].clone();
            added.name = format!("{}-again", added.name);
            added.addresses = draw.some(&free, 1);
            pods.push(added);
        }
    }
}

fn leads(old: &Compiled, pod: &ResolvedPod) -> (Compiled, Change) {
    let (new, change) = compile_next(pod, old);
    if let Change::Parts(parts) = &change {
        assert_eq!(parts.apply(&old.ruleset).as_ref(), Ok(&new.ruleset));
    }
    (new, change)
}

/// The names of chains and sets that only one of two rulesets has, or has otherwise than in what may change.
fn other_parts(old: &Compiled, new: &Compiled) -> BTreeSet<String> {
    let parts = |compiled: &Compiled| -> BTreeSet<String> {
        let table = &compiled.ruleset.tables[0];
        let set = |set: &Set| {
            let fixed = if set.grows { String::new() } else { format!("{:?}", set.elements) };
            format!("set {} {:?} {} {} {} {fixed}", set.name, set.key, set.interval, set.map, set.counts)
        };
        let chains = table.chains.iter().map(|chain| format!("chain {}", chain.name));
        table.sets.iter().map(set).chain(chains).collect()
    };
    parts(old).symmetric_difference(&parts(new)).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Pods come, go and move: only elements and counters change, whoever they are peers of.
    #[test]
    fn peers_that_come_and_go_change_elements_only(seed: u64) {
        let mut draw = Draw::new(seed);
        let mut case = Case::draw(&mut draw, &Ground::whole());
        let mut old = compile(&resolve(&case.world, &case.subject), Generation::FIRST);
        for _ in 0..6 {
            peers_change(&mut draw, &mut case);
            let pod = resolve(&case.world, &case.subject);
            let (new, change) = leads(&old, &pod);
            prop_assert!(matches!(change, Change::Parts(_)), "{:?}", other_parts(&old, &new));
            if new.ruleset.generation == old.ruleset.generation {
                let Change::Parts(parts) = &change else { continue };
                prop_assert!(parts.tables.iter().all(|table| table.chains.is_empty()));
            }
            prop_assert_eq!(&new, &compile(&pod, new.ruleset.generation));
            prop_assert_eq!(&change, &new.ruleset.change_from(&old.ruleset));
            old = new;
        }
    }

    /// Whatever changes, the change leads from the old rules to the new ones, and the generation is a new one where
    /// anything is taken away.
    #[test]
    fn policies_that_change_are_followed(seed: u64) {
        let mut draw = Draw::new(seed);
        let mut case = Case::draw(&mut draw, &Ground::whole());
        let mut old = compile(&resolve(&case.world, &case.subject), Generation::FIRST);
        for step in 0..4 {
            let before = resolve(&case.world, &case.subject);
            if draw.chance(50) {
                let added = case.policy(&mut draw, &format!("added-{step}"));
                case.world.policies.push(added);
            } else {
                case.world.policies.retain(|_| draw.chance(70));
            }
            let pod = resolve(&case.world, &case.subject);
            let (new, change) = leads(&old, &pod);
            prop_assert_eq!(&new, &compile(&pod, new.ruleset.generation));
            prop_assert_eq!(&change, &new.ruleset.change_from(&old.ruleset));
            let kept = new.ruleset.generation == old.ruleset.generation;
            prop_assert!(kept || new.ruleset.generation == old.ruleset.generation.next());
            prop_assert!(!change.is_empty() || kept);
            if kept {
                for flow in case.flows(&mut draw, 20) {
                    let allowed = |pod: &ResolvedPod| crate::evaluate(pod, &flow).action == sidewall_flow::Action::Allow;
                    prop_assert!(!allowed(&before) || allowed(&pod), "{flow:?} is taken away in one generation");
                }
            }
            old = new;
        }
    }
}

#[test]
fn a_container_that_starts_is_an_element_more() {
    let fixture = Fixture::new(&[("app", &["TCP/8080"][..]), ("helper", &[])])
        .policy("web", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}))
        .policy(
            "helper",
            json!({"podSelector": {}, "containers": ["helper"], "egress": [{"to": [{"container": "app"}]}]}),
        );
    let mut pod = fixture.resolved();
    let Identities::Cgroup { level, containers, pods_level, pods } = pod.identities.clone() else {
        panic!("not by cgroup")
    };
    let mut with = |started: usize| {
        let containers = containers.clone().into_iter().take(started).collect();
        pod.identities = Identities::Cgroup { level, containers, pods_level, pods };
        compile(&pod, Generation::FIRST).ruleset
    };
    for started in 0..2 {
        let Change::Parts(changes) = with(started + 1).change_from(&with(started)) else {
            panic!("{started}: the shape")
        };
        let [table] = &changes.tables[..] else { panic!("{changes:?}") };
        assert!(table.chains.is_empty(), "{table:?}");
        assert!(table.sets.iter().all(|set| set.delete.is_empty() && set.add.len() == 1), "{table:?}");
    }
}

#[test]
fn the_first_pod_that_declares_a_named_port_is_elements_more() {
    let peers = json!([{"podSelector": {}}]);
    let ports = json!([{"protocol": "TCP"}, {"protocol": "UDP", "port": "metrics"}]);
    let before = || {
        Fixture::new(&[("app", &[][..])])
            .policy("named", json!({"podSelector": {}, "egress": [{"to": peers, "ports": ports}]}))
            .network_policy(
                "edge",
                json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": peers, "ports": ports}]}),
            )
            .pod("shop/plain", "app=plain", &["10.1.0.2"], &[])
    };
    let after = before().pod("shop/declares", "app=other", &["10.1.0.3"], &["metrics=UDP/9100"]);
    let old = compile(&before().resolved(), Generation::FIRST);
    let (new, change) = leads(&old, &after.resolved());
    let Change::Parts(changes) = &change else { panic!("another shape: {:?}", other_parts(&old, &new)) };
    assert!(changes.tables.iter().all(|table| table.chains.is_empty()), "{changes:?}");
    assert_eq!(new.ruleset.generation, old.ruleset.generation);
}
