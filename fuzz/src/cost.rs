//! What a piece of work costs: processor time of the calling thread and memory of the process.
//!
//! Processor time, not time on the wall: other programs on a busy machine must not fail a test.

use peak_alloc::PeakAlloc;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Counts what every target allocates.
#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What a piece of work took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Processor time of this thread.
    pub time: Duration,
    /// The most memory that was taken beyond what was there before, in bytes.
    pub memory: usize,
}

/// Does a piece of work and measures it. Memory is the whole process's: a target must be alone in its test program.
pub fn of<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    ALLOCATOR.reset_peak_usage();
    let (memory, start) = (ALLOCATOR.current_usage(), now());
    let done = work();
    let cost = Cost { time: now().saturating_sub(start), memory: ALLOCATOR.peak_usage().saturating_sub(memory) };
    (done, cost)
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is ever negative for this clock.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

impl Cost {
    /// Fails where more was taken than that.
    ///
    /// # Panics
    /// Says which bound was passed, and by how much.
    pub fn at_most(self, time: Duration, memory: usize) {
        assert!(self.time <= time, "took {:?} of processor time, of which {time:?} are allowed", self.time);
        assert!(self.memory <= memory, "took {} bytes, of which {memory} are allowed", self.memory);
    }
}
