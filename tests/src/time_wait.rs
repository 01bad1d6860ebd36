//! What is left of a connection whose server closed first: the server's end of its tuple, in TIME_WAIT.

use crate::party::Maker;
use crate::scene::{End, Flow, LIMIT, Scene, heard};
use crate::sockets;
use rustix::fd::OwnedFd;
use rustix::net::{SocketType, sockopt};
use sidewall_flow::Protocol;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The state as `/proc/net/tcp` has it.
const TIME_WAIT: &str = "06";

/// The states of the pod's TCP sockets from one address' port to another's, as `/proc/net/tcp` has them.
///
/// # Panics
/// Where the kernel's tables can't be read.
pub fn states(scene: &Scene, own: SocketAddr, other: SocketAddr) -> Vec<String> {
    let tables = scene.lab.pod.run(|| {
        ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"))).map(Result::unwrap)
    });
    let tables = tables.expect("the pod's namespace is there").concat();
    // The ports are written in hexadecimal.
    let [own, other] = [own, other].map(|address| format!(":{:04X}", address.port()));
    let rows = tables.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| row.len() > 3 && row[1].ends_with(&own) && row[2].ends_with(&other));
    ours.map(|row| row[3].to_owned()).collect()
}

/// Opens a connection and closes it, the server first, until nothing but the server's TIME_WAIT is left of it.
///
/// # Panics
/// Where the connection is not let through, or does not come to that.
pub fn leave_in_time_wait(scene: &mut Scene, client: End<'_>, server: End<'_>, from: SocketAddr, to: SocketAddr) {
    let flow = scene.flow_from(client, server, Protocol::Tcp, from, to);
    close(scene, flow, to);
}

/// Closes a connection, the server first, until nothing but the server's TIME_WAIT is left of it in the pod; the server's
/// end is at an address.
///
/// # Panics
/// Where it does not come to that.
pub fn close(scene: &Scene, Flow { client, server, from, .. }: Flow, to: SocketAddr) {
    for end in [&client, &server] {
        sockopt::set_socket_linger(end, None).expect("a socket can close gently");
    }
    drop(server);
    let end = heard(&client).expect("the server's end");
    assert_eq!(end.as_deref(), Some(&b""[..]), "{from} to {to}");
    drop(client);
    let until = Instant::now() + LIMIT;
    loop {
        let left = [states(scene, to, from), states(scene, from, to)].concat();
        if left == [TIME_WAIT] {
            return;
        }
        assert!(Instant::now() < until, "{from} to {to} does not come to TIME_WAIT: {left:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A socket at an address that another's was at a moment ago.
///
/// # Panics
/// Where the address is not to be had.
pub fn reused(maker: &Maker, at: SocketAddr) -> OwnedFd {
    let socket = maker.socket(sockets::family(at.ip()), SocketType::STREAM, 0).expect("a socket");
    sockopt::set_socket_reuseaddr(&socket, true).expect("SO_REUSEADDR");
    sockopt::set_ip_freebind(&socket, true).expect("IP_FREEBIND");
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("SO_LINGER");
    rustix::net::bind(&socket, &at).expect("an address that was used");
    socket
}
