//! Where connections come from.

use crate::admission::Admission;
use crate::error::ListenError;
use crate::serve::Server;
use std::fs;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long to wait where the system has no room for another connection.
const FULL: Duration = Duration::from_millis(200);

/// A place at which connections are taken.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Unix { listener: UnixListener, _file: SocketFile },
    Loopback(TcpListener),
}

/// A connection of either kind.
enum Taken {
    Unix(UnixStream),
    Loopback(tokio::net::TcpStream),
}

impl Listener {
    /// A UNIX socket for root alone: others can neither open it nor, if they could, would they be heard. A socket that is
    /// left over from another process is replaced.
    ///
    /// # Errors
    /// [`ListenError::Socket`], [`ListenError::NotASocket`].
    pub fn unix(path: &Path) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Socket { path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
            Ok(_) => fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let file = SocketFile::of(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self(Kind::Unix { listener, _file: file }))
    }

    /// A TCP port of the loopback device. It is not shared: where an older process has it, try again until that has gone.
    ///
    /// # Errors
    /// [`ListenError::NotLoopback`], [`ListenError::Address`].
    pub async fn loopback(address: SocketAddr) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback(address));
        }
        let listener = TcpListener::bind(address).await.map_err(|source| ListenError::Address { address, source })?;
        Ok(Self(Kind::Loopback(listener)))
    }

    /// The TCP address, where it is one: with the port that the system chose, if it was to choose.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Unix { .. } => None,
            Kind::Loopback(listener) => listener.local_addr().ok(),
        }
    }

    /// Serves connections until `until`. Then no more are taken, and those that there are have
    /// [`crate::Limits::goodbye`] for what still waits for them: end the hub before, so that streams end.
    pub async fn serve<A: Admission>(self, server: Server<A>, until: impl Future<Output = ()>) {
        let limits = *server.limits();
        let (end, ending) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut until = pin!(until);
        loop {
            let taken = tokio::select! {
                biased;
                () = until.as_mut() => break,
                Some(_) = connections.join_next() => continue,
                taken = self.accept() => taken,
            };
            let taken = match taken {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::warn!(%error, "a connection to the flow log could not be taken");
                    sleep(FULL).await;
                    continue;
                }
            };
            if connections.len() >= limits.connections {
                tracing::debug!(limits.connections, "a connection to the flow log is one too many");
                continue;
            }
            let (server, mut ending) = (server.clone(), ending.clone());
            let ending = async move { drop(ending.wait_for(|ended| *ended).await) };
            match taken {
                Taken::Unix(stream) if !is_root(&stream) => {
                    tracing::info!("the flow log's socket is for root alone, and somebody else came");
                }
                Taken::Unix(stream) => drop(connections.spawn(async move { server.serve_until(stream, ending).await })),
                Taken::Loopback(stream) => {
                    // Records are small, and wanted when they come.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(async move { server.serve_until(stream, ending).await });
                }
            }
        }
        drop(self);
        // Whoever does not hear it has gone.
        let _ = end.send(true);
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(limits.goodbye, all).await;
    }

    async fn accept(&self) -> io::Result<Taken> {
        match &self.0 {
            Kind::Unix { listener, .. } => Ok(Taken::Unix(listener.accept().await?.0)),
            Kind::Loopback(listener) => Ok(Taken::Loopback(listener.accept().await?.0)),
        }
    }
}

fn is_root(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0)
}

/// A socket's file, which goes with the socket: but only if it is still this one's, and not a later process's.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    file: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            // It goes with its directory, if that is gone already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}
