//! What is held against pods, other SidecarProxies and other policies.

use super::*;

fn facts<'a>(question: &Question, pods: &'a [KnownPod<'a>]) -> Facts<'a> {
    Facts { pods: Some(pods), ..allowed(question) }
}

fn said_of(object: &Value, pods: &[TestPod]) -> Vec<String> {
    let question = question(&review(object, None));
    let pods: Vec<KnownPod<'_>> = pods.iter().map(TestPod::known).collect();
    warned(&question, &facts(&question, &pods))
}

const SHIPPER: &str = "
podSelector: {matchLabels: {app: web}}
containers: [log-shiper]
policyTypes: [Ingress, Egress]
ingress:
- {from: [{container: app}, {container: front-proxy}], ports: [{port: metrcs}]}
egress:
- {to: [{container: ap}], ports: [{port: 8080}]}
- {to: [{container: app}], ports: [{port: htp}, {port: http}]}
";

#[test]
fn containers_and_ports_that_no_pod_has_are_told_of() {
    let pods = [pod(&["app: http=8080", "log-shipper: metrics=9100"]), pod(&["app: http=8080", "log-shipper"])];
    assert_eq!(
        said_of(&policy(SHIPPER), &pods),
        [
            "spec.containers[0]: none of the 2 pods that it selects has a container \"log-shiper\"; did you mean \"log-shipper\"?; they have app, log-shipper",
            "spec.ingress[0].from[1].container: none of the 2 pods that it selects has a container \"front-proxy\"; they have app, log-shipper",
            "spec.egress[0].to[0].container: none of the 2 pods that it selects has a container \"ap\"; did you mean \"app\"?; they have app, log-shipper",
            "spec.ingress[0].ports[0].port: no container that this rule leads to declares a TCP port \"metrcs\", so that it allows nothing",
            "spec.egress[1].ports[0].port: no container that this rule leads to declares a TCP port \"htp\", so that it allows nothing; did you mean \"http\"?",
        ]
    );
    // Of pods whose containers are not known, and where there is none, nothing is said.
    let labels = pods[0].labels.clone();
    let unknown = [KnownPod { labels: &labels, host_network: false, containers: None }, pods[1].known()];
    let question = question(&review(&policy(SHIPPER), None));
    assert_eq!(warned(&question, &facts(&question, &unknown)), [""; 0]);
    assert_eq!(warned(&question, &Facts::default()), [""; 0]);
}

#[test]
fn a_proxy_that_will_come_is_a_container_too() {
    let pods = [pod(&["app", "log-shipper: metrcs=1"])];
    let known = [pods[0].known()];
    let spec = SHIPPER
        .replace("log-shiper", "log-shipper")
        .replace("ap}", "app}")
        .replace("{port: htp}, {port: http}", "{port: 1}");
    let question = question(&review(&policy(&spec), None));
    let proxy = crate::fixture::web();
    assert_eq!(warned(&question, &Facts { proxies: &[&proxy], ..facts(&question, &known) }), [""; 0]);
    assert_eq!(warned(&question, &facts(&question, &known)).len(), 1);
}

#[test]
fn a_selector_that_selects_nothing_is_told_of() {
    let other = [pod(&["app"]).labelled("app", "other")];
    assert_eq!(
        said_of(&proxy(USERS), &other),
        ["spec.podSelector: selects none of the 1 pods that are in namespace shop now"]
    );
    assert_eq!(
        said_of(&policy("{podSelector: {matchLabels: {app: web}}, ingress: []}"), &other),
        ["spec.podSelector: selects none of the 1 pods of namespace shop that were read"]
    );
    assert_eq!(said_of(&proxy(USERS), &[]), [""; 0]);
}

#[test]
fn pods_that_run_without_the_proxy_are_told_of() {
    let fronted = || pod(&["app: 8080", "front-proxy: 80"]).labelled("sidewall.dev/fronted", "true");
    assert_eq!(said_of(&proxy(USERS), &[fronted(), fronted()]), [""; 0]);
    assert_eq!(
        said_of(&proxy(USERS), &[fronted(), pod(&["app: 8080"])]),
        [
            "1 of the 2 pods that it selects runs without the proxy, and nobody reaches the application there until they are made anew, for example by `kubectl rollout restart`"
        ]
    );
    let labels = fronted().labels;
    let question = question(&review(&proxy(USERS), None));
    let host = [KnownPod { labels: &labels, host_network: true, containers: None }];
    assert_eq!(
        warned(&question, &facts(&question, &host)),
        [
            "spec.podSelector: the pod that it selects shares the node's network, where nothing can stand before the application: leave it out"
        ]
    );
}

#[test]
fn ports_that_the_pods_contradict_are_told_of() {
    let fronted = |containers: &[&str]| [pod(containers).labelled("sidewall.dev/fronted", "true")];
    assert_eq!(
        said_of(&proxy(USERS), &fronted(&["app: 80, 8081", "front-proxy: 80"])),
        [
            "spec.listeners[0].port: container \"app\" declares port 80 too, and such pods are refused: let the application listen elsewhere, or take another port",
            "spec.listeners[0].forward.port: no container of the pod that it selects declares port 8080; declared: 80, 8081",
        ]
    );
    // Who declares nothing contradicts nothing: it listens on 127.0.0.1.
    assert_eq!(said_of(&proxy(USERS), &fronted(&["app", "front-proxy: 80"])), [""; 0]);
}

fn rival(name: &str, created: &str, selector: &str) -> SidecarProxy {
    crate::fixture::proxy(&format!(
        "
apiVersion: sidewall.dev/v1alpha1
kind: SidecarProxy
metadata: {{name: {name}, namespace: shop, creationTimestamp: {created}}}
spec:
  podSelector: {selector}
  listeners: [{{port: 80, forward: {{port: 8080}}, anonymous: true}}]
"
    ))
}

#[test]
fn two_that_select_the_same_pods_are_told_of() {
    let pods = [pod(&[]).labelled("sidewall.dev/fronted", "true").labelled("tier", "front")];
    let known = [pods[0].known()];
    let web = question(&review(&proxy(USERS), None));
    let with = |others: &[&SidecarProxy], pods: Option<&[KnownPod<'_>]>| {
        warned(&web, &Facts { proxies: others, pods, ..allowed(&web) })
    };
    let (older, younger) = ("2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z");
    let everything = rival("all", older, "{}");
    assert_eq!(
        with(&[&everything], None),
        [
            "SidecarProxy \"all\" selects pods that this one selects, too, and is older: this one has no effect on them (Conflicted); let one of the podSelectors leave them out"
        ]
    );
    let front = rival("front", younger, "{matchLabels: {tier: front}}");
    assert_eq!(with(&[&front], None), [""; 0], "they may never meet");
    assert_eq!(
        with(&[&front], Some(&known)),
        [
            "SidecarProxy \"front\" selects 1 pod of this one's, too, and is younger: this one takes them from it; let one of the podSelectors leave them out"
        ]
    );
    // Of one age the first by name counts; the same name is the object itself; one that cannot be used counts for nothing.
    let age = "2026-02-01T00:00:00Z";
    assert!(with(&[&rival("xyz", age, "{}")], None)[0].contains("is younger"));
    assert!(with(&[&rival("abc", age, "{}")], None)[0].contains("is older"));
    assert_eq!(with(&[&rival("web", older, "{}")], None), [""; 0]);
    let mut broken = rival("broken", older, "{}");
    broken.spec.listeners.clear();
    assert_eq!(with(&[&broken], None), [""; 0]);
    let many: Vec<SidecarProxy> = (0..9).map(|i| rival(&format!("r{i}"), older, "{}")).collect();
    let many: Vec<&SidecarProxy> = many.iter().collect();
    let said = with(&many, None);
    assert_eq!((said.len(), said[3].as_str()), (4, "and more SidecarProxies select the same pods"));
}

#[test]
fn what_another_policy_says_already_is_told_of() {
    let wide: ContainerNetworkPolicy = serde_json::from_value(json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy",
        "metadata": {"name": "all", "namespace": "shop"},
        "spec": {"podSelector": {}, "ingress": [{}]},
    }))
    .unwrap();
    let question = question(&review(&policy("{podSelector: {}, ingress: [{from: [{container: app}]}]}"), None));
    assert_eq!(
        warned(&question, &Facts { policies: &[&wide], ..Facts::default() }),
        [
            "spec.ingress[0]: allows nothing that spec.ingress[0] of ContainerNetworkPolicy shop/all does not allow already"
        ]
    );
}
