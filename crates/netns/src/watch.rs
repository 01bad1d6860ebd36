//! Notices when links or addresses of a namespace change, without asking again and again.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use crate::error::{Error, Result};
use crate::ns::NetNs;

/// How much the kernel may queue for a watch, in octets (it doubles that, for its own structures): about a dozen links,
/// or forty addresses. What is more is lost, which is told, so that it counts as a change.
const RECEIVE_BUFFER: usize = 16 << 10;
/// The most datagrams that one [`LinkWatch::drain`] takes: more than the queue holds.
const DRAIN_MAX: usize = 256;

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR` of `linux/rtnetlink.h`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// Tells when a link or an address of one namespace came, went or changed; [`crate::Links::devices`] then tells what there
/// is.
///
/// It can be polled for reading ([`AsFd`], [`AsRawFd`]). One descriptor, and nothing to be done while nothing changes.
/// Like every socket it keeps its namespace alive: drop it when the pod ends.
#[derive(Debug)]
pub struct LinkWatch {
    socket: Socket,
}

/// What happened since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Happened {
    /// Something changed, or may have.
    pub changed: bool,
    /// Some of it was lost, because it was not read fast enough; then `changed` is true.
    pub lost: bool,
    /// There is more to be read: look again before waiting.
    pub more: bool,
}

impl LinkWatch {
    /// Watches a namespace from now on.
    ///
    /// # Errors
    /// As [`NetNs::run`], and [`Error::Netlink`].
    pub fn open(ns: &NetNs) -> Result<LinkWatch> {
        ns.run(LinkWatch::current)?
    }

    /// Watches the calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn current() -> Result<LinkWatch> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(Error::Netlink)?;
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER).map_err(|e| Error::Netlink(e.into()))?;
        socket.bind(&SocketAddr::new(0, GROUPS)).map_err(Error::Netlink)?;
        Ok(LinkWatch { socket })
    }

    /// What happened since the last call. Never waits.
    pub fn drain(&mut self) -> Happened {
        let mut happened = Happened::default();
        // What the messages say is not looked at: after a loss it would not be the whole truth, and the truth can be
        // asked for. The kernel throws away what there is no room for.
        let mut nothing = [0_u8; 1];
        for _ in 0..DRAIN_MAX {
            match self.socket.recv(&mut &mut nothing[..], libc::MSG_DONTWAIT) {
                Ok(_) => happened.changed = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return happened,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // ENOBUFS: the queue was full. There is no other, and if there were, nobody would know what it hides.
                Err(_) => (happened.changed, happened.lost) = (true, true),
            }
        }
        happened.more = true;
        happened
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for LinkWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
