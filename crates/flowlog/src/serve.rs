//! Offers a hub's records to other processes of this machine.

use crate::directory::Directory;
use crate::error::ServeError;
use crate::hub::{Backlog, Hub, Next, Subscription};
use crate::wire::{Reply, Request, read_line};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use serde::Serialize;
use sidewall_flow::{Record, Version};
use std::fs;
use std::io::{self, BufReader, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The socket's name in a pod's directory.
pub const SOCKET: &str = "flows.sock";
/// The most connections at once.
pub const CONNECTIONS_MAX: usize = 16;

/// How long a thread may take to see that it should end.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a client may take to say what it wants.
const REQUEST: Duration = Duration::from_secs(2);
/// How long a client may take, at the end, for what still waits for it.
const LAST: Duration = Duration::from_secs(2);

/// Offers records at a socket in a directory, to root and to this process's own user, until it is dropped.
///
/// A client that does not read loses records, which it is told; it never holds up anybody.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Offers the hub's records at [`SOCKET`] in a directory, which should be for its owner alone.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn start(directory: &Path, hub: Hub) -> Result<Self, ServeError> {
        let path = directory.join(SOCKET);
        let listener = listen(directory).map_err(|source| ServeError::Socket { path: path.clone(), source })?;
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let run = move || accept(&listener, &hub, &until);
        let thread = thread::Builder::new().name("flow-server".into()).spawn(run).map_err(ServeError::Thread)?;
        Ok(Self { path, ended, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
        // It goes with its directory, if that is gone already.
        let _ = fs::remove_file(&self.path);
    }
}

fn listen(directory: &Path) -> io::Result<UnixListener> {
    let directory = Directory::open(directory)?;
    let path = directory.file(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(listener: &UnixListener, hub: &Hub, ended: &Arc<AtomicBool>) {
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    while !ended.load(Ordering::Acquire) {
        connections.retain(|connection| !connection.is_finished());
        if !readable(listener, PATIENCE) {
            continue;
        }
        let Ok((stream, _)) = listener.accept() else { continue };
        if !trusted(&stream) {
            continue;
        }
        if connections.len() >= CONNECTIONS_MAX {
            let reason = format!("{CONNECTIONS_MAX} readers are connected already, which is the most");
            let _ = stream.set_write_timeout(Some(PATIENCE));
            let _ = say(&mut &stream, &Reply { version: Version, kept: 0, refused: Some(reason) });
            continue;
        }
        let (hub, ended) = (hub.clone(), Arc::clone(ended));
        let serve = move || {
            if let Err(error) = serve(stream, &hub, &ended) {
                tracing::debug!(%error, "a reader of the flow log has gone");
            }
        };
        match thread::Builder::new().name("flow-reader".into()).spawn(serve) {
            Ok(connection) => connections.push(connection),
            Err(error) => tracing::warn!(%error, "no thread for a reader of the flow log"),
        }
    }
    for connection in connections {
        // Its panic has been printed.
        let _ = connection.join();
    }
}

/// Whether the other end may read: the directory keeps others off, and this too if it does not.
fn trusted(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    getsockopt(stream, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

fn serve(stream: UnixStream, hub: &Hub, ended: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(REQUEST))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let line = read_line(&mut BufReader::new(&stream))?.ok_or(ErrorKind::UnexpectedEof)?;
    let mut writer = Patient { stream: &stream, ended, last: None };
    let request: Request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            let refused = Some(format!("the request can't be read: {error}"));
            return say(&mut writer, &Reply { version: Version, kept: 0, refused });
        }
    };
    if !request.follow {
        let history = hub.history();
        say(&mut writer, &Reply { version: Version, kept: history.len(), refused: None })?;
        return history.iter().try_for_each(|record| give(&mut writer, record));
    }
    match hub.subscribe(Backlog::Kept) {
        Ok(subscription) => {
            say(&mut writer, &Reply { version: Version, kept: subscription.kept(), refused: None })?;
            follow(&mut writer, &subscription)
        }
        Err(error) => say(&mut writer, &Reply { version: Version, kept: 0, refused: Some(error.to_string()) }),
    }
}

fn give(writer: &mut Patient<'_>, record: &Record) -> io::Result<()> {
    let mut line = record.to_line();
    line.push('\n');
    writer.write_all(line.as_bytes())
}

fn follow(writer: &mut Patient<'_>, subscription: &Subscription) -> io::Result<()> {
    loop {
        let ended = writer.ended.load(Ordering::Acquire);
        match subscription.next(if ended { Duration::ZERO } else { PATIENCE }) {
            Next::Record(record) => give(writer, &record)?,
            Next::Ended => return Ok(()),
            Next::Nothing if ended => return Ok(()),
            // A client that has gone is noticed also where there is nothing to tell it.
            Next::Nothing if gone(writer.stream) => return Ok(()),
            Next::Nothing => {}
        }
    }
}

fn say(writer: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    writer.write_all(&line)
}

fn readable(socket: &impl AsFd, patience: Duration) -> bool {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut waiting, timeout).is_ok_and(|ready| ready > 0)
}

/// Whether the other end has closed: it says nothing after its request.
fn gone(stream: &UnixStream) -> bool {
    readable(stream, Duration::ZERO)
}

/// Waits for a reader that does not read, but at the end only for a moment.
struct Patient<'a> {
    stream: &'a UnixStream,
    ended: &'a AtomicBool,
    last: Option<Instant>,
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut stream = self.stream;
            match stream.write(bytes) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if self.ended.load(Ordering::Acquire)
                        && self.last.get_or_insert_with(Instant::now).elapsed() >= LAST
                    {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
