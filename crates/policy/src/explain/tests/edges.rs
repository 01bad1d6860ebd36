//! What people read of the pod's edges.

use crate::explain::Change;
use crate::fixture::Fixture;
use serde_json::json;

fn pod() -> Fixture {
    Fixture::new(&[("app", &["http=TCP/8080"])])
        .attached("link", "net1", &["10.9.0.9"])
        .pod("shop/db-0", "app=db", &["10.1.0.2"], &["pg=TCP/5432"])
        .on("link", "net1", &["10.9.0.2"])
        .pod("ops/collector", "app=collector", &["10.1.0.3"], &[])
        .network_policy("closed", json!({"policyTypes": ["Egress"]}))
}

#[test]
fn both_halves_and_what_each_needs() {
    let fixture = pod().policy("app", json!({"containers": ["app"], "policyTypes": ["Egress"]}));
    insta::assert_snapshot!(fixture.explained("app -> 10.1.0.3 TCP/4317"), @r"
    denied: app to 10.1.0.3 (pod ops/collector), TCP/4317, in pod shop/web
      egress of the pod: denied: isolated by NetworkPolicy shop/closed, and no rule allows TCP/4317 to 10.1.0.3 (pod ops/collector)
      egress of app: denied: isolated by ContainerNetworkPolicy shop/app, and no rule allows TCP/4317 to 10.1.0.3 (pod ops/collector)
    what would allow it:
      add to spec.egress of NetworkPolicy shop/closed:
        - to: [{podSelector: {matchLabels: {app: collector}}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ops}}}]
          ports: [{protocol: TCP, port: 4317}]
      add to spec.egress of ContainerNetworkPolicy shop/app:
        - to: [{podSelector: {matchLabels: {app: collector}}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ops}}}]
          ports: [{protocol: TCP, port: 4317}]
    ");
}

#[test]
fn an_edge_on_a_further_network() {
    let fixture = pod().multi_network_policy("link-in", "link", json!({}));
    insta::assert_snapshot!(fixture.explained("10.9.0.2%net1 -> app TCP/8080"), @r"
    denied: 10.9.0.2 (on shop/link, pod shop/db-0, by its own word) to app, TCP/8080, in pod shop/web
      ingress of the pod on shop/link: denied: isolated by MultiNetworkPolicy shop/link-in, and no rule allows TCP/8080 from 10.9.0.2 (on shop/link, pod shop/db-0, by its own word)
      ingress of app: allowed: no policy isolates it for this
    what would allow it:
      add to spec.ingress of MultiNetworkPolicy shop/link-in:
        - from: [{podSelector: {matchLabels: {app: db}}}]
          ports: [{protocol: TCP, port: 8080}]
    ");
    let ghost = fixture.explained("10.9.0.2%ghost -> app TCP/8080");
    assert!(!ghost.allowable && ghost.advice[0].message.contains("a device that is not known"), "{ghost}");
}

#[test]
fn a_permission_tells_the_edges_rule() {
    let fixture =
        pod().network_policy("db", json!({"policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}]}]}));
    insta::assert_snapshot!(fixture.explained("app -> 10.1.0.2 TCP/5432"), @r"
    allowed: app to 10.1.0.2 (pod shop/db-0), TCP/5432, in pod shop/web
      egress of the pod: allowed: NetworkPolicy shop/db egress[0] allows it
      egress of app: allowed: no policy isolates it for this
    ");
}

#[test]
fn a_service_at_the_edge_is_what_stands_behind_it() {
    let fixture = pod().service("shop/db", &["10.96.0.5"], "TCP/80", &["10.1.0.2:5432"]);
    let told = fixture.explained("app -> 10.96.0.5 TCP/80");
    let Some(Change::AllowAtEdge(rule)) = told.changes().next() else { panic!("{told}") };
    assert_eq!(rule.yaml, "- to: [{podSelector: {matchLabels: {app: db}}}]\n  ports: [{protocol: TCP, port: 5432}]");
    assert!(told.sides[0].message.contains("not allowed: 10.1.0.2:5432 (pod shop/db-0)"), "{told}");
    // A Service's address that somebody else has too can't be allowed at all.
    let shared =
        pod().service("shop/x", &["10.1.0.3"], "TCP/80", &["10.1.0.2:5432"]).explained("app -> 10.1.0.3 TCP/80");
    assert!(!shared.allowable && shared.advice[0].message.contains("somebody else's address"), "{shared}");
}

#[test]
fn for_programs() {
    let told = serde_json::to_value(pod().explained("app -> 192.0.2.1 UDP/53")).unwrap();
    let policy = json!({"kind": "NetworkPolicy", "namespace": "shop", "name": "closed"});
    assert_eq!(told["sides"][0]["level"], "pod");
    assert_eq!(told["sides"][1]["level"], "container");
    assert_eq!(
        told["advice"],
        json!([{"message": "add to spec.egress of NetworkPolicy shop/closed", "change": {
            "kind": "allowAtEdge", "policyKind": "NetworkPolicy", "namespace": "shop", "direction": "egress", "addTo": policy,
            "peers": [{"ipBlock": {"cidr": "192.0.2.1/32"}}], "ports": [{"protocol": "UDP", "port": 53}],
            "yaml": "- to: [{ipBlock: {cidr: 192.0.2.1/32}}]\n  ports: [{protocol: UDP, port: 53}]",
        }}])
    );
}

#[test]
fn who_claims_an_address_is_told() {
    let claimed = pod().service("shop/lb", &[], "TCP/80", &[]).with_service(|service| {
        service.claimed.insert("192.0.2.9".parse().unwrap());
    });
    let told = claimed.explained("app -> 192.0.2.9 TCP/80");
    assert_eq!(told.receiver.known_as, ["claimed by the Service shop/lb"]);
}
