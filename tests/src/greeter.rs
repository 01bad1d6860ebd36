//! Servers that greet whoever comes, so that a client learns whom it has reached.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use std::io;
use std::net::SocketAddr;

/// How many connections may wait.
const BACKLOG: i32 = 256;

/// What listens at one address.
struct Greeter {
    who: u8,
    listeners: Vec<OwnedFd>,
    datagrams: OwnedFd,
}

/// Greets at an address from now on, over TCP, UDP and, where the kernel has it, SCTP.
///
/// # Errors
/// Where the address cannot be had.
pub fn start(who: u8, at: SocketAddr) -> io::Result<()> {
    let mut listeners = vec![bound(SocketType::STREAM, None, at)?];
    match bound(SocketType::STREAM, Some(ipproto::SCTP), at) {
        Ok(listener) => listeners.push(listener),
        Err(error) if error.raw_os_error() == Some(Errno::PROTONOSUPPORT.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    for listener in &listeners {
        rustix::net::listen(listener, BACKLOG)?;
    }
    let greeter = Greeter { who, listeners, datagrams: bound(SocketType::DGRAM, None, at)? };
    std::thread::Builder::new().name(format!("greeter {at}")).spawn(move || {
        if let Err(error) = greeter.run() {
            eprintln!("greeter at {at}: {error}");
            std::process::exit(1);
        }
    })?;
    Ok(())
}

fn bound(kind: SocketType, protocol: Option<Protocol>, at: SocketAddr) -> io::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, protocol)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &at)?;
    Ok(socket)
}

impl Greeter {
    fn run(self) -> io::Result<()> {
        loop {
            let sockets = self.listeners.iter().chain([&self.datagrams]);
            let mut fds: Vec<PollFd<'_>> = sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
            poll(&mut fds, None)?;
            self.answer()?;
            self.accept()?;
        }
    }

    /// Greets who is waiting, and closes: it is for the client to reset the connection, so that no end of it lingers.
    fn accept(&self) -> io::Result<()> {
        for listener in &self.listeners {
            loop {
                match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                    Ok(socket) => {
                        // One that has gone meanwhile needs no greeting.
                        let _ = rustix::net::send(&socket, &[self.who], SendFlags::NOSIGNAL);
                    }
                    Err(Errno::AGAIN) => break,
                    Err(Errno::CONNABORTED | Errno::PROTO | Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn answer(&self) -> io::Result<()> {
        let mut buffer = [0u8; 16];
        loop {
            match rustix::net::recvfrom(&self.datagrams, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, _, Some(from))) => {
                    // A refusal is for whoever asked to find out.
                    let _ = rustix::net::sendto(&self.datagrams, &[self.who], SendFlags::NOSIGNAL, &from);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                // What an earlier answer met on its way.
                Err(Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::ACCESS | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
