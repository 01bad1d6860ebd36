use super::*;
use crate::history::HISTORY;
use crate::testing::{end, number, of_pod, record};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

fn take(subscription: &Subscription) -> Vec<Arc<Record>> {
    let next = || match subscription.next(Duration::ZERO) {
        Next::Record(record) => Some(record),
        Next::Nothing | Next::Ended => None,
    };
    std::iter::from_fn(next).collect()
}

fn lost(record: &Record) -> u64 {
    match record {
        Record::Lost(lost) => {
            assert_eq!((lost.place, lost.pod.as_deref()), (LossPlace::Subscriber, Some("web")));
            lost.count
        }
        Record::Flow(_) | Record::End(_) => 0,
    }
}

#[test]
fn who_reads_slowly_is_told_what_is_missing_and_where() {
    let hub = Hub::new();
    let slow = hub.subscribe_with(Backlog::None, 3).unwrap();
    let quick = hub.subscribe(Backlog::None).unwrap();
    (0..5).for_each(|n| hub.publish(record(n)));
    let Next::Record(first) = slow.next(Duration::ZERO) else { panic!("there is one") };
    assert_eq!(number(&first), Some(0));
    // One place is free, and two would be needed: for what is missing and for the record.
    hub.publish(record(5));
    let Next::Record(_) = slow.next(Duration::ZERO) else { panic!("there is one") };
    hub.publish(record(6));
    let rest = take(&slow);
    let told: Vec<(Option<u32>, u64)> = rest.iter().map(|record| (number(record), lost(record))).collect();
    assert_eq!(told, [(Some(2), 0), (None, 3), (Some(6), 0)]);
    let all: Vec<Option<u32>> = take(&quick).iter().map(|record| number(record)).collect();
    assert_eq!(all, (0..7).map(Some).collect::<Vec<_>>());
}

#[test]
fn nothing_waits_for_who_does_not_read_and_nothing_grows() {
    const PUBLISHED: u64 = 200_000;
    let hub = Hub::new();
    let stuck = hub.subscribe(Backlog::None).unwrap();
    for n in 0..PUBLISHED {
        hub.publish(record(n as u32));
    }
    assert_eq!(hub.history().len(), HISTORY);
    assert_eq!(locked(&stuck.queue.inner).records.len(), QUEUE);
    let taken = take(&stuck);
    let records = taken.iter().filter(|record| number(record).is_some()).count() as u64;
    assert_eq!(records + taken.iter().map(|record| lost(record)).sum::<u64>(), PUBLISHED);
    assert_eq!(records, QUEUE as u64);
}

#[test]
fn what_a_lost_record_told_of_is_still_missing() {
    let hub = Hub::new();
    let slow = hub.subscribe_with(Backlog::None, 1).unwrap();
    hub.publish(record(0));
    let (version, time) = (Version, Timestamp::now());
    let (namespace, pod) = (Some("shop".to_owned()), Some("web".to_owned()));
    hub.publish(Record::Lost(LostRecord { version, time, namespace, pod, count: 40, place: LossPlace::Kernel }));
    hub.publish(record(1));
    let told: Vec<u64> = take(&slow).iter().map(|record| lost(record)).collect();
    assert_eq!(told, [0, 41]);
}

#[test]
fn the_end_comes_last_and_in_spite_of_a_full_queue() {
    let hub = Hub::new();
    let slow = hub.subscribe_with(Backlog::None, 2).unwrap();
    (0..4).for_each(|n| hub.publish(record(n)));
    hub.publish(end());
    hub.end();
    hub.publish(record(9));
    let taken = take(&slow);
    let told: Vec<(Option<u32>, u64)> = taken.iter().map(|record| (number(record), lost(record))).collect();
    assert_eq!(told, [(Some(0), 0), (Some(1), 0), (None, 2), (None, 0)]);
    assert!(matches!(**taken.last().unwrap(), Record::End(_)));
    assert_eq!(slow.next(Duration::from_secs(60)), Next::Ended);
    // Who comes later is given what was kept.
    let late = hub.subscribe(Backlog::Kept).unwrap();
    assert_eq!(take(&late).len(), 5);
    assert_eq!(late.next(Duration::from_secs(60)), Next::Ended);
}

#[test]
fn a_waiting_subscriber_is_woken() {
    let hub = Hub::new();
    let subscription = hub.subscribe(Backlog::None).unwrap();
    let thread = std::thread::spawn(move || subscription.next(Duration::from_secs(60)));
    hub.publish(record(7));
    assert!(matches!(thread.join().unwrap(), Next::Record(record) if number(&record) == Some(7)));
}

#[test]
fn a_subscription_is_a_stream() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let woken = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let hub = Hub::new();
    let mut subscription = hub.subscribe(Backlog::None).unwrap();
    let mut poll = || Pin::new(&mut subscription).poll_next(&mut context);
    assert!(poll().is_pending());
    hub.publish(record(1));
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(matches!(poll(), Poll::Ready(Some(record)) if number(&record) == Some(1)));
    assert!(poll().is_pending());
    hub.end();
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    assert!(matches!(poll(), Poll::Ready(None)));
}

#[test]
fn subscribers_are_limited_and_leave_their_place() {
    let hub = Hub::new();
    let mut all: Vec<Subscription> = (0..SUBSCRIBERS_MAX).map(|_| hub.subscribe(Backlog::None).unwrap()).collect();
    assert_eq!(hub.subscribe(Backlog::None).unwrap_err(), TooManySubscribers);
    all.pop();
    hub.subscribe(Backlog::None).unwrap();
}

#[test]
fn who_wants_one_pod_learns_nothing_of_the_others() {
    let hub = Hub::new();
    hub.publish(of_pod("other", record(100)));
    hub.publish(record(0));
    let of_web = |record: &Record| record.pod().is_some_and(|(_, pod)| pod == "web");
    let one = hub.subscribe_to(Backlog::Kept, 2, of_web).unwrap();
    assert_eq!(one.kept(), 1);
    // Far more than it has room for; and a loss that is not its own.
    for n in 101..200 {
        hub.publish(of_pod("other", record(n)));
    }
    let (version, time, place) = (Version, Timestamp::now(), LossPlace::Kernel);
    let (namespace, pod) = (Some("shop".to_owned()), Some("other".to_owned()));
    hub.publish(Record::Lost(LostRecord { version, time, namespace, pod, count: 9, place }));
    hub.publish(record(1));
    hub.publish(of_pod("other", end()));
    hub.publish(record(2));
    let told: Vec<(Option<u32>, u64)> = take(&one).iter().map(|record| (number(record), lost(record))).collect();
    assert_eq!(told, [(Some(0), 0), (Some(1), 0), (Some(2), 0)]);
}
