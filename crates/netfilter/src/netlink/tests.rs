//! A socket without room. These tests need root; without it they fail.

use super::*;
use crate::kernel::Kernel;
use sidewall_policy::ruleset::{Element, Family, Generation, Kind, Ruleset, Set, Table};

/// The smallest that the kernel gives.
const TINY: usize = 1;

fn hosts(count: u128) -> Ruleset {
    let elements =
        (0..count).map(|key| Element { key: key.into(), last: None, verdict: None, counter: None }).collect();
    let set = Set {
        name: "hosts".into(),
        key: vec![Kind::Ipv4],
        interval: false,
        map: false,
        counts: false,
        grows: true,
        elements,
    };
    let table = Table { family: Family::Inet, counters: Vec::new(), sets: vec![set], chains: Vec::new() };
    Ruleset { generation: Generation::FIRST, tables: vec![table] }
}

fn namespace() -> (NetNs, Kernel) {
    let namespace = NetNs::new().expect("a network namespace: this test needs root");
    let kernel = Kernel::open(&namespace).unwrap();
    (namespace, kernel)
}

fn tiny(namespace: &NetNs) -> Netlink {
    let mut netlink = Netlink::open(namespace).unwrap();
    netlink.receive_buffer(TINY).unwrap();
    netlink
}

const ELEMENTS: Request<'static> = Request {
    subsystem: abi::NFNL_SUBSYS_NFTABLES,
    kind: abi::NFT_MSG_GETSETELEM,
    flags: abi::NLM_F_DUMP,
    family: abi::NFPROTO_INET,
    resource: 0,
    attributes: &[(abi::NFTA_SET_ELEM_LIST_TABLE, b"sidewall\0"), (abi::NFTA_SET_ELEM_LIST_SET, b"a.hosts\0")],
};

fn count(message: &Message<'_>) -> usize {
    let lists = message.attributes().filter(|attribute| attribute.kind == abi::NFTA_SET_ELEM_LIST_ELEMENTS);
    lists.map(|list| list.nested().count()).sum()
}

#[test]
fn a_dump_comes_whole_through_a_tiny_buffer() {
    let (namespace, mut kernel) = namespace();
    kernel.load(&hosts(20_000), crate::LoadOptions::default()).unwrap();
    let mut netlink = tiny(&namespace);
    let mut found = 0;
    assert!(netlink.ask("list", &ELEMENTS, |message| found += count(message)).unwrap());
    assert_eq!(found, 20_000);
}

#[test]
fn what_overran_the_buffer_is_known_and_the_next_answer_is_right() {
    let (namespace, mut kernel) = namespace();
    let mut netlink = tiny(&namespace);
    // Told of every change, and not listening.
    netlink.socket.add_membership(abi_notifications()).unwrap();
    for count in 0..50 {
        kernel.load(&hosts(count * 100), crate::LoadOptions::default()).unwrap();
    }
    let (mut overrun, mut room) = (false, Room::new());
    loop {
        match netlink.receive(&mut room) {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) if error.is_overrun() => overrun = true,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(overrun, "the buffer was never full");
    // Full again, and this time nobody reads before asking.
    for count in 0..50 {
        kernel.load(&hosts(count * 100), crate::LoadOptions::default()).unwrap();
    }
    let mut found = 0;
    assert!(
        netlink.ask("list", &Request { attributes: &in_b(), ..ELEMENTS }, |message| found += count(message)).unwrap()
    );
    assert_eq!(found, 4900);
}

/// `NFNLGRP_NFTABLES`.
const fn abi_notifications() -> u32 {
    7
}

/// After an even number of loads the second slot is in force.
fn in_b() -> [(u16, &'static [u8]); 2] {
    [(abi::NFTA_SET_ELEM_LIST_TABLE, b"sidewall\0"), (abi::NFTA_SET_ELEM_LIST_SET, b"b.hosts\0")]
}

#[test]
fn many_errors_in_a_tiny_buffer_leave_the_first() {
    let (namespace, mut kernel) = namespace();
    kernel.load(&hosts(1), crate::LoadOptions::default()).unwrap();
    let before = kernel.nft_generation().unwrap();
    let mut netlink = tiny(&namespace);
    // Deletes thousands of elements that are not there, each an error of its own.
    let absent: Vec<_> = (10..3000_u32)
        .map(|key| crate::image::ElementImage {
            key: key.to_be_bytes().to_vec(),
            end: false,
            data: None,
            foreign: false,
        })
        .collect();
    let amendments: Vec<_> = absent
        .chunks(1)
        .map(|one| crate::compose::Amendment {
            family: Family::Inet,
            counters_added: Vec::new(),
            counters_deleted: Vec::new(),
            deleted: vec![("a.hosts".into(), one.to_vec())],
            added: Vec::new(),
            chains: Vec::new(),
        })
        .collect();
    let batch = crate::encode::encode_elements(&amendments, before, netlink.take_sequence(1));
    let error = crate::load::commit(&mut netlink, &batch).unwrap_err();
    let crate::LoadError::Refused { place, source, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(source.raw_os_error(), Some(libc::ENOENT));
    assert_eq!(place.part, crate::Part::Elements("hosts".into()));
    // The socket is as good as new, and nothing was changed.
    let mut found = 0;
    assert!(netlink.ask("list", &ELEMENTS, |message| found += count(message)).unwrap());
    assert_eq!(found, 1);
    assert_eq!(kernel.nft_generation().unwrap(), before);
    assert_eq!(kernel.verify(&hosts(1)).unwrap(), crate::Standing::AsLoaded);
}
