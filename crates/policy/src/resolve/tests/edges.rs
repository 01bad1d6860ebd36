//! NetworkPolicies, as Kubernetes documents them.

use crate::evaluate::{Level, Reason, evaluate};
use crate::fixture::Fixture;
use crate::model::{PolicyKind, Wire};
use crate::world::Unreadable;
use serde_json::{Value, json};
use sidewall_api::LabelSelector;
use sidewall_flow::Direction;

fn pod() -> Fixture {
    Fixture::new(&[("app", &["http=TCP/8080", "dns=UDP/53"]), ("metrics", &["metrics=TCP/9090"])])
        .namespace("shop", "team=a")
        .namespace("ops", "team=b")
        .pod("shop/web", "app=web", &["10.1.0.9", "fd00:1::9"], &["http=TCP/8080"])
        .pod("shop/db", "app=db,tier=back", &["10.1.0.2", "fd00:1::2"], &["pg=TCP/5432"])
        .pod("shop/db2", "app=db", &["10.1.0.3"], &["pg=TCP/5433"])
        .pod("ops/probe", "app=db", &["10.1.0.4"], &["pg=TCP/5432"])
        .pod("ops/other", "app=other", &["10.1.0.5"], &[])
}

fn ingress(rules: Value) -> Fixture {
    pod().network_policy("p", json!({"ingress": rules}))
}

fn egress(rules: Value) -> Fixture {
    pod().network_policy("p", json!({"policyTypes": ["Egress"], "egress": rules}))
}

const IN: &[&str] = &["10.1.0.2 -> app TCP/8080", "10.1.0.4 -> metrics UDP/1", "192.0.2.1 -> app TCP/8080"];
const OUT: &[&str] = &["app -> 10.1.0.2 TCP/5432", "metrics -> 10.1.0.4 UDP/1", "app -> 192.0.2.1 SCTP/8080"];

#[test]
fn without_a_policy_everything_passes() {
    let open = pod();
    open.expect(IN, &[]);
    open.expect(OUT, &[]);
    assert!(!open.resolved().is_selected());
    assert!(
        !pod().network_policy("p", json!({"podSelector": {"matchLabels": {"app": "db"}}})).resolved().is_selected()
    );
}

#[test]
fn a_policy_of_another_namespace_is_not_about_the_pod() {
    let mut other = pod().network_policy("p", json!({}));
    other.world.network_policies[0].metadata.namespace = Some("ops".to_owned());
    assert!(!other.resolved().is_selected());
}

#[test]
fn directions_are_isolated_apart() {
    let only_in = pod().network_policy("p", json!({}));
    only_in.expect(OUT, IN);
    egress(json!([])).expect(IN, OUT);
    let both = pod().network_policy("p", json!({"egress": [{}]}));
    both.expect(OUT, IN);
    both.expect(&[], IN);
    // Rules of a direction that policyTypes leaves out have no effect.
    pod().network_policy("p", json!({"policyTypes": ["Egress"], "ingress": [{}]})).expect(IN, OUT);
    pod().network_policy("p", json!({"policyTypes": ["Ingress"], "egress": [{}]})).expect(OUT, IN);
}

#[test]
fn empty_is_everybody_and_absent_is_too() {
    for rule in [json!({}), json!({"from": []}), json!({"ports": []}), json!({"from": [], "ports": []})] {
        ingress(json!([rule])).expect(IN, &[]);
    }
    egress(json!([{}])).expect(OUT, &[]);
    // An empty selector is all pods of the namespace, and no address outside.
    ingress(json!([{"from": [{"podSelector": {}}]}])).expect(
        &["10.1.0.2 -> app TCP/8080", "fd00:1::2 -> app TCP/8080", "10.1.0.3 -> metrics SCTP/7"],
        &["10.1.0.4 -> app TCP/8080", "192.0.2.1 -> app TCP/8080", "10.0.0.2 -> app TCP/8080"],
    );
    ingress(json!([{"from": [{"namespaceSelector": {}}]}]))
        .expect(&["10.1.0.2 -> app TCP/8080", "10.1.0.5 -> app TCP/8080"], &["192.0.2.1 -> app TCP/8080"]);
}

#[test]
fn selectors_of_one_peer_must_both_hold_and_peers_add_up() {
    let (ops, db) = (json!({"matchLabels": {"team": "b"}}), json!({"matchLabels": {"app": "db"}}));
    ingress(json!([{"from": [{"namespaceSelector": ops, "podSelector": db}]}]))
        .expect(&["10.1.0.4 -> app TCP/1"], &["10.1.0.5 -> app TCP/1", "10.1.0.2 -> app TCP/1"]);
    ingress(json!([{"from": [{"namespaceSelector": ops}, {"podSelector": db}]}])).expect(
        &["10.1.0.4 -> app TCP/1", "10.1.0.5 -> app TCP/1", "10.1.0.2 -> app TCP/1"],
        &["10.1.0.6 -> app TCP/1"],
    );
    // Every namespace has its own name as a label.
    let by_name = json!({"matchLabels": {"kubernetes.io/metadata.name": "ops"}});
    ingress(json!([{"from": [{"namespaceSelector": by_name}]}]))
        .expect(&["10.1.0.5 -> app TCP/1"], &["10.1.0.2 -> app TCP/1"]);
}

#[test]
fn every_operator() {
    let with = |key: &str, operator: &str, values: &[&str]| {
        let mut requirement = json!({"key": key, "operator": operator});
        if !values.is_empty() {
            requirement["values"] = json!(values);
        }
        ingress(json!([{"from": [{"namespaceSelector": {}, "podSelector": {"matchExpressions": [requirement]}}]}]))
    };
    let (db, db2, other) = ("10.1.0.2 -> app TCP/1", "10.1.0.3 -> app TCP/1", "10.1.0.5 -> app TCP/1");
    with("app", "In", &["db", "none"]).expect(&[db, db2], &[other]);
    with("app", "NotIn", &["db"]).expect(&[other], &[db, db2]);
    with("tier", "NotIn", &["back"]).expect(&[db2, other], &[db]);
    with("tier", "Exists", &[]).expect(&[db], &[db2, other]);
    with("tier", "DoesNotExist", &[]).expect(&[db2, other], &[db]);
}

#[test]
fn ports() {
    ingress(json!([{"ports": [{"port": 8080}]}]))
        .expect(&["192.0.2.1 -> app TCP/8080", "192.0.2.1 -> metrics TCP/8080"], &["192.0.2.1 -> app UDP/8080"]);
    ingress(json!([{"ports": [{"protocol": "UDP"}]}]))
        .expect(&["192.0.2.1 -> app UDP/0", "192.0.2.1 -> app UDP/65535"], &["192.0.2.1 -> app TCP/1"]);
    ingress(json!([{"ports": [{"protocol": "SCTP", "port": 80, "endPort": 90}]}])).expect(
        &["192.0.2.1 -> app SCTP/80", "192.0.2.1 -> app SCTP/90"],
        &["192.0.2.1 -> app SCTP/79", "192.0.2.1 -> app SCTP/91", "192.0.2.1 -> app TCP/85"],
    );
}

#[test]
fn a_named_port_is_the_receivers() {
    // Any container of the pod may declare it, and the protocol has to fit.
    ingress(json!([{"ports": [{"port": "http"}, {"port": "metrics"}, {"port": "dns"}]}])).expect(
        &["192.0.2.1 -> app TCP/8080", "192.0.2.1 -> app TCP/9090", "192.0.2.1 -> metrics TCP/8080"],
        &["192.0.2.1 -> app UDP/53", "192.0.2.1 -> app TCP/53"],
    );
    ingress(json!([{"ports": [{"port": "pg"}]}])).expect(&[], &["10.1.0.2 -> app TCP/5432"]);
    egress(json!([{"to": [{"podSelector": {}}], "ports": [{"port": "pg"}]}])).expect(
        &["app -> 10.1.0.2 TCP/5432", "app -> 10.1.0.3 TCP/5433"],
        &["app -> 10.1.0.2 TCP/5433", "app -> 10.1.0.3 TCP/5432", "app -> 10.1.0.4 TCP/5432"],
    );
    egress(json!([{"ports": [{"port": "pg"}]}])).expect(
        &["app -> 10.1.0.2 TCP/5432", "app -> 10.1.0.3 TCP/5433", "app -> 10.1.0.4 TCP/5432"],
        &["app -> 10.1.0.5 TCP/5432", "app -> 192.0.2.1 TCP/5432"],
    );
    let block = egress(json!([{"to": [{"ipBlock": {"cidr": "10.1.0.0/24"}}], "ports": [{"port": "pg"}]}]));
    block.expect(&[], &["app -> 10.1.0.2 TCP/5432"]);
    block.expect_note("names the port \"pg\" where no pod is selected");
}

#[test]
fn a_block_covers_pods_too_but_no_service_loopback_or_multicast() {
    let block = |cidr: &str, except: &[&str]| json!([{"ipBlock": {"cidr": cidr, "except": except}}]);
    ingress(json!([{"from": block("10.1.0.0/24", &["10.1.0.4/32"])}]))
        .expect(&["10.1.0.2 -> app TCP/1"], &["10.1.0.4 -> app TCP/1", "10.1.1.2 -> app TCP/1"]);
    egress(json!([{"to": block("0.0.0.0/0", &["10.1.0.0/24"])}])).expect(
        &["app -> 192.0.2.1 TCP/1", "app -> 10.0.0.2 TCP/1"],
        &["app -> 10.1.0.2 TCP/1", "app -> 10.96.0.1 TCP/1", "app -> 224.0.0.1 UDP/1", "app -> fd00:1::2 TCP/1"],
    );
    // Another rule may allow what one excepts.
    egress(json!([{"to": block("10.0.0.0/8", &["10.1.0.0/16"])}, {"to": block("10.1.0.2/32", &[])}]))
        .expect(&["app -> 10.1.0.2 TCP/1"], &["app -> 10.1.0.3 TCP/1"]);
    egress(json!([{"to": block("::/0", &["fd00:1::/112"])}]))
        .expect(&["app -> 2001:db8::1 TCP/1"], &["app -> fd00:1::2 TCP/1", "app -> fd00:96::1 TCP/1"]);
}

#[test]
fn policies_add_up_whatever_their_order() {
    let web = json!({"ingress": [{"ports": [{"port": 8080}]}]});
    let metrics = json!({"ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 9090}]}]});
    let expect = |fixture: Fixture| {
        fixture.expect(
            &["192.0.2.1 -> app TCP/8080", "10.1.0.2 -> app TCP/9090"],
            &["192.0.2.1 -> app TCP/9090", "10.1.0.2 -> app TCP/1"],
        );
        fixture.resolved()
    };
    let there = expect(pod().network_policy("a", web.clone()).network_policy("b", metrics.clone()));
    let back = expect(pod().network_policy("b", metrics).network_policy("a", web));
    assert_eq!(there, back);
}

#[test]
fn the_own_node_and_the_pod_itself_always_pass() {
    let closed = pod().network_policy("p", json!({"policyTypes": ["Ingress", "Egress"]}));
    closed.expect(
        &["10.0.0.1 -> app TCP/8080", "app -> 10.0.0.1 TCP/10250", "app -> metrics TCP/9090", "unknown -> app TCP/1"],
        &["10.0.0.2 -> app TCP/8080", "app -> 10.0.0.2 TCP/10250"],
    );
    // A policy of containers still judges both.
    let both = closed.policy("c", json!({"containers": ["app"], "policyTypes": ["Ingress", "Egress"]}));
    both.expect(
        &["10.0.0.1 -> metrics TCP/9090"],
        &["10.0.0.1 -> app TCP/8080", "app -> 10.0.0.1 TCP/10250", "app -> metrics TCP/9090"],
    );
}

#[test]
fn each_kind_means_what_it_means_alone() {
    let open = json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]});
    let closed = json!({"policyTypes": ["Ingress", "Egress"]});
    let (through, local) = (["app -> 10.1.0.2 TCP/1", "10.1.0.2 -> app TCP/1"], ["app -> metrics TCP/1"]);
    pod().network_policy("n", open.clone()).policy("c", closed.clone()).expect(&[], &through);
    pod().network_policy("n", closed).policy("c", open.clone()).expect(&local, &through);
    pod().network_policy("n", open.clone()).policy("c", open).expect(&through, &[]);
}

#[test]
fn pods_without_an_address_ended_ones_and_those_of_the_node_are_no_peers() {
    let any = || json!([{"from": [{"namespaceSelector": {}}]}]);
    let with = |change: fn(&mut crate::world::Pod)| {
        let fixture = ingress(any()).pod("shop/last", "", &["10.1.0.77", "10.0.0.2"], &[]);
        fixture.with(change)
    };
    with(|_| {}).expect(&["10.1.0.77 -> app TCP/1"], &[]);
    with(|pod| pod.addresses.clear()).expect(&[], &["10.1.0.77 -> app TCP/1"]);
    with(|pod| pod.ended = true).expect(&[], &["10.1.0.77 -> app TCP/1"]);
    let host = with(|pod| pod.host_network = true);
    host.expect(&[], &["10.1.0.77 -> app TCP/1", "10.0.0.2 -> app TCP/1"]);
    host.expect_note("share their node's network");
    // An address that an ended pod had is that of the pod that has it now.
    let again = ingress(json!([{"from": [{"podSelector": {"matchLabels": {"app": "old"}}}]}]))
        .pod("shop/old", "app=old", &["10.1.0.78"], &[])
        .with(|pod| pod.ended = true)
        .pod("shop/new", "app=new", &["10.1.0.78"], &[]);
    again.expect(&[], &["10.1.0.78 -> app TCP/1"]);
}

#[test]
fn a_service_is_covered_by_the_pods_behind_it() {
    let to = |app: &str| egress(json!([{"to": [{"podSelector": {"matchLabels": {"app": app}}}]}]));
    let with = |fixture: Fixture, endpoints: &[&str]| fixture.service("shop/db", &["10.96.0.5"], "TCP/80", endpoints);
    let through = ["app -> 10.96.0.5 TCP/80"];
    with(to("db"), &["10.1.0.2:5432", "10.1.0.3:5433"]).expect(&through, &["app -> 10.96.0.5 TCP/81"]);
    let partly = with(to("db"), &["10.1.0.2:5432", "10.1.0.4:5432"]);
    partly.expect(&[], &through);
    partly.expect_note("only some of the pods behind the Service shop/db");
    with(to("db"), &[]).expect(&[], &through);
    with(to("db"), &["10.1.0.2"]).expect(&[], &through);
    with(to("db"), &["192.0.2.1:80"]).expect(&[], &through);
    // The pod itself may be among them, as far as it is selected.
    with(to("web"), &["10.1.0.9:8080"]).expect(&through, &[]);
    with(to("db"), &["10.1.0.9:8080", "10.1.0.2:5432"]).expect(&[], &through);
    // By its ports, and never by an address block.
    let ports = |port: Value| egress(json!([{"to": [{"podSelector": {}}], "ports": [{"port": port}]}]));
    with(ports(json!(5432)), &["10.1.0.2:5432"]).expect(&through, &[]);
    with(ports(json!("pg")), &["10.1.0.2:5432", "10.1.0.3:5433"]).expect(&through, &[]);
    with(ports(json!(80)), &["10.1.0.2:5432"]).expect(&[], &through);
    with(egress(json!([{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}])), &["10.1.0.2:5432"]).expect(&[], &through);
    with(egress(json!([{"ports": [{"port": 5432}]}])), &["10.1.0.2:5432"]).expect(&through, &[]);
    with(egress(json!([{"ports": [{"port": 80}]}])), &["10.1.0.2:5432"]).expect(&[], &through);
}

#[test]
fn what_is_not_understood_isolates_both_ways_but_not_the_own_node() {
    let bad = pod().network_policy(
        "p",
        json!({"policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]}),
    );
    let unreadable = |selector: Option<LabelSelector>| {
        let mut fixture = pod();
        fixture.world.unreadable.push(Unreadable {
            kind: PolicyKind::NetworkPolicy,
            namespace: Some("shop".to_owned()),
            name: Some("p".to_owned()),
            pod_selector: selector,
            reason: "a field is unknown".to_owned(),
        });
        fixture
    };
    for closed in [bad, unreadable(None), unreadable(Some(LabelSelector::label("app", "web")))] {
        closed.expect(&["10.0.0.1 -> app TCP/1", "app -> metrics TCP/1"], IN);
        closed.expect(&["app -> 10.0.0.1 TCP/1"], OUT);
        closed.expect_note("isolates every pod that it selects, because it can't be understood");
        assert!(closed.resolved().enforced.parties.values().all(|sides| !sides.isolate()));
    }
    assert!(!unreadable(Some(LabelSelector::label("app", "db"))).resolved().is_selected());
}

#[test]
fn a_selector_that_is_too_long_to_be_one_of_ours_may_still_be_one_here() {
    let names: Vec<String> = (0..200).map(|number| format!("app-{number}")).collect();
    let spec = json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": names}]}});
    assert!(!pod().network_policy("p", spec).resolved().is_selected());
}

#[test]
fn the_edge_is_asked_first_and_tells_its_rule() {
    let fixture = ingress(json!([{"ports": [{"port": 1}]}, {"ports": [{"port": 8080}]}]));
    let verdict = evaluate(&fixture.resolved(), &fixture.flow("192.0.2.1 -> app TCP/8080"));
    let half = &verdict.halves[0];
    assert_eq!((half.level, half.direction), (Level::Pod, Direction::Ingress));
    let Reason::Allowed { rule } = &half.reason else { panic!("{half:?}") };
    assert_eq!(rule.to_string(), "NetworkPolicy shop/p ingress[1]");
    let pod = fixture.resolved();
    assert!(pod.edge.ingress.scope(Wire::Loopback).is_none());
    assert!(pod.edge.ingress.scope(Wire::Network).others);
}
