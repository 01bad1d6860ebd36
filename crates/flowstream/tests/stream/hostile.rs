//! Whoever speaks something else than what is agreed.

use crate::support::{Offered, PATIENCE, Told, everything, flow, next, of, record};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use sidewall_flowstream::{Client, ClientError, Event, Limits};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const FOLLOW: &str = "http://localhost/sidewall.flows.v1.Flows/Follow";

/// Asks for anything, down to the frame; gives the answer's head, its body and its gRPC status.
async fn ask(offered: &Offered, request: Request<()>, body: Bytes) -> (StatusCode, Vec<u8>, Option<u16>) {
    let stream = TcpStream::connect(offered.address).await.unwrap();
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let (answer, mut out) = send.send_request(request, false).unwrap();
    out.send_data(body, true).unwrap();
    let answer = timeout(PATIENCE, answer).await.expect("an answer comes").unwrap();
    let status = |headers: &http::HeaderMap| headers.get("grpc-status").map(|s| s.to_str().unwrap().parse().unwrap());
    let (head, mut body) = answer.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = timeout(PATIENCE, body.data()).await.expect("it goes on") {
        bytes.extend_from_slice(&data.unwrap());
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    driver.abort();
    (head.status, bytes, status(&head.headers).or(status(&trailers)))
}

fn call(uri: &str) -> http::request::Builder {
    Request::post(uri).header("content-type", "application/grpc").header("authorization", "Bearer boss-token")
}

/// A gRPC message with its head.
fn framed(message: &[u8]) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    bytes.into()
}

#[tokio::test]
async fn other_requests_are_refused() {
    let (offered, book) = Offered::usual(Limits::default()).await;
    let get = Request::get(FOLLOW).header("content-type", "application/grpc").body(()).unwrap();
    assert_eq!(ask(&offered, get, Bytes::new()).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let json = Request::post(FOLLOW).header("content-type", "application/json").body(()).unwrap();
    assert_eq!(ask(&offered, json, "{}".into()).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    for path in ["http://localhost/", "http://localhost/sidewall.flows.v1.Flows/Followx", "http://localhost/metrics"] {
        let (_, body, status) = ask(&offered, call(path).body(()).unwrap(), framed(b"")).await;
        assert_eq!((body.len(), status), (0, Some(12)), "{path} is not implemented");
    }
    // Not protobuf; no message; less than the head says; a compression that nobody speaks; more than a request may have.
    let oversized = [&[0x0a, 0xff, 0x7f][..], &[b'n'; 16 << 10]].concat();
    let many: [(&str, Bytes); 5] = [
        ("bad field", framed(&[0xff; 9])),
        ("nothing", Bytes::new()),
        ("cut", framed(b"\x0a\x04shop").slice(..7)),
        ("compressed", Bytes::from_static(&[1, 0, 0, 0, 1, 0])),
        ("large", framed(&oversized)),
    ];
    for (what, body) in many {
        let (_, body, status) = ask(&offered, call(FOLLOW).body(()).unwrap(), body).await;
        assert!(body.is_empty() && status.is_some_and(|status| status != 0), "{what}: {status:?}");
    }
    assert_eq!(book.change(|pages| pages.asked), 0, "nobody was asked for any of these");
}

#[tokio::test]
async fn a_request_that_does_not_come_is_not_waited_for() {
    let short = Duration::from_millis(150);
    let (offered, _) = Offered::usual(Limits { request_within: short, admit_within: short, ..Limits::default() }).await;
    let stream = TcpStream::connect(offered.address).await.unwrap();
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let (answer, _out) = send.send_request(call(FOLLOW).body(()).unwrap(), false).unwrap();
    let answer = timeout(PATIENCE, answer).await.expect("an answer comes").unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4", "deadline exceeded");
    driver.abort();
}

#[tokio::test]
async fn noise_ends_its_own_connection_alone() {
    let limits = Limits { idle: Duration::from_millis(300), goodbye: Duration::from_millis(100), ..Limits::default() };
    let (offered, _) = Offered::usual(limits).await;
    let mut events = offered.follow(&of("shop"), Some("shop-token")).await.unwrap();
    assert_eq!(next(&mut events).await.unwrap(), Told::Begun(0));
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let noise: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
        (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
        preface.to_vec(),
        // A frame of sixteen mebibytes; headers that are none; a window that is too large; a ping of a length that it has not.
        [&preface[..], &settings, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
        [&preface[..], &settings, &[0, 0, 4, 1, 5, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]].concat(),
        [&preface[..], &settings, &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]].concat(),
        [&preface[..], &settings, &[0, 0, 1, 6, 0, 0, 0, 0, 0, 9]].concat(),
    ];
    for bytes in noise {
        let mut stream = TcpStream::connect(offered.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut said = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("it is closed");
        assert!(said.len() < 4096, "{} octets are said to {bytes:?}", said.len());
    }
    offered.hub.publish(record("shop", "web", 5));
    assert_eq!(next(&mut events).await.unwrap(), flow("web", 5), "the reader has not noticed");
}

/// A server that answers one call with these bytes, and a status.
async fn answering(body: Bytes, status: Option<(&'static str, &'static str)>) -> (Client, JoinHandle<()>) {
    let (here, there) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(async move {
        let mut connection = h2::server::handshake(there).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut out = respond.send_response(head, false).unwrap();
            let _ = out.send_data(body.clone(), false);
            if let Some((code, message)) = status {
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", code.parse().unwrap());
                trailers.insert("grpc-message", message.parse().unwrap());
                let _ = out.send_trailers(trailers);
            } else {
                // It hangs up in the middle.
                let _ = timeout(Duration::from_millis(100), connection.accept()).await;
                return;
            }
        }
    });
    (Client::over(here).await.unwrap(), serving)
}

async fn events(body: Bytes, status: Option<(&'static str, &'static str)>) -> Vec<Result<Event, ClientError>> {
    let (client, serving) = answering(body, status).await;
    let events = match client.follow(&everything(), None).await {
        Ok(events) => timeout(PATIENCE, events.collect()).await.expect("it ends"),
        Err(error) => vec![Err(error)],
    };
    serving.abort();
    events
}

const GOOD: Option<(&str, &str)> = Some(("0", ""));

#[tokio::test]
async fn what_only_newer_programs_know_is_told_and_passed_over() {
    // Field 9 of the event; a flow with an unknown verdict; an end with a field that nobody knows.
    let newer = framed(&[0x4a, 0x01, 0x00]);
    let verdict = {
        // party, direction, wire, peer{kind}, way, verdict 77, cause
        let flow = [0x20, 1, 0x30, 1, 0x38, 1, 0x72, 2, 0x08, 8, 0x78, 1, 0x88, 0x01, 77, 0x90, 0x01, 1];
        framed(&[&[0x12, flow.len() as u8][..], &flow].concat())
    };
    let end = framed(&[0x22, 0x08, 0x12, 1, b'n', 0x1a, 1, b'p', 0x78, 5]);
    let told = events([newer, verdict, end].concat().into(), GOOD).await;
    assert!(matches!(told[0], Ok(Event::Newer { field: "event" })), "{told:?}");
    assert!(matches!(told[1], Ok(Event::Newer { field: "verdict" })), "{told:?}");
    assert!(matches!(&told[2], Ok(Event::Record(record)) if record.pod() == Some(("n", "p"))), "{told:?}");
    assert_eq!(told.len(), 3);
}

#[tokio::test]
async fn a_server_that_sends_anything_else_is_an_error() {
    let told = events(framed(&[0xff; 20]), GOOD).await;
    assert!(matches!(&told[..], [Err(ClientError::BadEvent(_))]), "{told:?}");
    // A flow without a peer, and one larger than any event.
    let flow = [0x20, 1, 0x30, 1, 0x38, 1];
    let told = events(framed(&[&[0x12, flow.len() as u8][..], &flow].concat()), GOOD).await;
    assert!(matches!(&told[..], [Err(ClientError::BadEvent(why))] if why.contains("peer")), "{told:?}");
    let told = events(framed(&vec![0; 70 << 10]), GOOD).await;
    assert!(matches!(&told[..], [Err(ClientError::BadEvent(why))] if why.contains("65536")), "{told:?}");
    // It hangs up.
    let told = events(framed(&[0x0a, 0]), None).await;
    assert!(matches!(&told[..], [Ok(Event::Begun { kept: 0 }), Err(ClientError::Lost(_))]), "{told:?}");
}

#[tokio::test]
async fn what_a_server_says_of_an_error_does_nothing_to_a_terminal() {
    let told = events(Bytes::new(), Some(("7", "a%1B[2Jb"))).await;
    let [Err(error @ ClientError::NotAllowed(_))] = &told[..] else { panic!("{told:?}") };
    assert!(error.to_string().chars().all(|c| !c.is_control()), "{error:?}");
    let told = events(Bytes::new(), Some(("13", "x"))).await;
    let [Err(ClientError::Failed { code, message })] = &told[..] else { panic!("{told:?}") };
    assert_eq!((code.as_str(), message.as_str()), ("Internal", "x"));
}
