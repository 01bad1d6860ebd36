//! A client that sends the bytes that it is told to, and reads answers as strictly as it can.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// One connection.
pub struct Client<S: Read + Write = TcpStream> {
    pub reader: BufReader<S>,
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the proxy takes connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self::over(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub fn over(stream: S) -> Self {
        Self { reader: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the proxy reads");
    }

    /// For bytes that the proxy may refuse to read to their end.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())?;
        self.reader.get_mut().flush()
    }

    /// `GET` with these header lines beside Host.
    pub fn get(&mut self, path: &str, headers: &[&str]) -> Answer {
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        self.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n"));
        self.answer(true)
    }

    /// Sends a whole request and reads the answer.
    pub fn exchange(&mut self, request: &str) -> Answer {
        self.send(request);
        self.answer(true)
    }

    /// Reads one answer; of one to HEAD the head alone.
    pub fn answer(&mut self, body: bool) -> Answer {
        self.try_answer(body).expect("an answer")
    }

    /// Reads one answer, if one comes before the connection ends.
    pub fn try_answer(&mut self, with_body: bool) -> Option<Answer> {
        let (status, headers) = self.head()?;
        let header = |name: &str| {
            headers.iter().find(|(have, _): &&(String, String)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let mut body = Vec::new();
        if with_body && !matches!(status, 100..=199 | 204 | 304) {
            if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
                self.chunks(&mut body);
            } else if let Some(length) = header("content-length") {
                body.resize(length.parse().expect("a number"), 0);
                self.reader.read_exact(&mut body).expect("a whole body");
            } else {
                self.reader.read_to_end(&mut body).expect("a body");
            }
        }
        Some(Answer { status, headers, body })
    }

    /// Reads the head of one answer.
    pub fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let first = self.line()?;
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).expect(&first);
        let status = status.parse().expect("a status");
        let mut headers = Vec::new();
        loop {
            let line = self.line().expect("the head goes on");
            if line.is_empty() {
                return Some((status, headers));
            }
            let (name, value) = line.split_once(": ").expect(&line);
            headers.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Whether the proxy has closed the connection. Waits for it.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.reader.read(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("no line: {error}"),
        }
        Some(line.strip_suffix("\r\n").expect("a whole line").to_owned())
    }

    fn chunks(&mut self, body: &mut Vec<u8>) {
        loop {
            let size = self.line().expect("a chunk");
            let size = usize::from_str_radix(&size, 16).expect("a size");
            if size == 0 {
                while !self.line().expect("an end").is_empty() {}
                return;
            }
            let from = body.len();
            body.resize(from + size, 0);
            self.reader.read_exact(&mut body[from..]).expect("a whole chunk");
            assert_eq!(self.line().as_deref(), Some(""));
        }
    }
}
