//! A log shipper: it reads the application's metrics and sends them to a collector.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// How long either end may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most that is read of the metrics.
const METRICS_MAX: u64 = 64 * 1024;

/// Ships until the process is ended, and says how it went.
pub fn run(metrics: SocketAddr, collector: SocketAddr, seconds: u64) {
    loop {
        match read(metrics).and_then(|text| send(collector, &text).map(|()| text.len())) {
            Ok(length) => println!("shipped {length} octets to {collector}"),
            Err(error) => println!("could not ship to {collector}: {error}"),
        }
        thread::sleep(Duration::from_secs(seconds));
    }
}

fn read(from: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&from, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {from}\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.take(METRICS_MAX).read_to_string(&mut text)?;
    Ok(text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

fn send(to: SocketAddr, text: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(text.as_bytes())
}
