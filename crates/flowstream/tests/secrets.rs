//! No token is ever written, whatever the level of the log.

use futures::StreamExt;
use sidewall_flowlog::Hub;
use sidewall_flowstream::{Admission, Admitted, Client, Follow, Limits, Listener, Refusal, Server, Token};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing_subscriber::filter::LevelFilter;

const GOOD: &str = "g00d-t0ken-of-jane";
const BAD: &str = "b4d-t0ken-of-nobody";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Jane;

impl Admission for Jane {
    async fn admit(&self, token: Option<&Token>, namespace: Option<&str>) -> Result<Admitted, Refusal> {
        tracing::debug!(?token, "asked");
        match (token.map(Token::reveal), namespace) {
            (Some(GOOD), Some("shop")) => Ok(Admitted { who: "jane".into() }),
            (Some(GOOD), Some("down")) => Err(Refusal::Unanswered { why: "out".into() }),
            (Some(GOOD), _) => Err(Refusal::NotAllowed { who: "jane".into() }),
            (Some(_), _) => Err(Refusal::Nobody),
            (None, _) => Err(Refusal::NoToken),
        }
    }
}

#[tokio::test]
async fn no_token_is_written() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let listener = Listener::loopback("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address().unwrap();
    let server = Server::new(Hub::new(), Jane, Limits { readmit: Duration::from_millis(50), ..Limits::default() });
    let serving = tokio::spawn(async move { listener.serve(server, std::future::pending()).await });
    let client = Client::over(TcpStream::connect(address).await.unwrap()).await.unwrap();
    let mut printed = String::new();
    for (namespace, token) in [("shop", GOOD), ("bank", GOOD), ("down", GOOD), ("shop", BAD)] {
        let token = Token::new(token).unwrap();
        let follow = Follow { namespace: Some(namespace.into()), follow: true, ..Follow::default() };
        let answer = client.follow(&follow, Some(&token)).await;
        printed += &format!("{client:?} {answer:?} {token:?} {follow:?}");
        if let Err(error) = &answer {
            printed += &error.to_string();
        }
        if let Ok(mut events) = answer {
            timeout(Duration::from_secs(10), events.next()).await.unwrap().unwrap().unwrap();
            // It is let in again a few times.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    drop(client);
    serving.abort();
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for (what, text) in [("printed", &printed), ("logged", &logged)] {
        for token in [GOOD, BAD] {
            let line = text.lines().find(|line| line.contains(token));
            assert_eq!(line, None, "{what}");
        }
    }
    // Yet something was logged, down to the frames.
    assert!(logged.contains("reads the flow log") && logged.contains("jane"), "{logged}");
    assert!(logged.contains("TRACE") && logged.matches("asked").count() > 5, "{} octets", logged.len());
}
