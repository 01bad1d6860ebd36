use super::*;
use serde_json::json;
use std::time::Instant;

const FRESH: &str = "2026-11-22T11:59:57Z";

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// A report: policies by name with generation, selected and enforced.
fn report(updated: &str, policies: &[(&str, Option<i64>, i32, i32)]) -> NodeEnforcement {
    let list: Vec<_> = policies
        .iter()
        .map(|(name, generation, selected, enforced)| {
            json!({"kind": "ContainerNetworkPolicy", "namespace": "shop", "name": name,
                "observedGeneration": generation, "selected": selected, "enforced": enforced})
        })
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "NodeEnforcement", "metadata": {"name": "n"},
        "spec": {"nodeName": "n"}, "status": {"updated": updated, "policyList": list},
    }))
    .unwrap()
}

fn web(generation: i64) -> Present<'static> {
    Present {
        kind: EnforcedKind::ContainerNetworkPolicy,
        namespace: "shop",
        name: "web",
        generation: Some(generation),
        unreadable: false,
    }
}

fn tally(reports: &[(&'static str, NodeEnforcement)], policy: &Present<'_>) -> Tallied {
    let forward = Tally::of(reports.iter().map(|(name, report)| (*name, report)), now()).policy(policy);
    let backward = Tally::of(reports.iter().rev().map(|(name, report)| (*name, report)), now()).policy(policy);
    assert_eq!(forward, backward, "the order does not matter");
    forward
}

#[test]
fn what_all_nodes_say_is_added_up() {
    let reports = [
        ("n1", report(FRESH, &[("web", Some(2), 3, 3), ("db", Some(1), 1, 0)])),
        ("n2", report(FRESH, &[("web", Some(3), 2, 2)])),
        ("n3", report(FRESH, &[("db", Some(1), 9, 9)])),
    ];
    let all = tally(&reports, &web(2));
    assert_eq!((all.selected, all.enforced, all.missing_nodes), (5, 5, 0));
    assert!(all.is_enforced());
    // Nobody speaks of it: it selects nothing.
    let none = tally(&reports, &Present { name: "other", ..web(1) });
    assert_eq!((none.selected, none.is_enforced()), (0, true));
}

#[test]
fn nothing_is_in_force_on_an_older_word_than_it_is_about() {
    for (what, one, unknown, why) in [
        ("an older generation", report(FRESH, &[("web", Some(1), 2, 2)]), false, "works on generation 1 of"),
        ("no generation", report(FRESH, &[("web", None, 2, 2)]), false, "works on generation 0 of"),
        ("not everywhere", report(FRESH, &[("web", Some(2), 2, 1)]), false, "it is in force in 1 of 2 pods"),
        ("a silent node", report("2026-11-22T11:00:00Z", &[("web", Some(2), 2, 2)]), true, "was last heard of 60m ago"),
        ("a clock that is ahead", report("2026-11-22T13:00:00Z", &[("web", Some(2), 2, 2)]), true, "ahead"),
    ] {
        let sound = ("n2", report(FRESH, &[("web", Some(2), 1, 1)]));
        let found = tally(&[("n1", one), sound.clone()], &web(2));
        assert_eq!((found.selected, found.missing_nodes, found.unknown), (3, 1, unknown), "{what}: {found:?}");
        assert!(found.enforced < 3 && !found.is_enforced(), "{what}");
        assert!(found.missing[0].0 == "n1" && found.missing[0].1.contains(why), "{what}: {found:?}");
    }
    let mut behind = report(FRESH, &[("web", Some(2), 1, 1)]);
    behind.status.as_mut().unwrap().stale_since = Some(FRESH.to_owned());
    let found = tally(&[("n1", behind)], &web(2));
    assert!(!found.is_enforced() && found.unknown, "{found:?}");
    // A node that says less than it may, and one that says too much.
    let odd = report(FRESH, &[("web", Some(2), -1, -1), ("web", Some(2), 1, 7)]);
    assert_eq!(tally(&[("n1", odd)], &web(2)).enforced, 1);
}

#[test]
fn a_report_without_room_leaves_it_open() {
    let mut full = report(FRESH, &[("db", Some(1), 1, 1)]);
    full.status.as_mut().unwrap().omitted.policies = 7;
    let reports = [("n1", full), ("n2", report(FRESH, &[("web", Some(2), 1, 1)]))];
    let found = tally(&reports, &web(2));
    assert!((found.enforced, found.missing_nodes, found.unknown) == (1, 1, true) && !found.is_enforced(), "{found:?}");
    assert!(tally(&reports, &Present { name: "db", ..web(1) }).is_enforced());
}

#[test]
fn who_cannot_understand_it_is_told() {
    let mut odd = report(FRESH, &[("web", None, 1, 1)]);
    odd.status.as_mut().unwrap().policy_list[0].unreadable = Some("spec.news: unknown".to_owned());
    let reports = [("n1", odd), ("n2", report(FRESH, &[("web", Some(2), 1, 1)]))];
    let found = tally(&reports, &web(2));
    assert_eq!(found.unreadable, Some(("n1".to_owned(), "spec.news: unknown".to_owned())));
    assert!(found.enforced == 1 && !found.is_enforced(), "{found:?}");
    // Where nobody understands it, it isolates as it should.
    let found = tally(&reports[..1], &Present { unreadable: true, ..web(2) });
    assert!(found.enforced == 1 && found.unreadable.is_some(), "{found:?}");
}

#[test]
fn it_is_good_until_the_next_node_falls_silent() {
    let reports =
        [("n1", report(FRESH, &[])), ("n2", report("2026-11-22T11:50:00Z", &[])), ("n3", report("2026", &[]))];
    let at = |now| Tally::of(reports.iter().map(|(name, report)| (*name, report)), now);
    let until = at(now()).until().unwrap();
    assert!(until > now());
    let silent = |at: &Tally<'_>| at.nodes.iter().filter(|(_, heard)| heard.state == NodeState::Silent).count();
    assert_eq!(
        (silent(&at(until)), silent(&at(until.checked_add(std::time::Duration::from_secs(1)).unwrap()))),
        (1, 2)
    );
    assert_eq!(Tally::default().until(), None);
}

#[test]
fn a_large_cluster_is_added_up_in_one_pass() {
    let names: Vec<String> = (0..5000).map(|n| format!("policy-{n:04}")).collect();
    let reports: Vec<(String, NodeEnforcement)> = (0..1000)
        .map(|node| {
            let policies: Vec<_> =
                (0..100).map(|n| (names[(node * 37 + n * 50) % 5000].as_str(), Some(1), 1, 1)).collect();
            (format!("node-{node:03}"), report(FRESH, &policies))
        })
        .collect();
    let began = Instant::now();
    let tally = Tally::of(reports.iter().map(|(name, report)| (name.as_str(), report)), now());
    let all: usize = names.iter().map(|name| tally.policy(&Present { name, ..web(1) }).enforced).sum();
    assert_eq!(all, 100_000);
    // Some tens of milliseconds where a machine has nothing else to do, and this is not optimised.
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}
