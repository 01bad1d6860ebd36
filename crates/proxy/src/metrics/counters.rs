//! What one worker counts. Each worker writes its own numbers and nobody else's, so that counting costs a plain addition
//! in memory that no other processor touches; whoever asks adds them up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::auth::Denied;
use crate::upstream::UpstreamError;

/// Upper bounds of how long requests take, in seconds. One more bucket takes what is above.
pub const BOUNDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The same in microseconds.
const MICROS: [u64; 14] = [
    500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];
/// Statuses are 100 to 599; everything else (no answer at all) counts as 0.
const STATUSES: usize = 501;

/// What came of asking who a request comes from.
pub const OUTCOMES: [&str; 5] = ["accepted", "missing", "malformed", "wrong", "busy"];
/// Why the application did not answer.
pub const FAILURES: [&str; 4] = ["connect", "connect_timeout", "response_timeout", "broken"];

/// A number that one thread writes and any may read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds, on the one thread that writes.
    pub fn add(&self, more: u64) {
        // No other thread writes, so no addition is lost, and none is locked.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker counts of one listener. Aligned so that two workers' never share a cache line.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    statuses: Box<[Count]>,
    durations: [Count; BOUNDS.len() + 1],
    micros: Count,
    bytes_in: Count,
    bytes_out: Count,
    opened: Count,
    closed: Count,
    handshakes_failed: Count,
    outcomes: [Count; OUTCOMES.len()],
    failures: [Count; FAILURES.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            statuses: (0..STATUSES).map(|_| Count::default()).collect(),
            durations: Default::default(),
            micros: Count::default(),
            bytes_in: Count::default(),
            bytes_out: Count::default(),
            opened: Count::default(),
            closed: Count::default(),
            handshakes_failed: Count::default(),
            outcomes: Default::default(),
            failures: Default::default(),
        }
    }
}

impl Counters {
    /// A request is over: what the client was answered (0 for nothing), what it took, and the bytes of both bodies.
    pub fn request(&self, status: u16, micros: u64, bytes_in: u64, bytes_out: u64) {
        let index = if (100..600).contains(&status) { usize::from(status) - 99 } else { 0 };
        self.statuses[index].add(1);
        let bucket = MICROS.iter().position(|bound| micros <= *bound).unwrap_or(MICROS.len());
        self.durations[bucket].add(1);
        self.micros.add(micros);
        self.bytes_in.add(bytes_in);
        self.bytes_out.add(bytes_out);
    }

    /// A client has connected.
    pub fn opened(&self) {
        self.opened.add(1);
    }

    /// A client's connection has ended.
    pub fn closed(&self) {
        self.closed.add(1);
    }

    /// A TLS handshake did not come to its end.
    pub fn handshake_failed(&self) {
        self.handshakes_failed.add(1);
    }

    /// A request was asked who it comes from.
    pub fn authenticated(&self, denied: Option<Denied>) {
        let index = match denied {
            None => 0,
            Some(Denied::Missing) => 1,
            Some(Denied::Malformed) => 2,
            Some(Denied::Wrong) => 3,
            Some(Denied::Busy) => 4,
        };
        self.outcomes[index].add(1);
    }

    /// The application did not answer.
    pub fn upstream_failed(&self, error: &UpstreamError) {
        let index = match error {
            UpstreamError::Connect { .. } => 0,
            UpstreamError::ConnectTimeout { .. } => 1,
            UpstreamError::ResponseTimeout => 2,
            UpstreamError::Broken(_) => 3,
        };
        self.failures[index].add(1);
    }
}

/// The numbers of one listener, of all workers together.
#[derive(Clone, Debug, PartialEq)]
pub struct Sums {
    /// Requests by status, where there were any; 0 is no answer.
    pub statuses: Vec<(u16, u64)>,
    /// Requests by how long they took, one for each of [`BOUNDS`] and one above.
    pub durations: [u64; BOUNDS.len() + 1],
    /// What all of them took.
    pub took: Duration,
    /// Bytes of requests' bodies.
    pub bytes_in: u64,
    /// Bytes of answers' bodies.
    pub bytes_out: u64,
    /// Connections ever.
    pub opened: u64,
    /// Connections now.
    pub open: u64,
    /// TLS handshakes that did not come to their end.
    pub handshakes_failed: u64,
    /// As [`OUTCOMES`].
    pub outcomes: [u64; OUTCOMES.len()],
    /// As [`FAILURES`].
    pub failures: [u64; FAILURES.len()],
}

impl Sums {
    /// Adds up what the workers have counted.
    pub fn of<'a>(workers: impl Iterator<Item = &'a Counters> + Clone) -> Self {
        let sum = |of: &dyn Fn(&Counters) -> u64| workers.clone().map(of).fold(0_u64, u64::wrapping_add);
        let statuses = (0..STATUSES)
            .map(|index| (if index == 0 { 0 } else { index + 99 }, sum(&|counters| counters.statuses[index].get())))
            .filter(|(_, count)| *count > 0)
            .map(|(status, count)| (u16::try_from(status).unwrap_or(0), count))
            .collect();
        // First what has ended: so that one that ends meanwhile is not counted as less than none.
        let closed = sum(&|counters| counters.closed.get());
        let opened = sum(&|counters| counters.opened.get());
        Self {
            statuses,
            durations: std::array::from_fn(|index| sum(&|counters| counters.durations[index].get())),
            took: Duration::from_micros(sum(&|counters| counters.micros.get())),
            bytes_in: sum(&|counters| counters.bytes_in.get()),
            bytes_out: sum(&|counters| counters.bytes_out.get()),
            opened,
            open: opened.saturating_sub(closed),
            handshakes_failed: sum(&|counters| counters.handshakes_failed.get()),
            outcomes: std::array::from_fn(|index| sum(&|counters| counters.outcomes[index].get())),
            failures: std::array::from_fn(|index| sum(&|counters| counters.failures[index].get())),
        }
    }
}

/// What one worker counts at the capture port.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CaptureCounters {
    taken: Count,
    refused: Count,
}

impl CaptureCounters {
    /// A connection became a listener's.
    pub fn taken(&self) {
        self.taken.add(1);
    }

    /// A connection was refused.
    pub fn refused(&self) {
        self.refused.add(1);
    }

    /// How many were taken, and how many refused.
    pub fn sums(&self) -> (u64, u64) {
        (self.taken.get(), self.refused.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_workers_add_up() {
        let (one, two) = (Counters::default(), Counters::default());
        one.request(200, 700, 3, 5);
        one.request(0, 11_000_000, 0, 0);
        two.request(200, 500, 4, 6);
        two.request(999, 501, 0, 0);
        one.opened();
        two.opened();
        two.closed();
        two.authenticated(None);
        one.authenticated(Some(Denied::Wrong));
        one.authenticated(Some(Denied::Wrong));
        two.upstream_failed(&UpstreamError::ResponseTimeout);
        two.handshake_failed();
        let sums = Sums::of([&one, &two].into_iter());
        assert_eq!(sums.statuses, [(0, 2), (200, 2)]);
        assert_eq!((sums.durations[0], sums.durations[1], sums.durations[BOUNDS.len()]), (1, 2, 1));
        assert_eq!(sums.durations.iter().sum::<u64>(), 4);
        assert_eq!(sums.took, Duration::from_micros(11_001_701));
        assert_eq!((sums.bytes_in, sums.bytes_out, sums.opened, sums.open), (7, 11, 2, 1));
        assert_eq!((sums.outcomes, sums.failures, sums.handshakes_failed), ([1, 0, 0, 2, 0], [0, 0, 1, 0], 1));
    }

    #[test]
    fn both_forms_of_the_bounds_are_the_same() {
        for (seconds, micros) in BOUNDS.iter().zip(MICROS) {
            assert_eq!((seconds * 1e6).round() as u64, micros);
        }
    }

    #[test]
    fn no_two_workers_share_a_cache_line() {
        assert_eq!(align_of::<Counters>(), 128);
        assert_eq!(align_of::<CaptureCounters>(), 128);
    }
}
