//! What a worker does over and over, and how it is timed.

use crate::Result;
use crate::input::Transport;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};
use rustix::thread::CpuSet;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long a connection may take to be established, or a packet to arrive, before it counts as refused.
const PATIENCE: Duration = Duration::from_millis(400);
/// How long nothing may happen within a measurement.
const STALL: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
/// What is sent as a packet: as long as a small request, a DNS query say.
const PACKET: [u8; 64] = [0x5a; 64];
/// How much is written at once when there is much to write.
const CHUNK: usize = 256 << 10;
/// How many MiB are sent before the clock starts, so that buffers and windows have their size.
const AHEAD: u32 = 8;

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Connections opened, accepted and closed.
    Connects,
    /// A byte sent there and back over one TCP connection.
    RoundTrips,
    /// Small UDP packets, there and back, between two sockets.
    Packets,
    /// MiB through one TCP connection, in large writes, both ends in one thread: what a byte costs.
    Bulk,
    /// MiB through one TCP connection, in large writes, each end on a processor of its own: how much gets
    /// through. What is told is the processor time of the busier end, the one that the other waits for.
    Stream,
}

impl Work {
    /// What it is counted in.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Connects => "connects per CPU second",
            Self::RoundTrips => "round trips per CPU second",
            Self::Packets => "packets per CPU second",
            Self::Bulk => "MiB per CPU second",
            Self::Stream => "MiB per CPU second of the busier end",
        }
    }

    /// What carries it.
    pub const fn transport(self) -> Transport {
        match self {
            Self::Connects | Self::RoundTrips | Self::Bulk | Self::Stream => Transport::Tcp,
            Self::Packets => Transport::Udp,
        }
    }

    /// How often it is done at first, to see how often it can be; and how often at most.
    pub const fn counts(self) -> (u32, u32) {
        match self {
            Self::Connects => (40, 1_500),
            Self::RoundTrips => (400, 6_000),
            Self::Packets => (400, 12_000),
            Self::Bulk => (32, 1_024),
            Self::Stream => (64, 2_048),
        }
    }
}

/// Processor time and real time, in seconds.
pub struct Took {
    /// Processor time.
    pub cpu: f64,
    /// Real time.
    pub wall: f64,
}

/// Does it. The sockets are the servers', one for each address.
pub fn measure(work: Work, to: &[SocketAddr], servers: &[OwnedFd], count: u32) -> Result<Took> {
    let first = || {
        Ok::<_, Box<dyn std::error::Error>>((to.first().ok_or("nowhere to go")?, servers.first().ok_or("no server")?))
    };
    match work {
        Work::Connects => timed(|| {
            for (to, listener) in to.iter().zip(servers).cycle().take(count as usize) {
                let client = connect(Transport::Tcp, *to)?;
                let server = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
                drop(client);
                drop(server);
            }
            Ok(())
        }),
        Work::RoundTrips => {
            let (to, listener) = first()?;
            let (client, server) = connection(*to, listener)?;
            let took = timed(|| {
                let mut byte = [0];
                for _ in 0..count {
                    for (from, to) in [(&client, &server), (&server, &client)] {
                        rustix::net::send(from, &[1], SendFlags::NOSIGNAL)?;
                        rustix::net::recv(to, &mut byte, RecvFlags::empty())?;
                    }
                }
                Ok(())
            });
            rustix::net::shutdown(&client, Shutdown::Both)?;
            took
        }
        Work::Packets => {
            let (to, server) = first()?;
            let client = connect(Transport::Udp, *to)?;
            for end in [&client, server] {
                sockopt::set_socket_timeout(end, sockopt::Timeout::Recv, Some(PATIENCE))?;
            }
            // The first ones make the flow an established one.
            there_and_back(&client, server)?;
            there_and_back(&client, server)?;
            timed(|| (0..count / 2).try_for_each(|_| there_and_back(&client, server)))
        }
        Work::Bulk => {
            let (to, listener) = first()?;
            let (client, server) = connection(*to, listener)?;
            pour(&client, &server, AHEAD)?;
            let took = timed(|| pour(&client, &server, count));
            rustix::net::shutdown(&client, Shutdown::Both)?;
            took
        }
        Work::Stream => {
            let (to, listener) = first()?;
            let (client, server) = connection(*to, listener)?;
            for end in [&client, &server] {
                sockopt::set_socket_timeout(end, sockopt::Timeout::Recv, Some(2 * PATIENCE))?;
                sockopt::set_socket_timeout(end, sockopt::Timeout::Send, Some(2 * PATIENCE))?;
            }
            stream(&client, &server, AHEAD)?;
            let begin = seconds(ClockId::Monotonic);
            let cpu = stream(&client, &server, count)?;
            rustix::net::shutdown(&client, Shutdown::Both)?;
            Ok(Took { cpu, wall: seconds(ClockId::Monotonic) - begin })
        }
    }
}

/// Writes so many MiB at one end, while a thread on another processor reads them at the other. Says how many seconds of
/// processor time the busier one took.
fn stream(client: &OwnedFd, server: &OwnedFd, mebibytes: u32) -> Result<f64> {
    let total = (mebibytes as usize) << 20;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| -> std::result::Result<f64, String> {
            elsewhere().map_err(|error| error.to_string())?;
            let begin = seconds(ClockId::ThreadCPUTime);
            let mut buffer = vec![0; CHUNK];
            let mut received = 0;
            while received < total {
                match rustix::net::recv(server, &mut buffer[..], RecvFlags::empty()) {
                    Ok((0, _)) => return Err("the connection ended early".to_owned()),
                    Ok((length, _)) => received += length,
                    Err(error) => return Err(error.to_string()),
                }
            }
            Ok(seconds(ClockId::ThreadCPUTime) - begin)
        });
        let begin = seconds(ClockId::ThreadCPUTime);
        let piece = vec![0; CHUNK];
        let mut sent = 0;
        while sent < total {
            sent += rustix::net::send(client, &piece[..CHUNK.min(total - sent)], SendFlags::NOSIGNAL)?;
        }
        let writer = seconds(ClockId::ThreadCPUTime) - begin;
        Ok(writer.max(reader.join().map_err(|_| "the reader has ended")??))
    })
}

/// The last processor that this process may run on.
fn last_processor() -> Result<usize> {
    let all = rustix::thread::sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu));
    last.ok_or_else(|| "there is no processor to run on".into())
}

/// To the last processor, where the benchmark's own process is not: a worker that moves measures its caches.
pub fn pin() -> Result<()> {
    let mut one = CpuSet::new();
    one.set(last_processor()?);
    Ok(rustix::thread::sched_setaffinity(None, &one)?)
}

/// To any other processor than the one that the worker is pinned to.
fn elsewhere() -> Result<()> {
    let mut others = CpuSet::new();
    (0..last_processor()?).for_each(|cpu| others.set(cpu));
    if others.count() == 0 {
        return Err("a stream needs two processors".into());
    }
    Ok(rustix::thread::sched_setaffinity(None, &others)?)
}

fn there_and_back(client: &OwnedFd, server: &OwnedFd) -> Result<()> {
    let mut buffer = [0; 2 * PACKET.len()];
    rustix::net::send(client, &PACKET, SendFlags::empty())?;
    let (length, _, from) = rustix::net::recvfrom(server, &mut buffer, RecvFlags::empty())?;
    let from = from.ok_or("a packet came from nowhere")?;
    rustix::net::sendto(server, &buffer[..length], SendFlags::empty(), &from)?;
    rustix::net::recv(client, &mut buffer, RecvFlags::empty())?;
    Ok(())
}

/// Both ends of a connection.
fn connection(to: SocketAddr, listener: &OwnedFd) -> Result<(OwnedFd, OwnedFd)> {
    let client = connect(Transport::Tcp, to)?;
    let server = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
    for end in [&client, &server] {
        sockopt::set_tcp_nodelay(end, true)?;
    }
    Ok((client, server))
}

/// Writes so many MiB at one end as long as there is room, and reads them at the other.
fn pour(client: &OwnedFd, server: &OwnedFd, mebibytes: u32) -> Result<()> {
    let total = (mebibytes as usize) << 20;
    let (mut sent, mut received) = (0, 0);
    let mut buffer = vec![0; CHUNK];
    while received < total {
        let before = (sent, received);
        if sent < total {
            let piece = &buffer[..CHUNK.min(total - sent)];
            match rustix::net::send(client, piece, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(Errno::AGAIN) => {}
                outcome => sent += outcome?,
            }
        }
        match rustix::net::recv(server, &mut buffer[..], RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => {}
            Ok((0, _)) => return Err("the connection ended early".into()),
            outcome => received += outcome?.0,
        }
        let idle = (sent, received) == before;
        if idle && rustix::event::poll(&mut [PollFd::new(server, PollFlags::IN)], Some(&STALL))? == 0 {
            return Err("the connection stalled".into());
        }
    }
    Ok(())
}

/// Whether a connection is established, or a packet arrives and is answered.
pub fn reaches(transport: Transport, from: Option<IpAddr>, to: SocketAddr, servers: &[OwnedFd]) -> Result<bool> {
    let client = socket(transport, to)?;
    if let Some(from) = from {
        rustix::net::bind(&client, &SocketAddr::new(from, 0))?;
    }
    sockopt::set_socket_timeout(&client, sockopt::Timeout::Send, Some(PATIENCE))?;
    sockopt::set_socket_timeout(&client, sockopt::Timeout::Recv, Some(PATIENCE))?;
    if rustix::net::connect(&client, &to).is_err() {
        return Ok(false);
    }
    if transport == Transport::Tcp {
        // What it established waits at its listener, and must not be taken for another's.
        for listener in servers {
            while waits(listener, Duration::ZERO)? {
                rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
            }
        }
        return Ok(true);
    }
    // One that came late for an earlier attempt must not be answered in place of this one's.
    for server in servers {
        while waits(server, Duration::ZERO)? {
            rustix::net::recv(server, &mut [0; PACKET.len()], RecvFlags::empty())?;
        }
    }
    if rustix::net::send(&client, &PACKET, SendFlags::empty()).is_err() {
        return Ok(false);
    }
    for (index, server) in servers.iter().enumerate() {
        // The others have had their time while the first was waited for.
        if waits(server, if index == 0 { PATIENCE } else { Duration::ZERO })? {
            let mut buffer = PACKET;
            let (length, _, from) = rustix::net::recvfrom(server, &mut buffer, RecvFlags::empty())?;
            let from = from.ok_or("a packet came from nowhere")?;
            let answered = rustix::net::sendto(server, &buffer[..length], SendFlags::empty(), &from).is_ok();
            return Ok(answered && rustix::net::recv(&client, &mut buffer, RecvFlags::empty()).is_ok());
        }
    }
    Ok(false)
}

fn waits(socket: &OwnedFd, limit: Duration) -> Result<bool> {
    let limit = Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() };
    Ok(rustix::event::poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&limit))? > 0)
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Took> {
    let before = (seconds(ClockId::ProcessCPUTime), seconds(ClockId::Monotonic));
    work()?;
    let after = (seconds(ClockId::ProcessCPUTime), seconds(ClockId::Monotonic));
    Ok(Took { cpu: after.0 - before.0, wall: after.1 - before.1 })
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    // Both far below 2^52.
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn socket(transport: Transport, to: SocketAddr) -> Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match transport {
        Transport::Tcp => SocketType::STREAM,
        Transport::Udp => SocketType::DGRAM,
    };
    Ok(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

fn connect(transport: Transport, to: SocketAddr) -> Result<OwnedFd> {
    let client = socket(transport, to)?;
    rustix::net::connect(&client, &to)?;
    Ok(client)
}

/// A server's socket.
pub fn listen(transport: Transport, at: SocketAddr) -> Result<OwnedFd> {
    let server = socket(transport, at)?;
    sockopt::set_socket_reuseaddr(&server, true)?;
    // The network answers for every address, by a route; IPv6 wants to see it on a device before it binds one.
    sockopt::set_ip_freebind(&server, true)?;
    rustix::net::bind(&server, &at)?;
    if transport == Transport::Tcp {
        rustix::net::listen(&server, 128)?;
    }
    Ok(server)
}
