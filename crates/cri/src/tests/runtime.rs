//! A runtime's side that plays by a script, down to the single frame.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use prost::Message;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use crate::{Client, Options};

/// What a call is answered with.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// These messages, one after the other, and a good end.
    Messages(Vec<Vec<u8>>),
    /// These messages, and then nothing.
    Open(Vec<Vec<u8>>),
    /// These bytes instead of messages, and a good end.
    Bytes(Vec<u8>),
    /// A status and its message, percent-encoded.
    Status(u8, &'static str),
    /// Nothing at all.
    Silence,
    /// The end of the connection.
    Hangup,
}

impl Answer {
    pub(super) fn one(message: &impl Message) -> Self {
        Self::Messages(vec![message.encode_to_vec()])
    }
}

type Script = dyn Fn(&str, Bytes) -> Answer + Send + Sync;

/// Listens until it is dropped.
pub(super) struct Runtime {
    directory: TempDir,
    _tasks: JoinSet<()>,
}

impl Runtime {
    pub(super) fn start(script: impl Fn(&str, Bytes) -> Answer + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("runtime.sock")).unwrap();
        let script: Arc<Script> = Arc::new(script);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let script = Arc::clone(&script);
                connections.spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    let (hangup, mut hung_up) = tokio::sync::mpsc::unbounded_channel();
                    let mut calls = JoinSet::new();
                    loop {
                        // Waiting for the next call is also what moves the calls that are under way.
                        let next = tokio::select! {
                            next = connection.accept() => next,
                            Some(()) = hung_up.recv() => return,
                        };
                        let Some(Ok((request, respond))) = next else { return };
                        let (script, hangup) = (Arc::clone(&script), hangup.clone());
                        calls.spawn(async move {
                            let (head, mut body) = request.into_parts();
                            assert_eq!(head.headers["content-type"], "application/grpc");
                            assert_eq!(head.uri.authority().unwrap(), "localhost");
                            let mut bytes = Vec::new();
                            while let Some(data) = body.data().await {
                                bytes.extend_from_slice(&data.unwrap());
                            }
                            match script(head.uri.path(), Bytes::from(bytes).slice(5..)) {
                                Answer::Hangup => hangup.send(()).unwrap(),
                                answer => say(respond, answer).await,
                            }
                        });
                    }
                });
            }
        });
        Self { directory, _tasks: tasks }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("runtime.sock")
    }

    pub(super) async fn client(&self) -> Client {
        Client::connect(Options::new(self.socket())).await.unwrap()
    }
}

pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

async fn say(mut respond: SendResponse<Bytes>, answer: Answer) {
    let head = http::Response::builder().header("content-type", "application/grpc");
    let bytes = match answer {
        Answer::Status(code, message) => {
            let head = head.header("grpc-status", code.to_string()).header("grpc-message", message);
            respond.send_response(head.body(()).unwrap(), true).unwrap();
            return;
        }
        Answer::Silence | Answer::Hangup => return std::future::pending().await,
        Answer::Bytes(ref bytes) => bytes.clone(),
        Answer::Messages(ref messages) | Answer::Open(ref messages) => {
            messages.iter().flat_map(|message| framed(message)).collect()
        }
    };
    let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
    stream.send_data(bytes.into(), false).unwrap();
    if matches!(answer, Answer::Open(_)) {
        return std::future::pending().await;
    }
    let trailers = http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    stream.send_trailers(trailers).unwrap();
}
