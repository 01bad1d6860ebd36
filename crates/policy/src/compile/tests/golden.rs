//! The rules of the example pod, word for word: a change of the compiler shows here. Accept one with
//! `INSTA_UPDATE=always cargo test -p sidewall-policy golden`, after reading it.

use crate::fixture::Fixture;
use crate::{Generation, compile, guard};
use serde_json::json;

/// An application behind a proxy, and a log shipper that may read its metrics and reach one collector.
fn hello() -> Fixture {
    Fixture::new(&[
        ("front-proxy", &["http=TCP/80"]),
        ("app", &["http=TCP/8080", "metrics=TCP/9090"]),
        ("log-shipper", &[]),
    ])
    .probes("front-proxy", &[80])
    .proxy("hello", "2026-01-01T00:00:00Z", &[(80, 8080)])
    .policy(
        "log-shipper",
        json!({"containers": ["log-shipper"], "policyTypes": ["Egress"], "egress": [
            {"to": [{"container": "app"}], "ports": [{"port": "metrics"}]},
            {"to": [{"ipBlock": {"cidr": "192.0.2.10/32"}}], "ports": [{"port": 4317}]},
        ]}),
    )
}

fn rules(pod: &crate::ResolvedPod) -> String {
    compile(pod, Generation::FIRST).ruleset.to_string()
}

#[test]
fn hello_by_cgroup() {
    insta::assert_snapshot!(rules(&hello().resolved()));
}

#[test]
fn hello_by_uid() {
    insta::assert_snapshot!(rules(&hello().by_uid().resolved()));
}

/// The same pod, whose proxy also takes what aims at the application's port.
fn captured() -> Fixture {
    hello().captures(&[8080]).probes("front-proxy", &[80, 15411])
}

#[test]
fn captured_by_cgroup() {
    insta::assert_snapshot!(rules(&captured().resolved()));
}

#[test]
fn captured_by_uid() {
    insta::assert_snapshot!(rules(&captured().by_uid().resolved()));
}

#[test]
fn the_guard() {
    insta::assert_snapshot!(rules(&guard(&Fixture::new(&[("app", &["TCP/8080"])]).subject)));
}

#[test]
fn audit() {
    let audit = json!({"mode": "Audit", "containers": ["app"], "policyTypes": ["Egress"], "egress": [
        {"to": [{"entity": "Node"}]},
    ]});
    insta::assert_snapshot!(rules(&Fixture::new(&[("app", &["TCP/8080"])]).policy("dry-run", audit).resolved()));
}
