use super::*;
use crate::compose;
use crate::drift::{Standing, compare};
use crate::encode::encode_image;
use sidewall_policy::ruleset::{
    Chain, Compare, Counter, Element, Family, Field, Generation, Hook, HookPoint, Kind, Rule, Set, Statement, Table,
    Verdict,
};

fn ruleset() -> Ruleset {
    let set = |name: &str, key, interval, map, element| Set {
        name: name.into(),
        key: vec![key],
        interval,
        map,
        counts: false,
        grows: false,
        elements: vec![element],
    };
    let plain = Element { key: 1.into(), last: None, verdict: None, counter: None };
    Ruleset {
        generation: Generation::FIRST,
        tables: vec![Table {
            family: Family::Inet,
            counters: vec![Counter { name: "c".into() }],
            sets: vec![
                set("ports", Kind::Port, true, false, Element { last: Some(9), ..plain.clone() }),
                set("marks", Kind::Mark, false, true, Element { verdict: Some(Verdict::Goto("leaf".into())), ..plain }),
            ],
            chains: vec![
                Chain {
                    name: "out".into(),
                    hook: Some(Hook { point: HookPoint::Output, priority: 0, accept: false }),
                    rules: vec![Rule {
                        statements: vec![
                            Statement::Match {
                                field: Field::CtMark,
                                mask: Some(0xff),
                                compare: Compare::AtMost,
                                value: 7,
                            },
                            Statement::Verdict(Verdict::Jump("leaf".into())),
                        ],
                        comment: Some("why".into()),
                    }],
                },
                Chain {
                    name: "leaf".into(),
                    hook: None,
                    rules: vec![Rule { statements: vec![Statement::Count("c".into())], comment: None }],
                },
            ],
        }],
    }
}

/// What is sent has the form of what is told, but for the table of the other family that is only deleted.
fn sent() -> (Image, Vec<u8>) {
    let image = compose::compose(&ruleset(), 0).unwrap();
    let bytes = encode_image(&image, 1).bytes().to_vec();
    (image, bytes)
}

#[test]
fn what_is_sent_reads_back_as_it_was_meant() {
    let (image, bytes) = sent();
    let mut found = parse(&bytes);
    assert_eq!(found.unreadable, 0);
    found.tables.remove(&abi::NFPROTO_NETDEV);
    assert_eq!(compare(&image, &found), Standing::AsLoaded);
}

#[test]
fn no_bytes_whatever_panic() {
    let (image, bytes) = sent();
    for length in 0..bytes.len() {
        parse(&bytes[..length]);
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 4, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let _ = compare(&image, &parse(&changed));
        }
    }
}

#[test]
fn what_cannot_be_read_is_never_as_loaded() {
    let (image, bytes) = sent();
    let mut found = parse(&bytes);
    found.tables.remove(&abi::NFPROTO_NETDEV);
    found.unreadable = 1;
    assert_ne!(compare(&image, &found), Standing::AsLoaded);
}

#[test]
fn other_tables_and_subsystems_are_passed_over() {
    let (_, mut bytes) = sent();
    // The same batch for a table of another name.
    let name = b"sidewall\0";
    for at in 0..bytes.len() - name.len() {
        if &bytes[at..at + name.len()] == name {
            bytes[at] = b'S';
        }
    }
    assert_eq!(parse(&bytes), Image::default());
}
