//! How long to wait before trying again: each time twice as long, within a bound, and never the same for all nodes.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Pause {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Pause {
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: 0 }
    }

    /// The next wait, at least as long as was asked for (within ten times the bound: nobody shall be told to sleep a day).
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.tries.min(20));
        self.tries = self.tries.saturating_add(1);
        let wait = doubled.min(self.longest);
        // Between three quarters and the whole, so that a thousand nodes don't come back at once.
        let share = RandomState::new().hash_one(self.tries) % 1024;
        let spread = wait / 4 * 3 + wait.mul_f64(share as f64 / 4096.0);
        spread.max(asked.unwrap_or_default().min(self.longest * 10))
    }

    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_start_again() {
        let (first, longest) = (Duration::from_millis(500), Duration::from_secs(30));
        let mut pause = Pause::new(first, longest);
        let mut bound = first;
        for _ in 0..40 {
            let wait = pause.next(None);
            assert!(wait >= bound / 4 * 3 && wait <= bound, "{wait:?} of {bound:?}");
            bound = (bound * 2).min(longest);
        }
        pause.reset();
        assert!(pause.next(None) <= first);
        assert_eq!(pause.next(Some(Duration::from_secs(60))), Duration::from_secs(60));
        assert_eq!(pause.next(Some(Duration::from_secs(86_400))), longest * 10);
    }

    #[test]
    fn not_all_wait_alike() {
        let waits: std::collections::BTreeSet<Duration> =
            (0..50).map(|_| Pause::new(Duration::from_secs(8), Duration::from_secs(8)).next(None)).collect();
        assert!(waits.len() > 10, "{waits:?}");
    }
}
