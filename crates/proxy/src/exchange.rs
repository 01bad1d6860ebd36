//! One request and its answer, from the head of the one to the end of the other; logged when it is over, however it ends.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use http::{HeaderValue, Method, Uri};

use crate::access_log::Line;
use crate::body::RequestProgress;
use crate::service::Front;
use crate::stream::StreamState;

/// What a log calls a request whose client went away before the answer.
const CLIENT_WENT_AWAY: u16 = 499;

/// Where a request's connection comes from, and where it aimed at.
#[derive(Clone, Copy, Debug)]
pub struct Origins {
    /// The client's address.
    pub peer: SocketAddr,
    /// The port that it aimed at, if the kernel redirected it from there.
    pub captured: Option<u16>,
}

/// One request and its answer. Dropping it logs it.
pub struct Exchange {
    front: Rc<Front>,
    stream: Rc<StreamState>,
    started: Instant,
    origins: Origins,
    method: Method,
    uri: Uri,
    user: Option<HeaderValue>,
    status: u16,
    upstream_status: Option<u16>,
    bytes_in: Option<Rc<RequestProgress>>,
    bytes_out: u64,
    error: Option<Cow<'static, str>>,
    complete: bool,
}

impl Exchange {
    /// A request has come.
    pub fn new(
        front: Rc<Front>,
        stream: Rc<StreamState>,
        origins: Origins,
        started: Instant,
        (method, uri): (Method, Uri),
    ) -> Self {
        stream.busy.set(true);
        Self {
            front,
            stream,
            started,
            origins,
            method,
            uri,
            user: None,
            status: CLIENT_WENT_AWAY,
            upstream_status: None,
            bytes_in: None,
            bytes_out: 0,
            error: None,
            complete: false,
        }
    }

    /// The request's target.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Who it comes from.
    pub fn authenticated(&mut self, user: HeaderValue) {
        self.user = Some(user);
    }

    /// Where the bytes of the request's body are counted.
    pub fn counts(&mut self, progress: Rc<RequestProgress>) {
        self.bytes_in = Some(progress);
    }

    /// What the client is answered.
    pub fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// What the application answered.
    pub fn upstream_answered(&mut self, status: u16) {
        self.upstream_status = Some(status);
    }

    /// Why it does not go as it should; the first reason counts.
    pub fn failed(&mut self, why: impl Into<Cow<'static, str>>) {
        self.error.get_or_insert(why.into());
    }

    /// So many more bytes of the response's body went to the client.
    pub fn sent(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }

    /// The answer has gone to its end.
    pub fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stream.busy.set(false);
        if !self.complete {
            let why = match self.stream.fault.get() {
                Some(fault) => fault.to_string().into(),
                None => Cow::Borrowed("the client closed the connection"),
            };
            self.error.get_or_insert(why);
        }
        let user = self.user.as_ref().map(|user| String::from_utf8_lossy(user.as_bytes()));
        let took = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let bytes_in = self.bytes_in.as_ref().map_or(0, |progress| progress.bytes.get());
        self.front.counters.request(self.status, took, bytes_in, self.bytes_out);
        self.front.log.add(&Line {
            time: SystemTime::now(),
            listener: self.front.port,
            captured: self.origins.captured,
            peer: self.origins.peer,
            method: Some(self.method.as_str()),
            path: Some(self.uri.path()),
            status: self.status,
            duration_us: took,
            bytes_in,
            bytes_out: self.bytes_out,
            user: user.as_deref(),
            upstream_status: self.upstream_status,
            error: self.error.as_deref(),
        });
    }
}
