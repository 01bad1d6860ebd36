//! Others' changes, and our own, are noticed without asking.

use crate::pod::Pod;
use crate::support::*;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sidewall_netfilter::{Happened, LoadOptions, Watch};
use std::os::fd::AsFd;

const PLAIN: LoadOptions = LoadOptions { owner: false };

/// Waits until something is told; fails after a while.
fn told(watch: &mut Watch) -> Happened {
    let mut waiting = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut waiting, PollTimeout::from(5000_u16)).unwrap(), 1, "nothing was told");
    watch.drain()
}

#[test]
fn a_foreign_table_is_noticed_and_who_made_it() {
    let (namespace, mut kernel) = namespace();
    let mut watch = Watch::open(&namespace).unwrap();
    assert_eq!(watch.drain(), Happened::default());
    for deed in [
        "add table inet foreign",
        "add chain inet foreign c { type filter hook output priority -10; policy drop; }",
        "add set inet foreign s { type ipv4_addr; }",
        "add element inet foreign s { 192.0.2.1 }",
        "delete element inet foreign s { 192.0.2.1 }",
        "add rule inet foreign c accept",
        "delete table inet foreign",
    ] {
        nft(&namespace, &[deed]);
        let happened = told(&mut watch);
        assert!(happened.changed && !happened.lost && !happened.more, "{deed}: {happened:?}");
        let last = happened.last.expect(deed);
        assert_eq!((last.generation, last.program.as_str()), (kernel.nft_generation().unwrap(), "nft"), "{deed}");
        assert_ne!(last.thread, 0);
    }
    nft(&namespace, &["list ruleset"]);
    assert_eq!(watch.drain(), Happened::default(), "who only looks changes nothing");
    let (elsewhere, _kernel) = self::namespace();
    nft(&elsewhere, &["add table inet foreign"]);
    assert_eq!(watch.drain(), Happened::default(), "another namespace is another's business");
}

#[test]
fn our_own_transactions_are_told_with_their_number() {
    let (namespace, mut kernel) = namespace();
    let mut watch = Watch::open(&namespace).unwrap();
    let (one, two) = (Pod::of([1]).ruleset(1), Pod::of([1, 2]).ruleset(2));
    kernel.load(&one, PLAIN).unwrap();
    let happened = told(&mut watch);
    assert_eq!(happened.last.unwrap().generation, kernel.nft_generation().unwrap());
    // Nobody else was there: nothing to verify.
    assert_eq!(watch.drain(), Happened::default());
    kernel.change(&one, &two, PLAIN).unwrap();
    assert_eq!(told(&mut watch).last.unwrap().generation, kernel.nft_generation().unwrap());
    kernel.unload().unwrap();
    assert!(told(&mut watch).changed);
}

#[test]
fn a_large_transaction_is_one_message_and_many_are_lost_together() {
    let (namespace, mut kernel) = namespace();
    let mut watch = Watch::open(&namespace).unwrap();
    let large = Pod::of(0..20_000).ruleset(1);
    kernel.load(&large, PLAIN).unwrap();
    let happened = told(&mut watch);
    assert!(happened.changed && !happened.lost, "{happened:?}");
    for _ in 0..200 {
        kernel.load(&Pod::of([1]).ruleset(1), PLAIN).unwrap();
    }
    let happened = told(&mut watch);
    assert!(happened.changed && happened.lost && !happened.more, "{happened:?}");
    // And it goes on afterwards.
    assert_eq!(watch.drain(), Happened::default());
    nft(&namespace, &["add table inet foreign"]);
    let happened = told(&mut watch);
    assert_eq!(happened.last.unwrap().generation, kernel.nft_generation().unwrap());
    assert!(!happened.lost);
}

#[test]
fn a_watch_outlives_its_namespaces_other_descriptors() {
    let (namespace, kernel) = namespace();
    let mut watch = Watch::open(&namespace).unwrap();
    nft(&namespace, &["add table inet foreign"]);
    drop((namespace, kernel));
    assert!(watch.drain().changed);
    assert_eq!(watch.drain(), Happened::default());
}

/// A container that holds CAP_NET_ADMIN can send what looks like the kernel's own message, to hide a change behind a number
/// that is known.
#[test]
fn a_message_that_is_not_the_kernels_is_not_believed() {
    let (namespace, mut kernel) = namespace();
    let mut watch = Watch::open(&namespace).unwrap();
    nft(&namespace, &["add table inet foreign"]);
    let true_number = kernel.nft_generation().unwrap();
    let mut forged = Vec::new();
    // The end of a transaction (10 << 8 | 15), with NFTA_GEN_ID 1.
    let body = [0, 0, 0, 0, 8, 0, 1, 0, 0, 0, 0, 1];
    forged.extend((16 + body.len() as u32).to_ne_bytes());
    forged.extend(0x0a0f_u16.to_ne_bytes());
    forged.extend([0; 10]);
    forged.extend(body);
    let send = || {
        let socket = Socket::new(NETLINK_NETFILTER).unwrap();
        socket.send_to(&forged, &SocketAddr::new(0, 1 << 6), 0).unwrap()
    };
    namespace.run(send).unwrap();
    let happened = told(&mut watch);
    assert_eq!(happened.last.unwrap().generation, true_number);
    namespace.run(send).unwrap();
    assert_eq!(told(&mut watch), Happened { changed: true, ..Happened::default() });
}
