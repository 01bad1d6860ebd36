//! Reads the log groups of many pods on one thread.

use crate::error::FollowError;
use crate::follow::Followed;
use crate::follow::Pod;
use crate::hub::Hub;
use crate::reading::Reading;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use sidewall_netfilter::nflog::LogReader;
use sidewall_netns::NetNs;
use sidewall_policy::record::{Names, Recorder};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// How many messages of a pod are read before the next pod has its turn.
const TURN: usize = 64;
/// How many pods that have something to say are asked for at once.
const READY: usize = 64;
/// What the descriptor that ends the thread is called; pods have numbers from 1.
const WAKE: u64 = 0;

/// Follows the logs of many pods into one [`Hub`], on one thread that sleeps while nothing is logged. Dropping it ends the
/// thread; pods that are still [`Followed`] then tell what the kernel has queued when they are ended themselves.
#[derive(Debug)]
pub struct Gatherer {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the thread and the handles of pods share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) hub: Hub,
    epoll: Epoll,
    wake: EventFd,
    ended: AtomicBool,
    pods: Mutex<Pods>,
}

#[derive(Debug, Default)]
struct Pods {
    last: u64,
    all: BTreeMap<u64, Arc<Pod>>,
}

impl Gatherer {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`FollowError::Wait`], [`FollowError::Thread`].
    pub fn start(hub: Hub) -> Result<Self, FollowError> {
        let failed = |error: Errno| FollowError::Wait(error.into());
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(failed)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE)).map_err(failed)?;
        let shared = Arc::new(Shared { hub, epoll, wake, ended: AtomicBool::new(false), pods: Mutex::default() });
        let run = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("flow-log".into()).spawn(move || run.gather()).map_err(FollowError::Thread)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Follows the log of a pod until the handle is ended or dropped. The reader should be opened before the pod's first
    /// process starts, so that nothing is missing; `namespace` is the pod's, whose devices messages name by number.
    ///
    /// # Errors
    /// [`FollowError`].
    pub fn follow(&self, reader: LogReader, namespace: &NetNs, recorder: Recorder) -> Result<Followed, FollowError> {
        let pod = Arc::new(Pod::new(Reading::new(reader, namespace)?, recorder));
        let number = self.shared.add(Arc::clone(&pod))?;
        Ok(Followed::new(Arc::clone(&self.shared), number, pod))
    }

    /// The names of addresses in all pods' records from now on.
    pub fn set_names(&self, names: &Arc<Names>) {
        let pods: Vec<Arc<Pod>> = self.shared.pods().all.values().cloned().collect();
        pods.iter().for_each(|pod| pod.set_names(names));
    }

    /// How many pods are followed.
    pub fn pods(&self) -> usize {
        self.shared.pods().all.len()
    }
}

impl Drop for Gatherer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        if let Err(error) = self.shared.wake.write(1) {
            tracing::error!(%error, "the thread that reads flow logs can't be woken");
            return;
        }
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn pods(&self) -> MutexGuard<'_, Pods> {
        // Whoever panicked changed one entry.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, pod: Arc<Pod>) -> Result<u64, FollowError> {
        let mut pods = self.pods();
        pods.last += 1;
        let number = pods.last;
        if let Some(reading) = &*pod.reading() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
            self.epoll.add(reading, event).map_err(|error| FollowError::Wait(error.into()))?;
        }
        pods.all.insert(number, pod);
        Ok(number)
    }

    /// The thread leaves this pod alone from now on; a turn that has begun is for whoever takes its reading to wait for.
    pub(crate) fn remove(&self, number: u64) {
        self.pods().all.remove(&number);
    }

    /// The thread is not woken for this reading any more.
    pub(crate) fn forget(&self, reading: impl AsFd) {
        // One that has failed was forgotten then.
        match self.epoll.delete(reading) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => tracing::debug!(%error, "a flow log could not be forgotten"),
        }
    }

    fn gather(&self) {
        let mut ready = [EpollEvent::empty(); READY];
        while !self.ended.load(Ordering::Acquire) {
            let count = match self.epoll.wait(&mut ready, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "denied flows are no longer told");
                    return;
                }
            };
            for event in &ready[..count] {
                let pod = self.pods().all.get(&event.data()).cloned();
                if let Some(pod) = pod {
                    self.turn(&pod);
                }
            }
        }
    }

    fn turn(&self, pod: &Pod) {
        let mut reading = pod.reading();
        let Some(open) = reading.as_mut() else { return };
        if let Err(error) = pod.read(open, &self.hub, TURN) {
            let (namespace, name) = pod.name();
            tracing::error!(%error, namespace, pod = name, "denied flows of this pod are no longer told");
            self.forget(&*open);
            pod.break_off();
        }
    }
}
