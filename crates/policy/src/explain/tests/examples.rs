//! What people read.

use crate::explain::{Change, Explanation, yaml};
use crate::fixture::Fixture;
use crate::{explain, guard};
use serde_json::json;
use sidewall_flow::Action;

fn pod() -> Fixture {
    Fixture::new(&[("front-proxy", &["TCP/80"]), ("app", &["http=TCP/8080", "metrics=TCP/9090"]), ("log-shipper", &[])])
        .pod("shop/db-0", "app=db,pod-template-hash=5f7", &["10.1.0.2"], &[])
        .pod("ops/collector", "app=collector", &["10.1.0.3"], &[])
        .pod("shop/bare", "", &["10.1.0.4"], &[])
}

fn shipper() -> Fixture {
    pod().policy(
        "log-shipper",
        json!({"containers": ["log-shipper"], "policyTypes": ["Egress"], "egress": [
            {"to": [{"container": "app"}], "ports": [{"port": "metrics"}]},
        ]}),
    )
}

/// The YAML of the only change.
#[track_caller]
fn change(told: &Explanation) -> String {
    let changes: Vec<&Change> = told.changes().collect();
    assert_eq!(changes.len(), 1, "{told}");
    changes[0].yaml()
}

/// Checks that nothing is advised but in words.
#[track_caller]
fn words_only(told: &Explanation, words: &str) {
    assert_eq!((told.changes().count(), told.allowable), (0, false), "{told}");
    assert!(told.advice.iter().any(|advice| advice.message.contains(words)), "{told}");
}

#[test]
fn a_denial_between_containers() {
    insta::assert_snapshot!(shipper().explained("log-shipper -> app TCP/8080"), @r"
    denied: log-shipper to app, TCP/8080, in pod shop/web
      egress of log-shipper: denied: isolated by ContainerNetworkPolicy shop/log-shipper, and no rule allows TCP/8080 to app
      ingress of app: allowed: no policy isolates it for this
    what would allow it:
      add to spec.egress of ContainerNetworkPolicy shop/log-shipper:
        - to: [{container: app}]
          ports: [{protocol: TCP, port: 8080}]
    ");
}

#[test]
fn a_permission() {
    insta::assert_snapshot!(shipper().explained("log-shipper -> app TCP/9090"), @r"
    allowed: log-shipper to app, TCP/9090, in pod shop/web
      egress of log-shipper: allowed: ContainerNetworkPolicy shop/log-shipper egress[0] allows it
      ingress of app: allowed: no policy isolates it for this
    ");
}

#[test]
fn past_the_proxy() {
    let proxied = pod().proxy("web", "2026-01-01T00:00:00Z", &[(80, 8080)]);
    insta::assert_snapshot!(proxied.explained("192.0.2.1 -> app TCP/8080"), @r"
    denied: 192.0.2.1 to app, TCP/8080, in pod shop/web
      ingress of app: denied: isolated by SidecarProxy shop/web, and no rule allows TCP/8080 from 192.0.2.1
    what would allow it:
      SidecarProxy shop/web stands before this pod: go through front-proxy on TCP/80; a rule that opens another port goes past its authentication
      add to spec.ingress of a ContainerNetworkPolicy for this pod and the container app; such a policy isolates app for all ingress, so let it also name whoever else is meant:
        - from: [{ipBlock: {cidr: 192.0.2.1/32}}]
          ports: [{protocol: TCP, port: 8080}]
    ");
    insta::assert_snapshot!(proxied.explained("log-shipper -> app TCP/8080"), @r"
    denied: log-shipper to app, TCP/8080, in pod shop/web
      egress of log-shipper: allowed: no policy isolates it for this
      ingress of app: denied: isolated by SidecarProxy shop/web, and no rule allows TCP/8080 from log-shipper
    what would allow it:
      SidecarProxy shop/web stands before this pod: go through front-proxy on TCP/80; a rule that opens another port goes past its authentication
      add to spec.ingress of a ContainerNetworkPolicy for this pod and the container app; such a policy isolates app for all ingress, so let it also name whoever else is meant:
        - from: [{container: log-shipper}]
          ports: [{protocol: TCP, port: 8080}]
    ");
}

#[test]
fn an_audit_verdict() {
    let audited = pod().policy("dry", json!({"mode": "Audit", "containers": ["app"], "policyTypes": ["Egress"]}));
    insta::assert_snapshot!(audited.explained("app -> 192.0.2.1 TCP/443"), @r"
    allowed: app to 192.0.2.1, TCP/443, in pod shop/web
      egress of app: allowed: no policy isolates it for this
    with the Audit policies: denied
      egress of app: denied: isolated by ContainerNetworkPolicy shop/dry, and no rule allows TCP/443 to 192.0.2.1
    what would allow it:
      add to spec.egress of ContainerNetworkPolicy shop/dry:
        - to: [{ipBlock: {cidr: 192.0.2.1/32}}]
          ports: [{protocol: TCP, port: 443}]
    ");
}

#[test]
fn for_programs() {
    let policy = json!({"kind": "ContainerNetworkPolicy", "namespace": "shop", "name": "log-shipper"});
    let rule = json!({
        "kind": "allowRule", "namespace": "shop", "containers": ["log-shipper"], "direction": "egress", "addTo": policy,
        "peers": [{"ipBlock": {"cidr": "192.0.2.1/32"}}], "ports": [{"protocol": "UDP", "port": 53}],
        "yaml": "- to: [{ipBlock: {cidr: 192.0.2.1/32}}]\n  ports: [{protocol: UDP, port: 53}]",
    });
    let expected = json!({
        "namespace": "shop", "pod": "web", "sender": {"container": "log-shipper"}, "receiver": {"address": "192.0.2.1"},
        "protocol": "UDP", "port": 53, "verdict": "deny", "allowable": true,
        "sides": [{
            "container": "log-shipper", "level": "container", "direction": "egress", "verdict": "deny",
            "reason": {"kind": "isolated", "by": [policy]},
            "message": "isolated by ContainerNetworkPolicy shop/log-shipper, and no rule allows UDP/53 to 192.0.2.1",
        }],
        "advice": [{"message": "add to spec.egress of ContainerNetworkPolicy shop/log-shipper", "change": rule}],
    });
    let told = shipper().explained("log-shipper -> 192.0.2.1 UDP/53");
    assert_eq!(serde_json::to_value(&told).unwrap(), expected);
}

#[test]
fn pods_are_named_by_labels_that_last() {
    let pod = shipper();
    for (flow, peer) in [
        ("log-shipper -> 10.1.0.2 TCP/1", "{podSelector: {matchLabels: {app: db}}}"),
        (
            "log-shipper -> 10.1.0.3 TCP/1",
            "{podSelector: {matchLabels: {app: collector}}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ops}}}",
        ),
        ("log-shipper -> 10.1.0.4 TCP/1", "{ipBlock: {cidr: 10.1.0.4/32}}"),
        ("log-shipper -> 10.0.0.1 TCP/1", "{entity: Node}"),
        ("log-shipper -> 10.0.0.2 TCP/1", "{ipBlock: {cidr: 10.0.0.2/32}}"),
        ("log-shipper -> 2001:db8::1 TCP/1", "{ipBlock: {cidr: \"2001:db8::1/128\"}}"),
    ] {
        assert_eq!(change(&pod.explained(flow)), format!("- to: [{peer}]\n  ports: [{{protocol: TCP, port: 1}}]"));
    }
    let without = explain(&pod.resolved(), &pod.flow("log-shipper -> 10.1.0.2 TCP/1"), None);
    assert_eq!(change(&without), "- to: [{ipBlock: {cidr: 10.1.0.2/32}}]\n  ports: [{protocol: TCP, port: 1}]");
}

#[test]
fn services_and_what_is_missing_behind_them() {
    let base = || {
        shipper()
            .policy(
                "db",
                json!({"containers": ["log-shipper"], "policyTypes": ["Egress"],
                "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "db"}}}]}]}),
            )
            .service("ops/logs", &["10.96.0.5"], "TCP/80", &["10.1.0.2:8080", "10.1.0.3:8081"])
            .service("kube-system/kube-dns", &["10.96.0.10"], "UDP/53", &["10.1.0.3:53"])
    };
    let told = base().explained("log-shipper -> 10.96.0.5 TCP/80");
    let denied = &told.sides[0].message;
    assert!(
        denied.contains("not allowed: 10.1.0.3:8081 (pod ops/collector)") && !denied.contains("10.1.0.2"),
        "{denied}"
    );
    assert_eq!(
        change(&told),
        "- to: [{podSelector: {matchLabels: {app: db}}}, {podSelector: {matchLabels: {app: collector}}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ops}}}]\n  ports: [{protocol: TCP, port: 8080}, {protocol: TCP, port: 8081}]"
    );
    assert!(told.notes.iter().any(|note| note.message.contains("allows only some of the pods behind")), "{told}");
    let dns = base().explained("log-shipper -> 10.96.0.10 UDP/53");
    assert_eq!(change(&dns), "- to: [{entity: ClusterDNS}]\n  ports: [{protocol: UDP, port: 53}]");
    words_only(&base().explained("log-shipper -> 10.96.0.5 TCP/81"), "has no port TCP/81");
    words_only(&base().explained("log-shipper -> 10.96.0.99 TCP/80"), "no Service has it");
    let empty = base().service("shop/empty", &["10.96.0.6"], "TCP/80", &[]);
    words_only(&empty.explained("log-shipper -> 10.96.0.6 TCP/80"), "has nothing behind port TCP/80");
    let outside = base().service("shop/outside", &["10.96.0.7"], "TCP/80", &["192.0.2.1:80"]);
    words_only(&outside.explained("log-shipper -> 10.96.0.7 TCP/80"), "no other pod at a known port");
}

#[test]
fn undeclared_ports() {
    let pod = shipper().by_uid();
    let told = pod.explained("log-shipper -> app TCP/7070");
    let yaml: Vec<String> = told.changes().map(Change::yaml).collect();
    assert_eq!(
        yaml,
        [
            "- to: [{container: app}]\n  ports: [{protocol: TCP, port: 7070}]",
            "- name: app\n  ports: [{containerPort: 7070, protocol: TCP}]",
        ]
    );
    assert!(told.to_string().contains("identity by cgroup needs no declaration"), "{told}");
    let anothers = pod.explained("log-shipper -> app TCP/80");
    assert!(!anothers.allowable, "{anothers}");
    assert!(anothers.to_string().contains("front-proxy declares TCP/80"), "{anothers}");
}

#[test]
fn whom_no_rule_can_name() {
    let pod = pod().policy("all", json!({"policyTypes": ["Ingress", "Egress"]}));
    for (flow, words) in [
        ("unknown -> app TCP/8080", "sockets of no container can't be allowed by name"),
        ("app -> unknown TCP/8080", "sockets of no container can't be allowed by name"),
        ("unknown -> 192.0.2.1 TCP/80", "a socket of no known container can't be selected by name"),
        ("node -> 192.0.2.1 TCP/80", "no policy speaks of what the node's own processes open"),
        ("app -> 224.0.0.1 UDP/5353", "no rule can name 224.0.0.1"),
    ] {
        let told = pod.explained(flow);
        assert!(!told.allowable && told.to_string().contains(words), "{told}");
    }
    let forward = pod.explained("node -> app TCP/8080");
    assert_eq!(change(&forward), "- from: [{entity: PortForward}]\n  ports: [{protocol: TCP, port: 8080}]");
}

#[test]
fn under_the_guard_policies_are_waited_for() {
    let pod = pod();
    let told = explain(&guard(&pod.subject), &pod.flow("app -> 192.0.2.1 TCP/443"), Some(&pod.world));
    assert_eq!(told.verdict, Action::Deny);
    words_only(&told, "the pod's policies are not known yet");
}

#[test]
fn a_policy_about_others_too_is_not_proposed() {
    let shared = pod().policy("both", json!({"containers": ["app", "log-shipper"], "policyTypes": ["Egress"]}));
    let told = shared.explained("app -> 192.0.2.1 TCP/443");
    let Some(Change::AllowRule(rule)) = told.changes().next() else { panic!("{told}") };
    assert_eq!((&rule.add_to, &rule.containers), (&None, &vec!["app".to_owned()]));
}

#[test]
fn texts_that_yaml_would_misread_are_quoted() {
    for (text, written) in [
        ("web", "web"),
        ("app.kubernetes.io/name", "app.kubernetes.io/name"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("", "\"\""),
        ("no", "\"no\""),
        ("True", "\"True\""),
        ("1.0", "\"1.0\""),
        ("0x10", "\"0x10\""),
        ("1e3", "\"1e3\""),
        ("::/0", "\"::/0\""),
        ("a: b", "\"a: b\""),
    ] {
        assert_eq!(yaml::scalar(text), written);
    }
}
