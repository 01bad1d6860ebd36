//! Ports whose sockets form a group (SO_REUSEPORT): who has joined it may attach a program that chooses the receiver
//! (`SO_ATTACH_REUSEPORT_CBPF`), and needs no capability for it but the owner's user.

use sidewall_flow::Protocol;
use sidewall_tests::lab::By;
use sidewall_tests::lab::attacker::{Arms, Attacker};
use sidewall_tests::scene::{APP, LIMIT, LOOPBACK, MALLORY, POD, PROXY, Scene, assert_silent, bound, id, send_to};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
/// One instruction: the second that came.
const THE_SECOND: &str = "pack('S C C L', 6, 0, 0, 1)";
/// Three: either, by chance; a second look chooses anew.
const EITHER: &str = "pack('(S C C L)3', 0x20, 0, 0, 0xfffff038, 0x54, 0, 0, 1, 0x16, 0, 0, 0)";

fn joins(kind: &str, at: IpAddr) -> String {
    let listens = if kind == "SOCK_STREAM" {
        "listen($keep{s}, 64) or fail('listen'); fcntl($keep{s}, 4, 2048 | fcntl($keep{s}, 3, 0));"
    } else {
        ""
    };
    format!(
        "delete $keep{{s}}; $keep{{s}} = bound({kind}, '{at}', 8080, options => [[1, 15, pack('i', 1)]]); {listens} 1"
    )
}

/// The owner of a group, and a thief from another container who has taken its user (a container of the same user needs not
/// even that).
fn both(scene: &Scene, kind: &str, at: IpAddr, program: &str) -> (Attacker, Attacker) {
    let mut owner = scene.lab.attacker(id(APP), Arms::Plain);
    owner.must(&joins(kind, at));
    // Under another user nobody joins.
    let stranger = scene.lab.attacker(id(MALLORY), Arms::Plain).run(&joins(kind, at));
    assert_eq!(stranger.unwrap_err().errno(), Some(98), "EADDRINUSE");
    let mut thief = scene.lab.attacker(id(MALLORY), Arms::Root);
    thief.must(&format!("POSIX::setuid(20001) or fail('setuid'); {}", joins(kind, at)));
    let count = if program == EITHER { 3 } else { 1 };
    thief.must(&format!("my $program = {program}; option($keep{{s}}, 1, 51, pack('S x6 P', {count}, $program)); 1"));
    (owner, thief)
}

/// What has come to a socket, after a while.
fn hears(seconds: &str) -> String {
    format!(
        "my $set = ''; vec($set, fileno($keep{{s}}), 1) = 1; select($set, undef, undef, {seconds}); waiting($keep{{s}})"
    )
}

/// A limit, under every identity: the kernel asks the program once more when it delivers a datagram, but not where the rules
/// look the receiver up. What the thief answers does not arrive.
#[test]
fn a_program_steers_datagrams_to_who_has_the_owners_user_a_documented_limit() {
    let mut scene = Scene::bare(PROGRAM);
    for by in [None, Some(By::Cgroup)] {
        if let Some(by) = by {
            scene.stand(by);
        }
        for address in LOOPBACK.into_iter().chain(POD) {
            let to = SocketAddr::new(address, 8080);
            let (mut owner, mut thief) = both(&scene, "SOCK_DGRAM", address, THE_SECOND);
            // The rules ask the group without the program: where they meet the thief the datagram is denied, and where they
            // meet the owner the thief gets it.
            let mut stolen = 0;
            for number in 0..12 {
                let from = scene.fresh(address);
                let client = bound(scene.app(PROXY), Protocol::Udp, from).unwrap();
                let _ = send_to(&client, format!("a password {number}").as_bytes(), to);
                if thief.must(&hears("0.1")) == format!("got a password {number}") {
                    stolen += 1;
                    let answer = format!("throw($keep{{s}}, 'forged', '{}', {})", from.ip(), from.port());
                    if by.is_some() {
                        let sent = scene.denied("the thief's answer", |_| thief.run(&answer));
                        assert_silent(&client, &format!("{by:?} {to}: the thief's answer: {sent:?}"));
                    }
                }
                assert_eq!(owner.must("waiting($keep{s})"), "none", "{by:?} {to}: the program does not steer");
            }
            assert!(stolen > 0, "{by:?} {to}: this limit is gone: tell SECURITY.md");
            assert!(by.is_some() || stolen == 12, "{to}: {stolen} of 12 without rules");
            drop(thief);
            has_its_port_again(&scene, &mut owner, to);
        }
    }
}

/// With the thief its program goes.
fn has_its_port_again(scene: &Scene, owner: &mut Attacker, to: SocketAddr) {
    let until = Instant::now() + LIMIT;
    loop {
        let client = bound(scene.app(PROXY), Protocol::Udp, scene.fresh(to.ip())).unwrap();
        let _ = send_to(&client, b"once more", to);
        if owner.must(&hears("0.2")) == "got once more" {
            return;
        }
        assert!(Instant::now() < until, "{to}: the owner hears nothing");
    }
}

/// A connection's data is judged at the socket that has it: whatever a program chose for the first segment, the thief hears
/// nothing.
#[test]
fn a_program_that_steers_connections_gives_their_data_to_nobody() {
    const CALLS: usize = 40;
    let mut scene = Scene::bare(PROGRAM);
    for by in [None, Some(By::Cgroup)] {
        if let Some(by) = by {
            scene.stand(by);
        }
        for address in LOOPBACK.into_iter().chain(POD) {
            let (mut owner, mut thief) = both(&scene, "SOCK_STREAM", address, EITHER);
            let mut client = scene.lab.attacker(id(PROXY), Arms::Plain);
            client.must(&format!(
                "@{{$keep{{c}}}} = (); my $sent = 0;
                 for (1 .. {CALLS}) {{
                     my $s = made(family('{address}'), SOCK_STREAM);
                     push @{{$keep{{c}}}}, $s;
                     eval {{ dial($s, 'a password', '{address}', 8080); $sent++ }};
                 }}
                 select(undef, undef, undef, 0.1); $sent"
            ));
            let all = "my ($count, $text) = (0, ''); while (accept(my $a, $keep{s})) { $count++; $text .= waiting($a); } \"$count $text\"";
            let (own, stolen) = (owner.must(all), thief.must(all));
            let (count, text) = stolen.split_once(' ').unwrap();
            assert_ne!(count, "0", "{by:?} {address}: the program steers nothing to the thief");
            assert_eq!(text.contains("password"), by.is_none(), "{by:?} {address}: {stolen}; the owner: {own}");
            assert!(own.contains("password"), "{by:?} {address}: the owner hears nothing: {own}");
        }
    }
}

/// A limit, where the namespace's `tcp_migrate_req` is set (it is not by default): connections that wait to be accepted go
/// to another listener of the group when theirs is closed, and have the rights of the one that they came to, as a
/// connection has that another accepts.
#[test]
fn connections_that_wait_go_to_who_has_the_owners_user_a_documented_limit() {
    let mut scene = Scene::bare(PROGRAM);
    let mut administrator = scene.lab.administrator();
    let sets = "open(my $f, '>', '/proc/sys/net/ipv4/tcp_migrate_req') or fail('open'); syswrite($f, 'VALUE') // fail('write')";
    for by in [None, Some(By::Cgroup)] {
        if let Some(by) = by {
            scene.stand(by);
        }
        for (address, migrates) in LOOPBACK.into_iter().flat_map(|address| [(address, true), (address, false)]) {
            administrator.must(&sets.replace("VALUE", if migrates { "1" } else { "0" }));
            let mut owner = scene.lab.attacker(id(APP), Arms::Plain);
            owner.must(&joins("SOCK_STREAM", address));
            let mut client = scene.lab.attacker(id(PROXY), Arms::Plain);
            client.must(&format!(
                "$keep{{c}} = made(family('{address}'), SOCK_STREAM); dial($keep{{c}}, 'a password', '{address}', 8080)"
            ));
            let mut thief = scene.lab.attacker(id(MALLORY), Arms::Root);
            thief.must(&format!("POSIX::setuid(20001) or fail('setuid'); {}", joins("SOCK_STREAM", address)));
            // The owner goes without having accepted.
            owner.must("delete $keep{s}; 1");
            let stolen = thief.must("my $c; accept($c, $keep{s}) ? waiting($c) : 'nobody'");
            let wanted = if migrates { "got a password" } else { "nobody" };
            assert_eq!(stolen, wanted, "{by:?} {address}: where this limit is gone, tell SECURITY.md");
        }
    }
}
