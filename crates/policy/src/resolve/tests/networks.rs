//! MultiNetworkPolicies on the pod's further networks.

use crate::fixture::Fixture;
use crate::model::PolicyKind;
use crate::world::Unreadable;
use serde_json::{Value, json};

/// `shop/web` is attached to `shop/link` by `net1` and to `ops/wide` by `net2`.
fn pod() -> Fixture {
    Fixture::new(&[("app", &["http=TCP/8080"]), ("log", &[])])
        .namespace("ops", "team=b")
        .attached("link", "net1", &["10.9.0.9"])
        .attached("ops/wide", "net2", &["10.8.0.9"])
        .pod("shop/db", "app=db", &["10.1.0.2"], &["pg=TCP/5432"])
        .on("link", "net1", &["10.9.0.2", "fd09::2"])
        .on("ops/wide", "net2", &["10.8.0.2"])
        .pod("ops/probe", "app=db", &["10.1.0.4"], &["pg=TCP/5433"])
        .on("shop/link", "net1", &["10.9.0.4"])
        .pod("shop/alone", "app=db", &["10.1.0.5"], &[])
}

fn policy(networks: &str, spec: Value) -> Fixture {
    pod().multi_network_policy("m", networks, spec)
}

fn db() -> Value {
    json!({"podSelector": {"matchLabels": {"app": "db"}}})
}

const CLOSED: &str = "app -> 10.9.0.7%net1 TCP/1";

#[test]
fn it_holds_on_the_networks_that_it_names_and_on_no_other() {
    let closed = json!({"policyTypes": ["Ingress", "Egress"]});
    policy("link", closed.clone()).expect(
        &["app -> 10.8.0.2%net2 TCP/1", "10.8.0.2%net2 -> app TCP/1", "app -> 10.1.0.2 TCP/1", "app -> log TCP/1"],
        &[CLOSED, "10.9.0.2%net1 -> app TCP/1", "log -> 10.9.0.2%net1 UDP/1"],
    );
    policy("ops/wide", closed.clone()).expect(&[CLOSED], &["app -> 10.8.0.2%net2 TCP/1"]);
    policy("link, ops/wide", closed.clone()).expect(&[], &[CLOSED, "app -> 10.8.0.2%net2 TCP/1"]);
    // Another namespace's network of the same name is another network.
    policy("wide", closed.clone()).expect(&[CLOSED, "app -> 10.8.0.2%net2 TCP/1"], &[]);
    // Even a node is a neighbour like others there.
    policy("link", closed).expect(&[], &["10.0.0.1%net1 -> app TCP/1"]);
}

#[test]
fn only_the_directions_that_it_isolates() {
    policy("link", json!({})).expect(&[CLOSED], &["10.9.0.2%net1 -> app TCP/1"]);
    policy("link", json!({"policyTypes": ["Egress"]})).expect(&["10.9.0.2%net1 -> app TCP/1"], &[CLOSED]);
}

#[test]
fn peers_have_their_addresses_on_that_network() {
    let rules = |peer: Value| json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [peer]}], "egress": [{"to": [peer]}]});
    policy("link", rules(db())).expect(
        &["app -> 10.9.0.2%net1 TCP/1", "fd09::2%net1 -> app UDP/1"],
        // Pods of other namespaces, addresses on other networks, and nobody's.
        &["app -> 10.9.0.4%net1 TCP/1", "app -> 10.1.0.2%net1 TCP/1", "app -> 10.8.0.2%net1 TCP/1", CLOSED],
    );
    let all = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}});
    policy("link", rules(all)).expect(&["app -> 10.9.0.2%net1 TCP/1", "app -> 10.9.0.4%net1 TCP/1"], &[CLOSED]);
    policy("link", rules(json!({"ipBlock": {"cidr": "10.9.0.0/29", "except": ["10.9.0.4/32"]}})))
        .expect(&["app -> 10.9.0.2%net1 TCP/1", CLOSED], &["app -> 10.9.0.4%net1 TCP/1", "app -> 10.9.0.9%net1 TCP/1"]);
    // There are no Services there.
    policy("link", rules(json!({"ipBlock": {"cidr": "10.96.0.0/16"}}))).expect(&["app -> 10.96.0.5%net1 TCP/1"], &[]);
    // One policy for several networks speaks of the same pods on all of them.
    policy("link,ops/wide", rules(db()))
        .expect(&["app -> 10.9.0.2%net1 TCP/1", "app -> 10.8.0.2%net2 TCP/1"], &["app -> 10.8.0.4%net2 TCP/1"]);
}

#[test]
fn ports_as_on_the_pod_network() {
    let to = |ports: Value| {
        policy(
            "link",
            json!({"policyTypes": ["Egress"], "egress": [{"to": [{"namespaceSelector": {}}], "ports": ports}]}),
        )
    };
    to(json!([{"port": "pg"}])).expect(
        &["app -> 10.9.0.2%net1 TCP/5432", "app -> 10.9.0.4%net1 TCP/5433"],
        &["app -> 10.9.0.4%net1 TCP/5432", "app -> 10.9.0.2%net1 UDP/5432"],
    );
    to(json!([{"port": 80, "endPort": 90}])).expect(&["app -> 10.9.0.2%net1 TCP/85"], &["app -> 10.9.0.2%net1 TCP/91"]);
    policy("link", json!({"ingress": [{"ports": [{"port": "http"}]}]}))
        .expect(&["10.9.0.7%net1 -> log TCP/8080"], &["10.9.0.7%net1 -> app TCP/8081"]);
    policy("link", json!({"policyTypes": ["Egress"], "egress": [{"ports": [{"port": "pg"}, {"port": 443}]}]})).expect(
        &["app -> 10.9.0.7%net1 TCP/443", "app -> 10.96.0.1%net1 TCP/443", "app -> 10.9.0.2%net1 TCP/5432"],
        &["app -> 10.9.0.2%net1 TCP/5433", "app -> 10.1.0.2%net1 TCP/5432"],
    );
}

#[test]
fn a_claim_to_somebody_elses_address_is_not_believed() {
    let to_db = json!({"policyTypes": ["Egress"], "egress": [{"to": [db()]}]});
    let claiming = |address: &str| {
        policy("link", to_db.clone()).pod("shop/liar", "app=db", &[], &[]).on("link", "net1", &[address])
    };
    claiming("10.9.0.66").expect(&["app -> 10.9.0.66%net1 TCP/1", "app -> 10.9.0.2%net1 TCP/1"], &[]);
    for (address, whose) in [
        // A pod's on the pod network, the subject's own, this node's, another node's, a Service's, nobody's.
        ("10.1.0.5", "that of the pod shop/alone"),
        ("10.1.0.9", "that of the pod shop/web"),
        ("10.0.0.1", "node or a Service"),
        ("10.0.0.2", "node or a Service"),
        ("10.96.0.5", "node or a Service"),
        ("127.0.0.1", "no pod's at all"),
        ("224.0.0.1", "no pod's at all"),
        // Another's on that network: then neither is believed.
        ("10.9.0.4", "the pod ops/probe claims it too"),
        ("10.9.0.9", "the pod shop/web claims it too"),
    ] {
        let claimed = claiming(address);
        claimed.expect(&["app -> 10.9.0.2%net1 TCP/1"], &[&format!("app -> {address}%net1 TCP/1")]);
        claimed.expect_note(whose);
    }
    claiming("10.9.0.2").expect(&[], &["app -> 10.9.0.2%net1 TCP/1"]);
    // One that has ended has no claim any more.
    claiming("10.9.0.2").with(|pod| pod.ended = true).expect(&["app -> 10.9.0.2%net1 TCP/1"], &[]);
    // The address of another network's pod is as good as any.
    claiming("10.8.0.2").expect(&["app -> 10.8.0.2%net1 TCP/1"], &[]);
}

#[test]
fn a_device_that_nobody_knows_is_isolated_with_the_others() {
    let open = json!({"ingress": [{}]});
    policy("link", open.clone())
        .expect(&["10.9.0.2%net1 -> app TCP/1", "app -> 10.9.0.2%ghost TCP/1"], &["10.9.0.2%ghost -> app TCP/1"]);
    // Also where the pod is attached to no network that the policy names.
    policy("other", json!({"policyTypes": ["Ingress", "Egress"]}))
        .expect(&[CLOSED], &["10.9.0.2%ghost -> app TCP/1", "app -> 10.9.0.2%ghost TCP/1"]);
    let mut nobody = pod();
    nobody.expect(&["10.9.0.2%ghost -> app TCP/1"], &[]);
    nobody = nobody.network_policy("n", json!({}));
    nobody.expect(&["10.9.0.2%ghost -> app TCP/1", "10.9.0.2%net1 -> app TCP/1"], &["10.1.0.2 -> app TCP/1"]);
}

#[test]
fn what_a_pod_says_of_its_own_devices_is_believed_only_where_it_can_be_true() {
    let open = || policy("link", json!({"ingress": [{}]}));
    for (network, device, note) in [
        ("ops/free", "net1", "more than once"),
        ("ops/free", "eth0", "which it can't be"),
        ("ops/free", "lo", "which it can't be"),
    ] {
        let lied = open().attached(network, device, &[]);
        let doubtful = format!("10.9.0.2%{device} -> app TCP/1");
        lied.expect(&["10.8.0.2%net2 -> app TCP/1", "10.1.0.2 -> app TCP/1"], &[&doubtful]);
        lied.expect_note(note);
    }
    let mut faulty = open();
    faulty.subject.networks = sidewall_api::Attachments { known: Vec::new(), faults: vec!["is no list".to_owned()] };
    faulty.expect(&["app -> 10.9.0.2%net1 TCP/1"], &["10.9.0.2%net1 -> app TCP/1", "10.8.0.2%net2 -> app TCP/1"]);
    faulty.expect_note("the pod's list of its networks is no list");
    let mut many = pod();
    for number in 0..40 {
        many = many.attached("ops/free", &format!("a{number:02}"), &[]);
    }
    assert_eq!(many.resolved().attached.len(), 32);
    many.expect_note("more than 32 devices");
}

#[test]
fn a_peer_whose_networks_cant_be_made_out_is_told_of() {
    let fixture = policy("link", json!({"ingress": [{"from": [db()]}]}))
        .with(|pod| pod.networks.faults.push("is no list of networks".to_owned()));
    fixture.expect_note("selects the pod shop/alone, whose list of networks is no list of networks");
}

#[test]
fn what_is_not_understood_isolates_every_further_network() {
    let nameless = {
        let mut fixture = policy("link", json!({"ingress": [{}], "egress": [{}]}));
        fixture.world.multi_network_policies[0].metadata.annotations = None;
        fixture
    };
    let invalid = policy("link", json!({"ingress": [{"ports": [{"port": 9, "endPort": 8}]}]}));
    let mut unreadable = pod();
    unreadable.world.unreadable.push(Unreadable {
        kind: PolicyKind::MultiNetworkPolicy,
        namespace: Some("shop".to_owned()),
        name: None,
        pod_selector: None,
        reason: "broken".to_owned(),
    });
    for closed in [nameless, invalid, unreadable] {
        closed.expect(
            &["app -> 10.1.0.2 TCP/1", "10.1.0.2 -> app TCP/1", "app -> log TCP/1"],
            &[CLOSED, "app -> 10.8.0.2%net2 TCP/1", "10.8.0.2%net2 -> app TCP/1", "10.7.0.1%ghost -> app TCP/1"],
        );
        closed.expect_note("can't be understood");
    }
}

#[test]
fn containers_are_judged_there_too() {
    let open = || policy("link", json!({"policyTypes": ["Egress"], "egress": [{}]}));
    let on = |peer: Value| json!({"containers": ["app"], "policyTypes": ["Egress"], "egress": [{"to": [peer]}]});
    // A pod's addresses in a container's policy are those on the pod network; a block is a block everywhere.
    open().policy("c", on(db())).expect(
        &["app -> 10.1.0.2 TCP/1", "log -> 10.9.0.2%net1 TCP/1"],
        &["app -> 10.9.0.2%net1 TCP/1", "app -> 10.1.0.2%net1 TCP/1"],
    );
    open().policy("c", on(json!({"ipBlock": {"cidr": "10.9.0.0/24"}}))).expect(&["app -> 10.9.0.2%net1 TCP/1"], &[]);
}

#[test]
fn the_numbers_of_devices_do_not_depend_on_their_order() {
    let there = pod().resolved();
    let mut other = pod();
    other.subject.networks.known.reverse();
    assert_eq!(there, other.resolved());
    let devices: Vec<&str> = there.attached.values().map(|attached| &*attached.device).collect();
    assert_eq!(devices, ["net1", "net2"]);
}
