//! The command beside real agents: what it says is enforced is what the kernel does, and nothing else. Needs root.
#![forbid(unsafe_code)]

mod cli;

use std::time::Duration;

use cli::sidewall;
use serde_json::{Value, json};
use sidewall_node_tests::agent::{self, Agent};
use sidewall_node_tests::api::list;
use sidewall_node_tests::shop::{self, FRIENDS, HELPER, SERVE, WAIT, fetch};
use sidewall_node_tests::until::until;
use sidewall_node_tests::{Api, Cluster};

const LIMIT: Duration = Duration::from_secs(60);

const NOBODY: &str = r#"---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: nobody, namespace: shop}
spec: {podSelector: {matchLabels: {app: nobody}}, policyTypes: [Ingress]}
"#;

/// A pod; `drops` says whether its containers give up what they need not have.
fn pod(name: &str, app: &str, node: &str, drops: bool, containers: &[(&str, u32, &str)]) -> Value {
    let drop = if drops { json!(["ALL"]) } else { json!([]) };
    shop::pod(name, app, Some(node), &json!({"capabilities": {"drop": drop}}), containers)
}

fn policies_for(peers: &str) -> String {
    [&shop::policies(peers), HELPER, NOBODY].concat()
}

/// What `status` says of a pod, once `holds` does.
fn state_of(api: &Api, agent: &Agent<'_>, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let target = format!("pod/shop/{name}");
    let said = until(name, LIMIT, || {
        let done = sidewall(api, &["status", &target, "--output", "json"]);
        let pod = done.json()["pods"][0].clone();
        Ok(if holds(&pod) { Ok(pod) } else { Err(done.out) })
    });
    said.unwrap_or_else(|error| panic!("{error}\n{}", agent.log()))
}

#[test]
fn what_is_called_enforced_is_what_the_kernel_does() {
    let cluster = Cluster::start(2).unwrap();
    let api = cluster.api();
    agent::install(api).unwrap();
    // The second node has none.
    let agent = Agent::start(&cluster.nodes()[0], cluster.control(), json!({})).unwrap();
    api.apply(&policies_for(&format!("{FRIENDS}, {{container: helper}}"))).unwrap();
    let three = [("app", 1001, SERVE), ("helper", 1002, WAIT), ("stranger", 1003, WAIT)];
    let pods = [
        pod("web", "web", "node1", true, &three),
        pod("able", "web", "node1", false, &[("app", 1001, SERVE)]),
        pod("elsewhere", "web", "node2", true, &[("app", 1001, SERVE)]),
        pod("friend", "friend", "node1", true, &[("main", 1001, WAIT)]),
        pod("foe", "foe", "node1", true, &[("main", 1001, WAIT)]),
    ];
    api.apply(&list(&pods)).unwrap();
    for name in ["web", "able", "elsewhere", "friend", "foe"] {
        api.ready("shop", name, LIMIT).unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    }

    let web = state_of(api, &agent, "web", |pod| pod["state"] == "Enforced");
    assert!(web["identity"].is_string(), "{web}");
    let policies: Vec<_> = web["policies"].as_array().unwrap().iter().map(|policy| &policy["name"]).collect();
    assert_eq!(policies, ["helper", "web"]);
    // NET_RAW is a runtime's default, and passes every wall.
    let able = state_of(api, &agent, "able", |pod| pod["state"] == "NotEnforced");
    assert!(able["reasons"].to_string().contains("NET_RAW"), "{able}");
    let elsewhere = state_of(api, &agent, "elsewhere", |pod| pod["state"] == "NotEnforced");
    assert!(elsewhere["reasons"].to_string().contains("no agent"), "{elsewhere}");
    let friend = state_of(api, &agent, "friend", |pod| pod["state"] == "NotSelected");
    assert_eq!(friend["policies"], json!([]));

    // Added up: what each policy selects, and where it is in force.
    let done = sidewall(api, &["status", "--output", "json"]);
    assert_eq!(done.code, 1, "{}", done.out);
    let status = done.json();
    let numbers = |name: &str| {
        let policy = status["policies"].as_array().unwrap().iter().find(|policy| policy["name"] == name).unwrap();
        (policy["selected"].clone(), policy["enforced"].clone())
    };
    assert_eq!(numbers("web"), (json!(3), json!(1)), "{}", done.out);
    assert_eq!(numbers("helper"), (json!(1), json!(1)), "{}", done.out);
    assert_eq!(numbers("nobody"), (json!(0), json!(0)), "{}", done.out);
    let states: Vec<_> = status["nodes"].as_array().unwrap().iter().map(|node| &node["state"]).collect();
    assert_eq!(states, ["Reporting", "NoAgent"]);
    for (target, code) in [("pod/web", 0), ("policy/helper", 0), ("policy/web", 1), ("node/node2", 1), ("pod/foe", 0)] {
        let arguments =
            if target.starts_with("node") { vec!["status", target] } else { vec!["status", "-n", "shop", target] };
        let done = sidewall(api, &arguments);
        assert_eq!(done.code, code, "{target}: {}{}", done.out, done.err);
    }

    // What is explained is what happens.
    let (far, near) = (shop::far(api, "shop", "web").unwrap(), shop::NEAR);
    let mut seen = Vec::new();
    for (who, pod, container, url) in [
        ("pod/friend", "friend", "main", far.as_str()),
        ("pod/foe", "foe", "main", &far),
        ("helper", "web", "helper", near),
        ("stranger", "web", "stranger", near),
        ("app", "web", "app", near),
    ] {
        let explained = sidewall(api, &["explain", "-n", "shop", "pod/web", who, "app", "--port", "8080"]);
        assert!(explained.out.starts_with("shop/web on node1: enforced"), "{}", explained.out);
        let fetched = fetch(api, pod, container, url);
        assert_eq!(explained.code == 0, fetched.is_ok(), "{who}: {}\n{fetched:?}", explained.out);
        seen.push(fetched.is_ok());
    }
    assert_eq!(seen, [true, false, true, false, true]);

    // A change is told as soon as it is in force: no sooner, no later.
    api.apply(&policies_for("{container: helper}")).unwrap();
    state_of(api, &agent, "web", |pod| pod["state"] == "Enforced");
    let fetched = fetch(api, "friend", "main", &far);
    assert!(fetched.is_err(), "{fetched:?}");
    let explained = sidewall(api, &["explain", "-n", "shop", "pod/web", "pod/friend", "app", "--port", "8080"]);
    assert_eq!(explained.code, 1, "{}", explained.out);
}
