use super::*;

fn workspace(packages: &[(&str, &[&str])]) -> Workspace {
    Workspace {
        root: "/w".into(),
        target: "/w/target".into(),
        tests: packages
            .iter()
            .map(|(package, names)| ((*package).into(), names.iter().map(|name| (*name).into()).collect()))
            .collect(),
    }
}

fn line(run: &Run) -> String {
    match run {
        Run::Build(arguments) | Run::Test(arguments) => arguments.join(" "),
    }
}

fn lines(tier: Tier, workspace: &Workspace) -> Vec<String> {
    tier.plan(workspace).unwrap().iter().map(line).collect()
}

#[test]
fn every_test_target_runs_in_exactly_one_tier() {
    let workspace = workspace(&[
        ("sidewall-netfilter", &["load"]),
        ("sidewall-proxy", &["basic"]),
        ("sidewall-fuzz", &["htpasswd"]),
        ("sidewall-node-tests", &["bed", "cluster_bed"]),
        ("sidewall-of-tomorrow", &["something"]),
    ]);
    let all: Vec<String> = Tier::EXISTING.iter().flat_map(|tier| lines(*tier, &workspace)).collect();
    for name in ["load", "basic", "htpasswd", "bed", "cluster_bed", "something"] {
        let wanted = format!("--test {name}");
        let count = all.iter().filter(|line| line.starts_with("test") && line.contains(&wanted)).count();
        assert_eq!(count, 1, "{name}: {all:?}");
    }
}

#[test]
fn the_kernel_tier_builds_the_programs_before_it_runs_them() {
    let workspace = workspace(&[("sidewall-cli", &["demo"]), ("sidewall-tests", &["differential"])]);
    assert_eq!(
        lines(Tier::Kernel, &workspace),
        [
            "build --workspace --bins --test demo --test differential",
            "test --no-fail-fast --workspace --test demo --test differential"
        ]
    );
}

#[test]
fn what_needs_an_api_server_says_so_by_its_name() {
    let workspace = workspace(&[("sidewall-node-tests", &["bed", "cluster_bed", "runtime"])]);
    assert_eq!(lines(Tier::Cluster, &workspace)[1], "test --no-fail-fast --workspace --test cluster_bed");
    assert!(lines(Tier::Node, &workspace)[1].contains("-p sidewall-cni"));
    assert_eq!(lines(Tier::Node, &workspace)[2], "test --no-fail-fast --workspace --test bed --test runtime");
    assert_eq!((Tier::Node.parts(), Tier::Cluster.parts()), (Parts::Node, Parts::Cluster));
}

#[test]
fn the_proxys_test_that_needs_a_namespace_runs_where_there_is_root() {
    let workspace = workspace(&[("sidewall-proxy", &["basic", "capture"])]);
    assert_eq!(lines(Tier::Proxy, &workspace), ["test --no-fail-fast --workspace --test basic"]);
    assert!(lines(Tier::Kernel, &workspace)[1].ends_with(" --test capture"));
    assert!(Tier::Kernel.needs_root() && !Tier::Proxy.needs_root());
}

#[test]
fn the_unit_tier_needs_no_test_target() {
    assert_eq!(
        lines(Tier::Unit, &workspace(&[])),
        ["test --no-fail-fast --workspace --lib --bins", "test --no-fail-fast --workspace --doc"]
    );
}

#[test]
fn a_tier_without_tests_is_an_error() {
    for tier in [Tier::Kernel, Tier::Proxy, Tier::Node, Tier::Cluster] {
        let error = tier.plan(&workspace(&[("sidewall-fuzz", &["x"])])).unwrap_err();
        assert!(matches!(error, PlanError::Empty(_)), "{error}");
    }
}

#[test]
fn later_tiers_are_known_and_do_not_exist() {
    for tier in [Tier::Split, Tier::Web] {
        assert_eq!(tier.plan(&workspace(&[])), Err(PlanError::NotYet));
    }
}

#[test]
fn one_name_in_two_tiers_is_an_error() {
    let workspace = workspace(&[("sidewall-cli", &["cli"]), ("sidewall-proxy", &["cli"])]);
    let error = Tier::Proxy.plan(&workspace).unwrap_err();
    let shared =
        PlanError::SharedName { target: "cli".into(), here: "sidewall-proxy".into(), there: "sidewall-cli".into() };
    assert_eq!(error, shared);
}

#[test]
fn names_are_those_of_the_command_line() {
    for tier in Tier::value_variants() {
        assert_eq!(tier.to_possible_value().unwrap().get_name(), tier.name());
    }
}
