//! What is found of a ContainerNetworkPolicy.

use sidewall_api::ContainerNetworkPolicy;
use sidewall_policy::lint::{Beside, SeenPod, lint_policy};

use super::facts::Facts;
use super::findings::Findings;
use super::pods;

/// What its author probably did not mean.
pub(super) fn check(policy: &ContainerNetworkPolicy, facts: &Facts<'_>, found: &mut Findings) {
    pods::check_policy(policy, facts, found);
    let seen: Vec<&dyn SeenPod> = facts.pods.unwrap_or_default().iter().map(|pod| pod as &dyn SeenPod).collect();
    let labels = facts.namespace.map(|namespace| &namespace.labels);
    found.problems(&lint_policy(policy, &Beside { policies: facts.policies, labels, pods: &seen }));
}
