//! What a split pod's `localhost` is like: for those who speak there it is as in a pod that is not split.

use rustix::net::{RecvFlags, SendFlags};
use sidewall_flow::Protocol;
use sidewall_policy::World;
use sidewall_sandbox::SegmentKind;
use sidewall_tests::lab::{self, By};
use sidewall_tests::scene::{APP, PROXY, bound, subject, walls};
use sidewall_tests::sockets;
use sidewall_tests::split::{LOCALHOST, SplitLab};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

fn split(kind: SegmentKind, by: By) -> SplitLab {
    let mut lab = SplitLab::new(PROGRAM, kind, &[APP]);
    let whole = subject(lab.parts[0].identities(by, lab::CONTAINERS));
    lab.enforce(by, &whole, &World { policies: walls(), ..World::default() });
    lab
}

fn each(mut act: impl FnMut(&mut SplitLab, &str)) {
    for kind in [SegmentKind::Bridge, SegmentKind::Macvlan] {
        for by in By::ALL {
            act(&mut split(kind, by), &format!("{kind:?} {by:?}"));
        }
    }
}

/// Both ends see loopback addresses, and the client its own port.
#[test]
fn both_ends_see_localhost() {
    each(|lab, what| {
        let flow = lab.flow(PROXY, APP, Protocol::Tcp, 8080).unwrap_or_else(|e| panic!("{what}: {e}; {}", lab.moved()));
        let name = |address: Option<rustix::net::SocketAddrAny>| SocketAddr::try_from(address.unwrap()).unwrap();
        let seen = name(rustix::net::getpeername(&flow.server).unwrap());
        assert_eq!((seen.ip(), seen.port()), (LOCALHOST, flow.from.port()), "{what}");
        let own = rustix::net::getsockname(&flow.server).unwrap();
        assert_eq!(SocketAddr::try_from(own).unwrap(), SocketAddr::new(LOCALHOST, 8080), "{what}");
        let peer = name(rustix::net::getpeername(&flow.client).unwrap());
        assert_eq!(peer, SocketAddr::new(LOCALHOST, 8080), "{what}");
        // A port that the receiver's own loopback has in use is no obstacle.
        drop(flow);
        drop(lab.flow(PROXY, APP, Protocol::Udp, 8080).unwrap_or_else(|e| panic!("{what}: {e}; {}", lab.moved())));
    });
}

/// Loopback's segments are larger than the link's: neither end waits for a packet that can't get there.
#[test]
fn much_data_goes_both_ways() {
    const MUCH: usize = 4 << 20;
    each(|lab, what| {
        let flow = lab.flow(PROXY, APP, Protocol::Tcp, 8080).unwrap_or_else(|e| panic!("{what}: {e}; {}", lab.moved()));
        for (from, to) in [(&flow.client, &flow.server), (&flow.server, &flow.client)] {
            let (mut sent, mut got) = (0, 0);
            let data = vec![7u8; 1 << 16];
            let mut buffer = vec![0u8; 1 << 16];
            let begun = Instant::now();
            while got < MUCH {
                assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {got} of {sent} in 20 s; {}", lab.moved());
                if sent < MUCH
                    && let Ok(more) = rustix::net::send(from, &data, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
                {
                    sent += more;
                }
                match rustix::net::recv(to, &mut buffer[..], RecvFlags::DONTWAIT) {
                    Ok((more, _)) => got += more,
                    Err(rustix::io::Errno::AGAIN) => {
                        sockets::readable(to, Duration::from_millis(1)).unwrap();
                    }
                    Err(error) => panic!("{what}: {error}"),
                }
                if sent >= MUCH && got >= sent {
                    break;
                }
            }
        }
    });
}

/// A datagram that is larger than a frame arrives whole.
#[test]
fn large_datagrams_arrive() {
    each(|lab, what| {
        let place = SocketAddr::new(LOCALHOST, 8080);
        let app = sockets::listen(lab.app(APP), Protocol::Udp, place).unwrap();
        let client = bound(lab.app(PROXY), Protocol::Udp, lab.fresh(LOCALHOST)).unwrap();
        let data = vec![9u8; 20_000];
        rustix::net::sendto(&client, &data, SendFlags::NOSIGNAL, &place).unwrap();
        assert!(sockets::readable(&app, Duration::from_secs(5)).unwrap(), "{what}: nothing arrived; {}", lab.moved());
        let mut buffer = vec![0u8; 1 << 16];
        let (length, _, from) = rustix::net::recvfrom(&app, &mut buffer[..], RecvFlags::DONTWAIT).unwrap();
        assert_eq!(length, data.len(), "{what}");
        rustix::net::sendto(&app, &buffer[..length], SendFlags::NOSIGNAL, &from.unwrap()).unwrap();
        assert!(sockets::readable(&client, Duration::from_secs(5)).unwrap(), "{what}: no answer; {}", lab.moved());
        let (length, _) = rustix::net::recv(&client, &mut buffer[..], RecvFlags::DONTWAIT).unwrap();
        assert_eq!(length, data.len(), "{what}");
    });
}

/// Who may ask and finds nobody listening is told so at once, as on loopback.
#[test]
fn where_nobody_listens_the_answer_comes_at_once() {
    each(|lab, what| {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let begun = Instant::now();
            let place = SocketAddr::new(LOCALHOST, 8080);
            let client = sockets::open(lab.app(PROXY), protocol, lab.fresh(LOCALHOST), place).unwrap();
            if protocol == Protocol::Tcp {
                assert!(
                    sockets::decided(&client, Duration::from_secs(3)).unwrap(),
                    "{what}: it hangs; {}",
                    lab.moved()
                );
            } else {
                assert!(
                    sockets::readable(&client, Duration::from_secs(3)).unwrap(),
                    "{what}: it hangs; {}",
                    lab.moved()
                );
            }
            let error = sockets::pending_error(&client).unwrap();
            assert!(error.is_some(), "{what} {protocol}");
            assert!(protocol == Protocol::Udp || error == Some(rustix::io::Errno::CONNREFUSED), "{what}: {error:?}");
            assert!(begun.elapsed() < Duration::from_millis(900), "{what} {protocol}: {:?}", begun.elapsed());
        }
    });
}
