//! From a configuration's text to a version of it that can be put in force: every file that it names is read and understood.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sidewall_proxy_config::{Basic, Form, Problems, ProxyConfig, Tls, TlsSource, UsersSource};

use crate::auth::{BasicAuth, Challenge, NoRandomness};
use crate::config::{self, LoadError};
use crate::htpasswd::UsersError;
use crate::reload::{self, ReadError, Snapshot};
use crate::service::Access;
use crate::sockets::SocketError;
use crate::sources::{Certificate, CertificateKey, Needs, Sources};
use crate::tls::TlsError;
use crate::version::ConfigHash;

/// Why a configuration cannot be put in force.
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
    /// The system takes no socket into a worker's event queue.
    #[error("the system watches no more sockets: {0}")]
    Register(#[source] io::Error),
}

impl StartError {
    /// The field that it is about, if it is about one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Read { field, .. } | Self::Users { field, .. } | Self::Tls { field, .. } => Some(field),
            Self::Socket(error) => Some(error.field()),
            Self::Config(_) | Self::NoRandomness(_) | Self::Thread(_) | Self::Register(_) => None,
        }
    }
}

/// Why a version of the configuration file is not put in force.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The file is no configuration.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It is one, but something that it needs is not there.
    #[error("{place}: {source}")]
    Start {
        /// The file, and the line of the field if it is about one.
        place: String,
        /// What is missing.
        source: StartError,
    },
}

impl VersionError {
    /// Whether the same text might be put in force later: because a file that it names has come, or a port is free.
    pub fn may_heal(&self) -> bool {
        match self {
            Self::Load(LoadError::Config { .. } | LoadError::Text { .. }) => false,
            Self::Load(LoadError::Read(_)) | Self::Start { .. } => true,
        }
    }
}

/// A version of a configuration file whose files have been read and understood. Nothing listens yet.
pub struct Prepared {
    pub(crate) source: ConfigSource,
    pub(crate) config: ProxyConfig,
    pub(crate) listeners: Vec<PreparedListener>,
    pub(crate) needs: Needs,
}

/// Where a configuration was read, and which version of the file that was.
pub(crate) struct ConfigSource {
    pub(crate) file: PathBuf,
    pub(crate) snapshot: Snapshot,
    pub(crate) hash: ConfigHash,
}

/// What was read for one listener.
#[derive(Clone)]
pub(crate) struct PreparedListener {
    pub(crate) access: Access,
    pub(crate) tls: Option<Certificate>,
}

impl Prepared {
    /// Reads a configuration file, and the users and certificates that it names. Relative names are looked up beside it.
    ///
    /// # Errors
    ///
    /// Names the file, the line and the field.
    pub fn load(file: &Path) -> Result<Self, VersionError> {
        let snapshot = reload::read(&[file.to_owned()]).map_err(LoadError::Read)?;
        Self::new(file, snapshot, &Sources::default()).map_err(|refused| refused.error)
    }

    /// The same of a version that has been read, beside what is known already.
    pub(crate) fn new(file: &Path, snapshot: Snapshot, known: &Sources) -> Result<Self, Box<Refused>> {
        let outcome = read(file, &snapshot, known);
        match outcome {
            Ok((config, listeners, needs)) => {
                let hash = ConfigHash::of(text_of(&snapshot));
                Ok(Self { source: ConfigSource { file: file.to_owned(), snapshot, hash }, config, listeners, needs })
            }
            Err(error) => Err(Box::new(Refused { error, snapshot })),
        }
    }
}

/// A version that cannot be put in force, at least not now.
pub(crate) struct Refused {
    pub(crate) error: VersionError,
    pub(crate) snapshot: Snapshot,
}

impl ConfigSource {
    /// This version, which cannot be put in force for this.
    pub(crate) fn refused(self, error: StartError) -> Box<Refused> {
        Box::new(Refused { error: self.at(error), snapshot: self.snapshot })
    }

    /// An error of this version, at the place of its field.
    pub(crate) fn at(&self, error: StartError) -> VersionError {
        at(&self.file, &self.snapshot, error)
    }
}

fn text_of(snapshot: &Snapshot) -> &[u8] {
    snapshot.contents.first().map(|content| content.as_slice()).unwrap_or_default()
}

fn at(file: &Path, snapshot: &Snapshot, source: StartError) -> VersionError {
    let text = std::str::from_utf8(text_of(snapshot)).unwrap_or_default();
    let place = match source.field() {
        Some(field) => format!("{}:{}", file.display(), config::line_of(text, field)),
        None => file.display().to_string(),
    };
    VersionError::Start { place, source }
}

type Read = (ProxyConfig, Vec<PreparedListener>, Needs);

fn read(file: &Path, snapshot: &Snapshot, known: &Sources) -> Result<Read, VersionError> {
    let config = config::from_file(file, text_of(snapshot))?;
    let directory = file.parent().unwrap_or(Path::new("."));
    let (listeners, needs) = listeners_of(&config, directory, known).map_err(|source| at(file, snapshot, source))?;
    Ok((config, listeners, needs))
}

fn listeners_of(
    config: &ProxyConfig,
    directory: &Path,
    known: &Sources,
) -> Result<(Vec<PreparedListener>, Needs), StartError> {
    config.validate(Form::File)?;
    let mut needs = Needs::default();
    let mut listeners = Vec::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let field = format!("listeners[{index}]");
        let mut access = Access::Anonymous;
        for (entry, authentication) in listener.authentication.iter().enumerate() {
            if let Some(basic) = &authentication.basic {
                let field = format!("{field}.authentication[{entry}].basic.htpasswdFile");
                let users = needs.users(&field, users_file(basic, directory), known)?;
                let challenge = Challenge::new(&basic.realm).unwrap_or_default();
                access = Access::Basic(Arc::new(BasicAuth { challenge, users }));
            }
        }
        let tls = match &listener.tls {
            None => None,
            Some(tls) => Some(needs.certificate(&format!("{field}.tls"), certificate_key(tls, directory), known)?),
        };
        listeners.push(PreparedListener { access, tls });
    }
    Ok((listeners, needs))
}

// The configuration is valid, so that sources are files. Were they not, what is read instead is no file.

fn users_file(basic: &Basic, directory: &Path) -> PathBuf {
    match basic.source() {
        Ok(UsersSource::File(file)) => directory.join(file),
        _ => directory.to_owned(),
    }
}

fn certificate_key(tls: &Tls, directory: &Path) -> CertificateKey {
    let (cert, key) = match tls.source() {
        Ok(TlsSource::Files { cert, key }) => (directory.join(cert), directory.join(key)),
        _ => (directory.to_owned(), directory.to_owned()),
    };
    CertificateKey { cert, key, min_version: tls.min_version }
}
