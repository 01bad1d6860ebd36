//! From the kernel's message to what policies' recorder reads: the words of two crates, one for one.

use sidewall_flow::{RecordEnd, RecordIcmp, RecordWay};
use sidewall_netfilter::nflog::{LogPoint, LogRecord, Ports};
use sidewall_policy::record::{Logged, LoggedConnection, LoggedPacket};
use std::net::IpAddr;
use std::time::SystemTime;

/// What a message says. `device` names a device by its index.
pub fn logged(message: &LogRecord, device: impl FnOnce(u32) -> Option<String>) -> Logged {
    let way = match (message.point, message.in_device) {
        (Some(LogPoint::Prerouting | LogPoint::Input), _) | (None, Some(_)) => RecordWay::Arriving,
        (Some(LogPoint::Output | LogPoint::DeviceEgress), _) | (None, None) => RecordWay::Leaving,
    };
    let index = match way {
        RecordWay::Arriving => message.in_device,
        RecordWay::Leaving => message.out_device,
    };
    Logged {
        decision: message.decision,
        time: message.time.unwrap_or_else(SystemTime::now).into(),
        way,
        device: index.and_then(device),
        uid: message.uid,
        gid: message.gid,
        packet: message.packet.map(|packet| LoggedPacket {
            source: end(packet.source, packet.ports.map(|ports| ports.source)),
            destination: end(packet.destination, packet.ports.map(|ports| ports.destination)),
            protocol: packet.protocol,
            icmp: packet.icmp.map(|icmp| RecordIcmp { kind: icmp.kind, code: icmp.code }),
        }),
        connection: message.connection.map(|connection| {
            let ports = |of: fn(Ports) -> u16| connection.ports.map(of);
            LoggedConnection {
                source: end(connection.source, ports(|ports| ports.source)),
                destination: end(connection.destination, ports(|ports| ports.destination)),
                protocol: connection.protocol,
                reply: connection.reply,
            }
        }),
    }
}

const fn end(address: IpAddr, port: Option<u16>) -> RecordEnd {
    RecordEnd { address: Some(address), port }
}
