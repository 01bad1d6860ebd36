//! The evaluator is what the rules do: flows through the compiled rules, in memory.

use super::netfilter::{Connection, Way};
use crate::evaluate::Half;
use crate::model::RuleName;
use crate::testing::{Case, Draw, Ground};
use crate::{Compiled, End, Flow, Generation, Meaning, Reason, ResolvedPod, compile, evaluate, resolve};
use proptest::prelude::*;
use sidewall_flow::{Action, Direction, Party, Protocol};
use std::collections::BTreeSet;
use std::net::IpAddr;

const FLOWS: usize = 60;

/// Mostly with the policies of edges and further networks.
fn ground(seed: u64) -> Ground {
    if seed.is_multiple_of(3) { Ground::default() } else { Ground::whole() }
}

fn drawn(seed: u64) -> (Draw, Case) {
    let mut draw = Draw::new(seed);
    let case = Case::draw(&mut draw, &ground(seed));
    (draw, case)
}

/// The pod's address in a flow: on loopback any of its own, on a further network one of those there, or one that nobody
/// tells of.
fn own(draw: &mut Draw, pod: &ResolvedPod, flow: &Flow) -> IpAddr {
    let parsed = |addresses: [&str; 2]| addresses.map(|address| address.parse::<IpAddr>().unwrap());
    let (all, other): (Vec<IpAddr>, _) = match (flow.sender, flow.receiver) {
        (End::Attached(id, other), _) | (_, End::Attached(id, other)) => {
            let there = pod.attached.get(&id).into_iter().flat_map(|attached| attached.addresses.iter().copied());
            (there.chain(parsed(["10.99.99.9", "fd99::9"])).collect(), Some(other))
        }
        (End::Remote(other), _) | (_, End::Remote(other)) => (pod.addresses.iter().copied().collect(), Some(other)),
        _ => (parsed(["127.0.0.1", "::1"]).into_iter().chain(pod.addresses.iter().copied()).collect(), None),
    };
    let fits = |address: &IpAddr| other.is_none_or(|other| address.is_ipv4() == other.is_ipv4());
    let all: Vec<IpAddr> = all.into_iter().filter(fits).collect();
    *draw.pick(&all)
}

fn allows(pod: &ResolvedPod, flow: &Flow) -> bool {
    evaluate(pod, flow).action == Action::Allow
}

/// Whether a rule would allow a side of a flow if it were the only one.
fn allows_alone(pod: &ResolvedPod, flow: &Flow, half: &Half, rule: &RuleName) -> bool {
    let mut pod = pod.clone();
    let edges = pod.attached.values_mut().map(|attached| &mut attached.edge).chain([&mut pod.edge, &mut pod.elsewhere]);
    for sides in pod.enforced.parties.values_mut().chain(edges) {
        for direction in [Direction::Ingress, Direction::Egress] {
            sides.side_mut(direction).rules.retain(|own| own.name == *rule);
        }
    }
    evaluate(&pod, flow).halves.iter().any(|own| {
        (own.party, own.direction, own.level) == (half.party, half.direction, half.level)
            && own.reason == Reason::Allowed { rule: rule.clone() }
    })
}

/// The judgements that counters tell of.
fn audited(compiled: &Compiled, counted: &BTreeSet<String>) -> BTreeSet<&'static str> {
    let meanings = counted.iter().map(|name| &compiled.meanings[name]);
    meanings
        .filter_map(|meaning| match meaning {
            Meaning::Decision(decision) if decision.audit => {
                Some(if decision.action == Action::Allow { "allow" } else { "deny" })
            }
            _ => None,
        })
        .collect()
}

/// What holds when some policies have gone and one has come.
fn after_a_change(draw: &mut Draw, case: &Case) -> ResolvedPod {
    let mut other = case.clone();
    other.world.policies.retain(|_| draw.chance(60));
    let added = case.policy(draw, "added");
    other.world.policies.push(added);
    resolve(&other.world, &case.subject)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_rules_give_the_evaluators_verdict(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        let compiled = compile(&pod, Generation::FIRST);
        for flow in case.flows(&mut draw, FLOWS) {
            let own = own(&mut draw, &pod, &flow);
            let mut connection = Connection::new(&pod, flow, own);
            let passed = connection.opens(&compiled.ruleset);
            let verdict = evaluate(&pod, &flow);
            prop_assert_eq!(
                passed, verdict.action == Action::Allow,
                "{:?} at {}: {:#?}\nmet {:?}", flow, own, verdict, connection.counted
            );
        }
    }

    #[test]
    fn the_rules_tell_the_audit_verdict(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        let compiled = compile(&pod, Generation::FIRST);
        for flow in case.flows(&mut draw, FLOWS) {
            let own = own(&mut draw, &pod, &flow);
            let mut connection = Connection::new(&pod, flow, own);
            connection.opens(&compiled.ruleset);
            let verdict = evaluate(&pod, &flow);
            // By user, the rules know only the port's owner, and tell what would become of a flow to that one.
            let owner = match flow.sender {
                End::Local(_) => pod.owner(flow.protocol, flow.port),
                _ => pod.owner_on_network(flow.protocol, flow.port),
            };
            let owner = owner.map(|id| End::Local(Party::Container(id)));
            if pod.identities.by_port() && matches!(flow.receiver, End::Local(_)) && owner != Some(flow.receiver) {
                continue;
            }
            let expected: BTreeSet<&str> = match verdict.audit {
                None => BTreeSet::new(),
                Some(Action::Allow) => BTreeSet::from(["allow"]),
                Some(Action::Deny) => BTreeSet::from(["deny"]),
            };
            prop_assert_eq!(
                audited(&compiled, &connection.counted), expected,
                "{:?} at {}: {:#?}\nmet {:?}", flow, own, verdict, connection.counted
            );
        }
    }

    /// Under identity by cgroup, each side that a rule allows is counted by a rule that allows it: the evaluator's, or
    /// another that would do as well.
    #[test]
    fn a_rule_that_allows_is_counted(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        if pod.identities.by_port() {
            return Ok(());
        }
        let compiled = compile(&pod, Generation::FIRST);
        for flow in case.flows(&mut draw, FLOWS) {
            let own = own(&mut draw, &pod, &flow);
            let mut connection = Connection::new(&pod, flow, own);
            if !connection.opens(&compiled.ruleset) {
                continue;
            }
            for half in evaluate(&pod, &flow).halves {
                if let Reason::Allowed { rule } = &half.reason {
                    let counted = connection.counted.iter().any(|name| match &compiled.meanings[name] {
                        Meaning::Rule(counted) => counted == rule || allows_alone(&pod, &flow, &half, counted),
                        _ => false,
                    });
                    prop_assert!(counted, "{flow:?}: {rule} is not among {:?}", connection.counted);
                }
            }
        }
    }

    /// A change that denies a live flow ends it at its next packet, whichever end sends it, and one that does not
    /// leaves it alone.
    #[test]
    fn live_flows_are_judged_again(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let before = resolve(&case.world, &case.subject);
        let after = after_a_change(&mut draw, &case);
        let first = compile(&before, Generation::FIRST);
        let second = compile(&after, Generation::FIRST.next());
        let third = compile(&before, Generation::FIRST.next().next());
        for flow in case.flows(&mut draw, FLOWS) {
            let own = own(&mut draw, &before, &flow);
            for ways in [[Way::Original, Way::Reply], [Way::Reply, Way::Original]] {
                let mut connection = Connection::new(&before, flow, own);
                if !connection.opens(&first.ruleset) {
                    continue;
                }
                let expected = allows(&after, &flow);
                for way in ways {
                    prop_assert_eq!(
                        connection.sends(&second.ruleset, way), expected,
                        "{:?} {:?} at {}: {:#?}\nmet {:?}", flow, way, own, evaluate(&after, &flow), connection.counted
                    );
                }
                if expected {
                    prop_assert!(ways.into_iter().all(|way| connection.sends(&third.ruleset, way)), "{flow:?}");
                }
            }
        }
    }

    /// A SYN onto what is left of an earlier connection is judged as any other.
    #[test]
    fn a_connection_onto_time_wait_is_judged_at_its_first_packet(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        let rules = compile(&pod, Generation::FIRST).ruleset;
        for flow in case.flows(&mut draw, FLOWS).into_iter().filter(|flow| flow.protocol == Protocol::Tcp) {
            let own = own(&mut draw, &pod, &flow);
            let (mut new, mut onto) = (Connection::new(&pod, flow, own), Connection::new(&pod, flow, own));
            onto.remains = true;
            prop_assert_eq!(onto.begins(&rules), new.begins(&rules), "{:?} at {}: met {:?}", flow, own, onto.counted);
            // By cgroup, that is the verdict; by user, the answer may be what tells.
            prop_assert!(!onto.begins(&rules) || pod.identities.by_port() || allows(&pod, &flow), "{flow:?} at {own}");
        }
    }

    /// A handshake that is under way when its connection is denied does not come to its end.
    #[test]
    fn a_handshake_is_judged_again_before_it_ends(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let before = resolve(&case.world, &case.subject);
        let after = after_a_change(&mut draw, &case);
        let first = compile(&before, Generation::FIRST).ruleset;
        let second = compile(&after, Generation::FIRST.next()).ruleset;
        for flow in case.flows(&mut draw, FLOWS).into_iter().filter(|flow| flow.protocol == Protocol::Tcp) {
            let own = own(&mut draw, &before, &flow);
            let mut connection = Connection::new(&before, flow, own);
            if connection.is_answered(&first) {
                prop_assert_eq!(
                    connection.is_confirmed(&second), allows(&after, &flow),
                    "{:?} at {}: {:#?}\nmet {:?}", flow, own, evaluate(&after, &flow), connection.counted
                );
            }
        }
    }

    /// Who sends in another's flow over loopback is dropped, and the flow lives on.
    #[test]
    fn nobody_speaks_in_anothers_flow(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        let rules = compile(&pod, Generation::FIRST).ruleset;
        let again = compile(&pod, Generation::FIRST.next()).ruleset;
        for flow in case.flows(&mut draw, FLOWS) {
            let (End::Local(sender), End::Local(receiver)) = (flow.sender, flow.receiver) else { continue };
            let own = own(&mut draw, &pod, &flow);
            let mut connection = Connection::new(&pod, flow, own);
            if !connection.opens(&rules) {
                continue;
            }
            for rules in [&rules, &again] {
                for (way, owner) in [(Way::Original, sender), (Way::Reply, receiver)] {
                    for forger in case.parties().into_iter().filter(|party| *party != owner) {
                        prop_assert!(!connection.is_forged_by(rules, way, forger), "{forger} {way:?} in {flow:?}");
                    }
                }
                for way in [Way::Original, Way::Reply] {
                    prop_assert!(connection.sends(rules, way), "{way:?} of {flow:?} after a forgery");
                }
            }
        }
    }
}

/// The simulation is worth something only where flows pass and fail in it.
#[test]
fn both_verdicts_come_up() {
    let (mut passed, mut failed) = (0, 0);
    for seed in 0..60 {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        let rules = compile(&pod, Generation::FIRST).ruleset;
        for flow in case.flows(&mut draw, 20) {
            let own = own(&mut draw, &pod, &flow);
            if Connection::new(&pod, flow, own).opens(&rules) { passed += 1 } else { failed += 1 }
        }
    }
    assert!(passed > 200 && failed > 200, "{passed} passed, {failed} failed");
}
