use std::collections::BTreeMap;

use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::plan::{Plan, State, plan};
use crate::admission::inject::Record;
use crate::admission::probes::Originals;
use crate::known::{self, ConfigFacts, Known};
use crate::proxies::render::{config_name, render};
use crate::settings::Ports;

fn key(name: &str) -> (String, String) {
    ("shop".to_owned(), name.to_owned())
}

fn record(secret: &str) -> Record {
    let mut record = Record {
        proxy: "web".to_owned(),
        container: "front-proxy".to_owned(),
        probe_port: 15411,
        config: String::new(),
        secrets: BTreeMap::from([(secret.to_owned(), ["htpasswd".to_owned()].into())]),
    };
    record.config = config_name(&record, &Originals::new());
    record
}

/// A namespace with a SidecarProxy and two pods that were made for it.
struct Bed(Known);

impl Bed {
    fn new() -> Self {
        let mut bed = Self(Known::default());
        bed.proxy(8080);
        bed.secret("1");
        for name in ["a", "b"] {
            bed.pod(name, None);
        }
        bed
    }

    fn proxy(&mut self, port: u16) {
        let object: kube::api::DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "p", "generation": 1},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "listeners": [{
                "port": 8000,
                "forward": {"port": port, "protocol": "HTTP"},
                "authentication": [{"basic": {"secretName": "users", "key": "htpasswd", "realm": "shop"}}],
            }]},
        }))
        .unwrap();
        let row = known::proxy(object);
        assert!(row.1.read.is_ok(), "{:?}", row.1.read);
        self.0.proxies.note(Event::Apply(row));
    }

    fn secret(&mut self, version: &str) {
        self.0.secrets.entry(String::new()).or_default().note(Event::Apply((key("users"), version.to_owned())));
    }

    fn pod(&mut self, name: &str, refreshed: Option<&str>) {
        let mut annotations = json!({"sidewall.dev/proxy": serde_json::to_string(&record("users")).unwrap()});
        if let Some(word) = refreshed {
            annotations["sidewall.dev/refreshed"] = Value::from(word);
        }
        let pod = json!({"metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "labels": {"app": "web"}, "annotations": annotations,
        }});
        let row = self.0.pod(serde_json::from_value(pod).unwrap());
        self.0.pods.note(Event::Apply(row));
    }

    /// Has a ConfigMap be as it was wanted, and say that its pods have been told of a word.
    fn write(&mut self, name: &str, hash: &str, refreshed: &str) {
        let facts = ConfigFacts { uid: "c".to_owned(), hash: hash.to_owned(), refreshed: Some(refreshed.to_owned()) };
        self.0.configs.note(Event::Apply((key(name), facts)));
    }

    fn plan(&self) -> Plan {
        plan(&self.0, "shop", Ports::default())
    }
}

#[test]
fn a_configuration_is_made_once_and_pods_are_told_of_every_change_until_they_have_been() {
    let mut bed = Bed::new();
    let name = record("users").config;
    let first = bed.plan();
    let wanted = &first.configs[&name];
    assert_eq!((&wanted.state, wanted.untold.len()), (&State::Missing, 0));
    assert!(wanted.rendered.text.as_str().contains("port: 8080"));
    bed.write(&name, &wanted.rendered.hash, &wanted.word);
    assert!(bed.plan().configs.is_empty() && bed.plan().unused.is_empty());

    // A password is changed.
    bed.secret("2");
    let rotated = bed.plan();
    let untold = |plan: &Plan| plan.configs[&name].untold.iter().map(|(pod, _)| pod.clone()).collect::<Vec<_>>();
    assert_eq!((&rotated.configs[&name].state, untold(&rotated)), (&State::Untold, vec!["a".into(), "b".into()]));
    let word = rotated.configs[&name].word.clone();
    assert_ne!(word, wanted.word);
    // The operator ends when it has told one: the next one tells the other.
    bed.pod("a", Some(&word));
    assert_eq!(untold(&bed.plan()), ["b"]);
    bed.pod("b", Some(&word));
    assert_eq!((&bed.plan().configs[&name].state, untold(&bed.plan()).len()), (&State::Untold, 0));
    bed.write(&name, &rotated.configs[&name].rendered.hash, &word);
    assert!(bed.plan().configs.is_empty());

    // The SidecarProxy is changed: what was told of stays written down until all have been told again.
    bed.proxy(9090);
    let changed = bed.plan();
    assert_eq!(changed.configs[&name].state, State::Outdated { told: word.clone() });
    assert_eq!(untold(&changed), ["a", "b"]);
    bed.write(&name, &changed.configs[&name].rendered.hash, &word);
    assert_eq!((&bed.plan().configs[&name].state, untold(&bed.plan()).len()), (&State::Untold, 2));
}

#[test]
fn a_pod_that_came_in_while_a_secret_changed_is_told_like_all_others() {
    let mut bed = Bed::new();
    let name = record("users").config;
    let wanted = bed.plan().configs.remove(&name).unwrap();
    let (hash, first) = (wanted.rendered.hash, wanted.word);
    for pod in ["a", "b"] {
        bed.pod(pod, Some(&first));
    }
    bed.write(&name, &hash, &first);
    assert!(bed.plan().configs.is_empty());

    // A pod is let in with the Secret as it was; the Secret changes, all that are known are told, and only then one hears of it.
    bed.secret("2");
    let second = bed.plan().configs[&name].word.clone();
    for pod in ["a", "b"] {
        bed.pod(pod, Some(&second));
    }
    bed.write(&name, &hash, &second);
    assert!(bed.plan().configs.is_empty());
    bed.pod("late", Some(&first));
    let late = bed.plan();
    assert_eq!(late.configs[&name].state, State::Newcomers);
    assert_eq!(late.configs[&name].untold, [("late".to_owned(), "uid-late".to_owned())]);
    bed.pod("late", Some(&second));
    assert!(bed.plan().configs.is_empty());

    // One that was let in by who had heard of the change first is right as it is.
    bed.pod("early", Some(&second));
    assert!(bed.plan().configs.is_empty());
    // One that a version let in that writes no word goes by the ConfigMap's.
    bed.pod("old", None);
    assert!(bed.plan().configs.is_empty());
    bed.secret("3");
    let told = bed.plan().configs[&name].untold.iter().map(|(pod, _)| pod.clone()).collect::<Vec<_>>();
    assert_eq!(told, ["a", "b", "early", "late", "old"]);
    // Who ends is not told any more.
    let mut facts = bed.0.pods.get("shop", "late").cloned().unwrap();
    facts.ending = true;
    bed.0.pods.note(Event::Apply((key("late"), facts)));
    assert_eq!(bed.plan().configs[&name].untold.len(), 4);
}

#[test]
fn what_somebody_else_wrote_into_a_configuration_is_put_right() {
    let mut bed = Bed::new();
    let name = record("users").config;
    let wanted = bed.plan().configs.remove(&name).unwrap();
    bed.write(&name, "another", &wanted.word);
    assert_eq!(bed.plan().configs[&name].state, State::Outdated { told: wanted.word });
}

#[test]
fn proxies_go_on_when_their_sidecar_proxy_is_gone_or_can_not_be_read() {
    let mut bed = Bed::new();
    let name = record("users").config;
    let wanted = bed.plan().configs.remove(&name).unwrap();
    bed.write(&name, &wanted.rendered.hash, &wanted.word);
    let unreadable: kube::api::DynamicObject = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop"}, "spec": {"novelty": 1},
    }))
    .unwrap();
    bed.0.proxies.note(Event::Apply(known::proxy(unreadable)));
    assert!(bed.plan().configs.is_empty() && bed.plan().unused.is_empty() && bed.plan().problems.is_empty());
    let gone: kube::api::DynamicObject =
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop"}})).unwrap();
    bed.0.proxies.note(Event::Delete(known::proxy(gone)));
    assert!(bed.plan().configs.is_empty() && bed.plan().unused.is_empty());
    // Only when no pod has it any more, it is not needed.
    for pod in ["a", "b"] {
        let facts = bed.0.pods.get("shop", pod).cloned().unwrap();
        bed.0.pods.note(Event::Delete((key(pod), facts)));
    }
    assert_eq!(bed.plan().unused, [name].into());
}

#[test]
fn a_pod_that_does_not_mount_what_is_asked_for_now_is_a_problem_and_keeps_what_it_has() {
    let mut bed = Bed::new();
    let name = record("users").config;
    let wanted = bed.plan().configs.remove(&name).unwrap();
    bed.write(&name, &wanted.rendered.hash, &wanted.word);
    let object: kube::api::DynamicObject = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"podSelector": {}, "listeners": [{
            "port": 8000, "forward": {"port": 8080, "protocol": "HTTP"},
            "authentication": [{"basic": {"secretName": "others", "key": "htpasswd", "realm": "shop"}}],
        }]},
    }))
    .unwrap();
    bed.0.proxies.note(Event::Apply(known::proxy(object)));
    let plan = bed.plan();
    assert!(plan.configs.is_empty());
    assert!(plan.problems[&name].to_string().contains("kubectl rollout restart"), "{:?}", plan.problems);
}

#[test]
fn what_is_planned_is_what_injection_said() {
    let bed = Bed::new();
    let record = record("users");
    let object = bed.0.proxies.get("shop", "web").unwrap();
    let rendered = render(object.read.as_ref().unwrap(), &record, &Originals::new(), Ports::default()).unwrap();
    assert_eq!(bed.plan().configs[&record.config].rendered, rendered);
    let word = crate::proxies::refreshed::word(&rendered.hash, &record.secrets, |_| Some("1".to_owned()));
    assert_eq!(bed.plan().configs[&record.config].word, word);
}
