//! An API server that misbehaves on purpose: a real one can't be made to.
//!
//! It speaks as much HTTP as the client needs, on loopback. What it answers is a function of the request, which a test may
//! change at any time; whatever that passes over has the usual answer: no objects, a watch that says nothing.

use crate::client::of_config;
use kube::Client;
use kube::config::Config;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
    pub at: Instant,
}

impl Call {
    pub fn is_watch(&self) -> bool {
        self.query.contains_key("watch")
    }

    pub fn asks(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// Whether it is a list or watch of these.
    pub fn of(&self, plural: &str) -> bool {
        self.path.rsplit('/').next() == Some(plural)
    }
}

/// An answer.
pub(crate) enum Answer {
    /// A document.
    Json(u16, Value),
    /// A watch: events until the sender is gone.
    Stream(mpsc::UnboundedReceiver<Value>),
    /// Nothing at all, for ever.
    Silence,
}

type Script = Box<dyn FnMut(&Call) -> Option<Answer> + Send>;

struct Inner {
    script: Mutex<Script>,
    calls: Mutex<Vec<Call>>,
}

/// The server. It ends when this is dropped.
pub(crate) struct Fake {
    inner: Arc<Inner>,
    pub address: SocketAddr,
    task: Option<AbortHandle>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Fake {
    pub async fn start(script: impl FnMut(&Call) -> Option<Answer> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner { script: Mutex::new(Box::new(script)), calls: Mutex::default() });
        let task = Some(tokio::spawn(serve(listener, Arc::clone(&inner))).abort_handle());
        Self { inner, address, task }
    }

    /// Closes every connection and takes no more.
    pub fn stop(&mut self) {
        self.task.take().iter().for_each(AbortHandle::abort);
    }

    /// Takes connections again, at the same address.
    pub async fn restart(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(64).unwrap();
        self.task = Some(tokio::spawn(serve(listener, Arc::clone(&self.inner))).abort_handle());
    }

    /// Answers otherwise from now on.
    pub fn script(&self, script: impl FnMut(&Call) -> Option<Answer> + Send + 'static) {
        *self.inner.script.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(script);
    }

    pub fn calls(&self) -> Vec<Call> {
        self.inner.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn client(&self) -> Client {
        of_config(Config::new(format!("http://{}", self.address).parse().unwrap())).unwrap()
    }
}

async fn serve(listener: TcpListener, inner: Arc<Inner>) {
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                let inner = Arc::clone(&inner);
                connections.spawn(async move {
                    let _ = answer(stream, &inner).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Takes one request and answers it.
async fn answer(stream: TcpStream, inner: &Inner) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    let call = Call {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        at: Instant::now(),
    };
    inner.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call.clone());
    let scripted = (inner.script.lock().unwrap_or_else(PoisonError::into_inner))(&call);
    match scripted.unwrap_or_else(|| usual(&call)) {
        Answer::Json(code, value) => {
            let text = value.to_string();
            let head = format!(
                "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                text.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await
        }
        Answer::Stream(mut events) => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            stream.flush().await?;
            while let Some(event) = events.recv().await {
                let text = format!("{event}\n");
                stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await?;
                stream.flush().await?;
            }
            stream.write_all(b"0\r\n\r\n").await?;
            stream.flush().await
        }
        Answer::Silence => {
            // Until the other side has had enough.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.map(drop)
        }
    }
}

fn usual(call: &Call) -> Answer {
    if call.path.contains("/customresourcedefinitions/") {
        return Answer::Json(200, json!({"metadata": {"name": call.path.rsplit('/').next()}}));
    }
    if call.is_watch() {
        return quiet();
    }
    list("1", None, &[])
}

/// A watch that begins and says nothing.
pub(crate) fn quiet() -> Answer {
    let (to, events) = mpsc::unbounded_channel();
    // Kept open for as long as the program lives.
    std::mem::forget(to);
    Answer::Stream(events)
}

/// A page of a list.
pub(crate) fn list(version: &str, next: Option<&str>, items: &[Value]) -> Answer {
    Answer::Json(200, json!({"metadata": {"resourceVersion": version, "continue": next}, "items": items}))
}

/// An error as the API server has it.
pub(crate) fn status(code: u16, reason: &str) -> Answer {
    Answer::Json(code, refusal(code, reason))
}

/// The document of an error.
pub(crate) fn refusal(code: u16, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("it is {reason}"), "reason": reason, "code": code,
    })
}

/// A watch's event.
pub(crate) fn event(word: &str, object: &Value) -> Value {
    json!({"type": word, "object": object})
}

/// Waits until something holds; fails the test where it does not within ten seconds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
