//! Frames on a UNIX stream socket: four octets with the length of a document, big-endian, then the document; with the
//! first octet there may come one descriptor.
//!
//! Nothing here blocks by itself: each operation says that it would have to wait. A caller with a runtime of its own
//! waits in its own way and calls [`Incoming::receive`] and [`Outgoing::send`] again; others use [`receive`] and
//! [`send`], which wait for the socket until a deadline. The socket's own mode does not matter.

use crate::wire::DOCUMENT_MAX;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// The octets of the length.
const HEADER: usize = 4;
/// How much is read at once: nobody gets memory for a document by announcing it.
const CHUNK: usize = 16 << 10;

/// A frame that has come.
#[derive(Debug)]
pub struct Frame {
    /// The document.
    pub document: Vec<u8>,
    /// The descriptor that came with it; close-on-exec.
    pub descriptor: Option<OwnedFd>,
}

/// A frame can't be received or sent.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The document is too long.
    #[error("a message of {0} octets, and at most {DOCUMENT_MAX} are allowed")]
    TooLong(usize),
    /// There is no document.
    #[error("an empty message")]
    Empty,
    /// More than one descriptor, or one in the midst of the frame.
    #[error("more descriptors than one")]
    Descriptors,
    /// The other side went away.
    #[error("the other side closed the connection in the midst of a message, or before one")]
    Closed,
    /// The deadline.
    #[error("the other side took too long")]
    Late,
    /// The system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for FrameError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// What one step of receiving or sending has come to.
#[derive(Debug)]
pub enum Step<T> {
    /// The socket has to be waited for.
    Wait,
    /// There is more; call again.
    More,
    /// All of it.
    Done(T),
}

/// A frame that is coming in.
#[derive(Debug, Default)]
pub struct Incoming {
    header: [u8; HEADER],
    had: usize,
    document: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

impl Incoming {
    /// Reads once. After [`Step::Done`], or an error, the next frame begins.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn receive(&mut self, socket: impl AsFd) -> Result<Step<Frame>, FrameError> {
        let result = self.step(socket.as_fd());
        if result.is_err() {
            *self = Self::default();
        }
        result
    }

    fn step(&mut self, socket: BorrowedFd<'_>) -> Result<Step<Frame>, FrameError> {
        if self.had < HEADER {
            let Some((read, descriptor)) = read(socket, &mut self.header[self.had..])? else { return Ok(Step::Wait) };
            if descriptor.is_some() && self.had > 0 {
                return Err(FrameError::Descriptors);
            }
            self.descriptor = self.descriptor.take().or(descriptor);
            self.had += read;
            if self.had == HEADER {
                match self.length() {
                    0 => return Err(FrameError::Empty),
                    long if long > DOCUMENT_MAX => return Err(FrameError::TooLong(long)),
                    _ => {}
                }
            }
            return Ok(Step::More);
        }
        let had = self.document.len();
        self.document.resize(self.length().min(had + CHUNK), 0);
        let got = read(socket, &mut self.document[had..]);
        self.document.truncate(had + got.as_ref().ok().and_then(Option::as_ref).map_or(0, |(read, _)| *read));
        match got? {
            None => Ok(Step::Wait),
            Some((_, Some(_))) => Err(FrameError::Descriptors),
            Some(_) if self.document.len() < self.length() => Ok(Step::More),
            Some(_) => {
                let done = std::mem::take(self);
                Ok(Step::Done(Frame { document: done.document, descriptor: done.descriptor }))
            }
        }
    }

    fn length(&self) -> usize {
        u32::from_be_bytes(self.header) as usize
    }
}

/// Reads once: the number of octets, never 0, and a descriptor if one came; `None` when there is nothing yet.
fn read(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<(usize, Option<OwnedFd>)>, FrameError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    // What did not fit the kernel has closed, and what is dropped here is closed too.
    if descriptors.len() > 1 || message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(FrameError::Descriptors);
    }
    if message.bytes == 0 {
        return Err(FrameError::Closed);
    }
    Ok(Some((message.bytes, descriptors.pop())))
}

/// A frame that is going out.
#[derive(Debug)]
pub struct Outgoing<'a> {
    octets: Vec<u8>,
    sent: usize,
    descriptor: Option<BorrowedFd<'a>>,
}

impl<'a> Outgoing<'a> {
    /// A frame with a document, and a descriptor of which the other side gets a copy.
    ///
    /// # Errors
    /// [`FrameError::TooLong`], [`FrameError::Empty`].
    pub fn new(document: &[u8], descriptor: Option<BorrowedFd<'a>>) -> Result<Self, FrameError> {
        match u32::try_from(document.len()) {
            Ok(0) => Err(FrameError::Empty),
            Ok(length) if document.len() <= DOCUMENT_MAX => {
                Ok(Self { octets: [&length.to_be_bytes(), document].concat(), sent: 0, descriptor })
            }
            _ => Err(FrameError::TooLong(document.len())),
        }
    }

    /// Writes once.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn send(&mut self, socket: impl AsFd) -> Result<Step<()>, FrameError> {
        let descriptors: Vec<_> = self.descriptor.iter().copied().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            // The space is made for just this.
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(socket, &[IoSlice::new(&self.octets[self.sent..])], &mut control, flags) {
            Ok(sent) => {
                // A descriptor goes with the first octet.
                self.descriptor = None;
                self.sent += sent;
                Ok(if self.sent < self.octets.len() { Step::More } else { Step::Done(()) })
            }
            Err(Errno::INTR) => Ok(Step::More),
            Err(Errno::AGAIN) => Ok(Step::Wait),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(FrameError::Closed),
            Err(error) => Err(error.into()),
        }
    }
}

/// Receives a frame, and waits for it until the deadline.
///
/// # Errors
/// [`FrameError`].
pub fn receive(socket: impl AsFd, deadline: Instant) -> Result<Frame, FrameError> {
    let socket = socket.as_fd();
    let mut incoming = Incoming::default();
    loop {
        match incoming.receive(socket)? {
            Step::Done(frame) => return Ok(frame),
            // After a part too, so that one who sends an octet at a time is held to the deadline.
            Step::More | Step::Wait => wait(socket, PollFlags::IN, deadline)?,
        }
    }
}

/// Sends a frame, and waits until the deadline for the other side to take it.
///
/// # Errors
/// [`FrameError`].
pub fn send(
    socket: impl AsFd,
    document: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
    deadline: Instant,
) -> Result<(), FrameError> {
    let socket = socket.as_fd();
    let mut outgoing = Outgoing::new(document, descriptor)?;
    while !matches!(outgoing.send(socket)?, Step::Done(())) {
        wait(socket, PollFlags::OUT, deadline)?;
    }
    Ok(())
}

fn wait(socket: BorrowedFd<'_>, events: PollFlags, deadline: Instant) -> Result<(), FrameError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(FrameError::Late);
    }
    let left = Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
    match poll(&mut [PollFd::new(&socket, events)], Some(&left)) {
        // At the deadline the next call says so; what came just before it is still read.
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
