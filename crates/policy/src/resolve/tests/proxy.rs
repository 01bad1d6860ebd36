//! The policy that a SidecarProxy implies.

use crate::fixture::Fixture;
use serde_json::json;

const FIRST: &str = "2026-01-01T00:00:00Z";
const SECOND: &str = "2026-01-02T00:00:00Z";

fn pod() -> Fixture {
    Fixture::new(&[("front-proxy", &["TCP/80"]), ("app", &["http=TCP/8080", "metrics=TCP/9090"]), ("shipper", &[])])
}

fn proxied() -> Fixture {
    pod().proxy("proxy", FIRST, &[(80, 8080)])
}

#[test]
fn only_the_listeners_are_open_on_the_network() {
    proxied().expect(
        &["192.0.2.1 -> front-proxy TCP/80", "10.0.0.1 -> front-proxy TCP/80"],
        &[
            "192.0.2.1 -> front-proxy TCP/81",
            "192.0.2.1 -> front-proxy UDP/80",
            "192.0.2.1 -> app TCP/8080",
            "192.0.2.1 -> app TCP/9090",
            "192.0.2.1 -> app TCP/80",
            "192.0.2.1 -> shipper TCP/80",
            "192.0.2.1 -> unknown TCP/80",
            "192.0.2.1 -> node TCP/80",
        ],
    );
}

#[test]
fn the_forwarded_port_takes_the_proxy_alone() {
    proxied().expect(
        &["front-proxy -> app TCP/8080", "app -> app TCP/8080"],
        &["shipper -> app TCP/8080", "unknown -> app TCP/8080", "node -> app TCP/8080", "app -> shipper TCP/8080"],
    );
}

#[test]
fn other_ports_on_loopback_are_untouched() {
    proxied().expect(
        &[
            "shipper -> app TCP/9090",
            "shipper -> app UDP/8080",
            "shipper -> front-proxy TCP/80",
            "node -> front-proxy TCP/80",
            "unknown -> app TCP/9090",
            "app -> shipper TCP/1",
        ],
        &[],
    );
}

#[test]
fn nothing_that_goes_out_is_isolated() {
    proxied()
        .expect(&["app -> 192.0.2.1 TCP/443", "front-proxy -> 192.0.2.1 TCP/443", "unknown -> 192.0.2.1 TCP/1"], &[]);
}

#[test]
fn the_port_goes_to_the_container_that_declares_it() {
    proxied().expect(&[], &["front-proxy -> shipper TCP/8080"]);
    // Where none does, anybody may be the application.
    let undeclared = pod().proxy("proxy", FIRST, &[(80, 7070)]);
    undeclared.expect(
        &["front-proxy -> app TCP/7070", "front-proxy -> shipper TCP/7070"],
        &["shipper -> app TCP/7070", "front-proxy -> unknown TCP/7070"],
    );
}

#[test]
fn what_the_proxy_forwards_passes_its_own_isolation() {
    let isolated = proxied().policy("p", json!({"containers": ["front-proxy"], "policyTypes": ["Egress"]}));
    isolated
        .expect(&["front-proxy -> app TCP/8080"], &["front-proxy -> app TCP/9090", "front-proxy -> 192.0.2.1 TCP/1"]);
}

#[test]
fn a_container_network_policy_adds_to_it() {
    let metrics = json!({"containers": ["app"], "policyTypes": ["Ingress"], "ingress": [
        {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": "metrics"}]},
    ]});
    proxied().policy("metrics", metrics).expect(
        &["192.0.2.1 -> app TCP/9090", "192.0.2.1 -> front-proxy TCP/80", "front-proxy -> app TCP/8080"],
        &["198.51.100.1 -> app TCP/9090", "192.0.2.1 -> app TCP/8080", "shipper -> app TCP/9090"],
    );
    // And isolates the proxy, where it selects it.
    let closed = json!({"containers": ["front-proxy"], "policyTypes": ["Ingress"], "ingress": [
        {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
    ]});
    proxied().policy("closed", closed).expect(
        &["192.0.2.1 -> front-proxy TCP/80"],
        &["198.51.100.1 -> front-proxy TCP/80", "shipper -> front-proxy TCP/80"],
    );
}

#[test]
fn the_oldest_wins_whatever_the_order() {
    for order in [true, false] {
        let mut two = pod().proxy("b-old", FIRST, &[(80, 8080)]).proxy("a-new", SECOND, &[(81, 9090)]);
        if order {
            two.world.proxies.reverse();
        }
        two.expect(
            &["192.0.2.1 -> front-proxy TCP/80", "shipper -> app TCP/9090"],
            &["192.0.2.1 -> front-proxy TCP/81", "shipper -> app TCP/8080"],
        );
        two.expect_note("has no effect here: SidecarProxy shop/b-old is older");
    }
    // Of the same age, the one whose name comes first.
    let same = pod().proxy("b", FIRST, &[(81, 9090)]).proxy("a", FIRST, &[(80, 8080)]);
    same.expect(&["192.0.2.1 -> front-proxy TCP/80"], &["192.0.2.1 -> front-proxy TCP/81"]);
}

#[test]
fn a_proxy_that_the_pod_does_not_have_closes_it() {
    let missing = Fixture::new(&[("app", &["TCP/8080"]), ("shipper", &[])]).proxy("proxy", FIRST, &[(80, 8080)]);
    missing.expect(&["shipper -> app TCP/9090"], &["192.0.2.1 -> app TCP/80", "shipper -> app TCP/8080"]);
    missing.expect_note("names \"front-proxy\" as the proxy, but this pod has no such container");
}

#[test]
fn it_is_about_the_pods_that_it_selects() {
    let mut other = proxied();
    other.world.proxies[0].spec.pod_selector = sidewall_api::LabelSelector::label("app", "db");
    assert!(!other.resolved().is_selected());
    let mut elsewhere = proxied();
    elsewhere.world.proxies[0].metadata.namespace = Some("ops".to_owned());
    assert!(!elsewhere.resolved().is_selected());
}

#[test]
fn by_user_too() {
    proxied().by_uid().expect(
        &["192.0.2.1 -> front-proxy TCP/80", "front-proxy -> app TCP/8080", "shipper -> app TCP/9090"],
        &["192.0.2.1 -> app TCP/8080", "192.0.2.1 -> app TCP/80", "shipper -> app TCP/8080", "node -> app TCP/8080"],
    );
}

fn capturing() -> Fixture {
    proxied().captures(&[8080])
}

#[test]
fn what_aims_at_a_captured_port_is_the_proxys_and_nobody_elses() {
    for pod in [capturing(), capturing().by_uid()] {
        pod.expect(
            // Over loopback nothing is captured: the application's port takes the proxy alone, as before.
            &["192.0.2.1 -> front-proxy TCP/8080", "192.0.2.1 -> front-proxy TCP/80", "front-proxy -> app TCP/8080"],
            &[
                "192.0.2.1 -> app TCP/8080",
                "192.0.2.1 -> unknown TCP/8080",
                "192.0.2.1 -> front-proxy UDP/8080",
                "192.0.2.1 -> front-proxy TCP/9090",
                "192.0.2.1 -> front-proxy TCP/15412",
                "192.0.2.1 -> front-proxy TCP/15410",
                "10.0.0.1 -> front-proxy TCP/15412",
                "shipper -> app TCP/8080",
                "shipper -> front-proxy TCP/8080",
            ],
        );
    }
}

/// Policies speak of the port that the client means: whoever isolates the proxy names the captured port too.
#[test]
fn a_policy_of_the_proxy_speaks_of_the_captured_port_itself() {
    let from = |port: u16| {
        json!({"containers": ["front-proxy"], "policyTypes": ["Ingress"], "ingress": [
            {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": port}]},
        ]})
    };
    for pod in [capturing(), capturing().by_uid()] {
        let Fixture { world, subject } = pod;
        let with = |port| Fixture { world: world.clone(), subject: subject.clone() }.policy("p", from(port));
        with(80).expect(&["192.0.2.1 -> front-proxy TCP/80"], &["192.0.2.1 -> front-proxy TCP/8080"]);
        with(8080).expect(
            &["192.0.2.1 -> front-proxy TCP/8080"],
            &["192.0.2.1 -> front-proxy TCP/80", "198.51.100.1 -> front-proxy TCP/8080"],
        );
    }
}

/// A rule that opens the application's port opens it no more where the proxy captures it: nobody goes past the proxy.
#[test]
fn no_rule_leads_past_the_proxy_to_a_captured_port() {
    let everything = json!({"policyTypes": ["Ingress"], "ingress": [{}]});
    for pod in [capturing(), capturing().by_uid()] {
        pod.policy("open", everything.clone()).expect(
            &["192.0.2.1 -> front-proxy TCP/8080", "192.0.2.1 -> app TCP/9090"],
            &["192.0.2.1 -> app TCP/8080", "192.0.2.1 -> shipper TCP/8080", "192.0.2.1 -> unknown TCP/8080"],
        );
    }
}

#[test]
fn nothing_is_captured_for_a_proxy_that_the_pod_does_not_have() {
    let missing = Fixture::new(&[("app", &["TCP/8080"]), ("shipper", &[])])
        .proxy("proxy", FIRST, &[(80, 8080)])
        .captures(&[8080])
        .probes("app", &[15411]);
    for pod in [missing, pod().proxy("proxy", FIRST, &[(80, 8080)]).captures(&[8080])] {
        let resolved = pod.resolved();
        assert_eq!(resolved.captured.is_some(), resolved.container("front-proxy").is_some());
        pod.expect(&[], &["192.0.2.1 -> app TCP/8080", "10.0.0.1 -> app TCP/8080"]);
    }
}

/// An application's probes that are led through the proxy are the proxy's, whoever has them in the manifest.
#[test]
fn the_node_reaches_the_probe_port_of_the_proxy_alone() {
    let led = || proxied().probes("app", &[15411]).probes("shipper", &[15411]);
    let everybody = json!({"policyTypes": ["Ingress", "Egress"]});
    for pod in
        [led(), led().by_uid(), led().policy("closed", everybody.clone()), led().by_uid().policy("closed", everybody)]
    {
        pod.expect(
            &["10.0.0.1 -> front-proxy TCP/15411"],
            &[
                "10.0.0.1 -> app TCP/15411",
                "10.0.0.1 -> shipper TCP/15411",
                "10.0.0.1 -> unknown TCP/15411",
                "10.0.0.2 -> front-proxy TCP/15411",
                "192.0.2.1 -> front-proxy TCP/15411",
                "10.0.0.1 -> app TCP/8080",
            ],
        );
        let ports = |name: &str| {
            let pod = pod.resolved();
            pod.containers[&pod.container(name).unwrap()].ports.iter().any(|port| port.port == 15411)
        };
        assert_eq!(["front-proxy", "app", "shipper"].map(ports), [true, false, false]);
    }
    // Another may reach it where a policy says so.
    let metrics = json!({"containers": ["front-proxy"], "policyTypes": ["Ingress"], "ingress": [
        {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 15411}]},
    ]});
    led()
        .policy("open", metrics)
        .expect(&["192.0.2.1 -> front-proxy TCP/15411"], &["10.0.0.2 -> front-proxy TCP/15411"]);
}

/// Where the SidecarProxy names the port, that one counts; and where nobody is probed on the usual one, there is none.
#[test]
fn the_probe_port_is_the_sidecar_proxys_word_and_not_the_pods() {
    let mut named = proxied().probes("app", &[9876, 15411]);
    named.world.proxies[0].spec.probes = Some(serde_json::from_value(json!({"port": 9876})).unwrap());
    named.expect(
        &["10.0.0.1 -> front-proxy TCP/9876", "10.0.0.1 -> app TCP/15411"],
        &["10.0.0.1 -> app TCP/9876", "10.0.0.1 -> front-proxy TCP/15411"],
    );
    proxied().expect(&[], &["10.0.0.1 -> front-proxy TCP/15411"]);
    // One that the application has itself is not the proxy's.
    let own = pod().proxy("proxy", FIRST, &[(80, 15411)]).probes("app", &[15411]);
    own.expect(&[], &["10.0.0.1 -> front-proxy TCP/15411", "10.0.0.1 -> app TCP/15411"]);
}

/// Beside one that can't be understood nothing is opened.
#[test]
fn a_proxy_that_cannot_be_understood_closes_the_probe_port_too() {
    let mut two = proxied().probes("app", &[15411]).proxy("broken", SECOND, &[(81, 9090)]);
    two.world.proxies[1].spec.listeners.clear();
    two.expect(&[], &["10.0.0.1 -> front-proxy TCP/15411"]);
}

#[test]
fn an_explanation_says_where_a_captured_flow_is_led() {
    let led = capturing().explained("192.0.2.1 -> front-proxy TCP/8080").to_string();
    assert!(led.starts_with("allowed: ") && led.contains("captures it: it arrives at port 15412"), "{led}");
    let past = capturing().explained("192.0.2.1 -> app TCP/8080");
    assert!(!past.allowable && past.to_string().contains("ask about front-proxy and this port"), "{past}");
    let json = serde_json::to_value(&past).unwrap();
    assert_eq!(json["sides"][0]["reason"]["kind"], "captured");
    assert_eq!(json["sides"][0]["reason"]["proxy"], "front-proxy");
}
