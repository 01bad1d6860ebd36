//! Who is let in, and who is not, or not any more.

use crate::support::{Offered, PATIENCE, Told, everything, failure, flow, next, of, record, rest};
use futures::StreamExt;
use sidewall_flowlog::Hub;
use sidewall_flowstream::{ClientError, Follow, Limits};
use std::time::{Duration, Instant};
use tokio::time::timeout;

#[tokio::test]
async fn who_may_see_a_namespace_sees_that_and_nothing_else() {
    let (offered, _) = Offered::usual(Limits::default()).await;
    offered.hub.publish(record("bank", "vault", 1));
    offered.hub.publish(record("shop", "web", 2));
    let mut events = offered.follow(&of("shop"), Some("shop-token")).await.unwrap();
    assert_eq!(next(&mut events).await.unwrap(), Told::Begun(1), "the other is not even counted");
    assert_eq!(next(&mut events).await.unwrap(), flow("web", 2));
    // More of the others than there would be room for.
    for number in 0..5000 {
        offered.hub.publish(record("bank", "vault", number));
    }
    offered.hub.publish(record("shop", "web", 3));
    offered.hub.end();
    assert_eq!(rest(&mut events).await, [flow("web", 3)]);
    // The boss sees both; the kept ones come without waiting for more.
    let kept = Follow { follow: false, ..everything() };
    let mut events = offered.follow(&kept, Some("boss-token")).await.unwrap();
    assert_eq!(next(&mut events).await.unwrap(), Told::Begun(sidewall_flowlog::HISTORY as u64));
    assert_eq!(rest(&mut events).await.last(), Some(&flow("web", 3)));
    offered.end().await;
}

#[tokio::test]
async fn everybody_else_is_refused_and_told_why() {
    let limits = Limits { admit_within: Duration::from_millis(300), ..Limits::default() };
    let (offered, book) = Offered::usual(limits).await;
    let refused = async |follow: &Follow, token| offered.follow(follow, token).await.unwrap_err();
    let error = refused(&of("shop"), None).await;
    assert!(matches!(&error, ClientError::Nameless(why) if why.contains("bearer token")), "{error}");
    let begun = Instant::now();
    let error = refused(&of("shop"), Some("stolen")).await;
    assert!(begun.elapsed() >= limits.refuse_after, "guessing is slow");
    assert!(matches!(&error, ClientError::Nameless(why) if why.contains("not valid")), "{error}");
    let error = refused(&of("bank"), Some("shop-token")).await;
    assert!(
        matches!(&error, ClientError::NotAllowed(why) if why == "jane may not see the flows of namespace bank"),
        "{error}"
    );
    let error = refused(&everything(), Some("shop-token")).await;
    assert!(matches!(&error, ClientError::NotAllowed(why) if why.contains("all namespaces")), "{error}");
    book.change(|pages| pages.out = true);
    let error = refused(&of("shop"), Some("shop-token")).await;
    assert!(matches!(&error, ClientError::Unavailable(why) if !why.contains("lunch")), "{error}");
    book.change(|pages| (pages.out, pages.silent) = (false, true));
    let error = refused(&of("shop"), Some("shop-token")).await;
    assert!(matches!(error, ClientError::Unavailable(_)), "{error}");
    book.change(|pages| pages.silent = false);
    assert!(offered.follow(&of("shop"), Some("shop-token")).await.is_ok(), "all is well again");
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_before_anybody_is_asked() {
    let (offered, book) = Offered::usual(Limits::default()).await;
    let follow = Follow { pod: Some("web".into()), ..everything() };
    let error = offered.follow(&follow, Some("boss-token")).await.unwrap_err();
    assert!(matches!(&error, ClientError::NotUnderstood(why) if why == "pod: say its namespace too"), "{error}");
    assert_eq!(book.change(|pages| pages.asked), 0);
}

/// A stream that `change` ends, although records go on.
async fn ended_by(change: impl FnOnce(&crate::support::Book)) -> ClientError {
    let limits =
        Limits { readmit: Duration::from_millis(100), admit_within: Duration::from_millis(300), ..Limits::default() };
    let (offered, book) = Offered::usual(limits).await;
    let mut events = offered.follow(&of("shop"), Some("shop-token")).await.unwrap();
    assert_eq!(next(&mut events).await.unwrap(), Told::Begun(0));
    // It lasts for several admissions.
    crate::support::until("it is asked again", || book.change(|pages| pages.asked) >= 4).await;
    offered.hub.publish(record("shop", "web", 1));
    assert_eq!(next(&mut events).await.unwrap(), flow("web", 1));
    change(&book);
    let hub: Hub = offered.hub.clone();
    let loud = tokio::spawn(async move {
        for number in 2.. {
            hub.publish(record("shop", "web", number));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let error = failure(&mut events).await;
    loud.abort();
    assert!(timeout(PATIENCE, events.next()).await.unwrap().is_none(), "nothing comes after that");
    error
}

#[tokio::test]
async fn a_right_that_is_taken_away_ends_the_stream() {
    let error = ended_by(|book| book.change(|pages| pages.tokens.get_mut("shop-token").unwrap().1.clear())).await;
    assert!(matches!(error, ClientError::NotAllowed(_)), "{error}");
    let error = ended_by(|book| drop(book.change(|pages| pages.tokens.remove("shop-token")))).await;
    assert!(matches!(error, ClientError::Nameless(_)), "{error}");
}

#[tokio::test]
async fn where_nobody_can_be_asked_the_stream_ends_too() {
    let error = ended_by(|book| book.change(|pages| pages.out = true)).await;
    assert!(matches!(error, ClientError::Unavailable(_)), "{error}");
    let error = ended_by(|book| book.change(|pages| pages.silent = true)).await;
    assert!(matches!(error, ClientError::Unavailable(_)), "{error}");
}
