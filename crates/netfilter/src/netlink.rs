//! A netlink socket of netfilter: one request at a time, every answer read.

#[cfg(test)]
mod tests;

use crate::abi;
use crate::error::NetlinkError;
use crate::wire::{self, Header, Message, Writer, attributes, messages, u32_at};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use sidewall_netns::NetNs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// How much the kernel may queue for us: a dump's datagrams are drained as they come, errors of a whole batch are not.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Longer than any datagram that the kernel sends: a dump's are at most 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// Interrupted reads in a row after which something is wrong with this process.
const INTERRUPTIONS: u32 = 1000;

/// A socket in one network namespace. It stays in the namespace in which it was made, whichever thread uses it.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// Room for one datagram. It is not the socket's own: an agent has hundreds of sockets, and most of them hear nothing.
pub(crate) struct Room(Vec<u8>);

impl Room {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(DATAGRAM))
    }
}

/// The kernel's answer to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) sequence: u32,
    /// 0, or the error's number.
    pub(crate) code: i32,
    /// What the kernel says beside the number.
    pub(crate) detail: Option<String>,
}

impl Netlink {
    /// A socket in the calling thread's namespace.
    pub(crate) fn here() -> Result<Self, NetlinkError> {
        let failed = |doing| move |source| NetlinkError::socket(doing, source);
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed("open"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed("connect"))?;
        // Errors come without the request that they are about, and with the kernel's own words.
        socket.set_cap_ack(true).map_err(failed("set CAP_ACK"))?;
        socket.set_ext_ack(true).map_err(failed("set EXT_ACK"))?;
        let mut netlink = Self { socket, sequence: 1 };
        netlink.receive_buffer(RECEIVE_BUFFER)?;
        Ok(netlink)
    }

    /// Sets how much the kernel may queue for us.
    pub(crate) fn receive_buffer(&mut self, bytes: usize) -> Result<(), NetlinkError> {
        match setsockopt(&self.socket, sockopt::RcvBufForce, &bytes) {
            // Inside a user namespace: as much as everybody may have.
            Err(Errno::EPERM) => setsockopt(&self.socket, sockopt::RcvBuf, &bytes),
            other => other,
        }
        .map_err(|error| NetlinkError::socket("set SO_RCVBUF", error.into()))
    }

    /// Sets how much may be sent at once: only a limit, nothing is set aside.
    fn send_buffer(&mut self, bytes: usize) -> Result<(), NetlinkError> {
        match setsockopt(&self.socket, sockopt::SndBufForce, &bytes) {
            Err(Errno::EPERM) => setsockopt(&self.socket, sockopt::SndBuf, &bytes),
            other => other,
        }
        .map_err(|error| NetlinkError::socket("set SO_SNDBUF", error.into()))
    }

    /// A socket in a namespace.
    pub(crate) fn open(namespace: &NetNs) -> Result<Self, NetlinkError> {
        namespace.run(Self::here)?
    }

    /// The next `count` sequence numbers; the first is given.
    pub(crate) fn take_sequence(&mut self, count: usize) -> u32 {
        let first = self.sequence;
        // Numbers may come round again: only those of one request must differ.
        self.sequence = first.wrapping_add(count as u32).max(1);
        first
    }

    /// Sends a request whose answers are yet to be read.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), NetlinkError> {
        // The kernel counts its own structures too.
        self.send_buffer(bytes.len() * 2 + (64 << 10))?;
        for _ in 0..INTERRUPTIONS {
            match self.socket.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    return Err(NetlinkError::TooLarge { bytes: bytes.len(), source: error });
                }
                Err(error) => return Err(NetlinkError::socket("send", error)),
            }
        }
        Err(NetlinkError::Silent { doing: "send" })
    }

    /// Reads what the kernel has queued, without waiting: it answers before `send` returns. `None` where there is
    /// nothing more.
    pub(crate) fn receive<'a>(&self, room: &'a mut Room) -> Result<Option<&'a [u8]>, NetlinkError> {
        let Room(buffer) = room;
        for _ in 0..INTERRUPTIONS {
            buffer.clear();
            // With MSG_TRUNC the kernel tells the datagram's own length, whatever room there is.
            let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
            match self.socket.recv(buffer, flags) {
                Ok(length) if length > buffer.len() => {
                    let cut = io::Error::from_raw_os_error(libc::EMSGSIZE);
                    return Err(NetlinkError::socket("receive", cut));
                }
                Ok(_) => return Ok(Some(buffer)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(NetlinkError::socket("receive", error)),
            }
        }
        Err(NetlinkError::Silent { doing: "receive" })
    }

    /// Throws away what an earlier, broken off exchange left.
    pub(crate) fn drain(&mut self) {
        let mut room = Room::new();
        loop {
            match self.receive(&mut room) {
                Ok(Some(_)) => {}
                Err(error) if error.is_overrun() => {}
                _ => return,
            }
        }
    }

    /// Sends requests together that are answered only where they fail; says how many failed with `expected`.
    pub(crate) fn tell<'a>(
        &mut self,
        doing: &'static str,
        requests: impl Iterator<Item = Request<'a>>,
        expected: i32,
    ) -> Result<usize, NetlinkError> {
        self.drain();
        let first = self.sequence;
        let mut bytes = Vec::new();
        for request in requests {
            let sequence = self.take_sequence(1);
            bytes.extend(request.bytes(sequence));
        }
        let count = self.sequence.wrapping_sub(first);
        self.send(&bytes)?;
        let (mut failed, mut room) = (0, Room::new());
        loop {
            let datagram = match self.receive(&mut room) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return Ok(failed),
                // There was no room for every error.
                Err(error) if error.is_overrun() => continue,
                Err(error) => return Err(error),
            };
            for message in messages(datagram) {
                if message.kind != abi::NLMSG_ERROR || message.sequence.wrapping_sub(first) >= count {
                    continue;
                }
                match answer(&message) {
                    Some(Answer { code: 0, .. }) | None => {}
                    Some(Answer { code, .. }) if code == expected => failed += 1,
                    Some(Answer { code, .. }) => return Err(NetlinkError::refused(doing, code)),
                }
            }
        }
    }

    /// Sends one request and hands every message of its answer to `each`. A dump that the kernel says was disturbed
    /// gives `false`: some of what `each` saw may be missing or twice. So does one of which the socket had no room for a
    /// part.
    pub(crate) fn ask(
        &mut self,
        doing: &'static str,
        request: &Request<'_>,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<bool, NetlinkError> {
        self.drain();
        let sequence = self.take_sequence(1);
        self.send(&request.bytes(sequence))?;
        let (mut steady, mut overrun, mut room) = (true, false, Room::new());
        loop {
            let datagram = match self.receive(&mut room) {
                Ok(Some(datagram)) => datagram,
                Ok(None) if overrun && request.flags & abi::NLM_F_DUMP != 0 => return Ok(false),
                Ok(None) => return Err(NetlinkError::Silent { doing }),
                Err(error) if error.is_overrun() => {
                    (steady, overrun) = (false, true);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for message in messages(datagram) {
                if message.sequence != sequence {
                    continue;
                }
                steady &= message.flags & abi::NLM_F_DUMP_INTR == 0;
                match message.kind {
                    abi::NLMSG_DONE => {
                        return match done_code(&message) {
                            0 => Ok(steady),
                            code => Err(NetlinkError::refused(doing, code)),
                        };
                    }
                    abi::NLMSG_ERROR => {
                        return match answer(&message) {
                            Some(Answer { code: 0, .. }) => Ok(steady),
                            Some(Answer { code, .. }) => Err(NetlinkError::refused(doing, code)),
                            None => Err(NetlinkError::Silent { doing }),
                        };
                    }
                    _ => each(&message),
                }
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One request outside a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) subsystem: u16,
    pub(crate) kind: u16,
    /// Beside `NLM_F_REQUEST`. One of `NLM_F_DUMP` and `NLM_F_ACK`, so that the answer has an end.
    pub(crate) flags: u16,
    pub(crate) family: u8,
    pub(crate) resource: u16,
    pub(crate) attributes: &'a [(u16, &'a [u8])],
}

impl Request<'_> {
    fn bytes(&self, sequence: u32) -> Vec<u8> {
        let mut writer = Writer::default();
        let open = writer.message(Header {
            kind: self.subsystem << 8 | self.kind,
            flags: abi::NLM_F_REQUEST | self.flags,
            sequence,
            family: self.family,
            resource: self.resource,
        });
        for (kind, value) in self.attributes {
            writer.attribute(*kind, value);
        }
        writer.end_message(open);
        writer.finish()
    }
}

/// The answer that an error message carries.
pub(crate) fn answer(message: &Message<'_>) -> Option<Answer> {
    // The kernel's numbers are negative.
    let code = (u32_at(message.body, 0)? as i32).wrapping_neg();
    let mut detail = None;
    if message.flags & abi::NLM_F_ACK_TLVS != 0 {
        // After the error's number stands the header of the request, and where the kernel does not cap it the rest.
        let request = match message.flags & abi::NLM_F_CAPPED {
            0 if code != 0 => usize::try_from(u32_at(message.body, 4)?).ok()?,
            _ => abi::NLMSG_HEADER,
        };
        let rest = message.body.get(4_usize.checked_add(request)?.next_multiple_of(4)..).unwrap_or_default();
        detail = attributes(rest)
            .find(|attribute| attribute.kind == abi::NLMSGERR_ATTR_MSG)
            .map(|attribute: wire::Attribute<'_>| attribute.text());
    }
    Some(Answer { sequence: message.sequence, code, detail })
}

/// The error with which a dump ended, or 0.
fn done_code(message: &Message<'_>) -> i32 {
    u32_at(message.body, 0).map_or(0, |code| (code as i32).wrapping_neg())
}
