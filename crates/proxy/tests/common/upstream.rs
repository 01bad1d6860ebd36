//! An application on 127.0.0.1: it reads real requests and answers by their path.
//!
//! | path | answer |
//! |---|---|
//! | `/head` | the request's head, and its trailers if it had any, as text |
//! | `/count` | how many bytes the request's body had |
//! | `/big/N` | N bytes, with a length |
//! | `/stream/N` | N bytes, in chunks |
//! | `/sleep/MS` | `slept`, after so many milliseconds |
//! | `/stall` | ten bytes of a hundred, and then nothing |
//! | `/deaf` | nothing, for a minute; the request's body is not read |
//! | `/vanish` | nothing: the connection is closed |
//! | `/once` | `once`, and the connection is closed, without saying so |
//! | `/connection` | headers that belong to the connection |
//! | `/status/N` | that status, `Content-Length: 5`, no body |
//! | any other | `hello` |

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The application. Its threads end with their connections; the listening one with the test's process.
pub struct Upstream {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    sent: AtomicU64,
    heads: Mutex<Vec<String>>,
}

impl Upstream {
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { port, state }
    }

    /// How many connections it has taken.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many bytes of big bodies it could hand to the system.
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// The heads of all requests that reached it.
    pub fn heads(&self) -> Vec<String> {
        self.state.heads.lock().expect("unpoisoned").clone()
    }
}

fn serve(stream: &TcpStream, state: &State) {
    let mut reader = BufReader::new(stream);
    while let Some(head) = read_head(&mut reader) {
        state.heads.lock().expect("unpoisoned").push(head.clone());
        let path = head.split(' ').nth(1).unwrap_or("").to_owned();
        if path == "/deaf" {
            thread::sleep(Duration::from_secs(60));
            return;
        }
        let Some((length, trailers)) = read_body(&mut reader, &head) else { return };
        if !answer(stream, state, &path, &head, length, &trailers) {
            return;
        }
    }
}

pub fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if &head[before..] == "\r\n" {
            return Some(head);
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (have, value) = line.split_once(':')?;
        have.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// Reads a body to its end: its length, and its trailers as text.
fn read_body(reader: &mut impl BufRead, head: &str) -> Option<(u64, String)> {
    let mut sink = std::io::sink();
    if header(head, "transfer-encoding").is_some() {
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let size = u64::from_str_radix(line.trim_end(), 16).ok()?;
            if size == 0 {
                return Some((length, read_head(reader)?));
            }
            length += std::io::copy(&mut reader.by_ref().take(size), &mut sink).ok()?;
            reader.read_line(&mut line).ok()?;
        }
    }
    let length: u64 = header(head, "content-length").map_or(Some(0), |value| value.parse().ok())?;
    let taken = std::io::copy(&mut reader.take(length), &mut sink).ok()?;
    (taken == length).then_some((length, String::new()))
}

/// Answers a request. Gives whether the connection goes on.
fn answer(mut stream: &TcpStream, state: &State, path: &str, head: &str, length: u64, trailers: &str) -> bool {
    let text = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let path = path.split('?').next().unwrap_or("");
    let (kind, number) = path[1.min(path.len())..].split_once('/').unwrap_or((&path[1.min(path.len())..], "0"));
    let number: u64 = number.parse().unwrap_or(0);
    let reply = match kind {
        "head" => text(&format!("{head}{trailers}")),
        "count" => text(&length.to_string()),
        "sleep" => {
            thread::sleep(Duration::from_millis(number));
            text("slept")
        }
        "stall" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789".to_owned(),
        "vanish" => return false,
        "once" => {
            let _ = stream.write_all(text("once").as_bytes());
            return false;
        }
        "connection" => "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n\
                         Upgrade: h2c\r\nX-End: 1\r\nContent-Length: 0\r\n\r\n"
            .to_owned(),
        "status" => format!("HTTP/1.1 {number} Whatever\r\nContent-Length: 5\r\n\r\n"),
        "big" => return big(stream, state, number, false),
        "stream" => return big(stream, state, number, true),
        _ => text("hello"),
    };
    stream.write_all(reply.as_bytes()).is_ok()
}

fn big(mut stream: &TcpStream, state: &State, length: u64, chunked: bool) -> bool {
    let framing = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {length}") };
    if stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes()).is_err() {
        return false;
    }
    let block = [b'x'; 16 * 1024];
    let mut left = length;
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(block.len()).min(block.len());
        let start = if chunked { format!("{size:x}\r\n") } else { String::new() };
        let end = if chunked { "\r\n" } else { "" };
        let sent = stream
            .write_all(start.as_bytes())
            .and_then(|()| stream.write_all(&block[..size]))
            .and_then(|()| stream.write_all(end.as_bytes()));
        if sent.is_err() {
            return false;
        }
        state.sent.fetch_add(size as u64, Ordering::SeqCst);
        left -= size as u64;
    }
    !chunked || stream.write_all(b"0\r\n\r\n").is_ok()
}
