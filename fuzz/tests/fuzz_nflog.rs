//! The reader of log records, for any bytes: it never panics, and what it reads was written there.

use sidewall_flow::{Decision, Party, Place};
use sidewall_fuzz::{Input, Tally, cost, effort};
use sidewall_netfilter::nflog;
use std::sync::LazyLock;
use std::time::Duration;

/// `NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET`, from linux/netfilter/nfnetlink_log.h.
const PACKET_MESSAGE: u16 = 0x0400;
const NFULA_PACKET_HDR: u16 = 1;
const NFULA_TIMESTAMP: u16 = 3;
const NFULA_IFINDEX_OUTDEV: u16 = 5;
const NFULA_PAYLOAD: u16 = 9;
const NFULA_PREFIX: u16 = 10;
const NFULA_UID: u16 = 11;
const NFULA_GID: u16 = 14;

static RECORDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let v4 = [
        [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 9, 192, 0, 2, 1].as_slice(),
        &[0x9c, 0x40, 0x00, 0x50, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0],
    ]
    .concat();
    // Hop-by-hop options, a first fragment, ICMPv6.
    let v6 = [
        [0x60, 0, 0, 0, 0, 24, 0, 64].as_slice(),
        &[0xfd; 16],
        &[0xfe; 16],
        &[44, 0, 1, 4, 0, 0, 0, 0],
        &[58, 0, 0, 1, 0, 0, 0, 7],
        &[128, 0, 0, 0, 0, 1, 0, 1],
    ]
    .concat();
    let both = [record("sw:deny/egress/unknown", 0x0800, &v4), record("sw:audit-deny/loopback/c1/c2", 0x86dd, &v6)];
    let [first, second] = &both;
    vec![
        first.clone(),
        second.clone(),
        both.concat(),
        record("sw:deny/forged", 0x86dd, &[]),
        record("other", 0x0800, &v4),
    ]
});

fn record(prefix: &str, protocol: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = vec![0_u8; 4];
    let mut attribute = |kind: u16, value: &[u8]| {
        body.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    };
    attribute(NFULA_PACKET_HDR, &[protocol.to_be_bytes(), [3, 0]].concat());
    attribute(NFULA_PREFIX, &[prefix.as_bytes(), b"\0"].concat());
    attribute(NFULA_IFINDEX_OUTDEV, &2_u32.to_be_bytes());
    attribute(NFULA_TIMESTAMP, &[1_700_000_000_u64.to_be_bytes(), 5_u64.to_be_bytes()].concat());
    attribute(NFULA_UID, &1001_u32.to_be_bytes());
    attribute(NFULA_GID, &1001_u32.to_be_bytes());
    attribute(NFULA_PAYLOAD, payload);
    let mut message = u32::try_from(body.len() + 16).unwrap().to_ne_bytes().to_vec();
    message.extend(PACKET_MESSAGE.to_ne_bytes());
    message.extend([0; 10]);
    message.extend(body);
    message
}

const WORDS: &[&[u8]] = &[
    b"sw:",
    b"deny/",
    b"allow/",
    b"audit-",
    b"egress/",
    b"loopback/",
    b"c60",
    b"c0",
    b"node",
    b"unknown",
    b"improper",
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x04\x00\x0a\x00",
    b"\xff\xff\x09\x00",
    b"\x00\x00\x09\x00",
    b"\x86\xdd",
    b"\x08\x00",
    b"\x2c\x00",
    b"\x33\xff",
    b"\x00\xff",
];

static READ: Tally = Tally::new();

fn check(bytes: &[u8]) {
    READ.input();
    let (records, cost) = cost::of(|| nflog::parse(bytes));
    cost.at_most(Duration::from_millis(200), (1 << 16) + bytes.len() * 64);
    if !records.is_empty() {
        READ.reached();
    }
    for record in records {
        let text = record.decision.to_string();
        assert_eq!(text.parse(), Ok(record.decision));
        let action = record.decision.action.to_string();
        assert!(holds(bytes, b"sw:") && holds(bytes, action.as_bytes()), "{text} was not written");
        if let Some(ports) = record.packet.and_then(|packet| packet.ports) {
            let both = [ports.source.to_be_bytes(), ports.destination.to_be_bytes()].concat();
            assert!(holds(bytes, &both), "{ports:?} were not written");
        }
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn fuzz_nflog() {
    let records = nflog::parse(&RECORDS[2]);
    let loopback = |number: u8| Party::Container(number.try_into().unwrap());
    let place = Place::Loopback { sender: loopback(1), receiver: loopback(2) };
    let decisions: Vec<Decision> = records.iter().map(|record| record.decision).collect();
    assert_eq!(
        decisions,
        [Decision::denied(Place::Egress(Party::Unknown)), Decision::audit(place, sidewall_flow::Action::Deny)]
    );
    assert!(records.iter().all(|record| record.packet.is_some()), "{records:?}");
    bolero::check!()
        .with_type::<Input>()
        .with_test_time(effort::time())
        .for_each(|input| check(&input.bytes(&RECORDS, WORDS)));
    READ.expect_per_mille(150);
}
