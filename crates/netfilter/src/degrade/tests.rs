use super::*;
use sidewall_flow::{Decision, Place as Judged};
use sidewall_policy::ruleset::{Chain, Compare, Family, Generation, Hook};

fn rule(statements: &[Statement]) -> Rule {
    Rule { statements: statements.to_vec(), comment: None }
}

fn exists(field: Field) -> Statement {
    Statement::Match { field, mask: None, compare: Compare::Equal, value: 1 }
}

fn table(family: Family, point: HookPoint, rules: Vec<Rule>) -> Table {
    let hook = Some(Hook { point, priority: 0, accept: false });
    let chain = Chain { name: "base".into(), hook, rules };
    Table { family, counters: Vec::new(), sets: Vec::new(), chains: vec![chain] }
}

fn of(rules: Vec<Rule>) -> Ruleset {
    let egress = HookPoint::DeviceEgress("eth0".into());
    Ruleset {
        generation: Generation::FIRST,
        tables: vec![
            table(Family::Inet, HookPoint::Output, rules),
            table(Family::Netdev, egress, vec![rule(&[Statement::Verdict(Verdict::Drop)])]),
        ],
    }
}

fn refusing() -> Ruleset {
    let log = Statement::Log(Decision::denied(Judged::Forged));
    let limit = Statement::Limit { per_second: 1, burst: 1 };
    of(vec![
        rule(&[limit.clone(), log.clone()]),
        rule(&[log.clone(), Statement::Verdict(Verdict::Drop)]),
        rule(&[limit, Statement::Count("c".into()), log]),
        rule(&[exists(Field::Protocol), Statement::RejectTcpReset]),
        rule(&[Statement::RejectProhibited]),
    ])
}

#[test]
fn a_kernel_of_today_gets_the_ruleset_as_it_is() {
    assert_eq!(degrade(&refusing(), Features::ALL), Ok((refusing(), Vec::new())));
}

#[test]
fn without_log_only_the_logging_goes() {
    let (lesser, missing) = degrade(&refusing(), Features { log: false, ..Features::ALL }).unwrap();
    assert_eq!(missing, [Missing::Log]);
    let rules = &lesser.tables[0].chains[0].rules;
    assert_eq!(rules.len(), 4, "a rule that only logged");
    assert_eq!(rules[0], rule(&[Statement::Verdict(Verdict::Drop)]));
    assert!(matches!(&rules[1].statements[..], [Statement::Limit { .. }, Statement::Count(_)]));
    assert_eq!(rules[2..], refusing().tables[0].chains[0].rules[3..]);
    assert_eq!(lesser.tables[1], refusing().tables[1]);
}

#[test]
fn without_tproxy_nobody_looks_for_a_listener() {
    let looks = |statement| rule(&[exists(Field::SocketTransparent), statement]);
    let rules = vec![looks(Statement::FindListener4), looks(Statement::FindListener6)];
    let before = Features { find_listener: false, ..Features::ALL };
    let (lesser, missing) = degrade(&of(rules.clone()), before).unwrap();
    assert_eq!((missing, lesser.tables[0].chains[0].rules.len()), (vec![Missing::FindListener], 0));
    assert_eq!(degrade(&of(rules.clone()), Features::ALL), Ok((of(rules), Vec::new())));
}

#[test]
fn without_redirection_nothing_is_led_anywhere() {
    let mut ruleset = of(vec![rule(&[Statement::RejectProhibited])]);
    let lead = table(Family::Inet, HookPoint::PreroutingNat, vec![rule(&[Statement::Redirect { port: 15412 }])]);
    ruleset.tables[0].chains.push(Chain { name: "lead".into(), ..lead.chains[0].clone() });
    let (lesser, missing) = degrade(&ruleset, Features { redirect: false, ..Features::ALL }).unwrap();
    assert_eq!(missing, [Missing::Redirect]);
    assert_eq!(lesser, of(vec![rule(&[Statement::RejectProhibited])]));
    assert_eq!(degrade(&ruleset, Features::ALL), Ok((ruleset, Vec::new())));
}

#[test]
fn without_reject_what_is_denied_is_dropped() {
    let (lesser, missing) = degrade(&refusing(), Features { reject: false, ..Features::ALL }).unwrap();
    assert_eq!(missing, [Missing::Reject]);
    let rules = &lesser.tables[0].chains[0].rules;
    assert_eq!(rules[3], rule(&[exists(Field::Protocol), Statement::Verdict(Verdict::Drop)]));
    assert_eq!(rules[4], rule(&[Statement::Verdict(Verdict::Drop)]));
    assert_eq!(rules[..3], refusing().tables[0].chains[0].rules[..3]);
}

#[test]
fn without_the_hook_of_devices_their_table_goes() {
    let (lesser, missing) = degrade(&refusing(), Features { device_egress: false, ..Features::ALL }).unwrap();
    assert_eq!(missing, [Missing::SecondLine { device: "eth0".into() }]);
    assert_eq!(lesser.tables, refusing().tables[..1]);
}

#[test]
fn several_are_told_in_order_and_the_same_twice() {
    let none = Features { inet: true, ct_mark: true, ..Features::default() };
    let (lesser, missing) = degrade(&refusing(), none).unwrap();
    let second_line = Missing::SecondLine { device: "eth0".into() };
    assert_eq!(missing, [Missing::Log, Missing::Reject, second_line, Missing::Ownership]);
    let (again, _) = degrade(&lesser, none).unwrap();
    assert_eq!(again, lesser);
    let texts: BTreeSet<String> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 4);
}

#[test]
fn what_enforcement_rests_on_is_not_done_without() {
    let place = Place::new(Family::Inet, Part::Rule { chain: "base".into(), number: 1 });
    let cgroup = |place| Unenforceable::Cgroup(place);
    let without =
        |features: Features, statement: Statement| degrade(&of(vec![rule(&[statement])]), features).unwrap_err();
    let all = Features::ALL;
    assert_eq!(without(Features { inet: false, ..all }, exists(Field::Protocol)), Unenforceable::Filter);
    let no_mark = Features { ct_mark: false, ..all };
    assert_eq!(without(no_mark, exists(Field::CtMark)), Unenforceable::Mark);
    assert_eq!(without(no_mark, Statement::SetMark { keep: 0, set: 1 }), Unenforceable::Mark);
    let no_socket = Features { socket_cgroup: false, ..all };
    for field in [Field::SocketCgroup { level: 2 }, Field::SocketWildcard, Field::SocketTransparent] {
        assert_eq!(without(no_socket, exists(field)), cgroup(place.clone()));
        let (fields, map) = (vec![Field::SocketUid, field], "m".to_owned());
        assert_eq!(without(no_socket, Statement::Dispatch { fields, mask: None, map }), cgroup(place.clone()));
    }
    assert!(degrade(&of(vec![rule(&[exists(Field::SocketUid)])]), no_socket).is_ok(), "identity by UID does without");
    let no_fib = Features { fib: false, ..all };
    for field in [Field::FibSourceType, Field::FibDestinationType, Field::FibSourceTypeOut, Field::FibDestinationTypeIn]
    {
        assert_eq!(without(no_fib, exists(field)), Unenforceable::Addresses(place.clone()));
    }
    let no_headers = Features { headers: false, ..all };
    for field in [Field::LooseSourceRoute, Field::StrictSourceRoute, Field::RoutingHeader] {
        assert_eq!(without(no_headers, exists(field)), Unenforceable::Headers(place.clone()));
    }
}
