//! Other namespaces, other cgroups, and what the kernel does only for administrators.

use sidewall_flow::Protocol;
use sidewall_netns::Launch;
use sidewall_tests::lab::By;
use sidewall_tests::lab::attacker::{Arms, Attacker};
use sidewall_tests::scene::{APP, Flow, LOOPBACK, MALLORY, PROXY, Scene, assert_silent, bound, heard, id};
use sidewall_tests::siege::Siege;
use sidewall_tests::sockets;
use std::net::SocketAddr;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

const EPERM: Option<i32> = Some(1);
const EACCES: Option<i32> = Some(13);
const EROFS: Option<i32> = Some(30);
const ENOENT: Option<i32> = Some(2);
/// What the kernel says where user namespaces are switched off.
const NO_USER_NAMESPACES: [Option<i32>; 2] = [EPERM, Some(28)];

/// Requests that change what the rules stand on, as netlink protocol, type, flags and body.
const REQUESTS: [(&str, &str); 11] = [
    ("a batch of nftables", "12, 16, 0, pack('CCn', 0, 0, 10)"),
    ("an entry of the connection tracker", "12, 0x100, 0x400, pack('CCn', 2, 0, 0)"),
    ("the end of one", "12, 0x102, 0, pack('CCn', 2, 0, 0)"),
    ("a list of them", "12, 0x101, 0x300, pack('CCn', 2, 0, 0)"),
    ("others' log", "12, 0x401, 0, pack('CCn', 2, 0, 5) . pack('SSC x3', 5, 1, 1)"),
    ("a queue of packets", "12, 0x302, 0, pack('CCn', 2, 0, 5) . pack('SSCCn', 8, 1, 1, 0, 2)"),
    ("a device", "0, 16, 0x400, pack('CxSiLL', 0, 0, 1, 0, 0)"),
    ("an address", "0, 20, 0x400, pack('CCCCi', 2, 32, 0, 0, 1) . pack('SSC4', 8, 2, 10, 9, 9, 9)"),
    ("a route", "0, 24, 0x400, pack('CCCCCCCCL', 2, 0, 0, 0, 254, 3, 0, 1, 0)"),
    ("a neighbour", "0, 28, 0x400, pack('CxSiSCC', 2, 0, 1, 128, 0, 0)"),
    ("a routing rule", "0, 32, 0x400, pack('CCCCCCCCL', 2, 0, 0, 0, 254, 0, 0, 1, 0)"),
];

/// Sends a request that asks for an answer, and dies with the error in it.
const NETLINK: &str = "
    sub netlink {
        my ($protocol, $type, $flags, $body) = @_;
        my $s = made(16, SOCK_RAW, $protocol);
        my $request = pack('LSSLL', 16 + length($body), $type, 5 | $flags, 1, 0) . $body;
        send($s, $request, 0) or fail('send');
        my $set = ''; vec($set, fileno($s), 1) = 1;
        # What begins a batch is answered only where it is refused.
        select($set, undef, undef, 0.2) or return 'no answer';
        recv($s, my $answer, 8192, 0) // fail('recv');
        my (undef, $kind, undef, undef, undef, $error) = unpack('LSSLLl', $answer);
        return 'answered' unless $kind == 2;
        $! = -$error; fail('netlink') if $error; return 'done';
    } 1";

fn refused(attacker: &mut Attacker, who: &str) {
    attacker.must(NETLINK);
    for (what, request) in REQUESTS {
        let answer = attacker.run(&format!("netlink({request})"));
        assert_eq!(answer.as_ref().err().and_then(|error| error.errno()), EPERM, "{who}: {what}: {answer:?}");
    }
    // A device of its own; and packet sockets without NET_RAW are tried by the others.
    let tap = "open(my $f, '+<', '/dev/net/tun') or fail('open');
               ioctl($f, 0x400454ca, my $r = pack('a16 S x22', 'sidewall0', 2)) or fail('TUNSETIFF')";
    let tap = attacker.run(tap).map_err(|error| error.errno());
    assert!([Err(EPERM), Err(ENOENT), Err(EACCES)].contains(&tap), "{who}: {tap:?}");
}

#[test]
fn who_is_no_administrator_changes_nothing_that_the_rules_stand_on() {
    let mut siege = Siege::new(PROGRAM);
    siege.scene.stand(By::Cgroup);
    // The requests are good ones: an administrator hears of another error, or of none.
    let mut administrator = siege.scene.lab.administrator();
    administrator.must(NETLINK);
    for (what, request) in REQUESTS {
        let answer = administrator.run(&format!("netlink({request})"));
        assert_ne!(answer.as_ref().err().and_then(|error| error.errno()), EPERM, "{what}: {answer:?}");
    }
    siege.scene.stand(By::Cgroup);
    // SOCK_DESTROY of the application's listener, which everybody can name (but not who may not see it, by the error).
    let to = SocketAddr::new(LOOPBACK[0], 8080);
    let listener = sockets::listen(siege.scene.app(APP), Protocol::Tcp, to).unwrap();
    let destroy =
        "netlink(4, 21, 0, pack('CCCxL', 2, 6, 0, 0xffffffff) . pack('nnC4x12x16LLL', 8080, 0, 127, 0, 0, 1, 0,
                   0xffffffff, 0xffffffff))";
    for arms in [Arms::Plain, Arms::Root, Arms::Ids] {
        refused(siege.mallory(arms), &format!("{arms:?}"));
        assert!(siege.mallory(arms).run(destroy).is_err(), "{arms:?}: another's socket is ended");
    }
    let client = bound(siege.scene.app(PROXY), Protocol::Tcp, siege.scene.fresh(LOOPBACK[0])).unwrap();
    drop(Flow::between(siege.scene.app(APP), Protocol::Tcp, client, listener, to).expect("the listener listens"));
}

/// In a user namespace of its own everybody has every capability, but not over the pod's network namespace, which is
/// another's; and out of a network namespace of its own nothing leads back.
#[test]
fn a_user_namespace_gives_no_capability_over_the_pods_network() {
    let mut siege = Siege::new(PROGRAM);
    for by in [By::Cgroup, By::Uid] {
        siege.scene.stand(by);
        let ear = sockets::listen(siege.scene.app(APP), Protocol::Udp, SocketAddr::new(LOOPBACK[0], 8080)).unwrap();
        let mut attacker = siege.scene.lab.attacker(id(MALLORY), Arms::Plain);
        attacker.must(
            "open($keep{pod}, '<', '/proc/self/ns/net') or fail('open'); $keep{old} = made(AF_INET, SOCK_DGRAM); 1",
        );
        if let Err(error) = attacker.run("call('unshare', 0x10000000)") {
            assert!(NO_USER_NAMESPACES.contains(&error.errno()), "{error}");
            continue;
        }
        for protocol in ["AF_INET, SOCK_RAW, 255", "17, SOCK_RAW, 768", "44, SOCK_RAW, 0"] {
            assert_eq!(attacker.run(&format!("made({protocol})")).unwrap_err().errno(), EPERM, "{protocol}");
        }
        refused(&mut attacker, "in a user namespace");
        siege.scene.denied("in a user namespace", |_| {
            let _ = attacker.run("throw(made(AF_INET, SOCK_DGRAM), 'x', '127.0.0.1', 8080)");
        });
        // A network namespace of its own, where it may everything.
        attacker.must("call('unshare', 0x40000000); made(AF_INET, SOCK_RAW, 255); made(17, SOCK_RAW, 768); 1");
        assert!(attacker.run("throw(made(AF_INET, SOCK_DGRAM), 'x', '10.77.0.2', 8080)").is_err());
        assert_eq!(attacker.run("call('setns', fileno $keep{pod}, 0x40000000)").unwrap_err().errno(), EPERM);
        let pid = siege.mallory(Arms::Plain).pid();
        let others =
            format!("open(my $f, '<', '/proc/{pid}/ns/net') or fail('open'); call('setns', fileno $f, 0x40000000)");
        let answer = attacker.run(&others).unwrap_err().errno();
        assert!([EPERM, EACCES].contains(&answer), "{answer:?}");
        // What it has kept of the pod is what it was: mallory's.
        siege.scene.denied("a socket that was kept", |_| {
            let _ = attacker.run("throw($keep{old}, 'x', '127.0.0.1', 8080)");
        });
        assert_silent(&ear, "from other namespaces");
    }
}

/// Code that moves the attacker into the proxy's cgroup and sends as it.
fn moves_into(group: &str) -> String {
    format!(
        "open(my $f, '>', '{group}/cgroup.procs') or fail('open');
         defined(syswrite($f, $$)) or fail('write'); close($f);
         throw(made(AF_INET, SOCK_DGRAM), 'moved', '127.0.0.1', 8080)"
    )
}

/// Code that makes a child in the proxy's cgroup (`CLONE_INTO_CGROUP`), which sends as it.
fn is_born_in(group: &str) -> String {
    format!(
        "open(my $d, '<', '{group}') or fail('open');
         my $arguments = pack('Q11', 2 ** 33, 0, 0, 0, 17, 0, 0, 0, 0, 0, fileno $d);
         my $child = call('clone3', $arguments, 88);
         if ($child == 0) {{
             eval {{ throw(made(AF_INET, SOCK_DGRAM), 'born', '127.0.0.1', 8080) }};
             POSIX::_exit($@ eq '' ? 0 : 1);
         }}
         waitpid($child, 0); $? == 0 or die \"the child is refused\\n\"; 'born'"
    )
}

#[test]
fn a_container_moves_into_no_other_cgroup_without_root() {
    let mut siege = Siege::new(PROGRAM);
    siege.scene.stand(By::Cgroup);
    let group = siege.scene.lab.cgroup_of(id(PROXY)).path().display().to_string();
    let ear = sockets::listen(siege.scene.app(APP), Protocol::Udp, SocketAddr::new(LOOPBACK[0], 8080)).unwrap();
    for code in [moves_into(&group), is_born_in(&group)] {
        assert_eq!(siege.mallory(Arms::Plain).run(&code).unwrap_err().errno(), EACCES);
    }
    assert_silent(&ear, "out of another cgroup");
}

/// Limits: root may write to a cgroup file system that it sees. A mount that is read-only stops the writing, but not a
/// child that is born in another group; that root sees its own groups alone (a cgroup namespace) stops both.
#[test]
fn root_that_sees_others_cgroups_takes_their_rights_a_documented_limit() {
    let mut siege = Siege::new(PROGRAM);
    siege.scene.stand(By::Cgroup);
    let group = siege.scene.lab.cgroup_of(id(PROXY)).path().display().to_string();
    let ear = sockets::listen(siege.scene.app(APP), Protocol::Udp, SocketAddr::new(LOOPBACK[0], 8080)).unwrap();
    let gains = |attacker: &mut Attacker, code: &str, text: &str| {
        attacker.run(code).unwrap();
        assert_eq!(heard(&ear).unwrap().as_deref(), Some(text.as_bytes()), "a documented limit");
    };
    gains(&mut siege.scene.lab.attacker(id(MALLORY), Arms::Root), &is_born_in(&group), "born");
    gains(&mut siege.scene.lab.attacker(id(MALLORY), Arms::Root), &moves_into(&group), "moved");
    let mount = mount_of(&group);
    let mut read_only = confined(&siege.scene, &format!("mount -o remount,bind,ro {mount}"), "-m");
    assert_eq!(read_only.run(&moves_into(&group)).unwrap_err().errno(), EROFS);
    gains(&mut read_only, &is_born_in(&group), "born");
    let mut alone = confined(&siege.scene, &format!("umount -l {mount} && mount -t cgroup2 none {mount}"), "-mC");
    for code in [moves_into(&group), is_born_in(&group)] {
        assert_eq!(alone.run(&code).unwrap_err().errno(), ENOENT);
    }
    assert_silent(&ear, "from a container that sees its own cgroups alone");
}

/// Where the cgroup file system of a directory is mounted.
fn mount_of(group: &str) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = mounts.lines().filter(|line| line.contains(" - cgroup2 ")).filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| group.starts_with(*point)).max_by_key(|point| point.len()).expect("a mount").to_owned()
}

/// Mallory as root in mount and cgroup namespaces of its own, prepared as a runtime does.
fn confined(scene: &Scene, prepare: &str, namespaces: &str) -> Attacker {
    let drop = "exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+setuid,+net_raw /usr/bin/perl \"$@\"";
    let launch = Launch::new("/usr/bin/unshare").args([namespaces, "--propagation", "private", "/bin/sh", "-c"]);
    let launch = launch.args([&format!("{prepare} && {drop}"), "sh"]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let launch = launch.netns(&scene.lab.pod).cgroup(scene.lab.cgroup_of(id(MALLORY))).privileged();
    Attacker::start(launch).expect("a confined attacker can be started")
}

/// Settings of the namespace (`/proc/sys/net`) are root's without any capability, where a runtime has not mounted them
/// read-only. The rules stand on none of them.
const SETTINGS: [(&str, &str); 19] = [
    ("ipv4/tcp_syncookies", "2"),
    ("ipv4/tcp_fastopen", "1543"),
    ("ipv4/tcp_tw_reuse", "1"),
    ("ipv4/ip_nonlocal_bind", "1"),
    ("ipv6/ip_nonlocal_bind", "1"),
    ("ipv4/ip_early_demux", "0"),
    ("ipv4/udp_early_demux", "0"),
    ("ipv4/tcp_early_demux", "0"),
    ("ipv4/fwmark_reflect", "1"),
    ("ipv4/tcp_fwmark_accept", "1"),
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("ipv4/ping_group_range", "0 2147483647"),
    ("ipv4/conf/all/route_localnet", "1"),
    ("ipv4/conf/all/accept_local", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/all/accept_source_route", "1"),
    ("netfilter/nf_conntrack_tcp_be_liberal", "1"),
    ("netfilter/nf_conntrack_tcp_loose", "1"),
    ("netfilter/nf_conntrack_checksum", "0"),
];

#[test]
fn settings_that_root_may_change_open_nothing() {
    use sidewall_tests::scene::{COLLECTORS, End, POD};
    let mut siege = Siege::new(PROGRAM);
    siege.scene.stand(By::Cgroup);
    let sets = |(name, value): (&str, &str)| {
        format!(
            "open(my $f, '>', '/proc/sys/net/{name}') or fail('open'); syswrite($f, '{value}') // fail('write'); close($f);
             open($f, '<', '/proc/sys/net/{name}') or fail('open'); my $now = <$f>; $now =~ s/\\s+/ /g; $now"
        )
    };
    for setting in SETTINGS {
        assert_eq!(siege.mallory(Arms::Plain).run(&sets(setting)).unwrap_err().errno(), EACCES, "{setting:?}");
        assert_eq!(siege.mallory(Arms::Root).must(&sets(setting)).trim(), setting.1, "{setting:?}");
    }
    for family in [0, 1] {
        for (server, to) in [
            (Some(APP), SocketAddr::new(LOOPBACK[family], 8080)),
            (Some(APP), SocketAddr::new(POD[family], 8080)),
            (None, SocketAddr::new(COLLECTORS[family], 7000)),
        ] {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                let maker = server.map_or(siege.scene.outside(), |number| siege.scene.app(number));
                let ear = sockets::listen(maker, protocol, to).unwrap();
                let kind = if protocol == Protocol::Udp { "SOCK_DGRAM" } else { "SOCK_STREAM" };
                for source in ["", "198.51.100.99", "2001:db8:2::5"] {
                    let marker = siege.marker();
                    let socket = match source {
                        "" => format!("made(family('{}'), {kind})", to.ip()),
                        source if source.contains(':') == (family == 1) => format!("bound({kind}, '{source}', 0)"),
                        _ => continue,
                    };
                    let code = format!("my $s = {socket}; dial($s, '{marker}', '{}', {})", to.ip(), to.port());
                    let sent = siege.scene.lab.attacker(id(MALLORY), Arms::Plain).run(&code);
                    siege.settle();
                    let heard = if protocol == Protocol::Udp {
                        sidewall_tests::siege::drained(&ear)
                    } else {
                        let maker = server.map_or(siege.scene.outside(), |number| siege.scene.app(number));
                        maker.accept(&ear).map_or(String::new(), |socket| sidewall_tests::siege::drained(&socket))
                    };
                    assert_eq!(heard, "", "{protocol} to {to} from {source:?}: {sent:?}");
                    assert!(!siege.left(&marker), "{protocol} to {to} from {source:?} has left: {sent:?}");
                }
                drop(ear);
                // Who may, may still.
                let (client, server) = match server {
                    Some(number) => (PROXY, End::Container(number)),
                    None => (APP, End::Outside),
                };
                siege.scene.flow(End::Container(client), server, protocol, to).works().unwrap();
            }
        }
    }
}

/// A limit: the kernel tells who asks which sockets there are in the namespace, and root also which flows. They are read, and
/// can't be changed.
#[test]
fn others_sockets_are_seen_a_documented_limit() {
    let mut siege = Siege::new(PROGRAM);
    for by in [By::Cgroup, By::Uid] {
        siege.scene.stand(by);
        let to = SocketAddr::new(LOOPBACK[0], 8080);
        let flow = siege.scene.flow(
            sidewall_tests::scene::End::Container(PROXY),
            sidewall_tests::scene::End::Container(APP),
            Protocol::Tcp,
            to,
        );
        let reads = |name: &str| format!("open(my $f, '<', '/proc/self/net/{name}') or fail('open'); local $/; <$f>");
        let table = siege.mallory(Arms::Plain).must(&reads("tcp"));
        let client = format!(":{:04X} 0100007F:1F90 01", flow.from.port());
        assert!(table.contains(&client), "this limit is gone: tell SECURITY.md: {table}");
        let flows = siege.mallory(Arms::Plain).run(&reads("nf_conntrack"));
        assert!([EACCES, ENOENT].contains(&flows.unwrap_err().errno()), "{by:?}");
        flow.works().unwrap();
    }
}
