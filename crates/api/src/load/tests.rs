use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

const POLICY: &str = "\
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: shipper, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  containers: [log-shipper]
  egress:
  - to: [{container: app}]
    ports: [{port: metrics}]
";

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  containers:
  - name: app
    image: app:1
";

/// Every finding as `line:column severity field: message`.
fn findings(text: &str) -> Vec<String> {
    let show = |d: &Diagnostic| {
        let field = d.field.as_ref().filter(|f| !f.is_root()).map_or_else(String::new, |f| format!(" {f}"));
        format!("{}:{}-{}:{} {}{field}: {}", d.line, d.column, d.end_line, d.end_column, d.severity, d.message)
    };
    load("f.yaml", text).diagnostics.iter().map(show).collect()
}

fn places(text: &str) -> Vec<String> {
    load("f.yaml", text).diagnostics.iter().map(|d| format!("{}:{}", d.line, d.column)).collect()
}

#[test]
fn all_kinds_of_a_file_are_read() {
    let text = format!(
        "{POLICY}---\n{POD}---\n# nothing\n---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec: {{ports: [{{port: 80}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, namespace: shop}}\n\
         addressType: IPv4\nendpoints: []\n---\n\
         apiVersion: sidewall.dev/v1alpha1\nkind: SidecarProxy\nmetadata: {{name: web, namespace: shop}}\n\
         spec:\n  podSelector: {{}}\n  listeners: [{{port: 80, forward: {{port: 8080}}, anonymous: true}}]\n"
    );
    let loaded = load("f.yaml", &text);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    let o = &loaded.objects;
    let counts = [
        o.policies.len(),
        o.pods.len(),
        o.namespaces.len(),
        o.services.len(),
        o.endpoint_slices.len(),
        o.proxies.len(),
    ];
    assert_eq!(counts, [1; 6]);
    assert_eq!(o.policies[0].name(), "shipper");
    assert_eq!(o.policies[0].namespace(), "shop");
    assert_eq!(format!("{:?}", o.pods[0].place), "f.yaml:11:1");
}

#[test]
fn empty_files_hold_nothing() {
    for text in ["", "\n", "---\n", "---\n---\n", "# only a comment\n", "\u{feff}", "--- ~\n...\n"] {
        let loaded = load("f.yaml", text);
        assert!(loaded.diagnostics.is_empty(), "{text:?}: {:?}", loaded.diagnostics);
    }
}

#[test]
fn json_is_read_like_yaml() {
    let text = json!({
        "kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": ""}, "items": [
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "annotations": {"a": "\"\\/\u{1f600}"}},
             "spec": {"containers": [{"name": "app"}]}}
        ]
    });
    for text in [text.to_string(), serde_json::to_string_pretty(&text).unwrap(), format!("\t{text}\n")] {
        let loaded = load("f.json", &text);
        assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        let pod = &loaded.objects.pods[0];
        assert_eq!(pod.namespace(), "default");
        assert_eq!(pod.object.metadata.annotations.as_ref().unwrap()["a"], "\"\\/\u{1f600}");
    }
    // Escaped surrogate pairs, as other writers of JSON have them, and tabs.
    let escaped = "{\"apiVersion\":\"v1\",\n\t\"kind\":\"Namespace\",\t\"metadata\":{\"name\":\"a\",\"annotations\":{\"x\":\"\\ud83d\\ude00\\u003c\\/\"}}}";
    let loaded = load("f.json", escaped);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    assert_eq!(loaded.objects.namespaces[0].object.metadata.annotations.as_ref().unwrap()["x"], "\u{1f600}</");
}

#[test]
fn findings_stand_at_their_fields() {
    let text =
        POLICY.replace("    ports: [{port: metrics}]", "    portz: []\n    ports: [{port: 99999}, {port: a--b}]");
    assert_eq!(
        findings(&text),
        [
            "9:5-9:10 error spec.egress[0].portz: unknown field \"portz\"; did you mean `ports`?",
            "10:20-10:25 error spec.egress[0].ports[0].port: 99999 is no port: 1 to 65535",
            "10:35-10:39 error spec.egress[0].ports[1].port: \"a--b\" is no port name: at most 15 of a-z, 0-9 and -, \
             at least one letter, no - at the ends and no two together",
        ]
    );
}

#[test]
fn an_empty_peer_is_shown_where_it_stands() {
    let text = POLICY.replace("[{container: app}]", "[{container: app}, {}, {container: a, entity: Node}]");
    assert_eq!(places(&text), ["8:28", "8:33"]);
    let block = POLICY.replace(
        "[{container: app}]",
        "\n    - ipBlock:\n        cidr: 10.0.0.0/8\n        except:\n        - 10.1.0.0/16\n        - 11.0.0.0/8",
    );
    assert_eq!(
        findings(&block),
        ["13:11-13:21 error spec.egress[0].to[0].ipBlock.except[1]: 11.0.0.0/8 is not a smaller range inside \
          10.0.0.0/8: an exception takes a part of cidr away"]
    );
}

#[test]
fn columns_count_characters() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {annotations: {ключ: \"日本\", x: 1}, name: a}\n";
    assert_eq!(
        findings(text),
        ["3:41-3:42 error metadata.annotations.x: here stands a number, but this field takes text: put it in quotes"]
    );
    let shown = load("f.yaml", text).diagnostics[0].render(Colour::Never);
    assert_eq!(
        shown,
        "error: here stands a number, but this field takes text: put it in quotes\n \
         --> f.yaml:3:41\n  \
         |\n\
         3 | metadata: {annotations: {ключ: \"日本\", x: 1}, name: a}\n  \
         |                                           ^\n  \
         = metadata.annotations.x\n"
    );
}

#[test]
fn a_byte_order_mark_moves_nothing() {
    let text = format!("\u{feff}{}", POLICY.replace("kind:", "kind: x\nknd:"));
    assert_eq!(places(&text), ["2:7"]);
}

#[test]
fn a_rendered_finding_has_its_line_and_a_caret() {
    let text = POLICY.replace("mode", "").replace("  egress:", "  mode: Enforc\n  egress:");
    let loaded = load("dir/f.yaml", &text);
    assert_eq!(
        loaded.diagnostics[0].render(Colour::Never),
        "error: \"Enforc\" is not one of Enforce, Audit; did you mean `Enforce`?\n \
         --> dir/f.yaml:7:9\n  \
         |\n\
         7 |   mode: Enforc\n  \
         |         ^^^^^^\n  \
         = spec.mode\n"
    );
    assert_eq!(
        loaded.diagnostics[0].to_string(),
        "dir/f.yaml:7:9: error: \"Enforc\" is not one of Enforce, Audit; did you mean `Enforce`?"
    );
    let coloured = loaded.diagnostics[0].render(Colour::Always);
    assert!(coloured.contains("\u{1b}[1;31merror\u{1b}[0m"), "{coloured:?}");
    assert_eq!(
        serde_json::to_value(&loaded.diagnostics[0]).unwrap(),
        json!({
            "file": "dir/f.yaml", "line": 7, "column": 9, "endLine": 7, "endColumn": 15, "severity": "error",
            "field": "spec.mode", "message": "\"Enforc\" is not one of Enforce, Audit; did you mean `Enforce`?"
        })
    );
}

#[test]
fn long_lines_are_cut_around_the_caret() {
    let text = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{{\"name\":\"a\",\"annotations\":{{\"a\":\"{}\",\"b\":1}}}}}}",
        "x".repeat(5000)
    );
    let loaded = load("f.json", &text);
    let shown = loaded.diagnostics[0].render(Colour::Never);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(shown.lines().all(|line| line.chars().count() < 140), "{shown}");
    let caret = lines[4].chars().position(|c| c == '^').unwrap();
    assert_eq!(lines[3].chars().nth(caret), Some('1'), "{shown}");
}

#[test]
fn a_file_cannot_control_the_terminal() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: \"\\e[2J\", x: \"\u{202e}\"}\n";
    for diagnostic in load("f\u{1b}.yaml", text).diagnostics {
        for shown in [diagnostic.render(Colour::Never), diagnostic.to_string()] {
            assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
        }
    }
    assert_eq!(load("f.yaml", text).diagnostics.len(), 2);
}

#[test]
fn tabs_are_shown_as_columns() {
    let text = "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\",\n\t\"metadata\": {\"nam\": \"a\"}}\n";
    let loaded = load("f.json", text);
    let shown = loaded.diagnostics.last().unwrap().render(Colour::Never);
    assert!(shown.contains("2 |     \"metadata\": {\"nam\": \"a\"}}\n  |                  ^^^^^\n"), "{shown}");
    // As indentation YAML has none.
    let text = "apiVersion: v1\nkind: Namespace\nmetadata:\n\tname: a\n";
    assert!(load("f.yaml", text).has_errors());
}

#[test]
fn doubles_are_errors() {
    let text = POLICY.replace("  containers: [log-shipper]", "  containers: [log-shipper]\n  containers: [app]");
    assert_eq!(findings(&text), ["7:3-7:13 error: this field is already there: a field can be given once only"]);
    let loaded = load("f.yaml", &text);
    assert!(loaded.objects.policies.is_empty());
    assert_eq!(loaded.unreadable[0].name.as_deref(), Some("shipper"));
    assert_eq!(loaded.unreadable[0].pod_selector, None);
    let pod = POD.replace("    image: app:1", "    image: app:1\n    \"image\": app:2");
    assert_eq!(places(&pod), ["8:5"]);
    assert!(load("f.yaml", &pod).objects.pods.is_empty());
    assert_eq!(places(r#"{"apiVersion": "v1", "kind": "Pod", "kind": "Service"}"#), ["1:37"]);
}

#[test]
fn the_same_object_twice_is_an_error() {
    let loaded = load("f.yaml", &format!("{POD}---\n{POD}"));
    assert_eq!(loaded.objects.pods.len(), 1);
    assert_eq!(loaded.diagnostics[0].message, "Pod web is already there, at f.yaml:1:1: remove one of them");
    assert_eq!((loaded.diagnostics[0].line, loaded.diagnostics[0].column), (11, 18));
    let mut loader = Loader::new();
    loader.add("a.yaml", POLICY.as_bytes());
    loader.add("b.yaml", POLICY.as_bytes());
    let loaded = loader.finish();
    assert_eq!(loaded.objects.policies.len(), 1);
    assert!(loaded.diagnostics[0].to_string().starts_with("b.yaml:3:18: error"), "{}", loaded.diagnostics[0]);
}

#[test]
fn a_policy_that_cannot_be_read_is_not_lost() {
    let loaded = load("f.yaml", &POLICY.replace("container: app", "contaner: app"));
    assert!(loaded.objects.policies.is_empty());
    let policy = &loaded.unreadable[0];
    assert_eq!(policy.namespace.as_deref(), Some("shop"));
    assert_eq!(policy.pod_selector, Some(LabelSelector::label("app", "web")));
    // A version that is not ours, or a group with a typing error, changes nothing about that.
    for version in ["sidewall.dev/v9", "sidewal.dev/v1alpha1"] {
        let loaded = load("f.yaml", &POLICY.replace("sidewall.dev/v1alpha1", version));
        assert_eq!(loaded.unreadable.len(), 1, "{version}");
        assert_eq!(loaded.unreadable[0].namespace.as_deref(), Some("shop"));
        assert_eq!((loaded.diagnostics[0].line, loaded.diagnostics[0].column), (1, 13));
    }
    // Without a name it still selects.
    let loaded = load("f.yaml", &POLICY.replace("name: shipper, ", ""));
    assert_eq!(loaded.unreadable.len(), 1);
    assert_eq!(loaded.unreadable[0].pod_selector, Some(LabelSelector::label("app", "web")));
}

#[test]
fn a_policy_whose_text_breaks_is_not_lost() {
    let text = format!("{}---\n{POD}", POLICY.replace("[{port: metrics}]", "[{port: metrics"));
    let loaded = load("f.yaml", &text);
    assert!(loaded.has_errors());
    assert_eq!(loaded.unreadable.len(), 1);
    assert_eq!(loaded.unreadable[0].namespace.as_deref(), Some("shop"));
    assert_eq!(loaded.unreadable[0].name.as_deref(), Some("shipper"));
    // What stands below the break is unknown.
    assert_eq!(loaded.unreadable[0].pod_selector, None);
    // The next document is read.
    assert_eq!(loaded.objects.pods.len(), 1);
    // Broken before the namespace: it may be any.
    let text = "apiVersion: sidewall.dev/v1alpha1\nkind: ContainerNetworkPolicy\nmetadata: {name: a, \n";
    let loaded = load("f.yaml", text);
    assert_eq!(loaded.unreadable.len(), 1);
    assert_eq!(loaded.unreadable[0].namespace, None);
}

#[test]
fn half_a_pod_is_no_pod() {
    let loaded = load("f.yaml", &format!("{POD}  - name: b\n    args: [a\n"));
    assert!(loaded.objects.pods.is_empty());
    assert!(loaded.has_errors());
}

#[test]
fn other_kinds_are_never_passed_over_in_silence() {
    let of = |version: &str, kind: &str| {
        findings(&format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{}}\n"))
    };
    assert!(of("networking.k8s.io/v1", "NetworkPolicy").is_empty());
    assert_eq!(
        of("projectcalico.org/v3", "NetworkPolicy"),
        [
            "1:13-1:33 error apiVersion: NetworkPolicy is read as of networking.k8s.io/v1, not of \"projectcalico.org/v3\""
        ]
    );
    assert!(of("cilium.io/v2", "CiliumNetworkPolicy")[0].contains("error kind"));
    assert!(of("sidewall.dev/v1alpha1", "PodSpilt")[0].contains("error kind"));
    assert_eq!(of("v1", "ConfigMap"), ["2:7-2:16 warning kind: ConfigMap of v1 is not used here, and passed over"]);
    assert!(of("v2", "Pod")[0].contains("warning"));
    assert_eq!(
        findings("kind: Pod\n"),
        ["1:1-1:5 error: the object has no apiVersion; for a kind of ours write sidewall.dev/v1alpha1"]
    );
    assert_eq!(findings("apiVersion: v1\n"), ["1:1-1:11 error: the object has no kind: write apiVersion and kind"]);
    for (text, place) in [("[]\n", "1:1"), ("text\n", "1:1"), ("- a\n", "1:3"), ("1\n", "1:1")] {
        assert_eq!(places(text), [place], "{text}");
    }
}

#[test]
fn lists() {
    let indented = POD.replace('\n', "\n  ");
    let text = format!("apiVersion: v1\nkind: List\nitems:\n- {}\n", indented.trim_end());
    let loaded = load("f.yaml", &text);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    assert_eq!(loaded.objects.pods[0].name(), "web");
    let problem = Problem::error(FieldPath::spec().key("containers").index(0).key("image"), "no");
    let shown = loaded.objects.pods[0].place.diagnostic(&problem);
    assert_eq!((shown.line, shown.column), (10, 14));
    assert_eq!(shown.field.unwrap().to_string(), "items[0].spec.containers[0].image");
    assert_eq!(
        findings(&text.replace("image:", "imag:")),
        ["10:7-10:11 error items[0].spec.containers[0].imag: unknown field \"imag\"; did you mean `image`?"]
    );
    assert_eq!(places("apiVersion: v1\nkind: List\nitem: []\n"), ["1:1", "3:1"]);
    assert_eq!(
        places("apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, items: []}, 1]\n"),
        ["3:10", "3:50"]
    );
}

#[test]
fn names_are_checked() {
    assert_eq!(places(&POD.replace("name: web", "name: Web")), ["3:18"]);
    assert_eq!(places(&POD.replace("namespace: shop", "namespace: a.b")), ["3:34"]);
    assert_eq!(places(&POD.replace("name: web, ", "")), ["3:1"]);
    assert_eq!(places(&POD.replace("metadata: {name: web, namespace: shop}\n", "")), ["1:1"]);
    let loaded = load("f.yaml", &POD.replace(", namespace: shop", ""));
    assert_eq!(loaded.objects.pods[0].namespace(), "default");
}

#[test]
fn aliases_are_read_within_bounds() {
    let text = POLICY.replace("[log-shipper]", "[&name log-shipper]").replace("container: app", "container: *name");
    let loaded = load("f.yaml", &text);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    let peer = &loaded.objects.policies[0].object.spec.egress.as_ref().unwrap()[0].to[0];
    assert_eq!(peer.container.as_deref(), Some("log-shipper"));
    // An alias of nothing, and one of what it stands in.
    assert!(load("f.yaml", "a: *b\n").has_errors());
    assert!(load("f.yaml", "&a [*a]\n").has_errors());
    // A key that is one, and a merge.
    assert!(load("f.yaml", "x: &a {b: c}\ny: {<<: *a}\n").diagnostics.iter().any(|d| d.message.contains("merge")));
}

#[test]
fn aliases_do_not_multiply() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let part = format!("*a{},", i - 1).repeat(9);
        laughs.push_str(&format!("a{i}: &a{i} [{part}]\n"));
    }
    let began = Instant::now();
    let found = load("f.yaml", &laughs);
    assert!(found.diagnostics.iter().any(|d| d.message.contains("aliases")), "{:?}", found.diagnostics);
    // Long text repeated is as bad as many values.
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(1000));
    let found = load("f.yaml", &text);
    assert!(found.diagnostics.iter().any(|d| d.message.contains("aliases")), "{:?}", found.diagnostics);
    assert!(began.elapsed() < Duration::from_secs(20), "took {:?}", began.elapsed());
}

#[test]
fn depth_is_bounded() {
    let flow = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let block = |n: usize| (0..n).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>();
    let deep = |text: &str| load("f.yaml", text).diagnostics.iter().any(|d| d.message.contains("deep"));
    for (good, bad) in [(flow(DEPTH_MAX), flow(DEPTH_MAX + 1)), (block(DEPTH_MAX), block(DEPTH_MAX + 1))] {
        assert!(!deep(&good));
        assert!(deep(&bad));
    }
    // Aliases add up.
    let half = DEPTH_MAX / 2;
    let nested = |n: usize| format!("[&a {}, {}*a{}]", flow(half), "[".repeat(n), "]".repeat(n));
    assert!(!deep(&nested(half - 1)));
    assert!(deep(&nested(half)));
    // No depth is too much to be refused.
    assert!(load("f.yaml", &"[".repeat(1_000_000)).has_errors());
    assert!(load("f.yaml", &"{a: ".repeat(500_000)).has_errors());
    assert!(load("f.yaml", &"- ".repeat(500_000)).has_errors());
}

#[test]
fn sizes_are_bounded() {
    let mut loader = Loader::new();
    loader.add("big.yaml", &vec![b' '; FILE_MAX + 1]);
    let loaded = loader.finish();
    assert!(loaded.diagnostics[0].message.contains("at most 4194304"), "{:?}", loaded.diagnostics);
    let many = "---\na: 1\n".repeat(DOCUMENTS_MAX + 1);
    let loaded = load("f.yaml", &many);
    assert!(loaded.diagnostics.last().unwrap().message.contains("documents"));
    let values = format!("[{}]", "1,".repeat(VALUES_MAX + 1));
    assert!(load("f.yaml", &values).diagnostics[0].message.contains("values"));
    let doubles = format!("{{{}}}", "a: 1, ".repeat(FINDINGS_MAX * 2));
    assert!(load("f.yaml", &doubles).diagnostics.len() <= FINDINGS_MAX + 1);
}

#[test]
fn what_is_no_text_is_refused_at_its_place() {
    let mut loader = Loader::new();
    loader.add("f.yaml", b"a: 1\nb: \xc3\x28\n");
    let loaded = loader.finish();
    assert_eq!(loaded.diagnostics[0].to_string(), "f.yaml:2:4: error: the file is no UTF-8 text from here on");
}

#[test]
fn doubtful_words_are_refused() {
    let with = |word: &str| POD.replace("    image: app:1", &format!("    image: {word}"));
    assert_eq!(places(&with("yes")), ["7:12"]);
    assert_eq!(places(&with("\"yes\"")), Vec::<String>::new());
    assert_eq!(places(&with("!!str yes")), Vec::<String>::new());
    assert_eq!(places(&with("!secret yes")), ["7:20"]);
    assert_eq!(places(&with("!!binary aGk=")), ["7:21"]);
}

#[test]
fn broken_text_says_where() {
    for (text, place) in [("a: [1\n", "1:4"), ("a: b: c\n", "1:5"), ("a: \"b\n", "2:1")] {
        let loaded = load("f.yaml", text);
        let first = &loaded.diagnostics[0];
        assert!(first.message.starts_with("this is no YAML: "), "{first:?}");
        assert_eq!(format!("{}:{}", first.line, first.column), place, "{text:?}: {}", first.message);
    }
}

#[test]
fn findings_come_in_the_order_of_the_files() {
    let mut loader = Loader::new();
    loader.add("z.yaml", b"kind: Pod\n---\n[]\n");
    loader.add("a.yaml", b"[]\n");
    let shown: Vec<_> = loader.finish().diagnostics.iter().map(|d| format!("{}:{}", d.file, d.line)).collect();
    assert_eq!(shown, ["z.yaml:1", "z.yaml:3", "a.yaml:1"]);
}

#[test]
fn cut_and_changed_text_never_panics() {
    // Every prefix, and every text with one octet changed: the fuzz target goes on from here.
    let text = format!("{POLICY}---\n{POD}");
    for end in 0..text.len() {
        load("f.yaml", &text[..end]);
    }
    let octets = b"\t\n \"'{}[]:,-&*!|>%@`#?~<0a\\\xff\x00";
    for (i, place) in (0..text.len()).step_by(7).enumerate() {
        let mut changed = text.clone().into_bytes();
        changed[place] = octets[i % octets.len()];
        let mut loader = Loader::new();
        loader.add("f.yaml", &changed);
        for diagnostic in loader.finish().diagnostics {
            diagnostic.render(Colour::Never);
        }
    }
}

#[test]
fn a_policy_under_a_wrong_api_version_is_not_lost_in_a_faulty_text_either() {
    for body in ["spec: {podSelector: {}}\n", "spec: {podSelector: {}, podSelector: {}}\n"] {
        let text = format!("apiVersion: example.com/v1\nkind: ContainerNetworkPolicy\nmetadata: {{name: a}}\n{body}");
        let loaded = load("p.yaml", &text);
        assert!(loaded.has_errors());
        assert_eq!(loaded.unreadable.len(), 1, "{body}");
    }
}

const SPLIT: &str = "\
apiVersion: sidewall.dev/v1alpha1
kind: PodSplit
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  parts:
  - name: logs
    containers: [log-shipper]
";

#[test]
fn a_split_is_read_and_its_mistakes_have_places() {
    let loaded = load("f.yaml", SPLIT);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    assert_eq!(loaded.objects.splits.len(), 1);
    assert_eq!(loaded.objects.splits[0].object.metadata.namespace.as_deref(), Some("default"));

    let text = SPLIT.replace("name: logs", "name: primary").replace("[log-shipper]", "[log-shipper, log-shipper]");
    let found = findings(&text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("7:11-7:18 error spec.parts[0].name: primary is the selected pod itself"),
        "{found:?}"
    );
    assert!(
        found[1].starts_with("8:31-8:42 error spec.parts[0].containers[1]: \"log-shipper\" stands at"),
        "{found:?}"
    );
    assert!(load("f.yaml", &text).objects.splits.is_empty());

    let found = findings(&format!("{SPLIT}  lnik: {{}}\n"));
    assert!(found[0].contains("spec.lnik: unknown field \"lnik\"; did you mean `link`?"), "{found:?}");
    // It isolates nothing: a broken one is no unreadable policy.
    assert!(load("f.yaml", &text).unreadable.is_empty());
    let found = findings(&SPLIT.replace("v1alpha1", "v1"));
    assert!(found[0].contains("the kind \"PodSplit\" is not known in sidewall.dev/v1"), "{found:?}");
    let found = findings(&format!("{SPLIT}---\n{SPLIT}"));
    assert!(found[0].contains("PodSplit web is already there"), "{found:?}");
}
