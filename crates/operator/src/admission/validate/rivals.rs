//! SidecarProxies that select the same pods: the oldest of them counts.

use sidewall_api::{Problem, SidecarProxy};
use sidewall_policy::lint::{Effort, covers, matching_cost};

use super::EFFORT;
use super::facts::Facts;
use super::findings::Findings;
use crate::admission::inject::{age, name_of};

/// The most rivals that are named.
const NAMED_MAX: usize = 3;

/// What it costs to ask whether another can be used.
const VALID: usize = 50;

/// Warns where another takes pods from this one, or this one from another.
pub(super) fn check(proxy: &SidecarProxy, facts: &Facts<'_>, found: &mut Findings) {
    let own = name_of(proxy);
    let selector = &proxy.spec.pod_selector;
    let effort = Effort::of(EFFORT);
    let all = facts.pods.unwrap_or_default();
    if !effort.spend(matching_cost(selector, all.len())) {
        return;
    }
    let pods: Vec<_> = all.iter().filter(|pod| selector.matches(pod.labels)).collect();
    let mut named = 0;
    for other in facts.proxies.iter().filter(|other| name_of(other) != own) {
        let theirs = &other.spec.pod_selector;
        // Against the pods, and each of the selectors against the other.
        if !effort.spend(matching_cost(theirs, pods.len()) + matching_cost(selector, 0)) {
            return;
        }
        let shared = pods.iter().filter(|pod| theirs.matches(pod.labels)).count();
        if shared == 0 && !covers(theirs, selector) && !covers(selector, theirs) {
            continue;
        }
        if !effort.spend(VALID) {
            return;
        }
        // One that cannot be used takes nothing from anybody.
        if other.validate(other.spec.form()).iter().any(Problem::is_error) {
            continue;
        }
        if named == NAMED_MAX {
            found.warn("and more SidecarProxies select the same pods");
            return;
        }
        named += 1;
        let pods = match shared {
            0 => "pods that this one selects, too".to_owned(),
            1 => "1 pod of this one's, too".to_owned(),
            some => format!("{some} pods of this one's, too"),
        };
        let name = name_of(other);
        // One that is only being created and bears no date yet is the youngest.
        if proxy.metadata.creation_timestamp.is_some() && age(proxy) < age(other) {
            found.warn(format!(
                "SidecarProxy {name:?} selects {pods}, and is younger: this one takes them from it; let one of the podSelectors leave them out"
            ));
        } else {
            found.warn(format!(
                "SidecarProxy {name:?} selects {pods}, and is older: this one has no effect on them (Conflicted); let one of the podSelectors leave them out"
            ));
        }
    }
}
