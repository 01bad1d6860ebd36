//! Connections that aimed at the application and that the kernel redirected here: what they aimed at, and which listener
//! that makes them one of. A connection that was not redirected is nobody's, and refused.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sidewall_proxy_config::{Capture, Listener};
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::metrics::CaptureCounters;
use crate::slot::Slot;

/// Why a connection to the capture port is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The kernel knows no other destination than this one, or none at all.
    #[error("it was not redirected: {source}")]
    Unknown {
        /// What the system says.
        source: io::Error,
    },
    /// Somebody connected to the capture port itself.
    #[error("it was not redirected, but made to {destination}")]
    Direct {
        /// Where it was made to.
        destination: SocketAddr,
    },
    /// Redirected by a rule that this configuration knows nothing of.
    #[error("it aimed at {destination}, a port that is not captured")]
    Foreign {
        /// Where it was made to.
        destination: SocketAddr,
    },
}

/// The capture port within one worker.
pub struct Captured {
    /// The port itself.
    pub port: u16,
    /// The captured ports, and where their connections arrive.
    pub slots: BTreeMap<u16, Rc<Slot>>,
    /// How many were taken and refused.
    pub counters: Arc<CaptureCounters>,
}

impl Captured {
    /// Where this connection arrives. One that is refused is reset when it is dropped.
    ///
    /// # Errors
    ///
    /// Why it is nobody's.
    pub fn slot(&self, stream: &TcpStream) -> Result<Rc<Slot>, Refused> {
        let outcome = self.judge(stream, original_destination(stream));
        match &outcome {
            Ok(_) => self.counters.taken(),
            Err(_) => {
                self.counters.refused();
                // So that whoever waits for an answer learns at once that there is none.
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
        }
        outcome
    }

    fn judge(&self, stream: &TcpStream, original: io::Result<SocketAddr>) -> Result<Rc<Slot>, Refused> {
        let destination = original.map_err(|source| Refused::Unknown { source })?;
        // Without any redirection, the kernel gives the address that the connection has anyway.
        let local = stream.local_addr().map_err(|source| Refused::Unknown { source })?;
        if destination.port() == self.port || destination == local {
            return Err(Refused::Direct { destination });
        }
        self.slots.get(&destination.port()).map(Rc::clone).ok_or(Refused::Foreign { destination })
    }
}

/// Where a connection was made to before the kernel redirected it (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`).
///
/// # Errors
///
/// When the kernel tracks no such connection.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let address = if stream.local_addr()?.is_ipv4() { socket.original_dst_v4()? } else { socket.original_dst_v6()? };
    address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Which listener each captured port's connections become: of those that forward there, one that authenticates before an
/// anonymous one, then one with TLS before one without, then the first. Gives indices of the listeners.
pub fn strictest(capture: &Capture, listeners: &[Listener]) -> BTreeMap<u16, usize> {
    let strictness = |listener: &Listener| (!listener.anonymous, listener.tls.is_some());
    let of = |port: u16| {
        let behind = listeners.iter().enumerate().filter(|(_, listener)| listener.forward.port == port);
        // The last of the greatest is taken, so the first comes last.
        behind.rev().max_by_key(|(_, listener)| strictness(listener)).map(|(index, _)| (port, index))
    };
    capture.inbound.iter().filter_map(|port| of(*port)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidewall_proxy_config::ProxyConfig;

    #[test]
    fn the_strictest_listener_gets_captured_traffic() {
        let open = |port: u16, tls: &str| {
            format!(r#"{{"port": {port}, "forward": {{"port": 8080}}, "anonymous": true{tls}}}"#)
        };
        let basic = |port: u16, tls: &str| {
            format!(
                r#"{{"port": {port}, "forward": {{"port": 8080}},
                    "authentication": [{{"basic": {{"htpasswdFile": "u"}}}}]{tls}}}"#
            )
        };
        const TLS: &str = r#", "tls": {"certFile": "c", "keyFile": "k"}"#;
        for (listeners, expected) in [
            (vec![open(1, ""), basic(2, ""), open(3, TLS)], 1),
            (vec![basic(1, ""), basic(2, TLS), open(3, TLS)], 1),
            (vec![open(1, ""), open(2, "")], 0),
            (vec![open(1, ""), open(2, TLS), open(3, TLS)], 1),
        ] {
            let text = format!(
                r#"{{"listeners": [{}, {{"port": 9, "forward": {{"port": 9090}}, "anonymous": true}}],
                    "capture": {{"inbound": [8080]}}}}"#,
                listeners.join(",")
            );
            let config: ProxyConfig = serde_json::from_str(&text).expect("it reads");
            let found = strictest(config.capture.as_ref().expect("capture"), &config.listeners);
            assert_eq!(found, BTreeMap::from([(8080, expected)]), "{text}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_nobody_redirected_is_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let client = TcpStream::connect(address).await.expect("it connects");
        let (stream, _) = listener.accept().await.expect("it is accepted");
        let captured = Captured { port: address.port(), slots: BTreeMap::new(), counters: Arc::default() };
        let refused = captured.slot(&stream).err().expect("refused");
        // With connection tracking the kernel names the address itself, without it none.
        assert!(matches!(refused, Refused::Direct { .. } | Refused::Unknown { .. }), "{refused}");
        assert_eq!(captured.counters.sums(), (0, 1));
        // Whatever the kernel says, these two are never let in.
        let own = captured.judge(&stream, Ok(address)).err().expect("refused");
        assert!(matches!(own, Refused::Direct { .. }), "{own}");
        let other = captured.judge(&stream, Ok("10.0.0.1:9".parse().expect("an address"))).err().expect("refused");
        assert!(matches!(other, Refused::Foreign { .. }), "{other}");
        drop(client);
    }
}
