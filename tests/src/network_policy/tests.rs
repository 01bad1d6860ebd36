//! The evaluator, and what the cases themselves must be.

use super::cluster::{PORTS, PROTOCOLS, Walls, imaginary};
use super::*;
use sidewall_flow::{Action, Protocol};
use std::collections::{BTreeMap, BTreeSet};

/// How many disagreements are told.
const TOLD: usize = 20;

/// Every pair of ends of which at least one has walls.
fn pairs(ends: &[End]) -> impl Iterator<Item = (&End, &End)> {
    let sources = ends.iter().filter(|end| end.place != Place::Service);
    let pairs = sources.flat_map(move |from| ends.iter().map(move |to| (from, to)));
    pairs.filter(|(from, to)| from.is_walled() || to.is_walled())
}

fn probes() -> impl Iterator<Item = Probe> {
    let ports = PROTOCOLS.into_iter().flat_map(|protocol| PORTS.map(|port| (protocol, port)));
    ports.flat_map(|(protocol, port)| [false, true].map(|v6| Probe { protocol, port, v6 }))
}

#[test]
fn the_evaluator_agrees() {
    let (mut tried, mut denied, mut wrong) = (0_u32, 0_u32, Vec::new());
    for by_user in [false, true] {
        for case in cases() {
            let mut cluster = Cluster::default();
            for (number, step) in (1..).zip(&case.steps) {
                cluster.apply(step);
                let ends = cluster.ends();
                let expectation = Expectation::read(&step.expect, &ends);
                let walls = Walls::of(&cluster, |_| imaginary(by_user));
                for (from, to) in pairs(&ends) {
                    for probe in probes().filter(|probe| to.answers(*probe)) {
                        let Some(verdict) = walls.verdict(from, to, probe) else { continue };
                        let expected = expectation.of(from, to, probe);
                        tried += 1;
                        denied += u32::from(expected == Action::Deny);
                        if verdict != expected {
                            wrong.push(format!(
                                "{}: {}: step {number}: {} to {} on {probe}: expected {expected}, evaluated {verdict}",
                                case.family, case.title, from.name, to.name
                            ));
                        }
                    }
                }
            }
        }
    }
    println!("{tried} verdicts, {denied} of them denials");
    let families: BTreeSet<&str> =
        wrong.iter().filter_map(|line| line.rsplit_once(": step")).map(|(case, _)| case).collect();
    assert!(
        wrong.is_empty(),
        "{} of {tried} verdicts disagree, in {} cases:\n{}\n\n{}",
        wrong.len(),
        families.len(),
        families.into_iter().collect::<Vec<_>>().join("\n"),
        wrong.iter().take(TOLD).cloned().collect::<Vec<_>>().join("\n")
    );
    // A table in which hardly anything is denied, or allowed, would show little.
    assert!(denied > tried / 20 && denied < tried / 20 * 19, "{denied} of {tried} are denials");
}

#[test]
fn no_two_cases_have_the_same_title() {
    let mut titles: BTreeMap<(String, String), u32> = BTreeMap::new();
    for case in cases() {
        *titles.entry((case.family, case.title)).or_default() += 1;
    }
    let twice: Vec<_> = titles.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(titles.len() >= 200, "{} cases", titles.len());
}

#[test]
fn later_lines_hold_over_earlier_ones() {
    let ends = Cluster::default().ends();
    let end = |name: &str| ends.iter().find(|end| end.name == name).expect("an end");
    let lines = ["deny to x/a", "allow from y/*, x/b to x/a on TCP/80, UDP over IPv6", "deny from y/c"];
    let expectation = Expectation::read(&lines.map(str::to_owned), &ends);
    let of =
        |from: &str, to: &str, protocol, port, v6| expectation.of(end(from), end(to), Probe { protocol, port, v6 });
    for (from, to, protocol, port, v6, expected) in [
        ("x/b", "x/a", Protocol::Tcp, 80, true, Action::Allow),
        ("x/b", "x/a", Protocol::Udp, 81, true, Action::Allow),
        ("x/b", "x/a", Protocol::Tcp, 81, true, Action::Deny),
        ("x/b", "x/a", Protocol::Tcp, 80, false, Action::Deny),
        ("y/a", "x/a", Protocol::Tcp, 80, true, Action::Allow),
        ("y/c", "x/a", Protocol::Tcp, 80, true, Action::Deny),
        ("y/c", "x/b", Protocol::Tcp, 80, true, Action::Deny),
        ("y/c", "y/c", Protocol::Tcp, 80, true, Action::Allow),
        ("z/a", "x/a", Protocol::Tcp, 80, true, Action::Deny),
        ("outside", "x/a", Protocol::Tcp, 80, true, Action::Deny),
        ("node", "x/a", Protocol::Tcp, 81, false, Action::Allow),
        ("x/a", "x/b", Protocol::Sctp, 81, false, Action::Allow),
    ] {
        assert_eq!(of(from, to, protocol, port, v6), expected, "{from} to {to} {protocol}/{port}");
    }
}

#[test]
#[should_panic(expected = "is nobody")]
fn who_is_not_there_is_not_expected() {
    Expectation::read(&["deny to x/q".to_owned()], &Cluster::default().ends());
}

#[test]
fn what_is_not_understood_is_refused() {
    for line in
        ["", "perhaps to x/a", "deny x/a", "deny to x/a from x/b", "deny on ICMP", "deny on TCP/http", "deny over IPv5"]
    {
        let read = std::panic::catch_unwind(|| Expectation::read(&[line.to_owned()], &Cluster::default().ends()));
        assert!(read.is_err(), "{line:?}");
    }
}

#[test]
fn a_line_is_mirrored() {
    for (line, image) in [
        ("deny to x/a", "deny from x/a"),
        ("deny from x/a", "deny to x/a"),
        ("allow from y/*, x/b to x/a on TCP/80, UDP over IPv6", "allow from x/a to y/*, x/b on TCP/80, UDP over IPv6"),
        ("deny on TCP", "deny on TCP"),
    ] {
        assert_eq!(expectation::image(line), image);
    }
}
