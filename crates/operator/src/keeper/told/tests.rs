use std::collections::BTreeSet;

use proptest::prelude::*;
use sidewall_api::read::{read_policy, read_proxy};
use sidewall_api::{ContainerNetworkPolicy, ContainerNetworkPolicyStatus};
use sidewall_cluster::census::Tallied;
use sidewall_proxy_config::Problems;

use super::*;
use crate::admission::inject::Secrets;
use crate::fixture::{proxy, web, yaml};
use crate::proxies::issue::NotOurs;
use condition::MESSAGE_MAX;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn record(of: &str) -> Record {
    Record {
        proxy: of.to_owned(),
        container: "front-proxy".to_owned(),
        probe_port: 15411,
        config: "c".to_owned(),
        secrets: Secrets::new(),
    }
}

fn not_mounted() -> RenderError {
    RenderError::NotMounted { field: "spec.x".to_owned(), secret: "s".to_owned(), key: "k".to_owned() }
}

/// What is seen where all is well, to be changed.
struct Sight {
    proxy: SidecarProxy,
    opted_in: bool,
    secrets: Vec<SecretProblem>,
    certificates: BTreeMap<String, Standing>,
}

impl Sight {
    fn well() -> Self {
        Self { proxy: web(), opted_in: true, secrets: Vec::new(), certificates: BTreeMap::new() }
    }

    fn status(&self, pods: &[PodSeen<'_>], before: Option<&SidecarProxyStatus>, now: i64) -> SidecarProxyStatus {
        let seen = ProxySeen {
            namespace: "shop",
            name: "web",
            generation: 3,
            read: Ok(&self.proxy),
            opted_in: self.opted_in,
            pods,
            secrets: &self.secrets,
            certificates: &self.certificates,
        };
        proxy_status(&seen, before, at(now))
    }
}

/// A condition's status, reason and message.
fn of<'a>(status: &'a SidecarProxyStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    (&found.status, &found.reason, &found.message)
}

fn counts(status: &SidecarProxyStatus) -> (i32, i32, i32, i32) {
    let pods = status.pods.unwrap();
    (pods.selected, pods.fronted, pods.outdated, pods.unfronted)
}

fn pod<'a>(name: &'a str, front: Front<'a>) -> PodSeen<'a> {
    PodSeen { name, older: None, front }
}

fn fronted(record: &Record) -> Front<'_> {
    Front::Proxy { record, problem: None, written: true }
}

#[test]
fn all_is_well_where_every_pod_stands_behind_its_proxy() {
    let own = record("web");
    let status = Sight::well().status(&[pod("a", fronted(&own)), pod("b", fronted(&own))], None, 0);
    assert_eq!(counts(&status), (2, 2, 0, 0));
    assert_eq!(of(&status, "Accepted").0, "True");
    assert_eq!(of(&status, "Conflicted").0, "False");
    assert_eq!((of(&status, "Ready").0, of(&status, "Ready").1), ("True", "Fronted"));
    assert_eq!((status.observed_generation, status.conditions.len()), (Some(3), 3));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
    let none = Sight::well().status(&[], None, 0);
    assert_eq!((of(&none, "Ready").0, of(&none, "Ready").1), ("True", "NoPods"));
}

#[test]
fn what_is_to_be_done_is_said() {
    let (own, others, outdated) = (record("web"), record("old"), not_mounted());
    let failed = RenderError::Name { config: "x".to_owned() };
    let front = |problem, written| Front::Proxy { record: &own, problem, written };
    let well = Sight::well();
    for (what, pods, expected, reason, said) in [
        (
            "no proxy",
            vec![pod("a", Front::Nothing), pod("b", fronted(&own))],
            (2, 1, 0, 1),
            "PodsUnfronted",
            "rollout restart",
        ),
        (
            "older Secrets",
            vec![pod("a", front(Some(&outdated), false))],
            (1, 1, 1, 0),
            "PodsOutdated",
            "rollout restart",
        ),
        ("another's", vec![pod("a", fronted(&others))], (1, 1, 1, 0), "PodsOutdated", "SidecarProxy \"old\""),
        (
            "no configuration",
            vec![pod("a", front(Some(&failed), false))],
            (1, 1, 0, 0),
            "PodsNotConfigured",
            "a: the annotation",
        ),
        (
            "a forged record",
            vec![pod("a", Front::Unreadable("line 1"))],
            (1, 0, 0, 0),
            "PodsNotConfigured",
            "a: line 1",
        ),
        ("not written yet", vec![pod("a", front(None, false))], (1, 1, 0, 0), "PodsPending", "of 1 pods"),
    ] {
        let status = well.status(&pods, None, 0);
        assert_eq!(counts(&status), expected, "{what}");
        let (ready, because, message) = of(&status, "Ready");
        assert_eq!((ready, because), ("False", reason), "{what}");
        assert!(message.contains(said), "{what}: {message}");
    }
    let mut elsewhere = Sight::well();
    elsewhere.opted_in = false;
    let status = elsewhere.status(&[pod("a", Front::Nothing)], None, 0);
    assert_eq!((counts(&status), of(&status, "Ready").1), ((1, 0, 0, 0), "NamespaceNotOptedIn"));
    assert!(of(&status, "Ready").2.contains("kubectl label namespace shop sidewall.dev/injection=enabled"));
}

#[test]
fn an_older_one_is_named_with_a_pod() {
    let (own, theirs) = (record("web"), record("first"));
    let of_older = |name, front| PodSeen { name, older: Some("first"), front };
    let pods = [pod("c", fronted(&own)), of_older("b", fronted(&theirs)), of_older("a", Front::Nothing)];
    let status = Sight::well().status(&pods, None, 0);
    assert_eq!(counts(&status), (3, 1, 0, 0));
    let (conflicted, _, message) = of(&status, "Conflicted");
    assert!(conflicted == "True" && message.contains("\"first\"") && message.contains("\"a\""), "{message}");
    assert_eq!((of(&status, "Ready").0, of(&status, "Ready").1), ("False", "Conflicted"));
}

#[test]
fn the_oldest_counts_and_then_the_first_by_name() {
    let made = |name: &str, created: &str, app: &str| {
        proxy(&format!(
            "{{apiVersion: sidewall.dev/v1alpha1, kind: SidecarProxy, metadata: {{name: {name}, namespace: shop, \
             creationTimestamp: \"{created}\"}}, spec: {{podSelector: {{matchLabels: {{app: {app}}}}}, listeners: [{{port: 80, \
             forward: {{port: 8080}}, anonymous: true}}]}}}}"
        ))
    };
    let all = [
        made("b", "2026-01-02T00:00:00Z", "web"),
        made("a", "2026-01-02T00:00:00Z", "web"),
        made("z", "2026-01-01T00:00:00Z", "web"),
        made("db", "2025-01-01T00:00:00Z", "db"),
    ];
    let labels = [("app".to_owned(), "web".to_owned())].into();
    assert_eq!(older(&all[0], &all, &labels), Some("z"));
    assert_eq!(older(&all[0], &all[..2], &labels), Some("a"));
    assert_eq!(older(&all[1], &all[..2], &labels), None);
    assert_eq!(older(&all[2], &all, &labels), None);
}

#[test]
fn secrets_and_certificates() {
    let own = record("web");
    let pods = [pod("a", fronted(&own))];
    let problem = |secret: &str, fault| SecretProblem { secret: secret.to_owned(), fault };
    let mut sight = Sight::well();
    for (fault, reason, said) in [
        (SecretFault::Missing, "SecretMissing", "Secret \"web-users\" does not exist"),
        (SecretFault::NoKey { key: "htpasswd".to_owned() }, "SecretKeyMissing", "has no key \"htpasswd\""),
        (
            SecretFault::Content { key: "htpasswd".to_owned(), reason: "line 3: no hash".to_owned() },
            "SecretInvalid",
            "line 3: no hash",
        ),
    ] {
        sight.secrets = vec![problem("web-users", fault)];
        let status = sight.status(&pods, None, 0);
        assert_eq!((of(&status, "Ready").0, of(&status, "Ready").1), ("False", reason));
        assert!(of(&status, "Ready").2.contains(said), "{status:?}");
    }
    // That it is not there yet is the certificate's to tell.
    sight.secrets = vec![problem("web-tls", SecretFault::Missing)];
    let taken = NotOurs::Unlabelled { kind: "Secret", name: "web-tls".to_owned() };
    for (standing, reason) in [
        (Standing::Pending { why: "no word".to_owned() }, "Pending"),
        (Standing::Failed { why: "no right".to_owned() }, "NotIssued"),
        (Standing::Taken(taken), "SecretNotOurs"),
    ] {
        sight.certificates =
            [("web-tls".to_owned(), standing), ("z".to_owned(), Standing::Good { until: None })].into();
        let status = sight.status(&pods, None, 0);
        assert_eq!((of(&status, CERTIFICATES_READY).0, of(&status, CERTIFICATES_READY).1), ("False", reason));
        assert_eq!((of(&status, "Ready").0, of(&status, "Ready").1), ("False", "CertificatesNotReady"));
    }
    sight.secrets = Vec::new();
    sight.certificates = [("web-tls".to_owned(), Standing::Good { until: None })].into();
    let status = sight.status(&pods, None, 0);
    assert_eq!((of(&status, CERTIFICATES_READY).0, of(&status, "Ready").0), ("True", "True"));
}

#[test]
fn what_cant_be_read_says_where() {
    let unreadable = read_proxy(yaml(
        "{apiVersion: sidewall.dev/v1alpha1, kind: SidecarProxy, metadata: {name: web, namespace: shop}, spec: {podSelector: {}, \
         listeners: [{port: 80, forward: {port: 0}, anonymous: true, news: 1}]}}",
    ))
    .unwrap_err();
    let seen = |read| ProxySeen {
        namespace: "shop",
        name: "web",
        generation: 1,
        read,
        opted_in: true,
        pods: &[],
        secrets: &[],
        certificates: const { &BTreeMap::new() },
    };
    let status = proxy_status(&seen(Err(&unreadable)), None, at(0));
    let (accepted, reason, message) = of(&status, "Accepted");
    assert_eq!((accepted, reason), ("False", "Invalid"));
    assert!(
        message.contains("spec.listeners[0].news") && message.contains("spec.listeners[0].forward.port"),
        "{message}"
    );
    assert_eq!((of(&status, "Ready").0, of(&status, "Ready").1), ("False", "NotAccepted"));
    let mut by_hand = web();
    let basic = by_hand.spec.listeners[0].authentication[0].basic.as_mut().unwrap();
    (basic.secret_name, basic.key, basic.htpasswd_file) = (None, None, Some("users".to_owned()));
    let status = proxy_status(&seen(Ok(&by_hand)), None, at(0));
    assert_eq!((of(&status, "Ready").0, of(&status, "Ready").1), ("Unknown", "BroughtAlong"));
}

#[test]
fn the_time_of_a_transition_stays_while_the_status_does() {
    let own = record("web");
    let well = Sight::well();
    let (good, bad) = ([pod("a", fronted(&own))], [pod("a", Front::Nothing)]);
    let time = |status: &SidecarProxyStatus| {
        status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap().last_transition_time.0
    };
    let first = well.status(&bad, None, 0);
    let second = well.status(&[pod("a", Front::Unreadable("x"))], Some(&first), 100);
    assert_eq!((time(&first), time(&second)), (at(0), at(0)), "another reason is no transition");
    let third = well.status(&good, Some(&second), 200);
    assert_eq!(time(&third), at(200));
    assert_eq!(well.status(&good, Some(&third), 300), third);
}

#[test]
fn events_tell_what_becomes_wrong_and_what_is_mended() {
    let own = record("web");
    let regarding = regarding_proxy("shop", "web", "u");
    let well = Sight::well();
    let told = |before: Option<&SidecarProxyStatus>, after: &SidecarProxyStatus| -> Vec<(String, bool)> {
        proxy_events(&regarding, before, after).into_iter().map(|notice| (notice.reason, notice.warning)).collect()
    };
    let good = well.status(&[pod("a", fronted(&own))], None, 0);
    let bad = well.status(&[pod("a", Front::Nothing)], Some(&good), 1);
    let writing =
        well.status(&[pod("a", Front::Proxy { record: &own, problem: None, written: false })], Some(&good), 1);
    assert_eq!(told(None, &good), []);
    assert_eq!(told(Some(&good), &good), []);
    assert_eq!(told(Some(&good), &bad), [("PodsUnfronted".to_owned(), true)]);
    assert_eq!(told(Some(&bad), &bad), []);
    assert_eq!(told(Some(&bad), &good), [("Fronted".to_owned(), false)]);
    assert_eq!(told(Some(&good), &writing), []);
    assert_eq!(told(Some(&writing), &good), []);
    let conflict = well.status(&[PodSeen { name: "a", older: Some("first"), front: Front::Nothing }], None, 0);
    assert_eq!(told(None, &conflict), [("OlderSelects".to_owned(), true)], "it is told once");
}

fn policy(text: &str) -> Result<ContainerNetworkPolicy, Box<UnreadablePolicy>> {
    read_policy(yaml(&format!(
        "{{apiVersion: sidewall.dev/v1alpha1, kind: ContainerNetworkPolicy, metadata: {{name: p, namespace: shop}}, spec: \
         {{podSelector: {{}}, policyTypes: [Ingress]{text}}}}}"
    )))
    .map(|read| read.object)
}

fn policy_of(status: &ContainerNetworkPolicyStatus, type_: &str) -> (String, String) {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    (found.status.clone(), found.reason.clone())
}

#[test]
fn a_policy_is_enforced_where_all_say_so() {
    let (read, audit) = (policy("").unwrap(), policy(", mode: Audit").unwrap());
    let odd = policy(", news: 1").unwrap_err();
    let whole = Tallied { selected: 3, enforced: 3, unknown: true, ..Tallied::default() };
    let missing = |unknown| Tallied {
        enforced: 1,
        missing: vec![("n1".to_owned(), "why".to_owned())],
        missing_nodes: 2,
        unknown,
        ..whole.clone()
    };
    let not_understood = Tallied { unreadable: Some(("n1".to_owned(), "news".to_owned())), ..missing(false) };
    let none = Tallied::default();
    for (read, tallied, pods, accepted, enforced) in [
        (Ok(&read), &whole, Some(3), ("True", "Valid"), ("True", "Enforced")),
        (Ok(&read), &whole, None, ("True", "Valid"), ("True", "Enforced")),
        (Ok(&read), &whole, Some(4), ("True", "Valid"), ("Unknown", "PodsUnheard")),
        (Ok(&read), &missing(false), Some(3), ("True", "Valid"), ("False", "PodsNotEnforced")),
        (Ok(&read), &missing(true), Some(3), ("True", "Valid"), ("Unknown", "NodesUnheard")),
        (Ok(&read), &not_understood, Some(3), ("False", "NotUnderstood"), ("False", "PodsNotEnforced")),
        (Ok(&read), &none, Some(0), ("True", "Valid"), ("True", "NoPods")),
        (Ok(&audit), &whole, Some(3), ("True", "Valid"), ("False", "Audit")),
        (Err(&*odd), &whole, Some(3), ("False", "Invalid"), ("False", "NotAccepted")),
    ] {
        let seen = PolicySeen { generation: 2, read, tallied, pods };
        let status = policy_status(&seen, None, at(0));
        let said = |type_| policy_of(&status, type_);
        let own = |(status, reason): (&str, &str)| (status.to_owned(), reason.to_owned());
        assert_eq!((said("Accepted"), said("Enforced")), (own(accepted), own(enforced)), "{status:?}");
        assert_eq!(policy_status(&seen, Some(&status), at(99)), status);
        let counts = status.pods.unwrap();
        assert!(counts.enforced <= counts.selected && status.observed_generation == Some(2));
    }
    let seen = |tallied| PolicySeen { generation: 2, read: Ok(&read), tallied, pods: None };
    let (good, bad) = (policy_status(&seen(&whole), None, at(0)), policy_status(&seen(&not_understood), None, at(0)));
    let regarding = regarding_policy("shop", "p", "u");
    assert_eq!(policy_events(&regarding, Some(&good), &bad)[0].reason, "NotUnderstood");
    assert!(policy_events(&regarding, Some(&good), &good).is_empty());
}

/// A pod as drawn: what stands before it, and whether an older SidecarProxy has it.
#[derive(Clone, Debug)]
struct Drawn {
    name: String,
    front: u8,
    older: bool,
}

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let pod = ("[a-z]{1,60}", 0_u8..7, prop::bool::weighted(0.2));
    let pods = prop::collection::vec(pod.prop_map(|(name, front, older)| Drawn { name, front, older }), 0..60);
    pods.prop_map(|pods| {
        let mut names = BTreeSet::new();
        pods.into_iter().filter(|pod| names.insert(pod.name.clone())).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_status_is_small_and_the_same_again(
        pods in drawn(),
        opted_in: bool,
        secrets in prop::collection::vec(("[a-z]{1,250}", "\\PC{0,1200}"), 0..8),
        standings in prop::collection::btree_map("[a-z]{1,250}", (0_u8..3, "\\PC{0,1200}"), 0..8),
        now in 0_i64..1_000_000,
    ) {
        let (own, theirs, outdated) = (record("web"), record("first"), not_mounted());
        let failed = RenderError::Name { config: "x".to_owned() };
        let seen: Vec<PodSeen<'_>> = pods
            .iter()
            .map(|pod| PodSeen {
                name: &pod.name,
                older: pod.older.then_some("first"),
                front: match pod.front {
                    0 => Front::Nothing,
                    1 => Front::Unreadable("why"),
                    2 => Front::Proxy { record: &own, problem: Some(&outdated), written: false },
                    3 => Front::Proxy { record: &own, problem: Some(&failed), written: false },
                    4 => Front::Proxy { record: &own, problem: None, written: false },
                    5 => Front::Proxy { record: &theirs, problem: None, written: true },
                    _ => fronted(&own),
                },
            })
            .collect();
        let mut sight = Sight::well();
        sight.opted_in = opted_in;
        sight.secrets = secrets
            .into_iter()
            .map(|(secret, reason)| SecretProblem { secret, fault: SecretFault::Content { key: "k".to_owned(), reason } })
            .collect();
        sight.certificates = standings
            .into_iter()
            .map(|(secret, (sort, why))| (secret, match sort {
                0 => Standing::Good { until: None },
                1 => Standing::Pending { why },
                _ => Standing::Failed { why },
            }))
            .collect();
        let status = sight.status(&seen, None, now);
        prop_assert_eq!(&sight.status(&seen, Some(&status), now + 77), &status);
        let text = serde_json::to_string(&status).unwrap();
        prop_assert_eq!(&serde_json::from_str::<SidecarProxyStatus>(&text).unwrap(), &status);
        let mut turned = seen.clone();
        turned.reverse();
        sight.secrets.reverse();
        prop_assert_eq!(&sight.status(&turned, None, now), &status);
        let pods = status.pods.unwrap();
        prop_assert!(pods.fronted + pods.unfronted <= pods.selected && pods.outdated <= pods.fronted);
        let types: BTreeSet<&str> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        prop_assert_eq!(types.len(), status.conditions.len());
        for condition in &status.conditions {
            prop_assert!(condition.message.chars().count() <= MESSAGE_MAX);
            prop_assert!(condition.reason.chars().all(|c| c.is_ascii_alphanumeric()));
        }
        let ready = of(&status, "Ready").0 == "True";
        let whole = usize::try_from(pods.fronted).unwrap() == seen.len() && pods.outdated == 0 && opted_in;
        prop_assert!(!ready || (whole && sight.secrets.is_empty()));
    }
}

#[test]
fn no_secret_is_quoted() {
    // Only what render says of itself gets here, and it does not quote: its own problems name fields.
    let problems = web().spec.config().validate(Form::File).unwrap_err();
    let error = RenderError::Proxy(Problems::clone(&problems));
    let own = record("web");
    let status = Sight::well().status(
        &[pod("a", Front::Proxy { record: &own, problem: Some(&error), written: false })],
        None,
        0,
    );
    assert!(of(&status, "Ready").2.contains("listeners[0]"), "{status:?}");
}
