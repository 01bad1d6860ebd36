//! What comes and goes.

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use tonic::codec::Streaming;

use crate::call::{Caller, decode};
use crate::error::{BadAnswer, Call, Error};
use crate::model::{self, ContainerStatus, SandboxStatus};
use crate::wire::runtime as wire;
use sidewall_runtime_ids::ContainerId;

/// What happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// It was made.
    Created,
    /// It was started.
    Started,
    /// It has ended.
    Stopped,
    /// It was taken away.
    Deleted,
    /// The runtime gave a kind that CRI v1 does not have.
    Unknown,
}

/// A container, or a pod's sandbox, has come or gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    /// Whose event it is. A sandbox has events too: then this is the sandbox's id.
    pub container: ContainerId,
    /// What happened.
    pub kind: EventKind,
    /// When, where the runtime tells.
    pub at: Option<SystemTime>,
    /// The pod's sandbox as it was then, where the runtime tells; without details.
    pub sandbox: Option<SandboxStatus>,
    /// The pod's containers as they were then, where the runtime tells; without details.
    pub containers: Vec<ContainerStatus>,
}

/// The stream of events, for runtimes where nobody else reads it. It has no past: list everything after it has begun, and
/// compare from time to time, since a runtime may leave events out.
///
/// **containerd 1.7 gives each event to one reader only** (seen on 1.7.24: two streams got every other event): beside a
/// kubelet with the feature `EventedPLEG`, or a second stream of one's own, both miss events. containerd 2.2 gives every
/// event to every stream. Where there is NRI, its events tell the same to everybody and sooner.
pub struct Events {
    caller: Caller,
    stream: Option<Streaming<Bytes>>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("begun", &self.stream.is_some()).finish_non_exhaustive()
    }
}

impl Events {
    const CALL: Call = Call::GetContainerEvents;

    pub(crate) fn new(caller: Caller) -> Self {
        Self { caller, stream: None }
    }

    /// Waits for the next event, for however long that takes. After an error the next call begins anew.
    ///
    /// Dropping the future before the first event ends the question with it, so keep it (pinned) where it stands in a
    /// `select`. Later on nothing is lost by that.
    ///
    /// # Errors
    ///
    /// [`Error::NotImplemented`] where the runtime has no events: poll instead. [`Error::Lost`] when the connection has
    /// ended, [`BadAnswer::Ended`] when only the stream has.
    pub async fn next(&mut self) -> Result<ContainerEvent, Error> {
        let next = self.next_or_error().await;
        if next.is_err() {
            self.stream = None;
        }
        next
    }

    async fn next_or_error(&mut self) -> Result<ContainerEvent, Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(self.caller.follow(Self::CALL, &wire::GetEventsRequest::default()).await?),
        };
        let bad = |problem| Error::BadAnswer { call: Self::CALL, problem };
        let message = stream.message().await.map_err(|status| self.caller.failure(Self::CALL, &status))?;
        let event: wire::ContainerEventResponse = decode(Self::CALL, message.ok_or(bad(BadAnswer::Ended))?)?;
        read(event).map_err(bad)
    }
}

fn read(from: wire::ContainerEventResponse) -> Result<ContainerEvent, BadAnswer> {
    use wire::ContainerEventType as Type;
    let kind = match Type::try_from(from.container_event_type) {
        Ok(Type::ContainerCreatedEvent) => EventKind::Created,
        Ok(Type::ContainerStartedEvent) => EventKind::Started,
        Ok(Type::ContainerStoppedEvent) => EventKind::Stopped,
        Ok(Type::ContainerDeletedEvent) => EventKind::Deleted,
        Err(_) => EventKind::Unknown,
    };
    Ok(ContainerEvent {
        container: model::container_id(from.container_id)?,
        kind,
        at: model::time(from.created_at),
        sandbox: from.pod_sandbox_status.map(TryInto::try_into).transpose()?,
        containers: from.containers_statuses.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
    })
}
