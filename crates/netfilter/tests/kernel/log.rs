//! What the rules log, read from real packets.

use crate::support::*;
use sidewall_flow::{ContainerId, Decision, Party, Place};
use sidewall_netfilter::nflog::{Connection, LogEvent, LogPoint, LogReader, Losses, Ports};
use sidewall_netfilter::{LoadOptions, NetlinkError};
use sidewall_policy::ruleset::{Field, HookPoint, Ruleset, Statement};
use std::io::ErrorKind;
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, SystemTime};

const PATIENCE: Duration = Duration::from_secs(5);

fn refusing(decision: Decision) -> Ruleset {
    ruleset(vec![table(
        &["denied"],
        Vec::new(),
        vec![base(
            "out",
            HookPoint::Output,
            true,
            [
                rule([
                    equal(Field::DestinationPort, 4000),
                    Statement::Count("denied".into()),
                    Statement::Log(decision),
                ]),
                rule([equal(Field::DestinationPort, 4000), equal(Field::Protocol, 6), Statement::RejectTcpReset]),
                rule([equal(Field::DestinationPort, 4000), Statement::RejectProhibited]),
            ],
        )],
    )])
}

#[test]
fn a_refused_connection_is_told_with_who_and_whither() {
    let (namespace, mut kernel) = namespace();
    let decision = Decision::denied(Place::Egress(Party::Container(ContainerId::try_from(3).unwrap())));
    kernel.load(&refusing(decision), LoadOptions::default()).unwrap();
    let mut reader = LogReader::open(&namespace, Statement::LOG_GROUP).unwrap();
    assert_eq!(reader.next(Duration::ZERO).unwrap(), None);
    for (number, address) in (0..).zip(["127.0.0.1:4000", "[::1]:4000"]) {
        let address: std::net::SocketAddr = address.parse().unwrap();
        let refused = namespace.run(|| TcpStream::connect(address)).unwrap();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let Some(LogEvent::Record(record)) = reader.next(PATIENCE).unwrap() else {
            panic!("no record of {address}");
        };
        assert_eq!(record.decision, decision);
        assert_eq!((record.sequence, record.point), (Some(number), Some(LogPoint::Output)));
        assert_eq!((record.uid, record.gid), (Some(0), Some(0)));
        assert_eq!((record.in_device, record.out_device), (None, Some(1)));
        let age = SystemTime::now().duration_since(record.time.unwrap()).unwrap();
        assert!(age < PATIENCE, "{age:?}");
        let packet = record.packet.unwrap();
        assert_eq!((packet.source, packet.destination), (address.ip(), address.ip()));
        assert_eq!(packet.protocol, 6);
        assert!(matches!(packet.ports, Some(Ports { destination: 4000, source }) if source > 0));
        let connection = Connection {
            source: packet.source,
            destination: packet.destination,
            protocol: 6,
            ports: packet.ports,
            mark: 0,
            reply: false,
        };
        // Only a kernel with CONFIG_NETFILTER_NETLINK_GLUE_CT can tell.
        assert_eq!(record.connection, reader.tells_connections().then_some(connection));
    }
    assert_eq!(kernel.counters().unwrap()["denied"].packets, 2);
}

#[test]
fn a_record_tells_how_its_connection_was_opened() {
    let (namespace, mut kernel) = namespace();
    let decision = Decision::denied(Place::Improper);
    let marking = |direction: u128, mark: u32| {
        rule([
            equal(Field::CtOriginalDestinationPort, 4000),
            equal(Field::CtDirection, direction),
            Statement::SetMark { keep: 0, set: mark },
            Statement::Log(decision),
        ])
    };
    let rules = [marking(0, 0x0820_0001), marking(1, 0x0840_0002)];
    let walls = ruleset(vec![table(&[], Vec::new(), vec![base("in", HookPoint::Input, true, rules)])]);
    kernel.load(&walls, LoadOptions::default()).unwrap();
    let mut reader = LogReader::open(&namespace, Statement::LOG_GROUP).unwrap();
    let (client, server) = namespace
        .run(|| (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:4000").unwrap()))
        .unwrap();
    let from = client.local_addr().unwrap();
    client.send_to(b"x", "127.0.0.1:4000").unwrap();
    server.send_to(b"x", from).unwrap();
    for (mark, reply) in [(0x0820_0001, false), (0x0840_0002, true)] {
        let Some(LogEvent::Record(record)) = reader.next(PATIENCE).unwrap() else {
            panic!("no record");
        };
        assert_eq!((record.point, record.in_device), (Some(LogPoint::Input), Some(1)));
        let ports = Ports { source: from.port(), destination: 4000 };
        let connection =
            Connection { source: from.ip(), destination: from.ip(), protocol: 17, ports: Some(ports), mark, reply };
        assert_eq!(record.connection, reader.tells_connections().then_some(connection));
        let source = record.packet.unwrap().ports.unwrap().source;
        assert_eq!(source, if reply { 4000 } else { from.port() });
    }
}

#[test]
fn the_records_of_other_programs_rules_are_counted_and_not_believed() {
    let (namespace, _kernel) = namespace();
    nft(
        &namespace,
        &["add table inet other; add chain inet other out { type filter hook output priority 0; }; \
         add rule inet other out udp dport 4000 log prefix \"sw:allow-all \" group 5"],
    );
    let mut reader = LogReader::open(&namespace, Statement::LOG_GROUP).unwrap();
    let sender = namespace.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    sender.send_to(b"x", "127.0.0.1:4000").unwrap();
    assert_eq!(reader.next(PATIENCE).unwrap(), Some(LogEvent::Foreign));
    assert_eq!(reader.losses(), Losses { foreign: 1, ..Losses::default() });
}

#[test]
fn what_is_not_read_in_time_is_counted_as_lost() {
    const SENT: u32 = 5000;
    let (namespace, mut kernel) = namespace();
    let decision = Decision::denied(Place::Improper);
    kernel.load(&refusing(decision), LoadOptions::default()).unwrap();
    let mut reader = LogReader::open(&namespace, Statement::LOG_GROUP).unwrap();
    let sender = namespace.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let send = || {
        // The rules refuse it.
        sender.send_to(b"x", "127.0.0.1:4000").unwrap_err();
    };
    (0..SENT).for_each(|_| send());
    let (mut records, mut lost) = (0, 0);
    let mut count = |event| match event {
        LogEvent::Record(_) => records += 1,
        LogEvent::Lost(number) => lost += number,
        LogEvent::Foreign => panic!("no rule but ours logs"),
    };
    let mut overrun = 0;
    loop {
        match reader.next(Duration::ZERO).unwrap() {
            Some(event) => count(event),
            None if overrun < reader.overruns() => overrun = reader.overruns(),
            None => break,
        }
    }
    // The next record tells what was lost before it.
    send();
    while let Some(event) = reader.next(Duration::from_millis(200)).unwrap() {
        count(event);
    }
    println!("{records} read, {lost} lost, {} overruns", reader.overruns());
    assert!(lost > 0 && reader.overruns() > 0);
    assert_eq!(records + lost, SENT + 1);
    let losses = Losses { records: lost.into(), overruns: reader.overruns(), foreign: 0 };
    assert_eq!(reader.losses(), losses);
    // The packets themselves met the rules, every one.
    assert_eq!(kernel.counters().unwrap()["denied"].packets, u64::from(SENT) + 1);
}

#[test]
fn a_group_has_one_reader() {
    let (namespace, _kernel) = namespace();
    let first = LogReader::open(&namespace, 5).unwrap();
    let second = LogReader::open(&namespace, 5);
    assert!(matches!(second, Err(NetlinkError::GroupTaken { group: 5 })), "{second:?}");
    drop(first);
    LogReader::open(&namespace, 5).unwrap();
}
