//! Services are judged by what stands behind them.

mod forms;

use crate::fixture::Fixture;
use serde_json::{Value, json};

fn pod() -> Fixture {
    Fixture::new(&[("app", &[])])
        .pod("shop/a", "app=db", &["10.1.0.2", "fd00:1::2"], &["pg=TCP/5432"])
        .pod("shop/b", "app=db", &["10.1.0.3"], &["pg=TCP/5433"])
        .pod("shop/c", "app=cache", &["10.1.0.4"], &["pg=TCP/5432"])
}

fn service(endpoints: &[&str]) -> Fixture {
    pod().service("shop/db", &["10.96.0.5", "fd00:96::5"], "TCP/80", endpoints)
}

fn rule(fixture: Fixture, rule: Value) -> Fixture {
    fixture.policy("p", json!({"policyTypes": ["Egress"], "egress": [rule]}))
}

fn db() -> Value {
    json!({"to": [{"podSelector": {"matchLabels": {"app": "db"}}}]})
}

const THROUGH: &[&str] = &["app -> 10.96.0.5 TCP/80"];

#[test]
fn covered_where_everything_behind_it_is_allowed() {
    rule(service(&["10.1.0.2:5432", "10.1.0.3:5433"]), db()).expect(
        &["app -> 10.96.0.5 TCP/80", "app -> fd00:96::5 TCP/80", "app -> 10.1.0.2 TCP/80"],
        &["app -> 10.96.0.5 TCP/5432", "app -> 10.96.0.5 UDP/80", "app -> 10.96.0.6 TCP/80"],
    );
}

#[test]
fn not_covered_where_one_is_missing_and_that_is_told() {
    let partly = rule(service(&["10.1.0.2:5432", "10.1.0.4:5432"]), db());
    partly.expect(&["app -> 10.1.0.2 TCP/5432"], THROUGH);
    partly.expect_note("allows only some of the pods behind the Service shop/db port 80");
}

#[test]
fn not_covered_without_endpoints_or_their_ports() {
    let none = rule(service(&[]), db());
    none.expect(&[], THROUGH);
    assert_eq!(none.notes(), Vec::<String>::new());
    rule(service(&["10.1.0.2"]), db()).expect(&[], THROUGH);
}

#[test]
fn the_ports_are_those_behind_it() {
    let on = |ports: Value| {
        let mut rule = db();
        rule["ports"] = ports;
        rule
    };
    rule(service(&["10.1.0.2:5432"]), on(json!([{"port": 5432}]))).expect(THROUGH, &[]);
    rule(service(&["10.1.0.2:5432"]), on(json!([{"port": 80}]))).expect(&[], THROUGH);
    rule(service(&["10.1.0.2:5432", "10.1.0.3:5433"]), on(json!([{"port": "pg"}]))).expect(THROUGH, &[]);
    rule(service(&["10.1.0.2:5433", "10.1.0.3:5433"]), on(json!([{"port": "pg"}]))).expect(&[], THROUGH);
}

#[test]
fn several_ports_are_judged_one_by_one() {
    let mut two = rule(service(&["10.1.0.2:5432"]), db());
    let mut more = two.world.services[0].ports[0].clone();
    more.port = Some((sidewall_flow::Protocol::Tcp, 81));
    more.endpoints.insert(("10.1.0.4".parse().unwrap(), Some(5432)));
    two.world.services[0].ports.push(more);
    two.expect(&["app -> 10.96.0.5 TCP/80"], &["app -> 10.96.0.5 TCP/81"]);
}

#[test]
fn what_is_no_pod_keeps_it_denied() {
    rule(service(&["10.1.0.2:5432", "192.0.2.1:5432"]), db()).expect(&[], THROUGH);
    // Not even a block that holds the address: a Service is not an address block's.
    let block = json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"podSelector": {}}]});
    rule(service(&["192.0.2.1:5432"]), block).expect(&["app -> 192.0.2.1 TCP/5432"], THROUGH);
}

#[test]
fn one_rule_must_cover_all_of_it() {
    let egress = json!([db(), {"to": [{"podSelector": {"matchLabels": {"app": "cache"}}}]}]);
    let split =
        service(&["10.1.0.2:5432", "10.1.0.4:5432"]).policy("p", json!({"policyTypes": ["Egress"], "egress": egress}));
    split.expect(&["app -> 10.1.0.2 TCP/5432", "app -> 10.1.0.4 TCP/5432"], THROUGH);
    let both = json!({"to": [{"podSelector": {"matchLabels": {"app": "db"}}}, {"podSelector": {"matchLabels": {"app": "cache"}}}]});
    rule(service(&["10.1.0.2:5432", "10.1.0.4:5432"]), both).expect(THROUGH, &[]);
}

#[test]
fn an_unknown_service_is_denied_but_where_everything_is_allowed() {
    rule(pod(), json!({"to": [{"namespaceSelector": {}}, {"entity": "World"}]}))
        .expect(&[], &["app -> 10.96.0.99 TCP/80"]);
    rule(pod(), json!({"ports": [{"port": 80}]})).expect(&["app -> 192.0.2.1 TCP/80"], &["app -> 10.96.0.99 TCP/80"]);
    rule(pod(), json!({})).expect(&["app -> 10.96.0.99 TCP/80"], &[]);
}

#[test]
fn to_everybody_on_a_port_is_the_port_behind_it() {
    let any = |port: u16| json!({"ports": [{"port": port}]});
    rule(service(&["10.1.0.2:5432"]), any(5432)).expect(THROUGH, &[]);
    rule(service(&["10.1.0.2:5432"]), any(80)).expect(&[], THROUGH);
    rule(service(&["192.0.2.1:5432"]), any(5432)).expect(THROUGH, &[]);
}

#[test]
fn several_slices_are_one_service() {
    use crate::world::objects;
    use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00:96::5"], "ports": [{"name": "pg", "port": 80}]},
    }))
    .unwrap();
    let slice = |name: &str, of: &str, namespace: &str, address: &str| -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": of}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": false, "terminating": true}}],
            "ports": [{"name": "pg", "port": 5432, "protocol": "TCP"}],
        }))
        .unwrap()
    };
    let slices = [
        slice("db-1", "db", "shop", "10.1.0.2"),
        slice("db-2", "db", "shop", "10.1.0.4"),
        slice("other", "other", "shop", "10.1.0.7"),
        slice("db-3", "db", "ops", "10.1.0.8"),
    ];
    let read = objects::service(&service, &slices);
    let behind: Vec<String> = read.ports[0].endpoints.iter().map(|(address, _)| address.to_string()).collect();
    assert_eq!(behind, ["10.1.0.2", "10.1.0.4"]);
    let mut all = rule(pod(), json!({"to": [{"podSelector": {}}]}));
    all.world.services.push(read.clone());
    all.expect(&["app -> 10.96.0.5 TCP/80", "app -> fd00:96::5 TCP/80"], &[]);
    let mut some = rule(pod(), db());
    some.world.services.push(read);
    some.expect(&[], THROUGH);
}

#[test]
fn a_service_says_nothing_of_who_comes_in() {
    let from =
        json!({"policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "db"}}}]}]});
    service(&["10.1.0.2:5432"]).policy("p", from).expect(&["10.1.0.2 -> app TCP/1"], &["10.96.0.5 -> app TCP/80"]);
}
