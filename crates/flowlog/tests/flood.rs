//! A flood of denied packets: nobody waits, memory stays where it is, and what is missing is counted. These need root.

mod common;

use common::{missing, namespace, recorder, rest, send};
use peak_alloc::PeakAlloc;
use sidewall_flow::{LossPlace, Record, RecordVerdict};
use sidewall_flowlog::{Backlog, Counts, Drain, Followed, Gatherer, HISTORY, Hub, QUEUE};
use sidewall_netfilter::nflog::LogReader;
use sidewall_netns::NetNs;
use sidewall_policy::ruleset::Statement;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Memory is measured: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const FLOOD: u64 = 200_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until as much has been read as was sent. What the kernel lost last is known with the next message that it keeps.
fn settle(namespace: &NetNs, follower: &Followed, mut sent: u64) -> (u64, Counts) {
    let begun = Instant::now();
    loop {
        let counts = follower.counts();
        if counts.records + counts.lost == sent {
            return (sent, counts);
        }
        assert!(begun.elapsed() < PATIENCE, "{counts:?} of {sent}");
        thread::sleep(Duration::from_millis(100));
        if follower.counts() == counts {
            sent += send(namespace, 1);
        }
    }
}

#[test]
fn a_flood_waits_for_nobody_and_every_loss_is_counted() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (namespace, mut kernel) = namespace();
    let hub = Hub::new();
    let stuck = hub.subscribe(Backlog::None).unwrap();
    let slow = hub.subscribe(Backlog::None).unwrap();
    let told = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let sums = Arc::clone(&told);
    let drain = Drain::start(slow, move |record: &Record| {
        thread::sleep(Duration::from_millis(1));
        match record {
            Record::Flow(_) => sums.0.fetch_add(1, Ordering::Relaxed),
            other => sums.1.fetch_add(missing(other), Ordering::Relaxed),
        };
        Ok::<(), std::io::Error>(())
    })
    .unwrap();
    let reader = LogReader::open(&namespace, Statement::LOG_GROUP).unwrap();
    let gatherer = Gatherer::start(hub.clone()).unwrap();
    let follower = gatherer.follow(reader, &namespace, recorder("web")).unwrap();

    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    assert_eq!(send(&namespace, FLOOD), FLOOD, "every send came back, refused");
    assert_eq!(kernel.counters().unwrap()["denied"].packets, FLOOD, "and met the rule");
    let (sent, counts) = settle(&namespace, &follower, FLOOD);
    let grown = ALLOCATED.peak_usage().saturating_sub(before);
    println!("{sent} sent: {counts:?}; {grown} octets more at most");
    assert_eq!(counts.foreign, 0);
    // History and two queues, which need not hold the same records.
    let most = (HISTORY + 2 * QUEUE) * 1024;
    assert!(grown < most, "{grown} octets more than before, of {most}");
    assert_eq!(follower.stop(), counts);
    hub.end();

    // Who never read is told of all that is missing, wherever it was lost.
    let taken = rest(&stuck);
    let flows = taken.iter().filter(|record| record.flow().is_some()).count() as u64;
    assert!(flows <= QUEUE as u64);
    assert_eq!(flows + taken.iter().map(|record| missing(record)).sum::<u64>(), sent);
    drop(drain);
    let (flows, lost) = (told.0.load(Ordering::Relaxed), told.1.load(Ordering::Relaxed));
    assert_eq!(flows + lost, sent);
    assert!(lost > 0, "a reader that takes a thousand a second does not keep up");
    assert!(hub.history().len() <= HISTORY);
}

#[test]
fn what_the_kernel_drops_is_told_in_its_place() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (namespace, _kernel) = namespace();
    let reader = LogReader::open(&namespace, Statement::LOG_GROUP).unwrap();
    // Nobody reads yet: the kernel's queue overflows.
    assert_eq!(send(&namespace, 10_000), 10_000);
    let hub = Hub::new();
    let all = hub.subscribe_with(Backlog::None, 20_000).unwrap();
    let gatherer = Gatherer::start(hub.clone()).unwrap();
    let follower = gatherer.follow(reader, &namespace, recorder("web")).unwrap();
    let (sent, counts) = settle(&namespace, &follower, 10_000);
    assert!(counts.lost > 0, "{counts:?}");
    drop(follower);
    let records = rest(&all);
    let lost: Vec<&Record> = records.iter().map(|record| &**record).filter(|record| missing(record) > 0).collect();
    assert!(lost.iter().all(|record| matches!(record, Record::Lost(lost) if lost.place == LossPlace::Kernel)));
    let flows = records.iter().filter_map(|record| record.flow()).count() as u64;
    assert_eq!(flows + lost.iter().map(|record| missing(record)).sum::<u64>(), sent);
    let first = records[0].flow().unwrap();
    assert_eq!((first.verdict, first.port, first.interface.as_deref()), (RecordVerdict::Deny, Some(4000), Some("lo")));
    assert_eq!((first.uid, first.reply), (Some(0), false));
}
