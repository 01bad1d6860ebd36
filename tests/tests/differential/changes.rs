//! Small changes of a drawn world: what a pod's rules have to follow while it lives.

use sidewall_flow::ContainerId;
use sidewall_policy::model::Identities;
use sidewall_policy::resolve;
use sidewall_policy::testing::{Case, Draw};
use sidewall_policy::world::Pod;
use std::net::IpAddr;

/// What became otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A pod came, or one more of a kind that is there.
    PodCame,
    /// A pod went.
    PodGone,
    /// A pod has other addresses.
    PodMoved,
    /// A pod has another's labels.
    PodLabelled,
    /// A policy, a rule, a Service, a pod or a port is gone.
    Less,
    /// A container has started again: its party is to be started in another cgroup.
    Restarted(ContainerId),
    /// A container has a cgroup more, in which nothing runs: one that ended just now, or is about to start.
    CgroupMore,
    /// Such a cgroup is gone.
    CgroupLess,
}

/// A cgroup's id that no cgroup has.
const NOBODY: u64 = u64::MAX - 1;

/// How often something else is drawn where a change is nothing to the pod.
const ATTEMPTS: usize = 4;

/// Changes a world a little, mostly so that it concerns the pod.
pub fn change(draw: &mut Draw, case: &mut Case, smaller: fn(&Case) -> Vec<Case>) -> Changed {
    let before = resolve(&case.world, &case.subject);
    for _ in 1..ATTEMPTS {
        let mut other = case.clone();
        let changed = once(draw, &mut other, smaller);
        if matches!(changed, Changed::Restarted(_)) || resolve(&other.world, &other.subject) != before {
            *case = other;
            return changed;
        }
    }
    once(draw, case, smaller)
}

fn once(draw: &mut Draw, case: &mut Case, smaller: fn(&Case) -> Vec<Case>) -> Changed {
    // The first is the pod itself.
    let others = case.world.pods.len().saturating_sub(1);
    match draw.below(12) {
        0 | 1 => come(draw, case),
        2 | 3 if others > 0 => {
            case.world.pods.remove(1 + draw.below(others));
            Changed::PodGone
        }
        4 | 5 if others > 0 => {
            let addresses = draw.some(&case.ground.pods, 2);
            case.world.pods[1 + draw.below(others)].addresses = addresses;
            Changed::PodMoved
        }
        6 if others > 0 => {
            let labels = draw.pick(&case.world.pods).labels.clone();
            case.world.pods[1 + draw.below(others)].labels = labels;
            Changed::PodLabelled
        }
        7 => {
            let containers: Vec<ContainerId> = case.subject.containers.keys().copied().collect();
            Changed::Restarted(*draw.pick(&containers))
        }
        8 => cgroup(draw, case),
        _ => {
            let smaller = smaller(case);
            match smaller.is_empty() {
                true => come(draw, case),
                false => {
                    *case = draw.pick(&smaller).clone();
                    Changed::Less
                }
            }
        }
    }
}

fn come(draw: &mut Draw, case: &mut Case) -> Changed {
    let taken: Vec<IpAddr> = case.world.pods.iter().flat_map(|pod| pod.addresses.iter().copied()).collect();
    let free: Vec<IpAddr> = case.ground.pods.iter().copied().filter(|address| !taken.contains(address)).collect();
    let one = match case.world.pods.is_empty() {
        true => Pod { namespace: case.subject.namespace.clone(), ..Pod::default() },
        false => draw.pick(&case.world.pods).clone(),
    };
    let name = format!("came-{}", case.world.pods.len());
    // Where no address is free it has somebody's, as it is while news of that one's end are on their way.
    let from = if free.is_empty() { &case.ground.pods } else { &free };
    let mut addresses = draw.some(from, 2);
    if addresses.is_empty() {
        addresses.push(*draw.pick(from));
    }
    case.world.pods.push(Pod { name, addresses, ..one });
    Changed::PodCame
}

/// Under identity by user, that is nothing to the rules.
fn cgroup(draw: &mut Draw, case: &mut Case) -> Changed {
    let ids: Vec<ContainerId> = case.subject.containers.keys().copied().collect();
    let id = *draw.pick(&ids);
    if let Identities::Cgroup { containers, .. } = &mut case.subject.identities {
        let cgroups = containers.entry(id).or_default();
        let another = NOBODY - u64::from(id.get());
        if cgroups.remove(&another) {
            return Changed::CgroupLess;
        }
        cgroups.insert(another);
    }
    Changed::CgroupMore
}
