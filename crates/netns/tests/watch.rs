//! Watching links and addresses, and listing them, against the real kernel. Needs root.

mod common;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use common::need_root;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sidewall_netns::{AddressScope, Device, Happened, LinkWatch, Links, NetNs, OtherEnd};
use std::os::fd::AsFd;

/// Waits until something is told; fails after a while. Deliveries happen before the request that caused them returns, but
/// for what the kernel does later by itself (duplicate detection, carrier).
fn told(watch: &mut LinkWatch) -> Happened {
    let mut waiting = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut waiting, PollTimeout::from(5000_u16)).unwrap(), 1, "nothing was told");
    watch.drain()
}

/// Waits until nothing is told for a while: the kernel's own changes after ours have passed.
fn settle(watch: &mut LinkWatch) {
    let start = Instant::now();
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(300) {
        assert!(start.elapsed() < Duration::from_secs(20), "it never is quiet");
        if watch.drain().changed {
            quiet = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

const CHANGED: Happened = Happened { changed: true, lost: false, more: false };

struct Scene {
    pod: NetNs,
    node: NetNs,
    in_pod: Links,
    in_node: Links,
}

impl Scene {
    fn new() -> Scene {
        need_root();
        let (pod, node) = (NetNs::new().unwrap(), NetNs::new().unwrap());
        let (in_pod, mut in_node) = (Links::of(&pod).unwrap(), Links::of(&node).unwrap());
        // So that the two ends have different indexes.
        in_node.add_veth("spare", &node, "spare-peer").unwrap();
        in_node.add_veth("to-pod", &pod, "eth0").unwrap();
        Scene { pod, node, in_pod, in_node }
    }
}

#[test]
fn links_and_addresses_that_come_and_go_are_told() {
    let Scene { pod, mut in_pod, mut in_node, .. } = Scene::new();
    let mut watch = LinkWatch::open(&pod).unwrap();
    assert_eq!(watch.drain(), Happened::default());

    in_pod.set_up("lo").unwrap();
    assert_eq!(told(&mut watch), CHANGED);
    in_pod.set_up("eth0").unwrap();
    assert_eq!(told(&mut watch), CHANGED);
    settle(&mut watch);
    for address in ["10.9.0.2/24", "fd09::2/64"] {
        in_pod.add_address("eth0", address.parse().unwrap()).unwrap();
        assert_eq!(told(&mut watch), CHANGED, "{address}");
        settle(&mut watch);
    }
    // What happens at the other end is no change, but for the carrier.
    in_node.add_address("to-pod", "10.9.0.1/24".parse().unwrap()).unwrap();
    assert_eq!(watch.drain(), Happened::default());
    in_node.set_up("to-pod").unwrap();
    assert_eq!(told(&mut watch), CHANGED);
    settle(&mut watch);
    in_pod.remove_address("eth0", "10.9.0.2/24".parse().unwrap()).unwrap();
    assert_eq!(told(&mut watch), CHANGED);
    settle(&mut watch);
    in_pod.set_down("eth0").unwrap();
    assert_eq!(told(&mut watch), CHANGED);
    settle(&mut watch);
    in_node.delete("to-pod").unwrap();
    assert_eq!(told(&mut watch), CHANGED);
    settle(&mut watch);
    assert_eq!(watch.drain(), Happened::default());
}

#[test]
fn what_there_was_no_room_for_is_told_as_lost() {
    let Scene { pod, mut in_pod, in_node: _keeps_the_pair, .. } = Scene::new();
    let mut watch = LinkWatch::open(&pod).unwrap();
    for number in 0..500_u16 {
        let [high, low] = number.to_be_bytes();
        in_pod.add_address("eth0", format!("10.{high}.{low}.1/32").parse().unwrap()).unwrap();
    }
    let happened = watch.drain();
    assert_eq!(happened, Happened { changed: true, lost: true, more: false });
    // And it goes on afterwards.
    settle(&mut watch);
    in_pod.set_up("lo").unwrap();
    assert_eq!(told(&mut watch), CHANGED);
}

#[test]
fn a_watch_outlives_its_pod_and_ends_with_itself() {
    let Scene { pod, node, in_pod, mut in_node } = Scene::new();
    let mut watch = LinkWatch::open(&pod).unwrap();
    drop((pod, in_pod));
    assert_eq!(watch.drain(), Happened::default());
    assert!(in_node.index("to-pod").is_ok(), "a socket keeps its namespace");
    let mut at_node = LinkWatch::open(&node).unwrap();
    drop(watch);
    // The kernel takes namespaces down in its own time, and the pair with it.
    let start = Instant::now();
    while in_node.index("to-pod").is_ok() {
        assert!(start.elapsed() < Duration::from_secs(20), "the namespace is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(told(&mut at_node).changed);
}

#[test]
fn devices_are_listed_with_their_addresses() {
    let Scene { mut in_pod, mut in_node, .. } = Scene::new();
    for (links, name, address) in [(&mut in_pod, "eth0", "10.9.0.2/32"), (&mut in_node, "to-pod", "10.9.0.1/24")] {
        links.set_up("lo").unwrap();
        links.set_up(name).unwrap();
        links.add_address(name, address.parse().unwrap()).unwrap();
    }
    in_pod.add_address("eth0", "fd09::2/64".parse().unwrap()).unwrap();
    in_pod.wait_operational("eth0", Duration::from_secs(10)).unwrap();
    let at_node = in_node.index("to-pod").unwrap();
    let devices = in_pod.devices().unwrap();
    let device = |name: &str| devices.iter().find(|device| device.link.name == name).unwrap();

    let Device { link, addresses } = device("lo");
    assert!(link.loopback && link.up && link.kind.is_none() && link.other_end.is_none(), "{link:?}");
    let found: Vec<_> = addresses.iter().map(|address| (address.net.to_string(), address.scope)).collect();
    assert_eq!(found, [("127.0.0.1/8".to_owned(), AddressScope::Host), ("::1/128".to_owned(), AddressScope::Host)]);

    let Device { link, addresses } = device("eth0");
    assert_eq!((link.kind.as_deref(), link.loopback, link.up, link.operational), (Some("veth"), false, true, true));
    let end = link.other_end.unwrap();
    assert!(matches!(end, OtherEnd { index, namespace: Some(_) } if index == at_node), "{end:?}");
    let of = |ip: &str| addresses.iter().find(|address| address.net.addr() == ip.parse::<IpAddr>().unwrap()).unwrap();
    assert_eq!((of("10.9.0.2").net.prefix_len(), of("10.9.0.2").scope), (32, AddressScope::Global));
    assert_eq!((of("fd09::2").net.prefix_len(), of("fd09::2").scope), (64, AddressScope::Global));
    assert!(!of("fd09::2").tentative && !of("fd09::2").duplicate && of("fd09::2").peer.is_none());
    let local = addresses.iter().find(|address| address.scope == AddressScope::Link).expect("fe80::");
    assert!(local.net.to_string().starts_with("fe80::") && local.link == link.index);

    in_pod.set_down("eth0").unwrap();
    let link = in_pod.links().unwrap().into_iter().find(|link| link.name == "eth0").unwrap();
    assert!(!link.up && !link.operational, "{link:?}");
    // Both ends in one namespace.
    let spare = in_node.links().unwrap().into_iter().find(|link| link.name == "spare").unwrap();
    let peer = in_node.index("spare-peer").unwrap();
    assert_eq!(spare.other_end, Some(OtherEnd { index: peer, namespace: None }));
}
