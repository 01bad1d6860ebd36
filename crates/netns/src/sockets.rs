//! The sockets of a network namespace, with who made them, as the kernel lists them (`sock_diag(7)`).
//!
//! A namespace can hold sockets of processes that are none of its pod: whoever may enter it can leave one there. What
//! packet rules can do about them is little, so that they have to be known. [`list`] finds them, [`origin`] tells whose
//! they are.

mod message;
mod origin;

pub use origin::{Origin, foreign, origin};

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr};

use crate::cgroup::CgroupId;
use crate::error::{Error, Result};
use crate::ns::NetNs;
use message::Told;

/// Room for a datagram of a list; the kernel makes none that is longer.
const DATAGRAM: usize = 32 << 10;

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, MPTCP's subflows with it.
    Tcp,
    /// UDP.
    Udp,
    /// UDP-Lite.
    UdpLite,
    /// SCTP.
    Sctp,
    /// IP packets of whatever protocol (`SOCK_RAW`).
    Raw,
    /// Frames of a device (`AF_PACKET`).
    Packet,
}

impl Protocol {
    /// All of them, in their order.
    pub const ALL: [Protocol; 6] =
        [Protocol::Tcp, Protocol::Udp, Protocol::UdpLite, Protocol::Sctp, Protocol::Raw, Protocol::Packet];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::UdpLite => "UDP-Lite",
            Protocol::Sctp => "SCTP",
            Protocol::Raw => "raw IP",
            Protocol::Packet => "packet",
        })
    }
}

/// The state of a socket, in TCP's words (RFC 9293), which the kernel uses for every protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Connected; a datagram socket that is bound to one peer too.
    Established,
    /// Connecting.
    SynSent,
    /// Closed by this end.
    FinWait1,
    /// The same, and the other end knows.
    FinWait2,
    /// Not connected: what a datagram or raw socket is that takes from everybody.
    Close,
    /// Closed by the other end.
    CloseWait,
    /// Closed by the other end, then by this one.
    LastAck,
    /// Waiting for connections.
    Listen,
    /// Closed by both at once.
    Closing,
    /// Another one, by its number (`net/tcp_states.h`).
    Other(u8),
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// What it speaks.
    pub protocol: Protocol,
    /// Its own address and port; the unspecified address where it takes any. A raw socket's port is the number of its
    /// protocol. None for [`Protocol::Packet`]. IPv4 on an IPv6 socket is IPv4-mapped (RFC 4291).
    pub local: Option<SocketAddr>,
    /// Whom it is connected to.
    pub remote: Option<SocketAddr>,
    /// The index of the device to which it is bound.
    pub device: Option<u32>,
    /// Its state; none for [`Protocol::Packet`].
    pub state: Option<State>,
    /// The user who made it, as the caller's user namespace numbers it.
    pub uid: u32,
    /// The cgroup of the process that made it, at that moment. None where the kernel does not tell: before Linux 5.8, and
    /// for [`Protocol::Packet`].
    pub cgroup: Option<CgroupId>,
    /// The number that `/proc/PID/fd` shows; 0 where no process has it open any more.
    pub inode: u32,
}

/// Which sockets are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that take from everybody: that listen, or are not connected. The kernel then does not look through TCP's
    /// connections, which it keeps together for all namespaces.
    Open,
    /// All.
    All,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The sockets, those of [`Which::Open`] first. One that came, went or changed meanwhile may be missing or twice.
    pub sockets: Vec<Socket>,
    /// Whether these are all: no more than the limit, and each could be read.
    pub complete: bool,
    /// What the kernel can't list sockets of. It may have some all the same, but for protocols that it does not have at
    /// all (SCTP and UDP-Lite are often left out).
    pub missing: BTreeSet<Protocol>,
}

/// A `NETLINK_SOCK_DIAG` socket, which lists the sockets of one namespace. It stays in the namespace in which it was opened,
/// whichever thread uses it.
pub struct Sockets(Netlink);

impl Sockets {
    /// Opens the calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::SocketDiag`].
    pub fn current() -> Result<Self> {
        let open = || {
            let mut socket = Netlink::new(NETLINK_SOCK_DIAG)?;
            socket.bind_auto()?;
            socket.connect(&NetlinkAddr::new(0, 0))?;
            Ok(socket)
        };
        open().map(Self).map_err(Error::SocketDiag)
    }

    /// Lists them as [`list`] does.
    ///
    /// # Errors
    /// [`Error::SocketDiag`].
    pub fn list(&mut self, which: Which, limit: usize) -> Result<Listing> {
        let mut lister = Lister {
            socket: &mut self.0,
            sequence: 0,
            buffer: Vec::with_capacity(DATAGRAM),
            limit,
            listing: Listing { sockets: Vec::new(), complete: true, missing: BTreeSet::new() },
        };
        // First what can't be hidden behind a great many connections.
        let mut requests = message::open();
        if which == Which::All {
            requests.extend(message::held());
        }
        for request in requests {
            if !lister.ask(request)? {
                break;
            }
        }
        Ok(lister.listing)
    }
}

/// Lists the sockets of a namespace, at most `limit`. [`Which::Open`] takes a fraction of a millisecond; [`Which::All`] one
/// for each thousand connections or so that there are on the node, all pods' together.
///
/// Remains of connections which no process can have any more (`TIME_WAIT`, half-open ones) are left out.
///
/// # Errors
/// As [`NetNs::run`], and [`Error::SocketDiag`].
pub fn list(ns: &NetNs, which: Which, limit: usize) -> Result<Listing> {
    ns.run(Sockets::current)??.list(which, limit)
}

struct Lister<'s> {
    socket: &'s mut Netlink,
    sequence: u32,
    buffer: Vec<u8>,
    limit: usize,
    listing: Listing,
}

impl Lister<'_> {
    /// Whether there is room for more.
    fn ask(&mut self, request: message::Request) -> Result<bool> {
        self.sequence += 1;
        self.socket.send(&request.bytes(self.sequence), 0).map_err(Error::SocketDiag)?;
        loop {
            self.buffer.clear();
            // The kernel writes the next part of a list when the one before has been read: there is always one.
            let length = match self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::SocketDiag(error)),
            };
            // Not to be expected; but what is cut off must not be taken for nothing.
            self.listing.complete &= length <= self.buffer.len();
            let buffer = std::mem::take(&mut self.buffer);
            let next = self.take(&buffer, request);
            self.buffer = buffer;
            match next? {
                Next::More => {}
                Next::Done => return Ok(true),
                Next::Full => return Ok(false),
            }
        }
    }

    fn take(&mut self, datagram: &[u8], request: message::Request) -> Result<Next> {
        for told in message::read(datagram, self.sequence, request.protocol()) {
            match told {
                Told::Socket(_) if self.listing.sockets.len() >= self.limit => {
                    self.listing.complete = false;
                    return Ok(Next::Full);
                }
                Told::Socket(socket) => self.listing.sockets.push(socket),
                Told::Remains => {}
                Told::Unreadable => self.listing.complete = false,
                Told::Done => return Ok(Next::Done),
                // The kernel's words for "there is no such list": which one depends on its version.
                Told::Failed(libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT) => {
                    self.listing.missing.insert(request.protocol());
                    return Ok(Next::Done);
                }
                Told::Failed(code) => return Err(Error::SocketDiag(io::Error::from_raw_os_error(code))),
            }
        }
        Ok(Next::More)
    }
}

enum Next {
    More,
    Done,
    Full,
}
