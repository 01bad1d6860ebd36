use super::*;
use sidewall_policy::ruleset::{Compare, Counter, Field, Generation, Rule, Statement};

fn empty() -> Table {
    Table {
        family: Family::Inet,
        counters: vec![Counter { name: "c".into() }],
        sets: vec![set("ports", &[Kind::Port], true, vec![]), set("pair", &[Kind::Ipv4, Kind::Port], false, vec![])],
        chains: vec![Chain { name: "leaf".into(), hook: None, rules: vec![] }],
    }
}

fn set(name: &str, key: &[Kind], interval: bool, elements: Vec<Element>) -> Set {
    Set { name: name.into(), key: key.into(), interval, map: false, counts: false, grows: false, elements }
}

fn element(key: &[u128], last: Option<u128>) -> Element {
    Element { key: key.into(), last, verdict: None, counter: None }
}

fn problem(table: Table) -> EncodeProblem {
    let ruleset = Ruleset { generation: Generation::FIRST, tables: vec![table] };
    compose(&ruleset, 0).expect_err("it cannot be held").problem
}

fn of_set(wrong: Set) -> EncodeProblem {
    let mut table = empty();
    table.sets.push(wrong);
    problem(table)
}

fn of_rule(statement: Statement) -> EncodeProblem {
    of_whole_rule(Rule { statements: vec![statement], comment: None })
}

fn of_whole_rule(rule: Rule) -> EncodeProblem {
    let mut table = empty();
    table.chains[0].rules.push(rule);
    problem(table)
}

fn expressions(family: Family, statements: Vec<Statement>) -> Vec<String> {
    let mut table = empty();
    table.family = family;
    table.chains[0].rules.push(Rule { statements, comment: None });
    let ruleset = Ruleset { generation: Generation::FIRST, tables: vec![table] };
    let image = compose(&ruleset, 0).unwrap();
    image.tables[&family_number(family)].chains[0].rules[0]
        .expressions
        .iter()
        .map(|expression| expression.name.to_string())
        .collect()
}

fn equal(field: Field, value: u128) -> Statement {
    Statement::Match { field, mask: None, compare: Compare::Equal, value }
}

#[test]
fn sets_that_cannot_be_are_refused() {
    use EncodeProblem::{Element, ElementOrder, Key, Name, TwoOfOneName, Value};
    assert_eq!(of_set(set("n", &[], false, vec![])), Key);
    assert_eq!(of_set(set("n", &[Kind::Ipv6; 5], false, vec![])), Key);
    assert_eq!(of_set(set("n", &[Kind::Port, Kind::Uid], true, vec![])), Key);
    assert_eq!(of_set(set("ports", &[Kind::Port], false, vec![])), TwoOfOneName);
    assert_eq!(of_set(set("", &[Kind::Port], false, vec![])), Name(String::new()));
    let long = "x".repeat(254);
    assert_eq!(of_set(set(&long, &[Kind::Port], false, vec![])), Name(long));
    let ports = |interval, elements| of_set(set("n", &[Kind::Port], interval, elements));
    assert_eq!(ports(false, vec![element(&[1, 2], None)]), Element(0));
    assert_eq!(ports(false, vec![element(&[1], Some(2))]), Element(0));
    assert_eq!(ports(true, vec![element(&[2], Some(1))]), Element(0));
    assert_eq!(ports(false, vec![element(&[65536], None)]), Value(65536));
    assert_eq!(ports(true, vec![element(&[1], Some(65536))]), Value(65536));
    let twice = vec![element(&[1], None), element(&[1], None)];
    assert_eq!(ports(false, twice), ElementOrder(1));
    let overlap = vec![element(&[1], Some(5)), element(&[5], Some(6))];
    assert_eq!(ports(true, overlap), ElementOrder(1));
}

#[test]
fn rules_that_cannot_be_are_refused() {
    use EncodeProblem::*;
    assert_eq!(of_rule(Statement::Verdict(Verdict::Jump("x".into()))), NoChain("x".into()));
    assert_eq!(of_rule(Statement::Count("x".into())), NoCounter("x".into()));
    assert_eq!(of_rule(equal(Field::DestinationPort, 1 << 16)), Value(1 << 16));
    assert_eq!(
        of_rule(Statement::Dispatch { fields: vec![Field::DestinationPort], mask: None, map: "ports".into() }),
        NoSet("ports".into())
    );
    let lookup = |fields: &[Field], mask, set: &str| {
        of_rule(Statement::Lookup { fields: fields.to_vec(), mask, set: set.into(), negate: false })
    };
    assert_eq!(lookup(&[Field::SocketUid], None, "ports"), Fields("ports".into()));
    let pair = [Field::Ipv4Source, Field::SourcePort];
    assert_eq!(lookup(&pair, Some(1), "pair"), Mask);
    assert_eq!(lookup(&pair, None, "none"), NoSet("none".into()));
    let none = Statement::Limit { per_second: 0, burst: 1 };
    assert_eq!(of_rule(none), Rate);
    for comment in ["x".repeat(128), "\0".to_owned()] {
        let length = comment.len();
        let rule = Rule { statements: vec![], comment: Some(comment) };
        assert_eq!(of_whole_rule(rule), Comment(length));
    }
}

#[test]
fn a_hook_has_no_name_of_a_slot() {
    let mut table = empty();
    table.chains[0] = Chain {
        name: "a.leaf".into(),
        hook: Some(Hook { point: HookPoint::Output, priority: 0, accept: true }),
        rules: vec![],
    };
    assert_eq!(problem(table.clone()), EncodeProblem::SlotName);
    table.chains[0].hook = None;
    let ruleset = Ruleset { generation: Generation::FIRST, tables: vec![table] };
    assert!(compose(&ruleset, 0).is_ok(), "what has no hook gets a prefix before its own");
}

#[test]
fn hooks_belong_to_families() {
    let mut table = empty();
    table.chains[0].hook = Some(Hook { point: HookPoint::DeviceEgress("eth0".into()), priority: 0, accept: true });
    assert_eq!(problem(table.clone()), EncodeProblem::Hook);
    table.family = Family::Netdev;
    table.chains[0].hook =
        Some(Hook { point: HookPoint::DeviceEgress("a-name-of-16-byte".into()), priority: 0, accept: true });
    assert!(matches!(problem(table), EncodeProblem::Name(_)));
}

#[test]
fn a_header_is_made_sure_of_once() {
    let twice = vec![equal(Field::Ipv4Source, 1), equal(Field::Ipv4Destination, 1)];
    let guarded = ["meta", "cmp", "payload", "cmp", "payload", "cmp"];
    assert_eq!(expressions(Family::Inet, twice.clone()), guarded);
    assert_eq!(expressions(Family::Netdev, twice), guarded);
    let explicit = vec![equal(Field::NfProtocol, 2), equal(Field::Ipv4Source, 1)];
    assert_eq!(expressions(Family::Inet, explicit), ["meta", "cmp", "payload", "cmp"]);
    // What is only not another protocol makes sure of nothing.
    let unsure = vec![
        Statement::Match { field: Field::Protocol, mask: None, compare: Compare::NotEqual, value: 17 },
        equal(Field::TcpFlags, 2),
    ];
    assert_eq!(expressions(Family::Inet, unsure), ["meta", "cmp", "meta", "cmp", "payload", "cmp"]);
}

#[test]
fn a_range_to_the_end_stays_open() {
    let elements = vec![element(&[0], Some(0)), element(&[65535], Some(65535))];
    let mut table = empty();
    table.sets = vec![set("n", &[Kind::Port], true, elements)];
    let ruleset = Ruleset { generation: Generation::FIRST, tables: vec![table] };
    let image = compose(&ruleset, 0).unwrap();
    let found: Vec<_> = image.tables[&abi::NFPROTO_INET].sets[0]
        .elements
        .iter()
        .map(|element| (element.key.clone(), element.end))
        .collect();
    assert_eq!(found, [(vec![0, 0], false), (vec![0, 1], true), (vec![255, 255], false)]);
}
