//! The runtime's side of NRI, one step at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::recorder::Recorder;
use crate::options::Options;
use crate::wire::{nri, ttrpc as wire};

pub(super) fn pod(id: &str) -> nri::PodSandbox {
    nri::PodSandbox { id: id.into(), name: "web".into(), namespace: "shop".into(), ..Default::default() }
}

pub(super) fn container(id: &str, pod: &str) -> nri::Container {
    nri::Container { id: id.into(), pod_sandbox_id: pod.into(), name: "app".into(), ..Default::default() }
}

pub(super) fn frame(connection: u32, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&connection.to_be_bytes()[..], &length.to_be_bytes(), bytes].concat()
}

fn message(kind: u8, stream: u32, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], &stream.to_be_bytes(), &[kind, 0], bytes].concat()
}

/// A socket on which a runtime would listen.
pub(super) struct Listening {
    listener: UnixListener,
    path: PathBuf,
    _directory: Option<TempDir>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Listening {
    pub(super) fn socket(&self) -> PathBuf {
        self.path.clone()
    }

    pub(super) async fn accept(&mut self) -> RuntimeSide {
        let accepted = tokio::time::timeout(Duration::from_secs(20), self.listener.accept()).await;
        let (stream, _) = accepted.expect("a plugin connects").unwrap();
        RuntimeSide { stream, next: 1, _plugin: JoinSet::new(), _listening: None }
    }
}

pub(super) struct RuntimeSide {
    stream: UnixStream,
    next: u32,
    _plugin: JoinSet<()>,
    _listening: Option<Listening>,
}

impl RuntimeSide {
    pub(super) fn listen() -> Listening {
        // Kept until the test's process ends where a test listens a second time at the same place.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nri.sock");
        Listening { listener: UnixListener::bind(&path).unwrap(), path, _directory: Some(directory) }
    }

    pub(super) fn listen_at(path: PathBuf) -> Listening {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        Listening { listener: UnixListener::bind(&path).unwrap(), path, _directory: None }
    }

    /// Starts a plugin, and has its connection.
    pub(super) async fn meet(with: impl FnOnce(Options) -> Options, recorder: &Recorder) -> Self {
        let mut listening = Self::listen();
        let options = with(Options { socket: listening.socket(), ..Options::new("sidewall") });
        let mut plugin = JoinSet::new();
        let recorder = recorder.clone();
        plugin.spawn(async move {
            let end = crate::serve(&options, &Arc::new(recorder.clone())).await;
            recorder.has_ended(end);
        });
        Self { _plugin: plugin, ..listening.accept().await }.keeping(listening)
    }

    fn keeping(mut self, listening: Listening) -> Self {
        self._listening = Some(listening);
        self
    }

    /// The same, registered.
    pub(super) async fn registered(with: impl FnOnce(Options) -> Options, recorder: &Recorder) -> Self {
        let mut runtime = Self::meet(with, recorder).await;
        runtime.registration().await;
        runtime.accept_registration().await;
        runtime.ask("Configure", &nri::ConfigureRequest::default()).await.unwrap();
        runtime
    }

    /// The same, and told that there is nothing.
    pub(super) async fn synchronised(with: impl FnOnce(Options) -> Options, recorder: &Recorder) -> Self {
        let mut runtime = Self::registered(with, recorder).await;
        runtime.synchronise().await;
        runtime
    }

    pub(super) async fn synchronise(&mut self) {
        self.ask("Synchronize", &nri::SynchronizeRequest::default()).await.unwrap();
    }

    pub(super) async fn registration(&mut self) -> nri::RegisterPluginRequest {
        let (connection, kind, stream, bytes) = self.read().await;
        assert_eq!((connection, kind, stream), (2, 1, 1));
        let request = wire::Request::decode(bytes).unwrap();
        assert_eq!(request.service, "nri.pkg.api.v1alpha1.Runtime");
        assert_eq!(request.method, "RegisterPlugin");
        nri::RegisterPluginRequest::decode(request.payload).unwrap()
    }

    pub(super) async fn accept_registration(&mut self) {
        self.raw(&frame(2, &message(2, 1, &[]))).await;
    }

    pub(super) async fn refuse_registration(&mut self, why: &str) {
        let status = Some(wire::Status { code: 7, message: why.into() });
        let response = wire::Response { status, payload: Bytes::new() };
        self.raw(&frame(2, &message(2, 1, &response.encode_to_vec()))).await;
    }

    pub(super) async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    fn request(method: &str, payload: Vec<u8>, timeout: Duration) -> Vec<u8> {
        let service = "nri.pkg.api.v1alpha1.Plugin".into();
        let timeout_nano = timeout.as_nanos().try_into().unwrap();
        wire::Request { service, method: method.into(), payload: payload.into(), timeout_nano }.encode_to_vec()
    }

    /// Asks, and does not wait for the answer.
    pub(super) async fn send(&mut self, stream: u32, method: &str, payload: &impl Message) {
        let request = Self::request(method, payload.encode_to_vec(), Duration::ZERO);
        // The plugin may be gone by now; what it made of that is what the test looks at.
        let _ = self.stream.write_all(&frame(1, &message(1, stream, &request))).await;
        tokio::task::yield_now().await;
    }

    pub(super) async fn ask(&mut self, method: &str, payload: &impl Message) -> Result<Bytes, (i32, String)> {
        self.ask_bytes(method, payload.encode_to_vec()).await
    }

    pub(super) async fn ask_bytes(&mut self, method: &str, payload: Vec<u8>) -> Result<Bytes, (i32, String)> {
        let request = Self::request(method, payload, Duration::ZERO);
        self.exchange(|stream| frame(1, &message(1, stream, &request))).await
    }

    pub(super) async fn ask_within(
        &mut self,
        method: &str,
        payload: &impl Message,
        within: Duration,
    ) -> Result<Bytes, (i32, String)> {
        let request = Self::request(method, payload.encode_to_vec(), within);
        self.exchange(|stream| frame(1, &message(1, stream, &request))).await
    }

    /// Asks in frames of all sizes, with others between them.
    pub(super) async fn ask_torn(&mut self, method: &str, payload: &impl Message) -> Result<Bytes, (i32, String)> {
        let request = Self::request(method, payload.encode_to_vec(), Duration::ZERO);
        let torn = |stream| {
            let whole = message(1, stream, &request);
            let mut rest = &whole[..];
            let mut bytes = Vec::new();
            for size in [1, 9, 4095, 4096, 4097, 70_000].into_iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(size));
                bytes.extend(frame(1, now));
                bytes.extend(frame(2, b""));
                bytes.extend(frame(7, b"nobody's"));
                rest = later;
                if rest.is_empty() {
                    return bytes;
                }
            }
            unreachable!()
        };
        self.exchange(torn).await
    }

    async fn exchange(&mut self, bytes: impl FnOnce(u32) -> Vec<u8>) -> Result<Bytes, (i32, String)> {
        let asked = self.next;
        self.next += 2;
        self.raw(&bytes(asked)).await;
        let (connection, kind, stream, bytes) = self.read().await;
        assert_eq!((connection, kind, stream), (1, 2, asked));
        let response = wire::Response::decode(bytes).unwrap();
        match response.status {
            Some(status) if status.code != 0 => Err((status.code, status.message)),
            _ => Ok(response.payload),
        }
    }

    /// One message; the plugin's are small enough for one frame.
    async fn read(&mut self) -> (u32, u8, u32, Bytes) {
        let read = async {
            let connection = self.stream.read_u32().await.unwrap();
            let length = self.stream.read_u32().await.unwrap();
            assert!(length <= 4096, "the runtime can't take a frame of {length}");
            let mut bytes = vec![0; length.try_into().unwrap()];
            self.stream.read_exact(&mut bytes).await.unwrap();
            let [a, b, c, d, s, t, u, v, kind, _] = *bytes.first_chunk().unwrap();
            assert_eq!(u32::from_be_bytes([a, b, c, d]), length - 10);
            (connection, kind, u32::from_be_bytes([s, t, u, v]), Bytes::from(bytes).slice(10..))
        };
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("the plugin answers")
    }

    /// Ends the connection; the plugin goes on with what it is left.
    pub(super) fn close(self) -> (JoinSet<()>, Option<Listening>) {
        (self._plugin, self._listening)
    }
}
