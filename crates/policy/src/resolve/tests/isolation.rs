//! Who is isolated, in which direction, by which policies.

use crate::fixture::Fixture;
use crate::{evaluate, guard};
use serde_json::json;
use sidewall_flow::Action;

fn pod() -> Fixture {
    Fixture::new(&[("app", &["http=TCP/8080"]), ("shipper", &["TCP/9000"])])
}

#[test]
fn without_policies_everything_passes() {
    let pod = pod();
    assert!(!pod.resolved().is_selected());
    pod.expect(
        &["app -> shipper TCP/9000", "unknown -> app TCP/8080", "app -> 192.0.2.1 TCP/443", "192.0.2.1 -> app UDP/53"],
        &[],
    );
}

#[test]
fn a_policy_isolates_its_containers_in_its_directions() {
    pod().policy("p", json!({"containers": ["shipper"], "policyTypes": ["Egress"]})).expect(
        &[
            "192.0.2.1 -> shipper TCP/9000",
            "app -> shipper TCP/9000",
            "app -> 192.0.2.1 TCP/443",
            "shipper -> shipper TCP/9000",
        ],
        &["shipper -> 192.0.2.1 TCP/443", "shipper -> app TCP/8080", "shipper -> fd00:1::2 SCTP/1"],
    );
    pod().policy("p", json!({"containers": ["shipper"], "policyTypes": ["Ingress"]})).expect(
        &["shipper -> 192.0.2.1 TCP/443", "shipper -> app TCP/8080", "192.0.2.1 -> app TCP/8080"],
        &["192.0.2.1 -> shipper TCP/9000", "app -> shipper TCP/9000", "node -> shipper TCP/9000"],
    );
}

#[test]
fn unknown_sockets_are_isolated_as_soon_as_any_container_is() {
    let one = pod().policy("p", json!({"containers": ["shipper"], "policyTypes": ["Egress"]}));
    one.expect(
        &["192.0.2.1 -> unknown TCP/80", "app -> unknown TCP/80"],
        &["unknown -> 192.0.2.1 TCP/80", "unknown -> app TCP/8080", "unknown -> unknown TCP/80"],
    );
    // A rule of a policy about one container is not for unknown sockets, one about all containers is.
    let open = json!([{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]);
    let named = json!({"containers": ["app", "shipper"], "policyTypes": ["Egress"], "egress": open});
    pod().policy("p", named).expect(&["app -> 192.0.2.1 TCP/80"], &["unknown -> 192.0.2.1 TCP/80"]);
    let all = json!({"policyTypes": ["Egress"], "egress": open});
    pod().policy("p", all).expect(&["app -> 192.0.2.1 TCP/80", "unknown -> 192.0.2.1 TCP/80"], &[]);
}

#[test]
fn the_nodes_processes_are_judged_by_the_receiver_on_loopback() {
    let pod = pod().policy("p", json!({"containers": ["app"], "policyTypes": ["Ingress", "Egress"]}));
    pod.expect(
        &["node -> shipper TCP/9000", "shipper -> 192.0.2.1 TCP/80"],
        &["node -> app TCP/8080", "node -> 192.0.2.1 TCP/80", "192.0.2.1 -> node TCP/80"],
    );
}

#[test]
fn policy_types_default_as_in_network_policy() {
    for (spec, ingress, egress) in [
        (json!({}), true, false),
        (json!({"ingress": [{}]}), false, false),
        (json!({"egress": [{"ports": [{"port": 53}]}]}), true, true),
        (json!({"policyTypes": []}), true, false),
        (json!({"policyTypes": ["Egress"]}), false, true),
        (json!({"policyTypes": ["Egress"], "egress": []}), false, true),
        (json!({"policyTypes": ["Ingress", "Egress"], "ingress": []}), true, true),
    ] {
        let pod = pod().policy("p", spec.clone()).resolved();
        let passes = |text| evaluate(&pod, &self::pod().flow(text)).action == Action::Allow;
        assert_eq!(!passes("192.0.2.1 -> app TCP/8080"), ingress, "ingress of {spec}");
        assert_eq!(!passes("app -> 192.0.2.1 TCP/443"), egress, "egress of {spec}");
    }
}

#[test]
fn a_policy_is_about_the_pods_that_it_selects() {
    let denied = &["app -> 192.0.2.1 TCP/80"];
    for (selector, selects) in [
        (json!({}), true),
        (json!({"matchLabels": {"app": "web"}}), true),
        (json!({"matchLabels": {"app": "db"}}), false),
        (json!({"matchLabels": {"app": "web", "tier": "front"}}), false),
        (json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["back"]}]}), true),
        (json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}), false),
    ] {
        let pod = pod().policy("p", json!({"podSelector": selector, "policyTypes": ["Egress"]}));
        if selects {
            pod.expect(&[], denied);
        } else {
            pod.expect(denied, &[]);
        }
    }
    let mut elsewhere = pod().policy("p", json!({"policyTypes": ["Egress"]}));
    elsewhere.world.policies[0].metadata.namespace = Some("ops".to_owned());
    elsewhere.expect(denied, &[]);
}

#[test]
fn policies_add_up() {
    let to = |cidr: &str| json!({"policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": cidr}}]}]});
    pod().policy("a", to("192.0.2.0/25")).policy("b", to("192.0.2.128/25")).policy("c", json!({})).expect(
        &["app -> 192.0.2.1 TCP/80", "app -> 192.0.2.200 TCP/80"],
        &["app -> 198.51.100.1 TCP/80", "192.0.2.1 -> app TCP/80"],
    );
}

#[test]
fn a_container_that_the_pod_does_not_have_is_told() {
    let pod = pod().policy("p", json!({"containers": ["shiper"], "egress": [{"to": [{"container": "ap"}]}]}));
    pod.expect_note("names the container \"shiper\", which this pod does not have");
    pod.expect(&["shipper -> app TCP/8080"], &[]);
}

#[test]
fn audit_tells_and_does_not_deny() {
    let egress = json!({"mode": "Audit", "containers": ["app"], "policyTypes": ["Egress"],
        "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]});
    let pod = pod()
        .policy(
            "enforce",
            json!({"containers": ["app"], "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]}]}),
        )
        .policy("audit", egress)
        .policy("audit-in", json!({"mode": "Audit", "policyTypes": ["Ingress"]}));
    let resolved = pod.resolved();
    for (flow, action, audit) in [
        ("app -> 198.51.100.1 TCP/80", Action::Allow, None),
        ("app -> 192.0.2.1 TCP/80", Action::Deny, Some(Action::Allow)),
        ("app -> 203.0.113.1 TCP/80", Action::Deny, None),
        ("192.0.2.1 -> app TCP/80", Action::Allow, Some(Action::Deny)),
        ("shipper -> 192.0.2.1 TCP/80", Action::Allow, None),
        ("app -> app TCP/80", Action::Allow, None),
    ] {
        let verdict = evaluate(&resolved, &pod.flow(flow));
        assert_eq!((verdict.action, verdict.audit), (action, audit), "{flow}");
    }
}

#[test]
fn only_audit_policies_isolate_nothing_and_still_select() {
    let pod = pod().policy("p", json!({"mode": "Audit", "policyTypes": ["Ingress", "Egress"]}));
    assert!(pod.resolved().is_selected());
    pod.expect(&["app -> 192.0.2.1 TCP/80", "192.0.2.1 -> app TCP/80", "unknown -> app TCP/8080"], &[]);
}

#[test]
fn the_guard_passes_nothing_but_what_stays_within_one_container() {
    let pod = pod();
    let guard = guard(&pod.subject);
    for (flow, action) in [
        ("app -> app TCP/8080", Action::Allow),
        ("app -> shipper TCP/9000", Action::Deny),
        ("app -> 192.0.2.1 TCP/80", Action::Deny),
        ("10.0.0.1 -> app TCP/8080", Action::Deny),
        ("node -> app TCP/8080", Action::Deny),
        ("unknown -> unknown TCP/8080", Action::Deny),
    ] {
        assert_eq!(evaluate(&guard, &pod.flow(flow)).action, action, "{flow}");
    }
}
