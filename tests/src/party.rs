//! Processes that make sockets under an identity, and hand them over.

use crate::greeter;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, Protocol, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::num::NonZeroU32;

/// What a party is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A socket.
    Socket {
        /// `AF_INET` and its like.
        family: u16,
        /// `SOCK_STREAM` and its like.
        kind: u32,
        /// The protocol's number; 0 is the kind's own.
        protocol: u32,
    },
    /// Several sockets, at most [`SOCKETS_MAX`].
    Sockets {
        /// `AF_INET` and its like.
        family: u16,
        /// `SOCK_STREAM` and its like.
        kind: u32,
        /// The protocol's number; 0 is the kind's own.
        protocol: u32,
        /// How many.
        count: u8,
    },
    /// To greet from now on whoever comes to an address, over every transport there is.
    Greet {
        /// What a greeting consists of.
        who: u8,
        /// Where.
        at: SocketAddr,
    },
    /// To accept a connection on the listener that comes with the request: the accepted socket is the acceptor's.
    Accept,
    /// To take another user from now on.
    SetUid(u32),
}

/// The most sockets that are asked for at once.
pub const SOCKETS_MAX: u8 = 64;

/// What a party says when it has closed its own descriptor of the socket that it sent.
const LET_GO: &[u8] = b"closed";

/// The identity of a socket is that of its maker: this is the maker.
#[derive(Debug)]
pub struct Maker {
    control: OwnedFd,
}

impl Maker {
    /// Speaks to a party through its control socket.
    pub fn new(control: OwnedFd) -> Self {
        Self { control }
    }

    /// A pair of control sockets: ours, and the party's standard input.
    ///
    /// # Errors
    /// The system's.
    pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
    }

    /// A socket of this party.
    ///
    /// # Errors
    /// The party's.
    pub fn socket(&self, family: AddressFamily, kind: SocketType, protocol: u32) -> io::Result<OwnedFd> {
        let request = Request::Socket { family: family.as_raw(), kind: kind.as_raw(), protocol };
        self.ask(request, None)?.ok_or_else(|| io::Error::other("the party sent no socket"))
    }

    /// Several sockets of this party, at most [`SOCKETS_MAX`].
    ///
    /// # Errors
    /// The party's.
    pub fn sockets(
        &self,
        family: AddressFamily,
        kind: SocketType,
        protocol: u32,
        count: u8,
    ) -> io::Result<Vec<OwnedFd>> {
        let request = Request::Sockets { family: family.as_raw(), kind: kind.as_raw(), protocol, count };
        self.ask_many(request, None)
    }

    /// Lets this party greet whoever comes to an address.
    ///
    /// # Errors
    /// The party's.
    pub fn greet(&self, who: u8, at: SocketAddr) -> io::Result<()> {
        self.ask(Request::Greet { who, at }, None).map(|_| ())
    }

    /// Lets this party accept a connection that is waiting.
    ///
    /// # Errors
    /// The party's; [`io::ErrorKind::WouldBlock`] where none is waiting.
    pub fn accept(&self, listener: &impl AsFd) -> io::Result<OwnedFd> {
        self.ask(Request::Accept, Some(listener.as_fd()))?.ok_or_else(|| io::Error::other("the party sent no socket"))
    }

    /// Lets this party take another user.
    ///
    /// # Errors
    /// The party's, for example without CAP_SETUID.
    pub fn set_uid(&self, uid: u32) -> io::Result<()> {
        self.ask(Request::SetUid(uid), None).map(|_| ())
    }

    fn ask(&self, request: Request, fd: Option<BorrowedFd<'_>>) -> io::Result<Option<OwnedFd>> {
        Ok(self.ask_many(request, fd)?.pop())
    }

    fn ask_many(&self, request: Request, fd: Option<BorrowedFd<'_>>) -> io::Result<Vec<OwnedFd>> {
        send(&self.control, &serde_json::to_vec(&request)?, fd)?;
        let (answer, fds) = receive_many(&self.control)?;
        // The party has let go of its own descriptor when it says so: from then on ours alone keeps the socket open.
        receive(&self.control)?;
        match serde_json::from_slice::<Result<(), i32>>(&answer)? {
            Ok(()) => Ok(fds),
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Serves requests until the control socket is closed.
///
/// # Errors
/// Where the control socket does not work.
pub fn serve(control: impl AsFd) -> io::Result<()> {
    loop {
        let (request, fd) = receive(&control)?;
        if request.is_empty() {
            return Ok(());
        }
        let request: Request = serde_json::from_slice(&request)?;
        let made = carry_out(request, fd);
        let answer: Result<(), i32> =
            made.as_ref().map(|_| ()).map_err(|error| error.raw_os_error().unwrap_or_default());
        let fds: Vec<_> = made.iter().flatten().map(AsFd::as_fd).collect();
        send_many(&control, &serde_json::to_vec(&answer)?, &fds)?;
        drop(made);
        send(&control, LET_GO, None)?;
    }
}

fn carry_out(request: Request, fd: Option<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
    let socket = |family: u16, kind: u32, protocol: u32| -> io::Result<OwnedFd> {
        let (family, kind) = (AddressFamily::from_raw(family), SocketType::from_raw(kind));
        let protocol = NonZeroU32::new(protocol).map(Protocol::from_raw);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(rustix::net::socket_with(family, kind, flags, protocol)?)
    };
    match request {
        Request::Socket { family, kind, protocol } => Ok(vec![socket(family, kind, protocol)?]),
        Request::Sockets { family, kind, protocol, count } => {
            (0..count.min(SOCKETS_MAX)).map(|_| socket(family, kind, protocol)).collect()
        }
        Request::Greet { who, at } => {
            greeter::start(who, at)?;
            Ok(Vec::new())
        }
        Request::Accept => {
            let listener = fd.ok_or_else(|| io::Error::from_raw_os_error(9))?;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            Ok(vec![rustix::net::accept_with(&listener, flags)?])
        }
        Request::SetUid(uid) => {
            let uid = rustix::process::Uid::from_raw(uid);
            rustix::thread::set_thread_uid(uid)?;
            Ok(Vec::new())
        }
    }
}

/// Sends a message, and a descriptor with it.
///
/// # Errors
/// The system's.
pub fn send(socket: &impl AsFd, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    send_many(socket, message, fd.as_slice())
}

fn send_many(socket: &impl AsFd, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX as usize))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a message, and the descriptor that came with it.
///
/// # Errors
/// The system's.
pub fn receive(socket: &impl AsFd) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let (message, mut fds) = receive_many(socket)?;
    Ok((message, fds.pop()))
}

fn receive_many(socket: &impl AsFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut message = [0; 512];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX as usize))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut message)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((message[..received.bytes].to_vec(), fds))
}
