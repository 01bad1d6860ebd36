//! The collector, and a place that is not the collector: listeners on this machine's end of the pod's link.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use sidewall_netns::Links;
use sidewall_sandbox::LivePod;

use crate::error::Error;

/// The collector that the policies name (TEST-NET-2, RFC 5737: nobody's).
pub const COLLECTOR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// Somewhere else.
pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
/// The port of both.
pub const PORT: u16 = 9000;

/// Listens until it is dropped. The addresses go with the pod's link.
pub struct Listeners {
    ended: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Listeners {
    /// Puts the addresses on the pod's link and listens there.
    ///
    /// # Errors
    /// [`Error::Netns`], [`Error::Listen`].
    pub fn open(pod: &LivePod) -> Result<Self, Error> {
        let mut links = Links::of(pod.node_netns())?;
        let mut all = Self { ended: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        for address in [COLLECTOR, ELSEWHERE] {
            links.add_address(&pod.info().node_interface, IpNet::from(std::net::IpAddr::V4(address)))?;
            let at = SocketAddr::from((address, PORT));
            let fault = |source| Error::Listen { at, source };
            let listener = TcpListener::bind(at).map_err(fault)?;
            listener.set_nonblocking(true).map_err(fault)?;
            let ended = Arc::clone(&all.ended);
            all.threads.push(thread::spawn(move || greet(&listener, &ended)));
        }
        Ok(all)
    }
}

/// Tells everybody who comes that he has come.
fn greet(listener: &TcpListener, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        match listener.accept() {
            // Who has gone again does not want to know.
            Ok((mut client, _)) => drop(client.write_all(b"here\n")),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}
