//! The program itself.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Outcome, Plan, Protocol, REPORTS, Target, Then, now};

/// How long an attempt may take during the burst. On this machine's own links an answer takes microseconds.
const BURST: Duration = Duration::from_millis(20);
/// How long an attempt may take later.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two attempts of the burst.
const BREATH: Duration = Duration::from_millis(1);
/// Between two attempts at something that is wanted.
const PAUSE: Duration = Duration::from_millis(100);
/// How long whoever connects may take to say who he is.
const INTRODUCTION: Duration = Duration::from_secs(2);

/// Does what its only argument says.
pub fn main() -> ExitCode {
    let plan = std::env::args().nth(1).and_then(|plan| serde_json::from_str(&plan).ok());
    let Some(plan) = plan else {
        eprintln!("sidewall-prober: this is a part of the test bed; its only argument is a plan");
        return ExitCode::from(2);
    };
    match run(plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sidewall-prober: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What was seen, line by line. Each is written at once: the program may be killed at any moment.
struct Log(File);

impl Log {
    fn line(&self, line: &str) {
        // Where nothing can be written, the test finds that lines are missing.
        let _ = (&self.0).write_all(line.as_bytes());
    }
}

fn run(plan: Plan) -> io::Result<()> {
    let begun = now();
    let (name, burst) = (plan.name.clone(), Duration::from_millis(plan.burst));
    let path = Path::new(REPORTS).join(format!("{name}.{begun}"));
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let log = Arc::new(Log(file.map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?));
    // The attempts before the answers: nothing more is to come before the first packet.
    let mut attempts = Vec::new();
    for target in plan.targets {
        let (log, name, then) = (Arc::clone(&log), format!("{name}.{begun}"), plan.then);
        attempts.push(thread::spawn(move || attempt_all(&log, &name, &target, burst, then)));
    }
    for port in plan.listen {
        let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
        let socket = UdpSocket::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
        let (to_tcp, to_udp) = (Arc::clone(&log), Arc::clone(&log));
        thread::spawn(move || answer_connections(&to_tcp, &listener, port));
        thread::spawn(move || answer_datagrams(&to_udp, &socket, port));
    }
    log.line(&format!("begun {begun}\n"));
    for attempt in attempts {
        attempt.join().map_err(|_| io::Error::other("a thread has panicked"))?;
    }
    log.line(&format!("done {}\n", now()));
    if plan.then == Then::End {
        return Ok(());
    }
    loop {
        thread::park();
    }
}

fn attempt_all(log: &Log, name: &str, target: &Target, burst: Duration, then: Then) {
    let begun = Instant::now();
    let (mut tried, mut reached, mut last) = (0_u64, false, Outcome::Silence);
    let told = |sent, outcome: Outcome, times: u64| {
        log.line(&format!("tried {sent} {} {} {times}\n", target.name, outcome.word()));
    };
    while begun.elapsed() < burst && !(reached && target.wanted) {
        let sent = now();
        tried += 1;
        last = attempt(name, target, sent, BURST);
        if last == Outcome::Reached {
            told(sent, Outcome::Reached, tried);
            (tried, reached) = (0, true);
        }
        thread::sleep(BREATH);
    }
    if tried > 0 {
        told(now(), last, tried);
    }
    let pause = match then {
        Then::GoOn(pause) => Duration::from_millis(pause),
        Then::Rest | Then::End => PAUSE,
    };
    while matches!(then, Then::GoOn(_)) || target.wanted && !reached {
        let sent = now();
        let outcome = attempt(name, target, sent, PATIENCE);
        reached = outcome == Outcome::Reached;
        told(sent, outcome, 1);
        thread::sleep(pause);
    }
}

/// Whether one connection or one datagram came through, and an answer back.
fn attempt(name: &str, target: &Target, sent: u64, patience: Duration) -> Outcome {
    let words = format!("{name} {} {sent}\n", target.name);
    let tcp = || -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&target.address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(words.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer == words)
    };
    let udp = || -> io::Result<bool> {
        let any: SocketAddr =
            if target.address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(target.address)?;
        socket.set_read_timeout(Some(patience))?;
        socket.send(words.as_bytes())?;
        let mut answer = vec![0; words.len() + 1];
        let length = socket.recv(&mut answer)?;
        Ok(answer.get(..length) == Some(words.as_bytes()))
    };
    let came = match target.protocol {
        Protocol::Tcp => tcp(),
        Protocol::Udp => udp(),
    };
    match came {
        Ok(true) => Outcome::Reached,
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => Outcome::Silence,
        Ok(false) => Outcome::Refused(0),
        Err(error) => Outcome::Refused(error.raw_os_error().unwrap_or_default()),
    }
}

fn answer_connections(log: &Arc<Log>, listener: &TcpListener, port: u16) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors, perhaps; it goes on when others have closed theirs.
            thread::sleep(BREATH);
            continue;
        };
        let (log, received) = (Arc::clone(log), now());
        thread::spawn(move || {
            let mut words = String::new();
            let said = stream.set_read_timeout(Some(INTRODUCTION)).and_then(|()| {
                BufReader::new(&stream).read_line(&mut words)?;
                (&stream).write_all(words.as_bytes())
            });
            // Who has connected and said nothing has come through all the same.
            let who = if said.is_ok() && words.ends_with('\n') { words.trim_end() } else { "? ? 0" };
            let peer = stream.peer_addr().map_or_else(|_| "?".into(), |peer| peer.to_string());
            log.line(&format!("got {received} {port} tcp {peer} {who}\n"));
        });
    }
}

fn answer_datagrams(log: &Log, socket: &UdpSocket, port: u16) {
    let mut space = [0; 2048];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut space) else { continue };
        let received = now();
        let data = space.get(..length).unwrap_or_default();
        let words = String::from_utf8_lossy(data);
        // Whether the answer arrives is the sender's to tell.
        let _ = socket.send_to(data, peer);
        log.line(&format!("got {received} {port} udp {peer} {}\n", words.trim_end()));
    }
}
