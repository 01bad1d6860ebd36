//! Rules, peers and ports that add nothing to what is allowed already.

use super::covers;
use super::effort::Effort;
use super::{Finding, Wider, Written};
use sidewall_flow::Direction;

/// What of a policy adds nothing: to the rest of it, or to another policy that is about at least the same containers.
pub fn check(policy: &Written<'_>, wider: &[Wider<'_, '_>], effort: &Effort, findings: &mut Vec<Finding>) {
    for (direction, rules) in policy.sides().into_iter().filter(|(direction, _)| policy.directions.contains(direction))
    {
        for (index, rule) in rules.iter().enumerate() {
            if effort.is_used_up() {
                return;
            }
            within(policy, direction, index, effort, findings);
            let path = Written::rule_path(direction, index);
            // Of two rules that say the same, the later one is told of.
            let earlier = rules.iter().enumerate().find(|(other, wide)| {
                *other != index
                    && covers::rule(wide, rule, effort)
                    && (*other < index || !covers::rule(rule, wide, effort))
            });
            if let Some((other, wide)) = earlier {
                let place = Written::rule_path(direction, other);
                let message = if covers::rule(rule, wide, effort) {
                    format!("says the same as {place}: remove one of them")
                } else {
                    format!("allows nothing that {place} does not allow already: remove it, or narrow the other")
                };
                policy.warn(findings, path, message);
                continue;
            }
            if let Some((other, place)) = elsewhere(policy, direction, index, wider, effort) {
                let message = format!("allows nothing that {place} of {} does not allow already", other.name);
                policy.warn(findings, path, message);
            }
        }
    }
}

/// A rule of another policy that allows all that this one's rule allows.
fn elsewhere<'a, 'w>(
    policy: &Written<'_>,
    direction: Direction,
    index: usize,
    wider: &'a [Wider<'a, 'w>],
    effort: &Effort,
) -> Option<(&'a Written<'w>, String)> {
    let rule = &policy.rules(direction)[index];
    let about = |other: &&Wider<'_, '_>| {
        other.policy.enforces == policy.enforces && other.policy.directions.contains(&direction)
    };
    wider.iter().filter(about).find_map(|Wider { policy: other, same }| {
        let covering = other.rules(direction).iter().position(|wide| {
            covers::rule(wide, rule, effort)
                // Of two that say the same of the same pods, the one whose name comes later is told of.
                && (!same || !covers::rule(rule, wide, effort) || other.name < policy.name)
        })?;
        Some((*other, Written::rule_path(direction, covering).to_string()))
    })
}

/// Peers and ports of a rule that its others cover.
fn within(policy: &Written<'_>, direction: Direction, index: usize, effort: &Effort, findings: &mut Vec<Finding>) {
    let rule = &policy.rules(direction)[index];
    for (i, peer) in rule.peers.iter().enumerate().take_while(|_| !effort.is_used_up()) {
        let covering = rule.peers.iter().enumerate().find(|(other, wide)| {
            *other != i && covers::peer(wide, peer, effort) && (*other < i || !covers::peer(peer, wide, effort))
        });
        if let Some((other, _)) = covering {
            let place = Written::peer_path(direction, index, other);
            let message = format!("names nobody whom {place} does not name already: remove one of them");
            policy.warn(findings, Written::peer_path(direction, index, i), message);
        }
    }
    let port_path = |i: usize| Written::rule_path(direction, index).key("ports").index(i);
    for (i, port) in rule.ports.iter().enumerate().take_while(|_| !effort.is_used_up()) {
        let one = std::slice::from_ref(port);
        let covering = rule.ports.iter().enumerate().find(|(other, wide)| {
            let wide = std::slice::from_ref(*wide);
            *other != i && covers::ports(wide, one, effort) && (*other < i || !covers::ports(one, wide, effort))
        });
        if let Some((other, _)) = covering {
            let message = format!("is among {} already: remove one of them", port_path(other));
            policy.warn(findings, port_path(i), message);
        }
    }
}
