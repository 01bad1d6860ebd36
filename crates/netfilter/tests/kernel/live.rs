//! Live flows while the ruleset changes: those who stay do not notice, those who lose their peer end.

use crate::pod::{PORT, Pod, amended, key, listener, peer};
use crate::support::*;
use sidewall_netfilter::{LoadOptions, Standing, Way};
use sidewall_netns::NetNs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const PLAIN: LoadOptions = LoadOptions { owner: false };

/// A connection that carries a byte there and back as often as it is asked to.
pub struct Echo {
    client: TcpStream,
}

impl Echo {
    pub fn new(namespace: &NetNs, peer: Ipv4Addr) -> Self {
        let (client, mut server) = namespace
            .run(|| {
                let listener = TcpListener::bind((peer, 0)).unwrap();
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                (client, listener.accept().unwrap().0)
            })
            .unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        std::thread::spawn(move || {
            let mut byte = [0];
            // It ends with the connection.
            while server.read_exact(&mut byte).and_then(|()| server.write_all(&byte)).is_ok() {}
        });
        Self { client }
    }

    pub fn turn(&mut self) -> std::io::Result<()> {
        self.client.write_all(b"x")?;
        self.client.read_exact(&mut [0])
    }
}

/// What the namespace's TCP has counted: segments sent again, and timeouts that led to it.
fn retransmissions(namespace: &NetNs) -> (u64, u64) {
    let of = |file: &str, group: &str, name: &str| -> u64 {
        let text = namespace.run(|| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap()).unwrap();
        let mut lines = text.lines().filter(|line| line.starts_with(group));
        let names = lines.next().unwrap().split_whitespace();
        let values = lines.next().unwrap().split_whitespace();
        names.zip(values).find(|(own, _)| *own == name).unwrap().1.parse().unwrap()
    };
    (of("snmp", "Tcp:", "RetransSegs"), of("netstat", "TcpExt:", "TCPTimeouts"))
}

#[test]
fn a_thousand_changes_go_unnoticed_by_those_who_stay() {
    let (namespace, mut kernel) = namespace();
    let mut standing = Pod::of([1, 2]).ruleset(1);
    kernel.load(&standing, PLAIN).unwrap();
    let [mut stays, mut goes] = [1, 2].map(|number| Echo::new(&namespace, peer(number)));
    stays.turn().and_then(|()| goes.turn()).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let turns = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let mut turns = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                stays.turn().unwrap_or_else(|error| panic!("after {turns} turns: {error}"));
                turns += 1;
            }
            turns
        });
        let start = Instant::now();
        for round in 2..=1001 {
            if round % 30 == 0 {
                // Before a number comes round again.
                kernel.retire_others(standing.generation).unwrap();
            }
            let mut pod = Pod::of([1, 2]);
            pod.peers.insert(key(3 + round), "pass");
            pod.hosts.insert(key(3 + round));
            pod.nets.insert(key(3 + round), key(10 + round));
            let next = pod.ruleset(round);
            let way = kernel.change(&standing, &next, PLAIN).unwrap().way;
            let deleted = if round == 2 { 0 } else { 3 };
            assert_eq!(way, amended(3, deleted, 1), "round {round}");
            standing = next;
        }
        println!("1000 changes in {:?}", start.elapsed());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        running.join().unwrap()
    });
    println!("{turns} turns during 1000 changes");
    assert!(turns > 1000, "too little ran meanwhile: {turns}");
    goes.turn().expect("a flow that is allowed in every ruleset");
    assert_eq!(retransmissions(&namespace), (0, 0));
    assert_eq!(kernel.verify(&standing).unwrap(), Standing::AsLoaded);
    // And one that loses its peer ends at its next packet.
    let last = Pod::of([1]).ruleset(1002);
    kernel.change(&standing, &last, PLAIN).unwrap();
    let error = goes.turn().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error:?}");
    stays.turn().unwrap();
    assert_eq!(retransmissions(&namespace), (0, 0));
}

#[test]
fn no_new_flow_is_lost_in_a_burst() {
    let (namespace, mut kernel) = namespace();
    let base = |round: u32| {
        let mut pod = Pod::of([1]);
        pod.hosts.insert(key(2));
        pod.nets.insert(key(3), key(4));
        // What comes and goes lies before, after and between.
        pod.peers.insert(key(100 + round), "pass");
        pod.hosts.insert(key(100 + round));
        pod.nets.insert(key(5 + round % 2), key(9));
        pod.nets.insert(key(0), key(round % 2));
        pod
    };
    let mut standing = base(1).ruleset(1);
    kernel.load(&standing, PLAIN).unwrap();
    let listener = listener(&namespace);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (opened, lost) = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let (mut opened, mut lost) = (0_u64, 0_u64);
            namespace
                .run(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        for peer in [1, 2, 3].map(peer) {
                            // A socket of its own, so that each is a new flow.
                            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                            let sent = socket.send_to(b"x", (peer, PORT)).is_ok();
                            opened += 1;
                            // Conntrack keeps each for half a minute.
                            std::thread::sleep(Duration::from_micros(100));
                            if !sent || listener.recv(&mut [0; 8]).is_err() {
                                lost += 1;
                            }
                        }
                    }
                })
                .unwrap();
            (opened, lost)
        });
        for round in 2..=600 {
            if round % 30 == 0 {
                kernel.retire_others(standing.generation).unwrap();
            }
            let next = base(round).ruleset(round);
            let way = kernel.change(&standing, &next, PLAIN).unwrap().way;
            assert!(matches!(way, Way::Amended { chains: 1, .. }), "{way:?}");
            standing = next;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        running.join().unwrap()
    });
    println!("{opened} flows opened during 600 changes, {lost} lost");
    assert!(opened > 600, "too little ran meanwhile: {opened}");
    assert_eq!(lost, 0, "of {opened}");
}

/// A flow's peer goes, and the flow is silent until the number of its generation comes round again. Whether it passes then.
fn sleeper(retire: bool) -> bool {
    let (namespace, mut kernel) = namespace();
    let mut standing = Pod::of([1, 2]).ruleset(1);
    kernel.load(&standing, PLAIN).unwrap();
    let [mut awake, mut asleep] = [1, 2].map(|number| Echo::new(&namespace, peer(number)));
    awake.turn().and_then(|()| asleep.turn()).unwrap();
    let mut passed = false;
    for round in 2..=100 {
        let next = Pod::of([1]).with(10 + round).ruleset(round);
        if retire {
            let given = kernel.next_generation(standing.generation).unwrap();
            assert_eq!(given, next.generation);
            let used = kernel.generations_in_use().unwrap();
            assert!(!used.contains_key(&given), "round {round}: {used:?}");
        }
        let way = kernel.change(&standing, &next, PLAIN).unwrap().way;
        assert!(matches!(way, Way::Amended { .. }), "{way:?}");
        standing = next;
        awake.turn().unwrap_or_else(|error| panic!("round {round}: {error}"));
        if round == 32 {
            passed = asleep.turn().is_ok();
        }
    }
    assert_eq!(kernel.verify(&standing).unwrap(), Standing::AsLoaded);
    assert!(asleep.turn().is_err());
    passed
}

#[test]
fn a_generation_comes_round_again() {
    assert!(!sleeper(true));
}

#[test]
fn a_number_that_was_not_retired_would_be_noticed() {
    assert!(sleeper(false));
}
