//! Tables with an owner: nobody else can change them, and they outlive it.

use crate::support::*;
use sidewall_netfilter::{Kernel, LoadError, LoadOptions, Standing};
use sidewall_policy::ruleset::{Family, Field, HookPoint, Ruleset, Verdict};
use std::net::UdpSocket;

const OWNED: LoadOptions = LoadOptions { owner: true };

fn walls(port: u128) -> Ruleset {
    ruleset(vec![table(
        &[],
        Vec::new(),
        vec![base("in", HookPoint::Input, true, [rule([equal(Field::DestinationPort, port), verdict(Verdict::Drop)])])],
    )])
}

/// Whether a datagram to the port arrives on loopback.
fn arrives(namespace: &sidewall_netns::NetNs, port: u16) -> bool {
    namespace
        .run(|| {
            let receiver = UdpSocket::bind(("127.0.0.1", port)).unwrap();
            receiver.set_nonblocking(true).unwrap();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.send_to(b"x", ("127.0.0.1", port)).unwrap();
            // Loopback delivers before `send_to` returns.
            receiver.recv(&mut [0; 8]).is_ok()
        })
        .unwrap()
}

#[test]
fn an_owned_table_is_its_owners_alone_and_outlives_him() {
    let (namespace, mut first) = namespace();
    assert!(arrives(&namespace, 4000));
    assert!(first.load(&walls(4000), OWNED).unwrap().owner);
    assert!(!arrives(&namespace, 4000));

    // While the owner lives, nobody else can change or delete it, by nft or by another of us.
    assert!(!inside(&namespace, "nft", &["delete table inet sidewall"]).status.success());
    assert!(!inside(&namespace, "nft", &["flush ruleset"]).status.success() || !arrives(&namespace, 4000));
    let mut second = Kernel::open(&namespace).unwrap();
    for error in
        [second.load(&walls(4001), OWNED).unwrap_err(), second.unload().unwrap_err(), second.adopt().unwrap_err()]
    {
        assert!(matches!(error, LoadError::Denied { .. }), "{error:?}");
    }
    assert_eq!(first.verify(&walls(4000)).unwrap(), Standing::AsLoaded);

    // The owner can replace it.
    first.load(&walls(4001), OWNED).unwrap();
    assert!(arrives(&namespace, 4000) && !arrives(&namespace, 4001));

    // It stays when he goes, and the next one takes it over as it is.
    drop(first);
    assert!(!arrives(&namespace, 4001));
    assert_eq!(second.adopt().unwrap(), [Family::Inet]);
    assert_eq!(second.verify(&walls(4001)).unwrap(), Standing::AsLoaded);
    assert!(!inside(&namespace, "nft", &["delete table inet sidewall"]).status.success());

    // An orphan can be replaced without being adopted first.
    drop(second);
    let mut third = Kernel::open(&namespace).unwrap();
    third.load(&walls(4002), OWNED).unwrap();
    assert!(arrives(&namespace, 4001) && !arrives(&namespace, 4002));
    third.unload().unwrap();
    assert!(arrives(&namespace, 4002));
}

#[test]
fn there_may_be_nothing_to_adopt() {
    let (namespace, mut kernel) = namespace();
    assert_eq!(kernel.adopt().unwrap(), []);
    kernel.load(&walls(1), LoadOptions::default()).unwrap();
    // The kernel gives an owner only to tables that were made with one.
    let mut other = Kernel::open(&namespace).unwrap();
    let adopted = other.adopt();
    assert!(matches!(adopted, Err(LoadError::Unsupported { .. })), "{adopted:?}");
}
