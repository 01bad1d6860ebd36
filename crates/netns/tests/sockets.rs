//! Lists of sockets against the real kernel. Needs root.

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{OwnCgroup, need_root};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use sidewall_netns::sockets::{self, Listing, Origin, Protocol, Socket, State, Which};
use sidewall_netns::{Capability, Cgroup, CgroupMap, Launch, Links, NetNs, Process};

const UID: u32 = 54321;
const LIMIT: usize = 1000;

fn namespace() -> NetNs {
    need_root();
    let ns = NetNs::new().unwrap();
    Links::of(&ns).unwrap().set_up("lo").unwrap();
    ns
}

fn inode(socket: &impl AsRawFd) -> u32 {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
    let text = link.to_str().unwrap();
    text.strip_prefix("socket:[").and_then(|text| text.strip_suffix(']')).unwrap().parse().unwrap()
}

/// The program of [`Holder`]: opens one socket of each kind, says which, and waits for its end.
#[test]
#[ignore = "run by the other tests, in a cgroup and a namespace of its own"]
fn holds_sockets() {
    let say = |what: &str, socket: &dyn AsRawFd, address: Option<SocketAddr>| {
        let address = address.map_or("none".to_owned(), |address| address.to_string());
        println!("SOCKET {what} {} {address}", inode(&socket.as_raw_fd()));
    };
    let four = TcpListener::bind("127.0.0.1:0").unwrap();
    let six = TcpListener::bind("[::]:0").unwrap();
    let stream = TcpStream::connect(four.local_addr().unwrap()).unwrap();
    let accepted = four.accept().unwrap().0;
    let datagrams = UdpSocket::bind("0.0.0.0:0").unwrap();
    let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
    connected.connect(("127.0.0.1", datagrams.local_addr().unwrap().port())).unwrap();
    let frames = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll).unwrap();
    say("tcp", &four, four.local_addr().ok());
    say("tcp6", &six, six.local_addr().ok());
    say("stream", &stream, stream.local_addr().ok());
    say("accepted", &accepted, accepted.local_addr().ok());
    say("udp", &datagrams, datagrams.local_addr().ok());
    say("connected", &connected, connected.local_addr().ok());
    say("packet", &frames, None);
    println!("READY");
    let _ = std::io::stdin().read(&mut [0]);
}

/// A process with sockets, ended with the test.
struct Holder {
    process: Process,
    sockets: Vec<(String, u32, Option<SocketAddr>)>,
}

impl Holder {
    fn new(ns: &NetNs, cgroup: &Cgroup) -> Holder {
        let program = std::env::current_exe().unwrap();
        let mut process = Launch::from_file(File::open(&program).unwrap(), &program)
            .args(["--ignored", "--exact", "holds_sockets", "--nocapture"])
            .cgroup(cgroup)
            .netns(ns)
            .identity(UID, UID)
            .keep_capabilities([Capability::NET_RAW])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .die_with_parent()
            .spawn()
            .unwrap();
        let mut sockets = Vec::new();
        for line in BufReader::new(process.take_stdout().unwrap()).lines() {
            let line = line.unwrap();
            if line == "READY" {
                return Holder { process, sockets };
            }
            // The test harness may have written its own words on the same line before.
            if let Some((_, said)) = line.split_once("SOCKET ") {
                let words: Vec<_> = said.split(' ').collect();
                sockets.push((words[0].to_owned(), words[1].parse().unwrap(), words[2].parse().ok()));
            }
        }
        let _ = process.kill();
        panic!("the process has ended before it was ready");
    }

    fn find<'a>(&self, what: &str, listing: &'a Listing) -> &'a Socket {
        let (_, inode, address) = self.sockets.iter().find(|(name, ..)| name == what).unwrap();
        let found = listing.sockets.iter().find(|socket| socket.inode == *inode);
        let found = found.unwrap_or_else(|| panic!("{what} is not among {:?}", listing.sockets));
        assert_eq!((found.uid, found.local), (UID, *address), "{what}");
        found
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
    }
}

#[test]
fn every_socket_is_told_with_its_user_and_its_makers_cgroup() {
    let ns = namespace();
    let own = OwnCgroup::new("sockets");
    let cgroup = own.0.create("container").unwrap();
    let holder = Holder::new(&ns, &cgroup);
    let id = cgroup.id().unwrap();
    let listing = sockets::list(&ns, Which::All, LIMIT).unwrap();
    assert!(listing.complete);
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Packet] {
        assert!(!listing.missing.contains(&protocol), "this kernel is without {protocol}");
    }
    for (what, protocol, state) in [
        ("tcp", Protocol::Tcp, State::Listen),
        ("tcp6", Protocol::Tcp, State::Listen),
        ("stream", Protocol::Tcp, State::Established),
        ("accepted", Protocol::Tcp, State::Established),
        ("udp", Protocol::Udp, State::Close),
        ("connected", Protocol::Udp, State::Established),
    ] {
        let socket = holder.find(what, &listing);
        assert_eq!((socket.protocol, socket.state, socket.cgroup), (protocol, Some(state), Some(id)), "{what}");
        assert_eq!(socket.remote.is_some(), state == State::Established, "{what}");
    }
    assert_eq!(holder.find("stream", &listing).remote, holder.find("tcp", &listing).local);
    assert_eq!(holder.find("packet", &listing).cgroup, None);
    assert_eq!(listing.sockets.len(), 7, "and there are no others");

    let open = sockets::list(&ns, Which::Open, LIMIT).unwrap();
    let expected: Vec<_> = ["tcp", "tcp6", "udp", "packet"].map(|what| holder.find(what, &open)).into();
    assert_eq!(open.sockets.iter().collect::<Vec<_>>(), expected);
    // Nor are they told of another namespace.
    assert_eq!(sockets::list(&namespace(), Which::All, LIMIT).unwrap().sockets, []);
}

#[test]
fn a_process_of_another_pod_that_enters_is_foreign_and_one_of_the_node_is_not() {
    let ns = namespace();
    let own = OwnCgroup::new("foreign");
    let pods = own.0.create("kubepods").unwrap();
    let cgroup = |pod: &str| pods.create(pod).unwrap().create("container").unwrap().create("deeper").unwrap();
    let (mine, others, node) = (cgroup("pod-a"), cgroup("pod-b"), own.0.create("system").unwrap());
    let (inside, intruder, kubelet) = (Holder::new(&ns, &mine), Holder::new(&ns, &others), Holder::new(&ns, &node));
    let map = CgroupMap::read(&own.0, LIMIT).unwrap();
    assert!(map.is_complete());
    assert_eq!(map.path(others.id().unwrap()), Some(others.path()));
    let ids = map.below(&pods.path().join("pod-a"));
    assert_eq!(ids.len(), 3);
    let tops = [pods.path().to_owned()];

    let listing = sockets::list(&ns, Which::All, LIMIT).unwrap();
    let origin = |holder: &Holder, what| sockets::origin(holder.find(what, &listing), &ids, &tops, &map);
    for what in ["tcp", "tcp6", "udp", "connected", "accepted"] {
        assert_eq!(origin(&inside, what), Origin::Pod);
        assert_eq!(origin(&intruder, what), Origin::OtherPod(others.path()));
        assert_eq!(origin(&kubelet, what), Origin::Node(node.path()));
    }
    assert_eq!(origin(&intruder, "packet"), Origin::Untold);
    let found: BTreeSet<u32> = sockets::foreign(&listing.sockets, &ids, &tops, &map).map(|(s, _)| s.inode).collect();
    let expected = intruder.sockets.iter().filter(|(what, ..)| what != "packet").map(|(_, inode, _)| *inode).collect();
    assert_eq!(found, expected);
    // What has come after the map was read is not on it.
    let late = cgroup("pod-c");
    let newcomer = Holder::new(&ns, &late);
    let listing = sockets::list(&ns, Which::Open, LIMIT).unwrap();
    let unknown = sockets::origin(newcomer.find("tcp", &listing), &ids, &tops, &map);
    assert_eq!(unknown, Origin::Unknown(late.id().unwrap()));
}

#[test]
fn a_list_that_is_cut_says_so_and_has_the_open_ones_first() {
    let ns = namespace();
    let own = OwnCgroup::new("cut");
    let hold = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let streams: Vec<_> =
            (0..100).map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap())).collect();
        (listener, streams)
    };
    let (_listener, streams) = ns.run(hold).unwrap();
    let listing = sockets::list(&ns, Which::All, 50).unwrap();
    assert_eq!((listing.sockets.len(), listing.complete), (50, false));
    assert_eq!(listing.sockets[0].state, Some(State::Listen));
    let listing = sockets::list(&ns, Which::All, 201).unwrap();
    assert_eq!((listing.sockets.len(), listing.complete), (201, true));
    let open = sockets::list(&ns, Which::Open, LIMIT).unwrap();
    assert_eq!((open.sockets.len(), open.complete), (1, true));
    // What is left of closed connections is nobody's.
    drop(streams);
    // A process that another test is just starting has them open for another moment.
    let start = Instant::now();
    while sockets::list(&ns, Which::All, LIMIT).unwrap().sockets.len() > 1 {
        assert!(start.elapsed() < Duration::from_secs(10), "closed sockets are still told of");
        std::thread::sleep(Duration::from_millis(10));
    }

    for number in 0..20 {
        own.0.create(&format!("c{number}")).unwrap().create("below").unwrap();
    }
    let map = CgroupMap::read(&own.0, 21).unwrap();
    assert!(!map.is_complete() && map.iter().count() == 21);
    assert!(map.iter().all(|(_, path)| !path.ends_with("below")), "the upper ones first");
    let map = CgroupMap::read(&own.0, 41).unwrap();
    assert!(map.is_complete() && map.iter().count() == 41);
}
