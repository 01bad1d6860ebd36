use super::*;
use std::collections::BTreeMap;

fn daemon_set() -> DaemonSet {
    crate::entry::Entry::default().daemon_set()
}

fn namespace() -> Namespace {
    "shop".try_into().unwrap()
}

fn no_agent(error: AskError, known: Known) -> Failure {
    Failure::NoAgent {
        consequence: "the pod waits",
        namespace: namespace(),
        error: error.into(),
        known: known.into(),
        daemon_set: daemon_set(),
    }
}

/// The words that a pod's event shows: libcni joins both with a semicolon.
fn event(failure: &Failure) -> String {
    format!("{} {}; {}\n", failure.code(), failure, failure.details())
}

#[test]
fn what_a_pods_event_says_is_for_people() {
    let nobody =
        || AskError::Connect { socket: "/run/sidewall/cni.sock".into(), source: io::Error::from_raw_os_error(2) };
    let hours = Duration::from_secs(3 * 3600);
    let untrusted = || StateError::Untrusted { path: "/var/lib/sidewall/cni.json".into(), what: "it is not root's" };
    let events = [
        no_agent(nobody(), Known::Selected(Duration::from_secs(40))),
        no_agent(AskError::Late(Duration::from_secs(10)), Known::NotNamed(hours)),
        no_agent(
            AskError::NotReady("the API server has not answered since the start".into()),
            Known::Nothing(untrusted()),
        ),
        no_agent(AskError::Version("it speaks version 1, and here version 2 is spoken".into()), Known::NotNamed(hours)),
        Failure::Refused { message: "nf_tables is not in this kernel.".into(), daemon_set: daemon_set() },
        Failure::NotStanding { message: "table inet sidewall is gone".into(), daemon_set: daemon_set() },
        Failure::NoAnswer { daemon_set: daemon_set() },
        Failure::NotAvailable { error: nobody().into(), daemon_set: daemon_set() },
        Failure::NotChained,
        Failure::UnknownField("exemptNamespace".into()),
        Failure::Version("2.0.0".into()),
        Failure::Variables(vec!["CNI_NETNS", "CNI_IFNAME"]),
    ];
    insta::assert_snapshot!(events.iter().map(event).collect::<Vec<_>>().join("\n"));
}

#[test]
fn an_error_is_written_as_the_specification_has_it() {
    let found = Failure::NotChained.write(SpecVersion::V0_4_0);
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!((&found["cniVersion"], &found["code"]), (&"0.4.0".into(), &7.into()));
    assert!(found["msg"].is_string() && found["details"].is_string());
    let found: serde_json::Value = serde_json::from_str(&Failure::Command.write(SpecVersion::NEWEST)).unwrap();
    assert_eq!(found.get("details"), None);
}

#[test]
fn only_what_the_file_says_sets_a_namespace_free() {
    let about = |standing: Option<Standing>| {
        let state =
            State::new(standing.map(|standing| (namespace(), standing)).into_iter().collect::<BTreeMap<_, _>>());
        Known::about(&namespace(), Ok(state))
    };
    assert!(about(Some(Standing::NothingSelects)).is_none());
    assert!(about(Some(Standing::Exempt)).is_none());
    assert!(matches!(about(Some(Standing::Selected)), Some(Known::Selected(_))));
    assert!(matches!(about(None), Some(Known::NotNamed(_))));
    assert!(matches!(Known::about(&namespace(), Err(StateError::Long("/x".into()))), Some(Known::Nothing(_))));
}

#[test]
fn ages_are_rough() {
    for (seconds, text) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")] {
        assert_eq!(roughly(Duration::from_secs(seconds)), text);
    }
}
