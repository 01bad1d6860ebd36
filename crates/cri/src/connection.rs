//! Connecting to the runtime's socket.

use std::io;

use sidewall_grpc::{Connection, Settings, in_full};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::error::Error;
use crate::options::Options;

/// No heartbeat: a runtime on the same machine does not go without the kernel's saying so.
const SETTINGS: Settings = Settings { headers_most: 64 << 10, heartbeat: None };

/// One connection to the runtime.
pub(crate) async fn open(options: &Options) -> Result<Connection, Error> {
    let not_connected = |why: String| Error::NotConnected { socket: options.socket.clone(), why };
    let connect = async {
        let stream = UnixStream::connect(&options.socket).await.map_err(|error| refused(options, error))?;
        Connection::over(stream, SETTINGS).await.map_err(|error| not_connected(in_full(&error)))
    };
    let late = || not_connected(format!("no connection within {:?}", options.connect_within));
    timeout(options.connect_within, connect).await.map_err(|_| late())?
}

fn refused(options: &Options, source: io::Error) -> Error {
    let socket = options.socket.clone();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NotThere { socket, source },
        io::ErrorKind::PermissionDenied => Error::NotPermitted { socket, source },
        _ => Error::NotConnected { socket, why: source.to_string() },
    }
}
