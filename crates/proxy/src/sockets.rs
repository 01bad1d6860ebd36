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

/// Opens a port, at one address or at every one of IPv4 and IPv6, once for each worker: the outer list has a list for each
/// worker.
///
/// # Errors
///
/// Names the field and the address that cannot be opened.
pub fn open(
    field: &str,
    at: Option<IpAddr>,
    port: u16,
    workers: NonZeroUsize,
) -> Result<Vec<Vec<TcpListener>>, SocketError> {
    let addresses = match at {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => vec![
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
        ],
    };
    let mut by_worker: Vec<Vec<TcpListener>> = (0..workers.get()).map(|_| Vec::new()).collect();
    for address in addresses {
        // A socket that joins an SO_REUSEPORT group is never told that it is not alone, and would share the port's
        // connections with another program of the same user. One that does not join is told.
        let outcome = bind(address, false).and_then(|probe| {
            drop(probe);
            by_worker.iter_mut().try_for_each(|sockets| {
                let socket = bind(address, true)?;
                socket.listen(BACKLOG)?;
                sockets.push(socket.into());
                Ok(())
            })
        });
        match outcome {
            Ok(()) => {}
            Err(error) if at.is_none() && address.is_ipv6() && no_ipv6(&error) => {
                tracing::warn!(%address, "this machine has no IPv6; listening on IPv4 alone");
            }
            Err(source) => {
                let field = field.to_owned();
                return Err(match source.kind() {
                    io::ErrorKind::AddrInUse => SocketError::InUse { field, address },
                    io::ErrorKind::PermissionDenied => SocketError::NoRight { field, address },
                    io::ErrorKind::AddrNotAvailable => SocketError::NotHere { field, address },
                    _ => SocketError::Other { field, address, source },
                });
            }
        }
    }
    Ok(by_worker)
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
