//! Processes that make sockets under an identity, and hand them over.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, Protocol, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};
use std::io;
use std::mem::MaybeUninit;
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
    /// To accept a connection on the listener that comes with the request: the accepted socket is the acceptor's.
    Accept,
    /// To take another user from now on.
    SetUid(u32),
}

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
        send(&self.control, &serde_json::to_vec(&request)?, fd)?;
        let (answer, fd) = receive(&self.control)?;
        // The party has let go of its own descriptor when it says so: from then on ours alone keeps the socket open.
        receive(&self.control)?;
        match serde_json::from_slice::<Result<(), i32>>(&answer)? {
            Ok(()) => Ok(fd),
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
        let fd = made.as_ref().ok().and_then(Option::as_ref).map(AsFd::as_fd);
        send(&control, &serde_json::to_vec(&answer)?, fd)?;
        drop(made);
        send(&control, LET_GO, None)?;
    }
}

fn carry_out(request: Request, fd: Option<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match request {
        Request::Socket { family, kind, protocol } => {
            let (family, kind) = (AddressFamily::from_raw(family), SocketType::from_raw(kind));
            let protocol = NonZeroU32::new(protocol).map(Protocol::from_raw);
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            Ok(Some(rustix::net::socket_with(family, kind, flags, protocol)?))
        }
        Request::Accept => {
            let listener = fd.ok_or_else(|| io::Error::from_raw_os_error(9))?;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            Ok(Some(rustix::net::accept_with(&listener, flags)?))
        }
        Request::SetUid(uid) => {
            let uid = rustix::process::Uid::from_raw(uid);
            rustix::thread::set_thread_uid(uid)?;
            Ok(None)
        }
    }
}

/// Sends a message, and a descriptor with it.
///
/// # Errors
/// The system's.
pub fn send(socket: &impl AsFd, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
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
    let mut message = [0; 512];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut message)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((message[..received.bytes].to_vec(), fds.pop()))
}
