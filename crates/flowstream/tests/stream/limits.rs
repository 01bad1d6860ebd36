//! How much, how many, how long.

use crate::support::{Offered, PATIENCE, Told, everything, next};
use sidewall_flowstream::{Client, ClientError, Limits};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Waits until the other end closes; gives what it said.
async fn closed(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it is closed");
    bytes
}

#[tokio::test]
async fn connections_are_limited_and_those_that_go_leave_their_place() {
    let (offered, _) = Offered::usual(Limits { connections: 3, ..Limits::default() }).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut events = offered.follow(&everything(), Some("boss-token")).await.unwrap();
        assert_eq!(next(&mut events).await.unwrap(), Told::Begun(0));
        streams.push(events);
    }
    assert_eq!(closed(TcpStream::connect(offered.address).await.unwrap()).await, b"");
    streams.pop();
    let begun = Instant::now();
    loop {
        let stream = TcpStream::connect(offered.address).await.unwrap();
        if let Ok(client) = Client::over(stream).await
            && let Ok(_events) = client.follow(&everything(), token("boss-token").as_ref()).await
        {
            break;
        }
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn token(text: &str) -> Option<sidewall_flowstream::Token> {
    sidewall_flowstream::Token::new(text)
}

#[tokio::test]
async fn calls_are_limited() {
    let (offered, book) = Offered::usual(Limits { calls: 2, ..Limits::default() }).await;
    let first = offered.follow(&everything(), Some("boss-token")).await.unwrap();
    let second = offered.follow(&everything(), Some("boss-token")).await.unwrap();
    let error = offered.follow(&everything(), Some("boss-token")).await.unwrap_err();
    assert!(matches!(error, ClientError::TooMany(_)), "{error}");
    // Who may not see anything takes no place, and learns nothing of it.
    let error = offered.follow(&everything(), Some("stolen")).await.unwrap_err();
    assert!(matches!(error, ClientError::Nameless(_)), "{error}");
    assert_eq!(book.change(|pages| pages.asked), 4);
    drop((first, second));
}

#[tokio::test]
async fn the_hub_has_no_room_for_more_than_it_has() {
    let (offered, _) = Offered::usual(Limits { calls: 1000, connections: 1000, ..Limits::default() }).await;
    let all: Vec<_> = (0..sidewall_flowlog::SUBSCRIBERS_MAX)
        .map(|_| offered.hub.subscribe(sidewall_flowlog::Backlog::None).unwrap())
        .collect();
    let error = offered.follow(&everything(), Some("boss-token")).await.unwrap_err();
    assert!(matches!(error, ClientError::TooMany(_)), "{error}");
    drop(all);
    assert!(offered.follow(&everything(), Some("boss-token")).await.is_ok());
}

#[tokio::test]
async fn a_connection_without_a_call_is_closed_and_one_with_a_call_is_not() {
    let limits = Limits { idle: Duration::from_millis(200), goodbye: Duration::from_millis(100), ..Limits::default() };
    let (offered, _) = Offered::usual(limits).await;
    let begun = Instant::now();
    // It says nothing at all.
    closed(TcpStream::connect(offered.address).await.unwrap()).await;
    assert!(begun.elapsed() >= Duration::from_millis(200));
    // A quiet stream is no idle connection.
    let client = offered.client().await;
    let mut events = client.follow(&everything(), token("boss-token").as_ref()).await.unwrap();
    next(&mut events).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    offered.hub.publish(crate::support::record("shop", "web", 1));
    assert_eq!(next(&mut events).await.unwrap(), crate::support::flow("web", 1));
    // When it has ended, the connection is.
    drop(events);
    let begun = Instant::now();
    // Asking is what keeps it: so not too often.
    while !matches!(client.follow(&everything(), token("stolen").as_ref()).await, Err(ClientError::Lost(_))) {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_token_that_is_too_long_is_not_looked_at() {
    let (offered, book) = Offered::usual(Limits::default()).await;
    let error = match offered.follow(&everything(), Some(&"t".repeat(20 << 10))).await {
        Ok(mut events) => crate::support::failure(&mut events).await,
        Err(error) => error,
    };
    println!("{error:?}");
    assert!(!matches!(error, ClientError::Nameless(_)), "{error}");
    assert_eq!(book.change(|pages| pages.asked), 0);
    assert!(!error.to_string().contains("tttt"), "{error}");
}
