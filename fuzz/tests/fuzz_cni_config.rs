//! What container runtimes and others' installers write for the CNI plugin, for any bytes: network configurations on
//! standard input, results of other plugins, `CNI_ARGS`, the lists of a configuration directory. Nothing panics, what
//! is passed on means the same, and adding our plugin and taking it away gives the same octets.

use serde_json::Value;
use sidewall_cni::config::Config;
use sidewall_cni::conflist::{List, list_of};
use sidewall_cni::entry::{Entry, TYPE};
use sidewall_cni::result::{Attached, pass_on};
use sidewall_cni::version::SpecVersion;
use sidewall_cni::wire::{Answer, Ask};
use sidewall_cni::{args, multus, plugin};
use sidewall_fuzz::{Input, Tally, cost, effort};
use std::ffi::OsString;
use std::time::Duration;

const TEXTS: &[&str] = &[
    r#"{"cniVersion":"1.1.0","name":"podnet","type":"sidewall-cni","exemptNamespaces":["kube-system"],"timeoutMilliseconds":500,
 "runtimeConfig":{},"cni.dev/valid-attachments":[{"containerID":"4f6e","ifname":"eth0"}],
 "prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"interface":0,"address":"10.9.1.7/24"}]}}"#,
    r#"{"cniVersion":"0.4.0","name":"n","prevResult":{"ips":[{"version":"6","address":"fd00::7/64"}],"cniVersion":"1.0.0"}}"#,
    r#"{ "name": "cbr0", "cniVersion": "0.3.1", "plugins": [
  { "type": "flannel", "delegate": {"hairpinMode": true} },
  { "type": "portmap", "capabilities": {"portMappings": true} }, {"type":"sidewall-cni" , "socket":"/s"} ] }"#,
    r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}"#,
    r#"{"cniVersion":"0.4.0","name":"podnet","type":"bridge","ipam":{"type":"host-local"}}"#,
    r#"{"cniVersion":"1.0.0","name":"m","plugins":[{"type":"multus","delegates":[{"cniVersion":"1.0.0","name":"n","type":"bridge"}]}]}"#,
    r#"{"version":1,"ask":{"del":{"container":"4f6e","pod":{"namespace":"shop","name":"web-0"}}}}"#,
    r#"{"version":1,"answer":{"refused":{"reason":"notReady","message":"later"}}}"#,
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=0b7c;K8S_POD_INFRA_CONTAINER_ID=4f6e",
];

const WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\u0000",
    b"null",
    b"1e400",
    b"-0",
    b" \n",
    b"\xff",
    b";",
    b"=",
    b"\"cniVersion\":\"0.4.0\",",
    b"\"plugins\":[],",
    b"\"type\":\"sidewall-cni\",",
    b",{\"type\":\"sidewall-cni\"}",
    b"{\"type\":\"sidewall-cni\"},",
    b"\"prevResult\":{},",
    b"\"ips\":[{\"address\":\"10.0.0.1/8\"}],",
    b"\"name\":\"m\",",
    b"K8S_POD_NAMESPACE=a;",
];

/// The longest error for a runtime: no input may be quoted at length.
const ERROR_MAX: usize = 8 << 10;

static READ: Tally = Tally::new();

/// ADD without a pod, so that nobody is asked: a result that means what the previous one meant, or an error of the
/// specification.
fn add(bytes: &[u8]) {
    let variables = |name: &str| match name {
        "CNI_COMMAND" => Some(OsString::from("ADD")),
        "CNI_CONTAINERID" => Some("4f6e".into()),
        "CNI_NETNS" => Some("/nowhere".into()),
        "CNI_IFNAME" => Some("eth0".into()),
        _ => None,
    };
    let config = Config::parse(bytes);
    let outcome = plugin::run(&variables, &mut &*bytes);
    if outcome.failed {
        let error: Value = serde_json::from_str(&outcome.output).expect("an error is JSON");
        assert!(matches!(error["code"].as_u64(), Some(1 | 2 | 4 | 6 | 7)), "{error}");
        assert!(outcome.output.len() <= ERROR_MAX, "{} octets", outcome.output.len());
        return;
    }
    let config = config.expect("what has a result was understood");
    READ.reached();
    let previous = config.previous.expect("a result comes from a previous one");
    result(previous.get(), &outcome.output, config.version);
    let _ = Attached::read(&previous);
}

fn result(previous: &str, passed: &str, version: SpecVersion) {
    assert_eq!(pass_on(passed, version).as_deref().ok(), Some(passed), "what was passed on is in its version");
    // Numbers beyond any reader's range are kept as they are written; then there is no value to compare.
    let (Ok(mut before), Ok(mut after)) =
        (serde_json::from_str::<Value>(previous), serde_json::from_str::<Value>(passed))
    else {
        return;
    };
    assert_eq!(after["cniVersion"], version.as_str());
    for value in [&mut before, &mut after] {
        value.as_object_mut().expect("an object").remove("cniVersion");
        for address in value.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(address) = address.as_object_mut() {
                address.remove("version");
            }
        }
    }
    assert_eq!(before, after);
}

/// A list with us and without us.
fn lists(text: &str) {
    let entry = Entry { timeout_milliseconds: Some(700), ..Entry::default() };
    if let Ok(list) = List::read(text) {
        READ.reached();
        let without = list.without();
        if let Ok(with) = list.with(&entry) {
            let with = with.as_deref().unwrap_or(text);
            let chained = List::read(with).expect("a list with us is a list");
            let ours = chained.types().iter().filter(|kind| *kind == TYPE).count();
            assert!(ours == 1 && chained.types()[0] != TYPE, "{with}");
            assert!(chained.with(&entry).expect("again").is_none(), "once is enough: {with}");
            let original = without.expect("what we can be in we can be taken from");
            let rest = chained.without().expect("out of it").expect("we are in it");
            if list.types().iter().all(|kind| kind != TYPE) {
                assert_eq!(rest, text, "to the octet");
            }
            let others = |text: &str| List::read(text).map(|list| list.types().to_vec()).expect("a list");
            assert_eq!(others(&rest), others(original.as_deref().unwrap_or(text)));
        }
    }
    if let Ok(made) = list_of(text, &entry) {
        READ.reached();
        let list = List::read(&made).expect("a list was made");
        assert_eq!((list.plugins()[0], list.types().len()), (text.trim_matches([' ', '\n', '\t', '\r']), 2));
    }
    if let Ok(Some(multus::Default::Copy(_))) = multus::default_network(text)
        && let Ok(Some(made)) = multus::with(text, &entry)
    {
        READ.reached();
        assert_eq!(multus::with(&made, &entry).expect("again"), None);
        if multus::without(text).is_ok_and(|before| before.is_none()) {
            assert_eq!(multus::without(&made).expect("out of it").as_deref(), Some(text));
        }
    }
}

fn check(bytes: &[u8]) {
    READ.input();
    let (_, cost) = cost::of(|| {
        let _ = Config::parse(bytes);
        let _ = (Ask::read(bytes), Answer::read(bytes));
    });
    cost.at_most(Duration::from_millis(200), 4 << 20);
    add(bytes);
    if let Ok(ask) = Ask::read(bytes) {
        READ.reached();
        let written = ask.write();
        assert_eq!(Ask::read(&written).expect("what was written is read").write(), written);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(Some(pod)) = args::pod(text) {
        READ.reached();
        let again = format!("K8S_POD_NAMESPACE={};K8S_POD_NAME={}", pod.namespace, pod.name);
        assert_eq!(args::pod(&again).map(|pod| pod.map(|pod| pod.name)), Ok(Some(pod.name)));
    }
    lists(text);
}

#[test]
fn fuzz_cni_config() {
    bolero::check!()
        .with_type::<Input>()
        .with_test_time(effort::time())
        .for_each(|input| check(&input.bytes(TEXTS, WORDS)));
    READ.expect_per_mille(40);
}
