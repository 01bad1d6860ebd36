mod drawn;
mod golden;
mod refused;
mod second_call;

use serde_json::{Value, json};

use sidewall_api::{SidecarProxy, UnreadablePolicy};

use super::{Outcome, Request, Why, inject};
use crate::fixture::{Try, defaulted, namespace, proxy, secret, settings, tls, web, yaml};
use crate::names::{ANNOTATION_PROBES, ANNOTATION_PROXY};

/// The article's application: on 127.0.0.1, and it asks nobody who they are.
pub(super) const HELLO: &str = "
apiVersion: v1
kind: Pod
metadata:
  generateName: web-5d4f8-
  labels: {app: web, pod-template-hash: 5d4f8}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d4f8, uid: 0c7e, controller: true}]
spec:
  containers:
  - name: app
    image: registry.example/hello:1
    args: [--listen=127.0.0.1:8080]
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 2}
  - name: log-shipper
    image: registry.example/shipper:3
    securityContext: {runAsUser: 2000, capabilities: {drop: [ALL]}}
  volumes:
  - {name: logs, emptyDir: {}}
";

fn container<'a>(pod: &'a Value, list: &str, name: &str) -> &'a Value {
    pod["spec"][list].as_array().unwrap().iter().find(|container| container["name"] == name).unwrap()
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    pod["spec"][list].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn only_namespaces_that_opted_in_are_looked_at() {
    let mut hello = Try::yaml(HELLO);
    hello.namespace.labels.clear();
    assert!(matches!(hello.outcome(), Outcome::Untouched(Why::Namespace)));
    let mut hello = Try::yaml(HELLO);
    hello.namespace.name = "kube-system".to_owned();
    assert!(matches!(hello.outcome(), Outcome::Untouched(Why::Namespace)));
}

#[test]
fn what_nothing_selects_stays_as_it_is() {
    let hello = Try::yaml(HELLO).set("/metadata/labels", json!({"app": "other"}));
    assert!(matches!(hello.outcome(), Outcome::Untouched(Why::NotSelected)));
    // A SidecarProxy of another namespace selects nothing here.
    let mut other = web();
    other.metadata.namespace = Some("elsewhere".to_owned());
    assert!(matches!(Try::yaml(HELLO).by(other).outcome(), Outcome::Untouched(Why::NotSelected)));
}

#[test]
fn a_pod_of_another_system_is_not_given_what_it_cannot_have() {
    let mut hello = Try::yaml(HELLO).set("/metadata/labels", json!({})).set("/spec/os", json!({"name": "windows"}));
    hello.namespace.annotations.insert("sidewall.dev/assign-uids".to_owned(), "true".to_owned());
    hello.namespace.annotations.insert("sidewall.dev/drop-capabilities".to_owned(), "SETUID".to_owned());
    assert!(matches!(hello.outcome(), Outcome::Untouched(Why::System)));
}

#[test]
fn static_pods_are_left_to_the_kubelet() {
    let hello = Try::yaml(HELLO).annotated("kubernetes.io/config.mirror", "x");
    assert!(matches!(hello.outcome(), Outcome::Untouched(Why::Mirror)));
}

#[test]
fn a_proxy_with_files_is_the_pods_own() {
    let by_hand = proxy(
        "{apiVersion: sidewall.dev/v1alpha1, kind: SidecarProxy, metadata: {name: web}, spec: {podSelector: {}, listeners: \
         [{port: 80, forward: {port: 8080}, authentication: [{basic: {htpasswdFile: users}}]}]}}",
    );
    let outcome = Try::yaml(HELLO).by(by_hand).outcome();
    assert!(matches!(outcome, Outcome::Untouched(Why::BringsItsOwn { proxy }) if proxy == "web"));
}

#[test]
fn the_oldest_wins_and_the_other_is_told() {
    let mut younger = tls();
    younger.metadata.name = Some("a-younger".to_owned());
    younger.metadata.creation_timestamp = serde_json::from_value(json!("2026-02-02T00:00:00Z")).unwrap();
    let mut hello = Try::yaml(HELLO);
    hello.proxies = vec![younger.clone(), web()];
    let (_, patched) = hello.patched();
    assert_eq!(patched.needs.unwrap().record.proxy, "web");
    assert!(patched.warnings.iter().any(|w| w.contains("\"a-younger\" has no effect here: \"web\" is older")));
    // Of one age, the first by name.
    younger.metadata.creation_timestamp = web().metadata.creation_timestamp;
    hello.proxies = vec![web(), younger];
    assert_eq!(hello.patched().1.needs.unwrap().record.proxy, "a-younger");
}

#[test]
fn one_that_cannot_be_used_refuses_the_pod_or_warns_beside_a_good_one() {
    let mut bad = web();
    bad.metadata.name = Some("bad".to_owned());
    bad.spec.listeners[0].port = 0;
    let message = Try::yaml(HELLO).by(bad.clone()).refusal();
    assert!(
        message.starts_with("SidecarProxy \"bad\" selects this pod and cannot be used: spec.listeners[0].port"),
        "{message}"
    );
    let mut hello = Try::yaml(HELLO);
    hello.proxies.push(bad);
    let (_, patched) = hello.patched();
    assert!(patched.warnings.iter().any(|w| w.contains("\"bad\" selects this pod and cannot be used")));
}

#[test]
fn one_that_cannot_be_read_refuses_what_it_may_select() {
    let read = |selector: Value| {
        let proxy = json!({
            "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy", "metadata": {"name": "newer", "namespace": "shop"},
            "spec": {"podSelector": selector, "listeners": [{"port": 80, "forward": {"port": 8080}, "sorcery": true}]},
        });
        *sidewall_api::read::read_proxy(proxy).unwrap_err()
    };
    let (pod, namespace, secret, settings) = (yaml(HELLO), namespace(), secret(), settings());
    let ask = |unreadable: &UnreadablePolicy, proxies: &[&SidecarProxy]| {
        let request = Request {
            pod: &pod,
            namespace: &namespace,
            proxies,
            unreadable: &[unreadable],
            versions: &|_| None,
            secret: &secret,
        };
        inject(&request, &settings)
    };
    let ours = read(json!({"matchLabels": {"app": "web"}}));
    let Outcome::Refused(refusal) = ask(&ours, &[]) else { panic!("let through") };
    let message = refusal.to_string();
    assert!(message.contains("\"newer\"") && message.contains("sorcery"), "{message}");
    let Outcome::Patched(patched) = ask(&ours, &[&web()]) else { panic!("not patched") };
    assert!(patched.warnings.iter().any(|w| w.contains("\"newer\" selects this pod and cannot be used")));
    let others = read(json!({"matchLabels": {"app": "other"}}));
    assert!(matches!(ask(&others, &[]), Outcome::Untouched(Why::NotSelected)));
}

#[test]
fn the_proxy_stands_first_and_is_restricted() {
    let (pod, _) = Try::yaml(HELLO).set("/spec/initContainers", json!([{"name": "migrate", "image": "m"}])).patched();
    assert_eq!(names(&pod, "initContainers"), ["front-proxy", "migrate"]);
    let proxy = container(&pod, "initContainers", "front-proxy");
    assert_eq!(proxy["restartPolicy"], "Always");
    let context = &proxy["securityContext"];
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
}

#[test]
fn a_mesh_stands_before_the_proxy() {
    let mesh = json!([
        {"name": "istio-init", "image": "i"}, {"name": "istio-proxy", "image": "i", "restartPolicy": "Always"},
        {"name": "migrate", "image": "m"},
    ]);
    let (pod, patched) = Try::yaml(HELLO).set("/spec/initContainers", mesh).patched();
    assert_eq!(names(&pod, "initContainers"), ["istio-init", "istio-proxy", "front-proxy", "migrate"]);
    assert!(patched.warnings.iter().any(|w| w.contains("\"istio-init\" (spec.initContainers[0]) is a mesh's")));
}

#[test]
fn probes_of_hidden_ports_are_led_through_the_proxy_and_others_are_not() {
    let (pod, patched) = Try::containers(
        "{name: app, image: a, ports: [{name: http, containerPort: 8080}, {name: metrics, containerPort: 9090}],
          startupProbe: {tcpSocket: {port: 8080}, failureThreshold: 30},
          livenessProbe: {grpc: {port: 8080, service: health}, timeoutSeconds: 4},
          readinessProbe: {httpGet: {path: /ready, port: http, httpHeaders: [{name: X-Probe, value: 'yes'}]}},
          lifecycle: {preStop: {httpGet: {path: /stop, port: 8080}}, postStart: {exec: {command: ['true']}}}},
         {name: other, image: o, ports: [{containerPort: 9090}],
          livenessProbe: {httpGet: {port: 9090}}, readinessProbe: {exec: {command: ['true']}}},
         {name: odd, image: o, livenessProbe: {tcpSocket: {port: 7000, host: 127.0.0.1}},
          readinessProbe: {tcpSocket: {port: 8080, host: example.com}}}",
    )
    .patched();
    let app = container(&pod, "containers", "app");
    let led = |path: &str| json!({"httpGet": {"path": path, "port": 15411, "scheme": "HTTP"}});
    assert_eq!(app["startupProbe"]["httpGet"], led("/probe/app/startup")["httpGet"]);
    assert_eq!(app["startupProbe"]["failureThreshold"], 30);
    assert_eq!(app["startupProbe"].get("tcpSocket"), None);
    assert_eq!(app["livenessProbe"]["httpGet"], led("/probe/app/liveness")["httpGet"]);
    assert_eq!(app["livenessProbe"].get("grpc"), None);
    assert_eq!(app["readinessProbe"], led("/probe/app/readiness"));
    let hook = app["lifecycle"]["preStop"]["httpGet"]["path"].as_str().unwrap();
    assert!(hook.strip_prefix("/lifecycle/app/preStop/").is_some_and(|word| word.len() >= 20), "{hook}");
    assert_eq!(app["lifecycle"]["postStart"], json!({"exec": {"command": ["true"]}}));
    let before = yaml("{livenessProbe: {httpGet: {port: 9090}}, readinessProbe: {exec: {command: ['true']}}}");
    let other = container(&pod, "containers", "other");
    assert_eq!(
        (&other["livenessProbe"], &other["readinessProbe"]),
        (&before["livenessProbe"], &before["readinessProbe"])
    );
    let odd = container(&pod, "containers", "odd");
    assert_eq!(odd["livenessProbe"], led("/probe/odd/liveness"));
    assert_eq!(odd["readinessProbe"]["tcpSocket"]["host"], "example.com");
    assert!(patched.warnings.iter().any(|w| w.contains("spec.containers[2].livenessProbe.tcpSocket.host")));

    let kept: Value =
        serde_json::from_str(pod["metadata"]["annotations"][ANNOTATION_PROBES].as_str().unwrap()).unwrap();
    assert_eq!(
        kept["app"]["liveness"],
        json!({"port": 8080, "timeoutSeconds": 4, "grpc": {"port": 8080, "service": "health"}})
    );
    let http = json!({"path": "/ready", "port": "http", "httpHeaders": [{"name": "X-Probe", "value": "yes"}]});
    assert_eq!(kept["app"]["readiness"], json!({"port": 8080, "timeoutSeconds": 1, "httpGet": http}));
    assert_eq!(kept.as_object().unwrap().keys().collect::<Vec<_>>(), ["app", "odd"]);
}

#[test]
fn the_author_may_name_further_ports_on_loopback() {
    let pod = "{name: app, image: a, livenessProbe: {httpGet: {port: 7000}}}";
    let (pod, _) = Try::containers(pod).annotated("sidewall.dev/loopback-ports", "7000, 7001").patched();
    assert_eq!(pod["spec"]["containers"][0]["livenessProbe"]["httpGet"]["path"], "/probe/app/liveness");
}

#[test]
fn a_probe_of_a_listener_that_asks_for_credentials_is_told() {
    let (_, patched) = Try::containers("{name: app, image: a, livenessProbe: {httpGet: {port: 80}}}").patched();
    assert!(patched.warnings.iter().any(|w| w.contains("the probe will get 401")), "{:?}", patched.warnings);
}

#[test]
fn low_ports_need_the_sysctl_and_high_ones_do_not() {
    let (pod, patched) = Try::yaml(HELLO).patched();
    let sysctls = json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}]);
    assert_eq!(pod["spec"]["securityContext"]["sysctls"], sysctls);
    assert!(patched.warnings.iter().any(|w| w.contains("ip_unprivileged_port_start=80")));
    let (pod, patched) = Try::yaml(HELLO).by(tls()).patched();
    assert_eq!(pod["spec"].get("securityContext"), None);
    assert!(patched.warnings.is_empty(), "{:?}", patched.warnings);
    // What is low enough already stays; other sysctls stay beside it.
    let own = json!({"sysctls": [{"name": "net/ipv4/ip_unprivileged_port_start", "value": "0"}]});
    let (pod, _) = Try::yaml(HELLO).set("/spec/securityContext", own.clone()).patched();
    assert_eq!(pod["spec"]["securityContext"], own);
}

#[test]
fn files_are_the_groups_where_there_is_a_group() {
    let mode = |pod: &Value| pod["spec"]["volumes"][1]["configMap"]["defaultMode"].clone();
    assert_eq!(mode(&Try::yaml(HELLO).patched().0), 0o444);
    let (pod, _) = Try::yaml(HELLO).set("/spec/securityContext", json!({"fsGroup": 3000})).patched();
    assert_eq!(mode(&pod), 0o440);
    assert_eq!(pod["spec"]["securityContext"]["fsGroup"], 3000);
}

#[test]
fn net_raw_goes_from_every_container_but_those_that_ask_for_it() {
    let (pod, patched) = Try::containers(
        "{name: app, image: a}, {name: b, image: b, securityContext: {capabilities: {add: [NET_RAW]}}}, \
         {name: c, image: c, securityContext: {capabilities: {drop: [ALL]}}}, \
         {name: d, image: d, securityContext: {capabilities: {drop: [KILL]}}}",
    )
    .patched();
    let drop = |name: &str| container(&pod, "containers", name)["securityContext"]["capabilities"]["drop"].clone();
    assert_eq!(drop("app"), json!(["NET_RAW"]));
    assert_eq!(drop("b"), Value::Null);
    assert_eq!(drop("c"), json!(["ALL"]));
    assert_eq!(drop("d"), json!(["KILL", "NET_RAW"]));
    assert!(patched.warnings.iter().any(|w| w.contains("container \"b\"") && w.contains("keeps NET_RAW")));
}

#[test]
fn what_the_pod_needs_is_told_and_rendered() {
    let (pod, patched) = Try::yaml(HELLO).by(tls()).patched();
    let needs = patched.needs.unwrap();
    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
    assert_eq!(
        needs.record.secrets,
        [
            ("web-tls".to_owned(), keys(&["tls.crt", "tls.key"])),
            ("web-users".to_owned(), keys(&["htpasswd", "metrics.users"])),
        ]
        .into()
    );
    assert!(needs.record.config.starts_with("sidewall-web-"));
    let record: Value =
        serde_json::from_str(pod["metadata"]["annotations"][ANNOTATION_PROXY].as_str().unwrap()).unwrap();
    assert_eq!(record, serde_json::to_value(&needs.record).unwrap());
    let text = needs.config.text.as_str();
    assert!(text.contains("/etc/sidewall/secrets/web-tls/tls.key"), "{text}");
    let mounts = &container(&pod, "initContainers", "front-proxy")["volumeMounts"];
    assert_eq!(
        mounts[1],
        json!({"name": "sidewall-secret-0", "mountPath": "/etc/sidewall/secrets/web-tls", "readOnly": true})
    );
}

#[test]
fn pods_of_one_template_share_a_configuration_and_others_do_not() {
    let name = |text: &str| Try::yaml(text).patched().1.needs.unwrap().record.config;
    assert_eq!(name(HELLO), name(&HELLO.replace("registry.example/hello:1", "registry.example/hello:2")));
    assert_ne!(name(HELLO), name(&HELLO.replace("/ready", "/readiness")));
}

#[test]
fn a_pod_that_would_no_longer_be_guaranteed_is_told() {
    let pod = "{name: app, resources: {limits: {cpu: '1', memory: 1Gi}, requests: {cpu: '1'}}}";
    let mut of = Try::containers(pod);
    let told = |of: &Try| of.patched().1.warnings.iter().any(|w| w.contains("Guaranteed"));
    assert!(told(&of));
    of.settings.proxy.resources.limits.insert("cpu".to_owned(), "10m".to_owned());
    of.settings.proxy.resources.limits.insert("memory".to_owned(), "32Mi".to_owned());
    assert!(!told(&of));
    assert!(!told(&Try::containers("{name: app, resources: {limits: {cpu: '1'}}}")));
}

/// The API server refuses a pod whose containers ask for more than what it says of all of them, or may take more.
#[test]
fn where_the_containers_share_what_the_pod_has_the_proxy_asks_for_nothing_beside() {
    let resources = |said: Value| {
        let of = Try::containers("{name: app, resources: {requests: {cpu: 1m}}}").set("/spec/resources", said);
        let (pod, patched) = of.patched();
        assert!(!patched.warnings.iter().any(|warning| warning.contains("Guaranteed")), "{:?}", patched.warnings);
        assert!(matches!(of.outcome_of(&defaulted(&pod)), Outcome::Untouched(Why::Done)));
        container(&pod, "initContainers", "front-proxy")["resources"].clone()
    };
    let nothing = json!({"cpu": "0", "memory": "0"});
    let both =
        json!({"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"memory": "64Mi", "hugepages-2Mi": "2Mi"}});
    assert_eq!(resources(both), json!({"requests": nothing, "limits": {"memory": "64Mi"}}));
    assert_eq!(resources(json!({"requests": {"cpu": "1m"}})), json!({"requests": {"cpu": "0"}}));
    // One that says nothing there is one like any other.
    assert_eq!(resources(json!({}))["requests"]["memory"], "32Mi");
}

#[test]
fn a_probe_port_that_the_kubelet_cannot_reach_is_told() {
    let mut unreachable = web();
    unreachable.spec.probes = serde_json::from_value(json!({"port": 15411, "address": "127.0.0.1"})).unwrap();
    let (_, patched) = Try::yaml(HELLO).by(unreachable).patched();
    assert!(patched.warnings.iter().any(|w| w.contains("spec.probes.address")));
}

#[test]
fn nothing_of_the_pod_is_printed() {
    let headers = "httpHeaders: [{name: Authorization, value: Basic c2VjcmV0}]";
    let of = Try::containers(&format!("{{name: app, livenessProbe: {{httpGet: {{port: 8080, {headers}}}}}}}"));
    let (pod, patched) = of.patched();
    assert!(pod.to_string().contains("c2VjcmV0"));
    let printed = format!("{patched:?}");
    assert!(printed.contains("/spec/initContainers/0") && !printed.contains("c2VjcmV0"), "{printed}");
}

#[test]
fn shared_processes_and_ports_of_the_node_are_told() {
    let pod = HELLO.replace("containerPort: 8080", "containerPort: 8080, hostPort: 8080");
    let (_, patched) = Try::yaml(&pod).set("/spec/shareProcessNamespace", json!(true)).patched();
    assert!(patched.warnings.iter().any(|w| w.contains("see each other's processes")));
    assert!(patched.warnings.iter().any(|w| w.contains("remove hostPort")));
}
