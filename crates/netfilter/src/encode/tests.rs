use super::*;
use crate::abi;
use crate::wire::messages;
use sidewall_policy::ruleset::{
    Chain, Compare, Counter, Element, Field, Generation, Hook, HookPoint, Kind, Rule, Set, Statement, Table, Verdict,
};

fn one_rule(statements: Vec<Statement>) -> Ruleset {
    Ruleset {
        generation: Generation::FIRST,
        tables: vec![Table {
            family: Family::Inet,
            counters: vec![Counter { name: "c".into() }],
            sets: vec![Set {
                name: "s".into(),
                key: vec![Kind::Port],
                interval: true,
                map: false,
                counts: false,
                grows: false,
                elements: vec![Element { key: 80.into(), last: Some(90), verdict: None, counter: None }],
            }],
            chains: vec![Chain {
                name: "out".into(),
                hook: Some(Hook { point: HookPoint::Output, priority: -300, accept: false }),
                rules: vec![Rule { statements, comment: Some("why".into()) }],
            }],
        }],
    }
}

/// Bytes as text, to compare with what the kernel's headers and `nft --debug=netlink` say.
fn hex(bytes: &[u8]) -> String {
    bytes
        .chunks(4)
        .map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect::<Vec<String>>()
        .join(" ")
}

/// The golden bytes are those of a little-endian machine.
#[cfg(target_endian = "little")]
#[test]
fn a_small_ruleset_has_these_bytes() {
    let batch = encode(
        &one_rule(vec![
            Statement::Match { field: Field::DestinationPort, mask: None, compare: Compare::Equal, value: 443 },
            Statement::Verdict(Verdict::Accept),
        ]),
        0,
        1,
    )
    .unwrap();
    let found: Vec<String> = messages(batch.bytes())
        .map(|m| format!("{:04x} {:04x} {} | {}", m.kind, m.flags, m.sequence, hex(m.body)))
        .collect();
    let name = "0d000100 73696465 77616c6c 00000000";
    assert_eq!(
        found,
        [
            "0010 0001 1 | 0000000a".to_owned(),
            // The tables of both families are made, so that they can be deleted.
            format!("0a00 0401 2 | 01000000 {name}"),
            format!("0a02 0001 3 | 01000000 {name}"),
            format!("0a00 0401 4 | 05000000 {name}"),
            format!("0a02 0001 5 | 05000000 {name}"),
            format!("0a00 0401 6 | 01000000 {name} 08000200 00000000"),
            format!("0a12 0401 7 | 01000000 {name} 08000200 612e6300 08000300 00000001 04000480"),
            // A set of ports (type 13, 2 bytes) with ranges, for two elements, keys in network order.
            format!(
                "0a09 0401 8 | 01000000 {name} 08000200 612e7300 08000300 00000004 08000400 0000000d \
                 08000500 00000002 0c000980 08000100 00000002 08000a00 00000001 0a000d00 00040200 00000000"
            ),
            // NF_INET_LOCAL_OUT at −300, policy drop, type filter.
            format!(
                "0a03 0401 9 | 01000000 {name} 08000300 6f757400 14000480 08000100 00000003 08000200 \
                 fffffed4 08000500 00000000 0b000700 66696c74 65720000"
            ),
            // 80, and 91 as the end.
            format!(
                "0a0c 0401 10 | 01000000 {name} 08000200 612e7300 2c000380 10000180 0c000180 06000100 \
                 00500000 18000180 0c000180 06000100 005b0000 08000300 00000001"
            ),
            // Payload of the transport header at 2, compared with 443, accept; and the comment.
            format!(
                "0a06 0c05 11 | 01000000 {name} 08000200 6f757400 94000480 34000180 0c000100 7061796c \
                 6f616400 24000280 08000100 00000001 08000200 00000002 08000300 00000002 08000400 \
                 00000002 2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000000 \
                 0c000380 06000100 01bb0000 30000180 0e000100 696d6d65 64696174 \
                 65000000 1c000280 08000100 00000000 10000280 0c000280 08000100 00000001 0a000700 \
                 00047768 79000000"
            ),
            "0011 0001 12 | 0000000a".to_owned(),
        ]
    );
}

#[test]
fn the_same_ruleset_gives_the_same_bytes() {
    let ruleset = one_rule(vec![Statement::Count("c".into())]);
    assert_eq!(encode(&ruleset, 6, 9), encode(&ruleset, 6, 9));
}

#[test]
fn a_message_is_known_by_its_number() {
    let batch = encode(&one_rule(Vec::new()), 0, u32::MAX - 2).unwrap();
    assert_eq!(batch.place(u32::MAX - 2), None);
    assert_eq!(batch.place(batch.last().wrapping_add(1)), None);
    assert_eq!(batch.place(batch.last()).unwrap().to_string(), "rule 1 of chain out in table inet sidewall");
    assert!(batch.has(batch.last()) && batch.has(batch.last().wrapping_add(1)));
    assert!(!batch.has(batch.last().wrapping_add(2)) && !batch.has(0x1000));
}

#[test]
fn no_attribute_is_longer_than_its_length_can_say() {
    let mut ruleset = one_rule(Vec::new());
    let chain = "x".repeat(253);
    let table = &mut ruleset.tables[0];
    table.chains.push(Chain { name: chain.clone(), hook: None, rules: Vec::new() });
    table.sets.push(Set {
        name: "many".into(),
        key: vec![Kind::Ipv6],
        interval: true,
        map: true,
        counts: false,
        grows: false,
        elements: (0..2000)
            .map(|i| Element {
                key: (i * 2).into(),
                last: Some(i * 2),
                verdict: Some(Verdict::Goto(chain.clone())),
                counter: None,
            })
            .collect(),
    });
    let batch = encode(&ruleset, 0, 1).unwrap();
    let mut elements = 0;
    for message in messages(batch.bytes()) {
        assert!(!message.attributes().has_rest());
        for attribute in message.attributes() {
            if message.kind == 0x0a0c && attribute.kind == abi::NFTA_SET_ELEM_LIST_ELEMENTS {
                assert!(!attribute.nested().has_rest());
                elements += attribute.nested().count();
            }
        }
    }
    assert_eq!(elements, 2 + 4000);
}
