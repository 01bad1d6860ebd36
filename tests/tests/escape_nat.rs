//! Addresses that somebody has rewritten on the way (a mesh, a node's own redirect): what counts is whom a container meant.

use sidewall_tests::lab::By;
use sidewall_tests::lab::attacker::{Arms, Attacker};
use sidewall_tests::scene::{APP, COLLECTORS, LOOPBACK, MALLORY, PROXY, id};
use sidewall_tests::siege::Siege;
use sidewall_tests::spoken::{ACCEPTS, dials, listens, original};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
const STAGES: [Option<By>; 3] = [None, Some(By::Cgroup), Some(By::Uid)];

/// On loopback 8080 is led to 8090 and 8083 to 8080, and outside 7001 to 7000.
fn redirects(administrator: &mut Attacker) {
    administrator.must(
        "system('/usr/sbin/nft', 'table inet redirects { chain o { type nat hook output priority -100; ' .
         'oif lo meta l4proto { tcp, udp } th dport 8080 redirect to :8090; ' .
         'oif lo meta l4proto { tcp, udp } th dport 8083 redirect to :8080; ' .
         'oif != lo tcp dport 7001 dnat ip to 198.51.100.10:7000; oif != lo tcp dport 7001 dnat ip6 to [2001:db8:1::10]:7000; }; }') == 0 or die 'nft'",
    );
}

#[test]
fn what_is_redirected_is_judged_by_what_was_meant() {
    let mut siege = Siege::new(PROGRAM);
    redirects(&mut siege.scene.lab.administrator());
    let mut collector = siege.scene.lab.neighbour();
    for by in STAGES {
        if let Some(by) = by {
            siege.scene.stand(by);
        }
        for family in [0, 1] {
            let mut app = siege.scene.lab.attacker(id(APP), Arms::Plain);
            // Who calls, what it means, where that leads, and whether it may.
            for (caller, arms, to, port, real, allowed) in [
                (PROXY, Arms::Plain, LOOPBACK[family], 8080, 8090, true),
                (PROXY, Arms::Plain, LOOPBACK[family], 8083, 8080, false),
                (MALLORY, Arms::Plain, LOOPBACK[family], 8083, 8080, false),
                (MALLORY, Arms::Raw, LOOPBACK[family], 8080, 8090, false),
                (APP, Arms::Plain, COLLECTORS[family], 7000, 7000, true),
                (APP, Arms::Plain, COLLECTORS[family], 7001, 7000, false),
                (MALLORY, Arms::Plain, COLLECTORS[family], 7001, 7000, false),
            ] {
                let server = if to == COLLECTORS[family] { &mut collector } else { &mut app };
                server.must(&listens(to, real));
                let mut client = siege.scene.lab.attacker(id(caller), arms);
                let sent = client.run(&dials(to, port));
                let what = format!("{by:?}: {caller} to {to} port {port}: {sent:?}; {}", siege.scene.moved());
                assert_eq!(sent.is_ok(), by.is_none() || allowed, "{what}");
                if sent.is_ok() {
                    assert_eq!(server.must(ACCEPTS), "got hello", "{what}");
                }
            }
        }
    }
}

/// Who asks for the original address is told that of its own connections, and gains nothing by knowing it.
#[test]
fn the_original_address_is_told_to_a_connections_ends_alone() {
    let mut siege = Siege::new(PROGRAM);
    redirects(&mut siege.scene.lab.administrator());
    for by in STAGES {
        if let Some(by) = by {
            siege.scene.stand(by);
        }
        for family in [0, 1] {
            let to = LOOPBACK[family];
            let mut app = siege.scene.lab.attacker(id(APP), Arms::Plain);
            let mut proxy = siege.scene.lab.attacker(id(PROXY), Arms::Plain);
            app.must(&listens(to, 8090));
            proxy.must(&dials(to, 8080));
            assert_eq!(app.must(ACCEPTS), "got hello", "{by:?}");
            assert_eq!(app.must(&original("$keep{a}", family)), "8080", "{by:?}: the option tells");
            assert_eq!(proxy.must(&original("$keep{c}", family)), "8080", "{by:?}: the option tells");
            let port = proxy.must(&format!(
                "my ($port) = {}(getsockname($keep{{c}})); $port",
                ["unpack_sockaddr_in", "unpack_sockaddr_in6"][family]
            ));
            for arms in [Arms::Plain, Arms::Raw] {
                let share = "options => [[SOL_SOCKET, SO_REUSEADDR, pack('i', 1)]]";
                for (what, socket) in [
                    ("a socket of its own", format!("made(family('{to}'), SOCK_STREAM)")),
                    ("a datagram's", format!("made(family('{to}'), SOCK_DGRAM)")),
                    ("one at the client's port", format!("bound(SOCK_STREAM, '{to}', {port}, {share})")),
                    ("one at the server's port", format!("bound(SOCK_STREAM, '{to}', 8090, {share})")),
                ] {
                    let told = siege.mallory(arms).run(&format!("my $s = {socket}; {}", original("$s", family)));
                    // No entry, no such option, the address in use, not connected.
                    let errno = told.as_ref().err().and_then(|error| error.errno());
                    assert!(
                        [Some(2), Some(92), Some(98), Some(107)].contains(&errno),
                        "{by:?}, {arms:?}: {what}: {told:?}"
                    );
                }
                let sent = siege.mallory(arms).run(&dials(to, 8090));
                assert_eq!(sent.is_ok(), by.is_none(), "{by:?}, {arms:?}: the address that was hidden: {sent:?}");
            }
        }
    }
}
