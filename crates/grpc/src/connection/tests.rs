//! Against the other end of a pipe, down to the frame.

use std::error::Error as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use super::{Connection, Heartbeat, Settings};
use crate::{Raw, in_full, is_too_large};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
const QUIET: Settings = Settings { headers_most: 4096, heartbeat: None };

/// Answers each call with its own message, and one more header of so many bytes.
fn echo(pipe: DuplexStream, header: usize) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut connection = h2::server::handshake(pipe).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let (head, mut body) = request.into_parts();
                assert_eq!(head.uri.authority().unwrap(), "localhost");
                let mut message = Vec::new();
                while let Some(data) = body.data().await {
                    let data = data.unwrap();
                    body.flow_control().release_capacity(data.len()).unwrap();
                    message.extend_from_slice(&data);
                }
                let answer = http::Response::builder()
                    .header("content-type", "application/grpc")
                    .header("said", "x".repeat(header))
                    .body(());
                let mut stream = respond.send_response(answer.unwrap(), false).unwrap();
                stream.send_data(message.into(), false).unwrap();
                let good = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
                stream.send_trailers(http::HeaderMap::from_iter(good)).unwrap();
            });
        }
    })
}

async fn ask(connection: &Connection, message: &[u8], most: usize) -> Result<Response<Bytes>, Status> {
    let mut grpc = connection.clone().grpc().max_decoding_message_size(most);
    grpc.ready().await.map_err(|error| Status::unavailable(in_full(&error)))?;
    let asked = grpc.unary(Request::new(message.to_vec()), PathAndQuery::from_static("/a.B/C"), Raw);
    timeout(PATIENCE, asked).await.expect("an answer comes")
}

#[tokio::test]
async fn messages_go_and_come_as_they_are() {
    let (ours, theirs) = duplex(4096);
    let _server = echo(theirs, 1);
    let connection = Connection::over(ours, QUIET).await.unwrap();
    for message in [&b""[..], &[0xff; 3], &[7; 100_000]] {
        let answer = ask(&connection, message, 100_000).await.unwrap();
        assert_eq!(answer.into_inner(), message);
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_told_from_all_else() {
    let (ours, theirs) = duplex(4096);
    let _server = echo(theirs, 1);
    let connection = Connection::over(ours, QUIET).await.unwrap();
    assert!(ask(&connection, &[7; 1024], 1024).await.is_ok());
    let status = ask(&connection, &[7; 1025], 1024).await.unwrap_err();
    assert!(is_too_large(&status) && status.source().is_none(), "{status:?}");
    assert!(!is_too_large(&Status::out_of_range("no such page")));
    assert!(!is_too_large(&Status::internal(status.message())));
}

#[tokio::test]
async fn long_headers_are_refused() {
    let (ours, theirs) = duplex(4096);
    let _server = echo(theirs, 5000);
    let connection = Connection::over(ours, QUIET).await.unwrap();
    let refused = ask(&connection, b"a", 1024).await;
    assert!(refused.is_err(), "{refused:?}");
    let (ours, theirs) = duplex(4096);
    let _server = echo(theirs, 5000);
    let connection = Connection::over(ours, Settings { headers_most: 8192, ..QUIET }).await.unwrap();
    assert_eq!(ask(&connection, b"a", 1024).await.unwrap().into_inner(), &b"a"[..]);
}

#[tokio::test]
async fn what_has_ended_stays_so() {
    let (ours, theirs) = duplex(4096);
    let server = echo(theirs, 1);
    let connection = Connection::over(ours, QUIET).await.unwrap();
    ask(&connection, b"a", 1024).await.unwrap();
    server.abort();
    for _ in 0..3 {
        ask(&connection, b"a", 1024).await.unwrap_err();
    }
}

#[tokio::test]
async fn the_last_clone_ends_the_connection() {
    let (ours, theirs) = duplex(4096);
    let server = echo(theirs, 1);
    let connection = Connection::over(ours, QUIET).await.unwrap();
    let clone = connection.clone();
    drop(connection);
    ask(&clone, b"a", 1024).await.unwrap();
    drop(clone);
    timeout(PATIENCE, server).await.expect("the other end hears of it").unwrap();
}

/// An end that reads everything and says nothing, until it is dropped.
fn silent(mut pipe: DuplexStream) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut bytes = [0; 512];
        while pipe.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    })
}

#[tokio::test]
async fn an_end_that_shows_no_sign_of_life_is_missed() {
    let (ours, theirs) = duplex(4096);
    let _server = silent(theirs);
    let heartbeat = Heartbeat { every: Duration::from_millis(50), within: Duration::from_millis(50) };
    let begun = Instant::now();
    let connection = Connection::over(ours, Settings { heartbeat: Some(heartbeat), ..QUIET }).await.unwrap();
    let status = ask(&connection, b"a", 1024).await.unwrap_err();
    assert!(status.source().is_some(), "{status:?}");
    assert!(begun.elapsed() >= heartbeat.every + heartbeat.within, "{:?}", begun.elapsed());

    // Nobody who was not told to misses one.
    let (ours, theirs) = duplex(4096);
    let _server = silent(theirs);
    let connection = Connection::over(ours, QUIET).await.unwrap();
    let mut grpc = connection.grpc();
    grpc.ready().await.unwrap();
    let asked = grpc.unary(Request::new(b"a".to_vec()), PathAndQuery::from_static("/a.B/C"), Raw);
    assert!(timeout(Duration::from_millis(500), asked).await.is_err());
}
