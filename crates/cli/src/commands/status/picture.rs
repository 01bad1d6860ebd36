//! The status for people.

use jiff::Timestamp;

use super::{Report, kind_name, node_word};
use crate::screen::{Paint, Screen, visible};
use crate::table::{Cell, layout};
use sidewall_cluster::census::{Missing, NodeCensus, NodeState, PodCensus, PodState, PolicyCensus, short};

/// How many nodes are named on which a policy is not in force, unless it was asked for.
const LINES: usize = 5;

/// Shows it. `all` shows every pod; otherwise those that are enforced are only counted.
pub fn show(screen: &Screen, report: &Report, all: bool) {
    let paint = screen.paint();
    for unknown in &report.unknown {
        screen.warning(&format!("not known: {}", visible(unknown)));
    }
    let census = &report.census;
    section(screen, "Nodes", &census.nodes, |nodes| node_rows(nodes, paint));
    for node in census.nodes.iter().filter_map(|node| Some((node, node.reason.as_ref()?))) {
        screen.line(&format!("  {}: {}", node.0.name, visible(node.1)));
    }
    section(screen, "Policies", &census.policies, |policies| policy_rows(policies, paint));
    for policy in &census.policies {
        let name = format!("{} {}/{}", kind_name(policy.kind), policy.namespace, policy.name);
        if let Some(why) = &policy.unreadable {
            screen.line(&format!("  {name} can't be understood, and isolates what it selects: {}", visible(why)));
        }
        // That a node is not heard has been said, unless it is all that was asked.
        let heard =
            |name: &str| census.nodes.iter().any(|node| node.name == name && node.state == NodeState::Reporting);
        let missing: Vec<&Missing> = policy.missing.iter().filter(|missing| all || heard(&missing.node)).collect();
        let most = if all { missing.len() } else { LINES };
        for missing in missing.iter().take(most) {
            let pods = if missing.pods == 1 { "1 pod".to_owned() } else { format!("{} pods", missing.pods) };
            screen.line(&format!("  {name} on {}, {pods}: {}", missing.node, visible(&missing.reason)));
        }
        if let more @ 1.. = missing.len().saturating_sub(most) {
            screen.line(&format!("  {name} on {more} more nodes: see policy/{}", policy.name));
        }
    }
    let shown: Vec<PodCensus> =
        census.pods.iter().filter(|pod| all || pod.state != PodState::Enforced).cloned().collect();
    section(screen, if all { "Pods" } else { "Pods that are not enforced" }, &shown, |pods| pod_rows(pods, paint));
    for pod in &shown {
        for reason in &pod.reasons {
            screen.line(&format!("  {}/{}: {}", pod.namespace, pod.name, visible(reason)));
        }
    }
    let left = if report.not_counted.is_empty() {
        String::new()
    } else {
        format!("; not counted: {}", report.not_counted.join(", "))
    };
    screen.line(&paint.faint(&format!("counted: {}{left}", report.counted.join(", "))));
    screen.line(&conclusion(report, paint));
}

fn section<T>(screen: &Screen, title: &str, of: &[T], rows: impl FnOnce(&[T]) -> Vec<Vec<Cell>>) {
    if of.is_empty() {
        return;
    }
    screen.line(&screen.paint().strong(title));
    screen.line(layout(&rows(of)).trim_end());
}

/// The last line: what it comes to.
fn conclusion(report: &Report, paint: Paint) -> String {
    let counts = report.counts;
    let mut text = match counts.selected {
        0 => "no pod is selected by a policy".to_owned(),
        1 => format!("{} of 1 selected pod is enforced", counts.enforced),
        selected => format!("{} of {selected} selected pods are enforced", counts.enforced),
    };
    match report.census.policies.iter().filter(|policy| !policy.is_enforced()).count() {
        0 => {}
        1 => text.push_str("; 1 policy is not in force everywhere"),
        policies => text.push_str(&format!("; {policies} policies are not in force everywhere")),
    }
    match report.census.nodes.iter().filter(|node| node.state != NodeState::Reporting).count() {
        0 => {}
        1 => text.push_str("; 1 node is not heard"),
        nodes => text.push_str(&format!("; {nodes} nodes are not heard")),
    }
    if report.enforced { paint.good(&text) } else { paint.bad(&text) }
}

fn node_rows(nodes: &[NodeCensus], paint: Paint) -> Vec<Vec<Cell>> {
    let mut rows =
        vec![head(&["NAME", "STATE", "KUBELET", "AGENT", "HEARD", "SELECTED", "ENFORCED", "NOT ENFORCED"], paint)];
    for node in nodes {
        let none = || "-".to_owned();
        let heard = node.updated.as_ref().and_then(|at| at.parse::<Timestamp>().ok()).map_or_else(none, |at| {
            let since = Timestamp::now().duration_since(at);
            if since.is_negative() { "now".to_owned() } else { format!("{} ago", short(since.unsigned_abs())) }
        });
        let state = node_word(node.state);
        rows.push(vec![
            visible(&node.name).into(),
            Cell::painted(
                state,
                |text| if node.state == NodeState::Reporting { paint.good(text) } else { paint.bad(text) },
            ),
            node.ready.map_or("-", |ready| if ready { "ready" } else { "not ready" }).into(),
            visible(&node.agent_version.clone().unwrap_or_else(none)).into(),
            heard.into(),
            node.pods.selected.to_string().into(),
            node.pods.enforced.to_string().into(),
            rest(node.pods.selected - node.pods.enforced, paint),
        ]);
    }
    rows
}

fn policy_rows(policies: &[PolicyCensus], paint: Paint) -> Vec<Vec<Cell>> {
    let mut rows = vec![head(&["KIND", "NAMESPACE", "NAME", "MODE", "SELECTED", "ENFORCED", "NOT ENFORCED"], paint)];
    for policy in policies {
        let mode = match (&policy.unreadable, policy.audit) {
            (Some(_), _) => "not understood",
            (None, true) => "Audit",
            (None, false) => "Enforce",
        };
        rows.push(vec![
            kind_name(policy.kind).into(),
            policy.namespace.as_str().into(),
            policy.name.as_str().into(),
            Cell::painted(mode, |text| if policy.unreadable.is_some() { paint.bad(text) } else { text.to_owned() }),
            policy.selected.to_string().into(),
            policy.enforced.to_string().into(),
            rest(policy.selected - policy.enforced, paint),
        ]);
    }
    rows
}

fn pod_rows(pods: &[PodCensus], paint: Paint) -> Vec<Vec<Cell>> {
    let mut rows = vec![head(&["NAMESPACE", "NAME", "NODE", "STATE", "BY", "SINCE"], paint)];
    for pod in pods {
        let state = format!("{:?}", pod.state);
        rows.push(vec![
            pod.namespace.as_str().into(),
            pod.name.as_str().into(),
            pod.node.as_deref().unwrap_or("-").into(),
            Cell::painted(&state, |text| match pod.state {
                PodState::Enforced => paint.good(text),
                PodState::Pending | PodState::NotRunning => paint.warn(text),
                PodState::NotEnforced | PodState::Unknown => paint.bad(text),
                PodState::NotSelected => text.to_owned(),
            }),
            pod.identity.map_or_else(|| "-".to_owned(), |by| format!("{by:?}")).into(),
            visible(pod.since.as_deref().unwrap_or("-")).into(),
        ]);
    }
    rows
}

fn head(titles: &[&str], paint: Paint) -> Vec<Cell> {
    titles.iter().map(|title| Cell::painted(title, |text| paint.faint(text))).collect()
}

fn rest(count: usize, paint: Paint) -> Cell {
    Cell::painted(&count.to_string(), |text| if count == 0 { text.to_owned() } else { paint.bad(text) })
}
