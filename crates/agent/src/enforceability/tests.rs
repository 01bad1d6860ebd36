use super::*;

fn container(name: &str, user: Option<u32>, cgroup: Option<(u64, u8)>) -> ContainerFacts {
    let cgroups = cgroup.map(|(id, level)| CgroupPlace { id: CgroupId(id), level });
    ContainerFacts {
        name: name.to_owned(),
        cgroups: cgroups.into_iter().collect(),
        user,
        group: user.map(|user| user + 1000),
        capabilities: Some(CapabilitySet::EMPTY),
    }
}

fn pod(containers: impl IntoIterator<Item = ContainerFacts>) -> PodFacts {
    PodFacts {
        pods: Some(CgroupPlace { id: CgroupId(7), level: 1 }),
        containers: (1u8..).map(|id| ContainerId::try_from(id).unwrap()).zip(containers).collect(),
        ..PodFacts::default()
    }
}

fn decided(facts: &PodFacts, features: Features, preference: Preference) -> Decided {
    decide(facts, features, preference, &BTreeSet::new())
}

fn id(number: u8) -> ContainerId {
    ContainerId::try_from(number).unwrap()
}

const WITHOUT: Features = Features { socket_cgroup: false, ..Features::ALL };

#[test]
fn cgroups_are_taken_where_they_can_be() {
    let facts = pod([container("app", Some(0), Some((20, 4))), container("log", None, None)]);
    let decided = decided(&facts, Features::ALL, Preference::Auto);
    assert!(decided.obstacles.is_empty(), "{decided:?}");
    let Some(Identities::Cgroup { level: 4, containers, pods_level: 1, pods: 7 }) = decided.identities else {
        panic!()
    };
    assert_eq!(containers, BTreeMap::from([(id(1), BTreeSet::from([20]))]));
}

#[test]
fn a_pod_of_which_nothing_runs_has_cgroups_without_ids() {
    let facts = pod([container("app", None, None)]);
    let Some(Identities::Cgroup { level: 2, containers, .. }) =
        decided(&facts, Features::ALL, Preference::Auto).identities
    else {
        panic!()
    };
    assert!(containers.is_empty());
}

#[test]
fn users_are_taken_where_cgroups_cannot_be() {
    let started = [container("app", Some(1000), Some((20, 4))), container("log", Some(1001), Some((21, 4)))];
    let node = |identities: &Option<Identities>| match identities {
        Some(Identities::Uid(users)) => (users.containers.clone(), users.node.clone()),
        other => panic!("{other:?}"),
    };
    let expected = (BTreeMap::from([(id(1), 1000), (id(2), 1001)]), BTreeSet::from([0]));
    let without = decided(&pod(started.clone()), WITHOUT, Preference::Auto);
    assert_eq!((node(&without.identities), without.obstacles), (expected.clone(), BTreeSet::new()));
    // At two depths no single rule can compare them; and where there is no cgroup v2 there is nothing to compare.
    let mut uneven = pod(started.clone());
    uneven.containers.get_mut(&id(2)).unwrap().cgroups[0].level = 5;
    assert_eq!(node(&decided(&uneven, Features::ALL, Preference::Auto).identities), expected);
    let old = PodFacts { pods: None, ..pod(started) };
    assert_eq!(node(&decided(&old, Features::ALL, Preference::Auto).identities), expected);
}

#[test]
fn groups_are_taken_where_only_they_differ() {
    let mut facts = pod([container("app", Some(1000), None), container("log", Some(1000), None)]);
    facts.containers.get_mut(&id(2)).unwrap().group = Some(9);
    let decided = decided(&facts, WITHOUT, Preference::Auto);
    assert!(matches!(decided.identities, Some(Identities::Gid(_))), "{decided:?}");
    assert!(decided.obstacles.is_empty());
}

#[test]
fn containers_that_are_alike_are_nobody() {
    let facts = pod([
        container("app", Some(1000), None),
        container("log", Some(1000), None),
        container("own", Some(1001), None),
        container("root", Some(0), None),
        container("unknown", None, None),
    ]);
    let decided = decided(&facts, WITHOUT, Preference::Uid);
    let Some(Identities::Uid(users)) = &decided.identities else { panic!() };
    assert_eq!(users.containers, BTreeMap::from([(id(3), 1001)]));
    // A container may be 0, so that 0 can't be the node.
    assert!(users.node.is_empty());
    let named = |names: &[&str]| Obstacle::Alike(names.iter().map(|name| (*name).to_owned()).collect());
    let expected = [named(&["app", "log"]), Obstacle::Nameless("root".into()), Obstacle::Nameless("unknown".into())];
    assert_eq!(decided.obstacles, BTreeSet::from(expected));
    assert!(decided.obstacles.iter().all(|one| one.weight() == Weight::TooStrict));
}

#[test]
fn what_was_asked_for_is_not_quietly_replaced() {
    let facts = pod([container("app", Some(1000), Some((20, 4)))]);
    let decided = decided(&facts, WITHOUT, Preference::Cgroup);
    assert_eq!(decided.obstacles, BTreeSet::from([Obstacle::NoCgroups]));
    // Everybody is nobody.
    assert_eq!(decided.identities, Some(Identities::Uid(UserIdentities::default())));
}

#[test]
fn capabilities_count_by_what_identity_they_get_round() {
    let with = |name: &str| {
        let mut facts = pod([container("app", Some(1000), None)]);
        let capability = Capability::from_name(name).unwrap();
        facts.containers.get_mut(&id(1)).unwrap().capabilities = Some([capability].into_iter().collect());
        facts
    };
    let counts =
        |name: &str, features: Features| !decided(&with(name), features, Preference::Auto).obstacles.is_empty();
    for name in ["NET_RAW", "NET_ADMIN", "SYS_ADMIN"] {
        assert!(counts(name, Features::ALL) && counts(name, WITHOUT), "{name}");
    }
    for name in ["SETUID", "SETGID"] {
        assert!(!counts(name, Features::ALL) && counts(name, WITHOUT), "{name}");
    }
    assert!(!counts("CHOWN", Features::ALL) && !counts("NET_BIND_SERVICE", WITHOUT));
}

#[test]
fn handlers_and_the_nodes_network() {
    let facts = |handler: &str| PodFacts { handler: handler.to_owned(), ..pod([container("app", None, None)]) };
    for known in HANDLERS {
        assert!(decided(&facts(known), Features::ALL, Preference::Auto).obstacles.is_empty());
    }
    let kata = decided(&facts("kata"), Features::ALL, Preference::Auto);
    assert_eq!(kata.obstacles.first().map(Obstacle::weight), Some(Weight::Weakened));
    let told = decide(&facts("kata"), Features::ALL, Preference::Auto, &BTreeSet::from(["kata".to_owned()]));
    assert!(told.obstacles.is_empty());
    let host = PodFacts { host_network: true, ..facts("kata") };
    let host = decided(&host, Features::ALL, Preference::Auto);
    assert_eq!((host.identities, host.obstacles), (None, BTreeSet::from([Obstacle::HostNetwork])));
}

#[test]
fn every_obstacle_says_what_to_do() {
    let all = [
        Obstacle::HostNetwork,
        Obstacle::Handler("kata".into()),
        Obstacle::Capabilities { container: "app".into(), capabilities: [Capability::NET_RAW].into_iter().collect() },
        Obstacle::Alike(BTreeSet::from(["app".to_owned(), "log".to_owned()])),
        Obstacle::Nameless("app".into()),
        Obstacle::Foreign("ztunnel (pid 7)".into()),
        Obstacle::NoCgroups,
    ];
    let reasons: BTreeSet<&str> = all.iter().map(Obstacle::reason).collect();
    assert_eq!(reasons.len(), all.len());
    assert_eq!(
        all[2].to_string(),
        "container app can get CAP_NET_RAW, by which it gets round its rules; drop them in its securityContext"
    );
    assert!(all[3].to_string().starts_with("the kernel can't tell app and log apart; give each a runAsUser"));
}
