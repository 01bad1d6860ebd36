//! Reads the flow log of a pod that another process has.

use crate::directory::Directory;
use crate::error::ClientError;
use crate::serve::SOCKET;
use crate::wire::{Reply, Request, read_line};
use sidewall_flow::{ReadRecordError, Record, Version};
use std::io::{self, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// A connection to a [`crate::Server`].
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
    kept: usize,
}

impl Client {
    /// Asks for the kept records of the pod whose directory it is, and with `follow` for those to come.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(directory: &Path, follow: bool) -> Result<Self, ClientError> {
        let path = directory.join(SOCKET);
        let directory = Directory::open(directory).map_err(|source| fault(&path, source))?;
        let stream = UnixStream::connect(directory.file(SOCKET)).map_err(|source| fault(&path, source))?;
        Self::ask(stream, &path, follow)
    }

    pub(crate) fn ask(mut stream: UnixStream, path: &Path, follow: bool) -> Result<Self, ClientError> {
        let request = Request { version: Version, follow };
        let line = serde_json::to_string(&request).map_err(|error| fault(path, error.into()))?;
        match stream.write_all(format!("{line}\n").as_bytes()) {
            // One connection too many is refused, and closed, before anything is read of it: what it was told is there.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written.map_err(|source| fault(path, source))?,
        }
        let mut client = Self { path: path.to_owned(), stream: BufReader::new(stream), kept: 0 };
        // It closes without a word on somebody who may not read.
        let reply = client.line()?.ok_or_else(|| ClientError::NotAllowed(path.to_owned()))?;
        let reply: Reply = serde_json::from_str(&reply)
            .map_err(|error| ClientError::Record { path: path.to_owned(), source: ReadRecordError::Form(error) })?;
        match reply.refused {
            Some(reason) => Err(ClientError::Refused { path: path.to_owned(), reason }),
            None => Ok(Self { kept: reply.kept, ..client }),
        }
    }

    /// How many of the records were kept when it connected; those come first.
    pub fn kept(&self) -> usize {
        self.kept
    }

    fn line(&mut self) -> Result<Option<String>, ClientError> {
        match read_line(&mut self.stream) {
            Err(error) if error.kind() == ErrorKind::FileTooLarge => Err(ClientError::TooLong(self.path.clone())),
            // A process that was killed ends its connections this way.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
            read => read.map_err(|source| ClientError::Socket { path: self.path.clone(), source }),
        }
    }
}

fn fault(path: &Path, source: io::Error) -> ClientError {
    match source.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::Nobody(path.to_owned()),
        ErrorKind::PermissionDenied => ClientError::NotAllowed(path.to_owned()),
        _ => ClientError::Socket { path: path.to_owned(), source },
    }
}

/// The records, waiting for each, until nothing comes any more. Where the pod has ended, a [`Record::End`] is the last.
impl Iterator for Client {
    type Item = Result<Record, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.line().transpose()?;
        Some(line.and_then(|line| {
            Record::from_line(&line).map_err(|source| ClientError::Record { path: self.path.clone(), source })
        }))
    }
}
