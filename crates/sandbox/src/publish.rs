//! Makes a pod's port reachable from this machine and beyond: a plain relay, because the machine's own firewall is not
//! ours to change.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Result};
use crate::pod::LivePod;

/// How many connections a published port carries at a time; further ones are closed at once.
pub const MAX_CONNECTIONS: usize = 256;

/// How long a connection to the pod may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The connections that are being carried: the client's side and the pod's. `None` once the port is closed, so that a
/// connection that was just being made then is not carried either.
type OpenPairs = Arc<Mutex<Option<Vec<Weak<(TcpStream, TcpStream)>>>>>;

/// A published port. Dropping it closes it and breaks off its connections.
pub struct Published {
    at: SocketAddr,
    /// Closing this end wakes the relay's thread.
    stop: Option<io::PipeWriter>,
    thread: Option<thread::JoinHandle<()>>,
    open: OpenPairs,
}

/// Listens on `at` (in the calling thread's namespace) and relays each connection to the pod's port.
///
/// The pod sees the node's address as the source.
///
/// # Errors
/// [`Error::Publish`], [`Error::Kernel`].
pub fn publish(pod: &LivePod, at: SocketAddr, port: u16) -> Result<Published> {
    let failed = |source| Error::Publish { at, source };
    let listener = TcpListener::bind(at).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    let (stopped, stop) = io::pipe().map_err(failed)?;
    let to = pod.info().addresses.first().map(|ip| SocketAddr::new(*ip, port));
    let to = to.ok_or_else(|| failed(io::Error::from(io::ErrorKind::AddrNotAvailable)))?;
    let open = Arc::new(Mutex::new(Some(Vec::new())));
    let relay = Relay { to, open: open.clone(), count: Arc::new(AtomicUsize::new(0)) };
    // Threads started there stay where the node's end of the link is; the listener keeps its own namespace.
    let thread = pod.node_netns().spawn("publish", move || relay.accept(&listener, &stopped))?;
    Ok(Published { at, stop: Some(stop), thread: Some(thread), open })
}

impl Published {
    /// Where it listens, with the port that was chosen for port 0.
    pub fn at(&self) -> SocketAddr {
        self.at
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        for pair in open.into_iter().flatten().filter_map(|p| p.upgrade()) {
            let _ = pair.0.shutdown(Shutdown::Both);
            let _ = pair.1.shutdown(Shutdown::Both);
        }
    }
}

struct Relay {
    to: SocketAddr,
    open: OpenPairs,
    count: Arc<AtomicUsize>,
}

/// Counts a connection for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Relay {
    fn accept(&self, listener: &TcpListener, stopped: &io::PipeReader) {
        loop {
            let mut fds =
                [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) if fds[1].any().unwrap_or(true) => return,
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return,
            }
            match listener.accept() {
                Ok((client, _)) => self.begin(client),
                // Out of descriptors, most likely: give the connections that live a chance to end.
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(50)),
                Err(_) => {}
            }
        }
    }

    fn begin(&self, client: TcpStream) {
        let counted = Counted(self.count.clone());
        if self.count.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            tracing::warn!(to = %self.to, "more than {MAX_CONNECTIONS} connections to a published port");
            return;
        }
        let (to, open) = (self.to, self.open.clone());
        let thread = thread::Builder::new().name("relay".into()).spawn(move || {
            let _counted = counted;
            if let Err(error) = carry(client, to, &open) {
                tracing::debug!(%to, %error, "relay");
            }
        });
        if let Err(error) = thread {
            tracing::warn!(%error, "a connection to a published port was refused");
        }
    }
}

fn carry(client: TcpStream, to: SocketAddr, open: &OpenPairs) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let pod = TcpStream::connect_timeout(&to, CONNECT_LIMIT)?;
    let pair = Arc::new((client, pod));
    {
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = open.as_mut() else { return Ok(()) };
        open.retain(|p| p.strong_count() > 0);
        open.push(Arc::downgrade(&pair));
    }
    thread::scope(|scope| {
        let there = thread::Builder::new().spawn_scoped(scope, || one_way(&pair.0, &pair.1));
        if there.is_ok() {
            one_way(&pair.1, &pair.0);
        }
        there.map(drop)
    })
}

/// Copies until one side ends, and passes the end on; the other direction goes on by itself.
fn one_way(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(n @ 1..) if to.write_all(&buffer[..n]).is_ok() => {}
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // Broken: neither end can go on.
            _ => {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}
