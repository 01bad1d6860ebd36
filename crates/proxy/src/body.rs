//! Bodies on their way: the client's to the application, the application's to the client. Both stream; neither is kept.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::exchange::Exchange;
use crate::headers;
use crate::upstream::Lease;

/// Why a body broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// The client paused for too long.
    #[error("the client paused for too long within the request's body")]
    ClientTimeout,
    /// The client's body ended early or is malformed.
    #[error("the request's body is malformed or ended early")]
    ClientBroken,
    /// The application paused for too long.
    #[error("the application paused for too long within the response's body")]
    UpstreamTimeout,
    /// The application's body ended early or is malformed.
    #[error("the response's body is malformed or ended early")]
    UpstreamBroken,
}

/// A pause that may not grow too long. The timer is moved only when it fires too early, so that a fast body pays nothing.
struct Pause {
    most: Duration,
    waiting: bool,
    last: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pause {
    fn new(most: Duration) -> Self {
        Self { most, waiting: false, last: Instant::now(), timer: None }
    }

    /// Something came.
    fn over(&mut self) {
        self.waiting = false;
    }

    /// The other side has nothing. Its time counts from here if it was not asked before.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waiting {
            self.waiting = true;
            self.last = Instant::now();
        }
        let deadline = self.last + self.most;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

/// What is known of a request's body while it is on its way.
#[derive(Debug)]
pub struct RequestProgress {
    /// When the last piece was passed on.
    pub last: Cell<Instant>,
    /// The client's next piece is being waited for (and not for the application to take one).
    pub client_is_slow: Cell<bool>,
    /// Bytes passed on.
    pub bytes: Cell<u64>,
    /// Why it broke off.
    pub fault: Cell<Option<BodyFault>>,
}

impl RequestProgress {
    /// Nothing has been passed on yet.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            last: Cell::new(Instant::now()),
            client_is_slow: Cell::new(false),
            bytes: Cell::new(0),
            fault: Cell::new(None),
        })
    }
}

/// A request's body on its way to the application.
pub enum RequestBody {
    /// There is none.
    Empty,
    /// As it comes from the client.
    Client(Box<ClientBody>),
}

/// The body that a client sends.
pub struct ClientBody {
    inner: Incoming,
    pause: Pause,
    progress: Rc<RequestProgress>,
}

impl RequestBody {
    /// The body of a client's request, which may pause for so long.
    pub fn new(inner: Incoming, pause: Duration, progress: &Rc<RequestProgress>) -> Self {
        if inner.is_end_stream() {
            return Self::Empty;
        }
        Self::Client(Box::new(ClientBody { inner, pause: Pause::new(pause), progress: Rc::clone(progress) }))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Self::Client(body) = self.get_mut() else {
            return Poll::Ready(None);
        };
        let fail = |body: &ClientBody, fault| {
            body.progress.fault.set(Some(fault));
            Poll::Ready(Some(Err(fault)))
        };
        let polled = Pin::new(&mut body.inner).poll_frame(cx);
        body.progress.client_is_slow.set(polled.is_pending());
        match polled {
            Poll::Pending => {
                ready!(body.pause.poll(cx));
                fail(body, BodyFault::ClientTimeout)
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => fail(body, BodyFault::ClientBroken),
            Poll::Ready(Some(Ok(frame))) => {
                body.pause.over();
                body.progress.last.set(Instant::now());
                if let Some(data) = frame.data_ref() {
                    body.progress.bytes.set(body.progress.bytes.get() + data.len() as u64);
                }
                Poll::Ready(Some(Ok(clean(frame))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.inner.size_hint(),
        }
    }
}

/// Trailers carry neither identity nor framing.
fn clean(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            headers::clean_trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// A response's body on its way to the client. When it is done, or given up, its exchange is logged.
pub struct ResponseBody {
    source: Source,
    exchange: Exchange,
}

enum Source {
    Own(Option<Bytes>),
    Upstream(Box<UpstreamBody>),
}

struct UpstreamBody {
    inner: Incoming,
    pause: Pause,
    /// Goes back to the pool when the body has ended.
    lease: Option<Lease>,
}

impl ResponseBody {
    /// A body of our own.
    pub fn own(bytes: Bytes, exchange: Exchange) -> Self {
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        let mut body = Self { source: Source::Own(bytes), exchange };
        body.settle();
        body
    }

    /// The application's body, which may pause for so long.
    pub fn upstream(inner: Incoming, lease: Lease, pause: Duration, exchange: Exchange) -> Self {
        let body = UpstreamBody { inner, pause: Pause::new(pause), lease: Some(lease) };
        let mut body = Self { source: Source::Upstream(Box::new(body)), exchange };
        body.settle();
        body
    }

    /// Marks the exchange as complete once nothing more will come, and gives the connection back.
    fn settle(&mut self) {
        if self.is_end_stream() {
            self.exchange.complete();
            if let Source::Upstream(body) = &mut self.source
                && let Some(lease) = body.lease.take()
            {
                lease.give_back();
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        let frame = match &mut this.source {
            Source::Own(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Source::Upstream(body) => match Pin::new(&mut body.inner).poll_frame(cx) {
                Poll::Pending => {
                    ready!(body.pause.poll(cx));
                    Some(Err(BodyFault::UpstreamTimeout))
                }
                Poll::Ready(Some(Ok(frame))) => {
                    body.pause.over();
                    Some(Ok(frame))
                }
                Poll::Ready(Some(Err(_))) => Some(Err(BodyFault::UpstreamBroken)),
                Poll::Ready(None) => None,
            },
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.exchange.sent(data.len() as u64);
                }
            }
            Some(Err(fault)) => this.exchange.failed(fault.to_string()),
            None => {}
        }
        if frame.is_none() {
            this.exchange.complete();
        }
        this.settle();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(bytes) => bytes.is_none(),
            Source::Upstream(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Upstream(body) => body.inner.size_hint(),
        }
    }
}
