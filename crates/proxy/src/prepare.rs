//! From a configuration to what can be started: every file that it names is read and understood, and watched from then on.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use sidewall_proxy_config::{Basic, Form, Problems, ProxyConfig, Tls, TlsSource, UsersSource};

use crate::auth::{BasicAuth, Challenge, NoRandomness, UsersFile};
use crate::htpasswd::UsersError;
use crate::reload::{self, ReadError, Snapshot, Watch};
use crate::service::Access;
use crate::sockets::SocketError;
use crate::tls::{self, TlsError};

/// Why the proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration was not validated, or not as a file.
    #[error("{0}")]
    Config(#[from] Problems),
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
    pub(crate) config: ProxyConfig,
    pub(crate) listeners: Vec<PreparedListener>,
    pub(crate) watches: Vec<Watch>,
}

/// What was read for one listener.
#[derive(Clone)]
pub(crate) struct PreparedListener {
    pub(crate) access: Access,
    pub(crate) tls: Option<PreparedTls>,
}

/// The certificate in force.
#[derive(Clone)]
pub(crate) struct PreparedTls {
    pub(crate) config: Arc<ArcSwap<ServerConfig>>,
    /// As [`tls::ends`]; [`i64::MIN`] if that is not understood.
    pub(crate) ends: Arc<AtomicI64>,
}

impl Prepared {
    /// Reads the users and certificates that a configuration names. Relative names are looked up in `directory`.
    ///
    /// # Errors
    ///
    /// Names the field, the file and the line that is not understood.
    pub fn new(config: ProxyConfig, directory: &Path) -> Result<Self, StartError> {
        config.validate(Form::File)?;
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

fn prepare_tls(field: &str, tls: &Tls, directory: &Path) -> Result<(PreparedTls, Watch), StartError> {
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
    let end = |cert: &[u8]| tls::ends(cert).unwrap_or(i64::MIN);
    let ends = Arc::new(AtomicI64::new(end(first(&snapshot.contents).unwrap_or_default())));
    let current = PreparedTls { config: Arc::new(ArcSwap::new(config)), ends };
    let next = current.clone();
    let watch = Watch::new(
        field.to_owned(),
        files,
        &snapshot,
        Box::new(move |contents| {
            next.config.store(make(contents)?);
            next.ends.store(end(first(contents)?), Ordering::Relaxed);
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
