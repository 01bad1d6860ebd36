//! The prober's server: one thread, one poll loop, any number of attempts at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sidewall_netns::{receive_fd, send_fd};
use socket2::{Domain, Socket, Type};

use super::wire::{Answer, Connect, Outcome, Protocol, Question, Request};

/// The longest text that is read at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// The longest request line.
const LINE_LIMIT: usize = 1 << 20;

/// Serves requests from this process's standard input until it is closed.
///
/// # Errors
/// When the client can't be read or answered, or says what is not a request.
pub fn serve_stdio(name: &str) -> io::Result<()> {
    // A descriptor of our own, since the standard library's is buffered behind poll's back.
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    serve(input, io::stdout().lock(), name)
}

/// Serves requests until `input` ends. `name` is what listeners answer with.
///
/// # Errors
/// As [`serve_stdio`].
pub fn serve(input: impl Read + AsFd, output: impl Write, name: &str) -> io::Result<()> {
    let mut server = Server { output, name: format!("{name}\n"), next: 1, ends: BTreeMap::new(), jobs: Vec::new() };
    server.run(input)
}

/// Something open, with what happens when it becomes readable.
enum End {
    /// Accepts and answers with the name.
    Listener(Socket),
    /// Answers each datagram with the name.
    Datagrams(Socket),
    /// Accepted by a listener: sends back what comes.
    Echo(Socket),
    /// Kept by the client, who says when to read.
    Kept(Socket),
}

/// Something that was asked for and is not answered yet.
struct Job {
    id: u64,
    deadline: Instant,
    what: Waiting,
}

enum Waiting {
    /// For the connection.
    Connection(Socket, Connect),
    /// For the other end's name.
    Name(Socket, Connect, Vec<u8>),
    /// For something to read on a kept connection.
    Text(u64),
    /// For somebody with a descriptor.
    Descriptor(UnixListener),
}

struct Server<W> {
    output: W,
    name: String,
    next: u64,
    ends: BTreeMap<u64, End>,
    jobs: Vec<Job>,
}

impl<W: Write> Server<W> {
    fn run(&mut self, mut input: impl Read + AsFd) -> io::Result<()> {
        let mut unread = Vec::new();
        loop {
            let ready = self.wait(input.as_fd())?;
            // Jobs before new requests, or their places would shift.
            let mut jobs = std::mem::take(&mut self.jobs);
            let now = Instant::now();
            let mut job_ready = ready.jobs.into_iter();
            let mut left = Vec::with_capacity(jobs.len());
            for job in jobs.drain(..) {
                let readable = job_ready.next().unwrap_or(false);
                left.extend(self.advance(job, readable, now)?);
            }
            self.jobs.append(&mut left);
            for handle in ready.ends {
                self.serve_end(handle);
            }
            if ready.input && !self.read(&mut input, &mut unread)? {
                return Ok(());
            }
            self.output.flush()?;
        }
    }

    fn wait(&self, input: BorrowedFd<'_>) -> io::Result<Ready> {
        let mut fds = vec![PollFd::new(input, PollFlags::POLLIN)];
        for job in &self.jobs {
            let (fd, flags) = match &job.what {
                Waiting::Connection(socket, _) => (Some(socket.as_fd()), PollFlags::POLLOUT),
                Waiting::Name(socket, ..) => (Some(socket.as_fd()), PollFlags::POLLIN),
                Waiting::Text(handle) => (self.socket(*handle).map(AsFd::as_fd), PollFlags::POLLIN),
                Waiting::Descriptor(listener) => (Some(listener.as_fd()), PollFlags::POLLIN),
            };
            // A handle that was closed meanwhile: no event, so that its place in the list stays; the deadline ends it.
            fds.push(fd.map_or(PollFd::new(input, PollFlags::empty()), |fd| PollFd::new(fd, flags)));
        }
        let mut served = Vec::new();
        for (handle, end) in &self.ends {
            if let End::Listener(socket) | End::Datagrams(socket) | End::Echo(socket) = end {
                served.push(*handle);
                fds.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            }
        }
        let next = self.jobs.iter().map(|j| j.deadline).min();
        let timeout = next.map_or(PollTimeout::NONE, |at| {
            // Rounded up, or the loop would spin through the last millisecond.
            let ms = at.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
            PollTimeout::try_from(ms.min(60_000) as i32).unwrap_or(PollTimeout::ZERO)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let mut events = fds.iter().map(|fd| fd.any().unwrap_or(false));
        let input = events.next().unwrap_or(false);
        let jobs: Vec<bool> = events.by_ref().take(self.jobs.len()).collect();
        let ends = served.into_iter().zip(events).filter_map(|(handle, ready)| ready.then_some(handle)).collect();
        Ok(Ready { input, jobs, ends })
    }

    fn socket(&self, handle: u64) -> Option<&Socket> {
        self.ends.get(&handle).map(|end| match end {
            End::Listener(s) | End::Datagrams(s) | End::Echo(s) | End::Kept(s) => s,
        })
    }

    fn add(&mut self, end: End) -> u64 {
        let handle = self.next;
        self.next += 1;
        self.ends.insert(handle, end);
        handle
    }

    fn answer(&mut self, id: u64, outcome: Outcome) -> io::Result<()> {
        serde_json::to_writer(&mut self.output, &Answer { id, outcome })?;
        self.output.write_all(b"\n")
    }

    /// Reads requests; `false` at the end of the input.
    fn read(&mut self, input: &mut impl Read, unread: &mut Vec<u8>) -> io::Result<bool> {
        let mut buffer = [0; CHUNK];
        let n = match input.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => return Ok(true),
            Err(e) => return Err(e),
        };
        unread.extend_from_slice(&buffer[..n]);
        while let Some(end) = unread.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            let question: Question = serde_json::from_slice(&line)?;
            let id = question.id;
            match self.begin(id, question.request) {
                Ok(Some(outcome)) => self.answer(id, outcome)?,
                Ok(None) => {}
                Err(error) => self.answer(id, failure(&error))?,
            }
        }
        if unread.len() > LINE_LIMIT {
            return Err(io::Error::new(ErrorKind::InvalidData, "a request longer than 1 MiB"));
        }
        Ok(true)
    }

    /// Does at once what can be done at once; the rest becomes a job.
    fn begin(&mut self, id: u64, request: Request) -> io::Result<Option<Outcome>> {
        let until = |ms: u64| Instant::now() + Duration::from_millis(ms);
        let unknown = || Some(Outcome::Failed { message: "there is no such handle".into() });
        match request {
            Request::Listen { protocol, at } => self.listen(protocol, at).map(Some),
            Request::Connect(connect) => {
                let socket = open(connect.protocol, connect.to)?;
                if let Some(from) = connect.from {
                    socket.set_reuse_address(true)?;
                    socket.bind(&from.into())?;
                }
                match socket.connect(&connect.to.into()) {
                    Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e),
                    _ => {}
                }
                let deadline = until(connect.deadline_ms);
                self.jobs.push(Job { id, deadline, what: Waiting::Connection(socket, connect) });
                Ok(None)
            }
            Request::Send { handle, text } => {
                let Some(mut socket) = self.socket(handle) else { return Ok(unknown()) };
                socket.write_all(text.as_bytes())?;
                Ok(Some(Outcome::Sent))
            }
            Request::Receive { handle, deadline_ms } => {
                if self.socket(handle).is_none() {
                    return Ok(unknown());
                }
                self.jobs.push(Job { id, deadline: until(deadline_ms), what: Waiting::Text(handle) });
                Ok(None)
            }
            Request::Close { handle } => Ok(self.ends.remove(&handle).map(|_| Outcome::Closed).or_else(unknown)),
            Request::PassFd { handle, name } => {
                let Some(socket) = self.socket(handle) else { return Ok(unknown()) };
                let to = std::os::unix::net::SocketAddr::from_abstract_name(&name)?;
                send_fd(&UnixStream::connect_addr(&to)?, socket.as_fd())?;
                Ok(Some(Outcome::Passed))
            }
            Request::TakeFd { name, deadline_ms } => {
                let at = std::os::unix::net::SocketAddr::from_abstract_name(&name)?;
                let listener = UnixListener::bind_addr(&at)?;
                self.jobs.push(Job { id, deadline: until(deadline_ms), what: Waiting::Descriptor(listener) });
                Ok(Some(Outcome::Awaiting))
            }
        }
    }

    fn listen(&mut self, protocol: Protocol, at: SocketAddr) -> io::Result<Outcome> {
        let socket = open(protocol, at)?;
        socket.set_reuse_address(true)?;
        if at.is_ipv6() {
            // So that the same port can be listened on in both families.
            socket.set_only_v6(true)?;
        }
        socket.bind(&at.into())?;
        let end = if protocol == Protocol::Udp {
            End::Datagrams(socket)
        } else {
            socket.listen(4096)?;
            End::Listener(socket)
        };
        let handle = self.add(end);
        let at = self.socket(handle).and_then(local).unwrap_or(at);
        Ok(Outcome::Listening { handle, at })
    }

    /// Goes on with a job; gives it back while it is not finished.
    fn advance(&mut self, job: Job, ready: bool, now: Instant) -> io::Result<Option<Job>> {
        if !ready {
            if now < job.deadline {
                return Ok(Some(job));
            }
            self.answer(job.id, Outcome::Timeout)?;
            return Ok(None);
        }
        let Job { id, deadline, what } = job;
        let result = match what {
            Waiting::Connection(socket, connect) => self.connected(socket, connect),
            Waiting::Name(socket, connect, text) => self.named(socket, connect, text),
            Waiting::Text(handle) => self.text(handle).map(|o| o.ok_or(Waiting::Text(handle))),
            Waiting::Descriptor(listener) => self.take(&listener).map(Ok),
        };
        match result {
            Ok(Ok(outcome)) => self.answer(id, outcome)?,
            Ok(Err(what)) => return Ok(Some(Job { id, deadline, what })),
            Err(error) => self.answer(id, failure(&error))?,
        }
        Ok(None)
    }

    fn connected(&mut self, mut socket: Socket, connect: Connect) -> io::Result<Result<Outcome, Waiting>> {
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        if connect.protocol == Protocol::Udp {
            socket.write_all(b"?")?;
        } else if !connect.await_name {
            return Ok(Ok(self.reached(socket, &connect, None)));
        }
        Ok(Err(Waiting::Name(socket, connect, Vec::new())))
    }

    fn named(
        &mut self,
        mut socket: Socket,
        connect: Connect,
        mut text: Vec<u8>,
    ) -> io::Result<Result<Outcome, Waiting>> {
        let mut buffer = [0; 1024];
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(Ok(Outcome::Closed)),
            Ok(n) => text.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
        if connect.protocol == Protocol::Udp && !text.is_empty() || text.contains(&b'\n') || text.len() > CHUNK {
            let name = String::from_utf8_lossy(&text).trim_end().to_owned();
            return Ok(Ok(self.reached(socket, &connect, Some(name))));
        }
        Ok(Err(Waiting::Name(socket, connect, text)))
    }

    fn reached(&mut self, socket: Socket, connect: &Connect, name: Option<String>) -> Outcome {
        let from = local(&socket).unwrap_or(connect.to);
        let handle = connect.keep.then(|| self.add(End::Kept(socket)));
        Outcome::Connected { handle, from, name }
    }

    fn text(&mut self, handle: u64) -> io::Result<Option<Outcome>> {
        let Some(mut socket) = self.socket(handle) else {
            return Ok(Some(Outcome::Closed));
        };
        let mut buffer = vec![0; CHUNK];
        match socket.read(&mut buffer) {
            Ok(0) => Ok(Some(Outcome::Closed)),
            Ok(n) => Ok(Some(Outcome::Received { text: String::from_utf8_lossy(&buffer[..n]).into_owned() })),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A descriptor that comes goes on as what it is here: a listener answers with *this* party's name.
    fn take(&mut self, listener: &UnixListener) -> io::Result<Outcome> {
        let (stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let socket = Socket::from(receive_fd(&stream)?);
        let end = match (socket.is_listener()?, socket.r#type()? == Type::DGRAM, socket.peer_addr().is_ok()) {
            (true, ..) => End::Listener(socket),
            (_, true, false) => End::Datagrams(socket),
            _ => End::Kept(socket),
        };
        Ok(Outcome::Taken { handle: self.add(end) })
    }

    /// Errors here are the other end's business: it goes, and that is that.
    fn serve_end(&mut self, handle: u64) {
        match self.ends.get(&handle) {
            Some(End::Listener(listener)) => {
                let mut accepted = Vec::new();
                while let Ok((mut socket, _)) = listener.accept() {
                    if socket.set_nonblocking(true).is_ok() && socket.write_all(self.name.as_bytes()).is_ok() {
                        accepted.push(socket);
                    }
                }
                for socket in accepted {
                    self.add(End::Echo(socket));
                }
            }
            Some(End::Datagrams(socket)) => {
                let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 2048];
                while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(self.name.as_bytes(), &from);
                }
            }
            Some(End::Echo(socket)) => {
                let mut socket = socket;
                let mut buffer = vec![0; CHUNK];
                match socket.read(&mut buffer) {
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Ok(n @ 1..) if socket.write_all(&buffer[..n]).is_ok() => {}
                    _ => {
                        self.ends.remove(&handle);
                    }
                }
            }
            Some(End::Kept(_)) | None => {}
        }
    }
}

struct Ready {
    input: bool,
    jobs: Vec<bool>,
    ends: Vec<u64>,
}

fn open(protocol: Protocol, for_address: SocketAddr) -> io::Result<Socket> {
    let (kind, protocol) = match protocol {
        Protocol::Tcp => (Type::STREAM, socket2::Protocol::TCP),
        Protocol::Udp => (Type::DGRAM, socket2::Protocol::UDP),
        Protocol::Sctp => (Type::STREAM, socket2::Protocol::from(libc::IPPROTO_SCTP)),
    };
    let socket = Socket::new(Domain::for_address(for_address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn local(socket: &Socket) -> Option<SocketAddr> {
    socket.local_addr().ok()?.as_socket()
}

fn failure(error: &io::Error) -> Outcome {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Outcome::Refused,
        Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED) => Outcome::Reset,
        Some(errno @ (libc::EPERM | libc::EACCES | libc::EHOSTUNREACH | libc::ENETUNREACH)) => {
            Outcome::Prohibited { errno }
        }
        Some(libc::ETIMEDOUT) => Outcome::Timeout,
        Some(libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT | libc::EAFNOSUPPORT) => Outcome::Unsupported,
        _ => Outcome::Failed { message: error.to_string() },
    }
}
