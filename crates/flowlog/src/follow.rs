//! A pod whose log is followed.

use crate::gather::Shared;
use crate::hub::Hub;
use crate::reading::{Reading, lost};
use crate::untold::Untold;
use sidewall_flow::{EndRecord, LossPlace, Record, Timestamp, Version};
use sidewall_netfilter::NetlinkError;
use sidewall_policy::record::{Names, Recorder};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most messages that are still read when it ends: more than the kernel's queue can hold.
const LAST: usize = 1 << 14;
/// After the last message it takes so many looks at the counters until all that is missing is told.
const LOOKS: u8 = 2;

/// What has been read of a pod's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that became records.
    pub records: u64,
    /// Messages that the kernel dropped.
    pub lost: u64,
    /// Messages whose prefix names no decision of ours: somebody else's rule logs to the same group.
    pub foreign: u64,
}

/// A pod whose log a [`crate::Gatherer`] follows, until this is ended or dropped; what the kernel has queued by then is still told.
#[derive(Debug)]
pub struct Followed {
    shared: Arc<Shared>,
    number: u64,
    pod: Arc<Pod>,
    untold: Untold,
    /// What had been read at the last look at the counters, and how many looks are still to come.
    looked: (Counts, u8),
}

/// One pod, for its handle and for the thread.
#[derive(Debug)]
pub(crate) struct Pod {
    /// None once it has ended.
    reading: Mutex<Option<Reading>>,
    recorder: Mutex<Arc<Recorder>>,
    counts: Mutex<Counts>,
    broken: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked changed single fields only.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pod {
    pub(crate) fn new(reading: Reading, recorder: Recorder) -> Self {
        Self {
            reading: Mutex::new(Some(reading)),
            recorder: Mutex::new(Arc::new(recorder)),
            counts: Mutex::default(),
            broken: AtomicBool::new(false),
        }
    }

    pub(crate) fn reading(&self) -> MutexGuard<'_, Option<Reading>> {
        locked(&self.reading)
    }

    /// Reads at most so many messages of those that have come.
    pub(crate) fn read(&self, reading: &mut Reading, hub: &Hub, most: usize) -> Result<(), NetlinkError> {
        for _ in 0..most {
            let recorder = self.recorder();
            let mut counts = self.counts();
            let result = reading.step(&recorder, hub, &mut counts);
            *locked(&self.counts) = counts;
            if !result? {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn set_names(&self, names: &Arc<Names>) {
        let mut recorder = locked(&self.recorder);
        *recorder = Arc::new(recorder.with_names(Arc::clone(names)));
    }

    pub(crate) fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// The pod's namespace and name.
    pub(crate) fn name(&self) -> (String, String) {
        let recorder = self.recorder();
        let (namespace, name) = recorder.pod();
        (namespace.to_owned(), name.to_owned())
    }

    fn recorder(&self) -> Arc<Recorder> {
        Arc::clone(&locked(&self.recorder))
    }

    fn counts(&self) -> Counts {
        *locked(&self.counts)
    }
}

impl Followed {
    pub(crate) fn new(shared: Arc<Shared>, number: u64, pod: Arc<Pod>) -> Self {
        Self { shared, number, pod, untold: Untold::default(), looked: (Counts::default(), 0) }
    }

    /// What comes from now on is told by other policies and names: to be called when they have come into force.
    pub fn update(&self, recorder: Recorder) {
        *locked(&self.pod.recorder) = Arc::new(recorder);
    }

    /// What has been read so far.
    pub fn counts(&self) -> Counts {
        self.pod.counts()
    }

    /// Whether nothing is read any more because the socket failed, which has been logged. The log can be followed anew, with
    /// another reader, once this one has ended.
    pub fn is_broken(&self) -> bool {
        self.pod.broken.load(Ordering::Relaxed)
    }

    /// Whether the rules' counters are worth a look for [`Followed::account`]: where no message comes, none was left out.
    /// After the last, it takes two looks until all is told.
    pub fn is_due(&mut self) -> bool {
        let counts = self.counts();
        let (before, left) = self.looked;
        let left = if counts == before { left } else { LOOKS };
        self.looked = (counts, left.saturating_sub(1));
        left > 0
    }

    /// Tells how many judgements the rules counted and did not write, because they limit that. `counted` is the sum of the
    /// decisions' counters; it never goes down: whoever loads new rules adds up what the old ones counted.
    pub fn account(&mut self, counted: u64) {
        let counts = self.counts();
        let count = self.untold.look(counted, counts.records + counts.lost);
        if count > 0 {
            let recorder = self.pod.recorder();
            self.shared.hub.publish(lost(recorder.pod(), count, LossPlace::RateLimit));
        }
    }

    /// Ends it, after what the kernel has queued, and says what was read in all.
    pub fn stop(mut self) -> Counts {
        self.cease();
        self.counts()
    }

    /// Ends it as [`Followed::stop`] does, because the pod has ended, and tells that too. `counted` is as for
    /// [`Followed::account`], where it is still known.
    pub fn end(mut self, counted: Option<u64>) -> Counts {
        if let Some(counted) = counted {
            self.account(counted);
        }
        self.cease();
        if let Some(counted) = counted {
            self.account(counted);
        }
        let ((namespace, pod), time) = (self.pod.name(), Timestamp::now());
        self.shared.hub.publish(Record::End(EndRecord { version: Version, time, namespace, pod }));
        self.counts()
    }

    fn cease(&mut self) {
        self.shared.remove(self.number);
        let Some(mut reading) = self.pod.reading().take() else { return };
        self.shared.forget(&reading);
        if self.is_broken() {
            return;
        }
        if let Err(error) = self.pod.read(&mut reading, &self.shared.hub, LAST) {
            tracing::debug!(%error, "the last of a flow log could not be read");
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.cease();
    }
}
