//! The agent's side: where it listens, who may ask, and one question answered.
//!
//! No threads and no runtime here. [`Listening`] is a listener of the standard library, and can be had non-blocking;
//! [`answer`] does all that one connection needs and may block until its deadline. A caller with a runtime takes the
//! parts: [`check_peer`], [`Incoming`](crate::frame::Incoming), [`understand`], [`Outgoing`](crate::frame::Outgoing).

use crate::frame::{self, Frame, FrameError};
use crate::temporary;
use crate::wire::{Answer, Ask, DocumentError, Reason};
use rustix::net::sockopt::socket_peercred;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The agent can't listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The directory can't be made or looked at.
    #[error("can't use the directory {}: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The directory is not root's alone.
    #[error(
        "{} must be root's, and nobody else may write there: another process could put its own socket in our place; \
         chown root:root and chmod 0755 it",
        .0.display()
    )]
    NotRootsAlone(PathBuf),
    /// The socket can't be made.
    #[error("can't listen at {}: {source}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// A socket at which the plugin asks. It is gone when this is dropped, unless another agent has taken its place.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
}

impl Listening {
    /// Listens at a path, for root alone. A socket that is there already is replaced in one step: while one agent
    /// follows another, there is always one who listens.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn at(path: &Path) -> Result<Self, ListenError> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |source| ListenError::Directory { path: directory.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
        let meta = fs::metadata(directory).map_err(failed)?;
        if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
            return Err(ListenError::NotRootsAlone(directory.to_owned()));
        }
        let failed = |source| ListenError::Socket { path: path.to_owned(), source };
        let made = temporary::beside(path);
        let listener = UnixListener::bind(&made).map_err(failed)?;
        let placed = fs::set_permissions(&made, Permissions::from_mode(0o600))
            .and_then(|()| fs::symlink_metadata(&made))
            .and_then(|meta| fs::rename(&made, path).map(|()| (meta.dev(), meta.ino())));
        match placed {
            Ok(identity) => Ok(Self { listener, path: path.to_owned(), identity }),
            Err(error) => {
                let _ = fs::remove_file(&made);
                Err(failed(error))
            }
        }
    }

    /// The listener; accept on it, or take a copy for a runtime.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.identity);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A question can't be answered.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is not root's.
    #[error("the other side runs as UID {0}, and only root may speak here")]
    NotRoot(u32),
    /// The kernel does not say whose it is.
    #[error("can't find out who the other side is: {0}")]
    Unknown(#[source] io::Error),
}

/// Checks that root is at the other end of a connection.
///
/// # Errors
/// [`PeerError`].
pub fn check_peer(socket: impl AsFd) -> Result<(), PeerError> {
    match socket_peercred(socket) {
        Ok(peer) if peer.uid.is_root() => Ok(()),
        Ok(peer) => Err(PeerError::NotRoot(peer.uid.as_raw())),
        Err(error) => Err(PeerError::Unknown(error.into())),
    }
}

/// The question in a frame, with the network namespace that belongs to it; or the answer that says why there is none.
///
/// Whether the descriptor is a network namespace the caller checks (`NetNs::from_fd` does).
///
/// # Errors
/// A refusal, to be sent.
pub fn understand(frame: Frame) -> Result<(Ask, Option<OwnedFd>), Answer> {
    let ask = Ask::read(&frame.document).map_err(|error| {
        let reason = match error {
            DocumentError::Version(_) => Reason::Version,
            DocumentError::NotUnderstood(_) => Reason::NotUnderstood,
        };
        Answer::refused(reason, format!("Sidewall's agent can't answer its CNI plugin: {error}"))
    })?;
    if ask.has_namespace() == frame.descriptor.is_some() {
        return Ok((ask, frame.descriptor));
    }
    let what = if ask.has_namespace() { "without its network namespace" } else { "with a descriptor" };
    Err(Answer::refused(Reason::NotUnderstood, format!("Sidewall's agent got a question {what} from its CNI plugin")))
}

/// A connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// Not root's.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// No question came.
    #[error("no question came: {0}")]
    Question(#[source] FrameError),
    /// The answer did not go out.
    #[error("the answer could not be given: {0}")]
    Answer(#[source] FrameError),
}

/// Answers the one question of a connection. What can't be understood is refused without asking `judge`.
///
/// # Errors
/// [`AnswerError`], for the log: whoever asked is gone, late or not allowed to ask.
pub fn answer(
    connection: impl AsFd,
    deadline: Instant,
    judge: impl FnOnce(Ask, Option<OwnedFd>) -> Answer,
) -> Result<Answer, AnswerError> {
    let connection = connection.as_fd();
    check_peer(connection)?;
    let frame = frame::receive(connection, deadline).map_err(AnswerError::Question)?;
    let answer = understand(frame).map_or_else(|refusal| refusal, |(ask, namespace)| judge(ask, namespace));
    frame::send(connection, &answer.write(), None, deadline).map_err(AnswerError::Answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests;
