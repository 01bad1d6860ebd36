//! What the rules log: the records of an NFLOG group.
//!
//! The kernel never waits for a reader: what its queue for the socket does not hold, it drops. The reader keeps one
//! datagram at most, and counts what was lost.

mod connection;
mod packet;
mod record;

pub use connection::Connection;
pub use packet::{Icmp, Packet, Ports};
pub use record::{LogPoint, LogRecord, parse};

use crate::abi;
use crate::error::NetlinkError;
use crate::netlink::{Netlink, Request, Room};
use crate::wire::messages;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sidewall_netns::NetNs;
use sidewall_policy::ruleset::Statement;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

/// How much of a packet is copied: IPv6 with some extension headers and the transport header.
const COPY: u32 = 256;
/// How much the kernel queues before it drops records: some thousand. It never waits for a reader.
const QUEUE: usize = 1 << 20;

/// Something that a log group told.
#[derive(Clone, Debug, PartialEq)]
pub enum LogEvent {
    /// A packet met a log statement of ours.
    Record(LogRecord),
    /// The kernel dropped so many records, because they were not read fast enough.
    Lost(u32),
    /// A record that no rule of ours wrote: its prefix is not the name of a decision.
    Foreign,
}

/// What a [`LogReader`] knows of records that did not reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Losses {
    /// Records that are missing in the kernel's own numbering. Those after the last record that was read are not known
    /// yet: the next one tells.
    pub records: u64,
    /// How often the kernel found its queue for this reader full (`ENOBUFS`); each time, one record or more was lost.
    pub overruns: u64,
    /// Records that were read, but whose prefix names no decision of ours.
    pub foreign: u64,
}

/// Reads the records of one log group of one network namespace.
///
/// It can be polled for reading ([`AsFd`]). A group has one reader; when it is dropped the kernel forgets the group.
#[derive(Debug)]
pub struct LogReader {
    netlink: Netlink,
    queue: VecDeque<LogEvent>,
    /// The number of the next record, if none is lost.
    expected: u32,
    losses: Losses,
    connections: bool,
}

impl LogReader {
    /// Reads a group in a namespace; the rules use [`Statement::LOG_GROUP`].
    ///
    /// # Errors
    /// [`NetlinkError::GroupTaken`] where another program reads it; others where the namespace or netfilter cannot be
    /// reached.
    pub fn open(namespace: &NetNs, group: u16) -> Result<Self, NetlinkError> {
        Self::bind(Netlink::open(namespace)?, group)
    }

    /// Reads the group of our rules in the calling thread's namespace.
    ///
    /// # Errors
    /// As [`LogReader::open`].
    pub fn here() -> Result<Self, NetlinkError> {
        Self::bind(Netlink::here()?, Statement::LOG_GROUP)
    }

    fn bind(mut netlink: Netlink, group: u16) -> Result<Self, NetlinkError> {
        netlink.receive_buffer(QUEUE)?;
        let connections = match configure(&mut netlink, group, abi::NFULNL_CFG_F_SEQ | abi::NFULNL_CFG_F_CONNTRACK) {
            // A kernel without the glue between log and conntrack.
            Err(error) if matches!(error.code(), Some(libc::EOPNOTSUPP | libc::EAGAIN)) => {
                configure(&mut netlink, group, abi::NFULNL_CFG_F_SEQ)?;
                false
            }
            asked => asked.map(|()| true)?,
        };
        // The numbers of a new group begin with 0.
        Ok(Self { netlink, queue: VecDeque::new(), expected: 0, losses: Losses::default(), connections })
    }

    /// The next event, waiting for one at most so long; `None` where there was none.
    ///
    /// # Errors
    /// [`NetlinkError`] where the socket fails. Records that were lost are an event, no error.
    pub fn next(&mut self, patience: Duration) -> Result<Option<LogEvent>, NetlinkError> {
        if self.queue.is_empty() {
            self.fill()?;
        }
        if self.queue.is_empty() && !patience.is_zero() {
            let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
            let mut waiting = [PollFd::new(self.netlink.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(NetlinkError::socket("poll", error.into())),
            }
            self.fill()?;
        }
        Ok(self.queue.pop_front())
    }

    /// How often the kernel's queue was full. The records that were lost then are told with the next one that is not.
    pub fn overruns(&self) -> u64 {
        self.losses.overruns
    }

    /// What was lost since the reader was opened.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// Whether the kernel tells the connection of a packet ([`LogRecord::connection`]): one that was built with
    /// `CONFIG_NETFILTER_NETLINK_GLUE_CT` does.
    pub fn tells_connections(&self) -> bool {
        self.connections
    }

    /// Reads one datagram, if there is one.
    fn fill(&mut self) -> Result<(), NetlinkError> {
        let now = SystemTime::now();
        let mut room = Room::new();
        let datagram = match self.netlink.receive(&mut room) {
            Ok(Some(datagram)) => datagram,
            Ok(None) => return Ok(()),
            Err(error) if error.is_overrun() => {
                self.losses.overruns += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for message in messages(datagram) {
            if message.kind != abi::NFNL_SUBSYS_ULOG << 8 | abi::NFULNL_MSG_PACKET {
                continue;
            }
            let sequence = message.attributes().find(|attribute| attribute.kind == abi::NFULA_SEQ);
            if let Some(sequence) = sequence.and_then(|attribute| attribute.number()) {
                let lost = sequence.wrapping_sub(self.expected);
                if lost > 0 {
                    self.losses.records += u64::from(lost);
                    self.queue.push_back(LogEvent::Lost(lost));
                }
                self.expected = sequence.wrapping_add(1);
            }
            self.queue.push_back(match record::read(&message) {
                Some(mut record) => {
                    record.time.get_or_insert(now);
                    LogEvent::Record(record)
                }
                None => {
                    self.losses.foreign += 1;
                    LogEvent::Foreign
                }
            });
        }
        Ok(())
    }
}

impl AsFd for LogReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }
}

/// Takes the group, all in one message: the kernel does all of it or refuses.
fn configure(netlink: &mut Netlink, group: u16, flags: u16) -> Result<(), NetlinkError> {
    let mut mode = COPY.to_be_bytes().to_vec();
    mode.extend([abi::NFULNL_COPY_PACKET, 0]);
    // The kernel holds records back to send several at once, unless it is told to send each.
    let each = 1_u32.to_be_bytes();
    let asked = netlink.ask(
        "read a log group",
        &Request {
            subsystem: abi::NFNL_SUBSYS_ULOG,
            kind: abi::NFULNL_MSG_CONFIG,
            flags: abi::NLM_F_ACK,
            family: abi::NFPROTO_UNSPEC,
            resource: group,
            attributes: &[
                (abi::NFULA_CFG_CMD, &[abi::NFULNL_CFG_CMD_BIND]),
                (abi::NFULA_CFG_MODE, &mode),
                (abi::NFULA_CFG_QTHRESH, &each),
                (abi::NFULA_CFG_FLAGS, &flags.to_be_bytes()),
            ],
        },
        |_| {},
    );
    match asked {
        Ok(_) => Ok(()),
        // The kernel's word for a group of another socket is EPERM; with privilege it can't mean anything else.
        Err(error) if matches!(error.code(), Some(libc::EBUSY | libc::EEXIST | libc::EPERM)) => {
            Err(NetlinkError::GroupTaken { group })
        }
        Err(error) => Err(error),
    }
}
