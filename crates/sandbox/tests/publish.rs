//! Published ports. Needs root.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use common::{Bench, IDLE, LONG, manifest, pod, shell};
use serde_json::json;
use sidewall_netns::NetNs;
use sidewall_sandbox::{MAX_CONNECTIONS, Options, Prepared, Sandbox, publish};

fn prepare(bench: &Bench, name: &str, node: Option<NetNs>) -> Prepared {
    let options = Options { node, ..bench.options() };
    Sandbox::prepare(&manifest(pod(name, json!({"containers": [shell("web", IDLE)]}))), &options).unwrap()
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&at, LONG).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Whether the other end closes or breaks off the connection; that it only stays silent is not an end.
fn ended(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_published_port_carries_both_ways_and_half_closes() {
    let bench = Bench::new();
    // Once from the machine, once through a node of the pod's own that the machine can't reach otherwise.
    for (name, node) in [("publish", None), ("publish-private", Some(NetNs::new().unwrap()))] {
        let prepared = prepare(&bench, name, node);
        let at = (prepared.pod().info().addresses[0], 80);
        let inside = prepared.pod().netns().run(|| TcpListener::bind(at)).unwrap().unwrap();
        let published = publish(prepared.pod(), "127.0.0.1:0".parse().unwrap(), 80).unwrap();
        let mut client = connect(published.at());
        let (mut server, from) = inside.accept().unwrap();
        assert_eq!(from.ip(), prepared.pod().info().node_addresses[0]);
        // 1 MiB there, and only after the client has closed its half, 1 MiB back.
        let there = std::thread::spawn(move || {
            let mut got = Vec::new();
            server.read_to_end(&mut got).unwrap();
            server.write_all(&got).unwrap();
            got.len()
        });
        let data: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
        client.write_all(&data).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert_eq!(there.join().unwrap(), data.len());
        assert!(back == data);

        let mut open = connect(published.at());
        let _server = inside.accept().unwrap();
        let address = published.at();
        drop(published);
        assert!(ended(&mut open), "broken off");
        assert!(TcpStream::connect(address).is_err(), "closed");
    }
}

#[test]
fn connections_are_bounded() {
    let bench = Bench::new();
    let prepared = prepare(&bench, "publish-bound", None);
    let at = (prepared.pod().info().addresses[0], 80);
    let inside = prepared.pod().netns().run(|| TcpListener::bind(at)).unwrap().unwrap();
    let published = publish(prepared.pod(), "127.0.0.1:0".parse().unwrap(), 80).unwrap();
    let kept: Vec<_> = (0..MAX_CONNECTIONS).map(|_| (connect(published.at()), inside.accept().unwrap())).collect();
    let mut one_more = connect(published.at());
    assert!(ended(&mut one_more), "closed at once");
    drop(kept);
    common::wait("room again", || {
        let mut stream = connect(published.at());
        stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        // Still open when the read times out.
        matches!(stream.read(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
    });
}
