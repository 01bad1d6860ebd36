//! Containers, pods and address blocks as peers.

use crate::fixture::Fixture;
use serde_json::{Value, json};

fn pod() -> Fixture {
    Fixture::new(&[("app", &["http=TCP/8080"]), ("proxy", &["TCP/80"]), ("shipper", &[])])
        .namespace("shop", "team=shop")
        .namespace("ops", "team=ops,env=prod")
        .pod("shop/db", "app=db,tier=back", &["10.1.0.2", "fd00:1::2"], &[])
        .pod("shop/cache", "app=cache", &["10.1.0.3"], &[])
        .pod("ops/db", "app=db", &["10.1.0.4"], &[])
}

/// The app's egress to one peer.
fn to(peer: Value) -> Fixture {
    pod().policy("p", json!({"containers": ["app"], "policyTypes": ["Egress"], "egress": [{"to": [peer]}]}))
}

/// The app's ingress from one peer.
fn from(peer: Value) -> Fixture {
    pod().policy("p", json!({"containers": ["app"], "policyTypes": ["Ingress"], "ingress": [{"from": [peer]}]}))
}

const OTHERS: [&str; 3] = ["10.1.0.2", "10.1.0.3", "10.1.0.4"];

/// Which of the other pods a peer covers, in both directions.
#[track_caller]
fn covers(peer: Value, expected: &[&str]) {
    for address in OTHERS {
        let (out, back) = (format!("app -> {address} TCP/80"), format!("{address} -> app TCP/80"));
        if expected.contains(&address) {
            to(peer.clone()).expect(&[&out], &[]);
            from(peer.clone()).expect(&[&back], &[]);
        } else {
            to(peer.clone()).expect(&[], &[&out]);
            from(peer.clone()).expect(&[], &[&back]);
        }
    }
}

#[test]
fn a_container_is_a_peer_on_loopback() {
    to(json!({"container": "proxy"})).expect(
        &["app -> proxy TCP/80", "app -> proxy UDP/53", "proxy -> app TCP/8080"],
        &["app -> shipper TCP/80", "app -> unknown TCP/80", "app -> node TCP/80", "app -> 10.1.0.2 TCP/80"],
    );
    from(json!({"container": "proxy"})).expect(
        &["proxy -> app TCP/8080", "app -> app TCP/8080", "app -> proxy TCP/80"],
        &["shipper -> app TCP/8080", "unknown -> app TCP/8080", "node -> app TCP/8080", "10.1.0.2 -> app TCP/8080"],
    );
    let missing = to(json!({"container": "nobody"}));
    missing.expect(&[], &["app -> proxy TCP/80"]);
    missing.expect_note("allows the container \"nobody\", which this pod does not have");
}

#[test]
fn both_sides_of_a_pair_must_allow() {
    let one = json!({"containers": ["app"], "policyTypes": ["Egress"], "egress": [{"to": [{"container": "proxy"}]}]});
    let other =
        json!({"containers": ["proxy"], "policyTypes": ["Ingress"], "ingress": [{"from": [{"container": "shipper"}]}]});
    pod().policy("one", one).policy("other", other).expect(&["shipper -> proxy TCP/80"], &["app -> proxy TCP/80"]);
}

#[test]
fn pods_by_label_in_the_policys_own_namespace() {
    covers(json!({"podSelector": {}}), &["10.1.0.2", "10.1.0.3"]);
    covers(json!({"podSelector": {"matchLabels": {"app": "db"}}}), &["10.1.0.2"]);
    covers(json!({"podSelector": {"matchLabels": {"app": "web"}}}), &[]);
}

#[test]
fn pods_of_namespaces() {
    covers(json!({"namespaceSelector": {}}), &OTHERS);
    covers(json!({"namespaceSelector": {"matchLabels": {"team": "ops"}}}), &["10.1.0.4"]);
    covers(json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}), &["10.1.0.2", "10.1.0.4"]);
    let by_name = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ops"}}});
    covers(by_name, &["10.1.0.4"]);
}

#[test]
fn a_namespace_that_is_not_known_has_its_name() {
    let mut unknown = to(json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ops"}}}));
    unknown.world.namespaces.clear();
    unknown.expect(&["app -> 10.1.0.4 TCP/80"], &["app -> 10.1.0.2 TCP/80"]);
    // And no label of its own can take another's place.
    let mut liar = to(json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}));
    liar.world
        .namespaces
        .insert("ops".to_owned(), [("kubernetes.io/metadata.name".to_owned(), "shop".to_owned())].into());
    liar.expect(&["app -> 10.1.0.2 TCP/80"], &["app -> 10.1.0.4 TCP/80"]);
}

#[test]
fn all_four_operators() {
    let pods = |key: &str, operator: &str, values: Value| {
        let mut requirement = json!({"key": key, "operator": operator});
        if !values.is_null() {
            requirement["values"] = values;
        }
        json!({"podSelector": {"matchExpressions": [requirement]}})
    };
    covers(pods("app", "In", json!(["db", "x"])), &["10.1.0.2"]);
    covers(pods("app", "NotIn", json!(["db"])), &["10.1.0.3"]);
    covers(pods("tier", "NotIn", json!(["front"])), &["10.1.0.2", "10.1.0.3"]);
    covers(pods("tier", "Exists", Value::Null), &["10.1.0.2"]);
    covers(pods("tier", "DoesNotExist", Value::Null), &["10.1.0.3"]);
}

#[test]
fn absent_and_empty_lists_of_peers_mean_everybody() {
    for rule in [json!({}), json!({"to": []}), json!({"ports": []})] {
        let pod = pod().policy("p", json!({"containers": ["app"], "policyTypes": ["Egress"], "egress": [rule]}));
        pod.expect(
            &[
                "app -> proxy TCP/80",
                "app -> unknown SCTP/1",
                "app -> 192.0.2.1 UDP/9",
                "app -> fd00:1::2 TCP/1",
                "app -> 10.96.7.7 TCP/1",
            ],
            &[],
        );
    }
    for rule in [json!({}), json!({"from": []})] {
        let pod = pod().policy("p", json!({"containers": ["app"], "policyTypes": ["Ingress"], "ingress": [rule]}));
        pod.expect(
            &["proxy -> app TCP/80", "unknown -> app UDP/1", "node -> app TCP/1", "192.0.2.1 -> app UDP/9"],
            &[],
        );
    }
    // No rule at all is nobody.
    pod()
        .policy("p", json!({"containers": ["app"], "policyTypes": ["Egress"], "egress": []}))
        .expect(&[], &["app -> proxy TCP/80", "app -> 192.0.2.1 TCP/80"]);
}

#[test]
fn a_block_less_its_exceptions() {
    to(json!({"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.64/26", "192.0.2.1/32"]}})).expect(
        &[
            "app -> 192.0.2.0 TCP/80",
            "app -> 192.0.2.2 TCP/80",
            "app -> 192.0.2.128 TCP/80",
            "app -> 192.0.2.255 TCP/80",
        ],
        &[
            "app -> 192.0.2.1 TCP/80",
            "app -> 192.0.2.64 TCP/80",
            "app -> 192.0.2.127 TCP/80",
            "app -> 192.0.3.0 TCP/80",
        ],
    );
    from(json!({"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}}))
        .expect(&["2001:db8::1 -> app TCP/80"], &["2001:db8:1::1 -> app TCP/80", "192.0.2.1 -> app TCP/80"]);
}

#[test]
fn an_exception_takes_away_from_its_own_block_only() {
    let wide = json!({"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32"]}});
    let narrow = json!({"ipBlock": {"cidr": "192.0.2.0/30"}});
    for peers in [json!([wide, narrow]), json!([narrow, wide])] {
        let one = json!({"containers": ["app"], "policyTypes": ["Egress"], "egress": [{"to": peers}]});
        pod().policy("p", one).expect(&["app -> 192.0.2.1 TCP/80"], &[]);
        let rules: Vec<Value> = peers.as_array().unwrap().iter().map(|peer| json!({"to": [peer]})).collect();
        let two = json!({"containers": ["app"], "policyTypes": ["Egress"], "egress": rules});
        pod().policy("p", two).expect(&["app -> 192.0.2.1 TCP/80"], &[]);
    }
}

#[test]
fn no_block_covers_loopback_groups_or_services() {
    let everything = |cidr: &str| json!({"ipBlock": {"cidr": cidr}});
    to(everything("0.0.0.0/0")).expect(
        &["app -> 192.0.2.1 TCP/80", "app -> 10.1.0.2 TCP/80", "app -> 10.0.0.1 TCP/80"],
        &[
            "app -> 127.0.0.1 TCP/80",
            "app -> 224.0.0.1 UDP/80",
            "app -> 255.255.255.255 UDP/67",
            "app -> 10.96.0.10 UDP/53",
            "app -> proxy TCP/80",
            "app -> 2001:db8::1 TCP/80",
        ],
    );
    to(everything("::/0")).expect(
        &["app -> 2001:db8::1 TCP/80", "app -> fe80::1 TCP/80"],
        &["app -> ::1 TCP/80", "app -> ff02::1 UDP/80", "app -> fd00:96::10 UDP/53", "app -> ::ffff:192.0.2.1 TCP/80"],
    );
    // A Service's address out of the known ranges is one all the same.
    to(everything("192.0.2.0/24"))
        .service("shop/db", &["192.0.2.7"], "TCP/80", &["10.1.0.2:80"])
        .expect(&["app -> 192.0.2.8 TCP/80"], &["app -> 192.0.2.7 TCP/80"]);
}

#[test]
fn pods_without_addresses_of_their_own_are_nobody() {
    let peer = json!({"podSelector": {"matchLabels": {"app": "job"}}});
    let job = |change: fn(&mut crate::world::Pod)| {
        to(peer.clone()).pod("shop/job", "app=job", &["10.1.0.7"], &[]).with(change)
    };
    let flow = &["app -> 10.1.0.7 TCP/80"];
    job(|_| {}).expect(flow, &[]);
    job(|pod| pod.ended = true).expect(&[], flow);
    job(|pod| pod.addresses.clear()).expect(&[], flow);
    let host = job(|pod| pod.host_network = true);
    host.expect(&[], flow);
    host.expect_note("selects pods that share their node's network");
}

#[test]
fn a_pod_is_no_pods_peer_of_its_own() {
    let own = to(json!({"podSelector": {}})).pod("shop/web", "app=web", &["10.1.0.9"], &[]);
    own.expect(&["app -> 10.1.0.2 TCP/80"], &["app -> 10.1.0.9 TCP/80", "app -> proxy TCP/80"]);
}

#[test]
fn dual_stack() {
    to(json!({"podSelector": {"matchLabels": {"app": "db"}}}))
        .expect(&["app -> 10.1.0.2 TCP/80", "app -> fd00:1::2 TCP/80"], &["app -> fd00:1::3 TCP/80"]);
}
