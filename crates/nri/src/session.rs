//! One session: from connecting to the end of the connection.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::answer::{Answering, Reply};
use crate::ask::{self, Ask, Status, Synchronize};
use crate::end::{End, Violation};
use crate::handler::{Event, Handler, Veto};
use crate::model::{Container, Pod, RuntimeInfo};
use crate::mux::{self, Demux};
use crate::options::Options;
use crate::ttrpc::{self, Assembler, Incoming, code};
use crate::wire::{nri, ttrpc as wire};

/// What NRI's own default is, where a runtime does not tell.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How much is read at once, in bytes.
const READ: usize = 64 << 10;
/// The stream of our only request.
const REGISTRATION: u32 = 1;

/// One session: connects, registers and serves until the connection ends. Dropping the future ends it; callbacks that are
/// under way at its end are dropped where they wait.
pub async fn serve<H: Handler>(options: &Options, handler: &Arc<H>) -> End {
    match Session::begin(options, handler).await {
        Ok(mut session) => match session.run().await {
            Ok(never) => match never {},
            Err(end) => end,
        },
        Err(end) => end,
    }
}

/// There is no good end, only ends.
enum Never {}

struct Session<'a, H> {
    options: &'a Options,
    handler: &'a Arc<H>,
    input: OwnedReadHalf,
    output: OwnedWriteHalf,
    demux: Demux,
    asked: Assembler,
    answered: Assembler,
    /// How long the runtime waits for an answer.
    request_timeout: Duration,
    /// What there is, as far as it has come, and how many bytes that was.
    there_is: Synchronize,
    there_is_bytes: usize,
    /// Until when all of it must be answered.
    there_is_until: Option<Instant>,
    synchronised: bool,
    /// The callbacks under way, and what those that are not answered yet are about.
    callbacks: JoinSet<()>,
    streams: BTreeMap<Id, (u32, Event)>,
    replies: mpsc::Receiver<Reply>,
    reply: mpsc::Sender<Reply>,
}

impl<'a, H: Handler> Session<'a, H> {
    async fn begin(options: &'a Options, handler: &'a Arc<H>) -> Result<Self, End> {
        let connected = timeout(options.synchronise_within, UnixStream::connect(&options.socket)).await;
        let stream = connected.map_err(|_| End::NotSynchronised(options.synchronise_within))?;
        let (input, output) = stream.map_err(|error| not_connected(options, error))?.into_split();
        let most = options.synchronise_most.max(ttrpc::MESSAGE_MAX);
        let (reply, replies) = mpsc::channel(options.callbacks_most.max(1));
        let mut session = Self {
            options,
            handler,
            input,
            output,
            demux: Demux::new(ttrpc::HEADER + most),
            asked: Assembler::new(most),
            answered: Assembler::new(ttrpc::MESSAGE_MAX),
            request_timeout: REQUEST_TIMEOUT,
            there_is: Synchronize { pods: Vec::new(), containers: Vec::new(), more: false },
            there_is_bytes: 0,
            there_is_until: None,
            synchronised: false,
            callbacks: JoinSet::new(),
            streams: BTreeMap::new(),
            replies,
            reply,
        };
        let registration =
            nri::RegisterPluginRequest { plugin_name: options.name.clone(), plugin_idx: options.index.to_string() };
        let payload = registration.encode_to_vec();
        let request = ttrpc::request(REGISTRATION, "nri.pkg.api.v1alpha1.Runtime", "RegisterPlugin", payload);
        session.write(mux::RUNTIME, &request).await?;
        Ok(session)
    }

    async fn run(&mut self) -> Result<Never, End> {
        let synchronised_by = Instant::now() + self.options.synchronise_within;
        loop {
            self.demux.buffer().reserve(READ);
            tokio::select! {
                biased;
                Some(reply) = self.replies.recv() => self.answer(reply).await?,
                Some(ended) = self.callbacks.join_next_with_id() => self.ended(ended).await?,
                read = self.input.read_buf(self.demux.buffer()) => match read {
                    Ok(0) => return Err(End::Closed { synchronised: self.synchronised }),
                    Ok(_) => self.take().await?,
                    Err(error) => return Err(self.broken(error)),
                },
                () = sleep_until(synchronised_by), if !self.synchronised => {
                    return Err(End::NotSynchronised(self.options.synchronise_within));
                }
            }
        }
    }

    /// Takes what was read.
    async fn take(&mut self) -> Result<(), End> {
        while let Some((connection, bytes)) = self.demux.next()? {
            match connection {
                mux::PLUGIN => {
                    self.asked.push(&bytes);
                    while let Some(message) = self.asked.next()? {
                        if let Incoming::Request(stream, payload) = message {
                            self.request(stream, payload).await?;
                        }
                    }
                }
                mux::RUNTIME => {
                    self.answered.push(&bytes);
                    while let Some(message) = self.answered.next()? {
                        if let Incoming::Response(REGISTRATION, payload) = message {
                            registered(payload)?;
                        }
                    }
                }
                // Bytes of a connection that nobody opened.
                _ => {}
            }
        }
        Ok(())
    }

    async fn request(&mut self, stream: u32, payload: bytes::Bytes) -> Result<(), End> {
        let size = payload.len();
        let request = wire::Request::decode(payload).map_err(Violation::Malformed)?;
        let limit = self.limit(request.timeout_nano);
        match Ask::read(request) {
            Err(status) => self.respond(stream, Err(status)).await,
            Ok(Ask::Nothing) => self.respond(stream, Ok(Vec::new())).await,
            Ok(Ask::Shutdown) => {
                self.respond(stream, Ok(Vec::new())).await?;
                Err(End::Shutdown)
            }
            Ok(Ask::Configure(request)) => self.configure(stream, request).await,
            Ok(Ask::Synchronize(part)) => self.synchronize(stream, part, size, limit).await,
            Ok(Ask::Pod(event, pod)) => self.pod(stream, limit, event, *pod),
            Ok(Ask::Container(event, pod, container)) => self.container(stream, limit, event, *pod, *container),
        }
    }

    /// How long a callback has: less than the runtime waits, so that there is time for the answer's own way.
    fn limit(&self, timeout_nano: i64) -> Duration {
        let told = u64::try_from(timeout_nano).ok().filter(|told| *told > 0).map(Duration::from_nanos);
        let waits = told.map_or(self.request_timeout, |told| told.min(self.request_timeout));
        let limit = self.options.answer_within.min(waits.mul_f64(0.75));
        // A request tells nanoseconds of what the runtime has left; nobody wants to read them.
        limit.saturating_sub(Duration::from_nanos((limit.subsec_nanos() % 1_000_000).into()))
    }

    async fn configure(&mut self, stream: u32, request: nri::ConfigureRequest) -> Result<(), End> {
        let told = u64::try_from(request.request_timeout).ok().filter(|told| *told > 0).map(Duration::from_millis);
        self.request_timeout = told.unwrap_or(REQUEST_TIMEOUT);
        self.handler.connected(&RuntimeInfo {
            runtime: request.runtime_name,
            version: request.runtime_version,
            nri_version: Some(request.nri_version).filter(|version| !version.is_empty()),
            request_timeout: self.request_timeout,
            answer_within: self.limit(0),
        });
        let answer = nri::ConfigureResponse { events: ask::subscription(self.options.ask_at_create) };
        self.respond(stream, Ok(answer.encode_to_vec())).await
    }

    async fn synchronize(&mut self, stream: u32, part: Synchronize, size: usize, limit: Duration) -> Result<(), End> {
        self.there_is_bytes = self.there_is_bytes.saturating_add(size);
        if self.there_is_bytes > self.options.synchronise_most {
            return Err(Violation::Synchronisation { most: self.options.synchronise_most }.into());
        }
        // The runtime's time is for all parts together.
        let until = *self.there_is_until.get_or_insert_with(|| Instant::now() + limit);
        self.there_is.pods.extend(part.pods);
        self.there_is.containers.extend(part.containers);
        if part.more {
            let answer = nri::SynchronizeResponse { more: true };
            return self.respond(stream, Ok(answer.encode_to_vec())).await;
        }
        (self.there_is_bytes, self.there_is_until) = (0, None);
        let pods = std::mem::take(&mut self.there_is.pods);
        let containers = std::mem::take(&mut self.there_is.containers);
        let answering = Answering { until, ..self.answering(stream, Event::Synchronize, None, limit) };
        let handler = Arc::clone(self.handler);
        self.spawn(stream, Event::Synchronize, async move {
            answering.decide(handler.synchronize(pods, containers), |late| handler.late(late)).await;
        })
    }

    fn pod(&mut self, stream: u32, limit: Duration, event: Event, pod: Pod) -> Result<(), End> {
        let answering = self.answering(stream, event, Some(pod.id.to_string()), limit);
        let handler = Arc::clone(self.handler);
        self.spawn(stream, event, async move {
            match event {
                Event::RunPod => answering.decide(handler.run_pod(pod), |late| handler.late(late)).await,
                Event::RemovePod => answering.tell(handler.pod_removed(pod)).await,
                _ => answering.tell(handler.pod_stopped(pod)).await,
            }
        })
    }

    fn container(
        &mut self,
        stream: u32,
        limit: Duration,
        event: Event,
        pod: Pod,
        container: Container,
    ) -> Result<(), End> {
        let answering = self.answering(stream, event, Some(container.id.to_string()), limit);
        let handler = Arc::clone(self.handler);
        self.spawn(stream, event, async move {
            let late = |late: &_| handler.late(late);
            match event {
                Event::StartContainer => answering.decide(handler.start_container(pod, container), late).await,
                Event::CreateContainer => answering.decide(handler.create_container(pod, container), late).await,
                Event::RemoveContainer => answering.tell(handler.container_removed(pod, container)).await,
                _ => answering.tell(handler.container_stopped(pod, container)).await,
            }
        })
    }

    fn answering(&self, stream: u32, event: Event, id: Option<String>, limit: Duration) -> Answering {
        Answering { stream, event, id, limit, until: Instant::now() + limit, replies: self.reply.clone() }
    }

    fn spawn(
        &mut self,
        stream: u32,
        event: Event,
        callback: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), End> {
        if self.callbacks.len() >= self.options.callbacks_most {
            return Err(End::Overloaded { most: self.options.callbacks_most });
        }
        let task = self.callbacks.spawn(callback);
        self.streams.insert(task.id(), (stream, event));
        Ok(())
    }

    async fn answer(&mut self, reply: Reply) -> Result<(), End> {
        self.streams.retain(|_, (stream, _)| *stream != reply.stream);
        self.respond(reply.stream, reply.answer()).await?;
        match (reply.event, reply.decision) {
            (Event::Synchronize, Ok(())) => self.synchronised = true,
            // containerd 1.7 would go on with a plugin that does not know what there is.
            (Event::Synchronize, Err(veto)) => return Err(End::NotTaken(veto)),
            _ => {}
        }
        Ok(())
    }

    /// A callback has come to its end. One that panicked has not been answered, and silence would let the container start.
    async fn ended(&mut self, ended: Result<(Id, ()), JoinError>) -> Result<(), End> {
        while let Ok(reply) = self.replies.try_recv() {
            self.answer(reply).await?;
        }
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        match self.streams.remove(&id) {
            Some((stream, event)) => {
                let decision = Err(Veto::new("the plugin failed; its own log says why"));
                self.answer(Reply { stream, event, decision }).await
            }
            None => Ok(()),
        }
    }

    async fn respond(&mut self, stream: u32, answer: Result<Vec<u8>, Status>) -> Result<(), End> {
        self.write(mux::PLUGIN, &ttrpc::response(stream, answer)).await
    }

    async fn write(&mut self, connection: u32, message: &[u8]) -> Result<(), End> {
        let mut frames = Vec::with_capacity(message.len() + 64);
        mux::encode(connection, message, &mut frames);
        let written = timeout(self.options.read_within, self.output.write_all(&frames)).await;
        written.map_err(|_| End::Unread(self.options.read_within))?.map_err(|error| self.broken(error))
    }

    fn broken(&self, error: io::Error) -> End {
        match error.kind() {
            // The runtime has closed the connection, with something of ours unread.
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                End::Closed { synchronised: self.synchronised }
            }
            _ => End::Io { socket: self.options.socket.clone(), source: error },
        }
    }
}

fn registered(payload: bytes::Bytes) -> Result<(), End> {
    let response = wire::Response::decode(payload).map_err(Violation::Malformed)?;
    match response.status {
        Some(status) if status.code != code::OK => {
            Err(End::Refused { code: status.code, message: status.message.chars().take(1024).collect() })
        }
        _ => Ok(()),
    }
}

fn not_connected(options: &Options, source: io::Error) -> End {
    let socket = options.socket.clone();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => End::NotThere { socket, source },
        io::ErrorKind::PermissionDenied => End::NotPermitted { socket, source },
        _ => End::Io { socket, source },
    }
}

#[cfg(test)]
mod tests;
