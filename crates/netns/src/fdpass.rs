//! A descriptor over a UNIX socket (SCM_RIGHTS), owned at both ends.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Sends a copy of `fd`.
///
/// # Errors
/// The kernel's.
pub fn send_fd(over: &UnixStream, fd: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [fd.as_raw_fd()];
    // A stream needs at least one byte of data to carry the descriptor.
    let data = [IoSlice::new(b"f")];
    sendmsg::<()>(over.as_raw_fd(), &data, &[ControlMessage::ScmRights(&fds)], MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one descriptor; it is close-on-exec.
///
/// # Errors
/// The kernel's; `InvalidData` when no descriptor came.
pub fn receive_fd(over: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let message = recvmsg::<()>(over.as_raw_fd(), &mut data, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut received = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                // SAFETY: the kernel has just made this descriptor for us; nobody else owns it. Others than the last are
                // closed by being replaced.
                received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    received.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no descriptor came"))
}
