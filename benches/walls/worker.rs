//! The process that is measured: client and server of every connection in one thread, on one processor.
//!
//! Both ends are the same thread so that every bit of work is this process's own. Over loopback, and over a veth pair
//! too, the kernel carries a packet to its receiver within the sender's system call, so this process's processor time
//! holds all of it: the rules at OUTPUT and at INPUT, and connection tracking.

use crate::Result;
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use sidewall_benches::report::Sample;
use sidewall_netns::{Launch, Process, receive_fd, send_fd};
use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

/// The argument that makes this program a worker; its standard input is then the control socket.
pub const ARGUMENT: &str = "--worker";

/// How long a connection may take to be established before it counts as refused.
const PATIENCE: Duration = Duration::from_millis(400);

/// What a worker is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Request {
    /// Listeners, which are sent back.
    Listen(Vec<SocketAddr>),
    /// To take listeners, which follow, as the servers of all connections.
    Take(usize),
    /// Whether a connection is established.
    Try(SocketAddr),
    /// Connections opened, accepted and closed, to the listeners in turn.
    Connects { to: Vec<SocketAddr>, count: u32 },
    /// Bytes sent there and back over one connection.
    RoundTrips { to: SocketAddr, count: u32 },
}

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Answer {
    Done,
    Established(bool),
    Took { cpu: f64, wall: f64 },
    Failed(String),
}

/// A worker, from outside. It ends with this.
pub struct Worker {
    control: UnixStream,
    process: Process,
}

impl Worker {
    /// Starts a worker; `prepare` says where and as whom.
    pub fn start(prepare: impl FnOnce(Launch) -> Launch) -> Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        let executable = File::open("/proc/self/exe")?;
        let launch = Launch::from_file(executable, "walls-worker")
            .args([ARGUMENT])
            .stdin(OwnedFd::from(theirs))
            .stderr(Stdio::inherit())
            .die_with_parent();
        Ok(Self { control, process: prepare(launch).spawn()? })
    }

    /// Listeners of this worker's identity.
    pub fn listen(&self, at: &[SocketAddr]) -> Result<Vec<OwnedFd>> {
        self.say(&Request::Listen(at.to_vec()))?;
        match self.hear()? {
            Answer::Done => Ok(at.iter().map(|_| receive_fd(&self.control)).collect::<std::io::Result<_>>()?),
            other => Err(unexpected(&other)),
        }
    }

    /// Hands listeners over.
    pub fn give(&self, listeners: &[OwnedFd]) -> Result<()> {
        self.say(&Request::Take(listeners.len()))?;
        for listener in listeners {
            send_fd(&self.control, listener.as_fd())?;
        }
        match self.hear()? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether a connection is established.
    pub fn reaches(&self, to: SocketAddr) -> Result<bool> {
        self.say(&Request::Try(to))?;
        match self.hear()? {
            Answer::Established(established) => Ok(established),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens, accepts and closes connections.
    pub fn connects(&self, to: &[SocketAddr], count: u32) -> Result<Timing> {
        self.measure(&Request::Connects { to: to.to_vec(), count }, count)
    }

    /// Sends a byte there and back.
    pub fn round_trips(&self, to: SocketAddr, count: u32) -> Result<Timing> {
        self.measure(&Request::RoundTrips { to, count }, count)
    }

    fn measure(&self, request: &Request, count: u32) -> Result<Timing> {
        self.say(request)?;
        match self.hear()? {
            Answer::Took { cpu, wall } => Ok(Timing { sample: Sample { count: count.into(), seconds: cpu }, wall }),
            other => Err(unexpected(&other)),
        }
    }

    fn say(&self, request: &Request) -> Result<()> {
        write_line(&self.control, request)
    }

    fn hear(&self) -> Result<Answer> {
        read_line(&self.control)?.ok_or_else(|| "the worker has ended".into())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.process.kill();
    }
}

/// What a measurement took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// In processor time.
    pub sample: Sample,
    /// In real time, in seconds.
    pub wall: f64,
}

fn unexpected(answer: &Answer) -> Box<dyn std::error::Error> {
    match answer {
        Answer::Failed(why) => format!("the worker failed: {why}").into(),
        other => format!("the worker said {other:?}").into(),
    }
}

fn write_line(mut to: &UnixStream, value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(to.write_all(&line)?)
}

/// Byte by byte, because descriptors follow some lines and must not be read along with them.
fn read_line<T: for<'a> Deserialize<'a>>(mut from: &UnixStream) -> Result<Option<T>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while from.read(&mut byte)? == 1 {
        if byte[0] == b'\n' {
            return Ok(Some(serde_json::from_slice(&line)?));
        }
        line.push(byte[0]);
    }
    Ok(None)
}

/// A worker's life.
pub fn serve() -> Result<()> {
    let control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    pin()?;
    let mut listeners = Vec::new();
    while let Some(request) = read_line::<Request>(&control)? {
        if let Request::Listen(at) = &request {
            match at.iter().map(|at| listen(*at)).collect::<Result<Vec<_>>>() {
                Ok(made) => {
                    write_line(&control, &Answer::Done)?;
                    for listener in &made {
                        send_fd(&control, listener.as_fd())?;
                    }
                }
                Err(error) => write_line(&control, &Answer::Failed(error.to_string()))?,
            }
            continue;
        }
        if let Request::Take(count) = request {
            listeners = (0..count).map(|_| receive_fd(&control)).collect::<std::io::Result<_>>()?;
            write_line(&control, &Answer::Done)?;
            continue;
        }
        let answer = carry_out(request, &listeners).unwrap_or_else(|error| Answer::Failed(error.to_string()));
        write_line(&control, &answer)?;
    }
    Ok(())
}

/// To the last processor, where the benchmark's own process is not: a worker that moves measures its caches.
fn pin() -> Result<()> {
    let all = rustix::thread::sched_getaffinity(None)?;
    let last = (0..rustix::thread::CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu));
    let mut one = rustix::thread::CpuSet::new();
    one.set(last.ok_or("there is no processor to run on")?);
    Ok(rustix::thread::sched_setaffinity(None, &one)?)
}

fn carry_out(request: Request, listeners: &[OwnedFd]) -> Result<Answer> {
    match request {
        Request::Connects { to, count } => timed(|| {
            for (to, listener) in to.iter().zip(listeners).cycle().take(count as usize) {
                let client = connect(*to)?;
                let server = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
                drop(client);
                drop(server);
            }
            Ok(())
        }),
        Request::RoundTrips { to, count } => {
            let listener = listeners.first().ok_or("there is no listener")?;
            let client = connect(to)?;
            let server = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
            for end in [&client, &server] {
                sockopt::set_tcp_nodelay(end, true)?;
            }
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
        Request::Try(to) => {
            let client = socket(to, SocketFlags::CLOEXEC)?;
            sockopt::set_socket_timeout(&client, sockopt::Timeout::Send, Some(PATIENCE))?;
            let established = rustix::net::connect(&client, &to).is_ok();
            if established {
                // What it established waits at its listener, and must not be taken for another's.
                for listener in listeners {
                    while accept_waiting(listener)? {}
                }
            }
            Ok(Answer::Established(established))
        }
        Request::Listen(_) | Request::Take(_) => Err("not a request of this kind".into()),
    }
}

fn accept_waiting(listener: &OwnedFd) -> Result<bool> {
    let mut fds = [rustix::event::PollFd::new(listener, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    if rustix::event::poll(&mut fds, Some(&now))? == 0 {
        return Ok(false);
    }
    rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
    Ok(true)
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Answer> {
    let before = (seconds(ClockId::ProcessCPUTime), seconds(ClockId::Monotonic));
    work()?;
    let after = (seconds(ClockId::ProcessCPUTime), seconds(ClockId::Monotonic));
    Ok(Answer::Took { cpu: after.0 - before.0, wall: after.1 - before.1 })
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    // Both far below 2^52.
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn family(at: SocketAddr) -> AddressFamily {
    if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

fn socket(to: SocketAddr, flags: SocketFlags) -> Result<OwnedFd> {
    Ok(rustix::net::socket_with(family(to), SocketType::STREAM, flags, None)?)
}

fn connect(to: SocketAddr) -> Result<OwnedFd> {
    let client = socket(to, SocketFlags::CLOEXEC)?;
    rustix::net::connect(&client, &to)?;
    Ok(client)
}

fn listen(at: SocketAddr) -> Result<OwnedFd> {
    let listener = socket(at, SocketFlags::CLOEXEC)?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    // The network answers for every address, by a route; IPv6 wants to see it on a device before it binds one.
    sockopt::set_ip_freebind(&listener, true)?;
    rustix::net::bind(&listener, &at)?;
    rustix::net::listen(&listener, 128)?;
    Ok(listener)
}
