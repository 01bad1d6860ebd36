use super::*;
use sidewall_cluster::census::{Missing, NodeCensus, PodCensus, PolicyCensus};

fn name_of(kind: EnforcedKind, name: &str) -> PolicyRef {
    PolicyRef { kind, namespace: "shop".to_owned(), name: name.to_owned() }
}

fn pod(name: &str, node: &str, state: PodState, policies: &[PolicyRef]) -> PodCensus {
    PodCensus {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        node: Some(node.to_owned()),
        state,
        identity: None,
        since: None,
        reasons: Vec::new(),
        policies: policies.to_vec(),
    }
}

fn policy(name: &PolicyRef, selected: usize) -> PolicyCensus {
    PolicyCensus {
        kind: name.kind,
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        generation: Some(1),
        audit: false,
        selected,
        enforced: selected,
        unreadable: None,
        missing: Vec::<Missing>::new(),
    }
}

fn node(name: &str, state: NodeState) -> NodeCensus {
    NodeCensus {
        name: name.to_owned(),
        state,
        reason: None,
        ready: None,
        agent_version: None,
        updated: None,
        pods: Counts::default(),
    }
}

fn whole() -> Census {
    let (wall, proxy) = (name_of(EnforcedKind::ContainerNetworkPolicy, "p"), name_of(EnforcedKind::SidecarProxy, "p"));
    Census {
        nodes: vec![node("n1", NodeState::Reporting), node("n2", NodeState::NoAgent), node("n3", NodeState::NoAgent)],
        policies: vec![policy(&wall, 2), policy(&proxy, 1), policy(&name_of(EnforcedKind::SidecarProxy, "idle"), 0)],
        pods: vec![
            pod("a", "n1", PodState::Enforced, &[wall.clone(), proxy]),
            pod("b", "n2", PodState::NotEnforced, &[wall]),
            pod("free", "n3", PodState::NotSelected, &[]),
        ],
    }
}

/// What is left, by names, and whether all of it is enforced.
fn left(about: &About, one_namespace: bool) -> (Vec<String>, Vec<String>, Vec<String>, bool) {
    let mut census = whole();
    narrow(&mut census, about, one_namespace).unwrap();
    (
        census.nodes.iter().map(|node| node.name.clone()).collect(),
        census.policies.iter().map(|policy| format!("{:?} {}", policy.kind, policy.name)).collect(),
        census.pods.iter().map(|pod| pod.name.clone()).collect(),
        census.is_enforced(),
    )
}

fn strings(of: &[&str]) -> Vec<String> {
    of.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_node_without_an_agent_counts_in_the_whole_cluster() {
    let (nodes, policies, pods, enforced) = left(&About::All, false);
    assert_eq!((nodes, policies.len(), pods, enforced), (strings(&["n1", "n2", "n3"]), 3, strings(&["a", "b"]), false));
    // In a namespace, those count that have something to enforce.
    let (nodes, ..) = left(&About::All, true);
    assert_eq!(nodes, strings(&["n1", "n2"]));
}

#[test]
fn a_policy_is_found_by_name_and_by_kind() {
    let named = |name: &str| Named::new("shop", name);
    let (nodes, policies, pods, enforced) = left(&About::Policy(None, named("p")), true);
    assert_eq!(policies, strings(&["ContainerNetworkPolicy p", "SidecarProxy p"]));
    assert_eq!((nodes, pods, enforced), (strings(&["n1", "n2"]), strings(&["a", "b"]), false));
    let proxy = About::Policy(Some(EnforcedKind::SidecarProxy), named("p"));
    let expected = (strings(&["n1"]), strings(&["SidecarProxy p"]), strings(&["a"]), true);
    assert_eq!(left(&proxy, true), expected);
    let idle = About::Policy(None, named("idle"));
    assert_eq!(left(&idle, true), (vec![], strings(&["SidecarProxy idle"]), vec![], true));
    let error = narrow(&mut whole(), &About::Policy(None, named("none")), true).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.exit_code()), ("a policy shop/none does not exist", 3));
}

#[test]
fn a_node_is_shown_with_what_is_on_it() {
    let (nodes, policies, ..) = left(&About::Node("n3".to_owned()), false);
    assert_eq!((nodes, policies.len()), (strings(&["n3"]), 2));
    let error = narrow(&mut whole(), &About::Node("n9".to_owned()), false).unwrap_err();
    assert!(error.to_string().contains("no node n9"), "{error}");
}
