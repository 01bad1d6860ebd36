//! What holds for any policies of a pod's edges.

use crate::evaluate::{End, Flow, evaluate};
use crate::model::{PolicyKind, ResolvedPod};
use crate::resolve;
use crate::testing::{Case, Draw, Ground, add};
use crate::world::World;
use proptest::prelude::*;
use sidewall_api::PolicyType;
use sidewall_flow::{Action, Direction};

const FLOWS: usize = 60;

fn drawn(seed: u64) -> (Draw, Case) {
    let mut draw = Draw::new(seed);
    let case = Case::draw(&mut draw, &Ground::whole());
    (draw, case)
}

fn allows(pod: &ResolvedPod, flow: &Flow) -> bool {
    evaluate(pod, flow).action == Action::Allow
}

fn resolved(case: &Case) -> ResolvedPod {
    resolve(&case.world, &case.subject)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn one_more_rule_never_takes_a_permission_away(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let flows = case.flows(&mut draw, FLOWS);
        let pod = resolved(&case);
        for direction in [Direction::Ingress, Direction::Egress] {
            let mut more = case.clone();
            let rule = case.edge_rule(&mut draw);
            let kind = match direction {
                Direction::Ingress => PolicyType::Ingress,
                Direction::Egress => PolicyType::Egress,
            };
            let mut specs = more.edge_specs();
            // Where a direction is isolated by its rules alone, the first of them isolates it.
            specs.retain(|spec| spec.directions().contains(&kind));
            if specs.is_empty() {
                continue;
            }
            let chosen = draw.below(specs.len());
            add(specs[chosen], direction, rule);
            let more = resolved(&more);
            for flow in &flows {
                prop_assert!(!allows(&pod, flow) || allows(&more, flow), "{flow:?}");
            }
        }
    }

    #[test]
    fn the_order_of_anything_changes_nothing(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        let mut subject = case.subject.clone();
        draw.shuffle(&mut subject.networks.known);
        prop_assert_eq!(pod, resolve(&case.reordered(&mut draw), &subject));
    }

    #[test]
    fn each_kind_only_takes_away(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let containers = |kind| matches!(kind, PolicyKind::ContainerNetworkPolicy | PolicyKind::SidecarProxy);
        let mut without_edges = case.clone();
        let world = &mut without_edges.world;
        (world.network_policies, world.multi_network_policies) = Default::default();
        world.unreadable.retain(|policy| containers(policy.kind));
        let mut without_containers = case.clone();
        let world = &mut without_containers.world;
        (world.policies, world.proxies) = Default::default();
        world.unreadable.retain(|policy| !containers(policy.kind));
        let (pod, without_edges) = (resolved(&case), resolved(&without_edges));
        let without_containers = resolved(&without_containers);
        for flow in case.flows(&mut draw, FLOWS) {
            let both = allows(&without_edges, &flow) && allows(&without_containers, &flow);
            prop_assert_eq!(allows(&pod, &flow), both, "{:?}", flow);
        }
    }

    #[test]
    fn loopback_has_no_edge(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let world = World { policies: Vec::new(), proxies: Vec::new(), unreadable: Vec::new(), ..case.world.clone() };
        let pod = resolve(&world, &case.subject);
        for flow in case.flows(&mut draw, FLOWS) {
            if matches!((flow.sender, flow.receiver), (End::Local(_), End::Local(_))) {
                prop_assert_eq!(evaluate(&pod, &flow).action, Action::Allow, "{:?}", flow);
            }
        }
    }

    #[test]
    fn what_a_service_claims_means_nothing(seed: u64) {
        let (_, case) = drawn(seed);
        let mut unclaimed = case.world.clone();
        unclaimed.services.iter_mut().for_each(|service| service.claimed.clear());
        prop_assert_eq!(resolve(&case.world, &case.subject), resolve(&unclaimed, &case.subject));
    }
}
