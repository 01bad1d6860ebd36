//! The plugin's side: one question to the agent.

use crate::frame::{self, FrameError};
use crate::serve::{PeerError, check_peer};
use crate::wire::{Answer, Ask, DocumentError, Reason};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait before trying again to reach an agent that has too many callers.
const AGAIN: Duration = Duration::from_millis(20);

/// The agent of this node.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Where it listens.
    pub socket: PathBuf,
    /// How long everything may take together.
    pub within: Duration,
}

/// The agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there.
    #[error("can't reach it at {}: {source}", socket.display())]
    Connect {
        /// Where.
        socket: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Too many wait already.
    #[error("it did not take the call at {} within {} ms: too many wait already", socket.display(), within.as_millis())]
    Busy {
        /// Where.
        socket: PathBuf,
        /// How long was waited.
        within: Duration,
    },
    /// Somebody else is there.
    #[error("whoever listens in its place is not to be trusted: {0}")]
    Peer(#[from] PeerError),
    /// No answer in time.
    #[error("it gave no answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// The conversation broke off.
    #[error("the conversation with it failed: {0}")]
    Frame(#[source] FrameError),
    /// The answer is of another version, or no answer.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The agent says that the question is of another version.
    #[error("it is of another version: {0}")]
    Version(String),
    /// The agent is not ready.
    #[error("it is not ready: {0}")]
    NotReady(String),
}

impl Agent {
    /// Asks. A refusal for good is an answer; what amounts to nobody being there is an error.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask(&self, ask: &Ask, namespace: Option<BorrowedFd<'_>>) -> Result<Answer, AskError> {
        let deadline = Instant::now() + self.within;
        let connection = self.connect(deadline)?;
        check_peer(&connection)?;
        let failed = |error| match error {
            FrameError::Late => AskError::Late(self.within),
            other => AskError::Frame(other),
        };
        frame::send(&connection, &ask.write(), namespace, deadline).map_err(failed)?;
        let frame = frame::receive(&connection, deadline).map_err(failed)?;
        match Answer::read(&frame.document)? {
            Answer::Refused(refusal) if refusal.reason == Reason::Version => Err(AskError::Version(refusal.message)),
            Answer::Refused(refusal) if refusal.reason == Reason::NotReady => Err(AskError::NotReady(refusal.message)),
            answer => Ok(answer),
        }
    }

    /// Connects without ever blocking in the kernel, which would wait without limit where too many wait already.
    fn connect(&self, deadline: Instant) -> Result<OwnedFd, AskError> {
        let failed = |error: Errno| AskError::Connect { socket: self.socket.clone(), source: error.into() };
        let address = SocketAddrUnix::new(self.socket.as_path()).map_err(failed)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        loop {
            match connect(&socket, &address) {
                Ok(()) => return Ok(socket),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if Instant::now() + AGAIN < deadline => thread::sleep(AGAIN),
                Err(Errno::AGAIN) => {
                    return Err(AskError::Busy { socket: self.socket.clone(), within: self.within });
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::listen;
    use std::os::unix::net::UnixListener;

    #[test]
    fn an_agent_with_too_many_callers_is_not_waited_for_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("cni.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        listen(&listener, 0).unwrap();
        let agent = Agent { socket, within: Duration::from_millis(300) };
        let waiting: Vec<_> = std::iter::from_fn(|| agent.connect(Instant::now()).ok()).collect();
        assert!(!waiting.is_empty());
        let begun = Instant::now();
        let error = agent.ask(&Ask::Status, None).unwrap_err();
        assert!(matches!(error, AskError::Busy { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn an_agent_that_says_nothing_is_late() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("cni.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let agent = Agent { socket, within: Duration::from_millis(100) };
        let error = agent.ask(&Ask::Status, None).unwrap_err();
        assert!(matches!(error, AskError::Late(_)), "{error}");
    }

    #[test]
    fn nobody_there_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut agent = Agent { socket: directory.path().join("cni.sock"), within: Duration::from_secs(1) };
        let error = agent.ask(&Ask::Status, None).unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
        drop(UnixListener::bind(&agent.socket).unwrap());
        let error = agent.ask(&Ask::Status, None).unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
        agent.socket = directory.path().join("x".repeat(200));
        assert!(matches!(agent.ask(&Ask::Status, None), Err(AskError::Connect { .. })));
    }
}
