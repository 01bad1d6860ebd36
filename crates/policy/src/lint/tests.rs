use super::{Beside, Effort, POLICY_EFFORT, SeenPod, TellApart, lint, lint_policy, lint_policy_within, privileges};
use crate::fixture::Fixture;
use crate::testing::{Case, Draw, Ground};
use crate::{evaluate, resolve};
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};
use sidewall_api::{ContainerNetworkPolicy, LabelSelector, PortProtocol};

/// What is done, in words of selectors and ports that are looked at: not by what [`Effort`] says, but where it is done.
pub(super) mod work {
    use std::cell::Cell;

    thread_local! {
        static DONE: Cell<u64> = const { Cell::new(0) };
    }

    pub fn note(words: usize) {
        DONE.with(|done| done.set(done.get() + words as u64));
    }

    pub fn of<T>(run: impl FnOnce() -> T) -> (T, u64) {
        let before = DONE.with(Cell::get);
        let done = run();
        (done, DONE.with(Cell::get) - before)
    }
}

/// What is said, as `policy: field: message`.
fn said(fixture: Fixture) -> Vec<String> {
    lint(&fixture.world)
        .into_iter()
        .map(|finding| format!("{}: {}: {}", finding.policy.name, finding.problem.path, finding.problem.message))
        .collect()
}

/// A policy in a world without pods.
fn of(spec: Value) -> Vec<String> {
    said(Fixture::new(&[]).policy("p", spec))
}

fn assert_said(said: &[String], expected: &[&str]) {
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}\nis not\n{expected}");
    }
}

const DNS: &str = r#"{"to": [{"entity": "ClusterDNS"}]}"#;

fn dns() -> Value {
    serde_json::from_str(DNS).unwrap()
}

#[test]
fn a_sound_policy_has_nothing_said_of_it() {
    let spec = json!({
        "containers": ["app"],
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [{"container": "front-proxy"}], "ports": [{"port": 8080}]},
            {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 9090}]},
        ],
        "egress": [dns(), {"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}],
    });
    assert_said(&of(spec), &[]);
}

#[test]
fn of_two_rules_that_say_the_same_the_later_is_told_of() {
    let rule = json!({"from": [{"container": "a"}], "ports": [{"port": 80}]});
    let said = of(json!({"ingress": [rule, rule, rule]}));
    assert_said(
        &said,
        &[
            "p: spec.ingress[1]: says the same as spec.ingress[0]",
            "p: spec.ingress[2]: says the same as spec.ingress[0]",
        ],
    );
}

#[test]
fn a_rule_that_a_wider_one_covers_is_told_of_wherever_it_stands() {
    for (wide, narrow) in [
        (json!({}), json!({"from": [{"container": "a"}]})),
        (json!({"ports": [{"port": 80, "endPort": 90}]}), json!({"ports": [{"port": 85}, {"port": 90}]})),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}),
            json!({"from": [{"ipBlock": {"cidr": "10.2.0.0/16", "except": ["10.2.3.0/24"]}}]}),
        ),
        (
            json!({"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}}]}),
            json!({"from": [{"podSelector": {"matchLabels": {"app": "a", "tier": "x"}}}]}),
        ),
        (
            json!({"from": [{"namespaceSelector": {}}]}),
            json!({"from": [{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}}]}),
        ),
        (
            json!({"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}]}),
            json!({"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}),
        ),
        (
            json!({"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}}]}),
            json!({"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}]}),
        ),
    ] {
        assert_said(
            &of(json!({"ingress": [wide, narrow]})),
            &["p: spec.ingress[1]: allows nothing that spec.ingress[0] does not allow already"],
        );
        assert_said(
            &of(json!({"ingress": [narrow, wide]})),
            &["p: spec.ingress[0]: allows nothing that spec.ingress[1] does not allow already"],
        );
    }
}

#[test]
fn rules_that_only_overlap_are_left_alone() {
    for (one, other) in [
        (json!({"from": [{"container": "a"}]}), json!({"ports": [{"port": 80}]})),
        (json!({"ports": [{"port": 80}]}), json!({"ports": [{"port": 80, "protocol": "UDP"}]})),
        (json!({"ports": [{"port": "http"}]}), json!({"ports": [{"port": 80}]})),
        (
            json!({"from": [{"podSelector": {}}]}),
            json!({"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}]}),
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.2.0.0/16"]}}]}),
            json!({"from": [{"ipBlock": {"cidr": "10.2.0.0/15"}}]}),
        ),
        (
            json!({"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}}]}),
            json!({"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}]}),
        ),
    ] {
        assert_said(&of(json!({"ingress": [one, other]})), &[]);
    }
}

#[test]
fn a_rule_of_another_policy_that_selects_as_much_covers_too() {
    let wide = json!({"ingress": [{"from": [{"podSelector": {}}]}]});
    let narrow = json!({"podSelector": {"matchLabels": {"app": "web"}}, "containers": ["app"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "db"}}}]}]});
    let said = said(Fixture::new(&[]).policy("wide", wide.clone()).policy("narrow", narrow.clone()));
    assert_said(
        &said,
        &[
            "narrow: spec.ingress[0]: allows nothing that spec.ingress[0] of ContainerNetworkPolicy shop/wide does not allow",
        ],
    );
    // Not so where the wider one only tells, or is about other containers.
    for change in [
        json!({"mode": "Audit"}),
        json!({"containers": ["other"]}),
        json!({"podSelector": {"matchLabels": {"app": "db"}}}),
    ] {
        let mut wide = wide.clone();
        wide.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_said(&self::said(Fixture::new(&[]).policy("wide", wide).policy("narrow", narrow.clone())), &[]);
    }
}

#[test]
fn peers_and_ports_within_a_rule_are_compared_too() {
    let said = of(json!({"ingress": [{
        "from": [{"ipBlock": {"cidr": "10.1.0.0/16"}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}, {"container": "a"}, {"container": "a"}],
        "ports": [{"port": 80}, {"port": 80}, {"port": 70, "endPort": 90}],
    }]}));
    assert_said(
        &said,
        &[
            "p: spec.ingress[0].from[0]: names nobody whom spec.ingress[0].from[1] does not name",
            "p: spec.ingress[0].from[3]: names nobody whom spec.ingress[0].from[2] does not name",
            "p: spec.ingress[0].ports[0]: is among spec.ingress[0].ports[2]",
            "p: spec.ingress[0].ports[1]: is among spec.ingress[0].ports[0]",
        ],
    );
}

#[test]
fn what_selects_nothing_is_told_of_only_where_pods_were_read() {
    let policy = |labels: Value| json!({"podSelector": {"matchLabels": labels}, "ingress": []});
    assert_said(&of(policy(json!({"app": "nobody"}))), &[]);
    let read = || Fixture::new(&[]).pod("shop/web-1", "app=web", &["10.1.0.2"], &[]);
    assert_said(
        &said(read().policy("p", policy(json!({"app": "nobody"})))),
        &["p: spec.podSelector: selects none of the 1 pods of namespace shop"],
    );
    assert_said(&said(read().policy("p", policy(json!({"app": "web"})))), &[]);
    assert_said(
        &said(Fixture::new(&[]).pod("ops/a", "app=web", &["10.1.0.2"], &[]).policy("p", policy(json!({})))),
        &["p: spec.podSelector: selects nothing: no pod that was read is in namespace shop"],
    );
    assert_said(
        &said(read().with(|pod| pod.host_network = true).policy("p", policy(json!({})))),
        &["p: spec.podSelector: selects only pods that share their node's network"],
    );
    let contradiction = json!({"podSelector": {"matchLabels": {"a": "1"},
        "matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, "ingress": []});
    assert_said(&of(contradiction), &["p: spec.podSelector: no pod can have these labels"]);
}

#[test]
fn peers_that_can_never_match_are_told_of() {
    let never = |expressions: Value| json!({"podSelector": {"matchExpressions": expressions}});
    for (peer, path) in [
        (never(json!([{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "DoesNotExist"}])), "podSelector"),
        (
            never(
                json!([{"key": "a", "operator": "In", "values": ["1"]}, {"key": "a", "operator": "In", "values": ["2"]}]),
            ),
            "podSelector",
        ),
        (json!({"ipBlock": {"cidr": "127.0.0.0/8"}}), "ipBlock.cidr"),
        (json!({"ipBlock": {"cidr": "10.96.3.0/24"}}), "ipBlock.cidr"),
        (json!({"ipBlock": {"cidr": "10.2.0.0/31", "except": ["10.2.0.0/32", "10.2.0.1/32"]}}), "ipBlock"),
        (json!({"container": "app"}), "container"),
    ] {
        let said = of(json!({"containers": ["app"], "ingress": [{"from": [peer]}]}));
        assert_eq!(said.len(), 1, "{peer}: {said:?}");
        assert!(said[0].starts_with(&format!("p: spec.ingress[0].from[0].{path}: ")), "{said:?}");
    }
    let carried =
        json!({"ingress": [{"from": [{"entity": "PortForward"}], "ports": [{"protocol": "UDP", "port": 53}]}]});
    assert_said(&of(carried), &["p: spec.ingress[0].from[0]: a port-forward carries TCP only"]);
}

#[test]
fn a_peer_is_held_against_the_pods_that_were_read_where_it_looks() {
    let world = || {
        Fixture::new(&[]).pod("shop/web-1", "app=web", &["10.1.0.2"], &["http=TCP/8080"]).namespace("shop", "team=shop")
    };
    let policy = |peer: Value| json!({"policyTypes": ["Ingress"], "ingress": [{"from": [peer]}]});
    assert_said(
        &said(world().policy("p", policy(json!({"podSelector": {"matchLabels": {"app": "db"}}})))),
        &["p: spec.ingress[0].from[0].podSelector: matches none of the 1 pods"],
    );
    assert_said(&said(world().policy("p", policy(json!({"podSelector": {"matchLabels": {"app": "web"}}})))), &[]);
    // Another namespace's pods were not read.
    let elsewhere =
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "namespaceSelector": {"matchLabels": {"team": "ops"}}});
    assert_said(&said(world().policy("p", policy(elsewhere))), &[]);
    let named = |name: &str| json!({"egress": [dns(), {"to": [{"podSelector": {}}], "ports": [{"port": name}]}]});
    assert_said(&said(world().policy("p", named("http"))), &[]);
    assert_said(
        &said(world().policy("p", named("metrics"))),
        &["p: spec.egress[1].ports[0].port: none of the 1 pods that this rule names declares a TCP port \"metrics\""],
    );
}

#[test]
fn isolation_without_dns_is_told_of() {
    let to = |peer: Value| json!({"egress": [{"to": [peer], "ports": [{"port": 443}]}]});
    let said_of = |spec: Value| said(Fixture::new(&[]).policy("p", spec));
    for peer in [json!({"podSelector": {}}), json!({"entity": "World"}), json!({"ipBlock": {"cidr": "0.0.0.0/0"}})] {
        assert_said(&said_of(to(peer)), &["p: spec.egress: lets containers out, but not to DNS"]);
    }
    // Nobody needs a name for these.
    for peer in [json!({"container": "app"}), json!({"ipBlock": {"cidr": "10.2.3.4/32"}}), json!({"entity": "Node"})] {
        assert_said(&said_of(to(peer)), &[]);
    }
    // Sealed on purpose.
    assert_said(&said_of(json!({"policyTypes": ["Egress"]})), &[]);
    // Any of these is a way to DNS.
    for way in [
        dns(),
        json!({"ports": [{"protocol": "UDP", "port": 53}]}),
        json!({"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}], "ports": [{"protocol": "UDP", "port": 53}]}),
        json!({"to": [{"ipBlock": {"cidr": "169.254.20.10/32"}}], "ports": [{"protocol": "UDP", "port": 53}]}),
    ] {
        let spec = json!({"egress": [{"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": 443}]}, way]});
        assert_said(&said_of(spec), &[]);
    }
    assert_said(&said_of(json!({"egress": [{}]})), &[]);
    // Another policy for the same pods counts.
    let helper = json!({"egress": [dns()]});
    let fixture = || Fixture::new(&[]).policy("p", to(json!({"entity": "World"})));
    assert_said(&said(fixture().policy("dns", helper)), &[]);
    let other = json!({"podSelector": {"matchLabels": {"app": "db"}}, "egress": [dns()]});
    assert_said(&said(fixture().policy("dns", other)), &["p: spec.egress: lets containers out, but not to DNS"]);
}

fn pod(containers: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"containers": containers}})).unwrap()
}

fn told(pod: &Pod, apart: TellApart) -> Vec<String> {
    privileges(pod, apart).iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

#[test]
fn capabilities_that_no_rule_holds_are_told_of_whatever_the_identity() {
    let pod = pod(json!([
        {"name": "a", "securityContext": {"runAsUser": 1, "runAsGroup": 1, "privileged": true, "capabilities": {"drop": ["ALL"]}}},
        {"name": "b", "securityContext": {"runAsUser": 2, "runAsGroup": 2,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CAP_NET_RAW", "NET_ADMIN"]}}},
    ]));
    for apart in [TellApart::Cgroup, TellApart::Uid, TellApart::Gid, TellApart::Either] {
        assert_said(
            &told(&pod, apart),
            &[
                "spec.containers[0].securityContext.privileged: a privileged container can undo",
                "spec.containers[1].securityContext.capabilities.add[1]: NET_RAW lets it listen",
                "spec.containers[1].securityContext.capabilities.add[2]: NET_ADMIN lets it rewrite",
            ],
        );
    }
}

#[test]
fn identity_by_user_that_a_capability_makes_worthless_is_told_of() {
    let asks = pod(
        json!([{"name": "a", "securityContext": {"runAsUser": 1, "runAsGroup": 1, "capabilities": {"drop": ["ALL"], "add": ["SETUID", "SETGID"]}}}]),
    );
    let path = "spec.containers[0].securityContext.capabilities.add";
    assert_said(&told(&asks, TellApart::Cgroup), &[]);
    assert_said(&told(&asks, TellApart::Uid), &[&format!("{path}[0]: SETUID lets it take another container's user")]);
    assert_said(
        &told(&asks, TellApart::Either),
        &[&format!("{path}[0]: SETUID lets it take another container's user")],
    );
    assert_said(&told(&asks, TellApart::Gid), &[&format!("{path}[1]: SETGID lets it take another container's group")]);

    // Runtimes give it to root, and a set-user-id program makes one root.
    let root = pod(json!([{"name": "a"}]));
    assert_said(&told(&root, TellApart::Either), &[]);
    assert_said(
        &told(&root, TellApart::Uid),
        &[
            "spec.containers[0].securityContext.capabilities: it may run as root",
            "spec.containers[0].securityContext.runAsUser: is not set",
        ],
    );
    let user = |context: Value| {
        let mut context = context;
        context["runAsUser"] = json!(1001);
        pod(json!([{"name": "a", "securityContext": context}]))
    };
    assert_said(
        &told(&user(json!({})), TellApart::Uid),
        &["spec.containers[0].securityContext.allowPrivilegeEscalation: a set-user-id program"],
    );
    assert_said(&told(&user(json!({"allowPrivilegeEscalation": false})), TellApart::Uid), &[]);
    assert_said(&told(&user(json!({"capabilities": {"drop": ["ALL"]}})), TellApart::Uid), &[]);
    assert_said(&told(&user(json!({"capabilities": {"drop": ["CAP_SETUID"]}})), TellApart::Uid), &[]);
}

#[test]
fn users_that_containers_share_are_told_of() {
    let sealed = |user: i64| json!({"runAsUser": user, "capabilities": {"drop": ["ALL"]}});
    let pod = pod(json!([
        {"name": "a", "securityContext": sealed(1001)},
        {"name": "b", "securityContext": sealed(1001)},
        {"name": "c", "securityContext": sealed(0)},
    ]));
    assert_said(
        &told(&pod, TellApart::Uid),
        &[
            "spec.containers[1].securityContext.runAsUser: a has runAsUser 1001 too",
            "spec.containers[2].securityContext.runAsUser: 0 is the node's own",
        ],
    );
    assert_said(&told(&pod, TellApart::Cgroup), &[]);
}

#[test]
fn policies_at_the_edge_are_held_to_the_same() {
    let mut fixture = Fixture::new(&[]);
    let manifest = |kind: &str, version: &str| {
        json!({
            "apiVersion": version, "kind": kind,
            "metadata": {"name": kind.to_lowercase(), "namespace": "shop", "annotations": {"k8s.v1.cni.cncf.io/policy-for": "storage"}},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"],
                "ingress": [{"from": [{"podSelector": {}}]}, {"from": [{"podSelector": {}}]}],
                "egress": [
                    {"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": 80}]},
                    {"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": 80}]},
                ]},
        })
    };
    let read = |value: Value| serde_json::from_value(value).unwrap();
    fixture.world.network_policies.push(read(manifest("NetworkPolicy", "networking.k8s.io/v1")));
    let multi = manifest("MultiNetworkPolicy", "k8s.cni.cncf.io/v1beta1");
    fixture.world.multi_network_policies.push(serde_json::from_value(multi).unwrap());
    assert_said(
        &said(fixture),
        &[
            "networkpolicy: spec.egress: lets containers out, but not to DNS",
            "networkpolicy: spec.egress[1]: says the same as spec.egress[0]",
            "networkpolicy: spec.ingress: policyTypes does not name this direction",
            // A further network has no DNS of the cluster's.
            "multinetworkpolicy: spec.egress[1]: says the same as spec.egress[0]",
            "multinetworkpolicy: spec.ingress: policyTypes does not name this direction",
        ],
    );
}

proptest! {
    /// Beside less, less is said, and nothing else.
    #[test]
    fn of_one_policy_nothing_is_said_that_is_not_said_of_all(seed: u64) {
        let case = Case::draw(&mut Draw::new(seed), &Ground::default());
        let all = lint(&case.world);
        for policy in &case.world.policies {
            if policy.validate().iter().any(sidewall_api::Problem::is_error) {
                continue;
            }
            let namespace = crate::world::objects::namespace(policy.metadata.namespace.as_deref());
            let own = |of: Option<&str>| crate::world::objects::namespace(of) == namespace;
            // Drawn policies may share a name, and of these only one can be what the other was before.
            let named = |other: &&ContainerNetworkPolicy| other.metadata.name == policy.metadata.name;
            if case.world.policies.iter().filter(named).count() > 1 {
                continue;
            }
            let policies: Vec<_> = case
                .world
                .policies
                .iter()
                .filter(|other| own(other.metadata.namespace.as_deref()))
                .filter(|other| !other.validate().iter().any(sidewall_api::Problem::is_error))
                .collect();
            let pods: Vec<&dyn SeenPod> = case.world.pods.iter().filter(|pod| pod.namespace == namespace).map(|pod| pod as &dyn SeenPod).collect();
            let labels = case.world.namespaces.get(&namespace);
            for problem in lint_policy(policy, &Beside { policies: &policies, labels, pods: &pods }) {
                let said = all.iter().any(|finding| finding.policy.name == policy.metadata.name.clone().unwrap_or_default() && finding.policy.namespace == namespace && finding.problem == problem);
                prop_assert!(said, "{problem}\n{all:#?}");
            }
        }
    }

    /// A rule of which this is said can be taken away, and no verdict changes.
    #[test]
    fn what_is_called_redundant_is(seed: u64) {
        let mut draw = Draw::new(seed);
        let case = Case::draw(&mut draw, &Ground::default());
        let flows = case.flows(&mut draw, 60);
        let redundant = lint(&case.world).into_iter().find(|finding| {
            let message = &finding.problem.message;
            message.contains("does not allow already") || message.contains("says the same as")
        });
        let Some(finding) = redundant else { return Ok(()) };
        let path = finding.problem.path.to_string();
        let before = resolve(&case.world, &case.subject);
        let mut less = case.world.clone();
        let named = |policy: &&mut ContainerNetworkPolicy| policy.metadata.name.as_ref() == Some(&finding.policy.name);
        // Drawn policies may share a name; what is meant is then uncertain.
        if less.policies.iter_mut().filter(named).count() != 1 {
            return Ok(());
        }
        let policy = less.policies.iter_mut().find(named).unwrap();
        let index: usize = path.split(['[', ']']).nth(1).unwrap().parse().unwrap();
        // A section that becomes empty would change what isolates by default.
        policy.spec.policy_types = policy.spec.directions().into_iter().collect();
        if path.starts_with("spec.ingress") {
            policy.spec.ingress.as_mut().unwrap().remove(index);
        } else {
            policy.spec.egress.as_mut().unwrap().remove(index);
        }
        let after = resolve(&less, &case.subject);
        for flow in flows {
            prop_assert_eq!(evaluate(&before, &flow).action, evaluate(&after, &flow).action, "{:?} {}", flow, path);
        }
    }

    /// A selector that covers another selects everything that the other selects.
    #[test]
    fn a_wide_selector_selects_what_a_narrow_one_does(seed: u64) {
        let mut draw = Draw::new(seed);
        let selector = |draw: &mut Draw| -> LabelSelector {
            let key = |draw: &mut Draw| (*draw.pick(&["a", "b"])).to_owned();
            let values = |draw: &mut Draw| draw.some(&["1", "2", "3"], 2).into_iter().map(str::to_owned).collect::<Vec<_>>();
            let mut selector = LabelSelector::everything();
            for _ in 0..draw.below(2) {
                selector.match_labels.insert(key(draw), (*draw.pick(&["1", "2"])).to_owned());
            }
            for _ in 0..draw.below(3) {
                use sidewall_api::Operator::{DoesNotExist, Exists, In, NotIn};
                let operator = *draw.pick(&[In, NotIn, Exists, DoesNotExist]);
                let values = if matches!(operator, In | NotIn) { values(draw) } else { Vec::new() };
                selector.match_expressions.push(sidewall_api::Requirement { key: key(draw), operator, values });
            }
            selector
        };
        let (wide, narrow) = (selector(&mut draw), selector(&mut draw));
        let all = ["", "1", "2", "3"].into_iter().flat_map(|a| ["", "1", "2", "3"].map(|b| {
            [("a", a), ("b", b)].into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
        }));
        let labels: Vec<std::collections::BTreeMap<String, String>> = all.collect();
        if super::covers::selector(&wide, &narrow) {
            for labels in &labels {
                prop_assert!(!narrow.matches(labels) || wide.matches(labels), "{wide:?} {narrow:?} {labels:?}");
            }
        }
        if super::covers::impossible(&narrow) {
            prop_assert!(!labels.iter().any(|labels| narrow.matches(labels)), "{narrow:?}");
        }
    }
}

/// What is said of a policy beside what is in its namespace.
fn said_beside(fixture: &Fixture, name: &str) -> Vec<String> {
    let world = &fixture.world;
    let policy = world.policies.iter().find(|policy| policy.metadata.name.as_deref() == Some(name)).unwrap();
    let policies: Vec<_> = world.policies.iter().collect();
    let pods: Vec<&dyn SeenPod> = world.pods.iter().map(|pod| pod as &dyn SeenPod).collect();
    lint_policy(policy, &Beside { policies: &policies, labels: None, pods: &pods })
        .into_iter()
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect()
}

#[test]
fn one_policy_is_held_against_its_own_namespace() {
    let wide = json!({"podSelector": {}, "egress": [dns(), {"to": [{"podSelector": {}}]}]});
    let narrow = json!({
        "podSelector": {"matchLabels": {"app": "nothing"}},
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "a"}}}]}, {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "b"}}}]}],
    });
    let fixture =
        Fixture::new(&[]).pod("shop/web", "app=web", &["10.1.0.1"], &[]).policy("wide", wide).policy("narrow", narrow);
    assert_said(
        &said_beside(&fixture, "narrow"),
        &[
            "spec.egress[0]: allows nothing that spec.egress[1] of ContainerNetworkPolicy shop/wide",
            "spec.egress[0].to[0].podSelector: matches none of the 1 pods",
            // Of other namespaces nothing is known, so that the second peer may be somebody.
            "spec.podSelector: selects none of the 1 pods",
        ],
    );
}

#[test]
fn comparing_for_somebody_who_waits_ends() {
    let block = |i: usize| {
        let except: Vec<String> = (0..20).map(|j| format!("10.{}.{}.0/24", i % 256, 2 * j)).collect();
        json!({"ipBlock": {"cidr": format!("10.{}.0.0/16", i % 256), "except": except}})
    };
    let peers: Vec<Value> = (0..256).map(block).collect();
    let ports: Vec<Value> = (0..64).map(|i| json!({"port": 1 + 3 * i, "endPort": 2 + 3 * i})).collect();
    let rules: Vec<Value> = (0..32).map(|_| json!({"to": peers, "ports": ports})).collect();
    let mut fixture = Fixture::new(&[]);
    for name in ["a", "b", "c", "d"] {
        fixture = fixture.policy(name, json!({"policyTypes": ["Egress"], "egress": rules}));
    }
    let begun = std::time::Instant::now();
    let said = said_beside(&fixture, "d");
    // Without a bound it would be about two billion comparisons.
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(said.iter().any(|said| said.starts_with("spec.egress: lets containers out, but not to DNS")), "{said:#?}");
}

/// A pod that counts how often it is looked at.
struct Looked(crate::world::Labels);

impl SeenPod for Looked {
    fn labels(&self) -> &crate::world::Labels {
        work::note(1);
        &self.0
    }

    fn host_network(&self) -> bool {
        false
    }

    fn declares(&self, _: &str, _: PortProtocol) -> bool {
        work::note(1);
        false
    }
}

/// Policies as large as one that is stored can be, where everything is dear, beside more than anybody has: what is done for
/// them stays within a few times what a policy may cost, and what the policy is long.
#[test]
fn the_largest_policies_beside_the_most_cost_what_they_may() {
    let policy = |name: &str, spec: Value| -> ContainerNetworkPolicy {
        serde_json::from_value(json!({
            "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
        }))
        .unwrap()
    };
    let values = |key: usize| (0..64).map(|value| format!("v{key}-{value}")).collect::<Vec<_>>();
    let wordy: Vec<Value> =
        (0..32).map(|key| json!({"key": format!("k{key}"), "operator": "NotIn", "values": values(key)})).collect();
    let wordy = json!({"matchExpressions": wordy});
    let containers: Vec<String> = (0..60).map(|number| format!("c{number}")).collect();
    let rules = |list: &str, peer: &dyn Fn(usize) -> Value, ports: &Value| -> Vec<Value> {
        (0..32)
            .map(|rule| json!({list: (0..256).map(|i| peer(256 * rule + i)).collect::<Vec<_>>(), "ports": ports}))
            .collect()
    };
    let numbers: Vec<Value> = (0..64).map(|port| json!({"port": 1 + 3 * port, "endPort": 2 + 3 * port})).collect();
    let named: Vec<Value> = (0..64).map(|port| json!({"port": format!("p{port}")})).collect();
    let of_pods = |i: usize| json!({"podSelector": {"matchLabels": {"app": format!("a{i}")}}});
    let everybody = |_: usize| json!({"podSelector": {}});
    let of_blocks = |i: usize| json!({"ipBlock": {"cidr": format!("10.{}.{}.0/24", i / 256, i % 256)}});
    let itself = |_: usize| json!({"container": "c0"});
    let both = json!(["Ingress", "Egress"]);
    let subjects = [
        policy(
            "pods",
            json!({"podSelector": wordy, "containers": containers, "policyTypes": both,
            "ingress": rules("from", &of_pods, &json!(numbers)), "egress": rules("to", &of_pods, &json!(named))}),
        ),
        policy(
            "blocks",
            json!({"podSelector": {}, "policyTypes": both,
            "ingress": rules("from", &of_blocks, &json!([])), "egress": rules("to", &of_blocks, &json!(numbers))}),
        ),
        policy(
            "everybody",
            json!({"podSelector": {}, "containers": ["c0"], "policyTypes": both,
            "ingress": rules("from", &itself, &json!([])), "egress": rules("to", &everybody, &json!(named))}),
        ),
    ];
    let others: Vec<ContainerNetworkPolicy> = (0..3000)
        .map(|number| {
            let rule = json!({"to": [{"container": "c0"}, {"podSelector": {}}], "ports": numbers});
            let egress = if number % 2 == 0 { json!([]) } else { json!([rule]) };
            policy(&format!("p{number}"), json!({"podSelector": {}, "policyTypes": both, "egress": egress}))
        })
        .collect();
    let others: Vec<&ContainerNetworkPolicy> = others.iter().collect();
    let pods: Vec<Looked> = (0..3000).map(|_| Looked([("app".to_owned(), "web".to_owned())].into())).collect();
    let pods: Vec<&dyn SeenPod> = pods.iter().map(|pod| pod as &dyn SeenPod).collect();
    for subject in &subjects {
        for (policies, pods) in [(&others[..], &pods[..]), (&[][..], &pods[..]), (&others[..], &[][..])] {
            let effort = Effort::of(POLICY_EFFORT);
            let beside = Beside { policies, labels: None, pods };
            let (_, done) = work::of(|| lint_policy_within(subject, &beside, &effort));
            let name = subject.metadata.name.as_deref().unwrap();
            // A word of a policy stands for some twenty octets at least, and one that is stored has 1.5 MiB at most.
            assert!(effort.spent() <= POLICY_EFFORT && done < 16 * POLICY_EFFORT + 75_000, "{name}: {done}");
        }
    }
}
