//! An index is what its world is, whatever changes.

use super::{Change, Index, Named, Step, SubjectId, Walls};
use crate::compile::compile;
use crate::model::{PolicyKind, ResolvedPod};
use crate::resolve;
use crate::ruleset::Generation;
use crate::testing::{Case, Draw, Ground};
use crate::world::{Labels, Pod, Subject, World};
use std::collections::{BTreeMap, BTreeSet};

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
        link: None,
        ..case.subject.clone()
    }
}

/// Some change: mostly that something becomes what it is in another world, or goes.
fn some_change(draw: &mut Draw, world: &World, subjects: &[Subject], count: usize) -> Option<Change> {
    let other = Case::draw(draw, &Ground::whole());
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
            subject.networks = other.subject.networks;
            Change::Subject(subject)
        }
        23 => {
            let subject = draw.pick(subjects);
            Change::SubjectGone(named(&subject.namespace, &subject.name))
        }
        24 | 25 if !other.world.network_policies.is_empty() => {
            Change::NetworkPolicy(Box::new(draw.pick(&other.world.network_policies).clone()))
        }
        26 | 27 if !other.world.multi_network_policies.is_empty() => {
            Change::MultiNetworkPolicy(Box::new(draw.pick(&other.world.multi_network_policies).clone()))
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
    let case = Case::draw(&mut draw, &Ground::whole());
    let mut world = case.world.clone();
    // Where ranges are not known, every single address counts.
    if draw.chance(50) {
        world.network.pods = crate::addresses::Addresses::default();
    }
    if draw.chance(30) {
        world.network.services = crate::addresses::Addresses::default();
    }
    let mut subjects: Vec<Subject> = vec![case.subject.clone()];
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
    for seed in 0..50 {
        walk(seed, 40, &mut seen);
    }
    // Had nothing been left alone, or nothing altered, the test would have shown nothing.
    assert!(seen.kept > seen.changes / 2 && seen.altered > seen.changes / 8, "{seen:?}");
}

#[test]
fn walls_stand_as_a_fresh_resolve_and_compile_would_have_them() {
    let (mut steps, mut altered, mut unloaded_unknown) = (0, 0, 0);
    for seed in 4000..4012 {
        let mut draw = Draw::new(seed);
        let case = Case::draw(&mut draw, &Ground::whole());
        let mut world = case.world.clone();
        let mut walls = Walls::new(world.clone());
        let subjects = [case.subject.clone()];
        walls.apply(Change::Subject(case.subject.clone()));
        let mut lost = false;
        for step in 0..40 {
            if draw.chance(10) {
                for id in walls.index().subjects().map(|(id, _)| id).collect::<Vec<_>>() {
                    walls.lost(id);
                    assert!(walls.standing(id).is_none());
                    lost = true;
                }
            }
            let pending: Vec<SubjectId> = walls.pending().collect();
            for id in pending {
                let Some(mut planned) = walls.plan(id) else { continue };
                let before = walls.standing(id);
                match &mut planned.step {
                    Step::Load(fresh) => {
                        assert!(before.is_none(), "seed {seed}, step {step}");
                        if draw.chance(20) {
                            // Who has not numbered the rules has not loaded them.
                            walls.done(planned);
                            assert!(walls.pending().any(|pending| pending == id) && walls.standing(id).is_none());
                            continue;
                        }
                        let number = Generation::new(1 + draw.below(31) as u8).unwrap();
                        assert_eq!(fresh.number(number).ruleset.generation, number);
                    }
                    Step::Change { from, to, change } => {
                        assert_eq!(before.as_ref(), Some(&**from));
                        if let crate::ruleset::Change::Parts(parts) = change {
                            let changed = parts.apply(&from.ruleset).unwrap();
                            assert_eq!(changed.generation, to.ruleset.generation);
                        }
                        altered += 1;
                    }
                    Step::Unload => assert!(before.is_some() || lost, "seed {seed}, step {step}"),
                }
                unloaded_unknown += usize::from(before.is_none() && matches!(planned.step, Step::Unload));
                // What was not done is still to be done.
                if draw.chance(80) {
                    walls.done(planned);
                    steps += 1;
                    lost = false;
                } else {
                    assert!(walls.pending().any(|pending| pending == id));
                }
            }
            for (id, subject) in walls.index().subjects() {
                if walls.pending().any(|pending| pending == id) {
                    continue;
                }
                let resolved = resolve(&world, subject);
                assert_eq!(walls.resolved(id).map(|standing| &**standing), Some(&resolved), "seed {seed}, step {step}");
                let generation = walls.generation(id);
                let fresh = resolved.is_selected().then(|| compile(&resolved, generation.unwrap_or(Generation::FIRST)));
                assert_eq!(walls.standing(id), fresh, "seed {seed}, step {step}");
            }
            if let Some(change) = some_change(&mut draw, &world, &subjects, step) {
                change_by_hand(&mut world, &change);
                walls.apply(change);
            }
        }
    }
    assert!(altered > 20 && steps > 20 && unloaded_unknown > 0, "{steps} {altered} {unloaded_unknown}");
}
