//! The whole proxy: from a configuration to running workers, and back to nothing.

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, Write};
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use sidewall_proxy_config::{Basic, Form, Listener, Problems, ProxyConfig, Timeouts, Tls, TlsSource, UsersSource};
use tokio::sync::{mpsc, watch};

use crate::access_log::{AccessLog, LogBuffer};
use crate::auth::{BasicAuth, Challenge, CredentialCache, CredentialKey, NoRandomness, UsersFile, Verifier};
use crate::connection::Entrance;
use crate::htpasswd::UsersError;
use crate::reload::{self, ReadError, Snapshot, Watch, Watcher};
use crate::service::{Access, Front};
use crate::sockets::{self, SocketError};
use crate::stream::Patience;
use crate::tls::{self, TlsError};
use crate::upstream::{Pool, UpstreamLimits};
use crate::worker::Worker;

/// Why the proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration was not validated, or not as a file.
    #[error("{0}")]
    Config(#[from] Problems),
    /// A block that this version does not act on.
    #[error("{field}: is not supported yet; remove it")]
    NotYet {
        /// The block.
        field: &'static str,
    },
    /// A file cannot be read.
    #[error("{field}: {source}")]
    Read {
        /// The field that names the file.
        field: String,
        /// Which file, and why.
        source: ReadError,
    },
    /// The users are not understood.
    #[error("{field}: {}: {source}", file.display())]
    Users {
        /// The field that names the file.
        field: String,
        /// The file.
        file: PathBuf,
        /// Which line, and why.
        source: UsersError,
    },
    /// The certificate cannot be used.
    #[error("{field}: {}: {source}", file.display())]
    Tls {
        /// The block that names the files.
        field: String,
        /// The certificate's file.
        file: PathBuf,
        /// Why.
        source: TlsError,
    },
    /// A port cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// No key for naming credentials can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The system gives no thread.
    #[error("the system gives no thread: {0}")]
    Thread(#[source] io::Error),
}

/// A configuration whose files have been read and understood. Nothing listens yet.
pub struct Prepared {
    config: ProxyConfig,
    listeners: Vec<PreparedListener>,
    watches: Vec<Watch>,
}

#[derive(Clone)]
struct PreparedListener {
    access: Access,
    tls: Option<Arc<ArcSwap<ServerConfig>>>,
}

impl Prepared {
    /// Reads the users and certificates that a configuration names. Relative names are looked up in `directory`.
    ///
    /// # Errors
    ///
    /// Names the field, the file and the line that is not understood.
    pub fn new(config: ProxyConfig, directory: &Path) -> Result<Self, StartError> {
        config.validate(Form::File)?;
        for (field, there) in [
            ("admin", config.admin.is_some()),
            ("probes", config.probes.is_some()),
            ("capture", config.capture.is_some()),
            ("timeouts.unreadySeconds", config.timeouts.unready_seconds != Timeouts::default().unready_seconds),
        ] {
            if there {
                return Err(StartError::NotYet { field });
            }
        }
        let mut listeners = Vec::new();
        let mut watches = Vec::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            let field = format!("listeners[{index}]");
            let mut access = Access::Anonymous;
            for (entry, authentication) in listener.authentication.iter().enumerate() {
                if let Some(basic) = &authentication.basic {
                    let field = format!("{field}.authentication[{entry}].basic");
                    let (auth, watch) = prepare_users(&field, basic, directory)?;
                    access = Access::Basic(auth);
                    watches.push(watch);
                }
            }
            let tls = match &listener.tls {
                None => None,
                Some(tls) => {
                    let (current, watch) = prepare_tls(&format!("{field}.tls"), tls, directory)?;
                    watches.push(watch);
                    Some(current)
                }
            };
            listeners.push(PreparedListener { access, tls });
        }
        Ok(Self { config, listeners, watches })
    }

    /// Opens the ports and starts the workers. The access log goes to `log`.
    ///
    /// # Errors
    ///
    /// Names the port that cannot be opened. Nothing keeps running then.
    pub fn start(self, workers: NonZeroUsize, log: Box<dyn Write + Send>) -> Result<Running, StartError> {
        let Self { config, listeners, watches } = self;
        let limits = &config.limits;
        let key = Arc::new(CredentialKey::random()?);
        let checks = NonZeroUsize::new(limits.password_checks as usize).unwrap_or(NonZeroUsize::MIN);
        let verifier =
            Arc::new(Verifier::start(checks, limits.waiting_password_checks as usize).map_err(StartError::Thread)?);
        let log = AccessLog::start(log).map_err(StartError::Thread)?;

        let mut sockets: Vec<Vec<(usize, TcpListener)>> = (0..workers.get()).map(|_| Vec::new()).collect();
        for (index, listener) in config.listeners.iter().enumerate() {
            let by_worker = sockets::open(&format!("listeners[{index}].port"), listener, workers)?;
            for (own, opened) in sockets.iter_mut().zip(by_worker) {
                own.extend(opened.into_iter().map(|socket| (index, socket)));
            }
        }

        let watcher = Watcher::start(watches).map_err(StartError::Thread)?;
        let config = Arc::new(config);
        let (stop, stopping) = watch::channel(false);
        let (alive, ended) = mpsc::channel(1);
        let mut threads = Vec::new();
        for (index, sockets) in sockets.into_iter().enumerate() {
            let shared = Shared {
                config: Arc::clone(&config),
                listeners: listeners.clone(),
                key: Arc::clone(&key),
                verifier: Arc::clone(&verifier),
                stop: stopping.clone(),
            };
            let buffer = log.buffer();
            let alive = alive.clone();
            let thread = thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    let outcome = Worker::run(move || shared.worker(sockets, buffer));
                    drop(alive);
                    if let Err(error) = outcome {
                        tracing::error!(%error, "a worker ended");
                    }
                })
                .map_err(StartError::Thread)?;
            threads.push(thread);
        }
        for listener in &config.listeners {
            tracing::info!(
                port = listener.port,
                application = listener.forward.port,
                tls = listener.tls.is_some(),
                workers,
                "listening"
            );
        }
        Ok(Running { stop, ended, threads, watcher, log })
    }
}

/// The running proxy.
pub struct Running {
    stop: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
    threads: Vec<JoinHandle<()>>,
    watcher: Watcher,
    log: AccessLog,
}

impl Running {
    /// Tells the workers to accept nothing more and to end when their requests in flight have, or the time to drain is
    /// over. Returns at once.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until all workers have ended, on their own or after [`Running::stop`].
    pub async fn ended(&mut self) {
        // Nobody sends; the channel closes when the last worker lets go of it.
        while self.ended.recv().await.is_some() {}
    }

    /// Ends what is left and writes what is logged. Blocks until the workers have ended.
    pub fn finish(self) {
        self.stop();
        for thread in self.threads {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
        drop(self.watcher);
        if !self.log.finish() {
            tracing::error!("the access log is not read any more; its last lines are lost");
        }
    }
}

/// What a worker's thread needs to build the worker.
struct Shared {
    config: Arc<ProxyConfig>,
    listeners: Vec<PreparedListener>,
    key: Arc<CredentialKey>,
    verifier: Arc<Verifier>,
    stop: watch::Receiver<bool>,
}

impl Shared {
    fn worker(self, sockets: Vec<(usize, TcpListener)>, buffer: LogBuffer) -> Worker {
        let Self { config, listeners, key, verifier, stop } = self;
        let (limits, timeouts) = (&config.limits, &config.timeouts);
        let log = Rc::new(buffer);
        let cache = Rc::new(RefCell::new(CredentialCache::new(
            limits.remembered_credentials as usize,
            seconds(timeouts.credential_seconds),
        )));
        let upstream = UpstreamLimits {
            connect: seconds(timeouts.connect_seconds),
            response: seconds(timeouts.response_seconds),
            idle: seconds(timeouts.upstream_idle_seconds),
            most_idle: limits.idle_upstream_per_worker as usize,
            header_bytes: limits.header_bytes as usize,
            headers: limits.headers as usize,
        };
        let entrance = |(listener, prepared): (&Listener, PreparedListener)| {
            Rc::new(Entrance {
                front: Rc::new(Front {
                    port: listener.port,
                    access: prepared.access,
                    pool: Pool::new(listener.forward.port, upstream),
                    log: Rc::clone(&log),
                    cache: Rc::clone(&cache),
                    key: Arc::clone(&key),
                    verifier: Arc::clone(&verifier),
                    request_pause: seconds(timeouts.request_body_seconds),
                    response_pause: seconds(timeouts.response_body_seconds),
                }),
                tls: prepared.tls,
                patience: Patience {
                    header: seconds(timeouts.header_seconds),
                    idle: seconds(timeouts.idle_seconds),
                    send: seconds(timeouts.send_seconds),
                },
                header_bytes: limits.header_bytes as usize,
                headers: limits.headers as usize,
                stop: stop.clone(),
            })
        };
        let entrances: Vec<Rc<Entrance>> = config.listeners.iter().zip(listeners).map(entrance).collect();
        Worker {
            entrances: sockets
                .into_iter()
                .map(|(listener, socket)| (socket, Rc::clone(&entrances[listener])))
                .collect(),
            log,
            connections: limits.connections_per_worker as usize,
            drain: seconds(timeouts.drain_seconds),
            stop,
        }
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

fn prepare_users(field: &str, basic: &Basic, directory: &Path) -> Result<(Arc<BasicAuth>, Watch), StartError> {
    // The configuration is valid, so the source is a file and the realm fits into a header.
    let file = match basic.source() {
        Ok(UsersSource::File(file)) => directory.join(file),
        _ => directory.to_owned(),
    };
    let field = format!("{field}.htpasswdFile");
    let snapshot = read(&field, std::slice::from_ref(&file))?;
    let parsed = UsersFile::parse(&snapshot.contents[0]).map_err(|source| StartError::Users {
        field: field.clone(),
        file: file.clone(),
        source,
    })?;
    warn_if_empty(&parsed, &file);
    let users = Arc::new(ArcSwap::from_pointee(parsed));
    let challenge = Challenge::new(&basic.realm).unwrap_or_default();
    let current = Arc::clone(&users);
    let name = file.clone();
    let watch = Watch::new(
        field,
        vec![file],
        &snapshot,
        Box::new(move |contents| {
            let parsed = UsersFile::parse(first(contents)?)?;
            warn_if_empty(&parsed, &name);
            current.store(Arc::new(parsed));
            Ok(())
        }),
    );
    Ok((Arc::new(BasicAuth { challenge, users }), watch))
}

fn prepare_tls(field: &str, tls: &Tls, directory: &Path) -> Result<(Arc<ArcSwap<ServerConfig>>, Watch), StartError> {
    let files = match tls.source() {
        Ok(TlsSource::Files { cert, key }) => vec![directory.join(cert), directory.join(key)],
        _ => Vec::new(),
    };
    let min_version = tls.min_version;
    let make = move |contents: &[zeroize::Zeroizing<Vec<u8>>]| match contents {
        [cert, key] => tls::server_config(cert, key, min_version),
        _ => Err(TlsError::NoCertificate),
    };
    let snapshot = read(field, &files)?;
    let config = make(&snapshot.contents).map_err(|source| StartError::Tls {
        field: field.to_owned(),
        file: files.first().cloned().unwrap_or_default(),
        source,
    })?;
    let current = Arc::new(ArcSwap::new(config));
    let next = Arc::clone(&current);
    let watch = Watch::new(
        field.to_owned(),
        files,
        &snapshot,
        Box::new(move |contents| {
            next.store(make(contents)?);
            Ok(())
        }),
    );
    Ok((current, watch))
}

fn read(field: &str, files: &[PathBuf]) -> Result<Snapshot, StartError> {
    reload::read(files).map_err(|source| StartError::Read { field: field.to_owned(), source })
}

fn first(contents: &[zeroize::Zeroizing<Vec<u8>>]) -> Result<&[u8], Box<dyn Error + Send + Sync>> {
    contents.first().map(|content| content.as_slice()).ok_or_else(|| "no file is named".into())
}

/// An empty file is how the last user is removed, so it is obeyed; but it may also be a file that is being written.
fn warn_if_empty(parsed: &UsersFile, file: &Path) {
    if parsed.users().is_empty() {
        tracing::warn!(file = %file.display(), "the file has no users; nobody can log in");
    }
}
