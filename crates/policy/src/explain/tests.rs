//! What an explanation advises is done, and the evaluator is asked again.

use super::*;
use crate::resolve;
use crate::testing::{Case, Draw, Ground};
use crate::world::{Subject, World};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;
use sidewall_api::network::POLICY_FOR;
use sidewall_api::{ContainerNetworkPolicy, MultiNetworkPolicy, NetworkEgressRule, NetworkIngressRule, NetworkPolicy};
use sidewall_flow::Party;

fn drawn(seed: u64) -> (Draw, Case) {
    let mut draw = Draw::new(seed);
    let case = Case::draw(&mut draw, &Ground::whole());
    (draw, case)
}

/// Makes the advised changes: in the policies that are named, or all of them in new ones.
fn apply<'a>(
    changes: impl Iterator<Item = &'a Change>,
    world: &World,
    subject: &Subject,
    in_place: bool,
) -> (World, Subject) {
    let (mut world, mut subject) = (world.clone(), subject.clone());
    for (index, change) in changes.enumerate() {
        match change {
            Change::DeclarePort { container, protocol, port } => {
                let declares = subject.containers.values_mut().find(|c| c.name == *container).unwrap();
                declares.ports.push(crate::model::DeclaredPort { name: None, protocol: *protocol, port: *port });
            }
            Change::AllowAtEdge(rule) => at_edge(&mut world, rule, index, in_place),
            Change::AllowRule(rule) => match &rule.add_to {
                Some(name) if in_place => {
                    let policy = world.policies.iter_mut().find(|policy| {
                        policy.metadata.name.as_ref() == Some(&name.name)
                            && policy.metadata.namespace.as_ref() == Some(&name.namespace)
                    });
                    rule.add(&mut policy.unwrap().spec);
                }
                _ => {
                    let spec = rule.policy(LabelSelector::everything());
                    let mut policy = ContainerNetworkPolicy::new(&format!("advised-{index}"), spec);
                    assert_eq!(policy.validate(), [], "advice must be valid");
                    policy.metadata.namespace = Some(rule.namespace.clone());
                    world.policies.push(policy);
                }
            },
        }
    }
    (world, subject)
}

fn at_edge(world: &mut World, rule: &EdgeRule, index: usize, in_place: bool) {
    let named = rule.add_to.as_ref().filter(|_| in_place);
    let is = |metadata: &ObjectMeta, name: &PolicyName| {
        metadata.name.as_ref() == Some(&name.name) && metadata.namespace.as_ref() == Some(&name.namespace)
    };
    let spec = rule.policy(LabelSelector::everything());
    let mut metadata = ObjectMeta {
        name: Some(format!("advised-{index}")),
        namespace: Some(rule.namespace.clone()),
        ..ObjectMeta::default()
    };
    match (&rule.network, named) {
        (None, Some(name)) => {
            let mut policies = world.network_policies.iter_mut();
            rule.add(&mut policies.find(|policy| is(&policy.metadata, name)).unwrap().spec);
        }
        (Some(_), Some(name)) => {
            let mut policies = world.multi_network_policies.iter_mut();
            rule.add(&mut policies.find(|policy| is(&policy.metadata, name)).unwrap().spec);
        }
        (None, None) => {
            let policy = NetworkPolicy { metadata, spec };
            assert_eq!(policy.validate(), [], "advice must be valid");
            world.network_policies.push(policy);
        }
        (Some(network), None) => {
            metadata.annotations = Some([(POLICY_FOR.to_owned(), network.clone())].into());
            let policy = MultiNetworkPolicy { metadata, spec };
            assert_eq!(policy.validate(), [], "advice must be valid");
            world.multi_network_policies.push(policy);
        }
    }
}

/// A rule of an edge reads back as the rule.
fn edge_reads_back(rule: &EdgeRule) {
    let found = match rule.direction {
        Direction::Ingress => {
            let mut rules: Vec<NetworkIngressRule> = serde_saphyr::from_str(&rule.yaml).expect(&rule.yaml);
            rules.pop().map(|rule| (rule.from, rule.ports))
        }
        Direction::Egress => {
            let mut rules: Vec<NetworkEgressRule> = serde_saphyr::from_str(&rule.yaml).expect(&rule.yaml);
            rules.pop().map(|rule| (rule.to, rule.ports))
        }
    };
    assert_eq!(found, Some((rule.peers.clone(), rule.ports.clone())), "{}", rule.yaml);
}

/// A rule's YAML reads back as the rule.
fn reads_back(rule: &AllowRule) {
    let (peers, ports) = match rule.direction {
        Direction::Ingress => {
            let mut rules: Vec<IngressRule> = serde_saphyr::from_str(&rule.yaml).expect(&rule.yaml);
            assert_eq!(rules.len(), 1);
            let rule = rules.remove(0);
            (rule.from, rule.ports)
        }
        Direction::Egress => {
            let mut rules: Vec<EgressRule> = serde_saphyr::from_str(&rule.yaml).expect(&rule.yaml);
            assert_eq!(rules.len(), 1);
            let rule = rules.remove(0);
            (rule.to, rule.ports)
        }
    };
    assert_eq!((peers, ports), (rule.peers.clone(), rule.ports.clone()), "{}", rule.yaml);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_advised_allows_the_flow(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        for flow in case.flows(&mut draw, 60) {
            for world in [Some(&case.world), None] {
                let told = explain(&pod, &flow, world);
                prop_assert_eq!(told.verdict, evaluate(&pod, &flow).action);
                if told.verdict == Action::Allow {
                    prop_assert!(told.allowable && told.advice.is_empty());
                    continue;
                }
                prop_assert!(!told.advice.is_empty(), "{told}");
                // Without the world nobody can know that an address is a Service's.
                let service = matches!(flow.receiver, End::Remote(to) | End::Attached(_, to) if case.world.service_addresses().contains(to));
                if !told.allowable || world.is_none() && service {
                    continue;
                }
                for in_place in [true, false] {
                    let (world, subject) = apply(told.changes(), &case.world, &case.subject, in_place);
                    let after = evaluate(&resolve(&world, &subject), &flow);
                    prop_assert_eq!(after.action, Action::Allow, "{}\n{:#?}", told, after);
                }
                for change in told.changes() {
                    match change {
                        Change::AllowRule(rule) => reads_back(rule),
                        Change::AllowAtEdge(rule) => edge_reads_back(rule),
                        Change::DeclarePort { .. } => {}
                    }
                }
            }
        }
    }

    /// A flow between two containers, or between a container and an address that is no Service's, can always be
    /// allowed, whoever isolates; but by user, not to a port that another container declares, and not where the proxy captures
    /// it.
    #[test]
    fn what_policies_can_speak_of_can_be_allowed(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        let container = |end| matches!(end, End::Local(Party::Container(_)));
        for flow in case.flows(&mut draw, 60) {
            let told = explain(&pod, &flow, Some(&case.world));
            let plain = |end| match end {
                End::Remote(address) => !case.world.service_addresses().contains(address),
                End::Attached(attachment, address) => {
                    pod.attached.contains_key(&attachment) && !case.world.service_addresses().contains(address)
                }
                End::Local(_) => container(end),
            };
            let anothers = told.sides.iter().any(|side| {
                matches!(side.reason, Reason::NotDeclared { owner: Some(_) } | Reason::Captured { .. })
            });
            if plain(flow.sender) && plain(flow.receiver) && !anothers {
                prop_assert!(told.allowable, "{told}");
            }
        }
    }

    #[test]
    fn audit_verdicts_are_explained_too(seed: u64) {
        let (mut draw, case) = drawn(seed);
        let pod = resolve(&case.world, &case.subject);
        for flow in case.flows(&mut draw, 60) {
            let verdict = evaluate(&pod, &flow);
            let told = explain(&pod, &flow, Some(&case.world));
            prop_assert_eq!(told.audit.as_ref().map(|audit| audit.verdict), verdict.audit);
            let Some(audit) = told.audit else { continue };
            let denied = audit.sides.iter().any(|side| side.verdict == Action::Deny);
            prop_assert_eq!(denied, audit.verdict == Action::Deny);
            prop_assert_eq!(denied, !audit.advice.is_empty());
        }
    }
}

mod edges;
mod examples;
