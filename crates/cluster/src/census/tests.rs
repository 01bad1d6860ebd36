use super::*;
use crate::{Kind, LocalPod};
use serde_json::{Value, json};
use sidewall_api::NodeEnforcementSpec;
use sidewall_api::NodeEnforcementStatus;
use sidewall_api::enforcement::PolicyEnforcement;
use sidewall_api::enforcement::{NodePodCounts, Omitted};
use std::time::Duration;

use EnforcementState::{Enforced, NotEnforced, Pending};

const NOW: &str = "2026-11-22T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn placed(name: &str, node: Option<&str>, app: &str) -> PlacedPod {
    let pod = json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "labels": {"app": app}},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Running"},
    });
    PlacedPod { node: node.map(str::to_owned), pod: LocalPod::of(&serde_json::from_value(pod).unwrap()) }
}

fn policy_of(name: &str, generation: i64, app: &str, more: &Value) -> ListedPolicy {
    let mut spec = json!({"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress"]});
    spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let object = json!({"metadata": {"name": name, "namespace": "shop", "generation": generation}, "spec": spec});
    ListedPolicy::of(Kind::ContainerNetworkPolicy, object).unwrap()
}

/// A report of what it is all about: pods by name, policies by name with generation and numbers.
fn report(
    node: &str,
    updated: &str,
    pods: &[(&str, EnforcementState)],
    policies: &[(&str, i64, i32)],
) -> (String, NodeEnforcement) {
    let mut report = NodeEnforcement::new(node, NodeEnforcementSpec { node_name: node.to_owned() });
    report.status = Some(NodeEnforcementStatus {
        agent_version: "1.2.3".to_owned(),
        updated: updated.to_owned(),
        pods: NodePodCounts::default(),
        pod_list: pods
            .iter()
            .map(|(name, state)| PodEnforcement {
                namespace: "shop".to_owned(),
                name: (*name).to_owned(),
                uid: format!("uid-{name}"),
                state: *state,
                identity: Some(IdentityKind::Uid),
                since: "2026-11-22T11:00:00Z".to_owned(),
                reasons: if *state == Enforced { vec![] } else { vec!["app holds NET_RAW".to_owned()] },
            })
            .collect(),
        policy_list: policies
            .iter()
            .map(|(name, generation, count)| PolicyEnforcement {
                kind: EnforcedKind::ContainerNetworkPolicy,
                namespace: "shop".to_owned(),
                name: (*name).to_owned(),
                observed_generation: Some(*generation),
                selected: *count,
                enforced: *count,
                unreadable: None,
            })
            .collect(),
        ..NodeEnforcementStatus::default()
    });
    (node.to_owned(), report)
}

fn nodes(names: &[&str]) -> Vec<ListedNode> {
    names.iter().map(|name| ListedNode { name: (*name).to_owned(), ready: true }).collect()
}

fn take(
    pods: &[PlacedPod],
    policies: &[ListedPolicy],
    of_nodes: Option<&[ListedNode]>,
    reports: &[(String, NodeEnforcement)],
) -> Census {
    let reports = reports.iter().cloned().collect();
    Census::take(&Seen { now: now(), pods, policies, nodes: of_nodes, reports: &reports })
}

#[test]
fn all_is_enforced_where_everybody_says_so() {
    let pods = [placed("web", Some("n1"), "web"), placed("db", Some("n1"), "db")];
    let policies = [policy_of("web", 2, "web", &json!({}))];
    let list = nodes(&["n1"]);
    let reports = [report("n1", "2026-11-22T11:59:57Z", &[("web", Enforced)], &[("web", 2, 1)])];
    let census = take(&pods, &policies, Some(&list), &reports);
    assert!(census.is_enforced(), "{census:?}");
    assert_eq!(census.counts(), Counts { selected: 1, enforced: 1, ..Counts::default() });
    // The form that scripts read.
    assert_eq!(
        serde_json::to_value(&census).unwrap(),
        json!({
            "nodes": [{
                "name": "n1", "state": "Reporting", "ready": true, "agentVersion": "1.2.3",
                "updated": "2026-11-22T11:59:57Z",
                "pods": {"selected": 1, "enforced": 1, "pending": 0, "notEnforced": 0, "unknown": 0},
            }],
            "policies": [{
                "kind": "ContainerNetworkPolicy", "namespace": "shop", "name": "web", "generation": 2, "audit": false,
                "selected": 1, "enforced": 1, "missing": [],
            }],
            "pods": [
                {"namespace": "shop", "name": "db", "node": "n1", "state": "NotSelected", "reasons": [], "policies": []},
                {
                    "namespace": "shop", "name": "web", "node": "n1", "state": "Enforced", "identity": "Uid",
                    "since": "2026-11-22T11:00:00Z", "reasons": [],
                    "policies": [{"kind": "ContainerNetworkPolicy", "namespace": "shop", "name": "web"}],
                },
            ],
        })
    );
}

/// What is wrong, what is reported, what becomes of pod and node, and a part of the reason.
type Case = (&'static str, Vec<(String, NodeEnforcement)>, PodState, NodeState, &'static str);

/// What becomes of a pod `web` that the policy `web`, at generation 2, selects, under a report.
fn judged(list: &[&str], reports: &[(String, NodeEnforcement)]) -> (PodState, String, Census) {
    let pods = [placed("web", Some("n1"), "web")];
    let policies = [policy_of("web", 2, "web", &json!({}))];
    let list = nodes(list);
    let census = take(&pods, &policies, Some(&list), reports);
    (census.pods[0].state, census.pods[0].reasons.join("; "), census)
}

#[test]
fn nothing_is_called_enforced_on_too_little() {
    let fresh = "2026-11-22T11:59:57Z";
    let whole = |updated: &str| report("n1", updated, &[("web", Enforced)], &[("web", 2, 1)]);
    let changed = |change: fn(&mut NodeEnforcementStatus)| {
        let mut report = whole(fresh);
        change(report.1.status.as_mut().unwrap());
        report
    };
    assert_eq!(judged(&["n1"], &[whole(fresh)]).0, PodState::Enforced);
    let cases: [Case; 13] = [
        ("no report", vec![], PodState::NotEnforced, NodeState::NoAgent, "no agent has reported"),
        (
            "another's report",
            vec![report("n2", fresh, &[("web", Enforced)], &[("web", 2, 1)])],
            PodState::NotEnforced,
            NodeState::NoAgent,
            "no agent has reported",
        ),
        ("too old", vec![whole("2026-11-22T11:44:59Z")], PodState::Unknown, NodeState::Silent, "last heard of 15m ago"),
        ("of the future", vec![whole("2026-11-23T12:00:00Z")], PodState::Unknown, NodeState::Silent, "24h ahead"),
        ("of no time", vec![whole("")], PodState::Unknown, NodeState::Silent, "bears no time"),
        (
            "old news",
            vec![changed(|status| status.stale_since = Some("2026-11-22T11:50:00Z".to_owned()))],
            PodState::Unknown,
            NodeState::Behind,
            "works on old news of the cluster since 2026-11-22T11:50:00Z",
        ),
        (
            "not reported",
            vec![report("n1", fresh, &[], &[("web", 2, 0)])],
            PodState::Pending,
            NodeState::Reporting,
            "has not reported it yet",
        ),
        (
            "an earlier pod of the name",
            vec![changed(|status| status.pod_list[0].uid = "before".to_owned())],
            PodState::Pending,
            NodeState::Reporting,
            "has not reported it yet",
        ),
        (
            "no room for the pod",
            vec![changed(|status| {
                status.pod_list.clear();
                status.omitted = Omitted { pods: 1, policies: 0 };
            })],
            PodState::Unknown,
            NodeState::Reporting,
            "no room for it",
        ),
        (
            "an older policy",
            vec![report("n1", fresh, &[("web", Enforced)], &[("web", 1, 1)])],
            PodState::Pending,
            NodeState::Reporting,
            "works on generation 1 of ContainerNetworkPolicy shop/web, which is at 2",
        ),
        (
            "a policy that it does not know",
            vec![report("n1", fresh, &[("web", Enforced)], &[])],
            PodState::Pending,
            NodeState::Reporting,
            "has not taken up ContainerNetworkPolicy shop/web yet",
        ),
        (
            "no room for the policy",
            vec![changed(|status| {
                status.policy_list.clear();
                status.omitted = Omitted { pods: 0, policies: 1 };
            })],
            PodState::Unknown,
            NodeState::Reporting,
            "no room for ContainerNetworkPolicy shop/web",
        ),
        (
            "it says so itself",
            vec![report("n1", fresh, &[("web", NotEnforced)], &[("web", 2, 0)])],
            PodState::NotEnforced,
            NodeState::Reporting,
            "app holds NET_RAW",
        ),
    ];
    for (what, reports, state, of_node, reason) in cases {
        let (judged, reasons, census) = judged(&["n1"], &reports);
        assert_eq!((judged, census.nodes[0].state), (state, of_node), "{what}: {census:?}");
        assert!(reasons.contains(reason), "{what}: {reasons}");
        assert!(!census.is_enforced(), "{what}");
        assert_eq!((census.policies[0].selected, census.policies[0].enforced), (1, 0), "{what}: {census:?}");
        assert_eq!(census.policies[0].missing.len(), 1, "{what}");
        let counts = census.nodes[0].pods;
        assert_eq!((counts.selected, counts.enforced), (1, 0), "{what}");
        assert_eq!(counts.pending + counts.not_enforced + counts.unknown, 1, "{what}");
    }
    // Just within the three heartbeats, and a clock that is a little ahead.
    for near in ["2026-11-22T11:45:00Z", "2026-11-22T12:05:00Z"] {
        assert_eq!(judged(&["n1"], &[whole(near)]).0, PodState::Enforced, "{near}");
    }
}

#[test]
fn a_policy_is_in_force_as_far_as_node_and_pods_both_say() {
    let fresh = "2026-11-22T11:59:57Z";
    let pods = [placed("a", Some("n1"), "web"), placed("b", Some("n1"), "web"), placed("c", Some("n2"), "web")];
    let policies = [policy_of("web", 2, "web", &json!({}))];
    let list = nodes(&["n1", "n2", "n3"]);
    let reports = [
        report("n1", fresh, &[("a", Enforced), ("b", Pending)], &[("web", 2, 2)]),
        report("n2", fresh, &[("c", Enforced)], &[("web", 2, 0)]),
        report("gone", fresh, &[("a", Enforced)], &[("web", 2, 9)]),
    ];
    let census = take(&pods, &policies, Some(&list), &reports);
    let policy = &census.policies[0];
    assert_eq!((policy.selected, policy.enforced), (3, 1));
    let missing: Vec<_> = policy.missing.iter().map(|m| (m.node.as_str(), m.pods, m.reason.as_str())).collect();
    assert_eq!(
        missing,
        [
            ("n1", 1, "the walls of b don't hold, or nobody can say"),
            ("n2", 1, "its node says that it is not in force in all of them")
        ]
    );
    // A node that is gone is not one, and one without an agent is, though no pod is there.
    let states: Vec<_> = census.nodes.iter().map(|node| (node.name.as_str(), node.state)).collect();
    assert_eq!(states, [("n1", NodeState::Reporting), ("n2", NodeState::Reporting), ("n3", NodeState::NoAgent)]);
    // Where nodes may not be listed, those are known that report and those that pods are on.
    let census = take(&pods, &policies, None, &reports[1..]);
    let states: Vec<_> = census.nodes.iter().map(|node| (node.name.as_str(), node.state)).collect();
    assert_eq!(states, [("gone", NodeState::Reporting), ("n1", NodeState::NoAgent), ("n2", NodeState::Reporting)]);
    assert_eq!(census.nodes[0].ready, None);
}

#[test]
fn what_does_not_run_is_not_counted() {
    let fresh = "2026-11-22T11:59:57Z";
    let mut ended = placed("ended", Some("n1"), "web");
    ended.pod.phase = "Succeeded".to_owned();
    let mut leaving = placed("leaving", Some("n1"), "web");
    leaving.pod.deleting = true;
    let mut on_host = placed("on-host", Some("n1"), "web");
    on_host.pod.host_network = true;
    let mut still = placed("still", Some("n1"), "web");
    still.pod.deleting = true;
    let pods = [ended, leaving, on_host, still, placed("waiting", None, "web")];
    let policies = [policy_of("web", 1, "web", &json!({}))];
    let list = nodes(&["n1"]);
    let reports = [report("n1", fresh, &[("still", Enforced)], &[("web", 1, 1)])];
    let census = take(&pods, &policies, Some(&list), &reports);
    let states: Vec<_> = census.pods.iter().map(|pod| (pod.name.as_str(), pod.state)).collect();
    assert_eq!(
        states,
        [
            ("ended", PodState::NotRunning),
            ("leaving", PodState::NotRunning),
            ("on-host", PodState::NotEnforced),
            // What is being deleted runs on for a while, behind its walls.
            ("still", PodState::Enforced),
            ("waiting", PodState::NotRunning),
        ]
    );
    assert_eq!((census.counts().selected, census.policies[0].selected), (2, 2));
}

#[test]
fn a_policy_that_cant_be_understood_is_never_all_right() {
    let fresh = "2026-11-22T11:59:57Z";
    let pods = [placed("web", Some("n1"), "web")];
    let list = nodes(&["n1"]);
    let odd = policy_of("odd", 4, "web", &json!({"news": 1}));
    let tell = policy_of("tell", 1, "db", &json!({"mode": "Audit"}));
    // Its agent does not understand it either, and says no generation then.
    let not_understood = |mut report: (String, NodeEnforcement)| {
        let policy = &mut report.1.status.as_mut().unwrap().policy_list[0];
        (policy.observed_generation, policy.unreadable) = (None, Some("news?".to_owned()));
        [report]
    };
    let reports = not_understood(report("n1", fresh, &[("web", Enforced)], &[("odd", 1, 1)]));
    let census = take(&pods, &[odd, tell], Some(&list), &reports);
    assert_eq!(census.pods[0].state, PodState::Enforced, "it isolates: {census:?}");
    assert_eq!((census.policies[0].selected, census.policies[0].enforced), (1, 1));
    assert!(census.policies[0].unreadable.as_ref().is_some_and(|why| why.contains("news")), "{census:?}");
    assert!(census.policies[1].audit && census.policies[1].is_enforced());
    assert!(!census.is_enforced());
    // Its agent alone does not understand it.
    let reports = not_understood(report("n1", fresh, &[("web", Enforced)], &[("web", 1, 1)]));
    let census = take(&pods, &[policy_of("web", 1, "web", &json!({}))], Some(&list), &reports);
    assert_eq!((census.pods[0].state, census.policies[0].enforced), (PodState::Pending, 0), "{census:?}");
    assert!(census.pods[0].reasons[0].contains("can't understand") && census.pods[0].reasons[0].contains("news?"));
}

#[test]
fn a_pod_of_the_kubelets_own_is_known_by_either_identity() {
    let mut pod = placed("web", Some("n1"), "web");
    pod.pod.runtime_uid = "uid-web".to_owned();
    pod.pod.uid = "mirror".to_owned();
    let policies = [policy_of("web", 1, "web", &json!({}))];
    let reports = [report("n1", "2026-11-22T11:59:57Z", &[("web", Enforced)], &[("web", 1, 1)])];
    assert_eq!(take(&[pod], &policies, None, &reports).pods[0].state, PodState::Enforced);
}

#[test]
fn spans_of_time_in_a_word() {
    let said: Vec<String> =
        [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(|s| short(Duration::from_secs(s))).to_vec();
    assert_eq!(said, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
}
