//! One NFLOG message. Pure, and safe on any bytes whatever.

use super::connection::{self, Connection};
use super::packet::{self, Packet};
use crate::abi;
use crate::wire::{Attribute, Message, messages, u16_at};
use sidewall_flow::Decision;
use std::time::{Duration, SystemTime};

/// A packet that met a log statement of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// The place in the ruleset.
    pub decision: Decision,
    /// The record's number among those of its group, round the clock: a gap is what was lost.
    pub sequence: Option<u32>,
    /// When: the kernel's time of the packet's arrival where it has one (a packet that comes in), else when it was read.
    pub time: Option<SystemTime>,
    /// The point on the packet's way at which the rule stands.
    pub point: Option<LogPoint>,
    /// The user of the socket that sent it, where one of this host did.
    pub uid: Option<u32>,
    /// The group of that socket.
    pub gid: Option<u32>,
    /// The index of the device it came from.
    pub in_device: Option<u32>,
    /// The index of the device it was to leave by.
    pub out_device: Option<u32>,
    /// The packet, where its headers can be read.
    pub packet: Option<Packet>,
    /// The connection that the packet belongs to, where conntrack has one and the kernel tells it.
    pub connection: Option<Connection>,
}

impl LogRecord {
    /// A record of which nothing is known but the decision.
    pub fn new(decision: Decision) -> Self {
        Self {
            decision,
            sequence: None,
            time: None,
            point: None,
            uid: None,
            gid: None,
            in_device: None,
            out_device: None,
            packet: None,
            connection: None,
        }
    }
}

/// The point on a packet's way at which it was logged: of [`sidewall_policy::ruleset::HookPoint`], those that a packet of
/// any device can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogPoint {
    /// It came in from a device.
    Prerouting,
    /// It was to be received here.
    Input,
    /// It was sent here.
    Output,
    /// It was to leave by a device.
    DeviceEgress,
}

impl LogPoint {
    fn of(family: u8, hook: u8) -> Option<Self> {
        match (family, u32::from(hook)) {
            (abi::NFPROTO_NETDEV, abi::NF_NETDEV_EGRESS) => Some(Self::DeviceEgress),
            (abi::NFPROTO_NETDEV, _) => None,
            (_, abi::NF_INET_PRE_ROUTING) => Some(Self::Prerouting),
            (_, abi::NF_INET_LOCAL_IN) => Some(Self::Input),
            (_, abi::NF_INET_LOCAL_OUT) => Some(Self::Output),
            _ => None,
        }
    }
}

/// Reads the records of a datagram. Messages that are none, and records whose prefix names no decision, are passed over.
pub fn parse(bytes: &[u8]) -> Vec<LogRecord> {
    messages(bytes)
        .filter(|message| message.kind == abi::NFNL_SUBSYS_ULOG << 8 | abi::NFULNL_MSG_PACKET)
        .filter_map(|message| read(&message))
        .collect()
}

pub(super) fn read(message: &Message<'_>) -> Option<LogRecord> {
    let prefix = message.attributes().find(|attribute| attribute.kind == abi::NFULA_PREFIX)?;
    let mut record = LogRecord::new(prefix.text().parse().ok()?);
    let mut protocol = None;
    let mut payload: &[u8] = &[];
    let (mut entry, mut info) = (None, None);
    for attribute in message.attributes() {
        match attribute.kind {
            abi::NFULA_PACKET_HDR => {
                protocol = u16_at(attribute.value, 0).map(u16::from_be);
                record.point = attribute.value.get(2).and_then(|hook| LogPoint::of(message.family()?, *hook));
            }
            abi::NFULA_SEQ => record.sequence = attribute.number(),
            abi::NFULA_TIMESTAMP => record.time = read_time(&attribute),
            abi::NFULA_UID => record.uid = attribute.number(),
            abi::NFULA_GID => record.gid = attribute.number(),
            abi::NFULA_IFINDEX_INDEV => record.in_device = attribute.number(),
            abi::NFULA_IFINDEX_OUTDEV => record.out_device = attribute.number(),
            abi::NFULA_PAYLOAD => payload = attribute.value,
            abi::NFULA_CT => entry = Some(attribute.nested()),
            abi::NFULA_CT_INFO => info = attribute.number(),
            _ => {}
        }
    }
    record.packet = match protocol {
        Some(abi::ETH_P_IP) => packet::parse_v4(payload),
        Some(abi::ETH_P_IPV6) => packet::parse_v6(payload),
        _ => None,
    };
    record.connection = entry.zip(info).and_then(|(entry, info)| connection::read(entry, info));
    Some(record)
}

/// Seconds and microseconds, 64 bits each.
fn read_time(attribute: &Attribute<'_>) -> Option<SystemTime> {
    let (seconds, micros) = attribute.value.split_at_checked(8)?;
    let seconds = u64::from_be_bytes(seconds.try_into().ok()?);
    let micros = u64::from_be_bytes(micros.try_into().ok()?);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?.checked_add(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nflog::Ports;
    use crate::wire::{Header, Writer};
    use sidewall_flow::Place;

    fn message(prefix: &str, payload: &[u8]) -> Vec<u8> {
        let mut writer = Writer::default();
        let open = writer.message(Header { kind: 0x0400, flags: 0, sequence: 0, family: 2, resource: 5 });
        writer.attribute(abi::NFULA_PACKET_HDR, &[8, 0, 3, 0]);
        writer.string(abi::NFULA_PREFIX, prefix);
        writer.number(abi::NFULA_IFINDEX_OUTDEV, 2);
        writer.attribute(abi::NFULA_PAYLOAD, payload);
        writer.number(abi::NFULA_UID, 1001);
        let mut time = 10_u64.to_be_bytes().to_vec();
        time.extend(5_u64.to_be_bytes());
        writer.attribute(abi::NFULA_TIMESTAMP, &time);
        writer.number(abi::NFULA_SEQ, 7);
        let entry = writer.nest(abi::NFULA_CT);
        let tuple = writer.nest(abi::CTA_TUPLE_ORIG);
        let addresses = writer.nest(abi::CTA_TUPLE_IP);
        writer.attribute(abi::CTA_IP_V4_SRC, &[10, 0, 0, 1]);
        writer.attribute(abi::CTA_IP_V4_DST, &[10, 0, 0, 2]);
        writer.end_nest(addresses);
        let transport = writer.nest(abi::CTA_TUPLE_PROTO);
        writer.attribute(abi::CTA_PROTO_NUM, &[6]);
        writer.attribute(abi::CTA_PROTO_SRC_PORT, &4000_u16.to_be_bytes());
        writer.attribute(abi::CTA_PROTO_DST_PORT, &443_u16.to_be_bytes());
        writer.end_nest(transport);
        writer.end_nest(tuple);
        writer.number(abi::CTA_MARK, 0x0820_0000);
        writer.end_nest(entry);
        writer.number(abi::NFULA_CT_INFO, 4);
        writer.end_message(open);
        writer.finish()
    }

    #[test]
    fn a_record_is_read() {
        let records = parse(&message("sw:deny/forged", &[]));
        assert_eq!(
            records,
            [LogRecord {
                sequence: Some(7),
                time: SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(10_000_005)),
                point: Some(LogPoint::Output),
                uid: Some(1001),
                out_device: Some(2),
                connection: Some(Connection {
                    source: [10, 0, 0, 1].into(),
                    destination: [10, 0, 0, 2].into(),
                    protocol: 6,
                    ports: Some(Ports { source: 4000, destination: 443 }),
                    mark: 0x0820_0000,
                    reply: true,
                }),
                ..LogRecord::new(Decision::denied(Place::Forged))
            }]
        );
    }

    #[test]
    fn no_cut_or_flipped_message_panics() {
        let payload: Vec<u8> = (0..64).map(|byte| byte ^ 0x45).collect();
        let whole = message("sw:deny/improper", &payload);
        for length in 0..whole.len() {
            parse(&whole[..length]);
            for value in [0, 1, 0x45, 0x60, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[length] = value;
                parse(&changed);
            }
        }
    }

    #[test]
    fn a_prefix_of_somebody_else_is_no_record() {
        assert_eq!(parse(&message("ufw block", &[])), []);
    }
}
