use super::*;
use serde_json::json;

/// What injection would write of a SidecarProxy "web" without Secrets and probes.
fn record() -> String {
    let mut record = Record {
        proxy: "web".to_owned(),
        container: "front-proxy".to_owned(),
        probe_port: 15411,
        config: String::new(),
        secrets: BTreeMap::new(),
    };
    record.config = config_name(&record, &Originals::new());
    serde_json::to_string(&record).unwrap()
}

fn pod(value: Value) -> SlimPod {
    serde_json::from_value(value).unwrap()
}

#[test]
fn pods_of_one_template_share_what_they_have_alike() {
    let of = |name: &str| {
        pod(json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "web"}, "annotations": {
                "sidewall.dev/proxy": record(),
            }},
            "spec": {"containers": [{"name": "app", "image": "x", "ports": [{"containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1"},
        }))
    };
    let mut known = Known::default();
    let (key, one) = known.pod(of("a"));
    let (_, two) = known.pod(of("b"));
    assert_eq!(key, ("shop".to_owned(), "a".to_owned()));
    assert!(Arc::ptr_eq(&one.labels, &two.labels) && Arc::ptr_eq(&one.containers, &two.containers));
    let (Some(Ok(first)), Some(Ok(second))) = (&one.fronted, &two.fronted) else { panic!("{one:?}") };
    assert!(Arc::ptr_eq(first, second));
    assert_eq!(first.record.proxy, "web");
    assert!(!one.ending);
}

#[test]
fn what_nobody_has_any_more_is_not_kept() {
    let mut known = Known::default();
    for number in 0..1000 {
        known.pod(pod(json!({"metadata": {"name": "a", "labels": {"number": number.to_string()}}})));
    }
    assert!(known.pools.labels.there.len() <= 64, "{}", known.pools.labels.there.len());
}

#[test]
fn what_is_written_on_a_pod_and_can_not_be_read_is_told() {
    let mut known = Known::default();
    let (_, facts) = known.pod(pod(json!({"metadata": {"name": "a", "annotations": {"sidewall.dev/proxy": "{"}}})));
    let Some(Err(problem)) = facts.fronted else { panic!() };
    assert!(problem.contains("sidewall.dev/proxy"), "{problem}");
    // One that names another pod's ConfigMap.
    let forged = record().replace("15411", "15999");
    let (_, facts) = known.pod(pod(json!({"metadata": {"name": "a", "annotations": {"sidewall.dev/proxy": forged}}})));
    let Some(Err(problem)) = facts.fronted else { panic!() };
    assert!(problem.contains("not its own"), "{problem}");
}

#[test]
fn a_proxy_that_can_not_be_read_is_kept_as_such_with_its_status() {
    let object = |spec: Value| -> kube::api::DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 3},
            "spec": spec,
            "status": {"observedGeneration": 2},
        }))
        .unwrap()
    };
    let good = json!({"podSelector": {}, "listeners": [{"port": 8000, "forward": {"port": 8080, "protocol": "HTTP"}, "anonymous": true}]});
    let (key, read) = proxy(object(good));
    assert_eq!(key, ("shop".to_owned(), "web".to_owned()));
    assert_eq!((read.generation, &read.status), (3, &json!({"observedGeneration": 2})));
    assert!(read.read.is_ok(), "{:?}", read.read);
    let (_, read) = proxy(object(json!({"podSelector": {}, "listeners": [], "novelty": 1})));
    assert!(read.read.is_err());
    assert_eq!(read.status, json!({"observedGeneration": 2}));
}
