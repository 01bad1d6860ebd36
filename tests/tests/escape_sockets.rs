//! Sockets whose maker might be mistaken for another: made by kernel threads, made before their maker changed, taken from
//! others, shared with others, of other kinds.

use rustix::net::sockopt;
use sidewall_flow::Protocol;
use sidewall_netns::sysctl;
use sidewall_tests::lab::By;
use sidewall_tests::lab::attacker::Arms;
use sidewall_tests::scene::{
    APP, COLLECTORS, LIMIT, LOOPBACK, MALLORY, POD, PROXY, assert_silent, bound, heard, id, send_to,
};
use sidewall_tests::siege::Siege;
use sidewall_tests::sockets;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
const EPERM: Option<i32> = Some(1);

/// Tries code that sends a text over UDP to each victim: it arrives without rules and from the one who may, and not from
/// the attacker. `{address}`, `{any}`, `{port}` and `{text}` are filled in.
fn sends(siege: &mut Siege, what: &str, code: &str) {
    siege.rounds(|siege, round| {
        for ear in siege.ears(round) {
            let any = round.any().to_string();
            let fill = |text: &str| {
                code.replace("{address}", &ear.at.ip().to_string())
                    .replace("{any}", &any)
                    .replace("{port}", &ear.at.port().to_string())
                    .replace("{text}", text)
            };
            let marker = siege.marker();
            let sent = siege.mallory(round.arms).run(&fill(&marker));
            if round.control() {
                sent.unwrap_or_else(|error| panic!("{what} to {}: {error}", ear.at));
                let got = heard(&ear.socket).unwrap();
                assert_eq!(got.as_deref(), Some(marker.as_bytes()), "{what} to {} without rules", ear.at);
                continue;
            }
            siege.settle();
            assert_silent(&ear.socket, &format!("{round:?}: {what} to {}", ear.at));
            assert!(!siege.left(&marker), "{round:?}: {what} to {} has left", ear.at);
            let marker = siege.marker();
            siege.rightful(ear.at).must(&fill(&marker));
            let got = heard(&ear.socket).unwrap();
            assert_eq!(got.as_deref(), Some(marker.as_bytes()), "{round:?}: {what} to {} by who may", ear.at);
        }
    });
}

/// `IORING_OP_SOCKET` and `IORING_OP_SENDMSG`.
fn by_ring(flags: u32, each: u8) -> String {
    format!(
        "my $ring = ring({flags}, {each});
         my $socket = $ring->(45, family('{{any}}'), SOCK_DGRAM, 0, 0);
         my $to = address('{{address}}', {{port}});
         my $data = '{{text}}';
         my $vector = pack('P Q', $data, length $data);
         my $header = pack('P L x4 P Q Q Q i x4', $to, length $to, $vector, 1, 0, 0, 0);
         $ring->(9, $socket, 0, unpack('Q', pack('P', $header)), 1);"
    )
}

#[test]
fn sockets_made_and_used_by_an_io_uring_have_their_makers_rights() {
    sends(&mut Siege::new(PROGRAM), "by the ring's workers", &by_ring(0, 16));
}

#[test]
fn sockets_made_and_used_by_an_io_urings_kernel_thread_have_their_makers_rights() {
    sends(&mut Siege::new(PROGRAM), "by the ring's own thread", &by_ring(2, 0));
}

#[test]
fn sending_in_unusual_ways_is_sending() {
    let mut siege = Siege::new(PROGRAM);
    // MSG_CONFIRM, MSG_MORE with a push behind it, MSG_ZEROCOPY; a connected socket that was connected elsewhere before.
    for (what, code) in [
        ("MSG_CONFIRM", "defined(send(made(family('{any}'), SOCK_DGRAM), '{text}', 0x800, address('{address}', {port}))) or fail('send')"),
        (
            "MSG_MORE",
            "my $s = made(family('{any}'), SOCK_DGRAM); my $to = address('{address}', {port});
             defined(send($s, '{text}', 0x8000, $to)) or fail('send'); defined(send($s, '', 0, $to)) or fail('send')",
        ),
        (
            "MSG_ZEROCOPY",
            "my $s = made(family('{any}'), SOCK_DGRAM); option($s, 1, 60, pack('i', 1));
             defined(send($s, '{text}', 0x4000000, address('{address}', {port}))) or fail('send')",
        ),
        (
            "UDP_SEGMENT: several datagrams at once",
            "my $s = made(family('{any}'), SOCK_DGRAM); option($s, 17, 103, pack('i', length '{text}'));
             throw($s, '{text}' x 3, '{address}', {port})",
        ),
        (
            "splice",
            "my $s = made(family('{any}'), SOCK_DGRAM); connect($s, address('{address}', {port})) or fail('connect');
             pipe(my $out, my $in); syswrite($in, '{text}');
             call('splice', fileno($out), 0, fileno($s), 0, length '{text}', 0)",
        ),
        (
            "sendfile",
            "my $s = made(family('{any}'), SOCK_DGRAM); connect($s, address('{address}', {port})) or fail('connect');
             my $name = \"text\\0\"; my $fd = call('memfd_create', $name, 0);
             open(my $file, '+<&=', $fd) or fail('fdopen'); syswrite($file, '{text}'); sysseek($file, 0, 0);
             call('sendfile', fileno($s), $fd, 0, length '{text}')",
        ),
        (
            "a traffic class, and in IPv6 a flow label",
            "my $s = made(family('{any}'), SOCK_DGRAM); my @v6 = ([41, 67, 0xb8], [41, 70, 1]);
             option($s, @$_[0, 1], pack('i', $$_[2])) for '{any}' eq '::' ? @v6 : [0, 1, 0xb8];
             throw($s, '{text}', '{address}', {port})",
        ),
        (
            "connected elsewhere before",
            "my $s = made(family('{any}'), SOCK_DGRAM);
             connect($s, address('{any}' eq '::' ? 'fd77::2' : '10.77.0.2', 9100)) or fail('connect');
             connect($s, pack('S x14', 0));
             connect($s, address('{address}', {port})) or fail('connect'); defined(send($s, '{text}', 0)) or fail('send')",
        ),
    ] {
        let mut fresh = Siege::new(PROGRAM);
        sends(&mut fresh, what, code);
    }
    // A probe says where a packet would go and sends none.
    let ear = siege.ears(sidewall_tests::siege::Round { by: None, arms: Arms::Plain, family: 0 }).remove(0);
    let code = "my $s = made(AF_INET, SOCK_DGRAM); connect($s, address('127.0.0.1', 8080)); send($s, 'probe', 0x10)";
    siege.mallory(Arms::Plain).must(code);
    siege.settle();
    assert_silent(&ear.socket, "a probe");
}

#[test]
fn udp_lite_is_no_protocol_of_any_policy() {
    let mut siege = Siege::new(PROGRAM);
    siege.rounds(|siege, round| {
        for ear in siege.ears(round) {
            let marker = siege.marker();
            let (family, to, port) = (if round.family == 0 { "AF_INET" } else { "AF_INET6" }, ear.at.ip(), ear.at.port());
            let hear = format!("$keep{{ear}} = bound(SOCK_DGRAM, '{to}', {port}, protocol => 136, options => [[0, 15, pack('i', 1)]]); 1");
            let say = format!("throw(made({family}, SOCK_DGRAM, 136), '{marker}', '{to}', {port})");
            let inside = !COLLECTORS.contains(&to);
            if inside {
                siege.process(APP, Arms::Plain).must(&hear);
            }
            // Mallory, and the one who may use these ports over UDP.
            let sent = siege.mallory(round.arms).run(&say);
            assert!(!round.control() || sent.is_ok(), "{sent:?}");
            let sent = siege.rightful(ear.at).run(&say);
            assert!(!round.control() || sent.is_ok(), "{sent:?}");
            siege.settle();
            let got = if inside {
                siege.process(APP, Arms::Plain).must("my $got = waiting($keep{ear}); delete $keep{ear}; $got")
            } else {
                String::new()
            };
            let arrived = got.contains(&marker) || siege.left(&marker);
            assert_eq!(arrived, round.control(), "{round:?} to {to}");
        }
    });
}

/// `IPPROTO_MPTCP`: the connection's subflows are made by the kernel.
#[test]
fn multipath_tcp_has_its_makers_rights() {
    let mut siege = Siege::new(PROGRAM);
    siege.rounds(|siege, round| {
        for (server, at) in [
            (Some(APP), SocketAddr::new(LOOPBACK[round.family], 8080)),
            (Some(APP), SocketAddr::new(POD[round.family], 8080)),
            (None, SocketAddr::new(COLLECTORS[round.family], 7000)),
        ] {
            let maker = server.map_or(siege.scene.outside(), |number| siege.scene.app(number));
            let listener = multipath_listener(maker, at);
            let code = |text: &str| {
                let family = if round.family == 0 { "AF_INET" } else { "AF_INET6" };
                format!(
                    "$keep{{m}} = made({family}, SOCK_STREAM, 262); dial($keep{{m}}, '{text}', '{}', {})",
                    at.ip(),
                    at.port()
                )
            };
            let accepted = |siege: &Siege| {
                let maker = server.map_or(siege.scene.outside(), |number| siege.scene.app(number));
                sockets::readable(&listener, LIMIT).unwrap();
                heard(&maker.accept(&listener).unwrap()).unwrap()
            };
            let marker = siege.marker();
            let sent = siege.mallory(round.arms).run(&code(&marker));
            if round.control() {
                sent.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(accepted(siege).as_deref(), Some(marker.as_bytes()));
            } else {
                assert!(sent.is_err(), "{round:?}: mallory is connected with {at}");
                siege.rightful(at).must(&code(&marker));
                assert_eq!(accepted(siege).as_deref(), Some(marker.as_bytes()), "{round:?} {at}");
            }
        }
    });
}

fn multipath_listener(maker: &sidewall_tests::party::Maker, at: SocketAddr) -> rustix::fd::OwnedFd {
    let socket = maker.socket(sockets::family(at.ip()), rustix::net::SocketType::STREAM, 262).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    sockopt::set_ip_freebind(&socket, true).unwrap();
    let until = Instant::now() + LIMIT;
    while let Err(error) = rustix::net::bind(&socket, &at) {
        assert!(Instant::now() < until, "{at}: {error}");
        std::thread::sleep(Duration::from_millis(5));
    }
    rustix::net::listen(&socket, 16).unwrap();
    socket
}

/// Data in the SYN, where servers take it without a cookie: it arrives before the connection does.
#[test]
fn data_in_the_first_segment_is_judged_with_it() {
    let mut siege = Siege::new(PROGRAM);
    // Clients send it and every listener takes it, without having met before.
    for ns in [&siege.scene.lab.pod, &siege.scene.lab.network] {
        sysctl::set(ns, "net.ipv4.tcp_fastopen", "1543").unwrap();
    }
    siege.rounds(|siege, round| {
        for (server, at) in [
            (Some(APP), SocketAddr::new(LOOPBACK[round.family], 8080)),
            (Some(APP), SocketAddr::new(POD[round.family], 8080)),
            (None, SocketAddr::new(COLLECTORS[round.family], 7000)),
        ] {
            // Long and short: a segment with a short text is no longer than one with many options.
            for long in [false, true] {
                let maker = server.map_or(siege.scene.outside(), |number| siege.scene.app(number));
                let listener = sockets::listen(maker, Protocol::Tcp, at).unwrap();
                let marker =
                    siege.marker() + if long { "-long-long-long-long-long-long-long-long-long-long-long" } else { "" };
                let code = format!(
                    "my $s = made({}, SOCK_STREAM);
                     defined(send($s, '{marker}', 0x20000000 | MSG_NOSIGNAL, address('{}', {}))) or fail('send')",
                    if round.family == 0 { "AF_INET" } else { "AF_INET6" },
                    at.ip(),
                    at.port()
                );
                let _ = siege.mallory(round.arms).run(&code);
                if round.control() {
                    sockets::readable(&listener, LIMIT).unwrap();
                    let maker = server.map_or(siege.scene.outside(), |number| siege.scene.app(number));
                    let accepted = maker.accept(&listener).unwrap();
                    assert_eq!(heard(&accepted).unwrap().as_deref(), Some(marker.as_bytes()));
                    assert!(siege.outside.saw(marker.as_bytes()).unwrap() || server.is_some());
                } else {
                    siege.settle();
                    let maker = server.map_or(siege.scene.outside(), |number| siege.scene.app(number));
                    assert!(maker.accept(&listener).is_err(), "{round:?}: mallory is connected with {at}");
                    assert!(!siege.left(&marker), "{round:?}: data in a SYN to {at} has left");
                }
            }
        }
    });
}

/// A socket is its maker's cgroup's, though the maker moves; by user it is the maker's user's, though he takes another.
#[test]
fn a_socket_keeps_the_identity_that_its_maker_had() {
    let mut siege = Siege::new(PROGRAM);
    siege.scene.stand(By::Cgroup);
    for family in [0, 1] {
        let any = ["AF_INET", "AF_INET6"][family];
        let to = SocketAddr::new(LOOPBACK[family], 8080);
        let ear = sockets::listen(siege.scene.app(APP), Protocol::Udp, to).unwrap();
        // Made in mallory's cgroup, used from the proxy's.
        let mut mover = siege.scene.lab.attacker(id(MALLORY), Arms::Plain);
        mover.must(&format!("$keep{{old}} = made({any}, SOCK_DGRAM); 1"));
        siege.scene.lab.cgroup_of(id(PROXY)).add(mover.pid() as i32).unwrap();
        siege.scene.denied("a socket from before the move", |_| {
            let _ = mover.run(&format!("throw($keep{{old}}, 'old', '{}', 8080)", to.ip()));
        });
        assert_silent(&ear, "from a socket that was made in mallory's cgroup");
        // The move itself worked: what is made now is the proxy's.
        mover.must(&format!("throw(made({any}, SOCK_DGRAM), 'new', '{}', 8080)", to.ip()));
        assert_eq!(heard(&ear).unwrap().as_deref(), Some(&b"new"[..]));
        // And back: what was made in the proxy's stays the proxy's in mallory's hands.
        mover.must(&format!("$keep{{new}} = made({any}, SOCK_DGRAM); 1"));
        siege.scene.lab.cgroup_of(id(MALLORY)).add(mover.pid() as i32).unwrap();
        mover.must(&format!("throw($keep{{new}}, 'kept', '{}', 8080)", to.ip()));
        assert_eq!(heard(&ear).unwrap().as_deref(), Some(&b"kept"[..]));
        siege.scene.denied("made after the move back", |_| {
            let _ = mover.run(&format!("throw(made({any}, SOCK_DGRAM), 'late', '{}', 8080)", to.ip()));
        });
        assert_silent(&ear, "from mallory's");
    }
    // By user: made before CAP_SETUID took another.
    let thief = siege.scene.disguised(Some(MALLORY), (20_004, 30_004), &[sidewall_netns::Capability::SETUID]);
    siege.scene.stand(By::Uid);
    for family in [0, 1] {
        let to = SocketAddr::new(LOOPBACK[family], 8080);
        let ear = sockets::listen(siege.scene.app(APP), Protocol::Udp, to).unwrap();
        let any: IpAddr = ["0.0.0.0", "::"][family].parse().unwrap();
        let old = bound(&thief, Protocol::Udp, siege.scene.fresh(any)).unwrap();
        if family == 0 {
            siege.scene.denied("made before the user was taken", |_| {
                let _ = send_to(&old, b"old", to);
            });
            assert_silent(&ear, "from mallory's user");
            thief.set_uid(20_002).unwrap();
            siege.scene.denied("made before, used after the user was taken", |_| {
                let _ = send_to(&old, b"old", to);
            });
            assert_silent(&ear, "from mallory's user");
        }
        let new = bound(&thief, Protocol::Udp, siege.scene.fresh(any)).unwrap();
        send_to(&new, b"new", to).unwrap();
        assert_eq!(heard(&ear).unwrap().as_deref(), Some(&b"new"[..]), "a documented limit of identity by user");
    }
}

/// A limit: over an abstract UNIX socket, which all containers of a pod share, a descriptor goes from one to another, and
/// with it the rights of its maker. Data goes that way as well.
#[test]
fn abstract_sockets_carry_data_and_descriptors_a_documented_limit() {
    let mut siege = Siege::new(PROGRAM);
    for by in By::ALL {
        siege.scene.stand(by);
        let name = format!("\\0sidewall-test-{}", siege.marker());
        let mut giver = siege.scene.lab.attacker(id(PROXY), Arms::Plain);
        let mut taker = siege.scene.lab.attacker(id(MALLORY), Arms::Plain);
        giver.must(&format!(
            "$keep{{l}} = made(AF_UNIX, SOCK_STREAM); bind($keep{{l}}, pack_sockaddr_un(\"{name}\")) or fail('bind');
             listen($keep{{l}}, 1) or fail('listen'); 1"
        ));
        taker.must(&format!(
            "$keep{{c}} = made(AF_UNIX, SOCK_STREAM); connect($keep{{c}}, pack_sockaddr_un(\"{name}\")) or fail('connect'); 1"
        ));
        giver.must(
            "accept($keep{a}, $keep{l}) or fail('accept'); $keep{s} = made(AF_INET, SOCK_DGRAM);
             hand($keep{a}, fileno $keep{s})",
        );
        taker.must("$keep{s} = take($keep{c}); 1");
        let ear = sockets::listen(siege.scene.app(APP), Protocol::Udp, SocketAddr::new(LOOPBACK[0], 8080)).unwrap();
        taker.must("throw($keep{s}, 'by the proxy', '127.0.0.1', 8080)");
        assert_eq!(heard(&ear).unwrap().as_deref(), Some(&b"by the proxy"[..]), "{by:?}");
        giver.must("send($keep{a}, 'by no packet', 0)");
        assert_eq!(taker.must("select(undef, undef, undef, 0.05); waiting($keep{c})"), "got by no packet");
        // Its own socket gains nothing by the company.
        siege.scene.denied("its own socket", |_| {
            let _ = taker.run("throw(made(AF_INET, SOCK_DGRAM), 'by mallory', '127.0.0.1', 8080)");
        });
        assert_silent(&ear, "from mallory's own");
    }
}

/// A limit: what sends no packets meets no packet rule. A process may make sockets toward the machine's own host (vsock),
/// where the kernel has them; nothing is sent here, for there may be one.
#[test]
fn sockets_toward_the_machines_host_are_not_ours_to_judge_a_documented_limit() {
    let mut siege = Siege::new(PROGRAM);
    siege.scene.stand(By::Cgroup);
    match siege.mallory(Arms::Plain).run("my $s = made(40, SOCK_STREAM); 'made'") {
        Ok(made) => assert_eq!(made, "made"),
        // EAFNOSUPPORT: this kernel has none.
        Err(error) => assert_eq!(error.errno(), Some(97), "{error}"),
    }
}

/// `pidfd_getfd` and `/proc/PID/fd`: another user's are out of reach. Who may take the user, and sees the process, may
/// take its descriptors (a limit: no CAP_SETUID and CAP_SETGID, and no shared process namespace).
#[test]
fn others_descriptors_are_out_of_reach_without_their_user_and_group() {
    let mut siege = Siege::new(PROGRAM);
    siege.scene.stand(By::Cgroup);
    let mut victim = siege.scene.lab.attacker(id(PROXY), Arms::Plain);
    let fd = victim.must("$keep{s} = made(AF_INET, SOCK_DGRAM); fileno $keep{s}");
    let pid = victim.pid();
    let steal = format!(
        "my $p = call('pidfd_open', {pid}, 0); my $fd = call('pidfd_getfd', $p, {fd}, 0);
         open($keep{{stolen}}, '+<&=', $fd) or fail('fdopen'); throw($keep{{stolen}}, 'stolen', '127.0.0.1', 8080)"
    );
    let reopen = format!("open(my $f, '+<', '/proc/{pid}/fd/{fd}') or fail('open'); 'opened'");
    let ear = sockets::listen(siege.scene.app(APP), Protocol::Udp, SocketAddr::new(LOOPBACK[0], 8080)).unwrap();
    for arms in [Arms::Plain, Arms::Root] {
        assert_eq!(siege.mallory(arms).run(&steal).unwrap_err().errno(), EPERM, "{arms:?}");
        let opened = siege.mallory(arms).run(&reopen).unwrap_err().errno();
        assert_eq!(opened, Some(13), "{arms:?}: EACCES");
    }
    // With the victim's user alone: its group is another.
    let mut thief = siege.scene.lab.attacker(id(MALLORY), Arms::Root);
    thief.must("POSIX::setuid(20002) or fail('setuid')");
    assert_eq!(thief.run(&steal).unwrap_err().errno(), EPERM);
    // With both: a socket still can't be opened by its name (ENXIO), but it can be copied.
    let mut thief = siege.scene.lab.attacker(id(MALLORY), Arms::Ids);
    thief.must("POSIX::setgid(30002) or fail('setgid'); POSIX::setuid(20002) or fail('setuid')");
    let stolen = thief.run(&steal);
    let ptrace_is_restricted =
        std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").is_ok_and(|s| s.trim() != "0");
    if ptrace_is_restricted {
        assert_eq!(stolen.unwrap_err().errno(), EPERM);
    } else {
        stolen.unwrap();
        assert_eq!(heard(&ear).unwrap().as_deref(), Some(&b"stolen"[..]), "a documented limit");
        assert_eq!(thief.run(&reopen).unwrap_err().errno(), Some(6), "ENXIO");
    }
}

/// Over UDP, SO_REUSEADDR on both sockets lets any user share a port, and the last who came hears it.
#[test]
fn who_shares_a_udp_port_hears_nothing_under_cgroups() {
    let mut siege = Siege::new(PROGRAM);
    let share = |to: SocketAddr| {
        format!(
            "$keep{{twin}} = bound(SOCK_DGRAM, '{}', {}, options => [[SOL_SOCKET, SO_REUSEADDR, pack('i', 1)]]); 1",
            to.ip(),
            to.port()
        )
    };
    siege.rounds(|siege, round| {
        for address in [LOOPBACK[round.family], POD[round.family]] {
            let to = SocketAddr::new(address, 8080);
            siege.process(APP, Arms::Plain).must(&share(to));
            siege.mallory(round.arms).must(&share(to));
            let marker = siege.marker();
            let client = bound(siege.scene.app(PROXY), Protocol::Udp, siege.scene.fresh(address)).unwrap();
            let _ = send_to(&client, marker.as_bytes(), to);
            siege.settle();
            let stolen = siege.mallory(round.arms).must("waiting($keep{twin})");
            if round.by == Some(By::Cgroup) {
                assert_eq!(stolen, "none", "{round:?} {to}");
            } else {
                // Without rules; and a limit of identity by user: the receiver is known when it answers.
                assert_eq!(stolen, format!("got {marker}"), "{round:?} {to}");
            }
            if round.by.is_some() {
                let from = rustix::net::getsockname(&client).map(|name| SocketAddr::try_from(name).unwrap()).unwrap();
                let answer = format!("throw($keep{{twin}}, 'forged', '{}', {})", from.ip(), from.port());
                let _ = siege.mallory(round.arms).run(&answer);
                siege.settle();
                assert_silent(&client, &format!("{round:?}: the twin's answer"));
            }
            siege.mallory(round.arms).must("delete $keep{twin}; 1");
            siege.process(APP, Arms::Plain).must("delete $keep{twin}; 1");
        }
    });
}
