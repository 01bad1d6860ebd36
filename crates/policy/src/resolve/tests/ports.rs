//! Numbers, ranges, names and protocols of ports.

use crate::fixture::Fixture;
use serde_json::{Value, json};

fn pod() -> Fixture {
    Fixture::new(&[("app", &["http=TCP/8080", "dns=UDP/53"]), ("shipper", &["http=TCP/9000"])])
        .pod("shop/a", "app=db", &["10.1.0.2"], &["http=TCP/1111"])
        .pod("shop/b", "app=db", &["10.1.0.3"], &["http=TCP/2222", "http=UDP/3333"])
        .pod("shop/c", "app=db", &["10.1.0.4"], &[])
}

fn ingress(ports: Value) -> Fixture {
    pod().policy("p", json!({"policyTypes": ["Ingress"], "ingress": [{"ports": ports}]}))
}

fn egress(to: Value, ports: Value) -> Fixture {
    pod().policy("p", json!({"policyTypes": ["Egress"], "egress": [{"to": to, "ports": ports}]}))
}

#[test]
fn numbers_are_of_tcp_where_nothing_else_is_said() {
    ingress(json!([{"port": 80}])).expect(
        &["192.0.2.1 -> app TCP/80"],
        &["192.0.2.1 -> app UDP/80", "192.0.2.1 -> app SCTP/80", "192.0.2.1 -> app TCP/81"],
    );
}

#[test]
fn each_protocol_has_ports_of_its_own() {
    ingress(json!([{"protocol": "UDP", "port": 53}, {"protocol": "SCTP", "port": 36412}])).expect(
        &["192.0.2.1 -> app UDP/53", "192.0.2.1 -> app SCTP/36412"],
        &["192.0.2.1 -> app TCP/53", "192.0.2.1 -> app UDP/36412"],
    );
}

#[test]
fn a_protocol_alone_means_all_its_ports() {
    ingress(json!([{"protocol": "UDP"}]))
        .expect(&["192.0.2.1 -> app UDP/0", "192.0.2.1 -> app UDP/65535"], &["192.0.2.1 -> app TCP/1"]);
}

#[test]
fn ranges_hold_both_ends() {
    ingress(json!([{"port": 8000, "endPort": 8002}, {"port": 9, "endPort": 9}])).expect(
        &[
            "192.0.2.1 -> app TCP/8000",
            "192.0.2.1 -> app TCP/8001",
            "192.0.2.1 -> app TCP/8002",
            "192.0.2.1 -> app TCP/9",
        ],
        &["192.0.2.1 -> app TCP/7999", "192.0.2.1 -> app TCP/8003", "192.0.2.1 -> app TCP/10"],
    );
}

#[test]
fn an_ingress_name_is_the_containers_own() {
    ingress(json!([{"port": "http"}])).expect(
        &["192.0.2.1 -> app TCP/8080", "192.0.2.1 -> shipper TCP/9000", "app -> shipper TCP/9000"],
        &["192.0.2.1 -> app TCP/9000", "192.0.2.1 -> shipper TCP/8080", "192.0.2.1 -> unknown TCP/8080"],
    );
    // The protocol is part of what is named.
    ingress(json!([{"port": "dns"}])).expect(&[], &["192.0.2.1 -> app UDP/53", "192.0.2.1 -> app TCP/53"]);
    ingress(json!([{"protocol": "UDP", "port": "dns"}])).expect(&["192.0.2.1 -> app UDP/53"], &[]);
}

#[test]
fn an_egress_name_is_the_peers_pod_by_pod() {
    egress(json!([{"podSelector": {}}]), json!([{"port": "http"}])).expect(
        &["app -> 10.1.0.2 TCP/1111", "app -> 10.1.0.3 TCP/2222"],
        &[
            "app -> 10.1.0.2 TCP/2222",
            "app -> 10.1.0.3 TCP/1111",
            "app -> 10.1.0.3 UDP/3333",
            "app -> 10.1.0.4 TCP/1111",
            "app -> shipper TCP/9000",
        ],
    );
    egress(json!([{"container": "shipper"}]), json!([{"port": "http"}]))
        .expect(&["app -> shipper TCP/9000"], &["app -> shipper TCP/8080"]);
}

#[test]
fn a_name_to_everybody_is_each_ones_own() {
    egress(json!([]), json!([{"port": "http"}, {"port": 443}])).expect(
        &[
            "app -> shipper TCP/9000",
            "shipper -> app TCP/8080",
            "app -> 10.1.0.2 TCP/1111",
            "app -> 10.1.0.3 TCP/2222",
            "app -> 192.0.2.1 TCP/443",
            "app -> 10.1.0.4 TCP/443",
            "app -> shipper TCP/443",
            "app -> unknown TCP/443",
        ],
        &[
            "app -> shipper TCP/8080",
            "app -> 10.1.0.2 TCP/2222",
            "app -> 192.0.2.1 TCP/1111",
            "app -> 10.96.0.1 TCP/443",
        ],
    );
}

#[test]
fn a_name_where_nobody_can_declare_it_allows_nothing_and_is_told() {
    let block = json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}]);
    let named = egress(block.clone(), json!([{"port": "http"}, {"port": 443}]));
    named.expect(&["app -> 192.0.2.1 TCP/443"], &["app -> 192.0.2.1 TCP/8080"]);
    named.expect_note("names the port \"http\" where no pod is selected that could declare it");
    egress(block, json!([{"port": "http"}])).expect(&[], &["app -> 192.0.2.1 TCP/443"]);
}

#[test]
fn by_user_a_receiver_is_known_by_its_declared_port() {
    let open = pod().by_uid().policy(
        "p",
        json!({"containers": ["shipper"], "policyTypes": ["Egress"],
        "egress": [{"to": [{"container": "app"}]}]}),
    );
    open.expect(
        &["shipper -> app TCP/8080", "shipper -> app UDP/53", "shipper -> shipper TCP/7", "app -> shipper TCP/7"],
        &[
            "shipper -> app TCP/7",
            "shipper -> unknown TCP/8080",
            "shipper -> shipper UDP/7",
            "shipper -> shipper TCP/8080",
        ],
    );
    let closed =
        pod().by_uid().policy("p", json!({"containers": ["app"], "policyTypes": ["Ingress"], "ingress": [{}]}));
    closed.expect(
        &["192.0.2.1 -> app TCP/8080", "192.0.2.1 -> shipper TCP/9000"],
        &["192.0.2.1 -> app TCP/7", "192.0.2.1 -> shipper TCP/7", "192.0.2.1 -> shipper TCP/8080"],
    );
}
