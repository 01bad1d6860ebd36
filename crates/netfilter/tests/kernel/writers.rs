//! Others who write into our tables.

use crate::pod::{Pod, key, peer};
use crate::support::*;
use sidewall_netfilter::{Because, Kernel, LoadError, LoadOptions, NetlinkError, Standing, Way};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};

const PLAIN: LoadOptions = LoadOptions { owner: false };
const OWNED: LoadOptions = LoadOptions { owner: true };

/// What somebody with CAP_NET_ADMIN might do, in the first slot.
const DEEDS: [&str; 12] = [
    "insert rule inet sidewall out accept",
    "insert rule inet sidewall a.deny accept",
    "add element inet sidewall a.peers { 127.1.0.2 : goto a.pass }",
    "delete element inet sidewall a.peers { 127.1.0.1 }",
    "flush map inet sidewall a.peers",
    "flush chain inet sidewall out",
    "flush chain inet sidewall a.deny",
    "rename chain inet sidewall a.deny a.other-name",
    "add chain inet sidewall out { policy accept; }",
    "add chain inet sidewall mine { type filter hook output priority -10; policy drop; }",
    "add table inet sidewall { flags dormant; }",
    "delete table inet sidewall",
];

fn passes(socket: &UdpSocket) -> bool {
    socket.send(b"x").is_ok()
}

struct Scene {
    namespace: sidewall_netns::NetNs,
    kernel: Kernel,
    _listener: UdpSocket,
    allowed: UdpSocket,
    denied: UdpSocket,
}

impl Scene {
    fn new() -> Self {
        let (namespace, kernel) = namespace();
        let sockets = || {
            let listener = UdpSocket::bind("0.0.0.0:4000").unwrap();
            let to = |number| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect((peer(number), 4000)).unwrap();
                socket
            };
            (listener, to(1), to(2))
        };
        let (_listener, allowed, denied) = namespace.run(sockets).unwrap();
        Self { namespace, kernel, _listener, allowed, denied }
    }

    fn stands(&mut self) {
        assert!(passes(&self.allowed), "what is allowed passes");
        assert!(!passes(&self.denied), "what is denied does not");
    }
}

#[test]
fn whatever_somebody_does_is_told_and_repaired() {
    let ruleset = Pod::of([1]).ruleset(1);
    for deed in DEEDS {
        let mut scene = Scene::new();
        scene.kernel.load(&ruleset, PLAIN).unwrap();
        scene.stands();
        nft(&scene.namespace, &[deed]);
        // A flow that slips in now bears the generation in force.
        let opened = passes(&scene.denied);
        let Standing::Drifted(differences) = scene.kernel.verify(&ruleset).unwrap() else {
            panic!("{deed} went unnoticed");
        };
        let repaired = scene.kernel.repair(&ruleset, PLAIN).unwrap();
        assert_eq!(repaired.differences, differences, "{deed}");
        println!("{deed}: {opened}, {} flows judged again: {}", repaired.flows, differences[0]);
        scene.stands();
        assert_eq!(scene.kernel.verify(&ruleset).unwrap(), Standing::AsLoaded);
        let nothing = scene.kernel.repair(&ruleset, PLAIN).unwrap();
        assert!(nothing.differences.is_empty() && nothing.flows == 0);
    }
}

#[test]
fn the_next_change_repairs() {
    let (ruleset, next) = (Pod::of([1]).ruleset(1), Pod::of([1, 3]).ruleset(1));
    for deed in DEEDS {
        let mut scene = Scene::new();
        scene.kernel.load(&ruleset, PLAIN).unwrap();
        scene.stands();
        nft(&scene.namespace, &[deed]);
        passes(&scene.denied);
        let changed = scene.kernel.change(&ruleset, &next, PLAIN).unwrap();
        assert_eq!(changed.way, Way::Loaded(Because::Moved), "{deed}");
        scene.stands();
        assert_eq!(scene.kernel.verify(&next).unwrap(), Standing::AsLoaded);
    }
}

#[test]
fn an_owners_tables_are_refused_to_others() {
    let mut scene = Scene::new();
    let ruleset = Pod::of([1]).ruleset(1);
    scene.kernel.load(&ruleset, OWNED).unwrap();
    for deed in DEEDS {
        let output = inside(&scene.namespace, "nft", &[deed]);
        assert!(!output.status.success(), "{deed}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Operation not permitted"), "{deed}: {output:?}");
        scene.stands();
    }
    assert_eq!(scene.kernel.verify(&ruleset).unwrap(), Standing::AsLoaded);
    let mut other = Kernel::open(&scene.namespace).unwrap();
    for options in [PLAIN, OWNED] {
        let open = Pod::of([1, 2]).ruleset(2);
        for error in [other.load(&open, options).unwrap_err(), other.change(&ruleset, &open, options).unwrap_err()] {
            assert!(matches!(error, LoadError::Denied { .. }), "{error:?}");
            assert!(error.to_string().contains("another program"), "{error}");
        }
        let error = other.repair(&open, options).unwrap_err();
        assert!(matches!(error, LoadError::Denied { .. }), "{error:?}");
    }
    scene.stands();
    // And the owner goes on as if nothing had been.
    let changed = scene.kernel.change(&ruleset, &Pod::of([1, 3]).ruleset(1), OWNED).unwrap();
    assert_eq!(changed.way, Way::Amended { added: 1, deleted: 0, chains: 0 });
}

#[test]
fn tables_that_change_under_a_reader_are_read_right_or_not_at_all() {
    let (namespace, mut kernel) = namespace();
    let mut pod = Pod::of(0..500);
    pod.hosts = (0..500).map(key).collect();
    let [one, two] = [pod.ruleset(1), pod.clone().with(5000).ruleset(2)];
    kernel.load(&one, PLAIN).unwrap();
    let (mut writer, stop) = (Kernel::open(&namespace).unwrap(), AtomicBool::new(false));
    let (mut read, mut restless) = (0, 0);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut standing = &one;
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                let next = if written % 2 == 0 { &two } else { &one };
                writer.change(standing, next, PLAIN).unwrap();
                standing = next;
                written += 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            written
        });
        for _ in 0..15 {
            match kernel.counters() {
                Ok(counters) => assert_eq!(counters.len(), 3),
                Err(NetlinkError::Restless { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            match kernel.verify(&one) {
                Ok(Standing::AsLoaded) => read += 1,
                // The other one, or the moment between its elements and its rules.
                Ok(Standing::Drifted(found)) => assert!((1..=4).contains(&found.len()), "{found:?}"),
                Err(LoadError::Netlink(NetlinkError::Restless { .. })) => restless += 1,
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        println!("read {read} times as it was, {restless} times restless, {} writes", writing.join().unwrap());
    });
    kernel.repair(&one, PLAIN).unwrap();
    assert_eq!(kernel.verify(&one).unwrap(), Standing::AsLoaded);
}
