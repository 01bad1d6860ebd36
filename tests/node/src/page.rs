//! Pages of Sidewall's own programs, as Prometheus and the kubelet ask for them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::cell::Cell;
use crate::error::{BedError, Result};

/// How long a page may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A page of a program that listens on a cell's loopback.
///
/// # Errors
/// When it does not answer, or says that not all is well.
pub fn ask(cell: &Cell, port: u16, page: &str) -> Result<String> {
    let asked = cell.netns().run(|| {
        let mut connection = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), LIMIT)?;
        connection.set_read_timeout(Some(LIMIT))?;
        connection.write_all(format!("GET /{page} HTTP/1.1\r\nhost: page\r\nconnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).map(|_| answer)
    })?;
    let answer = asked.map_err(BedError::file("ask", page))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(BedError::Failed { line: format!("GET /{page}"), status: "not 200".into(), said: answer }),
    }
}

/// What a page of metrics says under a name with labels; 0 where it says nothing.
pub fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or(0.0)
}
