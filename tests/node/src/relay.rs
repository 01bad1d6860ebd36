//! Makes a port inside a network namespace reachable on this host's loopback.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sidewall_netns::NetNs;

use crate::error::{BedError, Result};

/// Listens on a free port of 127.0.0.1 and carries each connection to an address inside the namespace. Ends when dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Carries connections to `to` inside `netns`.
    ///
    /// # Errors
    /// When no port or no thread is to be had.
    pub fn new(netns: &NetNs, to: SocketAddr) -> Result<Relay> {
        let listen = || -> io::Result<(TcpListener, u16)> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = listener.local_addr()?.port();
            Ok((listener, port))
        };
        let (listener, port) = listen().map_err(BedError::file("listen on", "127.0.0.1"))?;
        let over = Arc::new(AtomicBool::new(false));
        let (stop, netns) = (Arc::clone(&over), netns.clone());
        let thread = thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // Whoever connects sees a closed connection, as if nobody listened there.
                let _ = netns.spawn("relay", move || {
                    let _ = carry(&client, to);
                });
            }
        });
        Ok(Relay { port, over, thread: Some(thread) })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the thread, which then looks at the flag.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Copies both ways until both ends have closed.
fn carry(client: &TcpStream, to: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect_timeout(&to, Duration::from_secs(10))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| one_way(client, &server));
        one_way(&server, client);
    });
    Ok(())
}

fn one_way(mut from: &TcpStream, mut to: &TcpStream) {
    // An error is an end too: the other side is told by the close.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
