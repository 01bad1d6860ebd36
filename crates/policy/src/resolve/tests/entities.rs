//! Those who have no labels, and the kubelet.

use crate::fixture::Fixture;
use serde_json::json;
use sidewall_flow::Protocol;

fn pod() -> Fixture {
    Fixture::new(&[("app", &["http=TCP/8080"]), ("sidecar", &[])])
}

fn to(fixture: Fixture, entity: &str) -> Fixture {
    fixture.policy(
        "p",
        json!({"containers": ["app"], "policyTypes": ["Egress"], "egress": [{"to": [{"entity": entity}]}]}),
    )
}

fn from(fixture: Fixture, entity: &str) -> Fixture {
    fixture.policy(
        "p",
        json!({"containers": ["app"], "policyTypes": ["Ingress"], "ingress": [{"from": [{"entity": entity}]}]}),
    )
}

fn dns(fixture: Fixture) -> Fixture {
    fixture.service("kube-system/kube-dns", &["10.96.0.10", "fd00:96::a"], "UDP/53", &["10.1.0.2:5353", "10.1.0.3"])
}

#[test]
fn cluster_dns_is_its_service_and_what_stands_behind_it() {
    to(dns(pod()), "ClusterDNS").expect(
        &["app -> 10.96.0.10 UDP/53", "app -> fd00:96::a UDP/53", "app -> 10.1.0.2 UDP/5353"],
        &["app -> 10.96.0.10 TCP/53", "app -> 10.1.0.2 UDP/53", "app -> 10.1.0.3 UDP/53", "app -> 192.0.2.1 UDP/53"],
    );
}

#[test]
fn cluster_dns_is_what_is_configured_and_nothing_else() {
    let mut configured = to(dns(pod()), "ClusterDNS");
    configured.world.network.dns = [("169.254.20.10".parse().unwrap(), Protocol::Udp, 53)].into();
    configured.expect(&["app -> 169.254.20.10 UDP/53"], &["app -> 10.96.0.10 UDP/53", "app -> 169.254.20.10 TCP/53"]);
}

#[test]
fn entities_that_are_not_known_allow_nothing_and_are_told() {
    let unknown = to(pod(), "ClusterDNS");
    unknown.expect(&[], &["app -> 10.96.0.10 UDP/53"]);
    unknown.expect_note("allows ClusterDNS, but the Service kube-system/kube-dns is not known");
    for unknown in [to(pod(), "KubeAPIServer"), from(pod(), "KubeAPIServer")] {
        unknown.expect_note("allows KubeAPIServer, but the Service default/kubernetes is not known");
    }
}

#[test]
fn the_api_server_is_its_service_and_endpoints() {
    let api = || pod().service("default/kubernetes", &["10.96.0.1"], "TCP/443", &["10.0.0.2:6443"]);
    to(api(), "KubeAPIServer").expect(
        &["app -> 10.96.0.1 TCP/443", "app -> 10.0.0.2 TCP/6443"],
        &["app -> 10.96.0.1 TCP/6443", "app -> 10.0.0.2 TCP/443", "app -> 10.0.0.1 TCP/6443"],
    );
    // A webhook call comes from the endpoints' addresses and any port.
    from(api(), "KubeAPIServer")
        .expect(&["10.0.0.2 -> app TCP/8443"], &["10.96.0.1 -> app TCP/8443", "10.0.0.1 -> app TCP/8443"]);
}

#[test]
fn the_ports_of_an_entitys_rule_narrow_it() {
    let rule = json!({"to": [{"entity": "ClusterDNS"}], "ports": [{"protocol": "UDP", "port": 53}]});
    dns(pod())
        .policy("p", json!({"containers": ["app"], "policyTypes": ["Egress"], "egress": [rule]}))
        .expect(&["app -> 10.96.0.10 UDP/53"], &["app -> 10.1.0.2 UDP/5353"]);
}

#[test]
fn node_is_this_nodes_address() {
    to(pod(), "Node").expect(&["app -> 10.0.0.1 TCP/10250"], &["app -> 10.0.0.2 TCP/10250", "app -> node TCP/1"]);
    from(pod(), "Node").expect(&["10.0.0.1 -> app TCP/8080"], &["10.0.0.2 -> app TCP/8080", "node -> app TCP/8080"]);
}

#[test]
fn port_forward_is_the_nodes_own_process_inside_the_pod() {
    from(pod(), "PortForward").expect(
        &["node -> app TCP/8080"],
        &["10.0.0.1 -> app TCP/8080", "unknown -> app TCP/8080", "sidecar -> app TCP/8080"],
    );
    let declared = json!({"from": [{"entity": "PortForward"}], "ports": [{"port": "http"}]});
    pod()
        .policy("p", json!({"containers": ["app"], "policyTypes": ["Ingress"], "ingress": [declared]}))
        .expect(&["node -> app TCP/8080"], &["node -> app TCP/80"]);
}

#[test]
fn world_is_what_is_not_the_cluster() {
    let fixture =
        || pod().pod("shop/far", "app=far", &["203.0.113.5"], &[]).service("shop/s", &["203.0.113.6"], "TCP/80", &[]);
    to(fixture(), "World").expect(
        &["app -> 192.0.2.1 TCP/80", "app -> 2001:db8::1 UDP/80", "app -> 203.0.113.7 TCP/80"],
        &[
            "app -> 10.1.0.77 TCP/80",
            "app -> 203.0.113.5 TCP/80",
            "app -> 203.0.113.6 TCP/80",
            "app -> 10.96.0.3 TCP/80",
            "app -> 10.0.0.1 TCP/80",
            "app -> 10.0.0.2 TCP/80",
            "app -> 169.254.169.254 TCP/80",
            "app -> fe80::1 TCP/80",
            "app -> 224.0.0.1 UDP/80",
            "app -> fd00:1::9 TCP/80",
            "app -> sidecar TCP/80",
        ],
    );
    from(fixture(), "World")
        .expect(&["192.0.2.1 -> app TCP/80"], &["10.1.0.77 -> app TCP/80", "10.0.0.1 -> app TCP/80"]);
}

#[test]
fn probes_reach_their_ports_from_this_node() {
    let isolated = pod().probes("app", &[8080]).policy("p", json!({}));
    isolated.expect(
        &["10.0.0.1 -> app TCP/8080"],
        &[
            "10.0.0.1 -> app TCP/80",
            "10.0.0.1 -> sidecar TCP/8080",
            "10.0.0.2 -> app TCP/8080",
            "10.0.0.1 -> app UDP/8080",
        ],
    );
    let mut nowhere = pod().probes("app", &[8080]).policy("p", json!({}));
    nowhere.world.network.this_node.clear();
    nowhere.expect(&[], &["10.0.0.1 -> app TCP/8080"]);
}

#[test]
fn no_probe_passes_a_proxy() {
    let both = |proxied: &[(u16, u16)]| {
        Fixture::new(&[("front-proxy", &[]), ("app", &[])]).probes("app", &[8080, 9090]).proxy(
            "proxy",
            "2026-01-01T00:00:00Z",
            proxied,
        )
    };
    both(&[(80, 8080)]).expect(&["10.0.0.1 -> app TCP/9090"], &["10.0.0.1 -> app TCP/8080"]);
    both(&[(80, 9090)]).expect(&["10.0.0.1 -> app TCP/8080"], &["10.0.0.1 -> app TCP/9090"]);
}
