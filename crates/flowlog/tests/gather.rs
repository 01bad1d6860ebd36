//! Many pods' logs on one thread. These need root.

mod common;

use common::{missing, namespace, recorder, rest, send};
use sidewall_flow::{Record, Timestamp};
use sidewall_flowlog::{Backlog, Followed, Gatherer, Hub, Keep, Next};
use sidewall_netfilter::Kernel;
use sidewall_netfilter::nflog::LogReader;
use sidewall_netns::NetNs;
use sidewall_policy::ruleset::Statement;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Threads and memory are counted: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const PATIENCE: Duration = Duration::from_secs(30);

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pod in which every packet to a port is logged.
struct Pod {
    name: String,
    namespace: NetNs,
    _kernel: Kernel,
}

fn pod(number: usize) -> Pod {
    let (namespace, kernel) = namespace();
    Pod { name: format!("pod-{number}"), namespace, _kernel: kernel }
}

fn follow(gatherer: &Gatherer, pod: &Pod) -> Followed {
    let reader = LogReader::open(&pod.namespace, Statement::LOG_GROUP).unwrap();
    gatherer.follow(reader, &pod.namespace, recorder(&pod.name)).unwrap()
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How often each thread of that name has gone to sleep.
fn sleeps(name: &str) -> Vec<u64> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let named = tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name));
    let of = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:").map(str::trim));
        line.unwrap().parse().unwrap()
    };
    named.map(|task| of(fs::read_to_string(task.join("status")).unwrap())).collect()
}

/// The resident memory of this process, in octets.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Ends a thread also where the test fails.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn many_pods_share_a_thread_that_sleeps() {
    const PODS: usize = 60;
    let _alone = alone();
    let pods: Vec<Pod> = (0..PODS).map(pod).collect();
    let hub = Hub::new();
    let all = hub.subscribe_with(Backlog::None, 10_000).unwrap();
    let gatherer = Gatherer::start(hub).unwrap();
    let before = resident();
    let mut followed: Vec<Followed> = pods.iter().map(|pod| follow(&gatherer, pod)).collect();
    let each = resident().saturating_sub(before) / PODS;
    println!("{each} octets a pod");
    assert!(each < 24 << 10, "{each} octets a pod");
    assert_eq!(gatherer.pods(), PODS);
    assert_eq!(sleeps("flow-log").len(), 1, "there is one thread");

    let mut expected = BTreeMap::new();
    for (number, pod) in pods.iter().enumerate() {
        send(&pod.namespace, 1 + number as u64 % 7);
        expected.insert(pod.name.clone(), 1 + number % 7);
    }
    let sent: usize = expected.values().sum();
    let told = || followed.iter().map(|followed| followed.counts().records).sum::<u64>() as usize;
    until("all that was sent is told", || told() == sent);
    let mut by_pod: BTreeMap<String, usize> = BTreeMap::new();
    for record in rest(&all) {
        let flow = record.flow().expect("nothing else happened");
        assert_eq!(flow.interface.as_deref(), Some("lo"));
        *by_pod.entry(flow.pod.clone()).or_default() += 1;
    }
    assert_eq!(by_pod, expected);
    assert!(followed.iter_mut().all(|followed| followed.is_due() && followed.is_due() && !followed.is_due()));

    // Where nothing is logged, nothing wakes.
    let quiet = sleeps("flow-log");
    thread::sleep(Duration::from_millis(700));
    assert_eq!(sleeps("flow-log"), quiet);
}

#[test]
fn a_pod_that_ends_tells_what_is_left_and_then_its_end() {
    let _alone = alone();
    let (ending, staying) = (pod(1), pod(2));
    let hub = Hub::new();
    let all = hub.subscribe_with(Backlog::None, 10_000).unwrap();
    let gatherer = Gatherer::start(hub.clone()).unwrap();
    let (first, second) = (follow(&gatherer, &ending), follow(&gatherer, &staying));
    send(&ending.namespace, 50);
    // 51 were counted by the rules: one more than they wrote.
    let counts = first.end(Some(51));
    assert_eq!((counts.records, counts.lost), (50, 0));
    let records = rest(&all);
    assert_eq!(records.iter().filter(|record| record.flow().is_some()).count(), 50);
    assert_eq!(records.iter().map(|record| missing(record)).sum::<u64>(), 1);
    assert!(matches!(&**records.last().unwrap(), Record::End(end) if end.pod == "pod-1"));

    // Its group is free, and the other pod is still followed, under a new name.
    let again = follow(&gatherer, &ending);
    second.update(recorder("renamed"));
    send(&staying.namespace, 1);
    send(&ending.namespace, 1);
    until("both are told", || again.counts().records + second.counts().records == 2);
    let names: Vec<String> = rest(&all).iter().map(|record| record.pod().unwrap().1.to_owned()).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"renamed".to_owned()) && names.contains(&"pod-1".to_owned()), "{names:?}");

    // Without the thread, a handle still tells what the kernel has.
    drop(gatherer);
    assert_eq!(sleeps("flow-log").len(), 0);
    send(&ending.namespace, 3);
    assert_eq!(again.stop().records, 4);
    assert!(!second.is_broken());
}

#[test]
fn a_loud_pod_holds_up_no_other() {
    let _alone = alone();
    let (loud, quiet) = (pod(1), pod(2));
    let hub = Hub::keeping(Keep { records: 2048, of_a_pod: 128 });
    let of_quiet = |record: &Record| record.pod().is_some_and(|(_, name)| name == "pod-2");
    let listener = hub.subscribe_to(Backlog::None, 16, of_quiet).unwrap();
    let gatherer = Gatherer::start(hub.clone()).unwrap();
    let followed = [follow(&gatherer, &loud), follow(&gatherer, &quiet)];
    let ended = AtomicBool::new(false);
    let mut latest = Duration::ZERO;
    thread::scope(|scope| {
        let _end = EndOnDrop(&ended);
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                send(&loud.namespace, 500);
            }
        });
        until("the loud one is heard", || followed[0].counts().records > 1000);
        for _ in 0..20 {
            let before = Timestamp::now().time();
            send(&quiet.namespace, 1);
            let Next::Record(record) = listener.next(PATIENCE) else { panic!("nothing came in {PATIENCE:?}") };
            assert_eq!(record.flow().map(|flow| flow.pod.as_str()), Some("pod-2"), "nor anything else");
            latest = latest.max(before.elapsed().unwrap_or_default());
        }
    });
    println!("a record of the quiet pod took at most {latest:?}; {:?}", followed[0].counts());
    let kept = hub.history();
    let quiet = kept.iter().filter(|record| of_quiet(record)).count();
    assert_eq!((quiet, kept.len()), (20, 20 + 128));
}
