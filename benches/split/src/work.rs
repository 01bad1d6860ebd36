//! Requests, and what they take.

use crate::Result;
use crate::scene::Scene;
use rustix::time::{ClockId, clock_gettime};
use sidewall_benches::report::Sample;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

/// Octets of a request, and of an answer: those of a small HTTP exchange.
const REQUEST: usize = 128;
const ANSWER: usize = 512;
/// How many there are at first, to see what one takes.
const FIRST: u32 = 400;
/// How many there are at most.
const MOST: u32 = 20_000;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Requests one after the other on one connection; both ends by one thread, so that no time goes by with waking.
    Kept,
    /// Each on a connection of its own; both ends by one thread.
    New,
    /// Requests one after the other on one connection, answered by another thread: how long one waits.
    Waited,
}

impl Work {
    /// All.
    pub const ALL: [Work; 3] = [Work::Kept, Work::New, Work::Waited];

    /// What it is called in rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept => "CPU of a request, kept connection",
            Self::New => "CPU of a request, connection of its own",
            Self::Waited => "latency of a request, kept connection",
        }
    }

    /// What is counted.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Kept | Self::New => "requests per CPU second",
            Self::Waited => "requests per second, one at a time",
        }
    }

    /// How many take so many seconds.
    pub fn calibrate(self, scene: &Scene, seconds: f64) -> Result<u32> {
        // The first fills caches.
        self.measure(scene, FIRST)?;
        let Sample { count, seconds: took } = self.measure(scene, FIRST)?;
        // Between the bounds: a number below 2^32.
        Ok(((seconds * count / took) as u32).clamp(FIRST, MOST))
    }

    /// Does it so many times.
    pub fn measure(self, scene: &Scene, count: u32) -> Result<Sample> {
        let seconds = match self {
            Self::Kept => {
                let (mut client, mut server) = connection(scene)?;
                timed(ClockId::ThreadCPUTime, || (0..count).try_for_each(|_| exchange(&mut client, &mut server)))?
            }
            Self::New => scene.inside(|to| {
                timed(ClockId::ThreadCPUTime, || {
                    (0..count).try_for_each(|_| {
                        let mut client = TcpStream::connect(to)?;
                        let (mut server, _) = scene.listener.accept()?;
                        exchange(&mut client, &mut server)
                    })
                })
            })??,
            Self::Waited => {
                let (mut client, mut server) = connection(scene)?;
                thread::scope(|scope| {
                    let answering = scope.spawn(move || -> Result<()> {
                        let mut request = [0; REQUEST];
                        (0..count).try_for_each(|_| {
                            server.read_exact(&mut request)?;
                            Ok(server.write_all(&[1; ANSWER])?)
                        })
                    });
                    let mut answer = [0; ANSWER];
                    let took = timed(ClockId::Monotonic, || {
                        (0..count).try_for_each(|_| {
                            client.write_all(&[1; REQUEST])?;
                            Ok(client.read_exact(&mut answer)?)
                        })
                    })?;
                    answering.join().map_err(|_| "whoever answers has panicked")??;
                    Ok::<_, Box<dyn std::error::Error + Send + Sync>>(took)
                })?
            }
        };
        Ok(Sample { count: count.into(), seconds })
    }
}

/// Both ends of a connection.
fn connection(scene: &Scene) -> Result<(TcpStream, TcpStream)> {
    let client = scene.inside(TcpStream::connect)??;
    let (server, _) = scene.listener.accept()?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    Ok((client, server))
}

fn exchange(client: &mut TcpStream, server: &mut TcpStream) -> Result<()> {
    let (mut request, mut answer) = ([0; REQUEST], [0; ANSWER]);
    client.write_all(&[1; REQUEST])?;
    server.read_exact(&mut request)?;
    server.write_all(&[1; ANSWER])?;
    Ok(client.read_exact(&mut answer)?)
}

fn timed(clock: ClockId, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let before = seconds(clock);
    work()?;
    Ok(seconds(clock) - before)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    // Far below 2^52.
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
