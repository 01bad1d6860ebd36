//! What an attacker with raw and packet sockets sends: whole IP packets, and frames.

use crate::party::Maker;
use crate::sockets;
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketType};
use sidewall_netns::Launch;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// `IPPROTO_RAW`: the sender writes the IP header himself.
const RAW: u32 = 255;
/// `ETH_P_ALL` in network byte order.
const EVERYTHING: u32 = 0x0300;
/// `ETH_P_IP`, `ETH_P_IPV6`, `ETH_P_ARP`.
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
/// The IPv6 fragment header's number.
const FRAGMENT: u8 = 44;

/// TCP's flags.
pub mod flags {
    /// The sender has finished.
    pub const FIN: u8 = 0x01;
    /// A connection begins.
    pub const SYN: u8 = 0x02;
    /// A connection is reset.
    pub const RST: u8 = 0x04;
    /// Data is to be handed over.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// An IP packet with a UDP datagram.
pub fn udp(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).expect("a datagram that fits");
    let mut segment = [from.port().to_be_bytes(), to.port().to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
    segment.extend(data);
    let sum = checksum(from.ip(), to.ip(), 17, &segment);
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    packet(from.ip(), to.ip(), 17, &segment, &[])
}

/// An IP packet with a TCP segment.
pub fn tcp(from: SocketAddr, to: SocketAddr, flags: u8, (sequence, acknowledged): (u32, u32), data: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    segment.extend([5 << 4, flags, 0x20, 0, 0, 0, 0, 0]);
    segment.extend(data);
    let sum = checksum(from.ip(), to.ip(), 6, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(from.ip(), to.ip(), 6, &segment, &[])
}

/// An ICMP error about a packet: its port was not reachable.
pub fn unreachable(from: IpAddr, to: IpAddr, about: &[u8]) -> Vec<u8> {
    // Type 3, code 3 (RFC 792); type 1, code 4 (RFC 4443).
    let (protocol, kind, code) = if from.is_ipv4() { (1, 3, 3) } else { (58, 1, 4) };
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend(about);
    let sum = if from.is_ipv4() { ones(&[&message]) } else { checksum(from, to, 58, &message) };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    packet(from, to, protocol, &message, &[])
}

/// The same packet with a loose source route (RFC 791) or a routing header (RFC 8200) by way of its own destination.
pub fn source_routed(plain: &[u8]) -> Vec<u8> {
    if plain[0] >> 4 == 4 {
        let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&plain[at..at + 4]).expect("four bytes"));
        let (from, to) = (address(12), address(16));
        // One address, already passed (the pointer is behind it), and an end of list.
        let mut option = vec![131, 7, 8];
        option.extend(to.octets());
        option.push(0);
        packet(from.into(), to.into(), plain[9], &plain[20..], &option)
    } else {
        let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&plain[at..at + 16]).expect("sixteen bytes"));
        let (from, to) = (address(8), address(24));
        // Type 0, no segments left, one address.
        let mut header = vec![plain[6], 2, 0, 0, 0, 0, 0, 0];
        header.extend(to.octets());
        header.extend(&plain[40..]);
        packet(from.into(), to.into(), 43, &header, &[])
    }
}

/// Parts a packet into fragments, each with so many bytes of what follows the IP header (a multiple of 8, but for the
/// last).
pub fn fragments(whole: &[u8], size: usize) -> Vec<Vec<u8>> {
    let header = if whole[0] >> 4 == 4 { 20 } else { 40 };
    let count = whole[header..].len().div_ceil(size);
    let part = |number: usize| {
        let end = whole.len().min(header + (number + 1) * size);
        fragment(whole, number * size, number + 1 < count, &whole[header + number * size..end])
    };
    (0..count).map(part).collect()
}

/// A fragment of a packet: data at an offset in bytes, which need not be the packet's own.
pub fn fragment(whole: &[u8], offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
    let place = u16::try_from(offset).expect("an offset that fits");
    if whole[0] >> 4 == 4 {
        let mut part = whole[..20].to_vec();
        let length = u16::try_from(20 + data.len()).expect("a fragment that fits");
        part[2..4].copy_from_slice(&length.to_be_bytes());
        part[4..6].copy_from_slice(&number_of(whole).to_be_bytes()[2..]);
        part[6..8].copy_from_slice(&((place / 8) | if more { 0x2000 } else { 0 }).to_be_bytes());
        part[10..12].copy_from_slice(&[0, 0]);
        let sum = ones(&[&part]);
        part[10..12].copy_from_slice(&sum.to_be_bytes());
        part.extend(data);
        return part;
    }
    let mut header = vec![whole[6], 0];
    header.extend((place | u16::from(more)).to_be_bytes());
    header.extend(number_of(whole).to_be_bytes());
    header.extend(data);
    let mut part = whole[..40].to_vec();
    part[4..6].copy_from_slice(&u16::try_from(header.len()).expect("a fragment that fits").to_be_bytes());
    part[6] = FRAGMENT;
    part.extend(header);
    part
}

/// What the fragments of one packet have in common; different for packets of different content.
fn number_of(whole: &[u8]) -> u32 {
    whole.iter().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Puts extension headers (each without its next-header field, of a multiple of 8 bytes with it) before what follows an
/// IPv6 header.
pub fn extended(plain: &[u8], headers: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut next = plain[6];
    let mut payload = plain[40..].to_vec();
    for (kind, rest) in headers.iter().rev() {
        payload = [&[next], &rest[..], &payload].concat();
        next = *kind;
    }
    let mut packet = plain[..40].to_vec();
    packet[4..6].copy_from_slice(&u16::try_from(payload.len()).expect("a packet that fits").to_be_bytes());
    packet[6] = next;
    packet.extend(payload);
    packet
}

/// An IP packet.
pub fn packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8], options: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let words = u8::try_from(5 + options.len() / 4).expect("options that fit");
            let length = u16::try_from(usize::from(words) * 4 + payload.len()).expect("a packet that fits");
            packet.extend([0x40 | words, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            packet.extend(options);
            let sum = ones(&[&packet]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = u16::try_from(payload.len()).expect("a packet that fits");
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        _ => panic!("{from} and {to} are of two families"),
    }
    packet.extend(payload);
    packet
}

fn checksum(from: IpAddr, to: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let length = u32::try_from(segment.len()).expect("a segment that fits").to_be_bytes();
    let rest = [0, 0, 0, protocol];
    let sum = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ones(&[&from.octets(), &to.octets(), &rest, &length, segment]),
        (IpAddr::V6(from), IpAddr::V6(to)) => ones(&[&from.octets(), &to.octets(), &rest, &length, segment]),
        _ => panic!("{from} and {to} are of two families"),
    };
    // Zero would say that there is no checksum (RFC 768).
    if sum == 0 { 0xffff } else { sum }
}

/// The Internet checksum (RFC 1071).
fn ones(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// Sends whole IP packets as a party that has NET_RAW.
///
/// # Errors
/// The system's.
pub fn send(maker: &Maker, packet: &[u8]) -> io::Result<()> {
    let to = destination(packet);
    let socket = maker.socket(sockets::family(to), SocketType::RAW, RAW)?;
    rustix::net::sendto(&socket, packet, SendFlags::NOSIGNAL, &SocketAddr::new(to, 0))?;
    Ok(())
}

fn destination(packet: &[u8]) -> IpAddr {
    if packet[0] >> 4 == 4 {
        Ipv4Addr::from(<[u8; 4]>::try_from(&packet[16..20]).expect("four bytes")).into()
    } else {
        Ipv6Addr::from(<[u8; 16]>::try_from(&packet[24..40]).expect("sixteen bytes")).into()
    }
}

/// A device, as packet sockets name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The loopback device.
    Loopback,
    /// The device that leads out.
    Link,
}

/// A party's packet socket: it sees what passes every device, and can put frames on them.
pub struct Injector {
    socket: OwnedFd,
    /// Addresses of the devices, as the kernel told them with the frames that came by; with a protocol each.
    seen: Vec<(Device, u16, SocketAddrAny)>,
    macs: Option<[u8; 12]>,
}

impl Injector {
    /// A packet socket of a party with NET_RAW. `traffic` sends something on both devices in both families, over links
    /// that have forgotten their neighbours: this is how the socket learns what the devices are called.
    ///
    /// # Errors
    /// The system's; or nothing came by.
    pub fn new(maker: &Maker, mut traffic: impl FnMut()) -> io::Result<Self> {
        let socket = maker.socket(AddressFamily::PACKET, SocketType::RAW, EVERYTHING)?;
        let mut injector = Self { socket, seen: Vec::new(), macs: None };
        let until = Instant::now() + Duration::from_secs(5);
        const WANTED: [(Device, u16); 5] = [
            (Device::Loopback, IPV4),
            (Device::Loopback, IPV6),
            (Device::Link, IPV4),
            (Device::Link, IPV6),
            (Device::Link, ARP),
        ];
        while !WANTED.iter().all(|wanted| injector.seen.iter().any(|(d, p, _)| (*d, *p) == *wanted)) {
            if Instant::now() > until {
                return Err(io::Error::other(format!("only these frames came by: {:?}", injector.seen)));
            }
            traffic();
            sockets::readable(&injector.socket, Duration::from_millis(10))?;
            while injector.take()?.is_some() {}
        }
        Ok(injector)
    }

    /// Takes the next frame that came by; none where none is waiting.
    ///
    /// # Errors
    /// The system's.
    pub fn take(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut frame = vec![0; 2048];
        match rustix::net::recvfrom(&self.socket, &mut frame[..], RecvFlags::DONTWAIT) {
            Ok((length, _, Some(from))) if length >= 14 => {
                frame.truncate(length);
                let protocol = u16::from_be_bytes([frame[12], frame[13]]);
                let device = if frame[..12] == [0; 12] { Device::Loopback } else { Device::Link };
                if device == Device::Link && self.macs.is_none() && protocol == IPV4 {
                    self.macs = frame[..12].try_into().ok();
                }
                if !self.seen.iter().any(|(d, p, _)| (*d, *p) == (device, protocol)) {
                    self.seen.push((device, protocol, from));
                }
                Ok(Some(frame))
            }
            Ok(_) => Ok(Some(Vec::new())),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts an IP packet onto a device.
    ///
    /// # Errors
    /// The system's. A packet that a rule drops on the device's egress is an error to some kernels.
    pub fn put(&self, device: Device, packet: &[u8]) -> io::Result<()> {
        let protocol = if packet[0] >> 4 == 4 { IPV4 } else { IPV6 };
        self.put_as(device, protocol, packet)
    }

    /// The same, while telling the kernel that the frame is an ARP one.
    ///
    /// # Errors
    /// As for [`Self::put`].
    pub fn put_as_arp(&self, device: Device, packet: &[u8]) -> io::Result<()> {
        self.put_as(device, ARP, packet)
    }

    /// Puts an ARP message onto the link: an answer that nobody asked for.
    ///
    /// # Errors
    /// As for [`Self::put`].
    pub fn put_arp(&self, address: Ipv4Addr, to: Ipv4Addr) -> io::Result<()> {
        let macs = self.macs();
        let mut frame = macs.to_vec();
        frame.extend(ARP.to_be_bytes());
        frame.extend([0, 1, 8, 0, 6, 4, 0, 2]);
        frame.extend(&macs[6..]);
        frame.extend(address.octets());
        frame.extend(&macs[..6]);
        frame.extend(to.octets());
        self.frame(Device::Link, ARP, &frame)
    }

    /// Sends past the queueing disciplines (`PACKET_QDISC_BYPASS`).
    ///
    /// # Errors
    /// The system's.
    pub fn bypass_queues(&self) -> io::Result<()> {
        const SOL_PACKET: i32 = 263;
        const PACKET_QDISC_BYPASS: i32 = 20;
        set_option(&self.socket, SOL_PACKET, PACKET_QDISC_BYPASS, &1i32.to_ne_bytes())
    }

    fn macs(&self) -> [u8; 12] {
        self.macs.expect("a frame was seen on the link")
    }

    fn put_as(&self, device: Device, protocol: u16, packet: &[u8]) -> io::Result<()> {
        let written = if packet[0] >> 4 == 4 { IPV4 } else { IPV6 };
        let mut frame = if device == Device::Loopback { vec![0; 12] } else { self.macs().to_vec() };
        frame.extend(written.to_be_bytes());
        frame.extend(packet);
        self.frame(device, protocol, &frame)
    }

    fn frame(&self, device: Device, protocol: u16, frame: &[u8]) -> io::Result<()> {
        let known = self.seen.iter().find(|(d, p, _)| (*d, *p) == (device, protocol));
        let (_, _, address) = known.ok_or_else(|| io::Error::other("no such frame was seen"))?;
        rustix::net::sendto(&self.socket, frame, SendFlags::NOSIGNAL, address)?;
        Ok(())
    }
}

/// Sets an option of a socket that no safe library knows. Perl, which every Debian has, makes the system call; the
/// socket stays its maker's.
///
/// # Errors
/// The system's, or perl's.
pub fn set_option(socket: &OwnedFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    let script =
        "open(my $s, '+<&=', 0) or die; setsockopt($s, $ARGV[0], $ARGV[1], pack('H*', $ARGV[2])) or exit($!+0)";
    let launch = Launch::new("/usr/bin/perl").args(["-e", script, &level.to_string(), &name.to_string(), &hex]);
    let launch = launch.stdin(socket.try_clone()?).stderr(std::process::Stdio::inherit()).privileged();
    let status = launch.spawn().map_err(io::Error::other)?.wait()?;
    match status.code() {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::Error::other(format!("perl: {status}"))),
    }
}

/// What passes the devices of a party's namespace.
pub struct Sniffer {
    socket: OwnedFd,
    seen: Vec<Vec<u8>>,
}

impl Sniffer {
    /// A packet socket of a party with NET_RAW.
    ///
    /// # Errors
    /// The system's.
    pub fn new(maker: &Maker) -> io::Result<Self> {
        let socket = maker.socket(AddressFamily::PACKET, SocketType::RAW, EVERYTHING)?;
        Ok(Self { socket, seen: Vec::new() })
    }

    /// Whether a frame with this text in it has passed so far.
    ///
    /// # Errors
    /// The system's.
    pub fn saw(&mut self, text: &[u8]) -> io::Result<bool> {
        let mut frame = [0; 2048];
        loop {
            match rustix::net::recv(&self.socket, &mut frame[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => self.seen.push(frame[..length].to_vec()),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.seen.iter().any(|frame| frame.windows(text.len()).any(|window| window == text)))
    }

    /// Waits until a frame with this text in it has passed.
    ///
    /// # Errors
    /// None did within five seconds.
    pub fn waits_for(&mut self, text: &[u8]) -> io::Result<()> {
        let until = Instant::now() + Duration::from_secs(5);
        while !self.saw(text)? {
            if Instant::now() > until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no such frame passed"));
            }
            sockets::readable(&self.socket, Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// The numbers of the last TCP segment from one end to the other: what the sender of the next one would use as its
    /// sequence number, and as its acknowledgement.
    ///
    /// # Errors
    /// The system's; or there was none.
    pub fn numbers(&mut self, from: SocketAddr, to: SocketAddr) -> io::Result<(u32, u32)> {
        self.saw(b"-")?;
        let found = self.seen.iter().rev().find_map(|frame| {
            let packet = frame.get(14..)?;
            let (header, total, protocol) = match packet.first()? >> 4 {
                4 => (usize::from(packet[0] & 15) * 4, usize::from(word(packet, 2)?), packet[9]),
                6 => (40, 40 + usize::from(word(packet, 4)?), packet[6]),
                _ => return None,
            };
            let segment = packet.get(header..total)?;
            let ports = (word(segment, 0)?, word(segment, 2)?);
            if protocol != 6 || ports != (from.port(), to.port()) {
                return None;
            }
            let number = |at: usize| Some((u32::from(word(segment, at)?) << 16) | u32::from(word(segment, at + 2)?));
            let data = segment.len() - usize::from(segment[12] >> 4) * 4;
            let counted = u32::from(segment[13] & (flags::SYN | flags::FIN) != 0) + u32::try_from(data).ok()?;
            Some((number(4)?.wrapping_add(counted), number(8)?))
        });
        found.ok_or_else(|| io::Error::other("no segment of this flow was seen"))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
