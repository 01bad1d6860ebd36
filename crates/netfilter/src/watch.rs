//! Notices when anybody changes nftables of a network namespace, without asking again and again.
//!
//! The kernel announces every transaction to who listens, and says last which number the tables have after it and who made
//! it ([`Transaction`]). That one message is all that is queued here; the many before it, one for each rule and element,
//! are dropped before they are.

use crate::abi;
use crate::error::NetlinkError;
use crate::wire::{Message, messages};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use sidewall_netns::NetNs;
use socket2::{SockFilter, SockRef};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// How much the kernel may queue for a watch, in octets (it doubles that, for its own structures): about forty
/// transactions. What is more is lost, which is told, so that it counts as a change.
const RECEIVE_BUFFER: usize = 16 << 10;
/// Longer than any message that the filter lets pass: the number, a process id and a name of 15 octets.
const DATAGRAM: usize = 256;
/// The most datagrams that one [`Watch::drain`] takes: more than the queue holds.
const DRAIN_MAX: usize = 256;
/// The message type that ends a transaction.
const NEWGEN: u16 = abi::NFNL_SUBSYS_NFTABLES << 8 | abi::NFT_MSG_NEWGEN;

/// Tells when nftables of one namespace changed: tables, chains, rules, sets, elements, of whatever family, whoever did it.
///
/// It can be polled for reading ([`AsFd`], [`AsRawFd`]). One descriptor, and nothing to be done while nothing changes.
/// Like every socket it keeps its namespace alive: drop it when the pod ends.
///
/// Not told are changes without a transaction: a device that goes away, and its hook with it (rtnetlink tells that),
/// and the old tables of `iptables-legacy`, which are no nftables.
///
/// Transactions of one's own are told too. Against them helps [`Transaction::generation`], which is what
/// [`crate::Kernel::nft_generation`] says after them, or asking for that number again: either costs a few microseconds.
/// While somebody listens the kernel writes its messages, whether or not they are dropped afterwards: loading 20,000
/// elements takes about a third longer.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    buffer: Vec<u8>,
}

/// What happened since the last look.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Happened {
    /// Something changed, or may have.
    pub changed: bool,
    /// Some of it was lost, because it was not read fast enough; then `changed` is true.
    pub lost: bool,
    /// There is more to be read: look again before waiting.
    pub more: bool,
    /// The last transaction that was told. After a loss it may not be the last one that there was.
    pub last: Option<Transaction>,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The number of the tables after it, as [`crate::Kernel::nft_generation`] says it.
    pub generation: u32,
    /// The thread that made it, in the first PID namespace's numbers; 0 where the kernel does not say.
    pub thread: u32,
    /// That thread's name as it calls itself, at most 15 octets, without control characters: a hint for people.
    pub program: String,
}

impl Watch {
    /// Watches a namespace from now on.
    ///
    /// # Errors
    /// [`NetlinkError`] where the namespace cannot be entered, or netfilter is not there.
    pub fn open(namespace: &NetNs) -> Result<Self, NetlinkError> {
        namespace.run(Self::here)?
    }

    /// Watches the calling thread's namespace.
    ///
    /// # Errors
    /// As [`Watch::open`].
    pub fn here() -> Result<Self, NetlinkError> {
        let failed = |doing| move |source| NetlinkError::socket(doing, source);
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed("open"))?;
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER).map_err(|e| failed("set SO_RCVBUF")(e.into()))?;
        // Before the first message can come.
        SockRef::from(&socket).attach_filter(&filter()).map_err(failed("set SO_ATTACH_FILTER"))?;
        socket.bind(&SocketAddr::new(0, 1 << (abi::NFNLGRP_NFTABLES - 1))).map_err(failed("bind"))?;
        Ok(Self { socket, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// What happened since the last call. Never waits.
    pub fn drain(&mut self) -> Happened {
        let mut happened = Happened::default();
        for _ in 0..DRAIN_MAX {
            self.buffer.clear();
            match self.socket.recv_from(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok((_, sender)) => {
                    happened.changed = true;
                    // Who has CAP_NET_ADMIN in there may send what looks the same; the kernel's own number is 0.
                    if sender.port_number() == 0 {
                        let told = messages(&self.buffer).find_map(|message| read(&message));
                        happened.last = told.or(happened.last);
                    }
                }
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

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Lets through what ends a transaction, and nothing else. Classic BPF: it runs when a message is about to be queued.
fn filter() -> [SockFilter; 4] {
    // `nlmsg_type` stands behind the length. The program reads octets in network order; the kernel writes its own.
    const TYPE_AT: u32 = 4;
    let newgen = u32::from(u16::from_be_bytes(NEWGEN.to_ne_bytes()));
    let code = |parts: u32| parts as u16;
    [
        SockFilter::new(code(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS), 0, 0, TYPE_AT),
        SockFilter::new(code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K), 0, 1, newgen),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, u32::MAX),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, 0),
    ]
}

fn read(message: &Message<'_>) -> Option<Transaction> {
    if message.kind != NEWGEN {
        return None;
    }
    let attribute = |kind| message.attributes().find(move |attribute| attribute.kind == kind);
    let program = attribute(abi::NFTA_GEN_PROC_NAME).map(|attribute| attribute.text()).unwrap_or_default();
    Some(Transaction {
        generation: attribute(abi::NFTA_GEN_ID)?.number()?,
        thread: attribute(abi::NFTA_GEN_PROC_PID).and_then(|attribute| attribute.number()).unwrap_or(0),
        program: program.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Header, Writer};

    fn newgen(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        let open = writer.message(Header { kind: NEWGEN, flags: 0, sequence: 0, family: 0, resource: 1 });
        write(&mut writer);
        writer.end_message(open);
        writer.finish()
    }

    fn told(octets: &[u8]) -> Option<Transaction> {
        messages(octets).find_map(|message| read(&message))
    }

    #[test]
    fn a_transaction_is_read() {
        let octets = newgen(|writer| {
            writer.number(abi::NFTA_GEN_ID, 7);
            writer.number(abi::NFTA_GEN_PROC_PID, 4711);
            writer.string(abi::NFTA_GEN_PROC_NAME, "nft\n");
        });
        let transaction = Transaction { generation: 7, thread: 4711, program: "nft\u{fffd}".into() };
        assert_eq!(told(&octets), Some(transaction));
        let old = newgen(|writer| writer.number(abi::NFTA_GEN_ID, 7));
        assert_eq!(told(&old), Some(Transaction { generation: 7, thread: 0, program: String::new() }));
        for cut in 0..old.len() {
            assert_eq!(told(&old[..cut]), None);
        }
    }
}
