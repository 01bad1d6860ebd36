//! Flows with real sockets: opening one, and finding out what became of it.

use crate::party::Maker;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, sockopt};
use sidewall_flow::Protocol;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

/// How long an address may take to become free.
const LIMIT: Duration = Duration::from_secs(5);

/// What a sender sends, and a receiver sends back.
pub const PAYLOAD: &[u8] = b"sidewall";

/// The family of an address.
pub fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// Tries until the address is not in use: the last flow there may still be ending, and a process that was forked meanwhile
/// holds what has been closed here until its program runs.
///
/// # Errors
/// The attempt's; that the address is in use only where it stays so.
pub fn when_free<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + LIMIT;
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}

/// A listener (TCP) or a bound socket (UDP) of a party, as soon as nobody else listens there.
///
/// # Errors
/// The system's.
pub fn listen(maker: &Maker, protocol: Protocol, at: SocketAddr) -> io::Result<OwnedFd> {
    when_free(|| {
        let socket = make(maker, protocol, at.ip())?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if at.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        sockopt::set_ip_freebind(&socket, true)?;
        rustix::net::bind(&socket, &at)?;
        if protocol == Protocol::Tcp {
            rustix::net::listen(&socket, 16)?;
        }
        Ok(socket)
    })
}

/// A socket of a party, bound to a source, that has begun to connect. Of an unspecified address or port in the source
/// the kernel chooses one.
///
/// # Errors
/// The system's, where it refuses at once: that is a verdict too.
pub fn open(maker: &Maker, protocol: Protocol, source: SocketAddr, to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = make(maker, protocol, to.ip())?;
    sockopt::set_ip_freebind(&socket, true)?;
    rustix::net::bind(&socket, &source)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    if protocol == Protocol::Udp {
        rustix::net::send(&socket, PAYLOAD, SendFlags::NOSIGNAL)?;
    }
    Ok(socket)
}

fn make(maker: &Maker, protocol: Protocol, address: IpAddr) -> io::Result<OwnedFd> {
    let kind = if protocol == Protocol::Udp { SocketType::DGRAM } else { SocketType::STREAM };
    let socket = maker.socket(family(address), kind, 0)?;
    if protocol == Protocol::Tcp {
        // An end of a flow that leaves no TIME_WAIT behind: the next test finds the port free.
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    }
    Ok(socket)
}

/// What a socket's pending error is, if any.
///
/// # Errors
/// The system's.
pub fn pending_error(socket: &OwnedFd) -> io::Result<Option<Errno>> {
    Ok(sockopt::socket_error(socket)?.err())
}

/// What has arrived, without waiting: `None` where nothing has.
///
/// # Errors
/// The socket's pending error among others.
pub fn arrived(socket: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = [0u8; 128];
    match rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
        Ok((length, _)) => Ok(Some(buffer[..length].to_vec())),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Answers whatever has arrived at a bound UDP socket; says whether anything had.
///
/// # Errors
/// The system's.
pub fn echo(socket: &OwnedFd) -> io::Result<bool> {
    let mut buffer = [0u8; 128];
    match rustix::net::recvfrom(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
        Ok((length, _, Some(from))) => {
            rustix::net::sendto(socket, &buffer[..length], SendFlags::NOSIGNAL, &from)?;
            Ok(true)
        }
        Ok(_) | Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sends on a connected socket.
///
/// # Errors
/// The system's.
pub fn send(socket: &OwnedFd, data: &[u8]) -> io::Result<()> {
    rustix::net::send(socket, data, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits until a socket can be read or has an error, at most so long; says whether it can.
///
/// # Errors
/// The system's.
pub fn readable(socket: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let mut fds = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    Ok(rustix::event::poll(&mut fds, Some(&limit))? > 0)
}

/// Waits until a connecting socket has connected or failed, at most so long; says whether it has done either.
///
/// # Errors
/// The system's.
pub fn decided(socket: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let mut fds = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::OUT)];
    let limit = rustix::event::Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    Ok(rustix::event::poll(&mut fds, Some(&limit))? > 0)
}
