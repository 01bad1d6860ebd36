//! The webhook is called again when others have changed the pod meanwhile.

use serde_json::{Value, json};

use super::{HELLO, container};
use crate::admission::inject::{Outcome, Why};
use crate::fixture::{Try, defaulted, tls};

const BUSY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec:
  containers:
  - name: app
    image: a
    ports: [{name: http, containerPort: 8080}]
    startupProbe: {tcpSocket: {port: http}}
    livenessProbe: {grpc: {port: 8080}}
    readinessProbe: {httpGet: {port: 8080}}
    lifecycle: {preStop: {httpGet: {path: stop, port: 8080}}}
  - name: shipper
    image: s
";

fn is_done(again: &Try, pod: &Value) {
    let outcome = again.outcome_of(pod);
    assert!(matches!(outcome, Outcome::Untouched(Why::Done)), "{outcome:?}");
}

#[test]
fn changes_nothing() {
    for text in [HELLO, BUSY] {
        for of in
            [Try::yaml(text), Try::yaml(text).by(tls()), Try::yaml(text).annotated("sidewall.dev/assign-uids", "true")]
        {
            let (pod, _) = of.patched();
            is_done(&of, &pod);
            is_done(&of, &defaulted(&pod));
        }
    }
}

#[test]
fn changes_nothing_where_the_api_server_has_written_amounts_in_its_own_form() {
    let mut of = Try::yaml(HELLO);
    let amounts = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    of.settings.proxy.resources.requests = amounts(&[("cpu", "0.05"), ("memory", "32768Ki")]);
    of.settings.proxy.resources.limits = amounts(&[("memory", "1024Mi"), ("cpu", "1e0")]);
    let (mut pod, _) = of.patched();
    let proxy = &mut pod["spec"]["initContainers"][0];
    assert_eq!(proxy["resources"]["limits"]["memory"], "1024Mi");
    proxy["resources"] = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "50m", "memory": "32Mi"}});
    is_done(&of, &pod);
    // Another amount is another.
    pod["spec"]["initContainers"][0]["resources"]["limits"]["memory"] = json!("1G");
    let outcome = of.outcome_of(&pod);
    assert!(matches!(outcome, Outcome::Patched(_)), "{outcome:?}");
}

#[test]
fn says_what_the_pod_has_been_told_of_whatever_stood_there() {
    let of = Try::yaml(HELLO);
    let (mut pod, patched) = of.patched();
    let word = patched.needs.unwrap().word;
    assert_eq!(pod["metadata"]["annotations"]["sidewall.dev/refreshed"], *word);
    pod["metadata"]["annotations"]["sidewall.dev/refreshed"] = json!("forged");
    let again = Try { pod, ..of };
    assert_eq!(again.patched().0["metadata"]["annotations"]["sidewall.dev/refreshed"], *word);
    // Where no proxy comes in, nobody may have written it.
    let other = Try::yaml(HELLO).set("/metadata/labels", json!({})).annotated("sidewall.dev/refreshed", &word);
    assert!(other.refusal().contains("sidewall.dev/refreshed"), "{}", other.refusal());
}

#[test]
fn by_another_version_leaves_what_that_version_alone_would_have_made() {
    for text in [HELLO, BUSY] {
        let of = Try::yaml(text);
        let mut settings = of.settings.clone();
        settings.proxy.image = "registry.example/sidewall-proxy:next".to_owned();
        settings.proxy.ports.probe += 100;
        settings.proxy.uid += 1;
        let next = Try { settings, ..Try::yaml(text) };
        let (first, _) = of.patched();
        let (alone, _) = next.patched();
        let (pod, patched) = Try { pod: first, settings: next.settings.clone(), ..Try::yaml(text) }.patched();
        assert_eq!(pod, alone);
        assert_eq!(patched.needs.unwrap().record.probe_port, next.settings.proxy.ports.probe);
        is_done(&next, &pod);
    }
}

#[test]
fn leads_probes_of_containers_that_came_later() {
    let of = Try::yaml(BUSY);
    let (mut pod, _) = of.patched();
    let late = json!({"name": "late", "image": "l", "livenessProbe": {"tcpSocket": {"port": 8080}}});
    pod["spec"]["containers"].as_array_mut().unwrap().push(late);
    let again = Try { pod, ..of };
    let (pod, patched) = again.patched();
    assert_eq!(container(&pod, "containers", "late")["livenessProbe"]["httpGet"]["path"], "/probe/late/liveness");
    let originals = patched.needs.unwrap().originals;
    assert_eq!(originals.keys().collect::<Vec<_>>(), ["app", "late"]);
    assert_eq!(originals["app"].len(), 4);
    is_done(&again, &pod);
}

#[test]
fn leaves_a_probe_to_a_mesh_that_has_taken_it_over_and_goes_on_answering() {
    let of = Try::yaml(BUSY);
    let (mut pod, _) = of.patched();
    pod["spec"]["containers"][0]["livenessProbe"]["httpGet"] =
        json!({"path": "/app-health/app/livez", "port": 15020, "scheme": "HTTP"});
    is_done(&of, &pod);
}

#[test]
fn keeps_what_a_limit_range_added_and_mends_everything_else() {
    let of = Try::yaml(HELLO);
    let (mut pod, _) = of.patched();
    pod["spec"]["initContainers"][0]["resources"]["limits"]["cpu"] = json!("1");
    is_done(&of, &pod);
    for (pointer, value) in [
        ("/spec/initContainers/0/image", json!("evil")),
        ("/spec/initContainers/0/env", json!([{"name": "LD_PRELOAD", "value": "/evil.so"}])),
        ("/spec/initContainers/0/securityContext/runAsUser", json!(1)),
        ("/spec/initContainers/0/resources/limits/memory", json!("1Ki")),
        ("/spec/volumes/1/configMap/name", json!("mine")),
        ("/metadata/labels/sidewall.dev~1fronted", json!("no")),
    ] {
        let touched = Try { pod: pod.clone(), ..Try::yaml(HELLO) }.set(pointer, value);
        let (mended, _) = touched.patched();
        let mut expected = pod.clone();
        if pointer.contains("Containers") {
            // Made anew, without what the LimitRange added.
            expected["spec"]["initContainers"][0]["resources"]["limits"].as_object_mut().unwrap().remove("cpu");
        }
        assert_eq!(mended, expected, "{pointer}");
    }
}

#[test]
fn goes_back_before_what_came_in_between() {
    let of = Try::yaml(HELLO);
    let (mut pod, _) = of.patched();
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({"name": "istio-init", "image": "i"}));
    is_done(&of, &pod);
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({"name": "other", "image": "i"}));
    pod["spec"]["initContainers"].as_array_mut().unwrap().push(json!({"name": "istio-proxy", "image": "i"}));
    let again = Try { pod, ..of };
    let (pod, _) = again.patched();
    assert_eq!(super::names(&pod, "initContainers"), ["other", "istio-init", "istio-proxy", "front-proxy"]);
    is_done(&again, &pod);
}

#[test]
fn follows_a_proxy_that_has_changed_meanwhile() {
    let (pod, _) = Try::yaml(BUSY).by(tls()).patched();
    let mut again = Try::new(pod);
    again.proxies[0].spec.container_name = "door".to_owned();
    let (pod, patched) = again.patched();
    assert_eq!(super::names(&pod, "initContainers"), ["door"]);
    let volumes: Vec<&str> =
        pod["spec"]["volumes"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(volumes, ["sidewall-config", "sidewall-secret-0", "sidewall-no-token"]);
    assert_eq!(patched.needs.unwrap().record.container, "door");
    is_done(&again, &pod);
}

#[test]
fn a_forged_word_for_a_hook_is_not_believed() {
    let of = Try::yaml(BUSY);
    let (mut pod, _) = of.patched();
    let text = pod["metadata"]["annotations"]["sidewall.dev/probes"].as_str().unwrap();
    let mut kept: Value = serde_json::from_str(text).unwrap();
    kept["app"]["preStop"]["key"] = json!("aaaaaaaaaaaaaaaaaaaaaaaa");
    pod["metadata"]["annotations"]["sidewall.dev/probes"] = json!(kept.to_string());
    pod["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]["path"] =
        json!("/lifecycle/app/preStop/aaaaaaaaaaaaaaaaaaaaaaaa");
    let message = Try { pod, ..of }.refusal();
    assert!(message.contains("lifecycle.preStop.httpGet") && message.contains("the proxy's own"), "{message}");
}
