//! An answer costs little, however much there is beside its object.

use std::time::{Duration, Instant};

use super::*;

/// Without optimisation it takes 5 to 10 ms of an idle machine, and a tenth of that with it. One step that asks of each of
/// something about each of another would take seconds.
const LONGEST: Duration = Duration::from_millis(200);

#[test]
fn an_answer_is_quick_in_a_crowded_namespace() {
    let proxies: Vec<SidecarProxy> = (0..1000)
        .map(|i| {
            let mut one = crate::fixture::web();
            one.metadata.name = Some(format!("p{i}"));
            one.spec.pod_selector = sidewall_api::LabelSelector::label("app", format!("a{i}"));
            one
        })
        .collect();
    let proxies: Vec<&SidecarProxy> = proxies.iter().collect();
    let rule = "{podSelector: {matchLabels: {app: APP}}, containers: [app], ingress: [{from: [{container: front-proxy}], ports: [{port: 8080}]}, {from: [{podSelector: {matchLabels: {app: b}}}]}], egress: [{to: [{entity: ClusterDNS}]}, {to: [{podSelector: {matchLabels: {app: c}}}]}, {to: [{ipBlock: {cidr: 10.0.0.0/8}}]}], policyTypes: [Ingress, Egress]}";
    let some: ContainerNetworkPolicy = serde_json::from_value(policy(&rule.replace("APP", "other"))).unwrap();
    let policies: Vec<ContainerNetworkPolicy> = (0..5000)
        .map(|i| {
            let mut one = some.clone();
            one.metadata.name = Some(format!("p{i}"));
            if i % 50 == 0 {
                one.spec.pod_selector = sidewall_api::LabelSelector::label("app", "web");
            }
            one
        })
        .collect();
    let policies: Vec<&ContainerNetworkPolicy> = policies.iter().collect();
    let pods: Vec<TestPod> = (0..1000)
        .map(|i| pod(&["app: http=8080", "front-proxy: 80"]).labelled("app", &format!("a{}", i % 100)))
        .collect();
    let pods: Vec<KnownPod<'_>> = pods.iter().map(TestPod::known).collect();
    let own = namespace();
    for object in [
        proxy(&TLS.replace("app: web", "app: a1")),
        policy(&rule.replace("APP", "web")),
        policy(&rule.replace("matchLabels: {app: APP}", "")),
    ] {
        let body = serde_json::to_vec(&review(&object, None)).unwrap();
        let mut took = Vec::new();
        for _ in 0..20 {
            let begun = Instant::now();
            let question = read(&body).unwrap();
            let facts = Facts {
                namespace: Some(&own),
                pods: Some(&pods),
                proxies: &proxies,
                policies: &policies,
                ..allowed(&question)
            };
            question.answer(&facts, &settings()).unwrap();
            took.push(begun.elapsed());
        }
        took.sort();
        // The median: what else the machine does is not at issue.
        assert!(took[10] < LONGEST, "{} {took:?}", object["kind"]);
    }
}
