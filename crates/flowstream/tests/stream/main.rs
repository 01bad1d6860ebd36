//! The flow log as a stream, over real sockets. Some of these need root, for whom the UNIX socket is.

mod admission;
mod hostile;
mod limits;
mod readers;
mod sockets;
mod support;
