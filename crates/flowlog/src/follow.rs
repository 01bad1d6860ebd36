//! Reads a pod's log group on a thread of its own.

use crate::error::FollowError;
use crate::hub::Hub;
use crate::message::logged;
use sidewall_flow::{LossPlace, LostRecord, Record, Timestamp, Version};
use sidewall_netfilter::nflog::{LogEvent, LogReader};
use sidewall_netns::{Links, NetNs};
use sidewall_policy::record::Recorder;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the thread may take to see that it should end.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often devices are listed again, at most, because a message names one that is not known.
const DEVICES_AGAIN: Duration = Duration::from_secs(1);
/// The most messages that are still read when it ends: more than the kernel's queue can hold.
const LAST: usize = 1 << 14;

/// Follows a pod's log into a [`Hub`] until it is dropped; what the kernel has queued by then is still told.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

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

#[derive(Debug)]
struct Shared {
    ended: AtomicBool,
    recorder: Mutex<Arc<Recorder>>,
    records: AtomicU64,
    lost: AtomicU64,
    foreign: AtomicU64,
}

struct Reading {
    reader: LogReader,
    namespace: NetNs,
    hub: Hub,
    shared: Arc<Shared>,
    devices: BTreeMap<u32, String>,
    listed: Instant,
}

impl Follower {
    /// Follows the log of a pod. The reader should be opened before the pod's first process starts, so that nothing is
    /// missing; `namespace` is the pod's, whose devices messages name by number.
    ///
    /// # Errors
    /// [`FollowError`].
    pub fn start(reader: LogReader, namespace: &NetNs, recorder: Recorder, hub: Hub) -> Result<Self, FollowError> {
        let shared = Arc::new(Shared {
            ended: AtomicBool::new(false),
            recorder: Mutex::new(Arc::new(recorder)),
            records: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
        });
        let mut reading = Reading {
            reader,
            namespace: namespace.clone(),
            hub,
            shared: Arc::clone(&shared),
            devices: list(namespace)?,
            listed: Instant::now(),
        };
        let thread = thread::Builder::new()
            .name("flow-log".into())
            .spawn(move || reading.follow())
            .map_err(FollowError::Thread)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What comes from now on is told by other policies and names: to be called when they have come into force.
    pub fn update(&self, recorder: Recorder) {
        *self.shared.recorder.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(recorder);
    }

    /// Ends it, after what the kernel has queued, and says what was read in all.
    pub fn stop(mut self) -> Counts {
        self.end();
        self.counts()
    }

    fn end(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }

    /// What has been read so far.
    pub fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Shared { records, lost, foreign, .. } = &*self.shared;
        Counts { records: of(records), lost: of(lost), foreign: of(foreign) }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.end();
    }
}

impl Reading {
    fn follow(&mut self) {
        while !self.shared.ended.load(Ordering::Relaxed) {
            if let Err(error) = self.step(PATIENCE) {
                tracing::error!(%error, "denied flows are no longer told");
                return;
            }
        }
        for _ in 0..LAST {
            if !matches!(self.step(Duration::ZERO), Ok(true)) {
                return;
            }
        }
    }

    /// Reads one event, if there is one.
    fn step(&mut self, patience: Duration) -> Result<bool, sidewall_netfilter::NetlinkError> {
        let overruns = self.reader.overruns();
        let Some(event) = self.reader.next(patience)? else { return Ok(self.reader.overruns() > overruns) };
        match event {
            LogEvent::Record(message) => {
                let recorder = self.recorder();
                let logged = logged(&message, |index| self.device(index));
                self.shared.records.fetch_add(1, Ordering::Relaxed);
                self.hub.publish(Record::Flow(Box::new(recorder.record(&logged))));
            }
            LogEvent::Lost(count) => {
                let recorder = self.recorder();
                let (namespace, pod) = recorder.pod();
                let (namespace, pod, count) = (Some(namespace.to_owned()), Some(pod.to_owned()), u64::from(count));
                self.shared.lost.fetch_add(count, Ordering::Relaxed);
                let (version, time) = (Version, Timestamp::now());
                let lost = LostRecord { version, time, namespace, pod, count, place: LossPlace::Kernel };
                self.hub.publish(Record::Lost(lost));
            }
            LogEvent::Foreign => {
                self.shared.foreign.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(true)
    }

    fn recorder(&self) -> Arc<Recorder> {
        Arc::clone(&self.shared.recorder.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The name of a device; devices come and go.
    fn device(&mut self, index: u32) -> Option<String> {
        if !self.devices.contains_key(&index) && self.listed.elapsed() >= DEVICES_AGAIN {
            self.listed = Instant::now();
            match list(&self.namespace) {
                Ok(devices) => self.devices = devices,
                Err(error) => tracing::debug!(%error, "devices are not known"),
            }
        }
        self.devices.get(&index).cloned()
    }
}

fn list(namespace: &NetNs) -> Result<BTreeMap<u32, String>, sidewall_netns::Error> {
    Ok(Links::of(namespace)?.links()?.into_iter().map(|link| (link.index, link.name)).collect())
}
