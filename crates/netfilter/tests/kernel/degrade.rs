//! Lesser kernels, simulated by a mask: what stands then, by real packets.

use crate::pod::{Pod, peer};
use crate::support::*;
use sidewall_flow::{Decision, Place};
use sidewall_netfilter::nflog::{LogEvent, LogReader};
use sidewall_netfilter::{Features, LoadOptions, Missing, Standing, Unenforceable, degrade};
use sidewall_policy::ruleset::{
    Chain, Compare, Family, Field, Hook, HookPoint, Kind, Ruleset, Statement, Table, Verdict,
};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Logs what it denies, refuses it, and has a second line on a device.
fn ruleset_of_today() -> Ruleset {
    let mut ruleset = Pod::of([1]).ruleset(1);
    let table = &mut ruleset.tables[0];
    let deny = table.chains.iter_mut().find(|chain| chain.name == "deny").unwrap();
    let log = Statement::Log(Decision::denied(Place::Improper));
    deny.rules.insert(0, rule([Statement::Limit { per_second: 20, burst: 40 }, log]));
    let foreign = compare(Field::FibSourceType, None, Compare::NotEqual, 2);
    let out = table.chains.iter_mut().find(|chain| chain.name == "out").unwrap();
    out.rules.insert(0, rule([foreign, verdict(Verdict::Drop)]));
    let hook = Some(Hook { point: HookPoint::DeviceEgress("lo".into()), priority: 0, accept: true });
    let chain = Chain {
        name: "egress".into(),
        hook,
        rules: vec![rule([equal(Field::EtherType, 0x88b5), verdict(Verdict::Drop)])],
    };
    ruleset.tables.push(Table { family: Family::Netdev, counters: Vec::new(), sets: Vec::new(), chains: vec![chain] });
    ruleset
}

/// What one kernel makes of it.
#[derive(Debug, PartialEq)]
struct Seen {
    missing: Vec<Missing>,
    /// How a denied connection ends.
    end: ErrorKind,
    logged: bool,
    second_line: bool,
    owned: bool,
}

fn seen(features: Features) -> Seen {
    let (namespace, mut kernel) = namespace();
    let (ruleset, missing) = degrade(&ruleset_of_today(), features).unwrap();
    kernel.load(&ruleset, features.options()).unwrap();
    assert_eq!(kernel.verify(&ruleset).unwrap(), Standing::AsLoaded);
    let mut reader = LogReader::open(&namespace, Statement::LOG_GROUP).unwrap();
    let connect = |number| {
        let connect = || {
            let address = SocketAddr::from((peer(number), 4000));
            let _listener = TcpListener::bind(address).unwrap();
            TcpStream::connect_timeout(&address, Duration::from_millis(300)).map(drop)
        };
        namespace.run(connect).unwrap()
    };
    connect(1).unwrap();
    // The one thing that no kernel may change.
    let end = connect(2).unwrap_err().kind();
    assert!(counted(&mut kernel)["deny"] > 0, "what is denied is counted");
    let logged = matches!(reader.next(Duration::from_millis(100)).unwrap(), Some(LogEvent::Record(_)));
    let text = nft(&namespace, &["list", "ruleset"]);
    assert_eq!(text.contains(" log "), logged);
    assert_eq!(text.contains("reject"), end == ErrorKind::ConnectionRefused);
    Seen { missing, end, logged, second_line: text.contains("hook egress"), owned: text.contains("owner") }
}

#[test]
fn each_lack_costs_what_it_must_and_denies_all_the_same() {
    let all = Features::probe().unwrap();
    assert_eq!(all, Features::ALL);
    let today = || Seen {
        missing: Vec::new(),
        end: ErrorKind::ConnectionRefused,
        logged: true,
        second_line: true,
        owned: true,
    };
    assert_eq!(seen(all), today());
    let no_log = all.masked(Features { log: false, ..Features::ALL });
    assert_eq!(seen(no_log), Seen { missing: vec![Missing::Log], logged: false, ..today() });
    let no_reject = all.masked(Features { reject: false, ..Features::ALL });
    assert_eq!(seen(no_reject), Seen { missing: vec![Missing::Reject], end: ErrorKind::TimedOut, ..today() });
    let no_device = all.masked(Features { device_egress: false, ..Features::ALL });
    let second_line = Missing::SecondLine { device: "lo".into() };
    assert_eq!(seen(no_device), Seen { missing: vec![second_line.clone()], second_line: false, ..today() });
    let no_owner = all.masked(Features { owner_persist: false, ..Features::ALL });
    assert_eq!(seen(no_owner), Seen { missing: vec![Missing::Ownership], owned: false, ..today() });
    let least = Features { inet: true, ct_mark: true, fib: true, ..Features::default() };
    let missing = vec![Missing::Log, Missing::Reject, second_line, Missing::Ownership];
    let end = ErrorKind::TimedOut;
    assert_eq!(seen(all.masked(least)), Seen { missing, end, logged: false, second_line: false, owned: false });
}

#[test]
fn nothing_is_loaded_that_could_not_be_enforced() {
    let (namespace, mut kernel) = namespace();
    let standing = Pod::of([]).ruleset(1);
    kernel.load(&standing, LoadOptions::default()).unwrap();
    let by_cgroup = |field| -> Ruleset {
        let who = growing(set("who", &[Kind::Cgroup], false, vec![to(&[7], Verdict::Accept)]));
        let dispatch = Statement::Dispatch { fields: vec![field], mask: None, map: "who".into() };
        ruleset(vec![table(&[], vec![who], vec![base("out", HookPoint::Output, false, [rule([dispatch])])])])
    };
    let cgroup = by_cgroup(Field::SocketCgroup { level: 1 });
    let of_today = ruleset_of_today();
    let all = Features::ALL;
    for (ruleset, features) in [
        (&cgroup, Features { socket_cgroup: false, ..all }),
        (&of_today, Features { fib: false, ..all }),
        (&of_today, Features { ct_mark: false, ..all }),
        (&of_today, Features { inet: false, ..all }),
    ] {
        let error = degrade(ruleset, features).unwrap_err();
        println!("{error}");
        assert_eq!(matches!(error, Unenforceable::Cgroup(_)), !features.socket_cgroup);
        assert_eq!(error.to_string().contains("UID identity"), !features.socket_cgroup);
    }
    assert_eq!(kernel.verify(&standing).unwrap(), Standing::AsLoaded);
    let send = || std::net::UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", (peer(1), 4000)).is_ok();
    assert!(!namespace.run(send).unwrap());
}
