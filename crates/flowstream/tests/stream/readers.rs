//! What readers are given.

use crate::support::{Offered, Told, everything, flow, next, of, record, rest};
use sidewall_flow::{EndRecord, Record, RecordVerdict, Timestamp, Version};
use sidewall_flowstream::{Follow, Limits};
use std::time::{Duration, Instant};

#[tokio::test]
async fn filters_are_the_servers_work() {
    let (offered, _) = Offered::usual(Limits::default()).await;
    let pod = Follow { pod: Some("web".into()), ..of("shop") };
    let forged = Follow { verdicts: [RecordVerdict::Forged].into(), ..of("shop") };
    let new = Follow { only_new: true, ..of("shop") };
    let never = Follow { only_new: true, follow: false, ..of("shop") };
    offered.hub.publish(record("shop", "db", 1));
    offered.hub.publish(record("shop", "web", 2));
    // All on one connection.
    let client = offered.client().await;
    let token = sidewall_flowstream::Token::new("shop-token").unwrap();
    let mut streams = Vec::new();
    for (follow, kept) in [(&pod, 1), (&forged, 0), (&new, 0), (&never, 0)] {
        let mut events = client.follow(follow, Some(&token)).await.unwrap();
        assert_eq!(next(&mut events).await.unwrap(), Told::Begun(kept), "{follow:?}");
        streams.push(events);
    }
    let mut never = streams.pop().unwrap();
    assert_eq!(rest(&mut never).await, []);
    offered.hub.publish(record("shop", "web", 3));
    offered.hub.publish(record("shop", "db", 4));
    let (version, time) = (Version, Timestamp::now());
    offered.hub.publish(Record::End(EndRecord { version, time, namespace: "shop".into(), pod: "web".into() }));
    offered.hub.end();
    let end = || Told::End("web".into());
    assert_eq!(rest(&mut streams[0]).await, [flow("web", 2), flow("web", 3), end()]);
    assert_eq!(rest(&mut streams[1]).await, [end()]);
    assert_eq!(rest(&mut streams[2]).await, [flow("web", 3), flow("db", 4), end()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_holds_up_nobody_and_is_told_what_he_misses() {
    const RECORDS: u32 = 100_000;
    let (offered, _) = Offered::usual(Limits::default()).await;
    let mut slow = offered.follow(&everything(), Some("boss-token")).await.unwrap();
    let mut quick = offered.follow(&of("shop"), Some("shop-token")).await.unwrap();
    assert_eq!(next(&mut quick).await.unwrap(), Told::Begun(0));
    let begun = Instant::now();
    for number in 0..RECORDS {
        offered.hub.publish(record("bank", "vault", number));
    }
    println!("{RECORDS} records were published in {:?}", begun.elapsed());
    offered.hub.publish(record("shop", "web", 7));
    assert_eq!(next(&mut quick).await.unwrap(), flow("web", 7), "while the other has read nothing");
    // What still fits on the way is given by and by; the rest is missing.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for number in 0..RECORDS {
        offered.hub.publish(record("bank", "vault", number));
    }
    offered.hub.end();
    assert_eq!(next(&mut slow).await.unwrap(), Told::Begun(0));
    let (mut given, mut lost) = (0_u64, 0_u64);
    for told in rest(&mut slow).await {
        match told {
            Told::Flow(..) => given += 1,
            Told::Lost(count) => lost += count,
            other => panic!("{other:?}"),
        }
    }
    println!("{given} given, {lost} lost");
    assert_eq!(given + lost, 2 * u64::from(RECORDS) + 1);
    assert!(lost > u64::from(RECORDS), "the way holds little");
}

#[tokio::test]
async fn a_reader_who_goes_leaves_his_place() {
    let (offered, _) = Offered::usual(Limits { calls: 2, ..Limits::default() }).await;
    for _ in 0..20 {
        let mut one = offered.follow(&everything(), Some("boss-token")).await.unwrap();
        let mut other = offered.follow(&everything(), Some("boss-token")).await.unwrap();
        next(&mut one).await.unwrap();
        next(&mut other).await.unwrap();
        drop((one, other));
        // Both the server's places and the hub's.
        let begun = Instant::now();
        while offered.follow(&everything(), Some("boss-token")).await.is_err() {
            assert!(begun.elapsed() < crate::support::PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_end_waits_a_moment_for_readers_and_no_longer() {
    let limits = Limits { goodbye: Duration::from_millis(300), ..Limits::default() };
    let (offered, _) = Offered::usual(limits).await;
    let mut events = offered.follow(&everything(), Some("boss-token")).await.unwrap();
    next(&mut events).await.unwrap();
    // The hub goes on: nothing would end the stream.
    let begun = Instant::now();
    offered.end().await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let error = crate::support::failure(&mut events).await;
    assert!(matches!(error, sidewall_flowstream::ClientError::Lost(_)), "{error}");
}
