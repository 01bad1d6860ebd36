//! A server on sockets of its own, with an admission that the test rules.

use futures::StreamExt;
use sidewall_flow::{FlowRecord, Record};
use sidewall_flowlog::Hub;
use sidewall_flowstream::{
    Admission, Admitted, Client, ClientError, Event, Events, Follow, Limits, Listener, Refusal, Server, Token,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Who may see what, which the test changes.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<Pages>>);

#[derive(Default)]
pub struct Pages {
    /// Whose token it is, and whose flows he may see; `*` stands for all.
    pub tokens: BTreeMap<String, (String, BTreeSet<String>)>,
    /// Nobody can be asked.
    pub out: bool,
    /// Nobody answers.
    pub silent: bool,
    /// How often somebody was asked.
    pub asked: usize,
}

impl Book {
    pub fn with(tokens: &[(&str, &str, &[&str])]) -> Self {
        let book = Self::default();
        for (token, who, namespaces) in tokens {
            let namespaces = namespaces.iter().map(|namespace| (*namespace).to_owned()).collect();
            book.change(|pages| pages.tokens.insert((*token).to_owned(), ((*who).to_owned(), namespaces)));
        }
        book
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Pages) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn answer(&self, token: Option<&Token>, namespace: Option<&str>) -> Result<Admitted, Refusal> {
        self.change(|pages| {
            pages.asked += 1;
            if pages.out {
                return Err(Refusal::Unanswered { why: "the authority is out at lunch".into() });
            }
            let token = token.ok_or(Refusal::NoToken)?;
            let (who, namespaces) = pages.tokens.get(token.reveal()).ok_or(Refusal::Nobody)?;
            let who = who.clone();
            let may = namespaces.contains("*") || namespace.is_some_and(|namespace| namespaces.contains(namespace));
            if may { Ok(Admitted { who }) } else { Err(Refusal::NotAllowed { who }) }
        })
    }
}

impl Admission for Book {
    async fn admit(&self, token: Option<&Token>, namespace: Option<&str>) -> Result<Admitted, Refusal> {
        if self.change(|pages| pages.silent) {
            std::future::pending::<()>().await;
        }
        self.answer(token, namespace)
    }
}

/// A server at a TCP port of its own, until it is dropped.
pub struct Offered {
    pub address: SocketAddr,
    pub hub: Hub,
    end: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Offered {
    pub async fn start(hub: Hub, book: Book, limits: Limits) -> Self {
        let listener = Listener::loopback("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address().unwrap();
        let (end, ended) = oneshot::channel();
        let server = Server::new(hub.clone(), book, limits);
        let until = async move { drop(ended.await) };
        let serving = tokio::spawn(async move { listener.serve(server, until).await });
        Self { address, hub, end: Some(end), serving }
    }

    /// One where `boss` may see everything, and `shop` the namespace of that name.
    pub async fn usual(limits: Limits) -> (Self, Book) {
        let book = Book::with(&[("boss-token", "boss", &["*"]), ("shop-token", "jane", &["shop"])]);
        (Self::start(Hub::new(), book.clone(), limits).await, book)
    }

    pub async fn client(&self) -> Client {
        Client::over(TcpStream::connect(self.address).await.unwrap()).await.unwrap()
    }

    /// Asks as the bearer of a token.
    pub async fn follow(&self, follow: &Follow, token: Option<&str>) -> Result<Events, ClientError> {
        let token = token.map(|token| Token::new(token).unwrap());
        self.client().await.follow(follow, token.as_ref()).await
    }

    /// Ends it, and waits for that.
    pub async fn end(mut self) {
        drop(self.end.take());
        timeout(PATIENCE, &mut self.serving).await.expect("it ends").unwrap();
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// All namespaces, with what comes.
pub fn everything() -> Follow {
    Follow { follow: true, ..Follow::default() }
}

/// One namespace, with what comes.
pub fn of(namespace: &str) -> Follow {
    Follow { namespace: Some(namespace.into()), ..everything() }
}

/// A record that can be told from others by its number.
pub fn record(namespace: &str, pod: &str, number: u32) -> Record {
    const LINE: &str = concat!(
        r#"{"record":"flow","version":1,"time":"2026-11-22T02:29:48Z","namespace":"","pod":"","party":"container","#,
        r#""container":"app","direction":"egress","wire":"network","local":{},"peer":{"kind":"address"},"way":"leaving","#,
        r#""reply":false,"verdict":"deny","cause":"isolated","decision":"sw:deny/egress/c1"}"#,
    );
    static MADE: LazyLock<FlowRecord> = LazyLock::new(|| Record::from_line(LINE).unwrap().flow().unwrap().clone());
    let (namespace, pod, uid) = (namespace.into(), pod.into(), Some(number));
    Record::Flow(Box::new(FlowRecord { namespace, pod, uid, ..MADE.clone() }))
}

/// What a record is: the pod and the number of a flow, how many are missing, or the end of a pod.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Begun(u64),
    Flow(String, u32),
    Lost(u64),
    End(String),
}

pub fn flow(pod: &str, number: u32) -> Told {
    Told::Flow(pod.into(), number)
}

/// The next event, which must come.
pub async fn next(events: &mut Events) -> Result<Told, ClientError> {
    let event = timeout(PATIENCE, events.next()).await.expect("something comes").expect("it goes on")?;
    Ok(match event {
        Event::Begun { kept } => Told::Begun(kept),
        Event::Record(Record::Flow(flow)) => Told::Flow(flow.pod, flow.uid.unwrap()),
        Event::Record(Record::Lost(lost)) => Told::Lost(lost.count),
        Event::Record(Record::End(end)) => Told::End(end.pod),
        Event::Newer { field } => panic!("{field} is not newer"),
    })
}

/// All that comes until the end, which must be a good one.
pub async fn rest(events: &mut Events) -> Vec<Told> {
    let mut all = Vec::new();
    while let Some(event) = timeout(PATIENCE, events.next()).await.expect("it ends") {
        match event.expect("it ends well") {
            Event::Record(Record::Flow(flow)) => all.push(Told::Flow(flow.pod, flow.uid.unwrap())),
            Event::Record(Record::Lost(lost)) => all.push(Told::Lost(lost.count)),
            Event::Record(Record::End(end)) => all.push(Told::End(end.pod)),
            other => panic!("{other:?}"),
        }
    }
    all
}

/// How a stream ends that does not end well.
pub async fn failure(events: &mut Events) -> ClientError {
    let begun = std::time::Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "it goes on and on");
        match timeout(PATIENCE, events.next()).await.expect("it ends") {
            Some(Ok(_)) => {}
            Some(Err(error)) => return error,
            None => panic!("it ended well"),
        }
    }
}

/// Waits until something holds.
pub async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !reached() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
