//! Every refusal names what the author can change.

use serde_json::json;

use super::HELLO;
use crate::admission::inject::{Outcome, Why};
use crate::fixture::{Try, tls, web};

fn contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn the_nodes_network() {
    let message = Try::yaml(HELLO).set("/spec/hostNetwork", json!(true)).refusal();
    contains(&message, &["spec.hostNetwork is true", "\"web\"", "podSelector"]);
}

#[test]
fn another_system() {
    let message = Try::yaml(HELLO).set("/spec/os", json!({"name": "windows"})).refusal();
    contains(&message, &["spec.os.name is \"windows\"", "\"web\""]);
}

#[test]
fn a_container_of_the_proxys_name() {
    let message = Try::containers("{name: app, image: a}, {name: front-proxy, image: nginx}").refusal();
    contains(&message, &["\"front-proxy\" (spec.containers[1])", "SidecarProxy \"web\"", "containerName"]);
    let pod = Try::yaml(HELLO).set("/spec/initContainers", json!([{"name": "front-proxy", "image": "x"}]));
    contains(&pod.refusal(), &["\"front-proxy\" (spec.initContainers[0])"]);
}

#[test]
fn containers_of_one_name_or_none() {
    contains(&Try::containers("{name: app}, {name: app}").refusal(), &["spec.containers[1].name is \"app\""]);
    contains(&Try::containers("{name: ../x}").refusal(), &["spec.containers[0].name is \"../x\""]);
}

#[test]
fn a_volume_of_ours() {
    let message = Try::yaml(HELLO).set("/spec/volumes", json!([{"name": "sidewall-config", "emptyDir": {}}])).refusal();
    contains(&message, &["spec.volumes[0]", "\"sidewall-config\""]);
}

#[test]
fn a_port_that_the_proxy_opens() {
    let message = Try::containers("{name: app, ports: [{containerPort: 1}, {containerPort: 80}]}").refusal();
    contains(
        &message,
        &["\"app\" (spec.containers[0].ports[1])", "port 80", "spec.listeners[0].port of SidecarProxy \"web\""],
    );
    let message = Try::containers("{name: app, ports: [{containerPort: 15411}]}").refusal();
    contains(&message, &["port 15411", "proxy.ports.probe"]);
    // UDP is another matter.
    Try::containers("{name: app, ports: [{containerPort: 80, protocol: UDP}]}").patched();
}

#[test]
fn a_listener_on_a_port_of_the_proxys_own() {
    let mut proxy = web();
    proxy.spec.listeners[0].forward.port = 15410;
    let message = Try::yaml(HELLO).by(proxy).refusal();
    contains(&message, &["\"web\"", "15410", "spec.listeners[0].forward.port", "proxy.ports.admin"]);
}

#[test]
fn a_sysctl_that_keeps_the_proxy_from_its_port() {
    let own = json!({"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "81"}]});
    let message = Try::yaml(HELLO).set("/spec/securityContext", own).refusal();
    contains(&message, &["port 80", "spec.securityContext.sysctls[0]", "\"81\""]);
}

#[test]
fn the_proxys_user() {
    let uid = Try::yaml(HELLO).settings.proxy.uid;
    let app = format!("{{name: app}}, {{name: b, securityContext: {{runAsUser: {uid}}}}}");
    contains(&Try::containers(&app).refusal(), &["\"b\" (spec.containers[1])", "\"front-proxy\"", &uid.to_string()]);
    // Also where the pod says it for all.
    let pod = Try::yaml(HELLO).set("/spec/securityContext", json!({"runAsUser": uid}));
    contains(&pod.refusal(), &["\"app\" (spec.containers[0])", "\"front-proxy\""]);
}

#[test]
fn one_user_for_two_where_users_are_the_identity() {
    let two = "{name: a, securityContext: {runAsUser: 5}}, {name: b, securityContext: {runAsUser: 5}}";
    let mut pod = Try::containers(two);
    let (_, patched) = pod.patched();
    contains(
        &patched.warnings.join("\n"),
        &["\"a\" (spec.containers[0]) and \"b\" (spec.containers[1]) both run as user 5"],
    );
    pod.settings.identity = crate::settings::Identity::Uid;
    contains(&pod.refusal(), &["\"a\" (spec.containers[0]) and \"b\" (spec.containers[1]) both run as user 5"]);
    pod.pod = Try::containers("{name: a}").pod;
    contains(&pod.refusal(), &["\"a\" (spec.containers[0]) has no runAsUser"]);
    pod.pod = Try::containers("{name: a, securityContext: {runAsUser: 0}}").pod;
    contains(&pod.refusal(), &["\"a\" (spec.containers[0]) runs as user 0"]);
}

#[test]
fn names_of_secrets_that_lead_elsewhere() {
    for key in ["../x", "..", "a/b", ""] {
        let mut proxy = web();
        proxy.spec.listeners[0].authentication[0].basic.as_mut().unwrap().key = Some(key.to_owned());
        Try::yaml(HELLO).by(proxy).refusal();
    }
    let mut proxy = tls();
    proxy.spec.listeners[0].tls.as_mut().unwrap().secret_name = Some("../../etc".to_owned());
    contains(&Try::yaml(HELLO).by(proxy).refusal(), &["\"../../etc\"", "name of a Secret"]);
}

#[test]
fn forged_annotations() {
    let forged = Try::yaml(HELLO).annotated("sidewall.dev/proxy", "{}");
    contains(&forged.refusal(), &["sidewall.dev/proxy", "written by Sidewall alone"]);
    let forged = Try::yaml(HELLO).annotated("sidewall.dev/probes", "{}");
    contains(&forged.refusal(), &["sidewall.dev/probes", "written by Sidewall alone"]);
    for key in ["sidewall.dev/proxy", "sidewall.dev/probes"] {
        let other = Try::yaml(HELLO).set("/metadata/labels", json!({"app": "other"})).annotated(key, "{}");
        contains(&other.refusal(), &[key, "none selects this one"]);
    }
    let label = Try::yaml(HELLO).set("/metadata/labels", json!({"sidewall.dev/fronted": "true"}));
    contains(&label.refusal(), &["sidewall.dev/fronted", "none selects this one"]);
}

#[test]
fn a_probe_that_aims_at_the_proxy_by_itself() {
    let app = "{name: app, livenessProbe: {httpGet: {port: 15411, path: /healthz}}}";
    contains(&Try::containers(app).refusal(), &["spec.containers[0].livenessProbe.httpGet", "\"app\"", "15411"]);
}

#[test]
fn a_probe_that_the_proxy_cannot_ask() {
    let app = "{name: app, livenessProbe: {httpGet: {port: 8080, httpHeaders: [{name: 'a b', value: x}]}}}";
    contains(&Try::containers(app).refusal(), &["probes.targets[0].httpGet.httpHeaders[0].name"]);
    let app = "{name: app, livenessProbe: {httpGet: {port: 8080, scheme: GOPHER}}}";
    contains(&Try::containers(app).refusal(), &["spec.containers[0].livenessProbe.httpGet", "HTTP nor HTTPS"]);
}

#[test]
fn probes_too_large_to_keep() {
    let header = format!("{{name: X, value: {}}}", "v".repeat(4000));
    let headers = vec![header; 20].join(", ");
    let app = format!("{{name: app, livenessProbe: {{httpGet: {{port: 8080, httpHeaders: [{headers}]}}}}}}");
    contains(&Try::containers(&app).refusal(), &["at most 65536"]);
}

#[test]
fn more_annotations_than_a_pod_can_have() {
    let filled = |left: usize| {
        let key = "example.com/big";
        Try::yaml(HELLO).annotated(key, &"x".repeat(256 * 1024 - key.len() - left))
    };
    contains(&filled(1100).refusal(), &["the annotations of this pod would be 261", "there is room for 261120"]);
    let (pod, _) = filled(2500).patched();
    // What the API server writes of our container then fits, and a second call refuses nothing.
    let again = Try::new(pod).annotated("kubernetes.io/limit-ranger", &"x".repeat(900));
    assert!(matches!(again.outcome(), Outcome::Untouched(Why::Done)), "{:?}", again.outcome());
    // Without a proxy it is none of our business.
    assert!(matches!(filled(0).set("/metadata/labels", json!({})).outcome(), Outcome::Untouched(Why::NotSelected)));
}

#[test]
fn annotations_that_are_not_understood() {
    let ask = |key: &str, value: &str| Try::yaml(HELLO).annotated(key, value).refusal();
    contains(
        &ask("sidewall.dev/assign-uids", "yes"),
        &["sidewall.dev/assign-uids", "pod", "\"yes\"", "\"true\" or \"false\""],
    );
    contains(
        &ask("sidewall.dev/drop-capabilities", "NET_RAW,KILL"),
        &["\"KILL\"", "NET_ADMIN, NET_RAW, SETGID and SETUID"],
    );
    contains(&ask("sidewall.dev/loopback-ports", "0"), &["\"0\"", "1 to 65535"]);
    contains(&ask("sidewall.dev/loopback-ports", &"1,".repeat(100)), &["sidewall.dev/loopback-ports"]);
}
