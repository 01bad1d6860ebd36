//! The forms that a Service can take, read from the objects themselves.

use super::{THROUGH, db, pod, rule, service};
use crate::fixture::Fixture;
use crate::world::{Service, objects};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use std::net::IpAddr;

/// A Service `shop/db` with one slice that names ports, as objects.
fn read(spec: Value, addresses: &[&str], ports: Value) -> Service {
    let service = serde_json::from_value(json!({
        "metadata": {"name": "db", "namespace": "shop", "labels": {"app": "db"}},
        "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": "10.1.0.4"}]}},
    }));
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": addresses}],
        "ports": ports,
    }))
    .unwrap();
    objects::service(&service.unwrap(), &[slice])
}

fn with(mut fixture: Fixture, service: Service) -> Fixture {
    fixture.world.services.push(service);
    fixture
}

fn pg() -> Value {
    json!([{"name": "", "port": 5432, "protocol": "TCP"}])
}

#[test]
fn cluster_addresses_of_both_families() {
    let spec = json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00:96::5"], "ports": [{"port": 80}]});
    with(rule(pod(), db()), read(spec, &["10.1.0.2"], pg()))
        .expect(&["app -> 10.96.0.5 TCP/80", "app -> fd00:96::5 TCP/80"], &["app -> fd00:96::6 TCP/80"]);
}

#[test]
fn a_headless_one_is_its_pods() {
    let headless = read(json!({"clusterIP": "None", "ports": [{"port": 80}]}), &["10.1.0.2", "10.1.0.4"], pg());
    assert_eq!(headless.addresses, Vec::<IpAddr>::new());
    let fixture = with(rule(pod(), db()), headless);
    fixture.expect(&["app -> 10.1.0.2 TCP/5432"], &["app -> 10.1.0.4 TCP/5432"]);
    assert_eq!(fixture.notes(), Vec::<String>::new());
}

#[test]
fn one_that_is_only_another_name_is_never_covered_and_that_is_told() {
    let another = || read(json!({"type": "ExternalName", "externalName": "db.example.org"}), &[], json!([]));
    assert_eq!(another().external_name.as_deref(), Some("db.example.org"));
    let meant = with(rule(pod(), db()), another());
    meant.expect_note("does not cover the Service shop/db, which is only another name for \"db.example.org\"");
    meant.expect(&[], &["app -> 192.0.2.1 TCP/80"]);
    // A NetworkPolicy's author may think so too.
    let egress = json!({"policyTypes": ["Egress"], "egress": [db()]});
    with(pod().network_policy("n", egress), another()).expect_note("egress[0] does not cover the Service shop/db");
    // A rule that selects nobody where it stands was written for something else.
    let elsewhere = json!({"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "names"}}}]});
    let mut named = another();
    named.namespace = "names".to_owned();
    with(rule(pod(), elsewhere), named.clone()).expect_note("does not cover the Service names/db");
    // Not where it is hardly meant.
    assert_eq!(with(rule(pod(), db()), named).notes(), Vec::<String>::new());
    assert_eq!(with(rule(pod(), json!({"to": [{"podSelector": {}}]})), another()).notes(), Vec::<String>::new());
    // Whatever address it has written beside the name.
    let lying = read(json!({"type": "ExternalName", "externalName": "a", "clusterIP": "10.96.0.9"}), &[], json!([]));
    assert!(lying.addresses.is_empty());
    let mut dns = another();
    (dns.namespace, dns.name) = ("kube-system".to_owned(), "kube-dns".to_owned());
    with(rule(pod(), json!({"to": [{"entity": "ClusterDNS"}]})), dns).expect_note("is only another name for");
}

#[test]
fn an_address_that_it_only_claims_means_nothing() {
    // Pod c (10.1.0.4) as the load balancer's, pod b (10.1.0.3) as an external address, and one outside.
    let spec = json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.5", "ports": [{"port": 5432}],
        "externalIPs": ["10.1.0.3", "192.0.2.66"], "loadBalancerIP": "192.0.2.67",
    });
    let claiming = || read(spec.clone(), &["10.1.0.2"], pg());
    assert_eq!(claiming().addresses, ["10.96.0.5".parse::<IpAddr>().unwrap()]);
    assert_eq!(claiming().claimed.len(), 4);
    let only_a = json!({"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": 5432}]});
    // It opens nothing ...
    with(rule(pod(), only_a.clone()), claiming()).expect(
        &["app -> 10.96.0.5 TCP/5432", "app -> 10.1.0.2 TCP/5432", "app -> 10.1.0.3 TCP/5432"],
        &["app -> 10.1.0.4 TCP/5432", "app -> 192.0.2.66 TCP/5432", "app -> 192.0.2.67 TCP/5432"],
    );
    // ... and closes nothing.
    with(rule(pod(), json!({"to": [{"entity": "World"}, {"podSelector": {}}]})), claiming()).expect(
        &["app -> 10.1.0.3 TCP/1", "app -> 10.1.0.4 TCP/1", "app -> 192.0.2.66 TCP/1", "app -> 192.0.2.67 TCP/1"],
        &[],
    );
    let same = |service: Option<Service>| {
        let mut fixture = rule(pod(), only_a.clone());
        fixture.world.services.extend(service);
        fixture.resolved()
    };
    let mut unclaimed = claiming();
    unclaimed.claimed.clear();
    assert_eq!(same(Some(claiming())), same(Some(unclaimed)));
}

#[test]
fn several_ports_and_named_targets() {
    let spec = json!({"clusterIP": "10.96.0.5", "ports": [
        {"name": "pg", "port": 80, "targetPort": "pg"}, {"name": "web", "port": 81}, {"name": "gone", "port": 82},
    ]});
    let ports = json!([
        {"name": "pg", "port": 5432, "protocol": "TCP"}, {"name": "web", "port": 8080, "protocol": "TCP"},
    ]);
    let mut to_pg = db();
    to_pg["ports"] = json!([{"port": "pg"}]);
    // The slice says which number a name has; a port that it does not tell is nobody's.
    with(rule(pod(), to_pg), read(spec, &["10.1.0.2"], ports))
        .expect(&["app -> 10.96.0.5 TCP/80"], &["app -> 10.96.0.5 TCP/81", "app -> 10.96.0.5 TCP/82"]);
}

#[test]
fn a_port_that_two_numbers_are_given_for_is_both() {
    let spec = json!({"clusterIP": "10.96.0.5", "ports": [{"port": 80}]});
    let twice = json!([{"port": 5432, "protocol": "TCP"}, {"port": 9999, "protocol": "TCP"}]);
    let mut to_pg = db();
    to_pg["ports"] = json!([{"port": 5432}]);
    with(rule(pod(), to_pg), read(spec, &["10.1.0.2"], twice)).expect(&[], THROUGH);
}

#[test]
fn ports_without_numbers_and_endpoints_without_addresses_are_nobodys() {
    let spec = || json!({"clusterIP": "10.96.0.5", "ports": [{"port": 80}]});
    with(rule(pod(), db()), read(spec(), &["10.1.0.2"], json!([{"protocol": "TCP"}]))).expect(&[], THROUGH);
    with(rule(pod(), db()), read(spec(), &["10.1.0.2"], json!([]))).expect(&[], THROUGH);
    with(rule(pod(), db()), read(spec(), &["10.1.0.2", "db.example.org"], pg())).expect(&[], THROUGH);
    with(rule(pod(), db()), read(spec(), &["10.1.0.2"], pg())).expect(THROUGH, &[]);
}

#[test]
fn who_may_write_endpoints_opens_nothing() {
    for anywhere in ["192.0.2.1:5432", "10.0.0.1:5432", "10.1.0.4:5432", "10.96.0.77:5432", "127.0.0.1:5432"] {
        rule(service(&[anywhere]), db()).expect(&[], THROUGH);
        rule(service(&["10.1.0.2:5432", anywhere]), db()).expect(&[], THROUGH);
    }
    let any = json!({"ports": [{"port": 5432}]});
    for nowhere in ["10.96.0.77:5432", "127.0.0.1:5432", "224.0.0.1:5432"] {
        rule(service(&[nowhere]), any.clone()).expect(&[], THROUGH);
    }
    // An address in the range of Services is not the DNS's because its slice says so.
    let dns = pod().service("kube-system/kube-dns", &["10.96.0.10"], "UDP/53", &["10.96.0.77:53", "10.1.0.2:53"]);
    rule(dns, json!({"to": [{"entity": "ClusterDNS"}]}))
        .expect(&["app -> 10.96.0.10 UDP/53", "app -> 10.1.0.2 UDP/53"], &["app -> 10.96.0.77 UDP/53"]);
}

#[test]
fn where_somebody_else_has_its_address_nobody_is_covered() {
    for (address, subject) in [("10.1.0.3", "shop/b"), ("10.1.0.4", "shop/c")] {
        let same = rule(
            pod().service("shop/x", &[address], "TCP/80", &["10.1.0.2:5432"]),
            json!({"to": [{"podSelector": {}}]}),
        );
        same.expect(
            &["app -> 10.1.0.2 TCP/80"],
            &[&format!("app -> {address} TCP/80"), &format!("app -> {address} TCP/1")],
        );
        same.expect_note(&format!("does not allow {address} of the pod {subject}"));
    }
    for address in ["10.0.0.1", "10.0.0.2", "10.1.0.9"] {
        rule(pod().service("shop/x", &[address], "TCP/80", &["10.1.0.2:5432"]), db())
            .expect(&[], &[&format!("app -> {address} TCP/80")]);
    }
    let dns = pod().service("kube-system/kube-dns", &["10.1.0.4"], "UDP/53", &["10.1.0.2:53"]);
    rule(dns, json!({"to": [{"entity": "ClusterDNS"}]}))
        .expect(&["app -> 10.1.0.2 UDP/53"], &["app -> 10.1.0.4 UDP/53"]);
    // What comes in is not about Services, and an ended pod has no address.
    let from = json!({"policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]});
    pod().service("shop/x", &["10.1.0.4"], "TCP/80", &[]).policy("p", from).expect(&["10.1.0.4 -> app TCP/1"], &[]);
    let ended = pod().with(|pod| pod.ended = true).service("shop/x", &["10.1.0.4"], "TCP/80", &["10.1.0.2:5432"]);
    rule(ended, db()).expect(&["app -> 10.1.0.4 TCP/80"], &["app -> 10.1.0.4 TCP/5432"]);
}

#[test]
fn where_two_have_an_address_both_must_be_covered() {
    let two = |endpoint: &str| service(&["10.1.0.2:5432"]).service("ops/x", &["10.96.0.5"], "TCP/80", &[endpoint]);
    rule(two("10.1.0.3:5432"), db()).expect(THROUGH, &[]);
    rule(two("10.1.0.4:5432"), db()).expect(&[], THROUGH);
}

#[test]
fn world_and_blocks_hold_no_service_whatever_its_range() {
    // One that was given its address before the range was changed.
    let old = || pod().service("shop/old", &["172.20.0.1"], "TCP/80", &["10.1.0.2:5432"]);
    for wide in [json!({"entity": "World"}), json!({"ipBlock": {"cidr": "0.0.0.0/0"}})] {
        rule(old(), json!({"to": [wide]})).expect(&["app -> 172.20.0.2 TCP/80"], &["app -> 172.20.0.1 TCP/80"]);
    }
    rule(old(), db()).expect(&["app -> 172.20.0.1 TCP/80"], &[]);
    rule(old().with_service(|service| service.addresses.clear()), db()).expect(&[], &["app -> 172.20.0.1 TCP/80"]);
}
