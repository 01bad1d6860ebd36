//! Many policies: a new flow is looked up as often as with few, and comes out as the evaluator says.

use super::netfilter::Connection;
use crate::fixture::Fixture;
use crate::ruleset::{Statement, Table, Verdict};
use crate::{End, Flow, Generation, compile, evaluate};
use serde_json::{Value, json};
use sidewall_flow::{Action, Party, Protocol};
use std::net::IpAddr;

/// So many policies, each of a block and a pod of its own, at ports that overlap with its neighbours' where `ranges`, and
/// open ports for everybody.
fn many(count: u16, ranges: bool) -> Fixture {
    let mut fixture = Fixture::new(&[("app", &["TCP/8080"]), ("other", &[])]);
    for i in 0..count {
        let address = |net: u16| format!("10.{net}.{}.{}", i / 250, i % 250 + 1);
        let label = format!("app=peer-{i}");
        fixture = fixture.pod(&format!("shop/peer-{i}"), &label, &[&address(201)], &[]);
        let first = if ranges { 1000 + 50 * i } else { 5000 };
        let ports = json!([
            {"port": first, "endPort": first + 99},
            {"protocol": "UDP", "port": first},
        ]);
        let block = json!({"ipBlock": {"cidr": format!("{}/32", address(200))}});
        let pod = json!({"podSelector": {"matchLabels": {"app": format!("peer-{i}")}}});
        let peers = json!([block, pod]);
        let open: Value = json!({"ports": [{"port": 100 + i % 500}]});
        fixture = fixture.policy(
            &format!("policy-{i}"),
            json!({
                "containers": ["app"], "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": peers, "ports": ports}, open],
                "egress": [{"to": peers, "ports": ports}],
            }),
        );
    }
    fixture
}

fn agree(fixture: &Fixture, count: u16) {
    let pod = fixture.resolved();
    let compiled = compile(&pod, Generation::FIRST);
    let app = Party::Container(pod.container("app").unwrap());
    let (mut passed, mut failed) = (0, 0);
    for i in (0..count).step_by(usize::from(count / 12 + 1)) {
        for net in [200, 201, 202] {
            let remote = IpAddr::from([10, net, (i / 250) as u8, (i % 250 + 1) as u8]);
            let around = [999, 1000, 5000, 5099, 5100].into_iter();
            let own = [0u16, 49, 50, 99, 100].into_iter().flat_map(|by| [1000 + 50 * i + by, 100 + i % 500 + by / 50]);
            for port in around.chain(own) {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    for (sender, receiver) in
                        [(End::Local(app), End::Remote(remote)), (End::Remote(remote), End::Local(app))]
                    {
                        let flow = Flow { sender, receiver, protocol, port };
                        let mut connection = Connection::new(&pod, flow, "10.1.0.9".parse().unwrap());
                        let opens = connection.opens(&compiled.ruleset);
                        let verdict = evaluate(&pod, &flow);
                        assert_eq!(opens, verdict.action == Action::Allow, "{flow:?} {verdict:#?}");
                        *if opens { &mut passed } else { &mut failed } += 1;
                    }
                }
            }
        }
    }
    assert!(passed > 20 && failed > 50, "{passed} passed, {failed} failed");
}

/// The rules that a packet can meet at most, from a chain on, but for what ends elsewhere.
fn longest(table: &Table, name: &str) -> usize {
    let chain = table.chains.iter().find(|chain| chain.name == name).unwrap();
    let below = chain.rules.iter().flat_map(|rule| &rule.statements).filter_map(|statement| match statement {
        Statement::Dispatch { map, .. } => table.sets.iter().find(|set| set.name == *map),
        _ => None,
    });
    let below = below.flat_map(|set| &set.elements).filter_map(|element| match &element.verdict {
        Some(Verdict::Goto(next)) => Some(longest(table, next)),
        _ => None,
    });
    chain.rules.len() + below.max().unwrap_or(0)
}

#[test]
fn few_and_many_policies_agree() {
    for (count, ranges) in [(3, true), (30, true), (30, false)] {
        agree(&many(count, ranges), count);
        agree(&many(count, ranges).by_uid(), count);
    }
}

#[test]
fn the_way_does_not_grow_with_policies() {
    for ranges in [false, true] {
        let ways = [30, 600].map(|count| {
            let ruleset = compile(&many(count, ranges).resolved(), Generation::FIRST).ruleset;
            ["network-from-c1", "network-to-c1"].map(|name| longest(&ruleset.tables[0], name))
        });
        assert_eq!(ways[0], ways[1]);
        assert!(ways[0].iter().all(|way| *way <= 20), "{ways:?}");
    }
}
