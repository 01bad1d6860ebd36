//! How much a usual pod's rules are: the kernel makes, checks and replaces every one.

use crate::fixture::Fixture;
use crate::ruleset::{Statement, Table, Verdict};
use crate::{Generation, ResolvedPod, compile};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A pod as there are many: an application behind a proxy, with a log shipper and a metrics exporter; six policies.
pub fn usual() -> Fixture {
    let ports = |ports: &[u16]| -> Vec<Value> { ports.iter().map(|port| json!({"port": port})).collect() };
    let pods = |app: &str| json!({"podSelector": {"matchLabels": {"app": app}}});
    let container = |name: &str| json!({"container": name});
    let block = |cidr: &str| json!({"ipBlock": {"cidr": cidr}});
    let policy = |containers: Option<&[&str]>, ingress: Value, egress: Value| {
        let mut spec = json!({"policyTypes": ["Ingress", "Egress"], "ingress": ingress, "egress": egress});
        if let Some(containers) = containers {
            spec["containers"] = json!(containers);
        }
        spec
    };
    let mut fixture = Fixture::new(&[
        ("front-proxy", &["TCP/443", "TCP/8443", "TCP/9091"]),
        ("app", &["TCP/8080", "TCP/9090"]),
        ("log-shipper", &[]),
        ("metrics", &["TCP/9100"]),
    ]);
    for (app, first, count) in [("web", 1, 6), ("db", 11, 3), ("collector", 21, 2), ("prometheus", 31, 2)] {
        for index in 0..count {
            let last = first + index;
            let addresses = [format!("10.1.1.{last}"), format!("fd00:1::1:{last:x}")];
            let addresses = [addresses[0].as_str(), addresses[1].as_str()];
            fixture = fixture.pod(&format!("shop/{app}-{index}"), &format!("app={app}"), &addresses, &["TCP/5432"]);
        }
    }
    fixture
        .service("kube-system/kube-dns", &["10.96.0.10"], "UDP/53", &["10.1.2.1:53"])
        .policy("default-deny", policy(None, json!([]), json!([{"to": [{"entity": "ClusterDNS"}]}])))
        .policy(
            "front",
            policy(
                Some(&["front-proxy"]),
                json!([
                    {"from": [pods("web"), block("192.0.2.0/24")], "ports": ports(&[443])},
                    {"from": [{"entity": "Node"}], "ports": ports(&[8443])},
                ]),
                json!([{"to": [container("app")], "ports": ports(&[8080])}]),
            ),
        )
        .policy(
            "app",
            policy(
                Some(&["app"]),
                json!([
                    {"from": [container("front-proxy")], "ports": ports(&[8080])},
                    {"from": [container("log-shipper"), container("metrics")], "ports": ports(&[9090])},
                ]),
                json!([
                    {"to": [pods("db")], "ports": ports(&[5432])},
                    {"to": [block("198.51.100.0/24")], "ports": ports(&[443, 8443])},
                ]),
            ),
        )
        .policy(
            "log-shipper",
            policy(
                Some(&["log-shipper"]),
                json!([]),
                json!([
                    {"to": [container("app")], "ports": ports(&[9090])},
                    {"to": [pods("collector")], "ports": ports(&[4317, 4318])},
                ]),
            ),
        )
        .policy(
            "metrics",
            policy(
                Some(&["metrics"]),
                json!([{"from": [pods("prometheus")], "ports": ports(&[9100])}]),
                json!([
                    {"to": [container("app")], "ports": ports(&[9090])},
                    {"to": [container("front-proxy")], "ports": ports(&[9091])},
                ]),
            ),
        )
        .policy(
            "monitoring",
            policy(
                Some(&["front-proxy", "app"]),
                json!([{"from": [container("metrics")], "ports": ports(&[9091])}]),
                json!([]),
            ),
        )
}

/// Rules, chains, sets, and the chains that the kernel looks at to check them: it follows every way by itself.
fn size(pod: &ResolvedPod) -> [usize; 4] {
    let ruleset = compile(pod, Generation::FIRST).ruleset;
    let table = &ruleset.tables[0];
    let mut known = BTreeMap::new();
    let bases = table.chains.iter().filter(|chain| chain.hook.is_some());
    let ways = bases.map(|chain| ways(table, &chain.name, &mut known)).sum();
    let rules = table.chains.iter().map(|chain| chain.rules.len()).sum();
    [rules, table.chains.len(), table.sets.len(), ways]
}

fn ways(table: &Table, name: &str, known: &mut BTreeMap<String, usize>) -> usize {
    if let Some(ways) = known.get(name) {
        return *ways;
    }
    let chain = table.chains.iter().find(|chain| chain.name == name).unwrap();
    let mut all = 1;
    for statement in chain.rules.iter().flat_map(|rule| &rule.statements) {
        let verdicts: Vec<&Verdict> = match statement {
            Statement::Verdict(verdict) => vec![verdict],
            Statement::Dispatch { map, .. } => {
                let map = table.sets.iter().find(|set| set.name == *map).unwrap();
                map.elements.iter().filter_map(|element| element.verdict.as_ref()).collect()
            }
            _ => Vec::new(),
        };
        for verdict in verdicts {
            if let Verdict::Goto(next) | Verdict::Jump(next) = verdict {
                all += ways(table, next, known);
            }
        }
    }
    known.insert(name.to_owned(), all);
    all
}

#[test]
fn a_usual_pod_is_small() {
    // A little more than it is, so that whoever adds to it knows.
    for (pod, [rules, chains, sets, ways]) in
        [(usual(), [390, 85, 55, 70_000]), (usual().by_uid(), [420, 110, 55, 20_000])]
    {
        let size = size(&pod.resolved());
        let most = [rules, chains, sets, ways];
        println!("{size:?}");
        assert!(size.iter().zip(most).all(|(size, most)| *size <= most), "{size:?} is more than {most:?}");
    }
}
