//! An index is what its world is, whatever changes.

use super::{Change, Index, Named, SubjectId};
use crate::model::{PolicyKind, ResolvedPod};
use crate::resolve;
use crate::testing::{Case, Draw, Ground};
use crate::world::{Labels, Pod, Subject, World};
use sidewall_api::network::POLICY_FOR;
use sidewall_api::{
    Attachment, Attachments, LabelSelector, MultiNetworkPolicy, NetworkEgressRule, NetworkIngressRule, NetworkName,
    NetworkPeer, NetworkPolicy, NetworkPolicySpec, PolicyPort, PolicyType,
};
use sidewall_flow::Direction;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The same change, made by hand.
fn change_by_hand(world: &mut World, change: &Change) {
    let is = |name: &Named, namespace: &str, other: &str| name.namespace == namespace && name.name == other;
    match change.clone() {
        Change::Pod(pod) => {
            world.pods.retain(|other| (&other.namespace, &other.name) != (&pod.namespace, &pod.name));
            world.pods.push(pod);
        }
        Change::PodGone(name) => world.pods.retain(|pod| !is(&name, &pod.namespace, &pod.name)),
        Change::Namespace(name, labels) => drop(world.namespaces.insert(name, labels)),
        Change::NamespaceGone(name) => drop(world.namespaces.remove(&name)),
        Change::Service(service) => {
            world.services.retain(|other| (&other.namespace, &other.name) != (&service.namespace, &service.name));
            world.services.push(service);
        }
        Change::ServiceGone(name) => {
            world.services.retain(|service| !is(&name, &service.namespace, &service.name));
        }
        Change::Policy(policy) => {
            world.policies.retain(|other| super::name_of(&other.metadata) != super::name_of(&policy.metadata));
            world.policies.push(*policy);
        }
        Change::Proxy(proxy) => {
            world.proxies.retain(|other| super::name_of(&other.metadata) != super::name_of(&proxy.metadata));
            world.proxies.push(*proxy);
        }
        Change::NetworkPolicy(policy) => {
            world.network_policies.retain(|other| super::name_of(&other.metadata) != super::name_of(&policy.metadata));
            world.network_policies.push(*policy);
        }
        Change::MultiNetworkPolicy(policy) => {
            let name = super::name_of(&policy.metadata);
            world.multi_network_policies.retain(|other| super::name_of(&other.metadata) != name);
            world.multi_network_policies.push(*policy);
        }
        Change::PolicyGone(PolicyKind::NetworkPolicy, name) => {
            world.network_policies.retain(|policy| super::name_of(&policy.metadata) != name);
        }
        Change::PolicyGone(PolicyKind::MultiNetworkPolicy, name) => {
            world.multi_network_policies.retain(|policy| super::name_of(&policy.metadata) != name);
        }
        Change::PolicyGone(PolicyKind::SidecarProxy, name) => {
            world.proxies.retain(|proxy| super::name_of(&proxy.metadata) != name);
        }
        Change::PolicyGone(_, name) => world.policies.retain(|policy| super::name_of(&policy.metadata) != name),
        Change::Unreadable(policies) => world.unreadable = policies,
        Change::Network(network) => world.network = network,
        Change::Subject(_) | Change::SubjectGone(_) => {}
    }
}

/// A subject of a pod of the world, with the containers of the case's.
fn subject_of(pod: &Pod, case: &Case) -> Subject {
    Subject {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        labels: pod.labels.clone(),
        addresses: pod.addresses.clone(),
        networks: pod.networks.clone(),
        ..case.subject.clone()
    }
}

/// The further networks that there are.
const NETWORKS: [&str; 2] = ["net-a", "net-b"];

/// Further networks of a pod, with addresses that others may claim too, or have on the pod network.
fn networks(draw: &mut Draw, world: &World) -> Attachments {
    let mut known = Vec::new();
    for (index, network) in draw.some(&NETWORKS, 2).into_iter().enumerate() {
        let number = draw.between(1, 12);
        let mut addresses: Vec<IpAddr> = vec![format!("172.16.0.{number}").parse().unwrap()];
        if draw.chance(15) {
            addresses.extend(world.pods.iter().flat_map(|pod| pod.addresses.clone()).take(1));
        }
        let network = NetworkName::parse(network, "shop").unwrap();
        known.push(Attachment { network, device: format!("net{index}"), addresses });
    }
    let faults = if draw.chance(10) { vec!["was drawn so".to_owned()] } else { Vec::new() };
    Attachments { known, faults }
}

/// The rules of a policy of the pod's edge, out of those of a container's.
fn edge_spec(draw: &mut Draw, case: &Case) -> NetworkPolicySpec {
    let mut rules = |direction| -> Vec<(Vec<NetworkPeer>, Vec<PolicyPort>)> {
        (0..draw.between(0, 2))
            .map(|_| {
                let (peers, ports) = case.rule(draw, direction);
                let edge = peers.into_iter().filter(|peer| peer.container.is_none() && peer.entity.is_none());
                let edge = edge.map(|peer| NetworkPeer {
                    pod_selector: peer.pod_selector,
                    namespace_selector: peer.namespace_selector,
                    ip_block: peer.ip_block,
                });
                (edge.collect(), ports)
            })
            .collect()
    };
    let ingress = rules(Direction::Ingress).into_iter().map(|(from, ports)| NetworkIngressRule { from, ports });
    let ingress = ingress.collect();
    let egress = rules(Direction::Egress).into_iter().map(|(to, ports)| NetworkEgressRule { to, ports }).collect();
    let pod_selector = match draw.below(3) {
        0 => LabelSelector::label("app", "web"),
        _ => LabelSelector::everything(),
    };
    NetworkPolicySpec { pod_selector, policy_types: vec![PolicyType::Ingress, PolicyType::Egress], ingress, egress }
}

/// Some change: mostly that something becomes what it is in another world, or goes.
fn some_change(draw: &mut Draw, world: &World, subjects: &[Subject], count: usize) -> Option<Change> {
    let other = Case::draw(draw, &Ground::default());
    let named = |namespace: &str, name: &str| Named::new(namespace, name);
    Some(match draw.below(30) {
        0..=5 if !other.world.pods.is_empty() => {
            let mut pod = draw.pick(&other.world.pods).clone();
            if draw.chance(20) && !world.pods.is_empty() {
                // One that came before the last bearer of its address was seen to go.
                pod.addresses.clone_from(&draw.pick(&world.pods).addresses);
            }
            if draw.chance(20) && !world.pods.is_empty() {
                // The same pod, but for its phase or network.
                pod = draw.pick(&world.pods).clone();
                pod.ended ^= draw.chance(50);
                pod.host_network ^= draw.chance(20);
            }
            if draw.chance(40) {
                pod.networks = networks(draw, world);
            }
            Change::Pod(pod)
        }
        6..=8 if !world.pods.is_empty() => {
            let pod = draw.pick(&world.pods);
            Change::PodGone(named(&pod.namespace, &pod.name))
        }
        9 | 10 => {
            let name = (*draw.pick(&["shop", "ops", "kube-system"])).to_owned();
            match other.world.namespaces.get(&name) {
                Some(labels) => Change::Namespace(name, labels.clone()),
                None => Change::NamespaceGone(name),
            }
        }
        11..=14 if !other.world.services.is_empty() => {
            let mut service = draw.pick(&other.world.services).clone();
            match draw.below(10) {
                0 | 1 => service.addresses = draw.some(&other.ground.outside, 1),
                // Another's address: a Service's, a pod's, the node's.
                2 => service.addresses = draw.some(&other.ground.services, 2),
                3 => service.addresses = draw.some(&other.ground.pods, 1),
                4 => service.addresses = draw.some(&other.ground.this_node, 1),
                5 => {
                    service.external_name = Some("db.example.org".to_owned());
                    service.labels = draw.pick(&other.world.pods).labels.clone();
                }
                _ => {}
            }
            Change::Service(service)
        }
        15 if !world.services.is_empty() => {
            let service = draw.pick(&world.services);
            Change::ServiceGone(named(&service.namespace, &service.name))
        }
        16..=18 => Change::Policy(Box::new(other.policy(draw, &format!("policy-{}", count % 5)))),
        19 if !world.policies.is_empty() => {
            let name = super::name_of(&draw.pick(&world.policies).metadata);
            Change::PolicyGone(PolicyKind::ContainerNetworkPolicy, name)
        }
        20 => match other.world.proxies.first() {
            Some(proxy) => Change::Proxy(Box::new(proxy.clone())),
            None => Change::PolicyGone(PolicyKind::SidecarProxy, super::name_of(&world.proxies.first()?.metadata)),
        },
        21 => Change::Unreadable(other.world.unreadable),
        22 if draw.chance(30) => {
            let mut network = other.world.network;
            if draw.chance(60) {
                network.pods = crate::addresses::Addresses::default();
            }
            Change::Network(network)
        }
        22 => {
            let mut subject = draw.pick(subjects).clone();
            subject.labels = Labels::from([("app".to_owned(), "db".to_owned())]);
            subject.identities = other.subject.identities;
            subject.containers = other.subject.containers;
            subject.networks = networks(draw, world);
            Change::Subject(subject)
        }
        23 => {
            let subject = draw.pick(subjects);
            Change::SubjectGone(named(&subject.namespace, &subject.name))
        }
        24 | 25 => {
            let mut policy = NetworkPolicy { spec: edge_spec(draw, &other), ..NetworkPolicy::default() };
            policy.metadata.name = Some(format!("edge-{}", count % 3));
            policy.metadata.namespace = Some((*draw.pick(&["shop", "shop", "ops"])).to_owned());
            Change::NetworkPolicy(Box::new(policy))
        }
        26 | 27 => {
            let mut policy = MultiNetworkPolicy { spec: edge_spec(draw, &other), ..MultiNetworkPolicy::default() };
            policy.metadata.name = Some(format!("far-{}", count % 3));
            policy.metadata.namespace = Some((*draw.pick(&["shop", "shop", "ops"])).to_owned());
            let named = draw.some(&["shop/net-a", "shop/net-b"], 2).join(", ");
            policy.metadata.annotations = Some([(POLICY_FOR.to_owned(), named)].into());
            Change::MultiNetworkPolicy(Box::new(policy))
        }
        28 if !world.network_policies.is_empty() => {
            let name = super::name_of(&draw.pick(&world.network_policies).metadata);
            Change::PolicyGone(PolicyKind::NetworkPolicy, name)
        }
        29 if !world.multi_network_policies.is_empty() => {
            let name = super::name_of(&draw.pick(&world.multi_network_policies).metadata);
            Change::PolicyGone(PolicyKind::MultiNetworkPolicy, name)
        }
        _ => return None,
    })
}

/// How much of what the test is about came about.
#[derive(Default, Debug)]
struct Seen {
    changes: usize,
    kept: usize,
    resolved: usize,
    altered: usize,
}

fn walk(seed: u64, steps: usize, seen: &mut Seen) {
    let mut draw = Draw::new(seed);
    let case = Case::draw(&mut draw, &Ground::default());
    let mut world = case.world.clone();
    for pod in &mut world.pods {
        pod.networks = networks(&mut draw, &case.world);
    }
    let own = networks(&mut draw, &case.world);
    let mut subjects: Vec<Subject> = vec![Subject { networks: own, ..case.subject.clone() }];
    let others = world.pods.iter().filter(|pod| pod.name != case.subject.name);
    subjects.extend(others.take(3).map(|pod| subject_of(pod, &case)));
    let mut index = Index::new(world.clone());
    let mut results: BTreeMap<SubjectId, ResolvedPod> = BTreeMap::new();
    let mut pending: Vec<Change> = subjects.iter().cloned().map(Change::Subject).collect();
    for step in 0..steps {
        let Some(change) = pending.pop().or_else(|| some_change(&mut draw, &world, &subjects, step)) else { continue };
        if let Change::SubjectGone(name) = &change {
            let again =
                subjects.iter().find(|subject| (&subject.namespace, &subject.name) == (&name.namespace, &name.name));
            pending.extend(again.cloned().map(Change::Subject));
        }
        change_by_hand(&mut world, &change);
        let affected = index.apply(change.clone());
        seen.changes += 1;
        for id in &affected {
            match index.resolve(*id) {
                Some(pod) => {
                    seen.resolved += 1;
                    seen.altered += usize::from(results.get(id) != Some(&pod));
                    results.insert(*id, pod);
                }
                None => drop(results.remove(id)),
            }
        }
        let all: BTreeSet<SubjectId> = index.subjects().map(|(id, _)| id).collect();
        assert!(results.keys().eq(&all), "seed {seed}, step {step}: {change:?}");
        for (id, subject) in index.subjects() {
            assert_eq!(
                results[&id],
                resolve(&world, subject),
                "seed {seed}, step {step}, affected {}: {change:#?}",
                affected.contains(&id)
            );
            seen.kept += usize::from(!affected.contains(&id));
        }
    }
    // What the index gives back is the same world, and what it kept ready is what it would find anew.
    let mut fresh = Index::new(index.world());
    for (id, subject) in index.subjects() {
        assert_eq!(results[&id], resolve(&index.world(), subject), "seed {seed}");
        let anew = fresh.apply(Change::Subject(subject.clone())).into_iter().next().and_then(|id| fresh.resolve(id));
        assert_eq!(anew.as_ref(), Some(&results[&id]), "seed {seed}");
    }
}

#[test]
fn after_any_changes_an_index_resolves_as_its_world_and_names_whom_they_concern() {
    let mut seen = Seen::default();
    for seed in 0..60 {
        walk(seed, 60, &mut seen);
    }
    // Had nothing been left alone, or nothing altered, the test would have shown nothing.
    assert!(seen.kept > seen.changes / 2 && seen.altered > seen.changes / 8, "{seen:?}");
}
