//! Hands records to subscribers, each by a queue of its own.

use crate::error::TooManySubscribers;
use crate::history::{History, Keep};
use futures_core::Stream;
use sidewall_flow::{LossPlace, LostRecord, Record, Timestamp, Version};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How many records wait for a subscriber, unless it asks for another number.
pub const QUEUE: usize = 1024;
/// How many records of a pod's end are queued beyond a subscriber's room: who waits for one must not miss it.
const ENDS: usize = 64;
/// The most subscribers of a hub.
pub const SUBSCRIBERS_MAX: usize = 64;

/// Hands every record to every subscriber. Cheap to clone; clones are the same hub.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    queues: Vec<Weak<Queue>>,
    history: History,
    ended: bool,
}

/// Which of the records that a hub has kept a new subscriber is given first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// None.
    None,
    /// All.
    Kept,
}

/// A subscriber's end of its queue. Dropping it ends the subscription.
///
/// Records come in the order in which they were published. Those for which there was no room are told of by a
/// [`LostRecord`], where they would have stood.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
}

/// What a subscription gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// A record.
    Record(Arc<Record>),
    /// There was none in that time.
    Nothing,
    /// There will be none any more.
    Ended,
}

#[derive(Debug)]
struct Queue {
    wanted: Wanted,
    capacity: usize,
    inner: Mutex<Waiting>,
    filled: Condvar,
}

/// Which records a subscriber wants.
struct Wanted(Box<dyn Fn(&Record) -> bool + Send + Sync>);

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wanted")
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// What the hub had kept; it takes no room of what comes.
    backlog: VecDeque<Arc<Record>>,
    records: VecDeque<Arc<Record>>,
    /// What there was no room for since the last of `records`.
    lost: Option<Lost>,
    ended: bool,
    waker: Option<Waker>,
}

/// Records for which there was no room.
#[derive(Debug)]
struct Lost {
    count: u64,
    /// The namespace and name of the one pod that they are about.
    pod: Option<(String, String)>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked changed single fields only.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// A hub without subscribers.
    pub fn new() -> Self {
        Self::default()
    }

    /// A hub without subscribers that keeps so many records.
    pub fn keeping(keep: Keep) -> Self {
        let state = State { history: History::new(keep), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Gives a record to every subscriber that wants it and has room for it, and keeps it. Waits for nobody.
    pub fn publish(&self, record: Record) {
        let record = Arc::new(record);
        let mut state = locked(&self.state);
        if state.ended {
            return;
        }
        state.history.add(Arc::clone(&record));
        state.queues.retain(|queue| match queue.upgrade() {
            Some(queue) => {
                if (queue.wanted.0)(&record) {
                    queue.push(&record);
                }
                true
            }
            None => false,
        });
    }

    /// Ends all subscriptions, after what waits in them: each pod that has ended should have been told of before.
    pub fn end(&self) {
        let mut state = locked(&self.state);
        state.ended = true;
        for queue in state.queues.drain(..).filter_map(|queue| queue.upgrade()) {
            queue.end();
        }
    }

    /// Subscribes, with room for [`QUEUE`] records.
    ///
    /// # Errors
    /// [`TooManySubscribers`].
    pub fn subscribe(&self, backlog: Backlog) -> Result<Subscription, TooManySubscribers> {
        self.subscribe_with(backlog, QUEUE)
    }

    /// Subscribes, with room for so many records; at least one.
    ///
    /// # Errors
    /// [`TooManySubscribers`].
    pub fn subscribe_with(&self, backlog: Backlog, capacity: usize) -> Result<Subscription, TooManySubscribers> {
        self.subscribe_to(backlog, capacity, |_| true)
    }

    /// Subscribes to some of the records, with room for so many; at least one. Of the others the subscriber does not even
    /// learn that they were lost. `wanted` is asked while records are published, so it should be quick, and it must not use
    /// the hub.
    ///
    /// # Errors
    /// [`TooManySubscribers`].
    pub fn subscribe_to(
        &self,
        backlog: Backlog,
        capacity: usize,
        wanted: impl Fn(&Record) -> bool + Send + Sync + 'static,
    ) -> Result<Subscription, TooManySubscribers> {
        let mut state = locked(&self.state);
        state.queues.retain(|queue| queue.strong_count() > 0);
        if state.queues.len() >= SUBSCRIBERS_MAX {
            return Err(TooManySubscribers);
        }
        let kept = match backlog {
            Backlog::None => VecDeque::new(),
            Backlog::Kept => state.history.iter().filter(|record| wanted(record)).cloned().collect(),
        };
        let inner = Mutex::new(Waiting { backlog: kept, ended: state.ended, ..Waiting::default() });
        let wanted = Wanted(Box::new(wanted));
        let queue = Arc::new(Queue { wanted, capacity: capacity.max(1), inner, filled: Condvar::new() });
        state.queues.push(Arc::downgrade(&queue));
        Ok(Subscription { queue })
    }

    /// The records that are kept, the oldest first.
    pub fn history(&self) -> Vec<Arc<Record>> {
        locked(&self.state).history.iter().cloned().collect()
    }
}

impl Queue {
    fn push(&self, record: &Arc<Record>) {
        let mut waiting = locked(&self.inner);
        let end = matches!(**record, Record::End(_));
        let capacity = if end { self.capacity + ENDS } else { self.capacity };
        // What is lost stands before what comes now.
        if waiting.records.len() + usize::from(waiting.lost.is_some()) < capacity {
            let lost = waiting.take_lost().map(Arc::new);
            waiting.records.extend(lost);
            waiting.records.push_back(Arc::clone(record));
        } else {
            waiting.lose(record);
        }
        self.wake(waiting);
    }

    fn end(&self) {
        let mut waiting = locked(&self.inner);
        waiting.ended = true;
        self.wake(waiting);
    }

    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let waker = waiting.waker.take();
        drop(waiting);
        self.filled.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Waiting {
    fn lose(&mut self, record: &Record) {
        let count = match record {
            // What it told of is still missing.
            Record::Lost(lost) => lost.count,
            Record::Flow(_) | Record::End(_) => 1,
        };
        let pod = record.pod().map(|(namespace, pod)| (namespace.to_owned(), pod.to_owned()));
        match &mut self.lost {
            Some(lost) => {
                lost.count = lost.count.saturating_add(count);
                if lost.pod != pod {
                    lost.pod = None;
                }
            }
            none => *none = Some(Lost { count, pod }),
        }
    }

    fn take_lost(&mut self) -> Option<Record> {
        let Lost { count, pod } = self.lost.take()?;
        let (namespace, pod) = pod.unzip();
        let (version, time) = (Version, Timestamp::now());
        Some(Record::Lost(LostRecord { version, time, namespace, pod, count, place: LossPlace::Subscriber }))
    }

    fn take(&mut self) -> Option<Arc<Record>> {
        let first = self.backlog.pop_front().or_else(|| self.records.pop_front());
        first.or_else(|| self.take_lost().map(Arc::new))
    }
}

impl Subscription {
    /// How many of the records that the hub had kept are still to come; they come first.
    pub fn kept(&self) -> usize {
        locked(&self.queue.inner).backlog.len()
    }

    /// The next record, waiting for it at most so long.
    pub fn next(&self, patience: Duration) -> Next {
        let until = Instant::now() + patience;
        let mut waiting = locked(&self.queue.inner);
        loop {
            if let Some(record) = waiting.take() {
                return Next::Record(record);
            }
            if waiting.ended {
                return Next::Ended;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Nothing;
            }
            let result = self.queue.filled.wait_timeout(waiting, left);
            waiting = result.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Stream for Subscription {
    type Item = Arc<Record>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut waiting = locked(&self.queue.inner);
        match waiting.take() {
            Some(record) => Poll::Ready(Some(record)),
            None if waiting.ended => Poll::Ready(None),
            None => {
                waiting.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests;
