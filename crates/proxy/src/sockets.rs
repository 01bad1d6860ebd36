//! The listening sockets: one for each worker and address, joined by SO_REUSEPORT so that the kernel spreads the
//! connections and no worker wakes for another's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps for a worker that is busy.
const BACKLOG: i32 = 1024;

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Something listens there.
    #[error(
        "{field}: {address} is already in use; end the program that listens there (`ss -ltnp` names it) or choose \
         another port"
    )]
    InUse {
        /// The port's path in the configuration.
        field: String,
        /// The address.
        address: SocketAddr,
    },
    /// Ports below 1024 need a right.
    #[error("{field}: no right to listen on {address}; ports below 1024 need CAP_NET_BIND_SERVICE")]
    NoRight {
        /// The port's path in the configuration.
        field: String,
        /// The address.
        address: SocketAddr,
    },
    /// The address belongs to nobody here.
    #[error("{field}: {address} is not an address of this machine")]
    NotHere {
        /// The port's path in the configuration.
        field: String,
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("{field}: cannot listen on {address}: {source}")]
    Other {
        /// The port's path in the configuration.
        field: String,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

impl SocketError {
    /// The port's path in the configuration.
    pub fn field(&self) -> &str {
        match self {
            Self::InUse { field, .. }
            | Self::NoRight { field, .. }
            | Self::NotHere { field, .. }
            | Self::Other { field, .. } => field,
        }
    }
}

/// A port, and where it is to be opened.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its path in the configuration.
    pub field: String,
    /// One address; without it every one of IPv4 and IPv6.
    pub at: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

impl Port {
    /// The sockets' addresses.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        addresses(self.at, self.port)
    }

    /// Opens it at one of its addresses, so many times. `ours` says that a socket of this process listens there already,
    /// or at an address that includes this one or is included. Gives none where the machine has no IPv6 and it was not
    /// asked for by name.
    ///
    /// # Errors
    ///
    /// Names the field and the address that cannot be opened.
    pub fn open(&self, address: SocketAddr, count: NonZeroUsize, ours: bool) -> Result<Vec<TcpListener>, SocketError> {
        match open(address, count, ours) {
            Ok(sockets) => Ok(sockets),
            Err(error) if self.at.is_none() && address.is_ipv6() && no_ipv6(&error) => Ok(Vec::new()),
            Err(source) => {
                let field = self.field.clone();
                Err(match source.kind() {
                    io::ErrorKind::AddrInUse => SocketError::InUse { field, address },
                    io::ErrorKind::PermissionDenied => SocketError::NoRight { field, address },
                    io::ErrorKind::AddrNotAvailable => SocketError::NotHere { field, address },
                    _ => SocketError::Other { field, address, source },
                })
            }
        }
    }
}

/// The addresses of the sockets of a port.
pub fn addresses(at: Option<IpAddr>, port: u16) -> Vec<SocketAddr> {
    match at {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => vec![
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
        ],
    }
}

/// Whether one socket could get what is meant for the other.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port() && a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
}

fn open(address: SocketAddr, count: NonZeroUsize, ours: bool) -> io::Result<Vec<TcpListener>> {
    // A socket that joins an SO_REUSEPORT group is never told that it is not alone, and would share the port's
    // connections with another program of the same user. One that does not join is told; but also of our own.
    if !ours {
        drop(bind(address, false)?);
    }
    (0..count.get())
        .map(|_| {
            let socket = bind(address, true)?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own, so that peers keep their own kind of address.
        socket.set_only_v6(true)?;
    }
    // A restart need not wait until the last connections have timed out.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn no_ipv6(error: &io::Error) -> bool {
    // EAFNOSUPPORT: built or booted without IPv6; EADDRNOTAVAIL: switched off by sysctl.
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_overlap_where_one_includes_the_other() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for (one, other, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("0.0.0.0:80", "[::]:80", false),
            ("[::1]:80", "[::]:80", true),
        ] {
            assert_eq!(
                (overlap(at(one), at(other)), overlap(at(other), at(one))),
                (expected, expected),
                "{one} {other}"
            );
        }
    }

    #[test]
    fn a_port_of_somebody_else_is_noticed_and_one_of_our_own_is_shared() {
        let localhost = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // Somebody who would share it, which is what another proxy of the same user does.
        let taken: TcpListener = {
            let socket = bind(localhost, true).expect("a port");
            socket.listen(1).expect("it listens");
            socket.into()
        };
        let address = taken.local_addr().expect("its address");
        let port = Port { field: "listeners[0].port".to_owned(), at: Some(address.ip()), port: address.port() };
        let two = NonZeroUsize::new(2).expect("two");
        let refused = port.open(address, two, false).expect_err("in use");
        assert!(matches!(&refused, SocketError::InUse { .. }) && refused.field() == "listeners[0].port", "{refused}");
        assert_eq!(port.open(address, two, true).expect("shared").len(), 2);
    }
}
