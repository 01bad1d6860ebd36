//! Sees each transaction of nftables in pods' namespaces, and when.

use crate::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sidewall_netfilter::Watch;
use sidewall_netns::NetNs;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long nothing may happen before a change counts as done everywhere.
const QUIET: Duration = Duration::from_millis(60);
/// How long a change may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A thread that listens to namespaces, each known by its place in the list.
pub struct Eyes {
    seen: Receiver<(usize, Instant)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// When something was seen.
pub struct Seen {
    /// The last transaction of each place that was expected.
    pub expected: BTreeMap<usize, Instant>,
    /// Places that were not expected.
    pub further: BTreeSet<usize>,
}

impl Seen {
    /// When it was in force everywhere.
    pub fn last(&self) -> Option<Instant> {
        self.expected.values().copied().max()
    }
}

impl Eyes {
    /// Listens from now on.
    pub fn open(namespaces: &[NetNs]) -> Result<Self> {
        let mut watches = namespaces.iter().map(Watch::open).collect::<std::result::Result<Vec<_>, _>>()?;
        let (tell, seen) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("eyes".into()).spawn(move || {
            let a_while = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
            while !stopped.load(Ordering::Relaxed) {
                let ready: Vec<usize> = {
                    let mut all: Vec<PollFd<'_>> =
                        watches.iter().map(|watch| PollFd::new(watch, PollFlags::IN)).collect();
                    if poll(&mut all, Some(&a_while)).unwrap_or(0) == 0 {
                        continue;
                    }
                    all.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty()).map(|(index, _)| index).collect()
                };
                let now = Instant::now();
                for index in ready {
                    if watches[index].drain().changed && tell.send((index, now)).is_err() {
                        return;
                    }
                }
            }
        })?;
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// Forgets what was seen until now.
    pub fn blink(&self) {
        while self.seen.try_recv().is_ok() {}
    }

    /// Waits until every expected place has had a transaction, and then until none has had one for a while.
    pub fn until(&self, expected: &BTreeSet<usize>) -> Result<Seen> {
        let mut seen = Seen { expected: BTreeMap::new(), further: BTreeSet::new() };
        let begin = Instant::now();
        loop {
            let complete = seen.expected.len() == expected.len();
            match self.seen.recv_timeout(if complete { QUIET } else { LIMIT }) {
                Ok((index, at)) if expected.contains(&index) => drop(seen.expected.insert(index, at)),
                Ok((index, _)) => drop(seen.further.insert(index)),
                Err(_) if complete => return Ok(seen),
                Err(_) => return Err(missing(expected, &seen).into()),
            }
            if begin.elapsed() > LIMIT {
                return Err(missing(expected, &seen).into());
            }
        }
    }
}

fn missing(expected: &BTreeSet<usize>, seen: &Seen) -> String {
    let missing: Vec<_> = expected.iter().filter(|index| !seen.expected.contains_key(index)).collect();
    format!("within {LIMIT:?} nothing came to rest: the rules of these pods did not change: {missing:?}")
}

impl Drop for Eyes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
