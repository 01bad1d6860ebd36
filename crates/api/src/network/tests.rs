use super::*;
use crate::load::load;
use crate::names::LABEL_NAMESPACE_NAME;
use crate::read::{PolicyKind, UnreadablePolicy};
use crate::{Diagnostic, Loaded, Operator};

fn policy(spec: &str) -> String {
    let mut text =
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: shop}\nspec:\n"
            .to_owned();
    for line in spec.lines() {
        text += &format!("  {line}\n");
    }
    text
}

fn read(spec: &str) -> NetworkPolicySpec {
    let loaded = load("f.yaml", &policy(spec));
    assert!(!loaded.has_errors(), "{spec}: {:#?}", loaded.diagnostics);
    assert!(loaded.unreadable.is_empty());
    loaded.objects.network_policies[0].object.spec.clone()
}

/// What is said of a policy that must not be understood.
fn refused(spec: &str) -> (UnreadablePolicy, String) {
    let loaded = load("f.yaml", &policy(spec));
    assert!(loaded.has_errors(), "{spec}");
    assert!(loaded.objects.network_policies.is_empty());
    let said = said(&loaded);
    let [unreadable] = <[UnreadablePolicy; 1]>::try_from(loaded.unreadable).unwrap();
    assert_eq!(unreadable.kind, PolicyKind::NetworkPolicy);
    assert_eq!((unreadable.namespace.as_deref(), unreadable.name.as_deref()), (Some("shop"), Some("a")));
    (unreadable, said)
}

fn said(loaded: &Loaded) -> String {
    let one = |d: &Diagnostic| {
        let field = d.field.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{}:{} {} {field}: {}", d.line, d.column, d.severity, d.message)
    };
    loaded.diagnostics.iter().map(one).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_upstream_documents_is_read() {
    let spec = read(
        "podSelector: {matchLabels: {role: db}}\n\
         policyTypes: [Ingress, Egress]\n\
         ingress:\n\
         - from:\n\
         \x20 - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}\n\
         \x20 - namespaceSelector: {matchLabels: {project: myproject}}\n\
         \x20   podSelector: {matchExpressions: [{key: role, operator: In, values: [frontend]}]}\n\
         \x20 ports: [{port: 6379}]\n\
         egress:\n\
         - to: [{ipBlock: {cidr: 10.0.0.0/24}}]\n\
         \x20 ports: [{protocol: UDP, port: 32000, endPort: 32768}, {protocol: SCTP, port: https}]\n",
    );
    assert_eq!(spec.ingress[0].from.len(), 2);
    let both = &spec.ingress[0].from[1];
    assert!(both.namespace_selector.is_some());
    assert_eq!(both.pod_selector.as_ref().unwrap().match_expressions[0].operator, Operator::In);
    assert_eq!(spec.ingress[0].ports[0].protocol, crate::PortProtocol::Tcp);
    assert_eq!(spec.egress[0].ports[0].end_port, Some(32768));
}

#[test]
fn directions_default_as_upstream() {
    use PolicyType::{Egress, Ingress};
    let cases: [(&str, &[PolicyType]); 9] = [
        ("podSelector: {}", &[Ingress]),
        ("podSelector: {}\npolicyTypes: []", &[Ingress]),
        ("podSelector: {}\npolicyTypes:", &[Ingress]),
        ("podSelector: {}\negress: []", &[Ingress]),
        ("podSelector: {}\negress:", &[Ingress]),
        ("podSelector: {}\negress: [{}]", &[Ingress, Egress]),
        ("podSelector: {}\npolicyTypes: [Egress]", &[Egress]),
        ("podSelector: {}\npolicyTypes: [Egress, Egress]", &[Egress]),
        ("podSelector: {}\npolicyTypes: [Egress]\ningress: [{}]", &[Egress]),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text).directions(), expected.iter().copied().collect(), "{text}");
    }
}

#[test]
fn what_is_absent_is_as_the_api_server_has_it() {
    let spec = read("podSelector:\ningress: [{from:, ports:}]");
    assert!(spec.pod_selector.is_everything());
    assert!(spec.ingress[0].from.is_empty() && spec.ingress[0].ports.is_empty());
    for text in ["{}", "spec:", "spec: {}"] {
        let text = format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: a}}\n{text}\n");
        let loaded = load("f.yaml", &text.replace("\n{}\n", "\n"));
        assert!(loaded.diagnostics.is_empty(), "{text}: {:?}", loaded.diagnostics);
        assert_eq!(loaded.objects.network_policies[0].object.spec, NetworkPolicySpec::default());
        assert_eq!(loaded.objects.network_policies[0].namespace(), "default");
    }
}

#[test]
fn rules_of_a_direction_that_is_not_named_are_warned_of() {
    let loaded = load("f.yaml", &policy("podSelector: {}\npolicyTypes: [Egress]\ningress: [{}]"));
    assert!(said(&loaded).contains("warning spec.ingress: has no effect"), "{}", said(&loaded));
    assert!(!loaded.has_errors());
}

#[test]
fn a_policy_that_is_not_understood_is_kept_with_what_it_selects() {
    let cases = [
        ("ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]", "make them two entries"),
        ("ingress: [{from: [{}]}]", "the peer is empty"),
        ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]", "is no network"),
        ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.1}}]}]", "10.0.0.1/32"),
        ("ingress: [{from: [{ipBlock: {except: [10.0.0.0/9]}}]}]", "cidr"),
        ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}]}]", "smaller range"),
        ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]", "smaller range"),
        ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: ['fd00::/8']}}]}]", "smaller range"),
        ("ingress: [{ports: [{port: 90, endPort: 80}]}]", "does not end a range"),
        ("ingress: [{ports: [{endPort: 80}]}]", "needs port"),
        ("ingress: [{ports: [{port: http, endPort: 80}]}]", "number"),
        ("ingress: [{ports: [{port: 0}]}]", "is no port"),
        ("ingress: [{ports: [{port: 70000}]}]", "is no port"),
        ("ingress: [{ports: [{port: '80'}]}]", "without quotes"),
        ("ingress: [{ports: [{port: 80, protocol: ICMP}]}]", "ICMP"),
        ("ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: Is}]}}]}]", "Is"),
        ("ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: In}]}}]}]", "at least one value"),
        (
            "ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]}]",
            "no values",
        ),
        ("ingress: [{from: [{namespaceSelector: {matchLabels: {a: 'b c'}}}]}]", "no label value"),
        ("ingress: [{from: [{container: app}]}]", "unknown field"),
        ("ingress: [{from: [{entity: World}]}]", "unknown field"),
        ("ingress: [{form: []}]", "did you mean `from`"),
        ("ingress: [~]", "without a value"),
        ("policyTypes: [Ingres]", "Ingres"),
        ("policyTypes: [Ingress, Egress, Ingress]", "at most two"),
        ("containers: [app]", "unknown field"),
        ("mode: Audit", "unknown field"),
    ];
    for (spec, expected) in cases {
        let (unreadable, said) = refused(&format!("podSelector: {{matchLabels: {{app: web}}}}\n{spec}"));
        assert!(said.contains(expected), "{spec}: {said}");
        assert!(said.contains("6:"), "the line: {said}");
        assert_eq!(unreadable.pod_selector, Some(LabelSelector::label("app", "web")), "{spec}");
    }
    // What it selects is itself not certain.
    for spec in ["podSelector: {matchLabel: {a: b}}", "podSelector: {matchExpressions: [{key: a, operator: Has}]}"] {
        assert_eq!(refused(spec).0.pod_selector, None, "{spec}");
    }
}

#[test]
fn a_policy_of_another_version_is_still_a_policy() {
    for version in ["extensions/v1beta1", "networking.k8s.io/v2", "networking.k8s.io", "projectcalico.org/v3", "v1"] {
        let text = policy("podSelector: {}").replace("networking.k8s.io/v1", version);
        let loaded = load("f.yaml", &text);
        assert!(loaded.has_errors() && loaded.objects.network_policies.is_empty(), "{version}");
        assert_eq!(loaded.unreadable.len(), 1, "{version}");
    }
}

#[test]
fn sizes_are_bounded_far_above_what_people_write() {
    let list = |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<Vec<_>>().join(", ");
    let names = |count| list(count, &|n| format!("team-{n}"));
    let selector = |count| {
        format!(
            "podSelector: {{}}\ningress: [{{from: [{{namespaceSelector: {{matchExpressions: \
             [{{key: {LABEL_NAMESPACE_NAME}, operator: In, values: [{}]}}]}}}}]}}]",
            names(count)
        )
    };
    assert_eq!(read(&selector(1024)).ingress.len(), 1);
    assert!(refused(&selector(1025)).1.contains("1025"));
    let holes = |count| {
        let holes = list(count, &|n| format!("10.{}.{}.0/24", n / 256, n % 256));
        format!("podSelector: {{}}\ningress: [{{from: [{{ipBlock: {{cidr: 10.0.0.0/8, except: [{holes}]}}}}]}}]")
    };
    assert_eq!(read(&holes(1024)).ingress[0].from[0].ip_block.as_ref().unwrap().except.len(), 1024);
    assert!(refused(&holes(1025)).1.contains("1025"));
    let ports = |count| {
        format!("podSelector: {{}}\ningress: [{{ports: [{}]}}]", list(count, &|n| format!("{{port: {}}}", n + 1)))
    };
    assert_eq!(read(&ports(1024)).ingress[0].ports.len(), 1024);
    assert!(refused(&ports(1025)).1.contains("1025"));
    let rules = |count| format!("podSelector: {{}}\ningress: [{}]", list(count, &|_| "{}".to_owned()));
    assert_eq!(read(&rules(1024)).ingress.len(), 1024);
    assert!(refused(&rules(1025)).1.contains("1025"));
}

fn multi(annotations: &str) -> Loaded {
    let text = format!(
        "apiVersion: k8s.cni.cncf.io/v1beta1\nkind: MultiNetworkPolicy\n\
         metadata: {{name: a, namespace: shop, annotations: {annotations}}}\nspec: {{podSelector: {{}}}}\n"
    );
    load("f.yaml", &text)
}

#[test]
fn a_multi_network_policy_names_its_networks() {
    let networks = |text: &str| -> Vec<String> {
        let loaded = multi(&format!("{{'{POLICY_FOR}': '{text}'}}"));
        assert!(!loaded.has_errors(), "{text}: {:?}", loaded.diagnostics);
        let policy = &loaded.objects.multi_network_policies[0].object;
        policy.networks().unwrap().iter().map(ToString::to_string).collect()
    };
    assert_eq!(networks("macvlan1"), ["shop/macvlan1"]);
    assert_eq!(networks("macvlan1, ops/bridge,macvlan1"), ["ops/bridge", "shop/macvlan1"]);
    for bad in ["{}", "{other: thing}"] {
        let loaded = multi(bad);
        assert!(said(&loaded).contains("names no network"), "{}", said(&loaded));
        assert_eq!(loaded.unreadable[0].pod_selector, Some(LabelSelector::everything()));
        assert_eq!(loaded.unreadable[0].kind, PolicyKind::MultiNetworkPolicy);
    }
    for bad in ["", " ", "a,", "a/b/c", "A", "/a", "a b", "a;b"] {
        let loaded = multi(&format!("{{'{POLICY_FOR}': '{bad}'}}"));
        assert!(said(&loaded).contains("names no network"), "{bad}: {}", said(&loaded));
        assert!(said(&loaded).starts_with("3:"), "{bad}: {}", said(&loaded));
        assert_eq!(loaded.unreadable.len(), 1);
    }
    let many = (0..65).map(|n| format!("net{n}")).collect::<Vec<_>>().join(",");
    assert!(said(&multi(&format!("{{'{POLICY_FOR}': '{many}'}}"))).contains("at most 64"));
}

#[test]
fn both_versions_of_multi_network_policies_are_read() {
    for (version, good) in [("v1beta1", true), ("v1beta2", true), ("v1", false)] {
        let text = format!(
            "apiVersion: k8s.cni.cncf.io/{version}\nkind: MultiNetworkPolicy\nmetadata: {{name: a, annotations: \
             {{'{POLICY_FOR}': net}}}}\nspec: {{podSelector: {{}}, ingress: [{{ports: [{{port: 1, endPort: 2}}]}}]}}\n"
        );
        let loaded = load("f.yaml", &text);
        assert_eq!(!loaded.has_errors(), good, "{version}: {:?}", loaded.diagnostics);
        assert_eq!(loaded.objects.multi_network_policies.len() + loaded.unreadable.len(), 1);
    }
}

fn attachments(status: &str, own: Option<&str>) -> Attachments {
    let metadata = ObjectMeta {
        namespace: Some("shop".to_owned()),
        annotations: Some(BTreeMap::from([(NETWORK_STATUS.to_owned(), status.to_owned())])),
        ..ObjectMeta::default()
    };
    Attachments::read(&metadata, own)
}

const DEFAULT: &str =
    r#"{"name": "k8s-pod-network", "interface": "eth0", "ips": ["10.1.0.9"], "default": true, "dns": {}}"#;

fn entry(name: &str, device: &str, ips: &str) -> String {
    format!(r#"{{"name": "{name}", "interface": "{device}", "ips": {ips}, "mac": "02:00:00:00:00:01", "dns": {{}}}}"#)
}

#[test]
fn network_status_as_multus_writes_it() {
    let text = format!(
        "[{DEFAULT}, {}, {}]",
        entry("ops/bridge", "net2", r#"["fd09::2", "10.9.0.2/24", "10.9.0.2"]"#),
        entry("macvlan", "net1", "[]")
    );
    for own in [Some("eth0"), None] {
        let read = attachments(&text, own);
        assert_eq!(read.faults, Vec::<String>::new());
        let shown: Vec<_> =
            read.known.iter().map(|a| (a.network.to_string(), a.device.clone(), a.addresses.len())).collect();
        assert_eq!(
            shown,
            [("shop/macvlan".to_owned(), "net1".to_owned(), 0), ("ops/bridge".to_owned(), "net2".to_owned(), 2)]
        );
    }
    for nothing in ["", " ", "[]"] {
        assert_eq!(attachments(nothing, Some("eth0")), Attachments::default());
    }
    assert_eq!(Attachments::read(&ObjectMeta::default(), None), Attachments::default());
}

#[test]
fn what_a_pods_author_writes_is_never_more_than_a_hint() {
    let good = entry("net", "net1", "[]");
    // What is wrong costs its own device only, and nothing where the whole can't be read.
    let cases: [(String, usize, &str); 14] = [
        ("{".to_owned(), 0, "is no list"),
        ("{}".to_owned(), 0, "is no list"),
        (r#"[{"interface": "net1"}]"#.to_owned(), 0, "is no list"),
        (format!("[{good}, 7]"), 0, "is no list"),
        (format!("[{good}, {}]", entry("other", "net1", "[]")), 0, "2 times"),
        (format!("[{good}, {}]", entry("net", "net1", "[]")), 0, "2 times"),
        (format!("[{good}, {}]", entry("other", "eth0", "[]")), 1, "can't be"),
        (format!("[{good}, {}]", entry("other", "lo", "[]")), 1, "can't be"),
        (format!("[{good}, {}]", entry("other", "", "[]")), 1, "no device"),
        (format!("[{good}, {}]", entry("other", "net1/../x", "[]")), 1, "no device"),
        (format!("[{good}, {}]", entry("other", "a-name-of-sixteen", "[]")), 1, "no device"),
        (format!("[{good}, {}]", entry("No Network", "net2", "[]")), 1, "names no network"),
        (format!("[{good}, {}]", entry("other", "net2", r#"["10.0.0.300"]"#)), 1, "is no address"),
        (format!("[{good}, {}]", DEFAULT.replace("eth0", "net7")), 1, "the pod network's"),
    ];
    for (text, known, fault) in cases {
        let read = attachments(&text, Some("eth0"));
        assert_eq!(read.known.len(), known, "{text}");
        assert!(read.faults.len() == 1 && read.faults[0].contains(fault), "{text}: {:?}", read.faults);
    }
    let many = (0..33).map(|n| entry("net", &format!("net{n}"), "[]")).collect::<Vec<_>>().join(",");
    assert!(attachments(&format!("[{many}]"), None).known.is_empty());
    let long = format!("[{}]", " ".repeat(NETWORK_STATUS_MAX));
    assert!(attachments(&long, None).faults[0].contains("octets"));
    let deep = "[".repeat(10_000);
    assert!(attachments(&deep, None).faults[0].contains("is no list"));
}
