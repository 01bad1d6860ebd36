use serde_json::json;

use super::*;
use crate::divide;
use crate::fixture::{key, pod, running, split};

fn primary() -> Value {
    divide(&pod(), "shop", &split(), &key()).expect("it can be divided").pod
}

fn verify(annotations: &BTreeMap<String, String>, namespace: &str, account: Option<&str>) -> Result<Record, BadRecord> {
    Record::verify(annotations, namespace, account, &key())
}

#[test]
fn what_is_written_is_read_again() {
    let annotations = annotations(&primary());
    let record = verify(&annotations, "shop", Some("web")).expect("ours");
    assert_eq!(record, Record::read(&annotations).expect("it reads"));
    assert_eq!((record.split.as_str(), record.link.as_str()), ("web", "shop/sidewall-web"));
    assert_eq!(record.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["metrics", "logs"]);
    let port =
        |name: &str, container_port| Port { container_port, name: Some(name.to_owned()), protocol: "TCP".to_owned() };
    let ports = [("app", port("http", 8080)), ("metrics-exporter", port("metrics", 9100))];
    assert_eq!(record.ports, ports.map(|(name, port)| (name.to_owned(), vec![port])).into());
    assert_eq!(record.part_of().get("log-shipper"), Some(&"logs"));
    assert_eq!(record.part_of().get("app"), None);
}

#[test]
fn a_word_is_of_one_namespace_one_service_account_and_one_content() {
    let annotations = annotations(&primary());
    let mac = Err(BadRecord::Mac { key: ANNOTATION_SPLIT });
    assert_eq!(verify(&annotations, "bank", Some("web")), mac);
    assert_eq!(verify(&annotations, "shop", Some("admin")), mac);
    assert_eq!(verify(&annotations, "shop", None), mac);
    let other = Key::new(&[8; 32]).expect("32 bytes");
    assert_eq!(Record::verify(&annotations, "shop", Some("web"), &other), mac);
    let text = &annotations[ANNOTATION_SPLIT];
    for (what, with) in
        [("exporter:1", "evil:1"), ("\"link\":\"shop/", "\"link\":\"bank/"), ("9100", "22"), ("\"logs\"", "\"log5\"")]
    {
        assert!(text.contains(what), "{what}");
        let changed = BTreeMap::from([(ANNOTATION_SPLIT.to_owned(), text.replacen(what, with, 1))]);
        assert_eq!(verify(&changed, "shop", Some("web")), mac, "{what}");
    }
    // Written in another way, it is the same.
    let value: Value = serde_json::from_str(text).expect("JSON");
    let pretty = BTreeMap::from([(ANNOTATION_SPLIT.to_owned(), format!("{value:#}"))]);
    assert!(verify(&pretty, "shop", Some("web")).is_ok());
}

#[test]
fn an_absent_service_account_is_the_default_one() {
    let record =
        Record::new("web", &NetworkName { namespace: "a".into(), name: "b".into() }, Vec::new(), BTreeMap::new());
    for (written, read) in [(None, Some("default")), (Some("default"), None), (Some(""), Some("default"))] {
        let text = record.seal("shop", written, &key());
        let annotations = BTreeMap::from([(ANNOTATION_SPLIT.to_owned(), text)]);
        assert!(verify(&annotations, "shop", read).is_ok(), "{written:?} {read:?}");
    }
}

#[test]
fn what_is_not_ours_is_said_so() {
    let read = |text: &str| Record::read(&BTreeMap::from([(ANNOTATION_SPLIT.to_owned(), text.to_owned())]));
    let malformed = |path: &str| Err(BadRecord::Malformed { key: ANNOTATION_SPLIT, path: path.to_owned() });
    assert_eq!(Record::read(&BTreeMap::new()), Err(BadRecord::Missing { key: ANNOTATION_SPLIT }));
    for (text, path) in [
        ("", "."),
        ("[]", "."),
        ("{}", "mac"),
        (r#"{"mac": 1}"#, "mac"),
        (r#"{"mac": ""}"#, "version"),
        (r#"{"mac": "", "version": 1, "split": "a", "link": "b", "parts": {}}"#, "parts"),
        (r#"{"mac": "", "version": 1, "split": "a", "link": "b", "parts": [], "more": 1}"#, "more"),
    ] {
        assert_eq!(read(text), malformed(path), "{text}");
    }
    assert_eq!(read(r#"{"mac": "", "version": 2}"#), Err(BadRecord::Version { key: ANNOTATION_SPLIT, version: 2 }));
    let long = BadRecord::TooLong { key: ANNOTATION_SPLIT, size: RECORD_MAX + 1, most: RECORD_MAX };
    assert_eq!(read(&" ".repeat(RECORD_MAX + 1)), Err(long));
}

#[test]
fn a_split_pod_is_put_together_again() {
    let whole = whole(&running(primary())).expect("ours");
    let names = |pointer: &str| -> Vec<String> {
        crate::place::list(&whole, pointer).iter().map(|value| name_of(value).to_owned()).collect()
    };
    assert_eq!(names("/spec/containers"), ["app", "metrics-exporter"]);
    assert_eq!(names("/spec/initContainers"), ["migrate", "fetch-config", "log-shipper"]);
    let mut volumes = names("/spec/volumes");
    volumes.sort();
    assert_eq!(volumes, ["config", "data", "exporter", "kube-api-access-x7k2p", "unused"]);
    assert_eq!(super::whole(&pod()), Ok(pod()));
    let forged = json!({"metadata": {"annotations": {ANNOTATION_SPLIT: "{}"}}});
    assert!(super::whole(&forged).is_err());
}
