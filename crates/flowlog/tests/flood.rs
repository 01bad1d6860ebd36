//! A flood of denied packets: nobody waits, memory stays where it is, and what is missing is counted. These need root.

use peak_alloc::PeakAlloc;
use sidewall_flow::{Decision, LossPlace, Party, Place, Record, RecordVerdict};
use sidewall_flowlog::{Backlog, Counts, Drain, Follower, HISTORY, Hub, Next, QUEUE, Subscription};
use sidewall_netfilter::nflog::LogReader;
use sidewall_netfilter::{Kernel, LoadOptions};
use sidewall_netns::{Links, NetNs};
use sidewall_policy::model::Identities;
use sidewall_policy::record::{Names, Recorder};
use sidewall_policy::ruleset::{
    Chain, Compare, Counter, Family, Field, Generation, Hook, HookPoint, Rule, Ruleset, Statement, Table,
};
use sidewall_policy::{Subject, World, resolve};
use std::collections::BTreeMap;
use std::net::UdpSocket;
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

/// A namespace in which every packet to port 4000 is logged, without a limit, and refused.
fn namespace() -> (NetNs, Kernel) {
    let namespace = NetNs::new().expect("a network namespace: this test needs root");
    Links::of(&namespace).and_then(|mut links| links.set_up("lo")).expect("lo is up");
    let mut kernel = Kernel::open(&namespace).expect("netfilter");
    let to_port =
        || Statement::Match { field: Field::DestinationPort, mask: None, compare: Compare::Equal, value: 4000 };
    let rule = |statements: Vec<Statement>| Rule { statements, comment: None };
    let logged = Statement::Log(Decision::denied(Place::Egress(Party::Unknown)));
    let rules = vec![
        rule(vec![to_port(), Statement::Count("denied".into()), logged]),
        rule(vec![to_port(), Statement::RejectProhibited]),
    ];
    let hook = Some(Hook { point: HookPoint::Output, priority: 0, accept: true });
    let table = Table {
        family: Family::Inet,
        counters: vec![Counter { name: "denied".into() }],
        sets: Vec::new(),
        chains: vec![Chain { name: "out".into(), hook, rules }],
    };
    let ruleset = Ruleset { generation: Generation::FIRST, tables: vec![table] };
    kernel.load(&ruleset, LoadOptions::default()).expect("the rules are loaded");
    (namespace, kernel)
}

fn recorder() -> Recorder {
    let subject = Subject {
        namespace: "shop".into(),
        name: "web".into(),
        labels: BTreeMap::new(),
        addresses: Vec::new(),
        interface: Some("eth0".into()),
        containers: BTreeMap::new(),
        identities: Identities::Uid(Default::default()),
        networks: Default::default(),
    };
    Recorder::new(resolve(&World::default(), &subject), Arc::new(Names::default()))
}

/// Sends packets that are refused; gives how many sends came back.
fn send(namespace: &NetNs, count: u64) -> u64 {
    let socket = namespace.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    (0..count).filter(|_| socket.send_to(b"x", "127.0.0.1:4000").is_err()).count() as u64
}

/// Waits until as much has been read as was sent. What the kernel lost last is known with the next message that it keeps.
fn settle(namespace: &NetNs, follower: &Follower, mut sent: u64) -> (u64, Counts) {
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

fn missing(record: &Record) -> u64 {
    match record {
        Record::Lost(lost) => lost.count,
        Record::Flow(_) | Record::End(_) => 0,
    }
}

fn rest(subscription: &Subscription) -> Vec<Arc<Record>> {
    let next = || match subscription.next(Duration::ZERO) {
        Next::Record(record) => Some(record),
        Next::Nothing | Next::Ended => None,
    };
    std::iter::from_fn(next).collect()
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
    let follower = Follower::start(reader, &namespace, recorder(), hub.clone()).unwrap();

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
    let follower = Follower::start(reader, &namespace, recorder(), hub.clone()).unwrap();
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
