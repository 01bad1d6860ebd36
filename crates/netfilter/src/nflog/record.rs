//! One NFLOG message. Pure, and safe on any bytes whatever.

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
    /// When: the kernel's time of the packet's arrival where it has one, else when it was read.
    pub time: Option<SystemTime>,
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
}

/// Reads the records of a datagram. Messages that are none, and records whose prefix names no decision, are passed over.
pub fn parse(bytes: &[u8]) -> Vec<LogRecord> {
    messages(bytes)
        .filter(|message| message.kind == abi::NFNL_SUBSYS_ULOG << 8 | abi::NFULNL_MSG_PACKET)
        .filter_map(|message| read(&message))
        .collect()
}

pub(super) fn read(message: &Message<'_>) -> Option<LogRecord> {
    let mut decision = None;
    let mut protocol = None;
    let mut payload: &[u8] = &[];
    let mut time = None;
    let (mut uid, mut gid, mut in_device, mut out_device) = (None, None, None, None);
    for attribute in message.attributes() {
        match attribute.kind {
            abi::NFULA_PREFIX => decision = attribute.text().parse::<Decision>().ok(),
            abi::NFULA_PACKET_HDR => protocol = u16_at(attribute.value, 0).map(u16::from_be),
            abi::NFULA_TIMESTAMP => time = read_time(&attribute),
            abi::NFULA_UID => uid = attribute.number(),
            abi::NFULA_GID => gid = attribute.number(),
            abi::NFULA_IFINDEX_INDEV => in_device = attribute.number(),
            abi::NFULA_IFINDEX_OUTDEV => out_device = attribute.number(),
            abi::NFULA_PAYLOAD => payload = attribute.value,
            _ => {}
        }
    }
    Some(LogRecord {
        decision: decision?,
        time,
        uid,
        gid,
        in_device,
        out_device,
        packet: match protocol {
            Some(abi::ETH_P_IP) => packet::parse_v4(payload),
            Some(abi::ETH_P_IPV6) => packet::parse_v6(payload),
            _ => None,
        },
    })
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
        writer.end_message(open);
        writer.finish()
    }

    #[test]
    fn a_record_is_read() {
        let records = parse(&message("sw:deny/forged", &[]));
        assert_eq!(
            records,
            [LogRecord {
                decision: Decision::denied(Place::Forged),
                time: SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(10_000_005)),
                uid: Some(1001),
                gid: None,
                in_device: None,
                out_device: Some(2),
                packet: None,
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
