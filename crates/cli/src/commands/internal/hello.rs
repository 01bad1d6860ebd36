//! An application without authentication, as there are many: it answers whoever reaches it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::error::Error;

/// The longest request head that is read.
const HEAD_MAX: u64 = 16 * 1024;
/// How many connections are served at a time.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves the application and its metrics until the process is ended.
///
/// # Errors
/// [`Error::Listen`].
pub fn run(listen: SocketAddr, metrics: SocketAddr) -> Result<(), Error> {
    let requests = Arc::new(AtomicU64::new(0));
    let bind = |at| TcpListener::bind(at).map_err(|source| Error::Listen { at, source });
    let (app, numbers) = (bind(listen)?, bind(metrics)?);
    println!("hello on {listen}, metrics on {metrics}");
    let counted = Arc::clone(&requests);
    let count = move || {
        format!("# TYPE hello_requests_total counter\nhello_requests_total {}\n", counted.load(Ordering::Relaxed))
    };
    thread::spawn(move || serve(&numbers, Arc::new(count)));
    serve(
        &app,
        Arc::new(move || {
            requests.fetch_add(1, Ordering::Relaxed);
            "Hello World!\n".to_owned()
        }),
    );
    Ok(())
}

fn serve(listener: &TcpListener, answer: Arc<dyn Fn() -> String + Send + Sync>) {
    let open = Arc::new(AtomicUsize::new(0));
    for client in listener.incoming().flatten() {
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (answer, open) = (Arc::clone(&answer), Arc::clone(&open));
        thread::spawn(move || {
            // A client that breaks off has nothing to be told.
            let _ = talk(&client, &*answer);
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Answers request after request (HTTP/1.1, RFC 9112), as long as they have no body.
fn talk(client: &TcpStream, answer: &dyn Fn() -> String) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(client);
    loop {
        let mut head = Vec::new();
        let mut limited = (&mut reader).take(HEAD_MAX);
        loop {
            let before = head.len();
            limited.read_until(b'\n', &mut head)?;
            if head.len() == before {
                return Ok(());
            }
            if matches!(&head[before..], b"\r\n" | b"\n") && before > 0 {
                break;
            }
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        // Bodies are not read, so the connection can't go on after one.
        let last = head.contains("http/1.0")
            || head.lines().any(|line| {
                line.starts_with("connection: close")
                    || line.starts_with("content-length:") && !line.ends_with(" 0")
                    || line.starts_with("transfer-encoding:")
            });
        let body = answer();
        let connection = if last { "close" } else { "keep-alive" };
        let length = body.len();
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n{body}"
        );
        let mut to = client;
        to.write_all(response.as_bytes())?;
        if last {
            return Ok(());
        }
    }
}
