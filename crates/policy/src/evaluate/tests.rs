//! What holds for every pod, policy and flow.

use super::*;
use crate::testing::{Case, Draw, Ground};
use crate::{compile, guard, resolve};
use proptest::prelude::*;
use sidewall_api::{ContainerNetworkPolicy, ContainerNetworkPolicySpec, EgressRule, IngressRule, Mode, PolicyType};
use sidewall_flow::Action;

const FLOWS: usize = 150;

fn drawn(seed: u64) -> (Draw, Case) {
    let mut draw = Draw::new(seed);
    let case = Case::draw(&mut draw, &Ground::default());
    (draw, case)
}

fn allows(pod: &ResolvedPod, flow: &Flow) -> bool {
    evaluate(pod, flow).action == Action::Allow
}

/// Every flow of `before` that passes also passes in `after`.
fn nothing_is_lost(before: &ResolvedPod, after: &ResolvedPod, flows: &[Flow]) -> Result<(), TestCaseError> {
    for flow in flows.iter().filter(|flow| allows(before, flow)) {
        prop_assert!(allows(after, flow), "{flow:?} passed before: {:#?}", evaluate(after, flow));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_allow_rule_never_takes_a_permission_away(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let before = resolve(&case.world, &case.subject);
        let flows = case.flows(&mut draw, FLOWS);
        for index in 0..case.world.policies.len() {
            let direction = *draw.pick(&[Direction::Ingress, Direction::Egress]);
            let (peers, ports) = case.rule(&mut draw, direction);
            let mut world = case.world.clone();
            let spec = &mut world.policies[index].spec;
            let kind = match direction {
                Direction::Ingress => PolicyType::Ingress,
                Direction::Egress => PolicyType::Egress,
            };
            // A first egress rule isolates too, where policyTypes does not say otherwise: that is not about permission.
            if !spec.directions().contains(&kind) {
                continue;
            }
            match direction {
                Direction::Ingress => {
                    spec.ingress.get_or_insert_default().push(IngressRule { from: peers, ports });
                }
                Direction::Egress => spec.egress.get_or_insert_default().push(EgressRule { to: peers, ports }),
            }
            nothing_is_lost(&before, &resolve(&world, &case.subject), &flows)?;
        }
    }

    #[test]
    fn isolation_alone_never_gives_a_permission(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let flows = case.flows(&mut draw, FLOWS);
        let mut world = case.world.clone();
        let mut policy = case.policy(&mut draw, "isolates");
        policy.spec.mode = Mode::Enforce;
        policy.spec.ingress = None;
        policy.spec.egress = None;
        world.policies.push(policy);
        nothing_is_lost(&resolve(&world, &case.subject), &resolve(&case.world, &case.subject), &flows)?;
    }

    #[test]
    fn order_changes_nothing(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        let other = resolve(&case.reordered(&mut draw), &case.subject);
        prop_assert_eq!(&pod, &other);
        let generation = crate::Generation::FIRST;
        prop_assert_eq!(compile(&pod, generation).ruleset.to_string(), compile(&other, generation).ruleset.to_string());
    }

    #[test]
    fn a_container_always_reaches_itself(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pods = [resolve(&case.world, &case.subject), guard(&case.subject)];
        for flow in case.flows(&mut draw, FLOWS) {
            for (id, pod) in case.subject.containers.keys().flat_map(|id| pods.iter().map(move |pod| (*id, pod))) {
                let itself = End::Local(Party::Container(id));
                let flow = Flow { sender: itself, receiver: itself, ..flow };
                let owner = pod.owner(flow.protocol, flow.port);
                // By user, a port that another declares is another's, and an undeclared one is known over TCP only.
                let known = !pod.identities.by_port()
                    || owner == Some(id)
                    || owner.is_none() && flow.protocol == Protocol::Tcp;
                if known {
                    prop_assert!(allows(pod, &flow), "{flow:?}");
                }
            }
        }
    }

    #[test]
    fn audit_policies_change_nothing_that_is_enforced(seed: u64) {
        let (_, case) = drawn(seed);
        let mut world = case.world.clone();
        // One that can't be understood isolates, whatever mode it seems to have.
        world.policies.retain(|policy| policy.spec.mode == Mode::Enforce || policy.validate().iter().any(|p| p.is_error()));
        let (with, without) = (resolve(&case.world, &case.subject), resolve(&world, &case.subject));
        prop_assert_eq!(with.enforced, without.enforced);
        prop_assert!(without.audit.is_none());
    }

    #[test]
    fn an_audit_verdict_is_what_enforcing_all_policies_would_give(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        let mut world = case.world.clone();
        world.policies.iter_mut().for_each(|policy| policy.spec.mode = Mode::Enforce);
        let all = resolve(&world, &case.subject);
        for flow in case.flows(&mut draw, FLOWS) {
            let verdict = evaluate(&pod, &flow);
            let would = evaluate(&all, &flow).action;
            prop_assert_eq!(verdict.audit.unwrap_or(verdict.action), would);
            prop_assert!(verdict.audit != Some(verdict.action));
        }
    }

    #[test]
    fn what_nothing_selects_is_open(seed: u64) {
        let (mut draw, mut case) = drawn(seed);
        if draw.chance(50) {
            case.world.policies.clear();
            case.world.proxies.clear();
            case.world.unreadable.clear();
        }
        let pod = resolve(&case.world, &case.subject);
        if pod.is_selected() {
            return Ok(());
        }
        for flow in case.flows(&mut draw, FLOWS) {
            let verdict = evaluate(&pod, &flow);
            prop_assert_eq!((verdict.action, verdict.audit), (Action::Allow, None));
        }
    }

    /// Under identity by user the rules pass a flow without asking who receives it where an unknown receiver may be
    /// reached.
    #[test]
    fn what_an_unknown_receiver_may_get_every_receiver_may(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        for flow in case.flows(&mut draw, FLOWS) {
            let to = |party| Flow { receiver: End::Local(party), ..flow };
            for layer in [Some(&pod.enforced), pod.audit.as_ref()].into_iter().flatten() {
                let passes = |party| match flow.sender {
                    End::Local(sender) => action(&pair(layer, &flow, sender, party)) == Action::Allow,
                    End::Remote(_) | End::Attached(..) => {
                        half(layer, party, Direction::Ingress, flow.sender, &to(party)).reason.action() == Action::Allow
                    }
                };
                if passes(Party::Unknown) {
                    prop_assert!(case.parties().into_iter().all(passes), "{flow:?}");
                }
            }
        }
    }

    #[test]
    fn the_guard_denies_everything_between_two(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = guard(&case.subject);
        prop_assert!(pod.is_selected());
        for flow in case.flows(&mut draw, FLOWS) {
            let alone = flow.sender == flow.receiver && flow.sender != End::Local(Party::Unknown);
            prop_assert!(alone || !allows(&pod, &flow), "{flow:?}");
        }
    }

    #[test]
    fn every_denial_has_its_reason(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        for flow in case.flows(&mut draw, FLOWS) {
            let verdict = evaluate(&pod, &flow);
            let denied = verdict.halves.iter().filter(|half| half.reason.action() == Action::Deny).count();
            prop_assert_eq!(verdict.action == Action::Deny, denied > 0);
            for half in &verdict.halves {
                if let Reason::Isolated { by } = &half.reason {
                    prop_assert!(!by.is_empty());
                }
            }
        }
    }
}

/// Random cases are worth something only where both verdicts are common and every reason comes up.
#[test]
fn drawn_cases_come_out_both_ways() {
    let (mut allowed, mut denied, mut by_rule, mut undeclared, mut audited, mut notes) = (0, 0, 0, 0, 0, 0);
    for seed in 0..300 {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        notes += usize::from(!pod.notes.is_empty());
        for flow in case.flows(&mut draw, FLOWS) {
            let verdict = evaluate(&pod, &flow);
            match verdict.action {
                Action::Allow => allowed += 1,
                Action::Deny => denied += 1,
            }
            audited += usize::from(verdict.audit.is_some());
            let reasons = |wanted: fn(&Reason) -> bool| verdict.halves.iter().any(|half| wanted(&half.reason));
            by_rule += usize::from(reasons(|reason| matches!(reason, Reason::Allowed { .. })));
            undeclared += usize::from(reasons(|reason| matches!(reason, Reason::NotDeclared { .. })));
        }
    }
    let all = allowed + denied;
    let share = |count: usize| count * 100 / all;
    let told = format!(
        "allowed {}%, denied {}%, by a rule {}%, undeclared {}%, audited {}%, noted {notes} of 300",
        share(allowed),
        share(denied),
        share(by_rule),
        share(undeclared),
        share(audited)
    );
    println!("{told}");
    assert!(share(allowed) >= 20 && share(denied) >= 20, "{told}");
    assert!(share(by_rule) >= 5 && share(undeclared) >= 5 && share(audited) >= 1, "{told}");
}

#[test]
fn groups_of_receivers_are_never_allowed_by_a_rule() {
    let (_, mut case) = drawn(1);
    let spec = ContainerNetworkPolicySpec { egress: Some(vec![EgressRule::default()]), ..Default::default() };
    let mut policy = ContainerNetworkPolicy::new("all", spec);
    policy.metadata.namespace = Some(case.subject.namespace.clone());
    case.world = crate::World { policies: vec![policy], ..Default::default() };
    let pod = resolve(&case.world, &case.subject);
    let sender = End::Local(case.parties()[0]);
    for (address, passes) in [("192.0.2.1", true), ("224.0.0.1", false), ("255.255.255.255", false), ("ff02::1", false)]
    {
        let flow = Flow { sender, receiver: End::Remote(address.parse().unwrap()), protocol: Protocol::Udp, port: 53 };
        assert_eq!(allows(&pod, &flow), passes, "{address}");
    }
}
