//! A client's connection, under the HTTP library: reads along for framing ([`crate::framing`]) and keeps the time.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::framing::{FramingFault, Scanner, Stage};

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a request's head, and before the first request.
    pub header: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Without taking any of a response.
    pub send: Duration,
}

/// Why a connection ended otherwise than by request and response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    /// The bytes are not a request.
    #[error(transparent)]
    Framing(#[from] FramingFault),
    /// The head did not come in time.
    #[error("the request's head did not come in time")]
    HeaderTimeout,
    /// The response was not taken in time.
    #[error("the client did not take the response in time")]
    SendTimeout,
}

/// What connection and requests tell each other.
#[derive(Debug, Default)]
pub struct StreamState {
    /// A request is being answered, so silence of the client is no idleness.
    pub busy: Cell<bool>,
    /// What ended the connection.
    pub fault: Cell<Option<StreamFault>>,
}

/// A client's connection. Bytes at fault reach the HTTP library with a NUL in place of their end: there is no place in a
/// message where a NUL is allowed, so the library refuses it with 400, after it has answered what came before.
pub struct GuardedStream<S> {
    inner: S,
    scanner: Scanner,
    state: Rc<StreamState>,
    patience: Rc<Cell<Patience>>,
    /// No request has come yet.
    fresh: bool,
    /// When the current silence, or the current head, began.
    since: Option<(Stage, Instant)>,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl<S> GuardedStream<S> {
    /// Guards a connection whose heads may have `limit` bytes. The patience may change while it lasts; a wait that has begun
    /// keeps its time, unless it is cut shorter.
    pub fn new(inner: S, limit: usize, patience: Rc<Cell<Patience>>, state: Rc<StreamState>) -> Self {
        let now = Instant::now();
        let header = patience.get().header;
        Self {
            inner,
            scanner: Scanner::new(limit),
            state,
            patience,
            fresh: true,
            since: Some((Stage::Head, now)),
            read_timer: Box::pin(tokio::time::sleep_until(now + header)),
            write_timer: None,
        }
    }

    /// Nothing came: whether the client has taken too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        let stage = match self.scanner.stage() {
            Stage::Idle if self.fresh => Stage::Head,
            stage => stage,
        };
        let limit = match stage {
            // Bodies have a clock of their own, which stops while the application is slow.
            Stage::Body => None,
            Stage::Idle if self.state.busy.get() => None,
            Stage::Idle => Some(self.patience.get().idle),
            Stage::Head => Some(self.patience.get().header),
        };
        let Some(limit) = limit else {
            self.since = None;
            return Poll::Pending;
        };
        let start = match self.since {
            Some((began, start)) if began == stage => start,
            _ => {
                let now = Instant::now();
                self.since = Some((stage, now));
                now
            }
        };
        // The timer is moved only when it fires too early, not with every request.
        let deadline = start + limit;
        if self.read_timer.deadline() > deadline {
            self.read_timer.as_mut().reset(deadline);
        }
        loop {
            ready!(self.read_timer.as_mut().poll(cx));
            if self.read_timer.deadline() >= deadline {
                return Poll::Ready(if stage == Stage::Idle { Expired::Idle } else { Expired::Head });
            }
            self.read_timer.as_mut().reset(deadline);
        }
    }

    /// Passes on what a write did; when it waits, whether it has waited too long.
    fn poll_written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer = None;
            return written;
        }
        let send = self.patience.get().send;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(send)));
        ready!(timer.as_mut().poll(cx));
        self.state.fault.set(Some(StreamFault::SendTimeout));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

enum Expired {
    Idle,
    Head,
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if matches!(self.state.fault.get(), Some(StreamFault::Framing(_))) {
            // Nothing after a fault is a request.
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                return match ready!(self.poll_patience(cx)) {
                    // As if the client had closed.
                    Expired::Idle => Poll::Ready(Ok(())),
                    Expired::Head => {
                        self.state.fault.set(Some(StreamFault::HeaderTimeout));
                        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                    }
                };
            }
        }
        let (stage, heads) = (self.scanner.stage(), self.scanner.heads());
        match self.scanner.scan(&buf.filled()[before..]) {
            Ok(()) => {
                // Slow bytes of one head share one clock; the next head has its own.
                if self.scanner.stage() != stage || self.scanner.heads() != heads {
                    self.since = None;
                }
                if self.scanner.heads() > 0 {
                    self.fresh = false;
                }
            }
            Err((passed, fault)) => {
                self.state.fault.set(Some(StreamFault::Framing(fault)));
                let end = before + passed;
                buf.set_filled(end);
                if buf.remaining() > 0 {
                    buf.put_slice(&[0]);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.poll_written(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.poll_written(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.poll_written(cx, shut)
    }
}

#[cfg(test)]
mod tests;
