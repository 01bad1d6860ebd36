//! Whatever somebody else changes in our tables is noticed.

use crate::support::*;
use sidewall_netfilter::{Change, Kernel, LoadOptions, Part, Standing};
use sidewall_policy::ruleset::{Field, HookPoint, Kind, Ruleset, Verdict};

fn walls() -> Ruleset {
    ruleset(vec![table(
        &["denied"],
        vec![
            set("nets", &[Kind::Ipv4], true, vec![range(ip4("10.0.0.0"), ip4("10.0.0.255"))]),
            set("ports", &[Kind::Port], false, vec![element(&[53])]),
            // Only sets of addresses take more elements than they were made with.
            growing(set("hosts", &[Kind::Ipv4], false, vec![element(&[ip4("10.0.0.1")])])),
            set("gotos", &[Kind::Ipv4], false, vec![to(&[7], Verdict::Goto("leaf".into()))]),
        ],
        vec![
            base(
                "out",
                HookPoint::Output,
                false,
                [
                    rule([equal(Field::DestinationPort, 1), verdict(Verdict::Accept)]),
                    rule([equal(Field::DestinationPort, 2), verdict(Verdict::Drop)]),
                    rule([equal(Field::DestinationPort, 3), verdict(Verdict::Accept)]),
                ],
            ),
            chain("leaf", [rule([verdict(Verdict::Drop)])]),
        ],
    )])
}

/// Loads the walls, changes them with nft, and tells what is then noticed.
fn after(change: &str) -> Vec<(Part, Change)> {
    let (namespace, mut kernel) = namespace();
    kernel.load(&walls(), LoadOptions::default()).unwrap();
    let generation = kernel.nft_generation().unwrap();
    assert_eq!(kernel.verify(&walls()).unwrap(), Standing::AsLoaded);
    assert_eq!(kernel.nft_generation().unwrap(), generation);
    nft(&namespace, &[change]);
    assert_ne!(kernel.nft_generation().unwrap(), generation, "{change}");
    let found = match kernel.verify(&walls()).unwrap() {
        Standing::AsLoaded => panic!("{change}: nothing noticed"),
        Standing::Drifted(differences) => differences,
    };
    for difference in &found {
        println!("{change}: {difference}");
    }
    // A reload repairs it, whatever it was.
    kernel.load(&walls(), LoadOptions::default()).unwrap();
    assert_eq!(kernel.verify(&walls()).unwrap(), Standing::AsLoaded);
    found.into_iter().map(|difference| (difference.place.part, difference.change)).collect()
}

fn out(number: usize) -> Part {
    Part::Rule { chain: "out".into(), number }
}

/// The handle of a rule of chain `out`, counted from 0, of a table just loaded.
fn handle(index: usize) -> String {
    let (namespace, mut kernel) = namespace();
    kernel.load(&walls(), LoadOptions::default()).unwrap();
    let text = nft(&namespace, &["-a", "list", "chain", "inet", "sidewall", "out"]);
    text.lines()
        .filter(|line| line.contains("th dport"))
        .nth(index)
        .and_then(|line| line.rsplit(' ').next())
        .expect("nft tells handles")
        .to_owned()
}

#[test]
fn a_deleted_rule() {
    let change = format!("delete rule inet sidewall out handle {}", handle(2));
    assert_eq!(after(&change), [(out(3), Change::Missing)]);
}

#[test]
fn an_inserted_rule() {
    assert_eq!(
        after("insert rule inet sidewall a.leaf accept"),
        [
            (Part::Rule { chain: "leaf".into(), number: 1 }, Change::Altered),
            (Part::Rule { chain: "leaf".into(), number: 2 }, Change::Foreign)
        ]
    );
}

#[test]
fn rules_in_another_order() {
    let change =
        format!("delete rule inet sidewall out handle {}; add rule inet sidewall out th dport 1 accept", handle(0));
    assert_eq!(after(&change), [(out(1), Change::Altered), (out(2), Change::Altered), (out(3), Change::Altered)]);
}

#[test]
fn a_rule_with_another_value() {
    let change = format!("replace rule inet sidewall out handle {} th dport 22 drop", handle(1));
    assert_eq!(after(&change), [(out(2), Change::Altered)]);
}

#[test]
fn a_rule_with_a_comment() {
    let change = format!("replace rule inet sidewall out handle {} th dport 2 drop comment \"x\"", handle(1));
    assert_eq!(after(&change), [(out(2), Change::Altered)]);
}

#[test]
fn a_foreign_chain() {
    assert_eq!(
        after("add chain inet sidewall theirs { type filter hook output priority -1; }"),
        [(Part::Chain("theirs".into()), Change::Foreign)]
    );
}

#[test]
fn another_policy() {
    assert_eq!(
        after("add chain inet sidewall out { type filter hook output priority 0; policy accept; }"),
        [(Part::Chain("out".into()), Change::Altered)]
    );
}

#[test]
fn a_dormant_table() {
    assert_eq!(after("add table inet sidewall { flags dormant; }"), [(Part::Table, Change::Altered)]);
}

#[test]
fn more_and_fewer_elements() {
    assert_eq!(
        after("add element inet sidewall a.hosts { 10.0.0.2 }"),
        [(Part::Elements("hosts".into()), Change::Elements { missing: 0, foreign: 1 })]
    );
    assert_eq!(
        after("delete element inet sidewall a.ports { 53 }"),
        [(Part::Elements("ports".into()), Change::Elements { missing: 1, foreign: 0 })]
    );
    // A range has two ends.
    assert_eq!(after("add element inet sidewall a.nets { 11.0.0.0/8 }")[0].0, Part::Elements("nets".into()));
    assert_eq!(
        after(
            "delete element inet sidewall a.gotos { 0.0.0.7 : goto a.leaf }; add element inet sidewall a.gotos { 0.0.0.7 : accept }"
        ),
        [(Part::Elements("gotos".into()), Change::Elements { missing: 1, foreign: 1 })]
    );
}

#[test]
fn a_deleted_table() {
    assert_eq!(after("delete table inet sidewall"), [(Part::Table, Change::Missing)]);
}

#[test]
fn a_table_of_ours_that_was_not_loaded() {
    assert_eq!(after("add table netdev sidewall"), [(Part::Table, Change::Foreign)]);
}

#[test]
fn foreign_sets_and_objects() {
    assert_eq!(
        after(
            "add set inet sidewall theirs { type mark; }; add counter inet sidewall more; add quota inet sidewall q { 1 mbytes; }"
        ),
        [
            (Part::Counter("more".into()), Change::Foreign),
            (Part::Counter("2 q".into()), Change::Foreign),
            (Part::Set("theirs".into()), Change::Foreign)
        ]
    );
}

#[test]
fn another_program_can_verify_too() {
    let (namespace, mut kernel) = namespace();
    kernel.load(&walls(), LoadOptions { owner: true }).unwrap();
    let mut other = Kernel::open(&namespace).unwrap();
    assert_eq!(other.verify(&walls()).unwrap(), Standing::AsLoaded);
    assert_eq!(kernel.verify(&walls()).unwrap(), Standing::AsLoaded);
}
