//! Policies that can't be understood.

use crate::fixture::Fixture;
use crate::model::PolicyKind;
use crate::world::Unreadable;
use serde_json::json;
use sidewall_api::LabelSelector;

const FLOWS: &[&str] = &["app -> 192.0.2.1 TCP/80", "192.0.2.1 -> app TCP/80", "app -> other TCP/80"];

fn pod() -> Fixture {
    Fixture::new(&[("app", &["TCP/8080"]), ("other", &[])])
}

fn unreadable(change: impl FnOnce(&mut Unreadable)) -> Fixture {
    let mut policy = Unreadable {
        kind: PolicyKind::ContainerNetworkPolicy,
        namespace: Some("shop".to_owned()),
        name: Some("broken".to_owned()),
        pod_selector: None,
        reason: "spec.egress[0].too: unknown field".to_owned(),
    };
    change(&mut policy);
    let mut pod = pod();
    pod.world.unreadable.push(policy);
    pod
}

#[test]
fn an_unreadable_policy_isolates_what_it_may_be_about() {
    let pod = unreadable(|_| {});
    pod.expect(&["app -> app TCP/80"], FLOWS);
    pod.expect_note("because it can't be understood: spec.egress[0].too: unknown field");
    unreadable(|policy| policy.namespace = None).expect(&[], FLOWS);
    unreadable(|policy| policy.pod_selector = Some(LabelSelector::label("app", "web"))).expect(&[], FLOWS);
    unreadable(|policy| policy.pod_selector = Some(LabelSelector::label("app", "db"))).expect(FLOWS, &[]);
    unreadable(|policy| policy.namespace = Some("ops".to_owned())).expect(FLOWS, &[]);
}

#[test]
fn others_rules_still_hold_beside_it() {
    let mut pod = unreadable(|_| {});
    pod = pod.policy("p", json!({"containers": ["app"], "policyTypes": ["Egress"], "egress": [{}]}));
    pod.expect(&["app -> 192.0.2.1 TCP/80"], &["192.0.2.1 -> app TCP/80", "app -> other TCP/80"]);
}

#[test]
fn an_invalid_policy_isolates_in_every_direction_and_mode() {
    let peer = json!({"container": "other", "entity": "World"});
    for mode in ["Enforce", "Audit"] {
        let pod = pod().policy(
            "bad",
            json!({"mode": mode, "containers": ["app"], "policyTypes": ["Egress"],
            "egress": [{}, {"to": [peer]}]}),
        );
        pod.expect(&["app -> app TCP/80"], FLOWS);
        pod.expect(&[], &["192.0.2.1 -> other TCP/80"]);
        pod.expect_note("because it can't be understood: spec.egress[1].to[0]");
    }
}

#[test]
fn a_selector_that_cannot_be_understood_may_be_about_any_pod() {
    let selector = json!({"matchExpressions": [{"key": "app", "operator": "In"}]});
    pod().policy("bad", json!({"podSelector": selector, "policyTypes": ["Egress"]})).expect(&[], FLOWS);
    let mut elsewhere = pod().policy("bad", json!({"podSelector": selector, "policyTypes": ["Egress"]}));
    elsewhere.world.policies[0].metadata.namespace = Some("ops".to_owned());
    elsewhere.expect(FLOWS, &[]);
}

#[test]
fn an_invalid_proxy_isolates_and_lets_no_probe_in() {
    let proxied = || {
        Fixture::new(&[("front-proxy", &[]), ("app", &[])]).probes("app", &[9090]).proxy(
            "proxy",
            "2026-01-01T00:00:00Z",
            &[(80, 8080)],
        )
    };
    proxied().expect(&["10.0.0.1 -> app TCP/9090", "192.0.2.1 -> front-proxy TCP/80"], &[]);
    let mut invalid = proxied();
    invalid.world.proxies[0].spec.listeners[0].port = 0;
    let denied = &["10.0.0.1 -> app TCP/9090", "192.0.2.1 -> front-proxy TCP/80", "app -> 192.0.2.1 TCP/1"];
    invalid.expect(&[], denied);
    invalid.expect_note("because it can't be understood: spec.listeners[0].port");
    // Nobody can say which port an unreadable one stands before.
    let mut unreadable = Fixture::new(&[("app", &[])]).probes("app", &[9090]);
    unreadable.world.unreadable.push(Unreadable {
        kind: PolicyKind::SidecarProxy,
        namespace: Some("shop".to_owned()),
        name: None,
        pod_selector: None,
        reason: "spec: not a map".to_owned(),
    });
    unreadable.expect(&[], &["10.0.0.1 -> app TCP/9090"]);
    unreadable.world.unreadable[0].kind = PolicyKind::ContainerNetworkPolicy;
    unreadable.expect(&["10.0.0.1 -> app TCP/9090"], &[]);
}

#[test]
fn policies_of_one_name_do_not_depend_on_their_order() {
    let to = |cidr: &str| json!({"policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": cidr}}]}]});
    let one = pod().policy("same", to("192.0.2.0/24")).policy("same", to("198.51.100.0/24"));
    let other = pod().policy("same", to("198.51.100.0/24")).policy("same", to("192.0.2.0/24"));
    assert_eq!(one.resolved(), other.resolved());
}
