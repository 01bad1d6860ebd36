//! Policies from any text: nothing panics, no policy is lost, every finding has a place in the text, and what was read
//! resolves, compiles and is evaluated.

use sidewall_api::{Colour, Diagnostic, Loaded, Loader, UnreadablePolicy};
use sidewall_flow::{Action, Party};
use sidewall_fuzz::{Input, Tally, cost, effort};
use sidewall_policy::testing::{Case, Draw, Ground};
use sidewall_policy::world::{Unreadable, objects};
use sidewall_policy::{End, Flow, Generation, Subject, World, compile, evaluate, resolve};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

const TEXTS: &[&str] = &[
    include_str!("../corpus/shipper.yaml"),
    include_str!("../corpus/several.yaml"),
    include_str!("../corpus/proxy.yaml"),
    include_str!("../corpus/cluster.yaml"),
    include_str!("../corpus/list.json"),
    include_str!("../corpus/anchors.yaml"),
];

const WORDS: &[&[u8]] = &[
    b"\n---\n",
    b"\n...\n",
    b"\n- ",
    b": ",
    b"#",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\"",
    b"'",
    b"|",
    b">",
    b"&a ",
    b"*a",
    b"!!str ",
    b"!!int ",
    b"<<: ",
    b"? ",
    b"\t",
    b"\r",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\\u0000",
    b"~",
    b"null",
    b"true",
    b"0",
    b"-1",
    b"65535",
    b"65536",
    b"1e9",
    b"0x10",
    b".nan",
    b"99999999999999999999",
    b"ContainerNetworkPolicy",
    b"SidecarProxy",
    b"Pod",
    b"Service",
    b"List",
    b"NetworkPolicy",
    b"v1",
    b"v2",
    b"sidewall.dev/v1alpha1",
    b"sidewall.dev/v1",
    b"networking.k8s.io/v1",
    b"apiVersion",
    b"kind",
    b"metadata",
    b"name",
    b"namespace",
    b"spec",
    b"podSelector",
    b"matchLabels",
    b"matchExpressions",
    b"key",
    b"operator",
    b"values",
    b"In",
    b"NotIn",
    b"Exists",
    b"DoesNotExist",
    b"containers",
    b"policyTypes",
    b"Ingress",
    b"Egress",
    b"ingress",
    b"egress",
    b"mode",
    b"Audit",
    b"Enforce",
    b"from",
    b"to",
    b"ports",
    b"port",
    b"endPort",
    b"protocol",
    b"TCP",
    b"UDP",
    b"SCTP",
    b"ICMP",
    b"container",
    b"namespaceSelector",
    b"ipBlock",
    b"cidr",
    b"except",
    b"entity",
    b"ClusterDNS",
    b"World",
    b"KubeAPIServer",
    b"Node",
    b"PortForward",
    b"0.0.0.0/0",
    b"::/0",
    b"127.0.0.1/8",
    b"10.0.0.1/33",
    b"::ffff:1.2.3.4/96",
    b"app",
    b"web",
    b"http",
    b"listeners",
    b"forward",
    b"authentication",
    b"anonymous",
    b"status",
];

static LOADED: Tally = Tally::new();

/// The kinds of ours.
const OURS: [&str; 2] = ["ContainerNetworkPolicy", "SidecarProxy"];

fn check(bytes: &[u8]) {
    LOADED.input();
    let (loaded, cost) = cost::of(|| {
        let mut loader = Loader::new();
        loader.add("input.yaml", bytes);
        loader.finish()
    });
    cost.at_most(Duration::from_secs(2), 64 << 20);
    if let Ok(text) = std::str::from_utf8(bytes) {
        nothing_is_lost(text, &loaded);
    } else {
        assert!(loaded.has_errors(), "bytes that are no text are an error");
    }
    loaded.diagnostics.iter().for_each(|finding| stands_in(bytes, finding));
    for unreadable in &loaded.unreadable {
        assert!(loaded.has_errors(), "what cannot be understood is an error");
        assert!(unreadable.problems.iter().any(|problem| problem.is_error()), "{unreadable:?}");
    }
    let objects = &loaded.objects;
    objects.policies.iter().for_each(|policy| is_read_as_written(&policy.object));
    let read = objects.policies.len() + objects.proxies.len();
    if read > 0 {
        LOADED.reached();
    }
    if read + loaded.unreadable.len() == 0 {
        return;
    }
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    judge(&loaded, hasher.finish());
}

/// Compares with another reader of YAML: every document of a kind of ours is an object or unreadable; one that has the
/// name of another is at least an error.
fn nothing_is_lost(text: &str, loaded: &Loaded) {
    let Ok(documents) = serde_saphyr::from_multiple::<serde_json::Value>(text) else { return };
    // The other reader merges what a merge key names; ours refuses to, and cannot know what kind would have come of it.
    if loaded.diagnostics.iter().any(|finding| finding.is_error() && finding.message.starts_with("merge keys")) {
        return;
    }
    let lists = documents.iter().filter(|document| document["kind"] == "List" && document["apiVersion"] == "v1");
    let items = lists.filter_map(|list| list["items"].as_array()).flatten();
    let ours = documents.iter().chain(items).filter(|value| {
        let group = value["apiVersion"].as_str().is_some_and(|version| version.starts_with("sidewall.dev/"));
        group && OURS.iter().any(|kind| value["kind"] == *kind)
    });
    let ours = ours.count();
    let duplicates = loaded.diagnostics.iter().filter(|d| d.is_error() && d.message.contains("is already there"));
    let kept = loaded.objects.policies.len() + loaded.objects.proxies.len() + loaded.unreadable.len();
    assert!(kept + duplicates.count() >= ours, "{ours} policies were written, {kept} kept: {:?}", loaded.diagnostics);
    assert!(loaded.has_errors() || kept == ours, "{ours} policies were written, {kept} read");
}

/// A finding's place is in the text, and showing it sends nothing to the terminal that the text has put there.
fn stands_in(bytes: &[u8], finding: &Diagnostic) {
    let good = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap(),
    };
    let good = good.strip_prefix('\u{feff}').unwrap_or(good);
    let lines: Vec<usize> = good.split('\n').map(|line| line.chars().count()).collect();
    for (line, column) in [(finding.line, finding.column), (finding.end_line, finding.end_column)] {
        assert!(line >= 1 && line <= lines.len(), "line {line} of {}: {finding:?}", lines.len());
        // The line's break has a column too.
        assert!(column >= 1 && column <= lines[line - 1] + 2, "column {column}: {finding:?}");
    }
    assert!((finding.line, finding.column) <= (finding.end_line, finding.end_column), "{finding:?}");
    let shown = finding.render(Colour::Never);
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    assert!(!finding.message.is_empty());
}

/// The longest key that YAML takes where a `:` alone makes it one (YAML 1.2, section 7.4), with room for its quotes and
/// escapes.
const KEY_MAX: usize = 128;

/// What is written out again is read as the same.
fn is_read_as_written(policy: &sidewall_api::ContainerNetworkPolicy) {
    let longest =
        policy.metadata.annotations.iter().flat_map(|annotations| annotations.keys()).map(|key| key.len()).max();
    if longest.is_some_and(|length| length > KEY_MAX) {
        return;
    }
    let text = in_print(&serde_json::to_string(policy).unwrap());
    let again = sidewall_api::load::load("again.json", &text);
    assert!(!again.has_errors(), "{text}: {:?}", again.diagnostics);
    let [again] = again.objects.policies.as_slice() else { panic!("{text} is no longer one policy") };
    assert_eq!(again.object, *policy);
}

/// JSON as every reader of YAML takes it: JSON lets control characters above `U+007E` and noncharacters stand for
/// themselves, YAML's readers want them escaped.
fn in_print(json: &str) -> String {
    let escaped = |c: char| match c {
        '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => format!("\\u{:04x}", u32::from(c)),
        _ => c.to_string(),
    };
    json.chars().map(escaped).collect()
}

/// Resolves, compiles and evaluates with everything that was read, in a small cluster.
fn judge(loaded: &Loaded, seed: u64) {
    let mut draw = Draw::new(seed);
    let mut case = Case::draw(&mut draw, &Ground::default());
    case.subject.labels.insert("app".to_owned(), "web".to_owned());
    let objects = &loaded.objects;
    let slices: Vec<_> = objects.endpoint_slices.iter().map(|slice| slice.object.clone()).collect();
    let world = &mut case.world;
    world.pods.extend(objects.pods.iter().map(|pod| objects::pod(&pod.object)));
    world.services.extend(objects.services.iter().map(|service| objects::service(&service.object, &slices)));
    // Only what was read is to isolate: the drawn policies would hide that it does not.
    world.policies = objects.policies.iter().map(|policy| policy.object.clone()).collect();
    world.proxies = objects.proxies.iter().map(|proxy| proxy.object.clone()).collect();
    world.unreadable = loaded.unreadable.iter().map(Unreadable::from).collect();
    if let Some(pod) = objects.pods.first()
        && let Ok(containers) = objects::subject_containers(&pod.object)
        && !containers.is_empty()
    {
        // The kernel's names of containers that the case did not draw are unknown; that is no reason to panic.
        case.subject.containers = containers;
    }
    let pod = resolve(&case.world, &case.subject);
    assert_eq!(pod, resolve(&case.reordered(&mut draw), &case.subject), "the order of objects does not matter");
    let (compiled, cost) = cost::of(|| compile(&pod, Generation::FIRST));
    cost.at_most(Duration::from_secs(5), 256 << 20);
    assert!(!compiled.ruleset.tables.is_empty());
    for flow in case.flows(&mut draw, 8) {
        evaluate(&pod, &flow);
    }
    for unreadable in &loaded.unreadable {
        isolates(unreadable, &case);
    }
}

/// A policy that cannot be understood isolates every pod that it may be about.
fn isolates(unreadable: &UnreadablePolicy, case: &Case) {
    if unreadable.pod_selector.is_some() {
        return;
    }
    let world = World { unreadable: vec![unreadable.into()], network: case.world.network.clone(), ..World::default() };
    let namespace = unreadable.namespace.clone().unwrap_or_else(|| "any".to_owned());
    let subject = Subject { namespace, ..case.subject.clone() };
    let pod = resolve(&world, &subject);
    let outside = End::Remote(case.ground.outside[0]);
    for party in subject.containers.keys().copied().map(Party::Container).chain([Party::Unknown]) {
        for (sender, receiver) in [(End::Local(party), outside), (outside, End::Local(party))] {
            let flow = Flow { sender, receiver, protocol: sidewall_flow::Protocol::Tcp, port: 4444 };
            assert_eq!(evaluate(&pod, &flow).action, Action::Deny, "{flow:?} beside {unreadable:?}");
        }
    }
}

#[test]
fn fuzz_policy() {
    bolero::check!()
        .with_type::<Input>()
        // Each input takes some milliseconds, where those of other targets take some microseconds.
        .with_test_time(effort::time() * 2)
        .for_each(|input| check(&input.bytes(TEXTS, WORDS)));
    LOADED.expect_per_mille(50);
}

/// What random inputs found once, and find again too rarely.
#[test]
fn found_before() {
    let annotated = |annotation: &str| {
        format!(
            "apiVersion: sidewall.dev/v1alpha1\nkind: ContainerNetworkPolicy\nmetadata: {{name: a, annotations: \
             {{{annotation}}}}}\nspec: {{podSelector: {{}}}}\n"
        )
    };
    for character in ["\\u0081", "\\x7f", "\\N", "\\L", "\\P", "\\_", "\\e", "\\0", "\\ufeff", "\\uFFFE"] {
        check(annotated(&format!("said: \"a{character}b\"")).as_bytes());
        check(annotated(&format!("\"a{character}b\": said")).as_bytes());
    }
    check(annotated(&format!("? {} : said", "a".repeat(1100))).as_bytes());
    check(
        b"{kind: List, apiVersion: v1, items: [<<: {apiVersion: sidewall.dev/v1alpha1, kind: ContainerNetworkPolicy}]}",
    );
}
