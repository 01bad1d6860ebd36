//! The process that is measured: client and server of every connection in one thread, on one processor.
//!
//! Both ends are the same thread so that every bit of work is this process's own. Over loopback, and over a veth pair
//! too, the kernel carries a packet to its receiver within the sender's system call, so this process's processor time
//! holds all of it: the rules at OUTPUT and at INPUT, and connection tracking.

mod work;

pub use work::Work;

use crate::Result;
use crate::input::Transport;
use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};
use sidewall_benches::report::Sample;
use sidewall_netns::{Launch, Process, receive_fd, send_fd};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use work::Took;

/// The argument that makes this program a worker; its standard input is then the control socket.
pub const ARGUMENT: &str = "--worker";

/// What a worker is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Request {
    /// Servers' sockets, which are sent back.
    Listen { transport: Transport, at: Vec<SocketAddr> },
    /// To take servers' sockets, which follow.
    Take(usize),
    /// Whether something is reached, from its own address or that one.
    Try { transport: Transport, from: Option<IpAddr>, to: SocketAddr },
    /// Work, with the servers in turn.
    Measure { work: Work, to: Vec<SocketAddr>, count: u32 },
}

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Answer {
    Done,
    Reached(bool),
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

    /// Servers' sockets of this worker's identity.
    pub fn listen(&self, transport: Transport, at: &[SocketAddr]) -> Result<Vec<OwnedFd>> {
        self.say(&Request::Listen { transport, at: at.to_vec() })?;
        match self.hear()? {
            Answer::Done => Ok(at.iter().map(|_| receive_fd(&self.control)).collect::<std::io::Result<_>>()?),
            other => Err(unexpected(&other)),
        }
    }

    /// Hands servers' sockets over.
    pub fn give(&self, servers: &[OwnedFd]) -> Result<()> {
        self.say(&Request::Take(servers.len()))?;
        for server in servers {
            send_fd(&self.control, server.as_fd())?;
        }
        match self.hear()? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether a connection is established, or a packet answered; from this address where one is given.
    pub fn reaches(&self, transport: Transport, from: Option<IpAddr>, to: SocketAddr) -> Result<bool> {
        self.say(&Request::Try { transport, from, to })?;
        match self.hear()? {
            Answer::Reached(reached) => Ok(reached),
            other => Err(unexpected(&other)),
        }
    }

    /// Does so much work, with the first addresses that it has servers for.
    pub fn measure(&self, work: Work, to: &[SocketAddr], count: u32) -> Result<Timing> {
        self.say(&Request::Measure { work, to: to.to_vec(), count })?;
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
    work::pin()?;
    let mut servers = Vec::new();
    while let Some(request) = read_line::<Request>(&control)? {
        let mut made = Vec::new();
        let answer = match request {
            Request::Take(count) => {
                servers = (0..count).map(|_| receive_fd(&control)).collect::<std::io::Result<_>>()?;
                Ok(Answer::Done)
            }
            Request::Listen { transport, at } => {
                at.iter().map(|at| work::listen(transport, *at)).collect::<Result<Vec<_>>>().map(|sockets| {
                    made = sockets;
                    Answer::Done
                })
            }
            Request::Try { transport, from, to } => work::reaches(transport, from, to, &servers).map(Answer::Reached),
            Request::Measure { work, to, count } => {
                work::measure(work, &to, &servers, count).map(|Took { cpu, wall }| Answer::Took { cpu, wall })
            }
        };
        write_line(&control, &answer.unwrap_or_else(|error| Answer::Failed(error.to_string())))?;
        for socket in &made {
            send_fd(&control, socket.as_fd())?;
        }
    }
    Ok(())
}
