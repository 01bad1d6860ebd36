//! Reads the flow log of a node.

use crate::FOLLOW;
use crate::error::ClientError;
use crate::follow::Follow;
use crate::record::{Problem, read_end, read_flow, read_lost};
use crate::token::Token;
use crate::wire::{self, flow_event};
use bytes::Bytes;
use futures::Stream;
use http::uri::PathAndQuery;
use prost::Message;
use sidewall_flow::Record;
use sidewall_grpc::{Connection, Heartbeat, Raw, Settings, in_full, is_too_large, shortened};
use std::error::Error as _;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::codec::Streaming;
use tonic::{Code, Request, Status};

/// The most octets of an event: a record names at most 16 policies, and each name is short.
const EVENT_MAX: usize = 64 << 10;
/// How much of the other side's words an error repeats, in octets.
const WORDS_MAX: usize = 1024;
/// How long the first exchange may take.
const CONNECT: Duration = Duration::from_secs(10);
/// The other end may be far away, behind somebody else's tunnel.
const SETTINGS: Settings = Settings {
    headers_most: 16 << 10,
    heartbeat: Some(Heartbeat { every: Duration::from_secs(30), within: Duration::from_secs(20) }),
};

/// One connection to a node's flow log, shared by its clones.
#[derive(Clone, Debug)]
pub struct Client {
    grpc: tonic::client::Grpc<Connection>,
}

/// What the stream tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The first: so many of the events that come next were kept.
    Begun {
        /// How many.
        kept: u64,
    },
    /// A record.
    Record(Record),
    /// Something that only newer programs can show.
    Newer {
        /// The field that has a value which is not known here.
        field: &'static str,
    },
}

/// The events of a call, until it ends or fails; after an error nothing comes.
pub struct Events {
    stream: Option<Streaming<Bytes>>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("ended", &self.stream.is_none()).finish()
    }
}

impl Client {
    /// Speaks to a server over a connection, whatever it is.
    ///
    /// # Errors
    /// [`ClientError::NotConnected`].
    pub async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, ClientError> {
        let late = |_| ClientError::NotConnected(format!("no answer within {CONNECT:?}"));
        let shaken = timeout(CONNECT, Connection::over(io, SETTINGS)).await.map_err(late)?;
        let connection = shaken.map_err(|error| ClientError::NotConnected(in_full(&error)))?;
        Ok(Self { grpc: connection.grpc().max_decoding_message_size(EVENT_MAX) })
    }

    /// Speaks to the agent of this node at its socket, as root.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unix(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::Nobody(path.to_owned()),
            ErrorKind::PermissionDenied => ClientError::NotRoot(path.to_owned()),
            _ => ClientError::NotConnected(error.to_string()),
        })?;
        Self::over(stream).await
    }

    /// Asks for records, showing a token where the server wants one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn follow(&self, follow: &Follow, token: Option<&Token>) -> Result<Events, ClientError> {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| ClientError::Lost(in_full(&error)))?;
        let mut request = Request::new(follow.request().encode_to_vec());
        if let Some(token) = token {
            token.show(request.metadata_mut());
        }
        let answer = grpc.server_streaming(request, PathAndQuery::from_static(FOLLOW), Raw).await;
        Ok(Events { stream: Some(answer.map_err(|status| failure(&status))?.into_inner()) })
    }
}

impl Stream for Events {
    type Item = Result<Event, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let event = match ready!(Pin::new(stream).poll_next(context)) {
            Some(Ok(bytes)) => Some(read(bytes)),
            Some(Err(status)) => Some(Err(failure(&status))),
            None => None,
        };
        if !matches!(event, Some(Ok(_))) {
            self.stream = None;
        }
        Poll::Ready(event)
    }
}

fn read(bytes: Bytes) -> Result<Event, ClientError> {
    let message = wire::FlowEvent::decode(bytes).map_err(|error| ClientError::BadEvent(error.to_string()))?;
    let record = match message.event {
        Some(flow_event::Event::Begun(begun)) => return Ok(Event::Begun { kept: begun.kept }),
        Some(flow_event::Event::Flow(flow)) => read_flow(flow),
        Some(flow_event::Event::Lost(lost)) => read_lost(lost),
        Some(flow_event::Event::End(end)) => Ok(read_end(end)),
        None => Err(Problem::Newer("event")),
    };
    match record {
        Ok(record) => Ok(Event::Record(record)),
        Err(Problem::Newer(field)) => Ok(Event::Newer { field }),
        Err(Problem::Malformed(field)) => Err(ClientError::BadEvent(format!("{field} makes no sense"))),
    }
}

fn failure(status: &Status) -> ClientError {
    // A status with a cause was made on this side: nobody can send one.
    if let Some(cause) = status.source() {
        return ClientError::Lost(harmless(&in_full(cause)));
    }
    let message = harmless(status.message());
    match status.code() {
        Code::Unauthenticated => ClientError::Nameless(message),
        Code::PermissionDenied => ClientError::NotAllowed(message),
        Code::Unavailable => ClientError::Unavailable(message),
        Code::ResourceExhausted => ClientError::TooMany(message),
        Code::InvalidArgument => ClientError::NotUnderstood(message),
        Code::Unimplemented => ClientError::NoSuchCall(message),
        // Made here too.
        _ if is_too_large(status) => ClientError::BadEvent(format!("an event of more than {EVENT_MAX} octets")),
        code => ClientError::Failed { code: format!("{code:?}"), message },
    }
}

/// The other side's words: whatever it sends, a terminal shows it as it is, and not for long.
fn harmless(words: &str) -> String {
    let words: String = words.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    shortened(&words, WORDS_MAX)
}
